//! `tidegate push`: hands a set of mapping files to a running gateway.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, anyhow, bail, ensure};
use clap::Subcommand;
use serde_json::{Map, Value, json};

use super::{ConfigArguments, EX_CONFIG, EX_REFUSED, EX_UNASKED};
use crate::{config, control, push::Action};

/// What stands below the help.
pub(super) const AFTER_HELP: &str = "\
FOLDER holds mapping files as the folder of the configuration does: mappings/press.toml. They are the whole set: what
is not among them is gone. A file that is called like the configuration file takes its place, if `[push]` lets it.

Exit codes:
  0   done
  1   refused; the gateway says why
  2   the gateway cannot be asked: none is running, or it does not answer
  64  wrong use
  78  the configuration is wrong

Example:
  tidegate push preview new
  tidegate push apply new --confirm-within 10m && tidegate push confirm";

/// Deeper folders hold no mapping files.
const DEPTH_MAX: usize = 8;
/// More files are no set.
const FILES_MAX: usize = 1_000;
/// Larger files are no mapping files.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Arguments of `tidegate push`.
#[derive(Debug, clap::Args)]
pub(super) struct PushArguments {
    #[command(subcommand)]
    command: PushCommand,
}

#[derive(Debug, Subcommand)]
enum PushCommand {
    /// Say what a set would change, and what is wrong with it; apply nothing.
    #[command(after_help = "Example:\n  tidegate push preview new")]
    Preview(SetArguments),
    /// Take a set into use, on trial until it is confirmed.
    #[command(after_help = "Example:\n  tidegate push apply new --confirm-within 10m")]
    Apply {
        #[command(flatten)]
        set: SetArguments,
        /// How long it is on trial; what the configuration says if it is not given.
        #[arg(long, value_name = "DURATION")]
        confirm_within: Option<String>,
        /// The same id with the same set applies nothing twice.
        #[arg(long)]
        id: Option<String>,
    },
    /// Keep the set that is on trial.
    #[command(after_help = "Example:\n  tidegate push confirm")]
    Confirm(NumberArguments),
    /// Put back the set before the one in force.
    #[command(after_help = "Example:\n  tidegate push return")]
    Return(NumberArguments),
    /// Say which set is in force, and what was done.
    #[command(after_help = "Example:\n  tidegate push status --json")]
    Status(CommonArguments),
}

#[derive(Debug, clap::Args)]
struct CommonArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Print the answer as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct SetArguments {
    /// Where the files are.
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    #[command(flatten)]
    common: CommonArguments,
}

#[derive(Debug, clap::Args)]
struct NumberArguments {
    /// The number of the set that is meant; another one is left alone.
    #[arg(long, value_name = "NUMBER")]
    set: Option<u64>,
    #[command(flatten)]
    common: CommonArguments,
}

/// Asks the running gateway. The exit code is 1 if it refuses, and 2 if nobody answers.
pub(super) fn push(arguments: &PushArguments) -> anyhow::Result<ExitCode> {
    let numbered = |arguments: &NumberArguments| match arguments.set {
        Some(set) => json!({ "args": { "set": set } }),
        None => json!({}),
    };
    let (action, common, body) = match &arguments.command {
        PushCommand::Preview(set) => (Action::Preview, &set.common, json!({ "args": set.read()? })),
        PushCommand::Apply { set, confirm_within, id } => {
            let mut arguments = set.read()?;
            if let Some(within) = confirm_within {
                arguments["confirm-within"] = within.as_str().into();
            }
            let mut body = json!({ "args": arguments });
            if let Some(id) = id {
                body["id"] = id.as_str().into();
            }
            (Action::Apply, &set.common, body)
        }
        PushCommand::Confirm(number) => (Action::Confirm, &number.common, numbered(number)),
        PushCommand::Return(number) => (Action::Return, &number.common, numbered(number)),
        PushCommand::Status(common) => (Action::Status, common, json!({})),
    };
    let path = &common.config.config;
    let Some(data_dir) = config::data_dir(path)? else {
        let path = path.display();
        eprintln!("tidegate: {path} has errors; see `tidegate check -c {path}`");
        return Ok(ExitCode::from(EX_CONFIG));
    };
    let answer = match ask(&data_dir, action, &body) {
        Ok(answer) => answer,
        Err(error) => {
            eprintln!("tidegate: {error:#}");
            return Ok(ExitCode::from(EX_UNASKED));
        }
    };
    let text = if common.json {
        serde_json::to_string_pretty(&answer)? + "\n"
    } else {
        describe(action, &answer)
    };
    match io::stdout().write_all(text.as_bytes()) {
        // Whoever reads it has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        written => written?,
    }
    let unsound = action == Action::Preview && answer["value"]["report"]["sound"] == false;
    let refused = answer["outcome"] == "refused" || unsound;
    Ok(ExitCode::from(if refused { EX_REFUSED } else { 0 }))
}

fn ask(data_dir: &Path, action: Action, body: &Value) -> anyhow::Result<Value> {
    let question = format!("push {}", action.as_str());
    let body = body.to_string();
    let answer = control::ask_with(data_dir, &question, body.as_bytes());
    let answer = answer.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            anyhow!("no gateway is running on {}", data_dir.display())
        }
        _ => anyhow::Error::new(error).context("cannot ask the gateway"),
    })?;
    let answer: Value = serde_json::from_str(&answer).context("the gateway gave no JSON")?;
    if let Some(error) = answer["error"].as_str() {
        bail!("{error}");
    }
    Ok(answer)
}

impl SetArguments {
    /// Reads the files below the folder, by name: one that is called like the configuration file takes its place, and what
    /// is not sent at all stays as it is. Symbolic links are left out, so that nothing else is sent.
    fn read(&self) -> anyhow::Result<Value> {
        let mut files = Map::new();
        collect(&self.folder, "", DEPTH_MAX, &mut files)?;
        ensure!(!files.is_empty(), "there are no mapping files in {}", self.folder.display());
        let name = self.common.config.config.file_name().and_then(|name| name.to_str());
        let configuration = name.and_then(|name| files.remove(name));
        let mut arguments = json!({});
        if !files.is_empty() {
            arguments["mappings"] = files.into();
        }
        if let Some(text) = configuration {
            arguments["configuration"] = text;
        }
        Ok(arguments)
    }
}

fn collect(
    folder: &Path,
    prefix: &str,
    depth: usize,
    files: &mut Map<String, Value>,
) -> anyhow::Result<()> {
    let listing =
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in listing {
        let entry = entry.with_context(|| format!("cannot read {}", folder.display()))?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        let name = entry.file_name();
        let shown = path.display();
        let Some(name) = name.to_str() else { bail!("the name of {shown} is not UTF-8") };
        let is_mapping = [".toml", ".yaml", ".yml"].iter().any(|end| name.ends_with(end));
        if name.starts_with('.') {
            continue;
        } else if kind.is_dir() && depth > 1 {
            collect(&path, &format!("{prefix}{name}/"), depth - 1, files)?;
        } else if kind.is_symlink() && is_mapping {
            eprintln!("tidegate: {shown} is a symbolic link and is left out");
        } else if kind.is_file() && is_mapping {
            ensure!(entry.metadata()?.len() <= FILE_BYTES_MAX, "{shown} is larger than 4 MiB");
            ensure!(files.len() < FILES_MAX, "there are more than {FILES_MAX} files");
            let text = fs::read_to_string(&path).with_context(|| format!("cannot read {shown}"))?;
            files.insert(format!("{prefix}{name}"), text.into());
        }
    }
    Ok(())
}

/// Returns an answer for people.
fn describe(action: Action, answer: &Value) -> String {
    let mut text = String::new();
    let mut line = |line: String| text.extend([line.as_str(), "\n"]);
    let value = &answer["value"];
    if action == Action::Status {
        return describe_status(value);
    }
    if let Some(issues) = answer["text"].as_str().filter(|text| !text.is_empty()) {
        line(issues.trim_end().to_owned());
    }
    let report = &value["report"];
    for objection in report["objections"].as_array().into_iter().flatten() {
        line(format!("Error: {}", objection.as_str().unwrap_or_default()));
    }
    for what in ["added", "changed", "removed"] {
        for name in report["files"][what].as_array().into_iter().flatten() {
            line(format!("{what}: {}", name.as_str().unwrap_or_default()));
        }
    }
    if report["configuration"] == true {
        line("changed: the configuration file".into());
    }
    for what in ["adapters", "uplinks", "listeners"] {
        for name in report[what].as_array().into_iter().flatten() {
            line(format!("{what}: {} changes", name.as_str().unwrap_or_default()));
        }
    }
    let reason = answer["reason"].as_str().map_or(String::new(), |reason| format!(": {reason}"));
    let set = &value["set"];
    match (action, answer["outcome"].as_str().unwrap_or_default()) {
        (Action::Preview, _) if report["sound"] == false => line("cannot be applied".into()),
        (Action::Preview, "confirmed") if report["restart"] == true => {
            line("can be applied, with a restart".into());
        }
        (Action::Preview, "confirmed") => line("can be applied, without a restart".into()),
        (_, "accepted") => {
            let until = value["confirm-until"].as_str().map(|until| format!(" until {until}"));
            line(format!("set {set} is in use, on trial{}", until.unwrap_or_default()));
        }
        (_, "confirmed") if set.is_u64() => line(format!("set {set} is in force{reason}")),
        (_, outcome) => line(format!("{outcome}{reason}")),
    }
    text
}

fn describe_status(note: &Value) -> String {
    let mut text = String::new();
    let mut line = |line: String| text.extend([line.as_str(), "\n"]);
    let good = note["good"].as_array().and_then(|good| good.last());
    let files = |set: &Value| {
        if *set == 0 { " (the files of the configuration's folder)" } else { "" }
    };
    let last = good.cloned().unwrap_or_default();
    match &note["trial"] {
        Value::Null => line(format!("set {last}{} is in force", files(&last))),
        trial => {
            let word = |key: &str| trial[key].as_str().unwrap_or_default().to_owned();
            line(format!(
                "set {} of {} is on trial until {}",
                trial["set"],
                word("by"),
                word("until")
            ));
            line(format!("set {last}{} comes back unless it is confirmed", files(&last)));
        }
    }
    for entry in note["entries"].as_array().into_iter().flatten() {
        let word = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
        let reason = entry["reason"].as_str().map(|reason| format!(": {reason}"));
        let (at, what, by) = (word("at"), word("what"), word("by"));
        line(format!("{at} set {} {what} by {by}{}", entry["set"], reason.unwrap_or_default()));
    }
    text
}

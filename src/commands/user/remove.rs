//! `tidegate user remove`: takes away the files of an account, once the configuration does not need them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, ensure};

use super::{HASH, SCRAM};
use crate::{
    commands::ConfigArguments,
    config::{self, Mention},
    secret_file,
};

/// The ends of the names of all files of an account.
const EXTENSIONS: [&str; 3] = [HASH, SCRAM, "tokens"];

pub(super) fn remove(
    name: &str,
    arguments: &ConfigArguments,
    secrets: &Path,
) -> anyhow::Result<ExitCode> {
    let mut files = Vec::new();
    for extension in EXTENSIONS {
        let file = secret_file::of_account(secrets, name, extension)?;
        files.extend(file.exists().then_some(file));
    }
    let path = &arguments.config;
    let (mentions, needed) = if path.exists() {
        (config::mentions(path, name)?, needed(path, &files))
    } else {
        let path = path.display();
        eprintln!("{path} is not there: no configuration was looked at for `{name}` (`-c`)");
        (Vec::new(), Vec::new())
    };
    if !needed.is_empty() {
        // Without them the gateway would not start, and one that runs would go on with the account.
        eprintln!("Nothing was removed: the configuration names {}.", shown(&needed));
        eprintln!(
            "Take these out of it, and an account that is logged in is cut off within a second:"
        );
        print_mentions(&mentions);
        eprintln!("Then remove the files.");
        return Ok(ExitCode::FAILURE);
    }
    ensure!(
        !files.is_empty() || !mentions.is_empty(),
        "there is nothing of `{name}` in {}",
        secrets.display()
    );
    for file in &files {
        fs::remove_file(file).with_context(|| format!("cannot remove {}", file.display()))?;
        secret_file::sync_folder_of(file)?;
        println!("{} is removed", file.display());
    }
    if !mentions.is_empty() {
        eprintln!("The configuration still names `{name}`:");
        print_mentions(&mentions);
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the files that a configuration names.
fn needed(config: &Path, files: &[PathBuf]) -> Vec<PathBuf> {
    let named: Vec<PathBuf> =
        config::watched_paths(config).iter().filter_map(|path| path.canonicalize().ok()).collect();
    let is_named = |file: &&PathBuf| file.canonicalize().is_ok_and(|file| named.contains(&file));
    files.iter().filter(is_named).cloned().collect()
}

fn shown(files: &[PathBuf]) -> String {
    let shown: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    shown.join(", ")
}

fn print_mentions(mentions: &[Mention]) {
    for Mention { file, line, written } in mentions {
        println!("{file}:{line}: {written}");
    }
}

//! `tidegate acl`: what the access rules of a configuration say, without a gateway.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Subcommand, ValueEnum};
use serde_json::json;
use tidegate_broker::access::{AccessEntry, AccessRules, Management, Rights};
use tidegate_model::{ClientId, Principal, Topic, TopicFilter};

use super::{ConfigArguments, EX_CONFIG};
use crate::config;

/// Arguments of `tidegate acl`.
#[derive(Debug, clap::Args)]
pub(super) struct AclArguments {
    #[command(subcommand)]
    command: AclCommand,
}

#[derive(Debug, Subcommand)]
enum AclCommand {
    /// Say whether a principal may do something, and which entries allow it; the exit code is 1 if none does.
    #[command(
        after_help = "Example:\n  tidegate acl test -c tidegate.toml press-7 publish hall1/press-7/temperature"
    )]
    Test(TestArguments),
}

#[derive(Debug, clap::Args)]
struct TestArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// The principal; `anonymous` for clients without credentials.
    principal: String,
    /// What it wants to do.
    right: Right,
    /// The topic; a topic filter for `subscribe`; for `command` the point's topic, without `/set` or `/call`; for
    /// `manage` the word `read` or `write`.
    topic: String,
    /// The client id, for entries with `{client-id}`.
    #[arg(long)]
    client_id: Option<String>,
    /// Print the answer as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Right {
    Publish,
    Subscribe,
    Command,
    Manage,
}

/// What is asked for, read.
enum Wanted {
    Publish(Topic),
    Subscribe(TopicFilter),
    Command(Topic),
    Manage(Management),
}

impl Wanted {
    fn new(right: Right, text: &str) -> anyhow::Result<Self> {
        let what = || format!("`{text}`");
        Ok(match right {
            Right::Publish => Self::Publish(Topic::new(text).with_context(what)?),
            Right::Subscribe => Self::Subscribe(TopicFilter::new(text).with_context(what)?),
            Right::Command => Self::Command(Topic::new(text).with_context(what)?),
            Right::Manage => Self::Manage(match text {
                "read" => Management::Read,
                "write" => Management::Write,
                _ => anyhow::bail!("{} is neither `read` nor `write`", what()),
            }),
        })
    }

    fn is_allowed(&self, rights: &Rights) -> bool {
        match self {
            // No rule lets a client publish there.
            Self::Publish(topic) => !topic.is_dollar() && rights.may_publish(topic),
            Self::Subscribe(filter) => rights.may_subscribe(filter),
            Self::Command(topic) => rights.may_command(topic),
            Self::Manage(wanted) => rights.may_manage(*wanted),
        }
    }
}

/// Carries out one of the commands.
pub(super) fn acl(arguments: &AclArguments) -> anyhow::Result<ExitCode> {
    let AclCommand::Test(arguments) = &arguments.command;
    let path = &arguments.config.config;
    let Some(config) = config::load(path)?.config else {
        let path = path.display();
        eprintln!("tidegate: {path} has errors; see `tidegate check -c {path}`");
        return Ok(ExitCode::from(EX_CONFIG));
    };
    let name = &arguments.principal;
    let principal = Principal::new(name).with_context(|| format!("the principal `{name}`"))?;
    let is_known =
        principal.is_anonymous() || config.principals.iter().any(|known| known.name == principal);
    if !is_known {
        eprintln!("tidegate: no `[[principal]]` is named `{name}`: nobody can log in as it");
    }
    let client_id = arguments.client_id.as_deref().map(ClientId::new).transpose()?;
    let wanted = Wanted::new(arguments.right, &arguments.topic)?;
    let allows = |entries: Vec<AccessEntry>| {
        wanted.is_allowed(&AccessRules::new(entries).rights(&principal, client_id.as_ref()))
    };
    // A filter may be covered by one entry alone: entries do not add up for a subscription.
    let entries: Vec<usize> = (0..config.access.len())
        .filter(|&index| allows(vec![config.access[index].clone()]))
        .map(|index| index + 1)
        .collect();
    let allowed = allows(config.access.clone());
    let right = match arguments.right {
        Right::Publish => "publish",
        Right::Subscribe => "subscribe",
        Right::Command => "command",
        Right::Manage => "manage",
    };
    if arguments.json {
        let topic = &arguments.topic;
        println!(
            "{}",
            json!({ "principal": name, "right": right, "topic": topic, "allowed": allowed, "entries": entries })
        );
    } else {
        let may = if allowed { "may" } else { "may NOT" };
        println!("{name} {may} {right} {}", arguments.topic);
        for index in &entries {
            let glob = &config.access[index - 1].principal;
            println!("  by `[[access]]` number {index}, for `{glob}`");
        }
        if allowed && config.access.is_empty() {
            println!(
                "  as there is no `[[access]]` at all, `anonymous` may use every topic but `$…`"
            );
        }
    }
    Ok(if allowed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

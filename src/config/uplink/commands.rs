//! `commands` and `results`: what may come down from a cloud, and where outcomes go.

use tidegate_model::{Topic, TopicFilter, UplinkName};
use tidegate_settings::{Issue, Issues, Node, TableReader, read};

use super::TopicTemplate;
use crate::config::gateway::GatewayId;

/// What may come down from a cloud.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandsConfig {
    /// The filter to subscribe to; it ends in `/#`.
    pub filter: TopicFilter,
    /// The levels before the `#`, with the last `/`; what follows is the local topic.
    pub prefix: String,
    /// The topic below which outcomes go up.
    pub results: Topic,
    /// The queue out of which they come, over AMQP.
    pub queue: Option<String>,
}

const RESULTS_DEFAULT: &str = "tidegate/{gateway}/result";

/// The longest short string (AMQP 0.9.1, section 4.2.5.3).
const QUEUE_BYTES_MAX: usize = 255;

/// Reads both keys, and `commands-queue`; `None` without `commands`.
pub(super) fn read_commands(
    table: &mut TableReader<'_>,
    gateway: &GatewayId,
    uplink: &UplinkName,
    issues: &mut Issues,
) -> Option<CommandsConfig> {
    let fill = |text: &str| {
        text.replace("{gateway}", gateway.as_str()).replace("{uplink}", uplink.as_str())
    };
    let commands_given = table.has("commands");
    let read_prefix = |node: &Node, issues: &mut Issues| {
        const HINT: &str =
            "write it like \"tidegate/{gateway}/cmd/#\": what `#` stands for is the local topic";
        let text = read::string(node, issues)?;
        let filled = fill(text);
        let prefix = filled.strip_suffix('#').filter(|prefix| prefix.ends_with('/'));
        let fixed = prefix.filter(|prefix| !prefix.contains(['+', '#', '{', '}']));
        let filter = TopicFilter::new(&filled).ok();
        let Some((prefix, filter)) = fixed.zip(filter) else {
            issues.error(
                node.span,
                format!("`{text}` is not a fixed topic with `/#` behind it"),
                HINT,
            );
            return None;
        };
        Some((filter, prefix.to_owned()))
    };
    let commands = table.optional("commands", read_prefix, issues);
    let results_at = table.key_span("results");
    let read_results = |node: &Node, issues: &mut Issues| {
        let text = read::string(node, issues)?;
        let filled = fill(text);
        let topic = Topic::new(&filled).ok().filter(|_| !filled.contains(['{', '}']));
        if topic.is_none() {
            let hint =
                "write it like \"tidegate/{gateway}/result\"; `{gateway}` and `{uplink}` are known";
            issues.error(node.span, format!("`{text}` is not a topic"), hint);
        }
        topic
    };
    let results = table.optional("results", read_results, issues);
    if let (Some(at), false) = (results_at, commands_given) {
        let issue =
            Issue::hint(at, "`results` has no effect: nothing comes down without `commands`");
        issues.push(issue.with_hint("remove it, or add `commands`"));
    }
    let queue_at = table.key_span("commands-queue");
    let read_queue = |node: &Node, issues: &mut Issues| {
        let filled = fill(read::string(node, issues)?);
        if !(1..=QUEUE_BYTES_MAX).contains(&filled.len()) || filled.contains(['{', '}']) {
            let hint = "write it like \"commands-{gateway}\"; `{gateway}` and `{uplink}` are known";
            issues.error(node.span, "the name of a queue has 1 to 255 bytes", hint);
            return None;
        }
        Some(filled)
    };
    let queue = table.optional("commands-queue", read_queue, issues);
    // Who shares a connection has heard of it already.
    let is_known = commands_given || table.has("via");
    if let (Some(at), Some(_), false) = (queue_at, &queue, is_known) {
        let message = "`commands-queue` has no effect: nothing comes down without `commands`";
        issues.error(
            at,
            message,
            "add `commands`, which says what the keys of commands begin with",
        );
    }
    let results = results.or_else(|| Topic::new(&fill(RESULTS_DEFAULT)).ok())?;
    commands.map(|(filter, prefix)| CommandsConfig { filter, prefix, results, queue })
}

/// Notes topics of our own that would come back to us as commands.
pub(super) fn check_echo(
    table: &TableReader<'_>,
    topic: &TopicTemplate,
    commands: Option<&CommandsConfig>,
    issues: &mut Issues,
) {
    let Some(commands) = commands else { return };
    let sent = topic.fill("x", "x");
    for (key, topic) in [("topic", sent.as_str()), ("results", commands.results.as_str())] {
        if format!("{topic}/").starts_with(&commands.prefix) {
            let issue = Issue::error(
                table.value_span(key),
                format!("what is published to `{topic}` would come back as a command"),
            );
            let issue = issue.with_hint("publish elsewhere, or narrow `commands`");
            issues.push(issue.with_related(table.value_span("commands"), "subscribed here"));
        }
    }
}

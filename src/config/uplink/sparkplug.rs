//! `[uplink.sparkplug-b]`: which edge node of Sparkplug B the gateway is, and what its devices are.

use std::sync::Arc;
use std::time::Duration;

use tidegate_settings::{ByteSize, Issues, Node, TableReader, read};
use tidegate_sparkplug::{DeviceRule, Id, NamingError, Settings, StateVersion};

use crate::config::gateway::GatewayId;

const DAY_S: u64 = 24 * 3_600;
/// The key of the table.
const KEY: &str = "sparkplug-b";
const ID_HINT: &str =
    "one level of a topic: no `+`, `/`, `#` and control characters, at most 256 bytes";
const PATTERN_HINT: &str = "such as \"hall1/{press}/{metric}\": a capture stands for one level";
const NAME_HINT: &str = "captures of `topics` stand in braces, such as \"{press}\"";

/// Reads the table of an uplink of this format; notes it in one of another.
pub(super) fn read_sparkplug(
    table: &mut TableReader<'_>,
    gateway: &GatewayId,
    is_wanted: bool,
    issues: &mut Issues,
) -> Option<Arc<Settings>> {
    if !is_wanted {
        let hint = "add `format = \"sparkplug-b\"`, or remove the table";
        table.refuse(KEY, "`sparkplug-b` is for uplinks of that format", hint, issues);
        return None;
    }
    for (key, message, hint) in NOT_WANTED {
        table.refuse(key, message, hint, issues);
    }
    let read = |table: TableReader<'_>, issues: &mut Issues| read_node(table, gateway, issues);
    table.required_table(KEY, "sparkplug-b = { group = \"hall1\" }", read, issues)
}

/// Keys of other uplinks that have no place here, and what to do about them.
const NOT_WANTED: [(&str, &str, &str); 6] = [
    ("topic", "the format \"sparkplug-b\" has topics of its own", "remove `topic`"),
    (
        "commands",
        "the format \"sparkplug-b\" has topics of its own for commands",
        "write `commands = true` in `[uplink.sparkplug-b]`",
    ),
    (
        "results",
        "Sparkplug B has no outcomes of commands",
        "remove it: hosts see the new value of the metric",
    ),
    ("compress", "hosts of Sparkplug B do not all know compression", "remove `compress`"),
    (
        "session-expiry",
        "sessions of Sparkplug B end with their connection",
        "remove `session-expiry`: commands are for hosts that see the edge node alive",
    ),
    (
        "via",
        "an edge node of Sparkplug B has a connection of its own",
        "write `url` in place of `via`",
    ),
];

fn read_node(
    mut table: TableReader<'_>,
    gateway: &GatewayId,
    issues: &mut Issues,
) -> Option<Arc<Settings>> {
    let id = || read::parsed("an id of Sparkplug", ID_HINT, Id::new);
    let group = table.required_like("group", "group = \"hall1\"", id(), issues);
    let node_given = table.has("node");
    let node = table.optional("node", id(), issues);
    // The gateway's id is one level of a topic.
    let node = if node_given { node } else { Id::new(gateway.as_str()).ok() };
    let primary_host = table.optional("primary-host", id(), issues);
    let words = [("3.0", StateVersion::V3), ("2.2", StateVersion::V2)];
    let state_at = table.key_span("state");
    let state = table.optional_or("state", StateVersion::default(), read::word(&words), issues);
    if let (Some(at), None) = (state_at, table.key_span("primary-host")) {
        let hint = "add `primary-host`, or remove `state`";
        issues.error(at, "`state` has no effect: no host is waited for", hint);
    }
    let aliases = table.optional_or("aliases", true, read::boolean, issues);
    let commands = table.optional_or("commands", false, read::boolean, issues);
    let silences = Duration::from_secs(1)..=Duration::from_secs(30 * 24 * 3_600);
    let silence = table.optional("silence", read::duration_within(silences), issues);
    let forgets =
        read::duration_within(Duration::from_secs(60)..=Duration::from_secs(3_650 * DAY_S));
    let forget = table.optional_or("forget", Settings::FORGET_DEFAULT, forgets, issues);
    let sizes = read::byte_size_within(ByteSize::kib(1)..=ByteSize::mib(256));
    let message = table.optional("max-message", sizes, issues);
    let devices = table.tables("device", read_device, issues);
    table.finish(issues);
    Some(Arc::new(Settings {
        node: tidegate_sparkplug::Node { group: group?, id: node? },
        primary_host,
        state,
        aliases,
        commands,
        devices,
        silence,
        forget,
        payload_bytes_max: message.map(ByteSize::to_usize),
        topic_bytes_max: None,
    }))
}

/// Reads one `[[uplink.sparkplug-b.device]]`.
fn read_device(mut table: TableReader<'_>, issues: &mut Issues) -> Option<DeviceRule> {
    fn text<'a>(node: &'a Node, issues: &mut Issues) -> Option<(&'a Node, &'a str)> {
        read::string(node, issues).map(|text| (node, text))
    }
    let example = "topics = \"hall1/{press}/{metric}\"";
    let topics = table.required_like("topics", example, text, issues);
    let device = table.required_like("device", "device = \"{press}\"", text, issues);
    let metric = table.required_like("metric", "metric = \"{metric}\"", text, issues);
    table.finish(issues);
    let (topics_at, topics) = topics?;
    if let Err(error) = DeviceRule::check_pattern(topics) {
        note(topics_at, &error, PATTERN_HINT, issues);
        return None;
    }
    // Each text is tried with a right one in the place of the others, so that every fault is told.
    if let Some((at, device)) = device
        && let Err(error) = DeviceRule::new(topics, device, "m")
    {
        note(at, &error, NAME_HINT, issues);
    }
    if let Some((at, metric)) = metric
        && let Err(error) = DeviceRule::new(topics, "d", metric)
    {
        note(at, &error, NAME_HINT, issues);
    }
    DeviceRule::new(topics, device?.1, metric?.1).ok()
}

fn note(node: &Node, error: &NamingError, hint: &str, issues: &mut Issues) {
    let text = node.as_str().unwrap_or_default();
    issues.error(node.span, format!("`{text}` cannot be used: {error}"), hint);
}

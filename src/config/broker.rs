//! What `[mqtt]` says of the broker beside where it listens.

use std::time::Duration;

use tidegate_broker::access::AccessFilter;
use tidegate_model::TopicFilter;
use tidegate_mqtt::Text;
use tidegate_settings::{Issues, Node, TableReader, read};

use super::access;

/// What the broker tells its clients beside messages.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// Threads that connections live on.
    pub event_loops: usize,
    /// Where clients may go that are sent away for want of room, or because the gateway ends.
    pub server_reference: Option<Text>,
    /// The topic that a client hears of when it asks below which one it may have answers (MQTT 5.0, section 4.10.1).
    pub response_topics: Option<AccessFilter>,
    /// How often `$SYS` topics are published, if they are.
    pub sys_interval: Option<Duration>,
}

const EVENT_LOOPS_MAX: usize = 64;
const SYS_INTERVAL_DEFAULT: Duration = Duration::from_secs(10);
const SYS_INTERVAL_MAX: Duration = Duration::from_secs(3_600);
/// Longest reference to another server, in bytes: it has to fit into what small clients take.
const SERVER_REFERENCE_BYTES_MAX: usize = 255;

impl Default for BrokerConfig {
    fn default() -> Self {
        Self {
            event_loops: 1,
            server_reference: None,
            response_topics: None,
            sys_interval: Some(SYS_INTERVAL_DEFAULT),
        }
    }
}

impl BrokerConfig {
    /// Takes the keys out of `[mqtt]`.
    pub(super) fn read(table: &mut TableReader<'_>, issues: &mut Issues) -> Self {
        let interval = read::duration_within(Duration::ZERO..=SYS_INTERVAL_MAX);
        let sys_interval =
            table.optional_or("sys-interval", SYS_INTERVAL_DEFAULT, interval, issues);
        let loops = read::integer(1..=EVENT_LOOPS_MAX);
        Self {
            event_loops: table.optional_or("event-loops", 1, loops, issues),
            server_reference: table.optional("server-reference", read_reference, issues),
            response_topics: table.optional("response-topics", read_topic, issues),
            sys_interval: (!sys_interval.is_zero()).then_some(sys_interval),
        }
    }
}

fn read_reference(node: &Node, issues: &mut Issues) -> Option<Text> {
    let text = read::text(node, issues)?;
    if text.is_empty() || text.len() > SERVER_REFERENCE_BYTES_MAX || text.contains(char::is_control)
    {
        let hint = "write the host and the port of another server, such as \"other.example:8883\"";
        issues.error(
            node.span,
            format!("`{}` does not refer to a server", text.escape_debug()),
            hint,
        );
        return None;
    }
    Text::new(&text).ok()
}

fn read_topic(node: &Node, issues: &mut Issues) -> Option<AccessFilter> {
    let filter = access::read_filter(node, issues)?;
    let text = read::string(node, issues)?;
    let has_wildcard = TopicFilter::new(text).is_ok_and(|filter| filter.has_wildcard());
    if has_wildcard || text.starts_with('$') {
        let hint = "write a topic in which `{client-id}` stands for the client, such as \"responses/{client-id}\"";
        issues.error(node.span, format!("`{text}` is not a topic for answers"), hint);
        return None;
    }
    Some(filter)
}

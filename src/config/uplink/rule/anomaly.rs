//! `[uplink.rule.anomaly]`: what is out of the ordinary.

use std::time::Duration;

use tidegate_rules::{Anomaly, EventTopic, Season};
use tidegate_settings::{Issues, Node, TableReader, read};

use super::{not_negative, positive};
use crate::config::gateway::GatewayId;

const DEVIATIONS_DEFAULT: f64 = 4.0;
const MEMORY_DEFAULT: u32 = 1_000;
const WARM_UP_DEFAULT: u32 = 100;
const TOPIC_DEFAULT: &str = "tidegate/{gateway}/anomaly/{topic}";
const DAY: Duration = Duration::from_secs(86_400);
/// Hours.
const PARTS_OF_A_DAY: u16 = 24;

/// Reads the table.
pub(super) fn read(
    mut table: TableReader<'_>,
    gateway: &GatewayId,
    issues: &mut Issues,
) -> Option<Anomaly> {
    let deviations = table.optional_or("deviations", DEVIATIONS_DEFAULT, positive, issues);
    let least = table.optional_or("least", 0.0, not_negative, issues);
    let counts = || read::integer(2..=1_000_000_u32);
    let memory = table.optional_or("memory", MEMORY_DEFAULT, counts(), issues);
    let warm_up = table.optional_or("warm-up", WARM_UP_DEFAULT, counts(), issues);
    let period = table.optional("season", read_period, issues);
    let parts = table.optional("parts", read::integer(2..=744_u16), issues);
    if let (Some(at), false) = (table.key_span("parts"), table.has("season")) {
        issues.error(at, "`parts` has no effect without `season`", "add `season = \"day\"`");
    }
    let season = period.map(|(period, usual)| Season { period, parts: parts.unwrap_or(usual) });
    let template = |node: &Node, issues: &mut Issues| read_topic(node, gateway, issues);
    let topic = table.optional("topic", template, issues);
    table.finish(issues);
    let topic = topic.unwrap_or_else(|| fill_gateway(TOPIC_DEFAULT, gateway));
    Some(Anomaly { deviations, least, memory, warm_up, season, topic })
}

/// Reads `day`, `week` or a duration. Returns also in how many parts it is usually taken.
fn read_period(node: &Node, issues: &mut Issues) -> Option<(Duration, u16)> {
    match node.as_str() {
        Some("day") => Some((DAY, PARTS_OF_A_DAY)),
        Some("week") => Some((7 * DAY, 7 * PARTS_OF_A_DAY)),
        _ => {
            let times = Duration::from_secs(1)..=366 * DAY;
            let period = read::duration_within(times)(node, issues)?;
            Some((period, PARTS_OF_A_DAY))
        }
    }
}

fn fill_gateway(template: &str, gateway: &GatewayId) -> EventTopic {
    EventTopic::new(&template.replace("{gateway}", &gateway.to_string()))
}

fn read_topic(node: &Node, gateway: &GatewayId, issues: &mut Issues) -> Option<EventTopic> {
    let text = read::string(node, issues)?;
    let plain = ["{gateway}", "{topic}", "{rule}"]
        .iter()
        .fold(text.to_owned(), |text, placeholder| text.replace(placeholder, "x"));
    if let Some(at) = plain.find(['{', '}']) {
        let at = text.find(&plain[at..]).unwrap_or(0);
        let place = node.span_within(at..text.len());
        let hint = "known are `{gateway}`, `{topic}` and `{rule}`";
        issues.error(place, "this placeholder is not known here", hint);
        return None;
    }
    let topic = fill_gateway(text, gateway);
    if topic.fill("t", "r").is_none() {
        let message = format!("`{text}` is not a topic");
        issues.error(node.span, message, "a topic to publish to has no wildcards");
        return None;
    }
    Some(topic)
}

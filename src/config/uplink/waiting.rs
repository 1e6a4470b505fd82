//! How much may wait, for how long, and how fast it goes when there is a connection again.

use std::time::Duration;

use tidegate_model::UplinkName;
use tidegate_rules::{Action, Rule};
use tidegate_settings::{ByteSize, Issues, Node, TableReader, read};
use tidegate_uplink::Rates;

use super::link::read_byte_rate;
use super::{PayloadFormat, UplinkConfig, WhenFull};
use crate::config::unique::Unique;

/// What becomes of records that wait.
#[derive(Clone, Debug, PartialEq)]
pub struct WaitingConfig {
    /// What to do when nothing more may wait.
    pub when_full: WhenFull,
    /// How much may wait.
    pub max_bytes: ByteSize,
    /// For how long a record may wait.
    pub max_age: Option<Duration>,
    /// How fast goes what has waited for a connection.
    pub replay: Rates,
    /// Which share of messages is live ones while a backlog waits, too: above 0, and 1 for all; absent: everything goes in
    /// the order in which it came.
    pub live_share: Option<f64>,
}

/// What goes first when there is a connection again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Order {
    #[default]
    OldestFirst,
    LiveFirst,
}

const WHEN_FULL_DEFAULT: WhenFull = WhenFull::DropOldest;
const MAX_BYTES_DEFAULT: ByteSize = ByteSize::mib(512);
const DAY: Duration = Duration::from_secs(86_400);

impl WaitingConfig {
    /// Reads `when-full`, `max-bytes`, `max-age` and `replay` of an uplink.
    pub(super) fn read(table: &mut TableReader<'_>, issues: &mut Issues) -> Self {
        let words = [("drop-oldest", WhenFull::DropOldest), ("refuse", WhenFull::Refuse)];
        let when_full =
            table.optional_or("when-full", WHEN_FULL_DEFAULT, read::word(&words), issues);
        let sizes = ByteSize::mib(1)..=ByteSize::gib(64);
        let sizes = read::byte_size_within(sizes);
        let max_bytes = table.optional_or("max-bytes", MAX_BYTES_DEFAULT, sizes, issues);
        let ages = Duration::from_secs(10)..=3_650 * DAY;
        let max_age = table.optional("max-age", read::duration_within(ages), issues);
        let (replay, live_share) = table.table("replay", read_replay, issues).unwrap_or_default();
        Self { when_full, max_bytes, max_age, replay, live_share }
    }
}

/// Reads `replay`: rates, and the share of live messages.
fn read_replay(mut table: TableReader<'_>, issues: &mut Issues) -> Option<(Rates, Option<f64>)> {
    let messages = read::integer(1..=1_000_000);
    let messages = table.optional("max-messages-per-second", messages, issues);
    let bytes = table.optional("max-bytes-per-second", read_byte_rate(1 << 30), issues);
    let words = [("oldest-first", Order::OldestFirst), ("live-first", Order::LiveFirst)];
    let order = table.optional_or("order", Order::default(), read::word(&words), issues);
    let share = table.optional("live-share", read_share, issues);
    if let (Some(at), Order::OldestFirst) = (table.key_span("live-share"), order) {
        let hint = "add `order = \"live-first\"`, or remove it";
        issues.error(at, "`live-share` has no effect: everything goes in its order", hint);
    }
    table.finish(issues);
    let live_share = (order == Order::LiveFirst).then(|| share.unwrap_or(1.0));
    Some((Rates { messages, bytes }, live_share))
}

fn read_share(node: &Node, issues: &mut Issues) -> Option<f64> {
    let share = read::number(node, issues)?;
    if !(0.01..=1.0).contains(&share) {
        issues.error(node.span, "must be from 0.01 to 1", "write a share such as `0.8`");
        return None;
    }
    Some(share)
}

const ORDER_HINT: &str = "remove `order`: what has waited goes first";

/// Notes what does not go with two queues.
pub(super) fn check_live_first(
    table: &TableReader<'_>,
    name: &UplinkName,
    format: PayloadFormat,
    has_own_connection: bool,
    rules: &[Rule],
    names: &mut Unique,
    issues: &mut Issues,
) {
    let at = table.value_span("replay");
    match UplinkConfig::second_name(name) {
        Some(second) => names.note(second.as_str(), at, issues),
        None => {
            let hint = "give the uplink a name of 62 characters at most";
            issues.error(
                at,
                format!("the second queue has no place for its name, `{name}.2`"),
                hint,
            );
        }
    }
    if format.is_dialect() {
        issues.error(at, "this format keeps the order in which readings came", ORDER_HINT);
    }
    if !has_own_connection {
        let message = "`order` is for uplinks that have a connection of their own";
        issues.error(at, message, ORDER_HINT);
    }
    let needs_order = |rule: &&Rule| {
        matches!(rule.action, Action::Window(_) | Action::SwingingDoor(_) | Action::Anomaly(_))
    };
    if let Some(rule) = rules.iter().find(needs_order) {
        let message =
            format!("the rule `{}` needs readings in the order in which they came", rule.name);
        issues.error(at, message, ORDER_HINT);
    }
}

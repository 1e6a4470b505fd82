//! `[[uplink.rule]]`: what an uplink leaves out.

use std::time::Duration;

use tidegate_model::TopicFilter;
use tidegate_rules::{Rule, RuleName};
use tidegate_settings::{Issue, Issues, Node, TableReader, read};

use super::table::read_filter;
use crate::config::unique::Unique;

/// Reads one rule of an uplink that takes `taken`.
pub(super) fn read_rule(
    mut table: TableReader<'_>,
    taken: &[TopicFilter],
    names: &mut Unique,
    issues: &mut Issues,
) -> Option<Rule> {
    let hint = "use 1 to 64 letters, digits, `-`, `_` and `.`: counters carry it";
    let parse_name = read::parsed("the name of a rule", hint, RuleName::new);
    let name = table.required_like("name", "name = \"slow-temperatures\"", parse_name, issues);
    if let Some(name) = &name {
        names.note(name.as_str(), table.value_span("name"), issues);
    }
    let example = "topics = [\"hall1/+/temperature\"]";
    let topics = table.required_list("topics", example, read_filter, issues);
    let reached = |filter: &TopicFilter| taken.iter().any(|taken| overlap(taken, filter));
    if !topics.is_empty() && !taken.is_empty() && !topics.iter().any(reached) {
        let message = "the rule is about topics that this uplink does not take";
        let issue = Issue::hint(table.value_span("topics"), message);
        issues.push(issue.with_hint("compare its `topics` with those of the uplink"));
    }
    let conditions = ["deadband", "min-interval", "change-only"].map(|key| table.has(key));
    let deadband = table.optional("deadband", read_deadband, issues);
    let intervals = Duration::from_millis(1)..=Duration::from_secs(7 * 86_400);
    let min_interval = table.optional("min-interval", read::duration_within(intervals), issues);
    let change_only = table.optional_or("change-only", false, read::boolean, issues);
    if conditions == [false; 3] {
        let hint = "add `deadband`, `min-interval` or `change-only`";
        issues.error(table.span(), "the rule has no condition", hint);
    }
    table.finish(issues);
    Some(Rule { name: name?, topics, deadband, min_interval, change_only })
}

fn read_deadband(node: &Node, issues: &mut Issues) -> Option<f64> {
    let width = read::number(node, issues)?;
    if width < 0.0 {
        issues.error(
            node.span,
            "a deadband is not negative",
            "write how much a value must differ, such as `0.5`",
        );
        return None;
    }
    Some(width)
}

/// Returns whether some topic matches both filters.
fn overlap(left: &TopicFilter, right: &TopicFilter) -> bool {
    let mut right = right.levels();
    for ours in left.levels() {
        match (ours, right.next()) {
            ("#", _) | (_, Some("#")) => return true,
            ("+", Some(_)) | (_, Some("+")) => {}
            (ours, Some(theirs)) if ours == theirs => {}
            _ => return false,
        }
    }
    matches!(right.next(), None | Some("#"))
}

//! `[[uplink.rule]]`: what an uplink leaves out, changes, sums up and marks.

mod anomaly;
mod thin;
mod window;

use tidegate_model::{TopicFilter, Unit};
use tidegate_rules::{Action, Conversion, Linear, Rounding, Rule, RuleName, between, known_units};
use tidegate_settings::{Issue, Issues, Node, TableReader, nearest, read};

use super::table::read_filter;
use crate::config::gateway::GatewayId;
use crate::config::unique::Unique;

/// What a rule can do, each with its keys; the first key says that it does it.
const DEEDS: [&[&str]; 6] = [
    &["exclude"],
    &["when", "deadband", "range", "min-interval", "change-only", "heartbeat"],
    &["unit", "from", "scale", "offset", "digits", "step"],
    &["window", "every", "lateness", "functions"],
    &["swinging-door", "longest"],
    &["anomaly"],
];

/// Reads one rule of an uplink that takes `taken`.
pub(super) fn read_rule(
    mut table: TableReader<'_>,
    taken: &[TopicFilter],
    gateway: &GatewayId,
    names: &mut Unique,
    issues: &mut Issues,
) -> Option<Rule> {
    let hint = "use 1 to 64 letters, digits, `-`, `_` and `.`: counters carry it";
    let parse_name = read::parsed("the name of a rule", hint, RuleName::new);
    let name = table.required_like("name", "name = \"slow-temperatures\"", parse_name, issues);
    if let Some(name) = &name {
        let at = table.value_span("name");
        names.note(name.as_str(), at, issues);
        if name.as_str().ends_with(".late") {
            let message = "under names that end in `.late` rules count late readings";
            issues.error(at, message, "choose another name");
        }
    }
    let example = "topics = [\"hall1/+/temperature\"]";
    let topics = table.required_list("topics", example, read_filter, issues);
    let reached = |filter: &TopicFilter| taken.iter().any(|taken| overlap(taken, filter));
    if !topics.is_empty() && !taken.is_empty() && !topics.iter().any(reached) {
        let message = "the rule is about topics that this uplink does not take";
        let issue = Issue::hint(table.value_span("topics"), message);
        issues.push(issue.with_hint("compare its `topics` with those of the uplink"));
    }
    let deed = find_deed(&table, issues);
    let errors_before = issues.error_count();
    let exclude = table.optional_or("exclude", false, read::boolean, issues);
    if table.has("exclude") && !exclude {
        let at = table.value_span("exclude");
        issues.error(at, "a rule that excludes nothing does nothing", "remove the rule");
    }
    // All keys are asked for, so that each is known.
    let thinning = thin::read(&mut table, issues);
    let conversion = read_conversion(&mut table, deed == Some(2), issues);
    let window = window::read_window(&mut table, deed == Some(3), issues);
    let door = window::read_door(&mut table, deed == Some(4), issues);
    let event = |table: TableReader<'_>, issues: &mut Issues| anomaly::read(table, gateway, issues);
    let anomaly = table.table("anomaly", event, issues);
    table.finish(issues);
    if issues.error_count() > errors_before {
        return None;
    }
    let action = match deed? {
        0 => Action::Exclude,
        1 => Action::Thin(thinning),
        2 => Action::Convert(conversion?),
        3 => Action::Window(window?),
        4 => Action::SwingingDoor(door?),
        _ => Action::Anomaly(anomaly?),
    };
    Some(Rule { name: name?, topics, action })
}

/// Returns what the rule does: one thing.
fn find_deed(table: &TableReader<'_>, issues: &mut Issues) -> Option<usize> {
    let key_of = |keys: &&[&'static str]| keys.iter().copied().find(|key| table.has(key));
    let mut found = DEEDS.iter().enumerate().filter_map(|(deed, keys)| Some((deed, key_of(keys)?)));
    let Some((deed, first)) = found.next() else {
        let hint = "add one of `exclude`, `when`, `deadband`, `min-interval`, `change-only`, `unit`, \
            `scale`, `digits`, `step`, `window`, `swinging-door` or `[uplink.rule.anomaly]`";
        issues.error(table.span(), "the rule does nothing", hint);
        return None;
    };
    for (_, other) in found {
        let at = table.key_span(other).unwrap_or(table.span());
        let message = format!("a rule does one thing: `{other}` does not go with `{first}`");
        issues.error(at, message, "write another rule; they work one after the other");
    }
    Some(deed)
}

/// Reads a change of value and unit.
fn read_conversion(
    table: &mut TableReader<'_>,
    is_wanted: bool,
    issues: &mut Issues,
) -> Option<Conversion> {
    let to = table.optional("unit", read_unit, issues);
    let from = table.optional("from", read_unit, issues);
    let scale = table.optional("scale", read::number, issues);
    let offset = table.optional("offset", read::number, issues);
    let digits = table.optional("digits", read::integer(0..=15_u8), issues);
    let step = table.optional("step", positive, issues);
    if !is_wanted {
        return None;
    }
    if scale == Some(0.0) {
        let at = table.value_span("scale");
        issues.error(at, "all values would be the same", "write another factor than 0");
    }
    if let (Some(at), true) = (table.key_span("step"), digits.is_some()) {
        issues.error(at, "`step` and `digits` both round", "keep one of them");
    }
    let mut linear = (scale.is_some() || offset.is_some())
        .then(|| Linear { scale: scale.unwrap_or(1.0), offset: offset.unwrap_or(0.0) });
    if linear.is_none() && table.has("unit") && table.has("from") {
        let (from, to) = (from.as_ref()?, to.as_ref()?);
        linear = between(from.as_str(), to.as_str());
        if linear.is_none() {
            note_unknown_pair(table, from, to, issues);
        }
    }
    let rounding = digits.map(Rounding::Digits).or(step.map(Rounding::Step));
    if linear.is_none() && rounding.is_none() && !table.has("unit") {
        let at = table.key_span("from").unwrap_or(table.span());
        issues.error(at, "`from` alone changes nothing", "add `unit`, `scale` or `digits`");
    }
    if linear.is_none() && table.has("unit") && !table.has("from") {
        let at = table.value_span("unit");
        let message = "from what the values are converted is not said";
        let hint = "add the unit that they have, such as `from = \"degF\"`, or `scale`";
        issues.error(at, message, hint);
    }
    Some(Conversion { from, to, linear, rounding })
}

fn note_unknown_pair(table: &TableReader<'_>, from: &Unit, to: &Unit, issues: &mut Issues) {
    let message = format!("how `{from}` becomes `{to}` is not known here");
    let known = known_units();
    let unknown = [("from", from), ("unit", to)];
    let wrong = unknown.into_iter().find(|(_, unit)| !known.contains(&unit.as_str()));
    let (key, hint) = match wrong {
        Some((key, unit)) => match nearest(unit.as_str(), known.iter().copied()) {
            Some(near) => (key, format!("did you mean \"{near}\"? Else add `scale` and `offset`")),
            None => (key, "add `scale` and `offset`".to_owned()),
        },
        None => ("unit", "add `scale` and `offset`".to_owned()),
    };
    issues.error(table.value_span(key), message, hint);
}

fn read_unit(node: &Node, issues: &mut Issues) -> Option<Unit> {
    read::parsed("a unit", "write a code of UCUM, such as \"Cel\"", Unit::new)(node, issues)
}

/// Reads a number above 0.
fn positive(node: &Node, issues: &mut Issues) -> Option<f64> {
    let number = read::number(node, issues)?;
    if number <= 0.0 {
        issues.error(node.span, "must be above 0", "write a number such as `0.5`");
        return None;
    }
    Some(number)
}

/// Reads a number that is not negative.
fn not_negative(node: &Node, issues: &mut Issues) -> Option<f64> {
    let number = read::number(node, issues)?;
    if number < 0.0 {
        issues.error(node.span, "must not be negative", "write a number such as `0.5`");
        return None;
    }
    Some(number)
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

//! `when`, `deadband`, `min-interval`, `change-only`, `heartbeat`: what says too little new.

use std::{ops::RangeInclusive, time::Duration};

use tidegate_expression::{Expression, ResultKind, Scope, Subject};
use tidegate_rules::{Deadband, Thinning};
use tidegate_settings::{Issues, Node, NodeValue, TableReader, read};

const TIMES: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(7 * 86_400);

/// A deadband as written.
#[derive(Clone, Copy)]
enum Width {
    Absolute(f64),
    Percent(f64),
}

/// Reads the conditions.
pub(super) fn read(table: &mut TableReader<'_>, issues: &mut Issues) -> Thinning {
    let when = table.optional("when", read_condition, issues);
    let width = table.optional("deadband", read_deadband, issues);
    let range = table.optional("range", read_range, issues);
    let min_interval = table.optional("min-interval", read::duration_within(TIMES), issues);
    let change_only = table.optional_or("change-only", false, read::boolean, issues);
    let heartbeat = table.optional("heartbeat", read::duration_within(TIMES), issues);
    if let (Some(at), false) = (table.key_span("heartbeat"), change_only || table.has("deadband")) {
        let message = "`heartbeat` has no effect: nothing is held back that does not change";
        issues.error(at, message, "add `change-only = true` or `deadband`");
    }
    if let (Some(at), Some(heartbeat), Some(least)) =
        (table.key_span("heartbeat"), heartbeat, min_interval)
        && heartbeat < least
    {
        let hint = "make `heartbeat` longer than `min-interval`";
        issues.error(at, "a heartbeat is never due before `min-interval` is over", hint);
    }
    if let (Some(at), false) = (table.key_span("range"), matches!(width, Some(Width::Percent(_)))) {
        let hint = "write `deadband` in percent, such as \"2%\", or remove `range`";
        issues.error(at, "`range` has no effect: the deadband is not in percent", hint);
    }
    let deadband = width.map(|width| match (width, range) {
        (Width::Absolute(width), _) => Deadband::Absolute(width),
        (Width::Percent(percent), Some((low, high))) => {
            Deadband::Absolute((high - low) * percent / 100.0)
        }
        (Width::Percent(percent), None) => Deadband::Percent(percent),
    });
    Thinning { when, deadband, min_interval, change_only, heartbeat }
}

fn read_condition(node: &Node, issues: &mut Issues) -> Option<Expression> {
    let text = read::string(node, issues)?;
    let scope = Scope { captures: &[], payload: None, subject: Subject::Record };
    match Expression::parse(text, scope, ResultKind::Condition) {
        Ok(condition) => Some(condition),
        Err(faults) => {
            for fault in faults {
                issues.error(node.span_within(fault.range), fault.message, fault.hint);
            }
            None
        }
    }
}

/// Reads a number, or a text with a percentage.
fn read_deadband(node: &Node, issues: &mut Issues) -> Option<Width> {
    let percent = node.as_str().map(|text| text.trim().strip_suffix('%').map(str::trim));
    let width = match percent {
        None => Width::Absolute(read::number(node, issues)?),
        Some(number) => {
            let number = number.and_then(|it| it.parse::<f64>().ok()).filter(|it| it.is_finite());
            let Some(number) = number else {
                let message = "a deadband is a number or a percentage";
                issues.error(node.span, message, "write `0.5`, or \"2%\" with quotes");
                return None;
            };
            Width::Percent(number)
        }
    };
    let (Width::Absolute(number) | Width::Percent(number)) = width;
    if number < 0.0 {
        issues.error(
            node.span,
            "a deadband is not negative",
            "write how much a value must differ, such as `0.5`",
        );
        return None;
    }
    Some(width)
}

/// Reads the lowest and the highest value.
fn read_range(node: &Node, issues: &mut Issues) -> Option<(f64, f64)> {
    let hint = "write the lowest and the highest value, such as `[0, 100]`";
    let NodeValue::Array(items) = &node.value else {
        read::wrong_type(node, "two numbers", hint, issues);
        return None;
    };
    let [low, high] = items.as_slice() else {
        issues.error(node.span, "a range is two numbers", hint);
        return None;
    };
    let (low, high) = (read::number(low, issues)?, read::number(high, issues)?);
    if low >= high {
        issues.error(node.span, "the range is empty", "write the lowest value first");
        return None;
    }
    Some((low, high))
}

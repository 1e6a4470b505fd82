//! `window` and `swinging-door`: what waits until something is sent in its place.

use std::time::Duration;

use tidegate_rules::{Function, SwingingDoor, Window};
use tidegate_settings::{Issues, Node, TableReader, format_duration, read};

use super::not_negative;

const LATENESS_DEFAULT: Duration = Duration::from_secs(2);
const LONGEST_DEFAULT: Duration = Duration::from_secs(600);
const DAY: Duration = Duration::from_secs(86_400);
/// How many windows may overlap.
const PANES_MAX: u128 = 60;
/// How many if quantiles are sent: each part has a sketch of its own.
const PANES_WITH_SKETCH_MAX: u128 = 12;

/// Reads a window.
pub(super) fn read_window(
    table: &mut TableReader<'_>,
    is_wanted: bool,
    issues: &mut Issues,
) -> Option<Window> {
    let lengths = || read::duration_within(Duration::from_millis(100)..=7 * DAY);
    let length = table.optional("window", lengths(), issues);
    let every = table.optional("every", lengths(), issues);
    let lateness = table.optional_or(
        "lateness",
        LATENESS_DEFAULT,
        read::duration_within(Duration::ZERO..=DAY),
        issues,
    );
    let functions = table.list("functions", read_function, issues);
    if !is_wanted {
        return None;
    }
    if !table.has("window") {
        let hint = "add how long a window is, such as `window = \"1m\"`";
        issues.error(table.span(), "`window` is missing in the rule", hint);
    }
    if functions.is_empty() && !table.has("functions") {
        let hint = "add `functions`, such as `functions = [\"min\", \"mean\", \"max\"]`";
        issues.error(table.span(), "what is sent of a window is not said", hint);
    }
    if let Some(twice) = (1..functions.len()).find(|at| functions[..*at].contains(&functions[*at]))
    {
        let message = format!("`{}` stands there twice", functions[twice]);
        issues.error(table.value_span("functions"), message, "remove one of them");
    }
    let (length, every) = (length?, every.unwrap_or(length?));
    let has_sketch = functions.iter().any(|function| matches!(function, Function::Quantile(_)));
    let panes_max = if has_sketch { PANES_WITH_SKETCH_MAX } else { PANES_MAX };
    let panes = length.as_millis() / every.as_millis().max(1);
    if length.as_millis() % every.as_millis().max(1) != 0 {
        let message = format!("{} is no multiple of it", format_duration(length));
        let hint = "windows begin every so often, and a window is a whole number of these steps";
        issues.error(table.value_span("every"), message, hint);
    } else if panes > panes_max {
        let message = format!("{panes} windows would overlap, at most {panes_max} may");
        let why = if has_sketch { "with quantiles, " } else { "" };
        let least = Duration::from_millis(u64::try_from(length.as_millis() / panes_max).ok()?);
        let hint = format!("{why}write at least \"{}\"", format_duration(least));
        issues.error(table.value_span("every"), message, hint);
    }
    Some(Window { length, every, lateness, functions })
}

fn read_function(node: &Node, issues: &mut Issues) -> Option<Function> {
    let name = read::string(node, issues)?;
    let function = Function::parse(name);
    if function.is_none() {
        let message = format!("`{name}` is not known here");
        let hint =
            "known are min, max, mean, last, count, deviation, and quantiles such as p50 or p99.9";
        issues.error(node.span, message, hint);
    }
    function
}

/// Reads a swinging door.
pub(super) fn read_door(
    table: &mut TableReader<'_>,
    is_wanted: bool,
    issues: &mut Issues,
) -> Option<SwingingDoor> {
    let bound = table.optional("swinging-door", not_negative, issues);
    let times = read::duration_within(Duration::from_secs(1)..=7 * DAY);
    let longest = table.optional_or("longest", LONGEST_DEFAULT, times, issues);
    if is_wanted && !table.has("swinging-door") {
        let hint = "add how far a reading may be from the line, such as `swinging-door = 0.5`";
        issues.error(table.span(), "`swinging-door` is missing in the rule", hint);
    }
    Some(SwingingDoor { bound: bound?, longest })
}

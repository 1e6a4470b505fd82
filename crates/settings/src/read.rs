//! Parsers for single values, to be handed to a [`TableReader`](crate::TableReader).
//!
//! Each takes a node and gives the value, or notes what was found, what was expected and what to do.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::{
    ByteSize, ByteSizeError, Issue, Issues, Node, NodeValue, TableStyle, format_duration, nearest,
    parse_duration,
};

/// Reads a string.
pub fn string<'a>(node: &'a Node, issues: &mut Issues) -> Option<&'a str> {
    string_like(node, "a string", issues)
}

/// Reads a string that is not empty, as an owned one.
pub fn text(node: &Node, issues: &mut Issues) -> Option<String> {
    let text = string(node, issues)?;
    if text.is_empty() {
        issues.error(node.span, "the text must not be empty", "write a value, or remove the key");
        return None;
    }
    Some(text.to_owned())
}

/// Reads `true` or `false`.
pub fn boolean(node: &Node, issues: &mut Issues) -> Option<bool> {
    if let NodeValue::Boolean(value) = node.value {
        return Some(value);
    }
    wrong_type(node, "a boolean", "write `true` or `false`, without quotes", issues);
    None
}

/// Reads a whole number within `range`.
pub fn integer<T>(range: RangeInclusive<T>) -> impl Fn(&Node, &mut Issues) -> Option<T>
where
    T: TryFrom<i64> + PartialOrd + Display,
{
    move |node, issues| {
        let NodeValue::Integer(value) = node.value else {
            let hint = match node.as_str() {
                Some(text) if text.parse::<i64>().is_ok() => "remove the quotes".to_owned(),
                _ => format!("write a whole number from {} to {}", range.start(), range.end()),
            };
            wrong_type(node, "an integer", hint, issues);
            return None;
        };
        let within = T::try_from(value).ok().filter(|value| range.contains(value));
        if within.is_none() {
            out_of_range(node, &value.to_string(), range.start(), range.end(), issues);
        }
        within
    }
}

/// Reads a finite number, with or without fraction.
pub fn number(node: &Node, issues: &mut Issues) -> Option<f64> {
    match node.value {
        NodeValue::Float(value) if value.is_finite() => Some(value),
        // Above 2^53 the nearest double stands for the integer.
        NodeValue::Integer(value) => Some(value as f64),
        NodeValue::Float(value) => {
            issues.error(
                node.span,
                format!("expected a number, found {value}"),
                "write a finite number",
            );
            None
        }
        _ => {
            wrong_type(node, "a number", "write a number such as `0.5`, without quotes", issues);
            None
        }
    }
}

/// Reads a finite number within `range`.
pub fn number_within(range: RangeInclusive<f64>) -> impl Fn(&Node, &mut Issues) -> Option<f64> {
    move |node, issues| {
        let value = number(node, issues)?;
        if !range.contains(&value) {
            out_of_range(node, &value.to_string(), range.start(), range.end(), issues);
            return None;
        }
        Some(value)
    }
}

/// Reads a duration such as `250ms`, `5s`, `2h` or `7d`.
pub fn duration(node: &Node, issues: &mut Issues) -> Option<Duration> {
    const UNITS: &str = "write a whole number with `ms`, `s`, `m`, `h` or `d`, such as \"250ms\"";
    if let NodeValue::Integer(value) = node.value {
        let message = format!("expected a duration, found the number {value} without a unit");
        issues.error(node.span, message, format!("write \"{value}s\" or \"{value}ms\""));
        return None;
    }
    let text = string_like(node, "a duration such as \"250ms\"", issues)?;
    match parse_duration(text) {
        Ok(duration) => Some(duration),
        Err(error) => {
            issues.error(node.span, format!("`{text}` is not a duration: {error}"), UNITS);
            None
        }
    }
}

/// Reads a duration within `range`.
pub fn duration_within(
    range: RangeInclusive<Duration>,
) -> impl Fn(&Node, &mut Issues) -> Option<Duration> {
    move |node, issues| {
        let value = duration(node, issues)?;
        if !range.contains(&value) {
            let (low, high) = (format_duration(*range.start()), format_duration(*range.end()));
            out_of_range(node, &format_duration(value), &low, &high, issues);
            return None;
        }
        Some(value)
    }
}

/// Reads a size such as `64KiB` or `1GiB`.
pub fn byte_size(node: &Node, issues: &mut Issues) -> Option<ByteSize> {
    const UNITS: &str = "write a whole number with `B`, `KiB`, `MiB` or `GiB`, such as \"64KiB\"";
    if let NodeValue::Integer(value) = node.value {
        let message = format!("expected a size, found the number {value} without a unit");
        let hint = match value {
            1.. => format!("write \"{value}B\" if bytes are meant"),
            _ => UNITS.to_owned(),
        };
        issues.error(node.span, message, hint);
        return None;
    }
    let text = string_like(node, "a size such as \"64KiB\"", issues)?;
    match text.parse() {
        Ok(size) => Some(size),
        Err(error) => {
            let hint = match &error {
                ByteSizeError::Unit { meant: Some(meant), .. } => {
                    format!("did you mean \"{meant}\"?")
                }
                _ => UNITS.to_owned(),
            };
            issues.error(node.span, format!("`{text}` is not a size: {error}"), hint);
            None
        }
    }
}

/// Reads a size within `range`.
pub fn byte_size_within(
    range: RangeInclusive<ByteSize>,
) -> impl Fn(&Node, &mut Issues) -> Option<ByteSize> {
    move |node, issues| {
        let value = byte_size(node, issues)?;
        if !range.contains(&value) {
            out_of_range(node, &value.to_string(), range.start(), range.end(), issues);
            return None;
        }
        Some(value)
    }
}

/// Reads one of a few words and gives what stands for it.
pub fn word<T: Clone>(words: &[(&'static str, T)]) -> impl Fn(&Node, &mut Issues) -> Option<T> {
    move |node, issues| {
        let expected: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        let expected = expected.join(", ");
        let Some(text) = node.as_str() else {
            wrong_type(node, "one of a few words", format!("write one of {expected}"), issues);
            return None;
        };
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(value.clone());
        }
        let hint = match nearest(text, words.iter().map(|(word, _)| *word)) {
            Some(word) => format!("did you mean \"{word}\"? Known: {expected}"),
            None => format!("write one of {expected}"),
        };
        issues.error(node.span, format!("\"{text}\" is not known here"), hint);
        None
    }
}

/// Reads a string and hands it to `parse`. `expected` names what it must be, as in `a topic filter`.
pub fn parsed<T, E: Display>(
    expected: &'static str,
    hint: &'static str,
    parse: impl Fn(&str) -> Result<T, E>,
) -> impl Fn(&Node, &mut Issues) -> Option<T> {
    move |node, issues| {
        let text = string_like(node, expected, issues)?;
        match parse(text) {
            Ok(value) => Some(value),
            Err(error) => {
                issues.error(node.span, format!("`{text}` is not {expected}: {error}"), hint);
                None
            }
        }
    }
}

/// Reads an array, each item by `item`. Items that are wrong are noted and left out.
pub fn list<'a, T>(
    item: impl Fn(&'a Node, &mut Issues) -> Option<T>,
) -> impl Fn(&'a Node, &mut Issues) -> Option<Vec<T>> {
    move |node, issues| {
        let Some(items) = node.as_array() else {
            let hint = match node.as_str() {
                Some(text) => format!("put it in brackets: [\"{text}\"]"),
                None => "put the values in brackets: [ … ]".to_owned(),
            };
            wrong_type(node, "an array", hint, issues);
            return None;
        };
        Some(items.iter().filter_map(|node| item(node, issues)).collect())
    }
}

/// Notes that `node` should have been `expected`.
pub fn wrong_type(node: &Node, expected: &str, hint: impl Into<String>, issues: &mut Issues) {
    let hint = match node.value {
        NodeValue::Null => "write a value behind the key, or remove the key".to_owned(),
        _ => hint.into(),
    };
    let issue = Issue::error(node.span, format!("expected {expected}, found {}", node.kind()));
    issues.push(issue.with_hint(hint));
}

fn string_like<'a>(node: &'a Node, expected: &str, issues: &mut Issues) -> Option<&'a str> {
    let hint = match &node.value {
        NodeValue::String(text) => return Some(text),
        NodeValue::Table(table) if table.style == TableStyle::Flow => {
            "a YAML value that begins with `{` must be quoted: put it in '…'".to_owned()
        }
        NodeValue::Boolean(value) => format!("put it in quotes: \"{value}\""),
        NodeValue::Integer(value) => format!("put it in quotes: \"{value}\""),
        NodeValue::Array(_) => "give one value, without brackets".to_owned(),
        _ => "put it in quotes".to_owned(),
    };
    wrong_type(node, expected, hint, issues);
    None
}

fn out_of_range(
    node: &Node,
    found: &str,
    low: &impl Display,
    high: &impl Display,
    issues: &mut Issues,
) {
    let message = format!("{found} is out of range");
    issues.error(node.span, message, format!("it must be between {low} and {high}"));
}

//! TOML, with all syntax errors at once.

use toml::Spanned;
use toml::de::{DeArray, DeInteger, DeTable, DeValue};

use super::{DEPTH_MAX, empty_root, lines_around, push_broken};
use crate::{Entry, Issue, Issues, Key, Node, NodeValue, SourceId, Span, Table, TableStyle};

/// More syntax errors than this in one file help nobody.
const SYNTAX_ERRORS_MAX: usize = 20;

pub(super) fn parse(source: SourceId, text: &str, issues: &mut Issues) -> Option<Node> {
    let (document, errors) = DeTable::parse_recoverable(text);
    report(source, text, errors, issues);
    let mut reader = Reader { source, text, issues };
    let table = reader.table(document.get_ref(), TableStyle::Block, 0)?;
    let root = Node::new(NodeValue::Table(table), empty_root(source).span);
    Some(root)
}

/// Notes the first syntax error of each line; further ones in a line follow from it.
fn report(source: SourceId, text: &str, errors: Vec<toml::de::Error>, issues: &mut Issues) {
    let mut found: Vec<(Span, String)> = errors
        .into_iter()
        .map(|error| (Span::new(source, error.span().unwrap_or(0..0)), error.message().to_owned()))
        .collect();
    found.sort_by_key(|(at, _)| *at);
    found.dedup_by_key(|(at, _)| lines_around(text, *at).start);
    for (at, message) in found.into_iter().take(SYNTAX_ERRORS_MAX) {
        let issue = describe(text, at, &message);
        let damaged = damaged_by(text, issue.at);
        issues.push_damage(issue, damaged);
    }
}

/// Returns what cannot be trusted any more: the line, and below a broken header all that belongs to it.
fn damaged_by(text: &str, at: Span) -> Span {
    let mut lines = lines_around(text, at);
    if text[lines.range()].starts_with('[') {
        let next = text[lines.end..].find("\n[").map_or(text.len(), |next| lines.end + next);
        lines.end = next;
    }
    lines
}

/// Says in the words of the file's author what the parser found.
fn describe(text: &str, at: Span, message: &str) -> Issue {
    let token = token_around(text, at);
    let word = &text[token.range()];
    if message.starts_with("duplicate key") {
        let issue = Issue::error(at, format!("`{word}` is given twice"));
        return issue
            .with_hint("remove one of the two; of a table that may repeat, write `[[name]]`");
    }
    let unquoted = message.starts_with("string values must be quoted")
        || ["invalid boolean", "invalid float", "invalid integer", "invalid date", "invalid time"]
            .iter()
            .any(|start| message.starts_with(start));
    if unquoted && !word.is_empty() {
        let hint = match word {
            "yes" | "on" | "True" | "TRUE" => "write `true`".to_owned(),
            "no" | "off" | "False" | "FALSE" => "write `false`".to_owned(),
            _ => format!("put text in quotes: \"{word}\""),
        };
        return Issue::error(token, format!("`{word}` is not a value")).with_hint(hint);
    }
    if message.starts_with("string values must be quoted") {
        return Issue::error(at, "a value is missing").with_hint("write a value behind the `=`");
    }
    let (what, expected) = match message.split_once(", expected ") {
        Some((what, expected)) => (what, format!("expected here: {expected}")),
        None => (message, "see https://toml.io for the syntax".to_owned()),
    };
    Issue::error(at, what).with_hint(expected)
}

/// Widens a place to the word it is part of.
fn token_around(text: &str, at: Span) -> Span {
    let stops = |letter: char| letter.is_whitespace() || "=,[]{}#\"'".contains(letter);
    let before = text[..at.start]
        .rfind(stops)
        .map_or(0, |found| found + text[found..].chars().next().map_or(1, char::len_utf8));
    let after = text[at.end..].find(stops).map_or(text.len(), |found| at.end + found);
    Span::new(at.source, before.min(at.start)..after)
}

struct Reader<'t> {
    source: SourceId,
    text: &'t str,
    issues: &'t mut Issues,
}

impl Reader<'_> {
    fn table(&mut self, table: &DeTable<'_>, style: TableStyle, depth: usize) -> Option<Table> {
        let mut entries = Vec::with_capacity(table.len());
        for (key, value) in table.iter() {
            let Some(value) = self.node(value, depth + 1) else { continue };
            let key = Key { name: key.get_ref().clone().into_owned(), span: self.span(key.span()) };
            entries.push(Entry { key, value });
        }
        entries.sort_by_key(|entry| entry.key.span);
        Some(Table { entries, style })
    }

    fn node(&mut self, value: &Spanned<DeValue<'_>>, depth: usize) -> Option<Node> {
        let span = self.span(value.span());
        if depth > DEPTH_MAX {
            let issue =
                Issue::error(span, format!("values are nested deeper than {DEPTH_MAX} levels"));
            push_broken(self.text, issue.with_hint("flatten the structure"), self.issues);
            return None;
        }
        let value = match value.get_ref() {
            DeValue::String(text) => {
                let written = self.text.get(span.range()).unwrap_or_default();
                return Some(Node::string(text.clone().into_owned(), span, written));
            }
            DeValue::Integer(integer) => NodeValue::Integer(self.integer(integer, span)?),
            DeValue::Float(float) => NodeValue::Float(self.float(float.as_str(), span)?),
            DeValue::Boolean(value) => NodeValue::Boolean(*value),
            DeValue::Datetime(value) => NodeValue::DateTime(value.to_string()),
            DeValue::Array(items) => NodeValue::Array(self.array(items, depth)),
            DeValue::Table(table) => {
                let written = self.text.get(span.range()).unwrap_or_default();
                let inline = written.starts_with('{');
                let style = if inline { TableStyle::Inline } else { TableStyle::Block };
                NodeValue::Table(self.table(table, style, depth)?)
            }
        };
        Some(Node::new(value, span))
    }

    fn array(&mut self, items: &DeArray<'_>, depth: usize) -> Vec<Node> {
        items.iter().filter_map(|item| self.node(item, depth + 1)).collect()
    }

    fn integer(&mut self, integer: &DeInteger<'_>, span: Span) -> Option<i64> {
        let value = i64::from_str_radix(integer.as_str(), integer.radix()).ok();
        if value.is_none() && !self.issues.is_damaged(span) {
            let hint = format!("it must be between {} and {}", i64::MIN, i64::MAX);
            let issue = Issue::error(span, "the integer does not fit into 64 bits").with_hint(hint);
            push_broken(self.text, issue, self.issues);
        }
        value
    }

    fn float(&mut self, text: &str, span: Span) -> Option<f64> {
        let value = text.parse::<f64>().ok();
        let overflow = value.is_some_and(|value| value.is_infinite() && !text.contains("inf"));
        if (value.is_none() || overflow) && !self.issues.is_damaged(span) {
            let issue = Issue::error(span, "the number is too large for a 64-bit float");
            push_broken(self.text, issue.with_hint("write a smaller number"), self.issues);
        }
        value
    }

    fn span(&self, range: std::ops::Range<usize>) -> Span {
        Span::new(self.source, range)
    }
}

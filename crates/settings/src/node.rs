//! The tree of a file as written.

use std::ops::Range;

use crate::Span;

/// A value of a file with the place where it stands, from TOML or YAML alike.
#[derive(Clone, Debug)]
pub struct Node {
    /// The value.
    pub value: NodeValue,
    /// The place: the text of the value, with its quotes. For a table that is not written in braces the
    /// place that names it: the header in TOML, the first key in YAML. For an empty value in YAML its key.
    pub span: Span,
    /// Where the content of a string begins, if the file holds it letter by letter.
    verbatim_start: Option<usize>,
}

/// What a [`Node`] holds. Complete.
#[derive(Clone, Debug, PartialEq)]
pub enum NodeValue {
    /// Nothing: only in YAML.
    Null,
    /// `true` or `false`.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// A number with a fraction or an exponent, an infinity or not-a-number.
    Float(f64),
    /// A text.
    String(String),
    /// A date, a time or both, as TOML writes it; YAML has strings instead.
    DateTime(String),
    /// Values in order.
    Array(Vec<Node>),
    /// Values under keys.
    Table(Table),
}

impl Node {
    /// Creates a node.
    pub fn new(value: NodeValue, span: Span) -> Self {
        Self { value, span, verbatim_start: None }
    }

    /// Creates the node of a string whose span in the file reads `written`.
    pub(crate) fn string(text: String, span: Span, written: &str) -> Self {
        let opening = written.len() - written.trim_start_matches(['"', '\'']).len();
        let verbatim = written.get(opening..).is_some_and(|rest| rest.starts_with(&text));
        let verbatim_start = verbatim.then_some(span.start + opening);
        Self { value: NodeValue::String(text), span, verbatim_start }
    }

    /// Returns the place of a part of a string, in bytes of its content; the whole string where escapes
    /// or line folding make the file's text differ from the content.
    pub fn span_within(&self, part: Range<usize>) -> Span {
        match self.verbatim_start {
            Some(start) => {
                let end = (start + part.end).min(self.span.end);
                Span::new(self.span.source, (start + part.start).min(end)..end)
            }
            None => self.span,
        }
    }

    /// Returns the text of a string.
    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            NodeValue::String(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the values of an array.
    pub fn as_array(&self) -> Option<&[Node]> {
        match &self.value {
            NodeValue::Array(items) => Some(items),
            _ => None,
        }
    }

    /// Returns the table.
    pub fn as_table(&self) -> Option<&Table> {
        match &self.value {
            NodeValue::Table(table) => Some(table),
            _ => None,
        }
    }

    /// Returns what the value is, for messages: `an integer`.
    pub fn kind(&self) -> &'static str {
        match &self.value {
            NodeValue::Null => "nothing",
            NodeValue::Boolean(_) => "a boolean",
            NodeValue::Integer(_) => "an integer",
            NodeValue::Float(_) => "a float",
            NodeValue::String(_) => "a string",
            NodeValue::DateTime(_) => "a date or time",
            NodeValue::Array(_) => "an array",
            NodeValue::Table(_) => "a table",
        }
    }
}

/// Two nodes are equal if their values are, wherever they stand.
impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

/// Values under keys, in the order of the file; no key appears twice.
#[derive(Clone, Debug)]
pub struct Table {
    /// The keys and their values.
    pub entries: Vec<Entry>,
    /// How the table is written.
    pub style: TableStyle,
}

/// How a table is written. Complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableStyle {
    /// On lines of its own.
    Block,
    /// In braces, in TOML.
    Inline,
    /// In braces, in YAML. May be a string whose quotes were forgotten: `{room}`.
    Flow,
}

impl Table {
    /// Returns the value under `key`.
    pub fn value(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// Returns the key as written, and its value.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key.name == key)
    }
}

/// Two tables are equal if they have the same values under the same keys, in any order.
impl PartialEq for Table {
    fn eq(&self, other: &Self) -> bool {
        self.entries.len() == other.entries.len()
            && self.entries.iter().all(|entry| other.value(&entry.key.name) == Some(&entry.value))
    }
}

/// A key of a [`Table`] with its value.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key.
    pub key: Key,
    /// The value.
    pub value: Node,
}

/// A key as written.
#[derive(Clone, Debug)]
pub struct Key {
    /// Its name, without quotes.
    pub name: String,
    /// Its place.
    pub span: Span,
}

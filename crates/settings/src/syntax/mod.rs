//! From text to tree.

mod toml;
mod yaml;

use crate::{Issue, Issues, Node, NodeValue, SourceId, Span, Table, TableStyle};

/// How deep values may be nested.
pub const DEPTH_MAX: usize = 32;

/// A language that files may be written in. Complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// TOML 1.1, in files that end in `.toml`.
    Toml,
    /// YAML 1.2 with the core schema, without anchors and tags, in files that end in `.yaml` or `.yml`.
    Yaml,
}

impl Format {
    /// Returns the format that the ending of a file name tells.
    pub fn from_name(name: &str) -> Option<Self> {
        let (stem, ending) = name.rsplit_once('.')?;
        match ending.to_ascii_lowercase().as_str() {
            _ if stem.is_empty() || stem.ends_with('/') => None,
            "toml" => Some(Self::Toml),
            "yaml" | "yml" => Some(Self::Yaml),
            _ => None,
        }
    }
}

/// Reads a text into a tree, whose root is a table.
///
/// Broken syntax is noted in `issues`. What could be read in spite of it is returned, so that the problems in
/// the rest are found in the same pass; it must not be used for anything else.
pub fn parse(source: SourceId, format: Format, text: &str, issues: &mut Issues) -> Option<Node> {
    match format {
        Format::Toml => toml::parse(source, text, issues),
        Format::Yaml => yaml::parse(source, text, issues),
    }
}

/// Returns the table of a file without any key.
fn empty_root(source: SourceId) -> Node {
    let table = Table { entries: Vec::new(), style: TableStyle::Block };
    Node::new(NodeValue::Table(table), Span::new(source, 0..0))
}

/// Returns the lines that `span` is in, without their last line end.
fn lines_around(text: &str, span: Span) -> Span {
    let bytes = text.as_bytes();
    let (start, end) = (span.start.min(bytes.len()), span.end.min(bytes.len()));
    let line_start = bytes[..start].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let line_end =
        bytes[end..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| end + at);
    Span::new(span.source, line_start..line_end)
}

/// Notes broken syntax; the lines around it are a guess from now on.
fn push_broken(text: &str, issue: Issue, issues: &mut Issues) {
    let damaged = lines_around(text, issue.at);
    issues.push_damage(issue, damaged);
}

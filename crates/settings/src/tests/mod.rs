//! What the crate promises, through its public interface.

mod quantities;
mod reading;
mod same_tree;
mod syntax;

use crate::{Format, Issue, Issues, Node, Sources, parse};

/// Parses `text` and gives the tree with everything that was noted.
fn parsed(format: Format, text: &str) -> (Sources, Option<Node>, Issues) {
    let mut sources = Sources::default();
    let source = sources.add("file", text);
    let mut issues = Issues::default();
    let node = parse(source, format, text, &mut issues);
    issues.sort();
    (sources, node, issues)
}

/// Writes an issue as `line:column "marked text" message | hint`.
fn line(sources: &Sources, issue: &Issue) -> String {
    let position = sources.position(issue.at);
    let marked = sources.slice(issue.at);
    let hint = issue.hint.as_deref().unwrap_or("no hint");
    format!("{}:{} {marked:?} {} | {hint}", position.line, position.column, issue.message)
}

/// Writes all issues, a line each.
fn lines(sources: &Sources, issues: &Issues) -> Vec<String> {
    issues.iter().map(|issue| line(sources, issue)).collect()
}

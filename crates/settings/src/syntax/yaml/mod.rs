//! YAML 1.2: block and flow style, the core schema, one document. No anchors, no aliases, no tags.
//!
//! Without aliases the tree is never larger than its text.

mod builder;
mod fault;
mod scalar;

use saphyr_parser::Parser;

use self::builder::{Builder, Progress};
use super::{empty_root, lines_around};
use crate::{Issue, Issues, Node, SourceId, Span};

/// How many unquoted values that begin with `{` are reported in one pass.
const UNQUOTED_MAX: usize = 32;

pub(super) fn parse(source: SourceId, text: &str, issues: &mut Issues) -> Option<Node> {
    let places = Places::new(source, text);
    let mut patched = std::borrow::Cow::Borrowed(text);
    for _ in 0..=UNQUOTED_MAX {
        // What an attempt notes counts only if it is the last one.
        let mut noted = Issues::default();
        match read(&patched, text, &places, &mut noted) {
            Outcome::Done(root) => {
                issues.append(noted);
                return Some(root.unwrap_or_else(|| empty_root(source)));
            }
            Outcome::Unquoted(span) => {
                fault::report_unquoted(text, span, issues);
                patched = fault::blank_out(&patched, text, span).into();
            }
        }
    }
    Some(empty_root(source))
}

enum Outcome {
    /// The text was read, up to its end or to a broken place that was noted.
    Done(Option<Node>),
    /// A value that begins with `{` goes on behind the `}`.
    Unquoted(Span),
}

/// Reads `patched`, which has the same number of characters as `text`, the file itself.
fn read(patched: &str, text: &str, places: &Places, issues: &mut Issues) -> Outcome {
    let mut parser = Parser::new_from_str(patched);
    let mut builder = Builder::new(text, places, issues);
    while let Some(event) = parser.next_event() {
        match event {
            Ok((event, span)) => match builder.handle(event, span) {
                Progress::Going => {}
                Progress::Stopped => break,
            },
            Err(error) => {
                let at = error.marker().index();
                if let Some(start) = builder.flow_mapping_that_ended_at(at) {
                    let end = fault::value_end(text, places.byte(at), builder.is_in_flow());
                    return Outcome::Unquoted(Span::new(places.source, start..end));
                }
                let issue = fault::describe(text, places.span(at, at), error.info());
                let line = lines_around(text, issue.at);
                // Nothing behind the broken place is known.
                builder.issues.push_damage(issue, Span::new(places.source, line.start..text.len()));
                break;
            }
        }
    }
    Outcome::Done(builder.finish())
}

/// Finds the byte of a character: the parser counts in characters.
struct Places {
    source: SourceId,
    /// The byte at which each character begins; empty if each has one byte.
    bytes: Vec<usize>,
    len: usize,
}

impl Places {
    fn new(source: SourceId, text: &str) -> Self {
        let bytes = if text.is_ascii() {
            Vec::new()
        } else {
            text.char_indices().map(|(at, _)| at).collect()
        };
        Self { source, bytes, len: text.len() }
    }

    fn byte(&self, character: usize) -> usize {
        if self.bytes.is_empty() {
            return character.min(self.len);
        }
        self.bytes.get(character).copied().unwrap_or(self.len)
    }

    fn span(&self, start: usize, end: usize) -> Span {
        Span::new(self.source, self.byte(start)..self.byte(end))
    }
}

/// Notes something YAML has and these files have not; the line is a guess from then on.
fn push_unsupported(text: &str, at: Span, message: &str, hint: &str, issues: &mut Issues) {
    super::push_broken(text, Issue::error(at, message).with_hint(hint), issues);
}

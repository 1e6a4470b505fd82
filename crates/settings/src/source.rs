//! The texts that were read, and places in them.

use std::ops::Range;
use std::sync::Arc;

/// Names one text of a [`Sources`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(u32);

/// A stretch of one text, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The text.
    pub source: SourceId,
    /// The first byte.
    pub start: usize,
    /// The byte after the last one; equals `start` where the place is between two bytes.
    pub end: usize,
}

impl Span {
    /// Creates the span of `range` in `source`.
    pub fn new(source: SourceId, range: Range<usize>) -> Self {
        Self { source, start: range.start, end: range.end.max(range.start) }
    }

    /// Returns the bytes as a range.
    pub fn range(&self) -> Range<usize> {
        self.start..self.end
    }

    /// Returns whether the two touch or share bytes of one text.
    pub fn touches(&self, other: &Self) -> bool {
        self.source == other.source && self.start <= other.end && other.start <= self.end
    }
}

/// A place as people count it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line, from 1. A line ends with LF or CR LF.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
}

/// The texts that were read, with the names to show for them.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    sources: Vec<Source>,
}

#[derive(Clone, Debug)]
struct Source {
    name: String,
    text: Arc<str>,
    line_starts: Vec<usize>,
}

impl Sources {
    /// Adds a text under the name to show for it, usually the path.
    ///
    /// # Panics
    ///
    /// With more than `u32::MAX` texts.
    pub fn add(&mut self, name: impl Into<String>, text: impl Into<Arc<str>>) -> SourceId {
        let id = u32::try_from(self.sources.len()).expect("there are fewer files than u32::MAX");
        let text = text.into();
        let line_starts =
            std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        self.sources.push(Source { name: name.into(), text, line_starts });
        SourceId(id)
    }

    /// Returns the name under which the text was added.
    pub fn name(&self, id: SourceId) -> &str {
        &self.source(id).name
    }

    /// Returns the text.
    pub fn text(&self, id: SourceId) -> &str {
        &self.source(id).text
    }

    /// Returns the marked text.
    pub fn slice(&self, span: Span) -> &str {
        self.text(span.source).get(span.range()).unwrap_or_default()
    }

    /// Returns line and column of the first byte of `span`.
    pub fn position(&self, span: Span) -> Position {
        self.position_of(span.source, span.start)
    }

    /// Returns line and column of the byte after the last one of `span`.
    pub fn end_position(&self, span: Span) -> Position {
        self.position_of(span.source, span.end)
    }

    /// Returns every text's id, in the order in which they were added.
    pub fn ids(&self) -> impl Iterator<Item = SourceId> + use<> {
        let count = u32::try_from(self.sources.len()).unwrap_or(u32::MAX);
        (0..count).map(SourceId)
    }

    fn position_of(&self, id: SourceId, byte: usize) -> Position {
        let source = self.source(id);
        let line = source.line_starts.partition_point(|start| *start <= byte).saturating_sub(1);
        let start = source.line_starts[line];
        let before = source.text.as_bytes().get(start..byte).unwrap_or_default();
        // A byte that does not continue a character begins one, whether or not `byte` is between two.
        let column = before.iter().filter(|byte| (**byte & 0xC0) != 0x80).count();
        Position { line: line + 1, column: column + 1 }
    }

    fn source(&self, id: SourceId) -> &Source {
        &self.sources[id.0 as usize]
    }
}

//! Literal text and `{name}`s, as filters and topics of mapping files are written.

use std::ops::Range;

use thiserror::Error;
use tidegate_model::CaptureName;

/// Longest filter or topic of a mapping file, in bytes.
const BYTES_MAX: usize = 1_024;

/// What is wrong with a filter or topic of a mapping file, and where in its text.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message}")]
pub(crate) struct TopicFault {
    pub(crate) range: Range<usize>,
    pub(crate) message: String,
    pub(crate) hint: String,
}

impl TopicFault {
    pub(super) fn new(
        range: Range<usize>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self { range, message: message.into(), hint: hint.into() }
    }
}

/// A stretch of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Literal(Range<usize>),
    /// A name, and the place of it with its braces.
    Capture(CaptureName, Range<usize>),
}

/// Takes a text apart. Never gives two literals in a row, nor an empty one.
pub(super) fn split(text: &str) -> Result<Vec<Piece>, TopicFault> {
    let everything = 0..text.len();
    if text.is_empty() {
        return Err(TopicFault::new(
            everything,
            "it must not be empty",
            "write at least one level",
        ));
    }
    if text.len() > BYTES_MAX {
        let message = format!("it has {} bytes, at most {BYTES_MAX} are allowed", text.len());
        return Err(TopicFault::new(everything, message, "write a shorter one"));
    }
    if let Some(at) = text.find('\0') {
        return Err(TopicFault::new(at..at + 1, "it must not contain U+0000", "remove it"));
    }
    let mut pieces = Vec::new();
    let mut at = 0;
    while let Some(found) = text[at..].find(['{', '}']) {
        let brace = at + found;
        if text.as_bytes()[brace] == b'}' {
            let hint = "write `{name}`; a literal brace cannot be part of a topic here";
            return Err(TopicFault::new(brace..brace + 1, "`}` without `{` before it", hint));
        }
        if brace > at {
            pieces.push(Piece::Literal(at..brace));
        }
        let Some(end) =
            text[brace..].find(['}', '/']).filter(|end| text[brace + end..].starts_with('}'))
        else {
            let level_end = text[brace..].find('/').map_or(text.len(), |length| brace + length);
            let hint = "close it in the same level: `{name}`";
            return Err(TopicFault::new(brace..level_end, "`{` without `}` behind it", hint));
        };
        let range = brace..brace + end + 1;
        let written = &text[brace + 1..brace + end];
        let name = CaptureName::new(written).map_err(|error| {
            let hint = "write a name such as `{room}`";
            TopicFault::new(range.clone(), error.to_string(), hint)
        })?;
        pieces.push(Piece::Capture(name, range.clone()));
        at = range.end;
    }
    if at < text.len() {
        pieces.push(Piece::Literal(at..text.len()));
    }
    Ok(pieces)
}

/// Returns the names that seem to be captures of a text, which may be wrong otherwise: the rest of its entry is
/// checked against them.
pub(crate) fn names_in(text: &str) -> Vec<CaptureName> {
    let mut names: Vec<CaptureName> = Vec::new();
    for part in text.split('{').skip(1) {
        let written = part.split('}').next().unwrap_or(part).trim_end_matches('*');
        if let Ok(name) = CaptureName::new(written)
            && !names.contains(&name)
        {
            names.push(name);
        }
    }
    names
}

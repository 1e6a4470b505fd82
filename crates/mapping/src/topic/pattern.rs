//! The left side of a mapping of topics: levels with captures and wildcards.

use std::fmt;

use tidegate_model::{CaptureName, Captures, Topic};

use super::encoding::decode;
use super::pieces::{Piece, TopicFault, split};

/// How many levels a filter or a writable topic of a mapping file may have.
const LEVELS_MAX: usize = 64;

/// Whether `+` and `#` may stand in a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wildcards {
    Allowed,
    Refused,
}

/// How the text of a capture is read out of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decoding {
    /// Only texts that the gateway itself would write: the inverse of rendering.
    Exact,
    /// Texts of devices, too, which know no encoding: what is none is taken as it is.
    Lenient,
}

/// A topic filter in which `{name}` stands for one level, or beside literal text for a part of one.
///
/// A capture stands for one or more characters. Like wildcards, a capture at the start passes `$` topics by
/// (MQTT 5.0, section 4.7.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPattern {
    text: String,
    levels: Vec<Level>,
    names: Vec<CaptureName>,
}

/// What one level must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Literal(Box<str>),
    Capture {
        before: Box<str>,
        after: Box<str>,
    },
    /// `+`
    Any,
    /// `#`: this level and all behind it, or none.
    Rest,
}

impl Level {
    /// Returns the part of `text` that a capture stands for.
    #[inline]
    pub(super) fn capture<'t>(before: &str, after: &str, text: &'t str) -> Option<&'t str> {
        text.strip_prefix(before)?.strip_suffix(after).filter(|inner| !inner.is_empty())
    }

    fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Rest | Self::Any, _) | (_, Self::Rest | Self::Any) => true,
            (Self::Literal(ours), Self::Literal(theirs)) => ours == theirs,
            (Self::Literal(text), Self::Capture { before, after })
            | (Self::Capture { before, after }, Self::Literal(text)) => {
                Self::capture(before, after, text).is_some()
            }
            (
                Self::Capture { before, after },
                Self::Capture { before: other_before, after: other_after },
            ) => {
                (before.starts_with(&**other_before) || other_before.starts_with(&**before))
                    && (after.ends_with(&**other_after) || other_after.ends_with(&**after))
            }
        }
    }
}

impl TopicPattern {
    /// Reads a pattern.
    pub(crate) fn parse(text: &str, wildcards: Wildcards) -> Result<Self, TopicFault> {
        let mut reader = Reader { text, names: Vec::new(), levels: Vec::new(), wildcards };
        let mut open = Draft::default();
        for piece in split(text)? {
            match piece {
                Piece::Capture(name, range) => open.capture(name, range, &mut reader)?,
                Piece::Literal(range) => {
                    let mut at = range.start;
                    while let Some(length) = text[at..range.end].find('/') {
                        open.literal(at..at + length);
                        reader.close(std::mem::take(&mut open), at + length)?;
                        at += length + 1;
                        open.start = at;
                    }
                    open.literal(at..range.end);
                }
            }
        }
        reader.close(open, text.len())?;
        if reader.levels.len() > LEVELS_MAX {
            let message = format!("it has more than {LEVELS_MAX} levels");
            return Err(TopicFault::new(0..text.len(), message, "write a shorter one"));
        }
        if text.starts_with("$share/") {
            let hint = "write the filter behind the group alone";
            return Err(TopicFault::new(0..6, "a mapping is not a shared subscription", hint));
        }
        Ok(Self { text: text.into(), levels: reader.levels, names: reader.names })
    }

    /// Returns the pattern as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the names of the captures, from left to right.
    pub fn names(&self) -> &[CaptureName] {
        &self.names
    }

    /// Returns how many levels are literal: the pattern with more of them wins.
    pub fn literal_levels(&self) -> usize {
        self.levels.iter().filter(|level| matches!(level, Level::Literal(_))).count()
    }

    /// Returns whether exactly one topic matches, the text itself.
    pub(crate) fn is_literal(&self) -> bool {
        self.literal_levels() == self.levels.len()
    }

    pub(super) fn levels(&self) -> &[Level] {
        &self.levels
    }

    /// Matches a topic. A percent-encoded capture is decoded; what is no encoding of ours is taken as it is.
    pub fn matches(&self, topic: &Topic) -> Option<Captures> {
        self.captures_of(topic, Decoding::Lenient)
    }

    pub(crate) fn captures_of(&self, topic: &Topic, decoding: Decoding) -> Option<Captures> {
        if topic.is_dollar() && !matches!(self.levels.first(), Some(Level::Literal(_))) {
            return None;
        }
        let mut found = Vec::with_capacity(self.names.len());
        let mut texts = topic.levels();
        for level in &self.levels {
            match (level, texts.next()) {
                (Level::Rest, _) => return Some(Captures::new(found)),
                (_, None) => return None,
                (Level::Any, Some(_)) => {}
                (Level::Literal(literal), Some(text)) if **literal == *text => {}
                (Level::Literal(_), Some(_)) => return None,
                (Level::Capture { before, after }, Some(text)) => {
                    let inner = Level::capture(before, after, text)?;
                    let decoded = match (decode(inner), decoding) {
                        (Some(decoded), _) => decoded,
                        (None, Decoding::Lenient) => inner.into(),
                        (None, Decoding::Exact) => return None,
                    };
                    found.push(decoded.into());
                }
            }
        }
        texts.next().is_none().then(|| Captures::new(found))
    }

    /// Returns whether some topic matches both patterns.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let dollar = |pattern: &Self| matches!(pattern.levels.first(), Some(Level::Literal(first)) if first.starts_with('$'));
        let literal = |pattern: &Self| matches!(pattern.levels.first(), Some(Level::Literal(_)));
        if dollar(self) && !literal(other) || dollar(other) && !literal(self) {
            return false;
        }
        let (mut ours, mut theirs) = (self.levels.iter(), other.levels.iter());
        loop {
            match (ours.next(), theirs.next()) {
                (None, None) | (Some(Level::Rest), _) | (_, Some(Level::Rest)) => return true,
                (Some(left), Some(right)) if left.overlaps(right) => {}
                _ => return false,
            }
        }
    }
}

impl fmt::Display for TopicPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

struct Reader<'t> {
    text: &'t str,
    levels: Vec<Level>,
    names: Vec<CaptureName>,
    wildcards: Wildcards,
}

/// A level that is being read.
#[derive(Default)]
struct Draft {
    start: usize,
    before: std::ops::Range<usize>,
    after: std::ops::Range<usize>,
    captured: bool,
}

impl Draft {
    fn literal(&mut self, range: std::ops::Range<usize>) {
        if self.captured {
            self.after = range;
        } else {
            self.before = range;
        }
    }

    fn capture(
        &mut self,
        name: CaptureName,
        range: std::ops::Range<usize>,
        reader: &mut Reader<'_>,
    ) -> Result<(), TopicFault> {
        if self.captured {
            let message = "one level has two captures: nothing says where the first ends";
            return Err(TopicFault::new(range, message, "put them into two levels"));
        }
        if reader.names.contains(&name) {
            let message = format!("the capture `{name}` occurs twice");
            return Err(TopicFault::new(range, message, "use each name once"));
        }
        reader.names.push(name);
        self.captured = true;
        Ok(())
    }
}

impl Reader<'_> {
    fn close(&mut self, draft: Draft, end: usize) -> Result<(), TopicFault> {
        let (before, after) = (&self.text[draft.before], &self.text[draft.after]);
        let whole = draft.start..end;
        if matches!(self.levels.last(), Some(Level::Rest)) {
            let message = "`#` must be the last level";
            return Err(TopicFault::new(0..self.text.len(), message, "write `+` for one level"));
        }
        let wild = before.contains(['+', '#']) || after.contains(['+', '#']);
        let level = match (draft.captured, before) {
            (false, "+" | "#") if self.wildcards == Wildcards::Refused => {
                let hint = "write a `{name}` on the left and use it here";
                return Err(TopicFault::new(whole, "a topic has no wildcards", hint));
            }
            (false, "+") => Level::Any,
            (false, "#") => Level::Rest,
            _ if wild => {
                let message = "`+` and `#` must stand alone in their level";
                return Err(TopicFault::new(
                    whole,
                    message,
                    "write `{name}` for a part of a level",
                ));
            }
            (true, before) => Level::Capture { before: before.into(), after: after.into() },
            (false, before) => Level::Literal(before.into()),
        };
        self.levels.push(level);
        Ok(())
    }
}

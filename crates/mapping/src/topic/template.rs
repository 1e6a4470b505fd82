//! The right side of a mapping: a topic with captures to fill in.

use std::fmt;

use thiserror::Error;
use tidegate_model::{CaptureName, Captures, Topic, TopicError};
use tidegate_settings::nearest;

use super::encoding::encode_into;
use super::pieces::{Piece, TopicFault, split};

/// How many bytes a capture is expected to need; only a guess for the first allocation.
const CAPTURE_BYTES_GUESS: usize = 12;

/// A topic in which `{name}` stands for what a capture of the address stood for.
#[derive(Clone, Debug)]
pub struct TopicTemplate {
    text: String,
    parts: Box<[Part]>,
    /// The topic itself, if it has no captures.
    fixed: Option<Topic>,
    bytes_guess: usize,
}

#[derive(Clone, Debug)]
enum Part {
    Literal(Box<str>),
    Capture(usize),
}

/// Why captures do not make a topic.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RenderError {
    /// There are fewer captures than the address of the entry has.
    #[error("the reading came without capture number {index}")]
    Missing {
        /// The place of the missing one, from 0.
        index: usize,
    },
    /// The result is not a topic: too long, or empty.
    #[error("`{template}` gives no topic: it {source}")]
    Topic {
        /// The template.
        template: String,
        /// What is wrong with the result.
        source: TopicError,
    },
}

impl TopicTemplate {
    /// Reads a template whose captures are among `names`.
    pub(crate) fn parse(text: &str, names: &[CaptureName]) -> Result<Self, TopicFault> {
        let mut parts = Vec::new();
        let mut bytes_guess = 0;
        if text.starts_with('$') {
            let hint = "begin with a level of your own";
            return Err(TopicFault::new(0..1, "topics under `$` are the gateway's own", hint));
        }
        for piece in split(text)? {
            match piece {
                Piece::Literal(range) => {
                    let literal = &text[range.clone()];
                    if let Some(at) = literal.find(['+', '#']) {
                        let at = range.start + at;
                        let message = "a topic has no wildcards";
                        let hint = "write a `{name}` on the left and use it here";
                        return Err(TopicFault::new(at..at + 1, message, hint));
                    }
                    bytes_guess += literal.len();
                    parts.push(Part::Literal(literal.into()));
                }
                Piece::Capture(name, range) => {
                    let Some(index) = names.iter().position(|known| *known == name) else {
                        return Err(unknown_capture(&name, names, range));
                    };
                    bytes_guess += CAPTURE_BYTES_GUESS;
                    parts.push(Part::Capture(index));
                }
            }
        }
        let fixed = match parts.as_slice() {
            [Part::Literal(literal)] => Topic::new(literal).ok(),
            _ => None,
        };
        Ok(Self { text: text.into(), parts: parts.into(), fixed, bytes_guess })
    }

    /// Returns the template as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns whether the capture at `index` of the address is part of the topic.
    pub(crate) fn uses(&self, index: usize) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Capture(used) if *used == index))
    }

    /// Fills in the captures, percent-encoded. Without captures this only shares the topic.
    ///
    /// # Errors
    ///
    /// [`RenderError`] if there are too few captures, or the result is too long or empty.
    #[inline]
    pub fn render(&self, captures: &Captures) -> Result<Topic, RenderError> {
        if let Some(topic) = &self.fixed {
            return Ok(topic.clone());
        }
        let mut text = String::with_capacity(self.bytes_guess);
        for part in &*self.parts {
            match part {
                Part::Literal(literal) => text.push_str(literal),
                Part::Capture(index) => {
                    let capture = captures.get(*index);
                    let capture = capture.ok_or(RenderError::Missing { index: *index })?;
                    encode_into(capture, &mut text);
                }
            }
        }
        Topic::new(&text)
            .map_err(|source| RenderError::Topic { template: self.text.clone(), source })
    }
}

impl fmt::Display for TopicTemplate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

fn unknown_capture(
    name: &CaptureName,
    names: &[CaptureName],
    range: std::ops::Range<usize>,
) -> TopicFault {
    let (message, hint) = if name.as_str() == "member" {
        (
            "`{member}` is the name of a member, and this entry does not take members apart".into(),
            "add each = \"member\"".to_owned(),
        )
    } else {
        let known = names.iter().map(CaptureName::as_str);
        let hint = match (nearest(name.as_str(), known.clone()), names.is_empty()) {
            (Some(near), _) => format!("did you mean `{{{near}}}`?"),
            (None, true) => format!("the address has no captures; write `{{{name}}}` there too"),
            (None, false) => {
                let known: Vec<String> = known.map(|name| format!("`{{{name}}}`")).collect();
                format!("captured on the left: {}", known.join(", "))
            }
        };
        (format!("`{{{name}}}` is not captured on the left"), hint)
    };
    TopicFault::new(range, message, hint)
}

//! Topics of an uplink, with placeholders.

use std::fmt;

use thiserror::Error;
use tidegate_model::{Topic, TopicError, UplinkName};

use crate::config::gateway::GatewayId;

/// The topic an uplink publishes to. `{encoding}` and `{topic}` are filled in for each message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicTemplate {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    Encoding,
    Topic,
}

/// Why a text is not a [`TopicTemplate`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TopicTemplateError {
    /// A `{` has no `}`, or the other way round.
    #[error("a brace is not closed")]
    Brace,
    /// A placeholder is not known.
    #[error("`{{{0}}}` is not known here")]
    Unknown(String),
    /// It is no topic once filled.
    #[error("{0}")]
    Topic(#[from] TopicError),
}

impl TopicTemplate {
    /// Checks `text` and takes it. `{gateway}` and `{uplink}` are filled in at once.
    ///
    /// # Errors
    ///
    /// One [`TopicTemplateError`] for each way to write it wrongly.
    pub fn new(
        text: &str,
        gateway: &GatewayId,
        uplink: &UplinkName,
    ) -> Result<Self, TopicTemplateError> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let inside = rest[at..].strip_prefix('{').ok_or(TopicTemplateError::Brace)?;
            let end = inside.find(['{', '}']).ok_or(TopicTemplateError::Brace)?;
            if !inside[end..].starts_with('}') {
                return Err(TopicTemplateError::Brace);
            }
            literal.push_str(&rest[..at]);
            let part = match &inside[..end] {
                "gateway" => {
                    literal.push_str(gateway.as_str());
                    None
                }
                "uplink" => {
                    literal.push_str(uplink.as_str());
                    None
                }
                "encoding" => Some(Part::Encoding),
                "topic" => Some(Part::Topic),
                unknown => return Err(TopicTemplateError::Unknown(unknown.to_owned())),
            };
            if let Some(part) = part {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
                parts.push(part);
            }
            rest = &inside[end + 1..];
        }
        literal.push_str(rest);
        parts.push(Part::Literal(literal));
        parts.retain(|part| !matches!(part, Part::Literal(text) if text.is_empty()));
        let template = Self { parts };
        Topic::new(&template.fill("x", "x"))?;
        Ok(template)
    }

    /// Returns the topic of a message of one encoding that came from one local topic.
    pub fn fill(&self, encoding: &str, topic: &str) -> String {
        self.parts.iter().fold(String::new(), |filled, part| match part {
            Part::Literal(text) => filled + text,
            Part::Encoding => filled + encoding,
            Part::Topic => filled + topic,
        })
    }

    /// Returns whether `{encoding}` is in it.
    pub fn has_encoding(&self) -> bool {
        self.parts.contains(&Part::Encoding)
    }

    /// Returns whether `{topic}` is in it.
    pub fn has_topic(&self) -> bool {
        self.parts.contains(&Part::Topic)
    }
}

impl fmt::Display for TopicTemplate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.fill("{encoding}", "{topic}"))
    }
}

//! What the cloud sends down: payloads of commands, as values.

use tidegate_model::{Value, json};

use crate::{
    bson::{Element, Elements, check},
    decoder::{DecodeError, Limits, Wrapping, inflate},
};

/// How a payload is to be read, as its sender said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Said<'a> {
    /// The content type; without one it is JSON.
    pub content_type: Option<&'a str>,
    /// The user property `content-encoding`.
    pub content_encoding: Option<&'a str>,
}

/// Reads the payload of a command: JSON, or BSON if the content type says so; zlib if the content
/// encoding says so. Neither is guessed.
///
/// A BSON document with the only member `value` and no other stands for itself, not for the value: what
/// members mean is decided by who carries the command out. Times become RFC 3339 text.
///
/// # Errors
///
/// [`DecodeError`] if it cannot be read or is beyond `limits`. Nothing is allocated from what the
/// payload says of its own size, and no depth of it is followed by recursion before it is checked.
pub fn decode(payload: &[u8], said: Said<'_>, limits: &Limits) -> Result<Value, DecodeError> {
    if payload.len() > limits.wire {
        return Err(DecodeError::TooLarge { bytes: payload.len(), limit: limits.wire });
    }
    let inflated;
    let plain = match said.content_encoding {
        None | Some("identity") => payload,
        Some(encoding @ ("zlib" | "gzip")) => {
            let wrapping = if encoding == "gzip" { Wrapping::Gzip } else { Wrapping::Zlib };
            inflated = inflate(payload, wrapping, limits)?;
            inflated.as_slice()
        }
        Some(other) => {
            return Err(DecodeError::content(format!("has the unknown encoding {other:?}")));
        }
    };
    match said.content_type.map(media_type) {
        Some("application/bson") => {
            check(plain, limits)?;
            Element::Document(Elements::new(plain)).to_value()
        }
        None | Some("application/json" | "text/json" | "text/plain" | "") => {
            json_value(plain, limits)
        }
        Some(other) => Err(DecodeError::content(format!("has the unknown content type {other:?}"))),
    }
}

/// Returns a content type without its parameters.
fn media_type(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

fn json_value(plain: &[u8], limits: &Limits) -> Result<Value, DecodeError> {
    let depth = json_depth(plain);
    if depth > limits.depth {
        return Err(DecodeError::TooDeep { limit: limits.depth });
    }
    json::parse_value(plain).map_err(|error| DecodeError::NotJson { problem: error.to_string() })
}

/// Returns how deep brackets outside of strings are nested; the text need not be JSON.
fn json_depth(text: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for &byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests;

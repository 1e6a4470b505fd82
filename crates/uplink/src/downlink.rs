//! What the cloud sends down: payloads of commands, as values.

use bytes::Bytes;
use tidegate_model::{Value, json};

use crate::{
    bson::{Element, Elements, check},
    decoder::{DecodeError, Limits, Wrapping, inflate},
};

const BSON: &str = "application/bson";

/// How a payload is to be read, as its sender said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Said<'a> {
    /// The content type; without one it is JSON.
    pub content_type: Option<&'a str>,
    /// The user property `content-encoding`.
    pub content_encoding: Option<&'a str>,
}

impl<'a> Said<'a> {
    /// Returns how it is compressed, if it is.
    fn wrapping(self) -> Result<Option<Wrapping>, DecodeError> {
        match self.content_encoding {
            None | Some("identity") => Ok(None),
            Some("zlib") => Ok(Some(Wrapping::Zlib)),
            Some("gzip") => Ok(Some(Wrapping::Gzip)),
            Some(other) => Err(DecodeError::content(format!("has the unknown encoding {other:?}"))),
        }
    }

    /// Returns the content type without its parameters.
    fn media_type(self) -> Option<&'a str> {
        self.content_type.map(|it| it.split(';').next().unwrap_or_default().trim())
    }
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
    let plain = match said.wrapping()? {
        None => payload,
        Some(wrapping) => {
            inflated = inflate(payload, wrapping, limits)?;
            inflated.as_slice()
        }
    };
    match said.media_type() {
        Some(BSON) => bson_value(plain, limits),
        None | Some("application/json" | "text/json" | "text/plain" | "") => {
            json_value(plain, limits)
        }
        Some(other) => Err(DecodeError::content(format!("has the unknown content type {other:?}"))),
    }
}

/// How the payload of a command becomes what those can read who are told of neither encoding nor content type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plain {
    wrapping: Option<Wrapping>,
    is_bson: bool,
    limits: Limits,
}

impl Plain {
    /// Takes what was said of a payload that [`decode`] could read.
    pub fn of(said: Said<'_>, limits: &Limits) -> Self {
        Self {
            wrapping: said.wrapping().unwrap_or_default(),
            is_bson: said.media_type() == Some(BSON),
            limits: *limits,
        }
    }

    /// Returns the payload inflated, and BSON as JSON: bytes as Base64, times as RFC 3339 text. Anything else stays as it
    /// came, byte by byte.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if BSON has a number that JSON has no text for.
    pub fn text(&self, payload: &Bytes) -> Result<Bytes, DecodeError> {
        let inflated = match self.wrapping {
            Some(wrapping) => inflate(payload, wrapping, &self.limits)?.into(),
            None => payload.clone(),
        };
        if !self.is_bson {
            return Ok(inflated);
        }
        let value = bson_value(&inflated, &self.limits)?;
        if !is_finite(&value) {
            return Err(DecodeError::content("has a number that is none in JSON"));
        }
        let mut text = Vec::new();
        json::write_value(&value, &mut text);
        Ok(text.into())
    }
}

/// Returns whether all numbers are such as JSON has. The value is no deeper than a payload may be.
fn is_finite(value: &Value) -> bool {
    match value {
        Value::Float(number) => number.is_finite(),
        Value::Double(number) => number.is_finite(),
        Value::Array(items) => items.iter().all(is_finite),
        Value::Document(document) => document.iter().all(|(_, value)| is_finite(value)),
        _ => true,
    }
}

fn bson_value(plain: &[u8], limits: &Limits) -> Result<Value, DecodeError> {
    check(plain, limits)?;
    Element::Document(Elements::new(plain)).to_value()
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

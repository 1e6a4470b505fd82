//! Payloads in what people's tools write.
//!
//! Text, a payload a line, as `mosquitto_sub -F '%t %x'` and `-F '%J'` write it: topic and hexadecimal digits,
//! base64 or JSON; or an object with `payload` (or `data`) and `topic`. Or payloads one after the other, as
//! `mosquitto_sub -N` writes them: BSON tells its length, and a compressed one where it ends.

use thiserror::Error;
use tidegate_model::{Value, json};

use crate::{
    bson::check,
    decoder::{DecodeError, Limits, Wrapping, from_hex, inflate_first},
    payload::from_base64,
};

/// A payload that was captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// Where it arrived, if the capture says so.
    pub topic: Option<String>,
    /// The payload.
    pub payload: Vec<u8>,
}

/// Why nothing can be found in a capture.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CaptureError {
    /// A line holds no payload.
    #[error("holds no payload: expected `TOPIC HEX`, `TOPIC BASE64`, or JSON with `payload`")]
    NoPayload,
    /// A line is not JSON.
    #[error("is not JSON: {problem}")]
    NotJson {
        /// What is wrong.
        problem: String,
    },
    /// What comes next is no payload.
    #[error("{0}")]
    Payload(DecodeError),
}

/// Returns whether a capture that begins so is text, a payload a line; no BSON and no compressed one begins so.
pub fn is_text(beginning: &[u8]) -> bool {
    let text = match std::str::from_utf8(beginning) {
        Ok(text) => text,
        // A character may be cut in two.
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&beginning[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    text.chars().all(|character| !character.is_control() || "\t\r\n".contains(character))
}

/// Reads one line; nothing if it is empty.
///
/// # Errors
///
/// [`CaptureError`] if there is no payload in it.
pub fn read_line(line: &str) -> Result<Option<Captured>, CaptureError> {
    let line = line.trim();
    if line.is_empty() {
        return Ok(None);
    }
    if line.starts_with('{') {
        return read_object(line).map(Some);
    }
    if let Some(at) = line.find(" {") {
        let (topic, payload) = line.split_at(at);
        return Ok(Some(Captured {
            topic: Some(topic.trim().to_owned()),
            payload: payload.trim().as_bytes().to_vec(),
        }));
    }
    let (topic, text) = match line.rsplit_once([' ', '\t']) {
        Some((topic, text)) => (Some(topic.trim().to_owned()), text),
        None => (None, line),
    };
    let payload = read_payload(text).ok_or(CaptureError::NoPayload)?;
    Ok(Some(Captured { topic, payload }))
}

/// Reads a line that is an object: with a payload in it, or a reading of the format `json`.
fn read_object(line: &str) -> Result<Captured, CaptureError> {
    let parsed = json::parse_value(line.as_bytes())
        .map_err(|error| CaptureError::NotJson { problem: error.to_string() })?;
    let Value::Document(document) = parsed else { return Err(CaptureError::NoPayload) };
    let topic = match document.get("topic") {
        Some(Value::String(topic)) => Some((**topic).to_owned()),
        _ => None,
    };
    let payload = match document.get("payload").or_else(|| document.get("data")) {
        Some(Value::String(text)) => read_payload(text).ok_or(CaptureError::NoPayload)?,
        Some(object @ Value::Document(_)) => {
            let mut payload = Vec::new();
            json::write_value(object, &mut payload);
            payload
        }
        Some(_) => return Err(CaptureError::NoPayload),
        None if document.get("v").is_some() => line.as_bytes().to_vec(),
        None => return Err(CaptureError::NoPayload),
    };
    Ok(Captured { topic, payload })
}

/// Reads JSON, base64 or hexadecimal digits. Some texts are both of the last two: what looks like a payload
/// counts.
fn read_payload(text: &str) -> Option<Vec<u8>> {
    let text = text.trim();
    if text.starts_with('{') {
        return Some(text.as_bytes().to_vec());
    }
    let hex = from_hex(text).ok();
    let base64 = from_base64(text).map(|bytes| bytes.to_vec());
    let looks_right = |payload: &Vec<u8>| {
        Wrapping::of(payload).is_some()
            || bson_length(payload) == Some(payload.len())
            || payload.trim_ascii_start().first() == Some(&b'{')
    };
    let found = [&hex, &base64].into_iter().flatten().find(|payload| looks_right(payload)).cloned();
    found.or(hex).or(base64)
}

fn bson_length(payload: &[u8]) -> Option<usize> {
    let length = i32::from_le_bytes(*payload.first_chunk()?);
    usize::try_from(length).ok().filter(|length| *length >= 5)
}

/// Returns the size of the payload at the beginning of `bytes`, or `None` if it goes on behind their end.
///
/// # Errors
///
/// [`CaptureError::Payload`] if there is none, or one that is larger than `limits` allow.
pub fn first_payload(bytes: &[u8], limits: &Limits) -> Result<Option<usize>, CaptureError> {
    let too_large =
        |bytes| CaptureError::Payload(DecodeError::TooLarge { bytes, limit: limits.wire });
    let as_bson = bson_length(bytes).filter(|length| *length <= limits.wire);
    if let Some(length) = as_bson
        && bytes.get(..length).is_some_and(|document| check(document, limits).is_ok())
    {
        return Ok(Some(length));
    }
    if let Some(wrapping) = Wrapping::of(bytes) {
        let inflated = inflate_first(bytes, wrapping, limits).map_err(CaptureError::Payload)?;
        return match inflated.consumed {
            None if bytes.len() > limits.wire => Err(too_large(bytes.len())),
            consumed => Ok(consumed),
        };
    }
    match as_bson {
        Some(length) if length > bytes.len() => Ok(None),
        Some(length) => {
            let problem = check(&bytes[..length], limits).err();
            let problem = problem.unwrap_or(DecodeError::Malformed { at: 0 });
            Err(CaptureError::Payload(problem))
        }
        None if bytes.len() < 4 => Ok(None),
        None => Err(CaptureError::Payload(DecodeError::Malformed { at: 0 })),
    }
}

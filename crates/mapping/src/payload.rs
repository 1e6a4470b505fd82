//! What MQTT clients publish, as readings.

use bytes::Bytes;
use thiserror::Error;
use tidegate_model::{
    Captures, Clock, Each, EachError, Origin, PayloadFormat, Reading, Status, Timestamp, Value,
    expand, json, value_from_text,
};

use crate::{Applied, Entry, envelope};

/// Where and when a payload came in.
#[derive(Clone, Debug)]
pub struct Inlet {
    /// When the gateway received it.
    pub arrival: Timestamp,
    /// Whether the wall clock was trusted then.
    pub clock: Clock,
    /// Where it came in.
    pub origin: Origin,
}

/// Why a payload is not read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PayloadError {
    /// There are no bytes: a retained message was cleared.
    #[error("the payload is empty")]
    Empty,
    /// The bytes are not UTF-8.
    #[error("the payload is not text: byte {at} is not UTF-8")]
    NotText {
        /// The first wrong byte, from 0.
        at: usize,
    },
    /// The bytes are not JSON.
    #[error("the payload is not JSON: {0}")]
    NotJson(#[from] json::JsonError),
    /// The value cannot be taken apart.
    #[error(transparent)]
    Each(#[from] EachError),
    /// The entry reads a format that MQTT payloads do not have.
    #[error("a `[[mqtt]]` mapping cannot read `{}`", .format.as_str())]
    Format {
        /// The format of the entry.
        format: PayloadFormat,
    },
}

impl PayloadError {
    /// Returns the word under which it is counted.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::NotText { .. } => "not-text",
            Self::NotJson(_) => "not-json",
            Self::Each(_) => "each",
            Self::Format { .. } => "format",
        }
    }
}

impl Entry {
    /// Reads a payload and applies the entry to every reading in it. Nobody waits for the result: what does not
    /// fit becomes a message with quality `bad`.
    ///
    /// An object with the members of the gateway's own envelope is read as one, unless the entry takes members
    /// apart. Without `payload`, what is JSON is read so, other text as text, and the rest as bytes.
    ///
    /// # Errors
    ///
    /// [`PayloadError`] if there is no reading in it; to be counted.
    pub fn apply_mqtt(
        &self,
        captures: &Captures,
        payload: &Bytes,
        inlet: &Inlet,
    ) -> Result<Vec<Applied>, PayloadError> {
        let reading = |value: Value| {
            let mut reading = Reading::new(value, inlet.arrival, inlet.origin.clone());
            reading.clock = inlet.clock;
            // What a device sends as `null` is a value that it could not give.
            if reading.value == Value::Null {
                reading.status = Status::BAD;
            }
            reading
        };
        let value = match self.payload {
            Some(PayloadFormat::Raw) => Value::Bytes(payload.clone()),
            _ if payload.is_empty() => return Err(PayloadError::Empty),
            Some(PayloadFormat::Text) => match value_from_text(text(payload)?, self.text_type()) {
                Ok(value) => value,
                Err(mismatch) => {
                    let bad = reading(Value::Null);
                    return Ok(vec![self.apply_mismatch(captures, bad, mismatch)]);
                }
            },
            Some(PayloadFormat::Json) => json::parse_value(payload)?,
            None if self.each.is_some() => json::parse_value(payload)?,
            None => guess(payload),
            Some(format @ (PayloadFormat::Cbor | PayloadFormat::Senml)) => {
                return Err(PayloadError::Format { format });
            }
        };
        if let Some(each) = self.each {
            return self.apply_members(captures, &value, each, reading);
        }
        let reading = match envelope::open(&value) {
            Some(envelope) => envelope.into_reading(reading(Value::Null)),
            None => reading(value),
        };
        Ok(vec![self.apply_unattended(captures, reading)])
    }

    fn apply_members(
        &self,
        captures: &Captures,
        value: &Value,
        each: Each,
        reading: impl Fn(Value) -> Reading,
    ) -> Result<Vec<Applied>, PayloadError> {
        let members = expand(value, each)?;
        let apply = |(name, value): (std::sync::Arc<str>, Value)| {
            self.apply_unattended(&captures.with(&name), reading(value))
        };
        Ok(members.into_iter().map(apply).collect())
    }
}

fn text(payload: &[u8]) -> Result<&str, PayloadError> {
    std::str::from_utf8(payload).map_err(|error| PayloadError::NotText { at: error.valid_up_to() })
}

fn guess(payload: &Bytes) -> Value {
    if let Ok(value) = json::parse_value(payload) {
        return value;
    }
    match text(payload) {
        Ok(text) => Value::string(text.trim_matches([' ', '\t', '\r', '\n'])),
        Err(_) => Value::Bytes(payload.clone()),
    }
}

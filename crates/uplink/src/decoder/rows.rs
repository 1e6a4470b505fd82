//! Payloads of the formats `message` and `json`: one reading each.

use std::sync::Arc;

use bytes::Bytes;
use tidegate_model::{Status, Timestamp, Value, json};

use super::{
    DecodeError,
    batch::{Batch, DecodedReading},
};
use crate::bson::{Element, Elements};

/// The members of a payload with one reading.
#[derive(Default)]
struct Row {
    value: Option<Value>,
    time: Option<Timestamp>,
    until: Option<Timestamp>,
    unit: Option<Arc<str>>,
    status: u32,
    epoch: i64,
    number: Option<i64>,
    clock_untrusted: bool,
}

impl Row {
    fn finish(self) -> Result<Batch, DecodeError> {
        let missing = |name: &str| DecodeError::content(format!("has no `{name}`"));
        let reading = DecodedReading {
            stream: None,
            number: self.number.ok_or(missing("i"))?,
            time: self.time.ok_or(missing("t"))?,
            until: self.until,
            value: self.value.ok_or(missing("v"))?,
            unit: self.unit,
            status: Status::from_code(self.status),
            replayed: false,
        };
        Ok(Batch {
            epoch: self.epoch,
            clock_trusted: !self.clock_untrusted,
            readings: vec![reading],
            ..Batch::default()
        })
    }
}

fn status_code(code: i64) -> Result<u32, DecodeError> {
    u32::try_from(code).map_err(|_| DecodeError::content("the status `q` is wrong"))
}

/// Reads a payload of the format `message` that was checked.
pub(super) fn bson_row(document: Elements<'_>) -> Result<Batch, DecodeError> {
    let mut row = Row::default();
    for element in document {
        match element? {
            ("v", element) => row.value = Some(element.to_value()?),
            ("t", Element::Datetime(millis)) => {
                row.time = Some(Timestamp::from_unix_millis(millis))
            }
            ("until", Element::Datetime(millis)) => {
                row.until = Some(Timestamp::from_unix_millis(millis));
            }
            ("u", Element::String(unit)) => row.unit = Some(unit.into()),
            ("q", Element::Integer(code)) => row.status = status_code(code)?,
            ("ep", Element::Integer(epoch)) => row.epoch = epoch,
            ("i", Element::Integer(number)) => row.number = Some(number),
            ("ct", Element::Boolean(trusted)) => row.clock_untrusted = !trusted,
            _ => {}
        }
    }
    row.finish()
}

/// Reads a payload of the format `json`.
pub(super) fn json_row(text: &[u8]) -> Result<Batch, DecodeError> {
    let parsed = json::parse_value(text)
        .map_err(|error| DecodeError::NotJson { problem: error.to_string() })?;
    let Value::Document(document) = parsed else {
        return Err(DecodeError::content("is not an object"));
    };
    let mut row = Row::default();
    let mut is_base64 = false;
    for (name, member) in document.iter() {
        match (&**name, member) {
            ("v", value) => row.value = Some(value.clone()),
            ("t", Value::String(time)) => {
                let time = Timestamp::parse(time);
                row.time = Some(time.map_err(|error| DecodeError::content(error.to_string()))?);
            }
            ("until", Value::String(time)) => {
                let time = Timestamp::parse(time);
                row.until = Some(time.map_err(|error| DecodeError::content(error.to_string()))?);
            }
            ("u", Value::String(unit)) => row.unit = Some(Arc::clone(unit)),
            ("q", Value::Integer(code)) => row.status = status_code(*code)?,
            ("ep", Value::Integer(epoch)) => row.epoch = *epoch,
            ("i", Value::Integer(number)) => row.number = Some(*number),
            ("ct", Value::Boolean(trusted)) => row.clock_untrusted = !trusted,
            ("encoding", Value::String(word)) => is_base64 = &**word == "base64",
            _ => {}
        }
    }
    if is_base64 && let Some(Value::String(text)) = &row.value {
        let bytes: Bytes = crate::payload::from_base64(text)
            .ok_or_else(|| DecodeError::content("the value `v` is not base64"))?;
        row.value = Some(Value::Bytes(bytes));
    }
    row.finish()
}

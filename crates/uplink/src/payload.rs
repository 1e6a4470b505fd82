//! From a message to the reading that goes up.

use std::{borrow::Cow, sync::LazyLock};

use bytes::Bytes;
use tidegate_model::{
    AdapterName, Clock, Document, Message, Origin, Quality, Reading, Status, Timestamp, Unit,
    Value, json,
};

/// Returns the reading that a message stands for.
///
/// A typed reading is taken as it is. Bytes that a client published are the local envelope
/// (`docs/config.md`), a bare JSON number, boolean, string or object, or else bytes of unknown
/// meaning. JSON deeper than [`json::depth_max`] or with a name twice in one object is such bytes.
///
/// An object is an envelope if it has `value` and otherwise only members that an envelope has, each
/// with what an envelope allows; any other object is a reading with a document for a value.
pub fn reading(message: &Message) -> Cow<'_, Reading> {
    match message.payload.as_reading() {
        Some(reading) => Cow::Borrowed(reading),
        None => Cow::Owned(published(message.payload.to_bytes(), message.arrival)),
    }
}

fn published(bytes: Bytes, arrival: Timestamp) -> Reading {
    static ORIGIN: LazyLock<Origin> = LazyLock::new(|| Origin {
        adapter: AdapterName::new("mqtt").expect("`mqtt` is an adapter's name"),
    });
    let plain = |value| Reading::new(value, arrival, ORIGIN.clone());
    match parse(&bytes) {
        Some(Value::Document(document)) => {
            envelope(&document, arrival).unwrap_or_else(|| plain(Value::Document(document)))
        }
        Some(value) => plain(value),
        None => plain(Value::Bytes(bytes)),
    }
}

/// Reads a JSON number, boolean, string or object.
fn parse(bytes: &[u8]) -> Option<Value> {
    let text = bytes.trim_ascii();
    match text.first()? {
        b'-' | b'0'..=b'9' => json::parse_number(std::str::from_utf8(text).ok()?),
        b't' | b'f' | b'"' | b'{' => json::parse_value(text).ok(),
        _ => None,
    }
}

fn envelope(document: &Document, arrival: Timestamp) -> Option<Reading> {
    let mut reading = Reading::new(
        document.get("value")?.clone(),
        arrival,
        Origin { adapter: AdapterName::new("mqtt").ok()? },
    );
    let mut quality = Quality::Good;
    for (name, member) in document.iter() {
        match (&**name, member) {
            ("value", _) => {}
            ("time", Value::String(time)) => {
                reading.source_time = Some(Timestamp::parse(time).ok()?);
            }
            ("until", Value::String(time)) => reading.until = Some(Timestamp::parse(time).ok()?),
            ("quality", Value::String(word)) => quality = quality_from_word(word)?,
            ("status", Value::Integer(code)) => {
                reading.status = Status::from_code(u32::try_from(*code).ok()?);
            }
            ("unit", Value::String(unit)) => reading.unit = Some(Unit::new(unit).ok()?),
            ("clock", Value::String(word)) if &**word == "untrusted" => {
                reading.clock = Clock::Untrusted;
            }
            ("encoding", Value::String(word)) if &**word == "base64" => {
                let Value::String(text) = &reading.value else { return None };
                reading.value = Value::Bytes(from_base64(text)?);
            }
            _ => return None,
        }
    }
    // The worse of the two counts: what is bad never becomes good.
    if quality > reading.status.quality() {
        reading.status = quality.into();
    }
    Some(reading)
}

fn quality_from_word(word: &str) -> Option<Quality> {
    [Quality::Good, Quality::Uncertain, Quality::Bad]
        .into_iter()
        .find(|quality| quality.as_str() == word)
}

/// Reads standard base64 with padding (RFC 4648, section 4).
pub(crate) fn from_base64(text: &str) -> Option<Bytes> {
    let text = text.as_bytes();
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let padding = text.iter().rev().take_while(|&&byte| byte == b'=').count();
    if padding > 2 {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0_u32, 0);
    for &byte in &text[..text.len() - padding] {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(six);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff) as u8);
        }
    }
    // Bits that stand for nothing must be zero, so that each value has one text.
    (bits & ((1 << count) - 1) == 0).then(|| bytes.into())
}

#[cfg(test)]
mod tests;

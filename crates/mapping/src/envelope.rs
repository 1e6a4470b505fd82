//! The gateway's own envelope, where it comes back in: from another gateway, or from a client that writes it.

use bytes::Bytes;
use tidegate_model::{Clock, Document, Quality, Reading, Status, Timestamp, Unit, Value};

/// What an envelope says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Envelope {
    value: Value,
    time: Option<Timestamp>,
    until: Option<Timestamp>,
    status: Status,
    unit: Option<Unit>,
    clock: Option<Clock>,
}

/// Takes an object for an envelope if it has a `value` and beside it only members of an envelope, each with a
/// content that it can have there. Anything else is a device's own object.
pub(crate) fn open(value: &Value) -> Option<Envelope> {
    let Value::Document(document) = value else { return None };
    let mut envelope = Envelope {
        value: document.get("value")?.clone(),
        time: None,
        until: None,
        status: Status::GOOD,
        unit: None,
        clock: None,
    };
    for (name, member) in document.iter() {
        match (&**name, member) {
            ("value", _) => {}
            ("time", Value::String(text)) => envelope.time = Some(Timestamp::parse(text).ok()?),
            ("until", Value::String(text)) => envelope.until = Some(Timestamp::parse(text).ok()?),
            ("quality", Value::String(text)) => quality(text).map(|_| ())?,
            ("status", Value::Integer(code)) => u32::try_from(*code).map(|_| ()).ok()?,
            ("unit", Value::String(text)) => envelope.unit = Some(Unit::new(text).ok()?),
            ("encoding", Value::String(text)) if **text == *"base64" => {
                let Value::String(encoded) = &envelope.value else { return None };
                envelope.value = Value::Bytes(decode_base64(encoded)?);
            }
            ("clock", Value::String(text)) if **text == *"untrusted" => {
                envelope.clock = Some(Clock::Untrusted);
            }
            _ => return None,
        }
    }
    envelope.status = status(document, &envelope.value);
    Some(envelope)
}

impl Envelope {
    /// Puts what the envelope says into a reading that knows where and when it came in.
    pub(crate) fn into_reading(self, mut reading: Reading) -> Reading {
        reading.value = self.value;
        reading.source_time = self.time;
        reading.until = self.until;
        reading.status = self.status;
        reading.unit = self.unit;
        reading.clock = self.clock.unwrap_or(reading.clock);
        reading
    }
}

/// The code if it agrees with the word, else the word; without both, `bad` for what has no value.
fn status(document: &Document, value: &Value) -> Status {
    let code = match document.get("status") {
        Some(Value::Integer(code)) => u32::try_from(*code).ok().map(Status::from_code),
        _ => None,
    };
    let word = match document.get("quality") {
        Some(Value::String(text)) => quality(text),
        _ => None,
    };
    match (code, word) {
        (Some(code), None) => code,
        (Some(code), Some(word)) if code.quality() == word => code,
        (_, Some(word)) => word.into(),
        (None, None) if *value == Value::Null => Status::BAD,
        (None, None) => Status::GOOD,
    }
}

fn quality(word: &str) -> Option<Quality> {
    [Quality::Good, Quality::Uncertain, Quality::Bad].into_iter().find(|it| it.as_str() == word)
}

/// Reads standard base64 with padding (RFC 4648, section 4).
fn decode_base64(text: &str) -> Option<Bytes> {
    let sextet = |letter: u8| match letter {
        b'A'..=b'Z' => Some(letter - b'A'),
        b'a'..=b'z' => Some(letter - b'a' + 26),
        b'0'..=b'9' => Some(letter - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let padding = text.bytes().rev().take(2).take_while(|letter| *letter == b'=').count();
    let letters = &text.as_bytes()[..text.len() - padding];
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for chunk in letters.chunks(4) {
        let mut bits = 0_u32;
        for letter in chunk {
            bits = bits << 6 | u32::from(sextet(*letter)?);
        }
        bits <<= 6 * (4 - chunk.len());
        // Bits that no byte takes must be zero, so that one content has one encoding.
        let taken = chunk.len() * 6 / 8;
        if bits & (0x00FF_FFFF >> (8 * taken)) != 0 {
            return None;
        }
        bytes.extend_from_slice(&bits.to_be_bytes()[1..=taken]);
    }
    Some(bytes.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidegate_model::json::{self, parse_value};
    use tidegate_model::{AdapterName, Origin};

    use super::*;

    fn reading(value: Value) -> Reading {
        let origin = Origin { adapter: AdapterName::new("mqtt").unwrap() };
        Reading::new(value, Timestamp::from_unix_millis(1_000), origin)
    }

    fn opened(text: &str) -> Option<Reading> {
        open(&parse_value(text.as_bytes()).unwrap())
            .map(|envelope| envelope.into_reading(reading(Value::Null)))
    }

    #[test]
    fn only_envelopes_are_taken_for_envelopes() {
        #[rustfmt::skip]
        let cases = [
            (r#"{"value":1}"#,                                          true),
            (r#"{"value":1,"unit":"Cel"}"#,                             true),
            (r#"{"value":1,"time":"2026-03-01T12:00:00Z"}"#,            true),
            (r#"{"value":1,"time":"noon"}"#,                            false),
            (r#"{"value":1,"quality":"fine"}"#,                         false),
            (r#"{"value":1,"weight":2}"#,                               false),
            (r#"{"weight":2}"#,                                         false),
            (r#"{"value":"AAE=","encoding":"base64"}"#,                 true),
            (r#"{"value":"AAE","encoding":"base64"}"#,                  false),
            (r#"{"value":1,"encoding":"base64"}"#,                      false),
            (r#"[{"value":1}]"#,                                        false),
        ];
        for (text, expected) in cases {
            assert_eq!(opened(text).is_some(), expected, "{text}");
        }
    }

    #[test]
    fn quality_and_status_must_agree() {
        #[rustfmt::skip]
        let cases = [
            (r#"{"value":1}"#,                                          Status::GOOD),
            (r#"{"value":null}"#,                                       Status::BAD),
            (r#"{"value":1,"quality":"uncertain"}"#,                    Status::UNCERTAIN),
            (r#"{"value":1,"quality":"bad","status":2150891520}"#,      Status::from_code(0x8034_0000)),
            (r#"{"value":1,"quality":"good","status":2150891520}"#,     Status::GOOD),
            (r#"{"value":1,"status":2150891520}"#,                      Status::from_code(0x8034_0000)),
        ];
        for (text, expected) in cases {
            assert_eq!(opened(text).unwrap().status, expected, "{text}");
        }
    }

    proptest! {
        /// What the gateway writes it reads back, bytes included.
        #[test]
        fn our_own_envelopes_come_back(
            bytes in prop::collection::vec(any::<u8>(), 0..40),
            micros in 0_i64..4_000_000_000_000_000,
            until in prop::option::of(0_i64..4_000_000_000_000_000),
            code in prop::sample::select(vec![0_u32, 0x4090_0000, 0x8031_0000]),
        ) {
            let mut sent = reading(Value::Bytes(bytes.into()));
            sent.source_time = Some(Timestamp::from_unix_micros(micros));
            sent.until = until.map(Timestamp::from_unix_micros);
            sent.status = Status::from_code(code);
            sent.unit = Some(Unit::new("Cel").unwrap());
            let text = json::envelope(&sent);
            let back = open(&parse_value(&text).unwrap()).unwrap().into_reading(reading(Value::Null));
            prop_assert_eq!(back, sent);
        }
    }
}

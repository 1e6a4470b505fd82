//! From values and readings to JSON.

use std::io::Write;

use bytes::Bytes;

use crate::{Clock, Quality, Reading, Status, Value};

/// Appends `value` as JSON: doubles keep a fraction, bytes become base64, not-a-number becomes `null`.
pub fn write_value(value: &Value, output: &mut Vec<u8>) {
    match value {
        Value::Null => output.extend_from_slice(b"null"),
        Value::Boolean(true) => output.extend_from_slice(b"true"),
        Value::Boolean(false) => output.extend_from_slice(b"false"),
        Value::Integer(number) => push_display(output, number),
        Value::Unsigned(number) => push_display(output, number),
        // `Debug` of floats prints the shortest digits that read back the same, and keeps `.0`.
        Value::Float(number) if number.is_finite() => push_debug(output, number),
        Value::Double(number) if number.is_finite() => push_debug(output, number),
        Value::Float(_) | Value::Double(_) => output.extend_from_slice(b"null"),
        Value::String(text) => write_string(text, output),
        Value::Bytes(bytes) => write_base64(bytes, output),
        Value::Array(items) => {
            output.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    output.push(b',');
                }
                write_value(item, output);
            }
            output.push(b']');
        }
        Value::Document(document) => {
            output.push(b'{');
            for (index, (name, member)) in document.iter().enumerate() {
                if index > 0 {
                    output.push(b',');
                }
                write_string(name, output);
                output.push(b':');
                write_value(member, output);
            }
            output.push(b'}');
        }
    }
}

/// Appends `text` as a JSON string with its quotes.
pub fn write_string(text: &str, output: &mut Vec<u8>) {
    output.push(b'"');
    let mut rest = text;
    while let Some(at) =
        rest.find(|character: char| character < ' ' || matches!(character, '"' | '\\'))
    {
        output.extend_from_slice(&rest.as_bytes()[..at]);
        match rest.as_bytes()[at] {
            b'"' => output.extend_from_slice(b"\\\""),
            b'\\' => output.extend_from_slice(b"\\\\"),
            b'\n' => output.extend_from_slice(b"\\n"),
            b'\r' => output.extend_from_slice(b"\\r"),
            b'\t' => output.extend_from_slice(b"\\t"),
            control => write!(output, "\\u{control:04x}").expect("a Vec takes everything"),
        }
        rest = &rest[at + 1..];
    }
    output.extend_from_slice(rest.as_bytes());
    output.push(b'"');
}

/// Returns the local envelope of a reading:
/// `{"value":21.5,"time":"2026-03-01T12:00:00.123Z","quality":"good","unit":"Cel"}`.
///
/// `until` follows the time of a stretch without data, `status` when the quality is not good, `encoding` for bytes, `clock` when the wall clock was
/// not trusted. A number that JSON lacks is `null` with quality `bad`, whatever its status.
pub fn envelope(reading: &Reading) -> Bytes {
    let mut output = Vec::with_capacity(128);
    output.extend_from_slice(b"{\"value\":");
    write_value(&reading.value, &mut output);
    output.extend_from_slice(b",\"time\":\"");
    reading.time().write_rfc3339(&mut output);
    if let Some(until) = reading.until {
        output.extend_from_slice(b"\",\"until\":\"");
        until.write_rfc3339(&mut output);
    }
    output.extend_from_slice(b"\",\"quality\":\"");
    let status = match reading.status {
        status if status.quality() != Quality::Bad && reading.value.is_not_finite() => Status::BAD,
        status => status,
    };
    output.extend_from_slice(status.quality().as_str().as_bytes());
    output.push(b'"');
    if !status.is_good() {
        output.extend_from_slice(b",\"status\":");
        push_display(&mut output, &status.code());
    }
    if let Some(unit) = &reading.unit {
        output.extend_from_slice(b",\"unit\":");
        write_string(unit.as_str(), &mut output);
    }
    if matches!(reading.value, Value::Bytes(_)) {
        output.extend_from_slice(b",\"encoding\":\"base64\"");
    }
    if reading.clock == Clock::Untrusted {
        output.extend_from_slice(b",\"clock\":\"untrusted\"");
    }
    output.push(b'}');
    output.into()
}

/// Returns the bytes of `publish = "value"`: text as it is, bytes as they are, anything else as JSON.
pub fn bare_value(value: &Value) -> Bytes {
    match value {
        Value::String(text) => Bytes::copy_from_slice(text.as_bytes()),
        Value::Bytes(bytes) => bytes.clone(),
        value => {
            let mut output = Vec::new();
            write_value(value, &mut output);
            output.into()
        }
    }
}

fn push_display(output: &mut Vec<u8>, number: &impl std::fmt::Display) {
    write!(output, "{number}").expect("a Vec takes everything");
}

fn push_debug(output: &mut Vec<u8>, number: &impl std::fmt::Debug) {
    write!(output, "{number:?}").expect("a Vec takes everything");
}

/// Appends standard base64 with padding (RFC 4648, section 4) as a JSON string.
fn write_base64(bytes: &[u8], output: &mut Vec<u8>) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    output.push(b'"');
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0_u32, |bits, &byte| bits << 8 | u32::from(byte))
            << (8 * (3 - chunk.len()));
        for place in 0..4 {
            if place > chunk.len() {
                output.push(b'=');
            } else {
                let index = bits >> (18 - 6 * place) & 0x3F;
                output.push(ALPHABET[usize::try_from(index).expect("six bits")]);
            }
        }
    }
    output.push(b'"');
}

//! Requests for an update of what is reported.

use std::sync::Arc;

use tidegate_model::{Value, json};

use super::setup::ShadowPath;

/// The largest state that the service takes.
pub(super) const STATE_BYTES_MAX: usize = 8 << 10;
/// What stands around the keys and values of one section.
const FRAME_BYTES: usize = r#"{"reported":{}}"#.len();

/// Returns how many bytes a value takes in a state that it is alone in; several take no more together than apart.
pub(super) fn state_bytes(key: &ShadowPath, value: &Value) -> usize {
    let mut text = Vec::new();
    for name in key.names() {
        json::write_string(name, &mut text);
        // A colon, and the braces or the comma.
        text.extend_from_slice(b":{}");
    }
    json::write_value(value, &mut text);
    text.len()
}

/// Returns how many bytes are left for keys and values.
pub(super) fn room() -> usize {
    STATE_BYTES_MAX - FRAME_BYTES
}

/// Writes an update of these values, each of which is reported.
pub(super) fn write(values: &[(&ShadowPath, &Value)], token: &str) -> Vec<u8> {
    let mut sorted: Vec<(&[Arc<str>], &Value)> =
        values.iter().map(|(key, value)| (key.names(), *value)).collect();
    sorted.sort_by_key(|(names, _)| *names);
    let mut body = Vec::from(r#"{"state":{"reported":"#);
    write_members(&sorted, &mut body);
    body.extend_from_slice(br#"},"clientToken":"#);
    json::write_string(token, &mut body);
    body.push(b'}');
    body
}

/// Writes the request for the whole document.
pub(super) fn write_get(token: &str) -> Vec<u8> {
    let mut body = Vec::from(r#"{"clientToken":"#);
    json::write_string(token, &mut body);
    body.push(b'}');
    body
}

/// Writes an object of what stands below the same names; no key is within another, and names are few.
fn write_members(mut rest: &[(&[Arc<str>], &Value)], output: &mut Vec<u8>) {
    let mut opening = b'{';
    while let Some((names, value)) = rest.first() {
        let (first, below) = names.split_first().expect("a key has a name");
        output.push(opening);
        opening = b',';
        json::write_string(first, output);
        output.push(b':');
        if below.is_empty() {
            json::write_value(value, output);
            rest = &rest[1..];
            continue;
        }
        let count = rest.iter().take_while(|(names, _)| names.first() == Some(first)).count();
        let inner: Vec<_> =
            rest[..count].iter().map(|(names, value)| (&names[1..], *value)).collect();
        write_members(&inner, output);
        rest = &rest[count..];
    }
    if opening == b'{' {
        output.push(b'{');
    }
    output.push(b'}');
}

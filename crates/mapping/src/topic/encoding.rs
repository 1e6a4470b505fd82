//! Captures inside a level of a topic: percent-encoded so that they stay inside it.

use std::borrow::Cow;

/// What stands for each byte that cannot be in a level, or would mean something there.
const ESCAPES: [(u8, &str); 6] =
    [(b'/', "%2F"), (b'+', "%2B"), (b'#', "%23"), (b'%', "%25"), (0, "%00"), (b'$', "%24")];

/// Appends `text` with `/ + # %`, U+0000 and a leading `$` percent-encoded.
#[inline]
pub(super) fn encode_into(text: &str, output: &mut String) {
    let mut rest = text;
    if let Some(behind) = rest.strip_prefix('$') {
        output.push_str("%24");
        rest = behind;
    }
    while let Some(at) = rest.bytes().position(|byte| matches!(byte, b'/' | b'+' | b'#' | b'%' | 0))
    {
        output.push_str(&rest[..at]);
        let byte = rest.as_bytes()[at];
        let escape = ESCAPES.iter().find(|(escaped, _)| *escaped == byte);
        output.push_str(escape.expect("every byte looked for has an escape").1);
        rest = &rest[at + 1..];
    }
    output.push_str(rest);
}

/// Returns the text whose encoding is exactly `encoded`; `None` if no text has that encoding.
///
/// One text, one encoding: no two spellings of a topic stand for the same captures, so that access rules about
/// topics cannot be passed by with another spelling.
#[inline]
pub(super) fn decode(encoded: &str) -> Option<Cow<'_, str>> {
    if encoded.starts_with('$') {
        return None;
    }
    if !encoded.contains('%') {
        return Some(Cow::Borrowed(encoded));
    }
    let mut decoded = String::with_capacity(encoded.len());
    let mut rest = encoded;
    while let Some(at) = rest.find('%') {
        decoded.push_str(&rest[..at]);
        let escape = rest.get(at..at + 3)?;
        let (byte, _) = ESCAPES.iter().find(|(_, known)| *known == escape)?;
        if *byte == b'$' && !decoded.is_empty() {
            return None;
        }
        decoded.push(char::from(*byte));
        rest = &rest[at + 3..];
    }
    decoded.push_str(rest);
    Some(Cow::Owned(decoded))
}

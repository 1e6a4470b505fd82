//! Percent-encoding of paths and queries (RFC 3986, section 2.1).

use std::borrow::Cow;

use memchr::memchr;

/// A part of a path or query cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotDecodable;

/// Decodes one segment or argument; `+` stands for itself.
pub(crate) fn decode(text: &str) -> Result<Cow<'_, str>, NotDecodable> {
    if memchr(b'%', text.as_bytes()).is_none() {
        return Ok(Cow::Borrowed(text));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some(at) = memchr(b'%', rest) {
        decoded.extend_from_slice(&rest[..at]);
        let [high, low, behind @ ..] = &rest[at + 1..] else { return Err(NotDecodable) };
        decoded.push(digit(*high)? << 4 | digit(*low)?);
        rest = behind;
    }
    decoded.extend_from_slice(rest);
    String::from_utf8(decoded).map(Cow::Owned).map_err(|_| NotDecodable)
}

fn digit(byte: u8) -> Result<u8, NotDecodable> {
    match byte {
        b'0'..=b'9' => Ok(byte - b'0'),
        b'a'..=b'f' => Ok(byte - b'a' + 10),
        b'A'..=b'F' => Ok(byte - b'A' + 10),
        _ => Err(NotDecodable),
    }
}

/// Splits a path into its decoded segments; none for `/`. It is split first, so that `%2F` stays within
/// its segment.
pub(crate) fn segments(path: &str) -> Result<Vec<Cow<'_, str>>, NotDecodable> {
    match path.strip_prefix('/') {
        None => Err(NotDecodable),
        Some("") => Ok(Vec::new()),
        Some(rest) => rest.split('/').map(decode).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_split_before_they_are_decoded() {
        #[rustfmt::skip]
        let cases: [(&str, Option<&[&str]>); 10] = [
            ("/",               Some(&[])),
            ("/a/b",            Some(&["a", "b"])),
            ("/a%2Fb/c",        Some(&["a/b", "c"])),
            ("/k%C3%BCche",     Some(&["küche"])),
            ("//a/",            Some(&["", "a", ""])),
            ("/a+b",            Some(&["a+b"])),
            ("/%",              None),
            ("/%2",             None),
            ("/%zz",            None),
            ("/%FF",            None),
        ];
        for (path, expected) in cases {
            let found = segments(path).ok();
            let expected = expected.map(|segments| segments.iter().map(|s| (*s).into()).collect());
            assert_eq!(found, expected, "{path}");
        }
        assert_eq!(segments("*"), Err(NotDecodable));
    }
}

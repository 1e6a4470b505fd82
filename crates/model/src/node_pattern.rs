//! Patterns of OPC UA node ids: `nsu=urn:example:press;s=Press.{n}.Temperature`.

use std::fmt;

use thiserror::Error;

use crate::{CaptureName, Captures};

mod overlap;

/// Why a text is not a node pattern.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NodePatternError {
    /// The text names a namespace by index, which changes when the server restarts.
    #[error(
        "a namespace index is valid for one run of the server only; write nsu=URI instead of `{text}`"
    )]
    NamespaceIndex {
        /// The part at fault.
        text: String,
    },
    /// The identifier is missing or of no known kind.
    #[error("`{text}` is not an identifier; use s=TEXT, i=NUMBER, g=UUID or b=BASE64")]
    Identifier {
        /// The part at fault.
        text: String,
    },
    /// The namespace URI is empty, has a capture or a wrong percent-encoding.
    #[error("`{text}` is not a namespace URI (no captures; `;` and `%` as %3B and %25)")]
    Namespace {
        /// The part at fault.
        text: String,
    },
    /// A capture stands in a numeric, UUID or byte string identifier.
    #[error("captures are for text identifiers (s=…) only")]
    CaptureInNonText,
    /// A brace has no partner.
    #[error("`{text}` has a brace without its partner")]
    Brace {
        /// The identifier at fault.
        text: String,
    },
    /// What stands in braces is not a name.
    #[error("`{text}` is not a capture name: a letter, then up to 31 letters, digits, `-` or `_`")]
    Name {
        /// The text in braces.
        text: String,
    },
    /// Two captures touch; nothing would say where the first ends.
    #[error("two captures need literal text between them")]
    Adjacent,
    /// A capture name occurs twice.
    #[error("the capture `{name}` occurs twice")]
    Repeated {
        /// The repeated name.
        name: CaptureName,
    },
}

/// The identifier of a node within its namespace (OPC 10000-3, section 8.2).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Identifier {
    /// `i=`: a number.
    Numeric(u32),
    /// `s=`: text.
    Text(String),
    /// `g=`: a UUID, in lower case with hyphens.
    Guid(String),
    /// `b=`: bytes, as standard base64.
    Opaque(String),
}

impl fmt::Display for Identifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Numeric(number) => write!(formatter, "i={number}"),
            Self::Text(text) => write!(formatter, "s={text}"),
            Self::Guid(text) => write!(formatter, "g={text}"),
            Self::Opaque(text) => write!(formatter, "b={text}"),
        }
    }
}

/// A node by namespace URI and identifier; stable over restarts of the server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeAddress {
    /// The namespace URI, decoded; `http://opcfoundation.org/UA/` for namespace 0.
    pub namespace: String,
    /// The identifier.
    pub identifier: Identifier,
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace != NAMESPACE_0 {
            write!(formatter, "nsu={};", self.namespace.replace('%', "%25").replace(';', "%3B"))?;
        }
        self.identifier.fmt(formatter)
    }
}

/// The URI of namespace 0.
const NAMESPACE_0: &str = "http://opcfoundation.org/UA/";

/// A node id in whose text identifier `{name}` stands for characters other than `.` and `/`, and
/// `{name*}` for any; always for at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePattern {
    text: String,
    namespace: String,
    identifier: IdentifierPattern,
    names: Vec<CaptureName>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum IdentifierPattern {
    Literal(Identifier),
    Text(Vec<Piece>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(String),
    Capture { reach: Reach },
}

/// Which characters a capture may stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// `{name}`: not `.` or `/`.
    Level,
    /// `{name*}`: any.
    Any,
}

impl NodePattern {
    /// Reads a pattern.
    ///
    /// # Errors
    ///
    /// [`NodePatternError`] says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, NodePatternError> {
        let (namespace, identifier) = match text.strip_prefix("nsu=") {
            Some(rest) => {
                let (namespace, identifier) = rest
                    .split_once(';')
                    .ok_or_else(|| NodePatternError::Identifier { text: text.into() })?;
                (decode_namespace(namespace)?, identifier)
            }
            None if text.starts_with("ns=") => {
                let index = text.split(';').next().unwrap_or(text);
                return Err(NodePatternError::NamespaceIndex { text: index.into() });
            }
            None => (NAMESPACE_0.to_owned(), text),
        };
        let mut names = Vec::new();
        let identifier = identifier_pattern(identifier, &mut names)?;
        Ok(Self { text: text.into(), namespace, identifier, names })
    }

    /// Returns the pattern as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the namespace URI, decoded.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Returns the names of the captures, from left to right.
    pub fn names(&self) -> &[CaptureName] {
        &self.names
    }

    /// Returns the one node that a pattern without captures names.
    pub fn literal(&self) -> Option<NodeAddress> {
        match &self.identifier {
            IdentifierPattern::Literal(identifier) => Some(NodeAddress {
                namespace: self.namespace.clone(),
                identifier: identifier.clone(),
            }),
            IdentifierPattern::Text(_) => None,
        }
    }

    /// Returns how many characters are literal: the pattern with more of them wins.
    pub fn literal_characters(&self) -> usize {
        match &self.identifier {
            IdentifierPattern::Literal(identifier) => identifier.to_string().chars().count() - 2,
            IdentifierPattern::Text(pieces) => pieces
                .iter()
                .map(|piece| match piece {
                    Piece::Literal(text) => text.chars().count(),
                    Piece::Capture { .. } => 0,
                })
                .sum(),
        }
    }

    /// Matches a node.
    pub fn matches(&self, node: &NodeAddress) -> Option<Captures> {
        if node.namespace != self.namespace {
            return None;
        }
        match (&self.identifier, &node.identifier) {
            (IdentifierPattern::Literal(ours), theirs) => (ours == theirs).then(Captures::none),
            (IdentifierPattern::Text(pieces), Identifier::Text(text)) => {
                let mut found = Vec::with_capacity(self.names.len());
                pieces_match(pieces, text, &mut found)
                    .then(|| Captures::new(found.into_iter().map(Box::from)))
            }
            (IdentifierPattern::Text(_), _) => None,
        }
    }

    /// Returns whether some node matches both patterns.
    pub fn overlaps(&self, other: &Self) -> bool {
        if self.namespace != other.namespace {
            return false;
        }
        match (&self.identifier, &other.identifier) {
            (IdentifierPattern::Literal(ours), IdentifierPattern::Literal(theirs)) => {
                ours == theirs
            }
            (IdentifierPattern::Text(ours), IdentifierPattern::Text(theirs)) => {
                overlap::texts_overlap(ours, theirs)
            }
            (IdentifierPattern::Text(pieces), IdentifierPattern::Literal(literal))
            | (IdentifierPattern::Literal(literal), IdentifierPattern::Text(pieces)) => {
                matches!(literal, Identifier::Text(text) if pieces_match(pieces, text, &mut Vec::new()))
            }
        }
    }

    /// Returns the node for which the captures stand: the inverse of [`matches`](Self::matches).
    ///
    /// `None` if there are fewer captures than the pattern has.
    pub fn fill(&self, captures: &Captures) -> Option<NodeAddress> {
        let identifier = match &self.identifier {
            IdentifierPattern::Literal(identifier) => identifier.clone(),
            IdentifierPattern::Text(pieces) => {
                let mut texts = captures.iter();
                let mut text = String::new();
                for piece in pieces {
                    match piece {
                        Piece::Literal(literal) => text.push_str(literal),
                        Piece::Capture { .. } => text.push_str(texts.next()?),
                    }
                }
                Identifier::Text(text)
            }
        };
        Some(NodeAddress { namespace: self.namespace.clone(), identifier })
    }
}

fn decode_namespace(encoded: &str) -> Result<String, NodePatternError> {
    let error = || NodePatternError::Namespace { text: encoded.into() };
    if encoded.is_empty() || encoded.contains(['{', '}']) {
        return Err(error());
    }
    let mut decoded = Vec::with_capacity(encoded.len());
    let mut bytes = encoded.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let high = bytes.next().and_then(hex_digit).ok_or_else(error)?;
        let low = bytes.next().and_then(hex_digit).ok_or_else(error)?;
        decoded.push(high << 4 | low);
    }
    String::from_utf8(decoded).map_err(|_| error())
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

fn identifier_pattern(
    text: &str,
    names: &mut Vec<CaptureName>,
) -> Result<IdentifierPattern, NodePatternError> {
    let error = || NodePatternError::Identifier { text: text.into() };
    let (kind, body) = text.split_once('=').ok_or_else(error)?;
    if body.is_empty() {
        return Err(error());
    }
    if kind == "s" {
        return text_pattern(body, names);
    }
    if body.contains(['{', '}']) {
        return Err(NodePatternError::CaptureInNonText);
    }
    let identifier = match kind {
        "i" => Identifier::Numeric(body.parse().map_err(|_| error())?),
        "g" if is_uuid(body) => Identifier::Guid(body.to_ascii_lowercase()),
        "b" => Identifier::Opaque(body.into()),
        _ => return Err(error()),
    };
    Ok(IdentifierPattern::Literal(identifier))
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

fn text_pattern(
    body: &str,
    names: &mut Vec<CaptureName>,
) -> Result<IdentifierPattern, NodePatternError> {
    let brace = || NodePatternError::Brace { text: body.into() };
    let mut pieces = Vec::new();
    let mut rest = body;
    while let Some((before, behind)) = rest.split_once('{') {
        if before.contains('}') {
            return Err(brace());
        }
        if !before.is_empty() {
            pieces.push(Piece::Literal(before.into()));
        } else if matches!(pieces.last(), Some(Piece::Capture { .. })) {
            return Err(NodePatternError::Adjacent);
        }
        let (name, after) = behind.split_once('}').ok_or_else(brace)?;
        let (name, reach) = match name.strip_suffix('*') {
            Some(name) => (name, Reach::Any),
            None => (name, Reach::Level),
        };
        let name =
            CaptureName::new(name).map_err(|error| NodePatternError::Name { text: error.text })?;
        if names.contains(&name) {
            return Err(NodePatternError::Repeated { name });
        }
        names.push(name);
        pieces.push(Piece::Capture { reach });
        rest = after;
    }
    if rest.contains('}') {
        return Err(brace());
    }
    if names.is_empty() {
        return Ok(IdentifierPattern::Literal(Identifier::Text(body.into())));
    }
    if !rest.is_empty() {
        pieces.push(Piece::Literal(rest.into()));
    }
    Ok(IdentifierPattern::Text(pieces))
}

/// Matches pieces from the left; a capture ends at the nearest literal that lets the rest match.
fn pieces_match<'t>(pieces: &[Piece], text: &'t str, found: &mut Vec<&'t str>) -> bool {
    let Some((piece, rest)) = pieces.split_first() else {
        return text.is_empty();
    };
    let reach = match piece {
        Piece::Literal(literal) => {
            return text
                .strip_prefix(literal.as_str())
                .is_some_and(|text| pieces_match(rest, text, found));
        }
        Piece::Capture { reach } => *reach,
    };
    let limit = match reach {
        Reach::Level => text.find(['.', '/']).unwrap_or(text.len()),
        Reach::Any => text.len(),
    };
    let Some(Piece::Literal(next)) = rest.first() else {
        found.push(text);
        return !text.is_empty() && limit == text.len();
    };
    let ends = text.char_indices().map(|(at, _)| at).take_while(|at| *at <= limit);
    for at in ends.filter(|at| *at > 0 && text[*at..].starts_with(next.as_str())) {
        found.push(&text[..at]);
        if pieces_match(rest, &text[at..], found) {
            return true;
        }
        found.pop();
    }
    false
}

impl fmt::Display for NodePattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(text: &str) -> NodeAddress {
        NodeAddress { namespace: "urn:p".into(), identifier: Identifier::Text(text.into()) }
    }

    #[test]
    fn captures_end_at_the_next_literal() {
        #[rustfmt::skip]
        let cases: [(&str, &str, Option<&[&str]>); 10] = [
            ("Press.{n}.Temp",  "Press.7.Temp",         Some(&["7"])),
            ("Press.{n}.Temp",  "Press..Temp",          None),
            ("Press.{n}.Temp",  "Press.7.a.Temp",       None),
            ("Press.{n*}.Temp", "Press.7.a.Temp",       Some(&["7.a"])),
            ("{a*}.T",          "x.T.T",                Some(&["x.T"])),
            ("{a}-{b}",         "x-y",                  Some(&["x", "y"])),
            ("{a}-{b}",         "x-y.z",                None),
            ("Press.{n}",       "Press.7",              Some(&["7"])),
            ("{a}xx",           "axxx",                 Some(&["ax"])),
            ("Press",           "Press",                Some(&[])),
        ];
        for (pattern, text, expected) in cases {
            let pattern = NodePattern::parse(&format!("nsu=urn:p;s={pattern}")).unwrap();
            let captures = pattern.matches(&node(text));
            let found = captures.as_ref().map(|captures| captures.iter().collect::<Vec<_>>());
            assert_eq!(found.as_deref(), expected, "{pattern} against {text}");
            if let Some(captures) = captures {
                assert_eq!(pattern.fill(&captures), Some(node(text)));
            }
        }
    }

    #[test]
    fn overlap_is_found() {
        #[rustfmt::skip]
        let cases = [
            ("Press.{n}.T",     "Press.{m}.T",      true),
            ("Press.{n}.T",     "Press.{m}.P",      false),
            ("Press.{n}.T",     "{a}.7.T",          true),
            ("Press.{n}",       "Press.{a*}.T",     false),
            ("Press.{n*}",      "Press.{a}.T",      true),
            ("{a}xx",           "x{b}x",            true),
            ("{a}",             "a.b",              false),
            ("a{n}",            "a1",               true),
            ("a{n}",            "a",                false),
            ("ab",              "ab",               true),
            ("{a}b",            "a{b}",             true),
        ];
        for (ours, theirs, expected) in cases {
            let pattern = |text| NodePattern::parse(&format!("nsu=urn:p;s={text}")).unwrap();
            assert_eq!(pattern(ours).overlaps(&pattern(theirs)), expected, "{ours} and {theirs}");
            assert_eq!(pattern(theirs).overlaps(&pattern(ours)), expected, "{theirs} and {ours}");
        }
        let number = NodePattern::parse("nsu=urn:p;i=7").unwrap();
        assert!(!number.overlaps(&NodePattern::parse("nsu=urn:p;s={a}").unwrap()));
        assert!(!number.overlaps(&NodePattern::parse("nsu=urn:q;i=7").unwrap()));
    }

    #[test]
    fn wrong_patterns_are_refused() {
        type E = NodePatternError;
        assert!(matches!(NodePattern::parse("ns=2;s=a"), Err(E::NamespaceIndex { .. })));
        assert!(matches!(NodePattern::parse("nsu=urn:{x};s=a"), Err(E::Namespace { .. })));
        assert!(matches!(NodePattern::parse("nsu=urn:p;i={x}"), Err(E::CaptureInNonText)));
        assert!(matches!(NodePattern::parse("nsu=urn:p;s={a}{b}"), Err(E::Adjacent)));
        assert!(matches!(NodePattern::parse("nsu=urn:p;s={a}.{a}"), Err(E::Repeated { .. })));
        assert!(matches!(NodePattern::parse("nsu=urn:p;x=1"), Err(E::Identifier { .. })));
        assert!(matches!(NodePattern::parse("nsu=urn:p;i=-1"), Err(E::Identifier { .. })));
        assert!(matches!(NodePattern::parse("s={a"), Err(E::Brace { .. })));
    }

    #[test]
    fn namespaces_are_decoded_and_printed_back() {
        let pattern = NodePattern::parse("nsu=urn:a%3Bb;i=42").unwrap();
        assert_eq!(pattern.namespace(), "urn:a;b");
        assert_eq!(pattern.literal().unwrap().to_string(), "nsu=urn:a%3Bb;i=42");
        assert_eq!(NodePattern::parse("i=2258").unwrap().literal().unwrap().to_string(), "i=2258");
    }
}

//! How the bytes of a device are read.

/// How the bytes of a request are read: `payload` of a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PayloadFormat {
    /// Plain text, by the JSON grammar for numbers and truth values.
    Text,
    /// JSON (RFC 8259).
    Json,
    /// CBOR (RFC 8949).
    Cbor,
    /// SenML in JSON or CBOR (RFC 8428).
    Senml,
    /// Bytes without meaning.
    Raw,
}

impl PayloadFormat {
    /// Every format, in the order in which messages list them.
    pub const ALL: [Self; 5] = [Self::Text, Self::Json, Self::Cbor, Self::Senml, Self::Raw];

    /// Returns the word used in mapping files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
            Self::Cbor => "cbor",
            Self::Senml => "senml",
            Self::Raw => "raw",
        }
    }
}

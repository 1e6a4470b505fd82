//! Texts and secrets as they stand in packets.

use std::{fmt, ops::Deref, sync::Arc};

use bytes::Bytes;
use thiserror::Error;

/// Most bytes a text or binary field may have: its length has 16 bits.
pub(crate) const FIELD_BYTES_MAX: usize = 65_535;

/// Why a text cannot be sent.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TextError {
    /// The text is longer than 65 535 bytes (MQTT 5.0, section 1.5.4).
    #[error("is {bytes} bytes long, at most 65535 are allowed")]
    TooLong {
        /// Length of the text.
        bytes: usize,
    },
    /// The text holds U+0000 (MQTT-1.5.4-2).
    #[error("must not contain U+0000")]
    Null,
}

/// A UTF-8 encoded string of MQTT: at most 65 535 bytes, no U+0000; may be empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text(Arc<str>);

impl Text {
    /// Checks `text` and takes it.
    ///
    /// # Errors
    ///
    /// [`TextError`] says what is wrong with the text.
    pub fn new(text: &str) -> Result<Self, TextError> {
        if text.len() > FIELD_BYTES_MAX {
            return Err(TextError::TooLong { bytes: text.len() });
        }
        if text.as_bytes().contains(&0) {
            return Err(TextError::Null);
        }
        Ok(Self(text.into()))
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the text for sharing.
    pub fn into_arc(self) -> Arc<str> {
        self.0
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Text {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A password or authentication data, at most 65 535 bytes. Does not show itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Bytes);

impl Password {
    /// Takes the bytes of a password; `None` if there are more than 65 535.
    pub fn new(bytes: impl Into<Bytes>) -> Option<Self> {
        let bytes = bytes.into();
        (bytes.len() <= FIELD_BYTES_MAX).then_some(Self(bytes))
    }

    /// Returns the secret.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Password(…)")
    }
}

//! What the `{name}`s of a pattern stood for.

use std::{fmt, sync::Arc};

use thiserror::Error;

/// The name of a capture: a letter, then letters, digits, `-` or `_`; at most 32 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CaptureName(Arc<str>);

/// Why a text cannot name a capture.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{text}` is not a capture name: a letter, then up to 31 letters, digits, `-` or `_`")]
pub struct CaptureNameError {
    /// The text as it was found.
    pub text: String,
}

impl CaptureName {
    /// Checks `text` and takes it as a name.
    ///
    /// # Errors
    ///
    /// [`CaptureNameError`] if it is not one.
    pub fn new(text: &str) -> Result<Self, CaptureNameError> {
        let mut characters = text.chars();
        let starts = characters.next().is_some_and(|first| first.is_ascii_alphabetic());
        let goes_on =
            characters.all(|next| next.is_ascii_alphanumeric() || matches!(next, '-' | '_'));
        if starts && goes_on && text.len() <= 32 {
            Ok(Self(text.into()))
        } else {
            Err(CaptureNameError { text: text.chars().take(40).collect() })
        }
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CaptureName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The texts that the captures of one pattern stood for, in the order of the pattern. Cheap to clone.
///
/// With `each`, the name of the member follows as the last one. The texts are decoded, not yet encoded
/// for a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Captures(Arc<[Box<str>]>);

impl Captures {
    /// Takes the texts in order.
    pub fn new(texts: impl IntoIterator<Item = Box<str>>) -> Self {
        Self(texts.into_iter().collect())
    }

    /// Returns captures of a pattern that has none.
    pub fn none() -> Self {
        Self(Arc::new([]))
    }

    /// Returns these captures with one more behind them.
    pub fn with(&self, last: &str) -> Self {
        Self(self.0.iter().cloned().chain([last.into()]).collect())
    }

    /// Returns the text of the capture at `index`.
    pub fn get(&self, index: usize) -> Option<&str> {
        self.0.get(index).map(|text| &**text)
    }

    /// Returns the texts in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        self.0.iter().map(|text| &**text)
    }

    /// Returns how many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

//! Purge lists: which properties are set, so that the other side forgets all others.

use std::{collections::BTreeSet, io::Write as _};

use flate2::{Compression, write::ZlibEncoder};
use thiserror::Error;
use tidegate_uplink::decoder::{DecodeError, Limits, Wrapping, inflate};

/// The most bytes that a list may have.
const LIST_BYTES_MAX: usize = 10 << 20;
/// What a list may be at most when it comes.
const LIMITS: Limits = Limits {
    wire: LIST_BYTES_MAX,
    inflated: LIST_BYTES_MAX,
    ratio: usize::MAX,
    depth: 0,
    elements: 0,
};
/// The bytes before the compressed text: how long that is.
const HEADER: usize = 4;

/// Why a list cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PurgeError {
    /// There are not even the bytes for the size.
    #[error("the list has {0} bytes; 4 are the least")]
    TooShort(usize),
    /// It cannot be decompressed, or not within bounds.
    #[error("the list {0}")]
    Compressed(#[source] DecodeError),
    /// It says that it is of another length.
    #[error("the list says that it has {said} bytes, and has {found}")]
    Size {
        /// What the header says.
        said: usize,
        /// What there is.
        found: usize,
    },
    /// It is no text.
    #[error("the list is no text")]
    NotText,
    /// An entry has no path.
    #[error("an entry of the list has no path")]
    Entry,
}

/// Writes a list of properties, each as interface and path.
pub fn write_list<'p>(properties: impl IntoIterator<Item = &'p str>) -> Vec<u8> {
    let text = properties.into_iter().collect::<Vec<_>>().join(";");
    let length = u32::try_from(text.len()).expect("properties are far below 4 GiB");
    let mut encoder = ZlibEncoder::new(length.to_be_bytes().to_vec(), Compression::default());
    encoder.write_all(text.as_bytes()).expect("a Vec takes everything");
    encoder.finish().expect("a Vec takes everything")
}

/// Reads a list of properties, each as interface and path.
///
/// At most 10 MiB are inflated. Both forms of the empty list are taken.
///
/// # Errors
///
/// [`PurgeError`].
pub fn read_list(payload: &[u8]) -> Result<BTreeSet<String>, PurgeError> {
    let (size, compressed) =
        payload.split_at_checked(HEADER).ok_or(PurgeError::TooShort(payload.len()))?;
    let said = size.iter().fold(0_usize, |size, byte| size << 8 | usize::from(*byte));
    if said == 0 && compressed.is_empty() {
        return Ok(BTreeSet::new());
    }
    let text = inflate(compressed, Wrapping::Zlib, &LIMITS).map_err(PurgeError::Compressed)?;
    if text.len() != said {
        return Err(PurgeError::Size { said, found: text.len() });
    }
    let text = String::from_utf8(text).map_err(|_| PurgeError::NotText)?;
    if text.is_empty() {
        return Ok(BTreeSet::new());
    }
    let entries = text.split(';').map(|entry| match entry.find('/') {
        Some(at) if at > 0 => Ok(entry.to_owned()),
        _ => Err(PurgeError::Entry),
    });
    entries.collect()
}

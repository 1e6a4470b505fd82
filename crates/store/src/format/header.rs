//! The headers of the identity file and of segments.

use crc32c::crc32c;

use super::FORMAT_VERSION;
use crate::input::Input;
use crate::position::Seq;

/// The size of a segment's header.
pub(crate) const HEADER_BYTES: usize = 40;
const IDENTITY_BYTES: usize = 24;
const SEGMENT_MAGIC: [u8; 8] = *b"TIDESEG\n";
const IDENTITY_MAGIC: [u8; 8] = *b"TIDEJRN\n";

/// The start of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) epoch: u64,
    pub(crate) number: u64,
    /// Every record of the segment has this number or a higher one.
    pub(crate) first_seq: Seq,
}

/// Why a header cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderError {
    /// It is not what was written.
    Damaged,
    /// It was written by a later version.
    Newer(u16),
}

impl SegmentHeader {
    pub(crate) fn encode(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&SEGMENT_MAGIC);
        bytes[8..10].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[20..28].copy_from_slice(&self.number.to_le_bytes());
        bytes[28..36].copy_from_slice(&self.first_seq.get().to_le_bytes());
        put_checksum(&mut bytes);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let mut fields = checked(bytes, HEADER_BYTES, SEGMENT_MAGIC)?;
        let mut word = || fields.array().map(u64::from_le_bytes).map_err(|_| HeaderError::Damaged);
        Ok(Self { epoch: word()?, number: word()?, first_seq: Seq::new(word()?) })
    }
}

/// The contents of the identity file.
pub(crate) mod identity {
    use super::{
        FORMAT_VERSION, HeaderError, IDENTITY_BYTES, IDENTITY_MAGIC, checked, put_checksum,
    };

    pub(crate) fn encode(epoch: u64) -> [u8; IDENTITY_BYTES] {
        let mut bytes = [0; IDENTITY_BYTES];
        bytes[..8].copy_from_slice(&IDENTITY_MAGIC);
        bytes[8..10].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[12..20].copy_from_slice(&epoch.to_le_bytes());
        put_checksum(&mut bytes);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<u64, HeaderError> {
        let mut fields = checked(bytes, IDENTITY_BYTES, IDENTITY_MAGIC)?;
        fields.array().map(u64::from_le_bytes).map_err(|_| HeaderError::Damaged)
    }
}

fn put_checksum(bytes: &mut [u8]) {
    let (covered, checksum) = bytes.split_at_mut(bytes.len() - 4);
    checksum.copy_from_slice(&crc32c(covered).to_le_bytes());
}

/// Returns the fields after magic and version of a header whose checksum is right.
///
/// Magic, version and the place of the checksum stay what they are in later versions.
fn checked(bytes: &[u8], length: usize, magic: [u8; 8]) -> Result<Input<'_>, HeaderError> {
    let header = bytes.get(..length).ok_or(HeaderError::Damaged)?;
    let (covered, checksum) = header.split_at(length - 4);
    if header[..8] != magic || *checksum != crc32c(covered).to_le_bytes() {
        return Err(HeaderError::Damaged);
    }
    match u16::from_le_bytes([header[8], header[9]]) {
        version if version > FORMAT_VERSION => Err(HeaderError::Newer(version)),
        _ => Ok(Input::new(&covered[12..])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_round_trips_and_notices_every_flipped_bit() {
        let header = SegmentHeader { epoch: 7, number: 3, first_seq: Seq::new(99) };
        let bytes = header.encode();
        assert_eq!(SegmentHeader::decode(&bytes), Ok(header));
        for bit in 0..HEADER_BYTES * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::decode(&damaged), Err(HeaderError::Damaged), "bit {bit}");
        }
    }

    #[test]
    fn a_newer_version_is_named() {
        let mut bytes = identity::encode(7);
        assert_eq!(identity::decode(&bytes), Ok(7));
        bytes[8..10].copy_from_slice(&(FORMAT_VERSION + 1).to_le_bytes());
        put_checksum(&mut bytes);
        assert_eq!(identity::decode(&bytes), Err(HeaderError::Newer(FORMAT_VERSION + 1)));
    }
}

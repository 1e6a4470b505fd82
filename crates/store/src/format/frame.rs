//! Frames: a checked header and a payload.

use crc32c::{crc32c, crc32c_append};

/// The size of a frame's header.
pub(crate) const FRAME_HEADER_BYTES: usize = 16;
/// The largest payload; what claims to be larger is damage.
const FRAME_BYTES_MAX: usize = 32 << 20;
/// The first bytes of every frame, by which the next one is found after damage.
pub(crate) const MARKER: [u8; 3] = [0xf5, 0x54, 0x47];

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameKind {
    /// Operations that count together or not at all.
    Transaction,
    /// The end of a group commit.
    Commit,
    /// The summary of the segment before.
    Predecessor,
    /// The start of a checkpoint, with the list of live segments.
    CheckpointBegin,
    /// Part of the state, as operations.
    CheckpointPart,
    /// The end of a checkpoint.
    CheckpointEnd,
    /// The summary of this segment, which is its end.
    Footer,
    /// Records in a spill file.
    Spilled,
}

impl FrameKind {
    fn code(self) -> u8 {
        match self {
            Self::Transaction => 1,
            Self::Commit => 2,
            Self::Predecessor => 3,
            Self::CheckpointBegin => 4,
            Self::CheckpointPart => 5,
            Self::CheckpointEnd => 6,
            Self::Footer => 7,
            Self::Spilled => 8,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Transaction,
            2 => Self::Commit,
            3 => Self::Predecessor,
            4 => Self::CheckpointBegin,
            5 => Self::CheckpointPart,
            6 => Self::CheckpointEnd,
            7 => Self::Footer,
            8 => Self::Spilled,
            _ => return None,
        })
    }
}

/// Ties the frames of a segment to their journal and segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Salt(u32);

impl Salt {
    pub(crate) fn new(epoch: u64, segment: u64) -> Self {
        Self(crc32c_append(crc32c(&epoch.to_le_bytes()), &segment.to_le_bytes()))
    }

    #[inline]
    fn header_checksum(self, offset: u64, header: &[u8; FRAME_HEADER_BYTES]) -> u32 {
        let mut covered = [0; 20];
        covered[..8].copy_from_slice(&offset.to_le_bytes());
        covered[8..].copy_from_slice(&header[..12]);
        crc32c_append(self.0, &covered)
    }
}

/// The header of a frame whose own checksum was right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) kind: FrameKind,
    pub(crate) length: usize,
    payload_checksum: u32,
}

impl FrameHeader {
    /// Reads a header that stands at `offset`; `None` if it is not one.
    #[inline]
    pub(crate) fn read(salt: Salt, offset: u64, bytes: &[u8]) -> Option<Self> {
        let header: &[u8; FRAME_HEADER_BYTES] = bytes.first_chunk()?;
        let word = |at: usize| {
            u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        if header[..3] != MARKER || salt.header_checksum(offset, header) != word(12) {
            return None;
        }
        let length = word(4) as usize;
        if length > FRAME_BYTES_MAX {
            return None;
        }
        Some(Self { kind: FrameKind::from_code(header[3])?, length, payload_checksum: word(8) })
    }

    /// Returns whether the payload is what was written.
    #[inline]
    pub(crate) fn matches(&self, payload: &[u8]) -> bool {
        crc32c(payload) == self.payload_checksum
    }
}

/// Starts a frame at the end of `buffer` and returns where; the payload is appended next.
pub(crate) fn open_frame(buffer: &mut Vec<u8>) -> usize {
    let start = buffer.len();
    buffer.extend_from_slice(&[0; FRAME_HEADER_BYTES]);
    start
}

/// Completes the frame that starts at `start`, but for its place in a segment.
pub(crate) fn seal_frame(buffer: &mut [u8], start: usize, kind: FrameKind) {
    let (header, payload) = buffer[start..].split_at_mut(FRAME_HEADER_BYTES);
    assert!(payload.len() <= FRAME_BYTES_MAX, "the limits of transactions keep frames small");
    header[..3].copy_from_slice(&MARKER);
    header[3] = kind.code();
    header[4..8].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    header[8..12].copy_from_slice(&crc32c(payload).to_le_bytes());
}

/// Ties sealed frames, one after the other, to the place where they are going to be written.
pub(crate) fn stamp_frames(frames: &mut [u8], salt: Salt, mut offset: u64) {
    let mut rest = frames;
    while !rest.is_empty() {
        let header = rest.first_chunk_mut().expect("frames are whole");
        let checksum = salt.header_checksum(offset, header);
        header[12..].copy_from_slice(&checksum.to_le_bytes());
        let length = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
        let frame_bytes = FRAME_HEADER_BYTES + length as usize;
        offset += frame_bytes as u64;
        rest = &mut rest[frame_bytes..];
    }
}

/// Appends one whole frame whose payload `write` appends.
pub(crate) fn write_frame(buffer: &mut Vec<u8>, kind: FrameKind, write: impl FnOnce(&mut Vec<u8>)) {
    let start = open_frame(buffer);
    write(buffer);
    seal_frame(buffer, start, kind);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(payload: &[u8], salt: Salt, offset: u64) -> Vec<u8> {
        let mut buffer = Vec::new();
        write_frame(&mut buffer, FrameKind::Commit, |buffer| buffer.extend_from_slice(payload));
        stamp_frames(&mut buffer, salt, offset);
        buffer
    }

    #[test]
    fn a_frame_is_one_only_where_it_was_written() {
        let salt = Salt::new(1, 2);
        let bytes = frame(b"payload", salt, 100);
        let header = FrameHeader::read(salt, 100, &bytes).unwrap();
        assert_eq!(header.length, 7);
        assert!(header.matches(b"payload"));
        assert!(!header.matches(b"paylaod"));
        for (salt, offset) in [(Salt::new(1, 3), 100), (Salt::new(2, 2), 100), (salt, 101)] {
            assert_eq!(FrameHeader::read(salt, offset, &bytes), None);
        }
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_noticed() {
        let salt = Salt::new(1, 2);
        let bytes = frame(b"payload", salt, 0);
        for bit in 0..FRAME_HEADER_BYTES * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(FrameHeader::read(salt, 0, &damaged), None, "bit {bit}");
        }
    }
}

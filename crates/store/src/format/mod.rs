//! The layout of the files.
//!
//! ```text
//! identity                 magic, format version, epoch, checksum
//! closed                   where the log ended at the last orderly stop, and each taker's position
//! segment-0000000007.log   the log, in numbered segments
//! spill-…-….log            records moved out of the journal: number of their taker, of the file (`src/spill`)
//! quarantine-…             copies of damaged bytes: number of the segment, offset
//! ```
//!
//! A file is made under a name that ends in `.new`, filled, synced, renamed, and the directory is
//! synced: under its final name it was once whole.
//!
//! A segment is a header of [`HEADER_BYTES`] and then frames:
//!
//! ```text
//! header │ predecessor │ begin, state…, end │ transaction… commit │ transaction… commit │ … │ footer
//!        │  what the   │ the whole state:   │  one group commit   │                     │   │ once
//!        │  segment    │ a checkpoint       │                     │                     │   │ sealed
//!        │  before held│                    │                     │                     │   │
//! ```
//!
//! *Begin* lists the live segments before this one with their lengths and the ranges of their
//! records; it is the truth about them. *Footer* and *predecessor* hold, for each taker, the count
//! and the first and last record of a segment.
//!
//! A frame is a header of 16 bytes (marker, kind, length, checksum of the payload, checksum of
//! the header) and the payload. Numbers are little-endian, within payloads varints. The header's
//! checksum also covers the journal's epoch, the segment's number and the frame's offset, so that
//! bytes are a frame only where they were written: not in a stale or foreign file, and not inside a
//! payload that somebody made look like one. It also makes the length trustworthy when the payload
//! is damaged, and a search for the next frame after damage safe.

mod checkpoint;
mod frame;
mod header;
mod op;

pub(crate) use self::checkpoint::{Begin, CommitMark, End, SegmentEntry};
pub(crate) use self::frame::{
    FRAME_HEADER_BYTES, FrameHeader, FrameKind, MARKER, Salt, open_frame, seal_frame, stamp_frames,
    write_frame,
};
pub(crate) use self::header::{HEADER_BYTES, HeaderError, SegmentHeader, identity};
pub(crate) use self::op::{
    Op, Ops, put_append, put_damage, put_delete, put_position, put_release, put_retire, put_settle,
    put_value,
};

use crate::position::TakerId;

/// The version of the layout. Files of a newer one are refused, never touched.
pub(crate) const FORMAT_VERSION: u16 = 1;

/// The file that holds the journal's identity.
pub(crate) const IDENTITY_FILE: &str = "identity";
/// The file that holds the mark of an orderly stop.
pub(crate) const CLOSED_FILE: &str = "closed";
/// The end of the name of a file that is not finished.
pub(crate) const UNFINISHED_SUFFIX: &str = ".new";

/// Returns the name of a segment.
pub(crate) fn segment_name(number: u64) -> String {
    format!("segment-{number:010}.log")
}

/// Returns the number of a segment from its name, if it is one.
pub(crate) fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("segment-")?.strip_suffix(".log")?;
    let number = digits.parse().ok()?;
    (segment_name(number) == name).then_some(number)
}

/// Returns the name of a spill file.
pub(crate) fn spill_name(taker: TakerId, number: u64) -> String {
    format!("spill-{:010}-{number:010}.log", taker.get())
}

/// Returns whose spill file has a name, and its number, if it is one.
pub(crate) fn spill_of_name(name: &str) -> Option<(TakerId, u64)> {
    let numbers = name.strip_prefix("spill-")?.strip_suffix(".log")?;
    let (taker, number) = numbers.split_once('-')?;
    let (taker, number) = (TakerId::new(taker.parse().ok()?), number.parse().ok()?);
    (spill_name(taker, number) == name).then_some((taker, number))
}

/// Returns the name for a copy of damaged bytes.
pub(crate) fn quarantine_name(segment: u64, offset: u64) -> String {
    format!("quarantine-{segment:010}-{offset:010}.bin")
}

/// Returns whether a file is a copy of damaged bytes.
pub(crate) fn is_quarantine(name: &str) -> bool {
    name.starts_with("quarantine-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_segment_only_in_one_spelling() {
        for (name, number) in [
            ("segment-0000000007.log", Some(7)),
            ("segment-12345678901.log", Some(12_345_678_901)),
            ("segment-7.log", None),
            ("segment-+000000007.log", None),
            ("segment-0000000007.log.new", None),
            ("identity", None),
        ] {
            assert_eq!(segment_number(name), number, "{name}");
        }
    }
}

//! Small files that are replaced as a whole: the identity and the mark of an orderly stop.

use std::collections::BTreeMap;
use std::io;

use crc32c::crc32c;

use crate::file_system::{File, FileSystem};
use crate::format::UNFINISHED_SUFFIX;
use crate::input::{Input, Malformed, put_varint};
use crate::position::{Position, Seq, TakerId};

/// Small files that claim to be larger are not read.
const BYTES_MAX: u64 = 64 << 20;

/// Reads a file as a whole; `None` if there is none.
pub(crate) fn read<F: FileSystem>(files: &F, name: &str) -> io::Result<Option<Vec<u8>>> {
    let file = match files.open(name) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let length = file.len()?.min(BYTES_MAX);
    let mut bytes = vec![0; length as usize];
    let read = file.read_at(0, &mut bytes)?;
    bytes.truncate(read);
    Ok(Some(bytes))
}

/// Puts a file in the place of another, so that at any moment one of them is there and whole.
pub(crate) fn replace<F: FileSystem>(files: &F, name: &str, bytes: &[u8]) -> io::Result<()> {
    let unfinished = format!("{name}{UNFINISHED_SUFFIX}");
    let file = create_anew(files, &unfinished)?;
    file.write_at(0, bytes)?;
    file.sync_data()?;
    files.rename(&unfinished, name)?;
    files.sync_directory()
}

/// Creates a file; one of that name that was never finished is removed.
pub(crate) fn create_anew<F: FileSystem>(files: &F, name: &str) -> io::Result<F::File> {
    match files.create(name) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            files.remove(name)?;
            files.create(name)
        }
        other => other,
    }
}

/// Where the log ended at the last orderly stop.
///
/// Everything up to there was durable, so an end before it proves a loss and tells its extent, even
/// if the mark is old.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClosedMark {
    pub(crate) epoch: u64,
    pub(crate) segment: u64,
    pub(crate) length: u64,
    /// The first segment that was not released.
    pub(crate) first_segment: u64,
    pub(crate) last_seq: Seq,
    pub(crate) positions: BTreeMap<TakerId, Position>,
}

impl ClosedMark {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; 4];
        put_varint(&mut bytes, self.epoch);
        put_varint(&mut bytes, self.segment);
        put_varint(&mut bytes, self.length);
        put_varint(&mut bytes, self.first_segment);
        put_varint(&mut bytes, self.last_seq.get());
        for (taker, position) in &self.positions {
            put_varint(&mut bytes, u64::from(taker.get()));
            put_varint(&mut bytes, position.seq.get());
            put_varint(&mut bytes, position.ordinal);
        }
        let checksum = crc32c(&bytes[4..]);
        bytes[..4].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let (checksum, covered) = bytes.split_at_checked(4).ok_or(Malformed)?;
        if *checksum != crc32c(covered).to_le_bytes() {
            return Err(Malformed);
        }
        let mut input = Input::new(covered);
        let mut mark = Self {
            epoch: input.varint()?,
            segment: input.varint()?,
            length: input.varint()?,
            first_segment: input.varint()?,
            last_seq: Seq::new(input.varint()?),
            positions: BTreeMap::new(),
        };
        while !input.is_empty() {
            let taker = TakerId::new(input.varint_u32()?);
            let position = Position { seq: Seq::new(input.varint()?), ordinal: input.varint()? };
            mark.positions.insert(taker, position);
        }
        Ok(mark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_round_trips_and_notices_damage() {
        let position = Position { seq: Seq::new(900), ordinal: 70 };
        let mark = ClosedMark {
            epoch: u64::MAX,
            segment: 3,
            length: 4_096,
            first_segment: 2,
            last_seq: Seq::new(901),
            positions: [(TakerId::new(1), position)].into(),
        };
        let bytes = mark.encode();
        assert_eq!(ClosedMark::decode(&bytes), Ok(mark));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(ClosedMark::decode(&damaged), Err(Malformed), "byte {at}");
            assert_eq!(ClosedMark::decode(&bytes[..at]), Err(Malformed), "length {at}");
        }
    }
}

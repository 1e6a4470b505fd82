//! The payloads of the frames that hold the log together.

use crate::input::{Input, Malformed, put_varint};
use crate::position::{Seq, TakerId};

/// What a later segment says about an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentEntry {
    pub(crate) number: u64,
    /// Where the segment ends; bytes beyond it do not count.
    pub(crate) length: u64,
    /// Where its footer stands, if it was sealed.
    pub(crate) footer: Option<u64>,
    pub(crate) records: u64,
    /// The first and the last record; both [`Seq::ORIGIN`] if there is none.
    pub(crate) first_seq: Seq,
    pub(crate) last_seq: Seq,
}

/// The start of a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Begin {
    /// The last record number that was given out before this segment's first group.
    pub(crate) last_seq: Seq,
    /// The name for the next damage.
    pub(crate) next_damage: u64,
    /// The live segments before this one, oldest first.
    pub(crate) segments: Vec<SegmentEntry>,
}

impl Begin {
    pub(crate) fn encode(&self, buffer: &mut Vec<u8>) {
        put_varint(buffer, self.last_seq.get());
        put_varint(buffer, self.next_damage);
        put_varint(buffer, self.segments.len() as u64);
        for entry in &self.segments {
            put_varint(buffer, entry.number);
            put_varint(buffer, entry.length);
            put_varint(buffer, entry.footer.unwrap_or(0));
            put_varint(buffer, entry.records);
            put_varint(buffer, entry.first_seq.get());
            put_varint(buffer, entry.last_seq.get());
        }
    }

    pub(crate) fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        let mut input = Input::new(payload);
        let last_seq = Seq::new(input.varint()?);
        let next_damage = input.varint()?;
        let count = input.varint()?;
        let mut segments = Vec::new();
        for _ in 0..count {
            segments.push(SegmentEntry {
                number: input.varint()?,
                length: input.varint()?,
                footer: Some(input.varint()?).filter(|&offset| offset > 0),
                records: input.varint()?,
                first_seq: Seq::new(input.varint()?),
                last_seq: Seq::new(input.varint()?),
            });
        }
        let rising = segments.is_sorted_by(|one, next| one.number < next.number);
        if rising && input.is_empty() {
            Ok(Self { last_seq, next_damage, segments })
        } else {
            Err(Malformed)
        }
    }
}

/// The end of a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct End {
    /// How many parts must have come since the start.
    pub(crate) parts: u64,
    /// How many bytes the group that follows takes up, its commit record included. It was synced
    /// with the checkpoint.
    pub(crate) group_bytes: u64,
    /// What the commit record of that group says.
    pub(crate) group: CommitMark,
}

impl End {
    pub(crate) fn encode(&self, buffer: &mut Vec<u8>) {
        put_varint(buffer, self.parts);
        put_varint(buffer, self.group_bytes);
        self.group.encode(buffer);
    }

    pub(crate) fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        let mut input = Input::new(payload);
        let (parts, group_bytes) = (input.varint()?, input.varint()?);
        Ok(Self { parts, group_bytes, group: CommitMark::read(&mut input)? })
    }
}

/// The end of a group commit.
///
/// It repeats what the group holds, so that the loss of the last transactions of the log can be
/// told exactly.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CommitMark {
    /// How many bytes the group takes up before this frame.
    pub(crate) bytes: u64,
    /// The first and the last record; both [`Seq::ORIGIN`] if there is none.
    pub(crate) first_seq: Seq,
    pub(crate) last_seq: Seq,
    /// The last ordinal of each taker in the group, and of some in the groups before.
    pub(crate) takers: Vec<(TakerId, u64)>,
}

impl CommitMark {
    pub(crate) fn encode(&self, buffer: &mut Vec<u8>) {
        put_varint(buffer, self.bytes);
        put_varint(buffer, self.first_seq.get());
        put_varint(buffer, self.last_seq.get());
        for &(taker, ordinal) in &self.takers {
            put_varint(buffer, u64::from(taker.get()));
            put_varint(buffer, ordinal);
        }
    }

    pub(crate) fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        Self::read(&mut Input::new(payload))
    }

    /// Reads a mark up to the end of `input`.
    fn read(input: &mut Input<'_>) -> Result<Self, Malformed> {
        let mut mark = Self {
            bytes: input.varint()?,
            first_seq: Seq::new(input.varint()?),
            last_seq: Seq::new(input.varint()?),
            takers: Vec::new(),
        };
        while !input.is_empty() {
            mark.takers.push((TakerId::new(input.varint_u32()?), input.varint()?));
        }
        Ok(mark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let entry = SegmentEntry {
            number: 7,
            length: 900,
            footer: Some(800),
            records: 3,
            first_seq: Seq::new(10),
            last_seq: Seq::new(14),
        };
        let begin = Begin {
            last_seq: Seq::new(20),
            next_damage: 2,
            segments: vec![entry, SegmentEntry { number: 9, footer: None, ..entry }],
        };
        let mut buffer = Vec::new();
        begin.encode(&mut buffer);
        assert_eq!(Begin::decode(&buffer), Ok(begin));

        let mark = CommitMark {
            bytes: 300,
            first_seq: Seq::new(10),
            last_seq: Seq::new(11),
            takers: vec![(TakerId::new(1), 5), (TakerId::new(300), 700)],
        };
        let end = End { parts: 3, group_bytes: 340, group: mark };
        let mut buffer = Vec::new();
        end.encode(&mut buffer);
        assert_eq!(End::decode(&buffer), Ok(end));
    }
}

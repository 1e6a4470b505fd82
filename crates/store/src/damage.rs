//! What recovery found missing or unreadable.

use std::fmt;

use crate::input::{Input, Malformed, put_bytes, put_varint};
use crate::position::{Seq, TakerId};

/// Names a damage until it is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DamageId(u64);

impl DamageId {
    pub(crate) fn new(number: u64) -> Self {
        Self(number)
    }

    /// Returns the number.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }
}

/// One stretch of the journal that could not be read.
///
/// A damage is reported by every [`Journal::open`](crate::Journal::open) until a transaction
/// [settles](crate::Transaction::settle) it, so that counting it and striking it off the list can
/// be one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Names this damage.
    pub id: DamageId,
    /// What it is.
    pub kind: DamageKind,
    /// The file.
    pub file: String,
    /// Where in the file.
    pub offset: u64,
    /// How many bytes.
    pub bytes: u64,
    /// The first record number that may have been lost; [`Seq::ORIGIN`] if none was.
    pub first_seq: Seq,
    /// The last record number that may have been lost. If [`DamageKind::is_open_ended`] it is an
    /// upper bound.
    pub last_seq: Seq,
    /// How many records each taker lost, as far as the ordinals of its other records tell.
    pub takers: Vec<TakerLoss>,
    /// Whether the bytes were copied to a quarantine file.
    pub quarantined: bool,
}

/// How many records one taker lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TakerLoss {
    /// The taker.
    pub taker: TakerId,
    /// The number of its records that are missing.
    pub records: u64,
}

/// What kind of damage it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DamageKind {
    /// Bytes before the last commit record were changed. All records around them are kept.
    Frames,
    /// The log ended in bytes that are no whole record: what a power cut leaves of a write that was
    /// never acknowledged. They are cut off. If the stop before was orderly, records that had been
    /// acknowledged may be among them; then they are named.
    Tail,
    /// A whole segment is missing, empty or unreadable, and its exact range is known.
    Segment,
    /// The newest segment is missing, empty or unreadable; how much it held is not known.
    NewestSegment,
    /// A segment's header, footer or checkpoint, all of which exist twice. Nothing is lost.
    Redundant,
    /// No copy of the state was readable: it was rebuilt from what is left of the log.
    State,
}

impl DamageKind {
    /// Returns whether the end of the lost range is only an upper bound.
    #[must_use]
    pub fn is_open_ended(self) -> bool {
        self == Self::NewestSegment
    }

    fn code(self) -> u8 {
        match self {
            Self::Frames => 1,
            Self::Tail => 2,
            Self::Segment => 3,
            Self::NewestSegment => 4,
            Self::Redundant => 5,
            Self::State => 6,
        }
    }

    fn from_code(code: u8) -> Result<Self, Malformed> {
        Ok(match code {
            1 => Self::Frames,
            2 => Self::Tail,
            3 => Self::Segment,
            4 => Self::NewestSegment,
            5 => Self::Redundant,
            6 => Self::State,
            _ => return Err(Malformed),
        })
    }
}

impl Damage {
    /// Returns how many records of all takers together are known to be missing.
    #[must_use]
    pub fn records_lost(&self) -> u64 {
        self.takers.iter().map(|loss| loss.records).sum()
    }

    /// Returns whether a record, or an undelivered change of the state, may have been lost.
    #[must_use]
    pub fn may_have_lost(&self) -> bool {
        match self.kind {
            DamageKind::Frames
            | DamageKind::Segment
            | DamageKind::NewestSegment
            | DamageKind::State => true,
            DamageKind::Tail => self.first_seq != Seq::ORIGIN,
            DamageKind::Redundant => false,
        }
    }

    pub(crate) fn encode(&self, buffer: &mut Vec<u8>) {
        put_varint(buffer, self.id.0);
        buffer.push(self.kind.code());
        put_bytes(buffer, self.file.as_bytes());
        put_varint(buffer, self.offset);
        put_varint(buffer, self.bytes);
        put_varint(buffer, self.first_seq.get());
        put_varint(buffer, self.last_seq.get());
        buffer.push(u8::from(self.quarantined));
        put_varint(buffer, self.takers.len() as u64);
        for loss in &self.takers {
            put_varint(buffer, u64::from(loss.taker.get()));
            put_varint(buffer, loss.records);
        }
    }

    pub(crate) fn decode(input: &mut Input<'_>) -> Result<Self, Malformed> {
        let mut damage = Self {
            id: DamageId(input.varint()?),
            kind: DamageKind::from_code(input.u8()?)?,
            file: input.text()?.to_owned(),
            offset: input.varint()?,
            bytes: input.varint()?,
            first_seq: Seq::new(input.varint()?),
            last_seq: Seq::new(input.varint()?),
            quarantined: input.u8()? != 0,
            takers: Vec::new(),
        };
        for _ in 0..input.varint()? {
            let taker = TakerId::new(input.varint_u32()?);
            damage.takers.push(TakerLoss { taker, records: input.varint()? });
        }
        Ok(damage)
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, offset, bytes, first_seq, last_seq, .. } = self;
        let kind = match self.kind {
            DamageKind::Frames => "damaged bytes",
            DamageKind::Tail => "unfinished end of the log",
            DamageKind::Segment => "lost segment",
            DamageKind::NewestSegment => "lost newest segment",
            DamageKind::Redundant => "damaged header, footer or checkpoint",
            DamageKind::State => "lost state",
        };
        write!(formatter, "{kind}: {file}, offset {offset}, {bytes} bytes")?;
        if *first_seq != Seq::ORIGIN {
            write!(formatter, ", records {first_seq} to {last_seq}")?;
        }
        write!(formatter, ", {} missing for takers", self.records_lost())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damage_round_trips() {
        let damage = Damage {
            id: DamageId(3),
            kind: DamageKind::Frames,
            file: "segment-0000000001.log".to_owned(),
            offset: 1_000,
            bytes: 77,
            first_seq: Seq::new(5),
            last_seq: Seq::new(9),
            takers: vec![TakerLoss { taker: TakerId::new(2), records: 4 }],
            quarantined: true,
        };
        let mut buffer = Vec::new();
        damage.encode(&mut buffer);
        let mut input = Input::new(&buffer);
        assert_eq!(Damage::decode(&mut input), Ok(damage));
        assert!(input.is_empty());
    }
}

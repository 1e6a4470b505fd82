//! What a segment holds, per taker.

use std::collections::BTreeMap;

use crate::input::{Input, Malformed, put_varint};
use crate::position::{Position, Seq, TakerId};

/// The records of one taker in one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TakerSummary {
    /// How many there are.
    pub records: u64,
    /// The first one.
    pub first: Position,
    /// The last one.
    pub last: Position,
}

/// The records of one segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) records: u64,
    /// The first and the last record; both [`Seq::ORIGIN`] if there is none.
    pub(crate) first_seq: Seq,
    pub(crate) last_seq: Seq,
    pub(crate) takers: BTreeMap<TakerId, TakerSummary>,
}

impl Summary {
    /// Counts a record.
    #[inline]
    pub(crate) fn add_record(&mut self, seq: Seq) {
        if self.records == 0 {
            self.first_seq = seq;
        }
        self.records += 1;
        self.last_seq = seq;
    }

    /// Counts a record for one of its takers.
    #[inline]
    pub(crate) fn add_taker(&mut self, taker: TakerId, position: Position) {
        let summary = self.takers.entry(taker).or_insert(TakerSummary {
            records: 0,
            first: position,
            last: position,
        });
        summary.records += 1;
        summary.last = position;
    }

    pub(crate) fn encode(&self, buffer: &mut Vec<u8>) {
        put_varint(buffer, self.records);
        put_varint(buffer, self.first_seq.get());
        put_varint(buffer, self.last_seq.get());
        put_varint(buffer, self.takers.len() as u64);
        for (taker, summary) in &self.takers {
            put_varint(buffer, u64::from(taker.get()));
            put_varint(buffer, summary.records);
            for position in [summary.first, summary.last] {
                put_varint(buffer, position.seq.get());
                put_varint(buffer, position.ordinal);
            }
        }
    }

    pub(crate) fn decode(input: &mut Input<'_>) -> Result<Self, Malformed> {
        let mut summary = Self {
            records: input.varint()?,
            first_seq: Seq::new(input.varint()?),
            last_seq: Seq::new(input.varint()?),
            takers: BTreeMap::new(),
        };
        for _ in 0..input.varint()? {
            let taker = TakerId::new(input.varint_u32()?);
            let records = input.varint()?;
            let mut position =
                || Ok(Position { seq: Seq::new(input.varint()?), ordinal: input.varint()? });
            let taken = TakerSummary { records, first: position()?, last: position()? };
            summary.takers.insert(taker, taken);
        }
        Ok(summary)
    }
}

/// What a segment says about the one before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Predecessor {
    pub(crate) number: u64,
    pub(crate) summary: Summary,
}

impl Predecessor {
    pub(crate) fn encode(&self, buffer: &mut Vec<u8>) {
        put_varint(buffer, self.number);
        self.summary.encode(buffer);
    }

    pub(crate) fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        let mut input = Input::new(payload);
        Ok(Self { number: input.varint()?, summary: Summary::decode(&mut input)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_round_trips() {
        let mut summary = Summary::default();
        for number in 5..9 {
            let seq = Seq::new(number);
            summary.add_record(seq);
            summary.add_taker(TakerId::new(1), Position { seq, ordinal: number * 2 });
        }
        summary.add_taker(TakerId::new(9), Position { seq: Seq::new(8), ordinal: 1 });
        let predecessor = Predecessor { number: 4, summary };
        let mut buffer = Vec::new();
        predecessor.encode(&mut buffer);
        assert_eq!(Predecessor::decode(&buffer), Ok(predecessor));
    }
}

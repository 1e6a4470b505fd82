//! Operations: what a transaction does to the log and the state, and how a checkpoint states it.

use crate::damage::{Damage, DamageId};
use crate::input::{Input, Malformed, put_bytes, put_varint};
use crate::position::{Position, Seq, TakerId};

const APPEND: u8 = 1;
const PUT: u8 = 2;
const DELETE: u8 = 3;
const RETIRE: u8 = 4;
const RELEASE: u8 = 5;
const SETTLE: u8 = 6;
const POSITION: u8 = 7;
const DAMAGE: u8 = 8;

/// One operation, borrowed from a frame.
#[derive(Clone, Debug)]
pub(crate) enum Op<'a> {
    /// Adds a data record.
    Append { seq: Seq, takers: Takers<'a>, body: &'a [u8] },
    /// Sets a key of the state.
    Put { key: &'a [u8], value: &'a [u8] },
    /// Removes a key of the state.
    Delete { key: &'a [u8] },
    /// Forgets a taker.
    Retire { taker: TakerId },
    /// Gives up all segments before this one.
    Release { first_segment: u64 },
    /// Strikes a damage that has been dealt with off the list.
    Settle { damage: DamageId },
    /// States the last record of a taker; in checkpoints only.
    Position { taker: TakerId, position: Position },
    /// States a damage that has not been dealt with; in checkpoints only.
    Damage(Box<Damage>),
}

/// The takers of one record and its number among theirs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Takers<'a>(Input<'a>);

impl Takers<'_> {
    /// Returns the next taker and the record's ordinal for it.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<(TakerId, u64)>, Malformed> {
        if self.0.is_empty() {
            return Ok(None);
        }
        Ok(Some((TakerId::new(self.0.varint_u32()?), self.0.varint()?)))
    }
}

/// The operations of one payload, in order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ops<'a>(Input<'a>);

impl<'a> Ops<'a> {
    #[inline]
    pub(crate) fn new(payload: &'a [u8]) -> Self {
        Self(Input::new(payload))
    }

    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<Op<'a>>, Malformed> {
        let input = &mut self.0;
        if input.is_empty() {
            return Ok(None);
        }
        Ok(Some(match input.u8()? {
            APPEND => {
                let seq = Seq::new(input.varint()?);
                let takers = Takers(Input::new(input.bytes()?));
                Op::Append { seq, takers, body: input.bytes()? }
            }
            PUT => Op::Put { key: input.bytes()?, value: input.bytes()? },
            DELETE => Op::Delete { key: input.bytes()? },
            RETIRE => Op::Retire { taker: TakerId::new(input.varint_u32()?) },
            RELEASE => Op::Release { first_segment: input.varint()? },
            SETTLE => Op::Settle { damage: DamageId::new(input.varint()?) },
            POSITION => Op::Position {
                taker: TakerId::new(input.varint_u32()?),
                position: Position { seq: Seq::new(input.varint()?), ordinal: input.varint()? },
            },
            DAMAGE => Op::Damage(Box::new(Damage::decode(input)?)),
            _ => return Err(Malformed),
        }))
    }

    /// Returns whether every operation can be read to its end.
    pub(crate) fn are_well_formed(mut self) -> bool {
        loop {
            match self.next() {
                Ok(Some(Op::Append { mut takers, .. })) => loop {
                    match takers.next() {
                        Ok(Some(_)) => {}
                        Ok(None) => break,
                        Err(Malformed) => return false,
                    }
                },
                Ok(Some(_)) => {}
                Ok(None) => return true,
                Err(Malformed) => return false,
            }
        }
    }
}

pub(crate) fn put_append(buffer: &mut Vec<u8>, seq: Seq, takers: &[(TakerId, u64)], body: &[u8]) {
    buffer.push(APPEND);
    put_varint(buffer, seq.get());
    let takers_bytes = takers
        .iter()
        .map(|&(taker, ordinal)| varint_bytes(u64::from(taker.get())) + varint_bytes(ordinal))
        .sum::<usize>();
    put_varint(buffer, takers_bytes as u64);
    for &(taker, ordinal) in takers {
        put_varint(buffer, u64::from(taker.get()));
        put_varint(buffer, ordinal);
    }
    put_bytes(buffer, body);
}

pub(crate) fn put_value(buffer: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    buffer.push(PUT);
    put_bytes(buffer, key);
    put_bytes(buffer, value);
}

pub(crate) fn put_delete(buffer: &mut Vec<u8>, key: &[u8]) {
    buffer.push(DELETE);
    put_bytes(buffer, key);
}

pub(crate) fn put_retire(buffer: &mut Vec<u8>, taker: TakerId) {
    buffer.push(RETIRE);
    put_varint(buffer, u64::from(taker.get()));
}

pub(crate) fn put_release(buffer: &mut Vec<u8>, first_segment: u64) {
    buffer.push(RELEASE);
    put_varint(buffer, first_segment);
}

pub(crate) fn put_settle(buffer: &mut Vec<u8>, damage: DamageId) {
    buffer.push(SETTLE);
    put_varint(buffer, damage.get());
}

pub(crate) fn put_position(buffer: &mut Vec<u8>, taker: TakerId, position: Position) {
    buffer.push(POSITION);
    put_varint(buffer, u64::from(taker.get()));
    put_varint(buffer, position.seq.get());
    put_varint(buffer, position.ordinal);
}

pub(crate) fn put_damage(buffer: &mut Vec<u8>, damage: &Damage) {
    buffer.push(DAMAGE);
    damage.encode(buffer);
}

/// Returns how many bytes a number takes up.
fn varint_bytes(number: u64) -> usize {
    (70 - (number | 1).leading_zeros() as usize) / 7
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_a_number_is_known_before_it_is_written() {
        for shift in 0..64 {
            for number in [1_u64 << shift, (1 << shift) - 1, u64::MAX >> shift] {
                let mut buffer = Vec::new();
                put_varint(&mut buffer, number);
                assert_eq!(varint_bytes(number), buffer.len(), "{number}");
            }
        }
    }

    #[test]
    fn a_cut_payload_is_not_well_formed() {
        let mut buffer = Vec::new();
        put_append(&mut buffer, Seq::new(300), &[(TakerId::new(1), 200)], b"body");
        let append_bytes = buffer.len();
        put_value(&mut buffer, b"key", b"value");
        for length in 0..=buffer.len() {
            let whole = [0, append_bytes, buffer.len()].contains(&length);
            assert_eq!(Ops::new(&buffer[..length]).are_well_formed(), whole, "{length}");
        }
    }
}

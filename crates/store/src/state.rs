//! The key-value state, the last record of each taker, and the damages not yet settled.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::damage::{Damage, DamageId};
use crate::format::{self, FrameKind, Op};
use crate::position::{Position, TakerId};

/// How large the parts of a checkpoint are, roughly.
const PART_BYTES: usize = 128 << 10;
/// What an entry takes up in a checkpoint beside key and value, at most.
const ENTRY_BYTES: usize = 8;
/// What a position takes up in a checkpoint, roughly.
const POSITION_BYTES: usize = 16;

/// Everything that a checkpoint holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) values: BTreeMap<Bytes, Bytes>,
    pub(crate) positions: BTreeMap<TakerId, Position>,
    pub(crate) damages: BTreeMap<DamageId, Damage>,
    values_bytes: usize,
}

impl State {
    /// Applies what concerns the state; the appending and releasing of records does not.
    pub(crate) fn apply(&mut self, op: &Op<'_>) {
        match op {
            Op::Put { key, value } => self.put(key, value),
            Op::Delete { key } => self.delete(key),
            Op::Retire { taker } => {
                self.positions.remove(taker);
            }
            Op::Settle { damage } => {
                self.damages.remove(damage);
            }
            Op::Position { taker, position } => {
                self.positions.insert(*taker, *position);
            }
            Op::Damage(damage) => {
                self.damages.insert(damage.id, (**damage).clone());
            }
            Op::Append { .. } | Op::Release { .. } => {}
        }
    }

    fn put(&mut self, key: &[u8], value: &[u8]) {
        let value = Bytes::copy_from_slice(value);
        self.values_bytes += value.len();
        if let Some(slot) = self.values.get_mut(key) {
            self.values_bytes -= slot.len();
            *slot = value;
        } else {
            self.values_bytes += key.len() + ENTRY_BYTES;
            self.values.insert(Bytes::copy_from_slice(key), value);
        }
    }

    fn delete(&mut self, key: &[u8]) {
        if let Some(value) = self.values.remove(key) {
            self.values_bytes -= key.len() + value.len() + ENTRY_BYTES;
        }
    }

    /// Estimates the size of a checkpoint.
    pub(crate) fn checkpoint_bytes(&self) -> u64 {
        (self.values_bytes + self.positions.len() * POSITION_BYTES) as u64
    }

    /// Hands the state to `part` as sealed frames of moderate size and returns their number.
    ///
    /// The positions are those before the group that follows, as given in `before`, so that damage
    /// to the group can be told.
    pub(crate) fn write_parts<E>(
        &self,
        before: &BTreeMap<TakerId, Position>,
        mut part: impl FnMut(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<u64, E> {
        let mut parts = PartWriter { buffer: Vec::new(), start: 0, parts: 0 };
        for (key, value) in &self.values {
            format::put_value(parts.ops(), key, value);
            parts.pass_on_if_large(&mut part)?;
        }
        let unchanged = self.positions.iter().filter(|(taker, _)| !before.contains_key(taker));
        for (taker, position) in unchanged.chain(before) {
            if *position != Position::START {
                format::put_position(parts.ops(), *taker, *position);
                parts.pass_on_if_large(&mut part)?;
            }
        }
        for damage in self.damages.values() {
            format::put_damage(parts.ops(), damage);
            parts.pass_on_if_large(&mut part)?;
        }
        parts.pass_on(&mut part)?;
        Ok(parts.parts)
    }
}

/// Cuts a stream of operations into frames.
struct PartWriter {
    buffer: Vec<u8>,
    start: usize,
    parts: u64,
}

impl PartWriter {
    fn ops(&mut self) -> &mut Vec<u8> {
        if self.buffer.is_empty() {
            self.start = format::open_frame(&mut self.buffer);
        }
        &mut self.buffer
    }

    fn pass_on_if_large<E>(
        &mut self,
        part: &mut impl FnMut(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.buffer.len() < PART_BYTES { Ok(()) } else { self.pass_on(part) }
    }

    fn pass_on<E>(
        &mut self,
        part: &mut impl FnMut(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        format::seal_frame(&mut self.buffer, self.start, FrameKind::CheckpointPart);
        self.parts += 1;
        part(&mut self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_is_counted_as_the_state_changes() {
        let mut state = State::default();
        state.apply(&Op::Put { key: b"a", value: b"12345" });
        state.apply(&Op::Put { key: b"b", value: b"1" });
        state.apply(&Op::Put { key: b"a", value: b"12" });
        assert_eq!(state.checkpoint_bytes(), (2 + 3 + 2 * ENTRY_BYTES) as u64);
        state.apply(&Op::Delete { key: b"a" });
        state.apply(&Op::Delete { key: b"b" });
        state.apply(&Op::Delete { key: b"c" });
        assert_eq!(state, State::default());
    }
}

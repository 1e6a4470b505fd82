//! What the journal keeps for an uplink, as read at a start.

use std::collections::BTreeMap;

use tidegate_model::{Topic, UplinkName};
use tidegate_store::Position;

use super::{Core, OpenError, dead_letters::DeadLetters};
use crate::{
    decision::{Entry, put_position, read_position},
    gaps::PendingGaps,
    keys::{Change, Key, Keys},
    ledger::Outcomes,
    streams::{Streams, read_page},
    wire::{Input, Malformed, put_varint},
};

const VERSION: u8 = 1;

/// All entries of one uplink but the outcomes of commands.
#[derive(Debug)]
pub(super) struct Saved {
    pub(super) cursor: Position,
    pub(super) next_batch: u64,
    pub(super) totals: Outcomes,
    pub(super) topics: BTreeMap<u32, Topic>,
    pub(super) pages: BTreeMap<u32, Vec<u64>>,
    pub(super) gaps: PendingGaps,
    pub(super) batches: BTreeMap<u64, Entry>,
    pub(super) dead_letters: DeadLetters,
}

impl Saved {
    pub(super) fn read<'e>(
        keys: &Keys,
        entries: impl IntoIterator<Item = (&'e [u8], &'e [u8])>,
    ) -> Result<Self, OpenError> {
        let mut saved = Self {
            cursor: Position::START,
            next_batch: 1,
            totals: Outcomes::default(),
            topics: BTreeMap::new(),
            pages: BTreeMap::new(),
            gaps: PendingGaps::default(),
            batches: BTreeMap::new(),
            dead_letters: DeadLetters::default(),
        };
        for (key, value) in entries {
            let Some(key) = keys.parse(key) else { continue };
            saved.take(key, value).map_err(|Malformed| OpenError { what: what(key) })?;
        }
        Ok(saved)
    }

    fn take(&mut self, key: Key, value: &[u8]) -> Result<(), Malformed> {
        match key {
            Key::Books => {
                let mut input = Input::new(value);
                if input.u8()? != VERSION {
                    return Err(Malformed);
                }
                self.cursor = read_position(&mut input)?;
                self.next_batch = input.varint()?;
                self.totals = Outcomes::decode(&mut input)?;
                input.end()?;
            }
            Key::Batch(number) => {
                self.batches.insert(number, Entry::decode(value)?);
            }
            Key::Topic(stream) => {
                let text = std::str::from_utf8(value).map_err(|_| Malformed)?;
                self.topics.insert(stream, Topic::new(text).map_err(|_| Malformed)?);
            }
            Key::Numbers(page) => {
                self.pages.insert(page, read_page(value)?);
            }
            Key::Gaps(_) => self.gaps.restore(value)?,
            Key::DeadLetter(number) => self.dead_letters.restore(number, value.len()),
            Key::Outcome(_) => {}
        }
        Ok(())
    }
}

fn what(key: Key) -> &'static str {
    match key {
        Key::Books => "cursor and counters",
        Key::Batch(_) => "a decided batch",
        Key::Topic(_) => "the topic of a stream",
        Key::Numbers(_) => "the numbers of streams",
        Key::Gaps(_) => "the gaps",
        Key::DeadLetter(_) => "a dead letter",
        Key::Outcome(_) => "an outcome",
    }
}

impl Core {
    /// Returns cursor and counters as the journal keeps them.
    pub(super) fn books(&self, next_batch: u64) -> Vec<u8> {
        let mut value = vec![VERSION];
        put_position(&mut value, self.cursor);
        put_varint(&mut value, next_batch);
        self.totals.encode(&mut value);
        value
    }
}

/// Returns where the cursor of an uplink stands, from the journal's entries of that uplink.
///
/// # Errors
///
/// [`OpenError`] if the entry cannot be read.
pub fn saved_cursor<'e>(
    name: &UplinkName,
    entries: impl IntoIterator<Item = (&'e [u8], &'e [u8])>,
) -> Result<Position, OpenError> {
    let keys = Keys::new(name);
    let mut entries = entries.into_iter();
    let books = entries.find(|(key, _)| keys.parse(key) == Some(Key::Books));
    let Some((_, value)) = books else { return Ok(Position::START) };
    let mut input = Input::new(value);
    let read = match input.u8() {
        Ok(VERSION) => read_position(&mut input),
        _ => Err(Malformed),
    };
    read.map_err(|Malformed| OpenError { what: what(Key::Books) })
}

/// Returns the changes that forget an uplink which is no longer configured: everything but the
/// numbers of its streams. If it ever comes back in this epoch, they go on, so that no number names
/// two readings.
///
/// # Errors
///
/// [`OpenError`] if an entry cannot be read; then nothing should be forgotten.
pub fn retire<'e>(
    name: &UplinkName,
    entries: impl IntoIterator<Item = (&'e [u8], &'e [u8])>,
) -> Result<Vec<Change>, OpenError> {
    let keys = Keys::new(name);
    let mut changes = Vec::new();
    let mut own = Vec::new();
    for (key, value) in entries {
        match keys.parse(key) {
            None => {}
            Some(Key::Topic(_) | Key::Numbers(_)) => own.push((key, value)),
            Some(_) => {
                own.push((key, value));
                changes.push(Change::Delete { key: key.to_vec() });
            }
        }
    }
    let saved = Saved::read(&keys, own)?;
    let mut streams = Streams::load(usize::MAX, saved.topics, &saved.pages)
        .map_err(|Malformed| OpenError { what: "the streams" })?;
    for entry in saved.batches.values() {
        entry.note_numbers(&mut streams)?;
    }
    streams.save_numbers(&keys, &mut changes);
    Ok(changes)
}

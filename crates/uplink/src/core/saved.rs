//! What the journal keeps for an uplink, as read at a start.

use std::{collections::BTreeMap, sync::Arc};

use tidegate_model::{Topic, UplinkName};
use tidegate_store::Position;

use super::{Core, OpenError, dead_letters::DeadLetters, remembering::SavedRules};
use crate::{
    decision::{Entry, put_position, read_position},
    gaps::PendingGaps,
    keys::{Change, Key, Keys},
    ledger::{Outcomes, put_counts, read_counts},
    streams::{Streams, read_page},
    wire::{Input, Malformed, put_number},
};

const VERSION: u8 = 2;
/// Books of this version do not tell what rules made, nor what waits in them.
const VERSION_WITHOUT_RULES: u8 = 1;

/// All entries of one uplink but the outcomes of commands.
#[derive(Debug)]
pub(super) struct Saved {
    pub(super) cursor: Position,
    pub(super) next_batch: u64,
    pub(super) totals: Outcomes,
    pub(super) held: BTreeMap<Arc<str>, u64>,
    pub(super) rules: SavedRules,
    pub(super) topics: BTreeMap<u32, Topic>,
    pub(super) pages: BTreeMap<u32, Vec<u64>>,
    pub(super) gaps: PendingGaps,
    pub(super) batches: BTreeMap<u64, Entry>,
    pub(super) dead_letters: DeadLetters,
    pub(super) epoch: Option<Epoch>,
}

/// In which epoch numbers are given: that of the data directory, moved by `offset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Epoch {
    pub(super) directory: i64,
    pub(super) offset: i64,
}

impl Epoch {
    pub(super) fn effective(self) -> i64 {
        self.directory.wrapping_add(self.offset)
    }

    pub(super) fn encode(self) -> Vec<u8> {
        [self.directory.to_le_bytes(), self.offset.to_le_bytes()].concat()
    }

    fn decode(value: &[u8]) -> Result<Self, Malformed> {
        let (directory, offset) = value.split_first_chunk().ok_or(Malformed)?;
        let offset = offset.try_into().map_err(|_| Malformed)?;
        Ok(Self { directory: i64::from_le_bytes(*directory), offset: i64::from_le_bytes(offset) })
    }
}

impl Saved {
    /// Reads all entries of the uplink.
    pub(super) fn read<'e>(
        keys: &Keys,
        entries: impl IntoIterator<Item = (&'e [u8], &'e [u8])>,
    ) -> Result<Self, OpenError> {
        let mut saved = Self::empty();
        for (key, value) in entries {
            let Some(key) = keys.parse(key) else { continue };
            saved.take(key, value).map_err(|Malformed| OpenError { what: what(key) })?;
        }
        Ok(saved)
    }

    /// Reads what is independent of numbers, and returns the changes that forget the rest and begin
    /// an epoch.
    pub(super) fn read_without_numbers<'e>(
        keys: &Keys,
        entries: impl IntoIterator<Item = (&'e [u8], &'e [u8])>,
        epoch: Epoch,
    ) -> Result<(Self, Vec<Change>), OpenError> {
        let mut saved = Self::empty();
        let mut changes = vec![keys.put(Key::Epoch, epoch.encode())];
        for (bytes, value) in entries {
            match keys.parse(bytes) {
                Some(key @ (Key::Books | Key::DeadLetter(_))) => {
                    saved.take(key, value).map_err(|Malformed| OpenError { what: what(key) })?;
                }
                None | Some(Key::Epoch | Key::Outcome(_) | Key::Kept | Key::Spill(_)) => {}
                Some(
                    Key::Batch(_)
                    | Key::Topic(_)
                    | Key::Numbers(_)
                    | Key::Gaps(_)
                    | Key::Rules
                    | Key::RulesOfTopic(_),
                ) => {
                    changes.push(Change::Delete { key: bytes.to_vec() });
                }
            }
        }
        Ok((saved, changes))
    }

    fn empty() -> Self {
        Self {
            cursor: Position::START,
            next_batch: 1,
            totals: Outcomes::default(),
            held: BTreeMap::new(),
            rules: SavedRules::default(),
            topics: BTreeMap::new(),
            pages: BTreeMap::new(),
            gaps: PendingGaps::default(),
            batches: BTreeMap::new(),
            dead_letters: DeadLetters::default(),
            epoch: None,
        }
    }

    fn take(&mut self, key: Key, value: &[u8]) -> Result<(), Malformed> {
        match key {
            Key::Books => {
                let mut input = Input::new(value);
                let version = input.byte()?;
                if version != VERSION && version != VERSION_WITHOUT_RULES {
                    return Err(Malformed);
                }
                self.cursor = read_position(&mut input)?;
                self.next_batch = input.number()?;
                self.totals = Outcomes::decode(&mut input, version == VERSION)?;
                if version == VERSION {
                    self.held = read_counts(&mut input)?;
                }
                input.end()?;
            }
            Key::Epoch => self.epoch = Some(Epoch::decode(value)?),
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
            Key::Rules => self.rules.head = Some(value.to_vec()),
            Key::RulesOfTopic(number) => {
                self.rules.topics.insert(number, value.to_vec());
            }
            Key::Outcome(_) | Key::Kept | Key::Spill(_) => {}
        }
        Ok(())
    }
}

fn what(key: Key) -> &'static str {
    match key {
        Key::Books => "cursor and counters",
        Key::Epoch => "the epoch",
        Key::Batch(_) => "a decided batch",
        Key::Topic(_) => "the topic of a stream",
        Key::Numbers(_) => "the numbers of streams",
        Key::Gaps(_) => "the gaps",
        Key::DeadLetter(_) => "a dead letter",
        Key::Outcome(_) => "an outcome",
        Key::Kept => "what the connection keeps",
        Key::Spill(_) => "a spill file",
        Key::Rules | Key::RulesOfTopic(_) => "what the rules remember",
    }
}

impl Core {
    /// Returns cursor and counters as the journal keeps them.
    pub(super) fn books(&self, next_batch: u64) -> Vec<u8> {
        let mut value = vec![VERSION];
        put_position(&mut value, self.cursor);
        put_number(&mut value, next_batch);
        self.totals.encode(&mut value);
        put_counts(&mut value, &self.held);
        value
    }
}

/// Returns the epoch in which the entries were written.
pub(super) fn epoch<'e>(
    keys: &Keys,
    entries: impl IntoIterator<Item = (&'e [u8], &'e [u8])>,
) -> Result<Option<Epoch>, OpenError> {
    let mut entries = entries.into_iter();
    let entry = entries.find(|(key, _)| keys.parse(key) == Some(Key::Epoch));
    let epoch = entry.map(|(_, value)| Epoch::decode(value)).transpose();
    epoch.map_err(|Malformed| OpenError { what: what(Key::Epoch) })
}

/// What the journal has of an uplink's books.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedBooks {
    /// The last record that the cursor has passed.
    pub cursor: Position,
    /// The last record that is needed no more: none after the cursor.
    pub needed: Position,
    /// What was counted.
    pub outcomes: Outcomes,
    /// How many records the cursor has passed that wait in rules.
    pub held: u64,
}

/// Returns where the cursor of an uplink stands and what it has counted, from the journal's entries of
/// that uplink.
///
/// # Errors
///
/// [`OpenError`] if the entry cannot be read.
pub fn saved_books<'e>(
    name: &UplinkName,
    entries: impl IntoIterator<Item = (&'e [u8], &'e [u8])>,
) -> Result<SavedBooks, OpenError> {
    let keys = Keys::new(name);
    let mut saved = Saved::empty();
    for (key, value) in entries {
        if let Some(key @ (Key::Books | Key::Rules)) = keys.parse(key) {
            let read = saved.take(key, value);
            read.map_err(|Malformed| OpenError { what: what(key) })?;
        }
    }
    let needed = saved.rules.position()?.filter(|at| at.ordinal < saved.cursor.ordinal);
    Ok(SavedBooks {
        cursor: saved.cursor,
        needed: needed.unwrap_or(saved.cursor),
        outcomes: saved.totals,
        held: saved.held.values().sum(),
    })
}

/// Returns the changes that begin another epoch for an uplink: to be made durable before
/// [`Core::open`] whenever the journal's state may have lost something, together with settling the
/// damage. Records behind the cursor get new numbers, so a receiver may see readings twice; it never
/// sees one number twice with different readings.
///
/// `directory` is the epoch of the data directory, `random` any number that was not used before.
///
/// # Errors
///
/// [`OpenError`] if cursor and counters cannot be read.
pub fn renew<'e>(
    name: &UplinkName,
    entries: impl IntoIterator<Item = (&'e [u8], &'e [u8])>,
    directory: i64,
    random: u64,
) -> Result<Vec<Change>, OpenError> {
    // The offset is never that of a directory's first epoch.
    let epoch = Epoch { directory, offset: random.cast_signed() | 1 };
    let (_, changes) = Saved::read_without_numbers(&Keys::new(name), entries, epoch)?;
    Ok(changes)
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
            Some(Key::Topic(_) | Key::Numbers(_) | Key::Epoch) => own.push((key, value)),
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

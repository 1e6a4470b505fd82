//! The uplink as a state machine: records in, batches out, nothing forgotten.
//!
//! A record is *decided* first: held back by a rule, expired, dropped, or given the next number of its
//! stream in the batch that is being formed. When a batch is closed, all its decisions are written to
//! the journal; only when that is durable may its publications be sent. When the cloud has
//! acknowledged all of a batch and of those before it, the cursor moves past its records, in one
//! journal write with the counters. After a restart the decided batches are formed again from the
//! records, with the same numbers, whatever the rules say now; only records behind the last decided
//! one are decided anew. So one number never names two readings, and no number is left out.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use thiserror::Error;
use tidegate_model::Timestamp;
use tidegate_rules::{Effects, Rules};
use tidegate_store::{Item, Position, record::MessageDecoder};

use crate::{
    encoder::{Encoder, Publication},
    eras::Stamp,
    gaps::PendingGaps,
    keys::{Change, Keys},
    ledger::Outcomes,
    settings::Settings,
    streams::Streams,
};

mod batch;
mod cursor;
mod dead_letters;
mod delivery;
mod effects;
mod forming;
mod full;
mod gauge;
mod intake;
mod remembering;
mod restore;
mod saved;

pub use self::delivery::{Ack, Disconnect};
pub use self::full::Load;
pub use self::saved::{SavedBooks, renew, retire, saved_books};

use self::{
    batch::Batch,
    dead_letters::DeadLetters,
    delivery::Link,
    forming::{Forming, RECORDS_MAX},
    gauge::Gauge,
    remembering::Kept,
    restore::Restoring,
    saved::{Epoch, Saved},
};

/// The moment of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Monotonic time, since any fixed moment.
    pub elapsed: Duration,
    /// Wall-clock time.
    pub wall: Timestamp,
    /// Wall-clock time at the start plus what has passed since: what messages expire by.
    pub steady: Timestamp,
    /// Whether the wall clock is trusted; until then nothing expires.
    pub wall_is_trusted: bool,
}

/// What the journal keeps for the uplink cannot be read. Going on would give numbers twice.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the journal's state of the uplink is malformed: {what}")]
pub struct OpenError {
    /// Which part.
    pub what: &'static str,
}

/// Names a journal write until it is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteId(u64);

/// Changes that the journal must make durable, all or none, in the order of [`Core::poll_write`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// To be handed to [`Core::handle_written`].
    pub id: WriteId,
    /// The changes.
    pub changes: Vec<Change>,
    /// The move of the cursor among them: to be booked once the write is durable, and even then if this
    /// core is gone by that time.
    pub moved: Option<Moved>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// The decisions of a batch.
    Decide { batch: u64 },
    /// A move of the cursor.
    Move,
    /// What the rules remember.
    Keep,
}

/// Names a publication until it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SendId {
    batch: u64,
    part: u64,
}

impl SendId {
    /// Of a publication that was taken before: a question whether the far side is well.
    const PROBE: Self = Self { batch: u64::MAX, part: u64::MAX };
}

/// One publication to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// To be handed to [`Core::handle_ack`].
    pub id: SendId,
    /// What to publish, with QoS 1.
    pub publication: Publication,
}

/// The cursor has moved; for [`Ledger::note_moved`](crate::Ledger::note_moved).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Where the cursor is now.
    pub cursor: Position,
    /// The last record that is needed no more: that of the cursor, or one before it, behind which records may
    /// have to go through the rules once more.
    pub needed: Position,
    /// How many records wait no longer: those that the cursor has passed but for those that wait in rules
    /// now, and those that waited there.
    pub records: u64,
    /// How many records wait in rules now.
    pub held: u64,
    /// The size of the bodies of the records passed.
    pub bytes: u64,
    /// What became of the records passed.
    pub outcomes: Outcomes,
}

/// How the core is doing, for status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Batches that are decided and not yet resolved.
    pub batches_open: usize,
    /// Publications sent and not answered.
    pub in_flight: usize,
    /// When the oldest record arrived that is read and not resolved.
    pub oldest: Option<Timestamp>,
    /// How many streams have numbers.
    pub streams: usize,
    /// Why the cloud last refused something for good.
    pub last_refusal: Option<String>,
    /// How many payloads are kept as dead letters.
    pub dead_letters: usize,
}

/// How many decided batches may wait for the cloud.
pub(crate) const WINDOW_BATCHES: usize = 16;

/// The logic of one uplink; see the module.
#[derive(Debug)]
pub struct Core {
    settings: Settings,
    keys: Keys,
    rules: Rules,
    /// Whether any rule remembers anything.
    remembers: bool,
    /// How far what they remember is in the journal.
    kept: Kept,
    /// Settled batches that the journal keeps, as their records may have to go through the rules once more.
    settled: Vec<u64>,
    /// How many records that the cursor has passed wait in rules, by the name under which they will count.
    held: BTreeMap<Arc<str>, u64>,
    /// What came of the last record; kept for its room.
    effects: Effects,
    /// The moment of the last call that told it.
    now: Now,
    rule_names: Vec<Arc<str>>,
    streams: Streams,
    encoder: Encoder,
    /// The decided batches of before the restart that are still to be formed again, oldest first.
    restoring: VecDeque<Restoring>,
    forming: Forming,
    gauge: Gauge,
    /// Decided batches, oldest first; their numbers follow each other.
    window: VecDeque<Batch>,
    pending_gaps: PendingGaps,
    link: Link,
    /// The last record that was read.
    read: Position,
    /// The last record that the journal was asked to move the cursor past.
    cursor: Position,
    /// Of all records that the cursor has passed in this epoch.
    totals: Outcomes,
    /// The size of the records that a write under way moves the cursor past.
    moving: Option<u64>,
    /// Changes that go with the first write.
    opening: Vec<Change>,
    writes: VecDeque<Write>,
    awaited: VecDeque<(WriteId, Purpose)>,
    next_write: u64,
    next_part: u64,
    dead_letters: DeadLetters,
    last_refusal: Option<String>,
    decoder: MessageDecoder,
    /// What is to be done with the stamps of the next record.
    stamp: Stamp,
    /// How many bytes of records are still to be dropped.
    to_drop: u64,
}

impl Core {
    /// Restores the uplink from the journal's entries whose keys begin with
    /// [`Keys::prefix`](crate::Keys::prefix); entries of other keys are ignored.
    ///
    /// If the epoch of the data directory has changed, numbers are given anew, from 1: none of the old
    /// epoch is given again. The same is done beforehand, by [`renew`], if the journal's state may
    /// have lost something.
    ///
    /// # Errors
    ///
    /// [`OpenError`] if an entry cannot be read.
    pub fn open<'e>(
        mut settings: Settings,
        entries: impl IntoIterator<Item = (&'e [u8], &'e [u8])> + Clone,
        now: Now,
    ) -> Result<Self, OpenError> {
        let keys = Keys::new(&settings.name);
        let directory = settings.epoch;
        let known = saved::epoch(&keys, entries.clone())?;
        let (saved, mut opening) = match known {
            Some(epoch) if epoch.directory == directory => {
                settings.epoch = epoch.effective();
                (Saved::read(&keys, entries)?, Vec::new())
            }
            _ => Saved::read_without_numbers(&keys, entries, Epoch { directory, offset: 0 })?,
        };
        let mut rules = Rules::new(settings.rules.clone(), settings.rule_memory);
        let remembers = rules.remembers();
        let kept = if remembers {
            saved.rules.restore(&mut rules, saved.cursor)?
        } else {
            opening.extend(remembering::forget(&keys, &saved));
            Kept::anew(saved.cursor)
        };
        let streams = Streams::load(settings.streams_max, saved.topics, &saved.pages)
            .map_err(|_| OpenError { what: "the streams" })?;
        let begin = if kept.at.ordinal < saved.cursor.ordinal { kept.at } else { saved.cursor };
        let mut core = Self {
            rule_names: rules.names().to_vec(),
            rules,
            remembers,
            kept,
            settled: Vec::new(),
            held: saved.held,
            effects: Effects::default(),
            now,
            encoder: Encoder::new(&settings),
            streams,
            restoring: VecDeque::new(),
            forming: Forming::new(saved.next_batch, saved.cursor),
            gauge: Gauge::new(),
            window: VecDeque::new(),
            pending_gaps: saved.gaps,
            link: Link::new(now),
            read: begin,
            cursor: saved.cursor,
            totals: saved.totals,
            moving: None,
            opening,
            writes: VecDeque::new(),
            awaited: VecDeque::new(),
            next_write: 1,
            next_part: 1,
            dead_letters: saved.dead_letters,
            last_refusal: None,
            decoder: MessageDecoder::new(),
            stamp: Stamp::default(),
            to_drop: 0,
            settings,
            keys,
        };
        core.prepare_restore(saved.batches, saved.next_batch)?;
        core.save_rules_at_open();
        Ok(core)
    }

    /// Returns the settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Returns where to read on: after the last record that was handed in.
    pub fn position(&self) -> Position {
        self.read
    }

    /// Returns the last record that the cursor has passed.
    pub fn cursor(&self) -> Position {
        self.cursor
    }

    /// Returns what became of all records that the cursor has passed in this epoch.
    pub fn totals(&self) -> &Outcomes {
        &self.totals
    }

    /// Returns whether another item may be handed in now.
    pub fn wants_items(&self) -> bool {
        let unresolved = self.unresolved();
        let settled = self.window.len() - unresolved;
        !self.restoring.is_empty()
            || (self.forming.is_dropping() && settled < 4 * WINDOW_BATCHES)
            || (unresolved < WINDOW_BATCHES && settled < 4 * WINDOW_BATCHES)
    }

    /// Says what is to be done with the stamps of the records that are handed in from now on. For one record it must be
    /// the same whenever it is handed in.
    pub fn set_stamp(&mut self, stamp: Stamp) {
        self.stamp = stamp;
    }

    /// Takes the next item of the journal's reader, in order.
    pub fn handle_item(&mut self, item: &Item, now: Now) {
        match item {
            Item::Record { seq, ordinal, body } => {
                self.handle_record(Position { seq: *seq, ordinal: *ordinal }, body, now);
            }
            Item::Damaged { records, position, .. } => {
                self.handle_damaged(*position, *records, now);
            }
        }
        self.plan_move();
    }

    /// Returns when to call [`handle_timeout`](Self::handle_timeout), if ever.
    ///
    /// A batch that would only wait for room in the window goes on filling instead.
    pub fn poll_timeout(&self) -> Option<Duration> {
        if self.unresolved() >= WINDOW_BATCHES || !self.restoring.is_empty() {
            return None;
        }
        self.forming.opened().map(|opened| opened + self.settings.batch.age)
    }

    /// Closes the batch that is being formed if it is old enough.
    pub fn handle_timeout(&mut self, now: Now) {
        self.now = now;
        if self.poll_timeout().is_some_and(|deadline| deadline <= now.elapsed) {
            self.close();
        }
    }

    /// Closes the batch that is being formed, whatever its age.
    pub fn flush(&mut self) {
        self.close();
    }

    /// Returns the next write for the journal. Writes must become durable in this order.
    pub fn poll_write(&mut self) -> Option<Write> {
        self.writes.pop_front()
    }

    /// Takes notice that a write is durable.
    pub fn handle_written(&mut self, id: WriteId, now: Now) {
        let at = self.awaited.iter().position(|(awaited, _)| *awaited == id);
        let Some((_, purpose)) = at.and_then(|at| self.awaited.remove(at)) else { return };
        match purpose {
            Purpose::Decide { batch } => {
                if let Some(batch) = self.batch_mut(batch) {
                    batch.journalled = true;
                }
            }
            Purpose::Move => self.moving = None,
            Purpose::Keep => {}
        }
        self.plan_move();
        self.open_for_gaps(now);
    }

    /// Returns how the core is doing.
    pub fn status(&self) -> Status {
        let unresolved = self.window.iter().filter(|batch| !batch.is_resolved());
        let oldest = unresolved.clone().find_map(|batch| batch.oldest);
        Status {
            batches_open: unresolved.count(),
            in_flight: self.link.in_flight(),
            oldest: oldest.or(self.forming.oldest()),
            streams: self.streams.len(),
            last_refusal: self.last_refusal.clone(),
            dead_letters: self.dead_letters.len(),
        }
    }

    /// Returns whether nothing is left to be written, sent or answered.
    pub fn is_idle(&self) -> bool {
        self.window.is_empty()
            && self.awaited.is_empty()
            && self.restoring.is_empty()
            && self.forming.is_empty()
            && (self.pending_gaps.is_empty() || !self.link.is_up() || self.encoder.is_per_reading())
    }

    fn unresolved(&self) -> usize {
        self.window.iter().filter(|batch| !batch.is_resolved()).count()
    }

    fn write(&mut self, purpose: Purpose, mut changes: Vec<Change>, moved: Option<Moved>) {
        if !self.opening.is_empty() {
            changes.splice(0..0, std::mem::take(&mut self.opening));
        }
        let id = WriteId(self.next_write);
        self.next_write += 1;
        self.writes.push_back(Write { id, changes, moved });
        self.awaited.push_back((id, purpose));
    }

    fn batch_mut(&mut self, number: u64) -> Option<&mut Batch> {
        let first = self.window.front()?.number;
        self.window.get_mut(usize::try_from(number.checked_sub(first)?).ok()?)
    }
}

#[cfg(test)]
mod tests;

//! The batch that is being formed.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tidegate_model::{Clock, Reading, Timestamp};
use tidegate_store::Position;

use super::Core;
use crate::{
    content::{Content, Gap},
    decision::{Decision, Entry, GapEntry, MadeEntry, Run, push_run},
    keys::{Change, Key},
    ledger::{DropReason, Outcomes, add},
    settings::BatchLimits,
    streams::StreamId,
};

use super::{Purpose, batch::Batch};

/// A batch is closed after so many records, however many of them go out.
pub(super) const RECORDS_MAX: u64 = 16_384;
/// What a batch in columns holds beside its streams and gaps, at most, without the names.
const ENVELOPE_BYTES: usize = 128;

/// When a batch is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// All that the rules know was decided.
    BetweenRecords,
    /// The rules know a record already that goes into the next batch.
    WithinRecord,
}

/// What happens to records for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// They are decided one by one.
    Deciding,
    /// They are the oldest of an uplink that is full.
    Dropping,
}

/// Decisions that are not in the journal yet.
#[derive(Debug)]
pub(super) struct Forming {
    pub(super) number: u64,
    pub(super) mode: Mode,
    pub(super) from: Position,
    pub(super) to: Position,
    /// When its first record was read.
    pub(super) opened: Option<Duration>,
    /// When its oldest record arrived.
    pub(super) oldest: Option<Timestamp>,
    /// When its newest record arrived.
    pub(super) newest: Option<Timestamp>,
    /// The size of the records.
    pub(super) bytes: u64,
    /// At most how large the payload will be.
    pub(super) size: usize,
    pub(super) readings: usize,
    pub(super) content: Content,
    pub(super) outcomes: Outcomes,
    /// Records that wait in rules now, by the name under which they will count.
    pub(super) held: BTreeMap<Arc<str>, u64>,
    /// Records that waited in rules, of this batch or earlier ones, and wait no longer.
    pub(super) freed: BTreeMap<Arc<str>, u64>,
    /// Numbers of records that were dropped.
    pub(super) dropped: Vec<GapEntry>,
    runs: Vec<Run>,
    rules: Vec<Arc<str>>,
    streams: Vec<(StreamId, u64)>,
    changed: Vec<Reading>,
    made: Vec<MadeEntry>,
    in_vain: Vec<(u32, u32)>,
    released: Vec<(u32, u64)>,
    lost: Vec<(u32, u64)>,
    ticks: Vec<(u64, Timestamp)>,
}

impl Forming {
    pub(super) fn new(number: u64, from: Position) -> Self {
        Self {
            number,
            mode: Mode::Deciding,
            from,
            to: from,
            opened: None,
            oldest: None,
            newest: None,
            bytes: 0,
            size: ENVELOPE_BYTES,
            readings: 0,
            content: Content::new(Clock::Trusted, false),
            outcomes: Outcomes::default(),
            held: BTreeMap::new(),
            freed: BTreeMap::new(),
            dropped: Vec::new(),
            runs: Vec::new(),
            rules: Vec::new(),
            streams: Vec::new(),
            changed: Vec::new(),
            made: Vec::new(),
            in_vain: Vec::new(),
            released: Vec::new(),
            lost: Vec::new(),
            ticks: Vec::new(),
        }
    }

    pub(super) fn opened(&self) -> Option<Duration> {
        self.opened
    }

    pub(super) fn oldest(&self) -> Option<Timestamp> {
        self.oldest
    }

    pub(super) fn is_dropping(&self) -> bool {
        self.mode == Mode::Dropping
    }

    /// Returns whether no record was decided, and nothing came of the clock or of others.
    pub(super) fn is_empty(&self) -> bool {
        self.records() == 0
            && self.ticks.is_empty()
            && self.released.is_empty()
            && self.lost.is_empty()
    }

    /// Returns how many records were decided.
    fn records(&self) -> u64 {
        self.to.ordinal - self.from.ordinal
    }

    /// Returns whether nothing more should be added.
    pub(super) fn is_full(&self, limits: &BatchLimits) -> bool {
        self.readings >= limits.readings
            || self.to.ordinal - self.from.ordinal >= RECORDS_MAX
            || self.size >= limits.bytes
    }

    /// Notes what was decided on the records up to `to`.
    pub(super) fn note(&mut self, decision: Decision, to: Position, bytes: usize, now: Duration) {
        push_run(&mut self.runs, decision, to.ordinal - self.to.ordinal);
        self.to = to;
        self.bytes += bytes as u64;
        self.opened.get_or_insert(now);
    }

    /// Notes that something is in it.
    pub(super) fn open(&mut self, now: Duration) {
        self.opened.get_or_insert(now);
    }

    /// Notes that the rules were told of the clock.
    pub(super) fn note_tick(&mut self, wall: Timestamp, now: Duration) {
        self.ticks.push((self.records(), wall));
        self.opened.get_or_insert(now);
    }

    /// Notes as what the next record goes out.
    pub(super) fn note_changed(&mut self, reading: Reading) {
        self.changed.push(reading);
    }

    /// Notes that a record waits in a rule, and returns the rule's place in the list of this batch.
    pub(super) fn hold(&mut self, name: &Arc<str>) -> u32 {
        add(&mut self.held, name, 1);
        self.rule(name)
    }

    /// Notes what a rule made; without a number it is dropped.
    pub(super) fn note_made(&mut self, name: &Arc<str>, numbered: Option<(u32, Reading)>) {
        self.outcomes.add_made(name, 1);
        if numbered.is_none() {
            self.outcomes.add_dropped(DropReason::Streams, 1);
        }
        let rule = self.rule(name);
        self.made.push(MadeEntry { place: self.records(), rule, numbered });
    }

    /// Notes what a rule made and another took out.
    pub(super) fn note_in_vain(&mut self, made_by: &Arc<str>, filtered_by: &Arc<str>) {
        self.outcomes.add_made(made_by, 1);
        self.outcomes.add_filtered(filtered_by, 1);
        let pair = (self.rule(made_by), self.rule(filtered_by));
        self.in_vain.push(pair);
    }

    /// Notes that records which waited count as filtered.
    pub(super) fn release(&mut self, name: &Arc<str>, records: u64) {
        self.outcomes.add_filtered(name, records);
        add(&mut self.freed, name, records);
        let rule = self.rule(name);
        self.released.push((rule, records));
    }

    /// Notes that records which should wait can no longer be read.
    pub(super) fn lose_held(&mut self, name: &Arc<str>, records: u64) {
        self.outcomes.add_dropped(DropReason::Damaged, records);
        add(&mut self.freed, name, records);
        let rule = self.rule(name);
        self.lost.push((rule, records));
    }

    /// Notes when a record arrived that waits here; they come in about that order.
    pub(super) fn note_arrival(&mut self, arrival: Timestamp) {
        self.oldest = Some(self.oldest.map_or(arrival, |oldest| oldest.min(arrival)));
        self.newest = self.newest.max(Some(arrival));
    }

    /// Returns the place of a rule in the list of this batch.
    pub(super) fn rule(&mut self, name: &Arc<str>) -> u32 {
        let at = self.rules.iter().position(|rule| rule == name).unwrap_or_else(|| {
            self.rules.push(Arc::clone(name));
            self.rules.len() - 1
        });
        u32::try_from(at).expect("rules are few")
    }

    /// Adds a stream whose next number is `first` to the list of this batch.
    pub(super) fn add_stream(&mut self, stream: StreamId, first: u64) -> u32 {
        self.streams.push((stream, first));
        u32::try_from(self.streams.len() - 1).expect("a batch has fewer records")
    }

    fn entry(&mut self, gaps: &[Gap]) -> Entry {
        Entry {
            from: self.from,
            to: self.to,
            clock: self.content.clock,
            replayed: self.content.replayed,
            rules: std::mem::take(&mut self.rules),
            streams: std::mem::take(&mut self.streams),
            runs: std::mem::take(&mut self.runs),
            gaps: gaps.iter().map(GapEntry::from).collect(),
            changed: std::mem::take(&mut self.changed),
            made: std::mem::take(&mut self.made),
            in_vain: std::mem::take(&mut self.in_vain),
            released: std::mem::take(&mut self.released),
            lost: std::mem::take(&mut self.lost),
            ticks: std::mem::take(&mut self.ticks),
        }
    }
}

impl From<&Gap> for GapEntry {
    fn from(gap: &Gap) -> Self {
        Self { stream: gap.stream, from: gap.from, to: gap.to, why: gap.why }
    }
}

impl Core {
    /// Closes the batch that is being formed: from here on its decisions are final.
    ///
    /// What was decided before the restart comes first.
    pub(super) fn close(&mut self) {
        self.close_batch(Moment::BetweenRecords);
    }

    /// As [`close`](Self::close), at a given moment.
    pub(super) fn close_batch(&mut self, moment: Moment) {
        if !self.restoring.is_empty() {
            return;
        }
        let carries_gaps = !self.forming.is_dropping() && !self.encoder.is_per_reading();
        let has_gaps = carries_gaps && self.link.is_up() && !self.pending_gaps.is_empty();
        if self.forming.is_empty() && !has_gaps {
            self.forming.opened = None;
            return;
        }
        let next = Forming::new(self.forming.number + 1, self.forming.to);
        let mut forming = std::mem::replace(&mut self.forming, next);
        if has_gaps {
            // Gaps alone never make a payload too large.
            let room = self.settings.batch.bytes.saturating_sub(forming.size);
            let room = room.min(self.payload_bytes_max() / 2);
            forming.content.gaps = self.pending_gaps.take(room, &self.streams);
        }
        for (stream, _) in &forming.streams {
            self.streams.decide(*stream);
        }
        for gap in forming.dropped.drain(..) {
            self.pending_gaps.add(gap);
        }
        let entry = forming.entry(&forming.content.gaps.clone());
        let mut changes: Vec<Change> = Vec::new();
        self.streams.save_topics(&self.keys, &mut changes);
        self.pending_gaps.save(&self.keys, &mut changes);
        changes.push(self.keys.put(Key::Batch(forming.number), entry.encode()));
        let saved = moment == Moment::BetweenRecords
            && self.save_rules_if_due(forming.to, forming.number, &mut changes);
        let batch = Batch {
            number: forming.number,
            to: forming.to,
            ordinals: forming.to.ordinal - forming.from.ordinal,
            bytes: forming.bytes,
            oldest: forming.oldest,
            newest: forming.newest,
            outcomes: forming.outcomes,
            held: forming.held,
            freed: forming.freed,
            parts: Vec::new(),
            open_parts: 0,
            journalled: false,
            lost: Vec::new(),
            dead: Vec::new(),
        };
        self.add_batch(batch, forming.content);
        let moved = saved.then(|| self.moved(0, 0, Outcomes::default()));
        self.write(Purpose::Decide { batch: forming.number }, changes, moved);
    }

    /// Starts to form a batch if there are gaps to tell and somebody who listens.
    pub(super) fn open_for_gaps(&mut self, now: super::Now) {
        if self.link.is_up() && !self.pending_gaps.is_empty() && !self.encoder.is_per_reading() {
            self.forming.opened.get_or_insert(now.elapsed);
        }
    }
}

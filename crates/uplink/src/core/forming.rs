//! The batch that is being formed.

use std::{sync::Arc, time::Duration};

use tidegate_model::{Clock, Timestamp};
use tidegate_store::Position;

use super::Core;
use crate::{
    content::{Content, Gap},
    decision::{Decision, Entry, GapEntry, Run, push_run},
    keys::{Change, Key},
    ledger::Outcomes,
    settings::BatchLimits,
    streams::StreamId,
};

use super::{Purpose, batch::Batch};

/// A batch is closed after so many records, however many of them go out.
pub(super) const RECORDS_MAX: u64 = 16_384;
/// What a batch in columns holds beside its streams and gaps, at most, without the names.
const ENVELOPE_BYTES: usize = 128;

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
    /// The size of the records.
    pub(super) bytes: u64,
    /// At most how large the payload will be.
    pub(super) size: usize,
    pub(super) readings: usize,
    pub(super) content: Content,
    pub(super) outcomes: Outcomes,
    runs: Vec<Run>,
    rules: Vec<Arc<str>>,
    streams: Vec<(StreamId, u64)>,
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
            bytes: 0,
            size: ENVELOPE_BYTES,
            readings: 0,
            content: Content::new(Clock::Trusted, false),
            outcomes: Outcomes::default(),
            runs: Vec::new(),
            rules: Vec::new(),
            streams: Vec::new(),
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

    /// Returns whether no record was decided.
    pub(super) fn is_empty(&self) -> bool {
        self.to.ordinal == self.from.ordinal
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

    /// Notes when a record arrived that waits here.
    pub(super) fn note_arrival(&mut self, arrival: Timestamp) {
        self.oldest = Some(self.oldest.map_or(arrival, |oldest| oldest.min(arrival)));
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
        let entry = forming.entry(&forming.content.gaps.clone());
        let mut changes: Vec<Change> = Vec::new();
        self.streams.save_topics(&self.keys, &mut changes);
        self.pending_gaps.save(&self.keys, &mut changes);
        changes.push(self.keys.put(Key::Batch(forming.number), entry.encode()));
        let batch = Batch {
            number: forming.number,
            to: forming.to,
            ordinals: forming.to.ordinal - forming.from.ordinal,
            bytes: forming.bytes,
            oldest: forming.oldest,
            outcomes: forming.outcomes,
            parts: Vec::new(),
            open_parts: 0,
            journalled: false,
            lost: Vec::new(),
            dead: Vec::new(),
        };
        self.add_batch(batch, forming.content);
        self.write(Purpose::Decide { batch: forming.number }, changes, None);
    }

    /// Starts to form a batch if there are gaps to tell and somebody who listens.
    pub(super) fn open_for_gaps(&mut self, now: super::Now) {
        if self.link.is_up() && !self.pending_gaps.is_empty() && !self.encoder.is_per_reading() {
            self.forming.opened.get_or_insert(now.elapsed);
        }
    }
}

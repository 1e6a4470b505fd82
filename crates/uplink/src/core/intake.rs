//! From a record to a decision.

use bytes::Bytes;
use tidegate_model::{Message, Reading, Topic};
use tidegate_rules::Verdict;
use tidegate_store::Position;

use super::{Core, Now, forming::Moment};
use crate::{
    content::RawPayload,
    decision::{Decision, GapEntry},
    ledger::DropReason,
    payload,
    streams::{Slot, StreamId},
};

impl Core {
    pub(super) fn handle_record(&mut self, at: Position, body: &Bytes, now: Now) {
        debug_assert!(at.ordinal > self.read.ordinal, "the reader goes forward");
        self.now = now;
        let hole = at.ordinal - self.read.ordinal - 1;
        if hole > 0 {
            // The reader tells of what it misses. What it does not tell of is counted nowhere, so that
            // the books show it.
            let before = Position { seq: at.seq.previous(), ordinal: at.ordinal - 1 };
            self.lose(before, hole, now, Counted::No);
        }
        self.read = at;
        if self.restore_record(at, body) {
            return;
        }
        let Ok(mut message) = self.decoder.decode(body) else {
            return self.drop_unread(at, body.len(), 1, now);
        };
        self.stamp.correct_message(&mut message);
        if self.forming.is_dropping() {
            self.drop_record(at, body.len(), &message.topic, DropReason::Full, now);
            self.note_dropped(body.len());
        } else if self.is_too_old(at.ordinal, message.arrival, now) {
            self.drop_record(at, body.len(), &message.topic, DropReason::Age, now);
        } else if now.wall_is_trusted && message.is_expired(now.steady) {
            self.forming.outcomes.expired += 1;
            self.forming.note(Decision::Expired, at, body.len(), now.elapsed);
        } else {
            let reading = self.stamp.correct(payload::reading(&message));
            self.decide(at, body.len(), &message, &reading, now);
        }
        if self.is_full(now) || self.rules_must_be_saved() {
            self.close();
        }
    }

    pub(super) fn handle_damaged(&mut self, at: Position, records: u64, now: Now) {
        self.lose(at, records, now, Counted::Yes);
        self.read = at;
    }

    /// Decides on `records` records up to `at` that cannot be read.
    fn lose(&mut self, at: Position, records: u64, now: Now, counted: Counted) {
        let left = self.restore_lost(at, records, counted);
        if left == 0 {
            return;
        }
        match counted {
            Counted::Yes => self.drop_unread(at, 0, left, now),
            Counted::No => {
                let decision = Decision::Dropped { reason: DropReason::Damaged };
                self.forming.note(decision, at, 0, now.elapsed);
            }
        }
    }

    fn decide(
        &mut self,
        at: Position,
        bytes: usize,
        message: &Message,
        reading: &Reading,
        now: Now,
    ) {
        let topic = &message.topic;
        let mut effects = std::mem::take(&mut self.effects);
        let verdict = self.rules.decide(topic, reading, &mut effects);
        let mut fit = Fit::Open;
        if !effects.is_empty() {
            // All that comes of a record is decided with it, or not at all.
            fit = Fit::Made;
            let goes_out = match &verdict {
                Verdict::Pass => Some(reading),
                Verdict::Changed(changed) => Some(&**changed),
                Verdict::Filtered(_) | Verdict::Held(_) => None,
            };
            self.make_fit_all(&effects, goes_out.map(|reading| (topic, reading)), now);
            self.take_effects(&mut effects, now);
        }
        self.effects = effects;
        let decision = match verdict {
            Verdict::Filtered(name) => {
                let name = &self.rule_names[name];
                self.forming.outcomes.add_filtered(name, 1);
                Decision::Filtered { rule: self.forming.rule(name) }
            }
            Verdict::Held(name) => {
                Decision::Held { rule: self.forming.hold(&self.rule_names[name]) }
            }
            Verdict::Pass => {
                let raw = self.encoder.raw(message);
                match self.assign(topic, reading, raw, fit, now) {
                    Some(stream) => Decision::Assigned { stream },
                    None => self.drop_streamless(),
                }
            }
            Verdict::Changed(changed) => {
                let raw = self.encoder.raw_changed(&changed, message);
                match self.assign(topic, &changed, raw, fit, now) {
                    Some(stream) => {
                        self.forming.note_changed(*changed);
                        Decision::Changed { stream }
                    }
                    None => self.drop_streamless(),
                }
            }
        };
        self.forming.note(decision, at, bytes, now.elapsed);
    }

    /// Gives a reading the next number of its stream in the batch; `None` if it can have no stream. Returns
    /// the place of the stream in the batch.
    fn assign(
        &mut self,
        topic: &Topic,
        reading: &Reading,
        raw: Option<RawPayload>,
        fit: Fit,
        now: Now,
    ) -> Option<u32> {
        let stream = self.streams.id(topic)?;
        if fit == Fit::Open {
            self.make_fit(stream, topic, reading, now);
        }
        Some(self.push(stream, topic, reading, raw))
    }

    /// Puts a reading into the batch, which has room for it. Returns the place of its stream there.
    pub(super) fn push(
        &mut self,
        stream: StreamId,
        topic: &Topic,
        reading: &Reading,
        raw: Option<RawPayload>,
    ) -> u32 {
        let mut slot = self.slot(stream);
        let number = self.take_number(stream);
        let forming = &mut self.forming;
        let starts = forming.content.starts_column(stream, slot.column, number, reading);
        forming.size += self.encoder.reading_bound(topic, reading, starts);
        forming.readings += 1;
        forming.content.push(stream, topic, &mut slot.column, number, reading, raw);
        forming.note_arrival(reading.arrival);
        self.streams.at(stream).slot = slot;
        slot.local
    }

    fn drop_streamless(&mut self) -> Decision {
        let reason = DropReason::Streams;
        self.forming.outcomes.add_dropped(reason, 1);
        Decision::Dropped { reason }
    }

    /// Closes the batch if the reading cannot go into it, and starts the next one.
    fn make_fit(&mut self, stream: StreamId, topic: &Topic, reading: &Reading, now: Now) {
        let replayed = self.link.is_replayed(reading.arrival, now);
        let forming = &self.forming;
        if forming.readings > 0 {
            let slot = self.streams.at(stream).slot;
            let next = self.streams.at(stream).next;
            let starts = slot.batch != forming.number
                || forming.content.starts_column(stream, slot.column, next, reading);
            let size = forming.size + self.encoder.reading_bound(topic, reading, starts);
            let differs =
                forming.content.clock != reading.clock || forming.content.replayed != replayed;
            if differs || size > self.settings.batch.bytes {
                self.close_batch(Moment::WithinRecord);
            }
        }
        if self.forming.readings == 0 {
            self.forming.content.clock = reading.clock;
            self.forming.content.replayed = replayed;
        }
    }

    /// Drops a record. It takes a number, so that the gap shows.
    fn drop_record(
        &mut self,
        at: Position,
        bytes: usize,
        topic: &Topic,
        reason: DropReason,
        now: Now,
    ) {
        self.forming.outcomes.add_dropped(reason, 1);
        let decision = match self.streams.id(topic) {
            Some(stream) => self.drop_numbered(stream, reason, 1),
            None => Decision::Dropped { reason },
        };
        self.forming.note(decision, at, bytes, now.elapsed);
    }

    /// Drops records whose topic is not known.
    fn drop_unread(&mut self, at: Position, bytes: usize, records: u64, now: Now) {
        let reason = DropReason::Damaged;
        self.forming.outcomes.add_dropped(reason, records);
        let unknown = self.streams.unknown();
        let decision = self.drop_numbered(unknown, reason, records);
        self.forming.note(decision, at, bytes, now.elapsed);
    }

    /// Takes the next `records` numbers of a stream and makes them a gap.
    fn drop_numbered(&mut self, stream: StreamId, reason: DropReason, records: u64) -> Decision {
        let slot = self.slot(stream);
        let from = self.take_number(stream);
        let next = &mut self.streams.at(stream).next;
        *next += records - 1;
        let to = *next - 1;
        self.streams.at(stream).slot = slot;
        // It is a gap once that is decided, and not before: the numbers may go to others after a restart.
        self.forming.dropped.push(GapEntry { stream, from, to, why: reason });
        Decision::DroppedNumbered { stream: slot.local, reason }
    }

    fn take_number(&mut self, stream: StreamId) -> u64 {
        let stream = self.streams.at(stream);
        stream.next += 1;
        stream.next - 1
    }

    /// Returns the stream's place in the batch that is being formed; call it before taking a number.
    fn slot(&mut self, id: StreamId) -> Slot {
        let stream = self.streams.at(id);
        if stream.slot.batch == self.forming.number {
            return stream.slot;
        }
        let local = self.forming.add_stream(id, stream.next);
        Slot { batch: self.forming.number, local, column: usize::MAX }
    }
}

/// Whether a place in the batch is made for a reading already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    Open,
    Made,
}

/// Whether lost records are counted: only those that somebody told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counted {
    Yes,
    No,
}

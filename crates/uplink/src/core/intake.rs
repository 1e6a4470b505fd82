//! From a record to a decision.

use bytes::Bytes;
use tidegate_model::{Message, Reading, Topic};
use tidegate_rules::Verdict;
use tidegate_store::Position;

use super::{Core, Now};
use crate::{
    decision::{Decision, GapEntry},
    ledger::DropReason,
    payload,
    streams::{Slot, StreamId},
};

impl Core {
    pub(super) fn handle_record(&mut self, at: Position, body: &Bytes, now: Now) {
        debug_assert!(at.ordinal > self.read.ordinal, "the reader goes forward");
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
        let Ok(message) = self.decoder.decode(body) else {
            return self.drop_unread(at, body.len(), 1, now);
        };
        if self.forming.is_dropping() {
            self.drop_oldest(at, body.len(), &message.topic, now);
        } else if now.wall_is_trusted && message.is_expired(now.wall) {
            self.forming.outcomes.expired += 1;
            self.forming.note(Decision::Expired, at, body.len(), now.elapsed);
        } else {
            let reading = payload::reading(&message);
            self.decide(at, body.len(), &message, &reading, now);
        }
        if self.is_full(now) {
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
        if let Verdict::Filtered(rule) = self.rules.decide(topic, reading) {
            let name = &self.rule_names[rule];
            self.forming.outcomes.add_filtered(name, 1);
            let rule = self.forming.rule(name);
            return self.forming.note(Decision::Filtered { rule }, at, bytes, now.elapsed);
        }
        let Some(stream) = self.streams.id(topic) else {
            let reason = DropReason::Streams;
            self.forming.outcomes.add_dropped(reason, 1);
            return self.forming.note(Decision::Dropped { reason }, at, bytes, now.elapsed);
        };
        self.make_fit(stream, topic, reading, now);
        let mut slot = self.slot(stream);
        let number = self.take_number(stream);
        let forming = &mut self.forming;
        let starts = forming.content.starts_column(stream, slot.column, number, reading);
        forming.size += self.encoder.reading_bound(topic, reading, starts);
        forming.readings += 1;
        let raw = self.encoder.raw(message);
        forming.content.push(stream, topic, &mut slot.column, number, reading, raw);
        forming.note_arrival(reading.arrival);
        let decision = Decision::Assigned { stream: slot.local };
        forming.note(decision, at, bytes, now.elapsed);
        self.streams.at(stream).slot = slot;
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
                self.close();
            }
        }
        if self.forming.readings == 0 {
            self.forming.content.clock = reading.clock;
            self.forming.content.replayed = replayed;
        }
    }

    /// Drops the oldest record of an uplink that is full. It takes a number, so that the gap shows.
    fn drop_oldest(&mut self, at: Position, bytes: usize, topic: &Topic, now: Now) {
        let reason = DropReason::Full;
        self.forming.outcomes.add_dropped(reason, 1);
        let decision = match self.streams.id(topic) {
            Some(stream) => self.drop_numbered(stream, reason, 1),
            None => Decision::Dropped { reason },
        };
        self.forming.note(decision, at, bytes, now.elapsed);
        self.note_dropped(bytes);
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
        self.pending_gaps.add(GapEntry { stream, from, to, why: reason });
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

/// Whether lost records are counted: only those that somebody told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counted {
    Yes,
    No,
}

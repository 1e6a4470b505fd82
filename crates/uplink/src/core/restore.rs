//! Forming decided batches again after a restart.

use bytes::Bytes;
use tidegate_model::Timestamp;
use tidegate_store::Position;

use super::{Core, OpenError, batch::Batch, forming::Forming, intake::Counted};
use crate::{
    content::{Content, Gap},
    decision::{Decision, Entry, GapEntry},
    ledger::{DropReason, Outcomes},
    payload,
    streams::{StreamId, Streams},
};

/// A decided batch whose records are being read again.
#[derive(Debug)]
pub(super) struct Restoring {
    number: u64,
    entry: Entry,
    /// The run that the next record belongs to, and how many of it have passed.
    run: usize,
    passed: u64,
    /// The ordinal of the next record.
    ordinal: u64,
    /// By place in the entry's list of streams: the next number, and the stream's last column.
    streams: Vec<(u64, usize)>,
    content: Content,
    outcomes: Outcomes,
    lost: Vec<GapEntry>,
    bytes: u64,
    oldest: Option<Timestamp>,
}

/// One record's decision, with its stream and number if it has them.
struct Decided {
    decision: Decision,
    number: Option<(usize, StreamId, u64)>,
}

impl Restoring {
    fn new(number: u64, entry: Entry, gaps: Vec<Gap>) -> Self {
        let content = Content { gaps, ..Content::new(entry.clock, entry.replayed) };
        Self {
            number,
            run: 0,
            passed: 0,
            ordinal: entry.from.ordinal + 1,
            streams: entry.streams.iter().map(|(_, first)| (*first, usize::MAX)).collect(),
            content,
            outcomes: Outcomes::default(),
            lost: Vec::new(),
            bytes: 0,
            oldest: None,
            entry,
        }
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    fn is_complete(&self) -> bool {
        self.ordinal > self.entry.to.ordinal
    }

    /// Goes on by one record.
    fn next(&mut self) -> Option<Decided> {
        let run = *self.entry.runs.get(self.run)?;
        self.passed += 1;
        self.ordinal += 1;
        if self.passed == run.records {
            self.run += 1;
            self.passed = 0;
        }
        let number = match run.decision {
            Decision::Assigned { stream } | Decision::DroppedNumbered { stream, .. } => {
                let local = usize::try_from(stream).expect("checked when the entry was read");
                let next = &mut self.streams[local].0;
                *next += 1;
                Some((local, self.entry.streams[local].0, *next - 1))
            }
            _ => None,
        };
        Some(Decided { decision: run.decision, number })
    }

    /// Passes a record that cannot be read any more.
    fn lose(&mut self, counted: Counted) {
        let Some(decided) = self.next() else { return };
        if counted == Counted::Yes {
            self.outcomes.add_dropped(DropReason::Damaged, 1);
        }
        if let (Decision::Assigned { .. }, Some((_, stream, number))) =
            (decided.decision, decided.number)
        {
            let why = DropReason::Damaged;
            self.lost.push(GapEntry { stream, from: number, to: number, why });
        }
    }

    fn into_batch(self) -> (Batch, Content) {
        let batch = Batch {
            number: self.number,
            to: self.entry.to,
            ordinals: self.entry.to.ordinal - self.entry.from.ordinal,
            bytes: self.bytes,
            oldest: self.oldest,
            outcomes: self.outcomes,
            parts: Vec::new(),
            open_parts: 0,
            journalled: true,
            lost: self.lost,
            dead: Vec::new(),
        };
        (batch, self.content)
    }
}

impl Entry {
    /// Takes the numbers that the entry gives as given.
    pub(super) fn note_numbers(&self, streams: &mut Streams) -> Result<(), OpenError> {
        let mut numbers: Vec<u64> = self.streams.iter().map(|(_, first)| *first).collect();
        for run in &self.runs {
            if let Decision::Assigned { stream } | Decision::DroppedNumbered { stream, .. } =
                run.decision
            {
                numbers[usize::try_from(stream).expect("checked when it was read")] += run.records;
            }
        }
        for ((stream, _), next) in self.streams.iter().zip(numbers) {
            if streams.get(*stream).is_none() {
                return Err(OpenError { what: "the decided batches" });
            }
            streams.decide_up_to(*stream, next);
        }
        Ok(())
    }
}

impl Core {
    /// Takes the decided batches of before the restart.
    pub(super) fn prepare_restore(
        &mut self,
        batches: impl IntoIterator<Item = (u64, Entry)>,
    ) -> Result<(), OpenError> {
        let broken = OpenError { what: "the decided batches" };
        let mut expected = (self.forming.number, self.cursor);
        for (number, entry) in batches {
            if (number, entry.from) != expected {
                return Err(broken);
            }
            expected = (number + 1, entry.to);
            entry.note_numbers(&mut self.streams)?;
            let mut gaps = Vec::new();
            for gap in &entry.gaps {
                let stream = self.streams.get(gap.stream).ok_or(broken.clone())?;
                let topic = stream.topic.clone();
                gaps.push(Gap {
                    stream: gap.stream,
                    topic,
                    from: gap.from,
                    to: gap.to,
                    why: gap.why,
                });
            }
            self.restoring.push_back(Restoring::new(number, entry, gaps));
        }
        self.forming = Forming::new(expected.0, expected.1);
        self.finish_restored();
        Ok(())
    }

    /// Takes a record of a batch that was decided before the restart. Returns whether it was one.
    pub(super) fn restore_record(&mut self, at: Position, body: &Bytes) -> bool {
        let Some(restoring) = self.restoring.front_mut() else { return false };
        debug_assert_eq!(restoring.ordinal, at.ordinal, "holes are told before");
        let message = self.decoder.decode(body);
        restoring.bytes += body.len() as u64;
        // Bytes with the right checksum that are no message, or one of another stream, are damage.
        let is_sound = match (&message, restoring.entry.runs.get(restoring.run)) {
            (Ok(message), Some(run)) => match run.decision {
                Decision::Assigned { stream } => {
                    let local = usize::try_from(stream).expect("checked");
                    let stream = self.streams.get(restoring.entry.streams[local].0);
                    stream.is_some_and(|stream| stream.topic == message.topic)
                }
                _ => true,
            },
            _ => false,
        };
        let (true, Ok(message)) = (is_sound, &message) else {
            restoring.lose(Counted::Yes);
            self.finish_restored();
            return true;
        };
        if let Some(decided) = restoring.next() {
            match decided.decision {
                Decision::Assigned { .. } => {
                    let reading = payload::reading(message);
                    self.rules.remember(&message.topic, &reading);
                    restoring.oldest.get_or_insert(reading.arrival);
                    if let Some((local, stream, number)) = decided.number {
                        let column = &mut restoring.streams[local].1;
                        let (topic, raw) = (&message.topic, self.encoder.raw(message));
                        restoring.content.push(stream, topic, column, number, &reading, raw);
                    }
                }
                Decision::Filtered { rule } => {
                    let rule = usize::try_from(rule).expect("checked");
                    restoring.outcomes.add_filtered(&restoring.entry.rules[rule], 1);
                }
                Decision::Expired => restoring.outcomes.expired += 1,
                Decision::DroppedNumbered { reason, .. } | Decision::Dropped { reason } => {
                    restoring.outcomes.add_dropped(reason, 1);
                }
            }
        }
        self.finish_restored();
        true
    }

    /// Takes records that are missing. Returns how many of them were not decided before the restart.
    pub(super) fn restore_lost(&mut self, at: Position, records: u64, counted: Counted) -> u64 {
        let mut left = records;
        while left > 0
            && let Some(restoring) = self.restoring.front_mut()
        {
            debug_assert_eq!(restoring.ordinal, at.ordinal + 1 - left);
            restoring.lose(counted);
            left -= 1;
            self.finish_restored();
        }
        left
    }

    /// Puts the batches whose records have all been read into the window.
    fn finish_restored(&mut self) {
        while let Some(restoring) = self.restoring.pop_front_if(|front| front.is_complete()) {
            let (batch, content) = restoring.into_batch();
            self.add_batch(batch, content);
        }
    }
}

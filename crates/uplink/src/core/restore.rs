//! Forming decided batches again after a restart.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use tidegate_model::{Message, Reading, Timestamp, Topic};
use tidegate_rules::{Effects, Rules};
use tidegate_store::Position;

use super::{Core, OpenError, batch::Batch, forming::Forming, intake::Counted};
use crate::{
    content::{Content, Gap, RawPayload},
    decision::{Decision, Entry, GapEntry},
    encoder::Encoder,
    keys::Key,
    ledger::{DropReason, Outcomes, add, take},
    payload,
    streams::{Stream, StreamId, Streams},
};

/// A decided batch whose records are being read again.
#[derive(Debug)]
pub(super) struct Restoring {
    number: u64,
    entry: Entry,
    /// The topics of the entry's streams.
    topics: Vec<Topic>,
    /// How its records go through the rules once more.
    replay: Replay,
    /// Whether all of it was acknowledged: it is not formed, only replayed.
    is_settled: bool,
    /// The next of the readings that rules changed, made, and were told of the clock.
    changed: usize,
    made: usize,
    tick: usize,
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
    newest: Option<Timestamp>,
}

/// One record's decision, with its stream and number if it has them.
struct Decided {
    decision: Decision,
    number: Option<(usize, StreamId, u64)>,
}

/// Whether records that were decided go through the rules once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Replay {
    /// What the rules remember is of before them.
    Needed,
    /// The rules know them, or are others now.
    No,
}

impl Restoring {
    fn new(
        number: u64,
        entry: Entry,
        gaps: Vec<Gap>,
        topics: Vec<Topic>,
        replay: Replay,
        is_settled: bool,
    ) -> Self {
        let content = Content { gaps, ..Content::new(entry.clock, entry.replayed) };
        Self {
            number,
            topics,
            replay,
            is_settled,
            changed: 0,
            made: 0,
            tick: 0,
            run: 0,
            passed: 0,
            ordinal: entry.from.ordinal + 1,
            streams: entry.streams.iter().map(|(_, first)| (*first, usize::MAX)).collect(),
            content,
            outcomes: entry.effects_outcomes(),
            lost: Vec::new(),
            bytes: 0,
            oldest: None,
            newest: None,
            entry,
        }
    }

    /// Puts in what rules made before the next record.
    fn push_made(&mut self, encoder: &Encoder) {
        let place = self.ordinal - self.entry.from.ordinal - 1;
        while let Some(made) = self.entry.made.get(self.made).filter(|made| made.place <= place) {
            self.made += 1;
            let Some((local, reading)) = &made.numbered else { continue };
            let local = usize::try_from(*local).expect("checked when the entry was read");
            self.streams[local].0 += 1;
            let (number, reading) = (self.streams[local].0 - 1, reading.clone());
            self.push(local, number, &reading, encoder.raw_of(&reading));
        }
    }

    /// Tells the rules what they were told of the clock before the next record.
    fn replay_ticks(&mut self, rules: &mut Rules, effects: &mut Effects) {
        let place = self.ordinal - self.entry.from.ordinal - 1;
        while let Some(&(_, wall)) = self.entry.ticks.get(self.tick).filter(|tick| tick.0 <= place)
        {
            self.tick += 1;
            if self.replay == Replay::Needed {
                rules.advance(wall, effects);
            }
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
            Decision::Assigned { stream }
            | Decision::Changed { stream }
            | Decision::DroppedNumbered { stream, .. } => {
                let local = usize::try_from(stream).expect("checked when the entry was read");
                let next = &mut self.streams[local].0;
                *next += 1;
                Some((local, self.entry.streams[local].0, *next - 1))
            }
            _ => None,
        };
        Some(Decided { decision: run.decision, number })
    }

    /// Passes a record that cannot be read any more. Returns the rule in which it waits, if it does.
    fn lose(&mut self, counted: Counted, encoder: &Encoder) -> Option<Arc<str>> {
        let decided = self.next()?;
        if let (Decision::Changed { .. }, Some(numbered)) = (decided.decision, decided.number) {
            // As what it goes out stands in the entry.
            self.push_changed(numbered, None, encoder);
            return None;
        }
        if let Decision::Held { rule } = decided.decision {
            return Some(Arc::clone(&self.entry.rules[usize::try_from(rule).expect("checked")]));
        }
        if counted == Counted::Yes {
            self.outcomes.add_dropped(DropReason::Damaged, 1);
        }
        if let (Decision::Assigned { .. }, Some((_, stream, number))) =
            (decided.decision, decided.number)
        {
            let why = DropReason::Damaged;
            self.lost.push(GapEntry { stream, from: number, to: number, why });
        }
        None
    }

    /// Puts in the next reading that the rules have changed.
    fn push_changed(
        &mut self,
        (local, _, number): (usize, StreamId, u64),
        message: Option<&Message>,
        encoder: &Encoder,
    ) {
        let reading = self.entry.changed[self.changed].clone();
        self.changed += 1;
        let raw = match message {
            Some(message) => encoder.raw_changed(&reading, message),
            None => encoder.raw_of(&reading),
        };
        self.push(local, number, &reading, raw);
    }

    /// Puts in a reading with its number, if the batch is formed at all.
    fn push(&mut self, local: usize, number: u64, reading: &Reading, raw: Option<RawPayload>) {
        if self.is_settled {
            return;
        }
        self.oldest.get_or_insert(reading.arrival);
        self.newest = self.newest.max(Some(reading.arrival));
        let stream = self.entry.streams[local].0;
        let column = &mut self.streams[local].1;
        self.content.push(stream, &self.topics[local], column, number, reading, raw);
    }

    /// Returns whether `message` can be the next record.
    fn is_sound(&self, message: &Message) -> bool {
        match self.entry.runs.get(self.run).map(|run| run.decision) {
            Some(Decision::Assigned { stream } | Decision::Changed { stream }) => {
                self.topics[usize::try_from(stream).expect("checked")] == message.topic
            }
            Some(_) => true,
            None => false,
        }
    }

    /// Takes the next record. Returns whether it went through the rules.
    fn take(&mut self, message: &Message, reading: &Reading, encoder: &Encoder) -> bool {
        let Some(decided) = self.next() else { return false };
        match (decided.decision, decided.number) {
            (Decision::Assigned { .. }, Some((local, _, number))) => {
                self.push(local, number, reading, encoder.raw(message));
            }
            (Decision::Changed { .. }, Some(numbered)) => {
                self.push_changed(numbered, Some(message), encoder);
            }
            (Decision::Filtered { rule }, _) => {
                let rule = Arc::clone(self.entry.name(rule));
                self.outcomes.add_filtered(&rule, 1);
            }
            (Decision::Expired, _) => {
                self.outcomes.expired += 1;
                return false;
            }
            (Decision::Dropped { reason } | Decision::DroppedNumbered { reason, .. }, _) => {
                self.outcomes.add_dropped(reason, 1);
                return reason == DropReason::Streams;
            }
            _ => {}
        }
        true
    }

    fn into_batch(self) -> (Batch, Content) {
        let (held, freed) = (self.entry.held(), self.entry.freed());
        let batch = Batch {
            held,
            freed,
            number: self.number,
            to: self.entry.to,
            ordinals: self.entry.to.ordinal - self.entry.from.ordinal,
            bytes: self.bytes,
            oldest: self.oldest,
            newest: self.newest,
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
            if let Decision::Assigned { stream }
            | Decision::Changed { stream }
            | Decision::DroppedNumbered { stream, .. } = run.decision
            {
                numbers[usize::try_from(stream).expect("checked when it was read")] += run.records;
            }
        }
        for (stream, _) in self.made.iter().filter_map(|made| made.numbered.as_ref()) {
            numbers[usize::try_from(*stream).expect("checked when it was read")] += 1;
        }
        for ((stream, _), next) in self.streams.iter().zip(numbers) {
            if streams.get(*stream).is_none() {
                return Err(OpenError { what: "the decided batches" });
            }
            streams.decide_up_to(*stream, next);
        }
        Ok(())
    }

    /// Returns what became of all that is in it beside its records.
    fn effects_outcomes(&self) -> Outcomes {
        let mut outcomes = Outcomes::default();
        for made in &self.made {
            outcomes.add_made(self.name(made.rule), 1);
            if made.numbered.is_none() {
                outcomes.add_dropped(DropReason::Streams, 1);
            }
        }
        for (made_by, filtered_by) in &self.in_vain {
            outcomes.add_made(self.name(*made_by), 1);
            outcomes.add_filtered(self.name(*filtered_by), 1);
        }
        for (rule, records) in &self.released {
            outcomes.add_filtered(self.name(*rule), *records);
        }
        for (_, records) in &self.lost {
            outcomes.add_dropped(DropReason::Damaged, *records);
        }
        outcomes
    }

    /// Returns how many of its records wait in rules, by name.
    fn held(&self) -> BTreeMap<Arc<str>, u64> {
        let mut held = BTreeMap::new();
        for run in &self.runs {
            if let Decision::Held { rule } = run.decision {
                add(&mut held, self.name(rule), run.records);
            }
        }
        held
    }

    /// Returns how many records that waited wait no longer with it, by name.
    fn freed(&self) -> BTreeMap<Arc<str>, u64> {
        let mut freed = BTreeMap::new();
        for (rule, records) in self.released.iter().chain(&self.lost) {
            add(&mut freed, self.name(*rule), *records);
        }
        freed
    }

    fn name(&self, rule: u32) -> &Arc<str> {
        &self.rules[usize::try_from(rule).expect("checked when it was read")]
    }
}

impl Core {
    /// Takes the decided batches of before the restart: those that are settled are only replayed, if that
    /// is needed.
    pub(super) fn prepare_restore(
        &mut self,
        batches: impl IntoIterator<Item = (u64, Entry)>,
        next_batch: u64,
    ) -> Result<(), OpenError> {
        let broken = OpenError { what: "the decided batches" };
        let replays = self.remembers && self.kept.is_of_these_rules();
        let mut waiting = self.held.clone();
        let mut before: Option<(u64, Position)> = None;
        for (number, entry) in batches {
            let is_settled = number < next_batch;
            let is_new = replays && number > self.kept.batch;
            if is_settled && !is_new {
                entry.note_numbers(&mut self.streams)?;
                if replays {
                    // The run before had other rules, and would have needed it; these have what it did.
                    self.opening.push(self.keys.delete(Key::Batch(number)));
                } else {
                    self.settled.push(number);
                }
                continue;
            }
            let is_first = number == next_batch && entry.from == self.cursor;
            let follows = before.map_or(is_settled || is_first, |(last, to)| {
                number == last + 1 && entry.from == to
            });
            if !follows {
                return Err(broken);
            }
            before = Some((number, entry.to));
            if is_settled {
                self.settled.push(number);
            } else {
                self.forming = Forming::new(number + 1, entry.to);
                entry.held().iter().for_each(|(name, records)| add(&mut waiting, name, *records));
                entry.freed().iter().for_each(|(name, records)| take(&mut waiting, name, *records));
            }
            entry.note_numbers(&mut self.streams)?;
            let replay = if is_new { Replay::Needed } else { Replay::No };
            let restoring = self.restoring(number, entry, replay, is_settled)?;
            self.restoring.push_back(restoring);
        }
        if !replays {
            self.give_up_waiting(&waiting);
        }
        self.finish_restored();
        Ok(())
    }

    fn restoring(
        &self,
        number: u64,
        entry: Entry,
        replay: Replay,
        is_settled: bool,
    ) -> Result<Restoring, OpenError> {
        let topic = |stream| {
            let stream: Option<&Stream> = self.streams.get(stream);
            stream
                .map(|stream| stream.topic.clone())
                .ok_or(OpenError { what: "the decided batches" })
        };
        let mut gaps = Vec::new();
        for gap in &entry.gaps {
            let topic = topic(gap.stream)?;
            gaps.push(Gap { stream: gap.stream, topic, from: gap.from, to: gap.to, why: gap.why });
        }
        let topics = entry.streams.iter().map(|(stream, _)| topic(*stream));
        let topics = topics.collect::<Result<Vec<_>, _>>()?;
        Ok(Restoring::new(number, entry, gaps, topics, replay, is_settled))
    }

    /// Lets go what waits in rules that are others now: it counts as filtered.
    fn give_up_waiting(&mut self, waiting: &BTreeMap<Arc<str>, u64>) {
        for (name, records) in waiting.iter().filter(|(_, records)| **records > 0) {
            self.forming.release(name, *records);
        }
    }

    /// Takes a record of a batch that was decided before the restart. Returns whether it was one.
    pub(super) fn restore_record(&mut self, at: Position, body: &Bytes) -> bool {
        let Some(mut restoring) = self.restoring.pop_front() else { return false };
        debug_assert_eq!(restoring.ordinal, at.ordinal, "holes are told before");
        restoring.push_made(&self.encoder);
        restoring.replay_ticks(&mut self.rules, &mut self.effects);
        let message = self.decoder.decode(body);
        restoring.bytes += body.len() as u64;
        match message {
            // Bytes with the right checksum that are no message, or one of another stream, are damage.
            Ok(mut message) if restoring.is_sound(&message) => {
                self.stamp.correct_message(&mut message);
                let reading = self.stamp.correct(payload::reading(&message));
                let decided = restoring.take(&message, &reading, &self.encoder);
                if decided && restoring.replay == Replay::Needed {
                    self.rules.decide(&message.topic, &reading, &mut self.effects);
                }
            }
            _ => self.lose_restored(&mut restoring, Counted::Yes),
        }
        self.restoring.push_front(restoring);
        self.finish_restored();
        true
    }

    /// Takes records that are missing. Returns how many of them were not decided before the restart.
    pub(super) fn restore_lost(&mut self, at: Position, records: u64, counted: Counted) -> u64 {
        let mut left = records;
        while left > 0
            && let Some(mut restoring) = self.restoring.pop_front()
        {
            debug_assert_eq!(restoring.ordinal, at.ordinal + 1 - left);
            restoring.push_made(&self.encoder);
            restoring.replay_ticks(&mut self.rules, &mut self.effects);
            self.lose_restored(&mut restoring, counted);
            self.restoring.push_front(restoring);
            left -= 1;
            self.finish_restored();
        }
        left
    }

    /// Passes a record that cannot be read any more. One that should wait in a rule whose memory is of before
    /// it is lost with that: no figure will tell of it.
    fn lose_restored(&mut self, restoring: &mut Restoring, counted: Counted) {
        let held = restoring.lose(counted, &self.encoder);
        if let Some(name) = held
            && restoring.replay == Replay::Needed
        {
            self.forming.lose_held(&name, 1);
        }
    }

    /// Puts the batches whose records have all been read into the window.
    fn finish_restored(&mut self) {
        while let Some(mut restoring) = self.restoring.pop_front_if(|front| front.is_complete()) {
            restoring.push_made(&self.encoder);
            restoring.replay_ticks(&mut self.rules, &mut self.effects);
            if restoring.is_settled {
                continue;
            }
            let (batch, content) = restoring.into_batch();
            self.add_batch(batch, content);
        }
        if self.restoring.is_empty() && !self.forming.is_empty() {
            // What was given up, or is lost, is decided before anything else.
            self.close();
        }
    }
}

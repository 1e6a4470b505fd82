//! A cloud with a temper, and with a memory for what it was told.

use std::collections::{BTreeMap, VecDeque};

use tidegate_store::simulation::Random;
use tidegate_uplink::{
    Ack, Outgoing, SendId,
    decoder::{DecodedReading, Limits, decode},
};

/// How the cloud treats what it gets. The numbers are chances in 1,000.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Temper {
    /// Of having a connection, whenever one was lost.
    pub(crate) connected_permille: u64,
    /// Of closing the connection at each step.
    pub(crate) closing_permille: u64,
    /// Of taking a message and losing the acknowledgement.
    pub(crate) forgetting_permille: u64,
    /// Of answering another message first.
    pub(crate) reordering_permille: u64,
    /// What it does with poison.
    pub(crate) poison: Poison,
}

/// What the cloud does with a payload that holds a poisonous value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Poison {
    Takes,
    Refuses,
    Closes,
}

impl Temper {
    pub(crate) fn calm() -> Self {
        Self {
            connected_permille: 1_000,
            closing_permille: 0,
            forgetting_permille: 0,
            reordering_permille: 0,
            poison: Poison::Takes,
        }
    }

    pub(crate) fn rough() -> Self {
        Self {
            connected_permille: 500,
            closing_permille: 60,
            forgetting_permille: 60,
            reordering_permille: 200,
            poison: Poison::Takes,
        }
    }

    pub(crate) fn refusing() -> Self {
        Self { poison: Poison::Refuses, ..Self::calm() }
    }

    pub(crate) fn closing() -> Self {
        Self { poison: Poison::Closes, ..Self::calm() }
    }
}

/// What the cloud does next.
#[derive(Debug)]
pub(crate) enum Answer {
    Acks(SendId, Ack),
    Closes,
}

/// Epoch, stream and number.
pub(crate) type Key = (i64, String, i64);

/// Everything the cloud has been told.
#[derive(Debug, Default)]
pub(crate) struct Cloud {
    pub(crate) readings: BTreeMap<Key, DecodedReading>,
    /// By stream: ranges of numbers that will never come.
    pub(crate) gaps: BTreeMap<String, Vec<(i64, i64)>>,
    pub(crate) duplicates: u64,
    inbox: VecDeque<Outgoing>,
}

impl Cloud {
    pub(crate) fn send(&mut self, message: Outgoing) {
        self.inbox.push_back(message);
    }

    pub(crate) fn disconnect(&mut self, random: &mut Random) {
        // What was on its way may have been taken.
        for message in std::mem::take(&mut self.inbox) {
            if random.below(2) == 0 && !is_poisonous(&message) {
                self.take(&message);
            }
        }
    }

    pub(crate) fn step(&mut self, temper: &Temper, random: &mut Random) -> Option<Answer> {
        let roll = |random: &mut Random, permille| random.below(1_000) < permille;
        if roll(random, temper.closing_permille) {
            return Some(Answer::Closes);
        }
        if self.inbox.len() > 1 && roll(random, temper.reordering_permille) {
            self.inbox.rotate_left(1);
        }
        let message = self.inbox.pop_front()?;
        if is_poisonous(&message) {
            match temper.poison {
                Poison::Takes => {}
                Poison::Refuses => {
                    let reason = "payload format invalid".to_owned();
                    return Some(Answer::Acks(message.id, Ack::RefusedPayload { reason }));
                }
                Poison::Closes => return Some(Answer::Closes),
            }
        }
        self.take(&message);
        if roll(random, temper.forgetting_permille) {
            return None;
        }
        Some(Answer::Acks(message.id, Ack::Accepted))
    }

    /// Takes a message as a receiver does that de-duplicates by key.
    fn take(&mut self, message: &Outgoing) {
        let publication = &message.publication;
        let batch = decode(&publication.payload, &Limits::OWN).expect("what is sent can be read");
        for mut reading in batch.readings {
            // Formats of single readings leave the stream to the topic.
            let stream = reading.stream.clone();
            let stream = stream.as_deref().unwrap_or_else(|| &publication.topic["up/".len()..]);
            // Whether it waited is not part of the reading.
            reading.replayed = false;
            reading.stream = None;
            let key = (batch.epoch, stream.to_owned(), reading.number);
            if let Some(before) = self.readings.get(&key) {
                assert_eq!(before, &reading, "the same key carries the same reading: {key:?}");
                self.duplicates += 1;
            }
            self.readings.insert(key, reading);
        }
        for gap in batch.gaps {
            assert!(gap.from <= gap.to);
            self.gaps.entry(gap.stream.to_string()).or_default().push((gap.from, gap.to));
        }
    }

    /// Asserts that the numbers of each stream run from 1 without holes, counting gaps as told.
    pub(crate) fn check_numbers(&self) {
        let mut streams: BTreeMap<&str, Vec<(i64, i64)>> = BTreeMap::new();
        for (_, stream, number) in self.readings.keys() {
            streams.entry(stream).or_default().push((*number, *number));
        }
        for (stream, gaps) in &self.gaps {
            streams.entry(stream).or_default().extend(gaps);
        }
        for (stream, mut ranges) in streams {
            ranges.sort_unstable();
            let mut next = 1;
            for (from, to) in ranges {
                assert!(from <= next, "{stream}: numbers {next} to {} are missing", from - 1);
                next = next.max(to + 1);
            }
        }
    }
}

/// Returns whether a payload holds a value that the cloud cannot stand.
fn is_poisonous(message: &Outgoing) -> bool {
    let batch =
        decode(&message.publication.payload, &Limits::OWN).expect("what is sent can be read");
    batch.readings.iter().any(|reading| crate::world::is_poison(&reading.value))
}

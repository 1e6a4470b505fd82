//! Requests without an answer.

use std::{collections::BTreeMap, time::Duration};

use tidegate_model::Value;

/// Requests of a thing that the service takes at once.
pub(super) const ASKED_MAX: usize = 10;
/// After so long there is no answer any more.
const PATIENCE: Duration = Duration::from_secs(10);

/// What was asked. Complete.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Question {
    /// For the whole document.
    Get,
    /// For an update of the keys at these places to these values.
    Update(Vec<(usize, Value)>),
}

/// Requests by their tokens, which no other process nor any connection before has used.
#[derive(Debug)]
pub(super) struct Asked {
    era: u64,
    next: u64,
    open: BTreeMap<u64, (Duration, Question)>,
}

impl Asked {
    /// Begins with any number, another one each time.
    pub(super) fn new(era: u64) -> Self {
        Self { era, next: 0, open: BTreeMap::new() }
    }

    /// Notes a question; returns its token.
    pub(super) fn ask(&mut self, question: Question, now: Duration) -> String {
        self.next += 1;
        self.open.insert(self.next, (now + PATIENCE, question));
        format!("{:016x}-{}", self.era, self.next)
    }

    /// Returns what was asked with a token.
    pub(super) fn answered(&mut self, token: &str) -> Option<Question> {
        let (era, number) = token.split_once('-')?;
        if u64::from_str_radix(era, 16) != Ok(self.era) {
            return None;
        }
        Some(self.open.remove(&number.parse().ok()?)?.1)
    }

    /// Returns what has had no answer in time, the oldest first.
    pub(super) fn overdue(&mut self, now: Duration) -> Option<Question> {
        let entry = self.open.first_entry()?;
        (entry.get().0 <= now).then(|| entry.remove().1)
    }

    /// Returns when the next one is overdue.
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.open.first_key_value().map(|(_, (due, _))| *due)
    }

    /// Returns what has no answer yet.
    pub(super) fn questions(&self) -> impl Iterator<Item = &Question> {
        self.open.values().map(|(_, question)| question)
    }

    pub(super) fn has_room(&self) -> bool {
        self.open.len() < ASKED_MAX
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.open.clear();
    }
}

//! What the rules remember, kept in the journal: as of the end of a batch, now and then. After a restart
//! the rules begin there, and the records behind go through them once more; what comes of those is known
//! already, as it was decided.

use std::time::Duration;

use tidegate_rules::{Changes, Restored, Rules};
use tidegate_store::Position;

use super::{Core, Moved, OpenError, Purpose, saved::Saved};
use crate::{
    decision::{put_position, read_position},
    keys::{Change, Key, Keys},
    ledger::Outcomes,
    wire::{Input, put_number},
};

/// What the rules remember is kept when so much time has passed since the last time,
const AGE_MAX: Duration = Duration::from_secs(30);
/// or so many records were decided,
const RECORDS_MAX: u64 = 65_536;
/// or so many topics have changed,
const TOPICS_MAX: usize = 4_096;
/// or so many bytes, roughly: a journal's transaction takes much more.
const BYTES_MAX: usize = 1 << 20;

/// How far what the rules remember is kept.
#[derive(Debug)]
pub(super) struct Kept {
    /// It is as of this record.
    pub(super) at: Position,
    /// The batch that ends there, or 0.
    pub(super) batch: u64,
    /// When it was kept; `None` if before the restart.
    elapsed: Option<Duration>,
    /// Whether it must be kept with the next batch: what the journal has is of other rules.
    is_stale: bool,
}

/// What the journal has of the rules' memory.
#[derive(Debug, Default)]
pub(super) struct SavedRules {
    pub(super) head: Option<Vec<u8>>,
    pub(super) topics: std::collections::BTreeMap<u64, Vec<u8>>,
}

/// Returns of which record and batch a saved head is, and the head of the rules.
fn read_head(head: &[u8]) -> Result<(Position, u64, &[u8]), OpenError> {
    let broken = |_| OpenError { what: "what the rules remember" };
    let mut input = Input::new(head);
    let at = read_position(&mut input).map_err(broken)?;
    let batch = input.number().map_err(broken)?;
    Ok((at, batch, input.rest()))
}

impl SavedRules {
    /// Returns of which record it is.
    pub(super) fn position(&self) -> Result<Option<Position>, OpenError> {
        self.head.as_deref().map(|head| read_head(head).map(|(at, ..)| at)).transpose()
    }

    /// Fills the memory of `rules`. Returns where they begin: with the records after that.
    pub(super) fn restore(&self, rules: &mut Rules, cursor: Position) -> Result<Kept, OpenError> {
        let anew = Kept::anew(cursor);
        let Some(head) = &self.head else { return Ok(anew) };
        let (at, batch, head) = read_head(head)?;
        let topics = self.topics.iter().map(|(number, bytes)| (*number, bytes.as_slice()));
        let restored = rules.restore(head, topics);
        match restored.map_err(|_| OpenError { what: "what the rules remember" })? {
            Restored::All => Ok(Kept { at, batch, elapsed: None, is_stale: false }),
            Restored::Renewed => Ok(anew),
        }
    }
}

impl Kept {
    /// Nothing is kept, or what is kept is of other rules.
    pub(super) fn anew(cursor: Position) -> Self {
        Self { at: cursor, batch: 0, elapsed: None, is_stale: true }
    }

    /// Returns whether the rules are those of before the restart.
    pub(super) fn is_of_these_rules(&self) -> bool {
        !self.is_stale
    }
}

impl Core {
    /// Returns whether the batch should end, so that what the rules remember can be kept.
    pub(super) fn rules_must_be_saved(&self) -> bool {
        self.rules.changes() >= TOPICS_MAX || self.rules.changed_bytes() >= BYTES_MAX
    }

    /// Adds what the rules remember at the end of batch `number`, `at`, if it is time. Returns whether it was.
    pub(super) fn save_rules_if_due(
        &mut self,
        at: Position,
        number: u64,
        changes: &mut Vec<Change>,
    ) -> bool {
        // Soon after a start, so that frequent ones do not add up.
        let age = self.kept.elapsed.map(|kept| self.now.elapsed.saturating_sub(kept));
        let is_old = age.is_none_or(|age| age >= AGE_MAX);
        let is_far = at.ordinal.saturating_sub(self.kept.at.ordinal) >= RECORDS_MAX;
        let is_due = self.kept.is_stale || is_old || is_far || self.rules_must_be_saved();
        if !self.remembers || !is_due {
            return false;
        }
        let Changes { head, topics, gone } = self.rules.save();
        let mut value = Vec::new();
        put_position(&mut value, at);
        put_number(&mut value, number);
        value.extend_from_slice(&head);
        changes.push(self.keys.put(Key::Rules, value));
        for (number, bytes) in topics {
            changes.push(self.keys.put(Key::RulesOfTopic(number), bytes));
        }
        changes.extend(gone.into_iter().map(|it| self.keys.delete(Key::RulesOfTopic(it))));
        // Settled batches were kept so that their records could go through the rules once more.
        for settled in std::mem::take(&mut self.settled) {
            changes.push(self.keys.delete(Key::Batch(settled)));
        }
        self.kept = Kept { at, batch: number, elapsed: Some(self.now.elapsed), is_stale: false };
        true
    }

    /// Keeps what other rules begin with, with the first write, unless a batch that gives up what waited in
    /// those of before does.
    pub(super) fn save_rules_at_open(&mut self) {
        if !self.kept.is_stale || !self.forming.is_empty() {
            return;
        }
        let mut changes = Vec::new();
        let (at, number) = (self.forming.from, self.forming.number - 1);
        self.save_rules_if_due(at, number, &mut changes);
        self.opening.extend(changes);
    }

    /// Returns when what the rules remember is to be kept although nothing else is to be written: until then
    /// the records since the last time stay in the journal.
    pub(super) fn rules_due(&self) -> Option<Duration> {
        let lags = self.remembers && self.kept.at.ordinal < self.cursor.ordinal;
        let is_settled = self.forming.is_empty() && self.window.is_empty();
        (lags && is_settled)
            .then(|| self.kept.elapsed.map_or(Duration::ZERO, |kept| kept + AGE_MAX))
    }

    /// Keeps what the rules remember if that is due and nothing else is to be written.
    pub(super) fn save_rules_when_idle(&mut self) {
        if self.rules_due().is_none_or(|due| due > self.now.elapsed) {
            return;
        }
        let mut changes = Vec::new();
        let (at, number) = (self.forming.from, self.forming.number - 1);
        if self.save_rules_if_due(at, number, &mut changes) {
            let moved = self.moved(0, 0, Outcomes::default());
            self.write(Purpose::Keep, changes, Some(moved));
        }
    }

    /// Returns a move to where the cursor is now, past `records` that wait no longer.
    pub(super) fn moved(&self, records: u64, bytes: u64, outcomes: Outcomes) -> Moved {
        let held = self.held.values().sum();
        Moved { cursor: self.cursor, needed: self.needed(), records, held, bytes, outcomes }
    }

    /// Returns the last record that is needed no more.
    fn needed(&self) -> Position {
        let kept = if self.remembers { self.kept.at } else { self.cursor };
        if kept.ordinal < self.cursor.ordinal { kept } else { self.cursor }
    }
}

/// Returns the changes that forget what the rules remember, and the batches that were kept for them.
pub(super) fn forget(keys: &Keys, saved: &Saved) -> Vec<Change> {
    let settled = saved.batches.range(..saved.next_batch).map(|(number, _)| Key::Batch(*number));
    let topics = saved.rules.topics.keys().map(|number| Key::RulesOfTopic(*number));
    let head = saved.rules.head.as_ref().map(|_| Key::Rules);
    settled.chain(topics).chain(head).map(|key| keys.delete(key)).collect()
}

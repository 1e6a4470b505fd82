//! Moving the cursor past what is resolved.

use super::{Core, Purpose};
use crate::{
    keys::{Change, Key},
    ledger::{Outcomes, add, take},
};

impl Core {
    /// Asks the journal to move the cursor past the resolved batches at the front of the window, if
    /// there are any and no other move is under way.
    pub(super) fn plan_move(&mut self) {
        if self.moving.is_some() || !self.window.front().is_some_and(|batch| batch.is_resolved()) {
            return;
        }
        let mut changes: Vec<Change> = Vec::new();
        let mut outcomes = Outcomes::default();
        let (mut records, mut bytes) = (0, 0);
        while let Some(batch) = self.window.pop_front_if(|batch| batch.is_resolved()) {
            if self.remembers && batch.number > self.kept.batch {
                // Its records may have to go through the rules once more.
                self.settled.push(batch.number);
            } else {
                changes.push(self.keys.delete(Key::Batch(batch.number)));
            }
            outcomes.add(&batch.outcomes);
            records += batch.ordinals + batch.freed.values().sum::<u64>();
            records -= batch.held.values().sum::<u64>();
            batch.held.iter().for_each(|(name, held)| add(&mut self.held, name, *held));
            batch.freed.iter().for_each(|(name, freed)| take(&mut self.held, name, *freed));
            bytes += batch.bytes;
            self.cursor = batch.to;
            for gap in batch.lost {
                self.pending_gaps.add(gap);
            }
            for letter in batch.dead {
                self.dead_letters.add(letter, &self.keys, &mut changes);
            }
        }
        self.totals.add(&outcomes);
        self.pending_gaps.save(&self.keys, &mut changes);
        self.streams.save_numbers(&self.keys, &mut changes);
        let next_batch = self.window.front().map_or(self.first_undecided(), |batch| batch.number);
        changes.push(self.keys.put(Key::Books, self.books(next_batch)));
        self.moving = Some(bytes);
        let moved = self.moved(records, bytes, outcomes);
        self.write(Purpose::Move, changes, Some(moved));
    }

    /// Returns the number of the first batch after the window.
    fn first_undecided(&self) -> u64 {
        self.restoring.front().map_or(self.forming.number, |restoring| restoring.number())
    }
}

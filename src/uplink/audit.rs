//! Counting the journal again, record by record, to see whether the books are right.

use std::{io, time::Duration};

use tidegate_store::{Item, QueueReader};

use super::{handle::Snapshot, shared::Shared};
use crate::store::JournalFiles;

/// How often an audit looks again for records that are appended and not yet durable.
const AUDIT_ATTEMPTS: usize = 100;
const AUDIT_PAUSE: Duration = Duration::from_millis(20);

/// What a count of the journal says of the books.
#[derive(Clone, Debug, PartialEq)]
pub struct Audit {
    /// The uplink at the moment of the count.
    pub snapshot: Snapshot,
    /// How many records wait in the journal, counted one by one, and in rules.
    pub queued: u64,
    /// How many of those that should wait cannot be read.
    pub damaged: u64,
}

impl Audit {
    /// Returns whether the books are right: balanced, and the same as the count, with nothing lost.
    pub fn is_sound(&self) -> bool {
        self.snapshot.ledger.is_sound()
            && self.damaged == 0
            && self.snapshot.ledger.queued == self.queued
    }
}

impl Shared {
    /// Counts what waits in the journal, record by record.
    pub(super) fn audit(&self) -> io::Result<Audit> {
        let cursor = self.books.lock().cursor;
        let mut reader = self.reader(cursor);
        let mut count = Count { last: cursor.ordinal, ..Count::default() };
        // What is to be found was appended until now; under load there is always more that is not durable yet.
        let mut snapshot = self.snapshot();
        let last = snapshot.ledger.received;
        for _ in 0..AUDIT_ATTEMPTS {
            count.read_on(&mut reader)?;
            if count.last >= last {
                break;
            }
            std::thread::sleep(AUDIT_PAUSE);
        }
        count.forgive(self.books.lock().cursor.ordinal);
        self.note_unreadable(&count);
        let (queued, damaged) = count.between(snapshot.cursor.ordinal, last);
        // What waits in rules is in their state, which the journal has with the books.
        let queued = queued + snapshot.ledger.held;
        snapshot.ledger.unreadable = damaged;
        Ok(Audit { snapshot, queued, damaged })
    }

    /// Books what an audit has found lost, so that every status after it says so, too.
    fn note_unreadable(&self, count: &Count) {
        let mut books = self.books.lock();
        let (_, damaged) = count.between(books.cursor.ordinal, books.ledger.received);
        books.ledger.unreadable = damaged;
    }
}

/// Ranges of ordinals that were found or told missing, in order.
#[derive(Debug, Default)]
struct Count {
    found: Vec<(u64, u64)>,
    damaged: Vec<(u64, u64)>,
    last: u64,
}

impl Count {
    fn read_on(&mut self, reader: &mut QueueReader<JournalFiles>) -> io::Result<()> {
        loop {
            let block = reader.next_block(4_096, 4 << 20)?;
            if block.is_empty() {
                return Ok(());
            }
            for item in block {
                match item {
                    Item::Record { ordinal, .. } => {
                        add(&mut self.found, ordinal, ordinal);
                        self.last = ordinal;
                    }
                    Item::Damaged { records, position, .. } => {
                        add(&mut self.damaged, position.ordinal + 1 - records, position.ordinal);
                        self.last = position.ordinal;
                    }
                }
            }
        }
    }

    /// Takes what is missing up to `cursor` as found: it was delivered during the count, and deleted.
    fn forgive(&mut self, cursor: u64) {
        for (from, to) in &mut self.damaged {
            if *from <= cursor {
                self.found.push((*from, cursor.min(*to)));
                *from = cursor + 1;
            }
        }
        self.damaged.retain(|(from, to)| from <= to);
    }

    /// Returns how many ordinals above `after` and up to `last` were found, and how many were not.
    fn between(&self, after: u64, last: u64) -> (u64, u64) {
        let inside = |ranges: &[(u64, u64)]| {
            let clip =
                |&(from, to): &(u64, u64)| (to.min(last) + 1).saturating_sub(from.max(after + 1));
            ranges.iter().map(clip).sum()
        };
        (inside(&self.found), inside(&self.damaged))
    }
}

fn add(ranges: &mut Vec<(u64, u64)>, from: u64, to: u64) {
    match ranges.last_mut() {
        Some((_, last)) if *last + 1 == from => *last = to,
        _ => ranges.push((from, to)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_looks_at_one_range_only() {
        let mut count = Count::default();
        for ordinal in [3, 4, 5, 8, 9] {
            add(&mut count.found, ordinal, ordinal);
        }
        add(&mut count.damaged, 6, 7);
        assert_eq!(count.found, [(3, 5), (8, 9)]);
        #[rustfmt::skip]
        let cases = [
            // after  last  found  damaged
            (0,       9,    5,     2),
            (4,       9,    3,     2),
            (5,       8,    1,     2),
            (9,       9,    0,     0),
            (6,       6,    0,     0),
        ];
        for (after, last, found, damaged) in cases {
            assert_eq!(count.between(after, last), (found, damaged), "after {after} to {last}");
        }
    }
}

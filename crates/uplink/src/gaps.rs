//! Gaps that no batch carries yet.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    content::Gap,
    decision::{GapEntry, put_gaps, read_gaps},
    keys::{Change, Key, Keys},
    ledger::DropReason,
    streams::{StreamId, Streams},
    wire::{Input, Malformed},
};

/// How many streams' gaps are kept under one key.
pub(crate) const PAGE_STREAMS: u32 = 1_024;

/// Ranges of numbers that will never come, by stream; ranges that touch are one.
#[derive(Debug, Default)]
pub(crate) struct PendingGaps {
    /// By stream and first number: the last number and why.
    ranges: BTreeMap<(StreamId, u64), (u64, DropReason)>,
    /// The pages that differ from what the journal has.
    changed: BTreeSet<u32>,
}

impl PendingGaps {
    /// Adds the gaps of a page as the journal keeps it.
    pub(crate) fn restore(&mut self, value: &[u8]) -> Result<(), Malformed> {
        let mut input = Input::new(value);
        for gap in read_gaps(&mut input)? {
            self.ranges.insert((gap.stream, gap.from), (gap.to, gap.why));
        }
        input.end()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    pub(crate) fn add(&mut self, gap: GapEntry) {
        self.changed.insert(page(gap.stream));
        let mut gap = gap;
        let before = self.ranges.range(..=(gap.stream, gap.from)).next_back();
        if let Some((&(stream, from), &(to, why))) = before
            && stream == gap.stream
            && why == gap.why
            && to + 1 == gap.from
        {
            gap.from = from;
        }
        let after = (gap.stream, gap.to + 1);
        if let Some(&(to, why)) = self.ranges.get(&after)
            && why == gap.why
        {
            self.ranges.remove(&after);
            gap.to = to;
        }
        self.ranges.insert((gap.stream, gap.from), (gap.to, gap.why));
    }

    /// Takes out gaps for a batch, as many as fit into about `bytes`, one at least.
    pub(crate) fn take(&mut self, bytes: usize, streams: &Streams) -> Vec<Gap> {
        let mut taken = Vec::new();
        let mut size = 0;
        while let Some((&(stream, from), &(to, why))) = self.ranges.first_key_value() {
            let Some(known) = streams.get(stream) else {
                self.changed.insert(page(stream));
                self.ranges.pop_first();
                continue;
            };
            let gap = Gap { stream, topic: known.topic.clone(), from, to, why };
            size += gap.size_bound();
            if size > bytes && !taken.is_empty() {
                break;
            }
            self.ranges.pop_first();
            self.changed.insert(page(stream));
            taken.push(gap);
        }
        taken
    }

    /// Adds the pages that have changed since the last time.
    pub(crate) fn save(&mut self, keys: &Keys, changes: &mut Vec<Change>) {
        for page in std::mem::take(&mut self.changed) {
            let first = (StreamId::new(page * PAGE_STREAMS), 0);
            let last = (StreamId::new(page * PAGE_STREAMS + (PAGE_STREAMS - 1)), u64::MAX);
            let gaps: Vec<GapEntry> = self
                .ranges
                .range(first..=last)
                .map(|(&(stream, from), &(to, why))| GapEntry { stream, from, to, why })
                .collect();
            if gaps.is_empty() {
                changes.push(keys.delete(Key::Gaps(page)));
            } else {
                let mut value = Vec::new();
                put_gaps(&mut value, &gaps);
                changes.push(keys.put(Key::Gaps(page), value));
            }
        }
    }
}

fn page(stream: StreamId) -> u32 {
    stream.get() / PAGE_STREAMS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gap(stream: u32, from: u64, to: u64, why: DropReason) -> GapEntry {
        GapEntry { stream: StreamId::new(stream), from, to, why }
    }

    #[test]
    fn ranges_that_touch_are_one() {
        let mut pending = PendingGaps::default();
        pending.add(gap(1, 5, 9, DropReason::Full));
        pending.add(gap(1, 15, 19, DropReason::Full));
        pending.add(gap(1, 10, 14, DropReason::Full));
        pending.add(gap(1, 20, 20, DropReason::DeadLetter));
        pending.add(gap(2, 21, 22, DropReason::DeadLetter));
        let ranges: Vec<_> = pending.ranges.into_iter().collect();
        assert_eq!(
            ranges,
            [
                ((StreamId::new(1), 5), (19, DropReason::Full)),
                ((StreamId::new(1), 20), (20, DropReason::DeadLetter)),
                ((StreamId::new(2), 21), (22, DropReason::DeadLetter)),
            ]
        );
    }
}

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

    /// Adds a range. What is there already stays as it is.
    pub(crate) fn add(&mut self, gap: GapEntry) {
        let GapEntry { stream, mut from, to, why } = gap;
        self.changed.insert(page(stream));
        // The one that begins before, and all that begin within.
        let first = self.ranges.range(..=(stream, from)).next_back();
        let first = first.map(|(&(of, from), &(to, _))| (of, from, to));
        if let Some((.., end)) = first.filter(|(of, ..)| *of == stream) {
            from = from.max(end + 1);
        }
        while from <= to {
            let next = self.ranges.range((stream, from)..=(stream, to)).next();
            let Some((&(_, begin), &(end, _))) = next else {
                self.insert(GapEntry { stream, from, to, why });
                return;
            };
            if from < begin {
                self.insert(GapEntry { stream, from, to: begin - 1, why });
            }
            from = end + 1;
        }
    }

    /// Puts in a range that overlaps none; with those that it touches it becomes one.
    fn insert(&mut self, mut gap: GapEntry) {
        let before = self.ranges.range(..(gap.stream, gap.from)).next_back();
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

    #[test]
    fn what_is_there_already_stays() {
        type Ranges = &'static [(u64, u64)];
        #[rustfmt::skip]
        let cases: [(Ranges, Ranges); 7] = [
            // added                                 kept
            (&[(51, 63), (51, 51)],                  &[(51, 63)]),
            (&[(51, 63), (55, 60)],                  &[(51, 63)]),
            (&[(51, 63), (60, 70)],                  &[(51, 70)]),
            (&[(51, 63), (40, 55)],                  &[(40, 63)]),
            (&[(10, 12), (20, 22), (5, 30)],         &[(5, 30)]),
            (&[(10, 12), (20, 22), (12, 18)],        &[(10, 18), (20, 22)]),
            (&[(10, 12), (10, 12)],                  &[(10, 12)]),
        ];
        for (added, kept) in cases {
            let mut pending = PendingGaps::default();
            // Others are left alone.
            pending.add(gap(0, 1, 100, DropReason::Full));
            pending.add(gap(2, 1, 100, DropReason::Full));
            for (from, to) in added {
                pending.add(gap(1, *from, *to, DropReason::Full));
            }
            let ranges = pending.ranges.iter().filter(|((stream, _), _)| stream.get() == 1);
            let ranges: Vec<_> = ranges.map(|((_, from), (to, _))| (*from, *to)).collect();
            assert_eq!(ranges, kept, "{added:?}");
        }
        let mut pending = PendingGaps::default();
        pending.add(gap(1, 10, 12, DropReason::Full));
        pending.add(gap(1, 5, 20, DropReason::Age));
        let whys: Vec<_> = pending.ranges.into_iter().map(|((_, from), of)| (from, of)).collect();
        let (full, age) = (DropReason::Full, DropReason::Age);
        assert_eq!(whys, [(5, (9, age)), (10, (12, full)), (13, (20, age))]);
    }
}

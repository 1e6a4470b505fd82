//! Sets of numbers, as ranges that neither overlap nor touch.

use std::collections::BTreeMap;

/// A set of numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges {
    /// The last number of each range, by its first.
    ranges: BTreeMap<i64, i64>,
}

impl Ranges {
    /// Adds the numbers from `first` to `last`, both included; none if `last` is less. Returns how many of them
    /// were not in the set.
    pub fn insert(&mut self, first: i64, last: i64) -> u64 {
        if first > last {
            return 0;
        }
        let (mut from, mut to) = (first, last);
        let mut known = 0;
        // The ranges that overlap or touch, last one first.
        while let Some((&start, &end)) = self.ranges.range(..=to.saturating_add(1)).next_back() {
            if end < from.saturating_sub(1) {
                break;
            }
            known += count(start.max(first), end.min(last));
            from = from.min(start);
            to = to.max(end);
            self.ranges.remove(&start);
        }
        self.ranges.insert(from, to);
        count(first, last) - known
    }

    /// Takes the numbers of `others` out.
    pub fn remove_all(&mut self, others: &Self) {
        for (first, last) in others.iter() {
            self.remove(first, last);
        }
    }

    fn remove(&mut self, first: i64, last: i64) {
        while let Some((&start, &end)) = self.ranges.range(..=last).next_back() {
            if end < first {
                return;
            }
            self.ranges.remove(&start);
            if end > last {
                self.ranges.insert(last + 1, end);
            }
            if start < first {
                self.ranges.insert(start, first - 1);
            }
        }
    }

    /// Returns how many ranges there are.
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Returns whether there is no number.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Returns how many numbers there are.
    pub fn count(&self) -> u64 {
        self.iter().map(|(first, last)| count(first, last)).sum()
    }

    /// Returns the least and the greatest number.
    pub fn span(&self) -> Option<(i64, i64)> {
        Some((*self.ranges.first_key_value()?.0, *self.ranges.last_key_value()?.1))
    }

    /// Returns first and last number of each range, in order.
    pub fn iter(&self) -> impl Iterator<Item = (i64, i64)> {
        self.ranges.iter().map(|(first, last)| (*first, *last))
    }
}

fn count(first: i64, last: i64) -> u64 {
    if first > last { 0 } else { last.abs_diff(first).saturating_add(1) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Ranges do what a set of single numbers does.
        #[test]
        fn ranges_are_sets(
            steps in prop::collection::vec((any::<bool>(), 0_i64..60, 0_i64..8), 0..40),
        ) {
            let (mut ranges, mut model) = (Ranges::default(), BTreeSet::new());
            for (adds, first, more) in steps {
                if adds {
                    let new = (first..=first + more).filter(|number| model.insert(*number));
                    let new = new.count() as u64;
                    prop_assert_eq!(ranges.insert(first, first + more), new);
                } else {
                    let mut others = Ranges::default();
                    others.insert(first, first + more);
                    ranges.remove_all(&others);
                    model.retain(|number| !(first..=first + more).contains(number));
                }
                let listed: Vec<i64> = ranges.iter().flat_map(|(first, last)| first..=last).collect();
                prop_assert_eq!(&listed, &model.iter().copied().collect::<Vec<_>>());
                prop_assert_eq!(ranges.count(), model.len() as u64);
                // Ranges that touch are one.
                let firsts: Vec<_> = ranges.iter().collect();
                prop_assert!(firsts.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
            }
        }
    }

    #[test]
    fn the_ends_of_the_numbers_are_no_trouble() {
        let mut ranges = Ranges::default();
        assert_eq!(ranges.insert(i64::MAX, i64::MAX), 1);
        assert_eq!(ranges.insert(1, i64::MAX - 1), (1 << 63) - 2);
        assert_eq!(ranges.span(), Some((1, i64::MAX)));
        assert_eq!(ranges.len(), 1);
        let all = ranges.clone();
        ranges.remove_all(&all);
        assert!(ranges.is_empty());
        assert_eq!(ranges.insert(5, 4), 0);
    }
}

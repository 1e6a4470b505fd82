//! What arrived at the cloud, counted reading by reading.
//!
//! A reading is known by (`gw`, `up`, `ep`, `n`, `i`) and by nothing else; see `docs/telemetry-envelope.md`.

use std::{collections::BTreeMap, sync::Arc};

use tidegate_uplink::decoder::Batch;

/// Everything that arrived so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    streams: BTreeMap<Stream, Numbers>,
    /// What is counted across all streams.
    pub(super) totals: Totals,
}

/// Sums over all batches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    /// Readings with a number that had not come before.
    pub(super) received: u64,
    /// Readings with a number that had.
    pub(super) duplicates: u64,
    /// Batches that could be read.
    pub(super) batches: u64,
    /// Messages that could not be read as a batch.
    pub(super) unreadable: u64,
    /// Bytes of all batches as MQTT packets.
    pub(super) wire_bytes: u64,
    /// Bytes of the same readings as one MQTT packet with JSON each.
    pub(super) json_bytes: u64,
}

/// What a number is unique in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Stream {
    gateway: Arc<str>,
    uplink: Arc<str>,
    epoch: i64,
    topic: Arc<str>,
}

/// The numbers of one stream.
#[derive(Clone, Debug, Default)]
struct Numbers {
    received: Ranges,
    /// Received, or told never to come.
    known: Ranges,
}

impl Tally {
    /// Counts a batch that was a packet of `wire_bytes`; its readings would have been packets of `json_bytes`.
    pub(super) fn take(&mut self, batch: &Batch, wire_bytes: u64, json_bytes: u64) {
        self.totals.batches += 1;
        self.totals.wire_bytes += wire_bytes;
        self.totals.json_bytes += json_bytes;
        let stream = |topic: Arc<str>| Stream {
            gateway: batch.gateway.clone().unwrap_or_default(),
            uplink: batch.uplink.clone().unwrap_or_default(),
            epoch: batch.epoch,
            topic,
        };
        for reading in &batch.readings {
            let topic = reading.stream.clone().unwrap_or_default();
            let numbers = self.streams.entry(stream(topic)).or_default();
            numbers.known.insert(reading.number, reading.number);
            match numbers.received.insert(reading.number, reading.number) {
                0 => self.totals.duplicates += 1,
                _ => self.totals.received += 1,
            }
        }
        for gap in &batch.gaps {
            self.streams
                .entry(stream(gap.stream.clone()))
                .or_default()
                .known
                .insert(gap.from, gap.to);
        }
    }

    /// Counts a message that is no batch.
    pub(super) fn take_unreadable(&mut self, wire_bytes: u64) {
        self.totals.unreadable += 1;
        self.totals.wire_bytes += wire_bytes;
    }

    /// Returns how many different readings of a topic arrived.
    pub(super) fn received(&self, topic: &str) -> u64 {
        self.of(topic).map(|numbers| numbers.received.count()).sum()
    }

    /// Returns how many numbers are left out below the highest one, and are not among the gaps that the
    /// gateway told of. Numbers begin at 1.
    pub(super) fn holes(&self) -> u64 {
        self.streams.values().map(|numbers| numbers.known.holes()).sum()
    }

    /// Returns how many readings the gateway told never to come.
    pub(super) fn gaps(&self) -> u64 {
        self.streams.values().map(|numbers| numbers.known.count() - numbers.received.count()).sum()
    }

    fn of(&self, topic: &str) -> impl Iterator<Item = &Numbers> {
        self.streams
            .iter()
            .filter(move |(stream, _)| &*stream.topic == topic)
            .map(|(_, numbers)| numbers)
    }
}

/// A set of whole numbers from 1, kept as ranges that neither overlap nor touch, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Ranges(Vec<(i64, i64)>);

impl Ranges {
    /// Adds `from..=to` and returns how many of them are new; what is below 1 is left out.
    fn insert(&mut self, from: i64, to: i64) -> u64 {
        let from = from.max(1);
        if to < from {
            return 0;
        }
        let Self(ranges) = self;
        let first = ranges.partition_point(|range| range.1 < from - 1);
        let after = ranges.partition_point(|range| range.0 <= to.saturating_add(1));
        let touched = &ranges[first..after];
        let present: u64 =
            touched.iter().map(|range| length(range.0.max(from), range.1.min(to))).sum();
        let merged = touched
            .first()
            .zip(touched.last())
            .map_or((from, to), |(low, high)| (from.min(low.0), to.max(high.1)));
        ranges.splice(first..after, [merged]);
        length(from, to) - present
    }

    fn count(&self) -> u64 {
        self.0.iter().map(|range| length(range.0, range.1)).sum()
    }

    fn holes(&self) -> u64 {
        self.0.last().map_or(0, |last| length(1, last.1)) - self.count()
    }
}

/// Returns how many numbers there are from `from` to `to`, both at least 0.
fn length(from: i64, to: i64) -> u64 {
    if to < from { 0 } else { to.abs_diff(from) + 1 }
}

#[cfg(test)]
mod tests {
    use tidegate_model::{Status, Timestamp, Value};
    use tidegate_uplink::decoder::{DecodedGap, DecodedReading};

    use super::*;

    fn batch(epoch: i64, topic: &str, numbers: &[i64], gaps: &[(i64, i64)]) -> Batch {
        Batch {
            gateway: Some("gw".into()),
            uplink: Some("cloud".into()),
            epoch,
            readings: numbers
                .iter()
                .map(|number| DecodedReading {
                    stream: Some(topic.into()),
                    number: *number,
                    time: Timestamp::from_unix_millis(0),
                    until: None,
                    value: Value::Double(1.0),
                    unit: None,
                    status: Status::GOOD,
                    replayed: false,
                })
                .collect(),
            gaps: gaps
                .iter()
                .map(|&(from, to)| DecodedGap {
                    stream: topic.into(),
                    from,
                    to,
                    why: "full".into(),
                })
                .collect(),
            ..Batch::default()
        }
    }

    #[test]
    fn readings_are_counted_once() {
        let mut tally = Tally::default();
        tally.take(&batch(1, "a", &[1, 2, 3], &[]), 10, 100);
        tally.take(&batch(1, "a", &[3, 4], &[]), 10, 60);
        tally.take(&batch(1, "b", &[1], &[]), 10, 30);
        // Another epoch is another stream.
        tally.take(&batch(2, "a", &[1], &[]), 10, 30);
        assert_eq!((tally.received("a"), tally.received("b"), tally.received("c")), (5, 1, 0));
        assert_eq!(
            tally.totals,
            Totals {
                received: 6,
                duplicates: 1,
                batches: 4,
                unreadable: 0,
                wire_bytes: 40,
                json_bytes: 220
            }
        );
        assert_eq!((tally.holes(), tally.gaps()), (0, 0));
    }

    #[test]
    fn what_was_left_out_is_a_hole_unless_it_was_told() {
        #[rustfmt::skip]
        type Case<'a> = (&'a [i64], &'a [(i64, i64)], u64, u64);
        let cases: &[Case<'_>] = &[
            // numbers       gaps          holes  gaps
            (&[1, 2, 3], &[], 0, 0),
            (&[2], &[], 1, 0),
            (&[1, 5], &[], 3, 0),
            (&[1, 5], &[(2, 3)], 1, 2),
            (&[1, 5], &[(2, 4)], 0, 3),
            (&[5, 3, 1], &[(2, 2)], 1, 1),
            (&[], &[(4, 6)], 3, 3),
            (&[1, 0, -7], &[], 0, 0),
        ];
        for (numbers, told, holes, gaps) in cases {
            let mut tally = Tally::default();
            tally.take(&batch(1, "a", numbers, told), 0, 0);
            assert_eq!((tally.holes(), tally.gaps()), (*holes, *gaps), "{numbers:?} {told:?}");
        }
    }

    #[test]
    fn ranges_are_those_of_a_plain_set() {
        let mut state = 7_u64;
        for _ in 0..200 {
            let (mut ranges, mut plain) = (Ranges::default(), std::collections::BTreeSet::new());
            for _ in 0..30 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let from = i64::try_from(state >> 33).unwrap() % 60 - 3;
                let to = from + i64::try_from(state >> 40).unwrap() % 5;
                let new =
                    (from..=to).filter(|number| *number >= 1 && plain.insert(*number)).count();
                assert_eq!(ranges.insert(from, to), new as u64);
            }
            assert_eq!(ranges.count(), plain.len() as u64);
            let highest = plain.last().copied().unwrap_or(0);
            assert_eq!(ranges.holes(), highest.unsigned_abs() - plain.len() as u64);
            assert!(ranges.0.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0), "{ranges:?}");
        }
    }

    #[test]
    fn hostile_numbers_do_no_harm() {
        let mut ranges = Ranges::default();
        assert_eq!(ranges.insert(i64::MIN, 0), 0);
        assert_eq!(ranges.insert(i64::MAX, i64::MAX), 1);
        assert_eq!(ranges.insert(1, i64::MAX), i64::MAX.unsigned_abs() - 1);
        assert_eq!(ranges.insert(9, 3), 0);
        assert_eq!(ranges.holes(), 0);
    }
}

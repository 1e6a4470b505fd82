//! Whether what arrived at the far side is complete: which numbers came, came twice, or never came.
//!
//! [`Tally`] takes the payloads that somebody captured, in any order; [`capture`] finds payloads in what
//! people's tools write. Numbers are kept as ranges, so that a stream without holes costs the same however
//! long it is.

use std::{collections::BTreeMap, sync::Arc};

use thiserror::Error;

use crate::decoder::{Batch, DecodeError, Limits, decode};

pub mod capture;
mod ranges;

pub use ranges::Ranges;

/// What a stream is to its receiver.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamKey {
    /// The gateway; `None` in formats that leave it to the topic.
    pub gateway: Option<Arc<str>>,
    /// The uplink; `None` in formats that leave it to the topic.
    pub uplink: Option<Arc<str>>,
    /// The epoch.
    pub epoch: i64,
    /// The topic.
    pub stream: Arc<str>,
}

/// What came of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Numbers with a reading.
    pub received: Ranges,
    /// Numbers that will never come, as the gateway says.
    pub told: Ranges,
    /// How many readings came whose number had come before.
    pub twice: u64,
}

impl Seen {
    /// Returns the first and the last number that is known of.
    pub fn span(&self) -> Option<(i64, i64)> {
        let spans = [self.received.span(), self.told.span()];
        let both = |left: (i64, i64), right: (i64, i64)| (left.0.min(right.0), left.1.max(right.1));
        spans.into_iter().flatten().reduce(both)
    }

    /// Returns the numbers of which nothing is known: up to the last one that is, from the first one, or from
    /// `start` if that is given.
    pub fn missing(&self, start: Option<i64>) -> Ranges {
        let mut missing = Ranges::default();
        if let Some((first, last)) = self.span() {
            missing.insert(start.unwrap_or(first), last);
            missing.remove_all(&self.received);
            missing.remove_all(&self.told);
        }
        missing
    }

    /// Returns the numbers that will never come, as the gateway says, and did not come.
    pub fn gaps(&self) -> Ranges {
        let mut gaps = self.told.clone();
        gaps.remove_all(&self.received);
        gaps
    }
}

/// Why a payload does not count.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TallyError {
    /// It cannot be read.
    #[error("{0}")]
    Payload(DecodeError),
    /// It leaves the stream to the topic, and that was not captured.
    #[error("holds one reading and no stream, and its topic was not captured")]
    NoTopic,
    /// A number is none that a gateway gives.
    #[error("has the number {number}; numbers begin at 1")]
    Number {
        /// The number.
        number: i64,
    },
    /// There are more streams and holes than can be kept in mind.
    #[error("more than {limit} streams and holes: too many to go on")]
    TooMany {
        /// The most that are kept.
        limit: usize,
    },
}

/// Counts what arrived.
#[derive(Clone, Debug)]
pub struct Tally {
    streams: BTreeMap<StreamKey, Seen>,
    /// By reason: how many numbers were told as gaps, whether they came or not.
    reasons: BTreeMap<Arc<str>, u64>,
    readings: u64,
    ranges: usize,
    ranges_max: usize,
}

impl Tally {
    /// The most ranges that are kept, of all streams together; some 100 bytes each.
    pub const RANGES_MAX: usize = 1 << 20;
    /// The most reasons that are told apart.
    const REASONS_MAX: usize = 32;

    /// Starts with nothing. At most `ranges_max` ranges are kept: one a stream, and one for each hole.
    pub fn new(ranges_max: usize) -> Self {
        let (streams, reasons) = (BTreeMap::new(), BTreeMap::new());
        Self { streams, reasons, readings: 0, ranges: 0, ranges_max }
    }

    /// Takes one payload, all of it or nothing. `topic` is where it arrived, if that is known.
    ///
    /// # Errors
    ///
    /// [`TallyError`] says why it does not count. After [`TallyError::TooMany`] nothing is taken any more.
    pub fn take(&mut self, payload: &[u8], topic: Option<&str>) -> Result<(), TallyError> {
        let batch = decode(payload, &Limits::OWN).map_err(TallyError::Payload)?;
        check(&batch, topic)?;
        if self.ranges > self.ranges_max {
            return Err(TallyError::TooMany { limit: self.ranges_max });
        }
        let key = |stream: Arc<str>| StreamKey {
            gateway: batch.gateway.clone(),
            uplink: batch.uplink.clone(),
            epoch: batch.epoch,
            stream,
        };
        let mut last: Option<(Arc<str>, &mut Seen)> = None;
        for reading in &batch.readings {
            let stream = reading.stream.clone().or_else(|| topic.map(Arc::from));
            let stream = stream.ok_or(TallyError::NoTopic)?;
            let seen = match last.take() {
                Some((name, seen)) if name == stream => seen,
                _ => self.streams.entry(key(Arc::clone(&stream))).or_default(),
            };
            let before = seen.received.len();
            if seen.received.insert(reading.number, reading.number) == 0 {
                seen.twice += 1;
            }
            self.ranges = self.ranges + seen.received.len() - before;
            self.readings += 1;
            last = Some((stream, seen));
        }
        for gap in &batch.gaps {
            let seen = self.streams.entry(key(Arc::clone(&gap.stream))).or_default();
            let before = seen.told.len();
            let new = seen.told.insert(gap.from, gap.to);
            self.ranges = self.ranges + seen.told.len() - before;
            if self.reasons.len() < Self::REASONS_MAX || self.reasons.contains_key(&gap.why) {
                *self.reasons.entry(Arc::clone(&gap.why)).or_default() += new;
            }
        }
        Ok(())
    }

    /// Returns what came of each stream.
    pub fn streams(&self) -> impl ExactSizeIterator<Item = (&StreamKey, &Seen)> {
        self.streams.iter()
    }

    /// Returns how many readings came, repetitions included.
    pub fn readings(&self) -> u64 {
        self.readings
    }

    /// Returns how many numbers the gateway told as gaps, by reason.
    pub fn reasons(&self) -> impl Iterator<Item = (&str, u64)> {
        self.reasons.iter().map(|(why, count)| (&**why, *count))
    }
}

/// Checks that all of a payload can be counted.
fn check(batch: &Batch, topic: Option<&str>) -> Result<(), TallyError> {
    let gaps = batch.gaps.iter().flat_map(|gap| [gap.from, gap.to]);
    let mut numbers = batch.readings.iter().map(|reading| reading.number).chain(gaps);
    if let Some(number) = numbers.find(|number| *number < 1) {
        return Err(TallyError::Number { number });
    }
    if topic.is_none() && batch.readings.iter().any(|reading| reading.stream.is_none()) {
        return Err(TallyError::NoTopic);
    }
    Ok(())
}

#[cfg(test)]
mod tests;

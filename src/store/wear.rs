//! How much the journal writes to its medium: flash cells bear so many writes and no more.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// What is written is counted in whole blocks of this size: a medium writes no less.
const BLOCK_BYTES: u64 = 4 << 10;
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
/// A rate per day is told after so long.
const TOLD_AFTER: Duration = Duration::from_secs(60);

/// Counts the blocks that were written, and when.
///
/// What the file system writes beside them, for its own journal and tables, is not in it.
#[derive(Debug)]
pub(super) struct Wear(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    started: Instant,
    total: u64,
    /// What was written in each of the last hours, the last one last: at most 25, as the first and the last are
    /// not whole.
    hours: VecDeque<u64>,
    /// How many hours since the start the last one is.
    hour: u64,
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Bytes of whole blocks since the start.
    pub total: u64,
    /// In a day, going by the last 24 hours or by the time since the start; `None` in the first minute.
    pub per_day: Option<u64>,
}

impl Default for Wear {
    fn default() -> Self {
        let hours = VecDeque::from([0]);
        Self(Mutex::new(Inner { started: Instant::now(), total: 0, hours, hour: 0 }))
    }
}

impl Wear {
    /// Counts a write of `length` bytes at `offset` of a file.
    pub(super) fn note(&self, offset: u64, length: usize) {
        if length > 0 {
            let last = offset + length as u64 - 1;
            let blocks = last / BLOCK_BYTES - offset / BLOCK_BYTES + 1;
            self.0.lock().note(Instant::now(), blocks * BLOCK_BYTES);
        }
    }

    /// Returns what was written up to now.
    pub(super) fn written(&self) -> Written {
        self.0.lock().written(Instant::now())
    }
}

impl Inner {
    fn note(&mut self, now: Instant, bytes: u64) {
        self.go_to(now);
        self.total += bytes;
        if let Some(hour) = self.hours.back_mut() {
            *hour += bytes;
        }
    }

    fn go_to(&mut self, now: Instant) {
        let hour = now.duration_since(self.started).as_secs() / HOUR.as_secs();
        for _ in 0..(hour - self.hour).min(25) {
            self.hours.push_back(0);
        }
        while self.hours.len() > 25 {
            self.hours.pop_front();
        }
        self.hour = hour;
    }

    fn written(&mut self, now: Instant) -> Written {
        self.go_to(now);
        let age = now.duration_since(self.started);
        let within = Duration::from_secs(age.as_secs() % HOUR.as_secs());
        let (recent, span) = if age < DAY {
            (self.total, age)
        } else {
            // 24 whole hours, and the part of this one.
            (self.hours.iter().sum(), DAY + within)
        };
        let per_day = u128::from(recent) * DAY.as_millis() / span.as_millis().max(1);
        let per_day = u64::try_from(per_day).unwrap_or(u64::MAX);
        Written { total: self.total, per_day: (age >= TOLD_AFTER).then_some(per_day) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_count_in_whole_blocks() {
        let wear = Wear::default();
        for (offset, length) in [(0, 1), (4_095, 2), (4_096, 4_096), (9_000, 0)] {
            wear.note(offset, length);
        }
        let written = wear.written();
        assert_eq!((written.total, written.per_day), (4 * 4_096, None));
    }

    #[test]
    fn a_day_is_the_last_one() {
        let mut inner =
            Inner { started: Instant::now(), total: 0, hours: VecDeque::from([0]), hour: 0 };
        let started = inner.started;
        let mut at = |hours: u64, bytes| {
            let now = started + HOUR * u32::try_from(hours).unwrap();
            inner.note(now, bytes);
            inner.written(now).per_day
        };
        assert_eq!(at(0, 1_000), None);
        assert_eq!(at(12, 1_000), Some(4_000));
        assert_eq!(at(24, 0), Some(2_000));
        // The first hour is over: what was written then is not of the last day.
        assert_eq!(at(25, 0), Some(1_000));
        assert_eq!(at(100, 500), Some(500));
        assert_eq!(inner.total, 2_500);
    }
}

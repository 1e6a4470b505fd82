//! How long syncs take.

use std::io;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How many of the last syncs the percentiles are taken from.
const SYNCS_KEPT: usize = 512;

/// The durations of the last syncs, and the one under way.
#[derive(Debug, Default)]
pub(super) struct SyncTimes(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// A ring once it is full.
    durations: Vec<Duration>,
    count: usize,
    last: Duration,
    since: Option<Instant>,
}

/// What is known of the last syncs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SyncSummary {
    pub(super) last: Duration,
    pub(super) median: Duration,
    pub(super) p99: Duration,
    /// How long the sync under way has taken.
    pub(super) pending: Option<Duration>,
}

impl SyncTimes {
    /// Runs one sync and notes how long it takes.
    pub(super) fn measure(&self, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let started = Instant::now();
        self.0.lock().since = Some(started);
        let result = sync();
        let mut inner = self.0.lock();
        inner.since = None;
        inner.add(started.elapsed());
        result
    }

    pub(super) fn summary(&self) -> SyncSummary {
        let inner = self.0.lock();
        let mut sorted = inner.durations.clone();
        let (last, pending) = (inner.last, inner.since.map(|since| since.elapsed()));
        drop(inner);
        sorted.sort_unstable();
        let at = |percent: usize| sorted.get(sorted.len() * percent / 100).copied();
        SyncSummary {
            last,
            median: at(50).unwrap_or_default(),
            p99: at(99).unwrap_or_default(),
            pending,
        }
    }
}

impl Inner {
    fn add(&mut self, duration: Duration) {
        self.last = duration;
        if self.durations.len() < SYNCS_KEPT {
            self.durations.push(duration);
        } else {
            self.durations[self.count % SYNCS_KEPT] = duration;
        }
        self.count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_last_syncs() {
        let times = SyncTimes::default();
        assert_eq!(times.summary(), SyncSummary::default());
        for millis in (1..=1_000).rev() {
            times.0.lock().add(Duration::from_millis(millis));
        }
        let summary = times.summary();
        assert_eq!(summary.last, Duration::from_millis(1));
        assert_eq!(summary.median, Duration::from_millis(257));
        assert_eq!(summary.p99, Duration::from_millis(507));
    }
}

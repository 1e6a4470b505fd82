//! Moving what an uplink that lags needs of old segments into files of its own.
//!
//! A copy is made beside the run, where it may wait for the disk. When it is durable its entry goes into the
//! journal's state; when that is durable, too, the segments may be released. Files go when the cursor has passed them.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tidegate_store::{SegmentView, Seq, SpillEntry, Stopped};
use tokio::task::JoinHandle;
use tracing::{debug, warn};

use super::shared::Shared;

/// Without a connection, this many sealed segments are kept before the oldest are spilled.
const SEGMENTS_KEPT: usize = 3;
/// With one, so many: what is about to be sent need not be copied.
const SEGMENTS_KEPT_CONNECTED: usize = 8;
/// So many old segments are waited for, as each file costs blocks and an entry, and so many go into one.
const SEGMENTS_A_FILE: std::ops::RangeInclusive<usize> = 4..=8;
/// When the store is tight there is not the room to copy more than this before anything is released.
const SEGMENTS_A_FILE_TIGHT: std::ops::RangeInclusive<usize> = 1..=2;
/// How often it is looked whether there is something to spill, and when the store is tight.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
const LOOK_INTERVAL_TIGHT: Duration = Duration::from_millis(100);
/// When the store becomes tight, spilling is given so long before records are given up.
const RELIEF: Duration = Duration::from_secs(4);
/// After storage has failed it is looked again so much later.
const FAILURE_PAUSE: Duration = Duration::from_secs(60);

/// A copy that is durable and has no entry yet, or that there was nothing to copy up to a record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Copied {
    pub(super) entry: Option<SpillEntry>,
    pub(super) until: Seq,
}

type Copying = JoinHandle<io::Result<Result<Copied, Stopped>>>;

/// Makes copies, one at a time.
#[derive(Debug)]
pub(super) struct Spiller {
    copying: Option<Copying>,
    should_stop: Arc<AtomicBool>,
    /// Whether a copy waits for its entry.
    is_settling: bool,
    look_at: Instant,
    /// Since when the store is tight.
    tight_since: Option<Instant>,
}

impl Spiller {
    pub(super) fn new() -> Self {
        Self {
            copying: None,
            should_stop: Arc::default(),
            is_settling: false,
            look_at: Instant::now(),
            tight_since: None,
        }
    }

    /// Returns whether spilling may still help a store that is tight, before anything is given up: for a while from
    /// when it became so, and no longer.
    pub(super) fn may_relieve(&self) -> bool {
        self.tight_since.is_some_and(|since| since.elapsed() < RELIEF)
    }

    fn is_at_work(&self) -> bool {
        self.copying.is_some() || self.is_settling
    }

    /// Starts a copy if the uplink lags and none is under way. When the store is tight, everything that is
    /// sealed is spilled.
    pub(super) fn look(&mut self, shared: &Shared, is_connected: bool, is_tight: bool) {
        if !is_tight {
            self.tight_since = None;
        } else if self.tight_since.is_none() {
            self.tight_since = Some(Instant::now());
            self.look_at = self.look_at.min(Instant::now());
        }
        if self.is_at_work() || Instant::now() < self.look_at {
            return;
        }
        let interval = if is_tight { LOOK_INTERVAL_TIGHT } else { LOOK_INTERVAL };
        self.look_at = Instant::now() + interval;
        let needed = shared.books.lock().needed;
        let after = shared.spilled.end(needed);
        let (kept, a_file) = match (is_tight, is_connected) {
            (true, _) => (0, SEGMENTS_A_FILE_TIGHT),
            (false, true) => (SEGMENTS_KEPT_CONNECTED, SEGMENTS_A_FILE),
            (false, false) => (SEGMENTS_KEPT, SEGMENTS_A_FILE),
        };
        let catalog = shared.store.catalog().clone();
        let Some(until) = end_of_old(&catalog.segments(), after.seq, kept, a_file) else { return };
        let lock = Arc::clone(&shared.spilling);
        let (taker, should_stop) = (shared.taker, Arc::clone(&self.should_stop));
        self.copying = Some(tokio::task::spawn_blocking(move || {
            // That of a run before may wait for the disk still.
            let Some(_alone) = lock.try_lock() else { return Ok(Err(Stopped)) };
            let should_stop = || should_stop.load(Ordering::Relaxed);
            let copied = catalog.spill(taker, after, until, should_stop)?;
            Ok(copied.map(|entry| Copied { entry, until }))
        }));
    }

    /// Returns when to look again, if nothing is under way.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        (!self.is_at_work()).then_some(self.look_at)
    }

    /// Waits for the copy that is under way. Cancel-safe.
    pub(super) async fn copied(&mut self) -> Option<Copied> {
        let Some(copying) = &mut self.copying else { return std::future::pending().await };
        let ended = copying.await.unwrap_or_else(|panic| Err(io::Error::other(panic)));
        self.copying = None;
        match ended {
            Ok(Ok(copied)) => {
                self.is_settling = true;
                Some(copied)
            }
            Ok(Err(Stopped)) => None,
            Err(error) => {
                warn!(%error, "Records cannot be spilled; they stay in the journal");
                self.look_at = Instant::now() + FAILURE_PAUSE;
                None
            }
        }
    }

    /// Takes notice that the entry of the last copy is durable.
    pub(super) fn note_settled(&mut self, copied: Copied, shared: &Shared) {
        self.is_settling = false;
        // There may be more.
        self.look_at = Instant::now();
        if let Some(SpillEntry { records, bytes, length, .. }) = copied.entry {
            let uplink = &shared.settings.core.name;
            debug!(%uplink, records, bytes, length, "Records spilled");
            shared.store.note_spilled(length);
        }
        shared.spilled.add(copied.entry, copied.until);
    }
}

impl Drop for Spiller {
    fn drop(&mut self) {
        self.should_stop.store(true, Ordering::Relaxed);
    }
}

/// Returns the last record of the oldest segments that have records after `after`, but for the `kept` newest sealed
/// ones and the one being written; as many as go into a file, `None` if there are fewer.
fn end_of_old(
    segments: &[SegmentView],
    after: Seq,
    kept: usize,
    a_file: std::ops::RangeInclusive<usize>,
) -> Option<Seq> {
    let sealed = &segments[..segments.len().saturating_sub(1)];
    let old = &sealed[..sealed.len().saturating_sub(kept)];
    // A segment may have no records, and no last one then.
    let first = old.iter().position(|segment| segment.last_seq > after)?;
    let old = &old[first..];
    if old.len() < *a_file.start() {
        return None;
    }
    old.iter().take(*a_file.end()).map(|segment| segment.last_seq).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_segments_are_found_among_empty_ones() {
        let segments = |last_seqs: &[u64]| -> Vec<SegmentView> {
            let view = |(number, last): (u64, &u64)| SegmentView {
                number,
                bytes: 100,
                records: u64::from(*last > 0),
                first_seq: Seq::new(*last),
                last_seq: Seq::new(*last),
            };
            (1..).zip(last_seqs).map(view).collect()
        };
        #[rustfmt::skip]
        let cases: [(&[u64], u64, usize, _, Option<u64>); 9] = [
            // last records     after  kept  a file  until
            (&[10, 20, 30, 40], 0,     0,    1..=8,  Some(30)),
            (&[10, 20, 30, 40], 0,     0,    1..=2,  Some(20)),
            (&[10, 20, 30, 40], 10,    1,    1..=8,  Some(20)),
            (&[10, 20, 30, 40], 0,     0,    4..=8,  None),
            (&[10, 20, 30, 40], 30,    0,    1..=8,  None),
            (&[10, 0, 0, 40],   0,     0,    1..=8,  Some(10)),
            (&[10, 0, 0, 40],   10,    0,    1..=8,  None),
            (&[0, 0, 30, 40],   0,     0,    1..=1,  Some(30)),
            (&[40],             0,     0,    1..=8,  None),
        ];
        for (last_seqs, after, kept, a_file, until) in cases {
            let found = end_of_old(&segments(last_seqs), Seq::new(after), kept, a_file);
            assert_eq!(found, until.map(Seq::new), "{last_seqs:?} after {after}");
        }
    }
}

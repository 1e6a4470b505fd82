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

use tidegate_store::{Catalog, Position, Seq, SpillEntry, Stopped};
use tokio::task::JoinHandle;
use tracing::{debug, warn};

use super::shared::Shared;
use crate::store::JournalFiles;

/// Without a connection, this many sealed segments are kept before the oldest are spilled.
const SEGMENTS_KEPT: usize = 3;
/// With one, so many: what is about to be sent need not be copied.
const SEGMENTS_KEPT_CONNECTED: usize = 8;
/// As much of the journal goes into one file.
const JOURNAL_BYTES_MAX: u64 = 64 << 20;
/// How often it is looked whether there is something to spill.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// When the store is tight, it is given so long to release what a file stands for, before records are given up.
const RELIEF: Duration = Duration::from_secs(2);
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
    /// When the last file was settled.
    relieved: Option<Instant>,
}

impl Spiller {
    pub(super) fn new() -> Self {
        Self {
            copying: None,
            should_stop: Arc::default(),
            is_settling: false,
            look_at: Instant::now(),
            relieved: None,
        }
    }

    /// Returns whether a copy is under way that will give the store room, or has just done so.
    pub(super) fn is_relieving(&self) -> bool {
        let is_recent = |at: &Instant| at.elapsed() < RELIEF;
        self.is_at_work() || self.relieved.as_ref().is_some_and(is_recent)
    }

    fn is_at_work(&self) -> bool {
        self.copying.is_some() || self.is_settling
    }

    /// Starts a copy if the uplink lags and none is under way. When the store is tight, everything that is
    /// sealed is spilled.
    pub(super) fn look(&mut self, shared: &Shared, is_connected: bool, is_tight: bool) {
        let is_due = Instant::now() >= self.look_at;
        if self.is_at_work() || !is_due {
            return;
        }
        self.look_at = Instant::now() + LOOK_INTERVAL;
        let catalog = shared.store.catalog().clone();
        let needed = shared.books.lock().needed;
        let after = shared.spilled.end(needed);
        let kept = match (is_tight, is_connected) {
            (true, _) => 0,
            (false, true) => SEGMENTS_KEPT_CONNECTED,
            (false, false) => SEGMENTS_KEPT,
        };
        let Some(until) = end_of_old(&catalog, after, kept) else { return };
        let (taker, should_stop) = (shared.taker, Arc::clone(&self.should_stop));
        self.copying = Some(tokio::task::spawn_blocking(move || {
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
            self.relieved = Some(Instant::now());
        }
        shared.spilled.add(copied.entry, copied.until);
    }
}

impl Drop for Spiller {
    fn drop(&mut self) {
        self.should_stop.store(true, Ordering::Relaxed);
    }
}

/// Returns the last record of the oldest segments after `after` that are more than `kept`, as far as they go into
/// one file.
fn end_of_old(catalog: &Catalog<JournalFiles>, after: Position, kept: usize) -> Option<Seq> {
    let segments = catalog.segments();
    // The last one is being written.
    let sealed = &segments[..segments.len().saturating_sub(1)];
    let first = sealed.partition_point(|segment| segment.last_seq <= after.seq);
    let old = &sealed[first..sealed.len().saturating_sub(kept).max(first)];
    let mut bytes = 0;
    let fits = old.iter().take_while(|segment| {
        bytes += segment.bytes;
        bytes <= JOURNAL_BYTES_MAX
    });
    let count = fits.count().max(1);
    old.get(count - 1).or(old.last()).map(|segment| segment.last_seq)
}

//! What the status page and the metrics say about the store.

use std::time::{Duration, Instant};

use tidegate_store::Counters;

use super::space::Admission;
use super::wear::Written;
use crate::config::Durability;

/// The state of the store at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreStatus {
    /// What an acknowledgement promises.
    pub durability: Durability,
    /// Whether new durable traffic is taken.
    pub admission: Admission,
    /// What the journal has done since the start.
    pub counters: Counters,
    /// How many segments are live, and their size together.
    pub segments: u64,
    /// See [`segments`](Self::segments).
    pub journal_bytes: u64,
    /// What the file system has left, the space held for draining included.
    pub free_bytes: u64,
    /// What is kept free for draining.
    pub reserve_bytes: u64,
    /// What waits for the writer.
    pub waiting_bytes: u64,
    /// How long the oldest transaction that is not durable has been waiting.
    pub oldest_unsynced: Option<Duration>,
    /// The duration of the last sync.
    pub sync_last: Duration,
    /// The median of the last syncs.
    pub sync_p50: Duration,
    /// The 99th percentile of the last syncs.
    pub sync_p99: Duration,
    /// How long the sync under way has taken; the watchdog looks at it.
    pub sync_pending: Option<Duration>,
    /// The size of the files with records that were moved out of the journal.
    pub spilled_bytes: u64,
    /// How much was written to the medium.
    pub written: Written,
    /// How much it bears in its life, if the configuration says so.
    pub endurance: Option<u64>,
    /// The size of all copies of damaged bytes, found at the start.
    pub quarantined_bytes: u64,
    /// How many damages were found at the start and are not settled.
    pub damages: u64,
}

/// What only the writer knows of its status, renewed after each commit.
#[derive(Clone, Copy, Debug)]
pub(super) struct WriterStatus {
    pub(super) counters: Counters,
    pub(super) free_bytes: u64,
    /// When the writer last went around its loop.
    pub(super) alive_at: Instant,
}

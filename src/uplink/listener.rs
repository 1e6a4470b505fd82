//! Hears which of an uplink's writes are durable.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::Notify;

use crate::store::DurableListener;

/// The last write that is durable. As writes become durable in order, one number tells of all.
#[derive(Debug, Default)]
pub(super) struct WriteListener {
    durable: AtomicU64,
    has_failed: AtomicBool,
    changed: Notify,
}

impl WriteListener {
    /// Returns the token of the last durable write.
    pub(super) fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    /// Returns whether a write was not stored; then none after it is.
    pub(super) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Acquire)
    }

    /// Waits for news. Cancel-safe: news that come between two calls are not missed.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }
}

impl DurableListener for WriteListener {
    fn durable(&self, token: u64) {
        self.durable.fetch_max(token, Ordering::Release);
        self.changed.notify_one();
    }

    fn not_stored(&self, _token: u64) {
        self.has_failed.store(true, Ordering::Release);
        self.changed.notify_one();
    }
}

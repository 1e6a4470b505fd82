//! How the broker and the journal call a connection.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use tidegate_broker::Wake;
use tokio::sync::Notify;

use crate::store::DurableListener;

/// Remembers how far the connection's changes are durable, and wakes its task.
#[derive(Debug, Default)]
pub(super) struct Signal {
    notify: Notify,
    durable: AtomicU64,
    due: AtomicBool,
}

impl Signal {
    pub(super) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Waits until something has happened since the last wait. Cancel-safe.
    pub(super) async fn notified(&self) {
        self.notify.notified().await;
    }

    /// Returns whether the broker has called since the last time this was asked.
    pub(super) fn take_due(&self) -> bool {
        self.due.swap(false, Ordering::AcqRel)
    }

    /// Returns the number of the last change that is durable; they become so in order.
    pub(super) fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }
}

impl Wake for Signal {
    fn wake(&self) {
        self.due.store(true, Ordering::Release);
        self.notify.notify_one();
    }
}

impl DurableListener for Signal {
    fn durable(&self, token: u64) {
        self.durable.fetch_max(token, Ordering::AcqRel);
        self.notify.notify_one();
    }
}

//! The lock around the broker core, and what becomes of a panic under it.

use std::{
    fmt,
    ops::{Deref, DerefMut},
};

use parking_lot::{Mutex, MutexGuard};
use tidegate_broker::Broker;
use tokio::sync::watch;

/// The broker core behind its lock.
///
/// A panic anywhere else harms the task it happens in. One that happens while the core is being changed may leave it
/// between two states: a number may be taken that is in no transaction, a queue may disagree with the journal.
/// Nothing that such a core says can be relied on, while the journal, which gets whole transactions only, can:
/// the lock says that the core has failed, gives it to nobody any more, and the process ends so that the next one begins
/// with what the journal holds (`docs/promises.md`, A7).
#[derive(Debug)]
pub(super) struct CoreLock {
    core: Mutex<Guarded>,
    failed: watch::Sender<bool>,
}

#[derive(Debug)]
struct Guarded {
    broker: Broker,
    has_failed: bool,
}

/// The core while it is locked.
pub struct CoreGuard<'l> {
    core: MutexGuard<'l, Guarded>,
    lock: &'l CoreLock,
    /// Whether whoever locks it was panicking already.
    was_panicking: bool,
}

impl CoreLock {
    pub(super) fn new(core: Broker) -> Self {
        let core = Guarded { broker: core, has_failed: false };
        Self { core: Mutex::new(core), failed: watch::Sender::new(false) }
    }

    /// Locks the core.
    ///
    /// # Panics
    ///
    /// If the core has failed: whoever comes has nothing left to do but to end.
    pub(super) fn lock(&self) -> CoreGuard<'_> {
        let core = self.core.lock();
        assert!(!core.has_failed, "the broker core has failed, the process ends");
        CoreGuard { core, lock: self, was_panicking: std::thread::panicking() }
    }

    /// Returns whether the core has failed.
    pub(super) fn has_failed(&self) -> bool {
        *self.failed.borrow()
    }

    /// Waits until the core has failed. Cancel-safe.
    pub(super) async fn failed(&self) {
        let mut failed = self.failed.subscribe();
        // The sender lives as long as we do.
        let _ = failed.wait_for(|failed| *failed).await;
    }
}

impl CoreGuard<'_> {
    /// Returns whether it is the core behind `lock` that is locked.
    pub(super) fn is_of(&self, lock: &CoreLock) -> bool {
        std::ptr::eq(self.lock, lock)
    }
}

impl Drop for CoreGuard<'_> {
    fn drop(&mut self) {
        // Still under the lock: nobody sees the core before they see this.
        if std::thread::panicking() && !self.was_panicking {
            self.core.has_failed = true;
            self.lock.failed.send_replace(true);
        }
    }
}

impl Deref for CoreGuard<'_> {
    type Target = Broker;

    #[inline]
    fn deref(&self) -> &Broker {
        &self.core.broker
    }
}

impl DerefMut for CoreGuard<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Broker {
        &mut self.core.broker
    }
}

impl fmt::Debug for CoreGuard<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("CoreGuard")
    }
}

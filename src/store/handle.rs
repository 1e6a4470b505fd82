//! The way to the writer's thread for everybody else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tidegate_store::{
    Catalog, CommitError, FileSystem, Position, Reader, Seq, SpillEntry, TakerId, Transaction,
};
use tokio::sync::{Notify, watch};

use super::files::JournalFiles;
use super::queue::{Completion, NotStored, Submission};
use super::space::Admission;

/// With more than this waiting, sources pause.
const HIGH_WATER_BYTES: usize = 8 << 20;
/// With no more than this waiting, they go on.
const LOW_WATER_BYTES: usize = 4 << 20;

/// How urgently the oldest records should be given up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// How many bytes of the journal should go; 0 for none.
    pub bytes: u64,
}

/// The journal, as everybody but its writer sees it. Cheap to clone.
#[derive(Debug)]
pub struct StoreHandle<F: FileSystem = JournalFiles> {
    shared: Arc<Shared>,
    catalog: Catalog<F>,
}

impl<F: FileSystem> Clone for StoreHandle<F> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), catalog: self.catalog.clone() }
    }
}

/// What the writer and the handles share.
#[derive(Debug)]
pub(super) struct Shared {
    queue: Mutex<Queue>,
    arrived: Condvar,
    /// What waits in the queue and in the writer.
    waiting_bytes: AtomicUsize,
    room: Notify,
    is_refusing: AtomicBool,
    release_before: AtomicU64,
    pub(super) seq: watch::Sender<Seq>,
    pub(super) pressure: watch::Sender<Pressure>,
    failure: watch::Sender<Option<Arc<CommitError>>>,
    /// The size of the files that hold what was moved out of the journal.
    pub(super) spilled_bytes: AtomicU64,
    /// Such files that are to go, by taker and number, with their sizes.
    pub(super) unlinks: Mutex<Vec<(TakerId, u64, u64)>>,
    /// When the oldest transaction that is not durable was submitted.
    unsynced_since: Mutex<Option<Instant>>,
}

#[derive(Debug, Default)]
struct Queue {
    submissions: Vec<Submission>,
    /// The writer gathers until there are so many; 0 if it does not.
    gather_count: usize,
    is_stopping: bool,
    is_closed: bool,
}

/// What the writer has to do next.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) submissions: Vec<Submission>,
    pub(super) release_before: Option<Seq>,
    pub(super) is_stopping: bool,
}

impl<F: FileSystem> StoreHandle<F> {
    pub(super) fn new(shared: Arc<Shared>, catalog: Catalog<F>) -> Self {
        Self { shared, catalog }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Hands in a transaction. Never blocks, and always takes it.
    ///
    /// The order of submission is the order of the log: whoever numbers records submits them under
    /// the lock that gave the numbers out. `completion` is told when the transaction is durable,
    /// or, if the durability mode promises less, when it was handed to the operating system.
    pub fn submit(&self, transaction: Transaction, completion: Completion) {
        let bytes = transaction.encoded_len();
        let mut queue = self.shared.queue.lock();
        if queue.is_closed {
            drop(queue);
            completion.resolve(Err(NotStored));
            return;
        }
        self.shared.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        queue.submissions.push(Submission { transaction, completion });
        if queue.submissions.len() == queue.gather_count {
            self.shared.arrived.notify_one();
        }
        if queue.submissions.len() == 1 {
            self.shared.unsynced_since.lock().get_or_insert_with(Instant::now);
            self.shared.arrived.notify_one();
        }
    }

    /// Submits a transaction and waits until it is durable.
    ///
    /// # Errors
    ///
    /// [`NotStored`].
    pub async fn submit_and_wait(&self, transaction: Transaction) -> Result<(), NotStored> {
        let (completion, receipt) = Completion::receipt();
        self.submit(transaction, completion);
        receipt.await.unwrap_or(Err(NotStored))
    }

    /// Takes notice of a file of records that were moved out of the journal: it takes up room of the store.
    pub fn note_spilled(&self, bytes: u64) {
        self.shared.spilled_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Has such a file removed whose entry is gone, once that is on disk, whatever the durability mode.
    pub fn unlink_spill(&self, taker: TakerId, entry: &SpillEntry) {
        self.shared.unlinks.lock().push((taker, entry.number, entry.length));
    }

    /// Returns whether sources may go on; otherwise those that can wait pause.
    #[inline]
    pub fn has_room(&self) -> bool {
        self.shared.waiting_bytes.load(Ordering::Relaxed) < HIGH_WATER_BYTES
    }

    /// Waits until there is room. Cancel-safe.
    pub async fn room(&self) {
        loop {
            let notified = self.shared.room.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if self.has_room() {
                return;
            }
            notified.await;
        }
    }

    /// Returns how many bytes wait for the writer.
    pub fn waiting_bytes(&self) -> usize {
        self.shared.waiting_bytes.load(Ordering::Relaxed)
    }

    /// Returns whether new durable traffic is taken. To be asked before a message is routed: what
    /// was submitted is stored even when the answer has changed.
    #[inline]
    pub fn is_accepting(&self) -> bool {
        !self.shared.is_refusing.load(Ordering::Relaxed)
    }

    /// Returns the same as [`is_accepting`](Self::is_accepting), in words.
    pub fn admission(&self) -> Admission {
        if self.is_accepting() { Admission::Accepting } else { Admission::StorageFull }
    }

    /// Follows the last record that readers can see: with durability `ack`, the last durable one.
    pub fn durable_seq(&self) -> watch::Receiver<Seq> {
        self.shared.seq.subscribe()
    }

    /// Follows how much should be given up by uplinks that may drop their oldest records.
    pub fn pressure(&self) -> watch::Receiver<Pressure> {
        self.shared.pressure.subscribe()
    }

    /// Follows whether the storage has failed for good: the process must exit with code 74.
    pub fn failure(&self) -> watch::Receiver<Option<Arc<CommitError>>> {
        self.shared.failure.subscribe()
    }

    /// Lets segments go whose records all come before `before`, soon. A lower number than before
    /// has no effect.
    pub fn release(&self, before: Seq) {
        let earlier = self.shared.release_before.fetch_max(before.get(), Ordering::Relaxed);
        if earlier < before.get() {
            let _queue = self.shared.queue.lock();
            self.shared.arrived.notify_one();
        }
    }

    /// Starts reading the records of one taker after a position. The reader waits for the disk.
    pub fn reader(&self, taker: TakerId, after: Position) -> Reader<F> {
        self.catalog.reader(taker, after)
    }

    /// Returns the list of segments.
    pub fn catalog(&self) -> &Catalog<F> {
        &self.catalog
    }

    /// Asks the writer to make everything durable that was submitted, and to end.
    pub(super) fn stop(&self) {
        self.shared.queue.lock().is_stopping = true;
        self.shared.arrived.notify_one();
    }
}

impl Shared {
    pub(super) fn new(durable_seq: Seq) -> Self {
        Self {
            queue: Mutex::default(),
            arrived: Condvar::new(),
            waiting_bytes: AtomicUsize::new(0),
            room: Notify::new(),
            is_refusing: AtomicBool::new(false),
            release_before: AtomicU64::new(0),
            seq: watch::Sender::new(durable_seq),
            pressure: watch::Sender::default(),
            failure: watch::Sender::new(None),
            spilled_bytes: AtomicU64::new(0),
            unlinks: Mutex::default(),
            unsynced_since: Mutex::default(),
        }
    }

    /// Waits until there is something to do, at most for `patience`, and takes it all.
    pub(super) fn take_work(&self, released: Seq, patience: Duration) -> Work {
        let mut queue = self.queue.lock();
        let release_before = || {
            let before = Seq::new(self.release_before.load(Ordering::Relaxed));
            (before > released).then_some(before)
        };
        if queue.submissions.is_empty() && !queue.is_stopping && release_before().is_none() {
            self.arrived.wait_for(&mut queue, patience);
        }
        Work {
            submissions: std::mem::take(&mut queue.submissions),
            release_before: release_before(),
            is_stopping: queue.is_stopping,
        }
    }

    /// Waits until there are `count` submissions with those that were taken, at most until `until`, and takes them.
    pub(super) fn gather(&self, count: usize, until: Instant, submissions: &mut Vec<Submission>) {
        let mut queue = self.queue.lock();
        queue.gather_count = count.saturating_sub(submissions.len());
        while !queue.is_stopping && queue.submissions.len() < queue.gather_count {
            if self.arrived.wait_until(&mut queue, until).timed_out() {
                break;
            }
        }
        queue.gather_count = 0;
        submissions.append(&mut queue.submissions);
    }

    /// Waits a moment before the same is tried again. Returns whether the store is stopping.
    pub(super) fn pause(&self, duration: Duration) -> bool {
        let deadline = Instant::now() + duration;
        let mut queue = self.queue.lock();
        while !queue.is_stopping {
            if self.arrived.wait_until(&mut queue, deadline).timed_out() {
                break;
            }
        }
        queue.is_stopping
    }

    /// Notes that transactions no longer wait.
    pub(super) fn give_back(&self, bytes: usize) {
        let before = self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        if before > LOW_WATER_BYTES && before - bytes <= LOW_WATER_BYTES {
            self.room.notify_waiters();
        }
    }

    /// Notes that everything that was taken from the queue is durable.
    pub(super) fn note_synced(&self) {
        let queue = self.queue.lock();
        let waits = !queue.submissions.is_empty();
        *self.unsynced_since.lock() = waits.then(Instant::now);
    }

    /// Returns how long the oldest transaction that is not durable has waited, roughly.
    pub(super) fn oldest_unsynced(&self) -> Option<Duration> {
        self.unsynced_since.lock().map(|since| since.elapsed())
    }

    pub(super) fn set_admission(&self, admission: Admission) {
        self.is_refusing.store(admission == Admission::StorageFull, Ordering::Relaxed);
    }

    pub(super) fn admission(&self) -> Admission {
        if self.is_refusing.load(Ordering::Relaxed) {
            Admission::StorageFull
        } else {
            Admission::Accepting
        }
    }

    /// Refuses everything from now on and returns what still waits.
    pub(super) fn close(&self) -> Vec<Submission> {
        let mut queue = self.queue.lock();
        queue.is_closed = true;
        std::mem::take(&mut queue.submissions)
    }

    pub(super) fn fail(&self, error: Arc<CommitError>) {
        self.failure.send_replace(Some(error));
    }
}

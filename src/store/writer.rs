//! The thread that writes the journal.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tidegate_settings::ByteSize;
use tidegate_store::{CommitError, Counters, FileSystem, Journal, Recovery, Released, Seq};
use tracing::{debug, error, info, warn};

use super::directory::DataDirectory;
use super::files::{Gauges, JournalFiles};
use super::handle::{Pressure, Shared, StoreHandle};
use super::queue::{Completion, NotStored, Submission};
use super::space::{Admission, Budget, Reserve};
use super::status::{StoreStatus, WriterStatus};
use crate::config::{Durability, StoreConfig};

/// One group commit takes at most this much, so that the first of many do not wait for the last.
const GROUP_BYTES_MAX: usize = 4 << 20;
/// What was written and not synced stays in memory; with this much it is synced in any mode.
const UNSYNCED_BYTES_MAX: usize = 8 << 20;
/// Under load a sync begins no sooner than this after the last one began, so that more share it. A disk that
/// takes longer for one needs no waiting.
const CYCLE: Duration = Duration::from_millis(5);
/// So many transactions in the last group, and so many that came while it was synced, mean load: there are
/// senders that do not wait for each other. One that waits for each answer never makes a group of more than one.
const LOAD_TRANSACTIONS: usize = 2;

/// How often free space is looked at.
const SPACE_INTERVAL: Duration = Duration::from_millis(100);
/// In the mode `memory`, what was taken is handed to the operating system after so long, or when it is so much.
const UNWRITTEN_MAX: Duration = Duration::from_millis(50);
const UNWRITTEN_BYTES_MAX: usize = 1 << 20;
/// How long the writer sleeps when nothing is to be done.
const IDLE_INTERVAL: Duration = Duration::from_secs(1);
/// How long to wait before a full disk is tried again.
const FULL_PAUSE: Duration = Duration::from_millis(100);
/// How often a full disk is tried when the gateway stops.
const STOPPING_TRIES: u32 = 20;

/// The running store: the thread, and the handle to it.
#[derive(Debug)]
pub struct Store<F: FileSystem = JournalFiles> {
    handle: StoreHandle<F>,
    thread: JoinHandle<Result<Counters, Arc<CommitError>>>,
    observer: Observer,
    // Unlocked only after the thread has ended.
    directory: Option<DataDirectory>,
}

/// What is needed for a status.
#[derive(Clone, Debug)]
struct Observer {
    config: StoreConfig,
    writer: Arc<Mutex<WriterStatus>>,
    gauges: Gauges,
    quarantined_bytes: u64,
    damages: u64,
}

/// Starts the thread that owns the journal.
///
/// # Errors
///
/// The system has no thread to give.
pub fn spawn(
    name: &str,
    directory: DataDirectory,
    journal: Journal<JournalFiles>,
    recovery: &Recovery,
    config: &StoreConfig,
) -> io::Result<Store> {
    let gauges = directory.journal_files().gauges();
    let reserve = directory.reserve();
    let files = directory.journal_files();
    let mut store = spawn_over(name, files, journal, recovery, config, Some(reserve), gauges)?;
    store.directory = Some(directory);
    Ok(store)
}

/// Starts the thread over any file system.
pub(super) fn spawn_over<F: FileSystem>(
    name: &str,
    files: F,
    journal: Journal<F>,
    recovery: &Recovery,
    config: &StoreConfig,
    reserve: Option<Arc<Reserve>>,
    gauges: Gauges,
) -> io::Result<Store<F>> {
    let shared = Arc::new(Shared::new(journal.durable_seq()));
    let handle = StoreHandle::new(Arc::clone(&shared), journal.catalog().clone());
    let status =
        WriterStatus { counters: journal.counters(), free_bytes: 0, alive_at: Instant::now() };
    let status = Arc::new(Mutex::new(status));
    let mut writer = Writer {
        budget: Budget::new(config, super::segment_bytes(config)),
        durability: config.durability,
        files,
        journal,
        shared,
        reserve,
        status: Arc::clone(&status),
        released: Seq::ORIGIN,
        unsynced_since: None,
        unwritten: None,
        space_checked: None,
        last_group: 0,
        synced_at: Instant::now(),
    };
    // Before anybody asks.
    writer.check_space();
    let thread = thread::Builder::new().name(name.to_owned()).spawn(move || writer.run())?;
    let observer = Observer {
        config: config.clone(),
        writer: status,
        gauges,
        quarantined_bytes: recovery.quarantined_bytes,
        damages: (recovery.damages.len() + recovery.unsettled.len()) as u64,
    };
    Ok(Store { handle, thread, observer, directory: None })
}

impl<F: FileSystem> Store<F> {
    /// Returns a handle.
    pub fn handle(&self) -> StoreHandle<F> {
        self.handle.clone()
    }

    /// Returns a function that tells the status; it may be kept after the store has stopped.
    pub fn status(&self) -> impl Fn() -> StoreStatus + Send + Sync + Clone + use<F> {
        let (handle, observer) = (self.handle.clone(), self.observer.clone());
        move || observer.status(&handle)
    }

    /// Returns a function that tells whether the writer makes progress, for the watchdog: it has
    /// gone around its loop, or waited for the disk, for no longer than `limit`.
    pub fn is_alive(&self) -> impl Fn(Duration) -> bool + Send + Sync + Clone + use<F> {
        let writer = Arc::clone(&self.observer.writer);
        move |limit| writer.lock().alive_at.elapsed() <= limit
    }

    /// Makes everything durable that was submitted, and ends the thread. Waits for the disk.
    ///
    /// # Errors
    ///
    /// What the storage reported, if not everything became durable.
    pub fn stop(self) -> Result<Counters, Arc<CommitError>> {
        self.handle.stop();
        let result = self.thread.join().unwrap_or_else(|_panic| Err(Arc::new(panicked())));
        drop(self.directory);
        result
    }
}

impl Observer {
    fn status<F: FileSystem>(&self, handle: &StoreHandle<F>) -> StoreStatus {
        let WriterStatus { counters, free_bytes, .. } = *self.writer.lock();
        let syncs = self.gauges.sync_times.summary();
        let segments = handle.catalog().segments();
        StoreStatus {
            durability: self.config.durability,
            admission: handle.admission(),
            counters,
            segments: segments.len() as u64,
            journal_bytes: segments.iter().map(|segment| segment.bytes).sum(),
            free_bytes,
            reserve_bytes: self.config.reserve.get(),
            waiting_bytes: handle.waiting_bytes() as u64,
            oldest_unsynced: handle.shared().oldest_unsynced(),
            sync_last: syncs.last,
            sync_p50: syncs.median,
            sync_p99: syncs.p99,
            sync_pending: syncs.pending,
            spilled_bytes: handle.shared().spilled_bytes.load(Ordering::Relaxed),
            written: self.gauges.wear.written(),
            endurance: self.config.endurance.map(ByteSize::get),
            quarantined_bytes: self.quarantined_bytes,
            damages: self.damages,
        }
    }
}

/// Returns until when more is waited for that could share a sync, if at all: `waiting` transactions have come while the last
/// group of `last` was synced, which began at `synced_at`.
pub(super) fn gathers_until(waiting: usize, last: usize, synced_at: Instant) -> Option<Instant> {
    (waiting.min(last) >= LOAD_TRANSACTIONS).then(|| synced_at + CYCLE)
}

fn panicked() -> CommitError {
    CommitError::Fatal(io::Error::other("the writer of the journal panicked"))
}

/// The owner of the journal.
struct Writer<F: FileSystem> {
    files: F,
    journal: Journal<F>,
    shared: Arc<Shared>,
    durability: Durability,
    budget: Budget,
    reserve: Option<Arc<Reserve>>,
    status: Arc<Mutex<WriterStatus>>,
    /// What was last asked to be released.
    released: Seq,
    /// When the oldest transaction was written that is not synced, in the weaker modes.
    unsynced_since: Option<Instant>,
    /// Since when transactions wait in memory alone, in the mode `memory`, and how large they are.
    unwritten: Option<(Instant, usize)>,
    space_checked: Option<(Instant, u64)>,
    /// How many transactions the last group had, if it was synced just now.
    last_group: usize,
    /// When the last sync began.
    synced_at: Instant,
}

/// Why the writer gives up.
enum Stop {
    Failed(CommitError),
    /// The disk is full and the gateway stops.
    Full(CommitError),
}

impl<F: FileSystem> Writer<F> {
    fn run(mut self) -> Result<Counters, Arc<CommitError>> {
        let on_panic = FailOnPanic(Arc::clone(&self.shared));
        let result = self.run_until_stopped();
        refuse(&self.shared, self.shared.close());
        std::mem::forget(on_panic);
        match result {
            Ok(()) => self.journal.close().map_err(Arc::new),
            Err(Stop::Full(error)) => {
                error!(error = &error as &dyn Error, "Not everything is on disk");
                Err(Arc::new(error))
            }
            Err(Stop::Failed(error)) => {
                error!(error = &error as &dyn Error, "The storage failed");
                let error = Arc::new(error);
                self.shared.fail(Arc::clone(&error));
                Err(error)
            }
        }
    }

    fn run_until_stopped(&mut self) -> Result<(), Stop> {
        loop {
            self.status.lock().alive_at = Instant::now();
            let mut work = self.shared.take_work(self.released, self.patience());
            let waiting = work.submissions.len();
            let last = std::mem::take(&mut self.last_group);
            if let Some(until) = gathers_until(waiting, last, self.synced_at) {
                // Those of the last group that wait for their answers have them by now, and come back.
                self.shared.gather(waiting + last, until, &mut work.submissions);
            }
            let is_idle = work.submissions.is_empty();
            self.store(work.submissions)?;
            if let Some(before) = work.release_before {
                self.release(before)?;
            }
            self.unlink()?;
            if self.is_write_due() {
                self.write_out()?;
            }
            if self.is_sync_due() {
                self.commit()?;
            }
            self.check_space_now_and_then();
            if work.is_stopping && is_idle {
                self.commit()?;
                return Ok(());
            }
        }
    }

    /// Returns how long the writer may sleep.
    fn patience(&self) -> Duration {
        match (self.durability, self.unsynced_since) {
            (Durability::Interval(interval), Some(since)) => {
                interval.saturating_sub(since.elapsed()).min(IDLE_INTERVAL)
            }
            (Durability::Memory, _) => self
                .unwritten
                .map_or(IDLE_INTERVAL, |(since, _)| UNWRITTEN_MAX.saturating_sub(since.elapsed())),
            _ => IDLE_INTERVAL,
        }
    }

    /// Writes transactions, in groups, and tells those who wait.
    fn store(&mut self, submissions: Vec<Submission>) -> Result<(), Stop> {
        let mut completions = Vec::with_capacity(submissions.len());
        let mut bytes = 0;
        let mut submissions = submissions.into_iter();
        while let Some(Submission { transaction, completion }) = submissions.next() {
            bytes += transaction.encoded_len();
            self.journal.write([&transaction]);
            completions.push(completion);
            if bytes < GROUP_BYTES_MAX && submissions.len() > 0 {
                continue;
            }
            if let Err(stop) = self.finish_group(&mut completions, bytes) {
                refuse(&self.shared, submissions);
                return Err(stop);
            }
            bytes = 0;
        }
        Ok(())
    }

    fn finish_group(
        &mut self,
        completions: &mut Vec<Completion>,
        bytes: usize,
    ) -> Result<(), Stop> {
        if self.durability == Durability::Ack {
            self.last_group = completions.len();
            self.synced_at = Instant::now();
        }
        let finished = match self.durability {
            Durability::Ack => self.commit(),
            Durability::Interval(_) => self.write_out(),
            Durability::Memory => self.put_off(bytes),
        };
        let told = if finished.is_ok() { Ok(()) } else { Err(NotStored) };
        for completion in completions.drain(..) {
            completion.resolve(told);
        }
        self.shared.give_back(bytes);
        finished
    }

    fn commit(&mut self) -> Result<(), Stop> {
        self.try_while_full(|journal| journal.commit().map(drop))?;
        self.unsynced_since = None;
        self.unwritten = None;
        self.shared.note_synced();
        self.shared.seq.send_if_modified(|seq| {
            let durable = self.journal.durable_seq();
            std::mem::replace(seq, durable) != durable
        });
        self.status.lock().counters = self.journal.counters();
        Ok(())
    }

    /// Hands everything to the operating system, for the modes that promise no more at once.
    fn write_out(&mut self) -> Result<(), Stop> {
        self.try_while_full(Journal::flush)?;
        self.unwritten = None;
        self.unsynced_since.get_or_insert_with(Instant::now);
        self.shared.seq.send_if_modified(|seq| {
            let written = self.journal.last_seq();
            std::mem::replace(seq, written) != written
        });
        Ok(())
    }

    /// Keeps a group in memory, unless so much is there already that it goes out.
    fn put_off(&mut self, bytes: usize) -> Result<(), Stop> {
        let (since, waiting) = self.unwritten.unwrap_or_else(|| (Instant::now(), 0));
        self.unwritten = Some((since, waiting + bytes));
        if waiting + bytes < UNWRITTEN_BYTES_MAX { Ok(()) } else { self.write_out() }
    }

    fn is_write_due(&self) -> bool {
        self.unwritten.is_some_and(|(since, _)| since.elapsed() >= UNWRITTEN_MAX)
    }

    fn is_sync_due(&self) -> bool {
        let Some(since) = self.unsynced_since else { return false };
        let is_late = match self.durability {
            Durability::Ack => true,
            Durability::Interval(interval) => since.elapsed() >= interval,
            Durability::Memory => false,
        };
        is_late || self.journal.pending_bytes() >= UNSYNCED_BYTES_MAX
    }

    fn release(&mut self, before: Seq) -> Result<(), Stop> {
        self.released = before;
        let mut released = Released::default();
        self.try_while_full(|journal| {
            released = journal.release(before)?;
            Ok(())
        })?;
        if released.segments > 0 {
            self.unsynced_since = None;
            // Space has come back.
            self.space_checked = None;
            debug!(segments = released.segments, bytes = released.bytes, "Segments deleted");
        }
        Ok(())
    }

    /// Removes files of spilled records that nobody needs, once it is on disk that nobody does.
    fn unlink(&mut self) -> Result<(), Stop> {
        let unlinks = std::mem::take(&mut *self.shared.unlinks.lock());
        if unlinks.is_empty() {
            return Ok(());
        }
        self.commit()?;
        for (taker, number, length) in unlinks {
            if let Err(error) = self.journal.catalog().remove_spill(taker, number) {
                // At the next start nobody knows it, and it goes.
                warn!(%taker, number, %error, "A file of spilled records cannot be removed");
                continue;
            }
            self.shared.spilled_bytes.fetch_sub(length, Ordering::Relaxed);
        }
        self.space_checked = None;
        Ok(())
    }

    /// Tries again while the disk is full: what was taken is stored, however long it takes.
    fn try_while_full(
        &mut self,
        mut attempt: impl FnMut(&mut Journal<F>) -> Result<(), CommitError>,
    ) -> Result<(), Stop> {
        let mut tries_while_stopping = 0;
        let mut was_full = false;
        loop {
            match attempt(&mut self.journal) {
                Ok(()) => {
                    if was_full {
                        info!("The journal has room again");
                    }
                    return Ok(());
                }
                Err(error @ CommitError::Fatal(_)) => return Err(Stop::Failed(error)),
                Err(error @ CommitError::Full(_)) => {
                    self.shared.set_admission(Admission::StorageFull);
                    if let Some(reserve) = &self.reserve {
                        reserve.give_up();
                    }
                    if !was_full {
                        warn!(
                            error = &error as &dyn Error,
                            "The disk is full; everything durable is refused"
                        );
                    }
                    // The first time, the reserve may just have made room.
                    let pause = if was_full { FULL_PAUSE } else { Duration::ZERO };
                    was_full = true;
                    if self.shared.pause(pause) {
                        tries_while_stopping += 1;
                        if tries_while_stopping > STOPPING_TRIES {
                            return Err(Stop::Full(error));
                        }
                        thread::sleep(FULL_PAUSE);
                    }
                    self.status.lock().alive_at = Instant::now();
                }
            }
        }
    }

    fn check_space_now_and_then(&mut self) {
        let written = self.journal.counters().bytes_written;
        let is_late = self.space_checked.is_none_or(|(when, at)| {
            when.elapsed() >= SPACE_INTERVAL || written - at >= self.budget.check_bytes()
        });
        if is_late {
            self.check_space();
        }
    }

    /// Looks at what is left, and tells sources and uplinks.
    fn check_space(&mut self) {
        self.space_checked = Some((Instant::now(), self.journal.counters().bytes_written));
        let held = self.reserve.as_ref().map_or(0, |reserve| reserve.held());
        // A file system that cannot tell is taken to have room; a full one says so when written to.
        let available = self.files.free_bytes().unwrap_or(u64::MAX);
        let free = available.saturating_add(held);
        self.status.lock().free_bytes = free;
        let spilled = self.shared.spilled_bytes.load(Ordering::Relaxed);
        let left = self.budget.left(self.journal.catalog().bytes() + spilled, free);
        let before = self.shared.admission();
        let admission = self.budget.admission(left, before);
        if admission != before {
            match admission {
                Admission::StorageFull => {
                    warn!(left, "Storage is full; new durable traffic is refused")
                }
                Admission::Accepting => info!(left, "Storage has room again"),
            }
        }
        self.shared.set_admission(admission);
        let pressure = Pressure { bytes: self.budget.pressure(left) };
        self.shared.pressure.send_if_modified(|now| std::mem::replace(now, pressure) != pressure);
        let target = self.budget.held_bytes();
        if let Some(reserve) = &self.reserve
            && admission == Admission::Accepting
            && held < target
            && available > 2 * target
        {
            reserve.hold(target);
        }
    }
}

/// Tells those who wait that nothing will come of it.
fn refuse(shared: &Shared, submissions: impl IntoIterator<Item = Submission>) {
    for Submission { transaction, completion } in submissions {
        shared.give_back(transaction.encoded_len());
        completion.resolve(Err(NotStored));
    }
}

/// Tells everybody if the thread ends by a panic.
struct FailOnPanic(Arc<Shared>);

impl Drop for FailOnPanic {
    fn drop(&mut self) {
        refuse(&self.0, self.0.close());
        self.0.fail(Arc::new(panicked()));
    }
}

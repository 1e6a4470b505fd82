//! What the runs of an uplink's task and its handles share.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tidegate_model::Timestamp;
use tidegate_store::{Position, QueueReader, Seq, SpillEntry, Spilled, TakerId, Transaction};
use tidegate_uplink::{Change, Keys, Ledger, Moved, ShadowView, Status, WhenFull};
use tokio::sync::{Notify, mpsc, watch};

use super::{
    command::{IncomingCommand, Settled},
    handle::{ConnectionState, Snapshot, SpilledSize},
    intake::{Bridged, Intake},
    outcome::{OutcomeSender, Told},
    settings::UplinkSettings,
    state::{Entries, apply},
    switch::Branch,
    task::UplinkError,
    watched::Watched,
    writes::Writes,
};
use crate::{
    clock::Clock,
    store::{JournalFiles, StoreHandle},
    time_trust::TimeTrust,
};

/// Over how long the rate of delivery is taken.
const RATE_SPAN: Duration = Duration::from_secs(10);
/// In what steps.
const RATE_STEP: Duration = Duration::from_millis(500);

/// The books, and what is counted with them under one lock.
#[derive(Debug, Default)]
pub(super) struct Books {
    pub(super) ledger: Ledger,
    pub(super) cursor: Position,
    pub(super) needed: Position,
    pub(super) queued_bytes: u64,
    pub(super) deliveries: VecDeque<(Duration, u64)>,
}

/// What the task last said of itself.
#[derive(Debug, Default)]
pub(super) struct TaskState {
    pub(super) connection: ConnectionState,
    pub(super) since: Timestamp,
    pub(super) last_error: Option<String>,
    pub(super) endpoint: Option<String>,
    pub(super) connections: u64,
    pub(super) core: Status,
    pub(super) outcomes_waiting: usize,
    pub(super) shadow: Option<ShadowView>,
}

/// What a task and its handles share; it outlives the runs of the task.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) settings: UplinkSettings,
    pub(super) store: StoreHandle,
    pub(super) taker: TakerId,
    /// What was spilled out of the journal, and whose entries are durable.
    pub(super) spilled: Spilled,
    /// Held by the one copy that may be under way, whichever run began it.
    pub(super) spilling: Arc<Mutex<()>>,
    /// Files that the cursor has passed, whose entries are about to go.
    pub(super) passing: Mutex<Vec<SpillEntry>>,
    /// Files whose entries were damaged when the process began: they are left alone.
    pub(super) unreadable_files: BTreeSet<u64>,
    pub(super) clock: Clock,
    pub(super) time: TimeTrust,
    pub(super) commands: mpsc::Sender<IncomingCommand>,
    pub(super) intake: Arc<dyn Intake>,
    pub(super) bridged: Mutex<Bridged>,
    /// What the topics of the shadow say.
    pub(super) watched: Arc<Watched>,
    pub(super) outcomes: tokio::sync::Mutex<mpsc::Receiver<Told>>,
    pub(super) acks_sender: mpsc::Sender<Settled>,
    pub(super) acks: tokio::sync::Mutex<mpsc::Receiver<Settled>>,
    /// The uplink's entries of the journal's state, as of the last write that was submitted.
    pub(super) entries: Mutex<Entries>,
    pub(super) writes: Writes,
    /// How many connections were begun: the number of the last one, over all runs.
    pub(super) attempts: AtomicU64,
    pub(super) state: Mutex<TaskState>,
    pub(super) bytes_sent: AtomicU64,
    pub(super) commands_total: AtomicU64,
    /// What the cloud has refused after it had acknowledged it.
    pub(super) refused_late: AtomicU64,
    /// What came down and was not taken.
    pub(super) commands_refused: AtomicU64,
    /// Told when more waits than should.
    pub(super) is_over: Notify,
    pub(super) sender: OutcomeSender,
    pub(super) books: Mutex<Books>,
    pub(super) needed: watch::Sender<Seq>,
}

impl Shared {
    pub(super) fn now(&self) -> tidegate_uplink::Now {
        tidegate_uplink::Now {
            elapsed: self.clock.uptime(),
            wall: self.clock.wall(),
            steady: self.clock.steady(),
            wall_is_trusted: self.time.is_trusted(),
        }
    }

    /// Reads what waits after a position, wherever it is.
    pub(super) fn reader(&self, after: Position) -> QueueReader<JournalFiles> {
        QueueReader::new(self.store.catalog().clone(), self.taker, self.spilled.clone(), after)
    }

    /// Lets a file go whose entry is gone.
    pub(super) fn forget_file(&self, entry: &SpillEntry) {
        self.passing.lock().retain(|passing| passing.number != entry.number);
        self.store.unlink_spill(self.taker, entry);
    }

    /// Takes up what a run before has left half done with files; everything that it submitted is durable.
    ///
    /// # Errors
    ///
    /// [`UplinkError::Spill`] if an entry cannot be read, which this process has written.
    pub(super) fn settle_files(&self) -> Result<(), UplinkError> {
        let passing = std::mem::take(&mut *self.passing.lock());
        passing.iter().for_each(|entry| self.forget_file(entry));
        let keys = Keys::new(&self.settings.core.name);
        for (key, value) in self.entries.lock().iter() {
            let Some(number) = keys.spill_number(key) else { continue };
            if !self.spilled.has(number) && !self.unreadable_files.contains(&number) {
                let entry = SpillEntry::decode(value)?;
                self.store.note_spilled(entry.length);
                self.spilled.add(Some(entry), entry.last.seq);
            }
        }
        Ok(())
    }

    pub(super) fn queued_bytes(&self) -> u64 {
        self.books.lock().queued_bytes
    }

    /// Returns whether records wait to be read; those that wait in rules do not count.
    pub(super) fn has_queued(&self) -> bool {
        let books = self.books.lock();
        books.ledger.queued > books.ledger.held
    }

    /// Submits `changes` of the uplink's state in one write with `transaction`, and returns the token of
    /// the write; `moved` is booked when that is durable.
    ///
    /// # Errors
    ///
    /// [`UplinkError::Change`] if a change does not fit; then nothing is submitted.
    pub(super) fn submit(
        &self,
        mut transaction: Transaction,
        changes: Vec<Change>,
        moved: Option<Moved>,
    ) -> Result<u64, UplinkError> {
        apply(changes, &mut self.entries.lock(), &mut transaction)?;
        Ok(self.writes.submit(&self.store, transaction, moved))
    }

    /// Books the moves of the cursor that are durable, and returns the token of the last durable write.
    pub(super) fn book_durable(&self) -> u64 {
        let durable = self.writes.durable();
        while let Some(moved) = self.writes.take_moved() {
            self.note_moved(&moved);
        }
        durable
    }

    pub(super) fn set_connection(&self, connection: ConnectionState) {
        let mut state = self.state.lock();
        state.since = self.clock.wall();
        state.connection = connection;
    }

    /// Books a move of the cursor.
    fn note_moved(&self, moved: &Moved) {
        let mut books = self.books.lock();
        books.ledger.note_moved(moved.records, moved.held, &moved.outcomes);
        books.cursor = moved.cursor;
        books.needed = moved.needed;
        books.queued_bytes = books.queued_bytes.saturating_sub(moved.bytes);
        if books.ledger.queued == books.ledger.held {
            // The size was partly estimated at the start.
            books.queued_bytes = 0;
        }
        let now = self.clock.uptime();
        match books.deliveries.back_mut() {
            Some((at, readings)) if now.saturating_sub(*at) < RATE_STEP => {
                *readings += moved.outcomes.delivered;
            }
            _ => books.deliveries.push_back((now, moved.outcomes.delivered)),
        }
        while books.deliveries.front().is_some_and(|(at, _)| now.saturating_sub(*at) > RATE_SPAN) {
            books.deliveries.pop_front();
        }
        drop(books);
        self.needed.send_replace(moved.needed.seq);
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let books = self.books.lock();
        let state = self.state.lock();
        let now = self.clock.uptime();
        let recent = books
            .deliveries
            .iter()
            .filter(|(at, _)| now.saturating_sub(*at) <= RATE_SPAN)
            .map(|(_, readings)| readings)
            .sum::<u64>();
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let readings_per_second = recent as f64 / RATE_SPAN.as_secs_f64();
        Snapshot {
            ledger: books.ledger.clone(),
            cursor: books.cursor,
            needed: books.needed,
            spilled: SpilledSize::of(&self.spilled),
            kept_after: self.spilled.end(books.needed),
            queued_bytes: books.queued_bytes,
            is_refusing: self.is_refusing(books.queued_bytes),
            takes: self.settings.branches.iter().all(Branch::is_active),
            connection: state.connection.clone(),
            since: state.since,
            last_error: state.last_error.clone(),
            endpoint: state.endpoint.clone(),
            connections: state.connections,
            core: state.core.clone(),
            bytes_sent: self.bytes_sent.load(Ordering::Relaxed),
            readings_per_second,
            commands: self.commands_total.load(Ordering::Relaxed),
            refused_late: self.refused_late.load(Ordering::Relaxed),
            commands_refused: self.commands_refused.load(Ordering::Relaxed),
            outcomes_waiting: state.outcomes_waiting,
            bridged: self.bridged.lock().clone(),
            shadow: state.shadow.clone(),
        }
    }

    fn is_refusing(&self, queued_bytes: u64) -> bool {
        let core = &self.settings.core;
        core.when_full == WhenFull::Refuse && queued_bytes >= core.max_bytes
    }
}

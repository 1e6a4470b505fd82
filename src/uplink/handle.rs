//! What everybody but the task sees of an uplink.

use std::{
    collections::BTreeSet,
    io,
    sync::{Arc, atomic::AtomicU64},
};

use parking_lot::Mutex;
use tidegate_model::{Message, Timestamp, UplinkName};
use tidegate_store::{Position, Seq, SpillEntry, Spilled, TakerId};
use tidegate_uplink::{Keys, Ledger, QueueView, ShadowView, Status, WhenFull, saved_books};
use tokio::sync::{Notify, mpsc, watch};
use tracing::warn;

use super::{
    audit::Audit,
    backlog::{self, Queue},
    command::IncomingCommand,
    intake::{Bridged, Intake},
    outcome::OutcomeSender,
    settings::UplinkSettings,
    shared::{Books, Shared},
    state::Entries,
    switch::Branch,
    task::{UplinkError, UplinkTask},
    watched::Watched,
    writes::Writes,
};
use crate::{clock::Clock, store::StoreHandle, time_trust::TimeTrust};

/// What an uplink gets from the gateway.
#[derive(Debug)]
pub struct UplinkContext {
    /// The journal.
    pub store: StoreHandle,
    /// The uplink's number among the takers of records.
    pub taker: TakerId,
    /// The last record that was appended for it, as recovery found it.
    pub received: Position,
    /// The state of the journal, as recovery found it; entries of others may be among it.
    pub entries: Entries,
    /// The clocks.
    pub clock: Clock,
    /// Who knows whether the wall clock is right.
    pub time: TimeTrust,
    /// Takes the commands that come down. A command that finds it full has the outcome `busy`.
    pub commands: mpsc::Sender<IncomingCommand>,
    /// Takes what comes down to be published here.
    pub intake: Arc<dyn Intake>,
}

/// How the connection to the cloud is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ConnectionState {
    /// Not begun.
    #[default]
    Idle,
    /// An attempt is under way.
    Connecting,
    /// Up.
    Connected,
    /// Waiting before the next attempt.
    Waiting {
        /// When that is.
        until: Timestamp,
    },
}

/// How much of what waits was moved out of the journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpilledSize {
    /// In how many files.
    pub files: usize,
    /// How many records they hold, those included that are settled already.
    pub records: u64,
    /// How large they are on the disk.
    pub bytes: u64,
}

impl SpilledSize {
    pub(super) fn of(spilled: &Spilled) -> Self {
        let (files, records, bytes) = spilled.totals();
        Self { files, records, bytes }
    }
}

/// One uplink at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// The books.
    pub ledger: Ledger,
    /// The last record that is settled.
    pub cursor: Position,
    /// The last record that is needed no more: that one, or one before it.
    pub needed: Position,
    /// The last record that it does not need of the journal: it is settled, or in a file of its own.
    pub kept_after: Position,
    /// What was moved out of the journal.
    pub spilled: SpilledSize,
    /// The size of the records that wait.
    pub queued_bytes: u64,
    /// Whether records are refused at the front because too much waits.
    pub is_refusing: bool,
    /// Whether it takes what comes in; else another queue does.
    pub takes: bool,
    /// How the connection is doing.
    pub connection: ConnectionState,
    /// Since when.
    pub since: Timestamp,
    /// Why the last connection ended or was not made, or what the cloud refused; until the next
    /// success.
    pub last_error: Option<String>,
    /// The broker that the connection is to, as host and port.
    pub endpoint: Option<String>,
    /// How often a connection was made.
    pub connections: u64,
    /// How the core is doing.
    pub core: Status,
    /// Payload bytes handed to connections, those sent again included.
    pub bytes_sent: u64,
    /// Readings that the cloud has acknowledged, a second, over the last 10.
    pub readings_per_second: f64,
    /// Commands that came down.
    pub commands: u64,
    /// What the cloud has refused after it had acknowledged it, as far as it is known.
    pub refused_late: u64,
    /// What came down by `commands` and was not taken: it was refused, found no room, or is no command.
    pub commands_refused: u64,
    /// Outcomes of commands that wait for the cloud.
    pub outcomes_waiting: usize,
    /// What came down to be published here.
    pub bridged: Bridged,
    /// The shadow at the cloud, if there is one.
    pub shadow: Option<ShadowView>,
}

/// The acknowledgements of commands that may wait for the task.
const ACKS: usize = 1_024;

/// Makes an uplink: counts what waits for it in the journal and returns the task, to be run, and a
/// handle. Waits for the disk.
///
/// # Errors
///
/// [`UplinkError`] if the journal cannot be read or what it keeps for the uplink is malformed.
pub fn new(
    mut settings: UplinkSettings,
    context: UplinkContext,
) -> Result<(UplinkTask, UplinkHandle), UplinkError> {
    settings.core.recovered = context.received.ordinal;
    let keys = Keys::new(&settings.core.name);
    let mut entries = context.entries;
    entries.retain(|key, _| key.starts_with(keys.prefix()));
    let pairs = entries.iter().map(|(key, value)| (key.as_slice(), value.as_slice()));
    let saved = saved_books(&settings.core.name, pairs)?;
    let (cursor, needed) = (saved.cursor, saved.needed);
    let (spilled, unreadable_files) = spilled(&keys, &entries);
    let (_, _, spilled_bytes) = spilled.totals();
    context.store.note_spilled(spilled_bytes);
    let queue = Queue { store: &context.store, taker: context.taker, spilled: &spilled };
    let backlog = backlog::count(queue, cursor, context.received)?;
    let ledger = Ledger {
        received: context.received.ordinal,
        outcomes: saved.outcomes,
        queued: backlog.records + saved.held,
        held: saved.held,
        unreadable: backlog.unreadable,
    };
    let books = Books { ledger, cursor, needed, queued_bytes: backlog.bytes, ..Books::default() };
    let (queue, outcomes) = mpsc::channel(OutcomeSender::CAPACITY);
    let (acks_sender, acks) = mpsc::channel(ACKS);
    let states = settings.link.shadow.iter().flat_map(|shadow| shadow.states());
    let watched = Watched::start(states.map(|state| &state.topic), &*context.intake);
    let shared = Arc::new(Shared {
        sender: OutcomeSender::new(queue, settings.link.results.clone()),
        store: context.store,
        taker: context.taker,
        spilled,
        spilling: Arc::default(),
        passing: Mutex::default(),
        unreadable_files,
        clock: context.clock,
        time: context.time,
        commands: context.commands,
        intake: context.intake,
        bridged: Mutex::default(),
        watched,
        outcomes: tokio::sync::Mutex::new(outcomes),
        acks_sender,
        acks: tokio::sync::Mutex::new(acks),
        entries: Mutex::new(entries),
        writes: Writes::default(),
        attempts: AtomicU64::new(0),
        state: Mutex::default(),
        bytes_sent: AtomicU64::new(0),
        commands_total: AtomicU64::new(0),
        refused_late: AtomicU64::new(0),
        commands_refused: AtomicU64::new(0),
        is_over: Notify::new(),
        books: Mutex::new(books),
        needed: watch::Sender::new(needed.seq),
        settings,
    });
    Ok((UplinkTask::new(Arc::clone(&shared)), UplinkHandle(shared)))
}

/// Returns what was spilled out of the journal, from the entries of an uplink, and the files whose entries cannot be read:
/// their records are missing, which their neighbours tell.
fn spilled(keys: &Keys, entries: &Entries) -> (Spilled, BTreeSet<u64>) {
    let mut files = Vec::new();
    let mut unreadable = BTreeSet::new();
    for (key, value) in entries {
        let Some(number) = keys.spill_number(key) else { continue };
        match SpillEntry::decode(value) {
            Ok(entry) => files.push(entry),
            Err(error) => {
                warn!(number, %error, "A file of spilled records is left out");
                unreadable.insert(number);
            }
        }
    }
    (Spilled::new(files), unreadable)
}

/// An uplink, for those who feed it and those who look at it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct UplinkHandle(Arc<Shared>);

impl UplinkHandle {
    /// Returns the name.
    pub fn name(&self) -> &UplinkName {
        &self.0.settings.core.name
    }

    /// Returns the uplink's number among the takers of records.
    pub fn taker(&self) -> TakerId {
        self.0.taker
    }

    /// Returns the numbers of all files with records that were moved out of the journal, readable or not.
    pub fn spill_numbers(&self) -> BTreeSet<u64> {
        let keys = Keys::new(self.name());
        self.0.entries.lock().keys().filter_map(|key| keys.spill_number(key)).collect()
    }

    /// Returns whether a message is for this uplink: by its topic, and by the way it has come. Which of several queues
    /// takes it is the same for all while the lock of the broker's core is held.
    pub fn selects(&self, message: &Message) -> bool {
        let UplinkSettings { selector, branches, core, link, .. } = &self.0.settings;
        branches.iter().all(Branch::is_active)
            && selector.matches(&message.topic)
            && link.bridge.lets_out(message, &core.gateway, core.format)
    }

    /// Returns how the queue is doing, for those who steer between two.
    pub fn view(&self) -> QueueView {
        let is_empty = self.0.books.lock().ledger.queued == 0;
        let state = self.0.state.lock();
        let waited = state
            .core
            .oldest
            .filter(|_| !is_empty)
            .map(|oldest| self.0.clock.wall().saturating_since(oldest));
        QueueView {
            is_connected: state.connection == ConnectionState::Connected,
            is_empty,
            lag: waited.unwrap_or_default(),
        }
    }

    /// Books a record that was appended for this uplink. To be called once for each, in order.
    pub fn note_appended(&self, ordinal: u64, body_bytes: usize) {
        let mut books = self.0.books.lock();
        books.ledger.note_appended(ordinal);
        books.queued_bytes += body_bytes as u64;
        let is_over = books.queued_bytes > self.0.settings.core.max_bytes;
        drop(books);
        if is_over {
            self.0.is_over.notify_one();
        }
    }

    /// Returns whether records for this uplink must be refused now, as `when-full = "refuse"` asks.
    pub fn is_full(&self) -> bool {
        let core = &self.0.settings.core;
        core.when_full == WhenFull::Refuse && self.0.queued_bytes() >= core.max_bytes
    }

    /// Follows the last record that the uplink needs no more.
    pub fn cursor(&self) -> watch::Receiver<Seq> {
        self.0.needed.subscribe()
    }

    /// Returns the way in for outcomes of commands that this uplink brought.
    pub fn outcomes(&self) -> OutcomeSender {
        self.0.sender.clone()
    }

    /// Returns the uplink at this moment: all numbers of the books are of one and the same.
    pub fn snapshot(&self) -> Snapshot {
        self.0.snapshot()
    }

    /// Walks the journal and counts again. Reads everything that waits.
    ///
    /// # Errors
    ///
    /// Whatever the storage reports.
    pub async fn audit(&self) -> io::Result<Audit> {
        let shared = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || shared.audit()).await.map_err(io::Error::other)?
    }

    /// Returns the task once more, for the next run after one that failed.
    pub fn task(&self) -> UplinkTask {
        UplinkTask::new(Arc::clone(&self.0))
    }
}

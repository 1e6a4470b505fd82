//! What everybody but the task sees of an uplink.

use std::{
    collections::{BTreeMap, VecDeque},
    hash::{BuildHasher, RandomState},
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tidegate_model::{Timestamp, Topic, UplinkName};
use tidegate_store::{Item, Position, Seq, TakerId, Transaction};
use tidegate_uplink::{
    Change, Keys, Ledger, Moved, Outcome, Status, WhenFull, renew, retire, saved_books,
};
use tokio::sync::{Notify, mpsc, watch};

use super::{
    backlog,
    command::{AckId, IncomingCommand},
    outcome::OutcomeSender,
    settings::UplinkSettings,
    task::{UplinkError, UplinkTask},
};
use crate::{clock::Clock, store::StoreHandle};

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
    pub entries: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The clocks.
    pub clock: Clock,
    /// Whether the wall clock is trusted.
    pub time_is_trusted: Arc<AtomicBool>,
    /// Takes the commands that come down. A command that finds it full has the outcome `busy`.
    pub commands: mpsc::Sender<IncomingCommand>,
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

/// One uplink at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// The books.
    pub ledger: Ledger,
    /// The last record that is settled.
    pub cursor: Position,
    /// The size of the records that wait.
    pub queued_bytes: u64,
    /// Whether records are refused at the front because too much waits.
    pub is_refusing: bool,
    /// How the connection is doing.
    pub connection: ConnectionState,
    /// Since when.
    pub since: Timestamp,
    /// Why the last connection ended or was not made, or what the cloud refused; until the next
    /// success.
    pub last_error: Option<String>,
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
    /// Outcomes of commands that wait for the cloud.
    pub outcomes_waiting: usize,
}

/// What a count of the journal says of the books.
#[derive(Clone, Debug, PartialEq)]
pub struct Audit {
    /// The uplink at the moment of the count.
    pub snapshot: Snapshot,
    /// How many records wait in the journal, counted one by one.
    pub queued: u64,
    /// How many of those that should wait cannot be read.
    pub damaged: u64,
}

impl Audit {
    /// Returns whether the books are right: balanced, and the same as the count, with nothing lost.
    pub fn is_sound(&self) -> bool {
        self.snapshot.ledger.is_sound()
            && self.damaged == 0
            && self.snapshot.ledger.queued == self.queued
    }
}

/// The books, and what is counted with them under one lock.
#[derive(Debug, Default)]
struct Books {
    ledger: Ledger,
    cursor: Position,
    queued_bytes: u64,
    deliveries: VecDeque<(Duration, u64)>,
}

/// What the task last said of itself.
#[derive(Debug, Default)]
pub(super) struct TaskState {
    pub(super) connection: ConnectionState,
    pub(super) since: Timestamp,
    pub(super) last_error: Option<String>,
    pub(super) connections: u64,
    pub(super) core: Status,
    pub(super) outcomes_waiting: usize,
}

/// What a task and its handles share; it outlives the runs of the task.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) settings: UplinkSettings,
    pub(super) store: StoreHandle,
    pub(super) taker: TakerId,
    pub(super) clock: Clock,
    pub(super) time_is_trusted: Arc<AtomicBool>,
    pub(super) commands: mpsc::Sender<IncomingCommand>,
    pub(super) outcomes: tokio::sync::Mutex<mpsc::Receiver<Outcome>>,
    pub(super) acks_sender: mpsc::Sender<AckId>,
    pub(super) acks: tokio::sync::Mutex<mpsc::Receiver<AckId>>,
    /// The uplink's entries of the journal's state, as of the last write that was submitted.
    pub(super) entries: Mutex<BTreeMap<Vec<u8>, Vec<u8>>>,
    pub(super) state: Mutex<TaskState>,
    pub(super) bytes_sent: AtomicU64,
    pub(super) commands_total: AtomicU64,
    /// Told when more waits than should.
    pub(super) is_over: Notify,
    sender: OutcomeSender,
    books: Mutex<Books>,
    cursor: watch::Sender<Seq>,
}

/// The acknowledgements of commands that may wait for the task.
const ACKS: usize = 1_024;
/// Over how long the rate of delivery is taken.
const RATE_SPAN: Duration = Duration::from_secs(10);
/// In what steps.
const RATE_STEP: Duration = Duration::from_millis(500);
/// How often an audit looks again for records that are appended and not yet durable.
const AUDIT_ATTEMPTS: usize = 100;
const AUDIT_PAUSE: Duration = Duration::from_millis(20);

/// Makes an uplink: counts what waits for it in the journal and returns the task, to be run, and a
/// handle. Waits for the disk.
///
/// # Errors
///
/// [`UplinkError`] if the journal cannot be read or what it keeps for the uplink is malformed.
pub fn new(
    settings: UplinkSettings,
    context: UplinkContext,
) -> Result<(UplinkTask, UplinkHandle), UplinkError> {
    let keys = Keys::new(&settings.core.name);
    let mut entries = context.entries;
    entries.retain(|key, _| key.starts_with(keys.prefix()));
    let pairs = || entries.iter().map(|(key, value)| (key.as_slice(), value.as_slice()));
    let (cursor, outcomes) = saved_books(&settings.core.name, pairs())?;
    let backlog = backlog::count(&context.store, context.taker, cursor, context.received)?;
    let ledger = Ledger {
        received: context.received.ordinal,
        outcomes,
        queued: backlog.records,
        unreadable: backlog.unreadable,
    };
    let books = Books { ledger, cursor, queued_bytes: backlog.bytes, ..Books::default() };
    let (queue, outcomes) = mpsc::channel(OutcomeSender::CAPACITY);
    let (acks_sender, acks) = mpsc::channel(ACKS);
    let shared = Arc::new(Shared {
        sender: OutcomeSender::new(queue, settings.link.results.clone()),
        store: context.store,
        taker: context.taker,
        clock: context.clock,
        time_is_trusted: context.time_is_trusted,
        commands: context.commands,
        outcomes: tokio::sync::Mutex::new(outcomes),
        acks_sender,
        acks: tokio::sync::Mutex::new(acks),
        entries: Mutex::new(entries),
        state: Mutex::default(),
        bytes_sent: AtomicU64::new(0),
        commands_total: AtomicU64::new(0),
        is_over: Notify::new(),
        books: Mutex::new(books),
        cursor: watch::Sender::new(cursor.seq),
        settings,
    });
    Ok((UplinkTask::new(Arc::clone(&shared)), UplinkHandle(shared)))
}

/// Begins another epoch for each of the uplinks `names`, as the journal's state may have lost
/// something: in `entries`, the state as recovery found it, and in `transaction`, which must be
/// durable before [`new`] and should settle the damage.
///
/// # Errors
///
/// [`UplinkError`] if what the journal keeps for an uplink is malformed.
pub fn renew_epochs(
    names: &[UplinkName],
    directory_epoch: i64,
    entries: &mut BTreeMap<Vec<u8>, Vec<u8>>,
    transaction: &mut Transaction,
) -> Result<(), UplinkError> {
    for name in names {
        let random = RandomState::new().hash_one(name.as_str());
        let pairs = entries.iter().map(|(key, value)| (key.as_slice(), value.as_slice()));
        let changes = renew(name, pairs, directory_epoch, random)?;
        apply(changes, entries, transaction)?;
    }
    Ok(())
}

/// Forgets an uplink that is no longer configured, but for the numbers of its streams: if it ever
/// comes back, they go on. Its taker is retired apart.
///
/// # Errors
///
/// [`UplinkError`] if what the journal keeps for it is malformed.
pub fn forget(
    name: &UplinkName,
    entries: &mut BTreeMap<Vec<u8>, Vec<u8>>,
    transaction: &mut Transaction,
) -> Result<(), UplinkError> {
    let pairs = entries.iter().map(|(key, value)| (key.as_slice(), value.as_slice()));
    let changes = retire(name, pairs)?;
    apply(changes, entries, transaction)
}

/// Puts changes into a transaction and into a copy of the state.
pub(super) fn apply(
    changes: Vec<Change>,
    entries: &mut BTreeMap<Vec<u8>, Vec<u8>>,
    transaction: &mut Transaction,
) -> Result<(), UplinkError> {
    for change in changes {
        match change {
            Change::Put { key, value } => {
                transaction.put(&key, &value)?;
                entries.insert(key, value);
            }
            Change::Delete { key } => {
                transaction.delete(&key)?;
                entries.remove(&key);
            }
        }
    }
    Ok(())
}

impl Shared {
    pub(super) fn now(&self) -> tidegate_uplink::Now {
        tidegate_uplink::Now {
            elapsed: self.clock.uptime(),
            wall: self.clock.wall(),
            wall_is_trusted: self.time_is_trusted.load(Ordering::Relaxed),
        }
    }

    pub(super) fn queued_bytes(&self) -> u64 {
        self.books.lock().queued_bytes
    }

    pub(super) fn has_queued(&self) -> bool {
        self.books.lock().ledger.queued > 0
    }

    /// Books a move of the cursor.
    pub(super) fn note_moved(&self, moved: &Moved) {
        let mut books = self.books.lock();
        books.ledger.note_moved(moved.ordinals, &moved.outcomes);
        books.cursor = moved.cursor;
        books.queued_bytes = books.queued_bytes.saturating_sub(moved.bytes);
        if books.ledger.queued == 0 {
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
        self.cursor.send_replace(moved.cursor.seq);
    }

    fn snapshot(&self) -> Snapshot {
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
            queued_bytes: books.queued_bytes,
            is_refusing: self.is_refusing(books.queued_bytes),
            connection: state.connection.clone(),
            since: state.since,
            last_error: state.last_error.clone(),
            connections: state.connections,
            core: state.core.clone(),
            bytes_sent: self.bytes_sent.load(Ordering::Relaxed),
            readings_per_second,
            commands: self.commands_total.load(Ordering::Relaxed),
            outcomes_waiting: state.outcomes_waiting,
        }
    }

    fn is_refusing(&self, queued_bytes: u64) -> bool {
        let core = &self.settings.core;
        core.when_full == WhenFull::Refuse && queued_bytes >= core.max_bytes
    }

    /// Counts what waits in the journal, record by record.
    fn audit(&self) -> io::Result<Audit> {
        let cursor = self.books.lock().cursor;
        let mut reader = self.store.reader(self.taker, cursor);
        let mut count = Count { last: cursor.ordinal, ..Count::default() };
        // What is to be found was appended until now; under load there is always more that is not durable yet.
        let mut snapshot = self.snapshot();
        let last = snapshot.ledger.received;
        for _ in 0..AUDIT_ATTEMPTS {
            count.read_on(&mut reader)?;
            if count.last >= last {
                break;
            }
            std::thread::sleep(AUDIT_PAUSE);
        }
        count.forgive(self.books.lock().cursor.ordinal);
        self.note_unreadable(&count);
        let (queued, damaged) = count.between(snapshot.cursor.ordinal, last);
        snapshot.ledger.unreadable = damaged;
        Ok(Audit { snapshot, queued, damaged })
    }

    /// Books what an audit has found lost, so that every status after it says so, too.
    fn note_unreadable(&self, count: &Count) {
        let mut books = self.books.lock();
        let (_, damaged) = count.between(books.cursor.ordinal, books.ledger.received);
        books.ledger.unreadable = damaged;
    }
}

/// Ranges of ordinals that were found or told missing, in order.
#[derive(Debug, Default)]
struct Count {
    found: Vec<(u64, u64)>,
    damaged: Vec<(u64, u64)>,
    last: u64,
}

impl Count {
    fn read_on(
        &mut self,
        reader: &mut tidegate_store::Reader<crate::store::JournalFiles>,
    ) -> io::Result<()> {
        loop {
            let block = reader.next_block(4_096, 4 << 20)?;
            if block.is_empty() {
                return Ok(());
            }
            for item in block {
                match item {
                    Item::Record { ordinal, .. } => {
                        add(&mut self.found, ordinal, ordinal);
                        self.last = ordinal;
                    }
                    Item::Damaged { records, position, .. } => {
                        add(&mut self.damaged, position.ordinal + 1 - records, position.ordinal);
                        self.last = position.ordinal;
                    }
                }
            }
        }
    }

    /// Takes what is missing up to `cursor` as found: it was delivered during the count, and deleted.
    fn forgive(&mut self, cursor: u64) {
        for (from, to) in &mut self.damaged {
            if *from <= cursor {
                self.found.push((*from, cursor.min(*to)));
                *from = cursor + 1;
            }
        }
        self.damaged.retain(|(from, to)| from <= to);
    }

    /// Returns how many ordinals above `after` and up to `last` were found, and how many were not.
    fn between(&self, after: u64, last: u64) -> (u64, u64) {
        let inside = |ranges: &[(u64, u64)]| {
            let clip =
                |&(from, to): &(u64, u64)| (to.min(last) + 1).saturating_sub(from.max(after + 1));
            ranges.iter().map(clip).sum()
        };
        (inside(&self.found), inside(&self.damaged))
    }
}

fn add(ranges: &mut Vec<(u64, u64)>, from: u64, to: u64) {
    match ranges.last_mut() {
        Some((_, last)) if *last + 1 == from => *last = to,
        _ => ranges.push((from, to)),
    }
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

    /// Returns whether a message on `topic` is for this uplink.
    pub fn selects(&self, topic: &Topic) -> bool {
        self.0.settings.selector.matches(topic)
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
        self.0.cursor.subscribe()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_looks_at_one_range_only() {
        let mut count = Count::default();
        for ordinal in [3, 4, 5, 8, 9] {
            add(&mut count.found, ordinal, ordinal);
        }
        add(&mut count.damaged, 6, 7);
        assert_eq!(count.found, [(3, 5), (8, 9)]);
        #[rustfmt::skip]
        let cases = [
            // after  last  found  damaged
            (0,       9,    5,     2),
            (4,       9,    3,     2),
            (5,       8,    1,     2),
            (9,       9,    0,     0),
            (6,       6,    0,     0),
        ];
        for (after, last, found, damaged) in cases {
            assert_eq!(count.between(after, last), (found, damaged), "after {after} to {last}");
        }
    }
}

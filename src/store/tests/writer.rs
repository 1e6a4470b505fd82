//! Completions, durability modes, faults.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tidegate_store::simulation::{Fate, SimulatedDisk};
use tidegate_store::{
    CommitError, Item, Journal, JournalOptions, Position, Recovery, Seq, TakerId, Transaction,
    Visibility,
};
use tokio::sync::oneshot::error::TryRecvError;

use crate::config::{Durability, StoreConfig};
use crate::store::files::Gauges;
use crate::store::handle::{Shared, StoreHandle};
use crate::store::writer::{Store, gathers_until, spawn_over};
use crate::store::{Completion, DurableListener, NotStored};

const TAKER: TakerId = TakerId::new(1);
const PATIENCE: Duration = Duration::from_secs(20);

fn open(disk: &SimulatedDisk, durability: Durability) -> (Journal<SimulatedDisk>, Recovery) {
    let visibility = match durability {
        Durability::Ack => Visibility::Synced,
        Durability::Interval(_) | Durability::Memory => Visibility::Written,
    };
    let options = JournalOptions { segment_bytes: 8_192, visibility, ..JournalOptions::new(7) };
    Journal::open(disk.clone(), options).unwrap()
}

fn start(disk: &SimulatedDisk, durability: Durability) -> Store<SimulatedDisk> {
    let (journal, recovery) = open(disk, durability);
    let config = StoreConfig { durability, ..StoreConfig::default() };
    let files = disk.clone();
    spawn_over("store", files, journal, &recovery, &config, None, Gauges::default()).unwrap()
}

fn record(number: u64) -> Transaction {
    let mut transaction = Transaction::new();
    let body = [&number.to_le_bytes()[..], &[3; 60]].concat();
    transaction.append(Seq::new(number), &[(TAKER, number)], &body).unwrap();
    transaction
}

/// Returns how many records a disk holds, from the first on, without holes.
fn count(disk: &SimulatedDisk) -> u64 {
    let (journal, recovery) = open(disk, Durability::Ack);
    assert_eq!(recovery.damages, []);
    let mut reader = journal.catalog().reader(TAKER, Position::START);
    let items = reader.next_block(usize::MAX, usize::MAX).unwrap();
    for (expected, item) in (1..).zip(&items) {
        assert!(matches!(item, Item::Record { ordinal, .. } if *ordinal == expected), "{item:?}");
    }
    items.len() as u64
}

/// Checks, whenever it is told of a record, that a power cut at this moment would leave it.
struct Witness {
    disk: SimulatedDisk,
    told: Mutex<Vec<u64>>,
    not_stored: AtomicU64,
}

impl Witness {
    fn new(disk: &SimulatedDisk) -> Arc<Self> {
        let disk = disk.clone();
        Arc::new(Self { disk, told: Mutex::default(), not_stored: AtomicU64::new(0) })
    }
}

impl DurableListener for Witness {
    fn durable(&self, token: u64) {
        // A look at every tenth keeps the test quick.
        if token.is_multiple_of(10) {
            assert!(count(&self.disk.image_after_cut(Fate::Dropped)) >= token);
        }
        self.told.lock().push(token);
    }

    fn not_stored(&self, _token: u64) {
        self.not_stored.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn completions_come_in_order_and_after_the_sync() {
    const RECORDS: u64 = 300;
    let disk = SimulatedDisk::new();
    let store = start(&disk, Durability::Ack);
    let (handle, witness) = (store.handle(), Witness::new(&disk));
    for number in 1..=RECORDS {
        handle.submit(record(number), Completion::Shared(witness.clone(), number));
    }
    let counters = store.stop().unwrap();
    assert_eq!(*witness.told.lock(), Vec::from_iter(1..=RECORDS));
    assert!(counters.commits < RECORDS, "one sync covers many");
    assert_eq!(count(&disk.power_cut(Fate::Dropped)), RECORDS);
    assert_eq!(handle.waiting_bytes(), 0);

    let (completion, mut receipt) = Completion::receipt();
    handle.submit(record(RECORDS + 1), completion);
    assert_eq!(receipt.try_recv(), Ok(Err(NotStored)), "a stopped store takes nothing");
}

#[tokio::test]
async fn readers_are_woken_when_records_are_durable() {
    let disk = SimulatedDisk::new();
    let store = start(&disk, Durability::Ack);
    let handle = store.handle();
    let mut durable = handle.durable_seq();
    let mut reader = handle.reader(TAKER, Position::START);
    for number in 1..=20 {
        handle.submit(record(number), Completion::None);
        durable.wait_for(|seq| seq.get() >= number).await.unwrap();
        assert_eq!(reader.next_block(10, usize::MAX).unwrap().len(), 1);
    }
    handle.submit_and_wait(record(21)).await.unwrap();
    handle.release(Seq::new(10));
    store.stop().unwrap();
}

/// No acknowledgement leaves for anything that is not durable, and the failure is told.
#[test]
fn fault_S11_nothing_is_acknowledged_after_syncs_fail() {
    for failing in 0..30 {
        let disk = SimulatedDisk::new();
        let store = start(&disk, Durability::Ack);
        let (handle, witness) = (store.handle(), Witness::new(&disk));
        let failure = handle.failure();
        disk.fail_syncs(failing, u64::MAX);
        for number in 1..=100 {
            handle.submit(record(number), Completion::Shared(witness.clone(), number));
            if number % 3 == 0 {
                std::thread::yield_now();
            }
        }
        // The stop makes a last sync, should all before have covered everything.
        let stopped = store.stop();
        let told = witness.told.lock().clone();
        assert_eq!(told, Vec::from_iter(1..=told.len() as u64));
        assert!(count(&disk.power_cut(Fate::Dropped)) >= told.len() as u64);
        assert_eq!(told.len() as u64 + witness.not_stored.load(Ordering::Relaxed), 100);
        if told.len() < 100 {
            assert!(stopped.is_err_and(|error| matches!(*error, CommitError::Fatal(_))));
            assert!(failure.borrow().is_some());
        }
    }
}

#[test]
fn fault_S09_a_full_disk_delays_acknowledgements() {
    let disk = SimulatedDisk::new();
    let store = start(&disk, Durability::Ack);
    let handle = store.handle();
    let (completion, receipt) = Completion::receipt();
    handle.submit(record(1), completion);
    assert_eq!(receipt.blocking_recv(), Ok(Ok(())));
    assert!(handle.is_accepting());

    disk.set_capacity(Some(1));
    let (completion, mut receipt) = Completion::receipt();
    handle.submit(record(2), completion);
    let started = std::time::Instant::now();
    while handle.is_accepting() {
        assert!(started.elapsed() < PATIENCE, "refusing starts at once");
        std::thread::yield_now();
    }
    assert_eq!(receipt.try_recv(), Err(TryRecvError::Empty), "it still waits");

    disk.set_capacity(None);
    assert_eq!(receipt.blocking_recv(), Ok(Ok(())));
    while !handle.is_accepting() {
        assert!(started.elapsed() < PATIENCE, "accepting resumes");
        handle.submit(Transaction::new(), Completion::None);
        std::thread::yield_now();
    }
    store.stop().unwrap();
    assert_eq!(count(&disk), 2);
}

#[test]
fn an_interval_acknowledges_at_once_and_syncs_later() {
    let disk = SimulatedDisk::new();
    let store = start(&disk, Durability::Interval(Duration::from_secs(3_600)));
    let handle = store.handle();
    let syncs = disk.syncs();
    for number in 1..=10 {
        let (completion, receipt) = Completion::receipt();
        handle.submit(record(number), completion);
        assert_eq!(receipt.blocking_recv(), Ok(Ok(())));
    }
    // The first group made the first segment.
    assert!(disk.syncs() <= syncs + 2);
    assert_eq!(handle.reader(TAKER, Position::START).audit().unwrap().records, 10);
    assert_eq!(count(&disk.copy()), 10, "the end of the process loses nothing");
    store.stop().unwrap();
    assert_eq!(count(&disk.power_cut(Fate::Dropped)), 10);

    let disk = SimulatedDisk::new();
    let store = start(&disk, Durability::Interval(Duration::from_millis(20)));
    store.handle().submit(record(1), Completion::None);
    store.handle().submit(record(2), Completion::None);
    let started = std::time::Instant::now();
    while count(&disk.image_after_cut(Fate::Dropped)) < 2 {
        assert!(started.elapsed() < PATIENCE, "it is synced without being asked");
        std::thread::sleep(Duration::from_millis(5));
    }
    store.stop().unwrap();
}

/// uplink.3: who sends one message and waits for the answer is answered as soon as it is on disk; where many send, a sync waits
/// for those that could share it, no longer than a few milliseconds from the beginning of the last one.
#[test]
fn uplink_3_a_lone_sender_is_not_kept_waiting() {
    let synced_at = Instant::now();
    for (waiting, last) in [(1, 0), (1, 1), (1, 50), (50, 1), (0, 50)] {
        assert_eq!(gathers_until(waiting, last, synced_at), None, "{waiting} behind {last}");
    }
    let until = gathers_until(2, 2, synced_at).expect("that is load");
    assert!(until - synced_at < Duration::from_millis(10));
}

/// broker.10: the mode `memory` neither writes nor syncs for each message; what is written later is whole.
#[test]
fn broker_10_memory_mode_writes_seldom() {
    let disk = SimulatedDisk::new();
    let store = start(&disk, Durability::Memory);
    let handle = store.handle();
    let acknowledge = |number| {
        let (completion, receipt) = Completion::receipt();
        handle.submit(record(number), completion);
        assert_eq!(receipt.blocking_recv(), Ok(Ok(())));
    };
    acknowledge(1);
    let (operations, syncs) = (disk.operations(), disk.syncs());
    let started = std::time::Instant::now();
    (2..=1_000).for_each(acknowledge);
    // One write in 50 ms at most, each perhaps with the end of a segment and the beginning of the next.
    let writes = 2 + started.elapsed().as_millis() as u64 / 50;
    assert!(disk.operations() - operations <= 10 * writes, "{} operations", disk.operations());
    assert!(disk.syncs() - syncs <= 4 * writes, "{} syncs", disk.syncs());
    while handle.reader(TAKER, Position::START).audit().unwrap().records < 1_000 {
        assert!(started.elapsed() < PATIENCE, "readers see it soon, without being asked");
        std::thread::sleep(Duration::from_millis(5));
    }
    store.stop().unwrap();
    assert_eq!(count(&disk), 1_000);
}

#[tokio::test]
async fn sources_wait_while_too_much_is_queued() {
    // Without a thread behind it nothing is taken.
    let (journal, _) = open(&SimulatedDisk::new(), Durability::Ack);
    let shared = Arc::new(Shared::new(Seq::ORIGIN));
    let handle = StoreHandle::new(shared.clone(), journal.catalog().clone());
    let mut large = Transaction::new();
    for key in 0..9_u8 {
        large.put(&[key], &vec![0; 1 << 20]).unwrap();
    }
    let bytes = large.encoded_len();
    handle.room().await;
    handle.submit(large, Completion::None);
    assert!(!handle.has_room());
    let mut waiting = pin!(handle.room());
    let is_waiting = poll_fn(|context| Poll::Ready(waiting.as_mut().poll(context).is_pending()));
    assert!(is_waiting.await);
    let work = shared.take_work(Seq::ORIGIN, PATIENCE);
    assert_eq!(work.submissions.len(), 1);
    shared.give_back(bytes);
    tokio::time::timeout(PATIENCE, waiting).await.unwrap();
    assert!(handle.has_room());
}

/// A broken invariant ends the thread; those who wait and the supervisor hear of it.
#[test]
fn a_panic_of_the_writer_is_told() {
    let disk = SimulatedDisk::new();
    let store = start(&disk, Durability::Ack);
    let (handle, failure) = (store.handle(), store.handle().failure());
    let (completion, receipt) = Completion::receipt();
    handle.submit(record(2), Completion::None);
    handle.submit(record(1), completion);
    assert!(!matches!(receipt.blocking_recv(), Ok(Ok(()))));
    assert!(store.stop().is_err());
    assert!(failure.borrow().is_some());
}

#[test]
fn the_status_tells_what_happened() {
    let disk = SimulatedDisk::new();
    let store = start(&disk, Durability::Ack);
    let status = store.status();
    for number in 1..=200 {
        let (completion, receipt) = Completion::receipt();
        store.handle().submit(record(number), completion);
        assert_eq!(receipt.blocking_recv(), Ok(Ok(())));
    }
    let is_alive = store.is_alive();
    assert!(is_alive(PATIENCE));
    store.stop().unwrap();
    let status = status();
    assert_eq!(status.waiting_bytes, 0);
    assert_eq!(status.oldest_unsynced, None);
    assert!(status.counters.commits > 0);
    assert!(status.segments > 1);
    assert!(status.journal_bytes > 200 * 68);
}

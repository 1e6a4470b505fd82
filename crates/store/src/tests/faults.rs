//! Writes and syncs fail, and the disk fills up.

use super::harness::{Harness, open, options, read_all};
use crate::simulation::{Fate, Random, SimulatedDisk};
use crate::{
    CommitError, Item, Journal, JournalOptions, Position, Seq, TakerId, Transaction, Visibility,
};

const STEPS: usize = 400;

/// One failed sync is final for its segment: the group goes to a new one, and everything that was
/// acknowledged is there without it.
#[test]
fn fault_S11_one_sync_fails() {
    let mut abandoned = 0;
    for failing in 0..50 {
        let disk = SimulatedDisk::new();
        let mut harness = Harness::on(disk.clone(), failing).unwrap();
        disk.fail_syncs(failing, 1);
        harness.run(STEPS).expect("a new segment works");
        abandoned += harness.journal.counters().segments_abandoned;
        let fate = if failing % 2 == 0 { Fate::Dropped } else { Fate::Kept };
        harness.recover_on(disk.power_cut(fate));
        harness.run(20).expect("the disk works");
        harness.recover_on(harness.disk.power_cut(Fate::Dropped));
    }
    assert!(abandoned >= 25, "only {abandoned} syncs of groups failed");
}

#[test]
fn fault_S11_syncs_keep_failing() {
    for failing in 0..50 {
        let disk = SimulatedDisk::new();
        let mut harness = Harness::on(disk.clone(), failing).unwrap();
        disk.fail_syncs(failing, u64::MAX);
        let stopped = harness.run(STEPS);
        assert!(matches!(stopped, Err(CommitError::Fatal(_))), "{stopped:?}");
        let syncs = disk.syncs();
        assert!(matches!(harness.journal.commit(), Err(CommitError::Fatal(_))));
        assert_eq!(disk.syncs(), syncs, "a journal that has failed tries nothing more");
        harness.recover_on(disk.power_cut(Fate::Dropped));
    }
}

/// After a failed sync the system takes pages for written that are not. What a restarted process
/// reads back from them must survive a power cut as if it had never failed.
#[test]
fn fault_S11_restart_after_failed_syncs_then_power_cut() {
    for failing in 0..50 {
        let disk = SimulatedDisk::new();
        let mut harness = Harness::on(disk.clone(), failing).unwrap();
        disk.fail_syncs(failing, u64::MAX);
        assert!(harness.run(STEPS).is_err());
        disk.fail_syncs(0, 0);
        harness.recover_on(disk.clone());
        harness.recover_on(disk.power_cut(Fate::Dropped));
    }
}

#[test]
fn fault_S11_writes_fail() {
    for failing in 0..50 {
        let disk = SimulatedDisk::new();
        let mut harness = Harness::on(disk.clone(), failing).unwrap();
        disk.fail_writes(failing, 1);
        harness.run(STEPS).expect("a new segment works");
        disk.fail_writes(failing / 2, u64::MAX);
        assert!(matches!(harness.run(STEPS), Err(CommitError::Fatal(_))));
        harness.recover_on(disk.power_cut(Fate::Dropped));
    }
}

/// A full disk delays commits; nothing that was handed in is lost, and numbers have no holes.
#[test]
fn fault_S09_full_disk_delays_commits() {
    for seed in 0..100 {
        let mut random = Random::new(seed);
        let disk = SimulatedDisk::new();
        let mut harness = Harness::on(disk.clone(), seed).unwrap();
        let mut full = 0;
        for _ in 0..40 {
            disk.set_capacity(Some(random.below(40_000)));
            if let Err(error) = harness.run(10) {
                assert!(matches!(error, CommitError::Full(_)), "{error:?}");
                full += 1;
            }
        }
        assert!(full > 0, "the disk was never full");
        disk.set_capacity(None);
        harness.commit().expect("there is room");
        harness.recover_on(disk.power_cut(Fate::Dropped));
    }
}

#[test]
fn fault_S10_full_disk_at_start() {
    let mut harness = Harness::new(10);
    harness.run(100).unwrap();
    harness.commit().unwrap();
    let disk = harness.disk.copy();
    disk.set_capacity(Some(0));
    harness.recover_on(disk.clone());
    harness.write();
    assert!(matches!(harness.commit(), Err(CommitError::Full(_))));
    disk.set_capacity(None);
    harness.commit().unwrap();
    harness.recover_on(disk.power_cut(Fate::Dropped));
}

fn append(journal: &mut Journal<SimulatedDisk>, number: u64) {
    let mut transaction = Transaction::new();
    let takers = [(TakerId::new(1), number)];
    transaction.append(Seq::new(number), &takers, &number.to_le_bytes()).unwrap();
    journal.write([&transaction]);
}

fn numbers(journal: &Journal<SimulatedDisk>) -> Vec<u64> {
    let items = read_all(journal, TakerId::new(1), Position::START);
    let number = |item| match item {
        Item::Record { seq, .. } => seq.get(),
        Item::Damaged { .. } => panic!("nothing was damaged: {item:?}"),
    };
    items.into_iter().map(number).collect()
}

/// With the weaker modes readers see what was written, the end of the process loses nothing, and a
/// power cut only what no sync has covered.
#[test]
fn flushed_records_survive_the_process() {
    let disk = SimulatedDisk::new();
    let options = JournalOptions { visibility: Visibility::Written, ..options(4_096) };
    let (mut journal, _) = Journal::open(disk.clone(), options).unwrap();
    for number in 1..=10 {
        append(&mut journal, number);
        journal.flush().unwrap();
        if number == 4 {
            journal.commit().unwrap();
        }
    }
    assert_eq!(numbers(&journal), Vec::from_iter(1..=10));
    assert_eq!(journal.durable_seq(), Seq::new(4));
    assert_eq!(numbers(&open(&disk.copy()).0), Vec::from_iter(1..=10));
    let (after, recovery) = open(&disk.image_after_cut(Fate::Dropped));
    assert_eq!(numbers(&after), [1, 2, 3, 4]);
    assert_eq!(recovery.damages, []);

    disk.fail_syncs(0, 1);
    journal.commit().unwrap();
    assert_eq!(journal.counters().segments_abandoned, 1);
    assert_eq!(numbers(&journal), Vec::from_iter(1..=10), "each of them once");
    assert_eq!(numbers(&open(&disk.power_cut(Fate::Dropped)).0), Vec::from_iter(1..=10));
}

#[test]
#[should_panic(expected = "record 1 comes after record 2")]
fn record_numbers_rise() {
    let (mut journal, _) = open(&SimulatedDisk::new());
    let mut transaction = Transaction::new();
    transaction.append(Seq::new(2), &[], b"").unwrap();
    transaction.append(Seq::new(1), &[], b"").unwrap();
    journal.write([&transaction]);
}

#[test]
#[should_panic(expected = "ordinal of taker 7 at record 2")]
fn ordinals_follow_each_other() {
    let (mut journal, _) = open(&SimulatedDisk::new());
    let mut transaction = Transaction::new();
    transaction.append(Seq::new(1), &[(TakerId::new(7), 1)], b"").unwrap();
    transaction.append(Seq::new(2), &[(TakerId::new(7), 3)], b"").unwrap();
    journal.write([&transaction]);
}

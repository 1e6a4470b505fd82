//! The power goes, and what was not synced is kept, dropped or torn.

use super::harness::{Harness, options};
use crate::simulation::{Fate, Random, SimulatedDisk};
use crate::{Journal, Transaction};

/// The fixed workload of case S04.
const FIXED_SEED: u64 = 4;
const FIXED_STEPS: usize = 300;

/// Runs the workload on a disk, recovers after the cut, goes on and recovers once more.
fn survive(disk: &SimulatedDisk, seed: u64, steps: usize, fate: Fate) {
    let Some(mut harness) = Harness::on(disk.clone(), seed) else {
        let recovered = Harness::on(disk.power_cut(fate), seed);
        return recovered.expect("recovery never fails").run(20).expect("the disk works again");
    };
    let _ = harness.run(steps);
    harness.recover_on(disk.power_cut(fate));
    harness.run(20).expect("the disk works again");
    harness.recover_on(harness.disk.power_cut(Fate::Dropped));
}

#[test]
fn fault_S04_crash_at_every_write() {
    let disk = SimulatedDisk::new();
    let mut harness = Harness::on(disk.clone(), FIXED_SEED).unwrap();
    harness.run(FIXED_STEPS).unwrap();
    let counters = harness.journal.counters();
    assert!(counters.segments_started > 3, "the workload passes from segment to segment");
    assert!(counters.segments_released > 1, "the workload releases segments");

    let operations = disk.operations();
    for operation in 1..=operations {
        let torn = |block_bytes| Fate::Torn { seed: operation, block_bytes };
        for fate in [Fate::Kept, Fate::Dropped, torn(512), torn(4_096)] {
            let disk = SimulatedDisk::new();
            disk.cut_power_at(operation);
            survive(&disk, FIXED_SEED, FIXED_STEPS, fate);
        }
    }
    println!("{operations} crash points, each with 4 fates");
    assert!(operations >= 250, "fewer crash points than there were: {operations}");
}

/// How many seeds to run: `TIDEGATE_SEEDS`, or as many as fit into every change.
pub(crate) fn seeds(default: u64) -> u64 {
    std::env::var("TIDEGATE_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn fault_S03_power_cut_at_random() {
    for seed in 0..seeds(2_000) {
        println!("seed {seed}");
        let mut random = Random::new(seed);
        let block_bytes = if random.below(2) == 0 { 512 } else { 4_096 };
        let fate = Fate::Torn { seed: random.next_u64(), block_bytes };
        let disk = SimulatedDisk::new();
        disk.cut_power_at(1 + random.below(400));
        survive(&disk, seed, 250, fate);
    }
}

#[test]
fn fault_S03_power_cuts_in_a_row() {
    for seed in 0..seeds(2_000) / 20 {
        println!("seed {seed}");
        let mut random = Random::new(!seed);
        let mut harness = Harness::new(seed);
        for _ in 0..20 {
            harness.disk.cut_power_at(harness.disk.operations() + 1 + random.below(60));
            let _ = harness.run(60);
            let fate = Fate::Torn { seed: random.next_u64(), block_bytes: 512 };
            harness.recover_on(harness.disk.power_cut(fate));
        }
    }
}

/// The power goes again while the journal is being recovered, at every point.
#[test]
fn fault_S03_power_cut_during_recovery() {
    for seed in 0..40 {
        let mut random = Random::new(seed);
        let fate = Fate::Torn { seed: random.next_u64(), block_bytes: 512 };
        let disk = SimulatedDisk::new();
        disk.cut_power_at(20 + random.below(300));
        let mut harness = Harness::on(disk.clone(), seed).expect("the cut comes later");
        let _ = harness.run(250);
        let after = disk.power_cut(fate);
        harness.recover_on(after.copy());
        for operation in 1.. {
            let trial = after.copy();
            trial.cut_power_at(operation);
            recover_and_commit(&trial);
            if !trial.is_off() {
                assert!(operation > 2, "recovery and a commit change files");
                break;
            }
            let after_that = trial.power_cut(fate);
            recover_and_commit(&after_that);
            harness.recover_on(after_that);
        }
    }
}

/// Recovers as far as the power lasts and commits something that changes nothing.
fn recover_and_commit(disk: &SimulatedDisk) {
    if let Ok((mut journal, _)) = Journal::open(disk.clone(), options(4_096)) {
        let mut transaction = Transaction::new();
        transaction.delete(b"there is no such key").unwrap();
        journal.write([&transaction]);
        let _ = journal.commit();
    }
}

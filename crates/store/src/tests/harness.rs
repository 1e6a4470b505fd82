//! A seeded workload with a model of what the journal must hold.

use std::collections::{BTreeMap, HashMap};

use crate::simulation::{Random, SimulatedDisk};
use crate::{
    CommitError, Item, Journal, JournalOptions, Position, Recovery, Seq, TakerId, Transaction,
};

/// The epoch of all test journals.
pub(super) const EPOCH: u64 = 0x7e57;
/// Counts the transactions; every one of them sets it.
const COUNTER: &[u8] = b"counter";

/// What one transaction does.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) records: Vec<Record>,
    puts: Vec<(Vec<u8>, Vec<u8>)>,
    deletes: Vec<Vec<u8>>,
}

#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) seq: Seq,
    pub(super) takers: Vec<(TakerId, u64)>,
    pub(super) body: Vec<u8>,
}

/// A journal, the model beside it, and where they are.
pub(super) struct Harness {
    pub(super) disk: SimulatedDisk,
    pub(super) journal: Journal<SimulatedDisk>,
    pub(super) recovery: Recovery,
    random: Random,
    /// All that was handed to the journal.
    pub(super) history: Vec<Change>,
    /// How much of it was acknowledged.
    pub(super) acknowledged: usize,
    /// Records before this one may be gone.
    released: Seq,
    pub(super) releases: bool,
    next_seq: Seq,
    ordinals: BTreeMap<TakerId, u64>,
}

pub(super) fn options(segment_bytes: u64) -> JournalOptions {
    JournalOptions { segment_bytes, ..JournalOptions::new(EPOCH) }
}

pub(super) fn open(disk: &SimulatedDisk) -> (Journal<SimulatedDisk>, Recovery) {
    Journal::open(disk.clone(), options(4_096)).expect("recovery never fails")
}

impl Harness {
    pub(super) fn new(seed: u64) -> Self {
        Self::on(SimulatedDisk::new(), seed).expect("a new disk works")
    }

    /// Starts on a disk that may fail.
    pub(super) fn on(disk: SimulatedDisk, seed: u64) -> Option<Self> {
        let (journal, recovery) = Journal::open(disk.clone(), options(4_096)).ok()?;
        Some(Self {
            disk,
            journal,
            random: Random::new(seed),
            history: Vec::new(),
            acknowledged: 0,
            released: Seq::ORIGIN,
            releases: true,
            next_seq: recovery.next_seq,
            ordinals: BTreeMap::new(),
            recovery,
        })
    }

    /// Does `steps` steps, or fewer if the storage fails.
    pub(super) fn run(&mut self, steps: usize) -> Result<(), CommitError> {
        for _ in 0..steps {
            self.step()?;
        }
        Ok(())
    }

    fn step(&mut self) -> Result<(), CommitError> {
        match self.random.below(10) {
            0..5 => {
                self.write();
                Ok(())
            }
            5..9 => self.commit(),
            _ if self.releases => self.release(),
            _ => Ok(()),
        }
    }

    pub(super) fn write(&mut self) {
        let change = self.next_change();
        let mut transaction = Transaction::new();
        for record in &change.records {
            transaction.append(record.seq, &record.takers, &record.body).unwrap();
        }
        for (key, value) in &change.puts {
            transaction.put(key, value).unwrap();
        }
        for key in &change.deletes {
            transaction.delete(key).unwrap();
        }
        self.journal.write([&transaction]);
        self.history.push(change);
    }

    pub(super) fn commit(&mut self) -> Result<(), CommitError> {
        self.journal.commit()?;
        self.acknowledged = self.history.len();
        Ok(())
    }

    fn release(&mut self) -> Result<(), CommitError> {
        let acknowledged = &self.history[..self.acknowledged];
        let seqs: Vec<Seq> =
            acknowledged.iter().flat_map(|change| &change.records).map(|one| one.seq).collect();
        // The older half may go.
        let Some(&before) = seqs.get(seqs.len() / 2) else { return Ok(()) };
        // Once it is asked for it may happen, whatever becomes of the answer.
        self.released = self.released.max(before);
        let released = self.journal.release(before)?;
        if released.segments > 0 {
            self.acknowledged = self.history.len();
        }
        Ok(())
    }

    fn next_change(&mut self) -> Change {
        let random = &mut self.random;
        let records = (0..random.below(4))
            .map(|_| {
                let mut takers = Vec::new();
                for taker in (1..4).map(TakerId::new) {
                    if random.below(3) > 0 {
                        let ordinal = self.ordinals.entry(taker).or_insert(0);
                        *ordinal += 1;
                        takers.push((taker, *ordinal));
                    }
                }
                let length = if random.below(8) == 0 { 1_500 } else { random.below(120) };
                // Zeros among the bodies look like blocks that were never written.
                let fill = if random.below(4) == 0 { 0 } else { random.next_u64() as u8 };
                let seq = self.next_seq;
                self.next_seq = seq.next();
                Record { seq, takers, body: vec![fill; length as usize] }
            })
            .collect();
        let key = |random: &mut Random| format!("key-{}", random.below(20)).into_bytes();
        let mut puts = vec![(COUNTER.to_vec(), self.history.len().to_le_bytes().to_vec())];
        for _ in 0..random.below(3) {
            puts.push((key(random), random.next_u64().to_le_bytes().to_vec()));
        }
        let deletes = (0..random.below(2)).map(|_| key(random)).collect();
        Change { records, puts, deletes }
    }

    /// Recovers on another disk, checks that nothing acknowledged is missing and nothing is half
    /// there, and goes on from there.
    pub(super) fn recover_on(&mut self, disk: SimulatedDisk) {
        let (journal, recovery) = open(&disk);
        let (again, recovery_again) = open(&disk);
        drop(again);
        assert_same(&recovery, &recovery_again);
        for damage in &recovery.damages {
            assert!(!damage.may_have_lost(), "nothing was damaged: {damage}");
        }
        assert!(!recovery.state_may_be_stale);
        self.disk = disk;
        self.journal = journal;
        self.recovery = recovery;
        self.check();
        self.go_on();
    }

    /// Checks state and records against the model; what was not acknowledged may be there from the
    /// oldest on.
    fn check(&mut self) {
        let there = self.recovery.state.get(COUNTER).map_or(0, |count| {
            usize::from_le_bytes(count[..].try_into().expect("we wrote it")) + 1
        });
        assert!(there >= self.acknowledged, "{there} of {} acknowledged", self.acknowledged);
        assert!(there <= self.history.len());
        self.history.truncate(there);
        self.acknowledged = there;
        assert_eq!(self.recovery.state.len(), self.expected_state().len());
        for (key, value) in self.expected_state() {
            assert_eq!(self.recovery.state.get(&key[..]).map(|value| &value[..]), Some(&value[..]));
        }
        for taker in (1..4).map(TakerId::new) {
            self.check_taker(taker);
        }
    }

    fn expected_state(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut state = BTreeMap::new();
        for change in &self.history {
            state.extend(change.puts.iter().cloned());
            for key in &change.deletes {
                state.remove(key);
            }
        }
        state
    }

    /// Returns the records of one taker that must be readable, and the position before them.
    pub(super) fn expected(&self, taker: TakerId) -> (Position, Vec<Item>) {
        let mut position = Position::START;
        let mut items = Vec::new();
        for record in self.history[..self.acknowledged].iter().flat_map(|change| &change.records) {
            let own = record.takers.iter().find(|(other, _)| *other == taker);
            let Some(&(_, ordinal)) = own else { continue };
            let seq = record.seq;
            if seq < self.released {
                position = Position { seq, ordinal };
            } else {
                items.push(Item::Record { seq, ordinal, body: record.body.clone().into() });
            }
        }
        (position, items)
    }

    pub(super) fn check_taker(&self, taker: TakerId) {
        let (position, expected) = self.expected(taker);
        let found = read_all(&self.journal, taker, position);
        assert!(found == expected, "taker {taker}: found {} of {}", found.len(), expected.len());
        if let Some(Item::Record { seq, ordinal, .. }) = expected.last() {
            let last = self.recovery.positions.get(&taker).copied();
            let expected = Position { seq: *seq, ordinal: *ordinal };
            assert!(last.is_some_and(|last| last >= expected), "taker {taker}: {last:?}");
        }
    }

    fn go_on(&mut self) {
        let last = self.history.iter().flat_map(|change| &change.records).map(|one| one.seq).max();
        assert!(self.recovery.next_seq > last.unwrap_or_default(), "no number is given twice");
        self.next_seq = self.recovery.next_seq;
        let positions = self.recovery.positions.iter();
        self.ordinals = positions.map(|(&taker, position)| (taker, position.ordinal)).collect();
    }

    /// Opens a damaged disk and checks that every record that is missing is told: to its takers,
    /// by the reader, and that all the others are there. Returns how many are missing, counted for
    /// each taker.
    pub(super) fn judge(&mut self, disk: &SimulatedDisk) -> u64 {
        let (journal, recovery) = open(disk);
        let (again, recovery_again) = open(disk);
        drop(again);
        assert_same(&recovery, &recovery_again);
        (self.disk, self.journal, self.recovery) = (disk.clone(), journal, recovery);
        let mut missing = 0;
        for taker in (1..4).map(TakerId::new) {
            missing += self.judge_taker(taker);
        }
        missing
    }

    fn judge_taker(&self, taker: TakerId) -> u64 {
        let (position, expected) = self.expected(taker);
        let found = read_all(&self.journal, taker, position);
        let mut missing: Vec<Seq> = Vec::new();
        let mut told = Vec::new();
        let mut rest = expected.into_iter();
        for item in found {
            match item {
                Item::Damaged { first_seq, last_seq, records, .. } => {
                    assert!(first_seq <= last_seq, "{first_seq} to {last_seq}");
                    told.push((first_seq, last_seq, records));
                }
                record @ Item::Record { .. } => loop {
                    match rest.next() {
                        Some(expected) if expected == record => break,
                        Some(Item::Record { seq, .. }) => missing.push(seq),
                        other => panic!("taker {taker}: {record:?} was never written: {other:?}"),
                    }
                },
            }
        }
        missing.extend(rest.map(|item| match item {
            Item::Record { seq, .. } => seq,
            Item::Damaged { .. } => unreachable!("the model has records only"),
        }));
        for &(first_seq, last_seq, records) in &told {
            let inside = missing.iter().filter(|&&seq| (first_seq..=last_seq).contains(&seq));
            let inside = inside.count() as u64;
            assert_eq!(
                inside, records,
                "taker {taker}: {first_seq} to {last_seq}, {told:?}, {missing:?}"
            );
        }
        let told: u64 = told.iter().map(|(_, _, records)| records).sum();
        assert_eq!(told, missing.len() as u64, "taker {taker}: {:?}", self.recovery.damages);
        told
    }

    /// Returns how many missing records recovery has counted.
    pub(super) fn told_by_recovery(&self) -> u64 {
        self.recovery.damages.iter().map(crate::Damage::records_lost).sum()
    }

    /// Returns whether the state is what it was.
    pub(super) fn has_whole_state(&self) -> bool {
        let expected = self.expected_state();
        self.recovery.state.len() == expected.len()
            && self.recovery.state.iter().all(|(key, value)| {
                expected.get(&key[..]).is_some_and(|expected| expected[..] == value[..])
            })
    }

    /// Appends after damage, stops, and finds the same again, with the damage not yet settled; then
    /// settles it.
    pub(super) fn outlive(mut self) {
        let mut damages = self.recovery.damages.clone();
        damages.extend(self.recovery.unsettled.iter().cloned());
        damages.retain(|damage| damage.kind != crate::DamageKind::Redundant);
        let missing: u64 = (1..4).map(|taker| self.judge_taker(TakerId::new(taker))).sum();
        self.go_on();
        for _ in 0..5 {
            self.write();
            self.commit().expect("the disk works");
        }
        let again: u64 = (1..4).map(|taker| self.judge_taker(TakerId::new(taker))).sum();
        assert_eq!(again, missing, "what comes later is all there");
        let disk = self.disk.image_after_cut(crate::simulation::Fate::Dropped);
        assert_eq!(self.judge(&disk), missing);
        damages.sort_by_key(|damage| damage.id);
        assert_eq!(self.recovery.unsettled, damages);

        let mut transaction = Transaction::new();
        for damage in &damages {
            transaction.settle(damage.id).unwrap();
        }
        transaction.put(b"told", b"yes").unwrap();
        self.journal.write([&transaction]);
        self.commit().expect("the disk works");
        let (_, recovery) = open(&disk_after(self));
        assert_eq!(recovery.unsettled, []);
        assert!(recovery.damages.iter().all(|one| one.kind == crate::DamageKind::Redundant));
    }
}

fn disk_after(harness: Harness) -> SimulatedDisk {
    harness.journal.close().expect("the disk works");
    harness.disk.copy()
}

/// Reads all records of a taker after a position, in small blocks.
pub(super) fn read_all(
    journal: &Journal<SimulatedDisk>,
    taker: TakerId,
    after: Position,
) -> Vec<Item> {
    let mut reader = journal.catalog().reader(taker, after);
    let mut items = Vec::new();
    loop {
        let block = reader.next_block(7, 2_000).expect("simulated disks can be read");
        if block.is_empty() {
            break;
        }
        items.extend(block);
    }
    let mut swept = Vec::new();
    let mut positions = HashMap::from([(taker, after)]);
    journal
        .catalog()
        .sweep(&mut positions, |_, item| swept.push(item))
        .expect("simulated disks can be read");
    assert!(records(&swept) == records(&items), "taker {taker}: a sweep finds the same records");
    assert_eq!(missing(&swept), missing(&items), "taker {taker}: and misses the same");
    items
}

fn records(items: &[Item]) -> Vec<&Item> {
    items.iter().filter(|item| matches!(item, Item::Record { .. })).collect()
}

fn missing(items: &[Item]) -> u64 {
    let count = |item: &Item| match item {
        Item::Record { .. } => 0,
        Item::Damaged { records, .. } => *records,
    };
    items.iter().map(count).sum()
}

/// Recovery that runs twice finds the same.
pub(super) fn assert_same(one: &Recovery, other: &Recovery) {
    assert_eq!(one.state, other.state);
    assert_eq!(one.next_seq, other.next_seq);
    assert_eq!(one.positions, other.positions);
    assert_eq!(one.segments, other.segments);
    // What existed twice may have been mended.
    let kept = |recovery: &Recovery| {
        let mut damages = recovery.damages.clone();
        damages.retain(|damage| damage.kind != crate::DamageKind::Redundant);
        damages
    };
    assert_eq!(kept(one), kept(other));
    assert_eq!(one.unsettled, other.unsettled);
    assert_eq!(one.state_may_be_stale, other.state_may_be_stale);
}

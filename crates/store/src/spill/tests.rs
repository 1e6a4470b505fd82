//! What was spilled reads as before, whatever happens to power and medium.
#![allow(non_snake_case, reason = "the case ids are part of the names")]

use std::collections::BTreeMap;

use super::{QueueReader, SpillEntry, Spilled, Stopped};
use crate::simulation::{Fate, Random, SimulatedDisk};
use crate::{
    FileSystem, Item, Journal, JournalOptions, OpenError, Position, Recovery, Seq, TakerId,
    Transaction,
};

const LAGGING: TakerId = TakerId::new(1);
const OTHER: TakerId = TakerId::new(2);
const NEEDED: &[u8] = b"needed";

/// A journal with a taker that lags, as an uplink without a connection.
struct World {
    disk: SimulatedDisk,
    journal: Journal<SimulatedDisk>,
    spilled: Spilled,
    random: Random,
    /// The records of the taker that lags, by ordinal, acknowledged or not.
    records: BTreeMap<u64, (Seq, Vec<u8>)>,
    acknowledged: u64,
    next_seq: Seq,
    /// Up to here nothing is needed any more; durable, and as of the last attempt.
    needed: Position,
    tried: Position,
}

fn open(disk: &SimulatedDisk) -> Result<(Journal<SimulatedDisk>, Recovery), OpenError> {
    let options = JournalOptions { segment_bytes: 4_096, ..JournalOptions::new(7) };
    Journal::open(disk.clone(), options)
}

fn key(number: u64) -> Vec<u8> {
    format!("spill/{number:020}").into_bytes()
}

type Failed = Box<dyn std::error::Error>;

impl World {
    fn new(disk: &SimulatedDisk, seed: u64) -> Result<Self, Failed> {
        let (journal, recovery) = open(disk)?;
        Ok(Self {
            disk: disk.clone(),
            journal,
            spilled: Spilled::default(),
            random: Random::new(seed),
            records: BTreeMap::new(),
            acknowledged: 0,
            next_seq: recovery.next_seq,
            needed: Position::START,
            tried: Position::START,
        })
    }

    fn run(&mut self, steps: usize) -> Result<(), Failed> {
        for _ in 0..steps {
            match self.random.below(12) {
                0..8 => self.append()?,
                8..10 => self.spill()?,
                10 => self.release()?,
                _ => self.pass()?,
            }
        }
        Ok(())
    }

    fn append(&mut self) -> Result<(), Failed> {
        for _ in 0..1 + self.random.below(6) {
            let mut transaction = Transaction::new();
            let seq = self.next_seq;
            self.next_seq = seq.next();
            let mut body = seq.get().to_le_bytes().to_vec();
            body.resize(8 + self.random.below(500) as usize, 0x55);
            if self.random.below(3) > 0 {
                let ordinal = self.records.last_key_value().map_or(1, |(last, _)| last + 1);
                transaction.append(seq, &[(LAGGING, ordinal)], &body)?;
                self.records.insert(ordinal, (seq, body));
            } else {
                transaction.put(b"other", &body[..8])?;
            }
            self.journal.write([&transaction]);
        }
        self.journal.commit()?;
        self.acknowledged = self.records.last_key_value().map_or(0, |(last, _)| *last);
        Ok(())
    }

    fn spill(&mut self) -> Result<(), Failed> {
        let segments = self.journal.catalog().segments();
        let Some(sealed) = segments.len().checked_sub(1) else { return Ok(()) };
        let place = self.random.below(sealed.max(1) as u64) as usize;
        let until = segments[place].last_seq;
        let after = self.spilled.end(self.needed);
        if sealed == 0 || until <= after.seq {
            return Ok(());
        }
        let made = self.journal.catalog().spill(LAGGING, after, until, || false)?;
        let entry = made.expect("nobody asked to stop");
        if let Some(entry) = entry {
            let mut transaction = Transaction::new();
            transaction.put(&key(entry.number), &entry.encode())?;
            self.journal.write([&transaction]);
            self.journal.commit()?;
        }
        self.spilled.add(entry, until);
        Ok(())
    }

    fn release(&mut self) -> Result<(), Failed> {
        self.journal.release(self.spilled.end(self.needed).seq.next())?;
        Ok(())
    }

    /// Delivers some of what is oldest.
    fn pass(&mut self) -> Result<(), Failed> {
        let ordinal = self.needed.ordinal + self.random.below(40);
        let Some((&ordinal, (seq, _))) = self.records.range(..=ordinal).next_back() else {
            return Ok(());
        };
        let to = Position { seq: *seq, ordinal }.max(self.needed);
        self.tried = to;
        let mut transaction = Transaction::new();
        transaction.put(NEEDED, &[to.seq.get(), to.ordinal].map(u64::to_le_bytes).concat())?;
        self.journal.write([&transaction]);
        self.journal.commit()?;
        self.needed = to;
        let mut transaction = Transaction::new();
        let passed = self.spilled.take_passed(to);
        for entry in &passed {
            transaction.delete(&key(entry.number))?;
        }
        self.journal.write([&transaction]);
        self.journal.commit()?;
        for entry in passed {
            self.journal.catalog().remove_spill(LAGGING, entry.number)?;
        }
        Ok(())
    }

    fn reader(&self, after: Position) -> QueueReader<SimulatedDisk> {
        let catalog = self.journal.catalog().clone();
        QueueReader::new(catalog, LAGGING, self.spilled.clone(), after)
    }

    /// Starts again on what a power cut has left, and checks that nothing acknowledged is missing.
    fn recover_on(&mut self, disk: SimulatedDisk) {
        let (journal, recovery) = open(&disk).expect("recovery never fails");
        let mut entries = Vec::new();
        for (key, value) in &recovery.state {
            if key.starts_with(b"spill/") {
                entries.push(SpillEntry::decode(value).unwrap());
            }
        }
        let is_known =
            |taker, number| taker == LAGGING && entries.iter().any(|entry| entry.number == number);
        journal.catalog().remove_spills_except(is_known).unwrap();
        let files = disk.list().unwrap();
        assert_eq!(files.iter().filter(|it| it.starts_with("spill")).count(), entries.len());
        let needed = recovery.state.get(NEEDED).map_or(Position::START, |value| {
            let number = |at: usize| u64::from_le_bytes(value[at..at + 8].try_into().unwrap());
            Position { seq: Seq::new(number(0)), ordinal: number(8) }
        });
        assert!(needed == self.needed || needed == self.tried);
        let spilled = Spilled::new(entries);
        (self.disk, self.journal, self.spilled) = (disk, journal, spilled);
        (self.needed, self.tried) = (needed, needed);
        self.next_seq = recovery.next_seq;
        let last = recovery.positions.get(&LAGGING).map_or(0, |position| position.ordinal);
        assert!(last >= self.acknowledged, "{last} of {} acknowledged", self.acknowledged);
        self.records.retain(|ordinal, _| *ordinal <= last);
        self.acknowledged = last;
        self.check();
    }

    fn check(&self) {
        let found = read(self.reader(self.needed));
        let expected = self.expected(self.needed);
        assert!(found == expected, "{} of {} after {:?}", found.len(), expected.len(), self.needed);
    }

    fn expected(&self, after: Position) -> Vec<Item> {
        let records = self.records.range(after.ordinal + 1..self.acknowledged + 1);
        let item = |(&ordinal, (seq, body)): (&u64, &(Seq, Vec<u8>))| Item::Record {
            seq: *seq,
            ordinal,
            body: body.clone().into(),
        };
        records.map(item).collect()
    }
}

fn read(mut reader: QueueReader<SimulatedDisk>) -> Vec<Item> {
    let mut items = Vec::new();
    loop {
        let block = reader.next_block(7, 2_000).expect("simulated disks can be read");
        if block.is_empty() {
            return items;
        }
        items.extend(block);
    }
}

/// A world in which something was spilled and released, and the number of its spill files.
fn spilled_world() -> (World, usize) {
    for seed in 0.. {
        let mut world = World::new(&SimulatedDisk::new(), seed).unwrap();
        world.run(120).unwrap();
        let files = world.spilled.entries().len();
        let first = world.journal.catalog().segments()[0].first_seq;
        if files >= 3 && first > world.needed.seq.next() {
            return (world, files);
        }
    }
    unreachable!("seeds do not end")
}

/// uplink.2: what was spilled and released is read from anywhere, in order and whole.
#[test]
fn a_reader_goes_through_spill_files_and_journal() {
    let (world, files) = spilled_world();
    assert!(files >= 3);
    world.check();
    for item in world.expected(world.needed) {
        let Item::Record { seq, ordinal, .. } = item else { unreachable!() };
        let after = Position { seq, ordinal };
        assert_eq!(read(world.reader(after)), world.expected(after));
    }
    let spilled: u64 = world.spilled.entries().iter().map(|entry| entry.records).sum();
    let after = world.spilled.entries()[0].after;
    let end = world.spilled.end(world.needed);
    assert_eq!(spilled, end.ordinal - after.ordinal);
}

/// uplink.2: a reader in the middle of the journal is not disturbed when that is spilled and released.
#[test]
fn a_reader_goes_on_where_segments_are_released() {
    for seed in 0..40 {
        let mut world = World::new(&SimulatedDisk::new(), seed).unwrap();
        while world.journal.catalog().segments().len() < 8 {
            world.append().unwrap();
        }
        let expected = world.expected(Position::START);
        let mut reader = world.reader(Position::START);
        let mut found = reader.next_block(1 + seed as usize * 2, usize::MAX).unwrap();
        while world.journal.catalog().segments().len() > 4 {
            world.spill().unwrap();
            world.release().unwrap();
        }
        while found.len() < expected.len() {
            let block = reader.next_block(5, usize::MAX).unwrap();
            assert!(!block.is_empty());
            found.extend(block);
        }
        assert!(found == expected, "seed {seed}");
    }
}

/// uplink.2, D15: the power goes at every write of spilling, releasing and removing.
#[test]
fn fault_S04_power_cut_while_spilling() {
    const SEED: u64 = 11;
    const STEPS: usize = 90;
    let disk = SimulatedDisk::new();
    let mut world = World::new(&disk, SEED).unwrap();
    world.run(STEPS).unwrap();
    assert!(!world.spilled.entries().is_empty(), "the workload spills");
    assert!(world.journal.counters().segments_released > 1, "the workload releases");
    let operations = disk.operations();
    assert!(operations > 150, "fewer crash points than there were: {operations}");
    for operation in 1..=operations {
        for fate in [Fate::Kept, Fate::Dropped, Fate::Torn { seed: operation, block_bytes: 512 }] {
            let disk = SimulatedDisk::new();
            disk.cut_power_at(operation);
            let Ok(mut world) = World::new(&disk, SEED) else { continue };
            let _ = world.run(STEPS);
            world.recover_on(disk.power_cut(fate));
            world.run(30).expect("the disk works again");
            world.recover_on(world.disk.power_cut(Fate::Dropped));
        }
    }
}

/// uplink.2: seeded workloads with a cut anywhere.
#[test]
fn fault_S03_power_cut_while_spilling_at_random() {
    for seed in 0..crate::tests::seeds(600) {
        println!("seed {seed}");
        let mut random = Random::new(!seed);
        let disk = SimulatedDisk::new();
        disk.cut_power_at(10 + random.below(400));
        let Ok(mut world) = World::new(&disk, seed) else { continue };
        let _ = world.run(150);
        let fate = Fate::Torn { seed: random.next_u64(), block_bytes: 512 };
        world.recover_on(disk.power_cut(fate));
        world.run(40).expect("the disk works again");
        world.check();
    }
}

/// Storage that fails while a file is written leaves everything as it was.
#[test]
fn a_spill_file_that_fails_leaves_nothing_behind() {
    for after in 0..12 {
        let disk = SimulatedDisk::new();
        let mut world = World::new(&disk, 3).unwrap();
        while world.journal.catalog().segments().len() < 4 {
            world.append().unwrap();
        }
        let until = world.journal.catalog().segments()[1].last_seq;
        disk.fail_writes(after, 1);
        let made = world.journal.catalog().spill(LAGGING, Position::START, until, || false);
        disk.fail_writes(1 << 40, 0);
        let names = disk.list().unwrap();
        let files = names.iter().filter(|name| name.starts_with("spill")).count();
        assert_eq!(files, usize::from(made.is_ok()), "{made:?}: {names:?}");
        let stopped = world.journal.catalog().spill(LAGGING, Position::START, until, || true);
        assert_eq!(stopped.unwrap(), Err(Stopped));
        assert!(disk.list().unwrap().iter().all(|name| !name.ends_with(".new")));
        let none = world.journal.catalog().spill(OTHER, Position::START, until, || false);
        assert_eq!(none.unwrap(), Ok(None));
        world.check();
    }
}

/// uplink.2: whatever happens to the bytes of a spill file, each record is there or told as lost, once.
#[test]
fn fault_S09_damaged_spill_files_tell_what_is_lost() {
    let (world, _) = spilled_world();
    let entry = world.spilled.entries()[1];
    let name = crate::format::spill_name(LAGGING, entry.number);
    let whole = world.disk.contents(&name).unwrap();
    let expected = world.expected(world.needed);
    let mut damaged_some = 0;
    let flips = (0..whole.len()).map(Some).chain([None]);
    for at in flips {
        let mut bytes = whole.clone();
        match at {
            Some(at) => bytes[at] ^= 0x10,
            None => bytes.truncate(whole.len() / 2),
        }
        world.disk.set_contents(&name, bytes);
        let found = read(world.reader(world.needed));
        let mut ordinal = world.needed.ordinal;
        let mut lost = 0;
        for item in &found {
            match item {
                Item::Record { .. } => {
                    assert_eq!(Some(item), expected.get((ordinal - world.needed.ordinal) as usize));
                    ordinal += 1;
                }
                Item::Damaged { records, position, first_seq, last_seq } => {
                    assert!(first_seq <= last_seq && *last_seq <= position.seq);
                    ordinal += records;
                    lost += records;
                    assert_eq!(position.ordinal, ordinal);
                }
            }
        }
        assert_eq!(ordinal, world.acknowledged, "byte {at:?}");
        assert!(lost <= entry.records, "byte {at:?}");
        damaged_some += u64::from(lost > 0);
    }
    assert!(damaged_some > 0);
    world.disk.remove(&name).unwrap();
    let found = read(world.reader(world.needed));
    assert!(found.iter().any(|item| matches!(
        item,
        Item::Damaged { records, .. } if *records == entry.last.ordinal - entry.after.ordinal
    )));
}

#[test]
fn entries_are_read_back_and_damage_noticed() {
    let entry = SpillEntry {
        number: 3,
        after: Position { seq: Seq::new(70), ordinal: 9 },
        last: Position { seq: Seq::new(9_000), ordinal: 400 },
        records: 390,
        bytes: 1 << 33,
        length: 1 << 20,
    };
    assert_eq!(SpillEntry::decode(&entry.encode()), Ok(entry));
    assert_eq!(entry.damaged(), 1);
    let bytes = entry.encode();
    for end in 0..bytes.len() {
        assert!(SpillEntry::decode(&bytes[..end]).is_err());
    }
    let too_many = SpillEntry { records: 392, ..entry };
    assert!(SpillEntry::decode(&too_many.encode()).is_err());
    let position = |ordinal| Position { seq: Seq::new(ordinal * 20), ordinal };
    let list = Spilled::new(vec![entry]);
    assert_eq!(list.take_passed(position(399)), []);
    assert_eq!(list.end(position(399)), entry.last);
    assert_eq!(list.end(position(900)), Position { seq: Seq::new(18_000), ordinal: 900 });
    assert_eq!(list.take_passed(position(400)), [entry]);
    assert_eq!(list.entries(), []);
}

//! Readers see what the model says.

use std::collections::HashMap;

use super::harness::{Harness, open, options, read_all};
use crate::simulation::SimulatedDisk;
use crate::{FileSystem, Item, Journal, Position, Seq, TakerId, Transaction};

const TAKER: TakerId = TakerId::new(1);

fn filled() -> Harness {
    let mut harness = Harness::new(5);
    harness.releases = false;
    harness.run(200).unwrap();
    harness.commit().unwrap();
    harness
}

fn position_of(item: &Item) -> Position {
    match *item {
        Item::Record { seq, ordinal, .. } => Position { seq, ordinal },
        Item::Damaged { position, .. } => position,
    }
}

#[test]
fn a_reader_may_start_anywhere() {
    let harness = filled();
    for taker in (1..4).map(TakerId::new) {
        let (_, expected) = harness.expected(taker);
        assert!(expected.len() > 50);
        for start in 0..expected.len() {
            let found = read_all(&harness.journal, taker, position_of(&expected[start]));
            assert_eq!(found, expected[start + 1..]);
        }
    }
}

#[test]
fn a_sweep_reads_for_many_takers_at_once() {
    let harness = filled();
    let takers = [1, 2, 3].map(TakerId::new);
    let expected = takers.map(|taker| harness.expected(taker).1);
    for share in [0, 1, 2, 3] {
        let starts = expected.each_ref().map(|items| share * (items.len() - 1) / 3);
        let mut positions: HashMap<TakerId, Position> = (0..3)
            .map(|number| (takers[number], position_of(&expected[number][starts[number]])))
            .collect();
        let mut found = [Vec::new(), Vec::new(), Vec::new()];
        let each = |taker: TakerId, item| found[taker.get() as usize - 1].push(item);
        harness.journal.catalog().sweep(&mut positions, each).unwrap();
        for number in 0..3 {
            assert_eq!(found[number], expected[number][starts[number] + 1..]);
            assert_eq!(positions[&takers[number]], position_of(expected[number].last().unwrap()));
        }
    }
}

#[test]
fn a_block_keeps_its_limits() {
    let harness = filled();
    let (_, expected) = harness.expected(TAKER);
    for (records_max, bytes_max) in [(1, 10_000), (3, 10_000), (1_000, 1), (1_000, 300)] {
        let mut reader = harness.journal.catalog().reader(TAKER, Position::START);
        let mut found = Vec::new();
        loop {
            let block = reader.next_block(records_max, bytes_max).unwrap();
            if block.is_empty() {
                break;
            }
            assert!(block.len() <= records_max);
            let bytes = |items: &[Item]| -> usize {
                let length = |item: &Item| match item {
                    Item::Record { body, .. } => body.len(),
                    Item::Damaged { .. } => 0,
                };
                items.iter().map(length).sum()
            };
            assert!(
                bytes(&block[..block.len() - 1]) < bytes_max,
                "the last one may pass the limit"
            );
            found.extend(block);
        }
        assert_eq!(found, expected);
    }
}

#[test]
fn a_reader_follows_the_writer() {
    let mut harness = Harness::new(6);
    harness.releases = false;
    let mut reader = harness.journal.catalog().reader(TAKER, Position::START);
    let mut found = Vec::new();
    for _ in 0..300 {
        harness.run(1).unwrap();
        found.extend(reader.next_block(2, 1_000_000).unwrap());
    }
    while let Ok(block) = reader.next_block(100, 1_000_000)
        && !block.is_empty()
    {
        found.extend(block);
    }
    let (_, expected) = harness.expected(TAKER);
    assert_eq!(found, expected);
}

#[test]
fn readers_and_the_writer_work_at_the_same_time() {
    const RECORDS: u64 = 3_000;
    let (mut journal, _) = open(&SimulatedDisk::new());
    let catalog = journal.catalog().clone();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let mut reader = catalog.reader(TAKER, Position::START);
            scope.spawn(move || {
                let mut next = 1;
                while next <= RECORDS {
                    for item in reader.next_block(50, 10_000).unwrap() {
                        let Item::Record { seq, ordinal, body } = item else {
                            panic!("nothing was damaged: {item:?}")
                        };
                        assert_eq!((seq.get(), ordinal), (next, next));
                        assert_eq!(body[..8], next.to_le_bytes());
                        next += 1;
                    }
                }
            });
        }
        for number in 1..=RECORDS {
            let mut transaction = Transaction::new();
            let body = [&number.to_le_bytes()[..], &[7; 50]].concat();
            transaction.append(Seq::new(number), &[(TAKER, number)], &body).unwrap();
            journal.write([&transaction]);
            if number % 7 == 0 {
                journal.commit().unwrap();
            }
        }
        journal.commit().unwrap();
    });
}

/// main.16: the audit walks the journal and counts what is there and what is not.
#[test]
fn the_audit_counts_what_is_there_and_what_is_missing() {
    let harness = filled();
    let (_, expected) = harness.expected(TAKER);
    let mut reader = harness.journal.catalog().reader(TAKER, Position::START);
    let audit = reader.audit().unwrap();
    assert_eq!((audit.records, audit.damaged), (expected.len() as u64, 0));
    assert_eq!(audit.end, position_of(expected.last().unwrap()));

    // One byte of one body in a sealed segment.
    let Item::Record { body, .. } = &expected[20] else { unreachable!() };
    let found = harness.disk.list().unwrap().into_iter().find_map(|name| {
        let contents = harness.disk.contents(&name)?;
        let at = contents.windows(body.len()).position(|window| window == body)?;
        Some((name, contents, at))
    });
    let (name, mut contents, at) = found.expect("the body is in some file");
    contents[at] ^= 1;
    harness.disk.set_contents(&name, contents);
    let mut reader = harness.journal.catalog().reader(TAKER, Position::START);
    let damaged = reader.audit().unwrap();
    assert!(damaged.damaged >= 1);
    assert_eq!(damaged.records + damaged.damaged, audit.records);
    assert_eq!(damaged.end, audit.end);
}

/// The oldest records are given up a segment at a time.
#[test]
fn skipping_a_segment_counts_its_records() {
    let mut harness = filled();
    let (_, expected) = harness.expected(TAKER);
    let mut reader = harness.journal.catalog().reader(TAKER, Position::START);
    let mut handed_out = reader.next_block(3, usize::MAX).unwrap();
    let mut skipped = 0;
    let segments = harness.journal.catalog().segments();
    while let Some(skip) = reader.skip_segment().unwrap() {
        skipped += skip.records;
        let passed = &expected[..handed_out.len() + skipped as usize];
        assert_eq!(position_of(passed.last().unwrap()), skip.position);
        assert!(skip.first_seq <= skip.last_seq);
        let released = harness.journal.release(skip.position.seq.next()).unwrap();
        assert!(released.segments <= segments.len() as u64);
    }
    assert!(skipped > 20);
    let rest = reader.next_block(usize::MAX, usize::MAX).unwrap();
    assert_eq!(rest, expected[handed_out.len() + skipped as usize..]);
    handed_out.extend(rest);
    assert!(harness.journal.catalog().segments().len() < segments.len());
    harness.write();
    harness.commit().unwrap();
}

/// What keeps a segment from being released can be seen in its footer.
#[test]
fn footers_name_the_takers_of_their_segments() {
    let harness = filled();
    let catalog = harness.journal.catalog();
    let segments = catalog.segments();
    let (newest, sealed) = segments.split_last().unwrap();
    assert_eq!(catalog.takers_in_segment(newest.number).unwrap(), []);
    let mut records = 0;
    for segment in sealed {
        for (taker, held) in catalog.takers_in_segment(segment.number).unwrap() {
            assert_eq!(catalog.taker_in_segment(segment.number, taker).unwrap(), Some(held));
            assert!(segment.first_seq <= held.first.seq && held.last.seq <= segment.last_seq);
            records += if taker == TAKER { held.records } else { 0 };
        }
    }
    let (_, expected) = harness.expected(TAKER);
    let in_sealed = expected.iter().filter(|item| position_of(item).seq < newest.first_seq);
    assert_eq!(records, in_sealed.count() as u64);
}

#[test]
fn records_released_before_they_were_read_are_told() {
    let mut harness = filled();
    let (_, expected) = harness.expected(TAKER);
    let last = position_of(expected.last().unwrap());
    let released = harness.journal.release(last.seq).unwrap();
    assert!(released.segments > 0);
    let mut reader = harness.journal.catalog().reader(TAKER, Position::START);
    let audit = reader.audit().unwrap();
    assert!(audit.damaged > 0);
    assert_eq!(audit.records + audit.damaged, expected.len() as u64);
}

#[test]
fn a_taker_that_is_retired_is_forgotten() {
    let disk = SimulatedDisk::new();
    let (mut journal, _) = open(&disk);
    let mut transaction = Transaction::new();
    for (number, taker) in [(1, 1), (2, 2)] {
        transaction.append(Seq::new(number), &[(TakerId::new(taker), 1)], b"body").unwrap();
    }
    journal.write([&transaction]);
    journal.commit().unwrap();
    let mut transaction = Transaction::new();
    transaction.retire(TakerId::new(1)).unwrap();
    journal.write([&transaction]);
    journal.commit().unwrap();
    for recovery in [open(&disk.copy()).1, {
        journal.close().unwrap();
        open(&disk).1
    }] {
        let positions: Vec<u32> = recovery.positions.keys().map(|taker| taker.get()).collect();
        assert_eq!(positions, [2]);
    }
}

/// Segments grow with the state, so that writing it over and over costs a bounded part.
#[test]
fn a_large_state_does_not_multiply_what_is_written() {
    let disk = SimulatedDisk::new();
    let (mut journal, _) = open(&disk);
    let put = |journal: &mut Journal<SimulatedDisk>, number: u64, bytes: usize| {
        let mut transaction = Transaction::new();
        transaction.put(&number.to_le_bytes(), &vec![1; bytes]).unwrap();
        journal.write([&transaction]);
        journal.commit().unwrap();
    };
    for number in 0..100 {
        put(&mut journal, number, 4_000);
    }
    let before = journal.counters();
    for number in 0..1_000 {
        put(&mut journal, 1_000 + number % 10, 2_000);
    }
    let after = journal.counters();
    let written = after.bytes_written - before.bytes_written;
    let checkpoints = after.checkpoint_bytes - before.checkpoint_bytes;
    assert!(after.segments_started > before.segments_started, "it passes to a new segment");
    assert!(checkpoints * 2 < written, "{checkpoints} of {written}");
    let (_, recovery) = Journal::open(disk.copy(), options(4_096)).unwrap();
    assert_eq!(recovery.state.len(), 110);
}

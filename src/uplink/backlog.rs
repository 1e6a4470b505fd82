//! Counting what waits for an uplink in the journal.

use std::io;

use tidegate_store::{FileSystem, Item, Position, QueueReader, Spilled, TakerId};

use crate::store::StoreHandle;

/// Records that wait, counted one by one or segment by segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Backlog {
    /// Lost ones included: their place is known.
    pub(super) records: u64,
    /// How many of them were found lost.
    pub(super) unreadable: u64,
    pub(super) bytes: u64,
}

const BLOCK_RECORDS: usize = 4_096;
const BLOCK_BYTES: usize = 4 << 20;

/// Where the records of an uplink are.
#[derive(Debug)]
pub(super) struct Queue<'a, F: FileSystem> {
    pub(super) store: &'a StoreHandle<F>,
    pub(super) taker: TakerId,
    pub(super) spilled: &'a Spilled,
}

impl<F: FileSystem> Clone for Queue<'_, F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F: FileSystem> Copy for Queue<'_, F> {}

/// Counts the records after `cursor` and up to `last`.
///
/// Files of what was spilled are counted by their entries, segments between the one of the cursor and the newest by
/// their summaries, where the size of what is in them is taken to be that of the rest of the segment. What is left is
/// read.
pub(super) fn count<F: FileSystem>(
    queue: Queue<'_, F>,
    cursor: Position,
    last: Position,
) -> io::Result<Backlog> {
    let Queue { store, taker, spilled } = queue;
    let mut backlog = Backlog::default();
    let mut at = cursor;
    for entry in spilled.entries() {
        if entry.last.ordinal <= at.ordinal {
            continue;
        }
        if entry.after.ordinal < at.ordinal {
            read(queue, &mut at, entry.last, &mut backlog)?;
        } else {
            let missing = entry.after.ordinal - at.ordinal;
            backlog.records += missing + (entry.last.ordinal - entry.after.ordinal);
            backlog.unreadable += missing + entry.damaged();
            backlog.bytes += entry.bytes;
            at = entry.last;
        }
    }
    for segment in store.catalog().segments() {
        if at.ordinal >= last.ordinal {
            break;
        }
        let Some(held) = store.catalog().taker_in_segment(segment.number, taker)? else {
            continue;
        };
        if held.last.ordinal <= at.ordinal {
            continue;
        }
        if held.first.ordinal > at.ordinal {
            let missing = held.first.ordinal - at.ordinal - 1;
            backlog.records += missing + held.records;
            backlog.unreadable += missing;
            let share = u128::from(segment.bytes) * u128::from(held.records);
            let share = share / u128::from(segment.records.max(1));
            backlog.bytes += u64::try_from(share).unwrap_or(u64::MAX);
            at = held.last;
        } else {
            read(queue, &mut at, held.last, &mut backlog)?;
        }
    }
    read(queue, &mut at, last, &mut backlog)?;
    Ok(backlog)
}

/// Counts the records after `at` up to `last` by reading them.
fn read<F: FileSystem>(
    queue: Queue<'_, F>,
    at: &mut Position,
    last: Position,
    backlog: &mut Backlog,
) -> io::Result<()> {
    let catalog = queue.store.catalog().clone();
    let mut reader = QueueReader::new(catalog, queue.taker, queue.spilled.clone(), *at);
    while at.ordinal < last.ordinal {
        let block = reader.next_block(BLOCK_RECORDS, BLOCK_BYTES)?;
        if block.is_empty() {
            return Ok(());
        }
        for item in block {
            let position = match &item {
                Item::Record { seq, ordinal, .. } => Position { seq: *seq, ordinal: *ordinal },
                Item::Damaged { position, .. } => *position,
            };
            if position.ordinal > last.ordinal {
                return Ok(());
            }
            match item {
                Item::Record { body, .. } => {
                    backlog.records += 1;
                    backlog.bytes += body.len() as u64;
                }
                Item::Damaged { records, .. } => {
                    backlog.records += records;
                    backlog.unreadable += records;
                }
            }
            *at = position;
        }
    }
    Ok(())
}

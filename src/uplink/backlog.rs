//! Counting what waits for an uplink in the journal.

use std::io;

use tidegate_store::{FileSystem, Item, Position, TakerId};

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

/// Counts the records of `taker` after `cursor` and up to `last`.
///
/// Segments between the one of the cursor and the newest are counted by their summaries; the size of
/// what is in them is taken to be that of the rest of the segment. The other two are read.
pub(super) fn count<F: FileSystem>(
    store: &StoreHandle<F>,
    taker: TakerId,
    cursor: Position,
    last: Position,
) -> io::Result<Backlog> {
    let mut backlog = Backlog::default();
    let mut at = cursor;
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
            read(store, taker, &mut at, held.last, &mut backlog)?;
        }
    }
    read(store, taker, &mut at, last, &mut backlog)?;
    Ok(backlog)
}

/// Counts the records after `at` up to `last` by reading them.
fn read<F: FileSystem>(
    store: &StoreHandle<F>,
    taker: TakerId,
    at: &mut Position,
    last: Position,
    backlog: &mut Backlog,
) -> io::Result<()> {
    let mut reader = store.reader(taker, *at);
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

//! Recovery: from the files that are there to a journal that can go on.
//!
//! 1. [`inventory`]: whose files these are, and which can be used.
//! 2. [`base`]: the newest segment with a complete checkpoint; the state starts there.
//! 3. [`replay`]: everything from there on, with the end of the log found by [`survey`].
//! 4. [`older`]: the segments before, by their footers.
//! 5. [`quarantine`]: copies of what was damaged.
//!
//! Nothing that was found is changed before a new segment, which states what is left, is durable;
//! the first commit after damage makes one.

mod base;
mod inventory;
mod ledger;
mod older;
mod quarantine;
mod replay;
mod survey;

use std::collections::BTreeMap;
use std::io;

use bytes::Bytes;

use self::inventory::Inventory;
use self::replay::Replay;
use crate::catalog::{CatalogEntry, SegmentView};
use crate::damage::{Damage, DamageId, DamageKind};
use crate::file_system::FileSystem;
use crate::format;
use crate::journal::{ActiveSegment, Journal};
use crate::options::JournalOptions;
use crate::position::{Position, Seq, TakerId};
use crate::state::State;
use crate::summary::Predecessor;

/// What was found when a journal was opened.
#[derive(Clone, Debug)]
pub struct Recovery {
    /// Whether there was no journal before.
    pub created: bool,
    /// The journal's identity.
    pub epoch: u64,
    /// The key-value state.
    pub state: BTreeMap<Bytes, Bytes>,
    /// The number for the next record.
    pub next_seq: Seq,
    /// The last record of each taker; its next ordinal is one more.
    pub positions: BTreeMap<TakerId, Position>,
    /// The live segments, oldest first.
    pub segments: Vec<SegmentView>,
    /// The damages found this time, in the order of the log.
    pub damages: Vec<Damage>,
    /// The damages that were found earlier and not yet settled.
    pub unsettled: Vec<Damage>,
    /// Whether changes of the state that were durable may be missing from [`state`](Self::state).
    ///
    /// Numbers derived from the state alone may then be given out twice: open a new epoch for them.
    pub state_may_be_stale: bool,
    /// The size of all copies of damaged bytes.
    pub quarantined_bytes: u64,
}

/// A journal cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A later version of the gateway wrote the files.
    #[error(
        "{file} has format version {version}, this version knows {} at most",
        format::FORMAT_VERSION
    )]
    NewerFormat {
        /// The file.
        file: String,
        /// Its version.
        version: u16,
    },
    /// Files of two journals are mixed in one directory.
    #[error("{file} belongs to journal {found:016x}, not to {epoch:016x} like the rest")]
    ForeignIdentity {
        /// The file.
        file: String,
        /// The identity of the others.
        epoch: u64,
        /// Its identity.
        found: u64,
    },
    /// The storage failed.
    #[error("cannot {action} {file}")]
    Storage {
        /// What was tried.
        action: &'static str,
        /// The file.
        file: String,
        /// Why not.
        source: io::Error,
    },
}

impl OpenError {
    pub(crate) fn storage(action: &'static str, file: &str, source: io::Error) -> Self {
        Self::Storage { action, file: file.to_owned(), source }
    }

    /// Returns whether there was no room.
    #[must_use]
    pub fn is_storage_full(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self, Self::Storage { source, .. } if matches!(source.kind(), StorageFull | QuotaExceeded))
    }
}

/// What the journal needs to go on.
#[derive(Debug)]
pub(crate) struct Recovered<F: FileSystem> {
    pub(crate) epoch: u64,
    pub(crate) segments: Vec<CatalogEntry>,
    pub(crate) state: State,
    pub(crate) last_seq: Seq,
    pub(crate) next_damage: u64,
    pub(crate) active: Option<ActiveSegment<F::File>>,
    pub(crate) predecessor: Option<Predecessor>,
    pub(crate) next_segment: u64,
    pub(crate) base: u64,
    pub(crate) lost: Vec<u64>,
    pub(crate) has_closed_mark: bool,
}

/// Recovers and opens a journal.
pub(crate) fn open<F: FileSystem>(
    files: F,
    options: JournalOptions,
) -> Result<(Journal<F>, Recovery), OpenError> {
    let mut inventory = Inventory::take(&files, options.epoch)?;
    let mut replay = Replay::start(&files, &inventory)?;
    replay.run()?;
    let unsettled: Vec<Damage> = replay.state.damages.values().cloned().collect();
    let older = older::check(&files, &inventory, &replay.earlier, replay.floor)?;
    let replayed = replay.finish();

    let mut damages = older.damages;
    damages.extend(replayed.damages);
    number(&mut damages, replayed.next_damage);
    quarantine::copy(&files, &mut inventory, &mut damages, options.quarantine_bytes_max);

    let mut state = replayed.state;
    for damage in damages.iter().filter(|damage| is_kept(damage)) {
        state.damages.insert(damage.id, damage.clone());
    }
    let mut segments = older.segments;
    segments.extend(replayed.segments);
    let is_listed = |number: u64| segments.iter().any(|segment| segment.entry.number == number);
    let (lost, dead): (Vec<u64>, Vec<u64>) = inventory
        .segments
        .keys()
        .filter(|&&number| !is_listed(number))
        .partition(|&&number| replayed.lost.contains(&number) || older.lost.contains(&number));
    for number in dead {
        // Given up or released before; if it cannot be removed now, then next time.
        let _ = files.remove(&format::segment_name(number));
    }
    let recovery = Recovery {
        created: inventory.created,
        epoch: inventory.epoch,
        state: state.values.clone(),
        next_seq: replayed.last_seq.next(),
        positions: state.positions.clone(),
        segments: segments.iter().map(|segment| SegmentView::from(segment.entry)).collect(),
        state_may_be_stale: replayed.state_may_be_stale,
        unsettled,
        quarantined_bytes: inventory.quarantine.values().sum(),
        damages,
    };
    let must_be_told = recovery.damages.iter().any(is_kept);
    let recovered = Recovered {
        epoch: inventory.epoch,
        segments: with_open_end(segments, replayed.active.is_some() && !must_be_told),
        state,
        last_seq: replayed.last_seq,
        next_damage: replayed.next_damage + recovery.damages.len() as u64,
        // Damage is told by a new segment; the old one stays as it was found.
        active: replayed.active.filter(|_| !must_be_told),
        predecessor: replayed.predecessor,
        next_segment: replayed.next_segment,
        base: replayed.base,
        lost,
        has_closed_mark: inventory.closed.is_some(),
    };
    Ok((Journal::from_recovered(files, options, recovered), recovery))
}

/// Returns whether a damage is reported until it is settled.
///
/// The loss of what exists twice is told each time it is seen, and has no consequence.
fn is_kept(damage: &Damage) -> bool {
    damage.kind != DamageKind::Redundant
}

fn number(damages: &mut [Damage], first: u64) {
    for (number, damage) in (first..).zip(damages) {
        damage.id = DamageId::new(number);
    }
}

fn with_open_end(mut segments: Vec<CatalogEntry>, is_open: bool) -> Vec<CatalogEntry> {
    if let Some(last) = segments.last_mut() {
        last.closed = !is_open;
    }
    segments
}

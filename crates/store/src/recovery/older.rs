//! The segments before the newest checkpoint, which are not read but for their footers.

use std::io;
use std::sync::Arc;

use super::OpenError;
use super::base;
use super::inventory::Inventory;
use super::ledger::DamageLedger;
use crate::catalog::{self, CatalogEntry};
use crate::damage::{Damage, DamageId, DamageKind, TakerLoss};
use crate::file_system::FileSystem;
use crate::format::{self, FrameKind, HEADER_BYTES, Op, Ops, Salt, SegmentEntry};
use crate::position::{Position, Seq};
use crate::scanner::{Scanner, Step};
use crate::summary::Summary;

/// What was found among the older segments.
#[derive(Debug, Default)]
pub(crate) struct Older {
    pub(crate) segments: Vec<CatalogEntry>,
    pub(crate) damages: Vec<Damage>,
    pub(crate) lost: Vec<u64>,
}

/// Checks that the listed segments are there and end in their footers.
pub(crate) fn check<F: FileSystem>(
    files: &F,
    inventory: &Inventory,
    listed: &[SegmentEntry],
    floor: u64,
) -> Result<Older, OpenError> {
    let mut older = Older::default();
    for entry in listed.iter().filter(|entry| entry.number >= floor) {
        let checked = check_segment(files, inventory, entry).map_err(|source| {
            OpenError::storage("read", &format::segment_name(entry.number), source)
        })?;
        match checked {
            Checked::Whole => older.segments.push(CatalogEntry { entry: *entry, closed: true }),
            Checked::Damaged(entry, damages) => {
                older.segments.push(CatalogEntry { entry, closed: true });
                older.damages.extend(damages);
            }
            Checked::Lost(damage) => {
                older.lost.push(entry.number);
                older.damages.push(damage);
            }
        }
    }
    Ok(older)
}

enum Checked {
    Whole,
    /// The segment as it is now, and what it lost.
    Damaged(SegmentEntry, Vec<Damage>),
    Lost(Damage),
}

fn check_segment<F: FileSystem>(
    files: &F,
    inventory: &Inventory,
    entry: &SegmentEntry,
) -> io::Result<Checked> {
    let Some(segment) = inventory.segments.get(&entry.number) else {
        return lost(files, inventory, entry);
    };
    let file = Arc::new(files.open(&format::segment_name(entry.number))?);
    let salt = Salt::new(inventory.epoch, entry.number);
    if segment.length >= entry.length {
        let is_whole = match entry.footer {
            Some(offset) => {
                catalog::read_footer(Arc::clone(&file), salt, offset, entry.length)?.is_some()
            }
            // It was given up after a failed sync; its start stands for it.
            None => {
                let mut start =
                    Scanner::new(Arc::clone(&file), salt, HEADER_BYTES as u64, entry.length);
                matches!(start.next()?, Step::Frame(_))
            }
        };
        if is_whole && segment.header.is_some() {
            return Ok(Checked::Whole);
        }
        if is_whole {
            let header = redundant(entry.number, 0, HEADER_BYTES as u64);
            return Ok(Checked::Damaged(*entry, vec![header]));
        }
    }
    let content = Content::read(file, salt, entry)?;
    if !content.has_frames {
        return lost(files, inventory, entry);
    }
    let known = what_it_held(files, inventory, entry.number)?;
    let now = SegmentEntry {
        length: entry.length.min(segment.length),
        footer: None,
        records: content.summary.records,
        ..*entry
    };
    Ok(Checked::Damaged(now, content.damages(entry, known)))
}

/// Tells the loss of a whole segment.
fn lost<F: FileSystem>(
    files: &F,
    inventory: &Inventory,
    entry: &SegmentEntry,
) -> io::Result<Checked> {
    if entry.records == 0 {
        return Ok(Checked::Lost(redundant(entry.number, 0, entry.length)));
    }
    let takers = what_it_held(files, inventory, entry.number)?.map_or_else(Vec::new, |summary| {
        let losses = summary.takers.iter();
        losses.map(|(&taker, held)| TakerLoss { taker, records: held.records }).collect()
    });
    Ok(Checked::Lost(Damage {
        kind: DamageKind::Segment,
        first_seq: entry.first_seq,
        last_seq: entry.last_seq,
        takers,
        ..redundant(entry.number, 0, entry.length)
    }))
}

/// Returns what a later segment says a segment held.
fn what_it_held<F: FileSystem>(
    files: &F,
    inventory: &Inventory,
    number: u64,
) -> io::Result<Option<Summary>> {
    // A segment that was begun in vain may stand between.
    const TRIED: usize = 4;
    for (&later, segment) in inventory.segments.range(number + 1..).take(TRIED) {
        let start = base::read_start(files, inventory.epoch, later, segment)?;
        if let Some(predecessor) = start.predecessor
            && predecessor.number == number
        {
            return Ok(Some(predecessor.summary));
        }
    }
    Ok(None)
}

/// Tells damage to something that exists twice.
pub(crate) fn redundant(segment: u64, offset: u64, bytes: u64) -> Damage {
    Damage {
        id: DamageId::new(0),
        kind: DamageKind::Redundant,
        file: format::segment_name(segment),
        offset,
        bytes,
        first_seq: Seq::ORIGIN,
        last_seq: Seq::ORIGIN,
        takers: Vec::new(),
        quarantined: false,
    }
}

/// What is left of a segment whose footer is not.
struct Content {
    has_frames: bool,
    summary: Summary,
    ledger: DamageLedger,
}

impl Content {
    fn read<T: crate::file_system::File>(
        file: Arc<T>,
        salt: Salt,
        entry: &SegmentEntry,
    ) -> io::Result<Self> {
        let mut content = Self {
            has_frames: false,
            summary: Summary::default(),
            ledger: DamageLedger::default(),
        };
        let mut last_seq = entry.first_seq.previous();
        let mut scanner = Scanner::new(file, salt, HEADER_BYTES as u64, entry.length);
        loop {
            match scanner.next()? {
                Step::End => break,
                Step::Bad { offset, bytes } => {
                    content.ledger.add(DamageKind::Frames, entry.number, offset, bytes, last_seq);
                }
                Step::Frame(frame) => {
                    content.has_frames = true;
                    if frame.kind == FrameKind::Transaction {
                        content.add(scanner.payload(&frame), &mut last_seq);
                    }
                }
            }
        }
        content.ledger.end_ranges(entry.last_seq);
        Ok(content)
    }

    fn add(&mut self, payload: &[u8], last_seq: &mut Seq) {
        let mut ops = Ops::new(payload);
        while let Ok(Some(op)) = ops.next() {
            let Op::Append { seq, mut takers, .. } = op else { continue };
            self.ledger.end_ranges(seq.previous());
            *last_seq = seq;
            self.summary.add_record(seq);
            while let Ok(Some((taker, ordinal))) = takers.next() {
                self.summary.add_taker(taker, Position { seq, ordinal });
            }
        }
    }

    /// Tells what is missing, compared with what was known.
    fn damages(self, entry: &SegmentEntry, known: Option<Summary>) -> Vec<Damage> {
        if self.summary.records >= entry.records {
            let footer = entry.footer.unwrap_or(0);
            return vec![redundant(entry.number, footer, entry.length - footer)];
        }
        let mut damages = self.ledger.into_damages();
        damages.retain(|damage| damage.first_seq != Seq::ORIGIN);
        let held = known.unwrap_or_default().takers;
        if let Some(first) = damages.first_mut() {
            first.takers = held
                .iter()
                .map(|(&taker, held)| {
                    let left = self.summary.takers.get(&taker).map_or(0, |left| left.records);
                    TakerLoss { taker, records: held.records.saturating_sub(left) }
                })
                .filter(|loss| loss.records > 0)
                .collect();
        }
        damages
    }
}

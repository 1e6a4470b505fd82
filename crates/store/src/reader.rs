//! Reading one taker's records while the writer goes on.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::catalog::{Catalog, CatalogEntry};
use crate::file_system::FileSystem;
use crate::format::{FrameKind, Op, Ops};
use crate::input::Malformed;
use crate::position::{Position, Seq, TakerId};
use crate::scanner::{Scanner, Step};
use crate::summary::Summary;

/// What a reader yields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// One record.
    Record {
        /// Its journal-wide number.
        seq: Seq,
        /// Its number among the taker's records.
        ordinal: u64,
        /// Its body. It keeps the piece of the file alive that was read with it, up to 256 KiB:
        /// copy what is kept for long.
        body: Bytes,
    },
    /// Records that were lost to damage.
    Damaged {
        /// The first number that a lost record may have.
        first_seq: Seq,
        /// The last number that a lost record may have.
        last_seq: Seq,
        /// How many of this taker's records are missing, exactly.
        records: u64,
        /// The position after them.
        position: Position,
    },
}

/// What [`Reader::audit`] counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// Records that are there.
    pub records: u64,
    /// The size of their bodies.
    pub bytes: u64,
    /// Records that are missing.
    pub damaged: u64,
    /// The last position.
    pub end: Position,
}

/// What [`Reader::skip_segment`] passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// How many records, lost ones included.
    pub records: u64,
    /// The first and the last number they may have.
    pub first_seq: Seq,
    /// See [`first_seq`](Self::first_seq).
    pub last_seq: Seq,
    /// The position after them.
    pub position: Position,
}

/// Yields the records of one taker in order, from the disk, in large pieces.
///
/// A reader belongs to one thread and waits for the disk. It sees what the writer has made durable
/// (or written, see [`Visibility`](crate::Visibility)) up to each call. Segments that hold nothing
/// for the taker are passed over by their footers. Checksums are verified as the records are read;
/// what is missing is told by the ordinals around it, and so are records that were released before
/// the reader came to them.
#[derive(Debug)]
pub struct Reader<F: FileSystem> {
    catalog: Catalog<F>,
    taker: TakerId,
    /// The last record or gap that was handed out or waits in `ready`.
    position: Position,
    current: Option<Current<F>>,
    /// The last segment that was read to its end.
    finished: u64,
    /// Items of a frame that did not fit into the last block.
    ready: VecDeque<Item>,
    gap: Gap,
}

#[derive(Debug)]
struct Current<F: FileSystem> {
    number: u64,
    scanner: Scanner<F::File>,
    footer: Option<Arc<Summary>>,
}

/// The range of record numbers around bytes that could not be read.
#[derive(Clone, Copy, Debug, Default)]
struct Gap {
    /// The last record of any taker that was read.
    last_seen: Seq,
    /// The range since the last record of this taker.
    range: Option<(Seq, Seq)>,
    /// Whether the range still waits for the record that ends it.
    is_open: bool,
}

/// The items of one call.
struct Block {
    items: Vec<Item>,
    records_left: usize,
    bytes_left: usize,
}

impl<F: FileSystem> Reader<F> {
    pub(crate) fn new(catalog: Catalog<F>, taker: TakerId, after: Position) -> Self {
        Self {
            catalog,
            taker,
            position: after,
            current: None,
            finished: 0,
            ready: VecDeque::new(),
            gap: Gap { last_seen: after.seq, ..Gap::default() },
        }
    }

    /// Starts again after another position.
    pub fn seek(&mut self, after: Position) {
        *self = Self::new(self.catalog.clone(), self.taker, after);
    }

    /// Returns the next items: at most `records_max`, and no more once their bodies have reached
    /// `bytes_max`. Empty if there is nothing yet.
    ///
    /// # Errors
    ///
    /// The storage failed; the call may be repeated.
    pub fn next_block(&mut self, records_max: usize, bytes_max: usize) -> io::Result<Vec<Item>> {
        let mut block =
            Block { items: Vec::new(), records_left: records_max, bytes_left: bytes_max };
        while !block.is_full() {
            if let Some(item) = self.ready.pop_front() {
                block.push(item);
            } else if !self.advance(&mut block)? {
                break;
            }
        }
        Ok(block.items)
    }

    /// Counts all records after the reader's position that can be seen, and moves behind them.
    ///
    /// # Errors
    ///
    /// The storage failed.
    pub fn audit(&mut self) -> io::Result<Audit> {
        const RECORDS: usize = 4_096;
        const BYTES: usize = 4 << 20;
        let mut audit = Audit { end: self.position, ..Audit::default() };
        loop {
            let block = self.next_block(RECORDS, BYTES)?;
            if block.is_empty() {
                return Ok(audit);
            }
            for item in block {
                match item {
                    Item::Record { seq, ordinal, body } => {
                        audit.records += 1;
                        audit.bytes += body.len() as u64;
                        audit.end = Position { seq, ordinal };
                    }
                    Item::Damaged { records, position, .. } => {
                        audit.damaged += records;
                        audit.end = position;
                    }
                }
            }
        }
    }

    /// Passes over the rest of the oldest sealed segment that holds records for this taker, without
    /// reading it; `None` if there is none before the segment being written.
    ///
    /// That is how the oldest records are given up: move the cursor to
    /// [`position`](Skipped::position), then release.
    ///
    /// # Errors
    ///
    /// The storage failed.
    pub fn skip_segment(&mut self) -> io::Result<Option<Skipped>> {
        let start = self.handed_out();
        let mut number = 0;
        while let Some(segment) = self.catalog.first_after(number, start.seq) {
            if !segment.closed {
                return Ok(None);
            }
            number = segment.entry.number;
            let Some(last) = self.last_in(&segment)? else { continue };
            if last.ordinal <= start.ordinal {
                continue;
            }
            self.seek(last);
            return Ok(Some(Skipped {
                records: last.ordinal - start.ordinal,
                first_seq: start.seq.next(),
                last_seq: last.seq,
                position: last,
            }));
        }
        Ok(None)
    }

    /// Returns the position after the last item that was handed out.
    fn handed_out(&self) -> Position {
        match self.ready.front() {
            None => self.position,
            Some(Item::Record { seq, ordinal, .. }) => {
                Position { seq: seq.previous(), ordinal: ordinal - 1 }
            }
            Some(Item::Damaged { first_seq, records, position, .. }) => {
                Position { seq: first_seq.previous(), ordinal: position.ordinal - records }
            }
        }
    }

    /// Returns the last record of this taker in a closed segment.
    fn last_in(&self, segment: &CatalogEntry) -> io::Result<Option<Position>> {
        if let Some(footer) = self.catalog.footer(&segment.entry)? {
            return Ok(footer.takers.get(&self.taker).map(|held| held.last));
        }
        let mut last = None;
        let Some(mut scanner) = self.catalog.scanner(&segment.entry)? else { return Ok(None) };
        loop {
            match scanner.next()? {
                Step::End => return Ok(last),
                Step::Frame(frame) if frame.kind == FrameKind::Transaction => {
                    let _ = for_each_append(scanner.payload(&frame), self.taker, |seq, own| {
                        if let Some((ordinal, _)) = own {
                            last = Some(Position { seq, ordinal });
                        }
                    });
                }
                Step::Frame(_) | Step::Bad { .. } => {}
            }
        }
    }

    /// Goes one frame or one segment on. Returns whether there may be more.
    #[inline]
    fn advance(&mut self, block: &mut Block) -> io::Result<bool> {
        let Some(current) = &mut self.current else { return self.enter_segment(block) };
        match current.scanner.next()? {
            Step::Frame(frame) => {
                if frame.kind == FrameKind::Transaction {
                    self.read_transaction(&frame, block);
                }
                Ok(true)
            }
            Step::Bad { .. } => {
                self.gap.start();
                Ok(true)
            }
            Step::End => self.leave_segment(block),
        }
    }

    #[inline]
    fn read_transaction(&mut self, frame: &crate::scanner::Frame, block: &mut Block) {
        let Some(current) = &self.current else { return };
        let Self { position, gap, ready, .. } = self;
        let scanner = &current.scanner;
        let payload = scanner.payload(frame);
        let read = for_each_append(payload, self.taker, |seq, own| {
            gap.see(seq);
            let Some((ordinal, body)) = own else { return };
            // After a failed sync a group may stand in two segments.
            if seq <= position.seq {
                return;
            }
            if ordinal > position.ordinal + 1 {
                let before = Position { seq: seq.previous(), ordinal: ordinal - 1 };
                block.push_or(ready, gap.tell(*position, before));
            }
            gap.range = None;
            *position = Position { seq, ordinal };
            block.push_or(ready, Item::Record { seq, ordinal, body: scanner.share(body) });
        });
        if read == Err(Malformed) {
            gap.start();
        }
    }

    /// Opens the next segment that may hold something. Returns whether there is one.
    fn enter_segment(&mut self, block: &mut Block) -> io::Result<bool> {
        let Some(segment) = self.catalog.first_after(self.finished, self.position.seq) else {
            self.tell_recovered_loss(block);
            return Ok(false);
        };
        let number = segment.entry.number;
        let footer = if segment.closed { self.catalog.footer(&segment.entry)? } else { None };
        let holds_nothing = footer.as_ref().is_some_and(|footer| {
            let held = footer.takers.get(&self.taker);
            held.is_none_or(|held| held.last.ordinal <= self.position.ordinal)
        });
        if holds_nothing {
            self.gap.pass(segment.entry.last_seq);
            self.finished = number;
            return Ok(true);
        }
        match self.catalog.scanner(&segment.entry)? {
            Some(scanner) => self.current = Some(Current { number, scanner, footer }),
            None => self.finished = number,
        }
        Ok(true)
    }

    /// Goes on where the segment has grown, or ends it. Returns whether there may be more.
    fn leave_segment(&mut self, block: &mut Block) -> io::Result<bool> {
        let Some(current) = &mut self.current else { return Ok(true) };
        let segment = self.catalog.find(current.number);
        if let Some(segment) = segment {
            if segment.entry.length > current.scanner.end() {
                current.scanner.set_end(segment.entry.length);
                return Ok(true);
            }
            if !segment.closed {
                self.tell_recovered_loss(block);
                return Ok(false);
            }
            if current.footer.is_none() {
                current.footer = self.catalog.footer(&segment.entry)?;
            }
        }
        self.finished = current.number;
        let footer = current.footer.take();
        let held = footer.and_then(|footer| footer.takers.get(&self.taker).copied());
        self.current = None;
        if let Some(held) = held {
            self.tell_loss_until(held.last, block);
        }
        Ok(true)
    }

    /// At the end of the log: records that recovery found missing may be the last there were.
    fn tell_recovered_loss(&mut self, block: &mut Block) {
        let recovered = self.catalog.recovered(self.taker);
        self.tell_loss_until(recovered, block);
    }

    fn tell_loss_until(&mut self, last: Position, block: &mut Block) {
        if last.ordinal > self.position.ordinal {
            // No record ends the range.
            self.gap.is_open = true;
            let item = self.gap.tell(self.position, last);
            self.position = last;
            block.push_or(&mut self.ready, item);
        }
    }
}

impl Gap {
    /// Notes bytes that cannot be read.
    #[cold]
    fn start(&mut self) {
        let first = self.range.map_or(self.last_seen.next(), |(first, _)| first);
        self.range = Some((first, Seq::ORIGIN));
        self.is_open = true;
    }

    /// Notes a record of any taker.
    #[inline]
    fn see(&mut self, seq: Seq) {
        if seq > self.last_seen.next() {
            // A whole segment may be missing.
            self.start();
        }
        if self.is_open {
            self.is_open = false;
            self.range = self.range.map(|(first, _)| (first, seq.previous()));
        }
        self.last_seen = self.last_seen.max(seq);
    }

    /// Notes records that were not read.
    fn pass(&mut self, last_seq: Seq) {
        self.last_seen = self.last_seen.max(last_seq);
        if self.range.is_none() {
            self.is_open = false;
        }
    }

    /// Tells that the records after `before` up to `last` are missing.
    #[cold]
    fn tell(&mut self, before: Position, last: Position) -> Item {
        let (first_seq, last_seq) = match self.range.take() {
            Some((first, end)) if !self.is_open && first <= end => (first, end),
            Some((first, _)) if self.is_open && first <= last.seq => (first, last.seq),
            _ => (before.seq.next(), last.seq),
        };
        self.is_open = false;
        self.last_seen = self.last_seen.max(last.seq);
        let records = last.ordinal - before.ordinal;
        Item::Damaged { first_seq, last_seq, records, position: last }
    }
}

impl Block {
    fn is_full(&self) -> bool {
        self.records_left == 0 || self.bytes_left == 0
    }

    #[inline]
    fn push(&mut self, item: Item) {
        if let Item::Record { body, .. } = &item {
            self.bytes_left = self.bytes_left.saturating_sub(body.len());
        }
        self.records_left = self.records_left.saturating_sub(1);
        self.items.push(item);
    }

    #[inline]
    fn push_or(&mut self, ready: &mut VecDeque<Item>, item: Item) {
        if self.is_full() { ready.push_back(item) } else { self.push(item) }
    }
}

/// Calls `each` for every record of a transaction, with ordinal and body if it is for `taker`.
#[inline]
fn for_each_append(
    payload: &[u8],
    taker: TakerId,
    mut each: impl FnMut(Seq, Option<(u64, &[u8])>),
) -> Result<(), Malformed> {
    let mut ops = Ops::new(payload);
    while let Some(op) = ops.next()? {
        let Op::Append { seq, mut takers, body } = op else { continue };
        let mut own = None;
        while let Some((other, ordinal)) = takers.next()? {
            if other == taker {
                own = Some((ordinal, body));
                break;
            }
        }
        each(seq, own);
    }
    Ok(())
}

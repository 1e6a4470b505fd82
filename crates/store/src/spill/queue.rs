//! Reading a taker's records wherever they are: first those that were spilled, then those in the journal.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use super::file::{SpillEntry, SpillReader};
use crate::catalog::Catalog;
use crate::file_system::FileSystem;
use crate::position::{Position, Seq, TakerId};
use crate::reader::{Item, Reader};

/// The spill files of one taker, oldest first. Clones share the list.
#[derive(Clone, Debug, Default)]
pub struct Spilled(Arc<Mutex<List>>);

#[derive(Debug, Default)]
struct List {
    entries: Vec<SpillEntry>,
    /// No record up to this one is needed of the journal: it was looked.
    clear_to: Seq,
}

impl Spilled {
    /// Takes the files that there are, in any order. Should one be missing between them, its records are told as
    /// lost by who reads over it.
    #[must_use]
    pub fn new(mut entries: Vec<SpillEntry>) -> Self {
        entries.sort_unstable_by_key(|entry| entry.last.ordinal);
        let mut list = List::default();
        entries.into_iter().for_each(|entry| list.push(entry));
        Self(Arc::new(Mutex::new(list)))
    }

    /// Returns all files, oldest first.
    #[must_use]
    pub fn entries(&self) -> Vec<SpillEntry> {
        self.0.lock().entries.clone()
    }

    /// Returns how many files there are, how many records they hold, and how large they are on the disk.
    #[must_use]
    pub fn totals(&self) -> (usize, u64, u64) {
        let list = self.0.lock();
        let (records, length) = list.entries.iter().fold((0, 0), |(records, length), entry| {
            (records + entry.records, length + entry.length)
        });
        (list.entries.len(), records, length)
    }

    /// Returns whether a file is in the list.
    #[must_use]
    pub fn has(&self, number: u64) -> bool {
        self.0.lock().entries.iter().any(|entry| entry.number == number)
    }

    /// Returns the position from which the journal is needed by a taker that needs nothing up to `needed`.
    #[must_use]
    pub fn end(&self, needed: Position) -> Position {
        let list = self.0.lock();
        let last = list.entries.last().map_or(needed, |entry| needed.max(entry.last));
        Position { seq: last.seq.max(list.clear_to), ..last }
    }

    /// Adds a file that was copied up to the record `until`, or notes that there was nothing to copy.
    ///
    /// # Panics
    ///
    /// If it begins before the end of the last one.
    pub fn add(&self, entry: Option<SpillEntry>, until: Seq) {
        let mut list = self.0.lock();
        if let Some(entry) = entry {
            let end = list.entries.last().map_or(0, |last| last.last.ordinal);
            assert!(entry.after.ordinal >= end, "spill file {} comes after the last", entry.number);
            list.push(entry);
        }
        list.clear_to = list.clear_to.max(until);
    }

    /// Takes out the files of which nothing is needed after `needed`.
    #[must_use]
    pub fn take_passed(&self, needed: Position) -> Vec<SpillEntry> {
        let mut list = self.0.lock();
        let passed = list.entries.partition_point(|entry| entry.last.ordinal <= needed.ordinal);
        list.entries.drain(..passed).collect()
    }

    /// Returns the file that holds what comes after `position`, if one does.
    fn after(&self, position: Position) -> Option<SpillEntry> {
        let list = self.0.lock();
        let at = list.entries.partition_point(|entry| entry.last.ordinal <= position.ordinal);
        list.entries.get(at).copied()
    }
}

impl List {
    fn push(&mut self, entry: SpillEntry) {
        self.clear_to = self.clear_to.max(entry.last.seq);
        self.entries.push(entry);
    }
}

/// Yields the records of one taker in order, from its spill files and the journal, as
/// [`Reader`] does from the journal alone.
#[derive(Debug)]
pub struct QueueReader<F: FileSystem> {
    catalog: Catalog<F>,
    taker: TakerId,
    spilled: Spilled,
    /// The last item that was handed out.
    position: Position,
    journal: Reader<F>,
    /// Where the reader of the journal stands.
    journal_at: Position,
    file: Option<SpillReader<F>>,
    /// Items of a block that were not handed out yet.
    ready: VecDeque<Item>,
}

impl<F: FileSystem> QueueReader<F> {
    /// Starts after a position.
    #[must_use]
    pub fn new(catalog: Catalog<F>, taker: TakerId, spilled: Spilled, after: Position) -> Self {
        let journal = catalog.reader(taker, after);
        let ready = VecDeque::new();
        let (position, journal_at) = (after, after);
        Self { catalog, taker, spilled, position, journal, journal_at, file: None, ready }
    }

    /// Returns the next items: at most `records_max`, and no more once their bodies have reached
    /// `bytes_max`. Empty if there is nothing yet.
    ///
    /// # Errors
    ///
    /// The storage failed; the call may be repeated.
    pub fn next_block(&mut self, records_max: usize, bytes_max: usize) -> io::Result<Vec<Item>> {
        loop {
            if !self.ready.is_empty() {
                return Ok(self.take_ready(records_max, bytes_max));
            }
            if let Some(entry) = self.spilled.after(self.position) {
                self.read_file(entry)?;
                continue;
            }
            self.file = None;
            if self.journal_at != self.position {
                self.journal.seek(self.position);
                self.journal_at = self.position;
            }
            let items = self.journal.next_block(records_max, bytes_max)?;
            let is_loss = |item: &Item| matches!(item, Item::Damaged { .. });
            if items.iter().any(is_loss) && self.spilled.after(self.position).is_some() {
                // It was spilled, and released, while it was looked for here.
                self.journal.seek(self.position);
                continue;
            }
            if let Some(last) = items.last() {
                self.position = position_of(last);
                self.journal_at = self.position;
            }
            return Ok(items);
        }
    }

    fn read_file(&mut self, entry: SpillEntry) -> io::Result<()> {
        let same = self.file.take_if(|file| file.number() != entry.number).is_none();
        if !same || self.file.is_none() {
            let (files, epoch) = (self.catalog.files(), self.catalog.epoch());
            self.file = Some(SpillReader::open(files, epoch, self.taker, entry, self.position)?);
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        self.ready = file.next()?.into();
        if self.ready.is_empty() {
            // Nothing is left in it, however it says so: never the same again.
            self.position = self.position.max(entry.last);
        }
        Ok(())
    }

    fn take_ready(&mut self, records_max: usize, bytes_max: usize) -> Vec<Item> {
        let mut items = Vec::new();
        let mut bytes = 0;
        while items.len() < records_max.max(1) && bytes < bytes_max.max(1) {
            let Some(item) = self.ready.pop_front() else { break };
            if let Item::Record { body, .. } = &item {
                bytes += body.len();
            }
            self.position = position_of(&item);
            items.push(item);
        }
        items
    }
}

fn position_of(item: &Item) -> Position {
    match *item {
        Item::Record { seq, ordinal, .. } => Position { seq, ordinal },
        Item::Damaged { position, .. } => position,
    }
}

//! The list of live segments, shared between the writer and the readers.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::file_system::{File, FileSystem};
use crate::format::{self, FrameKind, HEADER_BYTES, Salt, SegmentEntry};
use crate::input::Input;
use crate::position::{Position, Seq, TakerId};
use crate::reader::Reader;
use crate::scanner::{Scanner, Step};
use crate::summary::{Summary, TakerSummary};

/// How many footers are kept in memory for readers.
const FOOTERS_KEPT: usize = 4;

/// The live segments of a journal; makes readers. Clones share the list.
#[derive(Debug)]
pub struct Catalog<F: FileSystem>(Arc<Shared<F>>);

impl<F: FileSystem> Clone for Catalog<F> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

#[derive(Debug)]
struct Shared<F: FileSystem> {
    files: F,
    epoch: u64,
    /// The last record of each taker as recovery found it.
    recovered: BTreeMap<TakerId, Position>,
    inner: Mutex<Inner>,
    /// Open files, shared by all readers that are in the same segment.
    open: Mutex<BTreeMap<u64, Weak<F::File>>>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Oldest first.
    segments: Vec<CatalogEntry>,
    /// Footers that were read last, the latest last.
    footers: Vec<(u64, Arc<Summary>)>,
}

/// One segment as readers see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CatalogEntry {
    pub(crate) entry: SegmentEntry,
    /// Whether its length is final.
    pub(crate) closed: bool,
}

/// What is known of one live segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentView {
    /// Its number.
    pub number: u64,
    /// Its size in bytes.
    pub bytes: u64,
    /// How many records it holds.
    pub records: u64,
    /// The first record, or [`Seq::ORIGIN`].
    pub first_seq: Seq,
    /// The last record, or [`Seq::ORIGIN`].
    pub last_seq: Seq,
}

impl<F: FileSystem> Catalog<F> {
    pub(crate) fn new(
        files: F,
        epoch: u64,
        segments: Vec<CatalogEntry>,
        recovered: BTreeMap<TakerId, Position>,
    ) -> Self {
        let inner = Mutex::new(Inner { segments, footers: Vec::new() });
        Self(Arc::new(Shared { files, epoch, recovered, inner, open: Mutex::default() }))
    }

    /// Starts reading the records of one taker after a position.
    #[must_use]
    pub fn reader(&self, taker: TakerId, after: Position) -> Reader<F> {
        Reader::new(self.clone(), taker, after)
    }

    /// Returns the live segments, oldest first.
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentView> {
        let inner = self.0.inner.lock();
        inner.segments.iter().map(|segment| SegmentView::from(segment.entry)).collect()
    }

    /// Returns the size of all live segments together.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.inner.lock().segments.iter().map(|segment| segment.entry.length).sum()
    }

    /// Returns the number before which no record may be needed for the segments to take up `bytes`
    /// at most, or as little as can be: the last two segments always stay.
    #[must_use]
    pub fn horizon(&self, bytes: u64) -> Seq {
        let inner = self.0.inner.lock();
        let mut left: u64 = inner.segments.iter().map(|segment| segment.entry.length).sum();
        let mut horizon = Seq::FIRST;
        let releasable = &inner.segments[..inner.segments.len().saturating_sub(2)];
        for segment in releasable {
            if left <= bytes {
                break;
            }
            left -= segment.entry.length;
            horizon = horizon.max(segment.entry.last_seq.next());
        }
        horizon
    }

    /// Returns what a sealed segment holds for one taker; `None` if nothing, or if that is not
    /// known without reading all of it.
    ///
    /// # Errors
    ///
    /// The footer could not be read for a reason other than damage.
    pub fn taker_in_segment(
        &self,
        segment: u64,
        taker: TakerId,
    ) -> io::Result<Option<TakerSummary>> {
        let Some(found) = self.find(segment) else { return Ok(None) };
        Ok(self.footer(&found.entry)?.and_then(|footer| footer.takers.get(&taker).copied()))
    }

    /// Returns everyone who has records in a sealed segment: those whose cursors keep it from being
    /// released. Empty if the segment is not sealed or its footer is damaged.
    ///
    /// # Errors
    ///
    /// The footer could not be read for a reason other than damage.
    pub fn takers_in_segment(&self, segment: u64) -> io::Result<Vec<(TakerId, TakerSummary)>> {
        let Some(found) = self.find(segment) else { return Ok(Vec::new()) };
        let footer = self.footer(&found.entry)?;
        let takers = footer.iter().flat_map(|footer| &footer.takers);
        Ok(takers.map(|(&taker, &held)| (taker, held)).collect())
    }

    /// Returns the last record of a taker as recovery found it.
    pub(crate) fn recovered(&self, taker: TakerId) -> Position {
        self.0.recovered.get(&taker).copied().unwrap_or_default()
    }

    pub(crate) fn files(&self) -> &F {
        &self.0.files
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.0.epoch
    }

    pub(crate) fn salt(&self, segment: u64) -> Salt {
        Salt::new(self.0.epoch, segment)
    }

    pub(crate) fn open(&self, segment: u64) -> io::Result<Arc<F::File>> {
        let mut open = self.0.open.lock();
        if let Some(file) = open.get(&segment).and_then(Weak::upgrade) {
            return Ok(file);
        }
        let file = Arc::new(self.0.files.open(&format::segment_name(segment))?);
        open.retain(|_, file| file.strong_count() > 0);
        open.insert(segment, Arc::downgrade(&file));
        Ok(file)
    }

    /// Starts reading a segment; `None` if it was released in the meantime.
    pub(crate) fn scanner(&self, entry: &SegmentEntry) -> io::Result<Option<Scanner<F::File>>> {
        let file = match self.open(entry.number) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let salt = self.salt(entry.number);
        Ok(Some(Scanner::new(file, salt, HEADER_BYTES as u64, entry.length)))
    }

    pub(crate) fn entries(&self) -> Vec<SegmentEntry> {
        self.0.inner.lock().segments.iter().map(|segment| segment.entry).collect()
    }

    pub(crate) fn find(&self, number: u64) -> Option<CatalogEntry> {
        let inner = self.0.inner.lock();
        let at = inner.segments.binary_search_by_key(&number, |segment| segment.entry.number);
        at.ok().map(|at| inner.segments[at])
    }

    /// Returns the first segment after `number` that may have a record after `seq`.
    pub(crate) fn first_after(&self, number: u64, seq: Seq) -> Option<CatalogEntry> {
        let inner = self.0.inner.lock();
        let start = inner.segments.partition_point(|segment| segment.entry.number <= number);
        let mut later = inner.segments[start..].iter();
        later.find(|segment| !segment.closed || segment.entry.last_seq > seq).copied()
    }

    /// Adds the newest segment, or replaces what was known of it.
    pub(crate) fn set(&self, segment: CatalogEntry) {
        let mut inner = self.0.inner.lock();
        match inner.segments.last_mut() {
            Some(last) if last.entry.number == segment.entry.number => *last = segment,
            _ => inner.segments.push(segment),
        }
    }

    /// Removes the segments before `first` and returns their numbers.
    pub(crate) fn remove_before(&self, first: u64) -> Vec<SegmentEntry> {
        let mut inner = self.0.inner.lock();
        let end = inner.segments.partition_point(|segment| segment.entry.number < first);
        inner.footers.retain(|(number, _)| *number >= first);
        inner.segments.drain(..end).map(|segment| segment.entry).collect()
    }

    /// Returns the footer of a segment; `None` if it has none or it is damaged.
    pub(crate) fn footer(&self, entry: &SegmentEntry) -> io::Result<Option<Arc<Summary>>> {
        let Some(offset) = entry.footer else { return Ok(None) };
        let kept = |inner: &Inner| {
            let found = inner.footers.iter().find(|(number, _)| *number == entry.number);
            found.map(|(_, footer)| Arc::clone(footer))
        };
        if let Some(footer) = kept(&self.0.inner.lock()) {
            return Ok(Some(footer));
        }
        let file = match self.open(entry.number) {
            Ok(file) => file,
            // It was released in the meantime.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let read = read_footer(file, self.salt(entry.number), offset, entry.length)?;
        let Some(footer) = read.map(Arc::new) else { return Ok(None) };
        let mut inner = self.0.inner.lock();
        if kept(&inner).is_none() {
            if inner.footers.len() == FOOTERS_KEPT {
                inner.footers.remove(0);
            }
            inner.footers.push((entry.number, Arc::clone(&footer)));
        }
        Ok(Some(footer))
    }
}

/// Reads a footer; `None` if it is damaged.
pub(crate) fn read_footer<T: File>(
    file: Arc<T>,
    salt: Salt,
    offset: u64,
    end: u64,
) -> io::Result<Option<Summary>> {
    let mut scanner = Scanner::new(file, salt, offset, end);
    Ok(match scanner.next()? {
        Step::Frame(frame) if frame.kind == FrameKind::Footer => {
            Summary::decode(&mut Input::new(scanner.payload(&frame))).ok()
        }
        Step::Frame(_) | Step::Bad { .. } | Step::End => None,
    })
}

impl From<SegmentEntry> for SegmentView {
    fn from(entry: SegmentEntry) -> Self {
        let SegmentEntry { number, length: bytes, records, first_seq, last_seq, .. } = entry;
        Self { number, bytes, records, first_seq, last_seq }
    }
}

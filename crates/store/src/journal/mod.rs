//! The writing side of the journal.

mod group;
mod segment;

use std::io;

use bytes::Bytes;

use self::group::Group;
pub(crate) use self::segment::ActiveSegment;
use self::segment::SegmentStart;
use crate::catalog::{Catalog, CatalogEntry};
use crate::file_system::FileSystem;
use crate::format::{self, Begin, Op, Ops, SegmentEntry, SegmentHeader};
use crate::options::{JournalOptions, Visibility};
use crate::position::{Position, Seq};
use crate::recovery::{self, OpenError, Recovery};
use crate::small_file::{self, ClosedMark};
use crate::state::State;
use crate::summary::Predecessor;
use crate::transaction::Transaction;

/// A segment is sealed at this many times the size of the state at its start, or more.
const STATE_MULTIPLE: u64 = 4;

/// The journal: appends transactions, makes them durable, and deletes what nobody needs.
///
/// It belongs to one thread, as its calls wait for the disk. [`Reader`](crate::Reader)s work beside
/// it, through [`catalog`](Self::catalog).
///
/// # Examples
///
/// ```
/// # use tidegate_store::{Item, Journal, JournalOptions, Position, Seq, TakerId, Transaction};
/// # use tidegate_store::simulation::SimulatedDisk;
/// # let files = SimulatedDisk::new();
/// let uplink = TakerId::new(1);
/// let (mut journal, recovery) = Journal::open(files, JournalOptions::new(0x5eed))?;
/// let mut transaction = Transaction::new();
/// transaction.append(recovery.next_seq, &[(uplink, 1)], b"21.5")?;
/// journal.write([&transaction]);
/// journal.commit()?; // now it is durable
///
/// let mut reader = journal.catalog().reader(uplink, Position::START);
/// let block = reader.next_block(100, 64 << 10)?;
/// assert!(matches!(&block[..], [Item::Record { body, .. }] if body == "21.5"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Journal<F: FileSystem> {
    files: F,
    options: JournalOptions,
    epoch: u64,
    catalog: Catalog<F>,
    state: State,
    last_seq: Seq,
    /// The last record that a sync has covered.
    durable_seq: Seq,
    next_damage: u64,
    active: Option<ActiveSegment<F::File>>,
    /// What the last segment before the next one holds.
    predecessor: Option<Predecessor>,
    next_segment: u64,
    /// The segment with the newest checkpoint.
    base: u64,
    /// Segments that recovery gave up; their files go when a new segment no longer lists them.
    lost: Vec<u64>,
    /// Whether the mark of the last orderly stop is still there.
    has_closed_mark: bool,
    group: Group,
    failed: bool,
    counters: Counters,
}

/// What one commit did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// How many transactions it made durable.
    pub transactions: u64,
    /// The last record that is now durable.
    pub durable_seq: Seq,
}

/// What [`Journal::release`] deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Released {
    /// How many segments.
    pub segments: u64,
    /// How many bytes.
    pub bytes: u64,
}

/// What a journal has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Group commits.
    pub commits: u64,
    /// Bytes written to segments, checkpoints included.
    pub bytes_written: u64,
    /// Bytes of checkpoints.
    pub checkpoint_bytes: u64,
    /// Segments begun.
    pub segments_started: u64,
    /// Segments given up because a write or a sync failed.
    pub segments_abandoned: u64,
    /// Segments deleted because nobody needs them.
    pub segments_released: u64,
}

/// A group could not be made durable.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// There is no room. The group is kept in memory; commit again when there is.
    #[error("no room for the journal")]
    Full(#[source] io::Error),
    /// The storage failed twice in a row. The journal refuses all further work; what was not
    /// acknowledged must not be.
    #[error("the journal's storage failed")]
    Fatal(#[source] io::Error),
}

impl<F: FileSystem> Journal<F> {
    /// Opens the journal, or makes a new one, and recovers from whatever happened to it.
    ///
    /// Recovery writes next to nothing: it may be interrupted at any point and run any number of
    /// times, with the same result. It works on a full disk if the journal exists.
    ///
    /// # Errors
    ///
    /// - [`OpenError::NewerFormat`], [`OpenError::ForeignIdentity`]: going on would destroy or mix
    ///   data; nothing was changed.
    /// - [`OpenError::Storage`]: the storage failed.
    pub fn open(files: F, options: JournalOptions) -> Result<(Self, Recovery), OpenError> {
        recovery::open(files, options)
    }

    pub(crate) fn from_recovered(
        files: F,
        options: JournalOptions,
        recovered: recovery::Recovered<F>,
    ) -> Self {
        let catalog = Catalog::new(
            files.clone(),
            recovered.epoch,
            recovered.segments,
            recovered.state.positions.clone(),
        );
        Self {
            files,
            options,
            epoch: recovered.epoch,
            catalog,
            state: recovered.state,
            last_seq: recovered.last_seq,
            durable_seq: recovered.last_seq,
            next_damage: recovered.next_damage,
            active: recovered.active,
            predecessor: recovered.predecessor,
            next_segment: recovered.next_segment,
            base: recovered.base,
            lost: recovered.lost,
            has_closed_mark: recovered.has_closed_mark,
            group: Group::default(),
            failed: false,
            counters: Counters::default(),
        }
    }

    /// Returns the list of segments, through which records are read.
    #[must_use]
    pub fn catalog(&self) -> &Catalog<F> {
        &self.catalog
    }

    /// Returns the journal's identity.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Returns what the journal has done since it was opened.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Returns the last record that a sync has covered.
    #[must_use]
    pub fn durable_seq(&self) -> Seq {
        self.durable_seq
    }

    /// Returns the last record that was written, durable or not.
    #[must_use]
    pub fn last_seq(&self) -> Seq {
        self.last_seq
    }

    /// Returns the value of a key, as of the last [`write`](Self::write).
    #[must_use]
    pub fn value(&self, key: &[u8]) -> Option<&Bytes> {
        self.state.values.get(key)
    }

    /// Returns how many bytes wait for the next commit.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.group.bytes()
    }

    /// Adds transactions to the group that the next [`commit`](Self::commit) makes durable.
    ///
    /// # Panics
    ///
    /// If record numbers do not rise, or the ordinals of a taker do not follow each other.
    pub fn write<'t>(&mut self, transactions: impl IntoIterator<Item = &'t Transaction>) {
        for transaction in transactions {
            self.apply(transaction.ops());
            self.group.push(transaction);
        }
    }

    fn apply(&mut self, ops: &[u8]) {
        const OWN: &str = "a transaction holds what it encoded";
        let mut ops = Ops::new(ops);
        while let Some(op) = ops.next().expect(OWN) {
            if let Op::Retire { taker } = op {
                self.group.retire(taker);
            }
            let Op::Append { seq, mut takers, .. } = op else {
                self.state.apply(&op);
                continue;
            };
            assert!(seq > self.last_seq, "record {seq} comes after record {}", self.last_seq);
            self.last_seq = seq;
            self.group.add_record(seq);
            while let Some((taker, ordinal)) = takers.next().expect(OWN) {
                let position = Position { seq, ordinal };
                let last = self.state.positions.insert(taker, position).unwrap_or_default();
                assert_eq!(ordinal, last.ordinal + 1, "ordinal of taker {taker} at record {seq}");
                self.group.add_taker(taker, last, position);
            }
        }
    }

    /// Hands everything to the operating system without waiting for the disk.
    ///
    /// With [`Visibility::Written`] readers see it from now on. It survives the end of the process;
    /// only a [`commit`](Self::commit) makes it survive a power cut.
    ///
    /// # Errors
    ///
    /// As [`commit`](Self::commit).
    pub fn flush(&mut self) -> Result<(), CommitError> {
        self.check_usable()?;
        if self.group.is_empty() {
            return Ok(());
        }
        if self.needs_new_segment() {
            return self.commit().map(drop);
        }
        self.remove_closed_mark();
        let Some(active) = &mut self.active else { unreachable!("a new segment is not needed") };
        match active.write(&mut self.group) {
            Ok(bytes) => {
                self.counters.bytes_written += bytes;
                if self.options.visibility == Visibility::Written {
                    let entry = SegmentEntry { length: active.written(), ..active.entry() };
                    self.catalog.set(CatalogEntry { entry, closed: false });
                }
                Ok(())
            }
            Err(error) if is_full(&error) && active.cut_back().is_ok() => {
                Err(CommitError::Full(error))
            }
            Err(error) => {
                self.abandon();
                self.commit_after(Some(error)).map(drop)
            }
        }
    }

    /// Makes everything that was written durable: one write, one sync.
    ///
    /// If the write or the sync fails, the segment is given up at its last durable byte and the
    /// group is written to a new one; no later success is taken for the failed sync.
    ///
    /// # Errors
    ///
    /// - [`CommitError::Full`]: try again later, with more transactions if need be.
    /// - [`CommitError::Fatal`]: a new segment could not be made durable either.
    pub fn commit(&mut self) -> Result<Commit, CommitError> {
        self.check_usable()?;
        self.commit_after(None)
    }

    /// Commits, after the segment was given up because of `failure`, if there was one.
    fn commit_after(&mut self, failure: Option<io::Error>) -> Result<Commit, CommitError> {
        let transactions = self.group.transactions();
        if transactions > 0 {
            let bytes = self.group.bytes();
            self.group.end();
            if let Err(error) = self.write_group(failure) {
                self.group.reopen(bytes);
                return Err(error);
            }
            self.group.clear();
            self.durable_seq = self.last_seq;
            self.counters.commits += 1;
        }
        Ok(Commit { transactions, durable_seq: self.durable_seq })
    }

    fn write_group(&mut self, failure: Option<io::Error>) -> Result<(), CommitError> {
        if self.needs_new_segment() {
            return self.start_segment(failure);
        }
        self.remove_closed_mark();
        let Some(active) = &mut self.active else { unreachable!("a new segment is not needed") };
        let written = active.write(&mut self.group);
        if let Err(error) = &written
            && is_full(error)
            && active.cut_back().is_ok()
        {
            return written.map(drop).map_err(CommitError::Full);
        }
        let synced = written.and_then(|bytes| {
            self.counters.bytes_written += bytes;
            active.sync(&self.group)
        });
        match synced {
            Ok(()) => {
                self.catalog.set(CatalogEntry { entry: active.entry(), closed: false });
                Ok(())
            }
            Err(error) => {
                self.abandon();
                self.start_segment(Some(error))
            }
        }
    }

    /// Returns whether the group must go to a new segment.
    fn needs_new_segment(&self) -> bool {
        let Some(active) = &self.active else { return true };
        let limit = self.options.segment_bytes.max(STATE_MULTIPLE * self.state.checkpoint_bytes());
        active.written() >= limit && !self.group.is_partly_written()
    }

    /// Gives the active segment up at its last durable byte.
    fn abandon(&mut self) {
        if let Some(active) = self.active.take() {
            self.catalog.set(CatalogEntry { entry: active.entry(), closed: true });
            self.predecessor = Some(active.into_predecessor());
            self.group.set_unwritten();
            self.counters.segments_abandoned += 1;
        }
    }

    /// Seals the active segment and makes a new one durable with the group in it.
    fn start_segment(&mut self, failure: Option<io::Error>) -> Result<(), CommitError> {
        let mut failure = failure;
        if let Some(active) = &mut self.active {
            match active.seal() {
                Ok(entry) => {
                    self.catalog.set(CatalogEntry { entry, closed: true });
                    self.predecessor = self.active.take().map(ActiveSegment::into_predecessor);
                }
                // A footer spares time only; what is durable stays so without it.
                Err(error) => {
                    failure = Some(error).filter(|error| !is_full(error));
                    self.abandon();
                }
            }
        }
        loop {
            match self.try_start_segment() {
                Ok(()) => return Ok(()),
                Err(error) if is_full(&error) => return Err(CommitError::Full(error)),
                Err(error) if failure.is_none() => failure = Some(error),
                Err(error) => {
                    self.failed = true;
                    return Err(CommitError::Fatal(error));
                }
            }
        }
    }

    fn try_start_segment(&mut self) -> io::Result<()> {
        let number = self.next_segment;
        self.next_segment += 1;
        let begin = Begin {
            last_seq: self.durable_seq,
            next_damage: self.next_damage,
            segments: self.catalog.entries(),
        };
        let start = SegmentStart {
            header: SegmentHeader { epoch: self.epoch, number, first_seq: self.durable_seq.next() },
            predecessor: self.predecessor.as_ref(),
            begin: &begin,
            state: &self.state,
        };
        let started = start.write(&self.files, &mut self.group)?;
        self.remove_closed_mark();
        self.counters.segments_started += 1;
        self.counters.bytes_written += started.bytes_written;
        self.counters.checkpoint_bytes += started.checkpoint_bytes;
        let entry = started.segment.entry();
        self.active = Some(started.segment);
        self.base = number;
        self.catalog.set(CatalogEntry { entry, closed: false });
        for lost in self.lost.drain(..) {
            // What cannot be removed now is removed by recovery, as no segment lists it.
            let _ = self.files.remove(&format::segment_name(lost));
        }
        Ok(())
    }

    /// Deletes the oldest segments if all their records come before `before`.
    ///
    /// The segment with the newest checkpoint and the one before it always stay, so that the state
    /// survives damage to either. Commits what was written so far.
    ///
    /// # Errors
    ///
    /// As [`commit`](Self::commit); nothing was deleted.
    pub fn release(&mut self, before: Seq) -> Result<Released, CommitError> {
        self.check_usable()?;
        let entries = self.catalog.entries();
        let base = entries.partition_point(|entry| entry.number < self.base);
        let releasable = &entries[..base.saturating_sub(1)];
        let count = releasable.iter().take_while(|entry| entry.last_seq < before).count();
        if count == 0 {
            return Ok(Released::default());
        }
        let first_kept = entries[count].number;
        self.write([&Transaction::release(first_kept)]);
        self.commit()?;
        let removed = self.catalog.remove_before(first_kept);
        for entry in &removed {
            let _ = self.files.remove(&format::segment_name(entry.number));
        }
        let segments = removed.len() as u64;
        self.counters.segments_released += segments;
        Ok(Released { segments, bytes: removed.iter().map(|entry| entry.length).sum() })
    }

    /// Commits, and leaves a mark of where the log ends, by which damage done while the gateway is
    /// off is told exactly.
    ///
    /// # Errors
    ///
    /// As [`commit`](Self::commit). If only the mark could not be written, the records are durable
    /// all the same.
    pub fn close(mut self) -> Result<Counters, CommitError> {
        self.commit()?;
        if let Some(active) = &self.active {
            let mark = ClosedMark {
                epoch: self.epoch,
                segment: active.number(),
                length: active.written(),
                first_segment: self.catalog.entries().first().map_or(0, |entry| entry.number),
                last_seq: self.last_seq,
                positions: std::mem::take(&mut self.state.positions),
            };
            small_file::replace(&self.files, format::CLOSED_FILE, &mark.encode()).map_err(
                |error| {
                    if is_full(&error) {
                        CommitError::Full(error)
                    } else {
                        CommitError::Fatal(error)
                    }
                },
            )?;
        }
        Ok(self.counters)
    }

    /// Removes the mark of the last orderly stop before the log goes on.
    ///
    /// That needs no sync: a mark that comes back still tells what was durable at least.
    fn remove_closed_mark(&mut self) {
        if std::mem::take(&mut self.has_closed_mark) {
            let _ = self.files.remove(format::CLOSED_FILE);
        }
    }

    fn check_usable(&self) -> Result<(), CommitError> {
        if self.failed {
            return Err(CommitError::Fatal(io::Error::other("the journal has failed before")));
        }
        Ok(())
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

//! The transactions of one group commit.

use std::collections::{BTreeMap, BTreeSet};

use crate::format::{self, CommitMark, FrameKind};
use crate::position::{Position, Seq, TakerId};
use crate::summary::Summary;
use crate::transaction::Transaction;

/// A buffer that has grown beyond this is given back after the commit.
const BUFFER_KEPT_BYTES: usize = 1 << 20;

/// A commit record also tells the last ordinals of this many takers of earlier groups.
const RECENT_TAKERS: usize = 16;

/// Transactions that become durable together. They stay in memory until they are.
#[derive(Debug, Default)]
pub(crate) struct Group {
    /// Sealed frames, ready to be stamped with their place.
    frames: Vec<u8>,
    /// How many of these bytes the active segment already holds.
    written: usize,
    transactions: u64,
    seqs: Vec<Seq>,
    takers: Vec<(TakerId, Position)>,
    /// Where these takers were before the group.
    before: BTreeMap<TakerId, Position>,
    mark: CommitMark,
    /// Whether the commit record is already at the end.
    ended: bool,
    /// Takers of earlier groups, the latest first. A commit record repeats them, so that damage
    /// which takes several groups with their commit records is told as well.
    recent: Vec<(TakerId, u64)>,
    /// Takers that this group forgets; no later record tells of them.
    retired: BTreeSet<TakerId>,
}

impl Group {
    pub(crate) fn is_empty(&self) -> bool {
        self.transactions == 0
    }

    pub(crate) fn push(&mut self, transaction: &Transaction) {
        assert!(!self.ended, "a group that was ended is committed before the next one starts");
        transaction.write_to(&mut self.frames);
        self.transactions += 1;
    }

    pub(crate) fn add_record(&mut self, seq: Seq) {
        self.seqs.push(seq);
    }

    pub(crate) fn add_taker(&mut self, taker: TakerId, before: Position, position: Position) {
        self.before.entry(taker).or_insert(before);
        self.takers.push((taker, position));
    }

    /// Returns where the group's takers were before it.
    pub(crate) fn positions_before(&self) -> &BTreeMap<TakerId, Position> {
        &self.before
    }

    /// Returns what the commit record says.
    pub(crate) fn mark(&self) -> &CommitMark {
        &self.mark
    }

    pub(crate) fn retire(&mut self, taker: TakerId) {
        self.retired.insert(taker);
    }

    pub(crate) fn transactions(&self) -> u64 {
        self.transactions
    }

    pub(crate) fn bytes(&self) -> usize {
        self.frames.len()
    }

    /// Returns whether the active segment holds part of the group.
    pub(crate) fn is_partly_written(&self) -> bool {
        self.written > 0
    }

    pub(crate) fn unwritten(&mut self) -> &mut [u8] {
        &mut self.frames[self.written..]
    }

    pub(crate) fn all(&mut self) -> &mut [u8] {
        &mut self.frames
    }

    pub(crate) fn set_written(&mut self) {
        self.written = self.frames.len();
    }

    /// Appends the commit record.
    pub(crate) fn end(&mut self) {
        assert!(!self.ended, "a group has one commit record");
        let mut last_ordinals = self.last_ordinals();
        for &(taker, ordinal) in &self.recent {
            last_ordinals.entry(taker).or_insert(ordinal);
        }
        last_ordinals.retain(|taker, _| !self.retired.contains(taker));
        self.mark = CommitMark {
            bytes: self.frames.len() as u64,
            first_seq: self.seqs.first().copied().unwrap_or_default(),
            last_seq: self.seqs.last().copied().unwrap_or_default(),
            takers: last_ordinals.into_iter().collect(),
        };
        let mark = &self.mark;
        format::write_frame(&mut self.frames, FrameKind::Commit, |buffer| mark.encode(buffer));
        self.ended = true;
    }

    fn last_ordinals(&self) -> BTreeMap<TakerId, u64> {
        self.takers.iter().map(|&(taker, position)| (taker, position.ordinal)).collect()
    }

    /// Takes the commit record off again, so that more transactions can be added.
    pub(crate) fn reopen(&mut self, bytes: usize) {
        self.frames.truncate(bytes);
        self.written = self.written.min(bytes);
        self.ended = false;
    }

    /// Notes that the segment that held part of the group was given up.
    pub(crate) fn set_unwritten(&mut self) {
        self.written = 0;
    }

    /// Counts the group's records.
    pub(crate) fn add_to(&self, summary: &mut Summary) {
        for &seq in &self.seqs {
            summary.add_record(seq);
        }
        for &(taker, position) in &self.takers {
            summary.add_taker(taker, position);
        }
    }

    /// Starts the next group.
    pub(crate) fn clear(&mut self) {
        let last_ordinals = self.last_ordinals();
        self.recent.retain(|(taker, _)| !last_ordinals.contains_key(taker));
        self.recent.splice(..0, last_ordinals.into_iter().take(RECENT_TAKERS));
        self.recent.retain(|(taker, _)| !self.retired.contains(taker));
        self.recent.truncate(RECENT_TAKERS);
        self.retired.clear();
        self.frames.clear();
        self.frames.shrink_to(BUFFER_KEPT_BYTES);
        self.seqs.clear();
        self.takers.clear();
        self.before.clear();
        self.written = 0;
        self.transactions = 0;
        self.ended = false;
    }
}

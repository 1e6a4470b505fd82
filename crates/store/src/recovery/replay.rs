//! Rebuilds the state from the newest checkpoint and everything after it.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use super::inventory::{Inventory, SegmentFile};
use super::ledger::DamageLedger;
use super::older::redundant;
use super::survey::{self, End};
use super::{OpenError, base};
use crate::catalog::CatalogEntry;
use crate::damage::{Damage, DamageKind};
use crate::file_system::{File, FileSystem};
use crate::format::{
    self, Begin, CommitMark, FrameKind, HEADER_BYTES, IDENTITY_FILE, Op, Ops, Salt, SegmentEntry,
};
use crate::input::Input;
use crate::journal::ActiveSegment;
use crate::options::JournalOptions;
use crate::position::{Position, Seq, TakerId};
use crate::scanner::{Frame, Scanner, Step};
use crate::state::State;
use crate::summary::{Predecessor, Summary};

/// No record takes up fewer bytes of the log.
const RECORD_BYTES_MIN: u64 = 4;

/// Recovery of the segments from the newest checkpoint on.
pub(crate) struct Replay<'f, F: FileSystem> {
    files: &'f F,
    inventory: &'f Inventory,
    pub(crate) state: State,
    last_seq: Seq,
    next_damage: u64,
    /// The segment with the checkpoint.
    base: Option<BaseSegment>,
    /// The segments before the base.
    pub(crate) earlier: Vec<SegmentEntry>,
    /// The newest list of live segments, and the segment that holds it.
    list: Begin,
    list_segment: u64,
    /// The first segment that was not released.
    pub(crate) floor: u64,
    ledger: DamageLedger,
    redundant: Vec<Damage>,
    segments: Vec<CatalogEntry>,
    lost: Vec<u64>,
    active: Option<ActiveSegment<F::File>>,
    predecessor: Option<Predecessor>,
    state_may_be_stale: bool,
}

/// The segment with the newest checkpoint.
#[derive(Clone, Debug)]
struct BaseSegment {
    number: u64,
    /// Where the frames after the checkpoint start.
    offset: u64,
    /// Up to here it was synced when it got its name.
    proven: u64,
    /// What its first group holds.
    group: CommitMark,
}

/// What replaying has led to.
pub(crate) struct Replayed<F: FileSystem> {
    pub(crate) state: State,
    pub(crate) last_seq: Seq,
    pub(crate) next_damage: u64,
    pub(crate) base: u64,
    pub(crate) segments: Vec<CatalogEntry>,
    pub(crate) damages: Vec<Damage>,
    pub(crate) lost: Vec<u64>,
    pub(crate) active: Option<ActiveSegment<F::File>>,
    pub(crate) predecessor: Option<Predecessor>,
    pub(crate) next_segment: u64,
    pub(crate) state_may_be_stale: bool,
}

/// One segment while it is replayed.
#[derive(Debug, Default)]
struct Content {
    summary: Summary,
    footer: Option<u64>,
    has_frames: bool,
    /// Where the groups start; what is before repeats what is known.
    groups_start: u64,
}

impl<'f, F: FileSystem> Replay<'f, F> {
    /// Loads the newest checkpoint.
    pub(crate) fn start(files: &'f F, inventory: &'f Inventory) -> Result<Self, OpenError> {
        let found = base::find(files, inventory)?;
        let (list_segment, list) = base::newest_list(files, inventory)?.unwrap_or_default();
        let mut replay = Self {
            files,
            inventory,
            state: State::default(),
            last_seq: list.last_seq,
            next_damage: list.next_damage.max(1),
            base: None,
            earlier: Vec::new(),
            list,
            list_segment,
            floor: inventory.closed.as_ref().map_or(0, |mark| mark.first_segment),
            ledger: DamageLedger::default(),
            redundant: Vec::new(),
            segments: Vec::new(),
            lost: Vec::new(),
            active: None,
            predecessor: None,
            state_may_be_stale: false,
        };
        if inventory.identity_was_lost {
            let file = IDENTITY_FILE.to_owned();
            replay.redundant.push(Damage { file, ..redundant(0, 0, 0) });
        }
        if let Some(found) = found {
            let listed = replay.list.segments.iter();
            replay.earlier = listed.filter(|entry| entry.number < found.number).copied().collect();
            let bad = found.bad.iter();
            replay.redundant.extend(bad.map(|&(at, bytes)| redundant(found.number, at, bytes)));
            replay.base = Some(BaseSegment {
                number: found.number,
                offset: found.offset,
                proven: found.proven,
                group: found.group,
            });
            replay.state = found.state;
            replay.last_seq = found.begin.last_seq;
        } else if let Some(&newest) = inventory.segments.keys().next_back() {
            replay.last_seq = Seq::ORIGIN;
            replay.state_may_be_stale = true;
            replay.ledger.add_known(Damage { kind: DamageKind::State, ..redundant(newest, 0, 0) });
        }
        Ok(replay)
    }

    /// Replays every segment from the checkpoint on.
    pub(crate) fn run(&mut self) -> Result<(), OpenError> {
        let first = self.base.as_ref().map_or(0, |base| base.number);
        let listed = self.list.segments.clone();
        let is_listed = |number| listed.iter().any(|entry| entry.number == number);
        let mut missing = listed
            .iter()
            .filter(|entry| entry.number >= first)
            .filter(|entry| !self.inventory.segments.contains_key(&entry.number))
            .peekable();
        let newest = self.inventory.segments.keys().next_back().copied();
        for (&number, segment) in self.inventory.segments.range(first..) {
            if number < self.list_segment && !is_listed(number) {
                continue;
            }
            while let Some(entry) = missing.next_if(|entry| entry.number < number) {
                self.lose_listed(entry);
            }
            let listed = listed.iter().find(|entry| entry.number == number);
            let listed = listed.filter(|_| number < self.list_segment);
            self.replay_segment(number, segment, listed, newest == Some(number)).map_err(
                |source| OpenError::storage("read", &format::segment_name(number), source),
            )?;
        }
        self.compare_with_closed_mark();
        Ok(())
    }

    fn replay_segment(
        &mut self,
        number: u64,
        segment: &SegmentFile,
        listed: Option<&SegmentEntry>,
        is_newest: bool,
    ) -> io::Result<()> {
        let file = Arc::new(self.files.open(&format::segment_name(number))?);
        let salt = Salt::new(self.inventory.epoch, number);
        let proven = self.proven_bytes(number);
        let end = match listed {
            Some(entry) => End { length: entry.length, unproven: entry.length },
            None if is_newest => survey::find_end(&file, salt, segment.length, proven)?,
            None => End { length: segment.length, unproven: segment.length },
        };
        let losses_before = self.ledger.len();
        let content = self.replay_frames(number, &file, salt, end.length)?;
        if !content.has_frames && !self.is_base(number) {
            self.lose_segment(number, segment, listed, is_newest);
            return Ok(());
        }
        if segment.header.is_none() {
            self.redundant.push(redundant(number, 0, HEADER_BYTES as u64));
        }
        if let Some(entry) = listed {
            self.ledger.end_ranges(entry.last_seq);
            self.last_seq = self.last_seq.max(entry.last_seq);
        }
        let entry = SegmentEntry {
            number,
            length: end.length,
            footer: content.footer,
            records: content.summary.records,
            first_seq: content.summary.first_seq,
            last_seq: content.summary.last_seq,
        };
        self.segments.push(CatalogEntry { entry, closed: true });
        if is_newest {
            rewrite(&*file, end.unproven.max(proven), end.length)?;
            self.note_cut(number, &*file, end.length, segment.length)?;
        }
        let is_whole = self.ledger.len() == losses_before
            && end.length == segment.length
            && segment.header.is_some()
            && self.is_base(number);
        if is_newest && is_whole && content.footer.is_none() {
            let summary = content.summary.clone();
            self.active = Some(ActiveSegment::resume(file, salt, number, end.length, summary));
        }
        self.predecessor = Some(Predecessor { number, summary: content.summary });
        Ok(())
    }

    fn replay_frames(
        &mut self,
        number: u64,
        file: &Arc<F::File>,
        salt: Salt,
        end: u64,
    ) -> io::Result<Content> {
        let base = self.base.clone().filter(|base| base.number == number);
        let start = base.as_ref().map_or(HEADER_BYTES as u64, |base| base.offset);
        let groups_start =
            if base.is_some() { start } else { find_groups(file, salt, start, end)? };
        let mut content = Content { groups_start, ..Content::default() };
        let mut scanner = Scanner::new(Arc::clone(file), salt, start, end);
        let mut first_group = base.map(|base| (base.proven, base.group));
        loop {
            let step = scanner.next()?;
            let is_behind = |proven: u64| match &step {
                Step::Frame(frame) => frame.offset >= proven,
                Step::Bad { offset, .. } => *offset >= proven,
                Step::End => true,
            };
            if let Some((_, group)) = first_group.take_if(|(proven, _)| is_behind(*proven)) {
                self.compare_with_commit(&group);
            }
            match step {
                Step::End => break,
                Step::Bad { offset, bytes } => self.add_bad(number, &content, offset, bytes),
                Step::Frame(frame) => {
                    let payload = scanner.payload(&frame);
                    if !self.replay_frame(&mut content, &frame, payload) {
                        let bytes = frame.end() - frame.offset;
                        self.add_bad(number, &content, frame.offset, bytes);
                    }
                }
            }
        }
        Ok(content)
    }

    /// Returns whether the frame's payload made sense.
    fn replay_frame(&mut self, content: &mut Content, frame: &Frame, payload: &[u8]) -> bool {
        content.has_frames = true;
        match frame.kind {
            FrameKind::Transaction if Ops::new(payload).are_well_formed() => {
                self.replay_transaction(content, payload);
                true
            }
            FrameKind::Commit => match CommitMark::decode(payload) {
                Ok(mark) => {
                    self.compare_with_commit(&mark);
                    true
                }
                Err(_) => false,
            },
            FrameKind::Footer => match Summary::decode(&mut Input::new(payload)) {
                Ok(summary) => {
                    self.compare_with_footer(&summary);
                    content.footer = Some(frame.offset);
                    content.summary = summary;
                    true
                }
                Err(_) => false,
            },
            FrameKind::Transaction | FrameKind::Spilled => false,
            FrameKind::Predecessor
            | FrameKind::CheckpointBegin
            | FrameKind::CheckpointPart
            | FrameKind::CheckpointEnd => true,
        }
    }

    fn replay_transaction(&mut self, content: &mut Content, payload: &[u8]) {
        let mut ops = Ops::new(payload);
        while let Ok(Some(op)) = ops.next() {
            match op {
                Op::Append { seq, mut takers, .. } => {
                    if seq > self.last_seq {
                        self.ledger.end_ranges(seq.previous());
                        self.last_seq = seq;
                    }
                    content.summary.add_record(seq);
                    while let Ok(Some((taker, ordinal))) = takers.next() {
                        let position = Position { seq, ordinal };
                        content.summary.add_taker(taker, position);
                        self.advance(taker, position, 1);
                    }
                }
                Op::Release { first_segment } => self.floor = self.floor.max(first_segment),
                other => self.state.apply(&other),
            }
        }
    }

    /// Moves a taker's last record on; `present` of the records up to there are not missing.
    fn advance(&mut self, taker: TakerId, position: Position, present: u64) {
        let last = self.state.positions.get(&taker).copied();
        let known = last.unwrap_or_default();
        if position.ordinal <= known.ordinal {
            return;
        }
        self.state.positions.insert(taker, position);
        let missing = position.ordinal - known.ordinal - present;
        // Without a checkpoint the first record of a taker that is seen may be any.
        if missing > 0 && (last.is_some() || self.base.is_some()) {
            self.ledger.add_loss(taker, known.seq, missing);
        }
    }

    fn compare_with_commit(&mut self, mark: &CommitMark) {
        if mark.last_seq == Seq::ORIGIN {
            return;
        }
        self.ledger.end_ranges(mark.last_seq);
        self.last_seq = self.last_seq.max(mark.last_seq);
        for &(taker, ordinal) in &mark.takers {
            self.advance(taker, Position { seq: mark.last_seq, ordinal }, 0);
        }
    }

    fn compare_with_footer(&mut self, summary: &Summary) {
        self.ledger.end_ranges(summary.last_seq);
        self.last_seq = self.last_seq.max(summary.last_seq);
        for (&taker, held) in &summary.takers {
            self.advance(taker, held.last, 0);
        }
    }

    fn add_bad(&mut self, number: u64, content: &Content, offset: u64, bytes: u64) {
        if offset + bytes <= content.groups_start {
            self.redundant.push(redundant(number, offset, bytes));
        } else {
            self.ledger.add(DamageKind::Frames, number, offset, bytes, self.last_seq);
            self.state_may_be_stale = true;
        }
    }

    /// Notes that a listed segment is not there.
    fn lose_listed(&mut self, entry: &SegmentEntry) {
        let damage = redundant(entry.number, 0, entry.length);
        self.state_may_be_stale = true;
        let (first_seq, last_seq) = (entry.first_seq, entry.last_seq);
        self.ledger.add_known(Damage { kind: DamageKind::Segment, first_seq, last_seq, ..damage });
        self.last_seq = self.last_seq.max(last_seq);
    }

    /// Notes that a segment holds nothing that can be read.
    fn lose_segment(
        &mut self,
        number: u64,
        segment: &SegmentFile,
        listed: Option<&SegmentEntry>,
        is_newest: bool,
    ) {
        self.lost.push(number);
        self.ledger.retract(number);
        let name = format::segment_name(number);
        self.redundant.retain(|damage| damage.file != name);
        self.state_may_be_stale = true;
        if let Some(entry) = listed {
            self.lose_listed(entry);
        } else if is_newest {
            let bytes = segment.length;
            let first_seq = self.last_seq.next();
            self.skip_numbers(bytes.max(JournalOptions::SEGMENT_BYTES_DEFAULT));
            let damage = redundant(number, 0, bytes);
            let (kind, last_seq) = (DamageKind::NewestSegment, self.last_seq);
            self.ledger.add_known(Damage { kind, first_seq, last_seq, ..damage });
        } else {
            self.ledger.add(DamageKind::Segment, number, 0, segment.length, self.last_seq);
        }
    }

    /// Leaves out the numbers that records in so many unreadable bytes may have had.
    fn skip_numbers(&mut self, bytes: u64) {
        self.last_seq = Seq::new(self.last_seq.get() + bytes / RECORD_BYTES_MIN + 1);
    }

    fn is_base(&self, number: u64) -> bool {
        self.base.as_ref().is_some_and(|base| base.number == number)
    }

    /// Returns how much of a segment is known to have been synced, at least.
    fn proven_bytes(&self, number: u64) -> u64 {
        let closed = self.inventory.closed.as_ref();
        let closed = closed.filter(|mark| mark.segment == number).map_or(0, |mark| mark.length);
        let base = self.base.as_ref().filter(|base| base.number == number);
        closed.max(base.map_or(0, |base| base.proven))
    }

    /// Notes what is cut off the end of the log, if it was ever written.
    fn note_cut(
        &mut self,
        number: u64,
        file: &F::File,
        length: u64,
        file_length: u64,
    ) -> io::Result<()> {
        if length == file_length || survey::is_zero(file, length, file_length)? {
            return Ok(());
        }
        let damage = redundant(number, length, file_length - length);
        self.ledger.add_known(Damage { kind: DamageKind::Tail, ..damage });
        if self.proven_bytes(number) <= length {
            self.skip_numbers(file_length - length);
        }
        Ok(())
    }

    /// Tells what an orderly stop had made durable and is not there.
    fn compare_with_closed_mark(&mut self) {
        let Some(mark) = self.inventory.closed.as_ref() else { return };
        let newest = self.inventory.segments.keys().next_back().copied().unwrap_or(0);
        let there = self.segments.iter().find(|segment| segment.entry.number == mark.segment);
        let length = there.map_or(0, |segment| segment.entry.length);
        if mark.segment < newest || mark.length < length {
            // The log has gone on since.
            return;
        }
        if mark.length == length {
            // Its end is there; what is missing in its midst is now known.
            self.ledger.end_ranges(mark.last_seq);
            self.last_seq = self.last_seq.max(mark.last_seq);
            self.advance_all(&mark.positions);
            return;
        }
        self.state_may_be_stale = true;
        let name = format::segment_name(mark.segment);
        let (first_lost, last_seq) = match self.ledger.last_mut() {
            Some(lost) if lost.kind == DamageKind::NewestSegment && lost.file == name => {
                (lost.first_seq, mark.last_seq)
            }
            _ => (self.last_seq.next(), self.last_seq.max(mark.last_seq)),
        };
        self.last_seq = last_seq;
        let bytes = mark.length - length;
        let (first_seq, last_seq) = if mark.last_seq >= first_lost {
            (first_lost, mark.last_seq)
        } else {
            (Seq::ORIGIN, Seq::ORIGIN)
        };
        match self.ledger.last_mut() {
            Some(lost) if lost.file == name && lost.kind == DamageKind::NewestSegment => {
                lost.kind = DamageKind::Segment;
                (lost.first_seq, lost.last_seq) = (first_seq, last_seq);
            }
            Some(cut) if cut.file == name && cut.kind == DamageKind::Tail => {
                (cut.first_seq, cut.last_seq) = (first_seq, last_seq);
            }
            Some(bad) if bad.file == name && bad.offset + bad.bytes == length => {
                bad.kind = DamageKind::Tail;
                bad.bytes += bytes;
                if first_seq != Seq::ORIGIN {
                    bad.last_seq = last_seq;
                    if bad.first_seq == Seq::ORIGIN {
                        bad.first_seq = first_seq;
                    }
                }
            }
            _ => {
                let kind = if there.is_some() { DamageKind::Tail } else { DamageKind::Segment };
                let damage = redundant(mark.segment, length, bytes);
                self.ledger.add_known(Damage { kind, first_seq, last_seq, ..damage });
            }
        }
        self.advance_all(&mark.positions);
        self.active = None;
    }

    fn advance_all(&mut self, positions: &BTreeMap<TakerId, Position>) {
        for (&taker, &position) in positions {
            self.advance(taker, position, 0);
        }
    }

    /// Gathers what was found.
    pub(crate) fn finish(self) -> Replayed<F> {
        let mut damages = self.redundant;
        damages.extend(self.ledger.into_damages());
        damages.sort_by(|one, other| (&one.file, one.offset).cmp(&(&other.file, other.offset)));
        let listed = self.list.segments.iter().map(|entry| entry.number);
        let closed = self.inventory.closed.as_ref().map(|mark| mark.segment);
        let numbers = self.inventory.segments.keys().copied().chain(listed).chain(closed);
        Replayed {
            state: self.state,
            last_seq: self.last_seq,
            next_damage: self.next_damage,
            base: self.base.as_ref().map_or(0, |base| base.number),
            segments: self.segments,
            damages,
            lost: self.lost,
            active: self.active,
            predecessor: self.predecessor,
            next_segment: numbers.max().unwrap_or(0) + 1,
            state_may_be_stale: self.state_may_be_stale,
        }
    }
}

/// Returns where the first group after a checkpoint starts.
///
/// The first commit record tells, so that damage to the end of the checkpoint is not taken for a
/// lost transaction.
fn find_groups<T: File>(file: &Arc<T>, salt: Salt, start: u64, end: u64) -> io::Result<u64> {
    let mut scanner = Scanner::new(Arc::clone(file), salt, start, end);
    let mut first_transaction = end;
    let mut checkpoint_end = start;
    loop {
        match scanner.next()? {
            Step::End => return Ok(first_transaction.min(checkpoint_end)),
            Step::Bad { .. } => {}
            Step::Frame(frame) => match frame.kind {
                FrameKind::Transaction => first_transaction = first_transaction.min(frame.offset),
                FrameKind::Commit => {
                    let mark = CommitMark::decode(scanner.payload(&frame)).unwrap_or_default();
                    let group = frame.offset.saturating_sub(mark.bytes);
                    return Ok(first_transaction.min(group));
                }
                FrameKind::Footer => return Ok(first_transaction.min(frame.offset)),
                FrameKind::Predecessor
                | FrameKind::CheckpointBegin
                | FrameKind::CheckpointPart
                | FrameKind::CheckpointEnd
                | FrameKind::Spilled => checkpoint_end = frame.end(),
            },
        }
    }
}

/// Writes bytes again that stand in a file already, and syncs it.
///
/// After a failed sync, or one that the end of the process cut short, the system may hold them in
/// memory alone and take them for written. Only a new write makes sure.
fn rewrite<T: File>(file: &T, start: u64, end: u64) -> io::Result<()> {
    if start >= end {
        return Ok(());
    }
    let mut buffer = vec![0; 256 << 10];
    let mut offset = start;
    while offset < end {
        let size = (end - offset).min(buffer.len() as u64) as usize;
        let read = file.read_at(offset, &mut buffer[..size])?;
        if read == 0 {
            break;
        }
        file.write_at(offset, &buffer[..read])?;
        offset += read as u64;
    }
    file.sync_data()
}

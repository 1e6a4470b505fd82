//! The newest segment with a complete checkpoint.

use std::io;
use std::sync::Arc;

use super::OpenError;
use super::inventory::{Inventory, SegmentFile};
use crate::file_system::{File, FileSystem};
use crate::format::{self, Begin, CommitMark, End, FrameKind, HEADER_BYTES, Ops, Salt};
use crate::scanner::{Scanner, Step};
use crate::state::State;
use crate::summary::Predecessor;

/// A complete checkpoint.
#[derive(Debug)]
pub(crate) struct Base {
    pub(crate) number: u64,
    pub(crate) begin: Begin,
    pub(crate) state: State,
    /// Where the frames after the checkpoint start.
    pub(crate) offset: u64,
    /// Up to here the segment was synced when it got its name.
    pub(crate) proven: u64,
    /// What the first group holds.
    pub(crate) group: CommitMark,
    /// Stretches before the checkpoint that are no frame.
    pub(crate) bad: Vec<(u64, u64)>,
}

/// Returns the newest complete checkpoint, if there is any.
pub(crate) fn find<F: FileSystem>(
    files: &F,
    inventory: &Inventory,
) -> Result<Option<Base>, OpenError> {
    for (&number, segment) in inventory.segments.iter().rev() {
        let name = format::segment_name(number);
        let read = || {
            let file = Arc::new(files.open(&name)?);
            read_checkpoint(file, Salt::new(inventory.epoch, number), number, segment.length)
        };
        match read() {
            Ok(Some(base)) => return Ok(Some(base)),
            Ok(None) => {}
            Err(source) => return Err(OpenError::storage("read", &name, source)),
        }
    }
    Ok(None)
}

fn read_checkpoint<T: File>(
    file: Arc<T>,
    salt: Salt,
    number: u64,
    length: u64,
) -> io::Result<Option<Base>> {
    let mut scanner = Scanner::new(file, salt, HEADER_BYTES as u64, length);
    let mut begin = None;
    let mut bad = Vec::new();
    let mut state = State::default();
    let mut parts = 0;
    loop {
        let frame = match scanner.next()? {
            Step::Frame(frame) => frame,
            Step::Bad { offset, bytes } if begin.is_none() => {
                bad.push((offset, bytes));
                continue;
            }
            Step::Bad { .. } | Step::End => return Ok(None),
        };
        let payload = scanner.payload(&frame);
        match frame.kind {
            FrameKind::Predecessor => {}
            FrameKind::CheckpointBegin if begin.is_none() => match Begin::decode(payload) {
                Ok(read) => begin = Some(read),
                Err(_) => return Ok(None),
            },
            FrameKind::CheckpointPart => {
                if !apply_part(&mut state, payload) {
                    return Ok(None);
                }
                parts += 1;
            }
            FrameKind::CheckpointEnd => {
                let end = End::decode(payload).ok().filter(|end| end.parts == parts);
                let (Some(begin), Some(end)) = (begin, end) else { return Ok(None) };
                let offset = frame.end();
                let proven = offset + end.group_bytes;
                let group = end.group;
                return Ok(Some(Base { number, begin, state, offset, proven, group, bad }));
            }
            FrameKind::CheckpointBegin
            | FrameKind::Transaction
            | FrameKind::Commit
            | FrameKind::Footer
            | FrameKind::Spilled => return Ok(None),
        }
    }
}

fn apply_part(state: &mut State, payload: &[u8]) -> bool {
    let mut ops = Ops::new(payload);
    loop {
        match ops.next() {
            Ok(Some(op)) => state.apply(&op),
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}

/// Returns the list of live segments in the newest segment whose list can be read.
pub(crate) fn newest_list<F: FileSystem>(
    files: &F,
    inventory: &Inventory,
) -> Result<Option<(u64, Begin)>, OpenError> {
    for (&number, segment) in inventory.segments.iter().rev() {
        let name = format::segment_name(number);
        let start = read_start(files, inventory.epoch, number, segment);
        let start = start.map_err(|source| OpenError::storage("read", &name, source))?;
        if let Some(begin) = start.begin {
            return Ok(Some((number, begin)));
        }
    }
    Ok(None)
}

/// The frames before the state of a checkpoint.
#[derive(Debug, Default)]
pub(crate) struct SegmentStart {
    pub(crate) predecessor: Option<Predecessor>,
    pub(crate) begin: Option<Begin>,
}

/// Reads what a segment says about those before it.
pub(crate) fn read_start<F: FileSystem>(
    files: &F,
    epoch: u64,
    number: u64,
    segment: &SegmentFile,
) -> io::Result<SegmentStart> {
    let file = Arc::new(files.open(&format::segment_name(number))?);
    let salt = Salt::new(epoch, number);
    let mut scanner = Scanner::new(file, salt, HEADER_BYTES as u64, segment.length);
    let mut start = SegmentStart::default();
    loop {
        let frame = match scanner.next()? {
            Step::Frame(frame) => frame,
            Step::Bad { .. } => continue,
            Step::End => return Ok(start),
        };
        match frame.kind {
            FrameKind::Predecessor => {
                start.predecessor = Predecessor::decode(scanner.payload(&frame)).ok();
            }
            FrameKind::CheckpointBegin => {
                start.begin = Begin::decode(scanner.payload(&frame)).ok();
                return Ok(start);
            }
            FrameKind::CheckpointPart
            | FrameKind::CheckpointEnd
            | FrameKind::Transaction
            | FrameKind::Commit
            | FrameKind::Footer
            | FrameKind::Spilled => return Ok(start),
        }
    }
}

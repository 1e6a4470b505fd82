//! Where the newest segment ends.
//!
//! After the last commit record the log is cut at the first bytes that are no frame: they were
//! never acknowledged. Before it everything whole is kept, for what is bad there was changed after
//! it had been acknowledged.
//!
//! One case is in between. The last group may not have been synced although its commit record
//! reached the disk, with pages before it still missing. Then a frame is bad because a block of it
//! was never written and reads as zeros; the log is cut there, as if the commit record were missing
//! too, so that a power cut leaves a prefix of what was written. Any later frame, or the mark of an
//! orderly stop, proves that the group was synced; the first group of a segment was synced before the
//! segment got its name. In what is proven nothing is cut.

use std::io;
use std::sync::Arc;

use crate::file_system::File;
use crate::format::{CommitMark, FrameKind, HEADER_BYTES, Salt};
use crate::scanner::{Scanner, Step};

/// The smallest unit that storage writes or does not write.
const BLOCK_BYTES: u64 = 512;

/// Where a segment that was being written ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    /// What is beyond does not count.
    pub(crate) length: u64,
    /// From here on it is not certain that a sync has covered the segment.
    pub(crate) unproven: u64,
}

/// Finds the end of a segment; `proven` bytes of it are known to have been synced.
pub(crate) fn find_end<T: File>(
    file: &Arc<T>,
    salt: Salt,
    file_length: u64,
    proven: u64,
) -> io::Result<End> {
    let survey = Survey::take(file, salt, file_length)?;
    if let Some(group) = survey.last_group
        && group.end == survey.frames_end
        && group.end > proven
    {
        for &(offset, bytes) in &survey.bad {
            let (start, end) = (offset.max(group.start), offset + bytes);
            if start < group.end && has_unwritten_block(&**file, start, end, group.start)? {
                return Ok(End { length: start, unproven: group.start });
            }
        }
    }
    let committed = survey.committed_end.max(proven);
    let cut = survey.bad.iter().find(|&&(offset, bytes)| offset + bytes > committed);
    let cut = cut.map(|&(offset, bytes)| (offset.max(committed), bytes));
    Ok(End {
        length: cut.map_or(file_length, |(offset, _)| offset),
        unproven: survey.last_group.map_or(survey.committed_end, |group| group.start),
    })
}

#[derive(Clone, Copy, Debug)]
struct GroupExtent {
    start: u64,
    /// After its commit record.
    end: u64,
}

#[derive(Debug, Default)]
struct Survey {
    /// Offset and size of what is no frame, merged and in order.
    bad: Vec<(u64, u64)>,
    last_group: Option<GroupExtent>,
    /// After the last frame that was written only when all before it was synced.
    committed_end: u64,
    /// After the last whole frame.
    frames_end: u64,
}

impl Survey {
    fn take<T: File>(file: &Arc<T>, salt: Salt, file_length: u64) -> io::Result<Self> {
        let start = HEADER_BYTES as u64;
        let mut survey = Self { committed_end: start, frames_end: start, ..Self::default() };
        let mut scanner = Scanner::new(Arc::clone(file), salt, start, file_length);
        loop {
            match scanner.next()? {
                Step::End => return Ok(survey),
                Step::Bad { offset, bytes } => survey.add_bad(offset, bytes),
                Step::Frame(frame) => {
                    survey.frames_end = frame.end();
                    match frame.kind {
                        FrameKind::Commit => {
                            let mark = CommitMark::decode(scanner.payload(&frame)).ok();
                            let bytes = mark.map_or(0, |mark| mark.bytes);
                            let start = frame.offset.saturating_sub(bytes);
                            survey.last_group = Some(GroupExtent { start, end: frame.end() });
                            survey.committed_end = frame.end();
                        }
                        FrameKind::CheckpointEnd | FrameKind::Footer => {
                            survey.committed_end = frame.end();
                        }
                        FrameKind::Transaction
                        | FrameKind::Predecessor
                        | FrameKind::CheckpointBegin
                        | FrameKind::CheckpointPart
                        | FrameKind::Spilled => {}
                    }
                }
            }
        }
    }

    fn add_bad(&mut self, offset: u64, bytes: u64) {
        match self.bad.last_mut() {
            Some((last, length)) if *last + *length == offset => *length += bytes,
            _ => self.bad.push((offset, bytes)),
        }
    }
}

/// Returns whether a block that `start..end` touches holds zeros only, from `group_start` on.
fn has_unwritten_block<T: File>(
    file: &T,
    start: u64,
    end: u64,
    group_start: u64,
) -> io::Result<bool> {
    let mut block = start - start % BLOCK_BYTES;
    while block < end {
        let from = block.max(group_start);
        let mut bytes = [0; BLOCK_BYTES as usize];
        let read = file.read_at(from, &mut bytes[..(block + BLOCK_BYTES - from) as usize])?;
        if bytes[..read].iter().all(|&byte| byte == 0) {
            return Ok(true);
        }
        block += BLOCK_BYTES;
    }
    Ok(false)
}

/// Returns whether a stretch of a file holds zeros only.
pub(crate) fn is_zero<T: File>(file: &T, start: u64, end: u64) -> io::Result<bool> {
    let mut buffer = vec![0; 64 << 10];
    let mut offset = start;
    while offset < end {
        let size = (end - offset).min(buffer.len() as u64) as usize;
        let read = file.read_at(offset, &mut buffer[..size])?;
        if buffer[..read].iter().any(|&byte| byte != 0) {
            return Ok(false);
        }
        if read < size {
            break;
        }
        offset += size as u64;
    }
    Ok(true)
}

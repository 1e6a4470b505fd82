//! The segment that is being written.

use std::io;
use std::sync::Arc;

use super::group::Group;
use crate::file_system::{File, FileSystem};
use crate::format::{
    self, Begin, End, FrameKind, HEADER_BYTES, Salt, SegmentEntry, SegmentHeader, UNFINISHED_SUFFIX,
};
use crate::small_file;
use crate::state::State;
use crate::summary::{Predecessor, Summary};

/// How much of a new segment is gathered before it is written.
const WRITE_BYTES: usize = 256 << 10;

/// The segment that groups are appended to.
#[derive(Debug)]
pub(crate) struct ActiveSegment<T> {
    file: Arc<T>,
    salt: Salt,
    number: u64,
    /// Up to where the segment was written.
    written: u64,
    /// Up to where it is durable.
    synced: u64,
    /// Its durable records.
    summary: Summary,
}

impl<T: File> ActiveSegment<T> {
    /// Goes on with a segment that recovery found whole and has synced.
    pub(crate) fn resume(
        file: Arc<T>,
        salt: Salt,
        number: u64,
        length: u64,
        summary: Summary,
    ) -> Self {
        Self { file, salt, number, written: length, synced: length, summary }
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Returns what readers and later segments are told, up to what is durable.
    pub(crate) fn entry(&self) -> SegmentEntry {
        SegmentEntry {
            number: self.number,
            length: self.synced,
            footer: None,
            records: self.summary.records,
            first_seq: self.summary.first_seq,
            last_seq: self.summary.last_seq,
        }
    }

    /// Hands the part of the group that was not yet written to the operating system.
    ///
    /// After an error the file may hold part of it beyond [`written`](Self::written).
    pub(crate) fn write(&mut self, group: &mut Group) -> io::Result<u64> {
        let frames = group.unwritten();
        let bytes = frames.len() as u64;
        format::stamp_frames(frames, self.salt, self.written);
        self.file.write_at(self.written, frames)?;
        group.set_written();
        self.written += bytes;
        Ok(bytes)
    }

    /// Makes all that was written durable; its records are now those of the segment.
    pub(crate) fn sync(&mut self, group: &Group) -> io::Result<()> {
        self.file.sync_data()?;
        self.synced = self.written;
        group.add_to(&mut self.summary);
        Ok(())
    }

    /// Takes back what a failed write may have left.
    pub(crate) fn cut_back(&self) -> io::Result<()> {
        self.file.truncate(self.written)
    }

    /// Ends the segment with its footer.
    pub(crate) fn seal(&mut self) -> io::Result<SegmentEntry> {
        let mut footer = Vec::new();
        format::write_frame(&mut footer, FrameKind::Footer, |buffer| self.summary.encode(buffer));
        format::stamp_frames(&mut footer, self.salt, self.synced);
        self.file.write_at(self.synced, &footer)?;
        self.file.sync_data()?;
        let footer_offset = self.synced;
        self.written += footer.len() as u64;
        self.synced = self.written;
        Ok(SegmentEntry { footer: Some(footer_offset), ..self.entry() })
    }

    pub(crate) fn into_predecessor(self) -> Predecessor {
        Predecessor { number: self.number, summary: self.summary }
    }
}

/// What a new segment starts with.
pub(crate) struct SegmentStart<'a> {
    pub(crate) header: SegmentHeader,
    pub(crate) predecessor: Option<&'a Predecessor>,
    pub(crate) begin: &'a Begin,
    pub(crate) state: &'a State,
}

/// A new segment that is durable.
pub(crate) struct Started<T> {
    pub(crate) segment: ActiveSegment<T>,
    pub(crate) bytes_written: u64,
    pub(crate) checkpoint_bytes: u64,
}

impl SegmentStart<'_> {
    /// Makes a new segment durable that holds the state, and the group as its first commit.
    ///
    /// It appears under its name only when it is whole, so the state, which the group has already
    /// changed, and the group's records become durable in one step.
    pub(crate) fn write<F: FileSystem>(
        &self,
        files: &F,
        group: &mut Group,
    ) -> io::Result<Started<F::File>> {
        let name = format::segment_name(self.header.number);
        let unfinished = format!("{name}{UNFINISHED_SUFFIX}");
        let started = self.write_unfinished(files, &unfinished, group).and_then(|started| {
            files.rename(&unfinished, &name)?;
            files.sync_directory()?;
            Ok(started)
        });
        if started.is_err() {
            // What stays behind is not listed by any later segment and is removed by recovery.
            let _ = files.remove(&unfinished);
            let _ = files.remove(&name);
        }
        started
    }

    fn write_unfinished<F: FileSystem>(
        &self,
        files: &F,
        unfinished: &str,
        group: &mut Group,
    ) -> io::Result<Started<F::File>> {
        let file = Arc::new(small_file::create_anew(files, unfinished)?);
        let salt = Salt::new(self.header.epoch, self.header.number);
        let mut image = Image { file: &*file, salt, buffer: Vec::new(), written: 0 };
        image.write_header(self.header)?;
        if let Some(predecessor) = self.predecessor {
            image.frame(FrameKind::Predecessor, |buffer| predecessor.encode(buffer))?;
        }
        image.frame(FrameKind::CheckpointBegin, |buffer| self.begin.encode(buffer))?;
        let before = group.positions_before();
        let parts = self.state.write_parts(before, |frames| image.frames(frames))?;
        let group_bytes = group.bytes() as u64;
        let end = End { parts, group_bytes, group: group.mark().clone() };
        image.frame(FrameKind::CheckpointEnd, |buffer| end.encode(buffer))?;
        let checkpoint_bytes = image.length();
        image.frames(group.all())?;
        let length = image.finish()?;
        file.sync_data()?;
        group.set_written();
        let mut summary = Summary::default();
        group.add_to(&mut summary);
        let number = self.header.number;
        let segment = ActiveSegment::resume(file, salt, number, length, summary);
        Ok(Started { segment, bytes_written: length, checkpoint_bytes })
    }
}

/// Writes frames one after the other, in large pieces.
struct Image<'f, T> {
    file: &'f T,
    salt: Salt,
    buffer: Vec<u8>,
    written: u64,
}

impl<T: File> Image<'_, T> {
    fn write_header(&mut self, header: SegmentHeader) -> io::Result<()> {
        self.file.write_at(0, &header.encode())?;
        self.written = HEADER_BYTES as u64;
        Ok(())
    }

    fn length(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    fn frame(&mut self, kind: FrameKind, write: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let (start, offset) = (self.buffer.len(), self.length());
        format::write_frame(&mut self.buffer, kind, write);
        format::stamp_frames(&mut self.buffer[start..], self.salt, offset);
        self.pass_on_if_large()
    }

    fn frames(&mut self, frames: &mut [u8]) -> io::Result<()> {
        format::stamp_frames(frames, self.salt, self.length());
        self.buffer.extend_from_slice(frames);
        self.pass_on_if_large()
    }

    fn pass_on_if_large(&mut self) -> io::Result<()> {
        if self.buffer.len() < WRITE_BYTES { Ok(()) } else { self.pass_on() }
    }

    fn pass_on(&mut self) -> io::Result<()> {
        self.file.write_at(self.written, &self.buffer)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn finish(mut self) -> io::Result<u64> {
        if !self.buffer.is_empty() {
            self.pass_on()?;
        }
        Ok(self.written)
    }
}

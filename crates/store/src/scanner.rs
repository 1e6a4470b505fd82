//! Walking over the frames of a segment, and over what damage has left of them.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use memchr::memmem;

use crate::file_system::File;
use crate::format::{FRAME_HEADER_BYTES, FrameHeader, FrameKind, MARKER, Salt};

/// How much is read at once.
const CHUNK_BYTES: usize = 256 << 10;

/// What stands at the place that was reached.
#[derive(Debug)]
pub(crate) enum Step {
    /// A whole frame.
    Frame(Frame),
    /// Bytes that are no frame, up to the next one.
    Bad { offset: u64, bytes: u64 },
    /// Nothing more.
    End,
}

/// A frame whose checksums were right; its payload is lent by the scanner until the next step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame {
    pub(crate) kind: FrameKind,
    /// Where the frame starts in the file.
    pub(crate) offset: u64,
    /// Where the payload stands in the chunk.
    start: usize,
    length: usize,
}

impl Frame {
    /// Returns the offset after the frame.
    pub(crate) fn end(&self) -> u64 {
        self.offset + (FRAME_HEADER_BYTES + self.length) as u64
    }
}

/// Reads a file in large pieces and yields its frames.
#[derive(Debug)]
pub(crate) struct Scanner<T> {
    file: Arc<T>,
    salt: Salt,
    /// The place that was reached.
    offset: u64,
    /// Where to stop.
    end: u64,
    chunk: Bytes,
    chunk_offset: u64,
}

impl<T: File> Scanner<T> {
    pub(crate) fn new(file: Arc<T>, salt: Salt, offset: u64, end: u64) -> Self {
        Self { file, salt, offset, end, chunk: Bytes::new(), chunk_offset: offset }
    }

    /// Returns where the scanner stops.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// Moves the end, after more was appended.
    pub(crate) fn set_end(&mut self, end: u64) {
        self.end = end;
    }

    /// Returns the payload of the frame that the last step yielded.
    #[inline]
    pub(crate) fn payload(&self, frame: &Frame) -> &[u8] {
        &self.chunk[frame.start..frame.start + frame.length]
    }

    /// Returns part of a payload without copying it. It keeps the whole piece that was read alive.
    #[inline]
    pub(crate) fn share(&self, part: &[u8]) -> Bytes {
        self.chunk.slice_ref(part)
    }

    /// Goes one frame on, or one stretch of damage.
    #[inline]
    pub(crate) fn next(&mut self) -> io::Result<Step> {
        let offset = self.offset;
        let left = self.end.saturating_sub(offset);
        if left == 0 {
            return Ok(Step::End);
        }
        if left < FRAME_HEADER_BYTES as u64 {
            return Ok(self.bad_until(self.end));
        }
        self.fill(FRAME_HEADER_BYTES)?;
        let Some(header) = FrameHeader::read(self.salt, offset, self.ahead()) else {
            let next = self.find_header(offset + 1)?;
            return Ok(self.bad_until(next));
        };
        let frame_bytes = FRAME_HEADER_BYTES + header.length;
        if left < frame_bytes as u64 {
            return Ok(self.bad_until(self.end));
        }
        self.fill(frame_bytes)?;
        let start = (offset - self.chunk_offset) as usize + FRAME_HEADER_BYTES;
        let frame = Frame { kind: header.kind, offset, start, length: header.length };
        if !header.matches(self.payload(&frame)) {
            return Ok(self.bad_until(offset + frame_bytes as u64));
        }
        self.offset += frame_bytes as u64;
        Ok(Step::Frame(frame))
    }

    fn bad_until(&mut self, end: u64) -> Step {
        let offset = std::mem::replace(&mut self.offset, end);
        Step::Bad { offset, bytes: end - offset }
    }

    /// Returns the bytes that were read from the place that was reached on.
    #[inline]
    fn ahead(&self) -> &[u8] {
        &self.chunk[(self.offset - self.chunk_offset) as usize..]
    }

    /// Makes sure that `bytes` from the place that was reached on are in the chunk.
    #[inline]
    fn fill(&mut self, bytes: usize) -> io::Result<()> {
        let needed = self.offset + bytes as u64;
        if self.offset >= self.chunk_offset && needed <= self.chunk_offset + self.chunk.len() as u64
        {
            return Ok(());
        }
        self.read_chunk(self.offset, bytes)
    }

    /// Reads a piece of at least `bytes`, unless the end is nearer.
    ///
    /// What the file does not have is zeros, which are no frame.
    #[cold]
    fn read_chunk(&mut self, offset: u64, bytes: usize) -> io::Result<()> {
        let left = usize::try_from(self.end - offset).unwrap_or(usize::MAX);
        let size = bytes.max(CHUNK_BYTES).min(left);
        let mut buffer = match std::mem::take(&mut self.chunk).try_into_mut() {
            Ok(mut reused) => {
                reused.clear();
                reused.resize(size, 0);
                reused
            }
            Err(_shared) => BytesMut::zeroed(size),
        };
        self.chunk_offset = offset;
        self.file.read_at(offset, &mut buffer)?;
        self.chunk = buffer.freeze();
        Ok(())
    }

    /// Returns the offset of the first whole header from `from` on, or the end.
    fn find_header(&mut self, from: u64) -> io::Result<u64> {
        let finder = memmem::Finder::new(&MARKER);
        let mut from = from;
        while from + (FRAME_HEADER_BYTES as u64) <= self.end {
            self.read_chunk(from, FRAME_HEADER_BYTES)?;
            for at in finder.find_iter(&self.chunk) {
                let offset = from + at as u64;
                if FrameHeader::read(self.salt, offset, &self.chunk[at..]).is_some() {
                    return Ok(offset);
                }
            }
            // A header that the end of the piece cuts is looked at again at the start of the next.
            let step = (self.chunk.len() + 1).saturating_sub(FRAME_HEADER_BYTES).max(1);
            from += step as u64;
        }
        Ok(self.end)
    }
}

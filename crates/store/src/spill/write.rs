//! Copying a taker's records out of the segments.

use std::io::{self, Write};

use flate2::{Compression, write::ZlibEncoder};

use super::file::{BLOCK_BYTES, BlockHead, SpillEntry, put_item, salt};
use crate::catalog::Catalog;
use crate::file_system::{File, FileSystem};
use crate::format::{self, FrameKind, Salt, UNFINISHED_SUFFIX};
use crate::position::{Position, Seq, TakerId};
use crate::reader::Item;
use crate::small_file;

/// Records read at a time.
const RECORDS: usize = 1_024;

/// It was asked to stop before the file was whole; nothing was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped;

impl<F: FileSystem> Catalog<F> {
    /// Copies what `taker` has after `after` and up to the record `until` into a spill file, which is durable
    /// when this returns. `None` if there is nothing.
    ///
    /// The records must be durable and stay in the journal meanwhile, and no other copy of this taker may be under
    /// way. `should_stop` is asked once for each
    /// block of about 256 KiB.
    ///
    /// # Errors
    ///
    /// The storage failed; what was written is removed, or else by
    /// [`remove_spills_except`](Self::remove_spills_except).
    pub fn spill(
        &self,
        taker: TakerId,
        after: Position,
        until: Seq,
        should_stop: impl Fn() -> bool,
    ) -> io::Result<Result<Option<SpillEntry>, Stopped>> {
        // No two begin at the same place, so that one that is about to be removed is never taken for another.
        let number = after.seq.next().get();
        let name = format::spill_name(taker, number);
        let unfinished = format!("{name}{UNFINISHED_SUFFIX}");
        let files = self.files();
        let file = small_file::create_anew(files, &unfinished)?;
        let mut target = Target::new(file, salt(self.epoch(), taker, number), after);
        let made = self.copy(taker, until, &mut target, should_stop).and_then(|copied| {
            let Ok(()) = copied else { return Ok(Err(Stopped)) };
            if target.last == after {
                return Ok(Ok(None));
            }
            target.file.sync_data()?;
            files.rename(&unfinished, &name)?;
            files.sync_directory().inspect_err(|_| drop(files.remove(&name)))?;
            Ok(Ok(Some(target.entry(number, after))))
        });
        if !matches!(made, Ok(Ok(Some(_)))) {
            // Gone already if it had its name.
            let _ = files.remove(&unfinished);
        }
        made
    }

    fn copy(
        &self,
        taker: TakerId,
        until: Seq,
        target: &mut Target<F::File>,
        should_stop: impl Fn() -> bool,
    ) -> io::Result<Result<(), Stopped>> {
        let mut reader = self.reader(taker, target.last);
        loop {
            if should_stop() {
                return Ok(Err(Stopped));
            }
            let items = reader.next_block(RECORDS, BLOCK_BYTES)?;
            let is_end = items.is_empty();
            for item in items {
                let last = match &item {
                    Item::Record { seq, .. } => *seq,
                    Item::Damaged { position, .. } => position.seq,
                };
                if last > until {
                    target.end_block()?;
                    return Ok(Ok(()));
                }
                target.push(&item)?;
            }
            if is_end {
                target.end_block()?;
                return Ok(Ok(()));
            }
        }
    }
}

/// A spill file that is being written.
struct Target<T> {
    file: T,
    salt: Salt,
    /// Up to where it is written.
    length: u64,
    /// The items of the block that is being filled.
    block: Vec<u8>,
    /// The position before them.
    block_after: Position,
    last: Position,
    records: u64,
    bytes: u64,
}

impl<T: File> Target<T> {
    fn new(file: T, salt: Salt, after: Position) -> Self {
        Self {
            file,
            salt,
            length: 0,
            block: Vec::new(),
            block_after: after,
            last: after,
            records: 0,
            bytes: 0,
        }
    }

    fn push(&mut self, item: &Item) -> io::Result<()> {
        if let Item::Record { ordinal, body, .. } = item {
            debug_assert_eq!(*ordinal, self.last.ordinal + 1, "readers tell what is missing");
            self.records += 1;
            self.bytes += body.len() as u64;
        }
        put_item(&mut self.block, &mut self.last, item);
        if self.block.len() < BLOCK_BYTES { Ok(()) } else { self.end_block() }
    }

    /// Writes the block that is being filled, if there is anything in it.
    fn end_block(&mut self) -> io::Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        let head = BlockHead { after: self.block_after, last: self.last, plain: self.block.len() };
        let mut frame = Vec::with_capacity(self.block.len() / 4);
        let start = format::open_frame(&mut frame);
        head.put(&mut frame);
        let mut encoder = ZlibEncoder::new(frame, Compression::fast());
        encoder.write_all(&self.block)?;
        let mut frame = encoder.finish()?;
        format::seal_frame(&mut frame, start, FrameKind::Spilled);
        format::stamp_frames(&mut frame, self.salt, self.length);
        self.file.write_at(self.length, &frame)?;
        self.length += frame.len() as u64;
        self.block.clear();
        self.block_after = self.last;
        Ok(())
    }

    fn entry(&self, number: u64, after: Position) -> SpillEntry {
        SpillEntry {
            number,
            after,
            last: self.last,
            records: self.records,
            bytes: self.bytes,
            length: self.length,
        }
    }
}

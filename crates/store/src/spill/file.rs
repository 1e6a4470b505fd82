//! The layout of a spill file, and what is known of one.
//!
//! A file is a row of frames of one kind, each with a block of items: the positions before and after them,
//! the size of what follows before compression, and that, compressed with zlib. An item is a record (the
//! distance of its number from the one before it, its body) or a loss (how many, and the range of numbers
//! they may have).

use std::io::{self, Read};
use std::sync::Arc;

use bytes::Bytes;
use flate2::bufread::ZlibDecoder;

use crate::file_system::FileSystem;
use crate::format::{self, FrameKind, Salt};
use crate::input::{Input, Malformed, put_varint};
use crate::position::{Position, Seq, TakerId};
use crate::reader::Item;
use crate::scanner::{Scanner, Step};
use crate::transaction::BODY_BYTES_MAX;

/// A block is closed when its items have so many bytes.
pub(super) const BLOCK_BYTES: usize = 256 << 10;
/// No block is larger than this; what claims to be is damage.
const BLOCK_BYTES_MAX: usize = BLOCK_BYTES + BODY_BYTES_MAX + 64;

const VERSION: u8 = 1;
const RECORD: u8 = 0;
const LOSS: u8 = 1;

/// What is to be kept of a spill file, so that it can be read and counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpillEntry {
    /// Its number, that of the first record which it may hold.
    pub number: u64,
    /// The position before its first item.
    pub after: Position,
    /// The position of its last item.
    pub last: Position,
    /// How many records it holds.
    pub records: u64,
    /// The size of their bodies.
    pub bytes: u64,
    /// How large the file is.
    pub length: u64,
}

/// The bytes are no entry of a spill file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the entry of a spill file is malformed")]
pub struct SpillError;

impl SpillEntry {
    /// Returns how many records were found lost when it was written.
    #[must_use]
    pub fn damaged(&self) -> u64 {
        self.last.ordinal - self.after.ordinal - self.records
    }

    /// Writes it down.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        put_position(&mut bytes, self.after);
        put_position(&mut bytes, self.last);
        for number in [self.number, self.records, self.bytes, self.length] {
            put_varint(&mut bytes, number);
        }
        bytes
    }

    /// Reads what [`encode`](Self::encode) has written.
    ///
    /// # Errors
    ///
    /// [`SpillError`] if it has not.
    pub fn decode(bytes: &[u8]) -> Result<Self, SpillError> {
        let read = || {
            let mut input = Input::new(bytes);
            if input.u8()? != VERSION {
                return Err(Malformed);
            }
            let (after, last) = (read_position(&mut input)?, read_position(&mut input)?);
            let entry = Self {
                number: input.varint()?,
                after,
                last,
                records: input.varint()?,
                bytes: input.varint()?,
                length: input.varint()?,
            };
            let ordinals = last.ordinal.checked_sub(after.ordinal).ok_or(Malformed)?;
            let is_right = input.is_empty() && entry.records <= ordinals && after.seq <= last.seq;
            if is_right { Ok(entry) } else { Err(Malformed) }
        };
        read().map_err(|Malformed| SpillError)
    }
}

pub(super) fn salt(epoch: u64, taker: TakerId, number: u64) -> Salt {
    // Not that of any segment, whose numbers are small.
    Salt::new(epoch.rotate_left(32) ^ u64::from(taker.get()), !number)
}

/// Adds an item to a block; `last` is the position before it, and moves.
pub(super) fn put_item(block: &mut Vec<u8>, last: &mut Position, item: &Item) {
    match item {
        Item::Record { seq, ordinal, body } => {
            block.push(RECORD);
            put_varint(block, seq.get() - last.seq.get());
            put_varint(block, body.len() as u64);
            block.extend_from_slice(body);
            *last = Position { seq: *seq, ordinal: *ordinal };
        }
        Item::Damaged { first_seq, last_seq, records, position } => {
            block.push(LOSS);
            put_varint(block, *records);
            for seq in [first_seq, last_seq, &position.seq] {
                put_varint(block, seq.get());
            }
            *last = *position;
        }
    }
}

/// The head of a block, before what is compressed.
#[derive(Clone, Copy, Debug)]
pub(super) struct BlockHead {
    pub(super) after: Position,
    pub(super) last: Position,
    /// The size of the items before compression.
    pub(super) plain: usize,
}

impl BlockHead {
    pub(super) fn put(&self, buffer: &mut Vec<u8>) {
        put_position(buffer, self.after);
        put_position(buffer, self.last);
        put_varint(buffer, self.plain as u64);
    }

    fn read(input: &mut Input<'_>) -> Result<Self, Malformed> {
        let (after, last) = (read_position(input)?, read_position(input)?);
        let plain = usize::try_from(input.varint()?).map_err(|_| Malformed)?;
        let head = Self { after, last, plain };
        if plain <= BLOCK_BYTES_MAX { Ok(head) } else { Err(Malformed) }
    }
}

/// Yields the items of one spill file after a position.
#[derive(Debug)]
pub(super) struct SpillReader<F: FileSystem> {
    entry: SpillEntry,
    /// `None` if the file is not there.
    scanner: Option<Scanner<F::File>>,
    /// The last item that was yielded.
    position: Position,
}

impl<F: FileSystem> SpillReader<F> {
    pub(super) fn open(
        files: &F,
        epoch: u64,
        taker: TakerId,
        entry: SpillEntry,
        after: Position,
    ) -> io::Result<Self> {
        let file = match files.open(&format::spill_name(taker, entry.number)) {
            Ok(file) => Some(Arc::new(file)),
            // It is told as lost, unless it was passed in the meantime.
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let salt = salt(epoch, taker, entry.number);
        let scanner = file.map(|file| Scanner::new(file, salt, 0, entry.length));
        Ok(Self { entry, scanner, position: after })
    }

    pub(super) fn number(&self) -> u64 {
        self.entry.number
    }

    /// Returns the items of the next block, those before the position left out; empty at the end.
    pub(super) fn next(&mut self) -> io::Result<Vec<Item>> {
        while let Some(scanner) = &mut self.scanner {
            let frame = match scanner.next()? {
                Step::End => break,
                Step::Bad { .. } => continue,
                Step::Frame(frame) => frame,
            };
            if frame.kind != FrameKind::Spilled {
                continue;
            }
            let mut items = Vec::new();
            // What is malformed is missing, which the positions tell.
            let _ = read_block(scanner.payload(&frame), &mut self.position, &mut items);
            if !items.is_empty() {
                return Ok(items);
            }
        }
        let last = self.entry.last;
        let lost = (last.ordinal > self.position.ordinal).then(|| loss(self.position, last));
        self.position = self.position.max(last);
        Ok(lost.into_iter().collect())
    }
}

fn loss(before: Position, last: Position) -> Item {
    Item::Damaged {
        first_seq: before.seq.next(),
        last_seq: last.seq,
        records: last.ordinal - before.ordinal,
        position: last,
    }
}

fn read_block(
    payload: &[u8],
    position: &mut Position,
    items: &mut Vec<Item>,
) -> Result<(), Malformed> {
    let mut input = Input::new(payload);
    let head = BlockHead::read(&mut input)?;
    if head.last.ordinal <= position.ordinal {
        return Ok(());
    }
    let compressed = input.take(input.len() as u64)?;
    let mut plain = Vec::with_capacity(head.plain);
    let mut decoder = ZlibDecoder::new(compressed).take(head.plain as u64 + 1);
    decoder.read_to_end(&mut plain).map_err(|_| Malformed)?;
    if plain.len() != head.plain {
        return Err(Malformed);
    }
    if head.after.ordinal > position.ordinal {
        items.push(loss(*position, head.after));
        *position = head.after;
    }
    let plain = Bytes::from(plain);
    let mut input = Input::new(&plain);
    let mut at = head.after;
    while !input.is_empty() {
        let item = read_item(&mut input, &mut at, &plain)?;
        if at.ordinal > position.ordinal {
            *position = at;
            items.push(item);
        }
    }
    Ok(())
}

fn read_item(input: &mut Input<'_>, at: &mut Position, plain: &Bytes) -> Result<Item, Malformed> {
    match input.u8()? {
        RECORD => {
            let seq = at.seq.get().checked_add(input.varint()?).map(Seq::new).ok_or(Malformed)?;
            let ordinal = at.ordinal + 1;
            let body = plain.slice_ref(input.bytes()?);
            *at = Position { seq, ordinal };
            Ok(Item::Record { seq, ordinal, body })
        }
        LOSS => {
            let records = input.varint()?;
            let [first_seq, last_seq, seq] =
                [input.varint()?, input.varint()?, input.varint()?].map(Seq::new);
            let ordinal = at.ordinal.checked_add(records).ok_or(Malformed)?;
            *at = Position { seq, ordinal };
            Ok(Item::Damaged { first_seq, last_seq, records, position: *at })
        }
        _ => Err(Malformed),
    }
}

fn put_position(buffer: &mut Vec<u8>, position: Position) {
    put_varint(buffer, position.seq.get());
    put_varint(buffer, position.ordinal);
}

fn read_position(input: &mut Input<'_>) -> Result<Position, Malformed> {
    Ok(Position { seq: Seq::new(input.varint()?), ordinal: input.varint()? })
}

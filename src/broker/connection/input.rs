//! Bytes that were read: in memory that the connections of an event loop share, so that idle ones hold none.

use std::{cell::Cell, ops::Deref};

use bytes::BytesMut;

/// More than this is not kept for the next connection.
const SPARE_BYTES_MAX: usize = 64 << 10;

thread_local! {
    /// What the connection that has read last needs no more.
    static SPARE: Cell<BytesMut> = Cell::default();
}

/// What was read and is not yet a packet.
#[derive(Debug, Default)]
pub(super) struct Input {
    bytes: BytesMut,
    /// Whether the memory is the thread's.
    is_borrowed: bool,
}

impl Input {
    /// Returns what was read, to be read into and taken from; with the thread's memory if there was nothing.
    pub(super) fn buffer(&mut self) -> &mut BytesMut {
        if self.bytes.capacity() == 0 {
            self.bytes = SPARE.take();
            self.is_borrowed = true;
        }
        &mut self.bytes
    }

    /// Gives memory back that is the thread's; what is not yet a packet moves to memory of its own.
    pub(super) fn give_back(&mut self) {
        let rest = if self.bytes.is_empty() {
            BytesMut::new()
        } else if self.is_borrowed {
            BytesMut::from(&self.bytes[..])
        } else {
            return;
        };
        let mut old = std::mem::replace(&mut self.bytes, rest);
        if std::mem::take(&mut self.is_borrowed) && old.capacity() <= SPARE_BYTES_MAX {
            old.clear();
            SPARE.set(old);
        }
    }
}

impl Deref for Input {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_holds_no_memory_and_what_is_cut_is_kept() {
        let (mut ours, mut other) = (Input::default(), Input::default());
        ours.buffer().extend_from_slice(&[7; 1_000]);
        let memory = ours.as_ptr();
        let _packet = ours.buffer().split_to(990);
        drop(_packet);
        ours.give_back();
        assert_eq!(ours[..], [7; 10]);
        assert!(ours.bytes.capacity() < 100, "a cut packet takes what it needs");
        other.buffer().reserve(1_000);
        assert_eq!(other.as_ptr(), memory, "the other reads where the first did");
        other.give_back();
        assert_eq!(other.bytes.capacity(), 0);
        ours.buffer().extend_from_slice(&[8; 5]);
        ours.give_back();
        assert_eq!(ours.len(), 15);
    }
}

//! Datagrams on their way to the socket.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::Peer;

/// One datagram for one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Where it goes.
    pub peer: Peer,
    /// Its bytes.
    pub bytes: Bytes,
}

/// Datagrams in the order in which they are to be sent; belongs to the driver, who empties it.
///
/// Holds at most `capacity`; what comes then is dropped and counted, as the network would do it.
#[derive(Debug)]
pub struct Output {
    datagrams: VecDeque<Datagram>,
    capacity: usize,
    dropped: u64,
}

impl Output {
    /// Makes an output that holds at most `capacity` datagrams.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { datagrams: VecDeque::new(), capacity, dropped: 0 }
    }

    /// Takes the next datagram out.
    pub fn pop(&mut self) -> Option<Datagram> {
        self.datagrams.pop_front()
    }

    /// Returns whether one more datagram can be held.
    pub fn has_room(&self) -> bool {
        self.datagrams.len() < self.capacity
    }

    /// Returns how many datagrams were dropped because the output was full.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    pub(crate) fn push(&mut self, peer: Peer, bytes: Bytes) {
        if self.has_room() {
            self.datagrams.push_back(Datagram { peer, bytes });
        } else {
            self.dropped += 1;
        }
    }
}

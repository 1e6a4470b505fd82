//! Requests that were seen: those that await their answer, and the answers kept for repetitions.

use std::time::Instant;

use bytes::Bytes;

use crate::{Code, Peer, request::Controls};

mod table;

#[cfg(test)]
pub(crate) use table::ENTRY_BYTES;
pub(crate) use table::{Evicted, ExchangeTable};

/// One request of one peer: its address, message ID (RFC 7252, section 4.4) and request key.
///
/// The request key is a checksum of the whole datagram. A repetition is the same datagram again (section 4.2);
/// another one under the same message ID comes from a peer that has begun to count anew, and is no repetition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExchangeId {
    pub(crate) message: MessageKey,
    pub(crate) request_key: u32,
}

/// What a peer promises not to use twice within the lifetime of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct MessageKey {
    pub(crate) peer: Peer,
    pub(crate) message_id: u16,
}

impl ExchangeId {
    /// Puts together what [`peer`](Self::peer), [`message_id`](Self::message_id) and
    /// [`request_key`](Self::request_key) have said.
    pub fn new(peer: Peer, message_id: u16, request_key: u32) -> Self {
        Self { message: MessageKey { peer, message_id }, request_key }
    }

    /// Names the request in a datagram.
    pub(crate) fn of(peer: Peer, message_id: u16, datagram: &[u8]) -> Self {
        Self::new(peer, message_id, crc32c::crc32c(datagram))
    }

    /// Returns who sent the request.
    pub fn peer(&self) -> Peer {
        self.message.peer
    }

    /// Returns its message ID.
    pub fn message_id(&self) -> u16 {
        self.message.message_id
    }

    /// Returns the checksum of its datagram.
    pub fn request_key(&self) -> u32 {
        self.request_key
    }
}

/// A token: up to 8 bytes, returned unchanged.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Token {
    bytes: [u8; 8],
    length: u8,
}

impl Token {
    /// Takes the token of a message whose format is right.
    pub(crate) fn new(token: &[u8]) -> Self {
        let mut bytes = [0; 8];
        bytes[..token.len()].copy_from_slice(token);
        Self { bytes, length: u8::try_from(token.len()).expect("at most 8 bytes") }
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

/// A request that awaits its answer.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) token: Token,
    pub(crate) confirmable: bool,
    pub(crate) controls: Controls,
    /// When the Empty acknowledgement is due, unless it was sent or is not wanted.
    pub(crate) ack_due: Option<Instant>,
}

/// What repetitions of an answered request get.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    /// Nothing: they are ignored.
    Nothing,
    /// The same bytes again.
    Bytes(Bytes),
    /// An answer without body, made anew: the request was answered before a restart.
    Recalled(Code),
}

impl Answer {
    fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Nothing | Self::Recalled(_) => 0,
        }
    }
}

/// What is known of a request.
#[derive(Debug)]
pub(crate) enum Seen<'a> {
    Never,
    /// Its peer used the message ID for another request before, which was answered and is forgotten now.
    Renumbered,
    /// It awaits its answer.
    Open(&'a mut Exchange),
    /// It was answered.
    Answered(Answer),
    /// Another request under the same message ID awaits its answer: there is no telling their answers apart.
    Clash,
}

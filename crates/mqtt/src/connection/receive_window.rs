//! Messages of the client that are in flight towards us (MQTT 5.0, section 4.9).

use std::{collections::BTreeMap, num::NonZeroU16};

use crate::{PacketId, ProtocolError};

/// How many times the receive maximum a client may have in flight that does not know it.
pub(super) const UNTOLD_FACTOR: u16 = 64;

/// Whose step is next in the delivery of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// We owe PUBACK, PUBREC or PUBCOMP.
    Ours,
    /// The client owes PUBREL.
    Theirs,
}

/// The packet identifiers whose delivery has begun on this connection and is not done.
#[derive(Debug)]
pub(super) struct ReceiveWindow {
    maximum: NonZeroU16,
    open: BTreeMap<PacketId, Next>,
}

impl ReceiveWindow {
    pub(super) fn new(maximum: NonZeroU16) -> Self {
        Self { maximum, open: BTreeMap::new() }
    }

    pub(super) fn is_full(&self) -> bool {
        self.open.len() >= usize::from(self.maximum.get())
    }

    /// Returns whether a place becomes free without anything that the client still has to send.
    pub(super) fn frees_itself(&self) -> bool {
        self.open.values().any(|&next| next == Next::Ours)
    }

    /// Begins a delivery, or repeats one.
    ///
    /// # Errors
    ///
    /// If the client begins more deliveries than the receive maximum allows (MQTT-3.3.4-7).
    pub(super) fn begin(&mut self, packet_id: PacketId) -> Result<(), ProtocolError> {
        if self.is_full() && !self.open.contains_key(&packet_id) {
            return Err(ProtocolError::ReceiveMaximum { limit: self.maximum.get() });
        }
        self.open.insert(packet_id, Next::Ours);
        Ok(())
    }

    /// As [`begin`](Self::begin), for a client of MQTT 3.1.1: it cannot be told of a maximum, so it may send many
    /// messages of QoS 2 before it releases the first.
    ///
    /// # Errors
    ///
    /// If it releases none of [`UNTOLD_FACTOR`] times as many.
    pub(super) fn begin_untold(&mut self, packet_id: PacketId) -> Result<(), ProtocolError> {
        let limit = self.maximum.get().saturating_mul(UNTOLD_FACTOR);
        if self.open.len() >= usize::from(limit) && !self.open.contains_key(&packet_id) {
            return Err(ProtocolError::ReceiveMaximum { limit });
        }
        self.open.insert(packet_id, Next::Ours);
        Ok(())
    }

    /// Notes that PUBREC has been sent.
    pub(super) fn received(&mut self, packet_id: PacketId) {
        if let Some(next) = self.open.get_mut(&packet_id) {
            *next = Next::Theirs;
        }
    }

    /// Notes that PUBREL has arrived.
    pub(super) fn released(&mut self, packet_id: PacketId) {
        if let Some(next) = self.open.get_mut(&packet_id) {
            *next = Next::Ours;
        }
    }

    /// Ends a delivery.
    pub(super) fn end(&mut self, packet_id: PacketId) {
        self.open.remove(&packet_id);
    }
}

//! What is on its way to the far side, and what is awaited for each.

use std::collections::{BTreeMap, VecDeque};

use crate::PacketId;

/// What comes next for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awaits {
    /// PUBACK.
    Acknowledgement,
    /// PUBREC.
    Record,
    /// PUBCOMP.
    Completion,
}

/// Messages without their last answer, each under a token of its sender.
#[derive(Debug)]
pub(super) struct Flights {
    /// By packet identifier.
    sure: BTreeMap<PacketId, (u64, Awaits)>,
    /// QoS 0: those that no PINGREQ follows yet.
    unsure: VecDeque<u64>,
    /// QoS 0: those before the PINGREQ that is under way.
    covered: VecDeque<u64>,
    last: u16,
    window: u16,
}

impl Flights {
    pub(super) fn new(window: u16) -> Self {
        let (unsure, covered) = (VecDeque::new(), VecDeque::new());
        Self { sure: BTreeMap::new(), unsure, covered, last: 0, window }
    }

    pub(super) fn len(&self) -> usize {
        self.sure.len() + self.unsure.len() + self.covered.len()
    }

    /// Takes a message with QoS 1 or 2 in, under an identifier that is free; `None` if there is none.
    pub(super) fn begin(&mut self, token: u64, awaits: Awaits) -> Option<PacketId> {
        let after = (self.last + 1..=self.window).chain(1..=self.last);
        let mut free = after.filter_map(PacketId::new).filter(|id| !self.sure.contains_key(id));
        let id = free.next()?;
        self.last = id.as_u16();
        self.sure.insert(id, (token, awaits));
        Some(id)
    }

    /// Takes a message with QoS 0 in.
    pub(super) fn begin_unsure(&mut self, token: u64) {
        self.unsure.push_back(token);
    }

    /// Returns what is awaited under an identifier.
    pub(super) fn awaits(&self, id: PacketId) -> Option<Awaits> {
        self.sure.get(&id).map(|(_, awaits)| *awaits)
    }

    /// Awaits the next answer under an identifier.
    pub(super) fn step(&mut self, id: PacketId, awaits: Awaits) {
        if let Some(flight) = self.sure.get_mut(&id) {
            flight.1 = awaits;
        }
    }

    /// Ends what is under an identifier.
    pub(super) fn end(&mut self, id: PacketId) -> Option<u64> {
        self.sure.remove(&id).map(|(token, _)| token)
    }

    /// Returns whether a PINGREQ would tell of something.
    pub(super) fn has_unsure(&self) -> bool {
        !self.unsure.is_empty()
    }

    /// Takes notice that a PINGREQ follows all that was sent.
    pub(super) fn cover(&mut self) {
        self.covered.append(&mut self.unsure);
    }

    /// Ends what that PINGREQ followed.
    pub(super) fn end_covered(&mut self) -> impl Iterator<Item = u64> {
        std::mem::take(&mut self.covered).into_iter()
    }
}

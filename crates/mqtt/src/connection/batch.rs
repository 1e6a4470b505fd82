//! What a client has sent, in order.

use crate::packet::{Ack, Auth, Connect, Disconnect, Publish, Subscribe, Unsubscribe};

/// A packet that the broker has to act on. PINGREQ is answered before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientPacket {
    /// Always the first; answer with [`accept`](super::Connection::accept),
    /// [`reject`](super::Connection::reject) or, if it names an authentication method,
    /// [`challenge`](super::Connection::challenge).
    Connect(Box<Connect>),
    /// A message; its topic is known, its place in the receive window is taken.
    Publish(Publish),
    /// The client has taken a message of QoS 1.
    PubAck(Ack),
    /// The client has taken a message of QoS 2.
    PubRec(Ack),
    /// The client releases a message of QoS 2.
    PubRel(Ack),
    /// The client has released a message of QoS 2.
    PubComp(Ack),
    /// Answer with [`suback`](super::Connection::suback).
    Subscribe(Subscribe),
    /// Answer with [`unsuback`](super::Connection::unsuback).
    Unsubscribe(Unsubscribe),
    /// The next step of the authentication that CONNECT began, or the first of another with the same method;
    /// answer with [`challenge`](super::Connection::challenge), or with the end: before CONNACK
    /// [`accept`](super::Connection::accept) or [`reject`](super::Connection::reject), later
    /// [`reauthenticated`](super::Connection::reauthenticated) or [`close`](super::Connection::close).
    Auth(Box<Auth>),
    /// Always the last. Without it the will is due.
    Disconnect(Disconnect),
}

impl ClientPacket {
    /// Returns how many small pieces of memory the packet takes, about.
    fn parts(&self) -> usize {
        1 + match self {
            Self::Connect(connect) => connect.user.len(),
            Self::Publish(publish) => {
                publish.properties.as_ref().map_or(0, |properties| properties.user.len())
            }
            Self::Subscribe(subscribe) => subscribe.subscriptions.len() + subscribe.user.len(),
            Self::Unsubscribe(unsubscribe) => unsubscribe.keys.len() + unsubscribe.user.len(),
            Self::PubAck(ack) | Self::PubRec(ack) | Self::PubRel(ack) | Self::PubComp(ack) => {
                ack.explanation.as_ref().map_or(0, |explanation| explanation.user.len())
            }
            Self::Auth(auth) => {
                auth.explanation.as_ref().map_or(0, |explanation| explanation.user.len())
            }
            Self::Disconnect(_) => 0,
        }
    }
}

/// Packets of one call: at most [`PACKETS_MAX`](Self::PACKETS_MAX), fewer if they have many parts.
///
/// On the wire an empty message takes five bytes and a filter four, in memory many times that. A flood
/// of them is taken in portions.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct PacketBatch {
    packets: Vec<ClientPacket>,
    /// Packets, filters and user properties together.
    parts: usize,
}

/// What a small message takes on the wire.
const TYPICAL_BYTES: usize = 64;

impl PacketBatch {
    /// Most packets in one batch.
    pub const PACKETS_MAX: usize = 128;

    /// Makes a batch with room for the packets that `bytes` of input may be.
    pub(super) fn for_input(bytes: usize) -> Self {
        let packets = (bytes / TYPICAL_BYTES + 1).min(Self::PACKETS_MAX / 4);
        Self { packets: Vec::with_capacity(packets), parts: 0 }
    }

    /// Returns whether there is no packet.
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Returns how many packets there are.
    pub fn len(&self) -> usize {
        self.packets.len()
    }

    /// Returns the packets in order.
    pub fn iter(&self) -> std::slice::Iter<'_, ClientPacket> {
        self.packets.iter()
    }

    pub(super) fn is_full(&self) -> bool {
        self.parts >= Self::PACKETS_MAX
    }

    #[inline]
    pub(super) fn push(&mut self, packet: ClientPacket) {
        debug_assert!(!self.is_full());
        self.parts += packet.parts();
        self.packets.push(packet);
    }
}

impl IntoIterator for PacketBatch {
    type Item = ClientPacket;
    type IntoIter = std::vec::IntoIter<ClientPacket>;

    fn into_iter(self) -> Self::IntoIter {
        self.packets.into_iter()
    }
}

impl<'a> IntoIterator for &'a PacketBatch {
    type Item = &'a ClientPacket;
    type IntoIter = std::slice::Iter<'a, ClientPacket>;

    fn into_iter(self) -> Self::IntoIter {
        self.packets.iter()
    }
}

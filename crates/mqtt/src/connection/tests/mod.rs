//! The state machine of the server's side, driven as a client and a broker would.

mod aliases;
mod authentication;
mod close;
mod flow;
mod handshake;
mod send;
mod timing;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Buf, BytesMut};

use super::{ClientPacket, Connection};
use crate::{
    Limits, Output, ProtocolVersion, Settings,
    packet::{ConnAck, Connect, Delivery, Packet, PublishPacket},
    testing::{encoded, packet_id, topic},
};

pub(super) const V5: ProtocolVersion = ProtocolVersion::V5;
pub(super) const V311: ProtocolVersion = ProtocolVersion::V311;

/// A connection with what its driver owns, at a time of its own.
pub(super) struct Rig {
    pub(super) connection: Connection,
    pub(super) input: BytesMut,
    pub(super) output: Output,
    pub(super) now: Instant,
    version: ProtocolVersion,
}

impl Rig {
    pub(super) fn new(version: ProtocolVersion) -> Self {
        Self::with(Settings::default(), version)
    }

    pub(super) fn with(settings: Settings, version: ProtocolVersion) -> Self {
        let now = start();
        Self {
            connection: Connection::new(now, Arc::new(settings)),
            input: BytesMut::new(),
            output: Output::with_limit(64 * 1024),
            now,
            version,
        }
    }

    /// An accepted connection whose CONNACK has been taken.
    pub(super) fn connected(version: ProtocolVersion) -> Self {
        Self::connected_with(Settings::default(), Connect::new(version))
    }

    pub(super) fn connected_with(settings: Settings, connect: Connect) -> Self {
        let mut rig = Self::with(settings, connect.version);
        let batch = rig.send(&[Packet::Connect(Box::new(connect))]);
        assert!(matches!(batch[..], [ClientPacket::Connect(_)]), "{batch:?}");
        assert!(rig.accept(&ConnAck::accepted(false)));
        assert!(matches!(rig.heard()[..], [Packet::ConnAck(_)]));
        rig
    }

    pub(super) fn accept(&mut self, connack: &ConnAck) -> bool {
        self.connection.accept(self.now, connack, &mut self.output)
    }

    /// Lets the client send packets, and returns what reaches the broker.
    pub(super) fn send(&mut self, packets: &[Packet]) -> Vec<ClientPacket> {
        for packet in packets {
            self.input.extend_from_slice(&encoded(packet, self.version));
        }
        self.handle()
    }

    /// Lets the client send bytes, and returns what reaches the broker.
    pub(super) fn send_bytes(&mut self, bytes: &[u8]) -> Vec<ClientPacket> {
        self.input.extend_from_slice(bytes);
        self.handle()
    }

    /// Handles the input until nothing more comes out of it.
    pub(super) fn handle(&mut self) -> Vec<ClientPacket> {
        let mut packets = Vec::new();
        loop {
            let batch = self.connection.handle_input(self.now, &mut self.input, &mut self.output);
            if batch.is_empty() {
                return packets;
            }
            packets.extend(batch);
        }
    }

    /// Takes what the client hears as packets.
    pub(super) fn heard(&mut self) -> Vec<Packet> {
        let mut wire = BytesMut::from(&self.heard_bytes()[..]);
        let mut packets = Vec::new();
        while let Some(packet) = Packet::split_off(&mut wire, self.version, &Limits::default())
            .expect("the server keeps to the protocol")
        {
            packets.push(packet);
        }
        assert!(wire.is_empty(), "half a packet: {wire:02X?}");
        packets
    }

    /// Takes what the client hears.
    pub(super) fn heard_bytes(&mut self) -> Vec<u8> {
        let bytes = self.output.len();
        self.output.copy_to_bytes(bytes).to_vec()
    }

    /// Lets time pass, and the connection act on it.
    pub(super) fn wait(&mut self, time: Duration) {
        self.now += time;
        self.connection.handle_timeout(self.now, &mut self.output);
    }
}

/// A point in time to count from.
#[expect(
    clippy::disallowed_methods,
    reason = "an `Instant` has no other source; only differences count"
)]
fn start() -> Instant {
    Instant::now()
}

pub(super) fn publish(delivery: Delivery) -> Packet {
    Packet::Publish(PublishPacket { delivery, ..PublishPacket::new(topic("t"), "x".into()) })
}

pub(super) fn qos1(id: u16) -> Packet {
    publish(Delivery::AtLeastOnce { packet_id: packet_id(id), dup: false })
}

pub(super) fn qos2(id: u16) -> Packet {
    publish(Delivery::ExactlyOnce { packet_id: packet_id(id), dup: false })
}

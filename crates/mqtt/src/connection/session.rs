//! An accepted client: what it has said of itself, and what it may send.

use std::{
    num::{NonZeroU16, NonZeroU32},
    time::Instant,
};

use tidegate_model::Topic;

use super::{
    authentication::Authentication, batch::ClientPacket, keep_alive::KeepAlive,
    outgoing_aliases::OutgoingAliases, receive_window::ReceiveWindow, topic_aliases::TopicAliases,
};
use crate::{
    ProtocolError, ProtocolVersion, SessionExpiry,
    packet::{Connect, Disconnect, Packet, PacketType, Publish, PublishPacket},
    property::Property,
};

/// What the client has said of itself and the connection must know.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) dialect: Dialect,
    pub(super) keep_alive_s: u16,
    pub(super) receive_maximum: NonZeroU16,
    /// Most topic aliases that the client takes.
    pub(super) topic_alias_maximum: u16,
    pub(super) session_expiry: SessionExpiry,
}

/// What the client understands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dialect {
    pub(super) version: ProtocolVersion,
    /// The largest packet that the client takes.
    pub(super) packet_bytes_max: usize,
}

impl Terms {
    pub(super) fn of(connect: &Connect) -> Self {
        let packet_bytes_max = connect.maximum_packet_size.map_or(u32::MAX, NonZeroU32::get);
        Self {
            dialect: Dialect {
                version: connect.version,
                packet_bytes_max: packet_bytes_max as usize,
            },
            keep_alive_s: connect.keep_alive_s,
            receive_maximum: connect.receive_maximum,
            topic_alias_maximum: connect.topic_alias_maximum,
            session_expiry: connect.session_expiry,
        }
    }

    /// Checks a good-bye against what the client has said of its session.
    pub(super) fn check_disconnect(&self, disconnect: &Disconnect) -> Result<(), ProtocolError> {
        if disconnect.server_reference.is_some() {
            return Err(ProtocolError::ServerProperty { property: Property::ServerReference });
        }
        // MQTT 5.0, section 3.14.2.2.2.
        let prolongs = disconnect.session_expiry.is_some_and(|it| it != SessionExpiry::AT_CLOSE);
        if prolongs && self.session_expiry == SessionExpiry::AT_CLOSE {
            return Err(ProtocolError::SessionExpiry);
        }
        Ok(())
    }
}

/// The state of an accepted connection.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) terms: Terms,
    pub(super) keep_alive: KeepAlive,
    pub(super) window: ReceiveWindow,
    /// Those that the client has set.
    pub(super) aliases: TopicAliases,
    /// The topic of the last message: devices report on few.
    pub(super) last_topic: Option<Topic>,
    /// Those that we have set.
    pub(super) outgoing: OutgoingAliases,
    /// What goes on with a client that named an authentication method in CONNECT.
    pub(super) authentication: Option<Authentication>,
    /// The broker takes no packets for now.
    pub(super) is_paused: bool,
    /// The next packet waits for a place in the window, which our own acknowledgement will free.
    pub(super) is_blocked: bool,
}

impl Session {
    /// Checks that a client may send this type of packet now.
    pub(super) fn expects(&self, packet: PacketType) -> Result<(), ProtocolError> {
        match packet {
            // MQTT-3.1.0-2.
            PacketType::Connect => Err(ProtocolError::SecondConnect),
            PacketType::ConnAck
            | PacketType::SubAck
            | PacketType::UnsubAck
            | PacketType::PingResp => Err(ProtocolError::NotForServers { packet }),
            // MQTT-4.12.0-7: only after an authentication method in CONNECT.
            PacketType::Auth if self.authentication.is_none() => {
                Err(ProtocolError::NotForServers { packet })
            }
            _ => Ok(()),
        }
    }

    /// Returns whether a PUBLISH has to wait until we have acknowledged another.
    ///
    /// MQTT 3.1.1 has no words for a receive maximum, so its clients cannot be blamed. But a window full
    /// of messages that only the client can release would never open again.
    pub(super) fn must_wait(&self, first_byte: u8) -> bool {
        self.terms.dialect.version == ProtocolVersion::V311
            && first_byte & 0b0110 != 0
            && self.window.is_full()
            && self.window.frees_itself()
    }

    /// Returns until when the client must go on with its re-authentication, if one is under way.
    #[inline]
    pub(super) fn auth_deadline(&self) -> Option<Instant> {
        self.authentication.as_ref()?.deadline()
    }

    pub(super) fn take(&mut self, packet: Packet) -> Result<ClientPacket, ProtocolError> {
        Ok(match packet {
            Packet::Publish(publish) => ClientPacket::Publish(self.take_publish(publish)?),
            Packet::PubAck(ack) => ClientPacket::PubAck(ack),
            Packet::PubRec(ack) => ClientPacket::PubRec(ack),
            Packet::PubRel(ack) => {
                self.window.released(ack.packet_id);
                ClientPacket::PubRel(ack)
            }
            Packet::PubComp(ack) => ClientPacket::PubComp(ack),
            Packet::Subscribe(subscribe) => ClientPacket::Subscribe(subscribe),
            Packet::Unsubscribe(unsubscribe) => ClientPacket::Unsubscribe(unsubscribe),
            Packet::Disconnect(disconnect) => {
                self.terms.check_disconnect(&disconnect)?;
                ClientPacket::Disconnect(disconnect)
            }
            Packet::Auth(auth) => {
                let authentication = self.authentication.as_mut();
                let packet = PacketType::Auth;
                authentication.ok_or(ProtocolError::NotForServers { packet })?.take(&auth)?;
                ClientPacket::Auth(auth)
            }
            other => {
                return Err(ProtocolError::NotForServers { packet: other.packet_type() });
            }
        })
    }

    #[inline]
    fn take_publish(&mut self, publish: PublishPacket) -> Result<Publish, ProtocolError> {
        if !publish.subscription_ids.is_empty() {
            // MQTT-3.3.4-6.
            let property = Property::SubscriptionIdentifier;
            return Err(ProtocolError::ServerProperty { property });
        }
        let topic = self.aliases.resolve(publish.topic, publish.topic_alias)?;
        if self.last_topic.as_ref().is_none_or(|last| !last.is_same(&topic)) {
            self.last_topic = Some(topic.clone());
        }
        if let Some(packet_id) = publish.delivery.packet_id() {
            match self.terms.dialect.version {
                ProtocolVersion::V5 => self.window.begin(packet_id)?,
                ProtocolVersion::V311 => self.window.begin_untold(packet_id)?,
            }
        }
        Ok(Publish {
            topic,
            payload: publish.payload,
            delivery: publish.delivery,
            retain: publish.retain,
            message_expiry_s: publish.message_expiry_s,
            properties: publish.properties,
        })
    }
}

//! PUBLISH: a message on a topic (MQTT 5.0, section 3.3).

use std::{num::NonZeroU16, sync::Arc, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use tidegate_model::{Properties, Qos, Timestamp, Topic};

use super::message_properties::{self, MessageProperties};
use crate::{
    EncodeError, PacketId, ProtocolError, ProtocolVersion, SubscriptionId, property::Property,
    reader::Reader, writer,
};

/// How a message is handed over, with the packet identifier where one is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// QoS 0.
    AtMostOnce,
    /// QoS 1.
    AtLeastOnce {
        /// Names the exchange.
        packet_id: PacketId,
        /// Whether this may be a repetition.
        dup: bool,
    },
    /// QoS 2.
    ExactlyOnce {
        /// Names the exchange.
        packet_id: PacketId,
        /// Whether this may be a repetition.
        dup: bool,
    },
}

impl Delivery {
    /// Returns the quality of service.
    #[inline]
    pub const fn qos(self) -> Qos {
        match self {
            Self::AtMostOnce => Qos::AtMostOnce,
            Self::AtLeastOnce { .. } => Qos::AtLeastOnce,
            Self::ExactlyOnce { .. } => Qos::ExactlyOnce,
        }
    }

    /// Returns the packet identifier; QoS 0 has none.
    #[inline]
    pub const fn packet_id(self) -> Option<PacketId> {
        match self {
            Self::AtMostOnce => None,
            Self::AtLeastOnce { packet_id, .. } | Self::ExactlyOnce { packet_id, .. } => {
                Some(packet_id)
            }
        }
    }

    /// Returns whether this may be a repetition.
    #[inline]
    pub const fn is_dup(self) -> bool {
        match self {
            Self::AtMostOnce => false,
            Self::AtLeastOnce { dup, .. } | Self::ExactlyOnce { dup, .. } => dup,
        }
    }
}

/// A message from a client, its topic alias resolved.
///
/// The payload of a packet of 16 KiB or more shares the buffer into which it was read, with all that was read along
/// with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// Where it is published.
    pub topic: Topic,
    /// What it says.
    pub payload: Bytes,
    /// QoS, packet identifier, DUP.
    pub delivery: Delivery,
    /// Whether it becomes the retained message of its topic.
    pub retain: bool,
    /// Life of the message in seconds, counted from now.
    pub message_expiry_s: Option<u32>,
    /// What else is said; `expires` is always `None` here. `None` if nothing is.
    pub properties: Option<Box<Properties>>,
}

impl Publish {
    /// Takes the properties as the model has them, with the expiry counted from `arrival`.
    pub fn take_properties(
        &mut self,
        arrival: impl FnOnce() -> Timestamp,
    ) -> Option<Arc<Properties>> {
        let expires = self
            .message_expiry_s
            .map(|seconds| arrival().saturating_add(Duration::from_secs(seconds.into())));
        let properties = self.properties.take();
        if expires.is_none() && properties.is_none() {
            return None;
        }
        let properties = properties.map_or_else(Properties::default, |boxed| *boxed);
        Some(Arc::new(Properties { expires, ..properties }))
    }
}

/// PUBLISH as it stands on the wire, in either direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishPacket {
    /// Where it is published; `None` if only the alias says so.
    pub topic: Option<Topic>,
    /// A number that stands for the topic.
    pub topic_alias: Option<NonZeroU16>,
    /// What it says.
    pub payload: Bytes,
    /// QoS, packet identifier, DUP.
    pub delivery: Delivery,
    /// Whether it is or becomes a retained message.
    pub retain: bool,
    /// Remaining life of the message in seconds.
    pub message_expiry_s: Option<u32>,
    /// The subscriptions to which it is sent; only from a server.
    pub subscription_ids: Vec<SubscriptionId>,
    /// What else is said; `expires` is always `None` here.
    pub properties: Option<Box<Properties>>,
}

impl PublishPacket {
    /// Returns the plainest PUBLISH: QoS 0, not retained, no properties.
    pub fn new(topic: Topic, payload: Bytes) -> Self {
        Self {
            topic: Some(topic),
            topic_alias: None,
            payload,
            delivery: Delivery::AtMostOnce,
            retain: false,
            message_expiry_s: None,
            subscription_ids: Vec::new(),
            properties: None,
        }
    }
}

impl PublishPacket {
    pub(super) fn decode(flags: u8, reader: &mut Reader<'_>) -> Result<Self, ProtocolError> {
        let (dup, retain) = (flags & 0b1000 != 0, flags & 1 != 0);
        let qos = Qos::from_bits(flags >> 1 & 0b11).ok_or(ProtocolError::Qos)?;
        let topic = reader.topic()?;
        let delivery = match qos {
            Qos::AtMostOnce if dup => return Err(ProtocolError::DupAtQos0),
            Qos::AtMostOnce => Delivery::AtMostOnce,
            Qos::AtLeastOnce => Delivery::AtLeastOnce { packet_id: reader.packet_id()?, dup },
            Qos::ExactlyOnce => Delivery::ExactlyOnce { packet_id: reader.packet_id()?, dup },
        };
        let mut message = MessageProperties::default();
        let (mut topic_alias, mut subscription_ids) = (None, Vec::new());
        let mut list = reader.properties()?;
        while let Some(property) = list.next()? {
            match property {
                Property::TopicAlias => {
                    let alias = NonZeroU16::new(list.u16()?);
                    topic_alias =
                        Some(alias.ok_or(ProtocolError::TopicAlias { alias: 0, limit: u16::MAX })?);
                }
                Property::SubscriptionIdentifier => subscription_ids.push(list.subscription_id()?),
                _ => message.take(property, &mut list)?,
            }
        }
        if topic.is_none() && topic_alias.is_none() {
            return Err(ProtocolError::NoTopic);
        }
        Ok(Self {
            topic,
            topic_alias,
            payload: reader.rest(),
            delivery,
            retain,
            message_expiry_s: message.expiry_s,
            subscription_ids,
            properties: message.properties,
        })
    }

    /// Returns the flags of the fixed header.
    pub(super) fn flags(&self) -> u8 {
        flags(self.delivery, self.retain)
    }

    pub(super) fn encode(
        &self,
        version: ProtocolVersion,
        body: &mut BytesMut,
    ) -> Result<(), EncodeError> {
        writer::field(body, self.topic.as_ref().map_or("", Topic::as_str).as_bytes())?;
        if let Some(packet_id) = self.delivery.packet_id() {
            body.put_u16(packet_id.as_u16());
        }
        if version == ProtocolVersion::V5 {
            writer::properties(body, |list| {
                list.u16(Property::TopicAlias, self.topic_alias.map(NonZeroU16::get));
                list.u32(Property::MessageExpiryInterval, self.message_expiry_s);
                for id in &self.subscription_ids {
                    list.varint(Property::SubscriptionIdentifier, id.as_u32());
                }
                self.properties.as_ref().map_or(Ok(()), |it| message_properties::write(it, list))
            })?;
        }
        body.put_slice(&self.payload);
        Ok(())
    }
}

/// Returns the flags of the fixed header (MQTT 5.0, section 3.3.1).
#[inline]
pub(crate) fn flags(delivery: Delivery, retain: bool) -> u8 {
    u8::from(delivery.is_dup()) << 3 | delivery.qos().bits() << 1 | u8::from(retain)
}

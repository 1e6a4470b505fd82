//! A message encoded once for all who get it.

use std::num::NonZeroU16;

use bytes::{BufMut, Bytes, BytesMut};
use tidegate_model::{Properties, Topic};

use crate::{
    EncodeError, Output, ProtocolVersion, SubscriptionId,
    packet::{Delivery, PacketType, message_properties, publish_flags},
    property::Property,
    varint,
    writer::PropertyWriter,
};

/// The properties of MQTT 5.0 that do not change between the deliveries of a message, encoded, without their length.
#[derive(Clone, Debug, Default)]
pub struct EncodedProperties(Bytes);

/// Those of a message that has none.
pub static NO_PROPERTIES: EncodedProperties = EncodedProperties(Bytes::new());

impl EncodedProperties {
    /// Encodes them. `expires` is not among them: see [`Outgoing::message_expiry_s`].
    ///
    /// # Errors
    ///
    /// If a property has no place on the wire, see [`EncodeError`]. Messages that came over MQTT have no
    /// such property.
    pub fn new(properties: &Properties) -> Result<Self, EncodeError> {
        let mut encoded = BytesMut::new();
        message_properties::write(properties, &mut PropertyWriter::new(&mut encoded))?;
        Ok(Self(encoded.freeze()))
    }
}

/// What all subscribers of a message get alike, in either version and at any QoS.
///
/// Each delivery writes its few own bytes and refers to the payload, unless that is small enough to copy.
#[derive(Clone, Copy, Debug)]
pub struct PublishFrame<'m> {
    pub(crate) topic: &'m Topic,
    payload: &'m Bytes,
    properties: &'m EncodedProperties,
}

/// How a PUBLISH says on which topic it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Naming {
    /// By the topic.
    Whole,
    /// By the topic, which gets an alias.
    WithAlias(NonZeroU16),
    /// By the alias alone.
    ByAlias(NonZeroU16),
}

impl Naming {
    #[inline]
    fn alias(self) -> Option<NonZeroU16> {
        match self {
            Self::Whole => None,
            Self::WithAlias(alias) | Self::ByAlias(alias) => Some(alias),
        }
    }
}

/// What differs between the deliveries of one message.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// QoS, packet identifier, DUP.
    pub delivery: Delivery,
    /// Whether RETAIN is set.
    pub retain: bool,
    /// The identifiers of the subscriptions that match; MQTT 5.0 only.
    pub subscription_ids: &'a [SubscriptionId],
    /// What remains of the message's life, in seconds; MQTT 5.0 only.
    pub message_expiry_s: Option<u32>,
}

impl Outgoing<'_> {
    /// Returns a delivery with nothing special about it.
    pub const fn new(delivery: Delivery) -> Self {
        Self { delivery, retain: false, subscription_ids: &[], message_expiry_s: None }
    }
}

impl<'m> PublishFrame<'m> {
    /// Takes the parts of a message.
    #[inline]
    pub fn new(topic: &'m Topic, payload: &'m Bytes, properties: &'m EncodedProperties) -> Self {
        Self { topic, payload, properties }
    }

    /// Returns how many bytes a delivery takes on the wire, without a topic alias.
    pub fn wire_bytes(&self, version: ProtocolVersion, outgoing: &Outgoing<'_>) -> usize {
        let body = self.lengths(version, outgoing, Naming::Whole).body;
        1 + varint::len(u32::try_from(body).unwrap_or(u32::MAX)) + body
    }

    /// Returns what stands in the place of the topic.
    #[inline]
    fn named(&self, naming: Naming) -> &str {
        match naming {
            Naming::ByAlias(_) => "",
            Naming::Whole | Naming::WithAlias(_) => self.topic.as_str(),
        }
    }

    #[inline]
    fn lengths(
        &self,
        version: ProtocolVersion,
        outgoing: &Outgoing<'_>,
        naming: Naming,
    ) -> Lengths {
        let packet_id = if outgoing.delivery.packet_id().is_some() { 2 } else { 0 };
        let plain = 2 + self.named(naming).len() + packet_id + self.payload.len();
        if version == ProtocolVersion::V311 {
            return Lengths { body: plain, properties: 0 };
        }
        let expiry = if outgoing.message_expiry_s.is_some() { 5 } else { 0 };
        let ids: usize =
            outgoing.subscription_ids.iter().map(|id| 1 + varint::len(id.as_u32())).sum();
        let alias = if naming.alias().is_some() { 3 } else { 0 };
        let properties = self.properties.0.len() + alias + expiry + ids;
        let length = varint::len(u32::try_from(properties).unwrap_or(u32::MAX));
        Lengths { body: plain + length + properties, properties }
    }

    /// Appends one delivery to `output`, unless it is larger than `bytes_max` or than any packet may be;
    /// returns whether it did.
    #[inline]
    pub(crate) fn write(
        &self,
        version: ProtocolVersion,
        outgoing: &Outgoing<'_>,
        naming: Naming,
        bytes_max: usize,
        output: &mut Output,
    ) -> bool {
        let lengths = self.lengths(version, outgoing, naming);
        let Some(body) = u32::try_from(lengths.body).ok().filter(|&body| body <= varint::MAX)
        else {
            return false;
        };
        if 1 + varint::len(body) + lengths.body > bytes_max {
            return false;
        }
        let tail = output.tail_with_room(5 + lengths.body - self.payload.len());
        let flags = publish_flags(outgoing.delivery, outgoing.retain);
        tail.put_u8(PacketType::Publish.first_byte() | flags);
        put_varint(tail, body);
        let topic = self.named(naming);
        tail.put_u16(topic.len() as u16);
        tail.put_slice(topic.as_bytes());
        if let Some(packet_id) = outgoing.delivery.packet_id() {
            tail.put_u16(packet_id.as_u16());
        }
        if version == ProtocolVersion::V5 {
            put_varint(tail, lengths.properties as u32);
            let mut list = PropertyWriter::new(tail);
            list.u16(Property::TopicAlias, naming.alias().map(NonZeroU16::get));
            list.u32(Property::MessageExpiryInterval, outgoing.message_expiry_s);
            for id in outgoing.subscription_ids {
                list.varint(Property::SubscriptionIdentifier, id.as_u32());
            }
            output.put_shared(&self.properties.0);
        }
        output.put_shared(self.payload);
        true
    }
}

/// Lengths of the variable parts of one delivery.
#[derive(Clone, Copy, Debug)]
struct Lengths {
    /// All behind the fixed header.
    body: usize,
    /// The properties without their length.
    properties: usize,
}

#[inline]
fn put_varint(output: &mut BytesMut, number: u32) {
    let (bytes, count) = varint::encode(number);
    output.put_slice(&bytes[..count]);
}

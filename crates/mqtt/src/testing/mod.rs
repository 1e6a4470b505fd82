//! What the tests of this crate share: packets of every kind, and short ways to read and write them.

mod strategies;

use bytes::BytesMut;
use tidegate_model::{Topic, TopicFilter};

pub(crate) use self::strategies::{any_packet, any_publish, any_version};
use crate::{
    Limits, PacketId, ProtocolError, ProtocolVersion,
    packet::{Packet, PublishPacket, SubscriptionKey},
};

/// Returns a packet as it stands on the wire.
pub(crate) fn encoded(packet: &Packet, version: ProtocolVersion) -> BytesMut {
    let mut wire = BytesMut::new();
    packet.encode(version, &mut wire).unwrap();
    wire
}

/// Reads exactly one packet within the default limits.
pub(crate) fn decoded(wire: &[u8], version: ProtocolVersion) -> Result<Packet, ProtocolError> {
    decoded_within(&Limits::default(), wire, version)
}

/// Reads exactly one packet.
pub(crate) fn decoded_within(
    limits: &Limits,
    wire: &[u8],
    version: ProtocolVersion,
) -> Result<Packet, ProtocolError> {
    let mut input = BytesMut::from(wire);
    let packet = Packet::split_off(&mut input, version, limits)?;
    assert!(input.is_empty(), "{} bytes are left of {wire:02X?}", input.len());
    Ok(packet.unwrap_or_else(|| panic!("{wire:02X?} is incomplete")))
}

/// Returns a packet with its fixed header, whose length is counted here.
pub(crate) fn framed(first: u8, body: &[u8]) -> Vec<u8> {
    let (length, count) = crate::varint::encode(u32::try_from(body.len()).unwrap());
    [&[first], &length[..count], body].concat()
}

/// Returns a text or binary field.
pub(crate) fn field(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

pub(crate) fn topic(text: &str) -> Topic {
    Topic::new(text).unwrap()
}

/// The plainest PUBLISH there is.
pub(crate) fn qos0() -> Packet {
    Packet::Publish(PublishPacket::new(topic("t"), "x".into()))
}

pub(crate) fn packet_id(number: u16) -> PacketId {
    PacketId::new(number).unwrap()
}

pub(crate) fn filter_key(filter: &str) -> SubscriptionKey {
    SubscriptionKey { share: None, filter: TopicFilter::new(filter).unwrap() }
}

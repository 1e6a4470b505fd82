//! The codec against another implementation: what we write it reads, and what it writes we read.

use bytes::BytesMut;
use proptest::prelude::*;
use rmqtt_codec::{v3, v5};
use tidegate_model::Qos;
use tokio_util::codec::{Decoder, Encoder};

use crate::{
    ProtocolVersion,
    packet::{ConnAck, Packet},
    testing::{any_packet, decoded, encoded},
};

/// Returns the packet as the other implementation writes it after reading ours.
fn through_the_oracle<C, P>(codec: &mut C, wire: &BytesMut) -> BytesMut
where
    C: Decoder<Item = (P, u32)> + Encoder<P>,
    <C as Decoder>::Error: std::fmt::Debug,
    <C as Encoder<P>>::Error: std::fmt::Debug,
{
    let mut input = wire.clone();
    let (packet, _) = codec
        .decode(&mut input)
        .unwrap_or_else(|error| panic!("{error:?} in {wire:02X?}"))
        .unwrap_or_else(|| panic!("incomplete: {wire:02X?}"));
    assert!(input.is_empty(), "the other implementation ends elsewhere: {wire:02X?}");
    let mut output = BytesMut::new();
    codec.encode(packet, &mut output).expect("it writes what it has read");
    output
}

fn is_zero(expiry_s: Option<u32>) -> bool {
    expiry_s == Some(0)
}

/// Takes out what the other implementation refuses, against the standard, or has no words for.
fn as_the_oracle_likes_it(mut packet: Packet, version: ProtocolVersion) -> Packet {
    match &mut packet {
        Packet::Connect(connect) => {
            // It wants a clean start from every client without an identifier.
            connect.clean_start |= connect.client_id.is_none();
            if let Some(will) = &mut connect.will {
                // It takes an expiry of 0 for malformed.
                will.message_expiry_s = will.message_expiry_s.filter(|&seconds| seconds != 0);
            }
        }
        Packet::ConnAck(connack) if version == ProtocolVersion::V5 => without_defaults(connack),
        Packet::Publish(publish) if is_zero(publish.message_expiry_s) => {
            publish.message_expiry_s = None;
        }
        _ => {}
    }
    packet
}

/// Leaves out properties that say what silence says: the other implementation does so.
fn without_defaults(connack: &mut ConnAck) {
    let is_default = |available: &Option<bool>| *available == Some(true);
    for available in [
        &mut connack.retain_available,
        &mut connack.wildcard_subscription_available,
        &mut connack.subscription_ids_available,
        &mut connack.shared_subscription_available,
    ] {
        if is_default(available) {
            *available = None;
        }
    }
    connack.receive_maximum = connack.receive_maximum.filter(|it| it.get() != u16::MAX);
    connack.topic_alias_maximum = connack.topic_alias_maximum.filter(|&it| it != 0);
    connack.maximum_qos = connack.maximum_qos.filter(|&qos| qos != Qos::ExactlyOnce);
}

proptest! {
    #[test]
    fn another_implementation_reads_and_writes_the_same_v5(packet in any_packet(ProtocolVersion::V5)) {
        let packet = as_the_oracle_likes_it(packet, ProtocolVersion::V5);
        let wire = encoded(&packet, ProtocolVersion::V5);
        let theirs = through_the_oracle(&mut v5::Codec::new(0, 0), &wire);
        prop_assert_eq!(decoded(&theirs, ProtocolVersion::V5), Ok(packet));
    }

    #[test]
    fn another_implementation_reads_and_writes_the_same_v311(packet in any_packet(ProtocolVersion::V311)) {
        let packet = as_the_oracle_likes_it(packet, ProtocolVersion::V311);
        let wire = encoded(&packet, ProtocolVersion::V311);
        let theirs = through_the_oracle(&mut v3::Codec::new(0), &wire);
        prop_assert_eq!(decoded(&theirs, ProtocolVersion::V311), Ok(packet));
    }
}

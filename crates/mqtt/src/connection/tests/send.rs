//! Messages and answers to the client.

use std::num::NonZeroU32;

use bytes::Bytes;
use proptest::{collection::vec, prelude::*};
use tidegate_model::{Properties, Qos};

use super::{Rig, V5, V311};
use crate::{
    EncodeError, EncodedProperties, NO_PROPERTIES, Outgoing, PublishFrame, ReasonCode, Sent,
    Settings, SubscriptionId,
    packet::{Ack, Connect, Delivery, Disconnect, Packet, PublishPacket, SubAck, UnsubAck},
    testing::{any_publish, any_version, encoded, packet_id, topic},
};

fn encoded_properties(properties: &Properties) -> EncodedProperties {
    EncodedProperties::new(properties).expect("they have a place on the wire")
}

proptest! {
    /// A frame gives what encoding the whole packet gives, and as many bytes as it says.
    #[test]
    fn a_frame_is_the_packet_encoded(
        (version, packet) in any_version()
            .prop_flat_map(|version| (Just(version), any_publish(version))),
    ) {
        let packet = PublishPacket {
            topic: Some(packet.topic.unwrap_or_else(|| topic("instead/of/alias"))),
            topic_alias: None,
            ..packet
        };
        let outgoing = Outgoing {
            delivery: packet.delivery,
            retain: packet.retain,
            subscription_ids: &packet.subscription_ids,
            message_expiry_s: packet.message_expiry_s,
        };
        let topic = packet.topic.clone().expect("given above");
        let (payload, properties) = (packet.payload.clone(), packet.properties.as_deref());
        let properties = properties.map_or_else(EncodedProperties::default, encoded_properties);
        let frame = PublishFrame::new(&topic, &payload, &properties);
        let mut rig = Rig::connected(version);
        let sent = rig.connection.publish(&frame, &outgoing, &mut rig.output);
        prop_assert_eq!(sent, Sent::Written);
        prop_assert_eq!(rig.output.len(), frame.wire_bytes(version, &outgoing));
        let expected = encoded(&Packet::Publish(packet), version);
        prop_assert_eq!(rig.heard_bytes(), &expected[..]);
    }

    /// One frame for all: the deliveries differ in what is theirs only.
    #[test]
    fn one_frame_serves_every_delivery(
        deliveries in vec((0..3_u8, 1..=u16::MAX, any::<bool>(), any::<bool>()), 1..20),
        payload_bytes in 0..3_000_usize,
    ) {
        let payload = Bytes::from(vec![b'p'; payload_bytes]);
        let properties =
            Properties { content_type: Some("text/plain".into()), ..Properties::default() };
        let (place, encoded) = (topic("a/b"), encoded_properties(&properties));
        let frame = PublishFrame::new(&place, &payload, &encoded);
        let mut rigs = [Rig::connected(V311), Rig::connected(V5)];
        for (qos, id, dup, retain) in deliveries {
            let packet_id = packet_id(id);
            let delivery = match Qos::from_bits(qos).unwrap() {
                Qos::AtMostOnce => Delivery::AtMostOnce,
                Qos::AtLeastOnce => Delivery::AtLeastOnce { packet_id, dup },
                Qos::ExactlyOnce => Delivery::ExactlyOnce { packet_id, dup },
            };
            let ids = [SubscriptionId::new(u32::from(id)).unwrap()];
            let outgoing = Outgoing {
                retain,
                subscription_ids: &ids,
                message_expiry_s: Some(u32::from(id)),
                ..Outgoing::new(delivery)
            };
            for (rig, is_v5) in rigs.iter_mut().zip([false, true]) {
                let sent = rig.connection.publish(&frame, &outgoing, &mut rig.output);
                prop_assert_eq!(sent, Sent::Written);
                let expected = PublishPacket {
                    delivery,
                    retain,
                    message_expiry_s: is_v5.then_some(u32::from(id)),
                    subscription_ids: if is_v5 { ids.to_vec() } else { vec![] },
                    properties: is_v5.then(|| Box::new(properties.clone())),
                    ..PublishPacket::new(topic("a/b"), payload.clone())
                };
                prop_assert_eq!(rig.heard(), [Packet::Publish(expected)]);
            }
        }
    }
}

/// MQTT-3.1.2-24, MQTT-3.1.2-25: what is too large for the client is not sent, and said so.
#[test]
fn messages_keep_to_the_clients_packet_size() {
    let (topic, payload) = (topic("t"), Bytes::from(vec![0; 100]));
    let frame = PublishFrame::new(&topic, &payload, &NO_PROPERTIES);
    let outgoing = Outgoing::new(Delivery::AtMostOnce);
    let bytes = frame.wire_bytes(V5, &outgoing);
    for (maximum, expected) in [(bytes, Sent::Written), (bytes - 1, Sent::TooLarge)] {
        let maximum = NonZeroU32::new(u32::try_from(maximum).unwrap());
        let connect = Connect { maximum_packet_size: maximum, ..Connect::new(V5) };
        let mut rig = Rig::connected_with(Settings::default(), connect);
        assert_eq!(rig.connection.publish(&frame, &outgoing, &mut rig.output), expected);
        assert_eq!(rig.output.is_empty(), expected == Sent::TooLarge);
        assert!(rig.connection.is_connected());
    }
}

#[test]
fn nothing_is_sent_to_whoever_is_not_there() {
    let (topic, payload) = (topic("t"), Bytes::new());
    let frame = PublishFrame::new(&topic, &payload, &NO_PROPERTIES);
    let outgoing = Outgoing::new(Delivery::AtMostOnce);
    let mut rig = Rig::new(V5);
    assert_eq!(rig.connection.publish(&frame, &outgoing, &mut rig.output), Sent::NotConnected);
    rig.send(&[Packet::Connect(Box::new(Connect::new(V5)))]);
    assert_eq!(rig.connection.publish(&frame, &outgoing, &mut rig.output), Sent::NotConnected);
    assert!(rig.output.is_empty());
}

/// Large payloads are shared among all who get them.
#[test]
fn large_payloads_are_not_copied() {
    let payload = Bytes::from(vec![0; 10_000]);
    let topic = topic("t");
    let frame = PublishFrame::new(&topic, &payload, &NO_PROPERTIES);
    let mut rig = Rig::connected(V5);
    let outgoing = Outgoing::new(Delivery::AtMostOnce);
    assert_eq!(rig.connection.publish(&frame, &outgoing, &mut rig.output), Sent::Written);
    let mut slices = [std::io::IoSlice::new(&[]); 4];
    assert_eq!(rig.output.io_slices(&mut slices), 2);
    assert_eq!(slices[1].as_ptr(), payload.as_ptr());
}

/// A property from elsewhere that MQTT has no room for is found when the frame is made.
#[test]
fn properties_without_room_on_the_wire_are_an_error() {
    let properties =
        Properties { content_type: Some("x".repeat(65_536).into()), ..Properties::default() };
    let error = EncodedProperties::new(&properties).unwrap_err();
    assert_eq!(error, EncodeError::FieldTooLong { bytes: 65_536 });
}

/// Sections 3.4 to 3.7: two bytes when all is well, the reason otherwise, in 5.0 only.
#[test]
fn acknowledgements_are_as_short_as_they_can_be() {
    let id = packet_id(0x0102);
    for (version, expected) in [
        (V5, &[0x40, 2, 1, 2, 0x50, 3, 1, 2, 0x10, 0x62, 3, 1, 2, 0x92, 0x70, 2, 1, 2][..]),
        (V311, &[0x40, 2, 1, 2, 0x50, 2, 1, 2, 0x62, 2, 1, 2, 0x70, 2, 1, 2]),
    ] {
        let mut rig = Rig::connected(version);
        let (connection, output) = (&mut rig.connection, &mut rig.output);
        connection.puback(id, ReasonCode::Success, output);
        connection.pubrec(id, ReasonCode::NoMatchingSubscribers, output);
        connection.pubrel(id, ReasonCode::PacketIdentifierNotFound, output);
        connection.pubcomp(id, ReasonCode::Success, output);
        assert_eq!(rig.heard_bytes(), expected, "{version}");
    }
}

/// Sections 3.9 and 3.11.
#[test]
fn subscriptions_are_answered_one_by_one() {
    let id = packet_id(1);
    let reasons = [ReasonCode::GrantedQos1, ReasonCode::NotAuthorized];
    let removed = [ReasonCode::Success, ReasonCode::NoSubscriptionExisted];
    let mut rig = Rig::connected(V5);
    rig.connection.suback(id, &reasons, &mut rig.output);
    rig.connection.unsuback(id, &removed, &mut rig.output);
    let expected = [
        Packet::SubAck(SubAck { packet_id: id, reasons: reasons.to_vec(), explanation: None }),
        Packet::UnsubAck(UnsubAck { packet_id: id, reasons: removed.to_vec(), explanation: None }),
    ];
    assert_eq!(rig.heard(), expected);
    let mut rig = Rig::connected(V311);
    rig.connection.suback(id, &reasons, &mut rig.output);
    rig.connection.unsuback(id, &removed, &mut rig.output);
    assert_eq!(rig.heard_bytes(), [0x90, 4, 0, 1, 1, 0x80, 0xB0, 2, 0, 1]);
}

/// MQTT-3.1.2-24: an answer that the client needs and cannot take ends the connection.
#[test]
fn answers_keep_to_the_clients_packet_size() {
    let connect = Connect { maximum_packet_size: NonZeroU32::new(30), ..Connect::new(V5) };
    let mut rig = Rig::connected_with(Settings::default(), connect);
    let reasons = vec![ReasonCode::Success; 25];
    rig.connection.suback(packet_id(1), &reasons, &mut rig.output);
    assert!(rig.connection.is_connected());
    rig.heard_bytes();
    rig.connection.suback(packet_id(1), &[&reasons[..], &reasons].concat(), &mut rig.output);
    let expected = Packet::Disconnect(Disconnect::new(ReasonCode::PacketTooLarge));
    assert_eq!(rig.heard(), [expected]);
}

#[test]
fn acks_reach_the_output_in_the_order_they_were_given() {
    let mut rig = Rig::connected(V5);
    for id in 1..=200 {
        rig.connection.puback(packet_id(id), ReasonCode::Success, &mut rig.output);
    }
    let expected: Vec<_> =
        (1..=200).map(|id| Packet::PubAck(Ack::new(packet_id(id), ReasonCode::Success))).collect();
    assert_eq!(rig.heard(), expected);
}

/// MQTT-3.1.2-24: what waits in front of an answer does not count to its size.
#[test]
fn answers_are_measured_alone() {
    let connect = Connect { maximum_packet_size: NonZeroU32::new(30), ..Connect::new(V5) };
    let mut rig = Rig::connected_with(Settings::default(), connect);
    let reasons = vec![ReasonCode::Success; 25];
    for id in 1..=3 {
        rig.connection.suback(packet_id(id), &reasons, &mut rig.output);
        assert!(rig.connection.is_connected(), "{id}");
    }
    rig.connection.close(ReasonCode::ServerBusy, &mut rig.output);
    let heard = rig.heard();
    assert_eq!(heard.len(), 4, "the good-bye fits, too");
    assert_eq!(heard[3], Packet::Disconnect(Disconnect::new(ReasonCode::ServerBusy)));
}

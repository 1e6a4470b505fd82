//! What an accepted client may send, and how much of it (MQTT 5.0, sections 3.3.2.3.4, 3.3.4, 4.9).

use std::num::NonZeroU16;

use proptest::{collection::vec, prelude::*};
use tidegate_model::Qos;

use super::{Rig, V5, V311, publish, qos1, qos2};
use crate::connection::receive_window::UNTOLD_FACTOR;
use crate::{
    ClientPacket, CloseCause, Output, PacketBatch, ProtocolError, ProtocolVersion, ReasonCode,
    Settings, SubscriptionId,
    packet::{
        Ack, Auth, ConnAck, Connect, Delivery, Disconnect, Packet, PublishPacket, SubAck,
        Subscribe, Subscription, UnsubAck, Unsubscribe,
    },
    testing::{any_packet, any_version, encoded, filter_key, packet_id, qos0, topic},
};

fn settings(receive_maximum: u16) -> Settings {
    let receive_maximum = NonZeroU16::new(receive_maximum).unwrap();
    Settings { receive_maximum, ..Settings::default() }
}

fn rig_with_window(version: ProtocolVersion, receive_maximum: u16) -> Rig {
    Rig::connected_with(settings(receive_maximum), Connect::new(version))
}

fn ack(id: u16) -> Ack {
    Ack::new(packet_id(id), ReasonCode::Success)
}

/// Checks that the connection is closed for `source`, and that the client has heard why.
fn check_closed(rig: &mut Rig, version: ProtocolVersion, source: ProtocolError) {
    let reason = source.reason_code();
    assert_eq!(rig.connection.close_cause(), Some(&CloseCause::Protocol { source }));
    let expected = match version {
        V5 => vec![Packet::Disconnect(Disconnect::new(reason))],
        V311 => vec![],
    };
    assert_eq!(rig.heard(), expected);
}

#[test]
fn packets_reach_the_broker_in_order() {
    for version in [V311, V5] {
        let subscribe = Subscribe {
            packet_id: packet_id(3),
            subscription_id: None,
            subscriptions: vec![Subscription::new(filter_key("a/+"), Qos::AtLeastOnce)],
            user: vec![],
        };
        let unsubscribe =
            Unsubscribe { packet_id: packet_id(4), keys: vec![filter_key("a/+")], user: vec![] };
        let mut rig = Rig::connected(version);
        let batch = rig.send(&[
            qos1(1),
            Packet::Subscribe(subscribe.clone()),
            Packet::PingReq,
            Packet::PubRel(ack(9)),
            Packet::PubAck(ack(5)),
            Packet::PubRec(ack(6)),
            Packet::PubComp(ack(7)),
            Packet::Unsubscribe(unsubscribe.clone()),
            Packet::Disconnect(Disconnect::default()),
            qos0(),
        ]);
        let Some(ClientPacket::Publish(publish)) = batch.first() else { panic!("{batch:?}") };
        assert_eq!((publish.topic.as_str(), &publish.payload[..]), ("t", &b"x"[..]));
        assert_eq!(
            batch[1..],
            [
                ClientPacket::Subscribe(subscribe),
                ClientPacket::PubRel(ack(9)),
                ClientPacket::PubAck(ack(5)),
                ClientPacket::PubRec(ack(6)),
                ClientPacket::PubComp(ack(7)),
                ClientPacket::Unsubscribe(unsubscribe),
                ClientPacket::Disconnect(Disconnect::default()),
            ]
        );
        // MQTT-3.12.4-1; and nothing after DISCONNECT, MQTT-3.14.4-1.
        assert_eq!(rig.heard(), [Packet::PingResp]);
        assert!(rig.connection.is_closed() && rig.input.is_empty());
    }
}

/// MQTT-3.1.0-2, sections 3.2 to 3.15; M19: closed within one packet, by its first byte.
#[test]
fn fault_m19_packets_only_a_server_may_send() {
    let suback =
        SubAck { packet_id: packet_id(1), reasons: vec![ReasonCode::Success], explanation: None };
    let unsuback =
        UnsubAck { packet_id: packet_id(1), reasons: vec![ReasonCode::Success], explanation: None };
    for version in [V311, V5] {
        let packets = [
            Packet::Connect(Box::new(Connect::new(version))),
            Packet::ConnAck(Box::default()),
            Packet::SubAck(suback.clone()),
            Packet::UnsubAck(unsuback.clone()),
            Packet::PingResp,
            Packet::Auth(Box::new(Auth { reason: ReasonCode::ReAuthenticate, ..Auth::default() })),
        ];
        for packet in packets {
            let packet_type = packet.packet_type();
            let mut rig = Rig::connected(version);
            let first = encoded(&packet, version)[0];
            let batch = rig.send_bytes(&[&encoded(&qos0(), version)[..], &[first]].concat());
            assert!(matches!(batch[..], [ClientPacket::Publish(_)]), "what came before counts");
            let error = match packet {
                Packet::Connect(_) => ProtocolError::SecondConnect,
                _ => ProtocolError::NotForServers { packet: packet_type },
            };
            check_closed(&mut rig, version, error);
        }
    }
}

/// MQTT-3.3.4-6, section 3.14.2.2.4: properties that only a server may send.
#[test]
fn properties_only_a_server_may_send() {
    let with_ids = Packet::Publish(PublishPacket {
        subscription_ids: vec![SubscriptionId::new(1).unwrap()],
        ..PublishPacket::new(topic("t"), "x".into())
    });
    let with_reference = Packet::Disconnect(Disconnect {
        server_reference: Some(crate::Text::new("elsewhere").unwrap()),
        ..Disconnect::default()
    });
    for (packet, property) in [
        (with_ids, crate::Property::SubscriptionIdentifier),
        (with_reference, crate::Property::ServerReference),
    ] {
        let mut rig = Rig::connected(V5);
        assert!(rig.send(&[packet]).is_empty());
        check_closed(&mut rig, V5, ProtocolError::ServerProperty { property });
    }
}

/// Section 3.3.2.3.4; MQTT-3.3.2-9 to MQTT-3.3.2-12; M16.
#[test]
fn fault_m16_topic_aliases() {
    let aliased = |name: Option<&str>, alias: u16| {
        Packet::Publish(PublishPacket {
            topic: name.map(topic),
            topic_alias: NonZeroU16::new(alias),
            ..PublishPacket::new(topic("unused"), "x".into())
        })
    };
    let mut rig = Rig::connected_with(
        Settings { topic_alias_maximum: 2, ..Settings::default() },
        Connect::new(V5),
    );
    let batch = rig.send(&[
        aliased(Some("a"), 1),
        aliased(Some("b"), 2),
        aliased(None, 1),
        aliased(Some("c"), 1), // a new meaning
        aliased(None, 1),
        aliased(None, 2),
    ]);
    let topics: Vec<_> = batch
        .iter()
        .map(|packet| match packet {
            ClientPacket::Publish(publish) => publish.topic.as_str(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(topics, ["a", "b", "a", "c", "c", "b"]);
    assert!(rig.send(&[aliased(Some("d"), 3)]).is_empty());
    check_closed(&mut rig, V5, ProtocolError::TopicAlias { alias: 3, limit: 2 });

    let mut rig = Rig::connected(V5);
    assert!(rig.send(&[aliased(None, 1)]).is_empty());
    check_closed(&mut rig, V5, ProtocolError::NoTopic);
}

/// MQTT-3.3.4-7, MQTT-3.3.4-9; M08.
#[test]
fn fault_m08_more_messages_than_the_receive_maximum() {
    let mut rig = rig_with_window(V5, 2);
    assert_eq!(rig.send(&[qos1(1), qos2(2), qos0(), qos0()]).len(), 4, "QoS 0 is not counted");
    assert!(rig.send(&[qos1(3)]).is_empty());
    check_closed(&mut rig, V5, ProtocolError::ReceiveMaximum { limit: 2 });
}

/// Section 4.9: each acknowledgement that ends an exchange gives a place back, and no other.
#[test]
fn the_window_opens_with_the_last_acknowledgement() {
    type Answer = fn(&mut Rig);
    #[rustfmt::skip]
    let cases: [(&str, Packet, Answer, bool); 6] = [
        ("PUBACK",          qos1(1), |rig| rig.connection.puback(packet_id(1), ReasonCode::Success, &mut rig.output), true),
        ("refusing PUBACK", qos1(1), |rig| rig.connection.puback(packet_id(1), ReasonCode::QuotaExceeded, &mut rig.output), true),
        ("PUBREC",          qos2(1), |rig| rig.connection.pubrec(packet_id(1), ReasonCode::Success, &mut rig.output), false),
        ("refusing PUBREC", qos2(1), |rig| rig.connection.pubrec(packet_id(1), ReasonCode::NotAuthorized, &mut rig.output), true),
        ("PUBCOMP",         qos2(1), |rig| rig.connection.pubcomp(packet_id(1), ReasonCode::Success, &mut rig.output), true),
        ("another PUBACK",  qos1(1), |rig| rig.connection.puback(packet_id(2), ReasonCode::Success, &mut rig.output), false),
    ];
    for (what, packet, answer, opens) in cases {
        let mut rig = rig_with_window(V5, 1);
        assert_eq!(rig.send(&[packet]).len(), 1);
        answer(&mut rig);
        assert_eq!(rig.send(&[qos1(7)]).len(), usize::from(opens), "{what}");
        assert_eq!(rig.connection.is_closed(), !opens, "{what}");
    }
}

/// M08: one identifier, however often repeated, takes one place.
#[test]
fn fault_m08_a_repeated_identifier_takes_one_place() {
    for version in [V311, V5] {
        let mut rig = rig_with_window(version, 1);
        let again = publish(Delivery::ExactlyOnce { packet_id: packet_id(1), dup: true });
        assert_eq!(rig.send(&[qos2(1)]).len(), 1);
        rig.connection.pubrec(packet_id(1), ReasonCode::Success, &mut rig.output);
        for _ in 0..1_000 {
            assert_eq!(rig.send(std::slice::from_ref(&again)).len(), 1);
            rig.connection.pubrec(packet_id(1), ReasonCode::Success, &mut rig.output);
            rig.heard_bytes();
        }
        assert!(rig.connection.is_connected());
    }
}

/// M08: 3.1.1 knows no receive maximum. Its client waits while we owe it an answer.
#[test]
fn a_client_of_3_1_1_waits_for_our_acknowledgement() {
    let mut rig = rig_with_window(V311, 2);
    let batch = rig.send(&[qos1(1), qos1(2), qos1(3), qos0()]);
    assert_eq!(batch.len(), 2);
    assert!(rig.connection.is_connected() && !rig.connection.wants_input());
    assert!(!rig.input.is_empty());
    rig.connection.puback(packet_id(1), ReasonCode::Success, &mut rig.output);
    assert!(rig.connection.wants_input());
    assert_eq!(rig.handle().len(), 2);
    assert!(rig.input.is_empty());
}

/// M08: but a window full of messages that only the client can release would never open.
#[test]
fn fault_m08_a_client_of_3_1_1_that_releases_nothing_is_closed() {
    let mut rig = rig_with_window(V311, 2);
    let limit = 2 * UNTOLD_FACTOR;
    for id in 1..=limit {
        assert_eq!(rig.send(&[qos2(id)]).len(), 1, "it was never told of a maximum");
        rig.connection.pubrec(packet_id(id), ReasonCode::Success, &mut rig.output);
    }
    rig.heard_bytes();
    assert!(rig.send(&[qos2(limit + 1)]).is_empty());
    check_closed(&mut rig, V311, ProtocolError::ReceiveMaximum { limit });

    let mut rig = rig_with_window(V311, 1);
    rig.send(&[qos2(1)]);
    rig.connection.pubrec(packet_id(1), ReasonCode::Success, &mut rig.output);
    let batch = rig.send(&[Packet::PubRel(ack(1)), qos2(2)]);
    assert_eq!(batch, [ClientPacket::PubRel(ack(1))], "the release is ours to complete");
    rig.connection.pubcomp(packet_id(1), ReasonCode::Success, &mut rig.output);
    assert!(matches!(rig.handle()[..], [ClientPacket::Publish(_)]));
}

/// D2, D3: what 3.1.1 cannot be told is withheld, and stays in flight.
#[test]
fn refusals_without_words_are_withheld() {
    let mut rig = rig_with_window(V311, 2);
    rig.send(&[qos1(1), qos2(2)]);
    rig.connection.puback(packet_id(1), ReasonCode::QuotaExceeded, &mut rig.output);
    rig.connection.pubrec(packet_id(2), ReasonCode::QuotaExceeded, &mut rig.output);
    assert!(rig.output.is_empty());
    assert!(rig.send(&[qos1(3)]).is_empty());
    assert!(rig.connection.is_connected(), "waits");
    rig.connection.puback(packet_id(1), ReasonCode::Success, &mut rig.output);
    assert_eq!(rig.heard(), [Packet::PubAck(ack(1))]);
    assert_eq!(rig.handle().len(), 1);
}

/// Section 3.14.2.2.2: a session that was to end at close cannot be prolonged at the last moment.
#[test]
fn disconnect_may_not_prolong_a_session_that_ends_at_close() {
    use crate::SessionExpiry as Expiry;
    #[rustfmt::skip]
    let cases = [
        // in CONNECT               in DISCONNECT                   allowed
        (Expiry::AT_CLOSE,          None,                           true),
        (Expiry::AT_CLOSE,          Some(Expiry::AT_CLOSE),         true),
        (Expiry::AT_CLOSE,          Some(Expiry::from_secs(1)),     false),
        (Expiry::from_secs(5),      Some(Expiry::NEVER),            true),
        (Expiry::from_secs(5),      Some(Expiry::AT_CLOSE),         true),
    ];
    for (session_expiry, changed, allowed) in cases {
        let connect = Connect { session_expiry, ..Connect::new(V5) };
        let mut rig = Rig::connected_with(Settings::default(), connect);
        let disconnect = Disconnect { session_expiry: changed, ..Disconnect::default() };
        let batch = rig.send(&[Packet::Disconnect(disconnect.clone())]);
        if allowed {
            assert_eq!(batch, [ClientPacket::Disconnect(disconnect)]);
            let reason = ReasonCode::Success;
            assert_eq!(rig.connection.close_cause(), Some(&CloseCause::ByClient { reason }));
        } else {
            assert!(batch.is_empty());
            check_closed(&mut rig, V5, ProtocolError::SessionExpiry);
        }
    }
}

/// A flood of tiny packets fills neither a batch nor the output.
#[test]
fn floods_are_taken_in_portions() {
    let mut rig = Rig::connected(V5);
    rig.input.extend_from_slice(&encoded(&qos0(), V5).repeat(300));
    let mut sizes = Vec::new();
    loop {
        let batch = rig.connection.handle_input(rig.now, &mut rig.input, &mut rig.output);
        if batch.is_empty() {
            break;
        }
        sizes.push(batch.len());
    }
    assert_eq!(sizes, [PacketBatch::PACKETS_MAX, PacketBatch::PACKETS_MAX, 44]);

    rig.output = Output::with_limit(100);
    rig.input.extend_from_slice(&encoded(&Packet::PingReq, V5).repeat(1_000));
    for _ in 0..20 {
        assert!(rig.handle().is_empty());
        assert_eq!(rig.output.len(), 100, "no more answers than the output has room for");
        rig.output.advance(100);
    }
    assert!(rig.input.is_empty());
}

/// M12: the RSS stays flat on the error path because nothing stays: the input is emptied.
#[test]
fn a_closed_connection_takes_and_keeps_nothing() {
    let mut rig = Rig::connected(V5);
    rig.send_bytes(&[0xFF, 1, 2, 3]);
    assert!(rig.connection.is_closed() && rig.input.is_empty());
    rig.heard_bytes();
    assert!(rig.send(&[qos1(1)]).is_empty());
    rig.connection.puback(packet_id(1), ReasonCode::Success, &mut rig.output);
    rig.connection.suback(packet_id(1), &[ReasonCode::Success], &mut rig.output);
    rig.connection.close(ReasonCode::ServerShuttingDown, &mut rig.output);
    assert!(rig.output.is_empty() && rig.input.is_empty());
    assert!(!rig.accept(&ConnAck::accepted(false)));
    assert_eq!(rig.connection.poll_timeout(), None);
}

proptest! {
    /// M22: whatever a client sends in whatever pieces, the connection takes it or closes. The packets
    /// do not depend on the pieces.
    #[test]
    fn fault_m22_any_packets_in_any_pieces(
        (version, packets) in any_version()
            .prop_flat_map(|version| (Just(version), vec(any_packet(version), 0..12))),
        cuts in vec(1..200_usize, 1..8),
        noise in proptest::option::of((any::<proptest::sample::Index>(), any::<u8>())),
    ) {
        let mut wire: Vec<u8> = packets.iter().flat_map(|packet| encoded(packet, version)).collect();
        if let Some((at, byte)) = noise && !wire.is_empty() {
            let at = at.index(wire.len());
            wire[at] = byte;
        }
        let mut whole = Rig::connected(version);
        let at_once = whole.send_bytes(&wire);

        let mut pieces = Rig::connected(version);
        let mut in_pieces = Vec::new();
        let mut rest = wire.as_slice();
        for cut in cuts.into_iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, tail) = rest.split_at(cut.min(rest.len()));
            in_pieces.extend(pieces.send_bytes(piece));
            rest = tail;
        }
        prop_assert_eq!(at_once, in_pieces);
        prop_assert_eq!(whole.connection.close_cause(), pieces.connection.close_cause());
        prop_assert_eq!(whole.heard_bytes(), pieces.heard_bytes());
    }

    /// M22: noise from the first byte on.
    #[test]
    fn fault_m22_noise_in_place_of_connect(noise in vec(any::<u8>(), 0..100)) {
        let mut rig = Rig::new(V5);
        rig.send_bytes(&[&[0x10][..], &noise].concat());
        rig.connection.close(ReasonCode::UnspecifiedError, &mut rig.output);
        prop_assert!(rig.connection.is_closed());
    }
}

/// A client that publishes on one topic again and again has it kept once.
#[test]
fn a_topic_that_comes_again_is_the_same() {
    let mut rig = Rig::connected(V5);
    let mut topics = Vec::new();
    for text in ["plant/a", "plant/a", "plant/b", "plant/b", "plant/a"] {
        let packet = Packet::Publish(PublishPacket::new(topic(text), "x".into()));
        match rig.send(&[packet]).remove(0) {
            ClientPacket::Publish(publish) => topics.push(publish.topic),
            other => panic!("{other:?}"),
        }
    }
    assert!(topics[0].is_same(&topics[1]) && topics[2].is_same(&topics[3]));
    assert!(!topics[1].is_same(&topics[4]), "only the last one is remembered");
}

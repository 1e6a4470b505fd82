//! CONNECT and its answer (MQTT 5.0, sections 3.1 and 3.2).

use std::num::{NonZeroU16, NonZeroU32};

use tidegate_model::ClientId;

use super::{Rig, V5, V311};
use crate::{
    ClientPacket, CloseCause, ProtocolError, ReasonCode, Settings, Text,
    packet::{ConnAck, Connect, Disconnect, Packet, PacketType},
    testing::{encoded, framed, qos0},
};

fn connack(rig: &mut Rig) -> ConnAck {
    match &mut rig.heard()[..] {
        [Packet::ConnAck(connack)] => (**connack).clone(),
        other => panic!("{other:?}"),
    }
}

/// MQTT-3.2.2-6 and sections 3.2.2.3.3, 3.2.2.3.6, 3.2.2.3.8: what is enforced is announced.
#[test]
fn connack_announces_what_the_connection_enforces() {
    let settings = Settings::default();
    let mut rig = Rig::with(settings.clone(), V5);
    let connect = Connect { keep_alive_s: 60, ..Connect::new(V5) };
    let batch = rig.send(&[Packet::Connect(Box::new(connect.clone()))]);
    assert_eq!(batch, [ClientPacket::Connect(Box::new(connect))]);
    let id = ClientId::new("given").unwrap();
    let answer = ConnAck { assigned_client_id: Some(id.clone()), ..ConnAck::accepted(true) };
    assert!(rig.accept(&answer));
    let packet_bytes = u32::try_from(settings.limits.packet_bytes).unwrap();
    let expected = ConnAck {
        assigned_client_id: Some(id),
        receive_maximum: Some(settings.receive_maximum),
        maximum_packet_size: NonZeroU32::new(packet_bytes),
        topic_alias_maximum: Some(settings.topic_alias_maximum),
        ..ConnAck::accepted(true)
    };
    assert_eq!(connack(&mut rig), expected);
    assert!(rig.connection.is_connected());
    assert_eq!(rig.connection.version(), Some(V5));
    assert_eq!(rig.connection.client_receive_maximum(), Some(NonZeroU16::MAX));
}

#[test]
fn connack_of_3_1_1_is_four_bytes() {
    let mut rig = Rig::new(V311);
    rig.send(&[Packet::Connect(Box::new(Connect::new(V311)))]);
    assert!(rig.accept(&ConnAck::accepted(true)));
    assert_eq!(rig.heard_bytes(), [0x20, 2, 1, 0]);
}

/// Section 3.2.2.3.14: the server's keep alive replaces one that is off or too long.
#[test]
fn keep_alive_is_replaced_where_it_must_be() {
    #[rustfmt::skip]
    let cases = [
        // client's  broker's    announced
        (60,         None,       None),
        (600,        None,       None),
        (601,        None,       Some(600)),
        (0,          None,       Some(600)),
        (60,         Some(5),    Some(5)),
        (0,          Some(5),    Some(5)),
    ];
    for (keep_alive_s, server_keep_alive_s, announced) in cases {
        let mut rig = Rig::new(V5);
        let connect = Connect { keep_alive_s, ..Connect::new(V5) };
        rig.send(&[Packet::Connect(Box::new(connect))]);
        rig.accept(&ConnAck { server_keep_alive_s, ..ConnAck::accepted(false) });
        let case = format!("{keep_alive_s} {server_keep_alive_s:?}");
        assert_eq!(connack(&mut rig).server_keep_alive_s, announced, "{case}");
        let patience = announced.unwrap_or(keep_alive_s);
        let expected = rig.now + std::time::Duration::from_millis(u64::from(patience) * 1_500);
        assert_eq!(rig.connection.poll_timeout(), Some(expected), "{case}");
    }
}

/// Section 3.1.4: clients may send on before CONNACK; nothing of it is looked at before the verdict.
#[test]
fn packets_behind_connect_wait_for_the_verdict() {
    let mut rig = Rig::new(V5);
    let batch = rig.send(&[Packet::Connect(Box::new(Connect::new(V5))), qos0()]);
    assert!(matches!(batch[..], [ClientPacket::Connect(_)]));
    assert!(!rig.connection.wants_input());
    assert!(rig.handle().is_empty());
    rig.accept(&ConnAck::accepted(false));
    assert!(rig.connection.wants_input());
    assert!(matches!(rig.handle()[..], [ClientPacket::Publish(_)]));
    assert!(rig.input.is_empty());
}

/// MQTT-3.1.0-1; M01: every other packet closes at its first byte, without an answer.
#[test]
fn fault_m01_the_first_packet_must_be_connect() {
    for packet in PacketType::ALL.into_iter().filter(|&it| it != PacketType::Connect) {
        let mut rig = Rig::new(V5);
        assert!(rig.send_bytes(&[packet.first_byte()]).is_empty());
        let source = ProtocolError::ExpectedConnect { packet };
        assert_eq!(rig.connection.close_cause(), Some(&CloseCause::Protocol { source }));
        assert!(rig.output.is_empty(), "{packet} is answered");
    }
    for byte in [0x00, 0x0F, 0x11, 0x1F] {
        let mut rig = Rig::new(V5);
        rig.send_bytes(&[byte]);
        assert!(rig.connection.is_closed() && rig.output.is_empty(), "{byte:02X}");
    }
    for start in [&b"\x10\x10\0\x05"[..], b"\x10\x10G", b"\x10\x10\0\x04MQ5", b"GET / HTTP/1.1"] {
        let mut rig = Rig::new(V5);
        rig.send_bytes(start);
        assert!(rig.connection.is_closed() && rig.output.is_empty(), "{start:02X?}");
    }
}

/// M01, M02: CONNECT has a limit of its own, checked by the fixed header.
#[test]
fn fault_m02_a_large_connect_is_refused_from_its_header() {
    let mut rig = Rig::new(V5);
    rig.send_bytes(&[0x10, 0xFF, 0xFF, 0xFF, 0x7F]);
    assert!(rig.connection.is_closed());
    assert!(rig.output.is_empty(), "nobody knows which version to answer in");

    let mut rig = Rig::new(V5);
    rig.send_bytes(b"\x10\xFF\xFF\xFF\x7F\0\x04MQTT\x05");
    assert_eq!(connack(&mut rig).reason, ReasonCode::PacketTooLarge);
}

/// MQTT-3.1.2-2, MQTT-3.1.4-1, section 3.2.2.2: a refusal is said where there are words for it.
#[test]
fn wrong_connects_are_answered_in_the_words_of_their_version() {
    let body = |level: u8, flags: u8, rest: &[u8]| {
        framed(0x10, &[b"\0\x04MQTT", &[level, flags, 0, 0][..], rest].concat())
    };
    #[rustfmt::skip]
    let cases: [(&str, Vec<u8>, &[u8]); 9] = [
        ("level 3",             body(3, 2, b"\0\0"),             &[0x20, 2, 0, 1]),
        ("MQTT 3.1",            framed(0x10, b"\0\x06MQIsdp\x03\x02\0\0\0\x01c"), &[0x20, 2, 0, 1]),
        ("level 6",             body(6, 2, b"\0\0\0"),           &[0x20, 3, 0, 0x84, 0]),
        ("3.1.1 without id",    body(4, 0, b"\0\0"),             &[0x20, 2, 0, 2]),
        ("3.1.1 reserved flag", body(4, 3, b"\0\0"),             &[]),
        ("5.0 reserved flag",   body(5, 3, b"\0\0\0"),           &[0x20, 3, 0, 0x81, 0]),
        ("5.0 twice",           body(5, 2, b"\x06\x21\0\x01\x21\0\x01\0\0"), &[0x20, 3, 0, 0x82, 0]),
        ("5.0 will topic",      body(5, 6, b"\0\0\0\0\0\x01#\0\0"), &[0x20, 3, 0, 0x90, 0]),
        ("5.0 authentication",  body(5, 2, b"\x04\x15\0\x01m\0\0"), &[0x20, 3, 0, 0x8C, 0]),
    ];
    for (rule, wire, expected) in cases {
        let mut rig = Rig::new(V5);
        assert!(rig.send_bytes(&wire).is_empty(), "{rule}");
        assert!(rig.connection.is_closed(), "{rule}");
        assert_eq!(rig.heard_bytes(), expected, "{rule}");
    }
}

/// MQTT-3.2.2-7: whoever is refused is also disconnected.
#[test]
fn the_broker_may_refuse() {
    #[rustfmt::skip]
    let cases: [(_, _, &[u8]); 8] = [
        (V5,    ReasonCode::NotAuthorized,         &[0x20, 3, 0, 0x87, 0]),
        (V5,    ReasonCode::QuotaExceeded,         &[0x20, 3, 0, 0x97, 0]),
        (V5,    ReasonCode::ServerShuttingDown,    &[0x20, 3, 0, 0x88, 0]), // CONNACK has no 0x8B
        (V5,    ReasonCode::KeepAliveTimeout,      &[0x20, 3, 0, 0x80, 0]), // nor 0x8D
        (V311,  ReasonCode::BadUserNameOrPassword, &[0x20, 2, 0, 4]),
        (V311,  ReasonCode::NotAuthorized,         &[0x20, 2, 0, 5]),
        (V311,  ReasonCode::QuotaExceeded,         &[0x20, 2, 0, 3]),
        (V311,  ReasonCode::MalformedPacket,       &[]),                    // no words for it
    ];
    for (version, reason, expected) in cases {
        let mut rig = Rig::new(version);
        rig.send(&[Packet::Connect(Box::new(Connect::new(version)))]);
        assert!(rig.connection.reject(reason, &mut rig.output));
        assert_eq!(rig.heard_bytes(), expected, "{version} {reason}");
        assert_eq!(rig.connection.close_cause(), Some(&CloseCause::ByServer { reason }));
        assert!(!rig.connection.reject(reason, &mut rig.output), "once");
        assert!(!rig.accept(&ConnAck::accepted(false)), "too late");
        assert!(rig.output.is_empty());
    }
}

/// MQTT-3.2.2-4 and MQTT-3.2.2-6: a refusal never says that there is a session.
#[test]
fn a_refusing_connack_refuses() {
    let mut rig = Rig::new(V5);
    rig.send(&[Packet::Connect(Box::new(Connect::new(V5)))]);
    let reason_string = Some(Text::new("not today").unwrap());
    let refusal =
        ConnAck { session_present: true, reason_string, ..ConnAck::refused(ReasonCode::Banned) };
    assert!(rig.accept(&refusal));
    let heard = connack(&mut rig);
    assert!(!heard.session_present && heard.reason == ReasonCode::Banned);
    assert_eq!(heard.reason_string.as_deref(), Some("not today"));
    assert!(rig.connection.is_closed());
}

/// MQTT-3.1.2-24, MQTT-3.2.2-19, MQTT-3.2.2-20: words for people give way to the client's limit.
#[test]
fn connack_keeps_to_the_clients_packet_size() {
    let answer = ConnAck {
        reason_string: Some(Text::new(&"x".repeat(100)).unwrap()),
        user: vec![(Text::new("n").unwrap(), Text::new("v").unwrap())],
        ..ConnAck::accepted(false)
    };
    let with_size = |size: u32| {
        let connect = Connect { maximum_packet_size: NonZeroU32::new(size), ..Connect::new(V5) };
        let mut rig = Rig::new(V5);
        rig.send(&[Packet::Connect(Box::new(connect))]);
        rig.accept(&answer);
        rig
    };
    let whole = connack(&mut with_size(1_000));
    assert!(whole.reason_string.is_some() && whole.user.len() == 1);
    let reduced = connack(&mut with_size(40));
    assert!(reduced.reason_string.is_none() && reduced.user.is_empty());
    let bytes = u32::try_from(encoded(&Packet::ConnAck(Box::new(reduced)), V5).len()).unwrap();
    assert!(with_size(bytes).connection.is_connected());
    let mut rig = with_size(bytes - 1);
    assert!(rig.connection.is_closed() && rig.output.is_empty());
    assert!(rig.handle().is_empty());
}

#[test]
fn who_is_connected_has_been_accepted_and_is_still_there() {
    let mut rig = Rig::new(V5);
    assert!(!rig.connection.is_connected());
    rig.send(&[Packet::Connect(Box::new(Connect::new(V5)))]);
    assert!(!rig.connection.is_connected(), "nobody has said so yet");
    rig.accept(&ConnAck::accepted(false));
    assert!(rig.connection.is_connected());
    rig.connection.close(ReasonCode::ServerShuttingDown, &mut rig.output);
    assert!(!rig.connection.is_connected());
}

/// MQTT 5.0, sections 3.2.2.2 and 3.14.2.1: a reason that the packet does not have is told by the nearest that it has.
#[test]
fn reasons_are_told_in_the_words_of_their_packet() {
    use ReasonCode as R;
    #[rustfmt::skip]
    let refusals = [
        (R::SessionTakenOver,     R::ServerUnavailable),
        (R::AdministrativeAction, R::ServerUnavailable),
        (R::MessageRateTooHigh,   R::ConnectionRateExceeded),
        (R::KeepAliveTimeout,     R::UnspecifiedError),
        (R::ServerBusy,           R::ServerBusy),
    ];
    for (reason, expected) in refusals {
        let mut rig = Rig::new(V5);
        rig.send(&[Packet::Connect(Box::new(Connect::new(V5)))]);
        assert!(rig.connection.reject(reason, &mut rig.output));
        assert_eq!(connack(&mut rig).reason, expected, "{reason}");
    }
    #[rustfmt::skip]
    let farewells = [
        (R::UnsupportedProtocolVersion, R::ProtocolError),
        (R::ClientIdentifierNotValid,   R::NotAuthorized),
        (R::Banned,                     R::NotAuthorized),
        (R::ServerUnavailable,          R::ServerShuttingDown),
        (R::NoMatchingSubscribers,      R::UnspecifiedError),
        (R::ServerBusy,                 R::ServerBusy),
    ];
    for (reason, expected) in farewells {
        let mut rig = Rig::connected(V5);
        rig.connection.close(reason, &mut rig.output);
        assert_eq!(rig.heard(), [Packet::Disconnect(Disconnect::new(expected))], "{reason}");
    }
}

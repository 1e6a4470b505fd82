//! Section 3.2, CONNACK: the server's first packet, and what it says of the session and the server.

use super::client::{Client, ConnAck};
use super::packets::{Connect, PINGREQ, Publish, V3, V5, Version, ack, kind, prop, subscribe};
use super::server::{ANN, unique};
use crate::support::wire::{End, packet};

statements! {
    mqtt3_3_2_0_1_connack_comes_first => connack_comes_first(V3);
    mqtt5_3_2_0_1_connack_comes_first => connack_comes_first(V5);
    mqtt5_3_2_0_2_connack_comes_once => connack_comes_first(V5);
    mqtt5_3_2_2_1_reserved_flags_are_zero => session_present(V5);
    mqtt3_3_2_2_1_a_clean_session_is_not_present => session_present(V3);
    mqtt5_3_2_2_2_a_clean_start_has_no_session => session_present(V5);
    mqtt3_3_2_2_2_a_session_is_present => session_present(V3);
    mqtt3_3_2_2_3_no_session_is_not_present => session_present(V3);
    mqtt5_3_2_2_3_a_session_is_present_or_not => session_present(V5);
    mqtt3_3_2_2_4_a_refusal_has_no_session => a_refusal_has_no_session(V3);
    mqtt5_3_2_2_6_a_refusal_has_no_session => a_refusal_has_no_session(V5);
    mqtt3_3_2_2_5_a_refusal_ends_the_connection => a_refusal_has_no_session(V3);
    mqtt5_3_2_2_7_a_refusal_ends_the_connection => a_refusal_has_no_session(V5);
    mqtt3_3_2_2_6_what_has_no_code_is_not_answered => a_breach_without_code();
    mqtt3_3_1_3_9_an_identifier_that_is_not_taken => an_identifier_too_long(V3);
    mqtt5_3_1_3_8_an_identifier_that_is_not_taken => an_identifier_too_long(V5);
    mqtt5_3_2_2_8_the_reason_is_one_of_connack => the_reasons_of_connack();
    mqtt5_3_2_2_16_an_identifier_is_assigned => an_identifier_is_assigned();
    mqtt5_3_2_2_19_connack_fits_without_reason_string => connack_fits();
    mqtt5_3_2_2_20_connack_fits_without_user_properties => connack_fits();
    mqtt5_3_2_2_22_the_keep_alive_of_the_client_holds => the_keep_alive_is_the_clients();
    mqtt5_3_1_2_28_no_response_information_unasked => no_response_information_unasked();
}

fn connack_comes_first(version: Version) {
    let topic = unique("first/");
    let lasting = Connect::lasting(version, &unique("client"));
    let mut client = Client::with(&lasting);
    client.subscribe(&topic, 1);
    drop(client);
    Client::connect(version).publish(&Publish::new(&topic, "waits").qos(1, 1));
    let mut client = Client::open(version);
    // All at once, with answers and messages due: CONNACK is before them, and there is no other.
    let more = subscribe(version, 5, &[], &[(topic.as_bytes(), 1)]);
    client.send(&[lasting.bytes(), more, PINGREQ.to_vec()].concat());
    let connack = client.take_connack();
    assert!(connack.present);
    let kinds: Vec<_> = (0..3).map(|_| client.next().head >> 4).collect();
    for expected in [kind::PUBLISH, kind::SUBACK, kind::PINGRESP] {
        assert!(kinds.contains(&expected), "{kinds:?}");
    }
    client.ping();
}

fn session_present(version: Version) {
    let id = unique("client");
    let (clean, lasting) = (Connect::new(version, &id), Connect::lasting(version, &id));
    let present = |connect: &Connect| Client::with(connect).connack.present;
    assert!(!present(&lasting), "there was none");
    assert!(present(&lasting), "it is there");
    assert!(!present(&clean), "it was thrown away");
    assert!(!present(&lasting), "it stays thrown away");
    assert!(present(&lasting));
}

fn a_refusal_has_no_session(version: Version) {
    // The session is there; who is refused does not hear of it.
    let mut connect = Connect::lasting(version, &unique("client"));
    (connect.user_name, connect.password) = (Some(ANN.0.into()), Some(ANN.1.into()));
    drop(Client::with(&connect));
    connect.password = Some(b"wrong".to_vec());
    let mut refused = Client::try_with(&connect);
    assert_eq!(refused.connack.reason, if version == V5 { 0x86 } else { 4 });
    assert!(!refused.connack.present);
    refused.ends_silently();
}

fn a_breach_without_code() {
    let mut client = Client::open(V3);
    let mut bytes = Connect::new(V3, "c").bytes();
    bytes[9] |= 1;
    client.send(&bytes);
    client.ends_silently();
}

fn an_identifier_too_long(version: Version) {
    let connect = Connect::new(version, &"x".repeat(60_000));
    let mut client = Client::try_with(&connect);
    assert_eq!(client.connack.reason, if version == V5 { 0x85 } else { 2 });
    client.ends_silently();
}

/// Every reason that CONNACK may have.
const REASONS: [u8; 22] = [
    0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8c, 0x90, 0x95, 0x97,
    0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9f,
];

fn the_reasons_of_connack() {
    let plain = Connect::new(V5, &unique("client"));
    let id = || Connect::new(V5, &unique("client"));
    let connects = [
        plain.bytes(),
        id().and(&[0x7e, 0]).bytes(),
        id().and(&prop::u16(prop::RECEIVE_MAXIMUM, 0)).bytes(),
        Connect { protocol: (b"MQTT".to_vec(), 9), ..id() }.bytes(),
        Connect::new(V5, &"x".repeat(60_000)).bytes(),
        Connect { user_name: Some(b"nobody".to_vec()), ..id() }.bytes(),
        id().and(&prop::text(prop::AUTH_METHOD, "GS2-KRB5")).bytes(),
        id().with_will(super::packets::Will::new("a/#", "")).bytes(),
        id().with_will(super::packets::Will::new("$SYS/x", "")).bytes(),
        packet(0x10, &[&plain.bytes()[2..], &[0; 70_000]].concat()),
    ];
    let reasons = connects.map(|bytes| {
        let mut client = Client::open(V5);
        client.send(&bytes);
        let connack = client.take_connack();
        assert!(REASONS.contains(&connack.reason), "{connack:?}");
        connack.reason
    });
    let expected = [0, 0x81, 0x82, 0x84, 0x85, 0x86, 0x8c, 0x90, 0x87, 0x95];
    assert_eq!(reasons, expected);
}

fn an_identifier_is_assigned() {
    let clients: Vec<_> = (0..3).map(|_| Client::with(&Connect::new(V5, ""))).collect();
    let mut names: Vec<_> = clients
        .iter()
        .map(|client| client.connack.properties.text(prop::ASSIGNED_ID).expect("it is told"))
        .collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 3, "each is new");
    assert!(names.iter().all(|name| !name.is_empty()));
}

fn connack_fits() {
    let mut answered = 0;
    for maximum in 1..80 {
        let property = prop::u32(prop::MAXIMUM_PACKET, maximum);
        // Without identifier, so that there is more to say.
        let mut client = Client::open(V5);
        client.send(&Connect::new(V5, "").and(&property).bytes());
        match client.wire.read(crate::support::wait::DEADLINE) {
            Ok(Some(packet)) => {
                let size = 2 + packet.body.len();
                assert_eq!(packet.head, 0x20);
                assert!(size <= maximum as usize, "{size} bytes for one who takes {maximum}");
                answered += 1;
            }
            // What it needs to know does not fit.
            Err(End::Cut) => {}
            other => panic!("{maximum}: {other:?}"),
        }
    }
    assert!(answered > 20, "most get their answer: {answered}");
}

fn the_keep_alive_is_the_clients() {
    let connack_of = |keep_alive| {
        let connect = Connect { keep_alive, ..Connect::new(V5, &unique("client")) };
        Client::with(&connect).connack
    };
    // One that is not replaced holds: MQTT-3.1.2-22 shows for how long.
    assert_eq!(connack_of(30).properties.number(prop::SERVER_KEEP_ALIVE), None);
    let connect = Connect { keep_alive: 1, ..Connect::new(V5, &unique("client")) };
    let mut client = Client::with(&connect);
    assert_eq!(client.connack.properties.number(prop::SERVER_KEEP_ALIVE), None);
    client.ends(0x8d);
    // One that the server does not like is replaced by what it names.
    let named = connack_of(u16::MAX).properties.number(prop::SERVER_KEEP_ALIVE);
    assert!(named.is_some_and(|seconds| seconds > 0 && seconds < 65_535), "{named:?}");
}

fn no_response_information_unasked() {
    let id = unique("client");
    for asks in [vec![], prop::u8(prop::REQUEST_RESPONSE, 0)] {
        let ConnAck { properties, .. } = Client::with(&Connect::new(V5, &id).and(&asks)).connack;
        assert_eq!(properties.text(prop::RESPONSE_INFORMATION), None);
    }
    let asks = prop::u8(prop::REQUEST_RESPONSE, 1);
    Client::with(&Connect::new(V5, &id).and(&asks)).ping();
}

/// What CONNACK says of the server is what it then does; the other sections show each.
#[test]
fn connack_says_what_is_served() {
    let connack = Client::connect(V5).connack;
    let number = |property| connack.properties.number(property);
    assert_eq!(number(prop::MAXIMUM_QOS), None, "2 is served");
    assert_ne!(number(prop::RETAIN_AVAILABLE), Some(0));
    assert_ne!(number(prop::WILDCARDS), Some(0));
    assert_ne!(number(prop::SUBSCRIPTION_IDS), Some(0));
    assert!(number(prop::RECEIVE_MAXIMUM).is_some_and(|maximum| maximum > 0));
    assert!(number(prop::ALIAS_MAXIMUM).is_some_and(|maximum| maximum > 0));
    assert!(number(prop::MAXIMUM_PACKET).is_some_and(|bytes| bytes > 1_000));
    let mut client = Client::connect(V5);
    client.send(&ack(kind::PUBACK, 1, 0));
    client.ping();
}

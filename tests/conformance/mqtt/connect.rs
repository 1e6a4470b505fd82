//! Section 3.1, CONNECT: what is accepted, what is refused, and what the fields mean.

use std::time::{Duration, Instant};

use super::client::Client;
use super::packets::{
    Connect, PINGREQ, Publish, V3, V5, Version, Will, ack, auth, disconnect, kind, prop, subscribe,
    unsubscribe,
};
use super::server::unique;
use crate::support::wire::{End, binary, packet, string};

statements! {
    mqtt3_3_1_0_1_the_first_packet_is_connect => anything_but_connect_comes_first(V3);
    mqtt5_3_1_0_1_the_first_packet_is_connect => anything_but_connect_comes_first(V5);
    mqtt3_3_1_0_2_a_second_connect_ends_the_connection => a_second_connect(V3);
    mqtt5_3_1_0_2_a_second_connect_ends_the_connection => a_second_connect(V5);
    mqtt3_3_1_2_1_other_protocols_are_not_served => another_protocol_name(V3);
    mqtt5_3_1_2_1_other_protocols_are_not_served => another_protocol_name(V5);
    mqtt3_3_1_2_2_other_levels_are_told_so => another_level(V3);
    mqtt5_3_1_2_2_other_versions_are_told_so => another_level(V5);
    mqtt3_3_1_2_3_the_reserved_flag_is_zero => refused_flags(V3, 0x01, None);
    mqtt5_3_1_2_3_the_reserved_flag_is_zero => refused_flags(V5, 0x01, None);
    mqtt3_3_1_2_13_no_will_has_qos_zero => refused_flags(V3, 0x08, None);
    mqtt5_3_1_2_11_no_will_has_qos_zero => refused_flags(V5, 0x08, None);
    mqtt3_3_1_2_14_no_will_has_qos_3 => refused_flags(V3, 0x18, Some(Will::new("w", "")));
    mqtt5_3_1_2_12_no_will_has_qos_3 => refused_flags(V5, 0x18, Some(Will::new("w", "")));
    mqtt3_3_1_2_15_no_will_is_not_retained => refused_flags(V3, 0x20, None);
    mqtt5_3_1_2_13_no_will_is_not_retained => refused_flags(V5, 0x20, None);
    mqtt3_3_1_2_22_no_password_without_user_name => a_password_without_user_name(V3);
    mqtt3_3_1_2_9_a_will_has_topic_and_message => a_will_without_its_fields(V3);
    mqtt5_3_1_2_9_a_will_has_properties_topic_and_payload => a_will_without_its_fields(V5);
    mqtt3_3_1_2_11_without_will_flag_there_are_no_will_fields => fields_without_flags(V3, 0x04);
    mqtt3_3_1_2_18_without_its_flag_there_is_no_user_name => fields_without_flags(V3, 0x80);
    mqtt5_3_1_2_16_without_its_flag_there_is_no_user_name => fields_without_flags(V5, 0x80);
    mqtt3_3_1_2_20_without_its_flag_there_is_no_password => fields_without_flags(V3, 0x40);
    mqtt5_3_1_2_18_without_its_flag_there_is_no_password => fields_without_flags(V5, 0x40);
    mqtt3_3_1_2_19_with_its_flag_there_is_a_user_name => flags_without_fields(V3, 0x80);
    mqtt5_3_1_2_17_with_its_flag_there_is_a_user_name => flags_without_fields(V5, 0x80);
    mqtt3_3_1_2_21_with_its_flag_there_is_a_password => flags_without_fields(V3, 0xc0);
    mqtt5_3_1_2_19_with_its_flag_there_is_a_password => flags_without_fields(V5, 0xc0);
    mqtt3_3_1_3_1_the_fields_come_in_their_order => all_fields_in_order(V3);
    mqtt5_3_1_3_1_the_fields_come_in_their_order => all_fields_in_order(V5);
    mqtt3_3_1_3_3_the_client_identifier_comes_first => no_client_identifier_at_all(V3);
    mqtt5_3_1_3_3_the_client_identifier_comes_first => no_client_identifier_at_all(V5);
    mqtt3_3_1_3_4_the_client_identifier_is_utf8 => texts_that_are_not_utf8(V3, Field::ClientId);
    mqtt5_3_1_3_4_the_client_identifier_is_utf8 => texts_that_are_not_utf8(V5, Field::ClientId);
    mqtt3_3_1_3_10_the_will_topic_is_utf8 => texts_that_are_not_utf8(V3, Field::WillTopic);
    mqtt5_3_1_3_11_the_will_topic_is_utf8 => texts_that_are_not_utf8(V5, Field::WillTopic);
    mqtt3_3_1_3_11_the_user_name_is_utf8 => texts_that_are_not_utf8(V3, Field::UserName);
    mqtt5_3_1_3_12_the_user_name_is_utf8 => texts_that_are_not_utf8(V5, Field::UserName);
    mqtt3_3_1_3_5_plain_identifiers_of_23_characters_are_taken => plain_identifiers(V3);
    mqtt5_3_1_3_5_plain_identifiers_of_23_characters_are_taken => plain_identifiers(V5);
    mqtt3_3_1_3_6_an_empty_identifier_gets_one => empty_identifiers_are_told_apart(V3);
    mqtt5_3_1_3_6_an_empty_identifier_gets_one => empty_identifiers_are_told_apart(V5);
    mqtt3_3_1_3_7_an_empty_identifier_needs_a_clean_session => an_empty_identifier_to_keep();
    mqtt3_3_1_3_8_an_empty_identifier_to_keep_is_refused => an_empty_identifier_to_keep();
    mqtt5_3_1_3_7_the_assigned_identifier_is_the_clients => the_assigned_identifier_is_used();
    mqtt3_3_1_4_1_the_form_of_connect_is_checked => malformed_connects(V3);
    mqtt5_3_1_4_1_the_form_of_connect_is_checked => malformed_connects(V5);
    mqtt5_3_1_4_2_whoever_fails_authentication_is_cut_off => a_wrong_password(V5);
    mqtt3_3_1_4_5_nothing_is_done_for_a_refused_client => a_refused_client_is_not_heard(V3);
    mqtt5_3_1_4_6_nothing_is_done_for_a_refused_client => a_refused_client_is_not_heard(V5);
    mqtt3_3_1_4_4_an_accepted_client_is_told => an_accepted_client_is_told(V3);
    mqtt5_3_1_4_5_an_accepted_client_is_told => an_accepted_client_is_told(V5);
    mqtt3_3_1_4_2_a_newcomer_of_the_same_name_takes_over => a_newcomer_takes_over(V3);
    mqtt5_3_1_4_3_a_newcomer_of_the_same_name_takes_over => a_newcomer_takes_over(V5);
    mqtt3_3_1_2_24_silence_beyond_the_keep_alive_ends_it => silence_beyond_the_keep_alive(V3);
    mqtt5_3_1_2_22_silence_beyond_the_keep_alive_ends_it => silence_beyond_the_keep_alive(V5);
}

/// How the gateway answers a CONNECT that it could read no further than the version.
#[track_caller]
fn is_refused(version: Version, bytes: &[u8], reason: u8) {
    let mut client = Client::open(version);
    client.send(bytes);
    match version {
        V3 => client.ends_silently(),
        V5 => {
            let connack = client.take_connack();
            assert_eq!((connack.reason, connack.present), (reason, false), "{bytes:02x?}");
            client.ends_silently();
        }
    }
}

fn anything_but_connect_comes_first(version: Version) {
    let packets = [
        packet(0x20, &[0, 0, 0]),
        Publish::new("a", "").bytes(version),
        ack(kind::PUBACK, 1, 0),
        ack(kind::PUBREC, 1, 0),
        ack(kind::PUBREL, 1, 0),
        ack(kind::PUBCOMP, 1, 0),
        subscribe(version, 1, &[], &[(b"a", 0)]),
        packet(0x90, &[0, 1, 0]),
        unsubscribe(version, 1, &["a"]),
        packet(0xb0, &[0, 1]),
        PINGREQ.to_vec(),
        packet(0xd0, &[]),
        disconnect(version, 0, &[]),
        auth(0x18, &prop::text(prop::AUTH_METHOD, "SCRAM-SHA-256")),
        packet(0x00, &[]),
    ];
    for bytes in packets {
        let mut client = Client::open(version);
        client.send(&bytes);
        client.ends_silently();
    }
}

fn a_second_connect(version: Version) {
    let connect = Connect::new(version, &unique("client"));
    let mut client = Client::with(&connect);
    client.send(&connect.bytes());
    client.ends(0x82);
}

fn another_protocol_name(version: Version) {
    for name in ["MQTX", "mqtt", "MQTTT", "MQT", "", "\u{0}QTT"] {
        let mut connect = Connect::new(version, &unique("client"));
        connect.protocol.0 = name.into();
        let mut client = Client::open(version);
        client.send(&connect.bytes());
        match client.wire.read(crate::support::wait::DEADLINE) {
            Err(End::Cut) => {}
            // The name begins as it should, so that the version is known.
            Ok(Some(answer)) if answer.head == 0x20 => {
                assert_ne!(answer.body[1], 0, "{name} is no name of the protocol");
                client.ends_silently();
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}

fn another_level(version: Version) {
    let levels: &[u8] = if version == V3 { &[0, 1, 2, 3] } else { &[6, 7, 0x84, 255] };
    for &level in levels {
        let mut connect = Connect::new(version, &unique("client"));
        connect.protocol.1 = level;
        let mut client = Client::try_with(&connect);
        let expected = if version == V3 { 1 } else { 0x84 };
        assert_eq!(client.connack.reason, expected, "level {level}");
        client.ends_silently();
    }
}

fn refused_flags(version: Version, wrong_flags: u8, will: Option<Will>) {
    let connect = Connect { will, wrong_flags, ..Connect::new(version, &unique("client")) };
    is_refused(version, &connect.bytes(), 0x81);
}

fn a_password_without_user_name(version: Version) {
    let password = Some(b"secret".to_vec());
    let connect = Connect { password, ..Connect::new(version, &unique("client")) };
    is_refused(version, &connect.bytes(), 0x81);
}

fn a_will_without_its_fields(version: Version) {
    let plain = Connect { wrong_flags: 0x04, ..Connect::new(version, &unique("client")) };
    is_refused(version, &plain.bytes(), 0x81);
    let whole = Connect::new(version, "c").with_will(Will::new("w", "bye")).bytes();
    // From the end of the identifier to the last byte but one.
    let properties = usize::from(version == V5);
    let start = 2 + 10 + properties + 3;
    for end in start..whole.len() {
        is_refused(version, &packet(0x10, &whole[2..end]), 0x81);
    }
}

fn fields_without_flags(version: Version, flag: u8) {
    let mut connect = Connect::new(version, &unique("client")).with_will(Will::new("w", "bye"));
    (connect.user_name, connect.password) = (Some(b"ann".to_vec()), Some(b"secret".to_vec()));
    connect.wrong_flags = flag;
    is_refused(version, &connect.bytes(), 0x81);
}

fn flags_without_fields(version: Version, flags: u8) {
    let connect = Connect { wrong_flags: flags, ..Connect::new(version, &unique("client")) };
    is_refused(version, &connect.bytes(), 0x81);
    if flags == 0xc0 {
        let user_name = Some(b"ann".to_vec());
        let connect = Connect { wrong_flags: 0x40, user_name, ..connect };
        is_refused(version, &connect.bytes(), 0x81);
    }
}

/// A client of the principal `ann`, whose every field is right.
fn ann(version: Version) -> Connect {
    let (name, password) = super::server::ANN;
    Connect {
        user_name: Some(name.into()),
        password: Some(password.into()),
        ..Connect::new(version, &unique("ann"))
    }
}

fn all_fields_in_order(version: Version) {
    let topic = unique("will/");
    let mut witness = Client::connect(version);
    assert_eq!(witness.subscribe(&topic, 0), 0);
    let will = Will { payload: b"gone".to_vec(), ..Will::new(&topic, "") };
    // Anonymous, so that the rules let the will pass; the order is the same with and without a login.
    drop(Client::with(&Connect::new(version, &unique("client")).with_will(will)));
    assert_eq!(witness.take().payload, "gone");
    let client = Client::try_with(&ann(version));
    assert_eq!(client.connack.reason, 0, "the login was read from its place");
}

fn no_client_identifier_at_all(version: Version) {
    let whole = Connect::new(version, "x").bytes();
    for missing in 1..=3 {
        is_refused(version, &packet(0x10, &whole[2..whole.len() - missing]), 0x81);
    }
}

#[derive(Clone, Copy, Debug)]
enum Field {
    ClientId,
    WillTopic,
    UserName,
}

fn texts_that_are_not_utf8(version: Version, field: Field) {
    let wrong: [&[u8]; 6] =
        [b"\xff", b"a\xc3", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"a\0b"];
    for text in wrong {
        let mut connect = Connect::new(version, &unique("client"));
        match field {
            Field::ClientId => connect.client_id = text.to_vec(),
            Field::WillTopic => {
                connect.will = Some(Will { topic: text.to_vec(), ..Will::new("", "") });
            }
            Field::UserName => connect.user_name = Some(text.to_vec()),
        }
        let is_null = text.contains(&0) && matches!(field, Field::WillTopic);
        // U+0000 makes a topic invalid rather than a text; both are an end.
        let reasons: &[u8] = if is_null { &[0x81, 0x90] } else { &[0x81] };
        let mut client = Client::open(version);
        client.send(&connect.bytes());
        if version == V5 {
            let reason = client.take_connack().reason;
            assert!(reasons.contains(&reason), "{field:?} {text:02x?}: {reason:#x}");
        }
        client.ends_silently();
    }
}

fn plain_identifiers(version: Version) {
    let unlike = unique("");
    let all = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    for part in [&all[..16], &all[16..32], &all[32..48], &all[46..]] {
        let id = format!("{unlike}{part}{}", "z".repeat(23));
        Client::with(&Connect::new(version, &id[..23])).leave();
    }
    Client::with(&Connect::new(version, "a")).leave();
}

fn empty_identifiers_are_told_apart(version: Version) {
    let topic = unique("empty/");
    let [mut first, mut second] = std::array::from_fn(|_| Client::with(&Connect::new(version, "")));
    first.subscribe(&topic, 0);
    second.subscribe(&topic, 0);
    first.publish(&Publish::new(&unique("x/"), "").qos(1, 1));
    second.send(&Publish::new(&topic, "to both").bytes(version));
    assert_eq!(first.message().payload, "to both", "it is still there: the other has another name");
    assert_eq!(second.message().payload, "to both");
    let [one, two] = [&first, &second].map(|it| it.connack.properties.text(prop::ASSIGNED_ID));
    match version {
        V3 => assert_eq!((one, two), (None, None)),
        V5 => assert_ne!(one.expect("it is told"), two.expect("it is told")),
    }
}

fn an_empty_identifier_to_keep() {
    let connect = Connect::lasting(V3, "");
    let mut client = Client::try_with(&connect);
    assert_eq!((client.connack.reason, client.connack.present), (2, false));
    client.ends_silently();
}

fn the_assigned_identifier_is_used() {
    let topic = unique("assigned/");
    let mut client = Client::with(&Connect { client_id: Vec::new(), ..Connect::lasting(V5, "") });
    let name = client.connack.properties.text(prop::ASSIGNED_ID).expect("it is told");
    client.subscribe(&topic, 1);
    drop(client);
    let client = Client::with(&Connect::lasting(V5, &name));
    assert!(client.connack.present, "the session has the name that was told");
    assert_eq!(client.connack.properties.text(prop::ASSIGNED_ID), None, "it was given");
}

fn malformed_connects(version: Version) {
    let connect = Connect::new(version, "c").bytes();
    let mut longer = connect.clone();
    longer.push(0);
    longer[1] += 1;
    is_refused(version, &longer, 0x81);
    let mut flags = connect.clone();
    flags[0] = 0x11;
    Client::open(version).send(&flags);
    let mut client = Client::open(version);
    client.send(&flags);
    client.ends_silently();
    if version == V5 {
        for (properties, reason) in wrong_properties() {
            is_refused(V5, &Connect::new(V5, "c").and(&properties).bytes(), reason);
        }
        // Wills are refused for what they are, too.
        let will = Will { properties: prop::u16(prop::ALIAS, 1), ..Will::new("w", "") };
        is_refused(V5, &Connect::new(V5, "c").with_will(will).bytes(), 0x81);
    }
}

/// Properties that CONNECT may not have, and what is told.
fn wrong_properties() -> Vec<(Vec<u8>, u8)> {
    let twice = |property: Vec<u8>| [property.clone(), property].concat();
    vec![
        (twice(prop::u32(prop::SESSION_EXPIRY, 1)), 0x82),
        (twice(prop::u16(prop::RECEIVE_MAXIMUM, 1)), 0x82),
        (twice(prop::u32(prop::MAXIMUM_PACKET, 100)), 0x82),
        (twice(prop::u16(prop::ALIAS_MAXIMUM, 1)), 0x82),
        (twice(prop::u8(prop::REQUEST_RESPONSE, 1)), 0x82),
        (twice(prop::u8(prop::REQUEST_PROBLEM, 1)), 0x82),
        (twice(prop::text(prop::AUTH_METHOD, "SCRAM-SHA-256")), 0x82),
        (prop::u16(prop::RECEIVE_MAXIMUM, 0), 0x82),
        (prop::u32(prop::MAXIMUM_PACKET, 0), 0x82),
        (prop::u8(prop::REQUEST_RESPONSE, 2), 0x82),
        (prop::u8(prop::REQUEST_PROBLEM, 2), 0x82),
        (prop::bytes(prop::AUTH_DATA, b"x"), 0x82),
        (prop::u16(prop::SERVER_KEEP_ALIVE, 1), 0x81),
        (prop::u32(prop::MESSAGE_EXPIRY, 1), 0x81),
        (prop::u32(prop::WILL_DELAY, 1), 0x81),
        (vec![0x7e, 0], 0x81),
        (vec![prop::SESSION_EXPIRY, 0], 0x81),
    ]
}

fn a_wrong_password(version: Version) {
    let connect = Connect { password: Some(b"wrong".to_vec()), ..ann(version) };
    let mut client = Client::try_with(&connect);
    assert_eq!(client.connack.reason, if version == V5 { 0x86 } else { 4 });
    client.ends_silently();
}

fn a_refused_client_is_not_heard(version: Version) {
    let topic = unique("refused/");
    let mut witness = Client::connect(version);
    witness.subscribe(&topic, 0);
    let wrong = Connect { password: Some(b"wrong".to_vec()), ..ann(version) };
    let mut refused = Client::open(version);
    let publish = Publish::new(&topic, "not heard").bytes(version);
    refused.send(&[wrong.bytes(), publish.clone(), PINGREQ.to_vec()].concat());
    assert_ne!(refused.take_connack().reason, 0);
    refused.send(&publish);
    refused.ends_silently();
    assert_eq!(witness.drain(), []);
}

fn an_accepted_client_is_told(version: Version) {
    for keep_alive in [0, 1, 60, u16::MAX] {
        let connect = Connect { keep_alive, ..Connect::new(version, &unique("client")) };
        let mut client = Client::with(&connect);
        assert!(!client.connack.present);
        client.ping();
    }
    assert_eq!(Client::try_with(&ann(version)).connack.reason, 0);
}

fn a_newcomer_takes_over(version: Version) {
    let id = unique("client");
    for connect in [Connect::new(version, &id), Connect::lasting(version, &id)] {
        let mut first = Client::with(&connect);
        let mut second = Client::with(&connect);
        first.ends(0x8e);
        second.ping();
    }
}

fn silence_beyond_the_keep_alive(version: Version) {
    let topic = unique("will/");
    let mut witness = Client::connect(version);
    witness.subscribe(&topic, 0);
    let will = Will::new(&topic, "gone");
    let connect = Connect::new(version, &unique("client")).with_will(will);
    let start = Instant::now();
    let mut client = Client::with(&Connect { keep_alive: 1, ..connect });
    client.ends(0x8d);
    assert!(start.elapsed() >= Duration::from_millis(1_400), "{:?}", start.elapsed());
    assert_eq!(witness.take().payload, "gone", "as if the network had failed");
}

/// Shows that a packet within the keep alive counts: it goes on beyond one and a half times as long.
#[test]
fn any_packet_within_the_keep_alive_counts() {
    for version in [V3, V5] {
        let connect = Connect::new(version, &unique("client"));
        let mut client = Client::with(&Connect { keep_alive: 1, ..connect });
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(2) {
            assert_eq!(client.next_within(Duration::from_millis(500)), None);
            client.send(&ack(kind::PUBACK, 77, 0));
        }
        client.ping();
    }
}

/// A CONNECT of MQTT 3.1 is told that its version is not served, in its own words.
#[test]
fn mqtt_3_1_is_told_so() {
    let body = [string("MQIsdp"), vec![3, 2, 0, 60], binary(b"old")].concat();
    let mut client = Client::open(V3);
    client.send(&packet(0x10, &body));
    assert_eq!(client.take_connack().reason, 1);
    client.ends_silently();
}

//! Sections 3.8 and 3.9, SUBSCRIBE and SUBACK.

use super::client::Client;
use super::packets::{Connect, Publish, V3, V5, Version, kind, prop, subscribe};
use super::server::unique;
use crate::support::wire::{binary, packet};

statements! {
    mqtt3_3_8_1_1_the_flags_are_0010 => the_flags_are_0010(V3);
    mqtt5_3_8_1_1_the_flags_are_0010 => the_flags_are_0010(V5);
    mqtt3_3_8_3_1_filters_are_utf8 => filters_are_utf8(V3);
    mqtt5_3_8_3_1_filters_are_utf8 => filters_are_utf8(V5);
    mqtt3_3_8_3_3_there_is_a_filter => there_is_a_filter(V3);
    mqtt5_3_8_3_2_there_is_a_filter => there_is_a_filter(V5);
    mqtt3_3_8_3_4_reserved_bits_and_qos_3 => reserved_bits(V3, &[(0x04, 0x81), (0x08, 0x81), (0x80, 0x81), (0x03, 0x82)]);
    mqtt5_3_8_3_5_reserved_bits => reserved_bits(V5, &[(0x40, 0x81), (0x80, 0x81), (0x03, 0x82), (0x30, 0x82)]);
    mqtt5_3_8_3_3_no_local => no_local();
    mqtt3_3_8_4_1_subscribe_is_answered => subscribe_is_answered(V3);
    mqtt5_3_8_4_1_subscribe_is_answered => subscribe_is_answered(V5);
    mqtt3_3_8_4_2_the_answer_has_its_identifier => subscribe_is_answered(V3);
    mqtt5_3_8_4_2_the_answer_has_its_identifier => subscribe_is_answered(V5);
    mqtt3_2_3_1_7_answers_have_the_identifier => subscribe_is_answered(V3);
    mqtt5_2_2_1_6_answers_have_the_identifier => subscribe_is_answered(V5);
    mqtt5_2_2_2_1_without_properties_their_length_is_0 => without_properties_their_length_is_0();
    mqtt3_3_8_4_3_the_same_filter_replaces => the_same_filter_replaces(V3);
    mqtt5_3_8_4_3_the_same_filter_replaces => the_same_filter_replaces(V5);
    mqtt5_3_8_4_4_what_is_retained_is_sent_again => the_same_filter_replaces(V5);
    mqtt3_3_8_4_4_several_filters_are_answered_together => several_filters(V3);
    mqtt5_3_8_4_5_several_filters_are_answered_together => several_filters(V5);
    mqtt3_3_8_4_5_there_is_a_code_for_each => several_filters(V3);
    mqtt5_3_8_4_6_there_is_a_reason_for_each => several_filters(V5);
    mqtt3_3_9_3_1_in_the_order_of_the_filters => several_filters(V3);
    mqtt5_3_9_3_1_in_the_order_of_the_filters => several_filters(V5);
    mqtt3_3_9_3_2_codes_are_those_of_suback => several_filters(V3);
    mqtt5_3_9_3_2_reasons_are_those_of_suback => several_filters(V5);
    mqtt5_3_8_4_7_the_qos_granted_or_a_failure => several_filters(V5);
    mqtt3_3_8_4_6_the_lesser_qos => the_lesser_qos(V3);
    mqtt5_3_8_4_8_the_lesser_qos => the_lesser_qos(V5);
}

fn the_flags_are_0010(version: Version) {
    for flags in (0..16).filter(|flags| *flags != 2) {
        let mut client = Client::connect(version);
        let mut bytes = subscribe(version, 1, &[], &[(b"a", 0)]);
        bytes[0] = 0x80 | flags;
        client.send(&bytes);
        client.ends(0x81);
    }
}

fn filters_are_utf8(version: Version) {
    for filter in [&b"\xff"[..], b"a/\xed\xa0\x80", b"\xc0\xaf", b"a/\xe2\x82"] {
        let mut client = Client::connect(version);
        client.send(&subscribe(version, 1, &[], &[(filter, 0)]));
        client.ends(0x81);
    }
}

fn there_is_a_filter(version: Version) {
    let mut client = Client::connect(version);
    client.send(&subscribe(version, 1, &[], &[]));
    client.ends(0x82);
}

fn reserved_bits(version: Version, cases: &[(u8, u8)]) {
    for &(options, reason) in cases {
        let mut client = Client::connect(version);
        client.send(&subscribe(version, 1, &[], &[(b"a", options)]));
        client.ends(reason);
    }
}

fn no_local() {
    let (topic, id) = (unique("local/"), unique("client"));
    let mut client = Client::with(&Connect::lasting(V5, &id));
    client.subscribe(&topic, 0x05);
    client.publish(&Publish::new(&topic, "own").qos(1, 1));
    Client::connect(V5).publish(&Publish::new(&topic, "another's").qos(1, 1));
    assert_eq!(client.take().payload, "another's");
    // The identifier counts, not the connection.
    client.ping();
    drop(client);
    let mut client = Client::with(&Connect::lasting(V5, &id));
    client.publish(&Publish::new(&topic, "own").qos(1, 1));
    assert_eq!(client.drain(), []);
    client.subscribe(&topic, 0x01);
    client.send(&Publish::new(&topic, "own").bytes(V5));
    assert_eq!(client.drain().len(), 1, "without it, one's own come too");
}

fn subscribe_is_answered(version: Version) {
    let mut client = Client::connect(version);
    for id in [1, 255, 256, 65_535] {
        client.send(&subscribe(version, id, &[], &[(b"a/b", 1)]));
        assert_eq!(client.expect_reasons(kind::SUBACK, id), [1]);
        client.send(&super::packets::unsubscribe(version, id, &["a/b"]));
        client.expect_reasons(kind::UNSUBACK, id);
    }
}

fn without_properties_their_length_is_0() {
    let topic = unique("bare/");
    let mut client = Client::connect(V5);
    client.send(&subscribe(V5, 1, &[], &[(topic.as_bytes(), 0)]));
    assert_eq!(client.expect(kind::SUBACK).body, [0, 1, 0, 0]);
    client.send(&Publish::new(&topic, "x").bytes(V5));
    assert_eq!(client.next().body, [binary(topic.as_bytes()), vec![0, b'x']].concat());
    client.send(&super::packets::unsubscribe(V5, 2, &[&topic]));
    assert_eq!(client.expect(kind::UNSUBACK).body, [0, 2, 0, 0]);
    // A list that is left out where it must not be is missed.
    client.send(&packet(0x82, &[&[0, 1][..], &binary(b"a"), &[0]].concat()));
    client.ends(0x81);
}

fn the_same_filter_replaces(version: Version) {
    let topic = unique("again/");
    let mut publisher = Client::connect(version);
    publisher.publish(&Publish::new(&topic, "kept").qos(1, 1).retain());
    let mut client = Client::connect(version);
    for qos in [0, 2, 1] {
        assert_eq!(client.subscribe(&topic, qos), qos);
        let retained: Vec<_> = client.drain().iter().map(|it| (it.qos, it.retain)).collect();
        assert_eq!(retained, [(qos.min(1), true)], "it comes again, at the QoS of now");
        publisher.publish(&Publish::new(&topic, "live").qos(2, 2));
        let live: Vec<_> = client.drain().iter().map(|it| (it.qos, it.retain)).collect();
        assert_eq!(live, [(qos, false)], "once, at the QoS of now");
    }
    // Nothing is lost while subscriptions are replaced.
    for number in 0..50 {
        publisher
            .send(&Publish::new(&topic, &number.to_string()).qos(1, 10 + number).bytes(version));
        client.send(&subscribe(version, 3, &[], &[(topic.as_bytes(), 0)]));
    }
    for number in 0..50 {
        publisher.expect_ack(kind::PUBACK, 10 + number);
    }
    let live: Vec<_> =
        client.drain().into_iter().filter(|it| !it.retain).map(|it| it.payload).collect();
    assert_eq!(live, (0..50).map(|number| number.to_string()).collect::<Vec<_>>());
}

fn several_filters(version: Version) {
    let root = unique("several");
    let filters = ["a", "b/+", "$SYS/denied/#", "#", "c"].map(|it| format!("{root}/{it}"));
    let mut client = Client::connect(version);
    let wanted: Vec<_> = filters.iter().map(String::as_bytes).zip([2, 0, 1, 0, 1]).collect();
    client.send(&subscribe(version, 77, &[], &wanted));
    assert_eq!(client.expect_reasons(kind::SUBACK, 77), [2, 0, 1, 0, 1]);
    for level in ["a", "b/x", "c"] {
        client.send(&Publish::new(&format!("{root}/{level}"), "").bytes(version));
    }
    assert_eq!(client.drain().len(), 3, "each of them is there");
    // As if they had come one by one: the last of two that are the same holds.
    let topic = unique("twice/");
    client.send(&subscribe(version, 78, &[], &[(topic.as_bytes(), 2), (topic.as_bytes(), 0)]));
    assert_eq!(client.expect_reasons(kind::SUBACK, 78), [2, 0]);
    Client::connect(version).publish(&Publish::new(&topic, "").qos(1, 1));
    assert_eq!(client.drain().iter().map(|it| it.qos).collect::<Vec<_>>(), [0]);
}

fn the_lesser_qos(version: Version) {
    let topic = unique("lesser/");
    let mut publisher = Client::connect(version);
    for granted in 0..=2 {
        let mut client = Client::connect(version);
        assert_eq!(client.subscribe(&topic, granted), granted);
        for published in 0..=2 {
            publisher.publish(&Publish::new(&topic, "").qos(published, 5));
            assert_eq!(client.take().qos, granted.min(published), "{granted} {published}");
        }
    }
}

/// Properties that SUBSCRIBE may not have.
#[test]
fn wrong_properties_of_subscribe_end_the_connection() {
    let cases = [
        (prop::subscription_id(0), 0x82),
        ([prop::subscription_id(1), prop::subscription_id(2)].concat(), 0x82),
        (vec![prop::SUBSCRIPTION_ID, 0xff, 0xff, 0xff, 0xff, 0x01], 0x81),
        (prop::u32(prop::SESSION_EXPIRY, 1), 0x81),
        (prop::text(prop::REASON_STRING, "a"), 0x81),
    ];
    for (properties, reason) in cases {
        let mut client = Client::connect(V5);
        client.send(&subscribe(V5, 1, &properties, &[(b"a", 0)]));
        assert_eq!(client.wire.end(), crate::support::wire::End::Told(reason), "{properties:02x?}");
    }
}

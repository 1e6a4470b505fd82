//! Section 3.3, PUBLISH: flags, topics, properties, and to whom a message goes.

use std::time::Duration;

use super::client::{Client, Message};
use super::packets::{BOTH, Connect, Publish, V3, V5, Version, kind, prop, subscribe};
use super::server::unique;
use crate::support::wire::{binary, packet};

statements! {
    mqtt3_3_3_1_2_dup_is_zero_for_qos_zero => dup_and_qos_zero(V3);
    mqtt5_3_3_1_2_dup_is_zero_for_qos_zero => dup_and_qos_zero(V5);
    mqtt3_3_3_1_3_dup_does_not_travel => dup_does_not_travel(V3);
    mqtt5_3_3_1_3_dup_does_not_travel => dup_does_not_travel(V5);
    mqtt3_3_3_1_4_qos_3_ends_the_connection => qos_3(V3);
    mqtt5_3_3_1_4_qos_3_is_malformed => qos_3(V5);
    mqtt3_2_3_1_5_no_identifier_with_qos_zero => no_identifier_with_qos_zero(V3);
    mqtt5_2_2_1_2_no_identifier_with_qos_zero => no_identifier_with_qos_zero(V5);
    mqtt3_3_3_2_1_the_topic_is_utf8 => the_topic_is_utf8(V3);
    mqtt5_3_3_2_1_the_topic_is_utf8 => the_topic_is_utf8(V5);
    mqtt3_3_3_2_2_topics_have_no_wildcards => topics_have_no_wildcards(V3);
    mqtt5_3_3_2_2_topics_have_no_wildcards => topics_have_no_wildcards(V5);
    mqtt3_4_7_1_1_wildcards_stand_in_filters_only => topics_have_no_wildcards(V3);
    mqtt5_4_7_0_1_wildcards_stand_in_filters_only => topics_have_no_wildcards(V5);
    mqtt3_3_3_2_3_the_topic_matches_a_filter => the_topic_matches_a_filter(V3);
    mqtt5_3_3_2_3_the_topic_matches_a_filter => the_topic_matches_a_filter(V5);
    mqtt5_3_3_2_4_the_payload_format_is_passed_on => properties_are_passed_on();
    mqtt5_3_3_2_15_the_response_topic_is_passed_on => properties_are_passed_on();
    mqtt5_3_3_2_16_correlation_data_are_passed_on => properties_are_passed_on();
    mqtt5_3_3_2_17_user_properties_are_passed_on => properties_are_passed_on();
    mqtt5_3_3_2_18_user_properties_keep_their_order => properties_are_passed_on();
    mqtt5_3_3_2_20_the_content_type_is_passed_on => properties_are_passed_on();
    mqtt5_3_3_2_5_an_expired_message_is_not_sent => messages_expire();
    mqtt5_3_3_2_6_the_expiry_sent_is_what_is_left => messages_expire();
    mqtt5_3_3_2_13_the_response_topic_is_utf8 => wrong_texts(&prop::bytes(prop::RESPONSE_TOPIC, b"a\xff"), &[0x81]);
    mqtt5_3_3_2_14_the_response_topic_has_no_wildcards => response_topics_with_wildcards();
    mqtt5_3_3_2_19_the_content_type_is_utf8 => wrong_texts(&prop::bytes(prop::CONTENT_TYPE, b"\xc3"), &[0x81]);
    mqtt5_1_5_7_1_user_properties_are_utf8 => user_properties_are_utf8();
    mqtt3_3_3_4_1_publish_is_answered => publish_is_answered(V3);
    mqtt5_3_3_4_1_publish_is_answered => publish_is_answered(V5);
    mqtt3_3_3_5_1_overlapping_subscriptions => overlapping_subscriptions(V3);
    mqtt5_3_3_4_2_overlapping_subscriptions => overlapping_subscriptions(V5);
    mqtt3_3_3_5_2_a_publication_that_is_not_allowed => a_publication_that_is_not_allowed();
    mqtt5_3_3_4_3_messages_come_with_subscription_identifiers => subscription_identifiers();
    mqtt5_3_3_4_4_one_copy_has_all_identifiers => subscription_identifiers();
    mqtt5_3_3_4_6_clients_send_no_subscription_identifiers => a_subscription_identifier_in_publish();
}

fn dup_and_qos_zero(version: Version) {
    let topic = unique("dup/");
    let mut client = Client::connect(version);
    client.subscribe(&topic, 2);
    client.send(&Publish::new(&topic, "").bytes(version));
    assert!(!client.message().dup);
    client.send(&Publish::new(&topic, "").dup().bytes(version));
    client.ends(0x81);
}

fn dup_does_not_travel(version: Version) {
    let topic = unique("dup/");
    let mut client = Client::connect(version);
    client.subscribe(&topic, 2);
    for qos in [1, 2] {
        let mut publisher = Client::connect(version);
        publisher.publish(&Publish::new(&topic, "").qos(qos, 7).dup());
        let message = client.take();
        assert_eq!((message.qos, message.dup), (qos, false));
    }
}

fn qos_3(version: Version) {
    for flags in [6, 7, 14, 15] {
        let mut client = Client::connect(version);
        let body = [binary(b"a"), vec![0, 1, 0]].concat();
        client.send(&packet(0x30 | flags, &body));
        client.ends(0x81);
    }
}

fn no_identifier_with_qos_zero(version: Version) {
    // What would be read as an identifier is payload, both ways.
    let topic = unique("plain/");
    let mut client = Client::connect(version);
    client.subscribe(&topic, 2);
    client.send(&Publish::new(&topic, "\u{1}\u{2}payload").bytes(version));
    assert_eq!(client.message().payload, "\u{1}\u{2}payload");
}

fn the_topic_is_utf8(version: Version) {
    for topic in [&b"a/\xff"[..], b"\xed\xa0\x80", b"\xc0\x80"] {
        let mut client = Client::connect(version);
        client.send(&Publish { topic: topic.into(), ..Publish::new("", "") }.bytes(version));
        client.ends(0x81);
    }
    let mut client = Client::connect(version);
    client.send(&packet(0x30, &[0, 9, b'a']));
    client.ends(0x81);
}

fn topics_have_no_wildcards(version: Version) {
    for topic in ["#", "+", "a/#", "a/+/b", "a+", "a#b"] {
        for qos in 0..=2 {
            let mut client = Client::connect(version);
            client.send(&Publish::new(topic, "").qos(qos, 1).bytes(version));
            client.ends(0x90);
        }
    }
}

fn the_topic_matches_a_filter(version: Version) {
    let root = unique("match");
    let mut client = Client::connect(version);
    client.subscribe(&format!("{root}/+/x"), 0);
    client.subscribe(&format!("{root}/deep/#"), 0);
    for topic in ["a/x", "a/y", "deep", "deep/er/y", "a/b/x", "/x", "deeper"] {
        client.send(&Publish::new(&format!("{root}/{topic}"), "").bytes(version));
    }
    let topics: Vec<_> = client.drain().into_iter().map(|message| message.topic).collect();
    let expected = ["a/x", "deep", "deep/er/y", "/x"].map(|topic| format!("{root}/{topic}"));
    assert_eq!(topics, expected);
}

fn properties_are_passed_on() {
    let topic = unique("properties/");
    let [mut one, mut other, mut old] = [V5, V5, V3].map(Client::connect);
    for client in [&mut one, &mut other, &mut old] {
        client.subscribe(&topic, 1);
    }
    let long = "x".repeat(3_000);
    let properties = [
        prop::user("b", "1"),
        prop::bytes(prop::CORRELATION, b"\0\xff\x80"),
        prop::user("a", &long),
        prop::text(prop::RESPONSE_TOPIC, "answers/\u{feff}ü"),
        prop::user("b", "1"),
        prop::text(prop::CONTENT_TYPE, "text/plain"),
        prop::u8(prop::PAYLOAD_FORMAT, 1),
        prop::user("", ""),
    ];
    one.send(&Publish::new(&topic, "hello").qos(1, 1).and(&properties.concat()).bytes(V5));
    let of_publisher = loop {
        let packet = one.next();
        if packet.head >> 4 == kind::PUBLISH {
            break Message::parse(&packet, V5);
        }
    };
    for message in [of_publisher, other.message()] {
        let found = &message.properties;
        assert_eq!(found.user(), [("b", "1"), ("a", &long), ("b", "1"), ("", "")]);
        assert_eq!(found.text(prop::RESPONSE_TOPIC).as_deref(), Some("answers/\u{feff}ü"));
        assert_eq!(found.text(prop::CONTENT_TYPE).as_deref(), Some("text/plain"));
        assert_eq!(found.number(prop::PAYLOAD_FORMAT), Some(1));
        let correlation = found.0.iter().find(|(number, _)| *number == prop::CORRELATION);
        let bytes = super::client::Value::Bytes(b"\0\xff\x80".to_vec());
        assert_eq!(correlation.map(|(_, value)| value), Some(&bytes));
    }
    assert_eq!(old.message().payload, "hello", "3.1.1 gets what it has words for");
}

fn messages_expire() {
    let topic = unique("expiry/");
    let connect = Connect::lasting(V5, &unique("client"));
    let mut client = Client::with(&connect);
    client.subscribe(&topic, 1);
    drop(client);
    let expiry = |seconds| prop::u32(prop::MESSAGE_EXPIRY, seconds);
    let mut publisher = Client::connect(V5);
    publisher.publish(&Publish::new(&topic, "brief").qos(1, 1).and(&expiry(1)));
    publisher.publish(&Publish::new(&topic, "long").qos(1, 2).and(&expiry(100)));
    publisher.publish(&Publish::new(&topic, "for ever").qos(1, 3));
    let kept = unique("expiry/");
    publisher.publish(&Publish::new(&kept, "brief").qos(1, 4).and(&expiry(1)).retain());
    assert_eq!(publisher.next_within(Duration::from_millis(2_200)), None);
    let mut client = Client::with(&connect);
    client.send(&subscribe(V5, 5, &[], &[(kept.as_bytes(), 1)]));
    let messages = client.drain();
    let payloads: Vec<_> = messages.iter().map(|it| it.payload.as_str()).collect();
    assert_eq!(payloads, ["long", "for ever"]);
    let left = messages.iter().map(|it| it.properties.number(prop::MESSAGE_EXPIRY));
    let left: Vec<_> = left.collect();
    assert!(left[0].is_some_and(|seconds| (90..=98).contains(&seconds)), "{left:?}");
    assert_eq!(left[1], None);
}

fn wrong_texts(property: &[u8], reasons: &[u8]) {
    let mut client = Client::connect(V5);
    client.send(&Publish::new("a", "").and(property).bytes(V5));
    let end = client.wire.end();
    assert!(
        reasons.iter().any(|&reason| end == crate::support::wire::End::Told(reason)),
        "{end:?}"
    );
}

fn response_topics_with_wildcards() {
    for topic in ["a/#", "+", "a+", ""] {
        wrong_texts(&prop::text(prop::RESPONSE_TOPIC, topic), &[0x81, 0x82, 0x90]);
    }
}

fn user_properties_are_utf8() {
    for (name, value) in [(&b"\xff"[..], &b"a"[..]), (b"a", b"\xed\xbf\xbf"), (b"a\0", b"a")] {
        wrong_texts(&[vec![prop::USER], binary(name), binary(value)].concat(), &[0x81]);
    }
}

fn publish_is_answered(version: Version) {
    let mut client = Client::connect(version);
    // Nothing for QoS 0: the answer to PINGREQ comes next.
    client.publish(&Publish::new(&unique("answered/"), ""));
    let no_subscribers = if version == V5 { 0x10 } else { 0 };
    let reason = client.publish(&Publish::new(&unique("answered/"), "").qos(1, 258));
    assert_eq!(reason, no_subscribers);
    let reason = client.publish(&Publish::new(&unique("answered/"), "").qos(2, 65_535));
    assert_eq!(reason, no_subscribers);
}

fn overlapping_subscriptions(version: Version) {
    let root = unique("overlap");
    let mut client = Client::connect(version);
    client.subscribe(&format!("{root}/#"), 0);
    client.subscribe(&format!("{root}/a"), 2);
    client.subscribe(&format!("{root}/+"), 1);
    for (qos, expected) in [(0, 0), (1, 1), (2, 2)] {
        let mut publisher = Client::connect(version);
        publisher.publish(&Publish::new(&format!("{root}/a"), "").qos(qos, 1));
        let found: Vec<_> = client.drain().iter().map(|it| it.qos).collect();
        assert_eq!(found, [expected], "once, at the highest QoS");
    }
}

fn a_publication_that_is_not_allowed() {
    for qos in [1, 2] {
        let mut client = Client::connect(V3);
        client.send(&Publish::new("$SYS/mine", "").qos(qos, 1).bytes(V3));
        client.ends(0x87);
    }
    // MQTT 5.0 can say so.
    let mut client = Client::connect(V5);
    assert_eq!(client.publish(&Publish::new("$SYS/mine", "").qos(1, 1)), 0x87);
    assert_eq!(client.publish(&Publish::new("$SYS/mine", "").qos(2, 1)), 0x87);
    client.ping();
}

fn subscription_identifiers() {
    let root = unique("ids");
    let mut client = Client::connect(V5);
    for (filter, id) in [("#", 1), ("a", 268_435_455), ("+", 0), ("a/#", 128), ("b", 9)] {
        let property = if id > 0 { prop::subscription_id(id) } else { Vec::new() };
        client.subscribe_with(&format!("{root}/{filter}"), 0, &property);
    }
    client.send(&Publish::new(&format!("{root}/a"), "").bytes(V5));
    client.send(&Publish::new(&format!("{root}/c"), "").bytes(V5));
    let messages = client.drain();
    let ids = messages.iter().map(|message| {
        let mut ids = message.properties.numbers(prop::SUBSCRIPTION_ID);
        ids.sort_unstable();
        ids
    });
    assert_eq!(ids.collect::<Vec<_>>(), [vec![1, 128, 268_435_455], vec![1]]);
    // A subscription that is made again without an identifier has none.
    client.subscribe(&format!("{root}/#"), 0);
    client.send(&Publish::new(&format!("{root}/c"), "").bytes(V5));
    assert!(client.drain()[0].properties.numbers(prop::SUBSCRIPTION_ID).is_empty());
}

fn a_subscription_identifier_in_publish() {
    let mut client = Client::connect(V5);
    client.send(&Publish::new("a", "").and(&prop::subscription_id(1)).bytes(V5));
    client.ends(0x82);
}

/// Every property that a message may have once, and every one that it may not have.
#[test]
fn wrong_properties_of_publish_end_the_connection() {
    let twice = |property: Vec<u8>| [property.clone(), property].concat();
    let cases = [
        (twice(prop::u8(prop::PAYLOAD_FORMAT, 1)), 0x82),
        (twice(prop::u32(prop::MESSAGE_EXPIRY, 1)), 0x82),
        (twice(prop::text(prop::CONTENT_TYPE, "a")), 0x82),
        (twice(prop::text(prop::RESPONSE_TOPIC, "a")), 0x82),
        (twice(prop::bytes(prop::CORRELATION, b"a")), 0x82),
        (twice(prop::u16(prop::ALIAS, 1)), 0x82),
        (prop::u8(prop::PAYLOAD_FORMAT, 2), 0x82),
        (prop::u32(prop::SESSION_EXPIRY, 2), 0x81),
        (prop::u16(prop::RECEIVE_MAXIMUM, 2), 0x81),
        (prop::text(prop::REASON_STRING, "a"), 0x81),
        (prop::text(prop::SERVER_REFERENCE, "a"), 0x81),
        (prop::u8(prop::SHARED, 1), 0x81),
    ];
    for (property, reason) in cases {
        let mut client = Client::connect(V5);
        client.send(&Publish::new("a", "").and(&property).bytes(V5));
        assert_eq!(client.wire.end(), crate::support::wire::End::Told(reason), "{property:02x?}");
    }
}

/// A text that looks odd and is sound goes through unchanged.
#[test]
fn odd_topics_are_topics() {
    for version in BOTH {
        let mut client = Client::connect(version);
        let root = unique("odd");
        client.subscribe(&format!("{root}/#"), 0);
        let levels = ["", "/", "//", " ", "\u{7f}", "\u{fdd0}", "\u{10ffff}", "a b", "ÄÖ", "$x"];
        for level in levels {
            client.send(&Publish::new(&format!("{root}/{level}"), level).bytes(version));
        }
        let payloads: Vec<_> = client.drain().into_iter().map(|it| it.payload).collect();
        assert_eq!(payloads, levels);
    }
}

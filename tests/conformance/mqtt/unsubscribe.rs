//! Sections 3.10 and 3.11, UNSUBSCRIBE and UNSUBACK.

use super::client::Client;
use super::packets::{Connect, Publish, V3, V5, Version, ack, kind, unsubscribe};
use super::server::unique;
use crate::support::wire::{binary, packet};

statements! {
    mqtt3_3_10_1_1_the_flags_are_0010 => the_flags_are_0010(V3);
    mqtt5_3_10_1_1_the_flags_are_0010 => the_flags_are_0010(V5);
    mqtt3_3_10_3_1_filters_are_utf8 => filters_are_utf8(V3);
    mqtt5_3_10_3_1_filters_are_utf8 => filters_are_utf8(V5);
    mqtt3_3_10_3_2_there_is_a_filter => there_is_a_filter(V3);
    mqtt5_3_10_3_2_there_is_a_filter => there_is_a_filter(V5);
    mqtt3_3_10_4_1_the_same_filter_is_removed => the_same_filter_is_removed(V3);
    mqtt5_3_10_4_1_the_same_filter_is_removed => the_same_filter_is_removed(V5);
    mqtt3_3_10_4_2_nothing_new_is_added => the_same_filter_is_removed(V3);
    mqtt5_3_10_4_2_nothing_new_is_added => the_same_filter_is_removed(V5);
    mqtt3_3_10_4_3_what_has_begun_is_ended => what_has_begun_is_ended(V3);
    mqtt5_3_10_4_3_what_has_begun_is_ended => what_has_begun_is_ended(V5);
    mqtt3_3_10_4_4_unsubscribe_is_answered => unsubscribe_is_answered(V3);
    mqtt5_3_10_4_4_unsubscribe_is_answered => unsubscribe_is_answered(V5);
    mqtt3_3_10_4_5_also_when_nothing_was_there => unsubscribe_is_answered(V3);
    mqtt5_3_10_4_5_also_when_nothing_was_there => unsubscribe_is_answered(V5);
    mqtt3_3_10_4_6_several_filters_are_answered_together => several_filters(V3);
    mqtt5_3_10_4_6_several_filters_are_answered_together => several_filters(V5);
    mqtt5_3_11_3_1_in_the_order_of_the_filters => several_filters(V5);
    mqtt5_3_11_3_2_reasons_are_those_of_unsuback => several_filters(V5);
}

fn the_flags_are_0010(version: Version) {
    for flags in (0..16).filter(|flags| *flags != 2) {
        let mut client = Client::connect(version);
        let mut bytes = unsubscribe(version, 1, &["a"]);
        bytes[0] = 0xa0 | flags;
        client.send(&bytes);
        client.ends(0x81);
    }
}

fn filters_are_utf8(version: Version) {
    for filter in [&b"\xff"[..], b"a/\xed\xa0\x80", b"\xf0\x82\x82\xac"] {
        let mut client = Client::connect(version);
        let mut bytes = unsubscribe(version, 1, &[]);
        bytes = packet(0xa2, &[&bytes[2..], &binary(filter)].concat());
        client.send(&bytes);
        client.ends(0x81);
    }
}

fn there_is_a_filter(version: Version) {
    let mut client = Client::connect(version);
    client.send(&unsubscribe(version, 1, &[]));
    client.ends(0x82);
}

fn the_same_filter_is_removed(version: Version) {
    let root = unique("unsubscribe");
    let topic = format!("{root}/a");
    let mut client = Client::connect(version);
    client.subscribe(&topic, 1);
    // Filters that match the same, and are not the same, remove nothing.
    for other in ["+", "#", "A", "a/", "a/#"] {
        client.unsubscribe(&[&format!("{root}/{other}")]);
        client.send(&Publish::new(&topic, "still there").bytes(version));
        assert_eq!(client.drain().len(), 1, "{other}");
    }
    client.unsubscribe(&[&topic]);
    client.send(&Publish::new(&topic, "gone").bytes(version));
    assert_eq!(client.drain(), []);
    // Another subscription that matches stays.
    client.subscribe(&topic, 0);
    client.subscribe(&format!("{root}/+"), 0);
    client.unsubscribe(&[&topic]);
    client.send(&Publish::new(&topic, "by the other").bytes(version));
    assert_eq!(client.drain().len(), 1);
}

fn what_has_begun_is_ended(version: Version) {
    let topic = unique("begun/");
    let connect = Connect::lasting(version, &unique("client"));
    let mut client = Client::with(&connect);
    client.subscribe(&topic, 2);
    let mut publisher = Client::connect(version);
    publisher.publish(&Publish::new(&topic, "one").qos(1, 1));
    publisher.publish(&Publish::new(&topic, "two").qos(2, 2));
    let [one, two] = std::array::from_fn(|_| client.message());
    client.unsubscribe(&[&topic]);
    drop(client);
    let mut client = Client::with(&connect);
    assert_eq!(
        [client.message(), client.message()].map(|it| (it.id, it.dup)),
        [(one.id, true), (two.id, true)]
    );
    client.send(&ack(kind::PUBACK, one.id, 0));
    client.send(&ack(kind::PUBREC, two.id, 0));
    assert_eq!(client.expect_ack(kind::PUBREL, two.id), 0);
    client.send(&ack(kind::PUBCOMP, two.id, 0));
    assert_eq!(client.drain(), []);
}

fn unsubscribe_is_answered(version: Version) {
    let mut client = Client::connect(version);
    for id in [1, 256, 65_535] {
        client.send(&unsubscribe(version, id, &[&unique("never/")]));
        let expected: &[u8] = if version == V5 { &[0x11] } else { &[] };
        assert_eq!(client.expect_reasons(kind::UNSUBACK, id), expected);
    }
}

fn several_filters(version: Version) {
    let root = unique("unsubscribe");
    let filters = ["a", "b", "c"].map(|level| format!("{root}/{level}"));
    let mut client = Client::connect(version);
    client.subscribe(&filters[0], 0);
    client.subscribe(&filters[2], 0);
    let [a, b, c] = [0, 1, 2].map(|index| filters[index].as_str());
    let reasons = client.unsubscribe(&[a, b, c, a]);
    let expected: &[u8] = if version == V5 { &[0, 0x11, 0, 0x11] } else { &[] };
    assert_eq!(reasons, expected);
    for topic in [a, c] {
        client.send(&Publish::new(topic, "").bytes(version));
    }
    assert_eq!(client.drain(), []);
}

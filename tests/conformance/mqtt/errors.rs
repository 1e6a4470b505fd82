//! Sections 1.5, 2 and 4.13 (4.8 in 3.1.1): malformed packets and breaches of the protocol, and what they cost others.

use super::client::Client;
use super::packets::{
    BOTH, Connect, Publish, V3, V5, Version, ack, disconnect, kind, prop, subscribe, unsubscribe,
};
use super::server::unique;
use crate::support::wire::{End, binary, packet, string};

statements! {
    mqtt3_1_5_3_1_text_is_utf8 => text_is_utf8(V3);
    mqtt5_1_5_4_1_text_is_utf8 => text_is_utf8(V5);
    mqtt5_1_5_5_1_integers_are_as_short_as_can_be => integers_are_as_short_as_can_be();
    mqtt3_2_2_2_1_reserved_flags => reserved_flags(V3);
    mqtt3_2_2_2_2_other_flags_end_the_connection => reserved_flags(V3);
    mqtt5_2_1_3_1_reserved_flags => reserved_flags(V5);
    mqtt3_4_8_0_1_a_breach_ends_the_connection => breaches_end_the_connection(V3);
    mqtt5_4_13_1_1_a_breach_ends_the_connection => breaches_end_the_connection(V5);
    mqtt5_4_13_2_1_a_failure_told_ends_the_connection => breaches_end_the_connection(V5);
}

/// Byte sequences that are not UTF-8: stray, overlong, surrogates, beyond the last character, cut off.
const NOT_UTF8: [&[u8]; 9] = [
    b"\x80",
    b"\xc0\xaf",
    b"\xe0\x80\xaf",
    b"\xf0\x80\x80\xaf",
    b"\xed\xa0\x80",
    b"\xed\xbf\xbf",
    b"\xf4\x90\x80\x80",
    b"\xf8\x88\x80\x80\x80",
    b"\xe2\x82",
];

fn text_is_utf8(version: Version) {
    for text in NOT_UTF8 {
        let publish = Publish { topic: text.to_vec(), ..Publish::new("", "") };
        for bytes in [publish.bytes(version), subscribe(version, 1, &[], &[(text, 0)])] {
            let mut client = Client::connect(version);
            client.send(&bytes);
            client.ends(0x81);
        }
    }
    // What may look odd and is text.
    let mut client = Client::connect(version);
    let topic = format!("{}/\u{1}\u{7f}\u{fffe}\u{10ffff}\u{fdd0}", unique("odd"));
    client.subscribe(&topic, 0);
    client.send(&Publish::new(&topic, "").bytes(version));
    assert_eq!(client.message().topic, topic);
}

fn integers_are_as_short_as_can_be() {
    // The length of the packet, and that of its properties, each written longer than needed; and five bytes.
    let publish = [string("a"), vec![0]].concat();
    let cases = [
        [vec![0x30, 0x84, 0x00], publish].concat(),
        [vec![0x30, 0xff, 0xff, 0xff, 0xff, 0x01]].concat(),
        packet(0x30, &[string("a"), vec![0x80, 0x00]].concat()),
        packet(
            0x82,
            &[vec![0, 1, 3, prop::SUBSCRIPTION_ID, 0x81, 0x00], string("a"), vec![0]].concat(),
        ),
    ];
    for bytes in cases {
        let mut client = Client::connect(V5);
        client.send(&bytes);
        client.ends(0x81);
    }
    // Its own are the shortest: one byte up to 127, two up to 16,383.
    let topic = unique("lengths/");
    let mut client = Client::connect(V5);
    client.subscribe(&topic, 0);
    for size in [127, 128, 16_383, 16_384] {
        let payload = "x".repeat(size - 2 - topic.len() - 1);
        client.send(&Publish::new(&topic, &payload).bytes(V5));
        let packet = client.next();
        assert_eq!(packet.body.len(), size);
        let property = &packet.body[2 + topic.len()..][..1];
        assert_eq!(property, [0], "no properties are one byte");
    }
}

/// Every packet that a client may send, as it should be.
fn sound(version: Version) -> Vec<Vec<u8>> {
    vec![
        ack(kind::PUBACK, 1, 0),
        ack(kind::PUBREC, 1, 0),
        ack(kind::PUBREL, 1, 0),
        ack(kind::PUBCOMP, 1, 0),
        subscribe(version, 1, &[], &[(b"a", 0)]),
        unsubscribe(version, 1, &["a"]),
        vec![0xc0, 0],
        disconnect(version, 0, &[]),
    ]
}

fn reserved_flags(version: Version) {
    for bytes in sound(version) {
        for bit in [1, 2, 4, 8] {
            let mut wrong = bytes.clone();
            wrong[0] ^= bit;
            let mut client = Client::connect(version);
            client.send(&wrong);
            client.ends(0x81);
        }
    }
}

/// Packets that break the protocol behind a CONNECT that was accepted, and what is told.
fn breaches(version: Version) -> Vec<(Vec<u8>, u8)> {
    let mut breaches = vec![
        (vec![0x00, 0], 0x81),
        (packet(0x20, &[0, 0, 0][..if version == V5 { 3 } else { 2 }]), 0x82),
        (packet(0x90, &[0, 1, 0, 0][..if version == V5 { 4 } else { 3 }]), 0x82),
        (packet(0xb0, &[0, 1, 0, 0][..if version == V5 { 4 } else { 2 }]), 0x82),
        (vec![0xd0, 0], 0x82),
        (Connect::new(version, "c").bytes(), 0x82),
        (vec![0x30, 0], 0x81),
        (packet(0x30, &[0, 5, b'a']), 0x81),
        (packet(0x32, &binary(b"a")), 0x81),
        (packet(0x40, &[0]), 0x81),
        (packet(0x82, &[0, 1]), if version == V5 { 0x81 } else { 0x82 }),
        (packet(0xc0, &[0]), 0x81),
        (vec![0x30, 0x80, 0x80, 0x80, 0x80, 0x01], 0x81),
    ];
    if version == V3 {
        breaches.extend([
            (packet(0xf0, &[]), 0x81),
            (packet(0x40, &[0, 1, 0]), 0x81),
            (packet(0xe0, &[0]), 0x81),
        ]);
    } else {
        breaches.extend([
            (packet(0x40, &[0, 1, 0, 5, 0x1f]), 0x81),
            (packet(0x40, &[0, 1, 0, 1]), 0x81),
            (packet(0x30, &[string("a"), vec![9, 1]].concat()), 0x81),
            (packet(0xe0, &[0, 0, 0]), 0x81),
        ]);
    }
    breaches
}

fn breaches_end_the_connection(version: Version) {
    let topic = unique("others/");
    let mut witness = Client::connect(version);
    witness.subscribe(&topic, 1);
    for (bytes, reason) in breaches(version) {
        let mut client = Client::connect(version);
        client.send(&bytes);
        let end = client.wire.end();
        let expected = if version == V5 { End::Told(reason) } else { End::Cut };
        assert_eq!(end, expected, "{bytes:02x?}");
    }
    // Others go on.
    Client::connect(version).publish(&Publish::new(&topic, "still here").qos(1, 1));
    assert_eq!(witness.take().payload, "still here");
}

/// What came whole before the breach is done, what comes behind it is not.
#[test]
fn packets_before_a_breach_count() {
    for version in BOTH {
        let topic = unique("before/");
        let mut witness = Client::connect(version);
        witness.subscribe(&topic, 0);
        let mut client = Client::connect(version);
        let before = Publish::new(&topic, "before").bytes(version);
        let behind = Publish::new(&topic, "behind").bytes(version);
        client.send(&[before, vec![0x00, 0], behind].concat());
        client.ends(0x81);
        let found: Vec<_> = witness.drain().into_iter().map(|it| it.payload).collect();
        assert_eq!(found, ["before"]);
    }
}

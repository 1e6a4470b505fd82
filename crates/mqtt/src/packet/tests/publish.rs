//! PUBLISH (MQTT 5.0, section 3.3).

use bytes::BytesMut;
use tidegate_model::{Properties, Timestamp};

use super::{BOTH, V5, check_refused};
use crate::{
    Limits, ProtocolVersion, ReasonCode,
    packet::{Delivery, Packet, Publish, PublishPacket},
    testing::{decoded, encoded, field, framed, packet_id, topic},
};

/// Returns a QoS 0 PUBLISH of MQTT 5.0.
fn publish(topic: &[u8], properties: &[u8]) -> Vec<u8> {
    let length = [u8::try_from(properties.len()).unwrap()];
    framed(0x30, &[&field(topic)[..], &length, properties, b"payload"].concat())
}

fn taken(wire: &[u8], version: ProtocolVersion) -> PublishPacket {
    match decoded(wire, version) {
        Ok(Packet::Publish(publish)) => publish,
        other => panic!("{other:?}"),
    }
}

/// Section 3.3.1: DUP, QoS and RETAIN in every combination.
#[test]
fn flags_say_dup_qos_and_retain() {
    let id = packet_id(10);
    for flags in 0..16_u8 {
        let (dup, retain) = (flags & 8 != 0, flags & 1 != 0);
        let body = b"\0\x03a/b\0\x0A";
        let (without_id, with_id) = (&body[..5], &body[..]);
        let expected = match flags >> 1 & 3 {
            0 if dup => {
                let wire = framed(0x30 | flags, without_id);
                check_refused("MQTT-3.3.1-2", BOTH, &[&wire[..], &[]].concat(), MALFORMED);
                continue;
            }
            0 => Delivery::AtMostOnce,
            1 => Delivery::AtLeastOnce { packet_id: id, dup },
            2 => Delivery::ExactlyOnce { packet_id: id, dup },
            _ => {
                check_refused("MQTT-3.3.1-4", BOTH, &framed(0x30 | flags, with_id), MALFORMED);
                continue;
            }
        };
        let body = if flags >> 1 & 3 == 0 { without_id } else { with_id };
        let publish = taken(&framed(0x30 | flags, body), ProtocolVersion::V311);
        assert_eq!((publish.delivery, publish.retain), (expected, retain), "{flags:04b}");
        assert_eq!(encoded(&Packet::Publish(publish), ProtocolVersion::V311)[0], 0x30 | flags);
    }
}

const MALFORMED: ReasonCode = ReasonCode::MalformedPacket;

/// MQTT-3.3.2-1, MQTT-3.3.2-2, MQTT-1.5.4-1, MQTT-1.5.4-2; M16.
#[test]
fn fault_m16_bad_topics_are_refused() {
    #[rustfmt::skip]
    let cases: [(&str, &[u8], ReasonCode); 9] = [
        ("wildcard #",          b"a/#",                 ReasonCode::TopicNameInvalid),
        ("wildcard +",          b"+",                   ReasonCode::TopicNameInvalid),
        ("wildcard in a level", b"a/b+c",               ReasonCode::TopicNameInvalid),
        ("empty, no alias",     b"",                    ReasonCode::ProtocolError),
        ("U+0000",              b"a\0b",                MALFORMED),
        ("surrogate D800",      b"\xED\xA0\x80",        MALFORMED),
        ("surrogate DFFF",      b"\xED\xBF\xBF",        MALFORMED),
        ("overlong slash",      b"\xC0\xAF",            MALFORMED),
        ("cut short",           b"a\xE2\x82",           MALFORMED),
    ];
    for (rule, topic, reason) in cases {
        check_refused(rule, V5, &publish(topic, &[]), reason);
    }
}

/// MQTT-1.5.4-3: U+FEFF is a character like any other. M16: none of these is unusual to the standard.
#[test]
fn fault_m16_odd_but_allowed_topics_are_taken() {
    for text in ["/", "a//b", " ", "\u{FEFF}a", "$SYS/x", "\u{10FFFF}", "\u{7F}", "é"] {
        let publish = taken(&publish(text.as_bytes(), &[]), ProtocolVersion::V5);
        assert_eq!(publish.topic, Some(topic(text)));
    }
}

/// MQTT-3.3.2-8, sections 3.3.2.3.3 to 3.3.2.3.8; M16.
#[test]
fn fault_m16_property_values_that_the_standard_forbids() {
    #[rustfmt::skip]
    let cases: [(&str, &[u8], ReasonCode); 7] = [
        ("alias 0",                     &[0x23, 0, 0],          ReasonCode::TopicAliasInvalid),
        ("payload format 2",            &[0x01, 2],             ReasonCode::ProtocolError),
        ("subscription identifier 0",   &[0x0B, 0],             ReasonCode::ProtocolError),
        ("identifier of 5 bytes",       &[0x0B, 0x80, 0x80, 0x80, 0x80, 1], MALFORMED),
        ("response topic wildcard",     &[0x08, 0, 1, b'#'],    ReasonCode::TopicNameInvalid),
        ("response topic empty",        &[0x08, 0, 0],          ReasonCode::ProtocolError),
        ("content type not UTF-8",      &[0x03, 0, 1, 0xFF],    MALFORMED),
    ];
    for (rule, properties, reason) in cases {
        check_refused(rule, V5, &publish(b"a", properties), reason);
    }
}

/// Section 3.3.2.3.4: an alias stands for an empty topic.
#[test]
fn a_topic_may_be_left_to_its_alias() {
    let publish = taken(&publish(b"", &[0x23, 0, 7]), ProtocolVersion::V5);
    assert_eq!(publish.topic, None);
    assert_eq!(publish.topic_alias.map(u16::from), Some(7));
    assert_eq!(&publish.payload[..], b"payload");
}

/// A large payload is the memory into which it was read; a small one does not hold on to it.
#[test]
fn only_small_payloads_are_copied() {
    for (bytes, is_copied) in [(10, true), (16_000, true), (16_384, false), (100_000, false)] {
        let wire = framed(0x30, &[b"\0\x01t".as_slice(), &vec![b'x'; bytes]].concat());
        let mut input = BytesMut::from(&wire[..]);
        let end = input.as_ptr_range().end;
        let packet = Packet::split_off(&mut input, ProtocolVersion::V311, &Limits::default());
        let Ok(Some(Packet::Publish(publish))) = packet else { panic!("{packet:?}") };
        assert_eq!(publish.payload.len(), bytes);
        assert_eq!(publish.payload.as_ptr_range().end != end, is_copied, "{bytes} bytes");
    }
}

/// MQTT 3.1.1 has no properties: their bytes are payload.
#[test]
fn what_would_be_properties_is_payload_in_3_1_1() {
    let publish = taken(&publish(b"a", &[0x01, 1]), ProtocolVersion::V311);
    assert_eq!(&publish.payload[..], b"\x02\x01\x01payload");
    assert_eq!(publish.properties, None);
}

/// MQTT 5.0, section 3.3.2.3.3: the time a message has left counts from its arrival; without properties there are none.
#[test]
fn properties_are_taken_with_the_expiry_counted_from_the_arrival() {
    let publish = |message_expiry_s, properties: Option<Properties>| Publish {
        topic: topic("t"),
        payload: "x".into(),
        delivery: Delivery::AtMostOnce,
        retain: false,
        message_expiry_s,
        properties: properties.map(Box::new),
    };
    let arrival = Timestamp::from_unix_millis(1_000);
    let said = Properties { content_type: Some("text/plain".into()), ..Properties::default() };
    let never = || -> Timestamp { panic!("nobody asks for the time without an expiry") };
    assert_eq!(publish(None, None).take_properties(never), None);
    let taken = publish(None, Some(said.clone())).take_properties(never);
    assert_eq!(taken.as_deref(), Some(&said));
    let expires = Some(Timestamp::from_unix_millis(61_000));
    let taken = publish(Some(60), None).take_properties(|| arrival);
    assert_eq!(taken.as_deref(), Some(&Properties { expires, ..Properties::default() }));
    let taken = publish(Some(60), Some(said.clone())).take_properties(|| arrival);
    assert_eq!(taken.as_deref(), Some(&Properties { expires, ..said }));
}

//! What is refused for its size (fault catalogue, section 2), and what it costs to refuse it.

use bytes::BytesMut;

use crate::{
    Limits, ProtocolError, ProtocolVersion, ReasonCode,
    packet::{Packet, PacketType},
    testing::{decoded_within, field, framed},
};

fn limits() -> Limits {
    Limits {
        connect_bytes: 64,
        packet_bytes: 256,
        topic_levels: 4,
        topic_bytes: 32,
        user_properties: 3,
        properties_bytes: 100,
        filters_per_packet: 2,
    }
}

fn refusal(wire: &[u8]) -> ProtocolError {
    decoded_within(&limits(), wire, ProtocolVersion::V5).expect_err("a packet beyond its limits")
}

fn publish(topic: &str, properties: &[u8], payload_bytes: usize) -> Vec<u8> {
    let length = [u8::try_from(properties.len()).unwrap()];
    framed(0x30, &[&field(topic)[..], &length, properties, &vec![b'x'; payload_bytes]].concat())
}

/// M01, M02: announced lengths are refused from the fixed header alone, and nothing is reserved for those
/// that may come.
#[test]
fn fault_m01_m02_announced_lengths_take_no_memory() {
    #[rustfmt::skip]
    let cases: [(&[u8], PacketType, usize, usize); 4] = [
        // header                             type                    announced     limit
        (&[0x30, 0xFF, 0xFF, 0xFF, 0x7F],     PacketType::Publish,    268_435_460,  256),
        (&[0x30, 0xFE, 0x01],                 PacketType::Publish,    257,          256),
        (&[0x10, 0xFF, 0xFF, 0xFF, 0x7F],     PacketType::Connect,    268_435_460,  64),
        (&[0x10, 0x3F],                       PacketType::Connect,    65,           64),
    ];
    for (header, packet, bytes, limit) in cases {
        let mut input = BytesMut::from(header);
        let error = Packet::split_off(&mut input, ProtocolVersion::V5, &limits()).unwrap_err();
        assert_eq!(error, ProtocolError::PacketTooLarge { packet, bytes, limit });
        assert_eq!(error.reason_code(), ReasonCode::PacketTooLarge);
    }
    for header in [&[0x30, 0xFD, 0x01][..], &[0x10, 0x3E]] {
        let mut input = BytesMut::from(header);
        let capacity = input.capacity();
        let packet = Packet::split_off(&mut input, ProtocolVersion::V5, &limits());
        assert_eq!(packet, Ok(None));
        assert_eq!(input.capacity(), capacity, "nothing is reserved");
    }
}

#[test]
fn packets_of_exactly_the_limit_are_taken() {
    // 1 + 2 for the fixed header, 3 + 1 for topic and properties.
    let wire = publish("t", &[], 256 - 7);
    assert_eq!(wire.len(), 256);
    assert!(decoded_within(&limits(), &wire, ProtocolVersion::V5).is_ok());
    let mut input = BytesMut::from(&publish("t", &[], 257 - 7)[..]);
    assert!(Packet::split_off(&mut input, ProtocolVersion::V5, &limits()).is_err());
}

/// M10: levels and length of topics and filters.
#[test]
fn fault_m10_topics_and_filters_have_limits() {
    let long = "x".repeat(33);
    #[rustfmt::skip]
    let topics = [
        ("a/b/c/d/e",   ProtocolError::TopicTooDeep { limit: 4 }),
        ("////",        ProtocolError::TopicTooDeep { limit: 4 }),
        (&long,         ProtocolError::TopicTooLong { bytes: 33, limit: 32 }),
    ];
    for (topic, expected) in topics {
        let error = refusal(&publish(topic, &[], 0));
        assert_eq!(error, expected, "{topic}");
        assert_eq!(error.reason_code(), ReasonCode::TopicNameInvalid);
        let response_topic = [&[0x08][..], &field(topic)].concat();
        assert_eq!(refusal(&publish("t", &response_topic, 0)), expected, "response to {topic}");
    }
    #[rustfmt::skip]
    let filters = [
        ("+/+/+/+/#",   ProtocolError::TopicFilterTooDeep { limit: 4 }),
        (&long,         ProtocolError::TopicFilterTooLong { bytes: 33, limit: 32 }),
    ];
    for (filter, expected) in filters {
        for (first, options) in [(0x82, &[0][..]), (0xA2, &[])] {
            let body = [&[0, 1, 0][..], &field(filter), options].concat();
            let error = refusal(&framed(first, &body));
            assert_eq!(error, expected, "{filter}");
            assert_eq!(error.reason_code(), ReasonCode::TopicFilterInvalid);
        }
    }
    for topic in ["a/b/c/d", "///", &"x".repeat(32)] {
        let wire = publish(topic, &[], 0);
        assert!(decoded_within(&limits(), &wire, ProtocolVersion::V5).is_ok(), "{topic}");
    }
}

/// M12: user properties by number, all properties by length.
#[test]
fn fault_m12_properties_have_limits() {
    let user = |count: usize| [&[0x26][..], &field("n"), &field("v")].concat().repeat(count);
    assert!(
        decoded_within(&limits(), &publish("t", &user(3), 0), ProtocolVersion::V5).is_ok(),
        "three are allowed"
    );
    let error = refusal(&publish("t", &user(4), 0));
    assert_eq!(error, ProtocolError::TooManyUserProperties { limit: 3 });
    assert_eq!(error.reason_code(), ReasonCode::PacketTooLarge);

    let long = [&[0x03][..], &field("x".repeat(98))].concat();
    let error = refusal(&publish("t", &long, 0));
    assert_eq!(error, ProtocolError::PropertiesTooLong { bytes: 101, limit: 100 });
    assert_eq!(error.reason_code(), ReasonCode::PacketTooLarge);

    let in_subscribe = [&[0, 1, 28][..], &user(4), &field("f"), &[0]].concat();
    let error = refusal(&framed(0x82, &in_subscribe));
    assert_eq!(error, ProtocolError::TooManyUserProperties { limit: 3 });
}

#[test]
fn filters_of_a_packet_have_a_limit() {
    for (first, one) in [(0x82, b"\0\x01f\0".as_slice()), (0xA2, b"\0\x01f")] {
        let packet = |count| framed(first, &[&[0, 1, 0][..], &one.repeat(count)].concat());
        assert!(decoded_within(&limits(), &packet(2), ProtocolVersion::V5).is_ok());
        let error = refusal(&packet(3));
        assert_eq!(error, ProtocolError::TooManyFilters { limit: 2 });
        assert_eq!(error.reason_code(), ReasonCode::QuotaExceeded);
    }
}

//! SUBSCRIBE and UNSUBSCRIBE (MQTT 5.0, sections 3.8 to 3.11 and 4.8.2).

use super::{BOTH, V5, V311, check_refused};
use crate::{
    Limits, ProtocolVersion, ReasonCode,
    packet::{Packet, RetainHandling, SubAck, Subscription, SubscriptionKey},
    testing::{decoded, encoded, field, framed, packet_id},
};

fn subscribe(filter: &[u8], options: u8) -> Vec<u8> {
    framed(0x82, &[&[0, 1, 0][..], &field(filter), &[options]].concat())
}

fn subscribe_v311(filter: &[u8], options: u8) -> Vec<u8> {
    framed(0x82, &[&[0, 1][..], &field(filter), &[options]].concat())
}

fn only_subscription(wire: &[u8], version: ProtocolVersion) -> Subscription {
    match decoded(wire, version) {
        Ok(Packet::Subscribe(mut subscribe)) if subscribe.subscriptions.len() == 1 => {
            subscribe.subscriptions.remove(0)
        }
        other => panic!("{other:?}"),
    }
}

/// Section 3.8.3.1: every byte of options, in both versions.
#[test]
fn options_are_read_bit_by_bit() {
    for options in 0..=u8::MAX {
        let wire = subscribe(b"a", options);
        if options & 0b1100_0000 != 0 {
            check_refused("MQTT-3.8.3-5", V5, &wire, ReasonCode::MalformedPacket);
        } else if options & 0b11 == 3 || options >> 4 & 0b11 == 3 {
            check_refused("3.8.3.1", V5, &wire, ReasonCode::ProtocolError);
        } else {
            let subscription = only_subscription(&wire, ProtocolVersion::V5);
            assert_eq!(subscription.qos.bits(), options & 0b11);
            assert_eq!(subscription.no_local, options & 0b100 != 0);
            assert_eq!(subscription.retain_as_published, options & 0b1000 != 0);
            assert_eq!(subscription.retain_handling as u8, options >> 4 & 0b11);
        }
        let wire = subscribe_v311(b"a", options);
        match options {
            0..=2 => {
                let subscription = only_subscription(&wire, ProtocolVersion::V311);
                assert_eq!(subscription.qos.bits(), options);
                assert_eq!(subscription.retain_handling, RetainHandling::Send);
            }
            3 => check_refused("QoS 3", V311, &wire, ReasonCode::ProtocolError),
            _ => check_refused("3.1.1, MQTT-3-8.3-4", V311, &wire, ReasonCode::MalformedPacket),
        }
    }
}

/// MQTT-3.8.3-2, MQTT-3.10.3-2.
#[test]
fn a_packet_without_filters_is_a_protocol_error() {
    for first in [0x82, 0xA2] {
        check_refused("5.0", V5, &framed(first, &[0, 1, 0]), ReasonCode::ProtocolError);
        check_refused("3.1.1", V311, &framed(first, &[0, 1]), ReasonCode::ProtocolError);
    }
}

/// MQTT-4.7.1-1, MQTT-4.7.1-2, MQTT-4.7.3-1, MQTT-4.8.2-1, MQTT-4.8.2-2; M16.
#[test]
fn fault_m16_bad_filters_are_refused() {
    #[rustfmt::skip]
    let cases: [(&[u8], ReasonCode); 14] = [
        (b"",                   ReasonCode::TopicFilterInvalid),
        (b"a/#/b",              ReasonCode::TopicFilterInvalid),
        (b"a#",                 ReasonCode::TopicFilterInvalid),
        (b"##",                 ReasonCode::TopicFilterInvalid),
        (b"a+/b",               ReasonCode::TopicFilterInvalid),
        (b"+a",                 ReasonCode::TopicFilterInvalid),
        (b"$share//t",          ReasonCode::TopicFilterInvalid),
        (b"$share/g",           ReasonCode::TopicFilterInvalid),
        (b"$share/g/",          ReasonCode::TopicFilterInvalid),
        (b"$share/g+/t",        ReasonCode::TopicFilterInvalid),
        (b"$share/#/t",         ReasonCode::TopicFilterInvalid),
        (b"$share/g/a/#/b",     ReasonCode::TopicFilterInvalid),
        (b"a\0",                ReasonCode::MalformedPacket),
        (b"\xFF",               ReasonCode::MalformedPacket),
    ];
    for (filter, reason) in cases {
        let rule = String::from_utf8_lossy(filter).into_owned();
        check_refused(&rule, V5, &subscribe(filter, 0), reason);
        check_refused(&rule, V311, &subscribe_v311(filter, 0), reason);
        let unsubscribe = framed(0xA2, &[&[0, 1, 0][..], &field(filter)].concat());
        check_refused(&rule, V5, &unsubscribe, reason);
    }
}

/// Section 4.8.2: the share name is told from the filter.
#[test]
fn shared_subscriptions_have_a_name_and_a_filter() {
    #[rustfmt::skip]
    let cases = [
        ("$share/g/t",          Some("g"),  "t"),
        ("$share/g//",          Some("g"),  "/"),
        ("$share/g/$SYS/#",     Some("g"),  "$SYS/#"),
        ("$share/a b/+/#",      Some("a b"), "+/#"),
        ("$shared/g/t",         None,       "$shared/g/t"),
        ("$share",              None,       "$share"),
        ("a/$share/g/t",        None,       "a/$share/g/t"),
    ];
    for (text, share, filter) in cases {
        let key = SubscriptionKey::parse(text, &Limits::default()).unwrap();
        assert_eq!(key.share.as_ref().map(|name| name.as_str()), share, "{text}");
        assert_eq!(key.filter.as_str(), filter, "{text}");
        assert_eq!(key.to_string(), text);
    }
}

/// MQTT-3.8.3-4.
#[test]
fn no_local_on_a_shared_subscription_is_a_protocol_error() {
    check_refused("shared", V5, &subscribe(b"$share/g/t", 0b100), ReasonCode::ProtocolError);
    assert!(only_subscription(&subscribe(b"t", 0b100), ProtocolVersion::V5).no_local);
}

/// MQTT 3.1.1, section 3.9.3 and MQTT-3.9.3-2: one failure for all.
#[test]
fn suback_of_3_1_1_knows_one_failure() {
    let suback = Packet::SubAck(SubAck {
        packet_id: packet_id(258),
        reasons: vec![
            ReasonCode::Success,
            ReasonCode::GrantedQos2,
            ReasonCode::NotAuthorized,
            ReasonCode::QuotaExceeded,
        ],
        explanation: None,
    });
    let v311 = encoded(&suback, ProtocolVersion::V311);
    assert_eq!(&v311[..], [0x90, 6, 1, 2, 0, 2, 0x80, 0x80]);
    for reserved in [0x03, 0x7F, 0x81, 0x87, 0x9E, 0xFF] {
        let wire = [0x90, 3, 1, 2, reserved];
        check_refused("3.1.1, MQTT-3.9.3-2", V311, &wire, ReasonCode::ProtocolError);
    }
    let v5 = encoded(&suback, ProtocolVersion::V5);
    assert_eq!(&v5[..], [0x90, 7, 1, 2, 0, 0, 2, 0x87, 0x97]);
}

/// MQTT-3.8.1-1, MQTT-3.10.1-1.
#[test]
fn wrong_fixed_header_flags_are_malformed() {
    let body = [&[0, 1, 0][..], &field("a"), &[0]].concat();
    for first in [0x80, 0x83, 0xA0] {
        check_refused("flags", BOTH, &framed(first, &body), ReasonCode::MalformedPacket);
    }
}

/// A filter may be as long as the limit says; a shared one without a filter is wrong as a shared one (MQTT-4.8.2-2).
#[test]
fn filters_are_bounded_and_shared_ones_have_one() {
    use crate::ProtocolError;
    let limits = Limits { topic_bytes: 10, ..Limits::default() };
    assert!(SubscriptionKey::parse("0123456789", &limits).is_ok());
    let too_long = SubscriptionKey::parse("0123456789x", &limits);
    assert_eq!(too_long, Err(ProtocolError::TopicFilterTooLong { bytes: 11, limit: 10 }));
    let shared = SubscriptionKey::parse("$share/g/", &limits);
    assert_eq!(shared, Err(ProtocolError::SharedSubscription));
    let empty = SubscriptionKey::parse("", &limits);
    assert!(matches!(empty, Err(ProtocolError::TopicFilter { .. })), "{empty:?}");
    let wrong = SubscriptionKey::parse("$share/g/a#", &Limits::default());
    assert!(matches!(wrong, Err(ProtocolError::TopicFilter { .. })), "{wrong:?}");
}

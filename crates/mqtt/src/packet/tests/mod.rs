//! The codec against the standard, section by section, and against arbitrary bytes.

mod connect;
mod limits;
mod properties;
mod publish;
mod stream;
mod subscribe;

use crate::{
    ProtocolError, ProtocolVersion, ReasonCode, Text,
    packet::{Disconnect, Packet, PacketType},
    testing::{decoded, framed},
};

/// Checks that bytes are refused, in each of the versions given, and with which reason.
pub(super) fn check_refused(
    rule: &str,
    versions: &[ProtocolVersion],
    wire: &[u8],
    reason: ReasonCode,
) {
    for &version in versions {
        match decoded(wire, version) {
            Ok(packet) => panic!("{rule} in {version}: taken as {packet:?}"),
            Err(error) => {
                assert_eq!(error.reason_code(), reason, "{rule} in {version}: {error}");
            }
        }
    }
}

pub(super) const V5: &[ProtocolVersion] = &[ProtocolVersion::V5];
pub(super) const V311: &[ProtocolVersion] = &[ProtocolVersion::V311];
pub(super) const BOTH: &[ProtocolVersion] = &[ProtocolVersion::V311, ProtocolVersion::V5];

/// Section 2.1.2; M19: type 0 is reserved, type 15 is in MQTT 3.1.1.
#[test]
fn fault_m19_reserved_packet_types_are_malformed() {
    check_refused("type 0", BOTH, &[0x00, 0], ReasonCode::MalformedPacket);
    check_refused("type 15 in 3.1.1", V311, &[0xF0, 0], ReasonCode::MalformedPacket);
    assert!(matches!(decoded(&[0xF0, 0], ProtocolVersion::V5), Ok(Packet::Auth(_))));
}

/// MQTT-2.1.3-1; M19: the flags of the fixed header are fixed, except those of PUBLISH.
#[test]
fn fault_m19_fixed_header_flags_must_be_those_of_the_type() {
    for packet in PacketType::ALL {
        let right = match packet {
            PacketType::PubRel | PacketType::Subscribe | PacketType::Unsubscribe => 0b0010,
            _ => 0,
        };
        for flags in 0..16 {
            let taken = PacketType::from_first_byte((packet as u8) << 4 | flags);
            if flags == right || packet == PacketType::Publish {
                assert_eq!(taken, Ok(packet), "{packet} with flags {flags:04b}");
            } else {
                let expected = ProtocolError::FixedHeaderFlags { packet, flags };
                assert_eq!(taken, Err(expected), "{packet} with flags {flags:04b}");
            }
        }
    }
}

/// MQTT-2.2.1-3; M19: whatever needs a packet identifier has one above 0.
#[test]
fn fault_m19_packet_identifier_0_is_a_protocol_error() {
    let zero = [0, 0];
    for first in [0x40, 0x50, 0x62, 0x70] {
        check_refused("acknowledgement", BOTH, &framed(first, &zero), ReasonCode::ProtocolError);
    }
    #[rustfmt::skip]
    let cases: [(&str, u8, &[u8]); 4] = [
        ("QoS 1",       0x32, &[0, 1, b'a', 0, 0, 0]),
        ("QoS 2",       0x34, &[0, 1, b'a', 0, 0, 0]),
        ("SUBSCRIBE",   0x82, &[0, 0, 0, 0, 1, b'a', 0]),
        ("UNSUBSCRIBE", 0xA2, &[0, 0, 0, 0, 1, b'a']),
    ];
    for (what, first, body) in cases {
        check_refused(what, BOTH, &framed(first, body), ReasonCode::ProtocolError);
    }
}

/// Packets without a body must not have one.
#[test]
fn bytes_left_over_are_malformed() {
    for first in [0xC0, 0xD0] {
        check_refused("ping with a body", BOTH, &[first, 1, 0], ReasonCode::MalformedPacket);
    }
    check_refused("DISCONNECT of 3.1.1", V311, &[0xE0, 1, 0], ReasonCode::MalformedPacket);
    check_refused("PUBACK of 3.1.1", V311, &[0x40, 3, 0, 1, 0], ReasonCode::MalformedPacket);
    check_refused("UNSUBACK of 3.1.1", V311, &[0xB0, 3, 0, 1, 0], ReasonCode::MalformedPacket);
    let puback = [0x40, 5, 0, 1, 0, 0, 9];
    check_refused("PUBACK behind its properties", V5, &puback, ReasonCode::MalformedPacket);
}

/// M04: a packet that ends within a field, cut at every byte but with a length that says so.
#[test]
fn fault_m04_fields_beyond_the_end_of_the_packet_are_malformed() {
    #[rustfmt::skip]
    let cases: [(&str, u8, &[u8]); 6] = [
        ("CONNECT",     0x10, b"\0\x04MQTT\x05\xC0\0\x0A\x05\x11\0\0\0\x01\0\x01c\0\x01u\0\x01p"),
        ("PUBLISH",     0x32, b"\0\x03a/b\0\x01\x08\x03\0\x05a/b/c"),
        ("SUBSCRIBE",   0x82, b"\0\x01\x02\x0B\x07\0\x03a/b\x01"),
        ("UNSUBSCRIBE", 0xA2, b"\0\x01\x05\x26\0\x01n\0\0\x03a/b"),
        ("DISCONNECT",  0xE0, b"\x04\x05\x11\0\0\0\x05"),
        ("AUTH",        0xF0, b"\x18\x04\x15\0\x01m"),
    ];
    for (what, first, body) in cases {
        let mut accepted = Vec::new();
        for cut in 0..body.len() {
            match decoded(&framed(first, &body[..cut]), ProtocolVersion::V5) {
                Ok(_) => accepted.push(cut),
                Err(error) => assert!(
                    matches!(error, ProtocolError::Truncated | ProtocolError::NoFilters { .. }),
                    "{what} cut at {cut}: {error}"
                ),
            }
        }
        // Where the standard lets a packet end early.
        let early: &[usize] = match what {
            "DISCONNECT" => &[0, 1],
            "AUTH" => &[0],
            _ => &[],
        };
        assert_eq!(accepted, early, "{what}");
    }
}

/// Table 2-6; MQTT-3.4.2-1, MQTT-3.9.3-2, MQTT-3.14.2-1: each packet has reason codes of its own.
#[test]
fn reason_codes_of_other_packets_are_protocol_errors() {
    #[rustfmt::skip]
    let cases: [(&str, u8, &[u8]); 9] = [
        ("PUBACK with GrantedQos1",         0x40, &[0, 1, 0x01]),
        ("PUBREC with an unknown code",     0x50, &[0, 1, 0x7F]),
        ("PUBREL with NotAuthorized",       0x62, &[0, 1, 0x87]),
        ("PUBCOMP with QuotaExceeded",      0x70, &[0, 1, 0x97]),
        ("SUBACK with granted QoS 3",       0x90, &[0, 1, 0, 0x03]),
        ("UNSUBACK with GrantedQos1",       0xB0, &[0, 1, 0, 0x01]),
        ("DISCONNECT with BadUserName",     0xE0, &[0x86]),
        ("CONNACK with KeepAliveTimeout",   0x20, &[0, 0x8D, 0]),
        ("AUTH with BadAuthentication",     0xF0, &[0x8C, 0]),
    ];
    for (what, first, body) in cases {
        check_refused(what, V5, &framed(first, body), ReasonCode::ProtocolError);
    }
}

/// Sections 3.4.2.1 and 3.14.2.1: success and an empty list of properties may be left out.
#[test]
fn answers_may_leave_out_what_is_plain() {
    for body in [&[0, 1][..], &[0, 1, 0], &[0, 1, 0, 0]] {
        let puback = decoded(&framed(0x40, body), ProtocolVersion::V5).unwrap();
        assert!(matches!(puback, Packet::PubAck(ack) if ack.reason == ReasonCode::Success));
    }
    for body in [&[][..], &[0], &[0, 0]] {
        let disconnect = decoded(&framed(0xE0, body), ProtocolVersion::V5).unwrap();
        assert!(matches!(disconnect, Packet::Disconnect(it) if !it.wants_will()));
    }
}

/// MQTT 5.0, section 3.14.4: only a normal disconnection takes the will back.
#[test]
fn the_will_is_taken_back_by_a_normal_disconnection_only() {
    assert!(!Disconnect::new(ReasonCode::Success).wants_will());
    for reason in [ReasonCode::DisconnectWithWill, ReasonCode::UnspecifiedError] {
        assert!(Disconnect::new(reason).wants_will(), "{reason}");
    }
}

#[test]
fn names_are_shown() {
    assert_eq!(ReasonCode::ServerBusy.to_string(), "server busy (0x89)");
    assert_eq!(ProtocolVersion::V311.to_string(), "3.1.1");
    assert_eq!(PacketType::Publish.to_string(), "PUBLISH");
    assert_eq!(Text::new("x").map(|text| text.to_string()).as_deref(), Ok("x"));
}

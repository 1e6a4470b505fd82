//! CONNECT and CONNACK (MQTT 5.0, sections 3.1 and 3.2).

use tidegate_model::Qos;

use super::{BOTH, V5, V311, check_refused};
use crate::{
    ProtocolError, ProtocolVersion, ReasonCode, SessionExpiry,
    packet::{ConnAck, Connect, Packet, connect::peek_version},
    testing::{decoded, encoded, field, framed},
};

/// Returns a CONNECT with these flags and whatever follows the client identifier `c`.
fn connect(level: u8, flags: u8, properties: &[u8], rest: &[u8]) -> Vec<u8> {
    let mut body = b"\0\x04MQTT".to_vec();
    body.extend([level, flags, 0, 10]);
    if level == 5 {
        body.push(u8::try_from(properties.len()).unwrap());
        body.extend(properties);
    }
    body.extend(b"\0\x01c");
    body.extend(rest);
    framed(0x10, &body)
}

fn taken(wire: &[u8]) -> Connect {
    match decoded(wire, ProtocolVersion::V5) {
        Ok(Packet::Connect(connect)) => *connect,
        other => panic!("{other:?}"),
    }
}

/// Figure 3-6, the example of the standard: name, level 5, flags, keep alive 10, session expiry 10.
#[test]
fn the_example_of_the_standard_is_read() {
    let properties = [0x11, 0, 0, 0, 10];
    let rest = [field("will"), field([1, 2]), field("user"), field("secret")].concat();
    let body = [
        b"\0\x04MQTT\x05\xCE\0\x0A\x05".as_slice(),
        &properties,
        &field("client"),
        &[0], // will properties
        &rest,
    ]
    .concat();
    let connect = taken(&framed(0x10, &body));
    assert_eq!(connect.version, ProtocolVersion::V5);
    assert!(connect.clean_start);
    assert_eq!(connect.keep_alive_s, 10);
    assert_eq!(connect.session_expiry, SessionExpiry::from_secs(10));
    assert_eq!(connect.client_id.unwrap().as_str(), "client");
    let will = connect.will.unwrap();
    assert_eq!((will.topic.as_str(), &will.payload[..]), ("will", &[1, 2][..]));
    assert_eq!((will.qos, will.retain, will.delay_s), (Qos::AtLeastOnce, false, 0));
    assert_eq!(connect.user_name.as_deref(), Some("user"));
    assert_eq!(connect.password.unwrap().expose(), b"secret");
    assert!(connect.request_problem_information && !connect.request_response_information);
}

/// MQTT-3.1.2-1, MQTT-3.1.2-2.
#[test]
fn other_protocols_and_versions_are_refused() {
    #[rustfmt::skip]
    let cases: [(&[u8], u8, ProtocolError); 6] = [
        (b"MQTT",    3, ProtocolError::ProtocolLevel { level: 3 }),
        (b"MQTT",    6, ProtocolError::ProtocolLevel { level: 6 }),
        (b"MQTT",    0x84, ProtocolError::ProtocolLevel { level: 0x84 }),
        (b"MQIsdp",  3, ProtocolError::ProtocolLevel { level: 3 }),
        (b"mqtt",    4, ProtocolError::ProtocolName),
        (b"MQTTT",   5, ProtocolError::ProtocolName),
    ];
    for (name, level, expected) in cases {
        let body = [&field(name)[..], &[level, 2, 0, 0, 0, 0, 0]].concat();
        assert_eq!(decoded(&framed(0x10, &body), ProtocolVersion::V5), Err(expected));
    }
}

/// M01: what cannot become CONNECT is known by its first wrong byte.
#[test]
fn fault_m01_wrong_protocol_names_show_at_their_first_wrong_byte() {
    let right = b"\0\x04MQTT\x05";
    for length in 0..right.len() {
        assert_eq!(peek_version(&right[..length]), Ok(None), "first {length} bytes");
        let mut wrong = right[..=length].to_vec();
        wrong[length] ^= 0x80;
        if length < right.len() - 1 {
            assert_eq!(peek_version(&wrong), Err(ProtocolError::ProtocolName), "{wrong:02X?}");
        }
    }
    assert_eq!(peek_version(right), Ok(Some(ProtocolVersion::V5)));
    assert_eq!(peek_version(b"\0\x04MQTT\x04"), Ok(Some(ProtocolVersion::V311)));
    assert_eq!(peek_version(b"\0\x04MQTT\x03"), Ok(Some(ProtocolVersion::V311)));
    assert_eq!(peek_version(b"\0\x04MQTT\x09"), Ok(Some(ProtocolVersion::V5)));
    assert_eq!(peek_version(b"\0\x06MQI"), Ok(Some(ProtocolVersion::V311)));
}

/// MQTT-3.1.2-3, -11, -12, -13; MQTT-3.1.2-22 of 3.1.1.
#[test]
fn contradicting_flags_are_malformed() {
    let will = [field("w"), field("")].concat();
    let v5_will = [&[0][..], &will].concat();
    #[rustfmt::skip]
    let cases = [
        // rule                                      level  flags       rest
        ("MQTT-3.1.2-3: reserved flag",              4, 0b0000_0011, vec![]),
        ("MQTT-3.1.2-3: reserved flag",              5, 0b0000_0011, vec![]),
        ("MQTT-3.1.2-11: QoS without will",          4, 0b0000_1010, vec![]),
        ("MQTT-3.1.2-11: QoS without will",          5, 0b0001_0010, vec![]),
        ("MQTT-3.1.2-13: retain without will",       5, 0b0010_0010, vec![]),
        ("MQTT-3.1.2-12: will QoS 3",                4, 0b0001_1110, will.clone()),
        ("MQTT-3.1.2-12: will QoS 3",                5, 0b0001_1110, v5_will.clone()),
        ("MQTT-3.1.2-22: password without a name",   4, 0b0100_0010, field("p")),
    ];
    for (rule, level, flags, rest) in cases {
        let wire = connect(level, flags, &[], &rest);
        check_refused(rule, V5, &wire, ReasonCode::MalformedPacket);
    }
    let no_name = taken(&connect(5, 0b0100_0010, &[], &field("p")));
    assert_eq!(no_name.password.unwrap().expose(), b"p", "MQTT 5.0, section 3.1.2.9 allows it");
}

/// MQTT-3.1.3-6 to MQTT-3.1.3-8 and, of 3.1.1, MQTT-3.1.3-8: an empty identifier asks for one.
#[test]
fn an_empty_client_identifier_asks_for_one() {
    let body = |level: u8, clean: u8| {
        let properties: &[u8] = if level == 5 { &[0] } else { &[] };
        let start = [b"\0\x04MQTT".as_slice(), &[level, clean << 1, 0, 0]].concat();
        framed(0x10, &[&start, properties, &[0, 0]].concat())
    };
    for (level, clean) in [(4, 1), (5, 1), (5, 0)] {
        assert_eq!(taken(&body(level, clean)).client_id, None, "level {level}, clean {clean}");
    }
    check_refused("kept", V5, &body(4, 0), ReasonCode::ClientIdentifierNotValid);
}

/// MQTT 3.1.1, section 3.1.2.4: clean sessions end at close, others never.
#[test]
fn sessions_of_3_1_1_have_the_expiry_that_they_mean() {
    assert_eq!(taken(&connect(4, 0b10, &[], &[])).session_expiry, SessionExpiry::AT_CLOSE);
    assert_eq!(taken(&connect(4, 0b00, &[], &[])).session_expiry, SessionExpiry::NEVER);
    assert_eq!(taken(&connect(5, 0b00, &[], &[])).session_expiry, SessionExpiry::AT_CLOSE);
}

/// Section 3.1.2.11: values that are protocol errors by name.
#[test]
fn property_values_that_the_standard_forbids_are_protocol_errors() {
    #[rustfmt::skip]
    let cases: [(&str, &[u8]); 5] = [
        ("Receive Maximum 0",                       &[0x21, 0, 0]),
        ("Maximum Packet Size 0",                   &[0x27, 0, 0, 0, 0]),
        ("Request Response Information 2",          &[0x19, 2]),
        ("Request Problem Information 2",           &[0x17, 2]),
        ("Authentication Data without a method",    &[0x16, 0, 1, 1]),
    ];
    for (rule, properties) in cases {
        let wire = connect(5, 2, properties, &[]);
        check_refused(rule, V5, &wire, ReasonCode::ProtocolError);
    }
}

/// MQTT-3.1.3-10, MQTT-3.1.3-11 and section 3.1.3.3; M12: the will is checked like a PUBLISH.
#[test]
fn fault_m12_invalid_wills_are_refused() {
    let will = |properties: &[u8], topic: &[u8]| {
        let length = [u8::try_from(properties.len()).unwrap()];
        connect(5, 0b110, &[], &[&length[..], properties, &field(topic), &field("x")].concat())
    };
    #[rustfmt::skip]
    let cases: [(&str, &[u8], &[u8], ReasonCode); 7] = [
        ("empty topic",             &[],                        b"",    ReasonCode::TopicNameInvalid),
        ("wildcard",                &[],                        b"a/#", ReasonCode::TopicNameInvalid),
        ("not UTF-8",               &[],                        b"\xFF", ReasonCode::MalformedPacket),
        ("payload format 2",        &[0x01, 2],                 b"a",   ReasonCode::ProtocolError),
        ("topic alias",             &[0x23, 0, 1],              b"a",   ReasonCode::MalformedPacket),
        ("two delays",              &[0x18, 0, 0, 0, 1, 0x18, 0, 0, 0, 1], b"a", ReasonCode::ProtocolError),
        ("response topic wildcard", &[0x08, 0, 1, b'+'],        b"a",   ReasonCode::TopicNameInvalid),
    ];
    for (rule, properties, topic, reason) in cases {
        check_refused(rule, V5, &will(properties, topic), reason);
    }
    assert_eq!(taken(&will(&[0x18, 0, 0, 1, 0], b"a")).will.unwrap().delay_s, 256);
}

/// The buffer that held CONNECT must be free to go when the will stays.
#[test]
fn the_will_does_not_hold_on_to_the_input() {
    let wire = connect(4, 0b110, &[], &[field("w"), field("payload")].concat());
    let mut input = bytes::BytesMut::from(&wire[..]);
    let range = input.as_ptr_range();
    let packet = Packet::split_off(&mut input, ProtocolVersion::V5, &crate::Limits::default());
    let Ok(Some(Packet::Connect(connect))) = packet else { panic!("{packet:?}") };
    assert!(!range.contains(&connect.will.unwrap().payload.as_ptr()));
}

/// G7: secrets do not show themselves.
#[test]
fn passwords_are_not_shown() {
    let connect = taken(&connect(5, 0b1100_0010, &[], &[field("u"), field("hunter2")].concat()));
    let shown = format!("{connect:?}");
    assert!(!shown.contains("hunter2") && shown.contains("Password(…)"), "{shown}");
}

/// MQTT-3.2.2-1 and table 3.1 of MQTT 3.1.1.
#[test]
fn connack_of_3_1_1_has_return_codes() {
    let written = |connack| {
        let packet = Packet::ConnAck(Box::new(connack));
        encoded(&packet, ProtocolVersion::V311).to_vec()
    };
    assert_eq!(written(ConnAck::accepted(true)), [0x20, 2, 1, 0]);
    #[rustfmt::skip]
    let cases = [
        (ReasonCode::UnsupportedProtocolVersion,    1),
        (ReasonCode::ClientIdentifierNotValid,      2),
        (ReasonCode::ServerUnavailable,             3),
        (ReasonCode::ConnectionRateExceeded,        3),
        (ReasonCode::BadUserNameOrPassword,         4),
        (ReasonCode::NotAuthorized,                 5),
        (ReasonCode::UnspecifiedError,              3), // nothing fits
    ];
    for (reason, code) in cases {
        assert_eq!(written(ConnAck::refused(reason)), [0x20, 2, 0, code], "{reason}");
    }
    check_refused("flags", BOTH, &[0x20, 2, 2, 0], ReasonCode::MalformedPacket);
    check_refused("return code", V311, &[0x20, 2, 0, 6], ReasonCode::ProtocolError);
}

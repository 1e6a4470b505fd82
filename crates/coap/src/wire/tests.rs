use coap_lite::{CoapOption, MessageClass, RequestType, ResponseType};
use proptest::prelude::*;

use super::*;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: String = hex.split_whitespace().collect();
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
        .collect()
}

fn options(packet: &Packet) -> Vec<(u16, Vec<u8>)> {
    packet
        .options()
        .flat_map(|(number, values)| values.iter().map(|value| (*number, value.clone())))
        .collect()
}

/// main.10: whole messages, made with aiocoap and checked by hand, in both directions.
#[test]
fn whole_messages_are_read_and_written() {
    let get = bytes("42011234 AABB 60 57 73656E736F7273 04 74656D70 43 613D31 21 6E");
    let packet = decode(&get).unwrap();
    assert_eq!(packet.header.code, MessageClass::Request(RequestType::Get));
    assert_eq!((packet.header.message_id, packet.get_token()), (0x1234, &[0xAA, 0xBB][..]));
    assert_eq!(
        options(&packet),
        [
            (6, vec![]),
            (11, b"sensors".to_vec()),
            (11, b"temp".to_vec()),
            (15, b"a=1".to_vec()),
            (17, vec![110]),
        ]
    );
    assert_eq!(encode(&packet), get);

    let content = bytes("62451234 AABB 42 0102 21 05 61 6E 21 1E FF 5B5D");
    let packet = decode(&content).unwrap();
    assert_eq!(packet.header.code, MessageClass::Response(ResponseType::Content));
    assert_eq!(packet.header.get_type(), MessageType::Acknowledgement);
    assert_eq!(packet.get_first_option(CoapOption::MaxAge), Some(&vec![30]));
    assert_eq!(packet.payload, b"[]");
    assert_eq!(encode(&packet), content);

    let post = [
        bytes("41020001 01 BD00"),
        b"x".repeat(13),
        bytes("D103 38 D114 64 D1DB 09 FF"),
        b"x".repeat(16),
    ]
    .concat();
    let packet = decode(&post).unwrap();
    assert_eq!(
        options(&packet),
        [(11, b"x".repeat(13)), (27, vec![0x38]), (60, vec![100]), (292, vec![9])]
    );
    assert_eq!(packet.payload, b"x".repeat(16));
    assert_eq!(encode(&packet), post);

    let echo = bytes("60810001 D4EF DEADBEEF");
    let packet = decode(&echo).unwrap();
    assert_eq!(options(&packet), [(252, vec![0xDE, 0xAD, 0xBE, 0xEF])]);
    assert_eq!(encode(&packet), echo);
}

/// C01: what breaks the format is told apart from what is not CoAP at all.
#[test]
fn format_errors_are_found() {
    #[rustfmt::skip]
    let cases = [
        ("",                        None),
        ("400100",                  None),                                      // 3 bytes
        ("0001 0001",               None),                                      // version 0
        ("8001 0001",               None),                                      // version 2
        ("C001 0001",               None),                                      // version 3
        ("4901 0001 01 02 03 04 05 06 07 08 09", Some("token longer than 8 bytes")),
        ("4F01 0001",               Some("token longer than 8 bytes")),
        ("4401 0001 AABB",          Some("token longer than the message")),
        ("4100 0001 AA",            Some("Empty message with content")),
        ("4000 0001 FF 01",         Some("Empty message with content")),
        ("4001 0001 FF",            Some("payload marker without payload")),
        ("4001 0001 F0",            Some("reserved option nibble 15")),
        ("4001 0001 1F",            Some("reserved option nibble 15")),
        ("4001 0001 D0",            Some("option header cut short")),
        ("4001 0001 E0 00",         Some("option header cut short")),
        ("4001 0001 0D",            Some("option header cut short")),
        ("4001 0001 B4 61 62 63",   Some("option longer than the message")),
        ("4001 0001 E0 FFFF",       Some("option number or length above 65535")),
        ("4001 0001 E0 FE00 E0 0100", Some("option number or length above 65535")),
    ];
    for (hex, expected) in cases {
        let found = match decode(&bytes(hex)) {
            Err(Malformed::Format { reason, message_id: 1, confirmable: true }) => Some(reason),
            Err(Malformed::NotCoap) => None,
            other => panic!("{hex}: {other:?}"),
        };
        assert_eq!(found, expected, "{hex}");
    }
    let many = [bytes("4001 0001"), vec![0; 129]].concat();
    assert!(matches!(
        decode(&many),
        Err(Malformed::Format { reason: "more than 128 options", .. })
    ));
    assert!(decode(&many[..4 + 128]).is_ok());
}

/// Section 3.1: every boundary of the option nibbles.
#[test]
fn option_numbers_and_lengths_meet_every_boundary() {
    for number in [1, 12, 13, 268, 269, 65_535] {
        for length in [0, 12, 13, 268, 269, 1_024] {
            let mut packet = Packet::new();
            packet.add_option(CoapOption::from(number), vec![7; length]);
            packet.payload = b"payload".to_vec();
            let decoded = decode(&encode(&packet)).unwrap();
            assert_eq!(options(&decoded), [(number, vec![7; length])]);
            assert_eq!(decoded.payload, b"payload");
        }
    }
}

#[test]
fn empty_messages_have_four_bytes() {
    assert_eq!(empty(MessageType::Acknowledgement, 0x1234)[..], [0x60, 0, 0x12, 0x34]);
    assert_eq!(empty(MessageType::Reset, 0xFFFF)[..], [0x70, 0, 0xFF, 0xFF]);
}

proptest! {
    /// No datagram makes the decoder panic, and what it takes is what our check takes.
    #[test]
    fn any_datagram_is_taken_or_refused(datagram in proptest::collection::vec(any::<u8>(), 0..64)) {
        let mut datagram = datagram;
        if let Some(first) = datagram.first_mut() {
            *first = 0x40 | (*first & 0x3F);
        }
        if let Ok(packet) = decode(&datagram) {
            prop_assert_eq!(encode(&packet), datagram);
        }
    }
}

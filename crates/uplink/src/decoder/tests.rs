use std::io::Write;

use flate2::{
    Compression,
    write::{GzEncoder, ZlibEncoder},
};

use super::*;

const LIMITS: Limits = Limits::DOWNLINK;

fn zlib(plain: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

/// Bytes that compress about as well as telemetry does.
fn telemetry(bytes: usize) -> Vec<u8> {
    (0_u32..)
        .flat_map(|number| (number / 7).wrapping_mul(0x9E37).to_le_bytes())
        .take(bytes)
        .collect()
}

#[test]
fn what_was_compressed_is_inflated() {
    for plain in [telemetry(0), telemetry(1), telemetry(100), telemetry(300_000)] {
        assert_eq!(inflate(&gzip(&plain), Wrapping::Gzip, &LIMITS), Ok(plain.clone()));
        assert_eq!(inflate(&zlib(&plain), Wrapping::Zlib, &LIMITS), Ok(plain));
    }
}

/// U07: bombs are stopped at the first limit, while they inflate.
#[test]
fn fault_u07_bombs_are_stopped() {
    let thousandfold = zlib(&vec![0; 250_000]);
    assert!(thousandfold.len() * LIMITS.ratio < 250_000);
    assert_eq!(
        inflate(&thousandfold, Wrapping::Zlib, &LIMITS),
        Err(DecodeError::RatioTooHigh { limit: 100 })
    );
    let refused = inflate(&gzip(&vec![0; 250_000]), Wrapping::Gzip, &LIMITS);
    assert_eq!(refused, Err(DecodeError::RatioTooHigh { limit: 100 }));
    let large = zlib(&telemetry(2 << 20));
    assert!(large.len() * LIMITS.ratio > 2 << 20);
    assert_eq!(
        inflate(&large, Wrapping::Zlib, &LIMITS),
        Err(DecodeError::InflatesTooLarge { limit: LIMITS.inflated })
    );
    // A bomb in a bomb is bytes that are no document.
    let twice = zlib(&zlib(&vec![0; 10_000_000]));
    assert!(decode(&twice, &LIMITS).is_err());
    assert!(decode(&vec![0; LIMITS.wire + 1], &LIMITS).is_err());
}

/// U07: streams that end too early, go on too long, or ask for a dictionary.
#[test]
fn fault_u07_broken_streams_are_refused() {
    let whole = zlib(&telemetry(5_000));
    for cut in 0..whole.len() {
        let refused = inflate(&whole[..cut], Wrapping::Zlib, &LIMITS);
        assert!(matches!(refused, Err(DecodeError::NotDeflate { .. })), "{cut}: {refused:?}");
    }
    let mut more = whole.clone();
    more.push(0);
    let problem = "something follows its end";
    assert_eq!(
        inflate(&more, Wrapping::Zlib, &LIMITS),
        Err(DecodeError::NotDeflate { wrapping: Wrapping::Zlib, problem })
    );
    let mut members = gzip(b"one");
    members.extend_from_slice(&gzip(b"two"));
    let refused = inflate(&members, Wrapping::Gzip, &LIMITS);
    assert_eq!(refused, Err(DecodeError::NotDeflate { wrapping: Wrapping::Gzip, problem }));
    let mut wrong_sum = whole.clone();
    *wrong_sum.last_mut().unwrap() ^= 1;
    assert!(matches!(
        inflate(&wrong_sum, Wrapping::Zlib, &LIMITS),
        Err(DecodeError::NotDeflate { .. })
    ));
    // RFC 1950, section 2.2: FDICT is bit 5 of the second byte.
    let dictionary = [0x78, 0xBB, 0, 0, 0, 1, 3, 0, 0, 0, 0, 1];
    assert!(matches!(
        inflate(&dictionary, Wrapping::Zlib, &LIMITS),
        Err(DecodeError::NotDeflate { .. })
    ));
    assert!(matches!(
        inflate(b"no zlib at all", Wrapping::Zlib, &LIMITS),
        Err(DecodeError::NotDeflate { .. })
    ));
}

#[test]
fn what_is_no_payload_is_refused_with_a_reason() {
    #[rustfmt::skip]
    let cases: [(&[u8], &str); 6] = [
        (b"",                        "is not BSON: malformed at byte 0"),
        (b"hello",                   "is not BSON: malformed at byte 0"),
        (b"{\"v\":1",                "is not JSON: EOF while parsing an object at line 1 column 6"),
        (b"{\"v\":1,\"i\":2}",       "has no `t`"),
        (b"{\"v\":1,\"t\":\"now\",\"i\":2}", "`now` is not a time like 2026-03-01T12:00:00.123Z (RFC 3339)"),
        (b"\x05\0\0\0\0",            "has no streams `s`"),
    ];
    for (payload, reason) in cases {
        assert_eq!(decode(payload, &LIMITS).unwrap_err().to_string(), reason);
    }
}

#[test]
fn hexadecimal_digits_are_read_with_blanks_and_refused_otherwise() {
    assert_eq!(from_hex(" 0a FF\n00 "), Ok(vec![0x0a, 0xff, 0]));
    assert_eq!(from_hex(&to_hex(b"tide")), Ok(b"tide".to_vec()));
    assert!(from_hex("0").is_err() && from_hex("0x00").is_err());
}

#[test]
fn lines_are_printed_one_a_reading() {
    let payload =
        br#"{"v":21.5,"t":"2026-03-01T12:00:00.123Z","u":"Cel","q":2147483648,"ep":1,"i":7}"#;
    let mut lines = Vec::new();
    print_lines(payload, &mut lines).unwrap();
    let expected = concat!(
        r#"{"n":null,"i":7,"time":"2026-03-01T12:00:00.123Z","value":21.5,"unit":"Cel","#,
        r#""quality":"bad","status":2147483648}"#,
        "\n"
    );
    assert_eq!(String::from_utf8(lines).unwrap(), expected);
    let stretch = br#"{"v":null,"t":"2026-03-01T12:00:00Z","until":"2026-03-01T12:05:00Z","q":2150694912,"ep":1,"i":8}"#;
    let mut lines = Vec::new();
    print_lines(stretch, &mut lines).unwrap();
    let expected = concat!(
        r#"{"n":null,"i":8,"time":"2026-03-01T12:00:00.000Z","until":"2026-03-01T12:05:00.000Z","#,
        r#""value":null,"unit":null,"quality":"bad","status":2150694912}"#,
        "\n"
    );
    assert_eq!(String::from_utf8(lines).unwrap(), expected);
    assert!(matches!(print_lines(b"?", &mut Vec::new()), Err(PrintError::Payload(_))));
}

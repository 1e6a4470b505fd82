use std::io::Write;

use tidegate_model::Document;

use super::*;

const LIMITS: Limits = Limits::DOWNLINK;

fn document(members: &[(&str, Value)]) -> Value {
    let members = members.iter().map(|(name, value)| ((*name).into(), value.clone())).collect();
    Value::Document(Document::new(members).unwrap().into())
}

fn said<'a>(content_type: Option<&'a str>, content_encoding: Option<&'a str>) -> Said<'a> {
    Said { content_type, content_encoding }
}

fn bson(document: &bson::Document) -> Vec<u8> {
    document.to_vec().unwrap()
}

#[test]
fn commands_are_json_unless_they_say_bson() {
    let expected = document(&[("value", Value::Double(66.5)), ("id", Value::string("c-17"))]);
    let json = br#"{"value":66.5,"id":"c-17"}"#;
    for content_type in [None, Some("application/json"), Some("application/json; charset=utf-8")] {
        assert_eq!(decode(json, said(content_type, None), &LIMITS), Ok(expected.clone()));
    }
    let binary = bson(&bson::doc! { "value": 66.5, "id": "c-17" });
    let kind = Some("application/bson");
    assert_eq!(decode(&binary, said(kind, None), &LIMITS), Ok(expected.clone()));
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&binary).unwrap();
    let small = encoder.finish().unwrap();
    assert_eq!(decode(&small, said(kind, Some("zlib")), &LIMITS), Ok(expected));
    assert_eq!(decode(b"66.5", said(None, None), &LIMITS), Ok(Value::Double(66.5)));
    // Nothing is guessed.
    assert!(decode(&binary, said(None, None), &LIMITS).is_err());
    assert!(decode(&small, said(kind, None), &LIMITS).is_err());
    assert!(decode(json, said(None, Some("br")), &LIMITS).is_err());
    assert!(decode(json, said(Some("text/html"), None), &LIMITS).is_err());
}

/// uplink.30: who hears a command here is told of no encoding: it is inflated and otherwise as it came, or JSON in place of
/// BSON.
#[test]
fn uplink_30_commands_are_handed_on_as_text() {
    // Blanks, digits that no double has.
    let json: &[u8] = br#"{"value" : 123456789012345678901}"#;
    let binary = bson(&bson::doc! {
        "value": [66.5, i64::MAX, { "bytes": bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: vec![0, 255] } }],
        "expires": bson::DateTime::from_millis(1_772_366_410_000),
    });
    let kind = Some("application/bson; charset=binary");
    let plain =
        |payload: &[u8], said| Plain::of(said, &LIMITS).text(&Bytes::copy_from_slice(payload));
    let zlib = |plain: &[u8]| {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    };
    let as_it_came = Ok(Bytes::copy_from_slice(json));
    assert_eq!(plain(json, said(None, None)), as_it_came);
    assert_eq!(plain(json, said(Some("application/json"), Some("identity"))), as_it_came);
    assert_eq!(plain(&zlib(json), said(None, Some("zlib"))), as_it_came);
    let written = r#"{"value":[66.5,9223372036854775807,{"bytes":"AP8="}],"expires":"2026-03-01T12:00:10.000Z"}"#;
    let written = Ok(Bytes::from(written));
    assert_eq!(plain(&binary, said(kind, None)), written);
    assert_eq!(plain(&zlib(&binary), said(kind, Some("zlib"))), written);
    // It would be nothing, which is another command.
    for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        for document in [bson::doc! { "value": number }, bson::doc! { "value": [{ "a": number }] }]
        {
            assert!(plain(&bson(&document), said(kind, None)).is_err(), "{document}");
        }
    }
}

#[test]
fn a_time_becomes_text() {
    let time = bson::DateTime::from_millis(1_772_366_410_000);
    let binary = bson(&bson::doc! { "value": 1_i64, "expires": time });
    let expected = document(&[
        ("value", Value::Integer(1)),
        ("expires", Value::string("2026-03-01T12:00:10.000Z")),
    ]);
    assert_eq!(decode(&binary, said(Some("application/bson"), None), &LIMITS), Ok(expected));
}

/// U08: every BSON type that a command cannot have is refused by name, code with scope among them.
#[test]
fn fault_u08_foreign_types_are_refused() {
    use bson::{Bson, JavaScriptCodeWithScope, Regex, Timestamp, oid::ObjectId};
    let scope = JavaScriptCodeWithScope { code: "while (1)".into(), scope: bson::doc! { "a": 1 } };
    let regex = Regex { pattern: "a*".try_into().unwrap(), options: "".try_into().unwrap() };
    for value in [
        Bson::ObjectId(ObjectId::from_bytes([1; 12])),
        Bson::JavaScriptCode("1".into()),
        Bson::JavaScriptCodeWithScope(scope),
        Bson::RegularExpression(regex),
        Bson::Symbol("s".into()),
        Bson::Timestamp(Timestamp { time: 1, increment: 2 }),
        Bson::MinKey,
        Bson::MaxKey,
        Bson::Undefined,
        Bson::Decimal128("1.5".parse().unwrap()),
    ] {
        let name = format!("{value:?}");
        let binary = bson(&bson::doc! { "value": value });
        let refused = decode(&binary, said(Some("application/bson"), None), &LIMITS);
        assert!(matches!(refused, Err(DecodeError::UnsupportedType { .. })), "{name}: {refused:?}");
    }
}

/// U08, W02: JSON bombs cost no stack and little time.
#[test]
fn fault_u08_json_bombs_are_refused() {
    for open in ["[", "{\"a\":"] {
        let bomb = open.repeat(10_000);
        let refused = decode(bomb.as_bytes(), said(None, None), &LIMITS);
        assert_eq!(refused, Err(DecodeError::TooDeep { limit: LIMITS.depth }));
    }
    let brackets_in_text = format!("\"{}\\\"[[\"", "[".repeat(100));
    assert!(decode(brackets_in_text.as_bytes(), said(None, None), &LIMITS).is_ok());
    let large = vec![b' '; LIMITS.wire + 1];
    let refused = decode(&large, said(None, None), &LIMITS);
    assert_eq!(refused, Err(DecodeError::TooLarge { bytes: LIMITS.wire + 1, limit: LIMITS.wire }));
    for text in ["", "{\"a\":1,\"a\":2}", "NaN", "\"\\ud800\"", "1 2"] {
        assert!(
            matches!(
                decode(text.as_bytes(), said(None, None), &LIMITS),
                Err(DecodeError::NotJson { .. })
            ),
            "{text}"
        );
    }
}

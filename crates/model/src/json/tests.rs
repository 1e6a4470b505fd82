use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::{AdapterName, Clock, Document, Origin, Reading, Status, Timestamp, Unit, Value};

fn print(value: &Value) -> String {
    let mut output = Vec::new();
    write_value(value, &mut output);
    String::from_utf8(output).unwrap()
}

fn reading(value: Value) -> Reading {
    let origin = Origin { adapter: AdapterName::new("test").unwrap() };
    Reading::new(value, Timestamp::from_unix_micros(1_772_366_400_123_000), origin)
}

/// main.6: the lexical kind of a JSON number is kept, 64-bit integers included.
#[test]
fn numbers_keep_their_kind() {
    #[rustfmt::skip]
    let cases = [
        ("21",                      Value::Integer(21),             "21"),
        ("21.0",                    Value::Double(21.0),            "21.0"),
        ("2e1",                     Value::Double(20.0),            "20.0"),
        ("9223372036854775807",     Value::Integer(i64::MAX),       "9223372036854775807"),
        ("9223372036854775808",     Value::Unsigned(1 << 63),       "9223372036854775808"),
        ("-9223372036854775808",    Value::Integer(i64::MIN),       "-9223372036854775808"),
        ("1e300",                   Value::Double(1e300),           "1e300"),
        ("[1,null,true]",           Value::Array([Value::Integer(1), Value::Null, Value::Boolean(true)].into()), "[1,null,true]"),
    ];
    for (text, expected, printed) in cases {
        let value = parse_value(text.as_bytes()).unwrap();
        assert_eq!(value, expected, "{text}");
        assert_eq!(print(&value), printed, "{text}");
    }
}

#[test]
fn what_is_not_json_is_refused() {
    for text in ["", "{", "[1,]", "NaN", "01", "1 2", "{\"a\":1,\"a\":2}", "\"\\ud800\"", "1e999"] {
        assert!(parse_value(text.as_bytes()).is_err(), "{text}");
    }
    let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
    assert!(parse_value(deep(DEPTH_MAX).as_bytes()).is_ok());
    assert!(parse_value(deep(DEPTH_MAX + 1).as_bytes()).is_err());
}

/// main.6: the local envelope as `docs/config.md` describes it.
#[test]
fn the_envelope_says_what_is_known() {
    let mut good = reading(Value::Double(21.5));
    good.unit = Some(Unit::new("Cel").unwrap());
    let expected =
        r#"{"value":21.5,"time":"2026-03-01T12:00:00.123Z","quality":"good","unit":"Cel"}"#;
    assert_eq!(envelope(&good), expected);

    let mut bad = reading(Value::Null);
    bad.status = Status::from_code(0x8031_0000);
    bad.clock = Clock::Untrusted;
    let expected = r#"{"value":null,"time":"2026-03-01T12:00:00.123Z","quality":"bad","status":2150694912,"clock":"untrusted"}"#;
    assert_eq!(envelope(&bad), expected);
    bad.until = Some(Timestamp::parse("2026-03-01T12:05:00Z").unwrap());
    let expected = r#"{"value":null,"time":"2026-03-01T12:00:00.123Z","until":"2026-03-01T12:05:00.000Z","quality":"bad","status":2150694912,"clock":"untrusted"}"#;
    assert_eq!(envelope(&bad), expected);

    let expected =
        r#"{"value":null,"time":"2026-03-01T12:00:00.123Z","quality":"bad","status":2147483648}"#;
    assert_eq!(envelope(&reading(Value::Double(f64::NAN))), expected);

    let expected = r#"{"value":"AAEC/w==","time":"2026-03-01T12:00:00.123Z","quality":"good","encoding":"base64"}"#;
    assert_eq!(envelope(&reading(Value::Bytes(Bytes::from_static(&[0, 1, 2, 255])))), expected);
}

#[test]
fn a_32_bit_float_prints_its_own_digits() {
    assert_eq!(print(&Value::Float(21.1)), "21.1");
    assert_eq!(print(&Value::Float(f32::INFINITY)), "null");
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Boolean),
        any::<i64>().prop_map(Value::Integer),
        any::<u64>().prop_map(Value::unsigned),
        any::<f64>()
            .prop_filter("JSON has finite numbers", |number| number.is_finite())
            .prop_map(Value::Double),
        any::<String>().prop_map(|text| Value::string(&text)),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(|items| Value::Array(items.into())),
            prop::collection::btree_map(any::<String>(), inner, 0..6).prop_map(|members| {
                let members =
                    members.into_iter().map(|(name, value)| (name.into(), value)).collect();
                Value::Document(std::sync::Arc::new(Document::new(members).unwrap()))
            }),
        ]
    })
}

proptest! {
    /// main.24: what is printed reads back the same, bit for bit.
    #[test]
    fn printing_and_parsing_agree(value in any_value()) {
        prop_assert_eq!(parse_value(print(&value).as_bytes()), Ok(value));
    }

    #[test]
    fn parsing_never_panics(text in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = parse_value(&text);
    }
}

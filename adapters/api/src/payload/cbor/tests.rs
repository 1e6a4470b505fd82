use ciborium::Value as Oracle;
use proptest::prelude::*;

use tidegate_model::json::DEPTH_MAX;

use super::*;

fn bytes(hex: &str) -> Bytes {
    let digits: String = hex.split_whitespace().collect();
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
        .collect::<Vec<u8>>()
        .into()
}

/// main.10: RFC 8949, appendix A; integers are exact, floats keep their width.
#[test]
fn items_keep_their_type() {
    #[rustfmt::skip]
    let cases = [
        ("00",                      Value::Integer(0)),
        ("1819",                    Value::Integer(25)),
        ("1B7FFFFFFFFFFFFFFF",      Value::Integer(i64::MAX)),
        ("1BFFFFFFFFFFFFFFFF",      Value::Unsigned(u64::MAX)),
        ("20",                      Value::Integer(-1)),
        ("3B7FFFFFFFFFFFFFFF",      Value::Integer(i64::MIN)),
        ("C2 49 00FFFFFFFFFFFFFFFF", Value::Unsigned(u64::MAX)),
        ("C3 41 09",                Value::Integer(-10)),
        ("F90000",                  Value::Float(0.0)),
        ("F98000",                  Value::Float(-0.0)),
        ("F93C00",                  Value::Float(1.0)),
        ("F97BFF",                  Value::Float(65_504.0)),
        ("F90001",                  Value::Float(5.960_464_5e-8)),
        ("F90400",                  Value::Float(6.103_515_6e-5)),
        ("F9C400",                  Value::Float(-4.0)),
        ("F97C00",                  Value::Float(f32::INFINITY)),
        ("F97E00",                  Value::Float(f32::NAN)),
        ("FA47C35000",              Value::Float(100_000.0)),
        ("FB3FF199999999999A",      Value::Double(1.1)),
        ("F4",                      Value::Boolean(false)),
        ("F5",                      Value::Boolean(true)),
        ("F6",                      Value::Null),
        ("F7",                      Value::Null),
        ("44 01020304",             Value::Bytes(bytes("01020304"))),
        ("5F 42 0102 41 03 FF",     Value::Bytes(bytes("010203"))),
        ("62 C3BC",                 Value::string("ü")),
        ("7F 61 61 61 62 FF",       Value::string("ab")),
        ("C1 1A 514B67B0",          Value::Integer(1_363_896_240)),
        ("83 01 02 03",             Value::Array([1, 2, 3].map(Value::Integer).into())),
        ("9F 01 FF",                Value::Array([Value::Integer(1)].into())),
    ];
    for (hex, expected) in cases {
        assert_eq!(parse_value(&bytes(hex)), Ok(expected), "{hex}");
    }
    let document = parse_value(&bytes("BF 61 61 01 61 62 9F 02 FF FF")).unwrap();
    assert_eq!(document.to_string(), r#"{"a":1,"b":[2]}"#);
}

#[test]
fn what_is_no_item_is_refused() {
    #[rustfmt::skip]
    let cases = [
        ("",                    "the item is cut short at byte 0"),
        ("19 01",               "the item is cut short at byte 1"),
        ("62 61",               "the item is cut short at byte 1"),
        ("9F 01",               "the item is cut short at byte 2"),
        ("5B FFFFFFFFFFFFFFFF", "the item is cut short at byte 9"),
        ("9B FFFFFFFFFFFFFFFF", "the item is cut short at byte 9"),
        ("01 02",               "bytes behind the item at byte 1"),
        ("1C",                  "reserved item 0x1C at byte 1"),
        ("FF",                  "reserved item 0xFF at byte 1"),
        ("1F",                  "reserved item 0x1F at byte 1"),
        ("F8 20",               "reserved item 0xF8 at byte 2"),
        ("5F 61 61 FF",         "reserved item 0x61 at byte 2"),
        ("3B 8000000000000000", "an integer beyond 64 bits at byte 9"),
        ("C2 49 01FFFFFFFFFFFFFFFF", "an integer beyond 64 bits at byte 11"),
        ("61 FF",               "a text that is not UTF-8 at byte 2"),
        ("A1 01 02",            "a member name that is not a text at byte 2"),
        ("A2 61 61 01 61 61 02", "the name `a` occurs twice at byte 7"),
        ("C0 C0 C0 C0 C0 C0 C0 C0 C0 00", "reserved item 0xC0 at byte 9"),
    ];
    for (hex, expected) in cases {
        assert_eq!(parse_value(&bytes(hex)).unwrap_err().to_string(), expected, "{hex}");
    }
    for head in [0x81_u8, 0xC1, 0x9F] {
        let deep: Bytes = vec![head; 100_000].into();
        assert!(parse_value(&deep).is_err(), "{head:#X} one in another");
    }
    let nested = |levels| Bytes::from([vec![0x81; levels], vec![0]].concat());
    assert!(parse_value(&nested(DEPTH_MAX)).is_ok());
    assert_eq!(parse_value(&nested(DEPTH_MAX + 1)).unwrap_err().fault, CborFault::TooDeep);
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Boolean),
        any::<i64>().prop_map(Value::Integer),
        any::<u64>().prop_map(Value::unsigned),
        any::<f64>().prop_filter("equal to itself", |x| !x.is_nan()).prop_map(Value::Double),
        ".{0,8}".prop_map(|text| Value::string(&text)),
        proptest::collection::vec(any::<u8>(), 0..8).prop_map(|bytes| Value::Bytes(bytes.into())),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4)
                .prop_map(|items| Value::Array(items.into())),
            proptest::collection::btree_map("[a-z]{1,3}", inner, 0..4).prop_map(|members| {
                let members =
                    members.into_iter().map(|(name, value)| (name.into(), value)).collect();
                Value::Document(Arc::new(Document::new(members).unwrap()))
            }),
        ]
    })
}

fn oracle(value: &Value) -> Oracle {
    match value {
        Value::Null => Oracle::Null,
        Value::Boolean(value) => Oracle::Bool(*value),
        Value::Integer(value) => Oracle::Integer((*value).into()),
        Value::Unsigned(value) => Oracle::Integer((*value).into()),
        Value::Float(value) => Oracle::Float((*value).into()),
        Value::Double(value) => Oracle::Float(*value),
        Value::String(text) => Oracle::Text(text.to_string()),
        Value::Bytes(bytes) => Oracle::Bytes(bytes.to_vec()),
        Value::Array(items) => Oracle::Array(items.iter().map(oracle).collect()),
        Value::Document(members) => Oracle::Map(
            members
                .iter()
                .map(|(name, value)| (Oracle::Text(name.to_string()), oracle(value)))
                .collect(),
        ),
    }
}

proptest! {
    /// What another encoder writes is read back, floats in whatever width it chose.
    #[test]
    fn another_encoder_is_understood(value in any_value()) {
        let mut encoded = Vec::new();
        ciborium::into_writer(&oracle(&value), &mut encoded).unwrap();
        let decoded = parse_value(&encoded.into()).unwrap();
        prop_assert_eq!(oracle(&decoded), oracle(&value));
    }

    /// No bytes make the decoder panic, and what it takes the other decoder takes too.
    #[test]
    fn any_bytes_are_taken_or_refused(input in proptest::collection::vec(any::<u8>(), 0..48)) {
        if parse_value(&input.clone().into()).is_ok() {
            prop_assert!(ciborium::from_reader::<Oracle, _>(&input[..]).is_ok());
        }
    }
}

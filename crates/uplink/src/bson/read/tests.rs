use proptest::prelude::*;
use tidegate_model::Value;

use super::*;
use crate::bson::Writer;

const LIMITS: Limits = Limits::DOWNLINK;

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Boolean),
        any::<i64>().prop_map(Value::Integer),
        (-5_i64..5).prop_map(Value::Integer),
        any::<u64>().prop_map(Value::unsigned),
        any::<f32>().prop_map(Value::Float),
        any::<f64>().prop_map(Value::Double),
        ".{0,12}".prop_map(|text| Value::string(&text)),
        prop::collection::vec(any::<u8>(), 0..12).prop_map(|bytes| Value::Bytes(bytes.into())),
    ];
    leaf.prop_recursive(4, 24, 6, |inner| {
        let names = prop::collection::btree_map("[a-z.$é]{0,6}", inner.clone(), 0..6);
        prop_oneof![
            prop::collection::vec(inner, 0..12).prop_map(|items| Value::Array(items.into())),
            names.prop_map(|members| {
                let members = members.into_iter().map(|(name, value)| (name.into(), value));
                Value::Document(Document::new(members.collect()).unwrap().into())
            }),
        ]
    })
}

/// What comes back of a value: BSON has no single floats.
fn widened(value: &Value) -> Value {
    match value {
        Value::Float(number) => Value::Double(f64::from(*number)),
        Value::Array(items) => Value::Array(items.iter().map(widened).collect()),
        Value::Document(document) => {
            let members = document.iter().map(|(name, value)| (name.clone(), widened(value)));
            Value::Document(Document::new(members.collect()).unwrap().into())
        }
        other => other.clone(),
    }
}

fn written(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes);
    let document = writer.begin();
    writer.value(b"x", value);
    writer.end(document);
    bytes
}

fn read_back(bytes: &[u8]) -> Result<Value, DecodeError> {
    check(bytes, &LIMITS)?;
    let (name, element) = Elements::new(bytes).next().expect("one element")?;
    assert_eq!(name, "x");
    element.to_value()
}

/// Documents inside each other, without recursion.
fn nested(kind: u8, depth: usize) -> Vec<u8> {
    let mut bytes = vec![5, 0, 0, 0, 0];
    for _ in 1..depth {
        let length = u32::try_from(bytes.len() + 8).unwrap();
        let mut outer = length.to_le_bytes().to_vec();
        outer.extend_from_slice(&[kind, b'0', 0]);
        outer.extend_from_slice(&bytes);
        outer.push(0);
        bytes = outer;
    }
    bytes
}

proptest! {
    /// Values come back as they were, and the `bson` crate reads the same bytes.
    #[test]
    fn values_round_trip(value in value()) {
        let bytes = written(&value);
        prop_assert_eq!(read_back(&bytes), Ok(widened(&value)));
        let theirs = bson::Document::from_reader(&bytes[..]).unwrap();
        prop_assert_eq!(theirs.len(), 1);
        prop_assert_eq!(bson::RawDocument::from_bytes(&bytes).unwrap().as_bytes(), &bytes[..]);
    }

    /// U08: no bytes do harm, and what passes the check is read to its end.
    #[test]
    fn fault_u08_any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        if check(&bytes, &LIMITS).is_ok() {
            let document = Element::Document(Elements::new(&bytes));
            let read = document.to_value();
            let is_fine = matches!(
                read,
                Ok(_) | Err(DecodeError::Content { .. } | DecodeError::UnsupportedType { .. })
            );
            prop_assert!(is_fine, "{:?}", read);
        }
    }

    /// U08: one changed byte in a document does no harm either.
    #[test]
    fn fault_u08_changed_documents_are_read_or_refused(value in value(), at in any::<usize>(), byte in any::<u8>()) {
        let mut bytes = written(&value);
        let at = at % bytes.len();
        bytes[at] = byte;
        if check(&bytes, &LIMITS).is_ok() {
            let _ = Element::Document(Elements::new(&bytes)).to_value();
        }
    }
}

#[test]
fn the_bson_crate_sees_the_types_that_were_meant() {
    use bson::Bson;
    #[rustfmt::skip]
    let cases = [
        (Value::Integer(1),                   Bson::Int32(1)),
        (Value::Integer(1 << 31),             Bson::Int64(1 << 31)),
        (Value::Integer(i64::MIN),            Bson::Int64(i64::MIN)),
        (Value::Float(0.5),                   Bson::Double(0.5)),
        (Value::Double(f64::INFINITY),        Bson::Double(f64::INFINITY)),
        (Value::Unsigned(u64::MAX),           Bson::Decimal128("18446744073709551615".parse().unwrap())),
        (Value::Null,                         Bson::Null),
        (Value::Boolean(true),                Bson::Boolean(true)),
        (Value::string("é"),                  Bson::String("é".into())),
        (Value::Array(vec![Value::Null; 11].into()), Bson::Array(vec![Bson::Null; 11])),
    ];
    for (value, expected) in cases {
        let bytes = written(&value);
        let theirs = bson::Document::from_reader(&bytes[..]).unwrap();
        assert_eq!(theirs.get("x"), Some(&expected), "{value}");
    }
}

#[test]
fn a_zero_in_a_name_is_written_as_percent_encoding() {
    let document = Document::new(vec![("a\0b".into(), Value::Integer(1))]).unwrap();
    let back = read_back(&written(&Value::Document(document.into()))).unwrap();
    let expected = Document::new(vec![("a%00b".into(), Value::Integer(1))]).unwrap();
    assert_eq!(back, Value::Document(expected.into()));
}

/// U08: depth is refused before anything is read, whatever the depth.
#[test]
fn fault_u08_nesting_is_refused_without_recursion() {
    for kind in [element::DOCUMENT, element::ARRAY] {
        assert!(check(&nested(kind, LIMITS.depth), &LIMITS).is_ok());
        for depth in [LIMITS.depth + 1, 10_000] {
            let refused = check(&nested(kind, depth), &LIMITS);
            assert_eq!(refused, Err(DecodeError::TooDeep { limit: LIMITS.depth }));
        }
    }
}

/// U08: lengths that lie, names and texts without an end, types of databases and scripts.
#[test]
fn fault_u08_lies_are_refused() {
    let string = |length: i32| {
        let mut bytes = vec![0; 4];
        bytes.extend_from_slice(b"\x02x\0");
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(b"ab\0\0");
        let length = u32::try_from(bytes.len()).unwrap();
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        bytes
    };
    assert_eq!(check(&string(3), &LIMITS), Ok(1));
    for length in [0, -1, 2, 4, 5, i32::MAX, i32::MIN] {
        let refused = check(&string(length), &LIMITS);
        assert!(matches!(refused, Err(DecodeError::Malformed { .. })), "{length}: {refused:?}");
    }
    for length in [0, -1, 4, 6, i32::MAX, i32::MIN] {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.push(0);
        assert!(matches!(check(&bytes, &LIMITS), Err(DecodeError::Malformed { .. })), "{length}");
    }
    // An inner document that ends behind the outer one; one byte too many; a name without an end.
    let inner = b"\x0d\0\0\0\x03x\0\x06\0\0\0\0\0";
    let rest = b"\x05\0\0\0\0\0";
    let name = b"\x0a\0\0\0\x0axxx\0\0";
    for bytes in [&inner[..], &rest[..], &name[..9], &[][..], &[5, 0, 0][..]] {
        assert!(matches!(check(bytes, &LIMITS), Err(DecodeError::Malformed { .. })), "{bytes:?}");
    }
    // Undefined, object id, regular expression, pointer, code, symbol, code with scope, timestamp, minimum
    // and maximum key, and a type that does not exist.
    for kind in [0x06, 0x07, 0x0B, 0x0C, 0x0D, 0x0E, 0x0F, 0x11, 0xFF, 0x7F, 0x42] {
        let mut bytes = vec![24, 0, 0, 0, kind, b'x', 0];
        bytes.resize(24, 0);
        assert_eq!(check(&bytes, &LIMITS), Err(DecodeError::UnsupportedType { kind }));
    }
}

/// U08: the number of elements is bounded, however small they are.
#[test]
fn fault_u08_elements_are_counted() {
    let many = |count: usize| {
        let mut bytes = vec![0; 4];
        for _ in 0..count {
            bytes.extend_from_slice(b"\x0a\0");
        }
        bytes.push(0);
        let length = u32::try_from(bytes.len()).unwrap();
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        bytes
    };
    assert_eq!(check(&many(LIMITS.elements), &LIMITS), Ok(LIMITS.elements));
    let refused = check(&many(1_000_000), &LIMITS);
    assert_eq!(refused, Err(DecodeError::TooManyElements { limit: LIMITS.elements }));
}

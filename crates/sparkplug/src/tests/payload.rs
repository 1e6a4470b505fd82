//! Payloads: the examples of the specification, and what strangers may send.

use std::sync::Arc;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use proptest::prelude::*;
use tidegate_model::{Document, Value};

use crate::{
    DataType, DecodeError, Limits, MetaData, Metric, MetricValue, Payload, Property, PropertySet,
    PropertyValue, array,
};

const T0: u64 = 1_700_000_000_000;

fn hex(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    HEXLOWER.decode(digits.as_bytes()).unwrap()
}

fn decode(bytes: Vec<u8>) -> Result<Payload, DecodeError> {
    Payload::decode(bytes.into(), Limits::COMMAND)
}

fn check(payload: &Payload, expected: &str) {
    let bytes = hex(expected);
    assert_eq!(HEXLOWER.encode(&payload.encode()), HEXLOWER.encode(&bytes), "{payload:?}");
    assert_eq!(decode(bytes).as_ref(), Ok(payload));
}

fn bd_seq(timestamp: Option<u64>) -> Metric {
    Metric {
        name: Some("bdSeq".into()),
        timestamp,
        datatype: Some(DataType::Int64.code()),
        value: Some(MetricValue::Long(0)),
        ..Metric::default()
    }
}

fn rebirth(truth: bool) -> Metric {
    Metric {
        name: Some("Node Control/Rebirth".into()),
        timestamp: Some(T0),
        datatype: Some(DataType::Boolean.code()),
        value: Some(MetricValue::Boolean(truth)),
        ..Metric::default()
    }
}

fn double(time: u64, number: f64) -> Metric {
    let (timestamp, value) = (Some(time), Some(MetricValue::Double(number)));
    Metric { alias: Some(1), timestamp, value, ..Metric::default() }
}

/// uplink.23, checklist 1: the worked payloads, with explicit zeros.
#[test]
fn worked_payloads_are_written_and_read() {
    let payload = |timestamp: Option<u64>, metrics: Vec<Metric>, seq: Option<u64>| Payload {
        timestamp,
        metrics,
        seq,
        ..Payload::default()
    };
    check(&payload(None, vec![bd_seq(None)], None), "12 0b 0a 05 62 64 53 65 71 20 04 58 00");
    check(
        &payload(Some(T0), vec![bd_seq(Some(T0))], None),
        "08 80 d0 95 ff bc 31 12 12 0a 05 62 64 53 65 71 18 80 d0 95 ff bc 31 20 04 58 00",
    );
    check(
        &payload(Some(T0), vec![bd_seq(Some(T0)), rebirth(false)], Some(0)),
        "08 80 d0 95 ff bc 31 12 12 0a 05 62 64 53 65 71 18 80 d0 95 ff bc 31 20 04 58 00 12 21 0a 14 4e 6f 64 65 20 43
         6f 6e 74 72 6f 6c 2f 52 65 62 69 72 74 68 18 80 d0 95 ff bc 31 20 0b 70 00 18 00",
    );
    let birth = Metric {
        name: Some("temp".into()),
        datatype: Some(DataType::Double.code()),
        ..double(T0, 25.5)
    };
    check(
        &payload(Some(T0), vec![birth], Some(1)),
        "08 80 d0 95 ff bc 31 12 1a 0a 04 74 65 6d 70 10 01 18 80 d0 95 ff bc 31 20 0a 69 00 00 00 00 00 80 39 40 18 01",
    );
    check(
        &payload(Some(T0 + 1_000), vec![double(T0 + 1_000, 25.75)], Some(2)),
        "08 e8 d7 95 ff bc 31 12 12 10 01 18 e8 d7 95 ff bc 31 69 00 00 00 00 00 c0 39 40 18 02",
    );
    let historical = Metric { is_historical: Some(true), ..double(T0 + 2_000, 26.0) };
    check(
        &payload(Some(T0 + 5_000), vec![historical], Some(3)),
        "08 88 f7 95 ff bc 31 12 14 10 01 18 d0 df 95 ff bc 31 28 01 69 00 00 00 00 00 00 3a 40 18 03",
    );
    check(
        &payload(Some(T0), vec![rebirth(true)], None),
        "08 80 d0 95 ff bc 31 12 21 0a 14 4e 6f 64 65 20 43 6f 6e 74 72 6f 6c 2f 52 65 62 69 72 74 68 18 80 d0 95 ff bc 31 20 0b 70 01",
    );
    let alias = |value: Option<MetricValue>| Metric { alias: Some(9), value, ..Metric::default() };
    let only = |metric: Metric| Payload { metrics: vec![metric], ..Payload::default() };
    let minus_5 = MetricValue::Int((-5_i32).cast_unsigned());
    check(&only(alias(Some(minus_5))), "12 08 10 09 50 fb ff ff ff 0f");
    let minus_5 = MetricValue::Long((-5_i64).cast_unsigned());
    check(&only(alias(Some(minus_5))), "12 0d 10 09 58 fb ff ff ff ff ff ff ff ff 01");
    let null = Metric { timestamp: Some(T0), is_null: Some(true), ..alias(None) };
    check(&only(null), "12 0b 10 09 18 80 d0 95 ff bc 31 38 01");
}

/// uplink.23, checklist 1: the worked arrays; floats are little-endian, whatever is printed there.
#[test]
fn worked_arrays_are_packed() {
    let integers = |numbers: &[i64]| numbers.iter().map(|it| Value::Integer(*it)).collect();
    let truths = |bits: &str| bits.chars().map(|bit| Value::Boolean(bit == 't')).collect();
    let cases: [(DataType, Vec<Value>, &str); 7] = [
        (DataType::Int32Array, integers(&[123_456_789, 987_654_321]), "15cd5b07b168de3a"),
        (DataType::Int16Array, integers(&[-30_000, 30_000]), "d08a3075"),
        (DataType::FloatArray, vec![Value::Float(1.23), Value::Float(89.341)], "a4709d3f98aeb242"),
        (
            DataType::DoubleArray,
            vec![Value::Double(12.354_213), Value::Double(1_022.912_321_3)],
            "d7a205685bb528408e171c6f4cf78f40",
        ),
        (DataType::BooleanArray, truths("ffttftffttft"), "0c00000034d0"),
        (
            DataType::DateTimeArray,
            integers(&[1_256_102_875_335, 1_656_107_875_000]),
            "c7d0907524010000b8bab89781010000",
        ),
        (
            DataType::StringArray,
            vec![Value::string("ABC"), Value::string("hello")],
            "4142430068656c6c6f00",
        ),
    ];
    for (datatype, items, expected) in cases {
        let packed = array::encode(datatype, &items).unwrap();
        assert_eq!(HEXLOWER.encode(&packed), expected, "{datatype:?}");
    }
    assert_eq!(array::encode(DataType::Int16Array, &[Value::Integer(40_000)]), None);
}

#[test]
fn what_is_unknown_is_skipped() {
    // An extension of the payload (field 6), one of the metric (19), and a varint field 99.
    let bytes = hex("32 02 ff ff 12 08 10 01 9a 01 01 00 70 01 98 06 05 18 07");
    let payload = decode(bytes).unwrap();
    assert_eq!(payload.seq, Some(7));
    assert_eq!(payload.metrics[0].value, Some(MetricValue::Boolean(true)));
    assert_eq!(payload.metrics[0].alias, Some(1));
}

#[test]
fn hostile_payloads_are_refused_before_anything_is_made_of_them() {
    let limits = Limits { bytes: 1 << 20, parts: 1_024 };
    let many = [0x12, 0x00].repeat(1_025);
    let refused = Payload::decode(many.into(), limits);
    assert_eq!(refused, Err(DecodeError::TooMany { limit: 1_024 }));
    let large = Payload::decode(vec![0; (1 << 20) + 1].into(), limits);
    assert!(matches!(large, Err(DecodeError::TooLarge { .. })));
    #[rustfmt::skip]
    let cases = [
        ("12 ff ff ff ff 0f",                   "a length beyond the end"),
        ("12 ff ff ff ff ff ff ff ff ff 01",    "a length beyond memory"),
        ("08 ff ff ff ff ff ff ff ff ff 02",    "a number of 65 bits"),
        ("08 ff ff ff ff ff ff ff ff ff ff 01", "a number of 11 bytes"),
        ("08",                                  "no number"),
        ("00 00",                               "field 0"),
        ("0b 0c",                               "a group"),
        ("08 01 0d 00 00 00",                   "three of four bytes"),
        ("0d 00 00 00 00",                      "the wrong layout of a known field"),
        ("12 04 4a 02 0a 00",                   "a property without value"),
    ];
    for (bytes, what) in cases {
        assert_eq!(decode(hex(bytes)), Err(DecodeError::Malformed), "{what}");
    }
    assert_eq!(decode(hex("12 03 0a 01 ff")), Err(DecodeError::NotText));
}

#[test]
fn values_keep_their_type_where_they_can() {
    let double = DataType::Double;
    assert_eq!(double.fit(&Value::Integer(21)), Some(MetricValue::Double(21.0)));
    assert_eq!(double.fit(&Value::Integer(i64::MAX)), None);
    assert_eq!(double.fit(&Value::string("x")), None);
    assert_eq!(DataType::Int64.fit(&Value::Double(0.5)), None);
    assert_eq!(DataType::UInt64.fit(&Value::Integer(-1)), None);
    assert_eq!(DataType::of(&Value::Null), None);
    let mixed = Value::Array([Value::Integer(1), Value::string("a")].into());
    assert_eq!(DataType::of(&mixed), Some(DataType::String));
    assert_eq!(DataType::String.fit(&mixed), Some(MetricValue::String("[1,\"a\"]".into())));
    let document = Document::new(vec![("a".into(), Value::Boolean(true))]).unwrap();
    let text = DataType::String.fit(&Value::Document(Arc::new(document.clone())));
    assert_eq!(text, Some(MetricValue::String("{\"a\":true}".into())));
    assert_eq!(DataType::String.value(&text.unwrap()), Some(Value::Document(Arc::new(document))));
    for (place, datatype) in DataType::ALL.iter().enumerate() {
        assert_eq!(datatype.code() as usize, place + 1);
        assert_eq!(DataType::from_code(datatype.code()), Some(*datatype));
    }
    assert_eq!((DataType::from_code(0), DataType::from_code(35)), (None, None));
}

#[test]
fn commands_are_read_by_the_type_that_was_announced() {
    use MetricValue::{Boolean, Double, Float, Int, Long};
    #[rustfmt::skip]
    let cases = [
        (DataType::Int64,   Long((-5_i64).cast_unsigned()), Some(Value::Integer(-5))),
        (DataType::Int64,   Int((-5_i32).cast_unsigned()),  Some(Value::Integer(-5))),
        (DataType::Int8,    Int((-5_i32).cast_unsigned()),  Some(Value::Integer(-5))),
        (DataType::Int8,    Int(200),                       None),
        (DataType::UInt32,  Long(4_000_000_000),            Some(Value::Integer(4_000_000_000))),
        (DataType::UInt32,  Long(1 << 32),                  None),
        (DataType::UInt64,  Long(u64::MAX),                 Some(Value::Unsigned(u64::MAX))),
        (DataType::Double,  Double(1.5),                    Some(Value::Double(1.5))),
        (DataType::Double,  Float(1.5),                     Some(Value::Double(1.5))),
        (DataType::Float,   Double(1.5),                    None),
        (DataType::Boolean, Boolean(false),                 Some(Value::Boolean(false))),
        (DataType::Boolean, Int(1),                         None),
        (DataType::Bytes,   MetricValue::Bytes(Bytes::new()), None),
    ];
    for (datatype, written, expected) in cases {
        assert_eq!(datatype.value(&written), expected, "{datatype:?} {written:?}");
    }
}

fn value() -> impl Strategy<Value = MetricValue> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from);
    prop_oneof![
        any::<u32>().prop_map(MetricValue::Int),
        any::<u64>().prop_map(MetricValue::Long),
        (-1e30_f32..1e30).prop_map(MetricValue::Float),
        (-1e300_f64..1e300).prop_map(MetricValue::Double),
        any::<bool>().prop_map(MetricValue::Boolean),
        ".{0,8}".prop_map(|text| MetricValue::String(text.into())),
        bytes().prop_map(MetricValue::Bytes),
        bytes().prop_map(MetricValue::DataSet),
        bytes().prop_map(MetricValue::Template),
    ]
}

fn text() -> impl Strategy<Value = Option<Arc<str>>> {
    prop::option::of(".{0,8}".prop_map(Arc::from))
}

fn metric() -> impl Strategy<Value = Metric> {
    let flag = prop::option::of(any::<bool>());
    let number = prop::option::of(any::<u64>());
    let described = (text(), prop::option::of(any::<u64>())).prop_map(|(content_type, size)| {
        MetaData { content_type, size, is_multi_part: Some(false), ..MetaData::default() }
    });
    let property = prop_oneof![
        any::<u32>().prop_map(PropertyValue::Int),
        any::<bool>().prop_map(PropertyValue::Boolean),
        ".{0,8}".prop_map(|text| PropertyValue::String(text.into())),
    ];
    let named = (".{0,8}", prop::option::of(property)).prop_map(|(name, value)| {
        (Arc::from(name), Property { datatype: Some(3), is_null: None, value })
    });
    let set = prop::collection::vec(named, 0..3).prop_map(|entries| PropertySet { entries });
    let heads = (text(), number.clone(), number, prop::option::of(any::<u32>()));
    let rest =
        (flag, prop::option::of(described), prop::option::of(set), prop::option::of(value()));
    (heads, rest).prop_map(
        |((name, alias, timestamp, datatype), (is_historical, metadata, properties, value))| {
            Metric {
                name,
                alias,
                timestamp,
                datatype,
                is_historical,
                is_null: value.is_none().then_some(true),
                is_transient: None,
                metadata,
                properties,
                value,
            }
        },
    )
}

proptest! {
    #[test]
    fn payloads_come_back_as_they_were(
        metrics in prop::collection::vec(metric(), 0..5),
        timestamp in prop::option::of(any::<u64>()),
        seq in prop::option::of(0..=255_u64),
        uuid in text(),
    ) {
        let payload = Payload { timestamp, metrics, seq, uuid, body: None };
        prop_assert_eq!(decode(payload.encode()), Ok(payload));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(payload) = decode(bytes) {
            prop_assert_eq!(decode(payload.encode()), Ok(payload));
        }
    }
}

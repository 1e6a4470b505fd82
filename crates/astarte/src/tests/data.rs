//! Payloads, both ways.

use bytes::Bytes;
use proptest::prelude::*;
use tidegate_model::{Document, Timestamp, Value};

use super::{head, interface};
use crate::{Data, Interface, PayloadError, Target, ValueError, decode, encode};

const TIME: i64 = 1_700_000_000_000;

fn time() -> Timestamp {
    Timestamp::from_unix_millis(TIME)
}

fn hex(text: &str) -> Vec<u8> {
    let bytes = text.split_whitespace();
    bytes.map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

fn of(kind: &str, more: &str) -> Interface {
    interface(&head("org.example.Vectors", "datastream", "device", ""), &[("/v", kind, more)])
}

fn target(interface: &Interface) -> Target<'_> {
    Target::Value(&interface.mappings()[0])
}

fn array(items: impl IntoIterator<Item = Value>) -> Value {
    Value::Array(items.into_iter().collect())
}

fn document(members: &[(&str, Value)]) -> Value {
    let members = members.iter().map(|(key, value)| ((*key).into(), value.clone())).collect();
    Value::Document(Document::new(members).unwrap().into())
}

/// Section 8.1, row by row: type, value, whether with its time, bytes.
fn rows() -> Vec<(&'static str, Value, bool, &'static str)> {
    let int = Value::Integer;
    let text = Value::string;
    vec![
        ("double", Value::Double(25.5), false, "10 00 00 00 01 76 00 00 00 00 00 00 80 39 40 00"),
        (
            "double",
            Value::Double(25.5),
            true,
            "1b 00 00 00 01 76 00 00 00 00 00 00 80 39 40 09 74 00 00 68 e5 cf 8b 01 00 00 00",
        ),
        ("integer", int(42), false, "0c 00 00 00 10 76 00 2a 00 00 00 00"),
        ("integer", int(-1), false, "0c 00 00 00 10 76 00 ff ff ff ff 00"),
        (
            "longinteger",
            int(1_099_511_627_776),
            false,
            "10 00 00 00 12 76 00 00 00 00 00 00 01 00 00 00",
        ),
        ("boolean", Value::Boolean(true), false, "09 00 00 00 08 76 00 01 00"),
        ("string", text("on"), false, "0f 00 00 00 02 76 00 03 00 00 00 6f 6e 00 00"),
        ("string", text(""), false, "0d 00 00 00 02 76 00 01 00 00 00 00 00"),
        ("string", text("°C"), false, "10 00 00 00 02 76 00 04 00 00 00 c2 b0 43 00 00"),
        (
            "binaryblob",
            Value::Bytes(Bytes::from_static(&[0xde, 0xad, 0xbe, 0xef])),
            false,
            "11 00 00 00 05 76 00 04 00 00 00 00 de ad be ef 00",
        ),
        (
            "datetime",
            text("2023-11-14T22:13:20.000Z"),
            false,
            "10 00 00 00 09 76 00 00 68 e5 cf 8b 01 00 00 00",
        ),
        (
            "doublearray",
            array([Value::Double(1.5), Value::Double(-2.0)]),
            false,
            "23 00 00 00 04 76 00 1b 00 00 00 01 30 00 00 00 00 00 00 00 f8 3f 01 31 00 00 00 00 00 00 00 00 c0 00 00",
        ),
        (
            "integerarray",
            array([int(1), int(2), int(3)]),
            false,
            "22 00 00 00 04 76 00 1a 00 00 00 10 30 00 01 00 00 00 10 31 00 02 00 00 00 10 32 00 03 00 00 00 00 00",
        ),
        (
            "booleanarray",
            array([Value::Boolean(true), Value::Boolean(false)]),
            false,
            "15 00 00 00 04 76 00 0d 00 00 00 08 30 00 01 08 31 00 00 00 00",
        ),
        (
            "stringarray",
            array([text("a"), text("bc")]),
            false,
            "20 00 00 00 04 76 00 18 00 00 00 02 30 00 02 00 00 00 61 00 02 31 00 03 00 00 00 62 63 00 00 00",
        ),
        ("doublearray", array([]), false, "0d 00 00 00 04 76 00 05 00 00 00 00 00"),
    ]
}

/// uplink.22, section 11.1: every row of section 8.1 is written and read as it stands there.
#[test]
fn uplink_22_the_worked_examples_come_out() {
    for (kind, value, is_stamped, bytes) in rows() {
        let more = if is_stamped { r#","explicit_timestamp":true"# } else { "" };
        let interface = of(kind, more);
        let written = encode(&interface, target(&interface), &value, time()).unwrap();
        assert_eq!(written, hex(bytes), "{kind} {value}");
        let read = decode(&interface, target(&interface), &hex(bytes)).unwrap();
        let expected = Data { value: Some(value), time: is_stamped.then(time) };
        assert_eq!(read, expected, "{kind}");
    }
}

/// uplink.22: objects, with and without a time.
#[test]
fn uplink_22_objects_come_out() {
    let plain = "28 00 00 00 03 76 00 20 00 00 00 01 74 65 6d 70 00 00 00 00 00 00 80 35 40 01 68 75 6d 00 00 00 00 00 00 20 44 40 00 00";
    let stamped = "33 00 00 00 03 76 00 20 00 00 00 01 74 65 6d 70 00 00 00 00 00 00 80 35 40 01 68 75 6d 00 00 00 00 00 00 20 44 40 00 09 74 00 00 68 e5 cf 8b 01 00 00 00";
    let value = document(&[("temp", Value::Double(21.5)), ("hum", Value::Double(40.25))]);
    for (more, bytes) in [("", plain), (r#","explicit_timestamp":true"#, stamped)] {
        let head = head("org.example.Env", "datastream", "device", r#","aggregation":"object""#);
        let mappings = [("/%{room}/temp", "double", more), ("/%{room}/hum", "double", more)];
        let interface = interface(&head, &mappings);
        let target = Target::Object(&interface.mappings()[0]);
        assert_eq!(encode(&interface, target, &value, time()).unwrap(), hex(bytes));
        let read = decode(&interface, target, &hex(bytes)).unwrap();
        assert_eq!(read.value, Some(value.clone()));
    }
}

/// uplink.22, section 11.1: the order of the members does not matter, and int32 stands for wider types.
#[test]
fn uplink_22_other_spellings_are_read() {
    let double = of("double", "");
    let first = "1b 00 00 00 09 74 00 2a 70 20 f7 65 01 00 00 01 76 00 7b 14 ae 47 e1 ba 30 40 00";
    let read = decode(&double, target(&double), &hex(first)).unwrap();
    let at = Some(Timestamp::from_unix_millis(1_537_449_422_890));
    assert_eq!(read, Data { value: Some(Value::Double(16.73)), time: at });
    let small = hex("0c 00 00 00 10 76 00 2a 00 00 00 00");
    let read = |kind| {
        let interface = of(kind, "");
        decode(&interface, target(&interface), &small).unwrap().value
    };
    assert_eq!(read("double"), Some(Value::Double(42.0)));
    assert_eq!(read("longinteger"), Some(Value::Integer(42)));
}

/// uplink.22, section 11.5: what the far side would answer by throwing the session away is not sent.
#[test]
fn uplink_22_values_that_do_not_fit_are_refused() {
    let integer = |number| Value::Integer(number);
    let bytes = |count: usize| Value::Bytes(vec![7; count].into());
    let range = |kind| PayloadError::Value(ValueError::Range(kind));
    let kind = |found, wanted| PayloadError::Value(ValueError::Kind { found, wanted });
    let many = |count: usize| array((0..count).map(|_| Value::Boolean(true)));
    let long = "x".repeat(65_537);
    #[rustfmt::skip]
    let cases = [
        // type             value                                   why
        ("integer",         integer(i32::MIN.into()),               range("integer")),
        ("integer",         integer(1 << 31),                       range("integer")),
        ("integer",         Value::Double(1.0),                     kind("float", "integer")),
        ("longinteger",     integer(i64::MIN),                      range("longinteger")),
        ("longinteger",     Value::Unsigned(1 << 63),               range("longinteger")),
        ("double",          Value::Double(f64::NAN),                range("double")),
        ("double",          Value::Double(f64::INFINITY),           range("double")),
        ("double",          Value::Float(f32::NEG_INFINITY),        range("double")),
        ("double",          integer((1 << 53) + 1),                 range("double")),
        ("double",          Value::Boolean(true),                   kind("boolean", "double")),
        ("boolean",         integer(1),                             kind("integer", "boolean")),
        ("string",          integer(1),                             kind("integer", "string")),
        ("string",          Value::string(&long),                   PayloadError::Value(ValueError::TooLong(65_537))),
        ("string",          Value::string(&long[..65_530]),         PayloadError::TooLarge(65_543)),
        ("binaryblob",      bytes(0),                               PayloadError::Value(ValueError::Empty)),
        ("binaryblob",      bytes(65_537),                          PayloadError::Value(ValueError::TooLong(65_537))),
        ("datetime",        Value::string("yesterday"),             PayloadError::Value(ValueError::Time)),
        ("booleanarray",    many(1_025),                            PayloadError::Value(ValueError::TooManyItems(1_025))),
        ("integerarray",    array([integer(1), Value::Null]),       kind("null", "integerarray")),
        ("doublearray",     Value::Double(1.0),                     kind("float", "doublearray")),
        ("double",          Value::Null,                            PayloadError::NoValue),
    ];
    for (name, value, why) in cases {
        let interface = of(name, "");
        let refused = encode(&interface, target(&interface), &value, time());
        assert_eq!(refused, Err(why), "{name}");
    }
    let fits = [("integer", integer(-i64::from(i32::MAX))), ("booleanarray", many(1_024))];
    for (name, value) in fits {
        let interface = of(name, "");
        assert!(encode(&interface, target(&interface), &value, time()).is_ok(), "{name}");
    }
}

#[test]
fn uplink_22_objects_that_do_not_fit_are_refused() {
    let head = head("org.example.Env", "datastream", "device", r#","aggregation":"object""#);
    let needed = r#","required":true"#;
    let interface = interface(&head, &[("/r/temp", "double", needed), ("/r/hum", "double", "")]);
    let target = Target::Object(&interface.mappings()[0]);
    let double = Value::Double(1.0);
    let problem = ValueError::Kind { found: "string", wanted: "double" };
    #[rustfmt::skip]
    let cases = [
        (document(&[("temp", double.clone()), ("dew", double.clone())]), PayloadError::UnknownMember("dew".into())),
        (document(&[("hum", double.clone())]),                           PayloadError::MissingMember("temp".into())),
        (document(&[]),                                                  PayloadError::NoMembers),
        (document(&[("temp", Value::string("warm"))]),                   PayloadError::Member { key: "temp".into(), problem }),
        (double.clone(),                                                 PayloadError::Value(ValueError::Kind { found: "float", wanted: "object" })),
    ];
    for (value, why) in cases {
        assert_eq!(encode(&interface, target, &value, time()), Err(why));
    }
    assert!(encode(&interface, target, &document(&[("temp", double)]), time()).is_ok());
}

/// uplink.22: only what may be unset is, by no bytes at all; a stream never is.
#[test]
fn uplink_22_unset_is_nothing() {
    let head = head("org.example.Config", "properties", "device", "");
    let unset = r#","allow_unset":true"#;
    let interface = interface(&head, &[("/a", "integer", unset), ("/b", "integer", "")]);
    let (may, may_not) = (&interface.mappings()[0], &interface.mappings()[1]);
    let write = |mapping| encode(&interface, Target::Value(mapping), &Value::Null, time());
    assert_eq!(write(may), Ok(Vec::new()));
    assert_eq!(write(may_not), Err(PayloadError::NoValue));
    let read = |mapping| decode(&interface, Target::Value(mapping), &[]);
    assert_eq!(read(may), Ok(Data { value: None, time: None }));
    assert_eq!(read(may_not), Err(PayloadError::NoValue));
}

/// uplink.22: hostile payloads from above are refused before anything is built from them.
#[test]
fn uplink_22_what_is_no_data_is_refused() {
    let interface = of("double", "");
    let read = |bytes: &[u8]| decode(&interface, target(&interface), bytes);
    assert_eq!(read(&hex("05 00 00 00 00")), Err(PayloadError::NoData));
    let cut = hex("10 00 00 00 01 76 00 00 00");
    assert!(matches!(read(&cut), Err(PayloadError::Malformed(_))));
    // Documents within documents, four deep.
    let mut deep = hex("05 00 00 00 00");
    for _ in 0..5 {
        let length = u32::try_from(deep.len() + 8).unwrap();
        deep = [&length.to_le_bytes()[..], b"\x03v\0", &deep, b"\0"].concat();
    }
    assert!(matches!(read(&deep), Err(PayloadError::Malformed(_))));
    assert_eq!(read(&vec![0; 65_536]), Err(PayloadError::TooLarge(65_536)));
    let text = hex("0f 00 00 00 02 76 00 03 00 00 00 6f 6e 00 00");
    let problem = ValueError::Kind { found: "string", wanted: "double" };
    assert_eq!(read(&text), Err(PayloadError::Value(problem)));
}

fn any_value() -> impl Strategy<Value = (&'static str, Value)> {
    let number = || any::<i64>().prop_filter("no least number", |it| *it != i64::MIN);
    let small = || (-i32::MAX..=i32::MAX).prop_map(|it| Value::Integer(it.into()));
    let double = || any::<f64>().prop_filter("finite", |it| it.is_finite()).prop_map(Value::Double);
    let text = || "\\PC{0,40}".prop_map(|text| Value::string(&text));
    let blob = || prop::collection::vec(any::<u8>(), 1..64).prop_map(|it| Value::Bytes(it.into()));
    prop_oneof![
        double().prop_map(|it| ("double", it)),
        small().prop_map(|it| ("integer", it)),
        number().prop_map(|it| ("longinteger", Value::Integer(it))),
        any::<bool>().prop_map(|it| ("boolean", Value::Boolean(it))),
        text().prop_map(|it| ("string", it)),
        blob().prop_map(|it| ("binaryblob", it)),
        prop::collection::vec(double(), 0..40).prop_map(|it| ("doublearray", array(it))),
        prop::collection::vec(small(), 0..200).prop_map(|it| ("integerarray", array(it))),
        prop::collection::vec(text(), 0..20).prop_map(|it| ("stringarray", array(it))),
        prop::collection::vec(blob(), 0..20).prop_map(|it| ("binaryblobarray", array(it))),
    ]
}

proptest! {
    /// uplink.22: what is written is read back, by us and by a library that is not ours.
    #[test]
    fn uplink_22_payloads_survive_the_way((kind, value) in any_value(), millis in any::<i32>()) {
        let interface = of(kind, r#","explicit_timestamp":true"#);
        let time = Timestamp::from_unix_millis(millis.into());
        let payload = encode(&interface, target(&interface), &value, time).unwrap();
        let read = decode(&interface, target(&interface), &payload).unwrap();
        prop_assert_eq!(read, Data { value: Some(value), time: Some(time) });
        let foreign = bson::Document::from_reader(payload.as_slice()).unwrap();
        prop_assert_eq!(foreign.get_datetime("t").unwrap().timestamp_millis(), i64::from(millis));
        prop_assert!(foreign.contains_key("v") && foreign.len() == 2);
    }

    /// uplink.22: no bytes from above make the decoder panic.
    #[test]
    fn uplink_22_no_payload_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for kind in ["double", "string", "binaryblobarray"] {
            let interface = of(kind, "");
            let _ = decode(&interface, target(&interface), &bytes);
        }
        let _ = crate::read_list(&bytes);
    }
}

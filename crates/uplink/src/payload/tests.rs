use proptest::prelude::*;
use tidegate_model::{Payload, Presentation, Principal, Qos, Topic};

use super::*;

fn message(payload: Payload) -> Message {
    Message {
        topic: Topic::new("a/b").unwrap(),
        payload,
        qos: Qos::AtLeastOnce,
        retain: false,
        properties: None,
        publisher: Principal::anonymous(),
        arrival: Timestamp::from_unix_millis(1_000),
    }
}

fn value_of(payload: &str) -> Value {
    let message = message(Payload::bytes(payload.as_bytes().to_vec()));
    let reading = reading(&message).into_owned();
    assert_eq!(reading.arrival, message.arrival);
    reading.value
}

fn document(members: &[(&str, Value)]) -> Value {
    let members = members.iter().map(|(name, value)| ((*name).into(), value.clone())).collect();
    Value::Document(Document::new(members).unwrap().into())
}

#[test]
fn bare_json_and_plain_bytes() {
    let bytes = |text: &str| Value::Bytes(Bytes::copy_from_slice(text.as_bytes()));
    #[rustfmt::skip]
    let cases = [
        ("21",            Value::Integer(21)),
        ("-0",            Value::Integer(0)),
        (" 21.0\n",       Value::Double(21.0)),
        ("2e1",           Value::Double(20.0)),
        ("true",          Value::Boolean(true)),
        ("\"on\"",        Value::string("on")),
        (r#"{"a":1}"#,    document(&[("a", Value::Integer(1))])),
        ("{}",            document(&[])),
        ("18446744073709551615", Value::Unsigned(u64::MAX)),
        // Neither number, boolean, string nor object.
        ("null",          bytes("null")),
        ("[1,2]",         bytes("[1,2]")),
        ("",              bytes("")),
        ("on",            bytes("on")),
        ("021",           bytes("021")),
        ("21,5",          bytes("21,5")),
        ("NaN",           bytes("NaN")),
        (r#"{"a":1,"a":2}"#, bytes(r#"{"a":1,"a":2}"#)),
    ];
    for (text, expected) in cases {
        assert_eq!(value_of(text), expected, "{text}");
    }
    let deep = format!("{}1{}", r#"{"a":"#.repeat(33), "}".repeat(33));
    assert_eq!(value_of(&deep), bytes(&deep));
}

#[test]
fn an_envelope_gives_all_it_says() {
    let text = br#"{"value":21.5,"time":"1970-01-01T00:00:02Z","quality":"uncertain",
        "status":1083179008,"unit":"Cel","clock":"untrusted"}"#;
    let message = message(Payload::bytes(text.to_vec()));
    let reading = reading(&message);
    assert_eq!(reading.value, Value::Double(21.5));
    assert_eq!(reading.time(), Timestamp::from_unix_millis(2_000));
    assert_eq!(reading.status, Status::from_code(0x4090_0000));
    assert_eq!(reading.unit, Some(Unit::new("Cel").unwrap()));
    assert_eq!(reading.clock, Clock::Untrusted);
}

#[test]
fn quality_and_status_give_the_worse_of_both() {
    #[rustfmt::skip]
    let cases = [
        (r#"{"value":1}"#,                                   Status::GOOD),
        (r#"{"value":1,"quality":"bad"}"#,                   Status::BAD),
        (r#"{"value":1,"quality":"bad","status":0}"#,        Status::BAD),
        (r#"{"status":2147483648,"value":1}"#,               Status::BAD),
        (r#"{"value":1,"quality":"good","status":1073741824}"#, Status::UNCERTAIN),
    ];
    for (text, expected) in cases {
        let message = message(Payload::bytes(text.as_bytes().to_vec()));
        let reading = reading(&message);
        assert_eq!((&reading.value, reading.status), (&Value::Integer(1), expected), "{text}");
    }
}

#[test]
fn an_object_that_is_no_envelope_is_a_document() {
    for text in [
        r#"{"value":1,"more":2}"#,
        r#"{"value":1,"time":"noon"}"#,
        r#"{"value":1,"quality":"fine"}"#,
        r#"{"value":1,"status":-1}"#,
        r#"{"value":"?","encoding":"base64"}"#,
        r#"{"value":1,"encoding":"base64"}"#,
        r#"{"time":"1970-01-01T00:00:02Z"}"#,
    ] {
        assert!(matches!(value_of(text), Value::Document(_)), "{text}");
    }
}

proptest! {
    /// What the local envelope says of a reading is what comes back, for all that JSON can say.
    #[test]
    fn envelopes_round_trip(
        bytes in prop::collection::vec(any::<u8>(), 0..40),
        number in any::<i64>(),
        millis in 0_i64..4_000_000_000_000,
        code in any::<u32>(),
    ) {
        for value in [Value::Bytes(bytes.into()), Value::Integer(number)] {
            let sent = Reading {
                source_time: Some(Timestamp::from_unix_millis(millis)),
                status: Status::from_code(code),
                ..Reading::new(
                    value,
                    Timestamp::from_unix_millis(1_000),
                    Origin { adapter: AdapterName::new("mqtt").unwrap() },
                )
            };
            let typed = Payload::reading(sent.clone(), Presentation::Envelope);
            let message = message(Payload::bytes(typed.to_bytes()));
            let mut back = reading(&message).into_owned();
            // The envelope leaves out the code of a good status.
            if sent.status.is_good() {
                back.status = sent.status;
            }
            prop_assert_eq!(back, sent);
        }
    }

    /// No payload does harm.
    #[test]
    fn any_bytes_are_a_reading(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        reading(&message(Payload::bytes(bytes)));
    }
}

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use tidegate_model::{Clock, Document, Origin, Reading, Status, Value};

use super::*;

fn any_name() -> impl Strategy<Value = Arc<str>> {
    vec(any::<char>(), 0..12).prop_map(|chars| chars.into_iter().collect::<String>().into())
}

fn any_leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Boolean),
        any::<i64>().prop_map(Value::Integer),
        any::<u64>().prop_map(Value::Unsigned),
        // From bits, so that every not-a-number occurs.
        any::<u32>().prop_map(|bits| Value::Float(f32::from_bits(bits))),
        any::<u64>().prop_map(|bits| Value::Double(f64::from_bits(bits))),
        any_name().prop_map(Value::String),
        vec(any::<u8>(), 0..40).prop_map(|bytes| Value::Bytes(bytes.into())),
    ]
}

fn any_value() -> impl Strategy<Value = Value> {
    any_leaf().prop_recursive(6, 64, 8, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..8).prop_map(|elements| Value::Array(elements.into())),
            vec((any_name(), inner), 0..8).prop_map(|mut members| {
                members.sort_by(|one, other| one.0.cmp(&other.0));
                members.dedup_by(|one, other| one.0 == other.0);
                Value::Document(Arc::new(Document::new(members).unwrap()))
            }),
        ]
    })
}

fn any_time() -> impl Strategy<Value = Timestamp> {
    any::<i64>().prop_map(Timestamp::from_unix_micros)
}

prop_compose! {
    fn any_reading()(
        value in any_value(),
        source_time in option::of(any_time()),
        arrival in any_time(),
        until in option::of(any_time()),
        is_trusted: bool,
        status in prop_oneof![Just(0), any::<u32>()],
        unit in option::of("[a-zA-Z%/]{1,12}"),
        adapter in "[a-z][a-z0-9-]{0,20}",
    ) -> Reading {
        Reading {
            value,
            source_time,
            arrival,
            until,
            clock: if is_trusted { Clock::Trusted } else { Clock::Untrusted },
            status: Status::from_code(status),
            unit: unit.map(|unit| Unit::new(&unit).unwrap()),
            origin: Origin { adapter: AdapterName::new(&adapter).unwrap() },
        }
    }
}

fn any_payload() -> impl Strategy<Value = Payload> {
    prop_oneof![
        vec(any::<u8>(), 0..300).prop_map(Payload::bytes),
        (any_reading(), any::<bool>()).prop_map(|(reading, is_envelope)| {
            let presentation =
                if is_envelope { Presentation::Envelope } else { Presentation::Value };
            Payload::reading(reading, presentation)
        }),
    ]
}

prop_compose! {
    fn any_properties()(
        payload_is_utf8: bool,
        expires in option::of(any_time()),
        content_type in option::of(any_name()),
        response_topic in option::of("[a-z/]{1,20}"),
        correlation_data in option::of(vec(any::<u8>(), 0..20)),
        user in vec((any_name(), any_name()), 0..4),
    ) -> Properties {
        Properties {
            payload_is_utf8,
            expires,
            content_type,
            response_topic: response_topic.map(|topic| Topic::new(&topic).unwrap()),
            correlation_data: correlation_data.map(Bytes::from),
            user,
        }
    }
}

prop_compose! {
    fn any_message()(
        topic in "[a-zäöü0-9/ ]{1,40}",
        payload in any_payload(),
        qos in 0..3_u8,
        retain: bool,
        properties in option::of(any_properties()),
        publisher in "[a-z][a-z0-9:-]{0,20}",
        arrival in any_time(),
    ) -> Message {
        Message {
            topic: Topic::new(&topic).unwrap(),
            payload,
            qos: Qos::from_bits(qos).unwrap(),
            retain,
            properties: properties.map(Arc::new),
            publisher: Principal::new(&publisher).unwrap(),
            arrival,
        }
    }
}

fn encode(message: &Message) -> Bytes {
    let mut body = Vec::new();
    encode_message(message, &mut body).unwrap();
    body.into()
}

fn nested(levels: usize) -> Message {
    let nest = |inner, _| Value::Array([inner].into());
    let value = (0..levels).fold(Value::Null, nest);
    let origin = Origin { adapter: AdapterName::new("test").unwrap() };
    let reading = Reading::new(value, Timestamp::default(), origin);
    Message {
        topic: Topic::new("deep").unwrap(),
        payload: Payload::reading(reading, Presentation::Envelope),
        qos: Qos::AtLeastOnce,
        retain: false,
        properties: None,
        publisher: Principal::anonymous(),
        arrival: Timestamp::default(),
    }
}

proptest! {
    /// main.24: what is stored is what was published, bit for bit.
    #[test]
    fn every_message_round_trips(messages in vec(any_message(), 1..4)) {
        let mut decoder = MessageDecoder::new();
        for message in messages {
            let body = encode(&message);
            prop_assert_eq!(topic_of(&body), Ok(message.topic.as_str()));
            let decoded = decoder.decode(&body);
            prop_assert_eq!(decoded.as_ref(), Ok(&message));
        }
    }

    /// Bytes that are no body are refused; they do not panic and do not take up memory.
    #[test]
    fn damaged_bodies_are_refused_or_read(
        message in any_message(),
        at in any::<prop::sample::Index>(),
        byte: u8,
        cut in any::<prop::sample::Index>(),
    ) {
        let mut damaged = encode(&message).to_vec();
        let at = at.index(damaged.len());
        damaged[at] = byte;
        damaged.truncate(cut.index(damaged.len() + 1));
        let _ = topic_of(&damaged);
        let _ = MessageDecoder::new().decode(&damaged.into());
    }
}

#[test]
fn payload_bytes_are_shared_with_the_body() {
    let message = Message { payload: Payload::bytes(vec![7; 100]), ..nested(0) };
    let body = encode(&message);
    let decoded = MessageDecoder::new().decode(&body).unwrap();
    let payload = decoded.payload.to_bytes();
    assert!(body.as_ptr_range().contains(&payload.as_ptr()));
}

#[test]
fn depth_is_limited_when_writing_and_when_reading() {
    let deepest = nested(VALUE_DEPTH_MAX);
    let body = encode(&deepest);
    assert_eq!(MessageDecoder::new().decode(&body), Ok(deepest));
    let mut rest = b"before".to_vec();
    let too_deep = nested(VALUE_DEPTH_MAX + 1);
    assert_eq!(encode_message(&too_deep, &mut rest), Err(RecordError::TooDeep));
    assert_eq!(rest, b"before");

    let mut forged = encode(&nested(0)).to_vec();
    assert_eq!(forged.pop(), Some(0));
    forged.extend([9, 1].repeat(100_000));
    forged.push(0);
    assert_eq!(MessageDecoder::new().decode(&forged.into()), Err(RecordError::Malformed));
}

#[test]
fn a_later_version_is_named() {
    let mut body = encode(&nested(0)).to_vec();
    body[0] = VERSION + 1;
    let newer = RecordError::NewerVersion { version: VERSION + 1 };
    assert_eq!(MessageDecoder::new().decode(&body.into()), Err(newer));
}

#[test]
fn a_reading_is_small() {
    let origin = Origin { adapter: AdapterName::new("coap").unwrap() };
    let arrival = Timestamp::from_unix_millis(1_772_366_400_123);
    let mut reading = Reading::new(Value::Double(21.5), arrival, origin);
    reading.unit = Some(Unit::new("Cel").unwrap());
    let message = Message {
        topic: Topic::new("hall1/press-1/temperature").unwrap(),
        payload: Payload::reading(reading, Presentation::Envelope),
        arrival,
        ..nested(0)
    };
    let names = "hall1/press-1/temperature".len() + "anonymous".len() + "Cel".len() + "coap".len();
    assert_eq!(encode(&message).len(), 2 + 8 + 2 + 9 + 4 + names);
}

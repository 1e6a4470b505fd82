use proptest::prelude::*;
use tidegate_model::{
    AdapterName, Clock, Document, Message, Origin, Payload, Presentation, Principal, Qos, Reading,
    Status, Timestamp, Topic, Unit, Value,
};

use super::*;
use crate::{
    content::{Gap, array_bound, packed_bound},
    decoder::{DecodedGap, DecodedReading, Limits, decode},
    ledger::DropReason,
    settings::{Compression, Level},
    streams::StreamId,
};

fn settings(format: Format, compression: Compression) -> Settings {
    let topic = if format.is_per_reading() { "up/{topic}" } else { "up/{encoding}" };
    let name = UplinkName::new("cloud").unwrap();
    let topic = TopicTemplate::new(topic, "press-hall-1", format).unwrap();
    let settings = Settings::new("press-hall-1", name, format, topic);
    Settings { epoch: 42, time_unit: TimeUnit::Micros, compression, ..settings }
}

fn zlib() -> Compression {
    Compression::Zlib(Level::DEFAULT)
}

fn gzip() -> Compression {
    Compression::Gzip(Level::DEFAULT)
}

mod foreign;

/// One reading of a batch, with the stream it belongs to.
#[derive(Clone, Debug)]
struct Sample {
    stream: u8,
    reading: Reading,
}

fn sample() -> impl Strategy<Value = Sample> {
    let value = prop_oneof![
        4 => (-100_000_i64..100_000, 0_i32..4).prop_map(|(integer, places)| {
            Value::Double(integer as f64 / 10_f64.powi(places))
        }),
        1 => prop::sample::select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 5e-324])
            .prop_map(Value::Double),
        1 => any::<u64>().prop_map(|bits| Value::Double(f64::from_bits(bits))),
        1 => any::<u32>().prop_map(|bits| Value::Float(f32::from_bits(bits))),
        1 => prop::sample::select(vec![i64::MIN, i64::MAX, 0]).prop_map(Value::Integer),
        1 => any::<i64>().prop_map(Value::Integer),
        1 => any::<u64>().prop_map(Value::unsigned),
        1 => any::<bool>().prop_map(Value::Boolean),
        1 => Just(Value::Null),
        1 => "[ -~é\n]{0,20}".prop_map(|text| Value::string(&text)),
        1 => prop::collection::vec(any::<u8>(), 0..20).prop_map(|bytes| Value::Bytes(bytes.into())),
        1 => (any::<f64>(), "[a-d]{1,3}").prop_map(|(number, text)| {
            let members = vec![("x".into(), Value::Double(number)), ("y".into(), Value::string(&text))];
            let document = Document::new(members).unwrap();
            Value::Array([Value::Document(Arc::new(document)), Value::Null].into())
        }),
    ];
    let unit = prop::option::of(prop::sample::select(vec!["Cel", "bar", "%RH"]));
    let status = prop_oneof![3 => Just(0_u32), 1 => any::<u32>()];
    // Milliseconds of the years 1970 to 2100.
    let until = prop::option::weighted(0.2, 0_i64..4_102_444_800_000);
    let time = prop_oneof![8 => 0_i64..4_102_444_800_000_000, 1 => any::<i64>()];
    (0_u8..5, value, unit, status, time, until).prop_map(
        |(stream, value, unit, status, micros, until)| {
            let origin = Origin { adapter: AdapterName::new("test").unwrap() };
            let reading = Reading {
                unit: unit.map(|unit| Unit::new(unit).unwrap()),
                status: Status::from_code(status),
                until: until.map(Timestamp::from_unix_millis),
                ..Reading::new(value, Timestamp::from_unix_micros(micros), origin)
            };
            Sample { stream, reading }
        },
    )
}

/// Samples of which each stream has a type of its own, but for a null now and then, as plants have them.
fn typed_sample() -> impl Strategy<Value = Sample> {
    let value = (any::<i64>(), 0_i32..3, prop::bool::weighted(0.03));
    (sample(), value).prop_map(|(mut sample, (number, places, is_null))| {
        let decimal = (number % 1_000_000) as f64 / 10_f64.powi(places);
        sample.reading.value = match sample.stream {
            _ if is_null => Value::Null,
            0 => Value::Double(decimal),
            1 => Value::Float(decimal as f32),
            2 => Value::Integer(number),
            3 => Value::Boolean(number % 2 == 0),
            _ => Value::string(&number.to_string()),
        };
        sample.reading.unit = None;
        sample
    })
}

fn samples() -> impl Strategy<Value = Vec<Sample>> {
    prop_oneof![
        prop::collection::vec(sample(), 0..60),
        prop::collection::vec(typed_sample(), 0..300),
    ]
}

/// Rounds times down to milliseconds, in the years from 1970 to 9999.
fn in_millis(samples: &mut [Sample]) {
    for Sample { reading, .. } in samples {
        let millis = reading.time().as_unix_millis().rem_euclid(250_000_000_000_000);
        reading.source_time = None;
        reading.arrival = Timestamp::from_unix_millis(millis);
    }
}

fn topic(stream: u8) -> Topic {
    Topic::new(&format!("hall1/press-{stream}/temperature")).unwrap()
}

/// At most how many bytes the readings of a content take up, by layout.
#[derive(Clone, Copy, Debug, Default)]
struct Bounds {
    arrays: usize,
    packed: usize,
}

/// Puts samples into a content, with numbers from 100 on in each stream, and what should come back.
fn content(
    samples: &[Sample],
    clock: Clock,
    replayed: bool,
) -> (Content, Vec<DecodedReading>, Bounds) {
    let mut content = Content::new(clock, replayed);
    let mut next = [100_u64; 5];
    let mut columns = [usize::MAX; 5];
    let mut expected = Vec::new();
    let mut bounds = Bounds::default();
    for Sample { stream, reading } in samples {
        let (at, id) = (usize::from(*stream), StreamId::new((*stream).into()));
        let starts = content.starts_column(id, columns[at], next[at], reading);
        bounds.arrays += array_bound(&topic(*stream), reading, starts);
        bounds.packed += packed_bound(&topic(*stream), reading, starts);
        content.push(id, &topic(*stream), &mut columns[at], next[at], reading, None);
        expected.push(DecodedReading {
            stream: Some(topic(*stream).as_str().into()),
            number: i64::try_from(next[at]).unwrap(),
            time: reading.time(),
            until: reading.until,
            value: reading.value.clone(),
            unit: reading.unit.as_ref().map(|unit| unit.as_str().into()),
            status: reading.status,
            replayed,
        });
        next[at] += 1;
    }
    (content, expected, bounds)
}

fn by_key(mut readings: Vec<DecodedReading>) -> Vec<DecodedReading> {
    readings.sort_by(|left, right| (&left.stream, left.number).cmp(&(&right.stream, right.number)));
    readings
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// What is encoded in columns comes back bit by bit, packed or not, compressed or not, and is no
    /// larger than was reckoned (uplink.10).
    #[test]
    fn uplink_10_columns_round_trip(
        samples in samples(),
        untrusted in any::<bool>(),
        replayed in any::<bool>(),
        packed in any::<bool>(),
        compression in prop::sample::select(vec![Compression::None, zlib(), gzip()]),
    ) {
        let clock = if untrusted { Clock::Untrusted } else { Clock::Trusted };
        let (mut content, expected, bounds) = content(&samples, clock, replayed);
        content.gaps.push(Gap {
            stream: StreamId::new(1),
            topic: topic(1),
            from: 7,
            to: 99,
            why: DropReason::Full,
        });
        let format = if packed { Format::Packed } else { Format::Columns };
        let mut encoder = Encoder::new(&settings(format, compression));
        let publications = encoder.encode(9, &content);
        prop_assert_eq!(publications.len(), 1);
        let payload = &publications[0].payload;
        let bound = if packed { bounds.packed } else { bounds.arrays };
        prop_assert!(payload.len() <= bound + 128 + 32 + content.gaps[0].size_bound());
        let batch = decode(payload, &Limits::OWN).unwrap();
        prop_assert_eq!(batch.gateway.as_deref(), Some("press-hall-1"));
        prop_assert_eq!(batch.uplink.as_deref(), Some("cloud"));
        prop_assert_eq!((batch.epoch, batch.seq), (42, Some(9)));
        prop_assert_eq!(batch.clock_trusted, !untrusted);
        let (mut back, expected) = (by_key(batch.readings), by_key(expected));
        for (back, expected) in back.iter_mut().zip(&expected) {
            // Arrays know doubles only.
            if let (Value::Double(double), Value::Float(float)) = (&back.value, &expected.value)
                && double.to_bits() == f64::from(*float).to_bits()
            {
                back.value = expected.value.clone();
            }
        }
        prop_assert_eq!(back, expected);
        let gap = DecodedGap {
            stream: topic(1).as_str().into(),
            from: 7,
            to: 99,
            why: "full".into(),
        };
        prop_assert_eq!(batch.gaps, vec![gap]);
    }

    /// Bytes of packed columns that are damaged are refused or read as something else; they do no harm,
    /// and no more readings come out than are allowed (U08).
    #[test]
    fn fault_u08_damaged_packed_columns_do_no_harm(
        samples in prop::collection::vec(typed_sample(), 1..100),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let (content, _, _) = content(&samples, Clock::Trusted, false);
        let mut encoder = Encoder::new(&settings(Format::Packed, Compression::None));
        let mut payload = encoder.encode(1, &content)[0].payload.to_vec();
        let limits = Limits { elements: 150, ..Limits::DOWNLINK };
        for (at, byte) in damage {
            let at = at.index(payload.len());
            payload[at] = byte;
            if let Ok(batch) = decode(&payload, &limits) {
                prop_assert!(batch.readings.len() <= 150);
            }
        }
    }

    /// What is encoded as single readings comes back; JSON lacks not-a-number and infinities.
    #[test]
    fn single_readings_round_trip(
        mut samples in prop::collection::vec(sample(), 1..20),
        json in any::<bool>(),
    ) {
        in_millis(&mut samples);
        let (content, expected, _) = content(&samples, Clock::Trusted, false);
        let format = if json { Format::Json } else { Format::Message };
        let mut encoder = Encoder::new(&settings(format, zlib()));
        let mut back = Vec::new();
        for publication in encoder.encode(1, &content) {
            let batch = decode(&publication.payload, &Limits::OWN).unwrap();
            prop_assert_eq!(batch.epoch, 42);
            for mut reading in batch.readings {
                reading.stream = publication.topic.strip_prefix("up/").map(Into::into);
                back.push(reading);
            }
        }
        let expected = expected.into_iter().map(|mut reading| {
            if let Value::Float(number) = reading.value {
                // JSON has the shortest digits of a float, BSON its double.
                let digits = if json { number.to_string().parse() } else { Ok(number.into()) };
                reading.value = Value::Double(digits.unwrap());
            }
            if json && reading.value.is_not_finite() {
                reading.value = Value::Null;
                if reading.status.quality() != tidegate_model::Quality::Bad {
                    reading.status = Status::BAD;
                }
            }
            reading
        });
        prop_assert_eq!(by_key(back), by_key(expected.collect()));
    }

    /// A connection with a payload of its own gets each reading whole, in the order of the payloads.
    #[test]
    fn typed_readings_are_handed_over_whole(
        mut samples in prop::collection::vec(sample(), 1..20),
        replayed in any::<bool>(),
    ) {
        in_millis(&mut samples);
        let (content, expected, _) = content(&samples, Clock::Trusted, replayed);
        let publications =
            Encoder::new(&settings(Format::Typed, Compression::None)).encode(1, &content);
        let mut back = Vec::new();
        for publication in publications {
            let decoded = decode(&publication.payload, &Limits::OWN).unwrap();
            let typed = publication.typed.as_ref().unwrap();
            prop_assert_eq!(decoded.readings[0].number, i64::try_from(typed.number).unwrap());
            prop_assert_eq!((typed.epoch, typed.replayed), (42, replayed));
            back.push(DecodedReading {
                stream: publication.topic.strip_prefix("up/").map(Into::into),
                number: i64::try_from(typed.number).unwrap(),
                time: typed.time,
                until: typed.until,
                value: typed.value.clone(),
                unit: typed.unit.as_ref().map(|unit| unit.as_str().into()),
                status: typed.status,
                replayed: typed.replayed,
            });
        }
        prop_assert_eq!(by_key(back), by_key(expected));
    }

    /// However a content is divided, the same readings with the same numbers are in its parts.
    #[test]
    fn division_keeps_readings_and_numbers(
        samples in prop::collection::vec(typed_sample(), 1..60),
        parts in 1_usize..20,
    ) {
        let (content, expected, _) = content(&samples, Clock::Trusted, false);
        let divided = content.split(parts);
        prop_assert!(divided.len() <= parts && divided.iter().all(|part| !part.is_empty()));
        let mut encoder = Encoder::new(&settings(Format::Packed, Compression::None));
        let mut back = Vec::new();
        for part in &divided {
            let payload = &encoder.encode(1, part)[0].payload;
            back.extend(decode(payload, &Limits::OWN).unwrap().readings);
        }
        let numbers = |readings: Vec<DecodedReading>| -> Vec<_> {
            let key = |reading: DecodedReading| (reading.stream, reading.number, reading.time);
            by_key(readings).into_iter().map(key).collect()
        };
        prop_assert_eq!(numbers(back), numbers(expected));
    }
}

#[test]
fn topics_and_encodings_say_what_a_payload_is() {
    let long: Vec<Sample> = (0..50)
        .map(|number| Sample {
            stream: 0,
            reading: Reading::new(
                Value::Double(f64::from(number)),
                Timestamp::from_unix_millis(i64::from(number)),
                Origin { adapter: AdapterName::new("test").unwrap() },
            ),
        })
        .collect();
    let (content, _, _) = content(&long, Clock::Trusted, false);
    let mut encoder = Encoder::new(&settings(Format::Columns, zlib()));
    let small = &encoder.encode(1, &content)[0];
    assert_eq!((&*small.topic, small.encoding), ("up/bson.z", Encoding::BsonZlib));
    assert_eq!(small.encoding.content_encoding(), Some("zlib"));
    let mut encoder = Encoder::new(&settings(Format::Packed, gzip()));
    let packed = &encoder.encode(1, &content)[0];
    assert_eq!((&*packed.topic, packed.encoding), ("up/bson.gz", Encoding::BsonGzip));
    assert_eq!(packed.encoding.content_encoding(), Some("gzip"));
    assert!(packed.payload.len() < small.payload.len());
    let mut encoder = Encoder::new(&settings(Format::Columns, Compression::None));
    let plain = &encoder.encode(1, &content)[0];
    assert_eq!((&*plain.topic, plain.encoding), ("up/bson", Encoding::Bson));
    assert!(small.payload.len() < plain.payload.len());
}

/// uplink.10: `raw` publishes bytes as they came and typed readings as their local JSON.
#[test]
fn uplink_10_raw_payloads_pass_unchanged() {
    let origin = || Origin { adapter: AdapterName::new("test").unwrap() };
    let time = Timestamp::from_unix_millis(1_772_366_400_123);
    let reading = Reading::new(Value::Double(21.5), time, origin());
    let payloads = [
        Payload::bytes(&b"\x00\xff not JSON"[..]),
        Payload::bytes(&br#"{ "value" : 21.50 }"#[..]),
        Payload::reading(reading, Presentation::Envelope),
    ];
    let mut encoder = Encoder::new(&settings(Format::Raw, Compression::None));
    let mut content = Content::new(Clock::Trusted, false);
    let mut column = usize::MAX;
    for (number, payload) in (1..).zip(payloads) {
        let message = Message {
            topic: topic(1),
            payload,
            qos: Qos::AtLeastOnce,
            retain: false,
            properties: None,
            publisher: Principal::anonymous(),
            arrival: time,
        };
        let reading = crate::payload::reading(&message);
        let raw = encoder.raw(&message);
        content.push(StreamId::new(1), &topic(1), &mut column, number, &reading, raw);
    }
    let parts = content.split(3);
    let publications: Vec<_> = parts.iter().flat_map(|part| encoder.encode(1, part)).collect();
    assert_eq!(publications, encoder.encode(1, &content));
    let seen: Vec<_> = publications
        .iter()
        .map(|publication| (publication.encoding, &*publication.payload))
        .collect();
    let json = br#"{"value":21.5,"time":"2026-03-01T12:00:00.123Z","quality":"good"}"#;
    assert_eq!(seen[0], (Encoding::Raw, &b"\x00\xff not JSON"[..]));
    assert_eq!(seen[1], (Encoding::Raw, &br#"{ "value" : 21.50 }"#[..]));
    assert_eq!(seen[2], (Encoding::Json, &json[..]));
    assert_eq!(&*publications[0].topic, "up/hall1/press-1/temperature");
}

use proptest::prelude::*;
use tidegate_model::{AdapterName, Clock, Origin, Reading, Status, Timestamp, Topic, Unit, Value};

use super::*;
use crate::{
    Profile,
    content::{Gap, reading_bound},
    decoder::{DecodedGap, DecodedReading, Limits, decode},
    ledger::DropReason,
    settings::{BatchLimits, WhenFull},
    streams::StreamId,
};

fn settings(format: Format, compression: Compression) -> Settings {
    let topic = if format.is_per_reading() { "up/{topic}" } else { "up/{encoding}" };
    Settings {
        gateway: "press-hall-1".into(),
        name: UplinkName::new("cloud").unwrap(),
        epoch: 42,
        rules: Vec::new(),
        rule_memory: tidegate_rules::MemoryLimits::default(),
        format,
        compression,
        topic: TopicTemplate::new(topic, "press-hall-1", format).unwrap(),
        batch: BatchLimits::default(),
        when_full: WhenFull::default(),
        max_bytes: Settings::MAX_BYTES_DEFAULT,
        profile: Profile::Mqtt,
        streams_max: Settings::STREAMS_MAX_DEFAULT,
    }
}

/// One reading of a batch, with the stream it belongs to.
#[derive(Clone, Debug)]
struct Sample {
    stream: u8,
    reading: Reading,
}

fn sample() -> impl Strategy<Value = Sample> {
    let value = prop_oneof![
        any::<f64>().prop_map(Value::Double),
        any::<i64>().prop_map(Value::Integer),
        any::<u64>().prop_map(Value::unsigned),
        any::<bool>().prop_map(Value::Boolean),
        Just(Value::Null),
        "[ -~é\n]{0,20}".prop_map(|text| Value::string(&text)),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(|bytes| Value::Bytes(bytes.into())),
    ];
    let unit = prop::option::of(prop::sample::select(vec!["Cel", "bar", "%RH"]));
    let status = prop_oneof![3 => Just(0_u32), 1 => any::<u32>()];
    // Milliseconds of the years 1970 to 2100.
    let until = prop::option::weighted(0.2, 0_i64..4_102_444_800_000);
    (0_u8..5, value, unit, status, 0_i64..4_102_444_800_000, until).prop_map(
        |(stream, value, unit, status, millis, until)| {
            let origin = Origin { adapter: AdapterName::new("test").unwrap() };
            let reading = Reading {
                unit: unit.map(|unit| Unit::new(unit).unwrap()),
                status: Status::from_code(status),
                until: until.map(Timestamp::from_unix_millis),
                ..Reading::new(value, Timestamp::from_unix_millis(millis), origin)
            };
            Sample { stream, reading }
        },
    )
}

fn topic(stream: u8) -> Topic {
    Topic::new(&format!("hall1/press-{stream}/temperature")).unwrap()
}

/// Puts samples into a content, with numbers from 100 on in each stream, and what should come back.
fn content(
    samples: &[Sample],
    clock: Clock,
    replayed: bool,
) -> (Content, Vec<DecodedReading>, usize) {
    let mut content = Content::new(clock, replayed);
    let mut next = [100_u64; 5];
    let mut columns = [usize::MAX; 5];
    let mut expected = Vec::new();
    let mut bound = 0;
    for Sample { stream, reading } in samples {
        let (at, id) = (usize::from(*stream), StreamId::new((*stream).into()));
        let starts = content.starts_column(id, columns[at], next[at], reading);
        bound += reading_bound(&topic(*stream), reading, starts);
        content.push(id, &topic(*stream), &mut columns[at], next[at], reading);
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
    (content, expected, bound)
}

fn by_key(mut readings: Vec<DecodedReading>) -> Vec<DecodedReading> {
    readings.sort_by(|left, right| (&left.stream, left.number).cmp(&(&right.stream, right.number)));
    readings
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// What is encoded in columns comes back, compressed or not, and is no larger than was reckoned.
    #[test]
    fn columns_round_trip(
        samples in prop::collection::vec(sample(), 0..60),
        untrusted in any::<bool>(),
        replayed in any::<bool>(),
        compress in any::<bool>(),
    ) {
        let clock = if untrusted { Clock::Untrusted } else { Clock::Trusted };
        let (mut content, expected, bound) = content(&samples, clock, replayed);
        content.gaps.push(Gap {
            stream: StreamId::new(1),
            topic: topic(1),
            from: 7,
            to: 99,
            why: DropReason::Full,
        });
        let compression = if compress { Compression::Zlib } else { Compression::None };
        let mut encoder = Encoder::new(&settings(Format::Columns, compression));
        let publications = encoder.encode(9, &content);
        prop_assert_eq!(publications.len(), 1);
        let payload = &publications[0].payload;
        prop_assert!(payload.len() <= bound + 128 + 32 + content.gaps[0].size_bound());
        let batch = decode(payload, &Limits::OWN).unwrap();
        prop_assert_eq!(batch.gateway.as_deref(), Some("press-hall-1"));
        prop_assert_eq!(batch.uplink.as_deref(), Some("cloud"));
        prop_assert_eq!((batch.epoch, batch.seq), (42, Some(9)));
        prop_assert_eq!(batch.clock_trusted, !untrusted);
        prop_assert_eq!(by_key(batch.readings), by_key(expected));
        let gap = DecodedGap {
            stream: topic(1).as_str().into(),
            from: 7,
            to: 99,
            why: "full".into(),
        };
        prop_assert_eq!(batch.gaps, vec![gap]);
    }

    /// What is encoded as single readings comes back; JSON lacks not-a-number and infinities.
    #[test]
    fn single_readings_round_trip(
        samples in prop::collection::vec(sample(), 1..20),
        json in any::<bool>(),
    ) {
        let (content, expected, _) = content(&samples, Clock::Trusted, false);
        let format = if json { Format::Json } else { Format::Message };
        let mut encoder = Encoder::new(&settings(format, Compression::Zlib));
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

    /// However a content is divided, the same readings with the same numbers are in its parts.
    #[test]
    fn division_keeps_readings_and_numbers(
        samples in prop::collection::vec(sample(), 1..60),
        parts in 1_usize..20,
    ) {
        let (content, expected, _) = content(&samples, Clock::Trusted, false);
        let divided = content.split(parts);
        prop_assert!(divided.len() <= parts && divided.iter().all(|part| !part.is_empty()));
        let mut encoder = Encoder::new(&settings(Format::Columns, Compression::None));
        let mut back = Vec::new();
        for part in &divided {
            let payload = &encoder.encode(1, part)[0].payload;
            back.extend(decode(payload, &Limits::OWN).unwrap().readings);
        }
        prop_assert_eq!(by_key(back), by_key(expected));
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
    let mut encoder = Encoder::new(&settings(Format::Columns, Compression::Zlib));
    let small = &encoder.encode(1, &content)[0];
    assert_eq!((&*small.topic, small.encoding), ("up/bson.z", Encoding::BsonZlib));
    assert_eq!(small.encoding.content_encoding(), Some("zlib"));
    let mut encoder = Encoder::new(&settings(Format::Columns, Compression::None));
    let plain = &encoder.encode(1, &content)[0];
    assert_eq!((&*plain.topic, plain.encoding), ("up/bson", Encoding::Bson));
    assert!(small.payload.len() < plain.payload.len());
}

//! Bytes on the wire and processor time for a reading, by format: twelve mixed analog signals, 720 readings a batch.
//!
//! `cargo bench -p tidegate-uplink --bench encode` prints the bytes, then measures the time.

use std::{hint::black_box, sync::Arc};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tidegate_model::{Clock, Timestamp, Topic, UplinkName, Value};
use tidegate_uplink::{
    Column, Compression, Content, Encoder, Format, Level, Settings, StreamId, TopicTemplate,
    cost::synthetic::{Random, SIGNALS, Signal},
};

/// How the values of the signals are represented.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// Doubles with few decimal places.
    Decimals,
    /// The same in single precision, as OPC UA servers often have them.
    Floats,
    /// Doubles with all their digits.
    Doubles,
}

/// Returns a batch of `readings` over all signals, one a signal and second, read within some milliseconds.
fn content(source: Source, readings: usize) -> Content {
    content_of(source, readings, 7)
}

/// Returns one of several such batches.
fn content_of(source: Source, readings: usize, seed: u64) -> Content {
    let mut random = Random::new(seed);
    let mut content = Content::new(Clock::Trusted, false);
    for (index, signal) in SIGNALS.into_iter().enumerate() {
        let Signal { name, start, step: width, places, moves } = signal;
        let mut level = start;
        let mut column = Column {
            stream: StreamId::new(u32::try_from(index).expect("twelve")),
            topic: Topic::new(name).expect("a topic"),
            unit: None,
            first: 100_000,
            times: Vec::new(),
            values: Vec::new(),
            statuses: Vec::new(),
            ends: Vec::new(),
            raw: Vec::new(),
        };
        let count = readings / 12 + usize::from(index < readings % 12);
        for second in 0..i64::try_from(count).expect("few") {
            if random.number() % 100 < moves {
                level += width * random.step();
            }
            let jitter = i64::try_from(random.number() % 4).expect("few");
            let millis = 1_772_366_400_000 + second * 1_000 + jitter;
            let power = 10_f64.powi(places);
            let decimal = (level * power).round() / power;
            column.times.push(Timestamp::from_unix_millis(millis));
            column.values.push(match source {
                Source::Decimals => Value::Double(decimal),
                Source::Floats => Value::Float(decimal as f32),
                Source::Doubles => Value::Double(level),
            });
        }
        if !column.values.is_empty() {
            content.columns.push(column);
        }
    }
    content
}

fn encoder(format: Format, compression: Compression) -> Encoder {
    let topic = if format.is_per_reading() { "up/{topic}" } else { "up" };
    let name = UplinkName::new("cloud").expect("a name");
    let topic = TopicTemplate::new(topic, "press-hall-1", format).expect("a topic");
    let settings = Settings::new("press-hall-1", name, format, topic);
    Encoder::new(&Settings { epoch: 1_772_366_400_123, compression, ..settings })
}

fn bytes_each(format: Format, compression: Compression, content: &Content) -> f64 {
    let publications = encoder(format, compression).encode(77, content);
    let bytes: usize = publications.iter().map(|publication| publication.payload.len()).sum();
    bytes as f64 / content.readings() as f64
}

/// All JSON rows of a batch in one payload: what gateways without a format of their own send.
fn json_rows(content: &Content, compression: Compression) -> f64 {
    let rows = encoder(Format::Json, Compression::None).encode(77, content);
    let rows: Vec<String> = rows
        .iter()
        .map(|row| {
            let text = String::from_utf8_lossy(&row.payload);
            format!("{{\"n\":\"{}\",{}", &row.topic[3..], &text[1..])
        })
        .collect();
    let text = format!("[{}]", rows.join(","));
    let mut compressor = tidegate_uplink::Compressor::new(compression).expect("one is asked for");
    compressor.compress(text.as_bytes()).map_or(text.len(), |small| small.len()) as f64
        / content.readings() as f64
}

/// The same with a batch of before as a preset dictionary: the best that one can do.
fn with_dictionary(format: Format, readings: usize) -> f64 {
    let plain = |seed| {
        let content = content_of(Source::Decimals, readings, seed);
        encoder(format, Compression::None).encode(77, &content)[0].payload.clone()
    };
    let (before, now) = (plain(8), plain(7));
    let mut deflate = flate2::Compress::new(flate2::Compression::new(6), true);
    deflate.set_dictionary(&before[before.len().saturating_sub(32 << 10)..]).expect("at the start");
    let mut output = Vec::with_capacity(now.len() + 1_024);
    deflate.compress_vec(&now, &mut output, flate2::FlushCompress::Finish).expect("there is room");
    output.len() as f64 / readings as f64
}

fn print_bytes() {
    let level = |level| Compression::Zlib(Level::new(level).expect("1 to 9"));
    println!("bytes a reading, 12 signals:    readings  level  decimals   floats  doubles");
    for readings in [720, 120, 12] {
        for at in [1, 6, 9] {
            for format in [Format::Packed, Format::Columns] {
                let of = |source| bytes_each(format, level(at), &content(source, readings));
                let figures = [of(Source::Decimals), of(Source::Floats), of(Source::Doubles)];
                let name = format!("{format:?}");
                println!(
                    "{name:31} {readings:8} {at:6} {:9.2} {:8.2} {:8.2}",
                    figures[0], figures[1], figures[2]
                );
            }
        }
        let rows = json_rows(&content(Source::Decimals, readings), level(6));
        println!("{:31} {readings:8} {:6} {rows:9.2}", "JSON rows in one payload", 6);
    }
    for readings in [720, 120, 12] {
        for format in [Format::Packed, Format::Columns] {
            let bytes = with_dictionary(format, readings);
            let name = format!("{format:?}, dictionary");
            println!("{name:31} {readings:8} {:6} {bytes:9.2}", 6);
        }
    }
    let alone = bytes_each(Format::Json, Compression::None, &content(Source::Decimals, 720));
    println!("{:31} {:8} {:>6} {alone:9.2}", "one JSON payload each, bare", 720, "-");
}

fn encode(criterion: &mut Criterion) {
    print_bytes();
    let content = Arc::new(content(Source::Decimals, 720));
    let mut group = criterion.benchmark_group("uplink/encode");
    group.throughput(Throughput::Elements(720));
    let zlib = |level| Compression::Zlib(Level::new(level).expect("1 to 9"));
    let cases = [
        ("packed", Format::Packed, Compression::None),
        ("packed, level 1", Format::Packed, zlib(1)),
        ("packed, level 6", Format::Packed, zlib(6)),
        ("packed, level 9", Format::Packed, zlib(9)),
        ("columns", Format::Columns, Compression::None),
        ("columns, level 6", Format::Columns, zlib(6)),
        ("json", Format::Json, Compression::None),
    ];
    for (name, format, compression) in cases {
        let mut encoder = encoder(format, compression);
        group.bench_function(name, |bencher| {
            bencher.iter(|| black_box(encoder.encode(77, black_box(&content))));
        });
    }
    group.finish();
}

criterion_group!(benches, encode);
criterion_main!(benches);

//! The decoders of `decoders/` beside our own (uplink.11, uplink.44): `decoders/tests/dump.md` has the lines
//! they are compared by.

use std::{
    fmt::Write as _,
    io::{Read, Write as _},
    path::PathBuf,
    process::{Command, Stdio},
};

use proptest::{strategy::ValueTree, test_runner::TestRunner};

use super::*;
use crate::decoder::{Batch, to_hex};

/// One payload for all decoders.
struct Case {
    name: String,
    encoding: &'static str,
    topic: Option<String>,
    limits: Limits,
    payload: Vec<u8>,
}

/// How the types of a language show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Numbers {
    /// Integers and doubles are told apart.
    Two,
    /// Integers that a double holds exactly are doubles.
    One,
}

impl Case {
    fn line(&self) -> String {
        let Limits { wire, inflated, ratio, depth, elements } = self.limits;
        let topic = self.topic.as_deref().unwrap_or("-");
        let payload = to_hex(&self.payload);
        format!("{} {topic} {wire} {inflated} {ratio} {depth} {elements} {payload}", self.encoding)
    }

    /// Returns what our own decoder makes of it, or nothing if it refuses.
    fn expected(&self, numbers: Numbers) -> Option<String> {
        let batch = decode(&self.payload, &self.limits).ok()?;
        Some(dump(&batch, self.topic.as_deref(), numbers))
    }
}

fn text(text: Option<&str>) -> String {
    text.map_or("-".into(), |text| format!("={}", to_hex(text.as_bytes())))
}

fn dump(batch: &Batch, topic: Option<&str>, numbers: Numbers) -> String {
    let mut line = format!(
        "B {} {} {} {} {}",
        text(batch.gateway.as_deref()),
        text(batch.uplink.as_deref()),
        batch.epoch,
        batch.seq.map_or("-".into(), |seq| seq.to_string()),
        u8::from(batch.clock_trusted),
    );
    for reading in &batch.readings {
        write!(
            line,
            ";R {} {} {} {} {} {} {} {}",
            text(reading.stream.as_deref().or(topic)),
            reading.number,
            reading.time.as_unix_micros(),
            reading.until.map_or("-".into(), |until| until.as_unix_micros().to_string()),
            text(reading.unit.as_deref()),
            reading.status.code(),
            u8::from(reading.replayed),
            show(&reading.value, numbers),
        )
        .unwrap();
    }
    for gap in &batch.gaps {
        let (stream, why) = (text(Some(&gap.stream)), text(Some(&gap.why)));
        write!(line, ";G {stream} {} {} {why}", gap.from, gap.to).unwrap();
    }
    line
}

fn show(value: &Value, numbers: Numbers) -> String {
    let double = |number: f64| {
        if number.is_nan() { "dnan".into() } else { format!("d{:016x}", number.to_bits()) }
    };
    match value {
        Value::Null => "n".into(),
        Value::Boolean(value) => if *value { "t" } else { "f" }.into(),
        Value::Integer(number) if numbers == Numbers::One && number.unsigned_abs() < 1 << 53 => {
            double(*number as f64)
        }
        Value::Integer(number) => format!("i{number}"),
        Value::Unsigned(number) => format!("i{number}"),
        Value::Float(number) => double((*number).into()),
        Value::Double(number) => double(*number),
        Value::String(text) => format!("s{}", to_hex(text.as_bytes())),
        Value::Bytes(bytes) => format!("b{}", to_hex(bytes)),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(|item| show(item, numbers)).collect();
            format!("[{}]", items.join(","))
        }
        Value::Document(document) => {
            let mut members: Vec<String> = document
                .iter()
                .map(|(name, member)| {
                    format!("{}:{}", to_hex(name.as_bytes()), show(member, numbers))
                })
                .collect();
            members.sort();
            format!("{{{}}}", members.join(","))
        }
    }
}

/// Runs a decoder over all cases and returns its lines.
fn run(program: &str, script: &str, cases: &[Case]) -> Vec<String> {
    let script =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../decoders/tests").join(script);
    let mut child = Command::new(program)
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program} is needed for this test: {error}"));
    // It reads all before it writes.
    let lines: Vec<String> = cases.iter().map(Case::line).collect();
    child.stdin.take().unwrap().write_all(lines.join("\n").as_bytes()).unwrap();
    let mut output = String::new();
    child.stdout.take().unwrap().read_to_string(&mut output).unwrap();
    assert!(child.wait().unwrap().success(), "{program} failed");
    let lines: Vec<String> = output.lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), cases.len(), "{program}");
    lines
}

/// Compares all decoders. `refused`: whether all must refuse, or not; otherwise they must agree.
fn check(cases: &[Case], refused: Option<bool>) {
    let decoders = [("python3", "dump.py", Numbers::Two), ("node", "dump.mjs", Numbers::One)];
    for (program, script, numbers) in decoders {
        for (case, line) in cases.iter().zip(run(program, script, cases)) {
            let expected = case.expected(numbers);
            let name = &case.name;
            match &expected {
                Some(expected) => assert_eq!(&line, expected, "{program}, {name}: {}", case.line()),
                None => assert!(line.starts_with('!'), "{program}, {name}, took: {}", case.line()),
            }
            if let Some(refused) = refused {
                assert_eq!(expected.is_none(), refused, "{name}");
            }
        }
    }
}

fn sampled<S: Strategy>(runner: &mut TestRunner, strategy: &S) -> S::Value {
    strategy.new_tree(runner).unwrap().current()
}

/// Encodes random batches in every format and compression.
fn batches(runner: &mut TestRunner, rounds: usize) -> Vec<Case> {
    let formats = [Format::Columns, Format::Packed, Format::Message, Format::Json];
    let compressions = [Compression::None, zlib(), gzip()];
    let mut cases = Vec::new();
    for round in 0..rounds {
        let samples_now = sampled(runner, &samples());
        for format in formats {
            let mut samples = samples_now.clone();
            if format == Format::Json {
                in_millis(&mut samples);
            }
            if format.is_per_reading() {
                samples.truncate(8);
            }
            let (mut content, _, _) = content(&samples, Clock::Trusted, round % 3 == 0);
            if !format.is_per_reading() {
                let (stream, why) = (StreamId::new(1), DropReason::Full);
                content.gaps.push(Gap { stream, topic: topic(1), from: 7, to: 99, why });
            }
            for compression in compressions {
                let mut encoder = Encoder::new(&settings(format, compression));
                for publication in encoder.encode(1, &content) {
                    cases.push(Case {
                        name: format!("{format:?} {compression:?}"),
                        encoding: publication.encoding.content_encoding().unwrap_or("-"),
                        topic: format.is_per_reading().then(|| publication.topic.to_string()),
                        limits: Limits::OWN,
                        payload: publication.payload.to_vec(),
                    });
                }
            }
        }
    }
    cases
}

/// uplink.44: our decoder, Python's and JavaScript's read the same from random batches of every format.
#[test]
fn uplink_44_decoders_read_the_same() {
    let mut runner = TestRunner::deterministic();
    check(&batches(&mut runner, 24), Some(false));
}

/// uplink.44: they agree on damaged payloads as well, on what to refuse and what it says.
#[test]
fn uplink_44_decoders_agree_on_damage() {
    let mut runner = TestRunner::deterministic();
    let damage = (any::<prop::sample::Index>(), any::<u8>());
    let mut cases = batches(&mut runner, 12);
    cases.retain(|case| case.encoding == "-" && case.payload.len() > 12 && case.payload[0] != b'{');
    let mut damaged = Vec::new();
    for case in &cases {
        for _ in 0..20 {
            let (at, byte) = sampled(&mut runner, &damage);
            let mut payload = case.payload.clone();
            // The length in front tells what it is.
            let at = 4 + at.index(payload.len() - 4);
            payload[at] = byte;
            let limits = Limits { elements: 500, ..Limits::OWN };
            let (name, topic) = (format!("{} at {at}", case.name), case.topic.clone());
            damaged.push(Case { name, encoding: "identity", topic, limits, payload });
        }
    }
    check(&damaged, None);
}

/// uplink.11, U07, U08: hostile payloads are refused by all.
#[test]
fn uplink_11_hostile_payloads_are_refused_everywhere() {
    let cases = hostile().into_iter().map(|(name, encoding, payload)| Case {
        name: name.to_owned(),
        encoding,
        topic: None,
        limits: Limits::DOWNLINK,
        payload,
    });
    check(&cases.collect::<Vec<Case>>(), Some(true));
}

fn compressed(plain: &[u8], compression: Compression) -> Vec<u8> {
    Compressor::new(compression).unwrap().compress(plain).unwrap().to_vec()
}

/// Nested documents or arrays.
fn nested(levels: usize) -> Vec<u8> {
    let mut document = vec![5, 0, 0, 0, 0];
    for _ in 1..levels {
        let length = i32::try_from(document.len() + 8).unwrap();
        document = [&length.to_le_bytes()[..], &[3, b'a', 0], &document, &[0]].concat();
    }
    document
}

/// A batch whose only stream has these packed members.
fn packed_stream(kind: i32, exponent: i32, times: &[u8], values: &[u8]) -> Vec<u8> {
    let mut buffer = Vec::new();
    let mut writer = crate::bson::Writer::new(&mut buffer);
    let document = writer.begin();
    writer.int32(b"v", 1);
    writer.datetime(b"t0", 0);
    let streams = writer.begin_array(b"s");
    let stream = writer.begin_document(b"0");
    writer.string(b"n", "a");
    writer.int64(b"i", 1);
    writer.binary_from(b"dt", |bytes| bytes.extend_from_slice(times));
    writer.int32(b"k", kind);
    writer.int32(b"e", exponent);
    writer.binary_from(b"x", |bytes| bytes.extend_from_slice(values));
    writer.end(stream);
    writer.end(streams);
    writer.end(document);
    buffer
}

fn hostile() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let telemetry: Vec<u8> = (0_u32..700_000).flat_map(|n| (n / 7).to_le_bytes()).collect();
    let small = packed_stream(5, 0, &[0; 8], &[0]);
    assert!(decode(&small, &Limits::DOWNLINK).is_ok());
    let whole = compressed(&[7; 500], zlib());
    let cut = whole[..whole.len() - 1].to_vec();
    let more = [&whole[..], &[0]].concat();
    let twice = compressed(&[7; 500], gzip()).repeat(2);
    let lie = |length: i32| {
        let mut bytes = small.clone();
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        bytes
    };
    #[rustfmt::skip]
    let cases = vec![
        ("empty",                     "-",    Vec::new()),
        ("larger than allowed",       "-",    vec![0; Limits::DOWNLINK.wire + 1]),
        ("thousandfold, zlib",        "zlib", compressed(&[0; 250_000], zlib())),
        ("thousandfold, gzip",        "gzip", compressed(&[0; 250_000], gzip())),
        ("too much",                  "zlib", compressed(&telemetry, zlib())),
        ("cut",                       "zlib", cut),
        ("something behind",          "zlib", more),
        ("two members",               "gzip", twice),
        ("a dictionary",              "zlib", vec![0x78, 0xBB, 0, 0, 0, 1, 3, 0, 0, 0, 0, 1]),
        ("10,000 levels",             "-",    nested(10_000)),
        ("33 levels",                 "-",    nested(33)),
        ("length 0",                  "-",    lie(0)),
        ("length -1",                 "-",    lie(-1)),
        ("length 2^31-1",             "-",    lie(i32::MAX)),
        ("10,000 levels of JSON",     "-",    b"{\"v\":".iter().copied().chain([b'['; 10_000]).collect()),
        ("a name twice in JSON",      "-",    br#"{"v":{"a":1,"a":2},"t":"2026-03-01T12:00:00Z","i":1}"#.to_vec()),
        ("a lone surrogate",          "-",    br#"{"v":"\ud800","t":"2026-03-01T12:00:00Z","i":1}"#.to_vec()),
        ("a number without end",      "-",    br#"{"v":1e999,"t":"2026-03-01T12:00:00Z","i":1}"#.to_vec()),
        ("a word for a number",       "-",    br#"{"v":NaN,"t":"2026-03-01T12:00:00Z","i":1}"#.to_vec()),
        ("no base64",                 "-",    br#"{"v":"a","encoding":"base64","t":"2026-03-01T12:00:00Z","i":1}"#.to_vec()),
        ("day 30 of February",        "-",    br#"{"v":1,"t":"2026-02-30T12:00:00Z","i":1}"#.to_vec()),
        ("100,000 packed readings",   "-",    packed_stream(5, 0, &[0; 100_000], &[0; 12_500])),
        ("fewer values than times",   "-",    packed_stream(4, 0, &[0; 3], &[0; 2])),
        ("more values than times",    "-",    packed_stream(4, 0, &[0; 3], &[0; 4])),
        ("half a double",             "-",    packed_stream(2, 0, &[0; 1], &[0; 7])),
        ("a byte of bits too many",   "-",    packed_stream(5, 0, &[0; 8], &[0; 2])),
        ("an unknown kind",           "-",    packed_stream(9, 0, &[0; 1], &[0; 1])),
        ("an exponent too large",     "-",    packed_stream(1, 23, &[0; 1], &[0; 1])),
        ("an exponent below 0",       "-",    packed_stream(1, -1, &[0; 1], &[0; 1])),
        ("a number without an end",   "-",    packed_stream(4, 0, &[0x80; 1], &[0; 1])),
        ("a number of 11 bytes",      "-",    packed_stream(4, 0, &[0x80; 11], &[0; 1])),
        ("a number above 2^64",       "-",    packed_stream(4, 0, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2], &[0; 1])),
        ("bytes for strings",         "-",    packed_stream(6, 0, &[0; 1], &[0; 1])),
    ];
    cases
}

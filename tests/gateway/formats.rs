//! What uplinks publish in each format, at a broker of others and read by the decoders of `decoders/`, and what
//! `tidegate verify` says of a capture (uplink.10, uplink.11, uplink.12).

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::support::{
    capture::Capture,
    gateway::Gateway,
    mosquitto::Mosquitto,
    peer::Peer,
    ports, programs,
    site::Site,
    wait,
    wire::{Hello, Wire},
};

/// Readings of each stream.
const COUNT: usize = 40;
/// Readings of a batch.
const BATCH: usize = 20;
/// The limits of a decoder of ours: `wire inflated ratio depth elements`.
const LIMITS: &str = "1048576 16777216 1000 32 1000000";

/// An uplink, and how a receiver is told what comes.
struct Kind {
    name: &'static str,
    version: &'static str,
    format: &'static str,
    compress: &'static str,
    /// What `{encoding}` becomes.
    encoding: &'static str,
    /// Content type and user property `content-encoding`, which MQTT 3.1.1 has not.
    told: [Option<&'static str>; 2],
}

impl Kind {
    /// Returns whether each reading is a message of its own.
    fn is_single(&self) -> bool {
        ["json", "raw"].contains(&self.format)
    }
}

const V5: &str = "5";
const V4: &str = "\"3.1.1\"";
const BSON: Option<&str> = Some("application/bson");

#[rustfmt::skip]
const KINDS: [Kind; 7] = [
    Kind { name: "pz",  version: V5, format: "packed",  compress: "zlib", encoding: "bson.z",  told: [BSON, Some("zlib")] },
    Kind { name: "pg",  version: V4, format: "packed",  compress: "gzip", encoding: "bson.gz", told: [None, None] },
    Kind { name: "pn",  version: V5, format: "packed",  compress: "none", encoding: "bson",    told: [BSON, None] },
    Kind { name: "cz",  version: V4, format: "columns", compress: "zlib", encoding: "bson.z",  told: [None, None] },
    Kind { name: "cg",  version: V5, format: "columns", compress: "gzip", encoding: "bson.gz", told: [BSON, Some("gzip")] },
    Kind { name: "jn",  version: V5, format: "json",    compress: "none", encoding: "json",    told: [Some("application/json"), None] },
    Kind { name: "raw", version: V5, format: "raw",     compress: "none", encoding: "raw",     told: [Some("application/octet-stream"), None] },
];

/// What is published, by topic.
fn published() -> BTreeMap<&'static str, Vec<String>> {
    let each = |text: fn(usize) -> String| (0..COUNT).map(text).collect();
    BTreeMap::from([
        ("plant/temperature", each(|at| format!("{}.{}", 20 + at / 10, at % 10))),
        ("plant/count", each(|at| (1_000_000 + 17 * at).to_string())),
        ("plant/running", each(|at| (at % 3 == 0).to_string())),
        ("plant/mode", each(|at| format!("\"mode {}\"", at % 4))),
    ])
}

/// How a value shows in the lines that decoders are compared by (`decoders/tests/dump.md`).
fn shown(text: &str, tells_integers: bool) -> String {
    match serde_json::from_str(text).expect("JSON") {
        Value::Bool(true) => "t".to_owned(),
        Value::Bool(false) => "f".to_owned(),
        Value::Number(number) if tells_integers && number.is_i64() => format!("i{number}"),
        Value::Number(number) => {
            format!("d{:016x}", number.as_f64().expect("a finite one").to_bits())
        }
        Value::String(text) => format!("s{}", hex(text.as_bytes())),
        other => panic!("{other}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A decoder: a program, its script, and whether it tells integers from doubles.
fn decoders() -> [(PathBuf, &'static str, bool); 2] {
    [(programs::python(), "dump.py", true), (programs::find("node"), "dump.mjs", false)]
}

/// Lets a decoder read captured lines, and returns what it says of each.
fn decode(program: &Path, script: &str, lines: &[String]) -> Vec<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("decoders/tests").join(script);
    let mut child = Command::new(program)
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the decoder can be started");
    let asked = lines.iter().map(|line| {
        let Captured { encoding, stream, payload, .. } = Captured::read(line);
        let coding = match encoding.rsplit_once('.') {
            Some((_, "z")) => "zlib",
            Some((_, "gz")) => "gzip",
            _ => "-",
        };
        format!("{coding} {} {LIMITS} {payload}\n", stream.unwrap_or("-"))
    });
    // It reads all before it writes.
    let asked: String = asked.collect();
    child.stdin.take().expect("it is piped").write_all(asked.as_bytes()).expect("it reads");
    let mut said = String::new();
    child.stdout.take().expect("it is piped").read_to_string(&mut said).expect("it writes text");
    assert!(child.wait().expect("it ends").success(), "{}", program.display());
    said.lines().map(str::to_owned).collect()
}

/// One line of a capture: `tidegate/UPLINK/ENCODING[/STREAM] HEX`.
struct Captured<'a> {
    uplink: &'a str,
    encoding: &'a str,
    stream: Option<&'a str>,
    payload: &'a str,
}

impl<'a> Captured<'a> {
    fn read(line: &'a str) -> Self {
        let (topic, payload) = line.split_once(' ').expect("TOPIC HEX");
        let mut levels = topic.splitn(4, '/').skip(1);
        let uplink = levels.next().expect("an uplink");
        let encoding = levels.next().expect("an encoding");
        Self { uplink, encoding, stream: levels.next(), payload }
    }
}

/// Number and value of readings by stream, from the lines of a decoder.
fn readings(said: &[String]) -> BTreeMap<String, BTreeMap<usize, String>> {
    let mut streams: BTreeMap<String, BTreeMap<usize, String>> = BTreeMap::new();
    for line in said {
        assert!(!line.starts_with('!'), "refused: {line}");
        for part in line.split(';').filter(|part| part.starts_with("R ")) {
            let words: Vec<&str> = part.split(' ').collect();
            let number = words[2].parse().expect("a number");
            let stream = words[1].trim_start_matches('=').to_owned();
            let before = streams.entry(stream).or_default().insert(number, words[8].to_owned());
            assert_eq!(before, None, "{part} came before");
        }
    }
    streams
}

/// A gateway that has published everything to a broker of others, and what was captured there.
struct Bench {
    capture: Capture,
    lines: Vec<String>,
    /// The messages as a client of MQTT 5 gets them.
    messages: Vec<Value>,
    _gateway: Gateway,
    _broker: Mosquitto,
}

impl Bench {
    fn run() -> Self {
        let broker = Mosquitto::start();
        let capture = Capture::start(&broker);
        let mut client = Peer::start("mqtt_client.py", &[]);
        client.ask("connect", json!({"host": "127.0.0.1", "port": broker.port(), "version": 5}));
        client.ask("subscribe", json!({"filters": [["tidegate/#", 1]]}));
        let mqtt = ports::free_port();
        let mut config = format!(
            "[gateway]\nid = \"formats\"\ndata-dir = \"data\"\n\
             [mqtt]\nlisten = [\"127.0.0.1:{mqtt}\"]\nanonymous = true\n"
        );
        for kind in KINDS {
            let Kind { name, version, format, compress, .. } = kind;
            let more = if kind.is_single() { "/{topic}" } else { "" };
            config += &format!(
                "[[uplink]]\nname = \"{name}\"\nurl = \"mqtt://127.0.0.1:{}\"\nversion = {version}\n\
                 topics = [\"plant/#\"]\nformat = \"{format}\"\ncompress = \"{compress}\"\n\
                 topic = \"tidegate/{name}/{{encoding}}{more}\"\n",
                broker.port()
            );
            if !kind.is_single() {
                config += &format!("batch = {{ readings = {BATCH}, age = \"200ms\" }}\n");
            }
        }
        let gateway = Gateway::start(&Site::new(&config, &[]));
        publish_all(mqtt);
        let total = 4 * COUNT;
        wait::until("everything to be delivered", || {
            let status = gateway.status(&[]);
            let is_done = |name: &str| status["uplinks"][name]["delivered"] == total;
            KINDS.iter().all(|kind| is_done(kind.name)).then_some(())
        });
        let lines = capture.lines();
        // With the mark at the end of the capture.
        let count = lines.len();
        let messages = client.ask("messages", json!({"count": count + 1}));
        let messages = messages.as_array().expect("a list").clone();
        Self { capture, lines, messages, _gateway: gateway, _broker: broker }
    }

    fn of(&self, uplink: &str) -> Vec<String> {
        let is_its = |line: &&String| Captured::read(line).uplink == uplink;
        self.lines.iter().filter(is_its).cloned().collect()
    }
}

fn publish_all(port: u16) {
    let hello = Hello { client_id: "plant", ..Hello::default() };
    let (mut wire, _) = Wire::connect(port, &hello);
    let published = published();
    for at in 0..COUNT {
        for (topic, values) in &published {
            assert_eq!(wire.publish(topic, &values[at]), 0, "{topic}");
        }
    }
}

/// uplink.10, uplink.11: `packed`, `columns` and `json`, plain, with zlib and with gzip, over both versions of MQTT and a
/// broker of others: both decoders read every number and value; `raw` is what was published, byte for byte.
/// uplink.12: `tidegate verify` on what `mosquitto_sub` captured.
#[test]
fn uplink_10_11_12_every_format_at_a_foreign_broker() {
    let bench = Bench::run();
    for (program, script, tells_integers) in decoders() {
        for Kind { name, format, .. } in KINDS.iter().filter(|kind| kind.format != "raw") {
            let lines = bench.of(name);
            let said = decode(&program, script, &lines);
            assert_eq!(said.len(), lines.len(), "{script}: {name}");
            let found = readings(&said);
            let expected: BTreeMap<String, BTreeMap<usize, String>> = published()
                .into_iter()
                .map(|(topic, values)| {
                    let values = values.iter().map(|text| shown(text, tells_integers));
                    (hex(topic.as_bytes()), (1..).zip(values).collect())
                })
                .collect();
            assert_eq!(found, expected, "{script}: {name}, {format}");
        }
    }
    for (topic, values) in published() {
        let payloads: Vec<String> = bench
            .of("raw")
            .iter()
            .map(|line| Captured::read(line))
            .filter(|captured| captured.stream == Some(topic))
            .map(|captured| captured.payload.to_owned())
            .collect();
        let expected: Vec<String> = values.iter().map(|value| hex(value.as_bytes())).collect();
        assert_eq!(payloads, expected, "raw: {topic}");
    }
    assert_told(&bench);
    verify(&bench);
}

/// Topic, content type and user property say what a payload is.
fn assert_told(bench: &Bench) {
    let told = |message: &Value| {
        let properties = &message["properties"];
        let user = properties["UserProperty"].as_array().into_iter().flatten();
        let mut codings = user.filter(|pair| pair[0] == "content-encoding").map(|pair| &pair[1]);
        [properties["ContentType"].clone(), codings.next().cloned().unwrap_or(Value::Null)]
    };
    for Kind { name, encoding, told: expected, .. } in KINDS {
        let prefix = format!("tidegate/{name}/");
        let topic = |message: &Value| message["topic"].as_str().expect("a text").to_owned();
        let is_its = |message: &&Value| topic(message).starts_with(&prefix);
        let its: Vec<&Value> = bench.messages.iter().filter(is_its).collect();
        assert!(!its.is_empty(), "{name}");
        for message in its {
            let topic = topic(message);
            let level = topic[prefix.len()..].split('/').next();
            assert_eq!(level, Some(encoding), "{topic}");
            assert_eq!(told(message), expected.map(|word| json!(word)), "{topic}");
        }
    }
}

/// The program itself: complete is 0, one line less is 1 with epoch, name and numbers, what cannot be read is 2.
fn verify(bench: &Bench) {
    for Kind { name, format, .. } in KINDS.iter().filter(|kind| kind.format != "raw") {
        let mut lines = bench.of(name);
        if *format == "json" {
            // Topics of single readings are the uplink's; the stream is what stands behind them.
            let prefix = format!("tidegate/{name}/json/");
            let cut = |line: &String| line.replacen(&prefix, "", 1);
            lines = lines.iter().map(cut).collect();
        }
        let file = bench.capture.write(name, &lines);
        let said = programs::tidegate(&["verify", "--from-start", &file]);
        assert_eq!(said.code, Some(0), "{name}: {}{}", said.stdout, said.stderr);
        let total = 4 * COUNT;
        assert!(said.stdout.contains(&format!("complete: {total} readings of 4 streams")));
    }
    let mut lines = bench.of("pg");
    let removed = lines.remove(lines.len() / 2);
    let removed = decode(&programs::python(), "dump.py", &[removed]);
    let epoch = removed[0].split(' ').nth(3).expect("an epoch").to_owned();
    let gone = readings(&removed);
    let file = bench.capture.write("holes", &lines);
    let said = programs::tidegate(&["verify", &file]);
    assert_eq!(said.code, Some(1), "{}{}", said.stdout, said.stderr);
    assert!(!gone.is_empty());
    for (stream, numbers) in gone {
        let stream = published().into_keys().find(|name| hex(name.as_bytes()) == stream);
        let [first, .., last] = numbers.keys().collect::<Vec<_>>()[..] else {
            panic!("a batch has several readings of each stream: {numbers:?}")
        };
        let expected = format!(
            "missing {} of {} (gateway formats, uplink pg, epoch {epoch}): {first}-{last}\n",
            numbers.len(),
            stream.expect("one that was published")
        );
        assert!(said.stdout.contains(&expected), "{expected} in {}", said.stdout);
    }
    let damaged: Vec<String> = lines.iter().map(|line| line[..line.len() - 8].to_owned()).collect();
    let file = bench.capture.write("damaged", &damaged);
    let said = programs::tidegate(&["verify", &file]);
    assert_eq!(said.code, Some(2), "{}{}", said.stdout, said.stderr);
}

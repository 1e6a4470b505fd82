//! main.24: every mapping file that is shipped, with the samples beside it.
//!
//! A sample is one line of JSON: an address, what arrives there, and what the file makes of it.
//!
//! - `coap`, `http`, `mqtt`, `opcua` (with `server`): the address. `command`: a topic, whose node is expected.
//! - `payload`: the bytes as text; `json`: the same as a JSON value; `readings`: what an adapter hands in whose
//!   payloads are not read here.
//! - `expect`: what becomes of each reading, or why there is none.
//!
//! The twin of a file in the other language must give the same, and each entry needs a sample.

#![expect(clippy::disallowed_methods, reason = "a test reads the files that it is about")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tidegate_mapping::{Address, Applied, Entry, Environment, Inlet, MappingSet};
use tidegate_model::{
    AdapterName, Captures, Clock, Document, NodeAddress, NodePattern, Origin, PayloadFormat,
    Reading, Status, Timestamp, Topic, Unit, Value, expand, json, value_from_text,
};
use tidegate_settings::{Format, Issues, Sources, parse};

/// When every sample arrives.
const ARRIVAL: &str = "2026-03-01T12:00:00.000Z";

#[test]
fn every_shipped_mapping_does_what_its_samples_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut samples = Vec::new();
    for folder in ["mappings", "examples/press-hall/mappings"] {
        let folder = root.join(folder);
        for file in std::fs::read_dir(&folder).expect("the folder is there") {
            let path = file.expect("the folder can be read").path();
            if path.extension().is_some_and(|it| it == "toml") {
                samples.push(path);
            }
        }
    }
    assert!(samples.len() >= 5, "the shipped files were found: {samples:?}");
    for path in samples {
        check_file(&path);
        check_twin(&path);
    }
}

fn check_file(path: &Path) {
    let set = load(path);
    let samples = read(&path.with_extension("samples.jsonl"));
    let mut used = BTreeSet::new();
    for (number, line) in (1..).zip(samples.lines()) {
        let place = format!("{}, sample {number}", path.display());
        let value =
            json::parse_value(line.as_bytes()).unwrap_or_else(|error| panic!("{place}: {error}"));
        let Value::Document(sample) = value else { panic!("{place}: a sample is an object") };
        let found = outcome(&set, &sample, &mut used);
        let expected =
            sample.get("expect").unwrap_or_else(|| panic!("{place}: `expect` is missing"));
        assert_eq!(found.to_string(), expected.to_string(), "{place}");
    }
    for entry in set.entries() {
        assert!(used.contains(&entry.index()), "{}: no sample uses {entry:?}", path.display());
    }
}

/// The file in the other language makes the same of every sample.
fn check_twin(path: &Path) {
    let twin = path.with_extension("yaml.example");
    let (ours, theirs) = (load(path), load(&twin));
    assert_eq!(ours.entries().len(), theirs.entries().len(), "{}", twin.display());
    for (number, line) in (1..).zip(read(&path.with_extension("samples.jsonl")).lines()) {
        let Ok(Value::Document(sample)) = json::parse_value(line.as_bytes()) else {
            panic!("sample {number} of {}", path.display())
        };
        let (mut used, mut used_by_twin) = (BTreeSet::new(), BTreeSet::new());
        let expected = outcome(&ours, &sample, &mut used);
        let found = outcome(&theirs, &sample, &mut used_by_twin);
        assert_eq!(found, expected, "{}, sample {number}", twin.display());
        assert_eq!(used_by_twin, used, "{}, sample {number}", twin.display());
    }
}

fn load(path: &Path) -> MappingSet {
    let text = read(path);
    let mut sources = Sources::default();
    let mut issues = Issues::default();
    let file = sources.add(path.display().to_string(), text.as_str());
    let plain = PathBuf::from(path.display().to_string().trim_end_matches(".example"));
    let format = Format::from_name(&plain.display().to_string()).expect("a known ending");
    let tree = parse(file, format, &text, &mut issues);
    let opcua_servers = vec![AdapterName::new("plc7").expect("a name")];
    let environment = Environment { opcua_servers, generation: 1 };
    let set = MappingSet::compile(tree.as_slice(), &environment, &mut issues);
    // Shipped files have not even hints.
    let problems: Vec<&str> = issues.iter().map(|issue| issue.message.as_str()).collect();
    assert!(problems.is_empty(), "{}: {problems:?}", path.display());
    set.expect("there is no problem")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns what a set makes of a sample, in the form of `expect`.
fn outcome(set: &MappingSet, sample: &Document, used: &mut BTreeSet<u32>) -> Value {
    let field = |name: &str| match sample.get(name) {
        Some(Value::String(text)) => Some(&**text),
        _ => None,
    };
    let nothing = Value::string("no entry");
    if let Some(topic) = field("command") {
        let Some(target) = set.command_target(&Topic::new(topic).expect("a topic")) else {
            return nothing;
        };
        let Address::OpcUa(address) = target.entry.address() else { panic!("a node") };
        used.insert(target.entry.index());
        return Value::string(
            &address.node.fill(&target.captures).expect("all captures").to_string(),
        );
    }
    if let Some(topic) = field("mqtt") {
        let Some((entry, captures)) = set.match_mqtt(&Topic::new(topic).expect("a topic")) else {
            return nothing;
        };
        used.insert(entry.index());
        let inlet = Inlet { arrival: arrival(), clock: Clock::Trusted, origin: origin() };
        return match entry.apply_mqtt(&captures, &payload(sample), &inlet) {
            Ok(applied) => shown(applied),
            Err(error) => Value::string(&error.to_string()),
        };
    }
    let Some((entry, captures)) = find(set, sample) else { return nothing };
    used.insert(entry.index());
    match readings(entry, &captures, sample) {
        Ok(readings) => shown(
            readings
                .into_iter()
                .map(|(captures, reading)| entry.apply(&captures, reading))
                .collect(),
        ),
        Err(reason) => Value::string(&reason),
    }
}

/// Finds the entry as an adapter does.
fn find<'m>(set: &'m MappingSet, sample: &Document) -> Option<(&'m Entry, Captures)> {
    let text = |name: &str| match sample.get(name) {
        Some(Value::String(text)) => Some(&**text),
        _ => None,
    };
    let path = |name: &str| text(name).map(|path| path[1..].split('/').collect::<Vec<_>>());
    let (coap, http) = (path("coap"), path("http"));
    let node = text("opcua").map(|node| literal(node).expect("a sample names one node"));
    let matching = set.entries().iter().filter_map(|entry| {
        let (rank, captures) = match entry.address() {
            Address::Coap(pattern) => (pattern.literal_segments(), pattern.matches(coap.as_ref()?)),
            Address::Http(pattern) => (pattern.literal_segments(), pattern.matches(http.as_ref()?)),
            Address::OpcUa(address) if Some(address.server.as_str()) == text("server") => {
                (address.node.literal_characters(), address.node.matches(node.as_ref()?))
            }
            _ => return None,
        };
        Some((rank, entry, captures?))
    });
    matching.max_by_key(|(rank, ..)| *rank).map(|(_, entry, captures)| (entry, captures))
}

fn literal(node: &str) -> Option<NodeAddress> {
    NodePattern::parse(node).ok()?.literal()
}

/// Reads a sample's payload as the adapters do, or takes the readings that it names.
fn readings(
    entry: &Entry,
    captures: &Captures,
    sample: &Document,
) -> Result<Vec<(Captures, Reading)>, String> {
    let new = |value: Value| {
        let mut reading = Reading::new(value, arrival(), origin());
        if reading.value == Value::Null {
            reading.status = Status::BAD;
        }
        reading
    };
    if let Some(Value::Array(given)) = sample.get("readings") {
        return Ok(given.iter().map(|given| given_reading(given, captures, &new)).collect());
    }
    let payload = payload(sample);
    let value = match entry.payload() {
        Some(PayloadFormat::Text) => {
            let text = std::str::from_utf8(&payload).map_err(|error| error.to_string())?;
            value_from_text(text, entry.text_type()).map_err(|error| error.to_string())?
        }
        Some(PayloadFormat::Json) => {
            json::parse_value(&payload).map_err(|error| error.to_string())?
        }
        other => panic!("samples of {other:?} name their readings"),
    };
    match entry.each() {
        None => Ok(vec![(captures.clone(), new(value))]),
        Some(each) => {
            let members = expand(&value, each).map_err(|error| error.to_string())?;
            Ok(members.into_iter().map(|(name, it)| (captures.with(&name), new(it))).collect())
        }
    }
}

fn given_reading(
    given: &Value,
    captures: &Captures,
    new: &impl Fn(Value) -> Reading,
) -> (Captures, Reading) {
    let Value::Document(given) = given else { panic!("a reading is an object") };
    let mut reading = new(given.get("value").expect("a reading has a value").clone());
    let mut captures = captures.clone();
    for (name, member) in given.iter() {
        match (&**name, member) {
            ("value", _) => {}
            ("time", Value::String(text)) => reading.source_time = Timestamp::parse(text).ok(),
            ("unit", Value::String(text)) => reading.unit = Unit::new(text).ok(),
            ("member", Value::String(text)) => captures = captures.with(text),
            other => panic!("unknown: {other:?}"),
        }
    }
    (captures, reading)
}

fn payload(sample: &Document) -> Bytes {
    match (sample.get("payload"), sample.get("json")) {
        (Some(Value::String(text)), None) => Bytes::copy_from_slice(text.as_bytes()),
        (None, Some(value)) => value.to_string().into(),
        _ => panic!("a sample has one of `payload`, `json` and `readings`"),
    }
}

fn shown(applied: Vec<Applied>) -> Value {
    let document = |members: Vec<(Arc<str>, Value)>| {
        Value::Document(Arc::new(Document::new(members).expect("names differ")))
    };
    let show = |applied: Applied| match applied {
        Applied::Message { topic, reading, qos, retain, .. } => {
            let message =
                json::parse_value(&json::envelope(&reading)).expect("an envelope is JSON");
            let mut members = vec![("topic".into(), Value::string(topic.as_str()))];
            members.extend(qos.map(|qos| ("qos".into(), Value::Integer(qos.bits().into()))));
            members.extend(retain.map(|retain| ("retain".into(), Value::Boolean(retain))));
            members.push(("message".into(), message));
            document(members)
        }
        Applied::LeftOut(reason) => {
            document(vec![("left-out".into(), Value::string(reason.as_str()))])
        }
        Applied::Refused(fault) => {
            document(vec![("refused".into(), Value::string(&fault.to_string()))])
        }
    };
    Value::Array(applied.into_iter().map(show).collect())
}

fn arrival() -> Timestamp {
    Timestamp::parse(ARRIVAL).expect("a time")
}

fn origin() -> Origin {
    Origin { adapter: AdapterName::new("test").expect("a name") }
}

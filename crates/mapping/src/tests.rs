//! What the crate promises, through its public interface.

mod applying;
mod commands;
mod loading;
mod mqtt;

use bytes::Bytes;
use tidegate_model::{
    AdapterName, Captures, Clock, Origin, Reading, Timestamp, Topic, Value, json,
};
use tidegate_settings::{Format, Issues, Severity, Sources, parse};

use crate::{Applied, Entry, Environment, Inlet, MappingSet};

fn environment() -> Environment {
    let opcua_servers = vec![AdapterName::new("plc7").unwrap(), AdapterName::new("oven").unwrap()];
    Environment { opcua_servers, generation: 3 }
}

/// Compiles one file; gives the set, and every problem as `line:column "marked" message | hint`.
fn compile(format: Format, text: &str) -> (Option<MappingSet>, Vec<String>) {
    let mut sources = Sources::default();
    let file = sources.add("mapping", text);
    let mut issues = Issues::default();
    let tree = parse(file, format, text, &mut issues);
    let set = MappingSet::compile(tree.as_slice(), &environment(), &mut issues);
    issues.sort();
    let lines = issues.iter().map(|issue| {
        let position = sources.position(issue.at);
        let mark = if issue.severity == Severity::Hint { "hint: " } else { "" };
        let related: String = issue
            .related
            .iter()
            .map(|related| {
                let position = sources.position(related.at);
                format!(" | {}:{} {}", position.line, position.column, related.note)
            })
            .collect();
        format!(
            "{}:{} {mark}{:?} {} | {}{related}",
            position.line,
            position.column,
            sources.slice(issue.at),
            issue.message,
            issue.hint.as_deref().unwrap_or("no hint"),
        )
    });
    let lines = lines.collect();
    (set, lines)
}

/// Compiles a TOML file without any problem.
fn set(text: &str) -> MappingSet {
    let (set, problems) = compile(Format::Toml, text);
    assert!(problems.iter().all(|problem| problem.contains("hint: ")), "{problems:#?}");
    set.expect("there is no error")
}

fn captures(texts: &[&str]) -> Captures {
    Captures::new(texts.iter().map(|text| Box::from(*text)))
}

fn topic(text: &str) -> Topic {
    Topic::new(text).unwrap()
}

fn value(text: &str) -> Value {
    json::parse_value(text.as_bytes()).unwrap()
}

fn inlet() -> Inlet {
    Inlet {
        arrival: Timestamp::parse("2026-03-01T12:00:00.123Z").unwrap(),
        clock: Clock::Trusted,
        origin: Origin { adapter: AdapterName::new("mqtt").unwrap() },
    }
}

fn reading(value: Value) -> Reading {
    let inlet = inlet();
    Reading::new(value, inlet.arrival, inlet.origin)
}

/// Writes what became of a reading as `topic {envelope}` or `left out: …` or `refused: …`.
fn shown(applied: &Applied) -> String {
    match applied {
        Applied::Message { topic, reading, fault, .. } => {
            let envelope = String::from_utf8(json::envelope(reading).to_vec()).unwrap();
            let envelope = envelope.replace(",\"time\":\"2026-03-01T12:00:00.123Z\"", "");
            let fault = fault.as_ref().map(|fault| format!(" ({fault})")).unwrap_or_default();
            format!("{topic} {envelope}{fault}")
        }
        Applied::LeftOut(reason) => format!("left out: {}", reason.as_str()),
        Applied::Refused(fault) => format!("refused: {fault}"),
    }
}

/// Applies the first `[[mqtt]]` entry that fits a topic.
fn publish(set: &MappingSet, at: &str, payload: &str) -> Vec<String> {
    let Some((entry, captures)) = set.match_mqtt(&topic(at)) else { return vec!["none".into()] };
    apply_mqtt(entry, &captures, payload.as_bytes())
}

fn apply_mqtt(entry: &Entry, captures: &Captures, payload: &[u8]) -> Vec<String> {
    match entry.apply_mqtt(captures, &Bytes::copy_from_slice(payload), &inlet()) {
        Ok(applied) => applied.iter().map(shown).collect(),
        Err(error) => vec![format!("error: {error}")],
    }
}

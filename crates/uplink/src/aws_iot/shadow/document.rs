//! What the service says, as values of known keys.

use std::sync::Arc;

use thiserror::Error;
use tidegate_model::{Document, Value, json};

use super::setup::{ShadowPath, ShadowSettings};
use crate::{
    decoder::Limits,
    downlink::{Said, decode},
};

/// A document of 8 KiB, its metadata with a time for each value, and some more.
const LIMITS: Limits = Limits { wire: 64 << 10, depth: 24, ..Limits::DOWNLINK };
/// As much of what the service says is told.
const MESSAGE_CHARACTERS_MAX: usize = 200;
const TOKEN_BYTES_MAX: usize = 64;

/// What came down is not what the service says.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub(super) struct Unreadable(String);

/// A desired value that is not the reported one.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wish {
    pub(super) place: usize,
    pub(super) value: Value,
    /// When it was desired, in seconds since 1970; 0 if that is not told.
    pub(super) since_s: u64,
}

/// What is desired and not reported, in the order of the document.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Delta {
    pub(super) version: u64,
    pub(super) wishes: Vec<Wish>,
    /// Members that belong to no key.
    pub(super) unknown: u64,
    /// Values of keys that are none: objects, and what holds a `null`.
    pub(super) unfit: u64,
}

/// The answer to the question for the document.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Whole {
    pub(super) delta: Delta,
    /// By place.
    pub(super) reported: Vec<Option<Value>>,
}

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rejection {
    pub(super) code: u16,
    pub(super) message: String,
}

/// Reads any message of the service: an object.
pub(super) fn read(payload: &[u8]) -> Result<Arc<Document>, Unreadable> {
    let value = decode(payload, Said::default(), &LIMITS);
    match value.map_err(|error| Unreadable(format!("the payload {error}")))? {
        Value::Document(document) => Ok(document),
        other => Err(Unreadable(format!("the payload is of type {}", other.type_name()))),
    }
}

/// Returns the token of the request that is answered, if it was ours.
pub(super) fn token(said: &Document) -> Option<&str> {
    match said.get("clientToken")? {
        Value::String(token) => Some(&**token).filter(|token| token.len() <= TOKEN_BYTES_MAX),
        _ => None,
    }
}

/// Reads what `update/delta` brings.
pub(super) fn read_delta(said: &Document, settings: &ShadowSettings) -> Result<Delta, Unreadable> {
    let version = version(said)?;
    let state = object(said, "state").ok_or_else(|| missing("state"))?;
    Ok(delta(version, state, object(said, "metadata"), settings))
}

/// Reads what `get/accepted` brings.
pub(super) fn read_whole(said: &Document, settings: &ShadowSettings) -> Result<Whole, Unreadable> {
    let version = version(said)?;
    let state = object(said, "state").ok_or_else(|| missing("state"))?;
    let metadata = object(said, "metadata").and_then(|metadata| object(metadata, "desired"));
    let delta = match object(state, "delta") {
        Some(wished) => delta(version, wished, metadata, settings),
        None => Delta { version, ..Delta::default() },
    };
    let reported = object(state, "reported");
    let at = |key: &ShadowPath| reported.and_then(|reported| find(reported, key)).cloned();
    let reported = settings.states().iter().map(|state| at(&state.key)).collect();
    Ok(Whole { delta, reported })
}

/// Reads what `…/rejected` brings.
pub(super) fn read_rejection(said: &Document) -> Rejection {
    let code = match said.get("code") {
        Some(Value::Integer(code)) => u16::try_from(*code).unwrap_or_default(),
        _ => 0,
    };
    let message = match said.get("message") {
        Some(Value::String(text)) => &**text,
        _ => "",
    };
    let plain = message.chars().filter(|letter| !letter.is_control());
    Rejection { code, message: plain.take(MESSAGE_CHARACTERS_MAX).collect() }
}

/// Returns whether a value may stand in a shadow as one of ours: a truth value, a number, a text, or an array of such.
pub(super) fn is_fit(value: &Value) -> bool {
    match value {
        Value::Boolean(_) | Value::Integer(_) | Value::Unsigned(_) | Value::String(_) => true,
        Value::Float(_) | Value::Double(_) => !value.is_not_finite(),
        Value::Array(items) => {
            items.iter().all(|item| !matches!(item, Value::Array(_)) && is_fit(item))
        }
        Value::Null | Value::Bytes(_) | Value::Document(_) => false,
    }
}

/// Returns whether two values are the same to the service, which does not keep how a number was written.
pub(super) fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Array(ours), Value::Array(theirs)) => {
            ours.len() == theirs.len()
                && ours.iter().zip(theirs.iter()).all(|(one, other)| is_same(one, other))
        }
        _ if one == other => true,
        (Value::Integer(_) | Value::Unsigned(_), Value::Integer(_) | Value::Unsigned(_)) => false,
        _ => one.as_f64().is_some_and(|number| other.as_f64() == Some(number)),
    }
}

/// Returns a value as it reads back from JSON.
pub(super) fn as_json(value: &Value) -> Option<Value> {
    let mut text = Vec::new();
    json::write_value(value, &mut text);
    json::parse_value(&text).ok()
}

fn delta(
    version: u64,
    state: &Document,
    metadata: Option<&Document>,
    settings: &ShadowSettings,
) -> Delta {
    let mut found = Delta { version, ..Delta::default() };
    collect(state, metadata, settings, &mut Vec::new(), &mut found);
    found
}

/// Walks down as far as keys stand below; the payload's depth is bounded, and so are keys.
fn collect(
    state: &Document,
    metadata: Option<&Document>,
    settings: &ShadowSettings,
    above: &mut Vec<Arc<str>>,
    found: &mut Delta,
) {
    for (name, value) in state.iter() {
        let meta = metadata.and_then(|metadata| metadata.get(name));
        above.push(Arc::clone(name));
        match (settings.place(above), value) {
            (Some(place), value) if is_fit(value) => {
                let since_s = meta.map_or(0, latest_s);
                found.wishes.push(Wish { place, value: value.clone(), since_s });
            }
            (Some(_), _) => found.unfit += 1,
            (None, Value::Document(below)) if settings.has_below(above) => {
                let meta = match meta {
                    Some(Value::Document(meta)) => Some(&**meta),
                    _ => None,
                };
                collect(below, meta, settings, above, found);
            }
            (None, _) => found.unknown += 1,
        }
        above.pop();
    }
}

/// Returns the latest time in the metadata of a value; each item of an array has its own.
fn latest_s(metadata: &Value) -> u64 {
    match metadata {
        Value::Document(one) => match one.get("timestamp") {
            Some(Value::Integer(seconds)) => u64::try_from(*seconds).unwrap_or_default(),
            _ => 0,
        },
        Value::Array(items) => items.iter().map(latest_s).max().unwrap_or_default(),
        _ => 0,
    }
}

fn version(said: &Document) -> Result<u64, Unreadable> {
    match said.get("version") {
        Some(Value::Integer(version)) => {
            u64::try_from(*version).map_err(|_| Unreadable("the version is negative".into()))
        }
        _ => Err(missing("version")),
    }
}

fn missing(name: &str) -> Unreadable {
    Unreadable(format!("the payload has no `{name}`"))
}

fn object<'v>(document: &'v Document, name: &str) -> Option<&'v Document> {
    match document.get(name)? {
        Value::Document(document) => Some(document),
        _ => None,
    }
}

fn find<'v>(document: &'v Document, key: &ShadowPath) -> Option<&'v Value> {
    let (last, above) = key.names().split_last()?;
    let holds = above.iter().try_fold(document, |within, name| object(within, name))?;
    holds.get(last)
}

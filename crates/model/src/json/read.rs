//! From JSON to values: lexical kinds kept, names checked, depth bounded.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use thiserror::Error;

use crate::{Document, Value};

/// How many arrays and objects may stand inside each other, unless [`set_depth_max`] says otherwise.
pub const DEPTH_MAX: usize = 32;

static CURRENT_DEPTH_MAX: AtomicUsize = AtomicUsize::new(DEPTH_MAX);

/// Sets how many arrays and objects may stand inside each other, for everything that this process reads from then on
/// (`limits.json.max-depth`).
pub fn set_depth_max(levels: usize) {
    CURRENT_DEPTH_MAX.store(levels, Ordering::Relaxed);
}

/// Returns how many arrays and objects may stand inside each other.
pub fn depth_max() -> usize {
    CURRENT_DEPTH_MAX.load(Ordering::Relaxed)
}

/// A text is not JSON, or JSON that the gateway does not take.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct JsonError {
    message: String,
}

/// Reads one JSON text.
///
/// Numbers keep their lexical kind: `21` is an integer, `21.0` and `2e1` are doubles; what fits neither
/// 64-bit integer type is a double.
///
/// # Errors
///
/// [`JsonError`] with line and column for anything that is not one JSON text, a name that occurs twice
/// in an object, or more than [`depth_max`] levels.
pub fn parse_value(text: &[u8]) -> Result<Value, JsonError> {
    let error = |error: serde_json::Error| JsonError { message: error.to_string() };
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let value = Seed { depth: 0 }.deserialize(&mut deserializer).map_err(error)?;
    deserializer.end().map_err(error)?;
    Ok(value)
}

/// Reads a text that is exactly one JSON number with a finite value.
pub fn parse_number(text: &str) -> Option<Value> {
    if !text.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
        return None;
    }
    if !text.ends_with(|last: char| last.is_ascii_digit()) {
        return None;
    }
    // The parser takes this one integer for a double.
    if text == "-0" {
        return Some(Value::Integer(0));
    }
    match parse_value(text.as_bytes()) {
        Ok(value @ (Value::Integer(_) | Value::Unsigned(_) | Value::Double(_))) => Some(value),
        _ => None,
    }
}

#[derive(Clone, Copy)]
struct Seed {
    depth: usize,
}

impl Seed {
    fn deeper<E: Error>(self) -> Result<Self, E> {
        let levels = depth_max();
        if self.depth >= levels {
            return Err(E::custom(format_args!("more than {levels} levels")));
        }
        Ok(Self { depth: self.depth + 1 })
    }
}

impl<'de> DeserializeSeed<'de> for Seed {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Boolean(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::unsigned(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Double(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::string(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let below = self.deeper()?;
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(below)? {
            items.push(item);
        }
        Ok(Value::Array(items.into()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let below = self.deeper()?;
        let mut members: Vec<(Arc<str>, Value)> = Vec::new();
        while let Some(name) = access.next_key::<String>()? {
            members.push((name.into(), access.next_value_seed(below)?));
        }
        Document::new(members)
            .map(|document| Value::Document(Arc::new(document)))
            .map_err(A::Error::custom)
    }
}

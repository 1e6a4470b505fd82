//! SenML packs (RFC 8428): base fields, resolved names, times and units.

use bytes::Bytes;
use thiserror::Error;
use tidegate_model::{Document, Each, Timestamp, Unit, Value};

use super::{Item, READINGS_MAX};

/// Version of SenML that is understood (section 4.1).
const VERSION: i64 = 10;

/// Longest resolved name. The standard has no bound; without one a long base name would be copied for
/// every record.
const NAME_BYTES_MAX: usize = 1_024;

/// Times from here on are absolute, in seconds; others are relative to now (section 4.5.3).
const ABSOLUTE_FROM_MICROS: i128 = (1 << 28) * 1_000_000;

/// Why a body is no SenML pack, or one that the resource does not take.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SenmlError {
    /// The body is not an array of objects.
    #[error("a pack is an array of objects")]
    NotAPack,
    /// No record has a value.
    #[error("no record has a value")]
    Empty,
    /// The pack has too many records.
    #[error("more than {READINGS_MAX} records")]
    TooMany,
    /// Several records have values, and the mapping has no `each`.
    #[error("{records} records with a value; several need `each = \"member\"` in the mapping")]
    SeveralRecords {
        /// How many there are.
        records: usize,
    },
    /// A record breaks a rule.
    #[error("record {record}: {reason}")]
    Record {
        /// Which one, counted from 1.
        record: usize,
        /// Which rule.
        reason: String,
    },
}

/// Resolves a pack at `now`: one item for each record with a value, in the order of the pack.
///
/// With `each` the resolved name is that of the member; names may repeat, as a pack may hold a series. A
/// record with a value and a sum gives its value; one with a sum alone gives the sum, in the unit times
/// seconds.
pub(super) fn items(
    pack: &Value,
    now: Timestamp,
    each: Option<Each>,
) -> Result<Vec<Item>, SenmlError> {
    let Value::Array(records) = pack else { return Err(SenmlError::NotAPack) };
    if records.len() > READINGS_MAX {
        return Err(SenmlError::TooMany);
    }
    let mut base = Base::default();
    let mut items = Vec::new();
    for (index, record) in records.iter().enumerate() {
        let Value::Document(record) = record else { return Err(SenmlError::NotAPack) };
        let resolved = base
            .resolve(record, now)
            .map_err(|reason| SenmlError::Record { record: index + 1, reason })?;
        items.extend(resolved);
    }
    match (items.len(), each) {
        (0, _) => Err(SenmlError::Empty),
        (1, None) => {
            items[0].member = None;
            Ok(items)
        }
        (records, None) => Err(SenmlError::SeveralRecords { records }),
        (_, Some(_)) => Ok(items),
    }
}

/// The base fields in force (section 4.1).
#[derive(Debug, Default)]
struct Base {
    name: String,
    time_micros: i128,
    unit: Option<Unit>,
    value: Option<Value>,
    sum: Option<Value>,
    version: Option<i64>,
}

impl Base {
    /// Takes over the base fields of a record and resolves the rest; `None` if it has no value.
    fn resolve(&mut self, record: &Document, now: Timestamp) -> Result<Option<Item>, String> {
        self.take_over(record)?;
        let value = match (value_of(record)?, record.get("s")) {
            (Some(value), _) => self.add_base_value(value)?,
            (None, Some(sum)) => return self.sum(record, sum, now).map(Some),
            (None, None) if has_only_base_fields(record) => return Ok(None),
            (None, None) => return Err("has no value".into()),
        };
        self.item(record, value, self.unit(record)?, now).map(Some)
    }

    fn sum(&self, record: &Document, sum: &Value, now: Timestamp) -> Result<Item, String> {
        let sum = add(self.sum.as_ref(), number("s", sum)?)?;
        let unit = match self.unit(record)? {
            Some(unit) => Some(parse_unit("u", &format!("{unit}.s"))?),
            None => None,
        };
        self.item(record, sum, unit, now)
    }

    fn item(
        &self,
        record: &Document,
        value: Value,
        unit: Option<Unit>,
        now: Timestamp,
    ) -> Result<Item, String> {
        let name = format!("{}{}", self.name, text(record, "n")?.unwrap_or(""));
        check_name(&name)?;
        Ok(Item { member: Some(name.into()), value, time: self.time(record, now)?, unit })
    }

    fn take_over(&mut self, record: &Document) -> Result<(), String> {
        for (name, _) in record.iter() {
            if name.ends_with('_') {
                return Err(format!("the field `{name}` must be understood, and is not"));
            }
        }
        if let Some(name) = text(record, "bn")? {
            check_length(name)?;
            name.clone_into(&mut self.name);
        }
        if let Some(time) = record.get("bt") {
            self.time_micros = micros("bt", time)?;
        }
        if let Some(unit) = text(record, "bu")? {
            self.unit = Some(parse_unit("bu", unit)?);
        }
        if let Some(value) = record.get("bv") {
            self.value = Some(number("bv", value)?.clone());
        }
        if let Some(sum) = record.get("bs") {
            self.sum = Some(number("bs", sum)?.clone());
        }
        match record.get("bver") {
            None => Ok(()),
            Some(Value::Integer(version @ 1..=VERSION))
                if self.version.is_none_or(|earlier| earlier == *version) =>
            {
                self.version = Some(*version);
                Ok(())
            }
            Some(version) => Err(format!(
                "`bver` is {version}; up to {VERSION} is understood, the same in the whole pack"
            )),
        }
    }

    fn add_base_value(&self, value: Value) -> Result<Value, String> {
        match value {
            value @ (Value::Integer(_)
            | Value::Unsigned(_)
            | Value::Float(_)
            | Value::Double(_)) => add(self.value.as_ref(), &value),
            other => Ok(other),
        }
    }

    fn unit(&self, record: &Document) -> Result<Option<Unit>, String> {
        match text(record, "u")? {
            Some(unit) => parse_unit("u", unit).map(Some),
            None => Ok(self.unit.clone()),
        }
    }

    /// Returns the resolved time; none if the record says that it is now.
    fn time(&self, record: &Document, now: Timestamp) -> Result<Option<Timestamp>, String> {
        let own = record.get("t").map_or(Ok(0), |time| micros("t", time))?;
        let micros = match self.time_micros + own {
            0 => return Ok(None),
            absolute if absolute >= ABSOLUTE_FROM_MICROS => absolute,
            relative => i128::from(now.as_unix_micros()) + relative,
        };
        let micros = i64::try_from(micros).map_err(|_| "the time is out of range".to_owned())?;
        Ok(Some(Timestamp::from_unix_micros(micros)))
    }
}

/// Returns the value of a record, of which there may be one at most (section 4.2).
fn value_of(record: &Document) -> Result<Option<Value>, String> {
    let mut found = None;
    for field in ["v", "vs", "vb", "vd"] {
        let Some(value) = record.get(field) else { continue };
        if found.is_some() {
            return Err("has more than one value".into());
        }
        found = Some(match (field, value) {
            ("v", value) => number("v", value)?.clone(),
            ("vs", Value::String(_)) | ("vb", Value::Boolean(_)) | ("vd", Value::Bytes(_)) => {
                value.clone()
            }
            ("vd", Value::String(text)) => {
                Value::Bytes(from_base64url(text).ok_or("`vd` is not base64url without padding")?)
            }
            (field, other) => return Err(format!("`{field}` is of type {}", other.type_name())),
        });
    }
    Ok(found)
}

fn has_only_base_fields(record: &Document) -> bool {
    record.iter().all(|(name, _)| !matches!(&**name, "n" | "u" | "t" | "ut"))
}

fn text<'a>(record: &'a Document, field: &str) -> Result<Option<&'a str>, String> {
    match record.get(field) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(format!("`{field}` is of type {}", other.type_name())),
    }
}

fn number<'a>(field: &str, value: &'a Value) -> Result<&'a Value, String> {
    match value {
        Value::Integer(_) | Value::Unsigned(_) => Ok(value),
        Value::Float(_) | Value::Double(_) if !value.is_not_finite() => Ok(value),
        Value::Float(_) | Value::Double(_) => Err(format!("`{field}` is not finite")),
        other => Err(format!("`{field}` is of type {}", other.type_name())),
    }
}

/// Adds a base, if there is one; integers stay integers as long as they fit.
fn add(base: Option<&Value>, value: &Value) -> Result<Value, String> {
    let Some(base) = base else { return Ok(value.clone()) };
    if let (Value::Integer(base), Value::Integer(value)) = (base, value)
        && let Some(sum) = base.checked_add(*value)
    {
        return Ok(Value::Integer(sum));
    }
    let sum = base.as_f64().zip(value.as_f64()).map(|(base, value)| base + value);
    sum.filter(|sum| sum.is_finite())
        .map(Value::Double)
        .ok_or_else(|| "base and value together are out of range".into())
}

/// Returns seconds as microseconds: integers exactly, others to the nearest.
fn micros(field: &str, value: &Value) -> Result<i128, String> {
    match number(field, value)? {
        Value::Integer(seconds) => Ok(i128::from(*seconds) * 1_000_000),
        Value::Unsigned(seconds) => Ok(i128::from(*seconds) * 1_000_000),
        other => {
            let seconds = other.as_f64().expect("a number");
            // Twice the range of a timestamp: enough to be refused, too little to overflow when added.
            let limit = 2 * i128::from(i64::MAX);
            #[expect(clippy::cast_possible_truncation, reason = "the cast saturates")]
            let micros = (seconds * 1e6).round() as i128;
            Ok(micros.clamp(-limit, limit))
        }
    }
}

fn parse_unit(field: &str, unit: &str) -> Result<Unit, String> {
    Unit::new(unit).map_err(|error| format!("`{field}` {error}"))
}

/// Checks a resolved name (section 4.5.1).
fn check_name(name: &str) -> Result<(), String> {
    check_length(name)?;
    let allowed =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b':' | b'.' | b'/' | b'_');
    match name.as_bytes() {
        [] => Err("has no name (`bn` and `n`)".into()),
        [first, ..] if !first.is_ascii_alphanumeric() => {
            Err("the name must begin with a letter or digit".into())
        }
        bytes if !bytes.iter().all(|&byte| allowed(byte)) => {
            Err("the name may hold letters, digits and `-:./_` only".into())
        }
        _ => Ok(()),
    }
}

fn check_length(name: &str) -> Result<(), String> {
    if name.len() <= NAME_BYTES_MAX {
        Ok(())
    } else {
        Err(format!("the name is longer than {NAME_BYTES_MAX} bytes"))
    }
}

/// Reads base64url without padding (RFC 4648, section 5).
fn from_base64url(text: &str) -> Option<Bytes> {
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    for chunk in text.as_bytes().chunks(4) {
        let mut bits = 0_u32;
        for place in 0..4 {
            let six = match chunk.get(place) {
                None => 0,
                Some(byte @ b'A'..=b'Z') => byte - b'A',
                Some(byte @ b'a'..=b'z') => byte - b'a' + 26,
                Some(byte @ b'0'..=b'9') => byte - b'0' + 52,
                Some(b'-') => 62,
                Some(b'_') => 63,
                Some(_) => return None,
            };
            bits = bits << 6 | u32::from(six);
        }
        let [_, decoded @ ..] = bits.to_be_bytes();
        let length = chunk.len() - 1;
        if length == 0 || decoded[length..].iter().any(|&rest| rest != 0) {
            return None;
        }
        bytes.extend_from_slice(&decoded[..length]);
    }
    Some(bytes.into())
}

#[cfg(test)]
mod tests;

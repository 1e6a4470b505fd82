//! Payloads of the formats `columns`, `message` and `json`.

use std::sync::Arc;

use bytes::Bytes;
use tidegate_model::{Status, Timestamp, Value, json};

use super::{DecodeError, Limits, inflate, looks_like_zlib};
use crate::bson::{Element, Elements, check};

/// One reading as the cloud gets it.
#[derive(Clone, Debug, PartialEq)]
pub struct DecodedReading {
    /// The stream, where the payload names it: those of single readings leave it to the topic.
    pub stream: Option<Arc<str>>,
    /// Its number in the stream.
    pub number: i64,
    /// When it was read.
    pub time: Timestamp,
    /// When the stretch without data ended of which it is the record; it began at `time`.
    pub until: Option<Timestamp>,
    /// What was read.
    pub value: Value,
    /// The unit, if known.
    pub unit: Option<Arc<str>>,
    /// How far the value can be trusted.
    pub status: Status,
    /// Whether it waited for an outage to end.
    pub replayed: bool,
}

/// Numbers that will never come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodedGap {
    /// The stream.
    pub stream: Arc<str>,
    /// The first number.
    pub from: i64,
    /// The last number.
    pub to: i64,
    /// Why.
    pub why: Arc<str>,
}

/// What one payload says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// The id of the gateway, if the payload names it.
    pub gateway: Option<Arc<str>>,
    /// The name of the uplink, if the payload names it.
    pub uplink: Option<Arc<str>>,
    /// The epoch.
    pub epoch: i64,
    /// The number of the batch, if it has one.
    pub seq: Option<i64>,
    /// Whether the wall clock was trusted.
    pub clock_trusted: bool,
    /// The readings, stream by stream.
    pub readings: Vec<DecodedReading>,
    /// The gaps.
    pub gaps: Vec<DecodedGap>,
}

/// Reads a payload of any format an uplink publishes, compressed or not.
///
/// What it is, is told by its first bytes; receivers go by content type or topic instead.
///
/// # Errors
///
/// [`DecodeError`] if it is none of them or beyond `limits`.
pub fn decode(payload: &[u8], limits: &Limits) -> Result<Batch, DecodeError> {
    if payload.len() > limits.wire {
        return Err(DecodeError::TooLarge { bytes: payload.len(), limit: limits.wire });
    }
    let inflated;
    let plain = if !looks_like_bson(payload) && looks_like_zlib(payload) {
        inflated = inflate(payload, limits)?;
        inflated.as_slice()
    } else {
        payload
    };
    if plain.trim_ascii_start().first() == Some(&b'{') && !looks_like_bson(plain) {
        return json_row(plain);
    }
    check(plain, limits)?;
    let document = Elements::new(plain);
    let is_row = document.flatten().next().is_some_and(|(_, first)| {
        !matches!(first, Element::Integer(1)) || member(document, "s").is_none()
    });
    if is_row { bson_row(document) } else { columns(document) }
}

fn looks_like_bson(payload: &[u8]) -> bool {
    payload
        .first_chunk()
        .is_some_and(|length| u64::from(u32::from_le_bytes(*length)) == payload.len() as u64)
}

fn member<'a>(document: Elements<'a>, name: &str) -> Option<Element<'a>> {
    document.flatten().find(|(key, _)| *key == name).map(|(_, element)| element)
}

fn columns(document: Elements<'_>) -> Result<Batch, DecodeError> {
    let mut batch = Batch { clock_trusted: true, ..Batch::default() };
    let (mut base, mut per_milli, mut streams) = (0, 1_000, None);
    for element in document {
        match element? {
            ("v", Element::Integer(1)) => {}
            ("v", _) => return Err(DecodeError::content("is not version 1 of the envelope")),
            ("gw", Element::String(id)) => batch.gateway = Some(id.into()),
            ("up", Element::String(name)) => batch.uplink = Some(name.into()),
            ("ep", Element::Integer(epoch)) => batch.epoch = epoch,
            ("seq", Element::Integer(seq)) => batch.seq = Some(seq),
            ("t0", Element::Datetime(millis)) => base = millis,
            ("tu", Element::Integer(0)) => {}
            ("tu", Element::Integer(3)) => per_milli = 1,
            ("ct", Element::Boolean(trusted)) => batch.clock_trusted = trusted,
            ("s", Element::Array(array)) => streams = Some(array),
            ("gaps", Element::Array(array)) => batch.gaps = gaps(array)?,
            // A later version may add members.
            _ => {}
        }
    }
    let streams = streams.ok_or_else(|| DecodeError::content("has no streams `s`"))?;
    let base = Timestamp::from_unix_millis(base).as_unix_micros();
    for stream in streams {
        let (_, Element::Document(stream)) = stream? else {
            return Err(DecodeError::content("a stream in `s` is not a document"));
        };
        read_stream(stream, base, per_milli, &mut batch.readings)?;
    }
    Ok(batch)
}

fn read_stream(
    stream: Elements<'_>,
    base: i64,
    unit_micros: i64,
    readings: &mut Vec<DecodedReading>,
) -> Result<(), DecodeError> {
    let (mut name, mut unit, mut number, mut replayed) = (None, None, None, false);
    let (mut times, mut values, mut statuses) = (None, None, None);
    for element in stream {
        match element? {
            ("n", Element::String(topic)) => name = Some(Arc::from(topic)),
            ("u", Element::String(text)) => unit = Some(Arc::from(text)),
            ("i", Element::Integer(first)) => number = Some(first),
            ("dt", Element::Array(array)) => times = Some(array),
            ("x", Element::Array(array)) => values = Some(array),
            ("q", Element::Array(array)) => statuses = Some(array),
            ("r", Element::Boolean(flag)) => replayed = flag,
            ("k", _) => return Err(DecodeError::content("has packed streams, not columns")),
            _ => {}
        }
    }
    let missing = |name: &str| DecodeError::content(format!("a stream has no `{name}`"));
    let (name, number) = (name.ok_or(missing("n"))?, number.ok_or(missing("i"))?);
    let mut times = times.ok_or(missing("dt"))?;
    let start = readings.len();
    for value in values.ok_or(missing("x"))? {
        let index = i64::try_from(readings.len() - start).expect("limited");
        let Some(Ok((_, Element::Integer(after)))) = times.next() else {
            return Err(DecodeError::content("a stream has fewer times than values"));
        };
        readings.push(DecodedReading {
            stream: Some(Arc::clone(&name)),
            number: number.saturating_add(index),
            time: Timestamp::from_unix_micros(
                base.saturating_add(after.saturating_mul(unit_micros)),
            ),
            until: None,
            value: value?.1.to_value()?,
            unit: unit.clone(),
            status: Status::GOOD,
            replayed,
        });
    }
    if times.next().is_some() {
        return Err(DecodeError::content("a stream has more times than values"));
    }
    let added = &mut readings[start..];
    statuses.map_or(Ok(()), |statuses| read_statuses(statuses, added))
}

fn read_statuses(
    statuses: Elements<'_>,
    readings: &mut [DecodedReading],
) -> Result<(), DecodeError> {
    let wrong = || DecodeError::content("a status in `q` is wrong");
    for status in statuses {
        let (_, Element::Document(status)) = status? else { return Err(wrong()) };
        let (at, code) = (member(status, "at"), member(status, "status"));
        let (Some(Element::Integer(at)), Some(Element::Integer(code))) = (at, code) else {
            return Err(wrong());
        };
        let reading = usize::try_from(at).ok().and_then(|at| readings.get_mut(at)).ok_or(wrong())?;
        reading.status = Status::from_code(u32::try_from(code).map_err(|_| wrong())?);
        if let Some(Element::Datetime(millis)) = member(status, "until") {
            reading.until = Some(Timestamp::from_unix_millis(millis));
        }
    }
    Ok(())
}

fn gaps(array: Elements<'_>) -> Result<Vec<DecodedGap>, DecodeError> {
    let wrong = || DecodeError::content("a gap in `gaps` is wrong");
    let read = |element: Result<(&str, Element<'_>), DecodeError>| {
        let (_, Element::Document(gap)) = element? else { return Err(wrong()) };
        let members =
            (member(gap, "n"), member(gap, "from"), member(gap, "to"), member(gap, "why"));
        match members {
            (
                Some(Element::String(stream)),
                Some(Element::Integer(from)),
                Some(Element::Integer(to)),
                Some(Element::String(why)),
            ) => Ok(DecodedGap { stream: stream.into(), from, to, why: why.into() }),
            _ => Err(wrong()),
        }
    };
    array.map(read).collect()
}

/// The members of a payload with one reading.
#[derive(Default)]
struct Row {
    value: Option<Value>,
    time: Option<Timestamp>,
    until: Option<Timestamp>,
    unit: Option<Arc<str>>,
    status: u32,
    epoch: i64,
    number: Option<i64>,
    clock_untrusted: bool,
}

impl Row {
    fn finish(self) -> Result<Batch, DecodeError> {
        let missing = |name: &str| DecodeError::content(format!("has no `{name}`"));
        let reading = DecodedReading {
            stream: None,
            number: self.number.ok_or(missing("i"))?,
            time: self.time.ok_or(missing("t"))?,
            until: self.until,
            value: self.value.ok_or(missing("v"))?,
            unit: self.unit,
            status: Status::from_code(self.status),
            replayed: false,
        };
        Ok(Batch {
            epoch: self.epoch,
            clock_trusted: !self.clock_untrusted,
            readings: vec![reading],
            ..Batch::default()
        })
    }
}

fn status_code(code: i64) -> Result<u32, DecodeError> {
    u32::try_from(code).map_err(|_| DecodeError::content("the status `q` is wrong"))
}

fn bson_row(document: Elements<'_>) -> Result<Batch, DecodeError> {
    let mut row = Row::default();
    for element in document {
        match element? {
            ("v", element) => row.value = Some(element.to_value()?),
            ("t", Element::Datetime(millis)) => {
                row.time = Some(Timestamp::from_unix_millis(millis))
            }
            ("until", Element::Datetime(millis)) => {
                row.until = Some(Timestamp::from_unix_millis(millis));
            }
            ("u", Element::String(unit)) => row.unit = Some(unit.into()),
            ("q", Element::Integer(code)) => row.status = status_code(code)?,
            ("ep", Element::Integer(epoch)) => row.epoch = epoch,
            ("i", Element::Integer(number)) => row.number = Some(number),
            ("ct", Element::Boolean(trusted)) => row.clock_untrusted = !trusted,
            _ => {}
        }
    }
    row.finish()
}

fn json_row(text: &[u8]) -> Result<Batch, DecodeError> {
    let parsed = json::parse_value(text)
        .map_err(|error| DecodeError::NotJson { problem: error.to_string() })?;
    let Value::Document(document) = parsed else {
        return Err(DecodeError::content("is not an object"));
    };
    let mut row = Row::default();
    let mut is_base64 = false;
    for (name, member) in document.iter() {
        match (&**name, member) {
            ("v", value) => row.value = Some(value.clone()),
            ("t", Value::String(time)) => {
                let time = Timestamp::parse(time);
                row.time = Some(time.map_err(|error| DecodeError::content(error.to_string()))?);
            }
            ("until", Value::String(time)) => {
                let time = Timestamp::parse(time);
                row.until = Some(time.map_err(|error| DecodeError::content(error.to_string()))?);
            }
            ("u", Value::String(unit)) => row.unit = Some(Arc::clone(unit)),
            ("q", Value::Integer(code)) => row.status = status_code(*code)?,
            ("ep", Value::Integer(epoch)) => row.epoch = *epoch,
            ("i", Value::Integer(number)) => row.number = Some(*number),
            ("ct", Value::Boolean(trusted)) => row.clock_untrusted = !trusted,
            ("encoding", Value::String(word)) => is_base64 = &**word == "base64",
            _ => {}
        }
    }
    if is_base64 && let Some(Value::String(text)) = &row.value {
        let bytes: Bytes = crate::payload::from_base64(text)
            .ok_or_else(|| DecodeError::content("the value `v` is not base64"))?;
        row.value = Some(Value::Bytes(bytes));
    }
    row.finish()
}

//! Payloads of every format: what kind one is, and the streams of those with a batch.

use std::sync::Arc;

use tidegate_model::{Status, Timestamp, Value};

use super::{
    DecodeError, Limits, Wrapping, inflate, packed,
    rows::{bson_row, json_row},
};
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
    let plain = match Wrapping::of(payload).filter(|_| !looks_like_bson(payload)) {
        Some(wrapping) => {
            inflated = inflate(payload, wrapping, limits)?;
            inflated.as_slice()
        }
        None => payload,
    };
    if plain.trim_ascii_start().first() == Some(&b'{') && !looks_like_bson(plain) {
        return json_row(plain);
    }
    let elements = check(plain, limits)?;
    let document = Elements::new(plain);
    let is_row = document.flatten().next().is_some_and(|(_, first)| {
        !matches!(first, Element::Integer(1)) || member(document, "s").is_none()
    });
    if is_row {
        return bson_row(document);
    }
    // Readings that are packed into bytes count as elements do.
    columns(document, &mut Budget { left: limits.elements - elements, limit: limits.elements })
}

fn looks_like_bson(payload: &[u8]) -> bool {
    payload
        .first_chunk()
        .is_some_and(|length| u64::from(u32::from_le_bytes(*length)) == payload.len() as u64)
}

fn member<'a>(document: Elements<'a>, name: &str) -> Option<Element<'a>> {
    document.flatten().find(|(key, _)| *key == name).map(|(_, element)| element)
}

/// How many readings may still be unpacked.
#[derive(Debug)]
struct Budget {
    left: usize,
    limit: usize,
}

impl Budget {
    fn take(&mut self, readings: usize) -> Result<(), DecodeError> {
        let left = self.left.checked_sub(readings);
        self.left = left.ok_or(DecodeError::TooManyElements { limit: self.limit })?;
        Ok(())
    }
}

/// What `dt` counts from, and in what.
#[derive(Clone, Copy, Debug)]
struct Base {
    millis: i64,
    in_micros: bool,
}

impl Base {
    fn time(self, after: i64) -> Timestamp {
        let base = Timestamp::from_unix_millis(self.millis).as_unix_micros();
        Timestamp::from_unix_micros(if self.in_micros {
            base.wrapping_add(after)
        } else {
            base.saturating_add(after.saturating_mul(1_000))
        })
    }
}

fn columns(document: Elements<'_>, budget: &mut Budget) -> Result<Batch, DecodeError> {
    let mut batch = Batch { clock_trusted: true, ..Batch::default() };
    let (mut base, mut streams) = (Base { millis: 0, in_micros: false }, None);
    for element in document {
        match element? {
            ("v", Element::Integer(1)) => {}
            ("v", _) => return Err(DecodeError::content("is not version 1 of the envelope")),
            ("gw", Element::String(id)) => batch.gateway = Some(id.into()),
            ("up", Element::String(name)) => batch.uplink = Some(name.into()),
            ("ep", Element::Integer(epoch)) => batch.epoch = epoch,
            ("seq", Element::Integer(seq)) => batch.seq = Some(seq),
            ("t0", Element::Datetime(millis)) => base.millis = millis,
            ("tu", Element::Integer(0)) => base.in_micros = false,
            ("tu", Element::Integer(3)) => base.in_micros = true,
            ("tu", _) => return Err(DecodeError::content("the unit of time `tu` is not known")),
            ("ct", Element::Boolean(trusted)) => batch.clock_trusted = trusted,
            ("s", Element::Array(array)) => streams = Some(array),
            ("gaps", Element::Array(array)) => batch.gaps = gaps(array)?,
            // A later version may add members.
            _ => {}
        }
    }
    let streams = streams.ok_or_else(|| DecodeError::content("has no streams `s`"))?;
    for stream in streams {
        let (_, Element::Document(stream)) = stream? else {
            return Err(DecodeError::content("a stream in `s` is not a document"));
        };
        read_stream(stream, base, budget, &mut batch.readings)?;
    }
    Ok(batch)
}

fn read_stream(
    stream: Elements<'_>,
    base: Base,
    budget: &mut Budget,
    readings: &mut Vec<DecodedReading>,
) -> Result<(), DecodeError> {
    let (mut name, mut unit, mut number, mut replayed) = (None, None, None, false);
    let (mut times, mut values, mut statuses) = (None, None, None);
    let (mut kind, mut exponent) = (None, 0);
    for element in stream {
        match element? {
            ("n", Element::String(topic)) => name = Some(Arc::from(topic)),
            ("u", Element::String(text)) => unit = Some(Arc::from(text)),
            ("i", Element::Integer(first)) => number = Some(first),
            ("dt", element) => times = Some(element),
            ("x", element) => values = Some(element),
            ("k", Element::Integer(packed)) => kind = Some(packed),
            ("e", Element::Integer(places)) => exponent = places,
            ("q", Element::Array(array)) => statuses = Some(array),
            ("r", Element::Boolean(flag)) => replayed = flag,
            _ => {}
        }
    }
    let missing = |name: &str| DecodeError::content(format!("a stream has no `{name}`"));
    let (name, number) = (name.ok_or(missing("n"))?, number.ok_or(missing("i"))?);
    let times = match times.ok_or(missing("dt"))? {
        Element::Array(array) => array_times(array)?,
        Element::Binary(bytes) => {
            let times = packed::times(bytes, budget.left)?;
            budget.take(times.len())?;
            times
        }
        _ => return Err(missing("dt")),
    };
    let values = match (kind, values.ok_or(missing("x"))?) {
        (None, Element::Array(array)) => array.map(|value| value?.1.to_value()).collect(),
        (Some(kind), values) => packed::values(kind, exponent, times.len(), values),
        (None, _) => Err(missing("x")),
    }?;
    if times.len() != values.len() {
        return Err(DecodeError::content("a stream has not as many times as values"));
    }
    let most = i64::try_from(times.len()).ok().and_then(|count| number.checked_add(count));
    most.ok_or_else(|| DecodeError::content("the number `i` of a stream is too large"))?;
    let start = readings.len();
    for ((after, value), number) in times.into_iter().zip(values).zip(number..) {
        readings.push(DecodedReading {
            stream: Some(Arc::clone(&name)),
            number,
            time: base.time(after),
            until: None,
            value,
            unit: unit.clone(),
            status: Status::GOOD,
            replayed,
        });
    }
    let added = &mut readings[start..];
    statuses.map_or(Ok(()), |statuses| read_statuses(statuses, added))
}

fn array_times(array: Elements<'_>) -> Result<Vec<i64>, DecodeError> {
    let time = |element: Result<(&str, Element<'_>), DecodeError>| match element?.1 {
        Element::Integer(after) => Ok(after),
        _ => Err(DecodeError::content("a time in `dt` is not an integer")),
    };
    array.map(time).collect()
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

//! The readings of a batch, by stream.

use std::sync::Arc;

use bytes::Bytes;
use tidegate_model::{Clock, Properties, Reading, Status, Timestamp, Topic, Unit, Value};

use crate::{
    bson::size_bound, encoder::packed::READINGS_PER_ENTRY, ledger::DropReason, streams::StreamId,
};

/// A payload that is published as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawPayload {
    /// The bytes.
    pub bytes: Bytes,
    /// Whether they are the JSON of a typed reading.
    pub is_json: bool,
    /// Whether the message was to be retained.
    pub retain: bool,
    /// What its publisher said beside the payload.
    pub properties: Option<Arc<Properties>>,
}

/// Consecutive readings of one stream with one unit.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// The stream.
    pub stream: StreamId,
    /// Its topic.
    pub topic: Topic,
    /// The unit of all values, if known.
    pub unit: Option<Unit>,
    /// The stream's number of the first reading; the others follow.
    pub first: u64,
    /// The readings' own times.
    pub times: Vec<Timestamp>,
    /// The values, one a time.
    pub values: Vec<Value>,
    /// The statuses that are not good, by index, in order; those of stretches without data as well.
    pub statuses: Vec<(usize, Status)>,
    /// The ends of stretches without data, by index, in order.
    pub ends: Vec<(usize, Timestamp)>,
    /// What is published instead, one a reading; empty but for the format `raw`.
    pub raw: Vec<RawPayload>,
}

impl Column {
    fn new(stream: StreamId, topic: Topic, unit: Option<Unit>, first: u64) -> Self {
        Self {
            stream,
            topic,
            unit,
            first,
            times: Vec::new(),
            values: Vec::new(),
            statuses: Vec::new(),
            ends: Vec::new(),
            raw: Vec::new(),
        }
    }

    fn push(&mut self, reading: &Reading, raw: Option<RawPayload>) {
        self.raw.extend(raw);
        if reading.status != Status::GOOD || reading.until.is_some() {
            self.statuses.push((self.values.len(), reading.status));
        }
        if let Some(until) = reading.until {
            self.ends.push((self.values.len(), until));
        }
        self.times.push(reading.time());
        self.values.push(reading.value.clone());
    }

    /// Returns the readings `from..to` of this column as a column.
    fn slice(&self, from: usize, to: usize) -> Self {
        let statuses = self.statuses.iter().filter(|(at, _)| (from..to).contains(at));
        let ends = self.ends.iter().filter(|(at, _)| (from..to).contains(at));
        Self {
            stream: self.stream,
            topic: self.topic.clone(),
            unit: self.unit.clone(),
            first: self.first + from as u64,
            times: self.times[from..to].to_vec(),
            values: self.values[from..to].to_vec(),
            statuses: statuses.map(|(at, status)| (at - from, *status)).collect(),
            ends: ends.map(|(at, end)| (at - from, *end)).collect(),
            raw: self.raw.get(from..to).unwrap_or_default().to_vec(),
        }
    }

    /// Returns how many readings there are.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Returns whether there is none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Returns when the stretch without data at `index` ended, if there is one.
    pub fn end(&self, index: usize) -> Option<Timestamp> {
        let found = self.ends.binary_search_by_key(&index, |(at, _)| *at).ok()?;
        Some(self.ends[found].1)
    }

    /// Returns the status of the reading at `index`.
    pub fn status(&self, index: usize) -> Status {
        match self.statuses.binary_search_by_key(&index, |(at, _)| *at) {
            Ok(found) => self.statuses[found].1,
            Err(_) => Status::GOOD,
        }
    }
}

/// Numbers of one stream that will never come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The stream.
    pub stream: StreamId,
    /// Its topic.
    pub topic: Topic,
    /// The first number.
    pub from: u64,
    /// The last number.
    pub to: u64,
    /// Why.
    pub why: DropReason,
}

impl Gap {
    /// Returns at most how many bytes the gap takes up in a batch.
    pub(crate) fn size_bound(&self) -> usize {
        64 + self.topic.as_str().len()
    }
}

/// What one payload says: readings, and numbers that will never come.
#[derive(Clone, Debug, PartialEq)]
pub struct Content {
    /// The readings, in the order in which their streams first occurred.
    pub columns: Vec<Column>,
    /// The gaps.
    pub gaps: Vec<Gap>,
    /// Whether the wall clock was trusted when these were stamped.
    pub clock: Clock,
    /// Whether the readings waited for an outage to end.
    pub replayed: bool,
}

impl Content {
    /// Starts without readings.
    pub fn new(clock: Clock, replayed: bool) -> Self {
        Self { columns: Vec::new(), gaps: Vec::new(), clock, replayed }
    }

    /// Returns how many readings there are.
    pub fn readings(&self) -> usize {
        self.columns.iter().map(Column::len).sum()
    }

    /// Returns whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.columns.is_empty() && self.gaps.is_empty()
    }

    /// Adds the reading of `stream` with `number`, and what is published instead. `column` is where the stream's last column is; it is
    /// set if that is another one now.
    #[inline]
    pub(crate) fn push(
        &mut self,
        stream: StreamId,
        topic: &Topic,
        column: &mut usize,
        number: u64,
        reading: &Reading,
        raw: Option<RawPayload>,
    ) {
        if self.starts_column(stream, *column, number, reading) {
            *column = self.columns.len();
            self.columns.push(Column::new(stream, topic.clone(), reading.unit.clone(), number));
        }
        self.columns[*column].push(reading, raw);
    }

    /// Returns whether a reading cannot go on the column.
    #[inline]
    pub(crate) fn starts_column(
        &self,
        stream: StreamId,
        column: usize,
        number: u64,
        reading: &Reading,
    ) -> bool {
        self.columns.get(column).is_none_or(|column| {
            column.stream != stream
                || column.first + column.len() as u64 != number
                || column.unit != reading.unit
        })
    }

    /// Returns whether there is more than one reading or gap.
    pub(crate) fn is_divisible(&self) -> bool {
        self.readings() + self.gaps.len() > 1
    }

    /// Divides what can be divided: the readings, or else a reading and gaps from each other. `None` if nothing can.
    pub(crate) fn divide(&self, pieces: usize) -> Option<Vec<Self>> {
        if self.readings() > 1 {
            return Some(self.split(pieces));
        }
        if !self.is_divisible() {
            return None;
        }
        let empty = || Self::new(self.clock, self.replayed);
        let each = self.gaps.len().div_ceil(if self.columns.is_empty() { 2 } else { 1 });
        let gaps =
            self.gaps.chunks(each.max(1)).map(|gaps| Self { gaps: gaps.to_vec(), ..empty() });
        let reading = Self { columns: self.columns.clone(), ..empty() };
        Some((!reading.is_empty()).then_some(reading).into_iter().chain(gaps).collect())
    }

    /// Divides the readings into at most `parts` contents of about the same number, in order; the
    /// gaps go with the first.
    pub(crate) fn split(&self, parts: usize) -> Vec<Self> {
        let each = self.readings().div_ceil(parts.max(1)).max(1);
        let mut contents = Vec::new();
        let mut current = Self::new(self.clock, self.replayed);
        let mut room = each;
        for column in &self.columns {
            let mut from = 0;
            while from < column.len() {
                let to = column.len().min(from + room);
                current.columns.push(column.slice(from, to));
                room -= to - from;
                from = to;
                if room == 0 {
                    contents.push(std::mem::replace(
                        &mut current,
                        Self::new(self.clock, self.replayed),
                    ));
                    room = each;
                }
            }
        }
        if !current.is_empty() || contents.is_empty() {
            contents.push(current);
        }
        contents[0].gaps.clone_from(&self.gaps);
        contents
    }

    /// Returns the numbers of all readings as gaps.
    pub(crate) fn as_gaps(&self, why: DropReason) -> impl Iterator<Item = Gap> {
        self.columns.iter().map(move |column| Gap {
            stream: column.stream,
            topic: column.topic.clone(),
            from: column.first,
            to: column.first + column.len() as u64 - 1,
            why,
        })
    }
}

/// Returns at most how many bytes a reading adds to a batch in arrays.
pub(crate) fn array_bound(topic: &Topic, reading: &Reading, starts_column: bool) -> usize {
    let head = if starts_column { head_bound(topic, reading) } else { 0 };
    // A type, a key of at most five digits and its end, twice: for `dt` and for `x`.
    head + status_bound(reading) + 2 * 7 + 8 + size_bound(&reading.value)
}

/// Returns at most how many bytes a reading adds to a batch in packed columns.
pub(crate) fn packed_bound(topic: &Topic, reading: &Reading, starts_column: bool) -> usize {
    let head = head_bound(topic, reading);
    // A change of type may start an entry, but not with each reading.
    let heads = head.div_ceil(READINGS_PER_ENTRY) + if starts_column { head } else { 0 };
    let value = match &reading.value {
        // A difference is ten bytes at most.
        Value::Boolean(_) | Value::Integer(_) | Value::Float(_) | Value::Double(_) => 17,
        other => 7 + size_bound(other),
    };
    heads + status_bound(reading) + 10 + value
}

/// Returns at most how many bytes an entry of a stream takes up beside times, values and statuses.
fn head_bound(topic: &Topic, reading: &Reading) -> usize {
    112 + topic.as_str().len() + reading.unit.as_ref().map_or(0, |unit| unit.as_str().len())
}

fn status_bound(reading: &Reading) -> usize {
    let plain = reading.status == Status::GOOD && reading.until.is_none();
    let status = if plain { 0 } else { 40 };
    status + if reading.until.is_some() { 16 } else { 0 }
}

//! Marking readings that are out of the ordinary of their stream.

use std::{sync::Arc, time::Duration};

use tidegate_model::{Document, Reading, Status, Topic, Value};

use crate::{
    thin::sound_number,
    wire::{Input, Malformed, origin, put_double, put_number},
};

/// Marks numbers that are far from what is ordinary for their topic, and tells of the first and of the
/// end.
///
/// Ordinary is a running mean with a running deviation: of all numbers at first, exponentially weighted
/// later, over about `memory` of them; with a season, one pair for each part of it. A number is out of
/// the ordinary if it is further from the mean than `deviations` deviations, and than `least`. It then
/// counts for the mean as if it were as far as the limit, so that the mean follows a lasting change,
/// slowly. Bad readings and other types are not looked at.
///
/// The mark are the limit bits of the status, *high* or *low* (OPC 10000-4, section 7.39.1): severity and
/// code stay. A reading whose source has set limit bits keeps those.
#[derive(Clone, Debug, PartialEq)]
pub struct Anomaly {
    /// How many deviations from the mean are ordinary.
    pub deviations: f64,
    /// What is ordinary in any case, in the unit of the value.
    pub least: f64,
    /// Over how many numbers, about, mean and deviation reach.
    pub memory: u32,
    /// So many numbers, of one part of the season, come before anything is out of the ordinary.
    pub warm_up: u32,
    /// Whether what is ordinary depends on the time.
    pub season: Option<Season>,
    /// Where it is told.
    pub topic: EventTopic,
}

/// A stretch of time that repeats, in parts: hours of a day, say. Aligned to 1970-01-01T00:00Z, and where
/// it is a whole number of weeks, to the Monday before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Season {
    /// How long it is.
    pub period: Duration,
    /// Of how many parts.
    pub parts: u16,
}

/// A topic in which `{topic}` and `{rule}` stand for the reading's topic and the rule's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventTopic(Arc<str>);

impl EventTopic {
    /// Takes a template; what stands in braces otherwise is text.
    pub fn new(template: &str) -> Self {
        Self(template.into())
    }

    /// Fills in a topic; `None` if the result is none.
    pub fn fill(&self, topic: &str, rule: &str) -> Option<Topic> {
        Topic::new(&self.0.replace("{rule}", rule).replace("{topic}", topic)).ok()
    }
}

/// InfoType *DataValue* with the limit bits *high*.
const HIGH: u32 = 0x0600;
/// InfoType *DataValue* with the limit bits *low*.
const LOW: u32 = 0x0500;
/// InfoType and limit bits.
const LIMIT_BITS: u32 = 0x0F00;

const WEEK_MICROS: i64 = 7 * 86_400 * 1_000_000;
/// From the Monday before to 1970-01-01, a Thursday.
const MONDAY_MICROS: i64 = 3 * 86_400 * 1_000_000;

/// Mean and deviation of some numbers.
#[derive(Clone, Copy, Debug, Default)]
struct Ordinary {
    count: u32,
    mean: f64,
    variance: f64,
}

/// What is ordinary for one topic.
#[derive(Clone, Debug)]
pub(crate) struct AnomalyState {
    parts: Vec<(u16, Ordinary)>,
    /// Whether the last number was out of the ordinary.
    is_out: bool,
    /// How many were since it began.
    count: u64,
}

/// What a reading brought.
#[derive(Debug, Default)]
pub(crate) struct Judged {
    /// The reading with its mark, if it has one.
    pub(crate) marked: Option<Reading>,
    /// What is told of it.
    pub(crate) event: Option<(Topic, Reading)>,
}

impl Season {
    /// Returns in which part a time lies.
    fn part(self, micros: i64) -> u16 {
        let period = i64::try_from(self.period.as_micros()).expect("a year at most").max(1);
        let from = if period % WEEK_MICROS == 0 { MONDAY_MICROS } else { 0 };
        let inside = i128::from(micros.saturating_add(from).rem_euclid(period));
        let part = inside * i128::from(self.parts) / i128::from(period);
        u16::try_from(part).expect("below the number of parts")
    }
}

impl Ordinary {
    /// Adds a number: like all others at first, by its weight later.
    fn add(&mut self, number: f64, memory: u32) {
        self.count = self.count.saturating_add(1);
        let weight = f64::from(self.count).recip().max(2.0 / (f64::from(memory) + 1.0));
        let difference = number - self.mean;
        let step = weight * difference;
        self.mean += step;
        // Finch, Incremental calculation of weighted mean and variance (2009), section 9.
        self.variance = (1.0 - weight) * (self.variance + difference * step);
    }

    fn deviation(self) -> f64 {
        self.variance.max(0.0).sqrt()
    }
}

impl AnomalyState {
    pub(crate) fn new() -> Self {
        Self { parts: Vec::new(), is_out: false, count: 0 }
    }

    /// Judges a reading of `topic`, and learns from it.
    pub(crate) fn judge(
        &mut self,
        anomaly: &Anomaly,
        rule: &str,
        topic: &Topic,
        reading: &Reading,
    ) -> Judged {
        let Some(number) = sound_number(reading) else { return Judged::default() };
        let ordinary = self.part(anomaly.season, reading);
        let before = *ordinary;
        let distance = number - before.mean;
        let limit = (anomaly.deviations * before.deviation()).max(anomaly.least);
        let is_out = before.count >= anomaly.warm_up && distance.abs() > limit;
        // Where nothing has ever differed there is no limit to learn.
        let is_cut = is_out && limit > 0.0;
        let learnt = if is_cut { before.mean + limit.copysign(distance) } else { number };
        ordinary.add(learnt, anomaly.memory);
        let begins = is_out && !self.is_out;
        let ends = !is_out && std::mem::take(&mut self.is_out);
        self.is_out = is_out;
        self.count = if begins { 1 } else { self.count.saturating_add(u64::from(is_out)) };
        let event = (begins || ends).then(|| {
            let state = if begins { "begin" } else { "end" };
            let name = anomaly.topic.fill(topic.as_str(), rule)?;
            Some((name, event(state, self.count, rule, topic, reading, before)))
        });
        Judged { marked: is_out.then(|| mark(reading, distance)).flatten(), event: event.flatten() }
    }

    fn part(&mut self, season: Option<Season>, reading: &Reading) -> &mut Ordinary {
        let part = season.map_or(0, |season| season.part(reading.time().as_unix_micros()));
        let at = self.parts.partition_point(|(index, _)| *index < part);
        if self.parts.get(at).is_none_or(|(index, _)| *index != part) {
            self.parts.insert(at, (part, Ordinary::default()));
        }
        &mut self.parts[at].1
    }

    /// Returns about how many bytes this holds outside itself.
    pub(crate) fn bytes(&self) -> usize {
        self.parts.len() * size_of::<(u16, Ordinary)>()
    }

    pub(crate) fn encode(&self, buffer: &mut Vec<u8>) {
        buffer.push(u8::from(self.is_out));
        put_number(buffer, self.count);
        put_number(buffer, self.parts.len() as u64);
        for (part, ordinary) in &self.parts {
            put_number(buffer, (*part).into());
            put_number(buffer, ordinary.count.into());
            put_double(buffer, ordinary.mean);
            put_double(buffer, ordinary.variance);
        }
    }

    pub(crate) fn decode(input: &mut Input<'_>) -> Result<Self, Malformed> {
        let is_out = input.byte()? != 0;
        let count = input.number()?;
        let mut parts = Vec::new();
        for _ in 0..input.number()? {
            let part = u16::try_from(input.number()?).map_err(|_| Malformed)?;
            let count = u32::try_from(input.number()?).map_err(|_| Malformed)?;
            let ordinary = Ordinary { count, mean: input.double()?, variance: input.double()? };
            parts.push((part, ordinary));
        }
        Ok(Self { parts, is_out, count })
    }
}

/// Sets the limit bits of a reading, unless its source has.
fn mark(reading: &Reading, distance: f64) -> Option<Reading> {
    let code = reading.status.code();
    let bits = if distance > 0.0 { HIGH } else { LOW };
    (code & LIMIT_BITS == 0)
        .then(|| Reading { status: Status::from_code(code | bits), ..reading.clone() })
}

fn event(
    state: &str,
    count: u64,
    rule: &str,
    topic: &Topic,
    reading: &Reading,
    ordinary: Ordinary,
) -> Reading {
    let members = vec![
        ("state".into(), Value::string(state)),
        ("rule".into(), Value::string(rule)),
        ("topic".into(), Value::string(topic.as_str())),
        ("value".into(), reading.value.clone()),
        ("mean".into(), Value::Double(ordinary.mean)),
        ("deviation".into(), Value::Double(ordinary.deviation())),
        ("count".into(), Value::unsigned(count)),
    ];
    let document = Document::new(members).expect("the names differ");
    Reading {
        source_time: Some(reading.time()),
        clock: reading.clock,
        unit: None,
        ..Reading::new(Value::Document(Arc::new(document)), reading.arrival, origin())
    }
}

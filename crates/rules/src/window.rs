//! Figures of stretches of time, tumbling or sliding.

use std::{collections::VecDeque, fmt, time::Duration};

use tidegate_model::{Quality, Reading, Timestamp, Topic};

use crate::{
    accumulate::Accumulator,
    wire::{Input, Malformed, put_number, put_signed, put_time},
};

/// Sends figures of stretches of time in place of the readings.
///
/// Windows are aligned to 1970-01-01T00:00Z and go by the readings' own times. A window ends when a
/// reading of its topic comes that is later than its end by the lateness, or, when none comes, as much
/// later by the wall clock, by which the topic's newest reading is as old as it was on arrival. A
/// reading whose windows have begun to end is late. Readings that are bad, and stretches without
/// data, are no part of windows and pass. A change of unit ends the windows under way.
#[derive(Clone, Debug)]
pub struct Window {
    /// How long a window is: a multiple of `every`.
    pub length: Duration,
    /// How far windows begin from each other; the same as `length` where they tumble.
    pub every: Duration,
    /// How long a window waits for late readings.
    pub lateness: Duration,
    /// What is sent of each window.
    pub functions: Vec<Function>,
}

/// A figure of a window; each is a stream of its own, of the topic with this name below. Complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// The smallest number.
    Min,
    /// The largest number.
    Max,
    /// The mean of the numbers, a double.
    Mean,
    /// The value with the latest time, of any type.
    Last,
    /// How many readings there were, of any type, without unit.
    Count,
    /// The sample standard deviation (n - 1); none for a single number.
    Deviation,
    /// A quantile, within 1 % of a number of its rank.
    Quantile(Quantile),
}

/// Which quantile, in hundredths of a percent: between p0.01 and p99.99.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quantile(u16);

impl Quantile {
    /// Returns it as a part of one.
    pub(crate) fn part(self) -> f64 {
        f64::from(self.0) / 10_000.0
    }
}

impl Function {
    /// Reads a name: `min`, `max`, `mean`, `last`, `count`, `deviation`, or `p` and a percentage.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "min" => Self::Min,
            "max" => Self::Max,
            "mean" => Self::Mean,
            "last" => Self::Last,
            "count" => Self::Count,
            "deviation" => Self::Deviation,
            _ => Self::Quantile(Quantile::parse(name.strip_prefix('p')?)?),
        })
    }
}

impl Quantile {
    fn parse(percent: &str) -> Option<Self> {
        let (whole, part) = percent.split_once('.').unwrap_or((percent, "0"));
        let digits = |text: &str, most: usize| {
            let plain = text.len() <= most && text.bytes().all(|byte| byte.is_ascii_digit());
            if plain { text.parse::<u16>().ok() } else { None }
        };
        let scale = if part.len() == 1 { 10 } else { 1 };
        let hundredths = digits(whole, 2)? * 100 + digits(part, 2)? * scale;
        (hundredths > 0).then_some(Self(hundredths))
    }
}

impl fmt::Display for Function {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Min => formatter.write_str("min"),
            Self::Max => formatter.write_str("max"),
            Self::Mean => formatter.write_str("mean"),
            Self::Last => formatter.write_str("last"),
            Self::Count => formatter.write_str("count"),
            Self::Deviation => formatter.write_str("deviation"),
            Self::Quantile(Quantile(hundredths)) => {
                write!(formatter, "p{}", f64::from(*hundredths) / 100.0)
            }
        }
    }
}

/// The longest name of a function, with the slash before it.
const SUFFIX_BYTES_MAX: usize = "/deviation".len();
/// The longest topic.
const TOPIC_BYTES_MAX: usize = 65_535;

impl Window {
    fn every_micros(&self) -> i64 {
        i64::try_from(self.every.as_micros()).expect("a week at most").max(1)
    }

    fn lateness_micros(&self) -> i64 {
        i64::try_from(self.lateness.as_micros()).expect("a week at most")
    }

    fn length_micros(&self) -> i64 {
        i64::try_from(self.length.as_micros()).expect("a week at most")
    }

    /// Returns of how many panes a window is made.
    fn panes(&self) -> i64 {
        (self.length_micros() / self.every_micros()).max(1)
    }

    fn has_sketch(&self) -> bool {
        self.functions.iter().any(|function| matches!(function, Function::Quantile(_)))
    }
}

/// What became of a reading that came to a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is a part of windows now.
    Held,
    /// Its windows have ended.
    Late,
    /// It is no part of any window.
    Passed,
}

/// Readings of one stretch of `every`.
#[derive(Clone, Debug)]
struct Pane {
    /// Which, counted from 1970.
    index: i64,
    sums: Accumulator,
}

/// The windows of one topic that are under way.
#[derive(Clone, Debug)]
pub(crate) struct WindowState {
    /// By index.
    panes: VecDeque<Pane>,
    /// Windows whose last pane is before this one have ended.
    open_from: i64,
    /// The latest time of a reading.
    newest: i64,
    /// How long after its time the latest one arrived.
    delay: i64,
    /// When the first of the last readings arrived, if all of them were late.
    late_since: Option<Timestamp>,
}

/// What came of a call: readings to be sent, and how many held ones are final.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    pub(crate) made: Vec<(Topic, Reading)>,
    pub(crate) released: u64,
}

impl WindowState {
    pub(crate) fn new() -> Self {
        Self {
            panes: VecDeque::new(),
            open_from: i64::MIN,
            newest: i64::MIN,
            delay: 0,
            late_since: None,
        }
    }

    /// Takes a reading of `topic`; ended windows go to `ended`.
    pub(crate) fn take(
        &mut self,
        window: &Window,
        topic: &Topic,
        reading: &Reading,
        ended: &mut Ended,
    ) -> Taken {
        let too_long = topic.as_str().len() + SUFFIX_BYTES_MAX > TOPIC_BYTES_MAX;
        if reading.status.quality() == Quality::Bad || reading.until.is_some() || too_long {
            return Taken::Passed;
        }
        let time = reading.time().as_unix_micros();
        let index = time.div_euclid(window.every_micros());
        if index < self.open_from && !self.was_set_back(window, topic, reading, ended) {
            return Taken::Late;
        }
        self.late_since = None;
        if self.panes.iter().any(|pane| pane.sums.unit != reading.unit) {
            let open_from = self.open_from;
            self.end_all(window, topic, ended);
            self.open_from = open_from;
        }
        self.add(window, index, reading);
        if time >= self.newest {
            self.newest = time;
            self.delay = reading.arrival.as_unix_micros().saturating_sub(time);
            let over = time.saturating_sub(window.lateness_micros());
            self.end_before(window, topic, over.div_euclid(window.every_micros()), ended);
        }
        Taken::Held
    }

    /// Returns when a window ends if no reading comes.
    pub(crate) fn deadline(&self, window: &Window) -> Option<Timestamp> {
        let first = self.panes.front()?.index.max(self.open_from);
        let end = first.saturating_add(1).saturating_mul(window.every_micros());
        let due = end.saturating_add(window.lateness_micros()).saturating_add(self.delay);
        Some(Timestamp::from_unix_micros(due))
    }

    /// Ends the windows that are over by the wall clock.
    pub(crate) fn advance(
        &mut self,
        window: &Window,
        topic: &Topic,
        wall: Timestamp,
        ended: &mut Ended,
    ) {
        let over = wall.as_unix_micros().saturating_sub(self.delay);
        let over = over.saturating_sub(window.lateness_micros());
        self.end_before(window, topic, over.div_euclid(window.every_micros()), ended);
    }

    /// Ends all windows that hold readings.
    pub(crate) fn end_all(&mut self, window: &Window, topic: &Topic, ended: &mut Ended) {
        let Some(last) = self.panes.back().map(|pane| pane.index) else { return };
        self.end_before(window, topic, last.saturating_add(window.panes()), ended);
    }

    /// Returns how many readings are held.
    pub(crate) fn held(&self) -> u64 {
        self.panes.iter().map(|pane| pane.sums.count).sum()
    }

    /// Returns about how many bytes this holds outside itself.
    pub(crate) fn bytes(&self) -> usize {
        self.panes.iter().map(|pane| size_of::<Pane>() + pane.sums.bytes()).sum()
    }

    /// Returns whether readings have been late for as long as a window: then a clock was set back, and
    /// windows begin anew.
    fn was_set_back(
        &mut self,
        window: &Window,
        topic: &Topic,
        reading: &Reading,
        ended: &mut Ended,
    ) -> bool {
        let since = *self.late_since.get_or_insert(reading.arrival);
        if reading.arrival.saturating_since(since) < window.length {
            return false;
        }
        self.end_all(window, topic, ended);
        *self = Self::new();
        true
    }

    fn add(&mut self, window: &Window, index: i64, reading: &Reading) {
        let at = self.panes.partition_point(|pane| pane.index < index);
        match self.panes.get_mut(at) {
            Some(pane) if pane.index == index => pane.sums.add(reading),
            _ => {
                let sums = Accumulator::of(reading, window.has_sketch());
                self.panes.insert(at, Pane { index, sums });
            }
        }
    }

    /// Ends the windows whose last pane is before `limit`.
    fn end_before(&mut self, window: &Window, topic: &Topic, limit: i64, ended: &mut Ended) {
        while let Some(first) = self.panes.front().map(|pane| pane.index) {
            let last = first.max(self.open_from);
            if last >= limit {
                break;
            }
            self.send(window, topic, last, ended);
            self.open_from = last + 1;
            // What is in the next window stays.
            let keep_from = last + 2 - window.panes();
            while let Some(gone) = self.panes.pop_front_if(|pane| pane.index < keep_from) {
                ended.released += gone.sums.count;
            }
        }
        self.open_from = self.open_from.max(limit);
    }

    /// Makes the figures of the window whose last pane is `last`.
    fn send(&self, window: &Window, topic: &Topic, last: i64, ended: &mut Ended) {
        let from = last.saturating_sub(window.panes());
        let mut inside = self.panes.iter().filter(|pane| pane.index > from && pane.index <= last);
        let Some(first) = inside.next() else { return };
        let mut merged = None;
        for pane in inside {
            merged.get_or_insert_with(|| first.sums.clone()).merge(&pane.sums);
        }
        let sums = merged.as_ref().unwrap_or(&first.sums);
        let end = last.saturating_add(1).saturating_mul(window.every_micros());
        for function in &window.functions {
            let reading = sums.figure(*function, Timestamp::from_unix_micros(end));
            let name = Topic::new(&format!("{topic}/{function}"));
            ended.made.extend(name.ok().zip(reading));
        }
    }

    pub(crate) fn encode(&self, buffer: &mut Vec<u8>) {
        put_number(buffer, self.panes.len() as u64);
        for pane in &self.panes {
            put_signed(buffer, pane.index);
            pane.sums.encode(buffer);
        }
        for number in [self.open_from, self.newest, self.delay] {
            put_signed(buffer, number);
        }
        buffer.push(u8::from(self.late_since.is_some()));
        if let Some(since) = self.late_since {
            put_time(buffer, since);
        }
    }

    pub(crate) fn decode(input: &mut Input<'_>) -> Result<Self, Malformed> {
        let mut state = Self::new();
        for _ in 0..input.number()? {
            let index = input.signed()?;
            state.panes.push_back(Pane { index, sums: Accumulator::decode(input)? });
        }
        state.open_from = input.signed()?;
        state.newest = input.signed()?;
        state.delay = input.signed()?;
        if input.byte()? != 0 {
            state.late_since = Some(input.time()?);
        }
        Ok(state)
    }
}

//! Sending only the corners of a line that stays near all readings.

use std::time::Duration;

use tidegate_model::{Reading, Status, Timestamp, Unit};

use crate::{
    thin::sound_number,
    wire::{Input, Malformed, origin, put_double, put_number, put_reading, put_time, put_unit},
};

/// Sends, in place of readings that lie near a straight line, the ends of that line.
///
/// Of readings in the order of their times, every one that is held back lies within `bound` of the
/// straight line between the two sent ones around it. (As first published, E. H. Bristol 1990, the door may err by twice that: here the line to
/// the reading that is sent, not any line through the door, must fit.) Only what is sent after a
/// reading can show this, so readings wait: `longest` at most. Readings that are no numbers, or bad, a
/// change of status or unit, and readings that come out of their order in time pass, after what waits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SwingingDoor {
    /// How far a reading may be from the line, in its unit.
    pub bound: f64,
    /// How far apart, by their own times, the ends of a line are at most; also how long, by the wall clock,
    /// a reading waits for another.
    pub longest: Duration,
}

/// Where the line begins: the last reading that was sent.
#[derive(Clone, Debug)]
struct Anchor {
    time: Timestamp,
    number: f64,
    status: Status,
    unit: Option<Unit>,
}

/// The line of one topic.
#[derive(Clone, Debug)]
pub(crate) struct DoorState {
    anchor: Option<Anchor>,
    /// The newest reading that is held back: the end of the line, if it ends here.
    candidate: Option<Reading>,
    /// How many are held back, the candidate included.
    held: u64,
    /// When the first of them arrived.
    since: Timestamp,
    /// Between which slopes, a microsecond, the line may lie.
    low: f64,
    high: f64,
}

/// What becomes of a reading at the door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Swung {
    Held,
    Passed,
}

/// What is sent before it, and how many held ones are final with that.
#[derive(Debug, Default)]
pub(crate) struct Corner {
    pub(crate) made: Option<Reading>,
    pub(crate) released: u64,
}

impl DoorState {
    pub(crate) fn new() -> Self {
        Self {
            anchor: None,
            candidate: None,
            held: 0,
            since: Timestamp::from_unix_micros(0),
            low: f64::NEG_INFINITY,
            high: f64::INFINITY,
        }
    }

    /// Takes a reading; a corner that it makes comes before it.
    pub(crate) fn take(&mut self, door: &SwingingDoor, reading: &Reading) -> (Swung, Corner) {
        let Some(number) = sound_number(reading) else {
            let corner = self.end();
            self.anchor = None;
            return (Swung::Passed, corner);
        };
        let fits = self.anchor.as_ref().is_some_and(|anchor| {
            anchor.status == reading.status
                && anchor.unit == reading.unit
                && reading.time() > anchor.time
        });
        if !fits {
            let corner = self.end();
            self.anchor = Some(Anchor::of(reading, number));
            return (Swung::Passed, corner);
        }
        if self.candidate.as_ref().is_some_and(|candidate| reading.time() <= candidate.time()) {
            // Out of order, between what was sent and what waits: it is sent itself.
            return (Swung::Passed, Corner::default());
        }
        let mut corner = Corner::default();
        let slope = self.slope(reading, number);
        let is_long = self.span(reading) > door.longest;
        if self.candidate.is_some() && (is_long || !(self.low <= slope && slope <= self.high)) {
            corner = self.end();
        }
        if self.candidate.is_none() && self.span(reading) > door.longest {
            self.anchor = Some(Anchor::of(reading, number));
            return (Swung::Passed, corner);
        }
        self.hold(door, reading, number);
        (Swung::Held, corner)
    }

    /// Returns when what waits is sent if no reading comes.
    pub(crate) fn deadline(&self, door: &SwingingDoor) -> Option<Timestamp> {
        self.candidate.as_ref().map(|_| self.since.saturating_add(door.longest))
    }

    /// Sends what waits if it has waited for long enough.
    pub(crate) fn advance(&mut self, door: &SwingingDoor, wall: Timestamp) -> Corner {
        match self.deadline(door) {
            Some(due) if due <= wall => self.end(),
            _ => Corner::default(),
        }
    }

    /// Sends what waits; the line goes on from there.
    pub(crate) fn end(&mut self) -> Corner {
        let Some(mut candidate) = self.candidate.take() else { return Corner::default() };
        candidate.origin = origin();
        let number = sound_number(&candidate).expect("only numbers are held back");
        self.anchor = Some(Anchor::of(&candidate, number));
        (self.low, self.high) = (f64::NEG_INFINITY, f64::INFINITY);
        Corner { made: Some(candidate), released: std::mem::take(&mut self.held) }
    }

    /// Returns how many readings are held.
    pub(crate) fn held(&self) -> u64 {
        self.held
    }

    fn hold(&mut self, door: &SwingingDoor, reading: &Reading, number: f64) {
        let Some(anchor) = &self.anchor else { return };
        let micros = micros_between(anchor.time, reading.time());
        let difference = number - anchor.number;
        self.low = self.low.max((difference - door.bound) / micros);
        self.high = self.high.min((difference + door.bound) / micros);
        if self.held == 0 {
            self.since = reading.arrival;
        }
        self.held += 1;
        self.candidate = Some(reading.clone());
    }

    fn slope(&self, reading: &Reading, number: f64) -> f64 {
        let Some(anchor) = &self.anchor else { return 0.0 };
        (number - anchor.number) / micros_between(anchor.time, reading.time())
    }

    fn span(&self, reading: &Reading) -> Duration {
        let Some(anchor) = &self.anchor else { return Duration::ZERO };
        reading.time().saturating_since(anchor.time)
    }

    pub(crate) fn encode(&self, buffer: &mut Vec<u8>) {
        buffer.push(u8::from(self.anchor.is_some()) | u8::from(self.candidate.is_some()) << 1);
        if let Some(anchor) = &self.anchor {
            put_time(buffer, anchor.time);
            put_double(buffer, anchor.number);
            buffer.extend_from_slice(&anchor.status.code().to_le_bytes());
            put_unit(buffer, anchor.unit.as_ref());
        }
        if let Some(candidate) = &self.candidate {
            put_reading(buffer, candidate);
        }
        put_number(buffer, self.held);
        put_time(buffer, self.since);
        put_double(buffer, self.low);
        put_double(buffer, self.high);
    }

    pub(crate) fn decode(input: &mut Input<'_>) -> Result<Self, Malformed> {
        let mut state = Self::new();
        let flags = input.byte()?;
        if flags & 1 != 0 {
            state.anchor = Some(Anchor {
                time: input.time()?,
                number: input.double()?,
                status: input.status()?,
                unit: input.unit()?,
            });
        }
        if flags & 2 != 0 {
            let candidate = input.reading()?;
            sound_number(&candidate).ok_or(Malformed)?;
            state.candidate = Some(candidate);
        }
        state.held = input.number()?;
        state.since = input.time()?;
        state.low = input.double()?;
        state.high = input.double()?;
        Ok(state)
    }
}

impl Anchor {
    fn of(reading: &Reading, number: f64) -> Self {
        Self { time: reading.time(), number, status: reading.status, unit: reading.unit.clone() }
    }
}

#[expect(clippy::cast_precision_loss, reason = "stretches of time are far below 2^52 microseconds")]
fn micros_between(from: Timestamp, to: Timestamp) -> f64 {
    to.as_unix_micros().saturating_sub(from.as_unix_micros()) as f64
}

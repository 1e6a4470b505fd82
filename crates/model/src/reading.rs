//! One value of one point at one moment.

use crate::{AdapterName, Status, Timestamp, Unit, Value};

/// Whether the wall clock was known to be right when a reading arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Clock {
    /// The time service vouches for the clock.
    #[default]
    Trusted,
    /// Nobody does; a source time, if there is one, is still the source's.
    Untrusted,
}

/// Where a reading came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The adapter that handed it in; `mqtt` for what a client published.
    pub adapter: AdapterName,
}

/// One value of one point, with its times, its quality and its unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// What was read; [`Value::Null`] if the source gave no value.
    pub value: Value,
    /// When the source produced the value, if it said so.
    pub source_time: Option<Timestamp>,
    /// When the gateway received it.
    pub arrival: Timestamp,
    /// Set in the record of a stretch without data: when the stretch ended. It began at [`time`](Self::time), the
    /// value is [`Value::Null`], and the status says why.
    pub until: Option<Timestamp>,
    /// Whether the wall clock of `arrival` was trusted.
    pub clock: Clock,
    /// How far the value can be trusted.
    pub status: Status,
    /// The unit of the value, if known.
    pub unit: Option<Unit>,
    /// Where it came in.
    pub origin: Origin,
}

impl Reading {
    /// Makes a good reading without source time and unit.
    pub fn new(value: Value, arrival: Timestamp, origin: Origin) -> Self {
        Self {
            value,
            source_time: None,
            arrival,
            until: None,
            clock: Clock::Trusted,
            status: Status::GOOD,
            unit: None,
            origin,
        }
    }

    /// Returns the source's time if it gave one, else the time of arrival.
    #[inline]
    pub fn time(&self) -> Timestamp {
        self.source_time.unwrap_or(self.arrival)
    }
}

//! Readings for a connection that writes them in its own way.

use tidegate_model::{Clock, Status, Timestamp, Unit, Value};

use super::rows::Row;

/// A reading with its number, for a connection that makes its own payload of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypedReading {
    /// The value.
    pub value: Value,
    /// The reading's own time.
    pub time: Timestamp,
    /// The end of a stretch without data.
    pub until: Option<Timestamp>,
    /// The unit, if known.
    pub unit: Option<Unit>,
    /// How good the value is.
    pub status: Status,
    /// The epoch in which the number was given.
    pub epoch: i64,
    /// The number in its stream, which is that of its topic.
    pub number: u64,
    /// Whether the wall clock was trusted when it was stamped.
    pub clock: Clock,
    /// Whether it waited for an outage to end.
    pub replayed: bool,
}

impl Row<'_> {
    pub(super) fn typed(&self, replayed: bool) -> TypedReading {
        TypedReading {
            value: self.value().clone(),
            time: self.column.times[self.index],
            until: self.column.end(self.index),
            unit: self.column.unit.clone(),
            status: self.column.status(self.index),
            epoch: self.epoch,
            number: self.number(),
            clock: self.clock,
            replayed,
        }
    }
}

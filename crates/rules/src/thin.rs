//! Conditions under which a reading says enough new to go out.

use std::time::Duration;

use tidegate_expression::{Expression, Inputs};
use tidegate_model::{Captures, Quality, Reading, Topic, Value};

use crate::memory::Last;

/// Holds back readings that say too little new.
///
/// A reading passes if it meets every condition that is set. All but `when` compare with the last
/// reading of the topic that went out, as it stood at this rule; after a change of status all of them
/// are met.
#[derive(Clone, Debug, Default)]
pub struct Thinning {
    /// Must hold. An expression that has no result for a reading does not hold.
    pub when: Option<Expression>,
    /// Numbers must differ by more than this. No other type is concerned, nor a number whose unit has
    /// changed.
    pub deadband: Option<Deadband>,
    /// Readings must be at least this far apart, by their own times. A step back by as much also
    /// passes: then a clock was set.
    pub min_interval: Option<Duration>,
    /// Value or unit must differ.
    pub change_only: bool,
    /// A reading that comes so long after the last that went out meets `deadband` and `change_only`.
    pub heartbeat: Option<Duration>,
}

/// How much numbers must differ. Complete.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Deadband {
    /// By more than so much, in the unit of the value.
    Absolute(f64),
    /// By more than so many hundredths of the size of the last number that went out.
    Percent(f64),
}

impl Thinning {
    /// Returns whether what must hold whatever went out before does.
    pub(crate) fn admits(&self, topic: &Topic, reading: &Reading) -> bool {
        let Some(when) = &self.when else { return true };
        when.holds(&Inputs::of_record(topic, reading, &Captures::none())) == Ok(Some(true))
    }

    /// Returns whether the last reading that went out matters.
    pub(crate) fn compares(&self) -> bool {
        self.deadband.is_some() || self.min_interval.is_some() || self.change_only
    }

    /// Returns whether `reading` passes after `last`.
    pub(crate) fn passes(&self, reading: &Reading, last: &Last) -> bool {
        if reading.status != last.status {
            return true;
        }
        let micros = reading.time().as_unix_micros().abs_diff(last.time.as_unix_micros());
        if self.min_interval.is_some_and(|least| u128::from(micros) < least.as_micros()) {
            return false;
        }
        let is_due = |every: Duration| u128::from(micros) >= every.as_micros();
        let same_unit = reading.unit == last.unit;
        if !same_unit || self.heartbeat.is_some_and(is_due) {
            return true;
        }
        let within = |deadband: Deadband| deadband.holds(&reading.value, &last.value);
        !(self.deadband.is_some_and(within) || (self.change_only && reading.value == last.value))
    }
}

impl Deadband {
    /// Returns whether two numbers are too near to each other, as OPC UA has it (OPC 10000-4, 7.22.2).
    fn holds(self, value: &Value, last: &Value) -> bool {
        let width = match self {
            Self::Absolute(width) => width,
            Self::Percent(percent) => {
                last.as_f64().map_or(0.0, |last| last.abs() * percent / 100.0)
            }
        };
        distance(value, last).is_some_and(|distance| distance <= width)
    }
}

/// Returns how far apart two numbers are; `None` if one is no number.
fn distance(value: &Value, last: &Value) -> Option<f64> {
    match (as_integer(value), as_integer(last)) {
        #[expect(
            clippy::cast_precision_loss,
            reason = "the difference, not the numbers, is rounded"
        )]
        (Some(value), Some(last)) => Some((value - last).abs() as f64),
        _ => match (value.as_f64(), last.as_f64()) {
            // The same infinity or not-a-number again.
            (Some(_), Some(_)) if value == last => Some(0.0),
            (Some(value), Some(last)) => Some((value - last).abs()),
            _ => None,
        },
    }
}

fn as_integer(value: &Value) -> Option<i128> {
    match value {
        Value::Integer(number) => Some(i128::from(*number)),
        Value::Unsigned(number) => Some(i128::from(*number)),
        _ => None,
    }
}

/// Returns the number of a reading that may be reckoned with: not bad, finite, no stretch without data.
pub(crate) fn sound_number(reading: &Reading) -> Option<f64> {
    let is_sound = reading.status.quality() != Quality::Bad && reading.until.is_none();
    reading.value.as_f64().filter(|number| is_sound && number.is_finite())
}

//! One rule as configured.

use std::{fmt, sync::Arc, time::Duration};

use thiserror::Error;
use tidegate_model::{Reading, Topic, TopicFilter, Value};

use crate::memory::Last;

/// The name of a rule, as its counter shows it: letters, digits, `-`, `_`, `.`; 1 to 64 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleName(Arc<str>);

/// A text is not the name of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("a rule's name has 1 to 64 letters, digits, `-`, `_`, `.`")]
pub struct RuleNameError;

impl RuleName {
    /// Checks `text` and takes it as a name.
    ///
    /// # Errors
    ///
    /// [`RuleNameError`] if it is not one.
    pub fn new(text: &str) -> Result<Self, RuleNameError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if text.is_empty() || text.len() > 64 || !text.bytes().all(allowed) {
            return Err(RuleNameError);
        }
        Ok(Self(text.into()))
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the name as shared text.
    pub fn to_shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

impl fmt::Display for RuleName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Holds back readings of some topics that say too little new.
///
/// Each condition compares with the last reading of the topic that went out. A reading passes the
/// rule if it meets every condition that is set. A change of status always passes.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Under which name held-back readings are counted.
    pub name: RuleName,
    /// The topics it is for.
    pub topics: Vec<TopicFilter>,
    /// Numbers must differ by more than this, in the unit of the value. No other type is concerned,
    /// nor a number whose unit has changed.
    pub deadband: Option<f64>,
    /// Readings must be at least this far apart, by their own times. A step back by as much also
    /// passes: then a clock was set.
    pub min_interval: Option<Duration>,
    /// Value or unit must differ.
    pub change_only: bool,
}

impl Rule {
    /// Returns whether the rule is for `topic`.
    pub fn concerns(&self, topic: &Topic) -> bool {
        self.topics.iter().any(|filter| filter.matches(topic))
    }

    /// Returns whether the rule lets `reading` pass after `last`.
    pub(crate) fn passes(&self, reading: &Reading, last: &Last) -> bool {
        if reading.status != last.status {
            return true;
        }
        let same_unit = reading.unit == last.unit;
        let within = |deadband| same_unit && is_within(deadband, &reading.value, &last.value);
        if self.deadband.is_some_and(within) {
            return false;
        }
        let micros = reading.time().as_unix_micros().abs_diff(last.time.as_unix_micros());
        if self.min_interval.is_some_and(|least| u128::from(micros) < least.as_micros()) {
            return false;
        }
        !(self.change_only && same_unit && reading.value == last.value)
    }
}

/// Returns whether two numbers are at most `deadband` apart, as OPC UA has it (OPC 10000-4, 7.22.2).
fn is_within(deadband: f64, value: &Value, last: &Value) -> bool {
    let distance = match (as_integer(value), as_integer(last)) {
        #[expect(
            clippy::cast_precision_loss,
            reason = "the difference, not the numbers, is rounded"
        )]
        (Some(value), Some(last)) => (value - last).abs() as f64,
        _ => match (value.as_f64(), last.as_f64()) {
            // The same infinity or not-a-number again.
            (Some(_), Some(_)) if value == last => 0.0,
            (Some(value), Some(last)) => (value - last).abs(),
            _ => return false,
        },
    };
    distance <= deadband
}

fn as_integer(value: &Value) -> Option<i128> {
    match value {
        Value::Integer(number) => Some(i128::from(*number)),
        Value::Unsigned(number) => Some(i128::from(*number)),
        _ => None,
    }
}

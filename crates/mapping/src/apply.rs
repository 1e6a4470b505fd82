//! From a reading to a message.

use thiserror::Error;
use tidegate_model::{
    Captures, Presentation, Qos, Quality, Reading, Status, Topic, TypeMismatch, Value,
};

use crate::{Entry, RenderError};
use tidegate_expression::{EvaluationError, Inputs};

/// What an entry makes of a reading. Complete.
#[derive(Clone, Debug, PartialEq)]
pub enum Applied {
    /// A message is to be published.
    Message {
        /// Where.
        topic: Topic,
        /// What it says.
        reading: Reading,
        /// How it is shown to those who want bytes.
        presentation: Presentation,
        /// The quality of service, if the entry sets one.
        qos: Option<Qos>,
        /// Whether the message is retained, if the entry says so.
        retain: Option<bool>,
        /// Why the quality was made bad here, for a counter and a line of log.
        fault: Option<Box<Fault>>,
    },
    /// The entry leaves the reading out, which is to be counted.
    LeftOut(LeftOut),
    /// The reading does not fit the entry: its sender is told, or it is counted.
    Refused(Box<Fault>),
}

/// Why a reading was left out. Complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeftOut {
    /// The condition of `when` does not hold, or has no value.
    When,
    /// The condition of `when` could not be decided for a reading nobody waits for.
    Undecided(EvaluationError),
    /// The result of `transform` is no value, though the reading had one.
    NoValue,
}

impl LeftOut {
    /// Returns the word under which it is counted.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::When => "when",
            Self::Undecided(_) => "when-undecided",
            Self::NoValue => "no-value",
        }
    }
}

/// Why a reading does not fit its entry.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Fault {
    /// The value is not of the type that `type` asks for.
    #[error(transparent)]
    Type(#[from] TypeMismatch),
    /// `transform` or `when` has no result for the reading.
    #[error("{key}: {source}")]
    Expression {
        /// The key of the mapping file.
        key: &'static str,
        /// What went wrong.
        source: EvaluationError,
    },
    /// The captures do not make a topic.
    #[error(transparent)]
    Topic(#[from] RenderError),
}

impl Fault {
    /// Returns the word under which it is counted.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Type(_) => "type",
            Self::Expression { .. } => "expression",
            Self::Topic(_) => "topic",
        }
    }
}

/// Whether somebody waits for an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Attendance {
    Attended,
    Unattended,
}

impl Entry {
    /// Applies the entry to a reading whose sender waits for an answer.
    ///
    /// In this order: `when`, `transform`, `type`, `unit`. With `each`, the name of the member is the last of the
    /// captures. A reading without value (quality `bad`) that stays so passes, so that a broken sensor does not
    /// look like a silent one. An integer overflow gives a message without value, with quality `bad`.
    pub fn apply(&self, captures: &Captures, reading: Reading) -> Applied {
        self.apply_as(Attendance::Attended, captures, reading)
    }

    /// Applies the entry to a reading for which nobody waits: what [`apply`](Self::apply) refuses becomes a
    /// message without value, with quality `bad`, if it has a topic.
    pub fn apply_unattended(&self, captures: &Captures, reading: Reading) -> Applied {
        self.apply_as(Attendance::Unattended, captures, reading)
    }

    fn apply_as(&self, attendance: Attendance, captures: &Captures, reading: Reading) -> Applied {
        if let Some(left_out) = self.left_out_by_when(attendance, captures, &reading) {
            return left_out;
        }
        let mut reading = reading;
        let fault = match self.new_value(captures, &mut reading) {
            Ok(Changed::Value) => None,
            Ok(Changed::Nothing) => return Applied::LeftOut(LeftOut::NoValue),
            Err(fault) if attendance == Attendance::Attended && !is_of_arithmetic(&fault) => {
                return Applied::Refused(fault);
            }
            Err(fault) => {
                self.spoil(&mut reading);
                Some(fault)
            }
        };
        self.message(captures, reading, fault)
    }

    /// Gives a reading of which no value could be made: without value, with quality `bad`.
    pub(crate) fn apply_mismatch(
        &self,
        captures: &Captures,
        mut reading: Reading,
        mismatch: TypeMismatch,
    ) -> Applied {
        self.spoil(&mut reading);
        self.message(captures, reading, Some(Box::new(mismatch.into())))
    }

    fn message(&self, captures: &Captures, reading: Reading, fault: Option<Box<Fault>>) -> Applied {
        match self.topic.render(captures) {
            Ok(topic) => Applied::Message {
                topic,
                reading,
                presentation: self.presentation,
                qos: self.qos,
                retain: self.retain,
                fault,
            },
            Err(error) => Applied::Refused(Box::new(error.into())),
        }
    }

    fn left_out_by_when(
        &self,
        attendance: Attendance,
        captures: &Captures,
        reading: &Reading,
    ) -> Option<Applied> {
        let when = self.when.as_ref()?;
        match when.holds(&Inputs::of(reading, captures)) {
            Ok(Some(true)) => None,
            Ok(Some(false) | None) => Some(Applied::LeftOut(LeftOut::When)),
            Err(source @ EvaluationError::Operand { .. }) if attendance == Attendance::Attended => {
                Some(Applied::Refused(Box::new(Fault::Expression { key: "when", source })))
            }
            Err(source) => Some(Applied::LeftOut(LeftOut::Undecided(source))),
        }
    }

    fn new_value(&self, captures: &Captures, reading: &mut Reading) -> Result<Changed, Box<Fault>> {
        if let Some(transform) = &self.transform {
            let value = transform
                .evaluate(&Inputs::of(reading, captures))
                .map_err(|source| Box::new(Fault::Expression { key: "transform", source }))?;
            if value == Value::Null && reading.value != Value::Null {
                return Ok(Changed::Nothing);
            }
            // A quotient by zero is a fault of the data, even where the operands were good.
            if value.is_not_finite() && reading.status.quality() != Quality::Bad {
                reading.status = Status::BAD;
            }
            reading.value = value;
        }
        if let Some(wanted) = self.value_type {
            let value = std::mem::replace(&mut reading.value, Value::Null);
            reading.value = wanted.pin(value).map_err(|mismatch| Box::new(mismatch.into()))?;
        }
        self.set_unit(reading);
        Ok(Changed::Value)
    }

    /// A payload's own unit wins, unless a transform has changed what it was about.
    fn set_unit(&self, reading: &mut Reading) {
        if let Some(unit) = &self.unit
            && (reading.unit.is_none() || self.transform.is_some())
        {
            reading.unit = Some(unit.clone());
        }
    }

    fn spoil(&self, reading: &mut Reading) {
        reading.value = Value::Null;
        if reading.status.quality() != Quality::Bad {
            reading.status = Status::BAD;
        }
        self.set_unit(reading);
    }
}

enum Changed {
    Value,
    /// The transform took the value away.
    Nothing,
}

/// Whether the fault lies in the numbers, not in their types: such a reading is published as bad.
fn is_of_arithmetic(fault: &Fault) -> bool {
    matches!(
        fault,
        Fault::Expression {
            source: EvaluationError::Overflow { .. } | EvaluationError::ByZero { .. },
            ..
        }
    )
}

//! Values on their way through an expression: borrowed where they can be.

use std::borrow::Cow;

use tidegate_model::Value;

use super::EvaluationError;
use super::number::Number;

/// The result of a part of an expression.
#[derive(Clone, Debug)]
pub(super) enum Datum<'a> {
    Null,
    Boolean(bool),
    Number(Number),
    /// Text that is not a value of the reading: a literal, a capture, or made on the way.
    Text(Cow<'a, str>),
    /// A part of the reading that is neither of the above.
    Borrowed(&'a Value),
}

impl<'a> Datum<'a> {
    #[inline]
    pub(super) fn of(value: &'a Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Boolean(truth) => Self::Boolean(*truth),
            Value::Integer(number) => Self::Number(Number::Integer(*number)),
            Value::Unsigned(number) => Self::Number(Number::Unsigned(*number)),
            Value::Float(number) => Self::Number(Number::Single(*number)),
            Value::Double(number) => Self::Number(Number::Double(*number)),
            Value::String(_) | Value::Bytes(_) | Value::Array(_) | Value::Document(_) => {
                Self::Borrowed(value)
            }
        }
    }

    pub(super) fn into_value(self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Boolean(truth) => Value::Boolean(truth),
            Self::Number(number) => number.into_value(),
            Self::Text(text) => Value::string(&text),
            Self::Borrowed(value) => value.clone(),
        }
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    pub(super) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Borrowed(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    /// Returns whether both stand for the same: numbers by numeric value, everything else as it is.
    pub(super) fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Boolean(ours), Self::Boolean(theirs)) => ours == theirs,
            (Self::Number(ours), Self::Number(theirs)) => {
                ours.compare(*theirs) == Some(std::cmp::Ordering::Equal)
            }
            _ => match (self.as_text(), other.as_text(), self, other) {
                (Some(ours), Some(theirs), ..) => ours == theirs,
                (None, None, Self::Borrowed(ours), Self::Borrowed(theirs)) => ours == theirs,
                _ => false,
            },
        }
    }
}

/// Describes an operand of a wrong type.
#[cold]
pub(super) fn operand_error(
    operation: &'static str,
    expected: &'static str,
    found: &Datum<'_>,
) -> Box<EvaluationError> {
    let value = found.clone().into_value();
    Box::new(EvaluationError::Operand {
        operation,
        expected,
        found: value.type_name(),
        shown: value.to_string().chars().take(40).collect(),
    })
}

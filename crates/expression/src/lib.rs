//! The language of `transform` and `when`, in mappings and in the rules of an uplink: one formula over a
//! reading.
//!
//! An [`Expression`] is read and type-checked once, when its file is loaded. What its text can reveal is
//! refused then, with the place: unknown names, operands of a wrong type, constants that overflow. At run time
//! only the reading can be at fault, and [`EvaluationError`] says how. Evaluation always ends: there are no
//! loops, the tree is at most [`DEPTH_MAX`] deep and made of at most [`LENGTH_MAX`] bytes of text.
//!
//! `docs/mappings.md` describes the language for those who write mapping files;
//! `docs/decisions/0003-expressions.md` says why it is our own.

mod check;
mod code;
mod datum;
mod evaluate;
mod function;
mod number;
mod operator;
mod parser;
mod token;
mod types;

use std::ops::Range;

use thiserror::Error;
use tidegate_model::{
    CaptureName, Captures, PayloadFormat, Reading, Status, Timestamp, Topic, Unit, Value,
};

use code::Code;
use datum::Datum;
use types::Types;

/// How deep an expression may be nested; a chain of operators counts once for each.
pub const DEPTH_MAX: usize = 64;

/// How many bytes of text an expression may have.
pub const LENGTH_MAX: usize = 1_024;

/// What an expression may speak of.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// The names of the captures, in the order of the address; with `each`, `member` comes last.
    pub captures: &'a [CaptureName],
    /// How the payload is read: it limits what `value` can be.
    pub payload: Option<PayloadFormat>,
    /// What is there beside the value.
    pub subject: Subject,
}

/// What an expression is about. Complete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Subject {
    /// A reading on its way to a topic: `value`, `time`, `quality`, and the captures.
    #[default]
    Reading,
    /// A reading of a topic: `status`, `unit` and `topic` as well.
    Record,
}

impl Subject {
    /// Returns the names that mean something.
    fn variables(self) -> &'static [&'static str] {
        match self {
            Self::Reading => &parser::VARIABLES[..parser::OF_READINGS],
            Self::Record => &parser::VARIABLES,
        }
    }
}

/// One fault in the text of an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpressionFault {
    /// The bytes of the text that are at fault.
    pub range: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: String,
}

impl ExpressionFault {
    fn new(range: Range<usize>, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { range, message: message.into(), hint: hint.into() }
    }
}

/// Why an expression has no result for one reading.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EvaluationError {
    /// An integer result does not fit into 64 bits.
    #[error("the result of {operation} does not fit into 64 bits")]
    Overflow {
        /// The operator or function, in backticks.
        operation: &'static str,
    },
    /// The operation has no result for these operands: a remainder of a division by zero.
    #[error("{operation} by zero has no result")]
    ByZero {
        /// The operator or function, in backticks.
        operation: &'static str,
    },
    /// An operand is not of the type that the operation needs.
    #[error("{operation} needs {expected}, found the {found} {shown}")]
    Operand {
        /// The operator or function, in backticks.
        operation: &'static str,
        /// What it needs.
        expected: &'static str,
        /// What kind of value there was.
        found: &'static str,
        /// The value, shortened.
        shown: String,
    },
}

/// What an expression is evaluated over.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// `value`.
    pub value: &'a Value,
    /// `time`: milliseconds since 1970.
    pub time: Timestamp,
    /// `quality`: `good`, `uncertain` or `bad`.
    pub status: Status,
    /// The captures by their names.
    pub captures: &'a Captures,
    /// `unit`; null without one.
    pub unit: Option<&'a Unit>,
    /// `topic`; null without one.
    pub topic: Option<&'a Topic>,
}

impl<'a> Inputs<'a> {
    /// Takes the inputs from a reading.
    #[inline]
    pub fn of(reading: &'a Reading, captures: &'a Captures) -> Self {
        Self {
            value: &reading.value,
            time: reading.time(),
            status: reading.status,
            captures,
            unit: reading.unit.as_ref(),
            topic: None,
        }
    }

    /// Takes the inputs from a reading of a topic.
    #[inline]
    pub fn of_record(topic: &'a Topic, reading: &'a Reading, captures: &'a Captures) -> Self {
        Self { topic: Some(topic), ..Self::of(reading, captures) }
    }
}

/// What the result of an expression must be able to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResultKind {
    /// Anything: `transform`.
    Value,
    /// True or false: `when`.
    Condition,
}

/// A checked formula. Evaluating it allocates only for text that it makes.
#[derive(Clone, Debug)]
pub struct Expression {
    code: Code,
    types: Types,
}

impl Expression {
    /// Reads and checks a text.
    ///
    /// # Errors
    ///
    /// Every type fault, or the first fault of syntax.
    ///
    /// # Examples
    ///
    /// ```
    /// use tidegate_expression::{Expression, Inputs, ResultKind, Scope, Subject};
    /// use tidegate_model::{Captures, Status, Timestamp, Value};
    ///
    /// let scope = Scope { captures: &[], payload: None, subject: Subject::Reading };
    /// let tenths = Expression::parse("value / 10", scope, ResultKind::Value).unwrap();
    /// let inputs = Inputs {
    ///     value: &Value::Integer(217),
    ///     time: Timestamp::from_unix_millis(0),
    ///     status: Status::GOOD,
    ///     captures: &Captures::none(),
    ///     unit: None,
    ///     topic: None,
    /// };
    /// assert_eq!(tenths.evaluate(&inputs), Ok(Value::Double(21.7)));
    ///
    /// let faults = Expression::parse("valeu / 10", scope, ResultKind::Value).unwrap_err();
    /// assert_eq!(faults[0].range, 0..5);
    /// assert_eq!(faults[0].hint, "did you mean `value`?");
    /// ```
    pub fn parse(
        text: &str,
        scope: Scope<'_>,
        result: ResultKind,
    ) -> Result<Self, Vec<ExpressionFault>> {
        let parsed = parser::parse(text, scope)?;
        let everything = 0..text.len();
        if result == ResultKind::Condition && !parsed.types.intersects(Types::BOOLEAN) {
            let message = format!("`when` needs true or false, found {}", parsed.types);
            return Err(vec![ExpressionFault::new(
                everything,
                message,
                "compare it with something, such as `value > 0`",
            )]);
        }
        if result == ResultKind::Value && parsed.types == Types::NULL {
            return Err(vec![ExpressionFault::new(
                everything,
                "this never has a value",
                "to leave readings out, write a condition under `when`",
            )]);
        }
        Ok(Self { code: parsed.code, types: parsed.types })
    }

    /// Returns the result for a reading; [`Value::Null`] if there is no value.
    ///
    /// # Errors
    ///
    /// [`EvaluationError`] if the reading does not fit the expression.
    pub fn evaluate(&self, inputs: &Inputs<'_>) -> Result<Value, EvaluationError> {
        match evaluate::evaluate(&self.code, inputs) {
            Ok(datum) => Ok(datum.into_value()),
            Err(error) => Err(*error),
        }
    }

    /// Returns whether the condition holds; `None` if it has no value.
    ///
    /// # Errors
    ///
    /// [`EvaluationError`] if the reading does not fit the expression, or the result is not true or false.
    pub fn holds(&self, inputs: &Inputs<'_>) -> Result<Option<bool>, EvaluationError> {
        match evaluate::evaluate(&self.code, inputs).map_err(|error| *error)? {
            Datum::Boolean(holds) => Ok(Some(holds)),
            Datum::Null => Ok(None),
            other => Err(*datum::operand_error("`when`", "true or false", &other)),
        }
    }

    /// Returns whether a value of this type can be the result.
    pub fn may_be(&self, wanted: tidegate_model::ValueType) -> bool {
        self.types.intersects(Types::accepted_by(wanted))
    }

    /// Returns whether the check of types expected such a result.
    #[cfg(test)]
    fn allows(&self, result: &Value) -> bool {
        self.types.intersects(Types::of_value(result))
    }

    /// Returns whether every result is a number, or no value.
    pub fn is_numeric(&self) -> bool {
        self.types.without(Types::NUMBER.or(Types::NULL)).is_empty()
    }

    /// Returns what the result can be, in words.
    pub fn describe_result(&self) -> String {
        self.types.to_string()
    }
}

/// Compares a value with a limit, exactly; `None` if it is not a number, or not-a-number.
pub fn compare(value: &Value, limit: f64) -> Option<std::cmp::Ordering> {
    number::Number::of(value)?.compare(number::Number::Double(limit))
}

/// Returns whether a name means something of its own in expressions, so that no capture may have it.
pub fn is_reserved(name: &str) -> bool {
    token::KEYWORDS.contains(&name) || Subject::Reading.variables().contains(&name)
}

#[cfg(test)]
mod tests;

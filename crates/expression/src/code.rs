//! The checked form of an expression, ready to be evaluated.

use tidegate_model::Value;

use super::datum::Datum;
use super::function::Function;
use super::number::Number;
use super::operator::{Arithmetic, Comparison};

/// One node of the tree; at most [`DEPTH_MAX`](super::DEPTH_MAX) deep.
#[derive(Clone, Debug)]
pub(super) enum Code {
    Constant(Constant),
    /// `value`, or a part of it.
    Path(Box<[Step]>),
    Time,
    Quality,
    Status,
    Unit,
    Topic,
    /// The capture at an index.
    Capture(usize),
    Negate(Box<Self>),
    Not(Box<Self>),
    And(Box<[Self; 2]>),
    Or(Box<[Self; 2]>),
    Arithmetic(Arithmetic, Box<[Self; 2]>),
    Comparison(Comparison, Box<[Self; 2]>),
    /// Condition, then, else.
    Condition(Box<[Self; 3]>),
    Call(Function, Box<[Self]>),
}

/// One step into a document or an array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Member(Box<str>),
    Index(usize),
}

impl Step {
    pub(super) fn enter<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        match (self, value) {
            (Self::Member(name), Value::Document(document)) => document.get(name),
            (Self::Index(index), Value::Array(items)) => items.get(*index),
            _ => None,
        }
    }
}

/// A value that does not depend on the reading.
#[derive(Clone, Debug)]
pub(super) enum Constant {
    Null,
    Boolean(bool),
    Number(Number),
    Text(Box<str>),
}

impl Constant {
    pub(super) fn datum(&self) -> Datum<'_> {
        match self {
            Self::Null => Datum::Null,
            Self::Boolean(truth) => Datum::Boolean(*truth),
            Self::Number(number) => Datum::Number(*number),
            Self::Text(text) => Datum::Text(std::borrow::Cow::Borrowed(text)),
        }
    }

    /// Takes a result that was computed from constants alone, so that nothing in it is borrowed from a reading.
    pub(super) fn from_datum(datum: Datum<'_>) -> Option<Self> {
        match datum {
            Datum::Null => Some(Self::Null),
            Datum::Boolean(truth) => Some(Self::Boolean(truth)),
            Datum::Number(number) => Some(Self::Number(number)),
            Datum::Text(text) => Some(Self::Text(text.into())),
            Datum::Borrowed(_) => None,
        }
    }
}

impl Code {
    /// Returns the number if this is a constant one.
    pub(super) fn constant_number(&self) -> Option<Number> {
        match self {
            Self::Constant(Constant::Number(number)) => Some(*number),
            _ => None,
        }
    }

    /// Returns the text if this is a constant one.
    pub(super) fn constant_text(&self) -> Option<&str> {
        match self {
            Self::Constant(Constant::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// Returns whether the result is known before any reading: all parts are constants.
    pub(super) fn has_constant_parts(&self) -> bool {
        let constant = |part: &Self| matches!(part, Self::Constant(_));
        match self {
            Self::Constant(_)
            | Self::Path(_)
            | Self::Time
            | Self::Quality
            | Self::Status
            | Self::Unit
            | Self::Topic
            | Self::Capture(_) => false,
            Self::Negate(part) | Self::Not(part) => constant(part),
            Self::And(parts)
            | Self::Or(parts)
            | Self::Arithmetic(_, parts)
            | Self::Comparison(_, parts) => parts.iter().all(constant),
            Self::Condition(parts) => parts.iter().all(constant),
            Self::Call(_, arguments) => arguments.iter().all(constant),
        }
    }
}

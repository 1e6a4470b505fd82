//! The types a mapping can pin a value to.

use std::{fmt, str::FromStr};

use thiserror::Error;

use crate::Value;

/// The type that `type = "…"` of a mapping asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValueType {
    /// A double; integers are widened.
    Float,
    /// A 64-bit integer; doubles without a fraction are narrowed.
    Integer,
    /// A truth value.
    Boolean,
    /// Text.
    String,
}

/// A value is not of the type that its mapping asks for.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("expected {expected}, found the {found} {shown}")]
pub struct TypeMismatch {
    /// What the mapping asks for.
    pub expected: ValueType,
    /// What kind of value there was.
    pub found: &'static str,
    /// The value, shortened.
    pub shown: String,
}

/// A word is not one of `float`, `integer`, `boolean` and `string`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{word}` is not a type; use float, integer, boolean or string")]
pub struct UnknownValueType {
    /// The word as it was found.
    pub word: String,
}

impl ValueType {
    /// Every type, in the order in which messages list them.
    pub const ALL: [Self; 4] = [Self::Float, Self::Integer, Self::Boolean, Self::String];

    /// Returns the word used in mapping files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Float => "float",
            Self::Integer => "integer",
            Self::Boolean => "boolean",
            Self::String => "string",
        }
    }

    /// Returns `value` as this type. No value (null) fits every type.
    ///
    /// # Errors
    ///
    /// [`TypeMismatch`] if the value would have to be changed to fit.
    pub fn pin(self, value: Value) -> Result<Value, TypeMismatch> {
        match (self, value) {
            (_, Value::Null) => Ok(Value::Null),
            (Self::Float, value @ (Value::Float(_) | Value::Double(_)))
            | (Self::Integer, value @ (Value::Integer(_) | Value::Unsigned(_)))
            | (Self::Boolean, value @ Value::Boolean(_))
            | (Self::String, value @ Value::String(_)) => Ok(value),
            (Self::Float, value @ (Value::Integer(_) | Value::Unsigned(_))) => {
                Ok(Value::Double(value.as_f64().expect("an integer is a number")))
            }
            (Self::Integer, Value::Double(number)) if fits_i64(number) => {
                #[expect(clippy::cast_possible_truncation, reason = "checked by the guard")]
                let integer = number as i64;
                Ok(Value::Integer(integer))
            }
            (expected, value) => Err(TypeMismatch {
                expected,
                found: value.type_name(),
                shown: value.to_string().chars().take(40).collect(),
            }),
        }
    }
}

/// Whether a double has no fraction and lies in the range of a signed 64-bit integer.
fn fits_i64(number: f64) -> bool {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    number.fract() == 0.0 && (-LIMIT..LIMIT).contains(&number)
}

impl fmt::Display for ValueType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for ValueType {
    type Err = UnknownValueType;

    fn from_str(word: &str) -> Result<Self, UnknownValueType> {
        Self::ALL
            .into_iter()
            .find(|known| known.as_str() == word)
            .ok_or_else(|| UnknownValueType { word: word.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_takes_what_fits_and_refuses_the_rest() {
        #[rustfmt::skip]
        let cases = [
            (ValueType::Float,   Value::Integer(21),        Some(Value::Double(21.0))),
            (ValueType::Float,   Value::Double(21.5),       Some(Value::Double(21.5))),
            (ValueType::Float,   Value::string("21"),       None),
            (ValueType::Integer, Value::Double(21.0),       Some(Value::Integer(21))),
            (ValueType::Integer, Value::Double(21.5),       None),
            (ValueType::Integer, Value::Double(9.3e18),     None),
            (ValueType::Integer, Value::Unsigned(u64::MAX), Some(Value::Unsigned(u64::MAX))),
            (ValueType::Boolean, Value::Integer(1),         None),
            (ValueType::String,  Value::Null,               Some(Value::Null)),
        ];
        for (wanted, value, expected) in cases {
            assert_eq!(wanted.pin(value.clone()).ok(), expected, "{value} as {wanted}");
        }
    }
}

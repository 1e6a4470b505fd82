//! What a part of an expression can be, as far as its text tells.

use std::fmt;

use tidegate_model::{PayloadFormat, ValueType};

/// A set of types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Types(u8);

impl Types {
    pub(super) const NONE: Self = Self(0);
    pub(super) const NULL: Self = Self(1);
    pub(super) const BOOLEAN: Self = Self(2);
    pub(super) const INTEGER: Self = Self(4);
    pub(super) const DOUBLE: Self = Self(8);
    pub(super) const STRING: Self = Self(16);
    pub(super) const BYTES: Self = Self(32);
    pub(super) const ARRAY: Self = Self(64);
    pub(super) const DOCUMENT: Self = Self(128);
    pub(super) const NUMBER: Self = Self(4 | 8);
    pub(super) const ANY: Self = Self(255);

    /// What `value` can be under a payload format.
    pub(super) fn of_payload(payload: Option<PayloadFormat>) -> Self {
        match payload {
            Some(PayloadFormat::Text) => Self::BOOLEAN.or(Self::NUMBER).or(Self::STRING),
            Some(PayloadFormat::Raw) => Self::BYTES,
            Some(PayloadFormat::Json | PayloadFormat::Cbor | PayloadFormat::Senml) | None => {
                Self::ANY
            }
        }
    }

    /// The type that a value has.
    #[cfg(test)]
    pub(super) fn of_value(value: &tidegate_model::Value) -> Self {
        use tidegate_model::Value;
        match value {
            Value::Null => Self::NULL,
            Value::Boolean(_) => Self::BOOLEAN,
            Value::Integer(_) | Value::Unsigned(_) => Self::INTEGER,
            Value::Float(_) | Value::Double(_) => Self::DOUBLE,
            Value::String(_) => Self::STRING,
            Value::Bytes(_) => Self::BYTES,
            Value::Array(_) => Self::ARRAY,
            Value::Document(_) => Self::DOCUMENT,
        }
    }

    /// Which results `type = "…"` takes.
    pub(super) fn accepted_by(wanted: ValueType) -> Self {
        match wanted {
            ValueType::Float | ValueType::Integer => Self::NUMBER,
            ValueType::Boolean => Self::BOOLEAN,
            ValueType::String => Self::STRING,
        }
    }

    pub(super) const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(super) const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(super) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns `NULL` if this may be null, else nothing: operations without an operand have no result.
    pub(super) const fn null_only(self) -> Self {
        Self(self.0 & Self::NULL.0)
    }

    /// Takes integers and doubles for one type: they compare with each other.
    pub(super) const fn numbers_as_one(self) -> Self {
        if self.intersects(Self::NUMBER) { self.or(Self::NUMBER) } else { self }
    }
}

impl fmt::Display for Types {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const WORDS: [(Types, &str); 6] = [
            (Types::BOOLEAN, "true or false"),
            (Types::NUMBER, "a number"),
            (Types::STRING, "a string"),
            (Types::BYTES, "bytes"),
            (Types::ARRAY, "an array"),
            (Types::DOCUMENT, "an object"),
        ];
        let words: Vec<&str> = WORDS
            .iter()
            .filter(|(types, _)| self.intersects(*types))
            .map(|(_, word)| *word)
            .collect();
        match words.as_slice() {
            [] => formatter.write_str("no value"),
            words => formatter.write_str(&words.join(" or ")),
        }
    }
}

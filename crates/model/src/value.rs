//! What a reading says.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use thiserror::Error;

/// A measured or commanded value, with the type its source gave it.
///
/// Equality is that of the representation: doubles compare by bits, so that not-a-number equals
/// itself and 0.0 differs from -0.0.
#[derive(Clone, Debug)]
pub enum Value {
    /// No value; the status says why.
    Null,
    /// A truth value.
    Boolean(bool),
    /// A signed 64-bit integer.
    Integer(i64),
    /// An unsigned integer above the signed range; what fits into [`Value::Integer`] is one.
    Unsigned(u64),
    /// A 32-bit float, as OPC UA and CBOR know it. Printed with its own shortest digits.
    Float(f32),
    /// A 64-bit float, not-a-number and infinities included.
    Double(f64),
    /// Text.
    String(Arc<str>),
    /// Bytes of unknown meaning.
    Bytes(Bytes),
    /// Values in order.
    Array(Arc<[Value]>),
    /// Named values in order.
    Document(Arc<Document>),
}

impl Value {
    /// Makes an integer, of the variant that holds it.
    pub fn unsigned(number: u64) -> Self {
        i64::try_from(number).map_or(Self::Unsigned(number), Self::Integer)
    }

    /// Makes a text.
    pub fn string(text: &str) -> Self {
        Self::String(text.into())
    }

    /// Returns the value as a double if it is a number; large integers lose digits.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            #[expect(clippy::cast_precision_loss, reason = "documented")]
            Self::Integer(number) => Some(*number as f64),
            #[expect(clippy::cast_precision_loss, reason = "documented")]
            Self::Unsigned(number) => Some(*number as f64),
            Self::Float(number) => Some(f64::from(*number)),
            Self::Double(number) => Some(*number),
            _ => None,
        }
    }

    /// Returns the name of the type, for messages to people.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean(_) => "boolean",
            Self::Integer(_) | Self::Unsigned(_) => "integer",
            Self::Float(_) | Self::Double(_) => "float",
            Self::String(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::Array(_) => "array",
            Self::Document(_) => "object",
        }
    }

    /// Returns whether the value is a number that JSON cannot write: not-a-number or infinite.
    pub fn is_not_finite(&self) -> bool {
        match self {
            Self::Float(number) => !number.is_finite(),
            Self::Double(number) => !number.is_finite(),
            _ => false,
        }
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Boolean(ours), Self::Boolean(theirs)) => ours == theirs,
            (Self::Integer(ours), Self::Integer(theirs)) => ours == theirs,
            (Self::Unsigned(ours), Self::Unsigned(theirs)) => ours == theirs,
            (Self::Float(ours), Self::Float(theirs)) => ours.to_bits() == theirs.to_bits(),
            (Self::Double(ours), Self::Double(theirs)) => ours.to_bits() == theirs.to_bits(),
            (Self::String(ours), Self::String(theirs)) => ours == theirs,
            (Self::Bytes(ours), Self::Bytes(theirs)) => ours == theirs,
            (Self::Array(ours), Self::Array(theirs)) => ours == theirs,
            (Self::Document(ours), Self::Document(theirs)) => ours == theirs,
            _ => false,
        }
    }
}

impl Eq for Value {}

impl fmt::Display for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Vec::new();
        crate::json::write_value(self, &mut text);
        formatter.write_str(std::str::from_utf8(&text).expect("JSON is UTF-8"))
    }
}

/// A name occurs twice in one object.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the name `{name}` occurs twice")]
pub struct DuplicateName {
    /// The repeated name.
    pub name: Arc<str>,
}

/// Named values in the order in which they were given; no name occurs twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document {
    members: Vec<(Arc<str>, Value)>,
}

impl Document {
    /// Takes the members if no name occurs twice.
    ///
    /// # Errors
    ///
    /// [`DuplicateName`] names the first repetition.
    pub fn new(members: Vec<(Arc<str>, Value)>) -> Result<Self, DuplicateName> {
        if members.len() <= 8 {
            for (index, (name, _)) in members.iter().enumerate() {
                if members[..index].iter().any(|(earlier, _)| earlier == name) {
                    return Err(DuplicateName { name: name.clone() });
                }
            }
        } else {
            let mut names: Vec<&Arc<str>> = members.iter().map(|(name, _)| name).collect();
            names.sort_unstable();
            if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
                return Err(DuplicateName { name: pair[0].clone() });
            }
        }
        Ok(Self { members })
    }

    /// Returns the value called `name`.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.members.iter().find(|(key, _)| &**key == name).map(|(_, value)| value)
    }

    /// Returns all members in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Arc<str>, &Value)> {
        self.members.iter().map(|(name, value)| (name, value))
    }

    /// Returns how many members there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Returns whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_refuses_a_name_twice() {
        for count in [2_usize, 20] {
            let mut members: Vec<(Arc<str>, Value)> =
                (0..count).map(|number| (format!("m{number}").into(), Value::Null)).collect();
            assert!(Document::new(members.clone()).is_ok());
            members.push(("m1".into(), Value::Boolean(true)));
            assert_eq!(Document::new(members), Err(DuplicateName { name: "m1".into() }));
        }
    }

    #[test]
    fn not_a_number_equals_itself() {
        assert_eq!(Value::Double(f64::NAN), Value::Double(f64::NAN));
        assert_ne!(Value::Double(0.0), Value::Double(-0.0));
        assert_eq!(Value::unsigned(u64::MAX), Value::Unsigned(u64::MAX));
        assert_eq!(Value::unsigned(7), Value::Integer(7));
    }
}

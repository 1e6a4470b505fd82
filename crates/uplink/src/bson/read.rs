//! Reads BSON that somebody else wrote.
//!
//! [`check`] goes over the bytes once, without recursion: every length, depth and count is known to be
//! sound before anything is read out of them.

use std::sync::Arc;

use bytes::Bytes;
use tidegate_model::{Document, Timestamp, Value};

use super::{DECIMAL128_EXPONENT_0, element};
use crate::decoder::{DecodeError, Limits};

/// Checks that `bytes` are one BSON document within `limits`, of types that readings and commands
/// have: not the deprecated ones, nor those of databases and scripts. Returns how many elements there are.
///
/// # Errors
///
/// [`DecodeError`]: what is wrong with them, or which limit they pass.
pub fn check(bytes: &[u8], limits: &Limits) -> Result<usize, DecodeError> {
    let mut input = Input { bytes, at: 0 };
    let mut ends = vec![input.document(bytes.len())?];
    let mut elements = 0;
    while let Some(&end) = ends.last() {
        if input.at + 1 == end {
            // `document` has seen the zero byte there.
            input.at = end;
            ends.pop();
            continue;
        }
        elements += 1;
        if elements > limits.elements {
            return Err(DecodeError::TooManyElements { limit: limits.elements });
        }
        let kind = input.u8(end)?;
        input.name(end)?;
        if matches!(kind, element::DOCUMENT | element::ARRAY) {
            if ends.len() >= limits.depth {
                return Err(DecodeError::TooDeep { limit: limits.depth });
            }
            ends.push(input.document(end - 1)?);
        } else {
            input.scalar(kind, end - 1)?;
        }
    }
    if input.at == bytes.len() { Ok(elements) } else { Err(input.malformed()) }
}

#[derive(Clone, Copy, Debug)]
struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    fn malformed(&self) -> DecodeError {
        DecodeError::Malformed { at: self.at }
    }

    fn take(&mut self, length: usize, end: usize) -> Result<&'a [u8], DecodeError> {
        let to = self.at.checked_add(length).filter(|to| *to <= end).ok_or(self.malformed())?;
        let taken = self.bytes.get(self.at..to).ok_or(self.malformed())?;
        self.at = to;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, end: usize) -> Result<[u8; N], DecodeError> {
        let at = *self;
        self.take(N, end)?.try_into().map_err(|_| at.malformed())
    }

    fn u8(&mut self, end: usize) -> Result<u8, DecodeError> {
        self.array::<1>(end).map(|[byte]| byte)
    }

    fn length(&mut self, end: usize) -> Result<usize, DecodeError> {
        let at = *self;
        usize::try_from(i32::from_le_bytes(self.array(end)?)).map_err(|_| at.malformed())
    }

    /// Goes into a document and returns where it ends.
    fn document(&mut self, end: usize) -> Result<usize, DecodeError> {
        let start = *self;
        let length = self.length(end)?;
        let to = start.at.checked_add(length).filter(|to| length >= 5 && *to <= end);
        let to = to.ok_or(start.malformed())?;
        if self.bytes.get(to - 1) == Some(&0) { Ok(to) } else { Err(start.malformed()) }
    }

    fn name(&mut self, end: usize) -> Result<&'a str, DecodeError> {
        let at = *self;
        let rest = self.bytes.get(self.at..end).ok_or(at.malformed())?;
        let length = rest.iter().position(|&byte| byte == 0).ok_or(at.malformed())?;
        let name = std::str::from_utf8(self.take(length, end)?).map_err(|_| at.malformed())?;
        self.u8(end)?;
        Ok(name)
    }

    fn string(&mut self, end: usize) -> Result<&'a str, DecodeError> {
        let at = *self;
        let length = self.length(end)?;
        match self.take(length, end)?.split_last() {
            Some((0, text)) => std::str::from_utf8(text).map_err(|_| at.malformed()),
            _ => Err(at.malformed()),
        }
    }

    fn binary(&mut self, end: usize) -> Result<&'a [u8], DecodeError> {
        let length = self.length(end)?;
        let _subtype = self.u8(end)?;
        self.take(length, end)
    }

    fn scalar(&mut self, kind: u8, end: usize) -> Result<(), DecodeError> {
        let at = *self;
        match kind {
            element::DOUBLE | element::DATETIME | element::INT64 => self.take(8, end).map(drop),
            element::STRING => self.string(end).map(drop),
            element::BINARY => self.binary(end).map(drop),
            element::BOOLEAN => match self.u8(end)? {
                0 | 1 => Ok(()),
                _ => Err(at.malformed()),
            },
            element::NULL => Ok(()),
            element::INT32 => self.take(4, end).map(drop),
            element::DECIMAL128 => self.take(16, end).map(drop),
            kind => Err(DecodeError::UnsupportedType { kind }),
        }
    }
}

/// One element of a document that was checked.
#[derive(Clone, Copy, Debug)]
pub enum Element<'a> {
    /// A double.
    Double(f64),
    /// A text.
    String(&'a str),
    /// A document.
    Document(Elements<'a>),
    /// An array.
    Array(Elements<'a>),
    /// Bytes, whatever the subtype.
    Binary(&'a [u8]),
    /// A boolean.
    Boolean(bool),
    /// Milliseconds since 1970.
    Datetime(i64),
    /// Nothing.
    Null,
    /// An int32 or an int64.
    Integer(i64),
    /// A decimal128, by its halves.
    Decimal128 {
        /// The lower half.
        low: u64,
        /// The upper half.
        high: u64,
    },
}

/// The elements of a document or array that was checked, in order.
#[derive(Clone, Copy, Debug)]
pub struct Elements<'a>(Input<'a>);

impl<'a> Elements<'a> {
    /// Reads a document that [`check`] has let pass.
    pub fn new(document: &'a [u8]) -> Self {
        let bytes = document.get(..document.len().saturating_sub(1)).unwrap_or_default();
        Self(Input { bytes, at: 4.min(bytes.len()) })
    }

    fn read(&mut self) -> Result<(&'a str, Element<'a>), DecodeError> {
        let input = &mut self.0;
        let end = input.bytes.len();
        let kind = input.u8(end)?;
        let name = input.name(end)?;
        let element = match kind {
            element::DOUBLE => Element::Double(f64::from_le_bytes(input.array(end)?)),
            element::STRING => Element::String(input.string(end)?),
            element::DOCUMENT | element::ARRAY => {
                let from = input.at;
                let to = input.document(end)?;
                input.at = to;
                let inner = Self::new(&input.bytes[from..to]);
                if kind == element::ARRAY {
                    Element::Array(inner)
                } else {
                    Element::Document(inner)
                }
            }
            element::BINARY => Element::Binary(input.binary(end)?),
            element::BOOLEAN => Element::Boolean(input.u8(end)? != 0),
            element::DATETIME => Element::Datetime(i64::from_le_bytes(input.array(end)?)),
            element::NULL => Element::Null,
            element::INT32 => Element::Integer(i32::from_le_bytes(input.array(end)?).into()),
            element::INT64 => Element::Integer(i64::from_le_bytes(input.array(end)?)),
            element::DECIMAL128 => Element::Decimal128 {
                low: u64::from_le_bytes(input.array(end)?),
                high: u64::from_le_bytes(input.array(end)?),
            },
            kind => return Err(DecodeError::UnsupportedType { kind }),
        };
        Ok((name, element))
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Result<(&'a str, Element<'a>), DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.at >= self.0.bytes.len() {
            return None;
        }
        let read = self.read();
        if read.is_err() {
            self.0.at = self.0.bytes.len();
        }
        Some(read)
    }
}

impl Element<'_> {
    /// Returns the value that the element stands for. Times become RFC 3339 text.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if it has no such value, such as a document with a name twice.
    pub fn to_value(self) -> Result<Value, DecodeError> {
        Ok(match self {
            Self::Double(number) => Value::Double(number),
            Self::String(text) => Value::string(text),
            Self::Document(elements) => {
                let mut members: Vec<(Arc<str>, Value)> = Vec::new();
                for element in elements {
                    let (name, element) = element?;
                    members.push((name.into(), element.to_value()?));
                }
                let document = Document::new(members)
                    .map_err(|error| DecodeError::Content { problem: error.to_string() })?;
                Value::Document(Arc::new(document))
            }
            Self::Array(elements) => {
                let items: Result<Vec<Value>, DecodeError> =
                    elements.map(|element| element?.1.to_value()).collect();
                Value::Array(items?.into())
            }
            Self::Binary(bytes) => Value::Bytes(Bytes::copy_from_slice(bytes)),
            Self::Boolean(value) => Value::Boolean(value),
            Self::Datetime(millis) => {
                Value::string(&Timestamp::from_unix_millis(millis).to_string())
            }
            Self::Null => Value::Null,
            Self::Integer(number) => Value::Integer(number),
            Self::Decimal128 { low, high: DECIMAL128_EXPONENT_0 } => Value::unsigned(low),
            Self::Decimal128 { .. } => {
                return Err(DecodeError::UnsupportedType { kind: element::DECIMAL128 });
            }
        })
    }
}

#[cfg(test)]
mod tests;

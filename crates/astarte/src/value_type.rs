//! The types of values: what each holds, and how it stands in BSON.

use thiserror::Error;
use tidegate_model::{Timestamp, Value};
use tidegate_uplink::bson::{Element, Elements, IndexKey, Writer};

/// Most items of an array.
pub(crate) const ITEMS_MAX: usize = 1_024;
/// Most bytes of a text or a blob.
pub(crate) const BYTES_MAX: usize = 65_536;
/// Whole numbers up to here are doubles without loss.
const DOUBLE_EXACT: u64 = 1 << 53;

/// A type without arrays. Complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalar {
    /// A finite 64-bit float.
    Double,
    /// 32 bits, without the least number.
    Integer,
    /// 64 bits, without the least number.
    LongInteger,
    /// True or false.
    Boolean,
    /// At most 65,536 bytes of UTF-8.
    String,
    /// 1 to 65,536 bytes.
    BinaryBlob,
    /// Milliseconds since 1970; in the gateway a text as RFC 3339 has it.
    DateTime,
}

/// The type of a mapping: a scalar, or an array of at most 1,024 of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValueType {
    /// What it is, or what its items are.
    pub scalar: Scalar,
    /// Whether it is an array.
    pub is_array: bool,
}

/// Why a value cannot be sent, or was not understood.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ValueError {
    /// It is of another kind.
    #[error("is {found}, where `{wanted}` is expected")]
    Kind {
        /// What it is.
        found: &'static str,
        /// What the interface says.
        wanted: &'static str,
    },
    /// It is a number that the type does not have.
    #[error("is a number that `{0}` does not have")]
    Range(&'static str),
    /// It is no time.
    #[error("is no time as RFC 3339 has it")]
    Time,
    /// A text or a blob is too long.
    #[error("has {0} bytes; 65536 are allowed")]
    TooLong(usize),
    /// A blob is empty, which the far side takes for an unset property.
    #[error("is an empty blob, which cannot be told from no value")]
    Empty,
    /// An array has too many items.
    #[error("has {0} items; 1024 are allowed")]
    TooManyItems(usize),
    /// The bytes cannot be read.
    #[error("{0}")]
    Malformed(String),
}

const SCALARS: [(Scalar, &str, &str); 7] = [
    (Scalar::Double, "double", "doublearray"),
    (Scalar::Integer, "integer", "integerarray"),
    (Scalar::LongInteger, "longinteger", "longintegerarray"),
    (Scalar::Boolean, "boolean", "booleanarray"),
    (Scalar::String, "string", "stringarray"),
    (Scalar::BinaryBlob, "binaryblob", "binaryblobarray"),
    (Scalar::DateTime, "datetime", "datetimearray"),
];

impl ValueType {
    /// Reads the name of a type.
    pub fn parse(name: &str) -> Option<Self> {
        SCALARS.into_iter().find_map(|(scalar, one, many)| match name {
            name if name == one => Some(Self { scalar, is_array: false }),
            name if name == many => Some(Self { scalar, is_array: true }),
            _ => None,
        })
    }

    /// Returns the name.
    pub fn as_str(self) -> &'static str {
        let found = SCALARS.into_iter().find(|(scalar, ..)| *scalar == self.scalar);
        let (_, one, many) = found.expect("every scalar has its names");
        if self.is_array { many } else { one }
    }

    /// Writes a value under a key.
    pub(crate) fn write(
        self,
        writer: &mut Writer<'_>,
        key: &[u8],
        value: &Value,
    ) -> Result<(), ValueError> {
        if !self.is_array {
            return self.write_scalar(writer, key, value);
        }
        let Value::Array(items) = value else { return Err(self.other(value)) };
        if items.len() > ITEMS_MAX {
            return Err(ValueError::TooManyItems(items.len()));
        }
        let array = writer.begin_array(key);
        let mut index = IndexKey::new();
        for item in items.iter() {
            self.write_scalar(writer, index.next(), item)?;
        }
        writer.end(array);
        Ok(())
    }

    fn write_scalar(
        self,
        writer: &mut Writer<'_>,
        key: &[u8],
        value: &Value,
    ) -> Result<(), ValueError> {
        match (self.scalar, value) {
            (Scalar::Double, value) => writer.double(key, self.double(value)?),
            (Scalar::Integer, Value::Integer(number)) => {
                writer.int32(key, self.small(*number)?);
            }
            (Scalar::LongInteger, Value::Integer(number)) => {
                writer.int64(key, self.long(*number)?);
            }
            (Scalar::Integer | Scalar::LongInteger, Value::Unsigned(_)) => {
                return Err(ValueError::Range(self.as_str()));
            }
            (Scalar::Boolean, Value::Boolean(value)) => writer.boolean(key, *value),
            (Scalar::String, Value::String(text)) => {
                check_length(text.len())?;
                writer.string(key, text);
            }
            (Scalar::BinaryBlob, Value::Bytes(bytes)) => {
                check_length(bytes.len())?;
                if bytes.is_empty() && !self.is_array {
                    return Err(ValueError::Empty);
                }
                writer.binary(key, bytes);
            }
            (Scalar::DateTime, Value::String(text)) => {
                let time = Timestamp::parse(text).map_err(|_| ValueError::Time)?;
                writer.datetime(key, time.as_unix_millis());
            }
            (_, value) => return Err(self.other(value)),
        }
        Ok(())
    }

    fn double(self, value: &Value) -> Result<f64, ValueError> {
        let is_exact = match value {
            Value::Integer(number) => number.unsigned_abs() <= DOUBLE_EXACT,
            Value::Float(_) | Value::Double(_) => !value.is_not_finite(),
            Value::Unsigned(_) => false,
            other => return Err(self.other(other)),
        };
        value.as_f64().filter(|_| is_exact).ok_or(ValueError::Range(self.as_str()))
    }

    fn small(self, number: i64) -> Result<i32, ValueError> {
        let small = i32::try_from(number).ok().filter(|small| *small != i32::MIN);
        small.ok_or(ValueError::Range(self.as_str()))
    }

    fn long(self, number: i64) -> Result<i64, ValueError> {
        Some(number).filter(|it| *it != i64::MIN).ok_or(ValueError::Range(self.as_str()))
    }

    fn other(self, value: &Value) -> ValueError {
        ValueError::Kind { found: value.type_name(), wanted: self.as_str() }
    }

    /// Reads an element that the far side sent.
    pub(crate) fn read(self, element: Element<'_>) -> Result<Value, ValueError> {
        match (self.is_array, element) {
            (false, element) => self.read_scalar(element),
            (true, Element::Array(items)) => self.read_items(items),
            (true, other) => Err(self.unlike(other)),
        }
    }

    fn read_items(self, elements: Elements<'_>) -> Result<Value, ValueError> {
        let mut items = Vec::new();
        for element in elements {
            if items.len() == ITEMS_MAX {
                return Err(ValueError::TooManyItems(ITEMS_MAX + 1));
            }
            let (_, element) = element.map_err(|error| ValueError::Malformed(error.to_string()))?;
            items.push(self.read_scalar(element)?);
        }
        Ok(Value::Array(items.into()))
    }

    fn read_scalar(self, element: Element<'_>) -> Result<Value, ValueError> {
        Ok(match (self.scalar, element) {
            (Scalar::Double, Element::Double(number)) => {
                Value::Double(self.double(&Value::Double(number))?)
            }
            (Scalar::Double, Element::Integer(number)) => {
                Value::Double(self.double(&Value::Integer(number))?)
            }
            (Scalar::Integer, Element::Integer(number)) => {
                Value::Integer(self.small(number)?.into())
            }
            (Scalar::LongInteger, Element::Integer(number)) => Value::Integer(self.long(number)?),
            (Scalar::Boolean, Element::Boolean(value)) => Value::Boolean(value),
            (Scalar::String, Element::String(text)) => {
                check_length(text.len())?;
                Value::string(text)
            }
            (Scalar::BinaryBlob, Element::Binary(bytes)) => {
                check_length(bytes.len())?;
                Value::Bytes(bytes::Bytes::copy_from_slice(bytes))
            }
            (Scalar::DateTime, Element::Datetime(millis)) => {
                Value::string(&Timestamp::from_unix_millis(millis).to_string())
            }
            (_, other) => return Err(self.unlike(other)),
        })
    }

    fn unlike(self, element: Element<'_>) -> ValueError {
        let found = match element {
            Element::Double(_) => "float",
            Element::String(_) => "string",
            Element::Document(_) => "object",
            Element::Array(_) => "array",
            Element::Binary(_) => "bytes",
            Element::Boolean(_) => "boolean",
            Element::Datetime(_) => "time",
            Element::Null => "null",
            Element::Integer(_) | Element::Decimal128 { .. } => "integer",
        };
        ValueError::Kind { found, wanted: self.as_str() }
    }
}

fn check_length(bytes: usize) -> Result<(), ValueError> {
    if bytes > BYTES_MAX { Err(ValueError::TooLong(bytes)) } else { Ok(()) }
}

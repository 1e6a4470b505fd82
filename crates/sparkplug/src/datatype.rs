//! Types of metrics, and how values of the gateway are written in them and read out of them.

use tidegate_model::{Value, json};

use crate::{array, payload::MetricValue};

/// Integers up to this one are doubles, too.
const DOUBLE_INTEGER_MAX: u64 = 1 << 53;

macro_rules! datatypes {
    ($($name:ident = $code:literal,)*) => {
        /// The type of a metric (section 6.4.16 of the specification).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u8)]
        #[expect(missing_docs, reason = "the names of the specification")]
        pub enum DataType {
            $($name = $code,)*
        }

        impl DataType {
            /// Every type, by its code.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];
        }
    };
}

datatypes! {
    Int8 = 1, Int16 = 2, Int32 = 3, Int64 = 4, UInt8 = 5, UInt16 = 6, UInt32 = 7, UInt64 = 8, Float = 9, Double = 10,
    Boolean = 11, String = 12, DateTime = 13, Text = 14, Uuid = 15, DataSet = 16, Bytes = 17, File = 18, Template = 19,
    PropertySet = 20, PropertySetList = 21, Int8Array = 22, Int16Array = 23, Int32Array = 24, Int64Array = 25,
    UInt8Array = 26, UInt16Array = 27, UInt32Array = 28, UInt64Array = 29, FloatArray = 30, DoubleArray = 31,
    BooleanArray = 32, StringArray = 33, DateTimeArray = 34,
}

impl DataType {
    /// Returns the type with this code.
    pub fn from_code(code: u32) -> Option<Self> {
        let index = usize::try_from(code).ok()?.checked_sub(1)?;
        Self::ALL.get(index).copied()
    }

    /// Returns the code.
    pub const fn code(self) -> u32 {
        self as u32
    }

    /// Returns whether values of this type are arrays, packed into bytes.
    fn is_array(self) -> bool {
        self.code() >= Self::Int8Array.code()
    }

    /// Returns the type that a value is announced with; `None` for null, which says nothing.
    ///
    /// What Sparkplug has no type for (documents, arrays of several types) is text: its JSON.
    pub fn of(value: &Value) -> Option<Self> {
        Some(match value {
            Value::Null => return None,
            Value::Boolean(_) => Self::Boolean,
            Value::Integer(_) => Self::Int64,
            Value::Unsigned(_) => Self::UInt64,
            Value::Float(_) => Self::Float,
            Value::Double(_) => Self::Double,
            Value::String(_) | Value::Document(_) => Self::String,
            Value::Bytes(_) => Self::Bytes,
            Value::Array(items) => array::datatype(items).unwrap_or(Self::String),
        })
    }

    /// Returns a value as this type; `None` if that would lose something.
    ///
    /// Integers are widened to doubles where those have them exactly, so that a source that writes `21` and `21.5`
    /// stays of one type. Text takes text only: other values become text with [`text`](Self::text).
    pub fn fit(self, value: &Value) -> Option<MetricValue> {
        Some(match (self, value) {
            (Self::Boolean, Value::Boolean(truth)) => MetricValue::Boolean(*truth),
            (Self::Int64, Value::Integer(number)) => MetricValue::Long(number.cast_unsigned()),
            (Self::UInt64, Value::Integer(number)) => {
                MetricValue::Long(u64::try_from(*number).ok()?)
            }
            (Self::UInt64, Value::Unsigned(number)) => MetricValue::Long(*number),
            (Self::Float, Value::Float(number)) => MetricValue::Float(*number),
            (Self::Double, Value::Float(number)) => MetricValue::Double(f64::from(*number)),
            (Self::Double, Value::Double(number)) => MetricValue::Double(*number),
            (Self::Double, Value::Integer(number))
                if number.unsigned_abs() <= DOUBLE_INTEGER_MAX =>
            {
                MetricValue::Double(value.as_f64()?)
            }
            (Self::String, Value::String(text)) => MetricValue::String(text.clone()),
            (Self::String, Value::Document(_)) => Self::text(value),
            (Self::String, Value::Array(items)) if array::datatype(items).is_none() => {
                Self::text(value)
            }
            (Self::Bytes, Value::Bytes(bytes)) => MetricValue::Bytes(bytes.clone()),
            (datatype, Value::Array(items)) if datatype.is_array() => {
                MetricValue::Bytes(array::encode(datatype, items)?.into())
            }
            _ => return None,
        })
    }

    /// Returns a value as text: as it is if it is text, else its JSON.
    pub fn text(value: &Value) -> MetricValue {
        match value {
            Value::String(text) => MetricValue::String(text.clone()),
            other => MetricValue::String(other.to_string().into()),
        }
    }

    /// Returns what a host has written to a metric of this type, for a command; `None` if it is of another type or of one
    /// that is not written.
    ///
    /// Integers are taken from either field: libraries differ (`UInt32`).
    pub fn value(self, written: &MetricValue) -> Option<Value> {
        use MetricValue::{Boolean, Double, Float, Int, Long, String};
        let signed = |bits: u32| {
            match *written {
                Int(number) => Some(i64::from(number.cast_signed())),
                Long(number) => Some(number.cast_signed()),
                _ => None,
            }
            .filter(|number| {
                bits == 64 || (-(1_i64 << (bits - 1))..1_i64 << (bits - 1)).contains(number)
            })
        };
        let unsigned = |bits: u32| {
            match *written {
                Int(number) => Some(u64::from(number)),
                Long(number) => Some(number),
                _ => None,
            }
            .filter(|number| bits == 64 || *number < 1_u64 << bits)
        };
        match (self, written) {
            (Self::Int8, _) => signed(8).map(Value::Integer),
            (Self::Int16, _) => signed(16).map(Value::Integer),
            (Self::Int32, _) => signed(32).map(Value::Integer),
            (Self::Int64, _) => signed(64).map(Value::Integer),
            (Self::UInt8, _) => unsigned(8).map(Value::unsigned),
            (Self::UInt16, _) => unsigned(16).map(Value::unsigned),
            (Self::UInt32, _) => unsigned(32).map(Value::unsigned),
            (Self::UInt64 | Self::DateTime, _) => unsigned(64).map(Value::unsigned),
            (Self::Float, Float(number)) => Some(Value::Float(*number)),
            (Self::Double, Float(number)) => Some(Value::Double(f64::from(*number))),
            (Self::Double, Double(number)) => Some(Value::Double(*number)),
            (Self::Boolean, Boolean(truth)) => Some(Value::Boolean(*truth)),
            (Self::String, String(text)) => Some(read_text(text)),
            (Self::Text | Self::Uuid, String(text)) => Some(Value::String(text.clone())),
            _ => None,
        }
    }
}

/// Returns what text is meant for: a document where it is the JSON of one, as documents are announced as text.
fn read_text(text: &std::sync::Arc<str>) -> Value {
    let document = text.starts_with('{').then(|| json::parse_value(text.as_bytes()).ok()).flatten();
    document.unwrap_or_else(|| Value::String(text.clone()))
}

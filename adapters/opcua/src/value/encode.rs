//! Values to write, in the exact data type of the node (OPC 10000-4, section 5.11.4).

use std::str::FromStr;

use opcua::types::{
    Array, ByteString, DateTime, Guid, LocalizedText, NodeId, Variant, VariantScalarTypeId,
};
use thiserror::Error;
use tidegate_model::Value;

/// A built-in type that a value can be written as (OPC 10000-6, section 5.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BuiltIn {
    Boolean,
    SByte,
    Byte,
    Int16,
    UInt16,
    Int32,
    UInt32,
    Int64,
    UInt64,
    Float,
    Double,
    String,
    DateTime,
    Guid,
    ByteString,
    XmlElement,
    LocalizedText,
}

/// Whether a node holds one value or an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rank {
    /// One value.
    Scalar,
    /// A list of values.
    Array,
    /// Either.
    Any,
}

/// What a node takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NodeType {
    /// The type of one value.
    pub(crate) built_in: BuiltIn,
    /// One or many.
    pub(crate) rank: Rank,
}

/// A value is not one that the node takes.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum DoesNotFit {
    /// The value would have to be changed.
    #[error("{shown} does not fit the data type {wanted:?} of the node")]
    Value { shown: String, wanted: BuiltIn },
    /// One value for an array, or the other way round.
    #[error("the node takes {}", if *.rank == Rank::Array { "an array" } else { "one value, not an array" })]
    Rank { rank: Rank },
    /// An array of arrays.
    #[error("arrays of arrays cannot be written")]
    Matrix,
}

impl BuiltIn {
    /// Returns the type with a number of namespace 0: the type itself, or a standard type below it.
    pub(crate) fn of_data_type(data_type: &NodeId) -> Option<Self> {
        let number = data_type.as_u32().filter(|_| data_type.namespace == 0)?;
        Some(match number {
            1 => Self::Boolean,
            2 => Self::SByte,
            3 => Self::Byte,
            4 => Self::Int16,
            5 => Self::UInt16,
            // Enumerations are written as Int32 (OPC 10000-6, section 5.2.4).
            6 | 29 => Self::Int32,
            7 => Self::UInt32,
            8 => Self::Int64,
            9 => Self::UInt64,
            10 => Self::Float,
            // Duration.
            11 | 290 => Self::Double,
            // LocaleId, NumericRange.
            12 | 291 | 295 => Self::String,
            // UtcTime.
            13 | 294 => Self::DateTime,
            14 => Self::Guid,
            15 => Self::ByteString,
            16 => Self::XmlElement,
            21 => Self::LocalizedText,
            _ => return None,
        })
    }

    /// Returns the type of a value that the node holds now; `None` for null and for structures.
    ///
    /// The built-in types have the numbers of their data types (OPC 10000-6, section 5.1.2).
    pub(crate) fn of_value(value: &Variant) -> Option<Self> {
        Self::of_data_type(&NodeId::new(0, value.scalar_type_id()? as u32))
    }

    fn scalar_type(self) -> VariantScalarTypeId {
        match self {
            Self::Boolean => VariantScalarTypeId::Boolean,
            Self::SByte => VariantScalarTypeId::SByte,
            Self::Byte => VariantScalarTypeId::Byte,
            Self::Int16 => VariantScalarTypeId::Int16,
            Self::UInt16 => VariantScalarTypeId::UInt16,
            Self::Int32 => VariantScalarTypeId::Int32,
            Self::UInt32 => VariantScalarTypeId::UInt32,
            Self::Int64 => VariantScalarTypeId::Int64,
            Self::UInt64 => VariantScalarTypeId::UInt64,
            Self::Float => VariantScalarTypeId::Float,
            Self::Double => VariantScalarTypeId::Double,
            Self::String => VariantScalarTypeId::String,
            Self::DateTime => VariantScalarTypeId::DateTime,
            Self::Guid => VariantScalarTypeId::Guid,
            Self::ByteString => VariantScalarTypeId::ByteString,
            Self::XmlElement => VariantScalarTypeId::XmlElement,
            Self::LocalizedText => VariantScalarTypeId::LocalizedText,
        }
    }
}

impl Rank {
    /// Reads the attribute ValueRank (OPC 10000-3, section 5.6.2).
    pub(crate) fn of_value_rank(rank: i32) -> Self {
        match rank {
            -1 => Self::Scalar,
            0 | 1.. => Self::Array,
            _ => Self::Any,
        }
    }
}

/// Returns `value` as the node takes it.
///
/// Integers fit floating-point types, and doubles without a fraction fit integers; a number that is out
/// of range, and every other change of type, is refused.
pub(crate) fn variant(value: &Value, node: NodeType) -> Result<Variant, DoesNotFit> {
    let Value::Array(items) = value else {
        return match node.rank {
            Rank::Array => Err(DoesNotFit::Rank { rank: node.rank }),
            Rank::Scalar | Rank::Any => scalar(value, node.built_in),
        };
    };
    if node.rank == Rank::Scalar {
        return Err(DoesNotFit::Rank { rank: node.rank });
    }
    if items.iter().any(|item| matches!(item, Value::Array(_))) {
        return Err(DoesNotFit::Matrix);
    }
    let items =
        items.iter().map(|item| scalar(item, node.built_in)).collect::<Result<Vec<_>, _>>()?;
    let array = Array::new(node.built_in.scalar_type(), items);
    Ok(Variant::Array(Box::new(array.expect("every item was made of the same type"))))
}

/// Returns a scalar in the type that comes nearest to its own, for those who take values of any type.
pub(crate) fn natural(value: &Value) -> Option<Variant> {
    Some(match value {
        Value::Null => Variant::Empty,
        Value::Boolean(truth) => (*truth).into(),
        Value::Integer(number) => (*number).into(),
        Value::Unsigned(number) => (*number).into(),
        Value::Float(number) => (*number).into(),
        Value::Double(number) => (*number).into(),
        Value::String(text) => Variant::String((&**text).into()),
        Value::Bytes(bytes) => Variant::ByteString(ByteString { value: Some(bytes.to_vec()) }),
        Value::Array(_) | Value::Document(_) => return None,
    })
}

fn scalar(value: &Value, wanted: BuiltIn) -> Result<Variant, DoesNotFit> {
    exact(value, wanted).ok_or_else(|| DoesNotFit::Value {
        shown: value.to_string().chars().take(40).collect(),
        wanted,
    })
}

fn exact(value: &Value, wanted: BuiltIn) -> Option<Variant> {
    Some(match (wanted, value) {
        (BuiltIn::Boolean, Value::Boolean(truth)) => (*truth).into(),
        (BuiltIn::SByte, value) => i8::try_from(integer(value)?).ok()?.into(),
        (BuiltIn::Byte, value) => u8::try_from(integer(value)?).ok()?.into(),
        (BuiltIn::Int16, value) => i16::try_from(integer(value)?).ok()?.into(),
        (BuiltIn::UInt16, value) => u16::try_from(integer(value)?).ok()?.into(),
        (BuiltIn::Int32, value) => i32::try_from(integer(value)?).ok()?.into(),
        (BuiltIn::UInt32, value) => u32::try_from(integer(value)?).ok()?.into(),
        (BuiltIn::Int64, value) => i64::try_from(integer(value)?).ok()?.into(),
        (BuiltIn::UInt64, value) => u64::try_from(integer(value)?).ok()?.into(),
        (BuiltIn::Float, Value::Float(number)) => (*number).into(),
        (BuiltIn::Float, value) => narrow(value.as_f64()?)?.into(),
        (BuiltIn::Double, value) => value.as_f64()?.into(),
        (BuiltIn::String, Value::String(text)) => Variant::String((&**text).into()),
        (BuiltIn::XmlElement, Value::String(text)) => Variant::XmlElement((&**text).into()),
        (BuiltIn::LocalizedText, Value::String(text)) => {
            Variant::LocalizedText(Box::new(LocalizedText::from(&**text)))
        }
        (BuiltIn::DateTime, Value::String(text)) => {
            Variant::DateTime(Box::new(DateTime::parse_from_rfc3339(text).ok()?))
        }
        (BuiltIn::Guid, Value::String(text)) => Variant::Guid(Box::new(Guid::from_str(text).ok()?)),
        (BuiltIn::ByteString, Value::Bytes(bytes)) => {
            Variant::ByteString(ByteString { value: Some(bytes.to_vec()) })
        }
        _ => return None,
    })
}

/// Returns a whole number; doubles with a fraction or beyond what they count exactly are none.
fn integer(value: &Value) -> Option<i128> {
    /// Above it, doubles skip integers.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Integer(number) => Some((*number).into()),
        Value::Unsigned(number) => Some((*number).into()),
        Value::Float(_) | Value::Double(_) => {
            let number = value.as_f64()?;
            let whole = number.fract() == 0.0 && number.abs() <= EXACT;
            #[expect(clippy::cast_possible_truncation, reason = "checked to be whole and in range")]
            whole.then_some(number as i128)
        }
        _ => None,
    }
}

/// Returns the nearest float; finite numbers beyond its range are none.
fn narrow(number: f64) -> Option<f32> {
    #[expect(clippy::cast_possible_truncation, reason = "rounding is what Float means")]
    let float = number as f32;
    (float.is_finite() || !number.is_finite()).then_some(float)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use opcua::types::StatusCode;

    use super::*;

    const ALL: [BuiltIn; 17] = [
        BuiltIn::Boolean,
        BuiltIn::SByte,
        BuiltIn::Byte,
        BuiltIn::Int16,
        BuiltIn::UInt16,
        BuiltIn::Int32,
        BuiltIn::UInt32,
        BuiltIn::Int64,
        BuiltIn::UInt64,
        BuiltIn::Float,
        BuiltIn::Double,
        BuiltIn::String,
        BuiltIn::DateTime,
        BuiltIn::Guid,
        BuiltIn::ByteString,
        BuiltIn::XmlElement,
        BuiltIn::LocalizedText,
    ];

    fn written(value: &Value, built_in: BuiltIn) -> Option<Variant> {
        variant(value, NodeType { built_in, rank: Rank::Scalar }).ok()
    }

    #[test]
    fn main_14_a_value_is_written_in_the_type_of_the_node() {
        #[rustfmt::skip]
        let cases: [(Value, BuiltIn, Option<Variant>); 22] = [
            (Value::Double(66.5),           BuiltIn::Float,     Some(66.5_f32.into())),
            (Value::Double(66.3),           BuiltIn::Float,     Some(66.3_f32.into())),
            (Value::Double(1e39),           BuiltIn::Float,     None),
            (Value::Integer(66),            BuiltIn::Double,    Some(66.0_f64.into())),
            (Value::Integer(i64::MAX),      BuiltIn::Int64,     Some(i64::MAX.into())),
            (Value::Unsigned(u64::MAX),     BuiltIn::UInt64,    Some(u64::MAX.into())),
            (Value::Unsigned(u64::MAX),     BuiltIn::Int64,     None),
            (Value::Double(7.0),            BuiltIn::Int16,     Some(7_i16.into())),
            (Value::Double(7.5),            BuiltIn::Int16,     None),
            (Value::Double(1e18),           BuiltIn::Int64,     None),
            (Value::Double(f64::NAN),       BuiltIn::Int32,     None),
            (Value::Integer(256),           BuiltIn::Byte,      None),
            (Value::Integer(-1),            BuiltIn::UInt32,    None),
            (Value::Integer(1),             BuiltIn::Boolean,   None),
            (Value::Boolean(true),          BuiltIn::Boolean,   Some(true.into())),
            (Value::string("12"),           BuiltIn::Int32,     None),
            (Value::string("an"),           BuiltIn::String,    Some("an".into())),
            (Value::Integer(12),            BuiltIn::String,    None),
            (Value::Null,                   BuiltIn::String,    None),
            (Value::string("yesterday"),    BuiltIn::DateTime,  None),
            (Value::Bytes(Bytes::from_static(b"a")), BuiltIn::ByteString, Some(ByteString::from(vec![b'a']).into())),
            (Value::string("2026-03-01T12:00:00Z"), BuiltIn::DateTime, Some(DateTime::ymd_hms(2026, 3, 1, 12, 0, 0).into())),
        ];
        for (value, built_in, expected) in cases {
            assert_eq!(written(&value, built_in), expected, "{value} as {built_in:?}");
        }
    }

    #[test]
    fn every_type_is_known_again_from_a_value_of_it() {
        for built_in in ALL {
            let value = match built_in {
                BuiltIn::Boolean => Value::Boolean(true),
                BuiltIn::String | BuiltIn::XmlElement | BuiltIn::LocalizedText => {
                    Value::string("a")
                }
                BuiltIn::DateTime => Value::string("2026-03-01T12:00:00Z"),
                BuiltIn::Guid => Value::string("09087e75-8e5e-499b-954f-f2a9603db28a"),
                BuiltIn::ByteString => Value::Bytes(Bytes::from_static(b"a")),
                _ => Value::Integer(7),
            };
            let written = written(&value, built_in).unwrap();
            assert_eq!(BuiltIn::of_value(&written), Some(built_in));
            let node = NodeType { built_in, rank: Rank::Array };
            let array = variant(&Value::Array([value].into()), node).unwrap();
            assert_eq!(BuiltIn::of_value(&array), Some(built_in));
        }
        assert_eq!(BuiltIn::of_value(&Variant::Empty), None);
        assert_eq!(BuiltIn::of_value(&StatusCode::Good.into()), None);
    }

    #[test]
    fn one_value_and_a_list_are_not_mixed_up() {
        let list = Value::Array([Value::Integer(1), Value::Integer(2)].into());
        let node = |rank| NodeType { built_in: BuiltIn::Int32, rank };
        assert_eq!(variant(&list, node(Rank::Array)), Ok(vec![1_i32, 2].into()));
        assert_eq!(variant(&list, node(Rank::Any)), Ok(vec![1_i32, 2].into()));
        assert_eq!(
            variant(&list, node(Rank::Scalar)),
            Err(DoesNotFit::Rank { rank: Rank::Scalar })
        );
        let error = variant(&Value::Integer(1), node(Rank::Array)).unwrap_err();
        assert_eq!(error.to_string(), "the node takes an array");
        let matrix = Value::Array([list].into());
        assert_eq!(variant(&matrix, node(Rank::Array)), Err(DoesNotFit::Matrix));
    }

    #[test]
    fn value_ranks_are_read_as_the_standard_says() {
        #[rustfmt::skip]
        let cases = [(-3, Rank::Any), (-2, Rank::Any), (-1, Rank::Scalar), (0, Rank::Array), (1, Rank::Array), (2, Rank::Array)];
        for (rank, expected) in cases {
            assert_eq!(Rank::of_value_rank(rank), expected, "{rank}");
        }
    }
}

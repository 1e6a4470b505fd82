//! Arrays, packed into bytes: little-endian, whatever the specification's printed examples of floats say.

use tidegate_model::Value;

use crate::DataType;

/// Returns the type of an array whose items are all of one kind; `None` otherwise.
///
/// An empty one has no kind. Text with U+0000 in it has no array.
pub(crate) fn datatype(items: &[Value]) -> Option<DataType> {
    let kind = |value: &Value| {
        Some(match value {
            Value::Boolean(_) => DataType::BooleanArray,
            Value::Integer(_) => DataType::Int64Array,
            Value::Unsigned(_) => DataType::UInt64Array,
            Value::Float(_) => DataType::FloatArray,
            Value::Double(_) => DataType::DoubleArray,
            Value::String(text) if !text.contains('\0') => DataType::StringArray,
            _ => return None,
        })
    };
    let first = kind(items.first()?)?;
    items.iter().all(|item| kind(item) == Some(first)).then_some(first)
}

/// Packs values into an array of a type; `None` if one does not fit.
pub(crate) fn encode(datatype: DataType, items: &[Value]) -> Option<Vec<u8>> {
    let mut packed = Vec::new();
    if datatype == DataType::BooleanArray {
        packed.extend_from_slice(&u32::try_from(items.len()).ok()?.to_le_bytes());
        for eight in items.chunks(8) {
            let mut byte = 0;
            for (place, item) in eight.iter().enumerate() {
                let Value::Boolean(truth) = item else { return None };
                byte |= u8::from(*truth) << (7 - place);
            }
            packed.push(byte);
        }
        return Some(packed);
    }
    for item in items {
        put(datatype, item, &mut packed)?;
    }
    Some(packed)
}

fn put(datatype: DataType, item: &Value, packed: &mut Vec<u8>) -> Option<()> {
    macro_rules! integer {
        ($kind:ty) => {{
            let number = match item {
                Value::Integer(number) => <$kind>::try_from(*number).ok()?,
                Value::Unsigned(number) => <$kind>::try_from(*number).ok()?,
                _ => return None,
            };
            packed.extend_from_slice(&number.to_le_bytes());
        }};
    }
    match (datatype, item) {
        (DataType::Int8Array, _) => integer!(i8),
        (DataType::Int16Array, _) => integer!(i16),
        (DataType::Int32Array, _) => integer!(i32),
        (DataType::Int64Array, _) => integer!(i64),
        (DataType::UInt8Array, _) => integer!(u8),
        (DataType::UInt16Array, _) => integer!(u16),
        (DataType::UInt32Array, _) => integer!(u32),
        (DataType::UInt64Array | DataType::DateTimeArray, _) => integer!(u64),
        (DataType::FloatArray, Value::Float(number)) => {
            packed.extend_from_slice(&number.to_le_bytes());
        }
        (DataType::DoubleArray, Value::Double(number)) => {
            packed.extend_from_slice(&number.to_le_bytes());
        }
        (DataType::StringArray, Value::String(text)) if !text.contains('\0') => {
            packed.extend_from_slice(text.as_bytes());
            packed.push(0);
        }
        _ => return None,
    }
    Some(())
}

//! Data values from the server as value, status and time.

use bytes::Bytes;
use opcua::types::{Array, DataValue, DateTime, StatusCode, Variant, XmlElement};
use tidegate_model::{Status, Timestamp, Value};

use crate::namespaces::Namespaces;

/// 100 ns ticks from 1601-01-01, the zero of OPC UA, to 1970-01-01.
const UNIX_EPOCH_TICKS: i64 = 116_444_736_000_000_000;
/// Ticks of 9999-12-31T23:59:59, which stands for "no end".
const END_TICKS: i64 = 2_650_467_743_990_000_000;

/// One data value in the gateway's terms.
#[derive(Debug, PartialEq)]
pub(crate) struct Sample {
    /// The value; null where the status is bad or the type is not representable.
    pub(crate) value: Value,
    /// The server's status, or `Bad_DataEncodingUnsupported` for a type that cannot be told.
    pub(crate) status: Status,
    /// When the source produced the value; the server's time if the source gave none.
    pub(crate) time: Option<Timestamp>,
}

/// Takes a data value apart; types are kept, 64-bit integers exactly.
pub(crate) fn sample(data: DataValue, namespaces: &Namespaces) -> Sample {
    let status = data.status.unwrap_or(StatusCode::Good);
    let time =
        [data.source_timestamp, data.server_timestamp].into_iter().flatten().find_map(timestamp);
    match value(data.value.unwrap_or_default(), namespaces) {
        Some(value) => Sample { value, status: Status::from_code(status.bits()), time },
        None => {
            let status =
                if status.is_bad() { status } else { StatusCode::BadDataEncodingUnsupported };
            Sample { value: Value::Null, status: Status::from_code(status.bits()), time }
        }
    }
}

/// Returns the time, unless it is one of the two that mean "none" (OPC 10000-6, section 5.2.2.5).
fn timestamp(time: DateTime) -> Option<Timestamp> {
    let ticks = time.ticks();
    (ticks > 0 && ticks < END_TICKS)
        .then(|| Timestamp::from_unix_micros((ticks - UNIX_EPOCH_TICKS).div_euclid(10)))
}

/// Returns the value, or `None` if it is a structure, which the gateway cannot tell yet.
fn value(variant: Variant, namespaces: &Namespaces) -> Option<Value> {
    Some(match variant {
        Variant::Empty => Value::Null,
        Variant::Boolean(truth) => Value::Boolean(truth),
        Variant::SByte(number) => Value::Integer(number.into()),
        Variant::Byte(number) => Value::Integer(number.into()),
        Variant::Int16(number) => Value::Integer(number.into()),
        Variant::UInt16(number) => Value::Integer(number.into()),
        Variant::Int32(number) => Value::Integer(number.into()),
        Variant::UInt32(number) => Value::Integer(number.into()),
        Variant::Int64(number) => Value::Integer(number),
        Variant::UInt64(number) => Value::unsigned(number),
        Variant::Float(number) => Value::Float(number),
        Variant::Double(number) => Value::Double(number),
        Variant::String(text) => string(text.value().as_deref()),
        Variant::XmlElement(text) if text == XmlElement::null() => Value::Null,
        Variant::XmlElement(text) => Value::string(&text.to_string()),
        Variant::DateTime(time) => date_time(*time),
        Variant::Guid(guid) => Value::string(&guid.to_string()),
        Variant::StatusCode(status) => Value::Integer(status.bits().into()),
        Variant::ByteString(bytes) => {
            bytes.value.map_or(Value::Null, |bytes| Value::Bytes(Bytes::from(bytes)))
        }
        Variant::QualifiedName(name) => string(name.name.value().as_deref()),
        Variant::LocalizedText(text) => string(text.text.value().as_deref()),
        Variant::NodeId(node) => Value::String(namespaces.text(&node).into()),
        Variant::ExpandedNodeId(node) => Value::String(namespaces.expanded_text(&node).into()),
        Variant::Variant(inner) => value(*inner, namespaces)?,
        Variant::DataValue(inner) => value(inner.value.unwrap_or_default(), namespaces)?,
        Variant::Array(array) => nested(*array, namespaces)?,
        Variant::ExtensionObject(_) | Variant::DiagnosticInfo(_) => return None,
    })
}

fn string(text: Option<&str>) -> Value {
    text.map_or(Value::Null, Value::string)
}

/// Writes a time with all its seven digits, as many as are not zero but at least three.
fn date_time(time: DateTime) -> Value {
    let ticks = time.ticks();
    if ticks <= 0 {
        return Value::Null;
    }
    let ticks = ticks - UNIX_EPOCH_TICKS;
    let micros = Timestamp::from_unix_micros(ticks.div_euclid(10)).to_string();
    match ticks.rem_euclid(10) {
        0 => Value::string(&micros),
        last => {
            let seconds = micros.split('.').next().expect("a split has a first part");
            Value::String(
                format!("{seconds}.{:06}{last}Z", ticks.div_euclid(10).rem_euclid(1_000_000))
                    .into(),
            )
        }
    }
}

/// Turns an array into nested ones, one level for each dimension.
fn nested(array: Array, namespaces: &Namespaces) -> Option<Value> {
    let count = array.values.len();
    let values =
        array.values.into_iter().map(|item| value(item, namespaces)).collect::<Option<Vec<_>>>()?;
    let dimensions: Vec<usize> =
        array.dimensions.unwrap_or_default().into_iter().map(|n| n as usize).collect();
    let product = dimensions.iter().try_fold(1_usize, |product, n| product.checked_mul(*n));
    if dimensions.len() < 2 || count == 0 || product != Some(count) {
        return Some(Value::Array(values.into()));
    }
    let mut level = values;
    for &length in dimensions[1..].iter().rev() {
        let mut rest = level.into_iter();
        let mut rows = Vec::new();
        while rest.len() > 0 {
            rows.push(Value::Array(rest.by_ref().take(length).collect()));
        }
        level = rows;
    }
    Some(Value::Array(level.into()))
}

#[cfg(test)]
mod tests {
    use opcua::types::{
        ByteString, EUInformation, ExtensionObject, Guid, LocalizedText, NodeId, UAString,
        VariantScalarTypeId,
    };

    use super::*;

    fn decoded(variant: impl Into<Variant>) -> Value {
        value(variant.into(), &Namespaces::of(&["urn:press"])).unwrap()
    }

    fn integers(numbers: &[i64]) -> Value {
        Value::Array(numbers.iter().map(|number| Value::Integer(*number)).collect())
    }

    #[test]
    fn scalars_keep_type_and_digits() {
        #[rustfmt::skip]
        let cases: [(Variant, Value); 16] = [
            (Variant::Empty,                        Value::Null),
            (true.into(),                           Value::Boolean(true)),
            ((-128_i8).into(),                      Value::Integer(-128)),
            (255_u8.into(),                         Value::Integer(255)),
            (i64::MIN.into(),                       Value::Integer(i64::MIN)),
            (9_007_199_254_740_993_i64.into(),      Value::Integer(9_007_199_254_740_993)),
            (9_007_199_254_740_993_u64.into(),      Value::Integer(9_007_199_254_740_993)),
            (u64::MAX.into(),                       Value::Unsigned(u64::MAX)),
            (0.1_f32.into(),                        Value::Float(0.1)),
            (f64::NAN.into(),                       Value::Double(f64::NAN)),
            ("Höhe".into(),                         Value::string("Höhe")),
            (Variant::String(UAString::null()),     Value::Null),
            (StatusCode::BadTimeout.into(),         Value::Integer(0x800A_0000)),
            (ByteString::from(vec![1, 2]).into(),   Value::Bytes(Bytes::from_static(&[1, 2]))),
            (ByteString::null().into(),             Value::Null),
            (LocalizedText::new("de", "Presse").into(), Value::string("Presse")),
        ];
        for (variant, expected) in cases {
            assert_eq!(decoded(variant.clone()), expected, "{variant:?}");
        }
    }

    #[test]
    fn guids_and_node_ids_are_text() {
        let text = "09087e75-8e5e-499b-954f-f2a9603db28a";
        assert_eq!(decoded(text.parse::<Guid>().unwrap()), Value::string(text));
        assert_eq!(decoded(NodeId::new(1, "a")), Value::string("nsu=urn:press;s=a"));
    }

    #[test]
    fn date_times_keep_every_tick() {
        #[rustfmt::skip]
        let cases = [
            (0,              "2026-03-01T12:00:00.000Z"),
            (123_000_000,    "2026-03-01T12:00:00.123Z"),
            (123_456_000,    "2026-03-01T12:00:00.123456Z"),
            (123_456_700,    "2026-03-01T12:00:00.1234567Z"),
            (100,            "2026-03-01T12:00:00.0000001Z"),
        ];
        for (nanos, expected) in cases {
            assert_eq!(
                decoded(DateTime::ymd_hms_nano(2026, 3, 1, 12, 0, 0, nanos)),
                Value::string(expected)
            );
        }
        assert_eq!(decoded(DateTime::null()), Value::Null);
        assert_eq!(decoded(DateTime::endtimes()), Value::string("9999-12-31T23:59:59.000Z"));
    }

    #[test]
    fn arrays_and_matrices_are_nested() {
        assert_eq!(decoded(vec![1_i32, 2, 3]), integers(&[1, 2, 3]));
        let numbers: Vec<Variant> = (1..=6_i32).map(Variant::from).collect();
        let matrix = Array::new_multi(VariantScalarTypeId::Int32, numbers, [2_u32, 3]).unwrap();
        let expected = Value::Array([integers(&[1, 2, 3]), integers(&[4, 5, 6])].into());
        assert_eq!(decoded(Variant::Array(Box::new(matrix))), expected);
    }

    #[test]
    fn dimensions_that_lie_leave_a_flat_array() {
        for dimensions in [vec![2, 2], vec![u32::MAX, u32::MAX, u32::MAX], vec![0, 3]] {
            let array = Array {
                value_type: VariantScalarTypeId::Int32,
                values: vec![1_i32.into(), 2_i32.into(), 3_i32.into()],
                dimensions: Some(dimensions),
            };
            assert_eq!(decoded(Variant::Array(Box::new(array))), integers(&[1, 2, 3]));
        }
    }

    #[test]
    fn fault_o04_what_cannot_be_told_is_bad_and_never_a_good_zero() {
        let namespaces = Namespaces::of(&[]);
        let structure = ExtensionObject::from_message(EUInformation::default());
        let told = sample(DataValue::new_now(Variant::from(structure)), &namespaces);
        assert_eq!(told.value, Value::Null);
        assert_eq!(told.status, Status::from_code(0x8039_0000));
        let bad = DataValue { status: Some(StatusCode::BadSensorFailure), ..Default::default() };
        let told = sample(bad, &namespaces);
        assert_eq!((told.value, told.status), (Value::Null, Status::from_code(0x808C_0000)));
    }

    #[test]
    fn the_source_time_goes_before_the_servers() {
        let source = DateTime::ymd_hms(2026, 3, 1, 12, 0, 0);
        let server = DateTime::ymd_hms(2026, 3, 1, 12, 0, 1);
        let time = |source, server| {
            let data = DataValue {
                source_timestamp: source,
                server_timestamp: server,
                ..Default::default()
            };
            sample(data, &Namespaces::of(&[])).time.map(|time| time.to_string())
        };
        assert_eq!(time(Some(source), Some(server)).as_deref(), Some("2026-03-01T12:00:00.000Z"));
        assert_eq!(time(None, Some(server)).as_deref(), Some("2026-03-01T12:00:01.000Z"));
        for none in [DateTime::null(), DateTime::endtimes()] {
            assert_eq!(time(Some(none), Some(server)).as_deref(), Some("2026-03-01T12:00:01.000Z"));
        }
        assert_eq!(time(None, None), None);
    }

    #[test]
    fn status_codes_are_kept_to_the_bit() {
        let overflow = StatusCode::from(0x0000_0480);
        let data =
            DataValue { value: Some(1_i32.into()), status: Some(overflow), ..Default::default() };
        assert_eq!(sample(data, &Namespaces::of(&[])).status, Status::from_code(0x480));
    }
}

use opcua::types::{
    ByteString, DiagnosticInfo, ExtensionObject, Guid, LocalizedText, NodeId, UAString,
    VariantScalarTypeId, type_loader::ByteStringBody,
};

use super::*;
use crate::settings::Limits;

fn decoded(variant: impl Into<Variant>) -> Value {
    let namespaces = Namespaces::of(&["urn:press"]);
    let structures = Structures::new(&Limits::default());
    value(variant.into(), Reader { namespaces: &namespaces, structures: &structures }).unwrap()
}

fn sampled(data: DataValue) -> Sample {
    let namespaces = Namespaces::of(&[]);
    let structures = Structures::new(&Limits::default());
    sample(data, Reader { namespaces: &namespaces, structures: &structures })
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
    let unknown = ByteStringBody::new(vec![1, 2].into(), NodeId::new(2, 5_u32));
    #[rustfmt::skip]
    let cases: [(Variant, u32); 2] = [
        (ExtensionObject::new(unknown).into(),      0x8011_0000),
        (Variant::from(DiagnosticInfo::null()),     0x8039_0000),
    ];
    for (variant, status) in cases {
        for outer in [StatusCode::Good, StatusCode::UncertainLastUsableValue] {
            let mut data = DataValue::new_now(variant.clone());
            data.status = Some(outer);
            let told = sampled(data);
            assert_eq!((&told.value, told.status), (&Value::Null, Status::from_code(status)));
            assert!(told.undecoded.is_some());
        }
    }
    let bad = DataValue { status: Some(StatusCode::BadSensorFailure), ..Default::default() };
    let told = sampled(bad);
    assert_eq!((told.value, told.status), (Value::Null, Status::from_code(0x808C_0000)));
}

#[test]
fn values_within_values_are_told_with_the_worst_status() {
    let inner = |status| DataValue { value: Some(7.into()), status, ..Default::default() };
    let wrapped = Variant::Variant(Box::new(Variant::Variant(Box::new(7.into()))));
    assert_eq!(sampled(DataValue::new_now(wrapped)).value, Value::Integer(7));
    #[rustfmt::skip]
    let cases = [
        (StatusCode::Good,                      None,                                       0),
        (StatusCode::Good,                      Some(StatusCode::BadSensorFailure),         0x808C_0000),
        (StatusCode::UncertainLastUsableValue,  Some(StatusCode::Good),                     0x4090_0000),
        (StatusCode::BadTimeout,                Some(StatusCode::UncertainLastUsableValue), 0x800A_0000),
    ];
    for (outer, within, expected) in cases {
        let mut data = DataValue::new_now(Variant::DataValue(Box::new(inner(within))));
        data.status = Some(outer);
        let told = sampled(data);
        assert_eq!((told.value, told.status), (Value::Integer(7), Status::from_code(expected)));
    }
}

#[test]
fn the_source_time_goes_before_the_servers() {
    let source = DateTime::ymd_hms(2026, 3, 1, 12, 0, 0);
    let server = DateTime::ymd_hms(2026, 3, 1, 12, 0, 1);
    let time = |source, server| {
        let data =
            DataValue { source_timestamp: source, server_timestamp: server, ..Default::default() };
        sampled(data).time.map(|time| time.to_string())
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
    assert_eq!(sampled(data).status, Status::from_code(0x480));
}

/// A few bytes may claim as many dimensions as there are levels on a stack.
#[test]
fn too_many_dimensions_stay_flat() {
    let flat = |dimensions: usize| {
        let Value::Array(items) = nested(vec![Value::Boolean(true)], &vec![1; dimensions]) else {
            panic!("an array")
        };
        !matches!(items[0], Value::Array(_))
    };
    assert!(!flat(DIMENSIONS_MAX) && flat(DIMENSIONS_MAX + 1) && flat(65_536));
}

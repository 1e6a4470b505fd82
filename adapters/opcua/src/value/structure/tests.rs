use std::sync::Arc;

use opcua::types::{
    BinaryEncodable as _, DataValue, EUInformation, LocalizedText, Range, StatusCode,
};
use proptest::prelude::*;
use tidegate_model::{Status, json};

use super::*;
use crate::{
    namespaces::Namespaces,
    settings::Limits,
    structures::{EXTENSION_OBJECT, Structures, VARIANT},
    value::decode::{Reader, sample},
};

const INT16: u8 = 4;
const INT32: u8 = 6;
const DOUBLE: u8 = 11;
const STRING: u8 = 12;

fn id(number: u32) -> NodeId {
    NodeId::new(2, number)
}

fn field(name: &str, kind: Kind, dimensions: u8, optional: bool) -> Field {
    Field { name: name.into(), kind, dimensions, optional }
}

/// Knows 1, a press; 2, its drive; 3, a structure with optional fields; 4, a union; 5, an empty structure; 6, one
/// of arrays of empty ones; 7, one that holds itself.
fn structures() -> Structures {
    let one = |name, number| field(name, Kind::BuiltIn(number), 0, false);
    let many = |name, kind, dimensions| field(name, kind, dimensions, false);
    let press = vec![
        one("Temperature", DOUBLE),
        many("Names", Kind::BuiltIn(STRING), 1),
        many("Matrix", Kind::BuiltIn(INT16), 2),
        many("Drive", Kind::Inline(id(2)), 0),
        many("Drives", Kind::Inline(id(2)), 1),
        one("Any", VARIANT),
        one("More", EXTENSION_OBJECT),
    ];
    let optional = |name| field(name, Kind::BuiltIn(INT32), 0, true);
    let layouts = [
        (1, Form::Plain, press),
        (2, Form::Plain, vec![one("Mode", INT32)]),
        (3, Form::WithOptional, vec![optional("A"), one("B", INT32), optional("C")]),
        (4, Form::Union, vec![one("Number", INT32), one("Text", STRING)]),
        (5, Form::Plain, vec![]),
        (6, Form::Plain, vec![many("Empty", Kind::Inline(id(5)), 1)]),
        (7, Form::Plain, vec![many("Self", Kind::Inline(id(7)), 0)]),
    ];
    let mut structures = Structures::new(&Limits::default());
    for (number, form, fields) in layouts {
        structures.insert(id(number), Known::Layout(Arc::new(Layout { form, fields })));
    }
    structures.insert(id(9), Known::Untold);
    structures
}

fn object(number: u32, body: Vec<u8>) -> ExtensionObject {
    ExtensionObject::new(ByteStringBody::new(body.into(), id(number)))
}

/// Reads a body and shows the value as JSON.
fn check(number: u32, body: Vec<u8>) -> Result<String, Undecoded> {
    shown(object(number, body))
}

fn shown(object: ExtensionObject) -> Result<String, Undecoded> {
    let (namespaces, structures) = (Namespaces::of(&[]), structures());
    let reader = Reader { namespaces: &namespaces, structures: &structures };
    crate::value::value(object.into(), reader).map(|value| {
        let mut text = Vec::new();
        json::write_value(&value, &mut text);
        String::from_utf8(text).unwrap()
    })
}

fn ints(numbers: &[i32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// The press as a server would send it.
fn press() -> Vec<u8> {
    let structures = structures();
    let context = structures.context().context();
    let mut body = Vec::new();
    body.extend(21.5_f64.to_le_bytes());
    body.extend(ints(&[2, 1]));
    body.push(b'a');
    body.extend(ints(&[-1]));
    body.extend(ints(&[2, 2, 3]));
    body.extend((1..=6_i16).flat_map(i16::to_le_bytes));
    body.extend(ints(&[7]));
    body.extend(ints(&[2, 8, 9]));
    body.extend(Variant::from(true).encode_to_vec(&context));
    body.extend(object(4, ints(&[1, -5])).encode_to_vec(&context));
    body
}

#[test]
fn main_12_a_structure_is_a_document_of_its_fields() {
    let expected = r#"{"Temperature":21.5,"Names":["a",null],"Matrix":[[1,2,3],[4,5,6]],"Drive":{"Mode":7},"Drives":[{"Mode":8},{"Mode":9}],"Any":true,"More":{"Number":-5}}"#;
    assert_eq!(check(1, press()).unwrap(), expected);
}

#[test]
fn main_12_optional_fields_and_unions_have_the_members_that_are_there() {
    #[rustfmt::skip]
    let cases = [
        (3, ints(&[0b00, 2]),           Ok(r#"{"B":2}"#)),
        (3, ints(&[0b01, 1, 2]),        Ok(r#"{"A":1,"B":2}"#)),
        (3, ints(&[0b10, 2, 3]),        Ok(r#"{"B":2,"C":3}"#)),
        (3, ints(&[0b11, 1, 2, 3]),     Ok(r#"{"A":1,"B":2,"C":3}"#)),
        (4, ints(&[0]),                 Ok("null")),
        (4, ints(&[1, 5]),              Ok(r#"{"Number":5}"#)),
        (4, ints(&[2, -1]),             Ok(r#"{"Text":null}"#)),
        (4, ints(&[3, 5]),              Err(Undecoded::Malformed)),
        (2, ints(&[1, 2]),              Err(Undecoded::Malformed)),  // bytes too many
        (2, vec![1, 0],                 Err(Undecoded::Malformed)),  // and too few
        (8, ints(&[1]),                 Err(Undecoded::Unasked(id(8)))),
        (9, ints(&[1]),                 Err(Undecoded::Untold)),
    ];
    for (number, body, expected) in cases {
        assert_eq!(check(number, body).as_deref(), expected.as_ref().map(|text| *text), "{number}");
    }
}

#[test]
fn main_12_structures_of_the_standard_need_no_definition() {
    let range = Range { low: -10.0, high: 90.0 };
    assert_eq!(shown(ExtensionObject::new(range)).unwrap(), r#"{"Low":-10.0,"High":90.0}"#);
    let unit = EUInformation {
        namespace_uri: "http://www.opcfoundation.org/UA/units/un/cefact".into(),
        unit_id: 4_408_652,
        display_name: LocalizedText::new("", "°C"),
        description: LocalizedText::null(),
    };
    let expected = r#"{"NamespaceUri":"http://www.opcfoundation.org/UA/units/un/cefact","UnitId":4408652,"DisplayName":"°C","Description":null}"#;
    assert_eq!(shown(ExtensionObject::new(unit)).unwrap(), expected);
    assert_eq!(shown(ExtensionObject::null()).unwrap(), "null");
}

#[test]
fn fault_o02_fault_o03_a_structure_costs_no_more_than_its_bytes() {
    #[rustfmt::skip]
    let cases = [
        (6, ints(&[60_000])),                   // elements without bytes
        (6, ints(&[i32::MAX])),                 // more than an array may have
        (7, Vec::from([0])),                    // a structure without end
    ];
    for (number, body) in cases {
        assert_eq!(check(number, body), Err(Undecoded::Malformed), "{number}");
    }
    assert_eq!(check(6, ints(&[3])).unwrap(), r#"{"Empty":[{},{},{}]}"#);
}

#[test]
fn fault_o04_a_structure_that_is_none_is_bad() {
    let (namespaces, structures) = (Namespaces::of(&[]), structures());
    let reader = Reader { namespaces: &namespaces, structures: &structures };
    let data = DataValue::new_now(Variant::from(object(2, vec![1])));
    let told = sample(data, reader);
    let status = Status::from_code(StatusCode::BadDecodingError.bits());
    assert_eq!((told.value, told.status), (Value::Null, status));
}

proptest! {
    /// Bytes of any kind are a document or are refused, and never more than that.
    #[test]
    fn fault_o04_any_bytes_are_read_or_refused(
        number in 1..8_u32,
        body in prop::collection::vec(any::<u8>(), 0..200),
        cut in 0..200_usize,
        flip in any::<u8>(),
    ) {
        let _ = check(number, body);
        let mut changed = press();
        let cut = cut % changed.len();
        changed[cut] ^= flip;
        let _ = check(1, changed.clone());
        changed.truncate(cut);
        prop_assert!(check(1, changed).is_err());
    }
}

//! From readings to messages.

use tidegate_model::{Presentation, Qos, Status, Unit, Value};

use super::{captures, reading, set, shown, value};
use crate::{Applied, Fault};

/// Applies an entry with the given keys to a value, for somebody who waits and for nobody.
fn applied(keys: &str, input: Value) -> [String; 2] {
    let set = set(&format!("[[coap]]\nresource = '/s/{{room}}'\ntopic = 'h/{{room}}'\n{keys}\n"));
    let entry = &set.entries()[0];
    let captures = captures(&["boiler"]);
    [
        shown(&entry.apply(&captures, reading(input.clone()))),
        shown(&entry.apply_unattended(&captures, reading(input))),
    ]
}

/// main.13
#[test]
fn readings_become_messages() {
    #[rustfmt::skip]
    let cases = [
        ("",                                "21.5",         r#"h/boiler {"value":21.5,"quality":"good"}"#),
        ("type = 'float'",                  "21",           r#"h/boiler {"value":21.0,"quality":"good"}"#),
        ("type = 'float'\nunit = 'Cel'",    "21.5",         r#"h/boiler {"value":21.5,"quality":"good","unit":"Cel"}"#),
        ("type = 'integer'",                "9007199254740993", r#"h/boiler {"value":9007199254740993,"quality":"good"}"#),
        ("transform = 'value / 10'",        "217",          r#"h/boiler {"value":21.7,"quality":"good"}"#),
        ("transform = 'value * 10'\ntype = 'float'", "2",   r#"h/boiler {"value":20.0,"quality":"good"}"#),
        ("transform = 'value * 3'",         "3074457345618258603", r#"h/boiler {"value":9223372036854775809,"quality":"good"}"#),
        ("when = 'value > 100'",            "217",          r#"h/boiler {"value":217,"quality":"good"}"#),
        ("when = 'value > 100'",            "17",           "left out: when"),
        ("when = 'value.on'",               "{}",           "left out: when"),
        ("when = \"room == 'boiler'\"",     "1",            r#"h/boiler {"value":1,"quality":"good"}"#),
        ("when = 'value > 100'\ntransform = 'value / 10'", "217", r#"h/boiler {"value":21.7,"quality":"good"}"#),
        ("transform = 'value.weight'",      "{\"weight\":5}", r#"h/boiler {"value":5,"quality":"good"}"#),
        ("transform = 'value.weight'",      "{}",           "left out: no-value"),
        ("transform = 'value / 10'",        "null",         r#"h/boiler {"value":null,"quality":"good"}"#),
        ("transform = 'default(value, 0)'", "null",         r#"h/boiler {"value":0,"quality":"good"}"#),
        ("transform = '1 / value'",         "0",            r#"h/boiler {"value":null,"quality":"bad","status":2147483648}"#),
    ];
    for (keys, input, expected) in cases {
        let [attended, unattended] = applied(keys, value(input));
        assert_eq!(attended, expected, "{keys} of {input}");
        assert_eq!(unattended, expected, "{keys} of {input}, unattended");
    }
}

/// What does not fit is refused where somebody waits, and of bad quality where nobody does.
#[test]
fn what_does_not_fit_is_refused_or_bad() {
    const BAD: &str = r#"h/boiler {"value":null,"quality":"bad","status":2147483648"#;
    #[rustfmt::skip]
    let cases = [
        ("type = 'float'",              "\"hot\"",  "expected float, found the string \"hot\""),
        ("type = 'integer'",            "21.5",     "expected integer, found the float 21.5"),
        ("type = 'boolean'\nunit = '%'", "1",       "expected boolean, found the integer 1"),
        ("transform = 'value / 10'",    "\"hot\"",  "transform: `/` needs a number, found the string \"hot\""),
        ("transform = 'value.a'\ntype = 'float'", "{\"a\":true}", "expected float, found the boolean true"),
    ];
    for (keys, input, reason) in cases {
        let [attended, unattended] = applied(keys, value(input));
        let unit = if keys.contains("unit") { ",\"unit\":\"%\"" } else { "" };
        assert_eq!(attended, format!("refused: {reason}"), "{keys}");
        assert_eq!(unattended, format!("{BAD}{unit}}} ({reason})"), "{keys}");
    }
    let [attended, unattended] = applied("when = 'value > 5'", value("\"hot\""));
    assert_eq!(attended, "refused: when: `>` needs two strings, found the integer 5");
    assert_eq!(unattended, "left out: when-undecided");
}

/// `+ - *` of two integers an integer, overflow makes quality bad, whoever waits.
#[test]
fn overflow_makes_quality_bad() {
    let expected = "h/boiler {\"value\":null,\"quality\":\"bad\",\"status\":2147483648} \
                    (transform: the result of `*` does not fit into 64 bits)";
    let [attended, unattended] = applied("transform = 'value * 4'", Value::Integer(i64::MAX));
    assert_eq!(attended, expected);
    assert_eq!(unattended, expected);
    let [left_out, _] = applied("when = 'value * 4 > 1'", Value::Integer(i64::MAX));
    assert_eq!(left_out, "left out: when-undecided");
}

/// A sensor that fails shows as bad, not as silent, and keeps its own status code.
#[test]
fn a_reading_without_value_passes_with_its_status() {
    let set =
        set("[[coap]]\nresource = '/s'\ntopic = 'h'\ntransform = 'value / 10'\ntype = 'float'\n");
    let mut broken = reading(Value::Null);
    broken.status = Status::from_code(0x8031_0000);
    let Applied::Message { reading: result, fault, .. } =
        set.entries()[0].apply(&captures(&[]), broken)
    else {
        panic!("a message")
    };
    assert_eq!((result.value, result.status.code(), fault), (Value::Null, 0x8031_0000, None));
}

#[test]
fn the_unit_of_the_payload_wins_unless_the_value_is_transformed() {
    for (keys, expected) in [("type = 'float'", "K"), ("transform = 'value - 273.15'", "Cel")] {
        let set = set(&format!("[[coap]]\nresource = '/s'\ntopic = 'h'\nunit = 'Cel'\n{keys}\n"));
        let mut warm = reading(Value::Double(293.15));
        warm.unit = Some(Unit::new("K").unwrap());
        let Applied::Message { reading, .. } = set.entries()[0].apply(&captures(&[]), warm) else {
            panic!("a message")
        };
        assert_eq!(reading.unit.unwrap().as_str(), expected, "{keys}");
    }
}

#[test]
fn an_entry_sets_how_its_message_is_published() {
    let set =
        set("[[coap]]\nresource = '/a'\ntopic = 'a'\npublish = 'value'\nqos = 0\nretain = true\n\
         [[coap]]\nresource = '/b'\ntopic = 'b'\n");
    let published =
        |index: usize| match set.entries()[index].apply(&captures(&[]), reading(value("1"))) {
            Applied::Message { presentation, qos, retain, .. } => (presentation, qos, retain),
            other => panic!("{other:?}"),
        };
    assert_eq!(published(0), (Presentation::Value, Some(Qos::AtMostOnce), Some(true)));
    assert_eq!(published(1), (Presentation::Envelope, None, None));
}

#[test]
fn captures_that_give_no_topic_are_refused_even_unattended() {
    let set = set("[[http]]\npath = '/a'\neach = 'member'\ntopic = '{member}'\n");
    let entry = &set.entries()[0];
    for applied in [
        entry.apply(&captures(&[""]), reading(value("1"))),
        entry.apply_unattended(&captures(&[]), reading(value("1"))),
    ] {
        assert!(
            matches!(&applied, Applied::Refused(fault) if matches!(**fault, Fault::Topic(_))),
            "{applied:?}"
        );
    }
}

/// Same reading, same mapping file, same message: `type` reads texts, unless a transform comes first.
#[test]
fn the_type_of_a_text_is_that_before_the_transform() {
    let text = |keys: &str| {
        let set = set(&format!("[[coap]]\nresource = '/a'\ntopic = 'a'\n{keys}\n"));
        set.entries()[0].text_type().map(|it| it.as_str())
    };
    assert_eq!(text("type = 'string'"), Some("string"));
    assert_eq!(text("type = 'string'\ntransform = 'string(value)'"), None);
    assert_eq!(text(""), None);
}

//! What holds for every text and every reading.

use proptest::prelude::*;
use tidegate_model::{Captures, Document, Status, Timestamp, Value};

use super::parse;
use crate::{Inputs, ResultKind};

/// Values of every kind, nested a little.
fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Boolean),
        prop_oneof![any::<i64>(), -3..4_i64, Just(i64::MIN), Just(i64::MAX)]
            .prop_map(Value::Integer),
        any::<u64>().prop_map(Value::unsigned),
        any::<f32>().prop_map(Value::Float),
        any::<f64>().prop_map(Value::Double),
        "[ -~]{0,6}".prop_map(|text| Value::string(&text)),
        Just(Value::Bytes(bytes::Bytes::from_static(b"\0\xff"))),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(|items| Value::Array(items.into())),
            (inner.clone(), inner).prop_map(|(first, second)| {
                let members = vec![("a".into(), first), ("b".into(), second)];
                Value::Document(std::sync::Arc::new(Document::new(members).unwrap()))
            }),
        ]
    })
}

/// Texts of the language, most of them well typed enough to be accepted.
fn any_text() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("value".to_owned()),
        Just("value.a".to_owned()),
        Just("value[0]".to_owned()),
        Just("value.a.b".to_owned()),
        Just("time".to_owned()),
        Just("quality".to_owned()),
        Just("room".to_owned()),
        Just("line-id".to_owned()),
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("'text'".to_owned()),
        (-3..300_i64).prop_map(|number| number.to_string()),
        Just("18446744073709551615".to_owned()),
        (0.1..9e9_f64).prop_map(|number| format!("{number:?}")),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let operator = prop::sample::select(vec![
            "+", "-", "*", "/", "%", "==", "!=", "<", "<=", ">", ">=", "and", "or", "&&", "||",
        ]);
        let of_one = prop::sample::select(vec![
            "-", "not ", "!", "abs", "bool", "ceil", "floor", "number", "round", "sqrt", "string",
        ]);
        let of_two = prop::sample::select(vec!["min", "max", "bit", "default"]);
        let of_three = prop::sample::select(vec!["clamp", "lookup", "max"]);
        prop_oneof![
            (inner.clone(), operator, inner.clone())
                .prop_map(|(left, operator, right)| format!("({left}) {operator} ({right})")),
            (of_one, inner.clone()).prop_map(|(name, operand)| format!("{name}({operand})")),
            (of_two, inner.clone(), inner.clone())
                .prop_map(|(name, first, second)| format!("{name}({first}, {second})")),
            (of_three, inner.clone(), inner.clone(), inner.clone())
                .prop_map(|(name, a, b, c)| format!("{name}({a}, {b}, {c})")),
            (inner.clone(), inner.clone(), inner)
                .prop_map(|(c, a, b)| format!("if {c} then {a} else {b}")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_096))]

    /// Whatever is written, it is accepted or refused with places inside the text.
    #[test]
    fn parsing_never_panics(text in "[ -~°é{}]{0,60}") {
        if let Err(faults) = parse(&text, None, ResultKind::Value) {
            prop_assert!(!faults.is_empty());
            for fault in faults {
                prop_assert!(text.get(fault.range.clone()).is_some(), "{:?} of {text:?}", fault.range);
                prop_assert!(!fault.hint.is_empty());
            }
        }
    }

    /// Whatever a device sends, evaluation ends with a value or a reason, always the same.
    #[test]
    fn evaluation_never_panics(text in any_text(), value in any_value(), code in any::<u32>()) {
        let Ok(expression) = parse(&text, None, ResultKind::Value) else { return Ok(()) };
        let captures = Captures::new(["boiler".into(), "7".into(), "L2".into()]);
        let inputs = Inputs {
            value: &value,
            time: Timestamp::from_unix_micros(i64::MAX),
            status: Status::from_code(code),
            captures: &captures,
            unit: None,
            topic: None,
        };
        prop_assert_eq!(expression.evaluate(&inputs), expression.evaluate(&inputs));
    }

    /// An accepted expression cannot fail because of its text: what fails depends on the reading.
    #[test]
    fn types_are_what_the_check_said(text in any_text(), value in any_value()) {
        let Ok(expression) = parse(&text, None, ResultKind::Value) else { return Ok(()) };
        let captures = Captures::new(["boiler".into(), "7".into(), "L2".into()]);
        let inputs = Inputs {
            value: &value,
            time: Timestamp::from_unix_millis(0),
            status: Status::GOOD,
            captures: &captures,
            unit: None,
            topic: None,
        };
        match expression.evaluate(&inputs) {
            Ok(Value::Null) => {}
            Ok(result) => prop_assert!(expression.allows(&result), "{text} gave {result}"),
            Err(_) => {
                let depends = ["value", "quality", "time", "room", "line-id"];
                prop_assert!(depends.iter().any(|name| text.contains(name)), "{text}");
            }
        }
    }

    /// The integers of the language are those of mathematics, as long as 64 bits hold them.
    #[test]
    fn integer_arithmetic_is_exact(left in any::<i64>(), right in any::<i64>()) {
        let wide = |operation: fn(i128, i128) -> i128| {
            let result = operation(left.into(), right.into());
            i64::try_from(result).map(Value::Integer).or(u64::try_from(result).map(Value::unsigned)).ok()
        };
        let value = Value::Integer(left);
        for (sign, expected) in [
            ("+", wide(|left, right| left + right)),
            ("-", wide(|left, right| left - right)),
            ("*", wide(|left, right| left * right)),
        ] {
            let text = format!("value {sign} ({right})").replace("(--", "(-");
            let found = super::evaluate_value(&text, &value).ok();
            prop_assert_eq!(found, expected, "{} {} {}", left, sign, right);
        }
    }
}

//! What expressions give.

use tidegate_model::{Captures, Quality, Status, Timestamp, Value};

use super::{evaluate, evaluate_value, parse};
use crate::{EvaluationError, Expression, Inputs, ResultKind, Scope, Subject};

/// main.13
#[test]
fn expressions_give_values() {
    #[rustfmt::skip]
    let cases = [
        // expression                                   value           result as JSON
        ("value / 10",                                  "217",          "21.7"),
        ("value / 10",                                  "220",          "22.0"),   // always a double
        ("value * 2 + 1",                               "20",           "41"),
        ("value * 2 + 1",                               "20.5",         "42.0"),
        ("value - 2 - 1",                               "10",           "7"),
        ("100 / 10 / 2 * value",                        "1",            "5.0"),
        ("-value",                                      "5",            "-5"),
        ("- -value",                                    "5",            "5"),
        ("2 - -value",                                  "5",            "7"),
        ("(value - 32) * 5 / 9",                        "212",          "100.0"),
        ("value % 360",                                 "725",          "5"),
        ("value % 360",                                 "-725",         "-5"),
        ("value % 0.5",                                 "1.75",         "0.25"),
        ("1e3 + value",                                 "1",            "1001.0"),
        ("value + 1",                                   "9223372036854775807",  "9223372036854775808"),
        ("value - 1",                                   "18446744073709551615", "18446744073709551614"),
        ("value * 1",                                   "9007199254740993",     "9007199254740993"),
        ("value > 5 and value < 10",                    "7",            "true"),
        ("value > 5 && value < 10",                     "12",           "false"),
        ("value < 5 or value > 10",                     "7",            "false"),
        ("value < 5 || value > 10",                     "12",           "true"),
        ("not value == 7",                              "7",            "false"),
        ("!(value == 7)",                               "7",            "false"),
        ("not not true and value == 7",                 "7",            "true"),
        ("value == 7.0",                                "7",            "true"),
        ("value != \"7\"",                              "7",            "true"),
        ("value == 9007199254740992.0",                 "9007199254740993", "false"),
        ("value >= 'b'",                                "\"c\"",        "true"),
        ("value == null",                               "null",         "true"),
        ("value == true",                               "true",         "true"),
        ("value == value",                              "[1,{\"a\":2}]", "true"),
        ("if value > 100 then 100 else value",          "250",          "100"),
        ("if value > 100 then 100 else value",          "25",           "25"),
        ("if value == 1 then 'a' else if value == 2 then 'b' else 'c'", "2", "\"b\""),
        ("(if value > 1 then 1 else 2) * 10",           "0",            "20"),
        ("value.weight",                                "{\"weight\":12.5}",        "12.5"),
        ("value.a.b * 2",                               "{\"a\":{\"b\":4}}",        "8"),
        ("value['odd name']",                           "{\"odd name\":1}",         "1"),
        ("value[\"switch:0\"].apower",                  "{\"switch:0\":{\"apower\":3.5}}", "3.5"),
        ("value.list[1]",                               "{\"list\":[5,6]}",         "6"),
        ("value.if",                                    "{\"if\":1}",               "1"),
        ("value.weight",                                "{\"other\":1}",            "null"),
        ("value.weight",                                "5",                        "null"),
        ("value.list[9]",                               "{\"list\":[5,6]}",         "null"),
        ("value.weight / 10",                           "{}",                       "null"),
        ("value.weight > 10",                           "{}",                       "null"),
        ("value.a > 1 and false",                       "{}",                       "false"),
        ("true or value.a > 1",                         "{}",                       "true"),
        ("value.a > 1 or true",                         "{}",                       "true"),
        ("value.a > 1 and true",                        "{}",                       "null"),
        ("if value.a then 1 else 2",                    "{}",                       "null"),
        ("default(value.a, 0)",                         "{}",                       "0"),
        ("default(value.a, 0)",                         "{\"a\":5}",                "5"),
        ("time",                                        "0",            "1000"),
        ("quality",                                     "0",            "\"good\""),
        ("if quality == 'good' then value else null",   "[1]",          "[1]"),
        ("room",                                        "0",            "\"boiler\""),
        ("number(n) * value",                           "3",            "21"),
        ("line-id",                                     "0",            "\"L2\""),
        ("value",                                       "{\"a\":[1]}",  "{\"a\":[1]}"),
        ("'it\\'s \\\\ \"quoted\"'",                    "0",            "\"it's \\\\ \\\"quoted\\\"\""),
    ];
    for (text, value, expected) in cases {
        let result = evaluate(text, value).map(|result| result.to_string());
        assert_eq!(result.as_deref(), Ok(expected), "{text} of {value}");
    }
}

#[test]
fn functions_give_values() {
    #[rustfmt::skip]
    let cases = [
        ("round(value)",                        "21.5",         "22.0"),
        ("round(value)",                        "-21.5",        "-22.0"),
        ("round(value)",                        "7",            "7"),
        ("round(value, 1)",                     "21.449999",    "21.4"),
        ("round(value, 2)",                     "1.115",        "1.12"),
        ("round(value, 15)",                    "1e300",        "1e300"),
        ("floor(value)",                        "-1.5",         "-2.0"),
        ("ceil(value)",                         "1.2",          "2.0"),
        ("abs(value)",                          "-9223372036854775808", "9223372036854775808"),
        ("sqrt(value)",                         "9",            "3.0"),
        ("min(value, 5, 3.5)",                  "4",            "3.5"),
        ("max(value, 5)",                       "7",            "7"),
        ("max(value, value.a)",                 "7",            "null"),
        ("clamp(value, 0, 100)",                "-3",           "0"),
        ("clamp(value, 0, 100)",                "103.5",        "100"),
        ("clamp(value, 0, 100)",                "50",           "50"),
        ("scale(value, 4, 20, 0, 100)",         "12",           "50.0"),
        ("scale(value, 4, 20, 100, 0)",         "4",            "100.0"),
        ("bit(value, 3)",                       "8",            "true"),
        ("bit(value, 2)",                       "8",            "false"),
        ("bit(value, 63)",                      "-1",           "true"),
        ("bit(value, 63)",                      "18446744073709551615", "true"),
        ("bit(1, value)",                       "64",           "null"),
        ("lookup(value, 0, 'off', 1, 'on')",    "1",            "\"on\""),
        ("lookup(value, 0, 'off', 1, 'on')",    "2",            "null"),
        ("lookup(value, 0, 'off', 1, 'on', 'unknown')", "2",    "\"unknown\""),
        ("lookup(value, null, 'none', 'some')", "null",         "\"none\""),
        ("number(value)",                       "\" 12.5 \"",   "12.5"),
        ("number(value)",                       "\"12,5\"",     "null"),
        ("number(value)",                       "true",         "1"),
        ("string(value)",                       "12.0",         "\"12.0\""),
        ("string(value)",                       "false",        "\"false\""),
        ("bool(value)",                         "\"ON\"",       "true"),
        ("bool(value)",                         "\"off\"",      "false"),
        ("bool(value)",                         "\"maybe\"",    "null"),
        ("bool(value)",                         "0.0",          "false"),
        ("bool(value)",                         "-3",           "true"),
    ];
    for (text, value, expected) in cases {
        let result = evaluate(text, value).map(|result| result.to_string());
        assert_eq!(result.as_deref(), Ok(expected), "{text} of {value}");
    }
}

#[test]
fn what_the_reading_is_to_blame_for_is_said() {
    #[rustfmt::skip]
    let cases = [
        ("value / 10",          "\"hot\"",              "`/` needs a number, found the string \"hot\""),
        ("value.a + 1",         "{\"a\":true}",         "`+` needs a number, found the boolean true"),
        ("value * 2",           "18446744073709551615", "the result of `*` does not fit into 64 bits"),
        ("value + value",       "-9223372036854775808", "the result of `+` does not fit into 64 bits"),
        ("-value",              "18446744073709551615", "the result of `-` does not fit into 64 bits"),
        ("1 % value",           "0",                    "`%` by zero has no result"),
        ("value < 5",           "\"hot\"",              "`<` needs two strings, found the integer 5"),
        ("5 > value",           "\"hot\"",              "`>` needs two numbers, found the string \"hot\""),
        ("value > 5",           "{}",                   "`>` needs two numbers or two strings, found the object {}"),
        ("not value",           "1",                    "`not` needs true or false, found the integer 1"),
        ("if value then 1 else 2", "[]",                "`if` needs true or false, found the array []"),
        ("true and value",      "0",                    "`and` needs true or false, found the integer 0"),
        ("bit(value, 1)",       "1.5",                  "`bit(x, number)` needs an integer, found the float 1.5"),
        ("round(value)",        "\"x\"",                "`round(x, digits)` needs a number, found the string \"x\""),
        ("string(value)",       "[]",                   "`string(x)` needs a number or true or false, found the array []"),
    ];
    for (text, value, expected) in cases {
        let error = evaluate(text, value).map_err(|error| error.to_string());
        assert_eq!(error, Err(expected.to_owned()), "{text} of {value}");
    }
}

#[test]
fn not_a_number_goes_through_comparisons_and_extremes() {
    let nan = Value::Double(f64::NAN);
    #[rustfmt::skip]
    let cases = [
        ("value == value",      Value::Boolean(false)),
        ("value != value",      Value::Boolean(true)),
        ("value < 5",           Value::Boolean(false)),
        ("value >= 5",          Value::Boolean(false)),
        ("max(1, value, 2)",    nan.clone()),
        ("min(value, 2)",       nan.clone()),
        ("bool(value)",         Value::Null),
        ("string(value)",       Value::Null),
    ];
    for (text, expected) in cases {
        assert_eq!(evaluate_value(text, &nan), Ok(expected), "{text}");
    }
}

#[test]
fn a_32_bit_float_passes_unchanged() {
    let single = Value::Float(21.7);
    assert_eq!(evaluate_value("value", &single), Ok(single.clone()));
    assert_eq!(evaluate_value("if value > 0 then value else 0", &single), Ok(single.clone()));
    assert_eq!(evaluate_value("floor(value)", &single), Ok(Value::Float(21.0)));
    assert_eq!(evaluate_value("round(value / 10, 2)", &single), Ok(Value::Double(2.17)));
}

#[test]
fn conditions_hold_or_not_or_have_no_value() {
    let expression = parse("quality != 'bad' and value.on", None, ResultKind::Condition).unwrap();
    let holds = |value: &str, quality: Quality| {
        expression.holds(&Inputs {
            value: &tidegate_model::json::parse_value(value.as_bytes()).unwrap(),
            time: Timestamp::from_unix_millis(0),
            status: Status::from(quality),
            captures: &Captures::none(),
            unit: None,
            topic: None,
        })
    };
    assert_eq!(holds(r#"{"on":true}"#, Quality::Good), Ok(Some(true)));
    assert_eq!(holds(r#"{"on":true}"#, Quality::Bad), Ok(Some(false)));
    assert_eq!(holds("{}", Quality::Uncertain), Ok(None));
    assert!(matches!(
        holds(r#"{"on":1}"#, Quality::Good),
        Err(EvaluationError::Operand { operation: "`and`", .. })
    ));
}

/// uplink.4: of a reading that has a topic there is more to ask.
#[test]
fn records_have_a_topic_a_unit_and_a_status() {
    let topic = tidegate_model::Topic::new("hall1/t").unwrap();
    let unit = tidegate_model::Unit::new("Cel").unwrap();
    let scope = Scope { captures: &[], payload: None, subject: Subject::Record };
    let holds = |text: &str, unit| {
        let condition = Expression::parse(text, scope, ResultKind::Condition).unwrap();
        condition.holds(&Inputs {
            value: &Value::Integer(1),
            time: Timestamp::from_unix_millis(0),
            status: Status::from_code(0x8031_0000),
            captures: &Captures::none(),
            unit,
            topic: Some(&topic),
        })
    };
    #[rustfmt::skip]
    let cases = [
        ("topic == \"hall1/t\"",    Some(&unit),    Some(true)),
        ("unit == \"Cel\"",         Some(&unit),    Some(true)),
        ("unit == null",            None,           Some(true)),
        ("unit == \"Cel\"",         None,           Some(false)),
        ("status == 2150694912",    None,           Some(true)),
    ];
    for (text, unit, expected) in cases {
        assert_eq!(holds(text, unit), Ok(expected), "{text}");
    }
    let elsewhere = Scope { captures: &[], payload: None, subject: Subject::Reading };
    let faults = Expression::parse("unit == \"Cel\"", elsewhere, ResultKind::Condition);
    assert_eq!(faults.unwrap_err()[0].message, "there is no `unit` here");
}

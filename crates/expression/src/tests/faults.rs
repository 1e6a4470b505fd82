//! What is refused when a file is loaded, and where.

use tidegate_model::PayloadFormat;

use super::parse;
use crate::{DEPTH_MAX, LENGTH_MAX, ResultKind};

/// Gives the first fault as `marked text | message | hint`.
fn fault(text: &str, payload: Option<PayloadFormat>, result: ResultKind) -> String {
    match parse(text, payload, result) {
        Ok(_) => "none".to_owned(),
        Err(faults) => {
            let first = &faults[0];
            format!("{} | {} | {}", &text[first.range.clone()], first.message, first.hint)
        }
    }
}

/// main.5, main.13
#[test]
fn what_the_text_reveals_is_refused_with_its_place() {
    #[rustfmt::skip]
    let cases = [
        ("valu / 10",           "valu | there is no `valu` here | did you mean `value`?"),
        ("value / rooom",       "rooom | there is no `rooom` here | did you mean `room`?"),
        ("value / abs",         "abs | there is no `abs` here | it is a function: write abs(…)"),
        ("celsius",             "celsius | there is no `celsius` here | known here: `value`, `time`, `quality`, `room`, `n`, `line-id`; strings stand in quotes"),
        ("roud(value)",         "roud | there is no function `roud` | did you mean `round`?"),
        ("round()",             "round() | `round` does not take 0 arguments | write `round(x, digits)`"),
        ("abs(1, 2)",           "abs(1, 2) | `abs` does not take 2 arguments | write `abs(x)`"),
        ("value / 0",           "0 | this divides by zero | divide by something else than 0"),
        ("value % (1 - 1)",     "(1 - 1) | this divides by zero | divide by something else than 0"),
        ("value + (9223372036854775807 * 4)", "9223372036854775807 * 4 | the result of `*` does not fit into 64 bits | write the result"),
        ("value * (1e308 * 10)", "1e308 * 10 | the result is not a finite number | check the operands"),
        ("room / 10",           "room | `/` needs a number, found a string | number(x) reads a number from a string"),
        ("value + 'a'",         "'a' | `+` needs a number, found a string | number(x) reads a number from a string"),
        ("value + null",        "null | `+` needs a number, found no value | null is no value"),
        ("value and 5",         "5 | `and` needs true or false, found a number | compare it with something, such as `value > 0`"),
        ("not quality",         "quality | `not` needs true or false, found a string | compare it with something, such as `value > 0`"),
        ("if 1 then 2 else 3",  "1 | `if` needs true or false, found a number | compare it with something, such as `value > 0`"),
        ("n == 7",              "n == 7 | `==` cannot compare a string with a number | number(x) reads a number from a string; strings stand in quotes"),
        ("lookup(n, 7, 'a')",   "n, 7 | `==` cannot compare a string with a number | number(x) reads a number from a string; strings stand in quotes"),
        ("true < false",        "true < false | `<` cannot compare true or false with true or false | only numbers and strings have an order"),
        ("quality == 'god'",    "'god' | `quality` is never \"god\" | did you mean \"good\"?"),
        ("'ok' != quality",     "'ok' | `quality` is never \"ok\" | write \"good\", \"uncertain\" or \"bad\""),
        ("bit(value / 2, 1)",   "value / 2 | `bit(x, number)` needs a number, found a number | bits are those of a whole number"),
        ("bit(value, 64)",      "64 | bits are counted from 0, the lowest, to 63 | write a number from 0 to 63"),
        ("round(value, value)", "value | the number of digits must be written out | write a number from 0 to 15"),
        ("clamp(value, 9, 1)",  "9, 1 | the lower limit is above the upper one | write the lower limit first"),
        ("scale(value, 4, 4, 0, 1)", "4, 4 | the input range is empty: this divides by zero | write two different limits"),
        ("default(time, 'never')", "time | this always has a value | write it alone; `default` is for members that may be missing"),
        ("if 1 < 2 then value else 0", "1 < 2 | this is always true | write the result alone"),
        ("lookup(1, 1, value)", "1 | what is looked up is always the same | look up something of the reading, such as `value`"),
        ("null",                "null | this never has a value | to leave readings out, write a condition under `when`"),
        ("room.x",              "room.x | only `value` has members | write the member directly behind it, such as `value.weight`"),
    ];
    for (text, expected) in cases {
        assert_eq!(fault(text, None, ResultKind::Value), expected, "{text}");
    }
}

#[test]
fn wrong_syntax_is_refused_with_its_place() {
    #[rustfmt::skip]
    let cases = [
        ("",                    " | the expression is empty | write a formula such as `value / 10`, or remove the key"),
        ("value /",             " | expected a value, found the end | the expression ends too early"),
        ("value 10",            "10 | unexpected the number 10 | an operator is missing before it"),
        ("value * 21,5",        ", | unexpected `,` | write a decimal point, not a comma"),
        ("(value",              " | expected `)`, found the end | close it with `)`"),
        ("value)",              ") | unexpected `)` | it closes nothing; remove it"),
        ("value = 5",           "= | `=` does not compare | write `==`"),
        ("value => 5",          "=> | `=>` is not an operator here | write `>=`"),
        ("value =< 5",          "=< | `=<` is not an operator here | write `<=`"),
        ("value <> 5",          "<> | `<>` is not an operator here | write `!=`"),
        ("value ** 2",          "** | `**` is not an operator here | multiply it by itself: x * x"),
        ("value ^ 2",           "^ | `^` is not an operator here | multiply it by itself: x * x"),
        ("value & 1",           "& | `&` is not an operator here | write `and`; a single bit is bit(x, number)"),
        ("value ? 1 : 2",       "? | `?` is not an operator here | write `if condition then a else b`"),
        ("value.a ?? 1",        "?? | `??` is not an operator here | write default(x, otherwise)"),
        ("{room}",              "{ | `{` is not an operator here | captures are named without braces here"),
        ("value / 10 °",        "° | `°` does not belong in an expression | operators are + - * / % == != < <= > >= and or not"),
        ("1 < value < 5",       "< | comparisons cannot be chained | write `a < b and b < c`"),
        ("if value > 1 then 2", " | expected `else`, found the end | write `if condition then a else b`"),
        ("1 + if true then 1 else 2", "if | expected a value, found `if` | put the `if` in parentheses"),
        ("and value",           "and | expected a value, found `and` | a value is missing before it"),
        (".5 * value",          ". | expected a value, found `.` | write a digit before the point: 0.5"),
        ("5. * value",          "5. | `5.` is not a number | write digits with a decimal point or an exponent, such as 10, 0.5 or 1e3"),
        ("021 * value",         "021 | `021` is not a number | write it without leading zeros"),
        ("10ms",                "10ms | `10ms` is not a number | write digits with a decimal point or an exponent, such as 10, 0.5 or 1e3"),
        ("value == 'a",         "'a | the string is not closed | close it with '"),
        (r"value == 'a\n'",     r"\n | `\n` is not an escape | a backslash stands before a quote or a backslash only"),
        ("value.5",             "5 | expected the name of a member, found the number 5 | write `value.weight`, or `value[\"a name\"]` for names that are not plain words"),
        ("value[",              " | expected a name or a place, found the end | write `value[\"a name\"]` or `value[0]`"),
        ("value[-1]",           "- | expected a name or a place, found `-` | write `value[\"a name\"]` or `value[0]`"),
        ("value[0",             " | expected `]`, found the end | close it with `]`"),
    ];
    for (text, expected) in cases {
        assert_eq!(fault(text, None, ResultKind::Value), expected, "{text}");
    }
}

#[test]
fn a_payload_format_limits_what_a_value_can_be() {
    #[rustfmt::skip]
    let cases = [
        ("value / 10",      Some(PayloadFormat::Text),  "none"),
        ("value == null",   Some(PayloadFormat::Text),  "value == null | `==` cannot compare true or false or a number or a string with no value | compare two of a kind"),
        ("value.a",         Some(PayloadFormat::Text),  "value.a | `value` is true or false or a number or a string here and has no members | write payload = \"json\" to read objects and arrays"),
        ("value / 10",      Some(PayloadFormat::Raw),   "value | `/` needs a number, found bytes | use a number here"),
        ("value.a",         Some(PayloadFormat::Json),  "none"),
    ];
    for (text, payload, expected) in cases {
        assert_eq!(fault(text, payload, ResultKind::Value), expected, "{text}");
    }
}

#[test]
fn a_condition_must_be_able_to_be_true() {
    #[rustfmt::skip]
    let cases = [
        ("value",       "none"),
        ("value.on",    "none"),
        ("value > 1",   "none"),
        ("value + 1",   "value + 1 | `when` needs true or false, found a number | compare it with something, such as `value > 0`"),
        ("room",        "room | `when` needs true or false, found a string | compare it with something, such as `value > 0`"),
        ("null",        "null | `when` needs true or false, found no value | compare it with something, such as `value > 0`"),
    ];
    for (text, expected) in cases {
        assert_eq!(fault(text, None, ResultKind::Condition), expected, "{text}");
    }
}

#[test]
fn every_type_fault_of_one_text_is_found() {
    let faults = parse("valu / 0 + roud(room * 2)", None, ResultKind::Value).unwrap_err();
    let messages: Vec<&str> = faults.iter().map(|fault| fault.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "there is no `valu` here",
            "this divides by zero",
            "`*` needs a number, found a string",
            "there is no function `roud`",
        ]
    );
}

#[test]
fn length_and_depth_have_limits() {
    let chain = |count: usize| format!("value{}", " + 1".repeat(count));
    let parens = |count: usize| format!("{}value{}", "(".repeat(count), ")".repeat(count));
    let minus = |count: usize| format!("{}value", "- ".repeat(count));
    let nots = |count: usize| format!("{}value", "not ".repeat(count));
    let accepted = |text: String| parse(&text, None, ResultKind::Value).is_ok();
    assert!(accepted(chain(DEPTH_MAX - 1)) && !accepted(chain(DEPTH_MAX)));
    assert!(accepted(parens(DEPTH_MAX - 1)) && !accepted(parens(DEPTH_MAX)));
    assert!(accepted(minus(DEPTH_MAX - 1)) && !accepted(minus(DEPTH_MAX)));
    assert!(accepted(nots(DEPTH_MAX - 1)) && !accepted(nots(DEPTH_MAX)));
    assert!(accepted(format!("value{}", " ".repeat(LENGTH_MAX - 5))));
    assert!(!accepted(format!("value{}", " ".repeat(LENGTH_MAX - 4))));
}

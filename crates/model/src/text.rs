//! Plain text payloads as values.

use crate::{TypeMismatch, Value, ValueType, json};

/// Reads a text payload: by the JSON grammar for numbers and truth values, all else is text.
///
/// A number without fraction and exponent that fits is an integer, any other number a double; `+5`,
/// `021`, `21,5` and `NaN` are text. White space around the text is not part of it. With `wanted`, the result has
/// that type; [`ValueType::String`] takes the text as it is.
///
/// # Errors
///
/// [`TypeMismatch`] if the text is not of the wanted type.
pub fn value_from_text(text: &str, wanted: Option<ValueType>) -> Result<Value, TypeMismatch> {
    let text = text.trim_matches([' ', '\t', '\r', '\n']);
    if wanted == Some(ValueType::String) {
        return Ok(Value::string(text));
    }
    let value = match text {
        "true" => Value::Boolean(true),
        "false" => Value::Boolean(false),
        _ => json::parse_number(text).unwrap_or_else(|| Value::string(text)),
    };
    match wanted {
        Some(wanted) => wanted.pin(value),
        None => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_follows_the_json_grammar() {
        #[rustfmt::skip]
        let cases = [
            ("21",                      Value::Integer(21)),
            ("-0",                      Value::Integer(0)),
            ("21.0",                    Value::Double(21.0)),
            ("2e3",                     Value::Double(2000.0)),
            (" 21.5\r\n",               Value::Double(21.5)),
            ("9223372036854775807",     Value::Integer(i64::MAX)),
            ("18446744073709551615",    Value::Unsigned(u64::MAX)),
            ("18446744073709551616",    Value::Double(18_446_744_073_709_551_616.0)),
            ("true",                    Value::Boolean(true)),
            ("+5",                      Value::string("+5")),
            ("021",                     Value::string("021")),
            ("21,5",                    Value::string("21,5")),
            ("NaN",                     Value::string("NaN")),
            ("1e999",                   Value::string("1e999")),
            ("",                        Value::string("")),
            ("null",                    Value::string("null")),
        ];
        for (text, expected) in cases {
            assert_eq!(value_from_text(text, None), Ok(expected), "{text}");
        }
        assert_eq!(value_from_text("21", Some(ValueType::Float)), Ok(Value::Double(21.0)));
        assert_eq!(value_from_text("21", Some(ValueType::String)), Ok(Value::string("21")));
        assert!(value_from_text("hot", Some(ValueType::Float)).is_err());
    }
}

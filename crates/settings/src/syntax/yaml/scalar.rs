//! Plain scalars by the core schema (YAML 1.2.2, section 10.3.2).

use crate::NodeValue;

/// Why a plain scalar has no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLarge;

/// Gives the value of a scalar without quotes. `yes`, `no`, `on` and `off` are strings.
pub(super) fn resolve(text: &str) -> Result<NodeValue, TooLarge> {
    let value = match text {
        "" | "~" | "null" | "Null" | "NULL" => NodeValue::Null,
        "true" | "True" | "TRUE" => NodeValue::Boolean(true),
        "false" | "False" | "FALSE" => NodeValue::Boolean(false),
        ".nan" | ".NaN" | ".NAN" => NodeValue::Float(f64::NAN),
        _ => return number(text),
    };
    Ok(value)
}

fn number(text: &str) -> Result<NodeValue, TooLarge> {
    for (prefix, radix) in [("0x", 16), ("0o", 8)] {
        if let Some(digits) = text.strip_prefix(prefix)
            && !digits.is_empty()
            && digits.chars().all(|digit| digit.is_digit(radix))
        {
            return i64::from_str_radix(digits, radix)
                .map(NodeValue::Integer)
                .map_err(|_| TooLarge);
        }
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") {
        let infinity = if text.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY };
        return Ok(NodeValue::Float(infinity));
    }
    if !unsigned.is_empty() && unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().map(NodeValue::Integer).map_err(|_| TooLarge);
    }
    if is_float(unsigned) {
        let value: f64 = text.parse().map_err(|_| TooLarge)?;
        return if value.is_finite() { Ok(NodeValue::Float(value)) } else { Err(TooLarge) };
    }
    Ok(NodeValue::String(text.to_owned()))
}

/// `( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )?`
fn is_float(unsigned: &str) -> bool {
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mantissa_fits =
        digits(whole) && digits(fraction) && !(whole.is_empty() && fraction.is_empty());
    let exponent_fits = exponent.is_none_or(|exponent| {
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        !exponent.is_empty() && digits(exponent)
    });
    mantissa_fits && exponent_fits
}

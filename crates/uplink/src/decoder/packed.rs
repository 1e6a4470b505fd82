//! The bytes of packed columns.

use tidegate_model::Value;

use super::DecodeError;
use crate::{
    bson::{Element, Elements},
    encoder::packed::{POWERS, kind},
    wire::Input,
};

/// Reads packed times, at most `most`: how many units each is after the base.
pub(super) fn times(bytes: &[u8], most: usize) -> Result<Vec<i64>, DecodeError> {
    // Each takes a byte at least, and the last byte of each is below 0x80.
    let count = bytes.iter().filter(|byte| **byte < 0x80).count();
    if count > most {
        return Err(DecodeError::TooManyElements { limit: most });
    }
    differences(bytes, count, "dt")
}

/// Reads packed values: as many as `count` says.
pub(super) fn values(
    kind: i64,
    exponent: i64,
    count: usize,
    values: Element<'_>,
) -> Result<Vec<Value>, DecodeError> {
    match (i32::try_from(kind).unwrap_or(0), values) {
        (kind::DECIMAL, Element::Binary(bytes)) => decimals(bytes, count, exponent, Value::Double),
        (kind::DECIMAL_FLOAT, Element::Binary(bytes)) =>
        {
            #[expect(clippy::cast_possible_truncation, reason = "rounding is meant")]
            decimals(bytes, count, exponent, |number| Value::Float(number as f32))
        }
        (kind::DOUBLE, Element::Binary(bytes)) => {
            fixed(bytes, count, |number| Value::Double(f64::from_le_bytes(number)))
        }
        (kind::FLOAT, Element::Binary(bytes)) => {
            fixed(bytes, count, |number| Value::Float(f32::from_le_bytes(number)))
        }
        (kind::INTEGER, Element::Binary(bytes)) => {
            let integers = differences(bytes, count, "x")?;
            Ok(integers.into_iter().map(Value::Integer).collect())
        }
        (kind::BOOLEAN, Element::Binary(bytes)) => booleans(bytes, count),
        (kind::STRING, Element::Array(array)) => {
            array_of(array, |element| matches!(element, Element::String(_)))
        }
        (kind::ANYTHING, Element::Array(array)) => array_of(array, |_| true),
        (kind::DECIMAL..=kind::DECIMAL_FLOAT, _) => {
            Err(DecodeError::content("the values `x` of a stream are not what `k` says"))
        }
        _ => {
            Err(DecodeError::content(format!("a stream is packed as kind {kind}, not known here")))
        }
    }
}

fn wrong_length() -> DecodeError {
    DecodeError::content("a stream has not as many times as values")
}

fn decimals(
    bytes: &[u8],
    count: usize,
    exponent: i64,
    value: impl Fn(f64) -> Value,
) -> Result<Vec<Value>, DecodeError> {
    let power = usize::try_from(exponent).ok().and_then(|exponent| POWERS.get(exponent));
    let power = power.ok_or_else(|| DecodeError::content("an exponent `e` is out of range"))?;
    let integers = differences(bytes, count, "x")?;
    #[expect(clippy::cast_precision_loss, reason = "the encoder stays below 2^53")]
    Ok(integers.into_iter().map(|integer| value(integer as f64 / power)).collect())
}

fn differences(bytes: &[u8], count: usize, name: &str) -> Result<Vec<i64>, DecodeError> {
    let broken = || DecodeError::content(format!("the numbers in `{name}` are broken off"));
    if count > bytes.len() {
        return Err(wrong_length());
    }
    let mut input = Input::new(bytes);
    let mut numbers = Vec::with_capacity(count);
    let mut last = 0_i64;
    while !input.is_empty() {
        if numbers.len() == count {
            // An end without one in front of it is bytes that have no end.
            return Err(if name == "x" { wrong_length() } else { broken() });
        }
        last = last.wrapping_add(input.signed().map_err(|_| broken())?);
        numbers.push(last);
    }
    if numbers.len() == count { Ok(numbers) } else { Err(wrong_length()) }
}

fn fixed<const N: usize>(
    bytes: &[u8],
    count: usize,
    value: impl Fn([u8; N]) -> Value,
) -> Result<Vec<Value>, DecodeError> {
    let (numbers, rest) = bytes.as_chunks::<N>();
    if numbers.len() != count || !rest.is_empty() {
        return Err(wrong_length());
    }
    Ok(numbers.iter().map(|number| value(*number)).collect())
}

fn booleans(bytes: &[u8], count: usize) -> Result<Vec<Value>, DecodeError> {
    if bytes.len() != count.div_ceil(8) {
        return Err(wrong_length());
    }
    let bit = |at: usize| Value::Boolean(bytes[at / 8] >> (at % 8) & 1 == 1);
    Ok((0..count).map(bit).collect())
}

fn array_of(
    array: Elements<'_>,
    allowed: impl Fn(&Element<'_>) -> bool,
) -> Result<Vec<Value>, DecodeError> {
    let value = |element: Result<(&str, Element<'_>), DecodeError>| {
        let (_, element) = element?;
        if !allowed(&element) {
            return Err(DecodeError::content("a value in `x` is not a string"));
        }
        element.to_value()
    };
    array.map(value).collect()
}

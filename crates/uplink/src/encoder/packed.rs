//! Columns packed into bytes: the streams of the format `packed` (`docs/telemetry-envelope.md`).
//!
//! A kind says how the values of an entry are written. A column whose values are of several types becomes
//! several entries, each of one type, as long as they are few; else one entry of kind 7.

use std::ops::Range;

use tidegate_model::Value;

use super::columns::{Frame, write_head, write_tail};
use crate::{
    bson::{IndexKey, Writer},
    content::Column,
    wire::put_signed,
};

mod decimal;

pub(crate) use decimal::POWERS;
use decimal::Scaled;

/// How the values of an entry are written: `k`.
pub(crate) mod kind {
    pub(crate) const DECIMAL: i32 = 1;
    pub(crate) const DOUBLE: i32 = 2;
    pub(crate) const FLOAT: i32 = 3;
    pub(crate) const INTEGER: i32 = 4;
    pub(crate) const BOOLEAN: i32 = 5;
    pub(crate) const STRING: i32 = 6;
    pub(crate) const ANYTHING: i32 = 7;
    pub(crate) const DECIMAL_FLOAT: i32 = 8;
}

/// A column has at most one entry more than one for so many readings.
pub(crate) const READINGS_PER_ENTRY: usize = 16;

/// What values must have in common to share an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// Doubles that decimals may stand for.
    Double,
    /// Not-a-number, infinities and -0.0: no decimal stands for them.
    OddDouble,
    Float,
    Integer,
    Boolean,
    String,
    Anything,
}

impl Class {
    fn of(value: &Value) -> Self {
        match value {
            Value::Double(number) if number.is_finite() && number.to_bits() != 1 << 63 => {
                Self::Double
            }
            Value::Double(_) => Self::OddDouble,
            Value::Float(_) => Self::Float,
            Value::Integer(_) => Self::Integer,
            Value::Boolean(_) => Self::Boolean,
            Value::String(_) => Self::String,
            _ => Self::Anything,
        }
    }

    /// Returns what can hold both.
    fn or(self, other: Self) -> Self {
        match (self, other) {
            _ if self == other => self,
            (Self::Double | Self::OddDouble, Self::Double | Self::OddDouble) => Self::OddDouble,
            _ => Self::Anything,
        }
    }
}

/// Writes the column as one or more entries of the array `s`.
pub(super) fn write_entries(
    writer: &mut Writer<'_>,
    index: &mut IndexKey,
    column: &Column,
    frame: Frame,
) {
    for (class, range) in entries(&column.values) {
        let entry = writer.begin_document(index.next());
        write_head(writer, column, range.start);
        writer.binary_from(b"dt", |buffer| {
            let mut last = 0;
            for time in &column.times[range.clone()] {
                let after = frame.after(*time);
                put_signed(buffer, after.wrapping_sub(last));
                last = after;
            }
        });
        write_values(writer, class, &column.values[range.clone()]);
        write_tail(writer, column, range, frame);
        writer.end(entry);
    }
}

/// Divides values into ranges of one class.
fn entries(values: &[Value]) -> Vec<(Class, Range<usize>)> {
    let mut ranges: Vec<(Class, Range<usize>)> = Vec::new();
    for (at, value) in values.iter().enumerate() {
        let class = Class::of(value);
        match ranges.last_mut() {
            Some((last, range)) if *last == class => range.end = at + 1,
            _ => ranges.push((class, at..at + 1)),
        }
    }
    if ranges.len() > 1 + values.len() / READINGS_PER_ENTRY {
        let class = ranges.iter().map(|(class, _)| *class).reduce(Class::or);
        return class.map(|class| (class, 0..values.len())).into_iter().collect();
    }
    ranges
}

fn write_values(writer: &mut Writer<'_>, class: Class, values: &[Value]) {
    match class {
        Class::Double => {
            let doubles: Vec<f64> = values.iter().filter_map(double).collect();
            match Scaled::doubles(&doubles) {
                Some(scaled) => write_scaled(writer, kind::DECIMAL, &scaled),
                None => write_doubles(writer, &doubles),
            }
        }
        Class::OddDouble => {
            write_doubles(writer, &values.iter().filter_map(double).collect::<Vec<f64>>());
        }
        Class::Float => {
            let floats: Vec<f32> = values.iter().filter_map(float).collect();
            match Scaled::floats(&floats) {
                Some(scaled) => write_scaled(writer, kind::DECIMAL_FLOAT, &scaled),
                None => {
                    writer.int32(b"k", kind::FLOAT);
                    let bytes = floats.iter().flat_map(|number| number.to_le_bytes());
                    writer.binary_from(b"x", |buffer| buffer.extend(bytes));
                }
            }
        }
        Class::Integer => {
            writer.int32(b"k", kind::INTEGER);
            let integers = values.iter().filter_map(|value| match value {
                Value::Integer(number) => Some(*number),
                _ => None,
            });
            writer.binary_from(b"x", |buffer| put_differences(buffer, integers));
        }
        Class::Boolean => {
            writer.int32(b"k", kind::BOOLEAN);
            writer.binary_from(b"x", |buffer| put_bits(buffer, values));
        }
        Class::String => write_array(writer, kind::STRING, values),
        Class::Anything => write_array(writer, kind::ANYTHING, values),
    }
}

fn double(value: &Value) -> Option<f64> {
    if let Value::Double(number) = value { Some(*number) } else { None }
}

fn float(value: &Value) -> Option<f32> {
    if let Value::Float(number) = value { Some(*number) } else { None }
}

fn write_scaled(writer: &mut Writer<'_>, kind: i32, scaled: &Scaled) {
    writer.int32(b"k", kind);
    writer.int32(b"e", scaled.exponent);
    writer.binary_from(b"x", |buffer| put_differences(buffer, scaled.integers.iter().copied()));
}

fn write_doubles(writer: &mut Writer<'_>, doubles: &[f64]) {
    writer.int32(b"k", kind::DOUBLE);
    let bytes = doubles.iter().flat_map(|number| number.to_le_bytes());
    writer.binary_from(b"x", |buffer| buffer.extend(bytes));
}

fn write_array(writer: &mut Writer<'_>, kind: i32, values: &[Value]) {
    writer.int32(b"k", kind);
    let array = writer.begin_array(b"x");
    let mut index = IndexKey::new();
    for value in values {
        writer.value(index.next(), value);
    }
    writer.end(array);
}

/// Appends differences modulo 2^64, the first against 0.
fn put_differences(buffer: &mut Vec<u8>, integers: impl Iterator<Item = i64>) {
    let mut last = 0_i64;
    for integer in integers {
        put_signed(buffer, integer.wrapping_sub(last));
        last = integer;
    }
}

fn put_bits(buffer: &mut Vec<u8>, values: &[Value]) {
    for eight in values.chunks(8) {
        let bits = eight.iter().enumerate().map(|(at, value)| match value {
            Value::Boolean(true) => 1 << at,
            _ => 0,
        });
        buffer.push(bits.fold(0_u8, |byte, bit| byte | bit));
    }
}

/// Returns how many bytes differences take up.
fn differences_size(integers: &[i64]) -> usize {
    let mut last = 0_i64;
    let size = |integer: &i64| {
        let difference = integer.wrapping_sub(std::mem::replace(&mut last, *integer));
        let zigzag = (difference << 1 ^ difference >> 63).cast_unsigned();
        (64 - zigzag.leading_zeros() as usize).div_ceil(7).max(1)
    };
    integers.iter().map(size).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_divided_where_its_types_change_unless_that_is_often() {
        let double = |number: i32| Value::Double(number.into());
        let outage = [vec![double(1); 20], vec![Value::Null], vec![double(2); 20]].concat();
        let ranges: Vec<_> = entries(&outage).into_iter().map(|(_, range)| range).collect();
        assert_eq!(ranges, [0..20, 20..21, 21..41]);
        let mixed: Vec<Value> =
            (0..40).map(|at| if at % 2 == 0 { double(at) } else { Value::Null }).collect();
        assert_eq!(entries(&mixed), [(Class::Anything, 0..40)]);
        let odd: Vec<Value> = (0..40)
            .map(|at| if at % 2 == 0 { double(at) } else { Value::Double(f64::NAN) })
            .collect();
        assert_eq!(entries(&odd), [(Class::OddDouble, 0..40)]);
        assert!(entries(&[]).is_empty());
    }

    #[test]
    fn sizes_of_differences_are_those_that_are_written() {
        let integers = [0, 1, -1, 63, 64, -64, -65, i64::MAX, i64::MIN, 0];
        let mut buffer = Vec::new();
        put_differences(&mut buffer, integers.into_iter());
        assert_eq!(differences_size(&integers), buffer.len());
    }
}

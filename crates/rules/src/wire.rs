//! Bytes in which rules and uplinks keep readings and what they remember, and the integers of packed columns.

use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;
use tidegate_model::{
    AdapterName, Clock, Document, Origin, Reading, Status, Timestamp, Unit, Value,
};

/// Bytes that were kept cannot be read, although their checksum was right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("malformed bytes")]
pub struct Malformed;

/// How deep kept values may be nested; deeper than any that comes in.
const DEPTH_MAX: usize = 256;

const NULL: u8 = 0;
const FALSE: u8 = 1;
const TRUE: u8 = 2;
const INTEGER: u8 = 3;
const UNSIGNED: u8 = 4;
const FLOAT: u8 = 5;
const DOUBLE: u8 = 6;
const STRING: u8 = 7;
const BYTES: u8 = 8;
const ARRAY: u8 = 9;
const DOCUMENT: u8 = 10;

/// Appends a number as one to ten bytes, seven bits each, the lowest first.
#[inline]
pub fn put_number(buffer: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        #[expect(clippy::cast_possible_truncation, reason = "seven bits are meant")]
        buffer.push(number as u8 | 0x80);
        number >>= 7;
    }
    buffer.push(u8::try_from(number).expect("below 0x80"));
}

/// Appends a number of either sign as one to ten bytes; those near 0 take one.
#[inline]
pub fn put_signed(buffer: &mut Vec<u8>, number: i64) {
    put_number(buffer, ((number << 1) ^ (number >> 63)).cast_unsigned());
}

pub(crate) fn put_double(buffer: &mut Vec<u8>, number: f64) {
    buffer.extend_from_slice(&number.to_le_bytes());
}

pub(crate) fn put_time(buffer: &mut Vec<u8>, time: Timestamp) {
    put_signed(buffer, time.as_unix_micros());
}

/// Appends a length and that many bytes.
pub fn put_bytes(buffer: &mut Vec<u8>, bytes: &[u8]) {
    put_number(buffer, bytes.len() as u64);
    buffer.extend_from_slice(bytes);
}

/// Appends a length and that many bytes of text.
pub fn put_text(buffer: &mut Vec<u8>, text: &str) {
    put_bytes(buffer, text.as_bytes());
}

pub(crate) fn put_unit(buffer: &mut Vec<u8>, unit: Option<&Unit>) {
    put_text(buffer, unit.map_or("", Unit::as_str));
}

/// Appends a value with its type.
pub(crate) fn put_value(buffer: &mut Vec<u8>, value: &Value) {
    let with = |buffer: &mut Vec<u8>, kind: u8, bytes: &[u8]| {
        buffer.push(kind);
        buffer.extend_from_slice(bytes);
    };
    match value {
        Value::Null => buffer.push(NULL),
        Value::Boolean(truth) => buffer.push(if *truth { TRUE } else { FALSE }),
        Value::Integer(number) => {
            buffer.push(INTEGER);
            put_signed(buffer, *number);
        }
        Value::Unsigned(number) => with(buffer, UNSIGNED, &number.to_le_bytes()),
        Value::Float(number) => with(buffer, FLOAT, &number.to_le_bytes()),
        Value::Double(number) => with(buffer, DOUBLE, &number.to_le_bytes()),
        Value::String(text) => {
            buffer.push(STRING);
            put_bytes(buffer, text.as_bytes());
        }
        Value::Bytes(bytes) => {
            buffer.push(BYTES);
            put_bytes(buffer, bytes);
        }
        Value::Array(items) => {
            buffer.push(ARRAY);
            put_number(buffer, items.len() as u64);
            items.iter().for_each(|item| put_value(buffer, item));
        }
        Value::Document(document) => {
            buffer.push(DOCUMENT);
            put_number(buffer, document.iter().count() as u64);
            for (name, member) in document.iter() {
                put_bytes(buffer, name.as_bytes());
                put_value(buffer, member);
            }
        }
    }
}

/// Appends all of a reading but where it came in.
pub fn put_reading(buffer: &mut Vec<u8>, reading: &Reading) {
    let flags = u8::from(reading.source_time.is_some())
        | u8::from(reading.until.is_some()) << 1
        | u8::from(reading.clock == Clock::Untrusted) << 2
        | u8::from(reading.unit.is_some()) << 3
        | u8::from(reading.status != Status::GOOD) << 4;
    buffer.push(flags);
    put_time(buffer, reading.arrival);
    for time in [reading.source_time, reading.until].into_iter().flatten() {
        let after = time.as_unix_micros().wrapping_sub(reading.arrival.as_unix_micros());
        put_signed(buffer, after);
    }
    if let Some(unit) = &reading.unit {
        put_unit(buffer, Some(unit));
    }
    if reading.status != Status::GOOD {
        buffer.extend_from_slice(&reading.status.code().to_le_bytes());
    }
    put_value(buffer, &reading.value);
}

/// What is left to be read of some bytes.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// Takes bytes to read from.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Returns whether all has been read.
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// Returns what has not been read.
    pub fn rest(self) -> &'a [u8] {
        self.0
    }

    /// Reads a reading as [`put_reading`] has written it; its origin is `rules`.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if the bytes are none.
    pub fn reading(&mut self) -> Result<Reading, Malformed> {
        let flags = self.byte()?;
        if flags >> 5 != 0 {
            return Err(Malformed);
        }
        let arrival = self.time()?;
        let mut time = |given: bool| {
            let after = if given { self.signed()? } else { return Ok(None) };
            let micros = arrival.as_unix_micros().wrapping_add(after);
            Ok(Some(Timestamp::from_unix_micros(micros)))
        };
        let (source_time, until) = (time(flags & 1 != 0)?, time(flags & 2 != 0)?);
        let unit = if flags & 8 == 0 { None } else { self.unit()? };
        let status = if flags & 16 == 0 { Status::GOOD } else { self.status()? };
        let clock = if flags & 4 == 0 { Clock::Trusted } else { Clock::Untrusted };
        let value = self.value()?;
        Ok(Reading {
            source_time,
            until,
            unit,
            status,
            clock,
            ..Reading::new(value, arrival, origin())
        })
    }

    /// Fails unless all has been read.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if the bytes are none.
    pub fn end(self) -> Result<(), Malformed> {
        if self.is_empty() { Ok(()) } else { Err(Malformed) }
    }

    /// Reads one byte.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if the bytes are none.
    pub fn byte(&mut self) -> Result<u8, Malformed> {
        let (&first, rest) = self.0.split_first().ok_or(Malformed)?;
        self.0 = rest;
        Ok(first)
    }

    /// Reads what [`put_number`] has written.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if the bytes are none.
    pub fn number(&mut self) -> Result<u64, Malformed> {
        let mut number = 0;
        for shift in (0..70).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(Malformed);
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Malformed)
    }

    /// Reads what [`put_signed`] has written.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if the bytes are none.
    #[inline]
    pub fn signed(&mut self) -> Result<i64, Malformed> {
        let number = self.number()?;
        Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }

    pub(crate) fn double(&mut self) -> Result<f64, Malformed> {
        self.array().map(f64::from_le_bytes)
    }

    /// Reads a number of 32 bits that [`put_number`] has written.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if the bytes are none.
    pub fn number_u32(&mut self) -> Result<u32, Malformed> {
        u32::try_from(self.number()?).map_err(|_| Malformed)
    }

    /// Reads eight bytes, the lowest first.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if the bytes are none.
    pub fn i64(&mut self) -> Result<i64, Malformed> {
        self.array().map(i64::from_le_bytes)
    }

    pub(crate) fn fingerprint(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn time(&mut self) -> Result<Timestamp, Malformed> {
        self.signed().map(Timestamp::from_unix_micros)
    }

    pub(crate) fn status(&mut self) -> Result<Status, Malformed> {
        self.array().map(|code| Status::from_code(u32::from_le_bytes(code)))
    }

    /// Reads what [`put_bytes`] has written.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if the bytes are none.
    pub fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(self.number()?).map_err(|_| Malformed)?;
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    /// Reads what [`put_text`] has written.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if the bytes are none.
    pub fn text(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed)
    }

    pub(crate) fn unit(&mut self) -> Result<Option<Unit>, Malformed> {
        match self.text()? {
            "" => Ok(None),
            text => Unit::new(text).map(Some).map_err(|_| Malformed),
        }
    }

    pub(crate) fn value(&mut self) -> Result<Value, Malformed> {
        self.value_within(DEPTH_MAX)
    }

    fn value_within(&mut self, depth: usize) -> Result<Value, Malformed> {
        let depth = depth.checked_sub(1).ok_or(Malformed)?;
        Ok(match self.byte()? {
            NULL => Value::Null,
            FALSE => Value::Boolean(false),
            TRUE => Value::Boolean(true),
            INTEGER => Value::Integer(self.signed()?),
            UNSIGNED => Value::unsigned(u64::from_le_bytes(self.array()?)),
            FLOAT => Value::Float(f32::from_le_bytes(self.array()?)),
            DOUBLE => Value::Double(self.double()?),
            STRING => Value::string(self.text()?),
            BYTES => Value::Bytes(Bytes::copy_from_slice(self.bytes()?)),
            ARRAY => {
                let count = self.number()?;
                let items = (0..count).map(|_| self.value_within(depth));
                Value::Array(items.collect::<Result<_, _>>()?)
            }
            DOCUMENT => {
                let mut members = Vec::new();
                for _ in 0..self.number()? {
                    let name: Arc<str> = self.text()?.into();
                    members.push((name, self.value_within(depth)?));
                }
                Value::Document(Arc::new(Document::new(members).map_err(|_| Malformed)?))
            }
            _ => return Err(Malformed),
        })
    }

    fn array<const COUNT: usize>(&mut self) -> Result<[u8; COUNT], Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*taken)
    }
}

/// Returns where readings that rules made come from.
pub(crate) fn origin() -> Origin {
    Origin { adapter: AdapterName::new("rules").expect("`rules` is an adapter's name") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_trip_and_lies_are_refused() {
        for number in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut buffer = Vec::new();
            put_number(&mut buffer, number);
            let mut input = Input::new(&buffer);
            assert_eq!(input.number(), Ok(number));
            assert_eq!(input.end(), Ok(()));
        }
        for number in [0, -1, 1, 63, -64, 64, i64::MAX, i64::MIN] {
            let mut buffer = Vec::new();
            put_signed(&mut buffer, number);
            assert_eq!(buffer.len() == 1, (-64..64).contains(&number));
            assert_eq!(Input::new(&buffer).signed(), Ok(number));
        }
        assert_eq!(Input::new(&[0xff; 11]).number(), Err(Malformed));
        assert_eq!(Input::new(&[3, 1, 2]).bytes(), Err(Malformed));
        assert_eq!(Input::new(&[1, 0xff]).text(), Err(Malformed));
    }
}

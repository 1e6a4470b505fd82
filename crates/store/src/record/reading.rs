//! Typed readings and their values.

use std::sync::Arc;

use bytes::Bytes;
use tidegate_model::{Clock, Document, Origin, Reading, Status, Timestamp, Value};

use super::{MessageDecoder, RecordError, VALUE_DEPTH_MAX};
use crate::input::{Input, Malformed, put_bytes, put_varint};

const HAS_SOURCE_TIME: u8 = 0b0000_0001;
const CLOCK_IS_UNTRUSTED: u8 = 0b0000_0010;
const HAS_STATUS: u8 = 0b0000_0100;
const HAS_UNIT: u8 = 0b0000_1000;
const HAS_UNTIL: u8 = 0b0001_0000;

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

/// Memory is not reserved for more elements than this before they were read.
const RESERVED_MAX: u64 = 1_024;

/// Appends a reading; its times are stored relative to the message's.
pub(super) fn put(
    body: &mut Vec<u8>,
    reading: &Reading,
    arrival: Timestamp,
) -> Result<(), RecordError> {
    let mut flags = 0;
    for (is_set, flag) in [
        (reading.source_time.is_some(), HAS_SOURCE_TIME),
        (reading.clock == Clock::Untrusted, CLOCK_IS_UNTRUSTED),
        (reading.status != Status::GOOD, HAS_STATUS),
        (reading.unit.is_some(), HAS_UNIT),
        (reading.until.is_some(), HAS_UNTIL),
    ] {
        if is_set {
            flags |= flag;
        }
    }
    body.push(flags);
    put_relative_time(body, reading.arrival, arrival);
    if let Some(source_time) = reading.source_time {
        put_relative_time(body, source_time, arrival);
    }
    if let Some(until) = reading.until {
        put_relative_time(body, until, arrival);
    }
    if flags & HAS_STATUS != 0 {
        body.extend_from_slice(&reading.status.code().to_le_bytes());
    }
    if let Some(unit) = &reading.unit {
        put_bytes(body, unit.as_str().as_bytes());
    }
    put_bytes(body, reading.origin.adapter.as_str().as_bytes());
    put_value(body, &reading.value, VALUE_DEPTH_MAX)
}

/// Reads a reading.
pub(super) fn read(
    input: &mut Input<'_>,
    body: &Bytes,
    arrival: Timestamp,
    names: &mut MessageDecoder,
) -> Result<Reading, Malformed> {
    let flags = input.u8()?;
    let has = |flag: u8| flags & flag != 0;
    let own_arrival = read_relative_time(input, arrival)?;
    let source_time =
        if has(HAS_SOURCE_TIME) { Some(read_relative_time(input, arrival)?) } else { None };
    let until = if has(HAS_UNTIL) { Some(read_relative_time(input, arrival)?) } else { None };
    let status = if has(HAS_STATUS) {
        Status::from_code(u32::from_le_bytes(input.array()?))
    } else {
        Status::GOOD
    };
    let unit = if has(HAS_UNIT) { Some(names.units.find(input.text()?)?) } else { None };
    let adapter = names.adapters.find(input.text()?)?;
    Ok(Reading {
        value: read_value(input, body, VALUE_DEPTH_MAX)?,
        source_time,
        arrival: own_arrival,
        until,
        clock: if has(CLOCK_IS_UNTRUSTED) { Clock::Untrusted } else { Clock::Trusted },
        status,
        unit,
        origin: Origin { adapter },
    })
}

fn put_relative_time(body: &mut Vec<u8>, time: Timestamp, origin: Timestamp) {
    put_signed(body, time.as_unix_micros().wrapping_sub(origin.as_unix_micros()));
}

fn read_relative_time(input: &mut Input<'_>, origin: Timestamp) -> Result<Timestamp, Malformed> {
    let micros = origin.as_unix_micros().wrapping_add(read_signed(input)?);
    Ok(Timestamp::from_unix_micros(micros))
}

/// Small numbers of either sign are short.
fn put_signed(body: &mut Vec<u8>, number: i64) {
    put_varint(body, ((number << 1) ^ (number >> 63)) as u64);
}

fn read_signed(input: &mut Input<'_>) -> Result<i64, Malformed> {
    let bits = input.varint()?;
    Ok((bits >> 1) as i64 ^ -((bits & 1) as i64))
}

fn put_value(body: &mut Vec<u8>, value: &Value, depth: usize) -> Result<(), RecordError> {
    match value {
        Value::Null => body.push(NULL),
        Value::Boolean(false) => body.push(FALSE),
        Value::Boolean(true) => body.push(TRUE),
        Value::Integer(number) => {
            body.push(INTEGER);
            put_signed(body, *number);
        }
        Value::Unsigned(number) => {
            body.push(UNSIGNED);
            put_varint(body, *number);
        }
        Value::Float(number) => {
            body.push(FLOAT);
            body.extend_from_slice(&number.to_bits().to_le_bytes());
        }
        Value::Double(number) => {
            body.push(DOUBLE);
            body.extend_from_slice(&number.to_bits().to_le_bytes());
        }
        Value::String(text) => {
            body.push(STRING);
            put_bytes(body, text.as_bytes());
        }
        Value::Bytes(bytes) => {
            body.push(BYTES);
            put_bytes(body, bytes);
        }
        Value::Array(elements) => {
            let depth = depth.checked_sub(1).ok_or(RecordError::TooDeep)?;
            body.push(ARRAY);
            put_varint(body, elements.len() as u64);
            for element in elements.iter() {
                put_value(body, element, depth)?;
            }
        }
        Value::Document(document) => {
            let depth = depth.checked_sub(1).ok_or(RecordError::TooDeep)?;
            body.push(DOCUMENT);
            put_varint(body, document.len() as u64);
            for (name, member) in document.iter() {
                put_bytes(body, name.as_bytes());
                put_value(body, member, depth)?;
            }
        }
    }
    Ok(())
}

fn read_value(input: &mut Input<'_>, body: &Bytes, depth: usize) -> Result<Value, Malformed> {
    Ok(match input.u8()? {
        NULL => Value::Null,
        FALSE => Value::Boolean(false),
        TRUE => Value::Boolean(true),
        INTEGER => Value::Integer(read_signed(input)?),
        UNSIGNED => Value::Unsigned(input.varint()?),
        FLOAT => Value::Float(f32::from_bits(u32::from_le_bytes(input.array()?))),
        DOUBLE => Value::Double(f64::from_bits(u64::from_le_bytes(input.array()?))),
        STRING => Value::String(input.text()?.into()),
        BYTES => Value::Bytes(body.slice_ref(input.bytes()?)),
        ARRAY => {
            let depth = depth.checked_sub(1).ok_or(Malformed)?;
            let count = input.varint()?;
            let mut elements = Vec::with_capacity(count.min(RESERVED_MAX) as usize);
            for _ in 0..count {
                elements.push(read_value(input, body, depth)?);
            }
            Value::Array(elements.into())
        }
        DOCUMENT => {
            let depth = depth.checked_sub(1).ok_or(Malformed)?;
            let count = input.varint()?;
            let mut members = Vec::with_capacity(count.min(RESERVED_MAX) as usize);
            for _ in 0..count {
                members.push((input.text()?.into(), read_value(input, body, depth)?));
            }
            Value::Document(Arc::new(Document::new(members).map_err(|_| Malformed)?))
        }
        _ => return Err(Malformed),
    })
}

//! Readings as lines for people and scripts.

use std::io::{self, Write};

use tidegate_model::{Value, json};

use super::{DecodeError, DecodedGap, DecodedReading, Limits, decode};

/// Why nothing could be printed.
#[derive(Debug, thiserror::Error)]
pub enum PrintError {
    /// The payload cannot be read. The message holds the reason, which has no subject of its own.
    #[error("the payload {0}")]
    Payload(DecodeError),
    /// The output does not take it.
    #[error("cannot write the lines")]
    Output(#[source] io::Error),
}

/// Prints a payload of an uplink as JSON lines, one a reading:
/// `{"n":"hall1/t","i":7,"time":"…","value":21.5,"unit":"Cel","quality":"good"}`.
///
/// `n` is `null` where the payload leaves the stream to the topic, `unit` where it is not known.
/// `until` follows the time of a stretch without data, `status` when the quality is not good, `encoding` for bytes. A gap is a line of its own:
/// `{"n":"hall1/t","from":8,"to":9,"why":"full"}`.
///
/// # Errors
///
/// [`PrintError::Payload`] before anything is written, [`PrintError::Output`] later.
pub fn print_lines(payload: &[u8], output: &mut impl Write) -> Result<(), PrintError> {
    let batch = decode(payload, &Limits::OWN).map_err(PrintError::Payload)?;
    let mut line = Vec::new();
    for reading in &batch.readings {
        line.clear();
        write_reading(reading, &mut line);
        output.write_all(&line).map_err(PrintError::Output)?;
    }
    for gap in &batch.gaps {
        line.clear();
        write_gap(gap, &mut line);
        output.write_all(&line).map_err(PrintError::Output)?;
    }
    Ok(())
}

fn write_reading(reading: &DecodedReading, line: &mut Vec<u8>) {
    line.extend_from_slice(b"{\"n\":");
    write_text(reading.stream.as_deref(), line);
    push(line, format_args!(",\"i\":{},\"time\":\"", reading.number));
    reading.time.write_rfc3339(line);
    if let Some(until) = reading.until {
        line.extend_from_slice(b"\",\"until\":\"");
        until.write_rfc3339(line);
    }
    line.extend_from_slice(b"\",\"value\":");
    json::write_value(&reading.value, line);
    line.extend_from_slice(b",\"unit\":");
    write_text(reading.unit.as_deref(), line);
    push(line, format_args!(",\"quality\":\"{}\"", reading.status.quality()));
    if !reading.status.is_good() {
        push(line, format_args!(",\"status\":{}", reading.status.code()));
    }
    if matches!(reading.value, Value::Bytes(_)) {
        line.extend_from_slice(b",\"encoding\":\"base64\"");
    }
    line.extend_from_slice(b"}\n");
}

fn write_gap(gap: &DecodedGap, line: &mut Vec<u8>) {
    line.extend_from_slice(b"{\"n\":");
    json::write_string(&gap.stream, line);
    push(line, format_args!(",\"from\":{},\"to\":{},\"why\":", gap.from, gap.to));
    json::write_string(&gap.why, line);
    line.extend_from_slice(b"}\n");
}

fn write_text(text: Option<&str>, line: &mut Vec<u8>) {
    match text {
        Some(text) => json::write_string(text, line),
        None => line.extend_from_slice(b"null"),
    }
}

fn push(line: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    line.write_fmt(text).expect("a Vec takes everything");
}

//! Traffic to count: made up, or recorded.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use tidegate_model::{Clock, Status, Topic, Unit};
use tidegate_uplink::{
    Column, Content, StreamId,
    cost::synthetic::Plant,
    decoder::{DecodedReading, Limits, decode},
    verify::capture::{first_payload, is_text, read_line},
};

use super::cost::times;

/// Captures that are larger are not read.
const CAPTURE_BYTES_MAX: u64 = 1 << 30;
/// So much is encoded at most; a day is told from it.
const READINGS_MAX: u64 = 2_000_000;

/// Batches, and over how much time they go.
#[derive(Debug)]
pub(super) struct Traffic {
    /// What it is, for people.
    pub(super) told: String,
    pub(super) batches: Vec<Content>,
    pub(super) span: Duration,
}

/// Makes a day up, or as much of it as there is need to.
pub(super) fn synthetic(
    signals: u32,
    interval: Duration,
    batch: Duration,
    readings_max: usize,
) -> Traffic {
    let each = times(signals, interval, batch, readings_max);
    let batch_span = interval * each;
    let readings = u64::from(each) * u64::from(signals);
    let in_a_day = 86_400_000_u128.div_ceil(batch_span.as_millis().max(1));
    let count = u64::try_from(in_a_day).unwrap_or(u64::MAX).min((READINGS_MAX / readings).max(1));
    let millis = u32::try_from(interval.as_millis()).unwrap_or(u32::MAX);
    let mut plant = Plant::new(usize::try_from(signals).unwrap_or(usize::MAX), millis, 7);
    Traffic {
        told: format!("{signals} made-up signals, one reading each every {interval:?}"),
        batches: (0..count).map(|_| plant.next(each)).collect(),
        span: batch_span * u32::try_from(count).unwrap_or(u32::MAX),
    }
}

/// Reads captures, and puts their readings into batches by time.
pub(super) fn recorded(
    files: &[PathBuf],
    batch: Duration,
    readings_max: usize,
) -> anyhow::Result<Traffic> {
    let mut readings = Vec::new();
    for file in files {
        let bytes = read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let taken = take(&bytes, &mut readings);
        taken.with_context(|| format!("cannot read {}", file.display()))?;
    }
    readings.sort_by_key(|reading: &DecodedReading| reading.time);
    let span = span(&readings)?;
    let told = format!("{} recorded readings over {span:.0?}, scaled", readings.len());
    let batch = i64::try_from(batch.as_micros()).unwrap_or(i64::MAX);
    let begin = readings[0].time.as_unix_micros();
    let place = |reading: &DecodedReading| (reading.time.as_unix_micros() - begin) / batch;
    let batches: anyhow::Result<Vec<Content>> = readings
        .chunk_by(|one, next| place(one) == place(next))
        .flat_map(|same| same.chunks(readings_max))
        .map(content)
        .collect();
    Ok(Traffic { told, batches: batches?, span })
}

/// Returns over how much time readings go, the last ones counted for as long as those before them.
fn span(readings: &[DecodedReading]) -> anyhow::Result<Duration> {
    let (Some(first), Some(last)) = (readings.first(), readings.last()) else {
        bail!("there are no readings in there");
    };
    let micros = last.time.as_unix_micros().abs_diff(first.time.as_unix_micros());
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for reading in readings {
        *counts.entry(reading.stream.as_deref().unwrap_or_default()).or_default() += 1;
    }
    let most = counts.values().max().copied().unwrap_or(1);
    let interval = micros.checked_div(most - 1).unwrap_or(0);
    let span = Duration::from_micros(micros + interval);
    ensure!(!span.is_zero(), "all readings have one time: nothing tells what a day of them is");
    Ok(span)
}

fn read(file: &PathBuf) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let source: Box<dyn Read> = match file.as_os_str() == "-" {
        true => Box::new(io::stdin()),
        false => Box::new(File::open(file)?),
    };
    source.take(CAPTURE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > CAPTURE_BYTES_MAX {
        return Err(io::Error::other("it is larger than a gibibyte"));
    }
    Ok(bytes)
}

/// Takes the readings of a capture; what is no payload ends it.
fn take(mut bytes: &[u8], readings: &mut Vec<DecodedReading>) -> anyhow::Result<()> {
    if is_text(&bytes[..bytes.len().min(512)]) {
        let text = std::str::from_utf8(bytes).context("it begins as text and is none")?;
        for (number, line) in (1..).zip(text.lines()) {
            let captured = read_line(line).with_context(|| format!("line {number}"))?;
            let Some(captured) = captured else { continue };
            let batch = decode(&captured.payload, &Limits::OWN)
                .with_context(|| format!("line {number}"))?;
            readings.extend(batch.readings.into_iter().map(|mut reading| {
                // Readings that go alone are told by their topic.
                reading.stream =
                    reading.stream.or_else(|| captured.topic.as_deref().map(Into::into));
                reading
            }));
        }
        return Ok(());
    }
    while !bytes.is_empty() {
        let length = first_payload(bytes, &Limits::OWN)?.context("the last payload is cut off")?;
        let (payload, rest) = bytes.split_at(length);
        readings.extend(decode(payload, &Limits::OWN)?.readings);
        bytes = rest;
    }
    Ok(())
}

/// Puts readings together by stream.
fn content(readings: &[DecodedReading]) -> anyhow::Result<Content> {
    let mut content = Content::new(Clock::Trusted, false);
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    for reading in readings {
        let name = reading.stream.as_deref().unwrap_or("unnamed");
        let unit = reading.unit.as_deref().and_then(|unit| Unit::new(unit).ok());
        let place = *places.entry(name).or_insert(content.columns.len());
        if place == content.columns.len() {
            content.columns.push(Column {
                stream: StreamId::new(u32::try_from(place).context("too many streams")?),
                topic: Topic::new(name).with_context(|| format!("the stream {name:?}"))?,
                unit,
                first: u64::try_from(reading.number).unwrap_or(1).max(1),
                times: Vec::new(),
                values: Vec::new(),
                statuses: Vec::new(),
                ends: Vec::new(),
                raw: Vec::new(),
            });
        }
        let column = &mut content.columns[place];
        if reading.status != Status::GOOD || reading.until.is_some() {
            column.statuses.push((column.values.len(), reading.status));
        }
        column.ends.extend(reading.until.map(|until| (column.values.len(), until)));
        column.times.push(reading.time);
        column.values.push(reading.value.clone());
    }
    Ok(content)
}

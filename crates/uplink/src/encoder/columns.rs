//! The formats `columns` and `packed`, version 1: one BSON document a batch (`docs/telemetry-envelope.md`).

use std::ops::Range;

use tidegate_model::{Clock, Timestamp};

use super::{Identity, packed};
use crate::{
    bson::{IndexKey, Writer},
    content::{Column, Content, Gap},
    settings::TimeUnit,
};

/// How the streams of a batch are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// As arrays.
    Arrays,
    /// As bytes.
    Packed,
}

/// What the streams of a batch have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    base_millis: i64,
    unit: TimeUnit,
    replayed: bool,
}

impl Frame {
    fn new(content: &Content, unit: TimeUnit) -> Self {
        let times = content.columns.iter().flat_map(|column| &column.times);
        let base_millis = times.min().copied().unwrap_or_default().as_unix_millis();
        Self { base_millis, unit, replayed: content.replayed }
    }

    /// Returns how many units after the base `time` is, modulo 2^64.
    pub(super) fn after(self, time: Timestamp) -> i64 {
        match self.unit {
            TimeUnit::Millis => time.as_unix_millis().wrapping_sub(self.base_millis),
            TimeUnit::Micros => {
                let base = Timestamp::from_unix_millis(self.base_millis).as_unix_micros();
                time.as_unix_micros().wrapping_sub(base)
            }
        }
    }
}

/// Appends the document to `buffer`.
pub(super) fn encode(
    identity: &Identity,
    seq: u64,
    content: &Content,
    layout: Layout,
    unit: TimeUnit,
    buffer: &mut Vec<u8>,
) {
    let frame = Frame::new(content, unit);
    let mut writer = Writer::new(buffer);
    let document = writer.begin();
    writer.int32(b"v", 1);
    writer.string(b"gw", &identity.gateway);
    writer.string(b"up", identity.uplink.as_str());
    writer.int64(b"ep", identity.epoch);
    writer.int64(b"seq", number(seq));
    writer.datetime(b"t0", frame.base_millis);
    if unit == TimeUnit::Micros {
        writer.int32(b"tu", 3);
    }
    if content.clock == Clock::Untrusted {
        writer.boolean(b"ct", false);
    }
    let streams = writer.begin_array(b"s");
    let mut index = IndexKey::new();
    for column in &content.columns {
        match layout {
            Layout::Arrays => {
                let entry = writer.begin_document(index.next());
                write_arrays(&mut writer, column, frame);
                writer.end(entry);
            }
            Layout::Packed => packed::write_entries(&mut writer, &mut index, column, frame),
        }
    }
    writer.end(streams);
    if !content.gaps.is_empty() {
        write_gaps(&mut writer, &content.gaps);
    }
    writer.end(document);
}

fn write_arrays(writer: &mut Writer<'_>, column: &Column, frame: Frame) {
    write_head(writer, column, 0);
    let times = writer.begin_array(b"dt");
    let mut index = IndexKey::new();
    for time in &column.times {
        writer.integer(index.next(), frame.after(*time));
    }
    writer.end(times);
    let values = writer.begin_array(b"x");
    let mut index = IndexKey::new();
    for value in &column.values {
        writer.value(index.next(), value);
    }
    writer.end(values);
    write_tail(writer, column, 0..column.len(), frame);
}

/// Writes what stands before times and values in an entry that begins at `start` in the column.
pub(super) fn write_head(writer: &mut Writer<'_>, column: &Column, start: usize) {
    writer.string(b"n", column.topic.as_str());
    if let Some(unit) = &column.unit {
        writer.string(b"u", unit.as_str());
    }
    writer.int64(b"i", number(column.first + start as u64));
}

/// Writes what stands behind times and values in an entry that is `range` of the column.
pub(super) fn write_tail(
    writer: &mut Writer<'_>,
    column: &Column,
    range: Range<usize>,
    frame: Frame,
) {
    let from = column.statuses.partition_point(|(at, _)| *at < range.start);
    let to = column.statuses.partition_point(|(at, _)| *at < range.end);
    if from < to {
        let statuses = writer.begin_array(b"q");
        let mut index = IndexKey::new();
        for (at, status) in &column.statuses[from..to] {
            let entry = writer.begin_document(index.next());
            let place = i32::try_from(at - range.start).expect("a batch holds fewer readings");
            writer.int32(b"at", place);
            writer.int64(b"status", status.code().into());
            if let Some(end) = column.end(*at) {
                writer.datetime(b"until", end.as_unix_millis());
            }
            writer.end(entry);
        }
        writer.end(statuses);
    }
    if frame.replayed {
        writer.boolean(b"r", true);
    }
}

fn write_gaps(writer: &mut Writer<'_>, gaps: &[Gap]) {
    let array = writer.begin_array(b"gaps");
    let mut index = IndexKey::new();
    for gap in gaps {
        let entry = writer.begin_document(index.next());
        writer.string(b"n", gap.topic.as_str());
        writer.int64(b"from", number(gap.from));
        writer.int64(b"to", number(gap.to));
        writer.string(b"why", gap.why.as_str());
        writer.end(entry);
    }
    writer.end(array);
}

fn number(number: u64) -> i64 {
    i64::try_from(number).expect("numbers are counted up from 1")
}

//! The format `columns`, version 1: one BSON document a batch (`docs/telemetry-envelope.md`).

use tidegate_model::{Clock, Timestamp};

use super::Identity;
use crate::{
    bson::{IndexKey, Writer},
    content::{Column, Content, Gap},
};

/// Appends the document to `buffer`.
pub(super) fn encode(identity: &Identity, seq: u64, content: &Content, buffer: &mut Vec<u8>) {
    let times = content.columns.iter().flat_map(|column| &column.times);
    let base = times.min().copied().unwrap_or_default().as_unix_millis();
    let mut writer = Writer::new(buffer);
    let document = writer.begin();
    writer.int32(b"v", 1);
    writer.string(b"gw", &identity.gateway);
    writer.string(b"up", identity.uplink.as_str());
    writer.int64(b"ep", identity.epoch);
    writer.int64(b"seq", number(seq));
    writer.datetime(b"t0", base);
    if content.clock == Clock::Untrusted {
        writer.boolean(b"ct", false);
    }
    let streams = writer.begin_array(b"s");
    let mut index = IndexKey::new();
    for column in &content.columns {
        let entry = writer.begin_document(index.next());
        write_column(&mut writer, column, base, content.replayed);
        writer.end(entry);
    }
    writer.end(streams);
    if !content.gaps.is_empty() {
        write_gaps(&mut writer, &content.gaps);
    }
    writer.end(document);
}

fn write_column(writer: &mut Writer<'_>, column: &Column, base: i64, replayed: bool) {
    writer.string(b"n", column.topic.as_str());
    if let Some(unit) = &column.unit {
        writer.string(b"u", unit.as_str());
    }
    writer.int64(b"i", number(column.first));
    let times = writer.begin_array(b"dt");
    let mut index = IndexKey::new();
    for time in &column.times {
        writer.integer(index.next(), millis_after(base, *time));
    }
    writer.end(times);
    let values = writer.begin_array(b"x");
    let mut index = IndexKey::new();
    for value in &column.values {
        writer.value(index.next(), value);
    }
    writer.end(values);
    if !column.statuses.is_empty() {
        write_statuses(writer, column);
    }
    if replayed {
        writer.boolean(b"r", true);
    }
}

fn write_statuses(writer: &mut Writer<'_>, column: &Column) {
    let statuses = writer.begin_array(b"q");
    let mut index = IndexKey::new();
    for (at, status) in &column.statuses {
        let entry = writer.begin_document(index.next());
        writer.int32(b"at", i32::try_from(*at).expect("a batch holds fewer readings"));
        writer.int64(b"status", status.code().into());
        if let Some(end) = column.end(*at) {
            writer.datetime(b"until", end.as_unix_millis());
        }
        writer.end(entry);
    }
    writer.end(statuses);
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

fn millis_after(base: i64, time: Timestamp) -> i64 {
    time.as_unix_millis().saturating_sub(base)
}

fn number(number: u64) -> i64 {
    i64::try_from(number).expect("numbers are counted up from 1")
}

//! The formats `message` and `json`: one document a reading (`docs/telemetry-envelope.md`).
//!
//! `v` value, `t` time (JSON: RFC 3339), `until` the end of a stretch without data, `u` unit, `q` status when it is not good, `ep` epoch, `i` stream
//! number. As in the local envelope, JSON adds `"encoding":"base64"` to bytes and writes a number it
//! lacks as `null` with a bad status. `"ct":false` says, as in `columns`, that the wall clock was not
//! trusted.

use std::io::Write;

use tidegate_model::{Clock, Quality, Status, Value, json};

use crate::{bson::Writer, content::Column};

/// One reading of a column.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'a> {
    pub(super) column: &'a Column,
    pub(super) index: usize,
    pub(super) epoch: i64,
    pub(super) clock: Clock,
}

impl Row<'_> {
    pub(super) fn write_bson(&self, buffer: &mut Vec<u8>) {
        let status = self.column.status(self.index);
        let mut writer = Writer::new(buffer);
        let document = writer.begin();
        writer.value(b"v", self.value());
        writer.datetime(b"t", self.column.times[self.index].as_unix_millis());
        if let Some(end) = self.column.end(self.index) {
            writer.datetime(b"until", end.as_unix_millis());
        }
        if let Some(unit) = &self.column.unit {
            writer.string(b"u", unit.as_str());
        }
        if status != Status::GOOD {
            writer.int64(b"q", status.code().into());
        }
        writer.int64(b"ep", self.epoch);
        writer.int64(b"i", i64::try_from(self.number()).expect("numbers are counted up from 1"));
        if self.clock == Clock::Untrusted {
            writer.boolean(b"ct", false);
        }
        writer.end(document);
    }

    pub(super) fn write_json(&self, buffer: &mut Vec<u8>) {
        let status = match self.column.status(self.index) {
            status if status.quality() != Quality::Bad && self.value().is_not_finite() => {
                Status::BAD
            }
            status => status,
        };
        buffer.extend_from_slice(b"{\"v\":");
        json::write_value(self.value(), buffer);
        if matches!(self.value(), Value::Bytes(_)) {
            buffer.extend_from_slice(b",\"encoding\":\"base64\"");
        }
        buffer.extend_from_slice(b",\"t\":\"");
        self.column.times[self.index].write_rfc3339(buffer);
        if let Some(end) = self.column.end(self.index) {
            buffer.extend_from_slice(b"\",\"until\":\"");
            end.write_rfc3339(buffer);
        }
        buffer.push(b'"');
        if let Some(unit) = &self.column.unit {
            buffer.extend_from_slice(b",\"u\":");
            json::write_string(unit.as_str(), buffer);
        }
        if status != Status::GOOD {
            write!(buffer, ",\"q\":{}", status.code()).expect("a Vec takes everything");
        }
        write!(buffer, ",\"ep\":{},\"i\":{}", self.epoch, self.number())
            .expect("a Vec takes everything");
        if self.clock == Clock::Untrusted {
            buffer.extend_from_slice(b",\"ct\":false");
        }
        buffer.push(b'}');
    }

    pub(super) fn value(&self) -> &Value {
        &self.column.values[self.index]
    }

    pub(super) fn number(&self) -> u64 {
        self.column.first + self.index as u64
    }
}

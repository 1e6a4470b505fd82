//! Readings that go up in one message.

use std::io::Write;

use thiserror::Error;
use tidegate_model::{Quality, Value, json};

use super::{BoardKind, BoardPlace};
use crate::encoder::TypedReading;

/// A message has no more bytes: the server takes 64 KiB unless it is told otherwise, topic and all.
const BYTES_MAX: usize = 60 << 10;
/// What stands around an entry and around those of a device, at most, beside their names.
const AROUND: usize = 64;
/// Under which key the quality of a key stands.
const QUALITY: &str = ".quality";

/// A reading as ThingsBoard has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoardRow {
    device: Option<String>,
    key: String,
    kind: BoardKind,
    /// Members without braces.
    values: Vec<u8>,
    unix_ms: i64,
}

/// Why a reading has no place in ThingsBoard.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RowRefusal {
    /// There is no value, and nothing else is told.
    #[error("there is no value, which ThingsBoard has no word for")]
    NoValue,
    /// It is larger than a message may be.
    #[error("{bytes} bytes are more than the {BYTES_MAX} of a message")]
    TooLarge {
        /// How many it has.
        bytes: usize,
    },
}

impl BoardRow {
    /// Writes a reading, and `quality` where that is to be told.
    ///
    /// # Errors
    ///
    /// [`RowRefusal`]. The server would close the connection for it.
    pub fn new(
        place: BoardPlace,
        reading: &TypedReading,
        quality: Option<Quality>,
    ) -> Result<Self, RowRefusal> {
        let mut values = Vec::new();
        if !matches!(reading.value, Value::Null) && !reading.value.is_not_finite() {
            json::write_string(&place.key, &mut values);
            values.push(b':');
            json::write_value(&reading.value, &mut values);
        }
        if let Some(quality) = quality {
            if !values.is_empty() {
                values.push(b',');
            }
            json::write_string(&format!("{}{QUALITY}", place.key), &mut values);
            values.push(b':');
            json::write_string(quality.as_str(), &mut values);
        }
        if values.is_empty() {
            return Err(RowRefusal::NoValue);
        }
        let BoardPlace { device, key, kind } = place;
        let row = Self { device, key, kind, values, unix_ms: reading.time.as_unix_millis() };
        match row.bytes() {
            bytes if bytes > BYTES_MAX => Err(RowRefusal::TooLarge { bytes }),
            _ => Ok(row),
        }
    }

    /// Returns whose it is, if not the gateway's own.
    pub fn device(&self) -> Option<&str> {
        self.device.as_deref()
    }

    /// Returns at most how much it adds to a message.
    fn bytes(&self) -> usize {
        // Each character of a name may be escaped.
        self.values.len() + 6 * self.device.as_ref().map_or(0, String::len) + AROUND
    }
}

/// A message that is being filled.
#[derive(Clone, Debug)]
pub struct BoardSheet {
    is_own: bool,
    kind: BoardKind,
    /// By device, in the order in which they came.
    entries: Vec<(String, Vec<BoardRow>)>,
    bytes: usize,
}

impl BoardSheet {
    /// Begins with a row.
    pub fn new(row: BoardRow) -> Self {
        let mut sheet =
            Self { is_own: row.device.is_none(), kind: row.kind, entries: Vec::new(), bytes: 0 };
        sheet.push(row);
        sheet
    }

    /// Returns whether a row may go with those that are there.
    pub fn takes(&self, row: &BoardRow) -> bool {
        let is_alike = self.is_own == row.device.is_none() && self.kind == row.kind;
        // An object has a name once: of an attribute it would be the last, and what is acknowledged were not there.
        let is_new = self.kind == BoardKind::Telemetry
            || !self.rows(row.device.as_deref()).iter().any(|other| other.key == row.key);
        is_alike && is_new && self.bytes + row.bytes() <= BYTES_MAX
    }

    fn rows(&self, device: Option<&str>) -> &[BoardRow] {
        let device = device.unwrap_or_default();
        let found = self.entries.iter().find(|(name, _)| name == device);
        found.map(|(_, rows)| rows.as_slice()).unwrap_or_default()
    }

    /// Adds a row that it [takes](Self::takes).
    pub fn push(&mut self, row: BoardRow) {
        self.bytes += row.bytes();
        let device = row.device.clone().unwrap_or_default();
        match self.entries.iter_mut().find(|(name, _)| *name == device) {
            Some((_, rows)) => rows.push(row),
            None => self.entries.push((device, vec![row])),
        }
    }

    /// Returns where the message is published.
    pub fn topic(&self) -> &'static str {
        match (self.is_own, self.kind) {
            (true, BoardKind::Telemetry) => "v1/devices/me/telemetry",
            (true, BoardKind::Attribute) => "v1/devices/me/attributes",
            (false, BoardKind::Telemetry) => "v1/gateway/telemetry",
            (false, BoardKind::Attribute) => "v1/gateway/attributes",
        }
    }

    /// Writes the message.
    pub fn payload(&self) -> Vec<u8> {
        let mut payload = Vec::with_capacity(self.bytes);
        if self.is_own {
            let rows = self.entries.first().map(|(_, rows)| rows.as_slice());
            self.write_rows(rows.unwrap_or_default(), &mut payload);
            return payload;
        }
        payload.push(b'{');
        for (number, (device, rows)) in self.entries.iter().enumerate() {
            if number > 0 {
                payload.push(b',');
            }
            json::write_string(device, &mut payload);
            payload.push(b':');
            self.write_rows(rows, &mut payload);
        }
        payload.push(b'}');
        payload
    }

    fn write_rows(&self, rows: &[BoardRow], payload: &mut Vec<u8>) {
        let (open, close) =
            if self.kind == BoardKind::Telemetry { (b'[', b']') } else { (b'{', b'}') };
        payload.push(open);
        for (number, row) in rows.iter().enumerate() {
            if number > 0 {
                payload.push(b',');
            }
            match self.kind {
                BoardKind::Attribute => payload.extend_from_slice(&row.values),
                BoardKind::Telemetry => {
                    write!(payload, "{{\"ts\":{},\"values\":{{", row.unix_ms)
                        .expect("a Vec takes everything");
                    payload.extend_from_slice(&row.values);
                    payload.extend_from_slice(b"}}");
                }
            }
        }
        payload.push(close);
    }
}

//! `batch = { … }`: when a batch is full.

use std::time::Duration;

use tidegate_settings::{ByteSize, Issues, TableReader, read};

/// When a batch is full: whatever comes first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// How many readings.
    pub readings: usize,
    /// How old the first reading.
    pub age: Duration,
    /// How large before compression.
    pub bytes: ByteSize,
    /// How large as it is sent.
    pub wire_bytes: Option<ByteSize>,
    /// In what steps the far side meters messages.
    pub metering_step: Option<ByteSize>,
}

const READINGS_DEFAULT: usize = 500;
const AGE_DEFAULT: Duration = Duration::from_secs(1);
const BYTES_DEFAULT: ByteSize = ByteSize::kib(64);
/// Defaults where the size on the wire is to decide.
const READINGS_BY_WIRE: usize = 16_384;
const BYTES_BY_WIRE: ByteSize = ByteSize::mib(1);

impl Default for BatchLimits {
    fn default() -> Self {
        Self {
            readings: READINGS_DEFAULT,
            age: AGE_DEFAULT,
            bytes: BYTES_DEFAULT,
            wire_bytes: None,
            metering_step: None,
        }
    }
}

impl BatchLimits {
    pub(super) fn read(mut table: TableReader<'_>, issues: &mut Issues) -> Option<Self> {
        let ages = Duration::from_millis(10)..=Duration::from_secs(3_600);
        let sizes = || ByteSize::kib(1)..=ByteSize::mib(16);
        let wire_bytes = table.optional("wire-bytes", read::byte_size_within(sizes()), issues);
        let metering_step =
            table.optional("metering-step", read::byte_size_within(sizes()), issues);
        let (most_readings, most_bytes) = if wire_bytes.is_some() || metering_step.is_some() {
            (READINGS_BY_WIRE, BYTES_BY_WIRE)
        } else {
            (READINGS_DEFAULT, BYTES_DEFAULT)
        };
        let readings = read::integer(1..=100_000);
        let sizes = read::byte_size_within(sizes());
        let limits = Self {
            readings: table.optional_or("readings", most_readings, readings, issues),
            age: table.optional_or("age", AGE_DEFAULT, read::duration_within(ages), issues),
            bytes: table.optional_or("bytes", most_bytes, sizes, issues),
            wire_bytes,
            metering_step,
        };
        table.finish(issues);
        Some(limits)
    }
}

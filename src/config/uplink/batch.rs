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
}

const READINGS_DEFAULT: usize = 500;
const AGE_DEFAULT: Duration = Duration::from_secs(1);
const BYTES_DEFAULT: ByteSize = ByteSize::kib(64);

impl Default for BatchLimits {
    fn default() -> Self {
        Self { readings: READINGS_DEFAULT, age: AGE_DEFAULT, bytes: BYTES_DEFAULT }
    }
}

impl BatchLimits {
    pub(super) fn read(mut table: TableReader<'_>, issues: &mut Issues) -> Option<Self> {
        let ages = Duration::from_millis(10)..=Duration::from_secs(3_600);
        let sizes = ByteSize::kib(1)..=ByteSize::mib(16);
        let readings = read::integer(1..=100_000);
        let limits = Self {
            readings: table.optional_or("readings", READINGS_DEFAULT, readings, issues),
            age: table.optional_or("age", AGE_DEFAULT, read::duration_within(ages), issues),
            bytes: table.optional_or("bytes", BYTES_DEFAULT, read::byte_size_within(sizes), issues),
        };
        table.finish(issues);
        Some(limits)
    }
}

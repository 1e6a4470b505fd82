//! How much may wait, for how long, and how fast it goes when there is a connection again.

use std::time::Duration;

use tidegate_settings::{ByteSize, Issues, TableReader, read};
use tidegate_uplink::Rates;

use super::WhenFull;
use super::link::read_byte_rate;

/// What becomes of records that wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingConfig {
    /// What to do when nothing more may wait.
    pub when_full: WhenFull,
    /// How much may wait.
    pub max_bytes: ByteSize,
    /// For how long a record may wait.
    pub max_age: Option<Duration>,
    /// How fast goes what has waited for a connection.
    pub replay: Rates,
}

const WHEN_FULL_DEFAULT: WhenFull = WhenFull::DropOldest;
const MAX_BYTES_DEFAULT: ByteSize = ByteSize::mib(512);
const DAY: Duration = Duration::from_secs(86_400);

impl WaitingConfig {
    /// Reads `when-full`, `max-bytes`, `max-age` and `replay` of an uplink.
    pub(super) fn read(table: &mut TableReader<'_>, issues: &mut Issues) -> Self {
        let words = [("drop-oldest", WhenFull::DropOldest), ("refuse", WhenFull::Refuse)];
        let when_full =
            table.optional_or("when-full", WHEN_FULL_DEFAULT, read::word(&words), issues);
        let sizes = ByteSize::mib(1)..=ByteSize::gib(64);
        let sizes = read::byte_size_within(sizes);
        let max_bytes = table.optional_or("max-bytes", MAX_BYTES_DEFAULT, sizes, issues);
        let ages = Duration::from_secs(10)..=3_650 * DAY;
        let max_age = table.optional("max-age", read::duration_within(ages), issues);
        let replay = table.table("replay", read_rates, issues).unwrap_or_default();
        Self { when_full, max_bytes, max_age, replay }
    }
}

fn read_rates(mut table: TableReader<'_>, issues: &mut Issues) -> Option<Rates> {
    let messages = read::integer(1..=1_000_000);
    let messages = table.optional("max-messages-per-second", messages, issues);
    let bytes = table.optional("max-bytes-per-second", read_byte_rate(1 << 30), issues);
    table.finish(issues);
    Some(Rates { messages, bytes })
}

//! `[store]`: what is kept on disk, and when it is safe there.

use std::time::Duration;

use tidegate_settings::{ByteSize, Issues, TableReader, read};

/// What is kept on disk, and when it is safe there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// When a message counts as safe.
    pub durability: Durability,
    /// How much the journal may hold.
    pub max_bytes: ByteSize,
    /// How much of it is kept free for draining.
    pub reserve: ByteSize,
    /// How much the medium bears to be written in its life, as its maker says; for the forecast.
    pub endurance: Option<ByteSize>,
}

/// When a message counts as safe, and is acknowledged. Complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// On disk before any acknowledgement.
    Ack,
    /// Acknowledged at once, on disk within the interval; a power cut loses at most that much.
    Interval(Duration),
    /// Acknowledged at once, never synced.
    Memory,
}

const MAX_BYTES_DEFAULT: ByteSize = ByteSize::gib(1);
const RESERVE_DEFAULT: ByteSize = ByteSize::mib(16);
const INTERVAL_DEFAULT: Duration = Duration::from_millis(200);

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            durability: Durability::Ack,
            max_bytes: MAX_BYTES_DEFAULT,
            reserve: RESERVE_DEFAULT,
            endurance: None,
        }
    }
}

impl StoreConfig {
    pub(super) fn read(mut table: TableReader<'_>, issues: &mut Issues) -> Option<Self> {
        // The interval only says how long `interval` waits.
        let words = [
            ("ack", Durability::Ack),
            ("interval", Durability::Interval(INTERVAL_DEFAULT)),
            ("memory", Durability::Memory),
        ];
        let mut durability =
            table.optional_or("durability", Durability::Ack, read::word(&words), issues);
        let interval_at = table.key_span("interval");
        let range = Duration::from_millis(1)..=Duration::from_secs(60);
        let interval = table.optional("interval", read::duration_within(range), issues);
        match (&mut durability, interval, interval_at) {
            (Durability::Interval(chosen), Some(interval), _) => *chosen = interval,
            (Durability::Interval(_), _, _) | (_, _, None) => {}
            (_, _, Some(at)) => issues.error(
                at,
                "`interval` has no effect with this durability",
                "remove it, or write `durability = \"interval\"`",
            ),
        }
        let sizes = ByteSize::mib(1)..=ByteSize::gib(1 << 20);
        let max_bytes = table.optional_or(
            "max-bytes",
            MAX_BYTES_DEFAULT,
            read::byte_size_within(ByteSize::mib(4)..=*sizes.end()),
            issues,
        );
        let reserve =
            table.optional_or("reserve", RESERVE_DEFAULT, read::byte_size_within(sizes), issues);
        if reserve.get() > max_bytes.get() / 2 {
            let at = if table.has("reserve") { "reserve" } else { "max-bytes" };
            issues.error(
                table.value_span(at),
                format!("the reserve of {reserve} leaves too little of max-bytes, {max_bytes}"),
                "make `reserve` at most half of `max-bytes`",
            );
        }
        let lives = ByteSize::gib(1)..=ByteSize::gib(1 << 20);
        let endurance = table.optional("endurance", read::byte_size_within(lives), issues);
        table.finish(issues);
        Some(Self { durability, max_bytes, reserve, endurance })
    }
}

//! The two clocks of the gateway.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tidegate_model::Timestamp;

/// Tells the time: that of the wall, for readings, and a steady one, for deadlines.
///
/// Steps of the wall clock while the gateway runs move readings only; sessions, expiries and delays count
/// the time that really passed (promise A6).
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
    wall_at_start: Timestamp,
}

impl Clock {
    /// Starts the steady clock at the wall's time.
    pub fn start() -> Self {
        Self { started: Instant::now(), wall_at_start: wall() }
    }

    /// Returns the wall's time.
    pub fn wall(&self) -> Timestamp {
        wall()
    }

    /// Returns the wall's time at start plus the time that has passed since.
    pub fn steady(&self) -> Timestamp {
        self.wall_at_start.saturating_add(self.started.elapsed())
    }

    /// Returns how long the gateway has been running.
    pub fn uptime(&self) -> std::time::Duration {
        self.started.elapsed()
    }
}

/// Returns the wall's time.
pub fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

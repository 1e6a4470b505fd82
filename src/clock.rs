//! The two clocks of the gateway.

mod note;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tidegate_model::Timestamp;

pub use note::{Note, NoteKeeper};

/// Tells the time: that of the wall, for readings, and a steady one, for deadlines.
///
/// Steps of the wall clock move readings only; sessions, expiries and delays count the time that really passed
/// (promise A6). The steady clock goes on where that of the run before ended, so that times which were written down by
/// one that was wrong mean the same in the next run.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
    wall_at_start: Timestamp,
    steady_at_start: Timestamp,
}

impl Clock {
    /// Starts the steady clock at the wall's time.
    pub fn start() -> Self {
        let wall_at_start = wall();
        Self { started: Instant::now(), wall_at_start, steady_at_start: wall_at_start }
    }

    /// Returns the clock whose steady time goes on from what the run before has noted. Time spent switched off counts
    /// if the wall was right then (the note says so) and is now.
    #[must_use]
    pub fn resumed(self, note: Note, is_trusted: bool) -> Self {
        Self { steady_at_start: note.resume(self.wall_at_start, is_trusted), ..self }
    }

    /// Returns the wall's time.
    pub fn wall(&self) -> Timestamp {
        wall()
    }

    /// Returns the steady time: on a scale of its own, from which the wall's differs if that has been set.
    pub fn steady(&self) -> Timestamp {
        self.steady_at_start.saturating_add(self.started.elapsed())
    }

    /// Returns the wall's time at the start plus the time that has passed since: what the wall would show if nobody had set
    /// it. For what is kept by the wall's time over restarts, and must not jump meanwhile.
    pub fn unset_wall(&self) -> Timestamp {
        self.wall_at_start.saturating_add(self.started.elapsed())
    }

    /// Returns by how many microseconds the wall clock was set since the start.
    pub fn stepped_by(&self) -> i64 {
        wall().as_unix_micros().saturating_sub(self.unset_wall().as_unix_micros())
    }

    /// Returns how long the gateway has been running.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }
}

/// Returns the wall's time.
pub fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

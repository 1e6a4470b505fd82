//! How long a client may be silent (MQTT 5.0, section 3.1.2.10).

use std::time::{Duration, Instant};

/// The deadline that every packet of the client moves on: one and a half times the keep alive
/// (MQTT-3.1.2-22).
#[derive(Clone, Copy, Debug)]
pub(super) struct KeepAlive {
    patience: Duration,
    deadline: Option<Instant>,
}

impl KeepAlive {
    /// Starts at `now`; 0 seconds switch the check off.
    pub(super) fn new(seconds: u16, now: Instant) -> Self {
        let patience = Duration::from_millis(u64::from(seconds) * 1_500);
        let mut keep_alive = Self { patience, deadline: None };
        keep_alive.restart(now);
        keep_alive
    }

    /// Notes that the client was heard at `now`.
    #[inline]
    pub(super) fn restart(&mut self, now: Instant) {
        self.deadline = (!self.patience.is_zero()).then(|| now + self.patience);
    }

    /// Waits again after [`suspend`](Self::suspend).
    pub(super) fn resume(&mut self, now: Instant) {
        if self.deadline.is_none() {
            self.restart(now);
        }
    }

    /// Stops waiting until [`restart`](Self::restart).
    pub(super) fn suspend(&mut self) {
        self.deadline = None;
    }

    #[inline]
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }
}

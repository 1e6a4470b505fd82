//! Waiting for a condition with a deadline.

use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take that normally takes milliseconds; generous, for loaded machines.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Polls until `probe` yields a value, and returns it.
///
/// # Panics
///
/// After [`DEADLINE`], naming `what` was waited for.
#[track_caller]
pub(crate) fn until<T>(what: &str, probe: impl FnMut() -> Option<T>) -> T {
    match within(DEADLINE, probe) {
        Some(value) => value,
        None => panic!("waited {} s for {what}", DEADLINE.as_secs()),
    }
}

/// Polls until `probe` yields a value; `None` once `limit` has passed.
pub(crate) fn within<T>(limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = probe() {
            return Some(value);
        }
        if Instant::now() >= deadline {
            return None;
        }
        thread::park_timeout(POLL_INTERVAL);
    }
}

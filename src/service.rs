//! Readiness, watchdog and stop notices to systemd; nothing at all when it did not start us.

use std::{path::PathBuf, time::Duration};

use sd_notify::NotifyState;
use tracing::debug;

/// Says that the store is open and the listeners are bound.
pub fn ready() {
    notify(&[NotifyState::Ready]);
}

/// Says that the gateway is on its way out.
pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// Says that the gateway is alive; called from proof of life only, never from a bare timer.
pub fn alive() {
    notify(&[NotifyState::Watchdog]);
}

/// Returns how often systemd wants to hear that we are alive, if it does.
pub fn watchdog_interval() -> Option<Duration> {
    let micros: u64 = std::env::var("WATCHDOG_USEC").ok()?.parse().ok()?;
    let for_us =
        std::env::var("WATCHDOG_PID").ok().is_none_or(|pid| pid == std::process::id().to_string());
    (for_us && micros > 0).then(|| Duration::from_micros(micros))
}

/// Returns the folder of the credentials that the service manager hands over.
pub fn credentials_directory() -> Option<PathBuf> {
    std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from)
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        debug!(%error, "Cannot notify the service manager");
    }
}

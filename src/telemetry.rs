//! The log subscriber, and how much of one kind it is told.

use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

use tracing_subscriber::{EnvFilter, fmt};

/// Sends log lines to standard error: `TIDEGATE_LOG` filters them, `info` if it is not set.
///
/// Under systemd the journal adds the time; elsewhere each line has it. Calls after the first do nothing.
pub fn init(default_level: &str) {
    let wanted = std::env::var("TIDEGATE_LOG").unwrap_or_else(|_| default_level.into());
    // The OPC UA library logs every failed attempt as an error, and our adapter says the same once; that of AMQP logs payloads.
    let filter = EnvFilter::try_new(format!("opcua=off,lapin=off,{wanted}"))
        .unwrap_or_else(|_| EnvFilter::new("opcua=off,lapin=off,info"));
    let builder = fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    let result = if std::env::var_os("JOURNAL_STREAM").is_some() {
        builder.without_time().try_init()
    } else {
        builder.try_init()
    };
    // Somebody else's subscriber is as good.
    drop(result);
}

/// Most lines of one kind in a second (rule G6 of the fault catalogue).
const LINES_MAX: u32 = 10;

/// Keeps lines that peers can cause from filling the log.
#[derive(Debug, Default)]
pub struct LogLimit {
    since: Option<Instant>,
    said: u32,
    unsaid: u64,
}

impl LogLimit {
    /// Returns how many lines were left out since the last one, if one may be written now; else counts it.
    pub fn admit(&mut self, now: Instant) -> Option<u64> {
        let is_new_second = self
            .since
            .is_none_or(|since| now.saturating_duration_since(since) >= Duration::from_secs(1));
        if is_new_second {
            self.since = Some(now);
            self.said = 0;
        }
        if self.said >= LINES_MAX {
            self.unsaid += 1;
            return None;
        }
        self.said += 1;
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_one_kind_are_few_and_the_rest_is_counted() {
        let (mut limit, now) = (LogLimit::default(), Instant::now());
        let said = (0..100).filter(|_| limit.admit(now).is_some()).count();
        assert_eq!(said, 10);
        assert_eq!(limit.admit(now + Duration::from_millis(999)), None);
        assert_eq!(limit.admit(now + Duration::from_secs(1)), Some(91));
        assert_eq!(limit.admit(now + Duration::from_secs(1)), Some(0));
    }
}

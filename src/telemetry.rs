//! The log subscriber.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, fmt};

/// Sends log lines to standard error: `TIDEGATE_LOG` filters them, `info` if it is not set.
///
/// Under systemd the journal adds the time; elsewhere each line has it. Calls after the first do nothing.
pub fn init(default_level: &str) {
    let wanted = std::env::var("TIDEGATE_LOG").unwrap_or_else(|_| default_level.into());
    // The OPC UA library logs every failed attempt as an error; our adapter says the same once.
    let filter = EnvFilter::try_new(format!("opcua=off,{wanted}"))
        .unwrap_or_else(|_| EnvFilter::new("opcua=off,info"));
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

//! `[gateway.time]`: how it is known that the wall clock is right.

use std::path::PathBuf;
use std::time::Duration;

use tidegate_settings::{Issues, TableReader, read};

use super::context::Context;

/// How it is known that the wall clock is right. Complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimeConfig {
    /// It always is.
    Trusted,
    /// The time service of the system says so, if it is one that does.
    Service {
        /// For how long readings wait for that.
        wait: Duration,
    },
    /// A file is there from then on.
    Mark {
        /// Which.
        path: PathBuf,
        /// For how long readings wait for it.
        wait: Duration,
    },
}

const WAIT_DEFAULT: Duration = Duration::from_secs(60);

impl Default for TimeConfig {
    fn default() -> Self {
        Self::Service { wait: WAIT_DEFAULT }
    }
}

impl TimeConfig {
    /// Returns for how long readings wait for the clock.
    pub fn wait(&self) -> Duration {
        match self {
            Self::Trusted => Duration::ZERO,
            Self::Service { wait } | Self::Mark { wait, .. } => *wait,
        }
    }

    /// Reads the table.
    pub(super) fn read(
        mut table: TableReader<'_>,
        context: &Context<'_>,
        issues: &mut Issues,
    ) -> Option<Self> {
        let trusted = table.optional_or("trusted", false, read::boolean, issues);
        let mark = table.optional("mark", read::text, issues);
        let waits = read::duration_within(Duration::ZERO..=Duration::from_secs(3_600));
        let wait = table.optional_or("wait", WAIT_DEFAULT, waits, issues);
        for key in ["mark", "wait"] {
            if let (Some(at), true) = (table.key_span(key), trusted) {
                let message = format!("`{key}` has no effect: the clock is always trusted");
                issues.error(at, message, "remove it, or `trusted`");
            }
        }
        table.finish(issues);
        Some(match mark {
            _ if trusted => Self::Trusted,
            Some(mark) => Self::Mark { path: context.path(&mark), wait },
            None => Self::Service { wait },
        })
    }
}

//! `tidegate demo`: the main job with nothing else installed.
//!
//! An embedded plant feeds the gateway over real sockets, the gateway feeds an embedded cloud, and what is
//! shown at the end is what the cloud decoded and counted. Everything listens on loopback; data lives in a
//! temporary folder.

#[cfg(feature = "demo")]
mod cloud;
#[cfg(feature = "demo")]
mod embedded;
#[cfg(feature = "demo")]
mod operator;
#[cfg(feature = "demo")]
mod picture;
#[cfg(feature = "demo")]
mod plant;
#[cfg(feature = "demo")]
mod screen;
#[cfg(feature = "demo")]
mod show;
#[cfg(feature = "demo")]
mod snapshot;
#[cfg(feature = "demo")]
mod summary;
#[cfg(feature = "demo")]
mod tally;
#[cfg(feature = "demo")]
mod walk;

use std::{process::ExitCode, time::Duration};

/// Arguments of `tidegate demo`.
#[derive(Clone, Debug, clap::Args)]
pub struct DemoArguments {
    /// End by itself after this time, such as 10s.
    #[arg(long = "for", value_name = "DURATION", value_parser = tidegate_settings::parse_duration)]
    pub duration: Option<Duration>,
}

/// Runs the demo until Ctrl-C, SIGTERM or the end of its time, and prints the summary.
///
/// The exit code says whether everything arrived that devices had handed over.
///
/// # Errors
///
/// If plant, gateway or cloud cannot be started or stopped.
#[cfg(feature = "demo")]
pub fn demo(arguments: &DemoArguments) -> anyhow::Result<ExitCode> {
    show::run(arguments.duration)
}

/// Says that this build has no demo.
///
/// # Errors
///
/// Always.
#[cfg(not(feature = "demo"))]
pub fn demo(_: &DemoArguments) -> anyhow::Result<ExitCode> {
    anyhow::bail!("this build has no demo: the feature `demo` was left out")
}

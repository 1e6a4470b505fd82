//! `tidegate run`.

use std::{io::IsTerminal, process::ExitCode, time::Duration};

use anyhow::Context as _;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

use super::{ConfigArguments, EX_CONFIG, EX_IOERR, EX_SOFTWARE, EX_UNAVAILABLE};
use crate::{
    config::{self, Style},
    pipeline::{ConfigSource, Gateway, StartError},
    service, telemetry,
};

/// How long a stop may take; shorter than `TimeoutStopSec` of the unit.
const GRACE: Duration = Duration::from_secs(8);

/// Runs the gateway until a stop signal.
pub(super) fn run(arguments: &ConfigArguments) -> anyhow::Result<ExitCode> {
    let path = &arguments.config;
    let source = ConfigSource::file(path.clone());
    let loaded = match config::load(path) {
        Ok(loaded) => loaded,
        Err(error) => {
            eprintln!("tidegate: {error}");
            return Ok(ExitCode::from(EX_CONFIG));
        }
    };
    let style = if std::io::stderr().is_terminal() { Style::Color } else { Style::Plain };
    let (Some(config), Some(mapping)) = (loaded.config, loaded.mapping) else {
        eprint!("{}", config::render(&loaded.issues, &loaded.sources, style));
        eprintln!(
            "tidegate: the configuration has errors; `tidegate check -c {}` shows them too",
            path.display()
        );
        return Ok(ExitCode::from(EX_CONFIG));
    };
    telemetry::init("info");
    let hints = loaded.issues.iter().count();
    if hints > 0 {
        info!(hints, "`tidegate check` has hints on the configuration");
    }
    keep_memory_private();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        // Before anybody hears that we are ready: who does may ask us to stop at once.
        let interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
        let terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
        let gateway = match Gateway::start(config, mapping, source).await {
            Ok(gateway) => gateway,
            Err(error) => {
                let code = exit_code(&error);
                eprintln!("tidegate: {:#}", anyhow::Error::from(error));
                return Ok(ExitCode::from(code));
            }
        };
        service::ready();
        info!("Ready");
        serve(gateway, interrupt, terminate).await
    })
}

/// Keeps what is in memory, keys and passwords among it, out of core dumps and away from debuggers of the same user
/// (docs/promises.md, C15). The limit is for files, the mark for programs that dumps are piped to.
fn keep_memory_private() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let limited = setrlimit(Resource::Core, none);
    let marked = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    if let Err(error) = limited.and(marked) {
        warn!(%error, "A crash could leave secrets in a core dump");
    }
}

async fn serve(
    gateway: Gateway,
    mut interrupt: Signal,
    mut terminate: Signal,
) -> anyhow::Result<ExitCode> {
    let failure = tokio::select! {
        biased;
        () = gateway.storage_failed() => Some(EX_IOERR),
        () = gateway.core_failed() => Some(EX_SOFTWARE),
        _ = interrupt.recv() => None,
        _ = terminate.recv() => None,
    };
    service::stopping();
    match failure {
        Some(EX_SOFTWARE) => {
            // What is in memory may contradict itself; the journal does not.
            error!(
                "The broker core failed, ending so that the service manager starts a new process"
            );
            if let Err(error) = gateway.abandon().await {
                error!(%error, "Storage failed while stopping");
            }
            return Ok(ExitCode::from(EX_SOFTWARE));
        }
        Some(code) => {
            // What is in memory cannot be saved; every moment more is one in which nothing is acknowledged.
            error!("Storage failed, ending so that the service manager starts a new process");
            return Ok(ExitCode::from(code));
        }
        None => info!("Stopping"),
    }
    match gateway.stop(GRACE).await {
        Ok(()) => {
            info!("Stopped");
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            error!(%error, "Storage failed while stopping");
            Ok(ExitCode::from(EX_IOERR))
        }
    }
}

fn exit_code(error: &StartError) -> u8 {
    match error {
        StartError::Directory(error) => error.exit_code(),
        StartError::Listen { .. } => EX_UNAVAILABLE,
        StartError::Setting(_) => EX_CONFIG,
        _ => EX_IOERR,
    }
}

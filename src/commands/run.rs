//! `tidegate run`.

use std::{
    io::IsTerminal,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::Context as _;
use futures_util::FutureExt as _;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

use super::{ConfigArguments, EX_CONFIG, EX_IOERR, EX_SOFTWARE, EX_TEMPFAIL, EX_UNAVAILABLE};
use crate::{
    clock,
    config::{self, Style},
    pipeline::{ConfigSource, Gateway, StartError},
    push, service, telemetry,
};

/// How long a stop may take; shorter than `TimeoutStopSec` of the unit.
const GRACE: Duration = Duration::from_secs(8);

/// Runs the gateway until a stop signal.
pub(super) fn run(arguments: &ConfigArguments) -> anyhow::Result<ExitCode> {
    let path = &arguments.config;
    telemetry::init("info");
    settle_pushes(path)?;
    let source = ConfigSource::file(path.clone());
    let loaded = match config::load(path) {
        Ok(loaded) => loaded,
        Err(error) => {
            eprintln!("tidegate: {error}");
            if put_back(path, &error.to_string()) {
                return Err(start_anew());
            }
            return Ok(ExitCode::from(EX_CONFIG));
        }
    };
    let style = if std::io::stderr().is_terminal() { Style::Color } else { Style::Plain };
    let (Some(config), Some(mapping)) = (loaded.config, loaded.mapping) else {
        eprint!("{}", config::render(&loaded.issues, &loaded.sources, style));
        if put_back(path, "its configuration has errors") {
            return Err(start_anew());
        }
        eprintln!(
            "tidegate: the configuration has errors; `tidegate check -c {}` shows them too",
            path.display()
        );
        return Ok(ExitCode::from(EX_CONFIG));
    };
    let hints = loaded.issues.iter().count();
    if hints > 0 {
        info!(hints, "`tidegate check` has hints on the configuration");
    }
    keep_memory_private();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let end: anyhow::Result<End> = runtime.block_on(async {
        // Before anybody hears that we are ready: who does may ask us to stop at once.
        let interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
        let terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
        let gateway = match Gateway::start(config, mapping, source).await {
            Ok(gateway) => gateway,
            Err(error) => {
                let code = exit_code(&error);
                let reason = format!("{:#}", anyhow::Error::from(error));
                eprintln!("tidegate: {reason}");
                // Whose the directory is, his is the trial.
                let again = code != EX_TEMPFAIL && put_back(path, &reason);
                return Ok(if again { End::StartAnew } else { End::Exit(ExitCode::from(code)) });
            }
        };
        service::ready();
        info!("Ready");
        serve(gateway, interrupt, terminate).await
    });
    drop(runtime);
    match end? {
        End::Exit(code) => Ok(code),
        End::StartAnew => Err(start_anew()),
    }
}

/// How a run ends. Complete.
enum End {
    /// With the process.
    Exit(ExitCode),
    /// With a start of the same process, so that nothing is left of this one.
    StartAnew,
}

/// Puts back the set with which this start has failed. Returns whether there was one.
fn put_back(path: &Path, reason: &str) -> bool {
    let Ok(Some(folder)) = config::push_folder(path) else { return false };
    match push::put_back(folder, clock::wall(), &format!("the gateway did not start: {reason}")) {
        Ok(put_back) => put_back,
        Err(error) => {
            eprintln!("tidegate: the last good set cannot be put back: {error:#}");
            false
        }
    }
}

/// Becomes this program once more, as the same process: a service manager need not be there, and sees no end. Returns
/// only if that fails.
fn start_anew() -> anyhow::Error {
    let mut arguments = std::env::args_os();
    let mut command = Command::new("/proc/self/exe");
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    anyhow::Error::from(command.args(arguments).exec()).context("cannot start anew")
}

/// Puts back a pushed set that was on trial when the last run ended.
fn settle_pushes(path: &Path) -> anyhow::Result<()> {
    // What else is wrong with the file is told when it is read.
    match config::push_folder(path) {
        Ok(Some(folder)) => push::settle(folder, clock::wall()),
        Ok(None) | Err(_) => Ok(()),
    }
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
) -> anyhow::Result<End> {
    let failure = tokio::select! {
        biased;
        () = gateway.storage_failed() => Some(EX_IOERR),
        () = gateway.core_failed() => Some(EX_SOFTWARE),
        _ = interrupt.recv() => None,
        _ = terminate.recv() => None,
        () = gateway.restart_wanted() => {
            info!("Starting anew with another configuration");
            if let Err(error) = gateway.stop(GRACE).await {
                error!(%error, "Storage failed while stopping");
                return Ok(End::Exit(ExitCode::from(EX_IOERR)));
            }
            // Who asked to stop meanwhile is not to be forgotten.
            let stop = [interrupt.recv().now_or_never(), terminate.recv().now_or_never()];
            let stop = stop.iter().any(Option::is_some);
            return Ok(if stop { End::Exit(ExitCode::SUCCESS) } else { End::StartAnew });
        }
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
            return Ok(End::Exit(ExitCode::from(EX_SOFTWARE)));
        }
        Some(code) => {
            // What is in memory cannot be saved; every moment more is one in which nothing is acknowledged.
            error!("Storage failed, ending so that the service manager starts a new process");
            return Ok(End::Exit(ExitCode::from(code)));
        }
        None => info!("Stopping"),
    }
    Ok(End::Exit(match gateway.stop(GRACE).await {
        Ok(()) => {
            info!("Stopped");
            ExitCode::SUCCESS
        }
        Err(error) => {
            error!(%error, "Storage failed while stopping");
            ExitCode::from(EX_IOERR)
        }
    }))
}

fn exit_code(error: &StartError) -> u8 {
    match error {
        StartError::Directory(error) => error.exit_code(),
        StartError::Listen { .. } => EX_UNAVAILABLE,
        StartError::Setting(_) => EX_CONFIG,
        _ => EX_IOERR,
    }
}

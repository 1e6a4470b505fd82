//! Stages and their tasks: the only place that spawns, restarts and stops them.

mod pulse;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fmt,
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use serde_json::json;
use tokio::{runtime::Handle, task::JoinSet, time::timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use self::pulse::Pulse;

/// First pause before a failed run starts again.
const BACKOFF_FIRST: Duration = Duration::from_secs(1);
/// Longest pause after transient failures.
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// Pause after failures that time alone does not mend.
const BACKOFF_LASTING: Duration = Duration::from_secs(300);
/// A run that lasted this long has shown that it works; the next pause is the first one again.
const STABLE_AFTER: Duration = Duration::from_secs(60);

/// One stretch of the pipeline: its tasks, and the switch that stops them.
#[derive(Debug)]
pub struct Stage {
    name: &'static str,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Stage {
    /// Makes a stage without tasks.
    pub fn new(name: &'static str) -> Self {
        Self { name, stop: CancellationToken::new(), tasks: JoinSet::new() }
    }

    /// Returns the switch that its tasks watch.
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.child_token()
    }

    /// Starts a task. It ends by itself soon after the stop token is cancelled.
    pub fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Starts a part that ends only when it is stopped, and starts it again after a panic.
    pub fn keep<R, F>(&mut self, name: &str, conditions: &Conditions, mut run: R)
    where
        R: FnMut(CancellationToken) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        // Known from now on, and not only when its task has its first turn.
        conditions.note_start(name);
        let stop = self.stop_token();
        let shutdown = stop.clone();
        self.spawn(keep_running(name.to_owned(), stop, conditions.clone(), move || {
            let run = run(shutdown.clone());
            async move {
                run.await;
                Ok::<(), Infallible>(())
            }
        }));
    }

    /// Lets an event loop answer for itself, among the parts that run, for as long as the stage does.
    pub fn watch(&mut self, name: &str, conditions: &Conditions, event_loop: &Handle) {
        let (pulse, stop) = (conditions.note_start(name), self.stop_token());
        self.tasks.spawn_on(async move { pulse.run(stop.cancelled()).await }, event_loop);
    }

    /// Asks every task to finish, waits until `deadline`, then aborts what is left.
    pub async fn stop(mut self, deadline: Instant) {
        self.stop.cancel();
        let drained = timeout_at(deadline.into(), async {
            while let Some(ended) = self.tasks.join_next().await {
                if let Err(panic) = ended
                    && panic.is_panic()
                {
                    error!(stage = self.name, "A task panicked");
                }
            }
        })
        .await;
        if drained.is_err() {
            let tasks = self.tasks.len();
            warn!(stage = self.name, tasks, "Stage missed the deadline, aborting its tasks");
            self.tasks.shutdown().await;
        }
    }
}

/// How a part of the gateway fares: shown in status.
#[derive(Clone, Debug, Default)]
pub struct Condition {
    /// Why it is not running, if it is not.
    pub error: Option<String>,
    /// How often it was started again.
    pub restarts: u64,
    /// How many of its runs ended in a panic.
    pub panics: u64,
}

/// The conditions of all supervised parts. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Conditions(Arc<Mutex<BTreeMap<String, Part>>>);

#[derive(Debug, Default)]
struct Part {
    condition: Condition,
    pulse: Arc<Pulse>,
}

impl Conditions {
    /// Returns all conditions as JSON, by name.
    pub fn to_json(&self) -> serde_json::Value {
        let parts = self.0.lock();
        let json = |Condition { error, restarts, panics }: &Condition| json!({ "error": error, "restarts": restarts, "panics": panics });
        parts
            .iter()
            .map(|(name, part)| (name.clone(), json(&part.condition)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }

    /// Asks every part that runs whether it is alive, and returns one that has owed an answer for longer
    /// than `limit`, if there is one.
    pub fn unresponsive(&self, limit: Duration) -> Option<String> {
        let parts = self.0.lock();
        let mut silent = None;
        for (name, part) in &*parts {
            if part.pulse.ask() > limit {
                silent = Some(name.clone());
            }
        }
        silent
    }

    /// Returns every part with whether it works, and how many runs of all of them have ended in a panic.
    pub fn working(&self) -> (BTreeMap<String, bool>, u64) {
        let parts = self.0.lock();
        let works = parts.iter().map(|(name, part)| (name.clone(), part.condition.error.is_none()));
        (works.collect(), parts.values().map(|part| part.condition.panics).sum())
    }

    fn note_start(&self, name: &str) -> Arc<Pulse> {
        let mut parts = self.0.lock();
        let part = parts.entry(name.into()).or_default();
        part.condition.error = None;
        Arc::clone(&part.pulse)
    }

    fn note_failure(&self, name: &str, error: String, is_panic: bool) {
        let mut parts = self.0.lock();
        let condition = &mut parts.entry(name.into()).or_default().condition;
        condition.error = Some(error);
        condition.restarts += 1;
        condition.panics += u64::from(is_panic);
    }
}

/// What the supervisor has to know about the end of a run.
pub trait Failure: fmt::Display {
    /// Returns whether the same attempt may succeed later without anyone stepping in.
    fn is_transient(&self) -> bool;
}

impl Failure for tidegate_adapter_api::AdapterError {
    fn is_transient(&self) -> bool {
        Self::is_transient(self)
    }
}

impl Failure for Infallible {
    fn is_transient(&self) -> bool {
        match *self {}
    }
}

/// Runs something until `stop` is cancelled, and again after each failure.
///
/// Transient failures and panics pause for 1 s, doubling to 60 s; lasting failures for 5 minutes. Each pause
/// is shortened or lengthened by up to a quarter, so that many do not come back together.
pub async fn keep_running<R, F, E>(
    name: String,
    stop: CancellationToken,
    conditions: Conditions,
    mut run: R,
) where
    R: FnMut() -> F,
    F: Future<Output = Result<(), E>> + Send + 'static,
    E: Failure + Send + 'static,
{
    let mut backoff = BACKOFF_FIRST;
    loop {
        let started = Instant::now();
        let pulse = conditions.note_start(&name);
        let run = run();
        let mut task = JoinSet::new();
        task.spawn(async move { pulse.run(run).await });
        let failure = match task.join_next().await {
            Some(Ok(Ok(()))) | None => return,
            Some(Ok(Err(failure))) => Some(failure),
            Some(Err(_)) => None,
        };
        if stop.is_cancelled() {
            return;
        }
        if started.elapsed() >= STABLE_AFTER {
            backoff = BACKOFF_FIRST;
        }
        let is_panic = failure.is_none();
        let is_transient = failure.as_ref().is_some_and(Failure::is_transient);
        let pause = jittered(if is_transient || is_panic { backoff } else { BACKOFF_LASTING });
        backoff = (backoff * 2).min(BACKOFF_MAX);
        let error = failure.map_or_else(|| "panicked".to_owned(), |failure| failure.to_string());
        if is_transient {
            warn!(part = %name, %error, retry_ms = pause.as_millis(), "A part of the gateway failed");
        } else {
            error!(part = %name, %error, retry_ms = pause.as_millis(), "A part of the gateway needs attention");
        }
        conditions.note_failure(&name, error, is_panic);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        info!(part = %name, "Starting a part of the gateway again");
    }
}

/// Returns `pause` give or take a quarter.
pub fn jittered(pause: Duration) -> Duration {
    // The hasher of the standard library is seeded by the system; nothing here needs better randomness.
    let seed = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0);
    let permille = u32::try_from(750 + seed % 501).expect("at most 1250");
    pause * permille / 1_000
}

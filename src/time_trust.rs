//! Whether the wall clock is right, and what came in before it was (promise A6).
//!
//! A small machine without a battery for its clock starts with a time of the past, and is set right when the network is
//! there. The time service leaves a mark when that is done. Until then nothing expires by the clock, and what
//! comes in waits for a while, so that its stamps can be corrected by what the clock was wrong.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use serde_json::{Value, json};
use tidegate_store::{Seq, Transaction};
use tidegate_uplink::{Era, Stamp, Verdict};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    broker::BrokerHandle,
    clock::Clock,
    config::TimeConfig,
    store::{Completion, NotStored},
};

/// What the keys of eras begin with in the journal's state; the first record follows.
const KEY: &[u8] = b"te";
/// How often the mark is looked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// What was stamped before a step of the clock has been appended so much later at most.
const SETTLE: Duration = Duration::from_secs(1);
/// After the journal has refused a note it is tried again so much later.
const RETRY: Duration = Duration::from_secs(1);
/// The folder of a time service that leaves a mark, and that mark.
const SERVICE: (&str, &str) = ("/run/systemd/timesync", "/run/systemd/timesync/synchronized");

/// Who knows whether the clock is right. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct TimeTrust(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    is_untrusted: AtomicBool,
    /// Whether there are eras at all; most gateways have none.
    has_eras: AtomicBool,
    eras: Mutex<Vec<Era>>,
    /// By how many microseconds the clock was corrected in this run.
    corrected: Mutex<Option<i64>>,
}

/// A clock that is not right yet: what is waited for, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doubt {
    mark: PathBuf,
    wait: Duration,
}

impl Doubt {
    /// Looks whether the clock is in doubt.
    pub fn of(config: &TimeConfig) -> Option<Self> {
        let mark = match config {
            TimeConfig::Trusted => return None,
            TimeConfig::Service { .. } => {
                // Without such a service there is nothing to wait for.
                let (folder, mark) = SERVICE;
                PathBuf::from(folder).is_dir().then(|| PathBuf::from(mark))?
            }
            TimeConfig::Mark { path, .. } => path.clone(),
        };
        let doubt = Self { mark, wait: config.wait() };
        (!doubt.is_over()).then_some(doubt)
    }

    fn is_over(&self) -> bool {
        self.mark.exists()
    }
}

impl TimeTrust {
    /// Takes up what the journal's state has of eras, and begins another one if the clock is in doubt. What this
    /// changes is submitted to the journal, before anything that comes in.
    pub fn begin<'s>(
        state: impl Iterator<Item = (&'s [u8], &'s [u8])>,
        last: Seq,
        is_in_doubt: bool,
        clock: Clock,
        broker: &BrokerHandle,
    ) -> Self {
        let mut transaction = Transaction::new();
        let mut eras = Vec::new();
        for (key, value) in state.filter(|(key, _)| key.starts_with(KEY)) {
            match Era::decode(value) {
                Ok(mut era) => {
                    if era.to.is_none() {
                        // By how much that run's clock was wrong nobody knows any more.
                        era.to = Some(last);
                        if era.verdict == Verdict::Open {
                            era.verdict = Verdict::Unknown;
                        }
                        put(&mut transaction, &era);
                    }
                    eras.push(era);
                }
                Err(_) => {
                    warn!("A note about the clock is malformed, and forgotten");
                    transaction.delete(key).expect("a few bytes fit");
                }
            }
        }
        if is_in_doubt {
            let era =
                Era { from: last.next(), to: None, began: clock.wall(), verdict: Verdict::Open };
            put(&mut transaction, &era);
            eras.push(era);
        }
        if !transaction.is_empty() {
            broker.store().submit(transaction, Completion::None);
        }
        let has_eras = AtomicBool::new(!eras.is_empty());
        let is_untrusted = AtomicBool::new(is_in_doubt);
        Self(Arc::new(Inner { is_untrusted, has_eras, eras: Mutex::new(eras), ..Inner::default() }))
    }

    /// Returns whether the wall clock is right, as far as is known.
    pub fn is_trusted(&self) -> bool {
        !self.0.is_untrusted.load(Ordering::Relaxed)
    }

    /// Returns what is to be done with the stamps of a record; `None` if that is not known yet, for a while.
    pub fn stamp(&self, seq: Seq) -> Option<Stamp> {
        if !self.0.has_eras.load(Ordering::Relaxed) {
            return Some(Stamp::Trusted);
        }
        let eras = self.0.eras.lock();
        let era = eras.iter().find(|era| era.has(seq));
        era.map_or(Some(Stamp::Trusted), Era::stamp)
    }

    /// Forgets eras all of whose records lie before `needed`.
    pub fn forget_before(&self, needed: Seq, broker: &BrokerHandle) {
        let mut transaction = Transaction::new();
        let mut eras = self.0.eras.lock();
        eras.retain(|era| {
            let is_needed = era.to.is_none_or(|to| to >= needed);
            if !is_needed {
                transaction.delete(&key(era)).expect("a few bytes fit");
            }
            is_needed
        });
        self.0.has_eras.store(!eras.is_empty(), Ordering::Relaxed);
        drop(eras);
        if !transaction.is_empty() {
            broker.store().submit(transaction, Completion::None);
        }
    }

    /// Returns what status says of the clock.
    pub fn to_json(&self) -> Value {
        #[expect(clippy::cast_precision_loss, reason = "a number for people")]
        let corrected = self.0.corrected.lock().map(|micros| micros as f64 / 1e6);
        let is_settled = self.0.eras.lock().iter().all(|era| era.to.is_some());
        json!({
            "trusted": self.is_trusted(),
            "settled": is_settled,
            "corrected-by-seconds": corrected,
        })
    }

    /// Waits for the clock to become right, and says by how much it was wrong; until it is told to stop.
    pub async fn watch(
        self,
        doubt: Doubt,
        clock: Clock,
        broker: BrokerHandle,
        stop: CancellationToken,
    ) {
        let watching = self.follow(&doubt, clock, &broker);
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = watching => {}
        }
    }

    async fn follow(&self, doubt: &Doubt, clock: Clock, broker: &BrokerHandle) {
        if self.is_trusted() {
            return;
        }
        warn!(
            mark = %doubt.mark.display(),
            wait_s = doubt.wait.as_secs(),
            "The clock is not known to be right yet; what comes in waits for that"
        );
        let mut has_waited = false;
        while !doubt.is_over() {
            if !has_waited && clock.uptime() >= doubt.wait {
                has_waited = true;
                warn!("The clock is not known to be right still; readings go up marked");
                self.decide(broker, None, |era| era.verdict = Verdict::Unknown).await;
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        let at = clock.wall();
        let micros = clock.stepped_by();
        self.0.is_untrusted.store(false, Ordering::Relaxed);
        *self.0.corrected.lock() = Some(micros);
        #[expect(clippy::cast_precision_loss, reason = "a number for people")]
        let seconds = micros as f64 / 1e6;
        info!(seconds, "The clock is right now");
        tokio::time::sleep(SETTLE).await;
        let last = broker.core().last_seq();
        self.decide(broker, Some(last), |era| {
            if era.verdict == Verdict::Open {
                era.verdict = Verdict::Corrected { micros, at };
            }
        })
        .await;
    }

    /// Changes what is known of the era that has no end, in the journal first.
    async fn decide(&self, broker: &BrokerHandle, to: Option<Seq>, change: impl Fn(&mut Era)) {
        let open = self.0.eras.lock().iter().position(|era| era.to.is_none());
        let Some(place) = open else { return };
        let mut era = self.0.eras.lock()[place];
        change(&mut era);
        era.to = to;
        loop {
            let mut transaction = Transaction::new();
            put(&mut transaction, &era);
            match broker.store().submit_and_wait(transaction).await {
                Ok(()) => break,
                Err(NotStored) => {
                    error!("What is known of the clock cannot be written down; it is tried again");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
        if let Some(open) = self.0.eras.lock().iter_mut().find(|era| era.to.is_none()) {
            *open = era;
        }
    }
}

fn key(era: &Era) -> Vec<u8> {
    [KEY, &era.from.get().to_be_bytes()].concat()
}

fn put(transaction: &mut Transaction, era: &Era) {
    transaction.put(&key(era), &era.encode()).expect("a few bytes fit");
}

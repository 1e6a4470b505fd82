//! What has to be done from time to time: expiries, disk space, a look for changed files, proof of life.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tidegate_store::Seq;
use tokio::{
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

use super::{push, reload::Reloader};
use crate::{
    broker::BrokerHandle,
    clock::NoteKeeper,
    commander::History,
    control::Answerer,
    ingest::Ingest,
    memory::Memory,
    push::{Action, PushDesk},
    service,
    status::Status,
    store::Completion,
    uplink::UplinkHandle,
};

/// How often expiries are looked at.
const TICK: Duration = Duration::from_secs(1);
/// How often certificates that end soon are warned of.
const DAY: Duration = Duration::from_secs(86_400);
/// How often freed memory is looked for.
const MEMORY_TICK: Duration = Duration::from_secs(10);
/// How often files are looked at.
const RELOAD_TICK: Duration = Duration::from_millis(250);
/// Sessions' records are carried forward when the journal is larger than this part of its limit.
const CARRY_PART: u64 = 4;
/// About so much is carried forward at once, under the lock of the core.
const CARRY_BYTES: usize = 2 << 20;
/// So much may be carried before anything new has been appended.
const CARRY_CREDIT: u64 = 32 << 20;
/// A sync that takes longer than this is no proof of life.
const SYNC_MAX: Duration = Duration::from_secs(120);

/// Keeps the house.
pub(super) struct Keeper {
    pub(super) broker: BrokerHandle,
    pub(super) ingest: Ingest,
    pub(super) history: Arc<History>,
    pub(super) reloader: Arc<Reloader>,
    pub(super) status: Arc<Status>,
    pub(super) uplinks: Vec<UplinkHandle>,
    pub(super) clock_notes: Mutex<NoteKeeper>,
    /// The limit of the journal.
    pub(super) journal_bytes_max: u64,
    pub(super) store_is_alive: Box<dyn Fn(Duration) -> bool + Send + Sync>,
}

impl Keeper {
    /// Works until `stop` is cancelled.
    pub(super) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looks = interval(RELOAD_TICK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut days = interval(DAY);
        days.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut memories = interval(MEMORY_TICK);
        memories.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let memory = Arc::new(Mutex::new(Memory::default()));
        let mut is_alive = true;
        let mut pressure = self.broker.store().pressure();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => {
                    self.note_clocks(true);
                    return;
                }
                _ = ticks.tick() => {}
                _ = days.tick() => {
                    self.status.warn_of_certificates();
                    continue;
                }
                _ = memories.tick() => {
                    let memory = Arc::clone(&memory);
                    // Others are served meanwhile; who comes too soon has nothing to do.
                    drop(spawn_blocking(move || memory.try_lock().map(|mut it| it.look())));
                    continue;
                }
                _ = looks.tick() => {
                    self.reloader.look();
                    continue;
                }
                // The sender lives as long as the store. It tells at most ten times a second.
                Ok(()) = pressure.changed() => {
                    self.release();
                    continue;
                }
            }
            let ceiling = Arc::clone(self.broker.ceiling());
            drop(spawn_blocking(move || ceiling.look()));
            self.ingest.publish_wills(self.broker.tick());
            if let Some(forgotten) = self.history.take_forgotten(self.broker.clock().unset_wall()) {
                self.broker.store().submit(forgotten, Completion::None);
            }
            self.ingest.forget_exchanges();
            self.note_clocks(false);
            self.release();
            self.prove_life(&mut is_alive);
        }
    }

    /// Writes down how the clocks stand, if that is due.
    fn note_clocks(&self, is_end: bool) {
        let (clock, is_trusted) = (self.broker.clock(), self.status.time.is_trusted());
        let mut notes = self.clock_notes.lock();
        let note =
            if is_end { notes.end(clock, is_trusted) } else { notes.look(clock, is_trusted) };
        drop(notes);
        if let Some(note) = note {
            self.broker.store().submit(note, Completion::None);
        }
    }

    /// Gives segments back that nobody needs any more.
    fn release(&self) {
        let last = self.broker.core().last_seq();
        // An uplink for which nothing waits needs nothing of what has been appended so far.
        let uplinks = self.uplinks.iter().map(|uplink| {
            let snapshot = uplink.snapshot();
            let waits = snapshot.ledger.queued > snapshot.ledger.held;
            let needs = waits || snapshot.needed != snapshot.cursor;
            let is_here = snapshot.kept_after.ordinal < snapshot.ledger.received;
            if needs && is_here { snapshot.kept_after.seq.next() } else { last.next() }
        });
        let uplinks = uplinks.min().unwrap_or(last.next());
        self.carry(uplinks);
        let Some(sessions) = self.broker.needed_by_sessions() else { return };
        let floor = sessions.map_or(uplinks, |sessions| sessions.min(uplinks));
        if floor > Seq::FIRST {
            self.broker.store().release(floor);
        }
    }

    /// Carries forward what sessions need of old segments, if nothing else needs them and the journal is large.
    fn carry(&self, needed_by_uplinks: Seq) {
        let store = self.broker.store();
        let catalog = store.catalog();
        let pressure = store.pressure().borrow().bytes;
        let allowed = catalog.bytes().saturating_sub(pressure);
        let horizon = catalog.horizon(allowed.min(self.journal_bytes_max / CARRY_PART));
        let allowance = self.broker.core().carry_allowance(CARRY_CREDIT).min(CARRY_BYTES);
        if allowance == 0 {
            return;
        }
        let carried = self.broker.carry(horizon.min(needed_by_uplinks), allowance);
        if carried.records > 0 {
            let (records, bytes) = (carried.records, carried.bytes);
            debug!(records, bytes, "Records of sessions carried forward");
        }
    }

    /// Feeds the watchdog if every part is alive, and says once if one is not.
    fn prove_life(&self, is_alive: &mut bool) {
        let silent = self.silent();
        let was_alive = std::mem::replace(is_alive, silent.is_none());
        match silent {
            None => service::alive(),
            Some(part) if was_alive => {
                error!(%part, "A part of the gateway does not answer; the watchdog is not fed");
            }
            Some(_) => {}
        }
    }

    /// Returns what gives no sign of life, if anything: then nothing is said to the watchdog. Who asks has
    /// just held the lock of the broker core.
    fn silent(&self) -> Option<String> {
        if !(self.store_is_alive)(SYNC_MAX) {
            return Some("journal".into());
        }
        self.status.conditions.unresponsive(SYNC_MAX)
    }
}

/// Answers the questions of the control socket.
pub(super) fn answerer(status: &Arc<Status>, push: Option<Arc<PushDesk>>) -> Answerer {
    let status = Arc::clone(status);
    Arc::new(move |question| {
        let status = Arc::clone(&status);
        match question.line.as_str() {
            "status" => Some(Box::pin(async move { status.to_json() })),
            "audit" => Some(Box::pin(async move { status.audit().await })),
            line => {
                let action = Action::from_word(line.strip_prefix("push ")?)?;
                let push = push.clone();
                Some(Box::pin(push::answer(push, action, question.body, question.uid)))
            }
        }
    })
}

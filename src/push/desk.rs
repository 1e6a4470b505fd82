//! Takes what is asked, and watches over a set on trial.

use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use serde_json::json;
use tidegate_broker::access::Management;
use tidegate_model::{OutcomeKind, Principal};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{
    Action, Ending, Folder, Note, PushedSet, Report, Request, Restart, Trial,
    answer::{Answer, Origin, Sender, repeated, told},
    folder::GATEWAY,
    report::Trust,
    trial::{Health, Watch},
};
use crate::{
    broker::BrokerHandle,
    config::PushConfig,
    status::Status,
    supervise::Conditions,
    uplink::{ConnectionState, UplinkHandle},
};

/// How often a trial is looked at.
const TICK: Duration = Duration::from_millis(250);
/// How long a restart waits, so that who asked for it is answered first.
const RESTART_AFTER: Duration = Duration::from_secs(1);
/// How long a return that could not be written down waits for the next attempt.
const RETRY: Duration = Duration::from_secs(5);
/// So long after it was handed over, what a sender was to hear of is taken as journalled.
const TOLD_AFTER: Duration = Duration::from_secs(30);

/// What pushes have to do with.
pub struct Surroundings {
    /// The configuration file.
    pub path: PathBuf,
    /// Who may push.
    pub settings: PushConfig,
    /// Where sets are kept.
    pub folder: Folder,
    /// Whose rules give the right to push.
    pub broker: BrokerHandle,
    /// Uplinks that must not break.
    pub uplinks: Vec<UplinkHandle>,
    /// Parts that must not fail.
    pub conditions: Conditions,
    /// What is told of pushes.
    pub status: Arc<Status>,
    /// Takes the set that the note names into use.
    pub reload: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
    /// Takes the ends of trials, for those who sent the sets.
    pub endings: mpsc::Sender<Ending>,
    /// Is told when the gateway is to be started anew.
    pub restart: Arc<Notify>,
}

/// Takes pushes: one at a time.
pub struct PushDesk {
    around: Surroundings,
    state: Mutex<State>,
}

struct State {
    note: Note,
    watch: Option<Watch>,
    /// When the gateway is to be started anew.
    restart_at: Option<Instant>,
    /// When the last attempt to put a set back failed.
    failed: Option<Instant>,
    /// When the end of a trial was handed over.
    told: Option<Instant>,
}

impl PushDesk {
    /// Takes over what the note holds; no set is on trial but for one that needed this start, for
    /// [`settle`](super::settle) came before.
    ///
    /// # Errors
    ///
    /// If the note cannot be read.
    pub fn new(around: Surroundings) -> Result<Self, super::FolderError> {
        let note = around.folder.read_note()?.unwrap_or_default();
        around.folder.prune(&note.needed());
        let begun = note.trial.as_ref().filter(|trial| trial.restart == Restart::Begun);
        let watch = begun.map(|trial| {
            let remaining = trial.until.saturating_since(around.broker.clock().wall());
            let within = remaining.min(*PushConfig::CONFIRM_RANGE.end());
            let patience = around.settings.connect_within;
            Watch::again(Instant::now(), within, patience, &trial.worked)
        });
        let state = State { note, watch, restart_at: None, failed: None, told: None };
        let desk = Self { around, state: Mutex::new(state) };
        desk.show(&desk.state.lock().note);
        Ok(desk)
    }

    /// Returns why `sender` may not do this, if so.
    pub fn refuses(&self, sender: &Sender, action: Action) -> Option<String> {
        let Sender::Uplink(name) = sender else { return None };
        if !self.around.settings.uplinks.contains(name) {
            return Some(format!("`[push] uplinks` does not name `{name}`"));
        }
        let wanted = if action.only_reads() { Management::Read } else { Management::Write };
        let principal = Principal::uplink(name);
        let rights = self.around.broker.core().rules().rights(&principal, None);
        let word = if action.only_reads() { "read" } else { "write" };
        (!rights.may_manage(wanted))
            .then(|| format!("no `[[access]]` gives `{principal}` the right `manage = \"{word}\"`"))
    }

    /// Does what is asked; `id` is the one of the command. Waits for the disk.
    pub fn handle(&self, sender: &Sender, id: Option<&str>, request: Request) -> Answer {
        let origin = Origin::of(sender, id, &self.around);
        let mut state = self.state.lock();
        match request {
            Request::Status => Answer::new(OutcomeKind::Confirmed, state.note.to_json()),
            Request::Preview(set) => {
                match self.whole(&state.note, set).and_then(|set| self.report(&set, &origin)) {
                    Ok(report) => told(OutcomeKind::Confirmed, &report, None),
                    Err(answer) => answer,
                }
            }
            Request::Apply { set, confirm_within } => {
                self.apply(&mut state, set, confirm_within, origin)
            }
            Request::Confirm(number) => self.confirm(&mut state, number, &origin),
            Request::Return(number) => self.go_back(&mut state, number, &origin),
        }
    }

    /// Fills a set up with what it leaves out, from the one in force.
    fn whole(&self, note: &Note, set: PushedSet) -> Result<PushedSet, Answer> {
        if set.configuration().is_some() && !self.around.settings.configuration {
            return Err(Answer::refused(
                "a configuration file may be pushed only with `[push] configuration = true`",
            ));
        }
        let in_force = self.around.folder.read_set(note.in_force());
        in_force.map(|in_force| set.over(&in_force)).map_err(|it| Answer::refused(it.to_string()))
    }

    fn report(&self, set: &PushedSet, origin: &Origin) -> Result<Report, Answer> {
        Report::new(&self.around.path, set, origin.trust)
            .map_err(|error| Answer::refused(error.to_string()))
    }

    fn apply(
        &self,
        state: &mut State,
        set: PushedSet,
        confirm_within: Option<Duration>,
        origin: Origin,
    ) -> Answer {
        let sent = set.clone();
        if let Some(answer) = repeated(&state.note, &sent, &origin) {
            return answer;
        }
        if let Some(trial) = &state.note.trial {
            let Trial { set, by, until, .. } = trial;
            return Answer::refused(format!(
                "set {set} of {by} is on trial until {until}: confirm it first, or return"
            ));
        }
        let read = self.whole(&state.note, set);
        let read = read.and_then(|set| self.report(&set, &origin).map(|report| (set, report)));
        let (set, report) = match read {
            Ok(read) => read,
            Err(answer) => return answer,
        };
        if !report.is_sound() {
            return told(OutcomeKind::Refused, &report, Some(report.refusal()));
        }
        if report.is_empty() {
            return told(OutcomeKind::Confirmed, &report, Some("nothing would change".into()));
        }
        let confirm_within = confirm_within.unwrap_or(self.around.settings.confirm_within);
        let number = state.note.next;
        let until = origin.at.saturating_add(confirm_within);
        let Origin { by, id, at, .. } = origin;
        let patience = self.around.settings.connect_within;
        let watch = Watch::new(Instant::now(), confirm_within, patience, self.health());
        let restart = if report.needs_restart() { Restart::Due } else { Restart::None };
        let worked = watch.names();
        let trial = Trial { set: number, by: by.clone(), id, at, until, restart, worked };
        let mut note = state.note.clone();
        note.begin(trial, sent.digest());
        let written = self.around.folder.write_set(number, &set);
        if let Err(error) = written.and_then(|()| self.write(state, note)) {
            self.around.folder.prune(&state.note.needed());
            return Answer::refused(format!(
                "the set cannot be kept, the old one stays: {error:#}"
            ));
        }
        info!(set = number, %by, "A pushed set is taken into use, on trial");
        state.watch = Some(watch);
        if report.needs_restart() {
            state.restart_at = Some(Instant::now() + RESTART_AFTER);
        } else if let Err(error) = (self.around.reload)() {
            let reason = format!("it cannot be taken into use: {error}");
            self.put_back(state, GATEWAY, &reason);
            return told(OutcomeKind::Refused, &report, Some(reason));
        }
        let mut answer = told(OutcomeKind::Accepted, &report, None);
        answer.value["set"] = number.into();
        answer.value["confirm-until"] = until.to_string().into();
        answer
    }

    fn confirm(&self, state: &mut State, number: Option<u64>, origin: &Origin) -> Answer {
        let Some(trial) = &state.note.trial else {
            return Answer::refused("no set is on trial");
        };
        let set = trial.set;
        if number.is_some_and(|number| number != set) {
            return Answer::refused(format!("set {set} is on trial, and no other"));
        }
        let mut note = state.note.clone();
        note.confirm(&origin.by, origin.at, self.around.settings.keep);
        if let Err(error) = self.write(state, note) {
            return Answer::refused(format!(
                "that cannot be kept, the set stays on trial: {error:#}"
            ));
        }
        info!(set, by = %origin.by, "A pushed set is confirmed");
        state.watch = None;
        self.around.folder.prune(&state.note.needed());
        self.tell(state);
        Answer::new(OutcomeKind::Confirmed, json!({ "set": set }))
    }

    fn go_back(&self, state: &mut State, number: Option<u64>, origin: &Origin) -> Answer {
        let in_force = state.note.in_force();
        if number.is_some_and(|number| number != in_force) {
            return Answer::refused(format!("set {in_force} is in force, and no other"));
        }
        let reason = format!("{} asked for it", origin.by);
        if state.note.trial.is_some() {
            if !self.put_back(state, &origin.by, &reason) {
                return Answer::refused("the last good set cannot be put back; see the log");
            }
            return Answer::new(OutcomeKind::Confirmed, json!({ "set": state.note.in_force() }));
        }
        let &[.., before, _] = &*state.note.good else {
            return Answer::refused("there is no set before this one");
        };
        let set = match self.around.folder.read_set(before) {
            Ok(set) => set,
            Err(error) => return Answer::refused(error.to_string()),
        };
        // Good when it was in force; the rest of the configuration may have changed since.
        let report = match Report::new(&self.around.path, &set, Trust::Full) {
            Ok(report) if report.is_sound() => report,
            Ok(report) => return told(OutcomeKind::Refused, &report, Some(report.refusal())),
            Err(error) => return Answer::refused(error.to_string()),
        };
        let mut note = state.note.clone();
        note.go_back(&origin.by, origin.at, &reason);
        if let Err(error) = self.write(state, note) {
            return Answer::refused(format!("that cannot be kept, the set stays: {error:#}"));
        }
        info!(set = before, by = %origin.by, "An earlier set is put back");
        if report.needs_restart() {
            state.restart_at = Some(Instant::now() + RESTART_AFTER);
        } else if let Err(error) = (self.around.reload)() {
            error!(set = before, %error, "The earlier set cannot be taken into use");
        }
        self.around.folder.prune(&state.note.needed());
        let mut answer = told(OutcomeKind::Confirmed, &report, None);
        answer.value["set"] = before.into();
        answer
    }

    /// Ends the trial badly. Returns whether that is on disk; if not, it is tried again.
    fn put_back(&self, state: &mut State, by: &str, reason: &str) -> bool {
        let Some(trial) = &state.note.trial else { return true };
        let (set, restart) = (trial.set, trial.restart);
        let mut note = state.note.clone();
        note.put_back(by, self.around.broker.clock().wall(), reason);
        if let Err(error) = self.write(state, note) {
            error!(set, reason, error = %format!("{error:#}"), "A set on trial cannot be put back yet");
            state.failed = Some(Instant::now());
            return false;
        }
        warn!(set, reason, "A set on trial is put back");
        state.watch = None;
        state.restart_at = None;
        if restart == Restart::Begun {
            state.restart_at = Some(Instant::now() + RESTART_AFTER);
        } else if let Err(error) = (self.around.reload)() {
            error!(%error, "The last good set cannot be taken into use");
        }
        self.around.folder.prune(&state.note.needed());
        self.tell(state);
        true
    }

    /// Replaces the note on disk and in memory, or neither.
    fn write(&self, state: &mut State, note: Note) -> anyhow::Result<()> {
        if let Err(error) = self.around.folder.write_note(&note) {
            // The new one may have got its name before the failure.
            if let Err(error) = self.around.folder.write_note(&state.note) {
                error!(error = %format!("{error:#}"), "The note on pushed sets cannot be written");
            }
            return Err(error);
        }
        self.show(&note);
        state.note = note;
        state.told = None;
        Ok(())
    }

    fn show(&self, note: &Note) {
        let last = note.entries.back().map(|entry| {
            json!({
                "what": entry.what, "set": entry.set, "by": entry.by,
                "at": entry.at.to_string(), "reason": entry.reason,
            })
        });
        let trial = note.to_json()["trial"].take();
        *self.around.status.push.lock() =
            json!({ "in-force": note.in_force(), "trial": trial, "last": last });
    }

    /// Hands the end of a trial to whoever tells its sender.
    fn tell(&self, state: &mut State) {
        if let Some(ending) = &state.note.untold
            && self.around.endings.try_send(ending.clone()).is_ok()
        {
            state.told = Some(Instant::now());
        }
    }

    fn health(&self) -> Health {
        let (parts, panics) = self.around.conditions.working();
        let parts = parts.into_iter().map(|(name, works)| (format!("part {name}"), works));
        let mut works: BTreeMap<String, bool> = parts.collect();
        for uplink in &self.around.uplinks {
            let is_up = uplink.snapshot().connection == ConnectionState::Connected;
            works.insert(format!("uplink {}", uplink.name()), is_up);
        }
        Health { works, panics }
    }

    /// Watches over trials until `stop` is cancelled. May be called again after a panic.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let desk = Arc::clone(&self);
            // Whoever pushes meanwhile has the lock; then the next look is soon enough.
            drop(tokio::task::spawn_blocking(move || desk.look()).await);
        }
    }

    fn look(&self) {
        let Some(mut state) = self.state.try_lock() else { return };
        let state = &mut *state;
        match state.told {
            None => self.tell(state),
            Some(at) if at.elapsed() >= TOLD_AFTER && state.note.untold.is_some() => {
                let note = Note { untold: None, ..state.note.clone() };
                if let Err(error) = self.write(state, note) {
                    warn!(error = %format!("{error:#}"), "The end of a trial will be told once more");
                }
                state.told = Some(Instant::now());
            }
            Some(_) => {}
        }
        if let Some(at) = state.restart_at {
            if at <= Instant::now() {
                self.around.restart.notify_one();
            }
            return;
        }
        if state.note.trial.is_none() || state.failed.is_some_and(|at| at.elapsed() < RETRY) {
            return;
        }
        let health = self.health();
        let verdict = match &mut state.watch {
            Some(watch) => watch.look(Instant::now(), &health),
            None => Some("it is on trial, and nobody watches over it".into()),
        };
        if let Some(reason) = verdict {
            self.put_back(state, GATEWAY, &reason);
        }
    }
}

impl fmt::Debug for PushDesk {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("PushDesk").finish_non_exhaustive()
    }
}

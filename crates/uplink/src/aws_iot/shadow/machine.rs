//! One shadow, whatever connection there is.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tidegate_model::{Quality, Reading, Topic, Value};

use super::{
    asked::{Asked, Question},
    counts::{ShadowCounts, ShadowView},
    document::{self, Delta, Rejection, Unreadable},
    setup::ShadowSettings,
    update,
    wishes::{Next, ShadowNote, ShadowOrder, ShadowOrderId, Wishes},
};
use crate::{Backoff, Disconnect, Failure, Pace, Pauses, Rates};

/// Requests a second that the service takes of a thing.
const RATES: Rates = Rates { messages: Some(20), bytes: None };
/// How often is looked for somebody who can carry out a wish.
const UNHEARD_INTERVAL: Duration = Duration::from_secs(1);
/// The document is asked for again no sooner, if what is told of seems to be older than it.
const REFRESH_INTERVAL: Duration = Duration::from_secs(10);
/// How long the shadow is left out after a connection was closed for it.
const LEFT_OUT: Pauses = Pauses {
    first: Duration::from_secs(30),
    longest: Duration::from_secs(300),
    least_after_two: Duration::ZERO,
    stable_after: Duration::from_secs(10),
};
/// Sentences that wait to be told.
const TOLD_MAX: usize = 16;

/// A message for the service, with QoS 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShadowRequest {
    /// Where it is published.
    pub topic: String,
    /// The payload: JSON.
    pub payload: Vec<u8>,
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// There is none.
    ExpectConnection,
    /// It stands, and nothing of the shadow went by it: it may be left out for a while.
    ExpectTurn,
    /// Its subscriptions were asked for.
    ExpectSubscription,
    /// The document is to be asked for, or was.
    ExpectDocument,
    /// The document was told.
    Known,
}

/// What is known of the value of a key.
#[derive(Clone, Debug, Default)]
struct Reported {
    /// What the local topic said last.
    local: Option<Value>,
    /// What the service has, as far as it is known.
    known: Option<Value>,
    /// What it would not take.
    refused: Option<Value>,
    /// Whether it has been asked to take a value.
    is_asked: bool,
    /// Whether it goes alone, as it was among several of which the service would not take one.
    is_alone: bool,
}

impl Reported {
    /// Returns the value that the service does not have, if there is one.
    fn differing(&self) -> Option<&Value> {
        let is_other =
            |local: &&Value| !self.known.as_ref().is_some_and(|it| document::is_same(it, local));
        self.local.as_ref().filter(is_other)
    }

    /// Returns whether the service would not take the value that is.
    fn is_refused(&self) -> bool {
        self.refused.is_some() && self.refused.as_ref() == self.differing()
    }

    /// Returns the value that is to be reported, if one is.
    fn due(&self) -> Option<&Value> {
        self.differing().filter(|local| !self.is_asked && self.refused.as_ref() != Some(*local))
    }
}

/// What the service lets us do: for anything else it closes the connection.
#[derive(Clone, Copy, Debug, Default)]
struct Allowed {
    get: bool,
    update: bool,
}

/// A shadow as a state machine. Time is that since any fixed moment.
///
/// Hand over what happens; then take what is to be done, the notes before the orders.
#[derive(Debug)]
pub struct Shadow {
    settings: Arc<ShadowSettings>,
    phase: Phase,
    wishes: Wishes,
    values: Vec<Reported>,
    asked: Asked,
    /// The newest version that was told of on this connection.
    seen: Option<u64>,
    /// The newest difference that was told of before the document was.
    held: Option<Delta>,
    pace: Pace,
    backoff: Backoff,
    /// Nothing is asked before.
    ready_at: Duration,
    /// No value is reported before.
    next_update: Duration,
    /// Nobody is looked for before who can carry out a wish.
    look_at: Duration,
    /// What this connection has shown that the service lets us do.
    allowed: Allowed,
    /// How long the shadow is left out next, if it is.
    left_out: Backoff,
    /// It is left out before.
    turn_at: Duration,
    /// Why it is left out, if it is.
    barred: Option<String>,
    /// When the document was told last.
    told_at: Duration,
    /// From when on the document, which was told on this connection, is asked for once more, if it is.
    refresh_at: Option<Duration>,
    counts: ShadowCounts,
    told: VecDeque<String>,
    /// What was told last of requests that did not work, if none has worked since.
    failure: Option<String>,
    /// The same, once one has.
    over: Option<String>,
}

impl Shadow {
    /// Takes up what earlier notes left. `era` is any number, another one for each process.
    pub fn new<'k>(
        settings: Arc<ShadowSettings>,
        kept: impl Iterator<Item = (&'k [u8], &'k [u8])>,
        era: u64,
        now: Duration,
    ) -> Self {
        let wishes = Wishes::new(&settings, kept, era);
        let values = vec![Reported::default(); settings.states().len()];
        Self {
            settings,
            phase: Phase::ExpectConnection,
            wishes,
            values,
            asked: Asked::new(era),
            seen: None,
            held: None,
            pace: Pace::new(RATES, now),
            backoff: Backoff::new(Pauses::USUAL),
            ready_at: now,
            next_update: now,
            look_at: now,
            allowed: Allowed::default(),
            left_out: Backoff::new(LEFT_OUT),
            turn_at: now,
            barred: None,
            told_at: now,
            refresh_at: None,
            counts: ShadowCounts::default(),
            told: VecDeque::new(),
            failure: None,
            over: None,
        }
    }

    /// Takes notice of a new connection.
    pub fn handle_connected(&mut self) {
        self.phase = Phase::ExpectTurn;
    }

    /// Returns what is to be subscribed to now, with QoS 1, if anything is.
    pub fn poll_subscription(&mut self, now: Duration) -> Option<[String; 5]> {
        if self.phase != Phase::ExpectTurn || now < self.turn_at {
            return None;
        }
        self.phase = Phase::ExpectSubscription;
        Some(self.settings.filters())
    }

    /// Takes notice that the subscriptions of a connection stand.
    pub fn handle_subscribed(&mut self) {
        if self.phase == Phase::ExpectSubscription {
            self.phase = Phase::ExpectDocument;
        }
    }

    /// Takes notice that the service refuses the subscriptions, and says why. `random` is any number.
    pub fn handle_not_subscribed(&mut self, reason: &str, now: Duration, random: u64) {
        self.phase = Phase::ExpectTurn;
        self.bar(&format!("its subscriptions are refused: {reason}"), now, random);
    }

    /// Takes notice that the connection is gone. What was asked or desired is asked for and told again. `how` is by whom it
    /// was ended. Returns whether the shadow is likely to be the cause: then it is left out for a while. `random` is any
    /// number.
    pub fn handle_disconnected(&mut self, how: Disconnect, now: Duration, random: u64) -> bool {
        let is_cause = how != Disconnect::Otherwise && self.awaits_permission();
        if is_cause {
            let why = "the connection was closed when the shadow was asked for or reported, for which the policy may lack a right";
            self.bar(why, now, random);
        }
        self.phase = Phase::ExpectConnection;
        self.allowed = Allowed::default();
        self.asked.clear();
        self.wishes.clear();
        self.values.iter_mut().for_each(|value| value.is_asked = false);
        self.seen = None;
        self.held = None;
        self.refresh_at = None;
        is_cause
    }

    /// Returns whether something is under way that this connection has not shown to be allowed.
    fn awaits_permission(&self) -> bool {
        self.phase == Phase::ExpectSubscription
            || self.asked.questions().any(|question| match question {
                Question::Get => !self.allowed.get,
                Question::Update(_) => !self.allowed.update,
            })
    }

    fn bar(&mut self, why: &str, now: Duration, random: u64) {
        let pause = self.left_out.after(Failure::Transient, random);
        self.turn_at = now + pause;
        let text = format!("the shadow is left out for {} s: {why}", pause.as_secs());
        self.barred = Some(text.clone());
        self.tell_failure(text);
    }

    /// Takes what a local topic says, by the place of its key. Readings that are bad leave what was reported.
    pub fn handle_local(&mut self, place: usize, reading: &Reading) {
        let Some(value) = self.values.get_mut(place) else { return };
        if reading.status.quality() == Quality::Bad {
            return;
        }
        let key = &self.settings.states()[place].key;
        let fit = Some(&reading.value).filter(|value| document::is_fit(value));
        // A float is reported by its own shortest digits, and compared so.
        let Some(local) = fit.and_then(document::as_json) else {
            self.counts.refuse("unfit", 1);
            let kind = reading.value.type_name();
            let said = format!("`{key}` is not reported: its topic has a value of type {kind}");
            return self.tell(said);
        };
        if update::state_bytes(key, &local) > update::room() {
            return self.handle_too_large(place);
        }
        value.local = Some(local);
    }

    /// Takes notice that a local topic has a value that is larger than any that the service takes. What was reported stays.
    pub fn handle_too_large(&mut self, place: usize) {
        let Some(state) = self.settings.states().get(place) else { return };
        let (key, most) = (&state.key, update::STATE_BYTES_MAX);
        let said = format!("`{key}` is not reported: it has more than {most} bytes");
        self.counts.refuse("too-large", 1);
        self.tell(said);
    }

    /// Takes a message of the service; returns whether it was for this shadow. `random` is any number.
    pub fn handle_message(
        &mut self,
        topic: &str,
        payload: &[u8],
        now: Duration,
        random: u64,
    ) -> bool {
        let settings = Arc::clone(&self.settings);
        let Some(suffix) = settings.suffix(topic) else { return false };
        let handled = match suffix {
            "update/delta" => self.handle_delta(payload, now),
            "get/accepted" => self.handle_document(payload, now, random),
            "update/accepted" => self.handle_accepted(payload),
            "get/rejected" | "update/rejected" => self.handle_rejected(payload, now, random),
            _ => return false,
        };
        if let Err(error) = handled {
            self.counts.ignore("malformed", 1);
            let said = format!("what came on {suffix} cannot be read: {error}");
            if suffix == "get/accepted" { self.tell_failure(said) } else { self.tell(said) }
        }
        true
    }

    fn handle_delta(&mut self, payload: &[u8], now: Duration) -> Result<(), Unreadable> {
        let delta = document::read_delta(&*document::read(payload)?, &self.settings)?;
        match self.phase {
            Phase::Known if self.is_stale(&delta) => {
                self.counts.ignore("stale", 1);
                // Or else the shadow was deleted and made anew, and its versions begin again.
                let due = now.max(self.told_at + REFRESH_INTERVAL);
                self.refresh_at.get_or_insert(due);
            }
            Phase::Known => self.take(delta),
            // Nobody knows yet whether it is the newest: it may have waited for us.
            Phase::ExpectConnection
            | Phase::ExpectTurn
            | Phase::ExpectSubscription
            | Phase::ExpectDocument => {
                if self.held.as_ref().is_none_or(|held| held.version < delta.version) {
                    self.held = Some(delta);
                }
            }
        }
        Ok(())
    }

    /// Returns whether something newer was told of.
    fn is_stale(&self, delta: &Delta) -> bool {
        self.seen.is_some_and(|seen| delta.version < seen)
    }

    /// Takes what is desired.
    fn take(&mut self, delta: Delta) {
        self.seen = Some(delta.version);
        self.counts.ignore("unknown-key", delta.unknown);
        self.counts.ignore("unfit", delta.unfit);
        if delta.unknown + delta.unfit > 0 {
            let (unknown, unfit) = (delta.unknown, delta.unfit);
            self.tell(format!(
                "what is desired and left out: {unknown} of no key that is known, {unfit} without a value that can be commanded"
            ));
        }
        self.wishes.take(delta);
        self.look_at = Duration::ZERO;
    }

    fn handle_document(
        &mut self,
        payload: &[u8],
        now: Duration,
        random: u64,
    ) -> Result<(), Unreadable> {
        let said = document::read(payload)?;
        if self.answered(&said) != Some(Question::Get) {
            return Ok(());
        }
        match document::read_whole(&said, &self.settings) {
            Ok(whole) => {
                self.begin(whole.reported, whole.delta, now);
                Ok(())
            }
            Err(error) => {
                self.ready_at = now + self.backoff.after(Failure::Transient, random);
                Err(error)
            }
        }
    }

    /// Goes on with what the document says.
    fn begin(&mut self, reported: Vec<Option<Value>>, delta: Delta, now: Duration) {
        self.phase = Phase::Known;
        self.told_at = now;
        self.refresh_at = None;
        self.backoff.reset();
        for (value, known) in self.values.iter_mut().zip(reported) {
            // An earlier refusal may be over.
            (value.known, value.refused) = (known, None);
        }
        self.note_working();
        self.take(delta);
        match self.held.take() {
            Some(held) if self.is_stale(&held) => self.counts.ignore("stale", 1),
            Some(held) => self.take(held),
            None => {}
        }
    }

    fn handle_accepted(&mut self, payload: &[u8]) -> Result<(), Unreadable> {
        let said = document::read(payload)?;
        if let Some(Question::Update(values)) = self.answered(&said) {
            self.backoff.reset();
            self.counts.reported += values.len() as u64;
            for (place, value) in values {
                let reported = &mut self.values[place];
                (reported.is_asked, reported.is_alone) = (false, false);
                self.wishes.handle_reported(place, &value);
                reported.known = Some(value);
            }
            // What is refused for good is told until there is another value.
            if !self.values.iter().any(Reported::is_refused) {
                self.note_working();
            }
        }
        Ok(())
    }

    /// Returns what a message answers, if it is one of our questions.
    fn answered(&mut self, said: &tidegate_model::Document) -> Option<Question> {
        let question = self.asked.answered(document::token(said)?)?;
        match question {
            Question::Get => self.allowed.get = true,
            Question::Update(_) => {
                self.allowed.update = true;
                self.left_out.reset();
            }
        }
        self.barred = None;
        Some(question)
    }

    fn handle_rejected(
        &mut self,
        payload: &[u8],
        now: Duration,
        random: u64,
    ) -> Result<(), Unreadable> {
        let said = document::read(payload)?;
        let rejection = document::read_rejection(&said);
        match self.answered(&said) {
            // There is no shadow yet: it is made by the first report.
            Some(Question::Get) if rejection.code == 404 => {
                self.begin(vec![None; self.values.len()], Delta::default(), now);
            }
            Some(Question::Get) => {
                self.tell_rejection("does not tell the shadow", &rejection);
                let failure =
                    if is_passing(rejection.code) { Failure::Transient } else { Failure::Lasting };
                self.ready_at = now + self.backoff.after(failure, random);
            }
            Some(Question::Update(values)) => {
                self.counts.refuse(reason(rejection.code), values.len() as u64);
                self.tell_rejection("does not take what is reported", &rejection);
                self.ready_at = now + self.backoff.after(Failure::Transient, random);
                let (is_passing, count) = (is_passing(rejection.code), values.len());
                for (place, value) in values {
                    let reported = &mut self.values[place];
                    reported.is_asked = false;
                    // The same again would be refused again.
                    reported.refused = (!is_passing && count == 1).then_some(value);
                    reported.is_alone |= !is_passing;
                }
            }
            None => {}
        }
        Ok(())
    }

    /// Acts on what had no answer in time.
    pub fn handle_timeout(&mut self, now: Duration, random: u64) {
        while let Some(question) = self.asked.overdue(now) {
            self.counts.unanswered += 1;
            self.ready_at = now + self.backoff.after(Failure::Transient, random);
            self.tell_failure(
                "a request of the shadow has had no answer and is made again".to_owned(),
            );
            if let Question::Update(values) = question {
                for (place, _) in values {
                    let reported = &mut self.values[place];
                    reported.is_asked = false;
                    // It may have been taken or not.
                    reported.known = None;
                }
            }
        }
    }

    /// Takes notice that a command is safe, or was answered.
    pub fn handle_safe(&mut self, id: ShadowOrderId) {
        // One that was withheld comes again.
        self.counts.commands += u64::from(self.wishes.handle_safe(id));
    }

    /// Takes notice that nobody took a command. The document is asked for again then. `random` is any number.
    pub fn handle_withheld(&mut self, id: ShadowOrderId, now: Duration, random: u64) {
        if self.wishes.handle_withheld(id) && self.phase == Phase::Known {
            self.phase = Phase::ExpectDocument;
            self.ready_at = now + self.backoff.after(Failure::Transient, random);
        }
    }

    /// Returns entries to be written down together; none while those before are not durable, which
    /// [`handle_noted`](Self::handle_noted) tells.
    pub fn poll_notes(&mut self) -> Vec<ShadowNote> {
        self.wishes.poll_notes(&self.settings)
    }

    /// Takes notice that the entries that were taken are durable.
    pub fn handle_noted(&mut self) {
        self.wishes.handle_noted();
    }

    /// Returns the next command, once all notes are taken and the one before is safe. What `is_heard` says nobody can
    /// carry out waits, and is asked about again after a while; then the service has to say first that it is desired still.
    pub fn poll_order(
        &mut self,
        now: Duration,
        is_heard: impl Fn(&Topic) -> bool,
    ) -> Option<ShadowOrder> {
        if now < self.look_at {
            return None;
        }
        let next = self.wishes.poll_order(&self.settings, is_heard);
        if let Next::Order(order) = next {
            return Some(order);
        }
        if next == Next::Confirmed && self.phase == Phase::Known {
            self.refresh_at = Some(now);
        }
        if self.wishes.is_unheard() {
            self.look_at = now + UNHEARD_INTERVAL;
        }
        None
    }

    /// Returns the next sentence for people.
    pub fn poll_told(&mut self) -> Option<String> {
        self.told.pop_front()
    }

    /// Returns what was told last and is over, as the same has worked since.
    pub fn poll_over(&mut self) -> Option<String> {
        self.over.take()
    }

    /// Returns the next request that may go now. It counts as sent.
    pub fn poll_request(&mut self, now: Duration) -> Option<ShadowRequest> {
        if self.due_at(now).is_none_or(|due| due > now) {
            return None;
        }
        if self.refresh_at.is_some_and(|due| due <= now) {
            self.phase = Phase::ExpectDocument;
        }
        let request = match self.phase {
            Phase::ExpectConnection | Phase::ExpectTurn | Phase::ExpectSubscription => return None,
            Phase::ExpectDocument => {
                let token = self.asked.ask(Question::Get, now);
                let payload = update::write_get(&token);
                ShadowRequest { topic: self.settings.topic("get"), payload }
            }
            Phase::Known => {
                let payload = self.next_update(now)?;
                ShadowRequest { topic: self.settings.topic("update"), payload }
            }
        };
        self.pace.note_sent(request.payload.len());
        Some(request)
    }

    /// Writes an update of as many values as the service takes at once.
    fn next_update(&mut self, now: Duration) -> Option<Vec<u8>> {
        let mut room = update::room();
        let mut is_whole = true;
        let mut values = Vec::new();
        for (place, reported) in self.values.iter_mut().enumerate() {
            let Some(value) = reported.due().cloned() else { continue };
            let bytes = update::state_bytes(&self.settings.states()[place].key, &value);
            if bytes > room || (reported.is_alone && !values.is_empty()) {
                is_whole = false;
                continue;
            }
            if reported.is_alone {
                // Nothing goes with it.
                room = bytes;
            }
            room -= bytes;
            reported.is_asked = true;
            values.push((place, value));
        }
        if values.is_empty() {
            return None;
        }
        if is_whole {
            self.next_update = now + self.settings.interval();
        }
        let token = self.asked.ask(Question::Update(values.clone()), now);
        let states = self.settings.states();
        let written: Vec<_> =
            values.iter().map(|(place, value)| (&states[*place].key, value)).collect();
        Some(update::write(&written, &token))
    }

    /// Returns when the next request may go, if there is one.
    fn due_at(&self, now: Duration) -> Option<Duration> {
        let earliest = match self.phase {
            Phase::ExpectConnection | Phase::ExpectTurn | Phase::ExpectSubscription => return None,
            Phase::ExpectDocument => Some(self.ready_at).filter(|_| self.asked.is_empty()),
            // What is under way is answered first, and nothing else begins.
            Phase::Known if self.refresh_at.is_some_and(|due| due <= now) => {
                Some(self.ready_at).filter(|_| self.asked.is_empty())
            }
            Phase::Known => {
                let has_due = self.values.iter().any(|value| value.due().is_some());
                let update = (has_due && self.asked.has_room()).then_some(self.next_update);
                let next = update.into_iter().chain(self.refresh_at).min();
                next.map(|due| due.max(self.ready_at))
            }
        };
        Some(earliest?.max(self.pace.clone().ready_at(now)))
    }

    /// Returns when to look again at the latest, if ever; what is due already waits for something else.
    pub fn poll_timeout(&self, now: Duration) -> Option<Duration> {
        let request = self.due_at(now).filter(|due| *due > now);
        let unheard = self.wishes.is_unheard().then_some(self.look_at).filter(|due| *due > now);
        let turn = (self.phase == Phase::ExpectTurn).then_some(self.turn_at);
        self.asked.next_due().into_iter().chain(request).chain(unheard).chain(turn).min()
    }

    /// Returns the shadow at this moment.
    pub fn view(&self) -> ShadowView {
        let is_told = |value: &Reported| !value.is_asked && value.differing().is_none();
        ShadowView {
            is_in_step: self.phase == Phase::Known && self.values.iter().all(is_told),
            version: self.seen,
            waiting: self.wishes.waiting(),
            left_out: self.barred.clone(),
            counts: self.counts.clone(),
        }
    }

    fn tell_rejection(&mut self, what: &str, rejection: &Rejection) {
        let Rejection { code, message } = rejection;
        self.tell_failure(format!("AWS IoT Core {what}: {code}: {message}"));
    }

    fn tell_failure(&mut self, text: String) {
        self.over = None;
        self.failure = Some(text.clone());
        self.tell(text);
    }

    fn note_working(&mut self) {
        self.over = self.failure.take().or_else(|| self.over.take());
    }

    fn tell(&mut self, text: String) {
        if self.told.len() >= TOLD_MAX {
            self.told.pop_front();
        }
        self.told.push_back(text);
    }
}

/// Returns whether the same may be taken later.
fn is_passing(code: u16) -> bool {
    matches!(code, 409 | 429) || code >= 500
}

fn reason(code: u16) -> &'static str {
    match code {
        400 => "bad-request",
        401 => "unauthorized",
        403 => "forbidden",
        404 => "not-found",
        409 => "conflict",
        413 => "too-large",
        415 => "encoding",
        429 => "throttled",
        500.. => "server",
        _ => "other",
    }
}

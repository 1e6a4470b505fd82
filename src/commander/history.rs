//! Which commands were executed in the last 24 hours, across restarts.

mod record;

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use parking_lot::Mutex;
use tidegate_model::{
    CommandId, CommandKind, CommandOutcome, Principal, Timestamp, Topic, Value, json,
};
use tidegate_store::Transaction;

use self::record::{KEY, key};
pub(super) use self::record::{barrier, finished, pending};

/// How long an id is remembered.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// Most ids remembered; further commands with an id are answered `busy`.
const IDS_MAX: usize = 100_000;
/// Most ids of one principal, so that nobody uses up the room of the others.
const IDS_PER_PRINCIPAL_MAX: usize = 20_000;
/// Most bytes of what a call returned that are kept for repetitions.
const VALUE_BYTES_MAX: usize = 4 << 10;
/// Most bytes of a reason that are kept for repetitions.
pub(super) const REASON_BYTES_MAX: usize = 1_024;

/// The ids of executed commands and their outcomes. An id counts for the principal who gave it only.
#[derive(Debug, Default)]
pub struct History {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    seen: HashMap<Principal, HashMap<CommandId, Slot>>,
    by_age: VecDeque<(Timestamp, Principal, CommandId)>,
    /// Keys that the journal is to forget.
    forgotten: Vec<Vec<u8>>,
    cut_off: Vec<Noted>,
}

/// What an id was used for.
#[derive(Debug)]
struct Slot {
    at: Timestamp,
    kind: CommandKind,
    target: Topic,
    /// How it ended, if it has.
    outcome: Option<CommandOutcome>,
}

/// A command with an id, as it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Noted {
    pub(super) principal: Principal,
    pub(super) id: CommandId,
    pub(super) at: Timestamp,
    pub(super) kind: CommandKind,
    pub(super) target: Topic,
}

/// What is known of a command that comes in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Begin {
    /// Nothing: it is noted now.
    New,
    /// It ended like this.
    Known(CommandOutcome),
    /// It is being carried out; its outcome will be told.
    UnderWay,
    /// The id was used for another command: one of this kind, for this topic.
    Taken(CommandKind, Topic),
    /// Too many ids are remembered.
    Full,
}

impl History {
    /// Takes over what the journal holds. Commands that were cut off by the end of the last run count as
    /// received, with an outcome that nobody knows; [`take_cut_off`](Self::take_cut_off) names them.
    pub fn recover<'s>(state: impl Iterator<Item = (&'s [u8], &'s [u8])>, now: Timestamp) -> Self {
        let mut inner = Inner::default();
        let mut entries = Vec::new();
        for (key, value) in state.filter(|(key, _)| key.starts_with(KEY)) {
            match record::read(key, value) {
                Some(entry) => entries.push(entry),
                None => inner.forgotten.push(key.to_vec()),
            }
        }
        entries.sort_by_key(|(noted, _)| noted.at);
        for (noted, outcome) in entries {
            let outcome = outcome.unwrap_or_else(|| {
                inner.cut_off.push(noted.clone());
                unknown_outcome()
            });
            let Noted { principal, id, at, kind, target } = noted;
            // A clock that was ahead must not keep it for longer than anything is kept.
            inner.by_age.push_back((at.min(now), principal.clone(), id.clone()));
            let slot = Slot { at, kind, target, outcome: Some(outcome) };
            inner.seen.entry(principal).or_default().insert(id, slot);
        }
        Self { inner: Mutex::new(inner) }
    }

    /// Gives up the commands that were under way when a run ended: nobody knows their outcomes.
    pub(super) fn abandon_under_way(&self) {
        let mut inner = self.inner.lock();
        let Inner { seen, cut_off, .. } = &mut *inner;
        for (principal, own) in seen {
            for (id, slot) in own.iter_mut().filter(|(_, slot)| slot.outcome.is_none()) {
                slot.outcome = Some(unknown_outcome());
                let (principal, id, target) = (principal.clone(), id.clone(), slot.target.clone());
                cut_off.push(Noted { principal, id, at: slot.at, kind: slot.kind, target });
            }
        }
        cut_off.sort_by(|one, other| (one.at, &one.id).cmp(&(other.at, &other.id)));
    }

    /// Returns, once, the commands that the end of a run has cut off, oldest first.
    pub(super) fn take_cut_off(&self) -> Vec<Noted> {
        std::mem::take(&mut self.inner.lock().cut_off)
    }

    /// Looks an id up and notes it if it is new. Its age is counted from `now`, which no step of the clock moves.
    pub(super) fn begin(&self, noted: &Noted, now: Timestamp) -> Begin {
        let mut inner = self.inner.lock();
        inner.forget_old(now);
        let Noted { principal, id, kind, target, .. } = noted;
        let own = inner.seen.get(principal);
        if let Some(slot) = own.and_then(|own| own.get(id)) {
            return match &slot.outcome {
                _ if (slot.kind, &slot.target) != (*kind, target) => {
                    Begin::Taken(slot.kind, slot.target.clone())
                }
                Some(outcome) => Begin::Known(outcome.clone()),
                None => Begin::UnderWay,
            };
        }
        let of_principal = own.map_or(0, HashMap::len);
        if inner.by_age.len() >= IDS_MAX || of_principal >= IDS_PER_PRINCIPAL_MAX {
            return Begin::Full;
        }
        // The entry is written anew and must not be removed afterwards.
        let key = key(principal, id);
        inner.forgotten.retain(|forgotten| *forgotten != key);
        let slot = Slot { at: noted.at, kind: *kind, target: target.clone(), outcome: None };
        inner.seen.entry(principal.clone()).or_default().insert(id.clone(), slot);
        inner.by_age.push_back((now, principal.clone(), id.clone()));
        Begin::New
    }

    /// Notes how a command ended.
    pub(super) fn finish(&self, noted: &Noted, outcome: CommandOutcome) {
        let mut inner = self.inner.lock();
        let own = inner.seen.get_mut(&noted.principal);
        // A command that was under way for a day has been forgotten.
        if let Some(slot) = own.and_then(|own| own.get_mut(&noted.id)) {
            slot.outcome = Some(trimmed(outcome));
        }
    }

    /// Returns the removal of ids that are older than 24 hours, if there are any.
    pub fn take_forgotten(&self, now: Timestamp) -> Option<Transaction> {
        let mut inner = self.inner.lock();
        inner.forget_old(now);
        let mut transaction = Transaction::new();
        while let Some(key) = inner.forgotten.pop() {
            if transaction.delete(&key).is_err() {
                // No room in this one: with the next.
                inner.forgotten.push(key);
                break;
            }
        }
        (!transaction.is_empty()).then_some(transaction)
    }
}

/// Returns what of an outcome is kept in memory for repetitions: as much as in the journal.
fn trimmed(mut outcome: CommandOutcome) -> CommandOutcome {
    outcome.value = outcome.value.filter(|value| size(value) <= VALUE_BYTES_MAX);
    if let Some(reason) = &mut outcome.reason {
        reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
    }
    outcome
}

/// Returns the size of a value as JSON, in bytes.
pub(super) fn size(value: &Value) -> usize {
    let mut text = Vec::new();
    json::write_value(value, &mut text);
    text.len()
}

/// Returns the outcome of a command that the end of the gateway has cut off.
pub(super) fn unknown_outcome() -> CommandOutcome {
    CommandOutcome::refused("cut off by a restart of the gateway; it may have been carried out")
}

impl Inner {
    fn forget_old(&mut self, now: Timestamp) {
        while let Some((at, ..)) = self.by_age.front()
            && at.saturating_add(LIFETIME) <= now
        {
            let (_, principal, id) = self.by_age.pop_front().expect("looked at above");
            if let Some(own) = self.seen.get_mut(&principal) {
                own.remove(&id);
                if own.is_empty() {
                    self.seen.remove(&principal);
                }
            }
            self.forgotten.push(key(&principal, &id));
        }
    }
}

#[cfg(test)]
mod tests;

//! Which commands were executed in the last 24 hours, across restarts.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use parking_lot::Mutex;
use tidegate_model::{
    CommandId, CommandKind, CommandOutcome, OutcomeKind, Principal, Status, Timestamp, Topic,
    Value, json,
};
use tidegate_store::Transaction;

/// How long an id is remembered.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// Most ids remembered; further commands with an id are answered `busy`.
const IDS_MAX: usize = 100_000;
/// Most ids of one principal, so that nobody uses up the room of the others.
const IDS_PER_PRINCIPAL_MAX: usize = 20_000;
/// Most bytes of what a call returned that are kept for repetitions.
const VALUE_BYTES_MAX: usize = 4 << 10;
/// Most bytes of a reason that are kept for repetitions.
const REASON_BYTES_MAX: usize = 1_024;
/// Keys of command ids in the journal's state begin with this.
const KEY: &[u8] = b"ci";

/// The ids of executed commands and their outcomes. An id counts for the principal who gave it only.
#[derive(Debug, Default)]
pub struct History {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    seen: HashMap<Principal, HashMap<CommandId, Option<CommandOutcome>>>,
    by_age: VecDeque<(Timestamp, Principal, CommandId)>,
    /// Keys that the journal is to forget.
    forgotten: Vec<Vec<u8>>,
    cut_off: Vec<CutOff>,
}

/// A command that was received, and whose outcome was not known when the gateway ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CutOff {
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
            match (read_key(key), read(value)) {
                (Some((principal, id)), Some((at, kept))) => {
                    entries.push((at, principal, id, kept));
                }
                _ => inner.forgotten.push(key.to_vec()),
            }
        }
        entries.sort_by_key(|(at, ..)| *at);
        for (at, principal, id, kept) in entries {
            let outcome = match kept {
                Kept::Finished(outcome) => outcome,
                Kept::Pending(kind, target) => {
                    let (principal, id) = (principal.clone(), id.clone());
                    inner.cut_off.push(CutOff { principal, id, at, kind, target });
                    unknown_outcome()
                }
            };
            // A clock that was ahead must not keep it for longer than anything is kept.
            inner.by_age.push_back((at.min(now), principal.clone(), id.clone()));
            inner.seen.entry(principal).or_default().insert(id, Some(outcome));
        }
        Self { inner: Mutex::new(inner) }
    }

    /// Gives up the commands that were under way when a run ended: nobody knows their outcomes.
    pub(super) fn abandon_under_way(&self) {
        let mut inner = self.inner.lock();
        let slots = inner.seen.values_mut().flat_map(HashMap::values_mut);
        for slot in slots.filter(|slot| slot.is_none()) {
            *slot = Some(unknown_outcome());
        }
    }

    /// Returns, once, the commands that the end of the last run has cut off.
    pub(super) fn take_cut_off(&self) -> Vec<CutOff> {
        std::mem::take(&mut self.inner.lock().cut_off)
    }

    /// Looks an id up and notes it if it is new. Its age is counted from `now`, which no step of the clock moves.
    pub(super) fn begin(&self, principal: &Principal, id: &CommandId, now: Timestamp) -> Begin {
        let mut inner = self.inner.lock();
        inner.forget_old(now);
        let own = inner.seen.get(principal);
        match own.and_then(|own| own.get(id)) {
            Some(Some(outcome)) => return Begin::Known(outcome.clone()),
            Some(None) => return Begin::UnderWay,
            None => {}
        }
        let of_principal = own.map_or(0, HashMap::len);
        if inner.by_age.len() >= IDS_MAX || of_principal >= IDS_PER_PRINCIPAL_MAX {
            return Begin::Full;
        }
        // The entry is written anew and must not be removed afterwards.
        let key = key(principal, id);
        inner.forgotten.retain(|forgotten| *forgotten != key);
        inner.seen.entry(principal.clone()).or_default().insert(id.clone(), None);
        inner.by_age.push_back((now, principal.clone(), id.clone()));
        Begin::New
    }

    /// Notes how a command ended.
    pub(super) fn finish(&self, principal: &Principal, id: &CommandId, outcome: CommandOutcome) {
        let mut inner = self.inner.lock();
        // A command that was under way for a day has been forgotten.
        if let Some(slot) = inner.seen.get_mut(principal).and_then(|own| own.get_mut(id)) {
            *slot = Some(trimmed(outcome));
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

/// Returns a change without effect: once it is durable, so is every id that was noted before.
pub(super) fn barrier() -> Transaction {
    let mut transaction = Transaction::new();
    // No principal has a name of this length.
    transaction.delete(&[KEY, &[u8::MAX; 2]].concat()).expect("a few bytes");
    transaction
}

/// Returns what makes the id of a command durable, before the command is carried out.
pub(super) fn pending(
    principal: &Principal,
    id: &CommandId,
    at: Timestamp,
    kind: CommandKind,
    target: &Topic,
) -> Transaction {
    let mut value = at.as_unix_micros().to_be_bytes().to_vec();
    value.push(match kind {
        CommandKind::Write => PENDING_WRITE,
        CommandKind::Call => PENDING_CALL,
    });
    value.extend_from_slice(target.as_str().as_bytes());
    entry(principal, id, &value)
}

/// Returns what makes the outcome of a command durable.
pub(super) fn finished(
    principal: &Principal,
    id: &CommandId,
    at: Timestamp,
    outcome: &CommandOutcome,
) -> Transaction {
    let mut value = at.as_unix_micros().to_be_bytes().to_vec();
    value.push(match outcome.kind {
        OutcomeKind::Accepted => 1,
        OutcomeKind::Confirmed => 2,
        OutcomeKind::Refused => 3,
        OutcomeKind::Expired => 4,
        OutcomeKind::Busy => 5,
    });
    value.extend_from_slice(&outcome.status.map_or(0, Status::code).to_be_bytes());
    let reason = outcome.reason.as_deref().unwrap_or("");
    let reason = &reason[..reason.floor_char_boundary(REASON_BYTES_MAX)];
    let length = u16::try_from(reason.len()).expect("shorter than its limit");
    value.extend_from_slice(&length.to_be_bytes());
    value.extend_from_slice(reason.as_bytes());
    if let Some(returned) = &outcome.value {
        let mut text = Vec::new();
        json::write_value(returned, &mut text);
        if text.len() <= VALUE_BYTES_MAX {
            value.extend_from_slice(&text);
        }
    }
    entry(principal, id, &value)
}

/// Returns what of an outcome is kept in memory for repetitions: as much as in the journal.
fn trimmed(mut outcome: CommandOutcome) -> CommandOutcome {
    outcome.value = outcome.value.filter(|value| size(value) <= VALUE_BYTES_MAX);
    if let Some(reason) = &mut outcome.reason
        && reason.len() > REASON_BYTES_MAX
    {
        *reason = reason[..reason.floor_char_boundary(REASON_BYTES_MAX)].into();
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
    CommandOutcome::refused("received before a restart of the gateway; its outcome is unknown")
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

const PENDING_WRITE: u8 = 0;
const PENDING_CALL: u8 = 6;

fn entry(principal: &Principal, id: &CommandId, value: &[u8]) -> Transaction {
    let mut transaction = Transaction::new();
    transaction
        .put(&key(principal, id), value)
        .expect("names, topics and reasons are shorter than what the journal takes");
    transaction
}

fn key(principal: &Principal, id: &CommandId) -> Vec<u8> {
    let name = principal.as_str().as_bytes();
    let length = u16::try_from(name.len()).expect("a principal has at most 256 bytes");
    [KEY, &length.to_be_bytes(), name, id.as_str().as_bytes()].concat()
}

fn read_key(key: &[u8]) -> Option<(Principal, CommandId)> {
    let (length, rest) = key.strip_prefix(KEY)?.split_first_chunk::<2>()?;
    let (name, id) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
    let text = |bytes| std::str::from_utf8(bytes).ok();
    Some((Principal::new(text(name)?).ok()?, CommandId::new(text(id)?).ok()?))
}

/// What the journal says of a command.
enum Kept {
    Pending(CommandKind, Topic),
    Finished(CommandOutcome),
}

fn read(value: &[u8]) -> Option<(Timestamp, Kept)> {
    let (at, rest) = value.split_first_chunk::<8>()?;
    let at = Timestamp::from_unix_micros(i64::from_be_bytes(*at));
    let (&kind, rest) = rest.split_first()?;
    let pending = |kind| {
        let target = Topic::new(std::str::from_utf8(rest).ok()?).ok()?;
        Some((at, Kept::Pending(kind, target)))
    };
    let kind = match kind {
        PENDING_WRITE => return pending(CommandKind::Write),
        PENDING_CALL => return pending(CommandKind::Call),
        1 => OutcomeKind::Accepted,
        2 => OutcomeKind::Confirmed,
        3 => OutcomeKind::Refused,
        4 => OutcomeKind::Expired,
        5 => OutcomeKind::Busy,
        _ => return None,
    };
    let (status, rest) = rest.split_first_chunk::<4>()?;
    let (length, rest) = rest.split_first_chunk::<2>()?;
    let (reason, returned) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
    let status = u32::from_be_bytes(*status);
    let outcome = CommandOutcome {
        kind,
        reason: (!reason.is_empty()).then(|| String::from_utf8_lossy(reason).into_owned()),
        status: (status != 0).then(|| Status::from_code(status)),
        value: if returned.is_empty() { None } else { json::parse_value(returned).ok() },
    };
    Some((at, Kept::Finished(outcome)))
}

#[cfg(test)]
mod tests;

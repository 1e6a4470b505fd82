//! Which commands were executed in the last 24 hours, across restarts.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use parking_lot::Mutex;
use tidegate_model::{CommandId, CommandOutcome, OutcomeKind, Status, Timestamp};
use tidegate_store::Transaction;

/// How long an id is remembered.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// Most ids remembered; further commands with an id are answered `busy`.
const IDS_MAX: usize = 100_000;
/// Keys of command ids in the journal's state begin with this.
const KEY: &[u8] = b"ci";

/// The ids of executed commands and their outcomes.
#[derive(Debug, Default)]
pub struct History {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    seen: HashMap<CommandId, Option<CommandOutcome>>,
    by_age: VecDeque<(Timestamp, CommandId)>,
    forgotten: Vec<CommandId>,
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
    /// received, with an outcome that nobody knows.
    pub fn recover<'s>(state: impl Iterator<Item = (&'s [u8], &'s [u8])>) -> Self {
        let mut entries: Vec<(Timestamp, CommandId, CommandOutcome)> = state
            .filter_map(|(key, value)| {
                let id = CommandId::new(std::str::from_utf8(key.strip_prefix(KEY)?).ok()?).ok()?;
                let (at, outcome) = read(value)?;
                let unknown = || {
                    CommandOutcome::refused(
                        "received before a restart of the gateway; its outcome is unknown",
                    )
                };
                Some((at, id, outcome.unwrap_or_else(unknown)))
            })
            .collect();
        entries.sort_by_key(|(at, ..)| *at);
        let mut inner = Inner::default();
        for (at, id, outcome) in entries {
            inner.by_age.push_back((at, id.clone()));
            inner.seen.insert(id, Some(outcome));
        }
        Self { inner: Mutex::new(inner) }
    }

    /// Looks an id up and notes it if it is new.
    pub(super) fn begin(&self, id: &CommandId, now: Timestamp) -> Begin {
        let mut inner = self.inner.lock();
        inner.forget_old(now);
        match inner.seen.get(id) {
            Some(Some(outcome)) => return Begin::Known(outcome.clone()),
            Some(None) => return Begin::UnderWay,
            None if inner.seen.len() >= IDS_MAX => return Begin::Full,
            None => {}
        }
        // Its old entry is about to be replaced and must not be removed afterwards.
        inner.forgotten.retain(|forgotten| forgotten != id);
        inner.seen.insert(id.clone(), None);
        inner.by_age.push_back((now, id.clone()));
        Begin::New
    }

    /// Notes how a command ended.
    pub(super) fn finish(&self, id: &CommandId, outcome: CommandOutcome) {
        self.inner.lock().seen.insert(id.clone(), Some(outcome));
    }

    /// Returns the removal of ids that are older than 24 hours, if there are any.
    pub fn take_forgotten(&self, now: Timestamp) -> Option<Transaction> {
        let mut inner = self.inner.lock();
        inner.forget_old(now);
        let forgotten = std::mem::take(&mut inner.forgotten);
        let mut transaction = Transaction::new();
        for id in forgotten {
            transaction.delete(&key(&id)).expect("an id is shorter than a key may be");
        }
        (!transaction.is_empty()).then_some(transaction)
    }

    /// Returns what makes an id and its outcome durable.
    pub(super) fn entry(
        id: &CommandId,
        at: Timestamp,
        outcome: Option<&CommandOutcome>,
    ) -> Transaction {
        let mut value = at.as_unix_micros().to_be_bytes().to_vec();
        if let Some(outcome) = outcome {
            value.push(match outcome.kind {
                OutcomeKind::Accepted => 1,
                OutcomeKind::Confirmed => 2,
                OutcomeKind::Refused => 3,
                OutcomeKind::Expired => 4,
                OutcomeKind::Busy => 5,
            });
            value.extend_from_slice(&outcome.status.map_or(0, Status::code).to_be_bytes());
            value.extend(outcome.reason.iter().flat_map(|reason| reason.bytes().take(1_024)));
        }
        let mut transaction = Transaction::new();
        transaction.put(&key(id), &value).expect("an id is shorter than a key may be");
        transaction
    }
}

impl Inner {
    fn forget_old(&mut self, now: Timestamp) {
        while let Some((at, _)) = self.by_age.front()
            && at.saturating_add(LIFETIME) <= now
        {
            let (_, id) = self.by_age.pop_front().expect("looked at above");
            self.seen.remove(&id);
            self.forgotten.push(id);
        }
    }
}

fn key(id: &CommandId) -> Vec<u8> {
    [KEY, id.as_str().as_bytes()].concat()
}

fn read(value: &[u8]) -> Option<(Timestamp, Option<CommandOutcome>)> {
    let (at, rest) = value.split_first_chunk::<8>()?;
    let at = Timestamp::from_unix_micros(i64::from_be_bytes(*at));
    let Some((&kind, rest)) = rest.split_first() else {
        return Some((at, None));
    };
    let (status, reason) = rest.split_first_chunk::<4>()?;
    let kind = match kind {
        1 => OutcomeKind::Accepted,
        2 => OutcomeKind::Confirmed,
        3 => OutcomeKind::Refused,
        4 => OutcomeKind::Expired,
        5 => OutcomeKind::Busy,
        _ => return None,
    };
    let status = u32::from_be_bytes(*status);
    let outcome = CommandOutcome {
        kind,
        reason: (!reason.is_empty()).then(|| String::from_utf8_lossy(reason).into_owned()),
        status: (status != 0).then(|| Status::from_code(status)),
    };
    Some((at, Some(outcome)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// main.14: an id is executed at most once in 24 hours.
    #[test]
    fn an_id_is_new_once_a_day() {
        let history = History::default();
        let id = CommandId::new("c-17").unwrap();
        let at = |hours: i64| Timestamp::from_unix_millis(hours * 3_600_000);
        assert_eq!(history.begin(&id, at(0)), Begin::New);
        assert_eq!(history.begin(&id, at(1)), Begin::UnderWay);
        history.finish(&id, CommandOutcome::new(OutcomeKind::Confirmed));
        assert_eq!(
            history.begin(&id, at(23)),
            Begin::Known(CommandOutcome::new(OutcomeKind::Confirmed))
        );
        assert_eq!(history.begin(&id, at(24)), Begin::New);
        assert!(history.take_forgotten(at(24)).is_none(), "it was begun anew");
        assert!(history.take_forgotten(at(48)).is_some());
    }

    #[test]
    fn outcomes_read_back_as_stored() {
        let stored = CommandOutcome {
            kind: OutcomeKind::Refused,
            reason: Some("BadTypeMismatch".into()),
            status: Some(Status::from_code(0x8074_0000)),
        };
        let mut value = 7_i64.to_be_bytes().to_vec();
        value.push(3);
        value.extend_from_slice(&0x8074_0000_u32.to_be_bytes());
        value.extend_from_slice(b"BadTypeMismatch");
        let key = [KEY, b"c-17"].concat();
        let history = History::recover([(key.as_slice(), value.as_slice())].into_iter());
        assert_eq!(
            history.begin(&CommandId::new("c-17").unwrap(), Timestamp::default()),
            Begin::Known(stored)
        );
    }
}

//! Outcomes of commands on their way up: kept in the journal until the cloud has acknowledged them.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use tidegate_model::UplinkName;

use crate::{
    core::OpenError,
    keys::{Change, Key, Keys},
    wire::{Input, Malformed, put_bytes, put_text},
};

/// Where the sender of a command wants its answer (MQTT 5.0, section 4.10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyTo {
    /// The response topic.
    pub topic: Arc<str>,
    /// The correlation data, if there was any.
    pub correlation: Option<Bytes>,
}

/// What became of a command, as it goes up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Where it is published: below the uplink's `results`, or the response topic.
    pub topic: Arc<str>,
    /// The outcome as JSON.
    pub payload: Bytes,
    /// The correlation data of the command, if it had any.
    pub correlation: Option<Bytes>,
}

/// Names an outcome on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OutcomeId(u64);

#[derive(Debug)]
struct Waiting {
    id: OutcomeId,
    outcome: Outcome,
    journalled: bool,
    sent: bool,
}

/// The outcomes that the cloud has not acknowledged, oldest first. Each is journalled before it is
/// sent, and sent at least once.
#[derive(Debug)]
pub struct Outbox {
    keys: Keys,
    waiting: VecDeque<Waiting>,
    next: u64,
}

impl Outbox {
    /// The most outcomes that may wait; [`has_room`](Self::has_room) tells before.
    pub const CAPACITY: usize = 256;

    /// Restores the outcomes from the journal's entries of uplink `name`; other entries are ignored.
    ///
    /// # Errors
    ///
    /// [`OpenError`] if an entry cannot be read.
    pub fn open<'e>(
        name: &UplinkName,
        entries: impl IntoIterator<Item = (&'e [u8], &'e [u8])>,
    ) -> Result<Self, OpenError> {
        let keys = Keys::new(name);
        let mut outcomes = Vec::new();
        for (key, value) in entries {
            if let Some(Key::Outcome(number)) = keys.parse(key) {
                let outcome = decode(value).map_err(|_| OpenError { what: "an outcome" })?;
                outcomes.push((number, outcome));
            }
        }
        outcomes.sort_unstable_by_key(|(number, _)| *number);
        let next = outcomes.last().map_or(1, |(number, _)| number + 1);
        let restored = |(number, outcome)| Waiting {
            id: OutcomeId(number),
            outcome,
            journalled: true,
            sent: false,
        };
        Ok(Self { keys, waiting: outcomes.into_iter().map(restored).collect(), next })
    }

    /// Returns whether the outcomes of one more command may wait: two, if it is told on a response topic,
    /// too.
    pub fn has_room(&self) -> bool {
        self.waiting.len() + 2 <= Self::CAPACITY
    }

    /// Returns how many outcomes wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Returns whether no outcome waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes an outcome and returns the change to journal; call
    /// [`handle_written`](Self::handle_written) when it is durable.
    pub fn push(&mut self, outcome: Outcome) -> (OutcomeId, Change) {
        let id = OutcomeId(self.next);
        self.next += 1;
        let change = self.keys.put(Key::Outcome(id.0), encode(&outcome));
        self.waiting.push_back(Waiting { id, outcome, journalled: false, sent: false });
        (id, change)
    }

    /// Notes that an outcome is durable: now it may be sent.
    pub fn handle_written(&mut self, id: OutcomeId) {
        if let Some(waiting) = self.waiting.iter_mut().find(|waiting| waiting.id == id) {
            waiting.journalled = true;
        }
    }

    /// Returns the next outcome to send on this connection.
    pub fn poll_send(&mut self) -> Option<(OutcomeId, Outcome)> {
        let next = self.waiting.iter_mut().find(|waiting| waiting.journalled && !waiting.sent)?;
        next.sent = true;
        Some((next.id, next.outcome.clone()))
    }

    /// Notes that the cloud has answered, for good or ill, and returns the change to journal.
    pub fn handle_ack(&mut self, id: OutcomeId) -> Option<Change> {
        let at = self.waiting.iter().position(|waiting| waiting.id == id)?;
        self.waiting.remove(at);
        Some(self.keys.delete(Key::Outcome(id.0)))
    }

    /// Notes that the connection is gone: all are sent again on the next.
    pub fn handle_disconnected(&mut self) {
        for waiting in &mut self.waiting {
            waiting.sent = false;
        }
    }
}

const VERSION: u8 = 1;

fn encode(outcome: &Outcome) -> Vec<u8> {
    let mut buffer = vec![VERSION, u8::from(outcome.correlation.is_some())];
    put_text(&mut buffer, &outcome.topic);
    put_bytes(&mut buffer, &outcome.payload);
    if let Some(correlation) = &outcome.correlation {
        put_bytes(&mut buffer, correlation);
    }
    buffer
}

fn decode(value: &[u8]) -> Result<Outcome, Malformed> {
    let mut input = Input::new(value);
    if input.byte()? != VERSION {
        return Err(Malformed);
    }
    let has_correlation = input.byte()? != 0;
    let topic = input.text()?.into();
    let payload = Bytes::copy_from_slice(input.bytes()?);
    let correlation =
        if has_correlation { Some(Bytes::copy_from_slice(input.bytes()?)) } else { None };
    input.end()?;
    Ok(Outcome { topic, payload, correlation })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(number: u8, correlation: Option<&'static [u8]>) -> Outcome {
        Outcome {
            topic: "results/a".into(),
            payload: vec![number].into(),
            correlation: correlation.map(Bytes::from_static),
        }
    }

    #[test]
    fn outcomes_are_sent_after_they_are_durable_and_again_until_acknowledged() {
        let name = UplinkName::new("cloud").unwrap();
        let mut outbox = Outbox::open(&name, []).unwrap();
        let (first, change) = outbox.push(outcome(1, Some(b"c")));
        let (second, other) = outbox.push(outcome(2, None));
        assert_eq!(outbox.poll_send(), None);
        outbox.handle_written(second);
        assert_eq!(outbox.poll_send(), Some((second, outcome(2, None))));
        outbox.handle_written(first);
        assert_eq!(outbox.poll_send(), Some((first, outcome(1, Some(b"c")))));
        assert_eq!(outbox.poll_send(), None);
        outbox.handle_disconnected();
        assert_eq!(outbox.poll_send().map(|(id, _)| id), Some(first));
        assert!(matches!(outbox.handle_ack(first), Some(Change::Delete { .. })));
        assert_eq!(outbox.handle_ack(first), None);

        // The journal brings back what was not acknowledged, and numbers go on behind it.
        let entries = [change, other].map(|change| match change {
            Change::Put { key, value } => (key, value),
            Change::Delete { .. } => unreachable!("outcomes were put"),
        });
        let pairs = entries.iter().map(|(key, value)| (key.as_slice(), value.as_slice()));
        let mut restored = Outbox::open(&name, pairs).unwrap();
        assert_eq!(restored.len(), 2);
        assert_eq!(restored.poll_send(), Some((first, outcome(1, Some(b"c")))));
        assert_eq!(restored.push(outcome(3, None)).0, OutcomeId(3));
    }
}

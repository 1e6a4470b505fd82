//! What the model remembers, and the changes it is made of.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tidegate_broker::{Expiry, SubscriptionOptions};
use tidegate_model::{Qos, Timestamp, Topic, TopicFilter};

/// Where a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// In the queue.
    Waiting,
    /// Given to the connection `link` under an identifier.
    Sent { packet_id: u16, link: u64 },
    /// PUBREC came. `link` is the connection on which the PUBLISH was sent.
    Released { packet_id: u16, link: u64 },
}

/// One message for one session.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) message: u64,
    pub(crate) topic: Topic,
    pub(crate) qos: Qos,
    /// `None` if both are allowed.
    pub(crate) retain: Option<bool>,
    pub(crate) identifiers: Vec<u32>,
    pub(crate) stage: Stage,
    /// Whether it is in the journal.
    pub(crate) is_stored: bool,
    /// Whether it need not come.
    pub(crate) is_optional: bool,
    /// Whether the SUBSCRIBE that it comes for is not answered yet: it may be stored, or not.
    pub(crate) is_unanswered: bool,
    /// Whether it may have been sent by a gateway that is no more.
    pub(crate) may_be_known: bool,
    /// Whether its quality of service has changed with the subscriptions, at a restart: its order is free.
    pub(crate) is_raised: bool,
    /// How often the application got it.
    pub(crate) had: u32,
}

/// One client's session.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) is_persistent: bool,
    pub(crate) expiry: Expiry,
    pub(crate) link: Option<u64>,
    pub(crate) disconnected_at: Option<Timestamp>,
    pub(crate) subscriptions: BTreeMap<TopicFilter, SubscriptionOptions>,
    pub(crate) entries: BTreeMap<u64, Entry>,
    /// Incoming packet identifiers of quality of service 2.
    pub(crate) inbound: BTreeSet<u16>,
    /// Entries that are done, which the journal does not know yet.
    pub(crate) done: Vec<u64>,
}

impl Session {
    pub(crate) fn is_expired(&self, now: Timestamp) -> bool {
        match self.expiry {
            Expiry::AtDisconnect => self.link.is_none(),
            Expiry::After(after) => {
                self.link.is_none()
                    && self.disconnected_at.is_some_and(|since| since.saturating_add(after) <= now)
            }
        }
    }

    /// All subscriptions to a topic taken together: highest quality of service, retain as published, identifiers.
    pub(crate) fn matching(&self, topic: &Topic, is_own: bool) -> Option<(Qos, bool, Vec<u32>)> {
        let mut found = None;
        for (filter, options) in &self.subscriptions {
            if !filter.matches(topic) || is_own && options.no_local {
                continue;
            }
            let (qos, retain, identifiers) =
                found.get_or_insert((Qos::AtMostOnce, false, Vec::new()));
            *qos = options.qos.max(*qos);
            *retain |= options.retain_as_published;
            identifiers.extend(options.identifier.map(|identifier| identifier.as_u32()));
        }
        found
    }
}

/// Where a will stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WillPhase {
    /// Its client is connected.
    Held,
    /// It waits for its delay, or for room.
    Armed { due: Timestamp, is_postponed: bool },
    /// The broker has to hand it out now.
    Due,
}

/// What a client left with its connection.
#[derive(Clone, Debug)]
pub(crate) struct Will {
    pub(crate) client: usize,
    pub(crate) is_stored: bool,
    pub(crate) delay: Duration,
    pub(crate) phase: WillPhase,
}

/// One change.
#[derive(Clone, Debug)]
pub(crate) enum Effect {
    Connect { client: usize, expiry: Expiry, link: u64 },
    Disconnect { client: usize, expiry: Expiry, at: Timestamp },
    End { client: usize },
    Subscribe { client: usize, filter: TopicFilter, options: SubscriptionOptions },
    EndSubscribing { client: usize },
    Unsubscribe { client: usize, filter: TopicFilter },
    Push { client: usize, number: u64, entry: Entry },
    Stage { client: usize, number: u64, stage: Stage },
    Finish { client: usize, number: u64 },
    Inbound { client: usize, packet_id: u16, is_open: bool },
    Retain { topic: Topic, message: Option<u64> },
    Leave { number: u64, will: Will },
    EndWill { number: u64 },
}

/// All that the model remembers.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    pub(crate) sessions: BTreeMap<usize, Session>,
    pub(crate) retained: BTreeMap<Topic, u64>,
    /// By message.
    pub(crate) wills: BTreeMap<u64, Will>,
}

impl State {
    /// Carries a change out. On what the journal holds, `is_journal`, only what is stored has an effect.
    pub(crate) fn apply(&mut self, effect: Effect, is_journal: bool) {
        match effect {
            Effect::Connect { client, expiry, link } => {
                let is_stored =
                    expiry != Expiry::AtDisconnect || self.sessions.contains_key(&client);
                if !is_journal || is_stored {
                    self.connect(client, expiry, link);
                }
            }
            Effect::Leave { number, will } => {
                if !is_journal || will.is_stored {
                    self.wills.insert(number, will);
                }
            }
            Effect::EndWill { number } => {
                self.wills.remove(&number);
            }
            Effect::Retain { topic, message: Some(message) } => {
                self.retained.insert(topic, message);
            }
            Effect::Retain { topic, message: None } => {
                self.retained.remove(&topic);
            }
            Effect::End { client } => {
                self.sessions.remove(&client);
            }
            Effect::Disconnect { client, .. }
            | Effect::Subscribe { client, .. }
            | Effect::EndSubscribing { client }
            | Effect::Unsubscribe { client, .. }
            | Effect::Push { client, .. }
            | Effect::Stage { client, .. }
            | Effect::Finish { client, .. }
            | Effect::Inbound { client, .. } => {
                if let Some(session) = self.sessions.get_mut(&client) {
                    session.apply(effect, is_journal);
                }
            }
        }
    }

    fn connect(&mut self, client: usize, expiry: Expiry, link: u64) {
        let session = self.sessions.entry(client).or_insert_with(|| Session {
            is_persistent: false,
            expiry,
            link: None,
            disconnected_at: None,
            subscriptions: BTreeMap::new(),
            entries: BTreeMap::new(),
            inbound: BTreeSet::new(),
            done: Vec::new(),
        });
        session.is_persistent |= expiry != Expiry::AtDisconnect;
        session.expiry = expiry;
        session.link = Some(link);
        session.disconnected_at = None;
    }
}

impl Session {
    fn apply(&mut self, effect: Effect, is_journal: bool) {
        match effect {
            Effect::Disconnect { expiry, at, .. } => {
                self.expiry = expiry;
                self.link = None;
                self.disconnected_at = Some(at);
                for entry in self.entries.values_mut() {
                    // Nothing is promised of them.
                    entry.is_optional |= entry.qos == Qos::AtMostOnce || entry.is_unanswered;
                    entry.is_unanswered = false;
                }
            }
            Effect::Subscribe { filter, options, .. } => {
                self.subscriptions.insert(filter, options);
            }
            Effect::EndSubscribing { .. } => {
                self.entries.values_mut().for_each(|entry| entry.is_unanswered = false);
            }
            Effect::Unsubscribe { filter, .. } => {
                self.subscriptions.remove(&filter);
                // Retained messages that were to come need not (MQTT 5.0, section 3.10.4).
                let entries = self.entries.values_mut();
                let to_come = |entry: &&mut Entry| {
                    entry.retain == Some(true)
                        && entry.stage == Stage::Waiting
                        && filter.matches(&entry.topic)
                };
                entries.filter(to_come).for_each(|entry| entry.is_optional = true);
            }
            Effect::Push { number, entry, .. } => {
                if !is_journal || entry.is_stored {
                    self.entries.insert(number, entry);
                }
            }
            Effect::Stage { number, stage, .. } => {
                if let Some(entry) = self.entries.get_mut(&number) {
                    entry.stage = stage;
                }
            }
            Effect::Finish { number, .. } => {
                self.entries.remove(&number);
            }
            Effect::Inbound { packet_id, is_open: true, .. } => {
                self.inbound.insert(packet_id);
            }
            Effect::Inbound { packet_id, is_open: false, .. } => {
                self.inbound.remove(&packet_id);
            }
            _ => unreachable!("no change of a session"),
        }
    }
}

//! The model: what a correct broker remembers, and what it may and must do.
//!
//! It is told of everything that the broker is asked, in order, and of everything that the broker does; it fails on
//! what is not allowed. It keeps its state twice: as it is now, and as the journal has it up to a transaction, so
//! that it knows what must be there after a power cut.

mod deliveries;
mod state;
mod wills;

use std::collections::VecDeque;

use tidegate_broker::{Admission, Expiry, RetainHandling, SubscribeResult, SubscriptionOptions};
use tidegate_model::{Qos, Timestamp, Topic, TopicFilter};

pub(crate) use self::deliveries::Seen;
use self::state::{Effect, Entry, Session, Stage, State};

/// What the model has to know of a message.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) topic: Topic,
    pub(crate) qos: Qos,
    pub(crate) retain: bool,
    pub(crate) is_empty: bool,
    pub(crate) expires: Option<Timestamp>,
}

impl Facts {
    pub(crate) fn is_expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

/// What the broker said about messages it has taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    /// The transaction it returned, or the last one before.
    pub(crate) token: u64,
    pub(crate) admission: Admission,
    pub(crate) matched: bool,
    /// How many deliveries it dropped because a queue was full.
    pub(crate) dropped: u64,
}

/// The model.
#[derive(Debug, Default)]
pub(crate) struct Reference {
    live: State,
    journal: State,
    /// Changes that are not durable yet, each with its transaction.
    pending: VecDeque<(u64, Effect)>,
    pub(crate) messages: Vec<Facts>,
    next_entry: u64,
    pub(crate) queue_messages: usize,
}

impl Reference {
    pub(crate) fn new(queue_messages: usize) -> Self {
        Self { queue_messages, ..Self::default() }
    }

    /// Carries a change out now; it becomes durable with the transaction `token`.
    fn change(&mut self, token: u64, effect: Effect) {
        self.pending.push_back((token, effect.clone()));
        self.live.apply(effect, false);
    }

    /// Carries a change out that a crash forgets.
    fn change_live(&mut self, effect: Effect) {
        self.live.apply(effect, false);
    }

    /// Notes that the transactions up to `token` are durable.
    pub(crate) fn settle(&mut self, token: u64) {
        while let Some((_, effect)) = self.pending.pop_front_if(|(number, _)| *number <= token) {
            self.journal.apply(effect, true);
        }
    }

    pub(crate) fn session(&self, client: usize) -> Option<&Session> {
        self.live.sessions.get(&client)
    }

    fn session_mut(&mut self, client: usize) -> &mut Session {
        self.live.sessions.get_mut(&client).expect("the session exists")
    }

    fn is_persistent(&self, client: usize) -> bool {
        self.session(client).is_some_and(|session| session.is_persistent)
    }

    /// Whether the connection still holds the session.
    pub(crate) fn is_attached(&self, client: usize, link: u64) -> bool {
        self.session(client).is_some_and(|session| session.link == Some(link))
    }

    /// Whether a client that connects finds its session.
    pub(crate) fn finds_session(&self, client: usize, clean_start: bool, now: Timestamp) -> bool {
        self.session(client).is_some_and(|session| {
            let ends_with_takeover =
                session.link.is_some() && session.expiry == Expiry::AtDisconnect;
            !clean_start && !ends_with_takeover && !session.is_expired(now)
        })
    }

    /// A connection has its session. Returns what must be durable before the CONNACK.
    pub(crate) fn connect(
        &mut self,
        client: usize,
        finds: bool,
        expiry: Expiry,
        link: u64,
        token: u64,
        now: Timestamp,
    ) -> u64 {
        if self.session(client).is_some_and(|session| session.link.is_some()) {
            let expiry = self.live.sessions[&client].expiry;
            self.unlink(client, expiry, token, now);
        }
        let mut needs = 0;
        self.settle_wills(client, finds, token);
        if !finds && self.session(client).is_some() {
            if self.is_persistent(client) {
                needs = token;
            }
            self.change(token, Effect::End { client });
        }
        self.change(token, Effect::Connect { client, expiry, link });
        needs
    }

    fn unlink(&mut self, client: usize, expiry: Expiry, token: u64, now: Timestamp) {
        self.change(token, Effect::Disconnect { client, expiry, at: now });
        self.arm_will(client, expiry, now);
    }

    /// A connection has ended; `farewell` is the DISCONNECT, if there was one.
    pub(crate) fn disconnect(
        &mut self,
        client: usize,
        farewell: Option<Option<Expiry>>,
        cap: std::time::Duration,
        token: u64,
        now: Timestamp,
    ) {
        let mut expiry = self.live.sessions[&client].expiry;
        if let Some(named) = farewell {
            expiry = match (expiry, named) {
                (Expiry::AtDisconnect, _) | (_, Some(Expiry::AtDisconnect)) => Expiry::AtDisconnect,
                (_, Some(Expiry::After(after))) => Expiry::After(after.min(cap)),
                (kept, None) => kept,
            };
            self.forget_will(client, token);
        }
        self.unlink(client, expiry, token, now);
        if expiry == Expiry::AtDisconnect {
            self.change(token, Effect::End { client });
        }
    }

    /// Time has passed: sessions, wills and retained messages end.
    pub(crate) fn tick(&mut self, token: u64, now: Timestamp) {
        let sessions = self.live.sessions.iter();
        let expired: Vec<usize> = sessions
            .filter(|(_, session)| session.is_expired(now))
            .map(|(client, _)| *client)
            .collect();
        for client in expired {
            self.settle_wills(client, false, token);
            self.change(token, Effect::End { client });
        }
        self.expect_due_wills(now);
        let gone: Vec<Topic> = self
            .live
            .retained
            .iter()
            .filter(|(_, message)| self.messages[**message as usize].is_expired(now))
            .map(|(topic, _)| topic.clone())
            .collect();
        for topic in gone {
            self.change(token, Effect::Retain { topic, message: None });
        }
    }

    /// A SUBSCRIBE was taken. Returns what must be durable before the SUBACK.
    pub(crate) fn subscribe(
        &mut self,
        client: usize,
        filters: &[(TopicFilter, SubscriptionOptions)],
        results: &[SubscribeResult],
        taken: Taken,
        now: Timestamp,
    ) -> u64 {
        let mut needs = 0;
        let mut wanted = Vec::new();
        for ((filter, options), result) in filters.iter().zip(results) {
            let session = &self.live.sessions[&client];
            let old = session.subscriptions.get(filter);
            let is_new = old.is_none();
            let is_closed = taken.admission == Admission::Closed && session.is_persistent;
            if is_closed && old != Some(options) {
                assert_eq!(*result, SubscribeResult::QuotaExceeded, "it cannot be stored");
                continue;
            }
            assert_eq!(*result, SubscribeResult::Granted(options.qos));
            if session.is_persistent && !is_closed {
                needs = taken.token;
            }
            let (filter, options) = (filter.clone(), *options);
            if options.retain_handling == RetainHandling::Send
                || options.retain_handling == RetainHandling::SendIfNew && is_new
            {
                wanted.push((filter.clone(), options));
            }
            self.change(taken.token, Effect::Subscribe { client, filter, options });
        }
        let mut pushed = Vec::new();
        for (filter, options) in wanted {
            let matching: Vec<u64> = self
                .live
                .retained
                .iter()
                .filter(|(topic, _)| filter.matches(topic))
                .map(|(_, message)| *message)
                .filter(|message| !self.messages[*message as usize].is_expired(now))
                .collect();
            for message in matching {
                let facts = &self.messages[message as usize];
                let qos = options.qos.min(facts.qos);
                let is_open = taken.admission == Admission::Open;
                let is_at_once = self.is_persistent(client) && options.qos > Qos::AtMostOnce;
                pushed.push((
                    client,
                    Entry {
                        message,
                        topic: facts.topic.clone(),
                        qos,
                        retain: Some(true),
                        identifiers: options.identifier.iter().map(|id| id.as_u32()).collect(),
                        stage: Stage::Waiting,
                        is_stored: self.is_persistent(client) && qos > Qos::AtMostOnce && is_open,
                        // How long the queue is when its turn comes is not known.
                        is_optional: is_at_once && self.has_short_queues(),
                        is_unanswered: is_at_once,
                        may_be_known: false,
                        is_raised: false,
                        had: 0,
                    },
                ));
            }
        }
        self.push_all(pushed, taken);
        needs
    }

    /// Whether retained messages may find a queue full.
    pub(crate) fn has_short_queues(&self) -> bool {
        self.queue_messages < 100
    }

    /// All retained messages for a SUBSCRIBE have been looked at.
    pub(crate) fn end_subscribing(&mut self, client: usize, token: u64) {
        self.change(token, Effect::EndSubscribing { client });
    }

    /// An UNSUBSCRIBE was taken. Returns what must be durable before the UNSUBACK.
    pub(crate) fn unsubscribe(
        &mut self,
        client: usize,
        filters: &[TopicFilter],
        results: &[bool],
        token: u64,
    ) -> u64 {
        let mut needs = 0;
        for (filter, existed) in filters.iter().zip(results) {
            let session = &self.live.sessions[&client];
            assert_eq!(*existed, session.subscriptions.contains_key(filter), "{filter}");
            if *existed && session.is_persistent {
                needs = token;
            }
            self.change(token, Effect::Unsubscribe { client, filter: filter.clone() });
        }
        needs
    }

    /// Whether the message must be stored for somebody, so that it cannot be taken while the journal is full.
    pub(crate) fn must_be_stored(&self, message: u64, publisher: Option<usize>) -> bool {
        let facts = &self.messages[message as usize];
        facts.qos > Qos::AtMostOnce
            && (facts.retain
                || self.live.sessions.iter().any(|(client, session)| {
                    session.is_persistent
                        && session
                            .matching(&facts.topic, publisher == Some(*client))
                            .is_some_and(|(qos, ..)| qos > Qos::AtMostOnce)
                }))
    }

    /// Whether there is room among the retained messages.
    pub(crate) fn has_retained_room(&self, message: u64, most: usize) -> bool {
        let facts = &self.messages[message as usize];
        let retained = &self.live.retained;
        !facts.retain
            || facts.is_empty
            || retained.len() + usize::from(!retained.contains_key(&facts.topic)) <= most
    }

    /// A message was taken. Returns what must be durable before it is acknowledged.
    pub(crate) fn route(&mut self, message: u64, publisher: Option<usize>, taken: Taken) -> u64 {
        let facts = self.messages[message as usize].clone();
        let mut pushed = Vec::new();
        for (client, session) in &self.live.sessions {
            let is_own = publisher == Some(*client);
            let Some((most, as_published, identifiers)) = session.matching(&facts.topic, is_own)
            else {
                continue;
            };
            let qos = most.min(facts.qos);
            if qos == Qos::AtMostOnce && session.link.is_none() {
                continue;
            }
            pushed.push((
                *client,
                Entry {
                    message,
                    topic: facts.topic.clone(),
                    qos,
                    retain: Some(facts.retain && as_published),
                    identifiers,
                    stage: Stage::Waiting,
                    is_stored: session.is_persistent && qos > Qos::AtMostOnce,
                    is_optional: false,
                    is_unanswered: false,
                    may_be_known: false,
                    is_raised: false,
                    had: 0,
                },
            ));
        }
        let matched = pushed.len() as u64 > taken.dropped;
        assert_eq!(taken.matched, matched, "whether anybody takes message {message}");
        let mut needs = if self.push_all(pushed, taken) { taken.token } else { 0 };
        if facts.retain {
            let effect = Effect::Retain {
                topic: facts.topic,
                message: (!facts.is_empty).then_some(message),
            };
            match (facts.qos, taken.admission) {
                (Qos::AtMostOnce, Admission::Closed) => self.change_live(effect),
                (Qos::AtMostOnce, Admission::Open) => self.change(taken.token, effect),
                _ => {
                    needs = taken.token;
                    self.change(taken.token, effect);
                }
            }
        }
        needs
    }

    /// Notes an incoming packet identifier of quality of service 2. Returns what must be durable before its answer.
    pub(crate) fn inbound(
        &mut self,
        client: usize,
        packet_id: u16,
        is_open: bool,
        token: u64,
    ) -> u64 {
        self.change(token, Effect::Inbound { client, packet_id, is_open });
        if self.is_persistent(client) { token } else { 0 }
    }

    pub(crate) fn knows_inbound(&self, client: usize, packet_id: u16) -> bool {
        self.live.sessions[&client].inbound.contains(&packet_id)
    }

    /// The power was cut, and the transactions up to `token` were left.
    pub(crate) fn crash(&mut self, token: u64, now: Timestamp) {
        self.settle(token);
        self.pending.clear();
        let mut state = self.journal.clone();
        for (client, session) in &mut state.sessions {
            let before = self.live.sessions.get(client);
            session.link = None;
            session.done.clear();
            session.disconnected_at = session.disconnected_at.or(Some(now));
            let subscriptions = session.clone();
            for (number, entry) in &mut session.entries {
                let lived = before.and_then(|before| before.entries.get(number));
                // What was done with, unknown to the journal, may come once more.
                entry.is_optional |= lived.is_none_or(|lived| lived.is_optional);
                entry.is_optional |= std::mem::take(&mut entry.is_unanswered);
                let is_exact = entry.qos == Qos::ExactlyOnce;
                entry.had = lived.filter(|_| is_exact).map_or(0, |lived| lived.had);
                let message = &self.messages[entry.message as usize];
                // The journal has the message and not how it was to be shown.
                entry.retain = entry.retain.filter(|_| !message.retain);
                let found = subscriptions.matching(&entry.topic, false);
                if entry.stage == Stage::Waiting {
                    entry.may_be_known = entry.qos == Qos::AtLeastOnce;
                    // What it is by the subscriptions of now, and as it was stored confirmed.
                    let most = found.as_ref().map_or(message.qos, |(most, ..)| *most);
                    let qos = most.min(message.qos).max(Qos::AtLeastOnce);
                    entry.is_raised |= qos != entry.qos;
                    entry.qos = qos;
                    entry.may_be_known &= entry.qos == Qos::AtLeastOnce;
                }
                entry.identifiers = found.map(|(.., identifiers)| identifiers).unwrap_or_default();
            }
        }
        self.revive_wills(&mut state, now);
        self.live = state;
        self.journal = self.live.clone();
    }

    /// How many sessions, subscriptions and retained messages there are.
    pub(crate) fn counts(&self) -> (usize, usize, usize) {
        let sessions = &self.live.sessions;
        let subscriptions = sessions.values().map(|session| session.subscriptions.len()).sum();
        (sessions.len(), subscriptions, self.live.retained.len())
    }
}

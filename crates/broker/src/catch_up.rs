//! Retained messages on their way to a new subscription: as a client takes them, for there may be more than a queue
//! holds, or into the journal, for a persistent session.
//!
//! What a subscription is still to get stays in the table of retained messages. Before anything else happens on one of
//! these topics the retained message is queued, so that each comes as it was and in its place. The table may be large
//! and the filters many: what is looked at in one visit to the core is bounded, whether it matches or not, and whoever
//! holds the lock gives it up between visits.

use std::{collections::BTreeSet, sync::Arc};

use tidegate_model::{Qos, Timestamp, Topic, TopicFilter};
use tidegate_store::{Position, Seq, TakerId, Transaction, record};

use crate::{
    core::Broker,
    delivery::{Delivery, Routed},
    parts::Parts,
    route::Admission,
    session::{Session, SessionKey, SubscriptionOptions},
};

/// As many wait in the queue of a client that is catching up, if it has room for twice as many.
const AHEAD: usize = 128;
/// With more than this in its transaction, a visit stores no further retained message.
const VISIT_BYTES: usize = 1 << 20;

/// What a subscription is still to get of the retained messages that were there when it was made.
#[derive(Clone, Debug)]
pub(crate) struct CatchUp {
    filter: TopicFilter,
    options: SubscriptionOptions,
    /// What is retained since then comes by itself.
    since: u64,
    /// When it was made: what had expired then is not awaited.
    begun: Timestamp,
    /// The last topic that is done with.
    after: Option<Topic>,
    /// For whom what comes with quality of service 1 or 2 is stored.
    taker: Option<TakerId>,
}

impl CatchUp {
    fn awaits(&self, routed: &Routed, number: u64) -> bool {
        let topic = &routed.message.topic;
        self.after.as_ref().is_none_or(|after| after < topic)
            && self.wants(routed, number, self.begun)
    }

    /// Whether it gets a message of the table at `now`.
    fn wants(&self, routed: &Routed, number: u64, now: Timestamp) -> bool {
        let message = &routed.message;
        number <= self.since && !message.is_expired(now) && self.filter.matches(&message.topic)
    }
}

/// A session that gets a retained message before something else happens on its topic.
struct Settling {
    /// How many of its subscriptions have got it before.
    round: usize,
    key: SessionKey,
    options: SubscriptionOptions,
    taker: Option<TakerId>,
}

impl Session {
    /// Queues a retained message for one of its subscriptions.
    fn push_retained(
        &mut self,
        routed: &Arc<Routed>,
        options: &SubscriptionOptions,
        position: Option<Position>,
    ) {
        if let Some(position) = position {
            self.progress.expect(position);
        }
        self.push(Delivery {
            routed: Arc::clone(routed),
            qos: options.qos.min(routed.message.qos),
            retain: true,
            subscription_ids: options.identifier.into_iter().collect(),
            position,
            group: None,
        });
    }

    fn forget_catch_up(&mut self, filter: &TopicFilter) {
        self.catching_up.retain(|it| it.filter != *filter);
        self.storing.retain(|it| it.filter != *filter);
    }
}

impl Broker {
    /// Notes that the retained messages that match a new subscription are to be sent.
    ///
    /// For a persistent session they are stored, as many as its queue may hold; others get all of them, as they take
    /// them.
    pub(crate) fn send_retained(
        &mut self,
        key: SessionKey,
        (filter, options): (&TopicFilter, SubscriptionOptions),
        now: Timestamp,
        admission: Admission,
    ) {
        self.send_sys(key, filter, &options);
        let most = self.limits.filters_per_session;
        let (since, session) = (self.routed, &mut self.sessions[key.0]);
        if session.catching_up.len() + session.storing.len() >= most {
            // Whoever asks again and again gets it once.
            session.forget_catch_up(filter);
        }
        let taker = session.taker.filter(|_| options.qos > Qos::AtMostOnce);
        let begun = CatchUp {
            filter: filter.clone(),
            options,
            since,
            begun: now,
            after: None,
            // Without room they are sent without being stored: the retained message itself is.
            taker: taker.filter(|_| admission == Admission::Open),
        };
        match taker {
            Some(_) => session.storing.push_back(begun),
            None => session.catching_up.push(begun),
        }
        self.catching_up.insert(key);
    }

    /// Queues what may be looked at in the visit of the SUBSCRIBE, and calls the connection if there is more that is
    /// not stored.
    pub(crate) fn begin_retained(
        &mut self,
        key: SessionKey,
        now: Timestamp,
        transaction: &mut Transaction,
    ) {
        let mut looks = self.limits.retained_looks;
        self.store_retained(key, now, &mut looks, transaction);
        self.feed(key, self.limits.queue_messages.div_ceil(2), now, &mut looks);
        let session = &mut self.sessions[key.0];
        if !session.catching_up.is_empty() {
            session.call();
        }
    }

    /// Sends what the broker tells of itself: few, and never stored.
    fn send_sys(&mut self, key: SessionKey, filter: &TopicFilter, options: &SubscriptionOptions) {
        let told: Vec<Arc<Routed>> = self.sys_matching(filter, None).cloned().collect();
        let Self { sessions, limits, counters, .. } = self;
        let session = &mut sessions[key.0];
        for routed in told {
            if !session.rights.may_receive(&routed.message.topic) {
                continue;
            }
            if session.has_room(limits) {
                session.push_retained(&routed, options, None);
            } else {
                counters.dropped_queue_full += 1;
                session.dropped += 1;
            }
        }
    }

    /// Queues and stores retained messages of a persistent session, as far as `looks` and the transaction reach.
    pub(crate) fn store_retained(
        &mut self,
        key: SessionKey,
        now: Timestamp,
        looks: &mut usize,
        transaction: &mut Transaction,
    ) {
        let Self { retained, sessions, limits, last_seq, ordinals, counters, .. } = self;
        let session = &mut sessions[key.0];
        while let Some(mut first) = session.storing.pop_front() {
            let (filter, start) = (first.filter.clone(), first.after.clone());
            let mut last: Option<&Topic> = None;
            for (routed, number) in retained.candidates(&filter, start.as_ref()) {
                if *looks == 0 || transaction.encoded_len() > VISIT_BYTES {
                    first.after = last.cloned().or_else(|| start.clone());
                    session.storing.push_front(first);
                    return;
                }
                *looks -= 1;
                counters.retained_looks += 1;
                let message = &routed.message;
                last = Some(&message.topic);
                let is_due = first.wants(routed, number, now);
                if !is_due || !session.rights.may_receive(&message.topic) {
                    continue;
                }
                if !session.has_room(limits) {
                    counters.dropped_queue_full += 1;
                    session.dropped += 1;
                    continue;
                }
                let stored_for = first.taker.filter(|_| message.qos > Qos::AtMostOnce);
                let position = stored_for.and_then(|taker| {
                    let ordinal = ordinals.get(&taker).copied().unwrap_or(0) + 1;
                    let position = Position { seq: last_seq.next(), ordinal };
                    append(&[(taker, ordinal)], position.seq, routed, transaction)?;
                    *last_seq = position.seq;
                    ordinals.insert(taker, ordinal);
                    Some(position)
                });
                session.push_retained(routed, &first.options, position);
            }
        }
        self.note_caught_up(key);
    }

    /// Queues further retained messages of a session that is catching up, if few wait.
    pub(crate) fn catch_up(&mut self, key: SessionKey, now: Timestamp) {
        let until = AHEAD.min(self.limits.queue_messages.div_ceil(2));
        let session = &mut self.sessions[key.0];
        if !session.catching_up.is_empty() && session.queue.len() < until {
            // Whoever asks need not be called.
            session.link.iter_mut().for_each(|link| link.woken = true);
            let mut looks = self.limits.retained_looks;
            self.feed(key, until, now, &mut looks);
        }
    }

    /// Queues retained messages of a session until so many wait for it, or `looks` are used up. As long as it is
    /// catching up and nothing waits for it, something is due: its connection comes again.
    fn feed(&mut self, key: SessionKey, until: usize, now: Timestamp, looks: &mut usize) {
        let Self { retained, sessions, limits, counters, .. } = self;
        let session = &mut sessions[key.0];
        while !session.catching_up.is_empty() {
            let mut first = session.catching_up.remove(0);
            let (filter, start) = (first.filter.clone(), first.after.clone());
            let mut last: Option<&Topic> = None;
            for (routed, number) in retained.candidates(&filter, start.as_ref()) {
                let is_full =
                    session.queue.len() >= until || session.queue_bytes >= limits.queue_bytes / 2;
                if *looks == 0 || is_full && !session.queue.is_empty() {
                    first.after = last.cloned().or_else(|| start.clone());
                    session.catching_up.insert(0, first);
                    return;
                }
                *looks -= 1;
                counters.retained_looks += 1;
                let topic = &routed.message.topic;
                last = Some(topic);
                if first.wants(routed, number, now) && session.rights.may_receive(topic) {
                    session.push_retained(routed, &first.options, None);
                }
            }
        }
        self.note_caught_up(key);
    }

    /// Queues the retained messages of topics for all who still await them, before something else happens there. What is
    /// stored of that goes to the journal first.
    pub(crate) fn settle_retained<'t>(
        &mut self,
        topics: impl Iterator<Item = &'t Topic>,
    ) -> Vec<Transaction> {
        let mut parts = Parts::default();
        for topic in topics {
            let Some((kept, number)) = self.retained.touch(topic, self.routed) else { continue };
            let mut settling = self.settling(&kept, number);
            settling.sort_by_key(|it| it.round);
            for same in settling.chunk_by(|one, other| one.round == other.round) {
                self.settle_round(&kept, same, &mut parts);
            }
        }
        parts.into_transactions()
    }

    /// Returns who gets a retained message before something else happens on its topic.
    fn settling(&self, kept: &Routed, number: u64) -> Vec<Settling> {
        let mut settling = Vec::new();
        for key in &self.catching_up {
            let session = &self.sessions[key.0];
            if !session.rights.may_receive(&kept.message.topic) {
                continue;
            }
            let all = session.storing.iter().chain(&session.catching_up);
            let awaiting = all.filter(|it| it.awaits(kept, number)).enumerate();
            settling.extend(awaiting.map(|(round, it)| Settling {
                round,
                key: *key,
                options: it.options,
                taker: it.taker.filter(|_| kept.message.qos > Qos::AtMostOnce),
            }));
        }
        settling
    }

    /// Queues a retained message once for each of some sessions, with one record for all that have it stored.
    fn settle_round(&mut self, kept: &Arc<Routed>, settling: &[Settling], parts: &mut Parts) {
        let seq = self.last_seq.next();
        let mut takers = Vec::new();
        for Settling { key, options, taker, .. } in settling {
            // They may be more than the queue takes of messages that come now, as they were in the table; not more than
            // it takes of bytes.
            if self.sessions[key.0].queue_bytes >= self.limits.queue_bytes {
                self.counters.dropped_queue_full += 1;
                self.sessions[key.0].dropped += 1;
                continue;
            }
            let position = taker.map(|taker| {
                let ordinal = self.next_ordinal(taker);
                takers.push((taker, ordinal));
                Position { seq, ordinal }
            });
            self.sessions[key.0].push_retained(kept, options, position);
        }
        if !takers.is_empty() {
            parts.cut(VISIT_BYTES);
            append(&takers, seq, kept, &mut parts.open)
                .expect("it was routed before, and a part is a fraction of the limit");
            self.last_seq = seq;
        }
    }

    /// Sends no more retained messages to a subscription.
    pub(crate) fn end_catch_up(&mut self, key: SessionKey, filter: &TopicFilter) {
        self.sessions[key.0].forget_catch_up(filter);
        self.note_caught_up(key);
    }

    fn note_caught_up(&mut self, key: SessionKey) {
        let session = &self.sessions[key.0];
        if session.catching_up.is_empty() && session.storing.is_empty() {
            self.catching_up.remove(&key);
        }
    }
}

/// Sessions that are catching up, or storing.
pub(crate) type CatchingUp = BTreeSet<SessionKey>;

/// Appends a retained message for sessions; `None` once the transaction is as large as it may be.
fn append(
    takers: &[(TakerId, u64)],
    seq: Seq,
    routed: &Routed,
    transaction: &mut Transaction,
) -> Option<()> {
    let mut body = Vec::with_capacity(128);
    record::encode_message(&routed.message, &mut body).ok()?;
    transaction.append(seq, takers, &body).ok()
}

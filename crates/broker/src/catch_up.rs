//! Retained messages on their way to a new subscription: as a client takes them, for there may be more than a queue
//! holds.
//!
//! What a subscription is still to get stays in the table of retained messages. Before anything else happens on one of
//! these topics the retained message is queued, so that each comes as it was and in its place.

use std::{collections::BTreeSet, sync::Arc};

use tidegate_model::{Message, Qos, Timestamp, Topic, TopicFilter};
use tidegate_store::{Position, TakerId, Transaction, record};

use crate::{
    core::Broker,
    delivery::{Delivery, Routed},
    route::Admission,
    session::{Session, SessionKey, SubscriptionOptions},
};

/// As many wait in the queue of a client that is catching up, if it has room for twice as many.
const AHEAD: usize = 128;

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
}

impl CatchUp {
    fn awaits(&self, message: &Message, number: u64) -> bool {
        let topic = &message.topic;
        number <= self.since
            && !message.is_expired(self.begun)
            && self.after.as_ref().is_none_or(|after| after < topic)
            && self.filter.matches(topic)
    }
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
}

impl Broker {
    /// Sends the retained messages that match a new subscription.
    ///
    /// For a persistent session they are stored, as many as its queue may hold; others get all of them, the first half
    /// of what their queue may hold now, the rest as they take it.
    pub(crate) fn send_retained(
        &mut self,
        key: SessionKey,
        (filter, options): (&TopicFilter, SubscriptionOptions),
        now: Timestamp,
        admission: Admission,
        transaction: &mut Transaction,
    ) {
        self.send_sys(key, filter, &options);
        let taker = self.sessions[key.0].taker.filter(|_| options.qos > Qos::AtMostOnce);
        if let Some(taker) = taker {
            // Without room they are sent without being stored: the retained message itself is.
            let taker = (admission == Admission::Open).then_some(taker);
            return self.store_retained(key, taker, (filter, options), now, transaction);
        }
        if self.sessions[key.0].catching_up.len() >= self.limits.filters_per_session {
            // Whoever asks again and again gets it once.
            self.end_catch_up(key, filter);
        }
        let begun = CatchUp {
            filter: filter.clone(),
            options,
            since: self.routed,
            begun: now,
            after: None,
        };
        self.sessions[key.0].catching_up.push(begun);
        self.catching_up.insert(key);
        self.feed(key, self.limits.queue_messages.div_ceil(2), now);
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

    fn store_retained(
        &mut self,
        key: SessionKey,
        taker: Option<TakerId>,
        (filter, options): (&TopicFilter, SubscriptionOptions),
        now: Timestamp,
        transaction: &mut Transaction,
    ) {
        let Self { retained, sessions, limits, last_seq, ordinals, counters, .. } = self;
        let session = &mut sessions[key.0];
        for routed in retained.matching(filter, None) {
            let message = &routed.message;
            if !session.rights.may_receive(&message.topic) || message.is_expired(now) {
                continue;
            }
            if session.queue.len() >= limits.queue_messages
                || session.queue_bytes >= limits.queue_bytes
            {
                counters.dropped_queue_full += 1;
                session.dropped += 1;
                continue;
            }
            let stored_for = taker.filter(|_| message.qos > Qos::AtMostOnce);
            let position = stored_for.and_then(|taker| {
                let ordinal = ordinals.get(&taker).copied().unwrap_or(0) + 1;
                let position = Position { seq: last_seq.next(), ordinal };
                append(taker, position, routed, transaction)?;
                *last_seq = position.seq;
                ordinals.insert(taker, ordinal);
                Some(position)
            });
            session.push_retained(routed, &options, position);
        }
    }

    /// Queues further retained messages of a session that is catching up, if few wait.
    pub(crate) fn catch_up(&mut self, key: SessionKey, now: Timestamp) {
        let until = AHEAD.min(self.limits.queue_messages.div_ceil(2));
        let session = &mut self.sessions[key.0];
        if !session.catching_up.is_empty() && session.queue.len() < until {
            // Whoever asks need not be called.
            session.link.iter_mut().for_each(|link| link.woken = true);
            self.feed(key, until, now);
        }
    }

    /// Queues retained messages of a session until so many wait for it.
    fn feed(&mut self, key: SessionKey, until: usize, now: Timestamp) {
        let Self { retained, sessions, limits, catching_up, .. } = self;
        let session = &mut sessions[key.0];
        while !session.catching_up.is_empty() {
            let mut first = session.catching_up.remove(0);
            let (filter, start) = (first.filter.clone(), first.after.clone());
            for (routed, number) in retained.numbered(&filter, start.as_ref()) {
                let is_full =
                    session.queue.len() >= until || session.queue_bytes >= limits.queue_bytes / 2;
                if is_full && !session.queue.is_empty() {
                    session.catching_up.insert(0, first);
                    return;
                }
                let topic = &routed.message.topic;
                let is_due = number <= first.since && !routed.message.is_expired(now);
                if is_due && session.rights.may_receive(topic) {
                    session.push_retained(routed, &first.options, None);
                }
                first.after = Some(topic.clone());
            }
        }
        catching_up.remove(&key);
    }

    /// Queues the retained message of a topic for all who still await it, before something else happens there.
    pub(crate) fn settle_retained(&mut self, topic: &Topic) {
        if self.catching_up.is_empty() {
            return;
        }
        let Self { retained, sessions, limits, catching_up, counters, routed, .. } = self;
        let Some((kept, number)) = retained.touch(topic, *routed) else { return };
        for key in &*catching_up {
            let session = &mut sessions[key.0];
            if !session.rights.may_receive(topic) {
                continue;
            }
            let awaiting = session.catching_up.iter().filter(|it| it.awaits(&kept.message, number));
            let awaiting: Vec<SubscriptionOptions> = awaiting.map(|it| it.options).collect();
            for options in awaiting {
                // They may be more than the queue takes of messages that come now, as they were in the table; not more
                // than it takes of bytes.
                if session.queue_bytes >= limits.queue_bytes {
                    counters.dropped_queue_full += 1;
                    session.dropped += 1;
                } else {
                    session.push_retained(&kept, &options, None);
                }
            }
        }
    }

    /// Sends no more retained messages to a subscription.
    pub(crate) fn end_catch_up(&mut self, key: SessionKey, filter: &TopicFilter) {
        let catching_up = &mut self.sessions[key.0].catching_up;
        catching_up.retain(|it| it.filter != *filter);
        if catching_up.is_empty() {
            self.catching_up.remove(&key);
        }
    }
}

/// Sessions that are catching up.
pub(crate) type CatchingUp = BTreeSet<SessionKey>;

/// Appends a retained message for one session; `None` once the transaction is as large as it may be.
fn append(
    taker: TakerId,
    position: Position,
    routed: &Routed,
    transaction: &mut Transaction,
) -> Option<()> {
    let mut body = Vec::with_capacity(128);
    record::encode_message(&routed.message, &mut body).ok()?;
    transaction.append(position.seq, &[(taker, position.ordinal)], &body).ok()
}

//! Subscribing and unsubscribing.

use std::sync::Arc;

use tidegate_model::{Qos, Timestamp, TopicFilter};
use tidegate_store::{Position, TakerId, Transaction, record};

use crate::{
    core::{Broker, Superseded},
    delivery::{Delivery, Routed},
    persist,
    route::Admission,
    session::{Attachment, RetainHandling, SessionKey, SubscriptionOptions},
    shared::shared_filter,
};

/// What became of one filter of a SUBSCRIBE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscribeResult {
    /// Subscribed, with this quality of service at most.
    Granted(Qos),
    /// The rights do not cover the filter.
    NotAuthorized,
    /// The session has as many subscriptions as it may have, or there is no room to store another.
    QuotaExceeded,
}

impl Broker {
    /// Subscribes a session to filters and queues the retained messages they ask for.
    ///
    /// The transaction, if there is one, must be durable before the SUBACK (promise D8).
    ///
    /// # Errors
    ///
    /// [`Superseded`] if the session has gone to another connection.
    pub fn subscribe(
        &mut self,
        attachment: Attachment,
        filters: &[(TopicFilter, SubscriptionOptions)],
        now: Timestamp,
        admission: Admission,
    ) -> Result<(Vec<SubscribeResult>, Option<Transaction>), Superseded> {
        self.attached(attachment)?;
        let mut transaction = Transaction::new();
        let mut wants_retained = Vec::with_capacity(filters.len());
        let results = filters
            .iter()
            .map(|(filter, options)| {
                let (result, wants) = self.subscribe_one(
                    attachment.session,
                    filter,
                    *options,
                    admission,
                    &mut transaction,
                );
                wants_retained.push(wants);
                result
            })
            .collect();
        // Retained messages come last: they may fill the transaction, the subscriptions always fit.
        for ((filter, options), _) in
            filters.iter().zip(wants_retained).filter(|(_, is_wanted)| *is_wanted)
        {
            self.queue_retained(
                attachment.session,
                filter,
                *options,
                now,
                admission,
                &mut transaction,
            );
        }
        Ok((results, (!transaction.is_empty()).then_some(transaction)))
    }

    /// Notes one subscription. Returns whether retained messages are to be sent too.
    fn subscribe_one(
        &mut self,
        key: SessionKey,
        filter: &TopicFilter,
        options: SubscriptionOptions,
        admission: Admission,
        transaction: &mut Transaction,
    ) -> (SubscribeResult, bool) {
        let shared = shared_filter(filter);
        let session = &mut self.sessions[key.0];
        if !session.rights.may_subscribe(shared.as_ref().unwrap_or(filter)) {
            let principal = session.principal.clone();
            self.note_denial(&principal);
            return (SubscribeResult::NotAuthorized, false);
        }
        let is_new = session.subscriptions.get(filter).is_none();
        if is_new && session.subscriptions.len() >= self.limits.filters_per_session {
            return (SubscribeResult::QuotaExceeded, false);
        }
        let is_changed = session.subscriptions.get(filter) != Some(&options);
        if is_changed && session.taker.is_some() && admission == Admission::Closed {
            return (SubscribeResult::QuotaExceeded, false);
        }
        session.subscriptions.insert(filter.clone(), options);
        // What is repeated may not be durable yet from the first time.
        if let Some(taker) = session.taker.filter(|_| admission == Admission::Open) {
            persist::put_subscription(transaction, taker, filter, &options);
        }
        self.enlist(key, filter, options);
        let wants_retained = match options.retain_handling {
            // MQTT 5.0, section 4.8.2.
            _ if shared.is_some() => false,
            RetainHandling::Send => true,
            RetainHandling::SendIfNew => is_new,
            RetainHandling::DoNotSend => false,
        };
        (SubscribeResult::Granted(options.qos), wants_retained)
    }

    fn queue_retained(
        &mut self,
        key: SessionKey,
        filter: &TopicFilter,
        options: SubscriptionOptions,
        now: Timestamp,
        admission: Admission,
        transaction: &mut Transaction,
    ) {
        // Without room they are sent without being stored: the retained message itself is.
        let taker = self.sessions[key.0].taker.filter(|_| admission == Admission::Open);
        let kept = self.retained.matching(filter, None).chain(self.sys_matching(filter, None));
        let retained: Vec<Arc<Routed>> = kept.cloned().collect();
        for routed in retained {
            let session = &self.sessions[key.0];
            let room = session.queue.len() < self.limits.queue_messages
                && session.queue_bytes < self.limits.queue_bytes;
            if !session.rights.may_receive(&routed.message.topic) || routed.message.is_expired(now)
            {
                continue;
            }
            if !room {
                self.counters.dropped_queue_full += 1;
                self.sessions[key.0].dropped += 1;
                continue;
            }
            let qos = options.qos.min(routed.message.qos);
            let stored_for = taker.filter(|_| qos > Qos::AtMostOnce);
            let position =
                stored_for.and_then(|taker| self.append_retained(taker, &routed, transaction));
            let session = &mut self.sessions[key.0];
            if let Some(position) = position {
                session.progress.expect(position);
            }
            session.push(Delivery {
                routed,
                qos,
                retain: true,
                subscription_ids: options.identifier.into_iter().collect(),
                position,
                group: None,
            });
        }
    }

    /// Appends a retained message for one session; `None` once the transaction is as large as it may be.
    fn append_retained(
        &mut self,
        taker: TakerId,
        routed: &Routed,
        transaction: &mut Transaction,
    ) -> Option<Position> {
        let mut body = Vec::with_capacity(128);
        record::encode_message(&routed.message, &mut body).ok()?;
        let position = Position { seq: self.last_seq.next(), ordinal: self.ordinal(taker) + 1 };
        transaction.append(position.seq, &[(taker, position.ordinal)], &body).ok()?;
        self.last_seq = position.seq;
        self.ordinals.insert(taker, position.ordinal);
        Some(position)
    }

    /// Ends subscriptions. Returns for each filter whether there was one.
    ///
    /// The transaction, if there is one, must be durable before the UNSUBACK (promise D8).
    ///
    /// # Errors
    ///
    /// [`Superseded`] if the session has gone to another connection.
    pub fn unsubscribe(
        &mut self,
        attachment: Attachment,
        filters: &[TopicFilter],
    ) -> Result<(Vec<bool>, Option<Transaction>), Superseded> {
        self.attached(attachment)?;
        let mut transaction = Transaction::new();
        let results = filters
            .iter()
            .map(|filter| {
                let session = &mut self.sessions[attachment.session.0];
                let taker = session.taker;
                let existed = session.subscriptions.remove(filter).is_some();
                if existed {
                    self.strike_off(attachment.session, filter);
                    if let Some(taker) = taker {
                        persist::delete_subscription(&mut transaction, taker, filter);
                    }
                }
                existed
            })
            .collect();
        Ok((results, (!transaction.is_empty()).then_some(transaction)))
    }
}

//! Subscribing and unsubscribing.

use tidegate_model::{Qos, Timestamp, TopicFilter};
use tidegate_store::Transaction;

use crate::{
    core::{Broker, Superseded},
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
    /// Subscribes a session to filters and queues the retained messages they ask for, as many as may be looked at in one
    /// visit.
    ///
    /// The transaction, if there is one, must be durable before the SUBACK (promise D8). While
    /// [`is_subscribing`](Self::is_subscribing), [`go_on_subscribing`](Self::go_on_subscribing) comes before the SUBACK
    /// too, and before anything else that the client asks for.
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
        for ((filter, options), _) in
            filters.iter().zip(wants_retained).filter(|(_, is_wanted)| *is_wanted)
        {
            self.send_retained(attachment.session, (filter, *options), now, admission);
        }
        self.begin_retained(attachment.session, now, &mut transaction);
        Ok((results, (!transaction.is_empty()).then_some(transaction)))
    }

    /// Returns whether retained messages are still to be stored before a SUBSCRIBE is answered.
    pub fn is_subscribing(&mut self, attachment: Attachment) -> bool {
        self.attached(attachment).is_ok_and(|session| !session.storing.is_empty())
    }

    /// Goes on with what [`subscribe`](Self::subscribe) has begun: another visit's share of it. The transaction, if there
    /// is one, must be durable before the SUBACK as well.
    ///
    /// # Errors
    ///
    /// [`Superseded`] if the session has gone to another connection.
    pub fn go_on_subscribing(
        &mut self,
        attachment: Attachment,
        now: Timestamp,
    ) -> Result<Option<Transaction>, Superseded> {
        self.attached(attachment)?;
        let mut transaction = Transaction::new();
        let mut looks = self.limits.retained_looks;
        self.store_retained(attachment.session, now, &mut looks, &mut transaction);
        Ok((!transaction.is_empty()).then_some(transaction))
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
            self.counters.subscriptions_refused += 1;
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
                    self.end_catch_up(attachment.session, filter);
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

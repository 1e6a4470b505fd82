//! SUBSCRIBE and UNSUBSCRIBE: a share of the work in each visit to the broker, an answer behind the last.

use tidegate_broker::{RetainHandling, SubscribeResult, SubscriptionOptions, Superseded};
use tidegate_model::TopicFilter;
use tidegate_mqtt::{
    ReasonCode,
    packet::{self, Subscribe, Subscription, SubscriptionKey, Unsubscribe},
};

use super::{Driver, replies::Reply};

/// Filters handed to the broker in one visit.
const FILTERS_MAX: usize = 64;

/// A SUBSCRIBE that is being acted on: what the client has sent behind it waits.
#[derive(Debug)]
pub(super) struct Subscribing {
    packet: Subscribe,
    /// What came of the first filters; of the others nothing has been asked yet.
    reasons: Vec<ReasonCode>,
    /// Whether the answer waits for the disk.
    is_awaited: bool,
}

impl Driver<'_> {
    /// Begins a SUBSCRIBE; most are done with at once.
    pub(super) fn subscribe(&mut self, packet: Subscribe) -> Result<(), Superseded> {
        let reasons = Vec::with_capacity(packet.subscriptions.len());
        self.subscribing = Some(Box::new(Subscribing { packet, reasons, is_awaited: false }));
        self.go_on_subscribing()
    }

    /// Does a visit's share of the SUBSCRIBE that is being acted on, if there is one, and answers it when all is done.
    pub(super) fn go_on_subscribing(&mut self) -> Result<(), Superseded> {
        let Some(mut subscribing) = self.subscribing.take() else { return Ok(()) };
        let attachment = self.attachment.ok_or(Superseded)?;
        let broker = self.ingest.broker();
        let now = broker.clock().steady();
        let mut core = broker.core();
        let transaction = if core.is_subscribing(attachment) {
            core.go_on_subscribing(attachment, now)?
        } else {
            let filters = subscribing.next_filters();
            let (results, transaction) =
                core.subscribe(attachment, &filters, now, broker.admission())?;
            subscribing.reasons.extend(results.into_iter().map(reason_of));
            transaction
        };
        if let Some(transaction) = transaction {
            let completion = self.replies.completion();
            broker.submit(&core, Some(transaction), completion);
            subscribing.is_awaited = true;
        }
        if subscribing.is_done() && !core.is_subscribing(attachment) {
            let Subscribing { packet, reasons, is_awaited } = *subscribing;
            let reply = Reply::SubAck(packet.packet_id, reasons);
            if is_awaited { self.replies.push(reply) } else { self.replies.push_ready(reply) }
        } else {
            self.subscribing = Some(subscribing);
            self.goes_on = true;
        }
        Ok(())
    }

    pub(super) fn unsubscribe(&mut self, unsubscribe: &Unsubscribe) -> Result<(), Superseded> {
        let attachment = self.attachment.ok_or(Superseded)?;
        let broker = self.ingest.broker();
        let mut core = broker.core();
        let filters: Vec<TopicFilter> = unsubscribe.keys.iter().map(whole_filter).collect();
        let (results, transaction) = core.unsubscribe(attachment, &filters)?;
        let reasons = results
            .into_iter()
            .map(
                |existed| {
                    if existed { ReasonCode::Success } else { ReasonCode::NoSubscriptionExisted }
                },
            )
            .collect();
        let reply = Reply::UnsubAck(unsubscribe.packet_id, reasons);
        self.replies.submit(broker, &core, transaction, reply);
        Ok(())
    }
}

impl Subscribing {
    fn is_done(&self) -> bool {
        self.reasons.len() == self.packet.subscriptions.len()
    }

    /// Returns the filters that are asked for next.
    fn next_filters(&self) -> Vec<(TopicFilter, SubscriptionOptions)> {
        let rest = self.packet.subscriptions.iter().skip(self.reasons.len());
        rest.take(FILTERS_MAX)
            .map(|subscription| (whole_filter(&subscription.key), self.options(subscription)))
            .collect()
    }

    fn options(&self, subscription: &Subscription) -> SubscriptionOptions {
        SubscriptionOptions {
            qos: subscription.qos,
            no_local: subscription.no_local,
            retain_as_published: subscription.retain_as_published,
            retain_handling: retain_handling(subscription.retain_handling),
            identifier: self.packet.subscription_id,
        }
    }
}

fn reason_of(result: SubscribeResult) -> ReasonCode {
    match result {
        SubscribeResult::Granted(qos) => ReasonCode::granted(qos),
        SubscribeResult::NotAuthorized => ReasonCode::NotAuthorized,
        SubscribeResult::QuotaExceeded => ReasonCode::QuotaExceeded,
    }
}

/// Returns the filter with `$share/<name>/` in front if it is shared.
fn whole_filter(key: &SubscriptionKey) -> TopicFilter {
    match &key.share {
        None => key.filter.clone(),
        Some(_) => TopicFilter::new(&key.to_string()).unwrap_or_else(|_| key.filter.clone()),
    }
}

fn retain_handling(handling: packet::RetainHandling) -> RetainHandling {
    match handling {
        packet::RetainHandling::Send => RetainHandling::Send,
        packet::RetainHandling::SendIfNew => RetainHandling::SendIfNew,
        packet::RetainHandling::DoNotSend => RetainHandling::DoNotSend,
    }
}

//! The topic space for the topic sides of adapters.

use std::sync::Arc;

use tidegate_adapter_api::{
    LastMessage, Outcome, Publication, Receipt, Refusal, TopicEvents, TopicSpaceBackend,
};
use tidegate_broker::{LocalSubscriber, Routed, SubscriptionOptions};
use tidegate_model::{Message, Payload, Principal, Properties, Topic, TopicFilter};
use tokio::sync::mpsc;

use crate::ingest::Ingest;

/// Publishes, reads and subscribes on behalf of clients of other protocols than MQTT.
#[derive(Clone, Debug)]
pub struct Topics {
    ingest: Ingest,
}

impl Topics {
    /// Makes the view onto the broker behind `ingest`.
    pub fn new(ingest: Ingest) -> Self {
        Self { ingest }
    }
}

/// Says a routed message in the words of the adapters.
pub fn last_message(routed: &Routed) -> LastMessage {
    let message = &routed.message;
    let typed = message.payload.as_reading().is_some();
    LastMessage {
        topic: message.topic.clone(),
        payload: message.payload.clone(),
        content_type: message
            .properties
            .as_ref()
            .and_then(|properties| properties.content_type.clone())
            .or_else(|| typed.then(|| "application/json".into())),
        arrival: message.arrival,
    }
}

impl TopicSpaceBackend for Topics {
    fn publish(&self, principal: &Principal, publication: Publication) -> Receipt {
        let rights = self.ingest.rights(principal);
        if publication.topic.is_dollar() || !rights.may_publish(&publication.topic) {
            return Receipt::ready(Outcome::Refused(self.ingest.denied_publication(principal)));
        }
        let message = Message {
            topic: publication.topic,
            payload: Payload::bytes(publication.payload),
            qos: publication.qos,
            retain: publication.retain,
            properties: publication.content_type.map(|content_type| {
                Arc::new(Properties { content_type: Some(content_type), ..Properties::default() })
            }),
            publisher: principal.clone(),
            arrival: self.ingest.broker().clock().wall(),
        };
        self.ingest.publish_with_receipt(message, publication.exchange.as_ref())
    }

    fn last(&self, principal: &Principal, topic: &Topic) -> Result<Option<LastMessage>, Refusal> {
        if !self.ingest.rights(principal).may_receive(topic) {
            return Err(self.ingest.denied(principal));
        }
        Ok(self.ingest.broker().core().last(topic).map(|routed| last_message(routed)))
    }

    fn list(
        &self,
        principal: &Principal,
        filter: &TopicFilter,
        after: Option<&Topic>,
        limit: usize,
    ) -> Result<Vec<LastMessage>, Refusal> {
        if !self.ingest.rights(principal).may_subscribe(filter) {
            return Err(self.ingest.denied(principal));
        }
        let found = self.ingest.broker().core().list(filter, after, limit);
        Ok(found.iter().map(|routed| last_message(routed)).collect())
    }

    fn subscribe(
        &self,
        principal: &Principal,
        filter: &TopicFilter,
        capacity: usize,
    ) -> Result<TopicEvents, Refusal> {
        if !self.ingest.rights(principal).may_subscribe(filter) {
            return Err(self.ingest.denied(principal));
        }
        let (sender, receiver) = mpsc::channel(capacity);
        self.ingest.broker().core().add_local(
            principal,
            filter,
            SubscriptionOptions::LOCAL,
            Arc::new(Reader { sender }),
        );
        Ok(receiver)
    }
}

/// Hands messages to a channel; what does not fit is dropped and counted by the broker.
struct Reader {
    sender: mpsc::Sender<Arc<Message>>,
}

impl LocalSubscriber for Reader {
    fn deliver(&self, routed: &Arc<Routed>) -> bool {
        self.sender.try_send(Arc::new(routed.message.clone())).is_ok()
    }

    fn is_gone(&self) -> bool {
        self.sender.is_closed()
    }
}

//! Messages on their way to a subscriber.

use std::sync::Arc;

use tidegate_model::{Message, Qos};
use tidegate_mqtt::SubscriptionId;
use tidegate_store::Position;

use crate::shared::GroupKey;

/// A message with the encodings that its subscribers share.
#[derive(Debug)]
pub struct Routed {
    /// The message.
    pub message: Message,
    /// Its encodings for the wire, each made when the first subscriber needs it.
    pub frames: crate::frames::Frames,
}

impl Routed {
    /// Takes a message.
    pub fn new(message: Message) -> Arc<Self> {
        Arc::new(Self { message, frames: crate::frames::Frames::default() })
    }
}

/// One message for one subscriber.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The message, shared by all its subscribers.
    pub routed: Arc<Routed>,
    /// The lower of the publisher's and the subscription's quality of service.
    pub qos: Qos,
    /// Whether the message is shown as retained (MQTT 5.0, section 3.3.1.3).
    pub retain: bool,
    /// The identifiers of the subscriptions that matched; empty for most.
    pub subscription_ids: Vec<SubscriptionId>,
    /// Where the message stands in the journal, if it waits there for a persistent session.
    pub position: Option<Position>,
    /// The group that has chosen the session for it, if it came by a shared subscription.
    pub(crate) group: Option<GroupKey>,
}

impl Delivery {
    /// Returns about how much memory the delivery holds, in bytes.
    pub(crate) fn size_estimate(&self) -> usize {
        128 + size_estimate(&self.routed.message)
    }
}

/// Returns about how much memory a message holds beside its fixed parts, in bytes.
pub(crate) fn size_estimate(message: &Message) -> usize {
    let properties = message.properties.as_deref().map_or(0, |properties| {
        let user = properties.user.iter().map(|(name, value)| 64 + name.len() + value.len());
        properties.content_type.as_ref().map_or(0, |text| text.len())
            + properties.response_topic.as_ref().map_or(0, |topic| topic.as_str().len())
            + properties.correlation_data.as_ref().map_or(0, |data| data.len())
            + user.sum::<usize>()
    });
    message.topic.as_str().len() + message.payload.size_estimate() + properties
}

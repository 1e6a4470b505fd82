//! The topic space, as topic sides of adapters see it.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use tidegate_model::{Message, Payload, Principal, Qos, Timestamp, Topic, TopicFilter};
use tokio::sync::mpsc;

use crate::{Exchange, Receipt, Refusal};

/// The last message of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastMessage {
    /// The topic.
    pub topic: Topic,
    /// What it said; a typed reading if it came from one.
    pub payload: Payload,
    /// The MIME type of the bytes, if known.
    pub content_type: Option<Arc<str>>,
    /// When the gateway received it.
    pub arrival: Timestamp,
}

/// What a client of the topic side publishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// Where to.
    pub topic: Topic,
    /// The body, unchanged.
    pub payload: Bytes,
    /// With which quality of service.
    pub qos: Qos,
    /// Whether it becomes the retained message of its topic.
    pub retain: bool,
    /// The MIME type of the body, if the client named one.
    pub content_type: Option<Arc<str>>,
    /// The exchange that the publication belongs to, if it must be recognised after a restart.
    pub exchange: Option<Exchange>,
}

/// Messages of a subscription, oldest first; a slow reader loses the newest, counted.
pub type TopicEvents = mpsc::Receiver<Arc<Message>>;

/// What stands behind a [`TopicSpace`]: access rules and broker.
pub trait TopicSpaceBackend: Send + Sync {
    /// Publishes on behalf of `principal`.
    fn publish(&self, principal: &Principal, publication: Publication) -> Receipt;

    /// Returns the last message of a topic.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotAuthorized`] if the principal may not subscribe to the topic.
    fn last(&self, principal: &Principal, topic: &Topic) -> Result<Option<LastMessage>, Refusal>;

    /// Returns the last messages of at most `limit` topics that match, in order of topic, behind `after`.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotAuthorized`] if the principal may not subscribe to the filter.
    fn list(
        &self,
        principal: &Principal,
        filter: &TopicFilter,
        after: Option<&Topic>,
        limit: usize,
    ) -> Result<Vec<LastMessage>, Refusal>;

    /// Subscribes until the receiver is dropped; holds at most `capacity` messages.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotAuthorized`] if the principal may not subscribe to the filter.
    fn subscribe(
        &self,
        principal: &Principal,
        filter: &TopicFilter,
        capacity: usize,
    ) -> Result<TopicEvents, Refusal>;
}

/// Shows the topic space to clients of a protocol, always on behalf of a principal. Cheap to clone.
#[derive(Clone)]
pub struct TopicSpace(Arc<dyn TopicSpaceBackend>);

impl TopicSpace {
    /// Makes the handle.
    pub fn new(backend: Arc<dyn TopicSpaceBackend>) -> Self {
        Self(backend)
    }
}

impl std::ops::Deref for TopicSpace {
    type Target = dyn TopicSpaceBackend;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl fmt::Debug for TopicSpace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("TopicSpace")
    }
}

//! Numbers that a client uses in place of topics (MQTT 5.0, section 3.3.2.3.4).

use std::{collections::BTreeMap, num::NonZeroU16};

use tidegate_model::Topic;

use crate::ProtocolError;

/// The aliases that the client has set on this connection.
#[derive(Debug)]
pub(super) struct TopicAliases {
    maximum: u16,
    topics: BTreeMap<NonZeroU16, Topic>,
}

impl TopicAliases {
    pub(super) fn new(maximum: u16) -> Self {
        Self { maximum, topics: BTreeMap::new() }
    }

    /// Returns the topic that a PUBLISH means, and notes a new meaning of its alias.
    ///
    /// # Errors
    ///
    /// If the alias is above the maximum, or stands alone and has no meaning yet.
    #[inline]
    pub(super) fn resolve(
        &mut self,
        topic: Option<Topic>,
        alias: Option<NonZeroU16>,
    ) -> Result<Topic, ProtocolError> {
        let Some(alias) = alias else {
            return topic.ok_or(ProtocolError::NoTopic);
        };
        if alias.get() > self.maximum {
            return Err(ProtocolError::TopicAlias { alias: alias.get(), limit: self.maximum });
        }
        match topic {
            Some(topic) => {
                self.topics.insert(alias, topic.clone());
                Ok(topic)
            }
            None => self.topics.get(&alias).cloned().ok_or(ProtocolError::NoTopic),
        }
    }
}

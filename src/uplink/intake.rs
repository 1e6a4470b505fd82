//! What a bridge brings, on its way to the broker; and what the broker has, for those who tell the cloud of it.

use std::{collections::BTreeMap, fmt, sync::Arc};

use tidegate_adapter_api::Refusal;
use tidegate_model::{Message, Topic};

/// Publishes here what came down from another broker.
pub trait Intake: fmt::Debug + Send + Sync {
    /// Publishes a message with all that follows from it. Returns whether it must be on disk before its sender may
    /// forget it: then `durable` is called once it is, from any thread, and must not wait. Otherwise it is not called.
    ///
    /// # Errors
    ///
    /// [`Refusal`]; nothing was kept.
    fn publish(&self, message: Message, durable: Box<dyn FnOnce() + Send>)
    -> Result<bool, Refusal>;

    /// Returns whether somebody can carry out commands for a topic now: it belongs to a point whose adapter is connected,
    /// or somebody is subscribed to its commands.
    fn takes_commands(&self, topic: &Topic) -> bool;

    /// Shows every message on a topic from now on, and the last one if it is known.
    fn watch(&self, topic: &Topic, watcher: Arc<dyn Watcher>);
}

/// Looks at the messages of a topic.
pub trait Watcher: fmt::Debug + Send + Sync {
    /// Takes notice of a message. Must not block.
    fn see(&self, message: &Message);
}

/// What became of messages that a bridge brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bridged {
    /// Those that were published here.
    pub published: u64,
    /// Those that were not, by reason; they were acknowledged all the same, for they would be refused for ever.
    pub refused: BTreeMap<&'static str, u64>,
}

impl Bridged {
    /// Counts one that was not published.
    pub(super) fn refuse(&mut self, reason: &'static str) {
        *self.refused.entry(reason).or_insert(0) += 1;
    }
}

//! The stage as uplinks see it: messages of bridges, and what local topics say.

use std::sync::Arc;

use tidegate_adapter_api::{Reach, Refusal};
use tidegate_broker::{LocalSubscriber, Routed, SubscriptionOptions};
use tidegate_mapping::Address;
use tidegate_model::{Message, Topic, TopicFilter};

use super::Ingest;
use crate::uplink::{Intake, Watcher};

impl Intake for Ingest {
    fn publish(
        &self,
        message: Message,
        durable: Box<dyn FnOnce() + Send>,
    ) -> Result<bool, Refusal> {
        self.publish_bridged(message, durable).map(|published| published.awaited)
    }

    fn takes_commands(&self, topic: &Topic) -> bool {
        if let Some(target) = self.shared.mapping.read().command_target(topic) {
            return match target.entry.address() {
                // A server that is new in the configuration waits for the restart, too.
                Address::OpcUa(address) => {
                    self.shared.reaches.get(&address.server).is_some_and(Reach::is_there)
                }
                _ => true,
            };
        }
        let set = topic.join("set").ok();
        set.is_some_and(|set| self.shared.broker.core().has_subscriber(&set))
    }

    fn watch(&self, topic: &Topic, watcher: Arc<dyn Watcher>) {
        let filter = TopicFilter::new(topic.as_str()).expect("a topic is a filter");
        let mut core = self.shared.broker.core();
        if let Some(last) = core.last(topic) {
            watcher.see(&last.message);
        }
        core.add_own(&filter, SubscriptionOptions::LOCAL, Arc::new(Watching(watcher)));
    }
}

/// Shows somebody the messages of a topic for as long as the process runs.
struct Watching(Arc<dyn Watcher>);

impl LocalSubscriber for Watching {
    fn deliver(&self, routed: &Arc<Routed>) -> bool {
        self.0.see(&routed.message);
        true
    }

    fn is_gone(&self) -> bool {
        false
    }
}

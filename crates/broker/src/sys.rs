//! What the broker tells of itself, on topics below `$SYS`: like retained messages, but never stored and never sent on.

use std::{collections::BTreeMap, sync::Arc};

use tidegate_model::{Message, Topic, TopicFilter};

use crate::{
    core::Broker,
    delivery::Routed,
    retained,
    route::{Source, Target},
};

/// The present values, by topic.
pub(crate) type SysValues = BTreeMap<Topic, Arc<Routed>>;

impl Broker {
    /// Hands messages of the gateway about itself to those who are subscribed, and keeps each for those who come later
    /// until another takes its place.
    ///
    /// They go with quality of service 0, whatever they say; no uplink takes them and nothing of them is stored.
    pub fn publish_sys(&mut self, messages: Vec<Message>) {
        let mut targets: Vec<Target> = std::mem::take(&mut self.scratch);
        for message in messages {
            debug_assert!(message.topic.is_dollar());
            let message = Message { qos: tidegate_model::Qos::AtMostOnce, ..message };
            let routed = Routed::new(message);
            targets.clear();
            self.collect_targets(0, &routed.message, Source::Gateway, &mut targets);
            self.count_unfit();
            for target in &targets {
                if self.takes(&routed, target) {
                    self.push_to(target, &routed, None);
                }
            }
            self.sys.insert(routed.message.topic.clone(), routed);
        }
        self.scratch = targets;
    }

    /// Returns the present values that match, in order of topic, behind `after`.
    pub(crate) fn sys_matching<'b>(
        &'b self,
        filter: &'b TopicFilter,
        after: Option<&Topic>,
    ) -> impl Iterator<Item = &'b Arc<Routed>> {
        // Most filters cannot match: a wildcard in the first level passes `$` topics by.
        let may_match = filter.as_str().starts_with('$');
        let found = may_match.then(|| retained::matching(&self.sys, filter, after));
        found.into_iter().flatten()
    }
}

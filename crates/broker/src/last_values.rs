//! The last message of each topic, for those who ask later: CoAP GET, `GET /v1/topics`.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use tidegate_model::{Topic, TopicFilter};

use crate::{delivery::Routed, retained};

/// How many entries are looked at to find an old one to give up.
const CANDIDATES: usize = 8;

/// A bounded table; when it is full, one of the oldest entries makes room.
#[derive(Debug)]
pub(crate) struct LastValues {
    messages: BTreeMap<Topic, Arc<Routed>>,
    count_max: usize,
    cursor: Option<Topic>,
}

impl LastValues {
    pub(crate) fn new(count_max: usize) -> Self {
        Self { messages: BTreeMap::new(), count_max, cursor: None }
    }

    pub(crate) fn get(&self, topic: &Topic) -> Option<&Arc<Routed>> {
        self.messages.get(topic)
    }

    pub(crate) fn set(&mut self, routed: &Arc<Routed>) {
        if let Some(slot) = self.messages.get_mut(&routed.message.topic) {
            *slot = Arc::clone(routed);
            return;
        }
        if self.messages.len() >= self.count_max {
            self.give_one_up();
        }
        self.messages.insert(routed.message.topic.clone(), Arc::clone(routed));
    }

    pub(crate) fn matching<'r>(
        &'r self,
        filter: &'r TopicFilter,
        after: Option<&Topic>,
    ) -> impl Iterator<Item = &'r Arc<Routed>> {
        retained::matching(&self.messages, filter, after)
    }

    /// Removes the oldest of the next few entries behind the cursor, which goes round the table.
    fn give_one_up(&mut self) {
        let start = self.cursor.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let candidates: Vec<&Topic> = self
            .messages
            .range::<Topic, _>((start, Bound::Unbounded))
            .take(CANDIDATES)
            .map(|(topic, _)| topic)
            .collect();
        let next = (candidates.len() == CANDIDATES).then(|| candidates[CANDIDATES - 1].clone());
        let oldest = candidates
            .iter()
            .min_by_key(|topic| self.messages[**topic].message.arrival)
            .map(|topic| (*topic).clone())
            .or_else(|| self.messages.keys().next().cloned());
        self.cursor = next;
        if let Some(oldest) = oldest {
            self.messages.remove(&oldest);
        }
    }
}

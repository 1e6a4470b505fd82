//! The last message of each topic, for those who ask later: CoAP GET, `GET /v1/topics`.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use tidegate_model::{Topic, TopicFilter};

use crate::{delivery::Routed, retained};

/// How many entries are looked at to find an old one to give up.
const CANDIDATES: usize = 8;

/// A table bounded by count and bytes; when it is full, some of the oldest entries make room.
#[derive(Debug)]
pub(crate) struct LastValues {
    /// Each with its size when it came.
    messages: BTreeMap<Topic, (Arc<Routed>, usize)>,
    count_max: usize,
    bytes: usize,
    bytes_max: usize,
    cursor: Option<Topic>,
}

impl LastValues {
    pub(crate) fn new(count_max: usize, bytes_max: usize) -> Self {
        Self { messages: BTreeMap::new(), count_max, bytes: 0, bytes_max, cursor: None }
    }

    pub(crate) fn get(&self, topic: &Topic) -> Option<&Arc<Routed>> {
        self.messages.get(topic).map(|(routed, _)| routed)
    }

    pub(crate) fn set(&mut self, routed: &Arc<Routed>) {
        let size = retained::size(&routed.message);
        let is_known = match self.messages.get_mut(&routed.message.topic) {
            Some(slot) => {
                self.bytes -= slot.1;
                *slot = (Arc::clone(routed), size);
                true
            }
            None => false,
        };
        self.bytes += size;
        let added = usize::from(!is_known);
        while !self.messages.is_empty()
            && (self.messages.len() + added > self.count_max || self.bytes > self.bytes_max)
        {
            self.give_one_up();
        }
        if !is_known {
            self.messages.insert(routed.message.topic.clone(), (Arc::clone(routed), size));
        }
    }

    pub(crate) fn matching<'r>(
        &'r self,
        filter: &'r TopicFilter,
        after: Option<&Topic>,
    ) -> impl Iterator<Item = &'r Arc<Routed>> {
        retained::matching(&self.messages, filter, after).map(|(routed, _)| routed)
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
            .min_by_key(|topic| self.messages[**topic].0.message.arrival)
            .map(|topic| (*topic).clone())
            .or_else(|| self.messages.keys().next().cloned());
        self.cursor = next;
        if let Some((_, size)) = oldest.and_then(|oldest| self.messages.remove(&oldest)) {
            self.bytes -= size;
        }
    }
}

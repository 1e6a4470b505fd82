//! The last retained message of each topic.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Bound,
    sync::Arc,
};

use tidegate_model::{Message, Principal, Timestamp, Topic, TopicFilter};

use crate::delivery::{Routed, size_estimate};

/// What retained messages may take up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RetainedLimits {
    pub(crate) count: usize,
    pub(crate) count_per_principal: usize,
    pub(crate) bytes: usize,
}

/// Retained messages in order of topic, bounded by count, count of each principal, and bytes.
#[derive(Debug)]
pub(crate) struct Retained {
    /// Each with the number of the message after which it was there.
    messages: BTreeMap<Topic, (Arc<Routed>, u64)>,
    by_principal: HashMap<Principal, usize>,
    /// Those that expire, the first first.
    expiring: BTreeSet<(Timestamp, Topic)>,
    bytes: usize,
    limits: RetainedLimits,
}

impl Retained {
    pub(crate) fn new(limits: RetainedLimits) -> Self {
        Self {
            messages: BTreeMap::new(),
            by_principal: HashMap::new(),
            expiring: BTreeSet::new(),
            bytes: 0,
            limits,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn get(&self, topic: &Topic) -> Option<&Arc<Routed>> {
        self.messages.get(topic).map(|(routed, _)| routed)
    }

    /// Returns whether `message` may take its slot; emptying one is always possible.
    pub(crate) fn has_room_for(&self, message: &Message) -> bool {
        if message.payload.is_empty() {
            return true;
        }
        let old = self.messages.get(&message.topic).map(|(old, _)| &old.message);
        let is_own = old.is_some_and(|old| old.publisher == message.publisher);
        let own = self.by_principal.get(&message.publisher).copied().unwrap_or(0);
        self.messages.len() + usize::from(old.is_none()) <= self.limits.count
            && own + usize::from(!is_own) <= self.limits.count_per_principal
            && self.bytes.saturating_sub(old.map_or(0, size)) + size(message) <= self.limits.bytes
    }

    /// Puts a message into its slot; one without payload empties it. It is there since message `number` was routed.
    pub(crate) fn set(&mut self, routed: Arc<Routed>, number: u64) {
        self.remove(&routed.message.topic.clone());
        if !routed.message.payload.is_empty() {
            self.bytes += size(&routed.message);
            *self.by_principal.entry(routed.message.publisher.clone()).or_insert(0) += 1;
            if let Some(expires) = expires(&routed.message) {
                self.expiring.insert((expires, routed.message.topic.clone()));
            }
            self.messages.insert(routed.message.topic.clone(), (routed, number));
        }
    }

    /// Lets a slot be as new as message `number`; returns what is in it, and how new it was.
    pub(crate) fn touch(&mut self, topic: &Topic, number: u64) -> Option<(Arc<Routed>, u64)> {
        let (routed, old) = self.messages.get_mut(topic)?;
        Some((Arc::clone(routed), std::mem::replace(old, number)))
    }

    /// Empties a slot.
    pub(crate) fn remove(&mut self, topic: &Topic) {
        if let Some((old, _)) = self.messages.remove(topic) {
            // A typed reading grows when its JSON is made, so the sum is kept from below.
            self.bytes = self.bytes.saturating_sub(size(&old.message));
            if let Some(expires) = expires(&old.message) {
                self.expiring.remove(&(expires, topic.clone()));
            }
            if let Some(count) = self.by_principal.get_mut(&old.message.publisher) {
                *count -= 1;
                if *count == 0 {
                    self.by_principal.remove(&old.message.publisher);
                }
            }
        }
    }

    /// Takes out one message that has expired.
    pub(crate) fn take_expired(&mut self, now: Timestamp) -> Option<Topic> {
        let (expires, topic) = self.expiring.first()?;
        if *expires > now {
            return None;
        }
        let topic = topic.clone();
        self.remove(&topic);
        Some(topic)
    }

    /// Returns the messages that match, in order of topic; `after` starts behind a topic.
    ///
    /// Walks only the part of the table that shares the filter's literal beginning.
    pub(crate) fn matching<'r>(
        &'r self,
        filter: &'r TopicFilter,
        after: Option<&Topic>,
    ) -> impl Iterator<Item = &'r Arc<Routed>> {
        matching(&self.messages, filter, after).map(|(routed, _)| routed)
    }

    /// Returns the messages among which those are that match, each with its number: whoever counts what is looked at
    /// sees all of it.
    pub(crate) fn candidates<'r>(
        &'r self,
        filter: &'r TopicFilter,
        after: Option<&Topic>,
    ) -> impl Iterator<Item = (&'r Arc<Routed>, u64)> {
        candidates(&self.messages, filter, after).map(|(_, (routed, number))| (routed, *number))
    }
}

fn expires(message: &Message) -> Option<Timestamp> {
    message.properties.as_deref().and_then(|properties| properties.expires)
}

/// Returns the entries of a table by topic that match a filter, in order, behind `after`.
pub(crate) fn matching<'r, V>(
    table: &'r BTreeMap<Topic, V>,
    filter: &'r TopicFilter,
    after: Option<&Topic>,
) -> impl Iterator<Item = &'r V> {
    candidates(table, filter, after)
        .filter(move |(topic, _)| filter.matches(topic))
        .map(|(_, value)| value)
}

/// Returns the entries that share the literal beginning of a filter, in order, behind `after`.
fn candidates<'r, V>(
    table: &'r BTreeMap<Topic, V>,
    filter: &'r TopicFilter,
    after: Option<&Topic>,
) -> impl Iterator<Item = (&'r Topic, &'r V)> {
    let text = filter.as_str();
    let literal = &text[..text.find(['+', '#']).unwrap_or(text.len())];
    // `a/#` matches `a` too, which stands before `a/`.
    let prefix = literal.strip_suffix('/').unwrap_or(literal);
    let start = match after {
        Some(after) if after.as_str() >= prefix => Bound::Excluded(after.as_str()),
        _ => Bound::Included(prefix),
    };
    table
        .range::<str, _>((start, Bound::Unbounded))
        .take_while(move |(topic, _)| topic.as_str().starts_with(prefix))
}

/// Returns about how much memory an entry of a table by topic takes, in bytes.
pub(crate) fn size(message: &Message) -> usize {
    128 + message.topic.as_str().len() + size_estimate(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_walked_from_the_literal_beginning() {
        let table: BTreeMap<Topic, u32> = ["a", "a/b", "a/b/c", "ab", "b", "$SYS/x"]
            .iter()
            .zip(0..)
            .map(|(text, n)| (Topic::new(text).unwrap(), n))
            .collect();
        #[rustfmt::skip]
        let cases: [(&str, Option<&str>, &[u32]); 7] = [
            ("a/#",     None,           &[0, 1, 2]),
            ("a/b",     None,           &[1]),
            ("a/+/c",   None,           &[2]),
            ("#",       None,           &[0, 1, 2, 3, 4]),
            ("#",       Some("a/b"),    &[2, 3, 4]),
            ("$SYS/#",  None,           &[5]),
            ("a/#",     Some("$x"),     &[0, 1, 2]),
        ];
        for (filter, after, expected) in cases {
            let filter = TopicFilter::new(filter).unwrap();
            let after = after.map(|text| Topic::new(text).unwrap());
            let found: Vec<u32> = matching(&table, &filter, after.as_ref()).copied().collect();
            assert_eq!(found, expected, "{filter}");
        }
    }
}

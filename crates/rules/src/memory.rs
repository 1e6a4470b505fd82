//! What rules remember of each topic.

use std::{collections::HashMap, sync::Arc};

use tidegate_model::{Reading, Status, Timestamp, Topic, Unit, Value};

/// How much rules may remember. What is beyond is forgotten, topics that were silent longest first; the
/// next reading of a forgotten topic passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryLimits {
    /// The most topics.
    pub topics: usize,
    /// The most bytes of topics and values together, roughly.
    pub bytes: usize,
}

impl Default for MemoryLimits {
    fn default() -> Self {
        Self { topics: 100_000, bytes: 16 << 20 }
    }
}

/// The last reading of a topic that went out.
#[derive(Clone, Debug)]
pub(crate) struct Last {
    pub(crate) value: Value,
    pub(crate) unit: Option<Unit>,
    pub(crate) status: Status,
    pub(crate) time: Timestamp,
}

impl From<&Reading> for Last {
    fn from(reading: &Reading) -> Self {
        Self {
            value: reading.value.clone(),
            unit: reading.unit.clone(),
            status: reading.status,
            time: reading.time(),
        }
    }
}

/// One topic: the rules that concern it, and what last went out.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) rules: Arc<[usize]>,
    pub(crate) last: Option<Last>,
}

impl Entry {
    fn bytes(&self, topic: &Topic) -> usize {
        let value = self.last.as_ref().map_or(0, |last| value_bytes(&last.value));
        topic.as_str().len() + size_of::<Self>() + value
    }
}

/// Two generations of topics: the older one is forgotten whole when the younger one is half of all
/// that may be kept. Every step is independent of hash order.
#[derive(Debug)]
pub(crate) struct Memory {
    limits: MemoryLimits,
    young: HashMap<Topic, Entry>,
    young_bytes: usize,
    old: HashMap<Topic, Entry>,
}

impl Memory {
    pub(crate) fn new(limits: MemoryLimits) -> Self {
        Self { limits, young: HashMap::new(), young_bytes: 0, old: HashMap::new() }
    }

    /// Returns the entry of `topic`, made by `make` if there is none.
    pub(crate) fn entry(&mut self, topic: &Topic, make: impl FnOnce() -> Entry) -> &Entry {
        if !self.young.contains_key(topic) {
            let entry = self.old.remove(topic).unwrap_or_else(make);
            self.make_room();
            self.young_bytes += entry.bytes(topic);
            self.young.insert(topic.clone(), entry);
        }
        &self.young[topic]
    }

    /// Replaces what is remembered of `topic`, which has an entry.
    pub(crate) fn remember(&mut self, topic: &Topic, last: Last) {
        let Some(entry) = self.young.get_mut(topic) else { return };
        self.young_bytes = self.young_bytes.saturating_sub(entry.bytes(topic));
        entry.last = Some(last);
        self.young_bytes += entry.bytes(topic);
    }

    fn make_room(&mut self) {
        let full = self.young.len() >= (self.limits.topics / 2).max(1)
            || self.young_bytes >= self.limits.bytes / 2;
        if full {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

/// Returns about how many bytes a value holds outside itself.
fn value_bytes(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        Value::Array(items) => {
            items.iter().map(|item| size_of::<Value>() + value_bytes(item)).sum()
        }
        Value::Document(document) => document
            .iter()
            .map(|(name, member)| name.len() + 2 * size_of::<Value>() + value_bytes(member))
            .sum(),
        _ => 0,
    }
}

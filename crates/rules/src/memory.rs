//! What rules remember of each topic, within bounds.

use std::{collections::HashMap, sync::Arc};

use tidegate_model::{Reading, Status, Timestamp, Topic, Unit, Value};

use crate::{
    Action, Rule, anomaly::AnomalyState, plan::Plan, swinging_door::DoorState, window::WindowState,
};

/// How much rules may remember. What is beyond is forgotten, topics that were silent longest first: what
/// waits of a forgotten topic is sent, and its next reading is its first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryLimits {
    /// The most topics.
    pub topics: usize,
    /// The most bytes of topics, values and states together, roughly.
    pub bytes: usize,
}

impl Default for MemoryLimits {
    fn default() -> Self {
        Self { topics: 100_000, bytes: 16 << 20 }
    }
}

/// How many topics are forgotten with one reading: more than one can bring, so that there is an end.
const FORGOTTEN_AT_A_TIME: usize = 2;

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

/// What one rule keeps of a topic.
#[derive(Clone, Debug)]
pub(crate) enum State {
    Window(WindowState),
    Door(DoorState),
    Anomaly(AnomalyState),
}

impl State {
    /// Makes an empty state for a rule; `None` if it needs none.
    pub(crate) fn new(rule: &Rule) -> Option<Self> {
        match rule.action {
            Action::Window(_) => Some(Self::Window(WindowState::new())),
            Action::SwingingDoor(_) => Some(Self::Door(DoorState::new())),
            Action::Anomaly(_) => Some(Self::Anomaly(AnomalyState::new())),
            Action::Exclude | Action::Thin(_) | Action::Convert(_) => None,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Window(state) => state.bytes(),
            Self::Door(_) => 0,
            Self::Anomaly(state) => state.bytes(),
        }
    }
}

/// One topic: the rules that concern it, and what they remember.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) topic: Topic,
    pub(crate) plan: Arc<Plan>,
    /// By the places of the plan.
    pub(crate) lasts: Vec<Option<Last>>,
    pub(crate) states: Vec<State>,
    /// Under which number it is kept.
    pub(crate) slot: u64,
    /// In which generation it was last touched.
    pub(crate) generation: u64,
    /// Whether it differs from what is kept.
    is_dirty: bool,
    /// What was last counted.
    bytes: usize,
}

impl Entry {
    /// Makes an entry without any memory.
    pub(crate) fn new(topic: Topic, plan: Arc<Plan>, rules: &[Rule]) -> Self {
        Self {
            lasts: vec![None; plan.lasts],
            states: plan.states.iter().filter_map(|rule| State::new(&rules[*rule])).collect(),
            topic,
            plan,
            slot: 0,
            generation: 0,
            is_dirty: false,
            bytes: 0,
        }
    }

    fn count_bytes(&self) -> usize {
        let lasts: usize = self.lasts.iter().flatten().map(|last| value_bytes(&last.value)).sum();
        let states: usize = self.states.iter().map(State::bytes).sum();
        let fixed = size_of::<Self>()
            + self.lasts.len() * size_of::<Last>()
            + self.states.len() * size_of::<State>();
        self.topic.as_str().len() + fixed + lasts + states
    }
}

/// Where a topic stands.
#[derive(Clone, Debug)]
pub(crate) enum Found {
    /// An entry with memory.
    Entry(usize),
    /// Nothing has to be remembered of the topic.
    Plain(Arc<Plan>),
}

/// Generations of topics. When the youngest is a third of all that may be kept, a new one begins; topics
/// that were not touched in the last two are forgotten, a few with each reading, so that never much is
/// sent at once. Every step is independent of hash order, and the same after a restart.
#[derive(Debug)]
pub(crate) struct Memory {
    limits: MemoryLimits,
    ids: HashMap<Topic, usize>,
    entries: Vec<Option<Entry>>,
    free: Vec<usize>,
    pub(crate) generation: u64,
    young: usize,
    young_bytes: usize,
    next_slot: u64,
    /// Topics of older generations, to be forgotten from the end, with their ids.
    doomed: Vec<(Topic, usize)>,
    dirty: Vec<usize>,
    dirty_bytes: usize,
    /// Numbers that are kept and no longer used.
    gone: Vec<u64>,
    /// Plans of topics of which nothing has to be remembered.
    plain: HashMap<Topic, Arc<Plan>>,
}

impl Memory {
    pub(crate) fn new(limits: MemoryLimits) -> Self {
        Self {
            limits,
            ids: HashMap::new(),
            entries: Vec::new(),
            free: Vec::new(),
            generation: 0,
            young: 0,
            young_bytes: 0,
            next_slot: 0,
            doomed: Vec::new(),
            dirty: Vec::new(),
            dirty_bytes: 0,
            gone: Vec::new(),
            plain: HashMap::new(),
        }
    }

    /// Finds `topic`, as touched now. Entries that have to make room go to `forgotten`.
    #[inline]
    pub(crate) fn touch(
        &mut self,
        topic: &Topic,
        rules: &[Rule],
        forgotten: &mut Vec<Entry>,
    ) -> Found {
        if !self.doomed.is_empty() {
            self.forget(forgotten);
        }
        if let Some(&id) = self.ids.get(topic) {
            if self.at(id).generation != self.generation {
                self.renew(id);
            }
            return Found::Entry(id);
        }
        if let Some(plan) = self.plain.get(topic) {
            return Found::Plain(Arc::clone(plan));
        }
        self.meet(topic, rules)
    }

    /// Takes up a topic that is not known.
    fn meet(&mut self, topic: &Topic, rules: &[Rule]) -> Found {
        let plan = Arc::new(Plan::new(rules, topic));
        if !plan.remembers() {
            if self.plain.len() >= self.limits.topics {
                self.plain.clear();
            }
            self.plain.insert(topic.clone(), Arc::clone(&plan));
            return Found::Plain(plan);
        }
        self.begin_generation_if_full();
        let mut entry = Entry::new(topic.clone(), plan, rules);
        entry.slot = self.next_slot;
        entry.generation = self.generation;
        let id = self.insert(entry);
        self.note_change(id);
        Found::Entry(id)
    }

    /// Puts in an entry that was kept.
    pub(crate) fn insert(&mut self, mut entry: Entry) -> usize {
        self.next_slot = self.next_slot.max(entry.slot + 1);
        entry.bytes = entry.count_bytes();
        if entry.generation == self.generation {
            self.young += 1;
            self.young_bytes += entry.bytes;
        }
        let id = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            self.entries.len() - 1
        });
        self.ids.insert(entry.topic.clone(), id);
        self.entries[id] = Some(entry);
        id
    }

    /// Returns an entry that is known to exist.
    #[inline]
    pub(crate) fn at(&mut self, id: usize) -> &mut Entry {
        self.entries[id].as_mut().expect("an id that was given and not forgotten since")
    }

    /// Notes that an entry has changed.
    #[inline]
    pub(crate) fn note_change(&mut self, id: usize) {
        let entry =
            self.entries[id].as_mut().expect("an id that was given and not forgotten since");
        if !std::mem::replace(&mut entry.is_dirty, true) {
            self.dirty.push(id);
            self.dirty_bytes += entry.bytes;
        }
        let bytes = entry.count_bytes();
        if entry.generation == self.generation {
            self.young_bytes = (self.young_bytes + bytes).saturating_sub(entry.bytes);
        }
        entry.bytes = bytes;
    }

    /// Returns the ids and entries of all topics, in an order that is always the same.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &Entry)> {
        self.entries.iter().enumerate().filter_map(|(id, entry)| Some((id, entry.as_ref()?)))
    }

    /// Returns how many entries differ from what is kept, those that are gone included.
    pub(crate) fn changes(&self) -> usize {
        self.dirty.len() + self.gone.len()
    }

    /// Returns about how many bytes those entries are.
    pub(crate) fn dirty_bytes(&self) -> usize {
        self.dirty_bytes
    }

    /// Takes the entries that differ from what is kept; from here on they do not.
    pub(crate) fn take_dirty(&mut self) -> Vec<&Entry> {
        let mut ids = std::mem::take(&mut self.dirty);
        self.dirty_bytes = 0;
        ids.sort_unstable();
        ids.dedup();
        for id in &ids {
            if let Some(entry) = &mut self.entries[*id] {
                entry.is_dirty = false;
            }
        }
        ids.into_iter().filter_map(|id| self.entries[id].as_ref()).collect()
    }

    /// Takes the numbers that are kept and no longer used.
    pub(crate) fn take_gone(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.gone)
    }

    /// Notes a number that is kept and not used.
    pub(crate) fn note_gone(&mut self, slot: u64) {
        self.next_slot = self.next_slot.max(slot + 1);
        self.gone.push(slot);
    }

    /// Dooms what has been silent for too long, after entries were put in.
    pub(crate) fn doom(&mut self) {
        let oldest = self.generation.saturating_sub(1);
        let entries = self.entries.iter().enumerate();
        let old = entries.filter_map(|(id, entry)| Some((id, entry.as_ref()?)));
        self.doomed = old
            .filter(|(_, entry)| entry.generation < oldest)
            .map(|(id, entry)| (entry.topic.clone(), id))
            .collect();
        self.doomed.sort_unstable_by(|one, other| other.cmp(one));
    }

    /// Takes an entry into the youngest generation.
    fn renew(&mut self, id: usize) {
        self.begin_generation_if_full();
        let generation = self.generation;
        let entry = self.at(id);
        entry.generation = generation;
        let bytes = entry.bytes;
        self.young += 1;
        self.young_bytes += bytes;
        self.note_change(id);
    }

    fn begin_generation_if_full(&mut self) {
        let is_full = self.young >= (self.limits.topics / 3).max(1)
            || self.young_bytes >= self.limits.bytes / 3;
        if is_full {
            self.generation += 1;
            self.young = 0;
            self.young_bytes = 0;
            self.doom();
        }
    }

    /// Forgets a few of those that are doomed and were not touched since.
    fn forget(&mut self, forgotten: &mut Vec<Entry>) {
        let oldest = self.generation.saturating_sub(1);
        let before = forgotten.len();
        while forgotten.len() < before + FORGOTTEN_AT_A_TIME {
            let Some((topic, id)) = self.doomed.pop() else { return };
            let still = |entry: &Entry| entry.generation < oldest && entry.topic == topic;
            if let Some(place) = self.entries.get_mut(id)
                && place.as_ref().is_some_and(still)
                && let Some(entry) = place.take()
            {
                self.ids.remove(&entry.topic);
                self.gone.push(entry.slot);
                self.free.push(id);
                forgotten.push(entry);
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.ids.len()
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

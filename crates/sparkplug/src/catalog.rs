//! The metrics of a node: under which name, number and type they are announced, and what they last were.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use thiserror::Error;
use tidegate_model::{Quality, Status, Value};

use crate::{
    DataType, MetricValue,
    naming::{self, DeviceRule, Place},
    payload::{Metric, Property, PropertySet, PropertyValue},
    topic::Id,
};

/// How many metrics a node may have.
pub const METRICS_MAX: usize = 10_000;
/// How many metrics are kept in one entry of the journal.
pub const BLOCK_METRICS: usize = 64;
/// Larger values are not kept over a restart: births say then that there is none.
const KEPT_BYTES_MAX: usize = 1_024;
/// So many bytes of larger values are remembered while the process runs; births say of others that there is none.
const LARGE_BYTES_MAX: usize = 1 << 20;
/// Who has said nothing for so long gives its place to another who wants it.
pub(crate) const SILENT_ENOUGH_MS: u64 = 3_600_000;
/// The name under which a kept metric has the time at which it was last heard.
const HEARD: &str = "heard";
/// After so many changes of its type a metric is text for good.
const RETYPES_MAX: u8 = 3;

/// The name of the property that says how good a value is, and its words.
const QUALITY: &str = "Quality";
const QUALITY_BAD: u32 = 0;
const QUALITY_GOOD: u32 = 192;
const QUALITY_STALE: u32 = 500;

/// The number of the node itself among its devices.
pub(crate) const NODE: usize = 0;

/// What a metric was.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Last {
    pub(crate) time_ms: u64,
    /// Nothing for null, and for what there was no room to remember.
    pub(crate) value: Option<MetricValue>,
    pub(crate) quality: u32,
}

impl Last {
    /// Returns how many bytes of it are not kept over a restart.
    fn large_bytes(&self) -> usize {
        self.value.as_ref().map(MetricValue::bytes).filter(|&it| it > KEPT_BYTES_MAX).unwrap_or(0)
    }

    pub(crate) fn new(time_ms: u64, value: Option<MetricValue>, status: Status) -> Self {
        let quality = match status.quality() {
            // Uncertain is not for hosts that know three words; the value is there, and it is not good.
            Quality::Bad | Quality::Uncertain => QUALITY_BAD,
            Quality::Good => QUALITY_GOOD,
        };
        Self { time_ms, value, quality }
    }

    /// Returns a metric without name that says this.
    pub(crate) fn metric(&self) -> Metric {
        let bad = (self.quality != QUALITY_GOOD).then(|| quality(self.quality));
        Metric {
            timestamp: Some(self.time_ms),
            is_null: self.value.is_none().then_some(true),
            properties: bad,
            value: self.value.clone(),
            ..Metric::default()
        }
    }
}

fn quality(word: u32) -> PropertySet {
    let property = Property {
        datatype: Some(DataType::Int32.code()),
        is_null: None,
        value: Some(PropertyValue::Int(word)),
    };
    PropertySet { entries: vec![(QUALITY.into(), property)] }
}

/// One metric.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) topic: Arc<str>,
    /// The number of its device.
    pub(crate) device: usize,
    pub(crate) name: Arc<str>,
    /// What stands for its name: never that of another metric, not even of one that is forgotten.
    pub(crate) alias: u64,
    pub(crate) datatype: DataType,
    pub(crate) last: Option<Last>,
    /// Whether its value is of before the process started.
    is_stale: bool,
    /// Whether anything has come since the process started.
    is_heard: bool,
    /// When something last came, in milliseconds since 1970; 0 if that is not known.
    heard_ms: u64,
    retypes: u8,
}

impl Entry {
    /// Returns a value as the metric is announced; `None` if that must change first.
    pub(crate) fn fit(&self, value: &Value) -> Option<MetricValue> {
        if self.retypes >= RETYPES_MAX {
            return Some(DataType::text(value));
        }
        self.datatype.fit(value)
    }

    /// Returns what a birth says of it, without alias.
    fn birth(&self, now_ms: u64) -> Metric {
        let mut metric = match &self.last {
            Some(last) => last.metric(),
            None => Metric { timestamp: Some(now_ms), is_null: Some(true), ..Metric::default() },
        };
        if self.is_stale {
            metric.properties = Some(quality(QUALITY_STALE));
        }
        metric.name = Some(self.name.clone());
        metric.datatype = Some(self.datatype.code());
        metric
    }

    /// Returns how long nothing has come.
    fn silence_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.heard_ms)
    }

    /// Returns whether another topic may have its place.
    fn yields(&self, now_ms: u64) -> bool {
        !self.is_heard || self.silence_ms(now_ms) >= SILENT_ENOUGH_MS
    }

    /// Returns what is kept of it, under its topic.
    fn kept(&self) -> Metric {
        let mut metric = self.birth(0);
        let is_large = metric.value.as_ref().is_some_and(|it| it.bytes() > KEPT_BYTES_MAX);
        if is_large {
            metric.value = None;
            metric.is_null = Some(true);
        }
        let value = Some(PropertyValue::Long(self.heard_ms));
        let datatype = Some(DataType::DateTime.code());
        let heard = Property { datatype, is_null: None, value };
        metric.name = Some(self.topic.clone());
        metric.alias = Some(self.alias);
        metric.properties = Some(PropertySet { entries: vec![(HEARD.into(), heard)] });
        metric
    }

    fn large_bytes(&self) -> usize {
        self.last.as_ref().map_or(0, Last::large_bytes)
    }
}

/// The node, or one of its devices.
#[derive(Clone, Debug)]
pub(crate) struct Device {
    /// None for the node.
    pub(crate) id: Option<Arc<str>>,
    pub(crate) metrics: BTreeSet<usize>,
}

/// Why a reading can never be sent.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum NoPlace {
    #[error(
        "the edge node has {METRICS_MAX} metrics, none of them silent for an hour, and takes no more"
    )]
    Full,
    #[error("the metric `{0}` is the edge node's own")]
    Reserved(Arc<str>),
    #[error("`{device}` cannot be a device: {reason}")]
    Device { device: Arc<str>, reason: crate::IdError },
    #[error(
        "the metric `{metric}` of the same device is already made of `{other}`, which is heard"
    )]
    Taken { metric: Arc<str>, other: Arc<str> },
}

/// All metrics, by numbers that are given again when one is forgotten.
#[derive(Clone, Debug)]
pub(crate) struct Catalog {
    entries: BTreeMap<usize, Entry>,
    devices: BTreeMap<usize, Device>,
    by_topic: BTreeMap<Arc<str>, usize>,
    by_place: BTreeMap<Place, usize>,
    by_device: BTreeMap<Arc<str>, usize>,
    by_alias: BTreeMap<u64, usize>,
    /// Numbers below the highest that nobody has.
    vacant: BTreeSet<usize>,
    vacant_devices: BTreeSet<usize>,
    next_alias: u64,
    /// Bytes of remembered values that are not kept.
    large_bytes: usize,
    /// Blocks with a metric that is new, of another type or gone.
    changed: BTreeSet<usize>,
    /// Blocks with a newer value.
    aged: BTreeSet<usize>,
}

impl Catalog {
    pub(crate) fn new() -> Self {
        Self {
            entries: BTreeMap::new(),
            devices: BTreeMap::from([(NODE, Device { id: None, metrics: BTreeSet::new() })]),
            by_topic: BTreeMap::new(),
            by_place: BTreeMap::new(),
            by_device: BTreeMap::new(),
            by_alias: BTreeMap::new(),
            vacant: BTreeSet::new(),
            vacant_devices: BTreeSet::new(),
            next_alias: 1,
            large_bytes: 0,
            changed: BTreeSet::new(),
            aged: BTreeSet::new(),
        }
    }

    /// Returns the numbers of the devices, without the node.
    pub(crate) fn devices(&self) -> Vec<usize> {
        self.devices.keys().copied().filter(|device| *device != NODE).collect()
    }

    pub(crate) fn device(&self, device: usize) -> &Device {
        &self.devices[&device]
    }

    pub(crate) fn entry(&self, index: usize) -> &Entry {
        &self.entries[&index]
    }

    pub(crate) fn is_full(&self) -> bool {
        self.entries.len() >= METRICS_MAX
    }

    pub(crate) fn find(&self, topic: &str) -> Option<usize> {
        self.by_topic.get(topic).copied()
    }

    /// Returns the device that a topic would belong to, if that is known yet.
    pub(crate) fn device_of(&self, place: &Place) -> Option<usize> {
        place.device.as_ref().map_or(Some(NODE), |id| self.by_device.get(id).copied())
    }

    /// Returns the metric with this name.
    pub(crate) fn named(&self, device: Option<&str>, name: &str) -> Option<usize> {
        let place = Place { device: device.map(Arc::from), metric: name.into() };
        self.by_place.get(&place).copied()
    }

    /// Returns the metric with this alias, if it is one of this device.
    pub(crate) fn aliased(&self, device: Option<&str>, alias: u64) -> Option<usize> {
        let index = *self.by_alias.get(&alias)?;
        let of = self.device(self.entry(index).device);
        (of.id.as_deref() == device).then_some(index)
    }

    /// Checks whether a topic could become a metric, which it is not yet, and returns the one whose place it may have.
    pub(crate) fn check(&self, place: &Place, now_ms: u64) -> Result<Option<usize>, NoPlace> {
        if naming::is_reserved(place) {
            return Err(NoPlace::Reserved(place.metric.clone()));
        }
        if let Some(device) = &place.device
            && let Err(reason) = Id::new(device)
        {
            return Err(NoPlace::Device { device: device.clone(), reason });
        }
        let Some(&index) = self.by_place.get(place) else { return Ok(None) };
        let entry = self.entry(index);
        if entry.yields(now_ms) {
            return Ok(Some(index));
        }
        Err(NoPlace::Taken { metric: place.metric.clone(), other: entry.topic.clone() })
    }

    /// Adds a metric whose place was [checked](Self::check) and found free, and returns its number.
    pub(crate) fn add(&mut self, topic: Arc<str>, place: Place, datatype: DataType) -> usize {
        let end = self.entries.len() + self.vacant.len();
        let index = self.vacant.pop_first().unwrap_or(end);
        self.insert(index, self.next_alias, topic, place, datatype);
        self.changed.insert(index / BLOCK_METRICS);
        index
    }

    fn insert(
        &mut self,
        index: usize,
        alias: u64,
        topic: Arc<str>,
        place: Place,
        datatype: DataType,
    ) {
        let device = self.device_for(place.device.as_ref());
        if let Some(device) = self.devices.get_mut(&device) {
            device.metrics.insert(index);
        }
        self.next_alias = self.next_alias.max(alias + 1);
        self.by_alias.insert(alias, index);
        self.by_topic.insert(topic.clone(), index);
        let entry = Entry {
            topic,
            device,
            name: place.metric.clone(),
            alias,
            datatype,
            last: None,
            is_stale: false,
            is_heard: false,
            heard_ms: 0,
            retypes: 0,
        };
        self.by_place.insert(place, index);
        self.entries.insert(index, entry);
    }

    fn device_for(&mut self, id: Option<&Arc<str>>) -> usize {
        let Some(id) = id else { return NODE };
        if let Some(&device) = self.by_device.get(id) {
            return device;
        }
        let end = self.devices.len() + self.vacant_devices.len();
        let device = self.vacant_devices.pop_first().unwrap_or(end);
        self.devices.insert(device, Device { id: Some(id.clone()), metrics: BTreeSet::new() });
        self.by_device.insert(id.clone(), device);
        device
    }

    /// Gives the place of a metric to another topic.
    pub(crate) fn hand_over(&mut self, index: usize, topic: Arc<str>) {
        let Some(entry) = self.entries.get_mut(&index) else { return };
        let before = std::mem::replace(&mut entry.topic, topic.clone());
        self.by_topic.remove(&before);
        self.by_topic.insert(topic, index);
        self.changed.insert(index / BLOCK_METRICS);
    }

    /// Forgets a metric, and returns its device.
    pub(crate) fn remove(&mut self, index: usize) -> Option<usize> {
        let entry = self.entries.remove(&index)?;
        let device = self.devices.get_mut(&entry.device)?;
        device.metrics.remove(&index);
        let place = Place { device: device.id.clone(), metric: entry.name.clone() };
        self.by_place.remove(&place);
        self.by_topic.remove(&entry.topic);
        self.by_alias.remove(&entry.alias);
        self.large_bytes -= entry.large_bytes();
        self.vacant.insert(index);
        self.changed.insert(index / BLOCK_METRICS);
        Some(entry.device)
    }

    /// Forgets a device that has no metrics, and returns its id.
    pub(crate) fn remove_device(&mut self, device: usize) -> Option<Arc<str>> {
        let id = self.devices.remove(&device)?.id?;
        self.by_device.remove(&id);
        self.vacant_devices.insert(device);
        Some(id)
    }

    /// Returns metrics of which nothing has come for so long, the longest silent first; `is_needed` says of a topic
    /// whether something is about to.
    pub(crate) fn silent(
        &mut self,
        silence_ms: u64,
        now_ms: u64,
        is_needed: impl Fn(&Arc<str>) -> bool,
    ) -> Vec<usize> {
        let mut silent = Vec::new();
        for (index, entry) in &mut self.entries {
            if entry.heard_ms == 0 || entry.heard_ms > now_ms {
                // Nobody knows, or the clock was wrong then: it counts from now.
                entry.heard_ms = now_ms;
                self.aged.insert(index / BLOCK_METRICS);
            } else if entry.silence_ms(now_ms) >= silence_ms && !is_needed(&entry.topic) {
                silent.push((entry.heard_ms, *index));
            }
        }
        silent.sort_unstable();
        silent.into_iter().map(|(_, index)| index).collect()
    }

    /// Gives a metric the type that `value` has, or text if its type has changed too often.
    pub(crate) fn retype(&mut self, index: usize, value: &Value) {
        let Some(entry) = self.entries.get_mut(&index) else { return };
        entry.retypes += 1;
        let text = entry.retypes >= RETYPES_MAX;
        entry.datatype = DataType::of(value).filter(|_| !text).unwrap_or(DataType::String);
        // What it was is of the old type.
        self.large_bytes -= entry.large_bytes();
        entry.last = None;
        self.changed.insert(index / BLOCK_METRICS);
    }

    /// Takes notice that something has come of a metric.
    pub(crate) fn hear(&mut self, index: usize, now_ms: u64) {
        let Some(entry) = self.entries.get_mut(&index) else { return };
        entry.is_heard = true;
        entry.heard_ms = now_ms;
        self.aged.insert(index / BLOCK_METRICS);
    }

    /// Takes notice of what a metric is now.
    pub(crate) fn note(&mut self, index: usize, mut last: Last) {
        let Some(entry) = self.entries.get_mut(&index) else { return };
        self.large_bytes -= entry.large_bytes();
        if self.large_bytes + last.large_bytes() > LARGE_BYTES_MAX {
            last.value = None;
        }
        self.large_bytes += last.large_bytes();
        entry.last = Some(last);
        entry.is_stale = false;
        self.aged.insert(index / BLOCK_METRICS);
    }

    /// Returns what the birth of a device says of its metrics, with their numbers.
    pub(crate) fn births(
        &self,
        device: usize,
        aliases: bool,
        now_ms: u64,
    ) -> impl Iterator<Item = (usize, Metric)> {
        let metrics = self.devices.get(&device).into_iter().flat_map(|device| &device.metrics);
        metrics.map(move |&index| {
            let entry = self.entry(index);
            let mut metric = entry.birth(now_ms);
            metric.alias = aliases.then_some(entry.alias);
            (index, metric)
        })
    }

    /// Returns the numbers of the blocks to be kept: those with changes, or with newer values too.
    pub(crate) fn take_blocks(&mut self, aged: bool) -> BTreeSet<usize> {
        let mut blocks = std::mem::take(&mut self.changed);
        if aged {
            blocks.append(&mut self.aged);
        }
        self.aged.retain(|block| !blocks.contains(block));
        blocks
    }

    /// Has a block kept again.
    pub(crate) fn touch(&mut self, block: usize) {
        self.changed.insert(block);
    }

    /// Returns the metrics of a block, under their topics.
    pub(crate) fn block(&self, block: usize) -> Vec<Metric> {
        let first = block * BLOCK_METRICS;
        let entries = self.entries.range(first..first + BLOCK_METRICS);
        entries.map(|(_, entry)| entry.kept()).collect()
    }

    /// Adds the metric that was kept at this place of this block; `None` if it is none.
    ///
    /// One whose place the configuration now gives to another, or to nobody, is forgotten: a reading finds it a new one.
    pub(crate) fn restore(
        &mut self,
        rules: &[DeviceRule],
        (block, at): (usize, usize),
        metric: &Metric,
    ) -> Option<()> {
        let topic = metric.name.clone()?;
        let datatype = DataType::from_code(metric.datatype?)?;
        // Early versions kept no aliases: they followed from the places.
        let alias = metric.alias.unwrap_or((block * BLOCK_METRICS + at) as u64 + 1);
        if alias == u64::MAX
            || self.by_alias.contains_key(&alias)
            || self.by_topic.contains_key(&topic)
        {
            return None;
        }
        let place = naming::place(rules, &topic);
        if self.check(&place, 0) != Ok(None) || self.is_full() {
            self.changed.insert(block);
            return Some(());
        }
        let index = self.entries.len();
        self.insert(index, alias, topic, place, datatype);
        if index / BLOCK_METRICS != block {
            // There was a hole before it, which is closed now.
            self.changed.extend([block, index / BLOCK_METRICS]);
        }
        let entry = self.entries.get_mut(&index)?;
        entry.is_stale = true;
        entry.heard_ms = heard(metric);
        let time_ms = metric.timestamp.filter(|&time| time > 0);
        let value = metric.value.clone();
        let last = time_ms.map(|time_ms| Last { time_ms, value, quality: QUALITY_GOOD });
        self.large_bytes += last.as_ref().map_or(0, Last::large_bytes);
        entry.last = last;
        Some(())
    }
}

/// Returns when a kept metric was last heard; 0 if that was not kept.
fn heard(metric: &Metric) -> u64 {
    match metric.properties.as_ref().and_then(|properties| properties.get(HEARD)) {
        Some(Property { value: Some(PropertyValue::Long(heard)), .. }) => *heard,
        _ => 0,
    }
}

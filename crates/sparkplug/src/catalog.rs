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
/// Larger values are not remembered: births say that there is none.
const REMEMBERED_BYTES_MAX: usize = 1_024;
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
    /// Nothing for null, and for what is too large to be remembered.
    pub(crate) value: Option<MetricValue>,
    pub(crate) quality: u32,
}

impl Last {
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
    /// The number of its device; none if the configuration gives its place to another.
    pub(crate) device: Option<usize>,
    pub(crate) name: Arc<str>,
    pub(crate) datatype: DataType,
    pub(crate) last: Option<Last>,
    /// Whether nothing has come since the process started.
    pub(crate) is_stale: bool,
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
}

/// The node, or one of its devices.
#[derive(Clone, Debug)]
pub(crate) struct Device {
    /// None for the node.
    pub(crate) id: Option<Arc<str>>,
    pub(crate) metrics: Vec<usize>,
}

/// Why a reading can never be sent.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum NoPlace {
    #[error("the edge node has {METRICS_MAX} metrics, and takes no more")]
    Full,
    #[error("the metric `{0}` is the edge node's own")]
    Reserved(Arc<str>),
    #[error("`{device}` cannot be a device: {reason}")]
    Device { device: Arc<str>, reason: crate::IdError },
    #[error("the metric `{metric}` of the same device is already made of `{other}`")]
    Taken { metric: Arc<str>, other: Arc<str> },
}

/// All metrics; their places never change, so that their numbers can stand for their names.
#[derive(Clone, Debug)]
pub(crate) struct Catalog {
    entries: Vec<Entry>,
    devices: Vec<Device>,
    by_topic: BTreeMap<Arc<str>, usize>,
    by_place: BTreeMap<Place, usize>,
    by_device: BTreeMap<Arc<str>, usize>,
    /// Blocks with a metric that is new or of another type.
    changed: BTreeSet<usize>,
    /// Blocks with a newer value.
    aged: BTreeSet<usize>,
}

impl Catalog {
    pub(crate) fn new() -> Self {
        Self {
            entries: Vec::new(),
            devices: vec![Device { id: None, metrics: Vec::new() }],
            by_topic: BTreeMap::new(),
            by_place: BTreeMap::new(),
            by_device: BTreeMap::new(),
            changed: BTreeSet::new(),
            aged: BTreeSet::new(),
        }
    }

    pub(crate) fn devices(&self) -> &[Device] {
        &self.devices
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(crate) fn entry(&self, index: usize) -> &Entry {
        &self.entries[index]
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
        let index = usize::try_from(alias).ok()?.checked_sub(1)?;
        let entry = self.entries.get(index)?;
        let of = &self.devices[entry.device?];
        (of.id.as_deref() == device).then_some(index)
    }

    /// Returns the number that stands for a metric's name.
    pub(crate) fn alias(index: usize) -> u64 {
        index as u64 + 1
    }

    /// Checks whether a topic could become a metric, which it is not yet.
    pub(crate) fn check(&self, place: &Place) -> Result<(), NoPlace> {
        if self.entries.len() >= METRICS_MAX {
            return Err(NoPlace::Full);
        }
        if naming::is_reserved(place) {
            return Err(NoPlace::Reserved(place.metric.clone()));
        }
        if let Some(device) = &place.device
            && let Err(reason) = Id::new(device)
        {
            return Err(NoPlace::Device { device: device.clone(), reason });
        }
        match self.by_place.get(place) {
            Some(&other) => Err(NoPlace::Taken {
                metric: place.metric.clone(),
                other: self.entries[other].topic.clone(),
            }),
            None => Ok(()),
        }
    }

    /// Adds a metric whose place was [checked](Self::check), and returns its number.
    pub(crate) fn add(&mut self, topic: Arc<str>, place: Place, datatype: DataType) -> usize {
        let index = self.push(topic, Some(place), datatype);
        self.changed.insert(index / BLOCK_METRICS);
        index
    }

    fn push(&mut self, topic: Arc<str>, place: Option<Place>, datatype: DataType) -> usize {
        let index = self.entries.len();
        let name = place.as_ref().map_or_else(|| topic.clone(), |place| place.metric.clone());
        let device = place.map(|place| {
            let device = self.device(place.device.as_ref());
            self.devices[device].metrics.push(index);
            self.by_place.insert(place, index);
            device
        });
        self.by_topic.insert(topic.clone(), index);
        let (last, is_stale, retypes) = (None, false, 0);
        self.entries.push(Entry { topic, device, name, datatype, last, is_stale, retypes });
        index
    }

    fn device(&mut self, id: Option<&Arc<str>>) -> usize {
        let Some(id) = id else { return NODE };
        if let Some(&device) = self.by_device.get(id) {
            return device;
        }
        self.devices.push(Device { id: Some(id.clone()), metrics: Vec::new() });
        self.by_device.insert(id.clone(), self.devices.len() - 1);
        self.devices.len() - 1
    }

    /// Gives a metric the type that `value` has, or text if its type has changed too often.
    pub(crate) fn retype(&mut self, index: usize, value: &Value) {
        let entry = &mut self.entries[index];
        entry.retypes += 1;
        let text = entry.retypes >= RETYPES_MAX;
        entry.datatype = DataType::of(value).filter(|_| !text).unwrap_or(DataType::String);
        // What it was is of the old type.
        entry.last = None;
        self.changed.insert(index / BLOCK_METRICS);
    }

    /// Takes notice of what a metric is now.
    pub(crate) fn note(&mut self, index: usize, mut last: Last) {
        last.value = last.value.filter(|value| value.bytes() <= REMEMBERED_BYTES_MAX);
        let entry = &mut self.entries[index];
        entry.last = Some(last);
        entry.is_stale = false;
        self.aged.insert(index / BLOCK_METRICS);
    }

    /// Returns what the birth of a device says of its metrics.
    pub(crate) fn births(&self, device: usize, aliases: bool, now_ms: u64) -> Vec<Metric> {
        let metrics = self.devices[device].metrics.iter();
        let births = metrics.map(|&index| {
            let mut metric = self.entries[index].birth(now_ms);
            metric.alias = aliases.then(|| Self::alias(index));
            metric
        });
        births.collect()
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

    /// Returns the metrics of a block, under their topics.
    pub(crate) fn block(&self, block: usize) -> Vec<Metric> {
        let entries = self.entries.iter().skip(block * BLOCK_METRICS).take(BLOCK_METRICS);
        let metrics =
            entries.map(|entry| Metric { name: Some(entry.topic.clone()), ..entry.birth(0) });
        metrics.collect()
    }

    /// Adds a metric of a kept block; `None` if it is none.
    pub(crate) fn restore(&mut self, rules: &[DeviceRule], metric: &Metric) -> Option<()> {
        let topic = metric.name.clone()?;
        if self.by_topic.contains_key(&topic) {
            return None;
        }
        let datatype = DataType::from_code(metric.datatype?)?;
        let place = naming::place(rules, &topic);
        // The configuration may have changed since.
        let place = self.check(&place).is_ok().then_some(place);
        let index = self.push(topic, place, datatype);
        let entry = &mut self.entries[index];
        entry.is_stale = true;
        let time_ms = metric.timestamp.filter(|&time| time > 0);
        entry.last = time_ms.map(|time_ms| Last {
            time_ms,
            value: metric.value.clone(),
            quality: QUALITY_GOOD,
        });
        Some(())
    }
}

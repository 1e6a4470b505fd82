//! Births and deaths.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::{Event, Message, Moment, Phase, Session, data::Ready};
use crate::{
    DataType,
    catalog::NODE,
    payload::{Draft, Metric, MetricValue},
    topic::MessageType,
};

/// The name of the metric by which a host asks for births.
pub(super) const REBIRTH: &str = "Node Control/Rebirth";
/// Births that readings bring about are no closer together than this, for each device.
const BIRTH_INTERVAL: Duration = Duration::from_secs(1);
/// Births that hosts ask for are no closer together than this: they ask again at every gap.
const REBIRTH_INTERVAL: Duration = Duration::from_secs(5);
/// Devices that may have gone silent are looked for no more often than this.
const SILENCE_STEP: Duration = Duration::from_secs(1);
/// Larger values are left out of a birth that is too large with them, before any metric is.
const SMALL_VALUE_BYTES: usize = 64;

/// How a device is in this session.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct DeviceLife {
    /// When its birth was last sent; none if it is not there for hosts.
    pub(super) born_at: Option<Duration>,
    /// When a reading of it last came.
    pub(super) heard_at: Duration,
}

/// A birth that fits, and what it had no room for.
struct Birth {
    draft: Draft,
    /// Metrics that are not in it.
    left_out: BTreeSet<usize>,
    /// Metrics whose value is not.
    without_value: BTreeSet<usize>,
}

impl Session {
    /// Sends the births of the node and of all its devices.
    pub(super) fn publish_births(&mut self, now: Moment) {
        self.rebirth_at = None;
        self.seq = 0;
        self.born_at = Some(now.elapsed);
        let carried = self.due.remove(&NODE).unwrap_or_default();
        self.publish_birth(NODE, carried, now);
        for device in self.memory.catalog.devices() {
            let is_new = !self.lives.contains_key(&device);
            let was_there = self.life(device, now).born_at.is_some();
            let carried = self.due.remove(&device);
            // One that was said to be dead stays so until something comes.
            if is_new || was_there || carried.is_some() {
                self.publish_birth(device, carried.unwrap_or_default(), now);
            }
        }
    }

    /// Sends the birth of the node or of a device. A reading that it was to carry and has no room for goes behind it.
    fn publish_birth(&mut self, device: usize, carried: Vec<Ready>, now: Moment) {
        let topic = self.topic(device, MessageType::Birth);
        let bytes_max = self.payload_bytes_max(&topic);
        let birth = self.draft_birth(device, bytes_max, now);
        self.note_left_out(device, &birth, bytes_max);
        let (mut tickets, mut behind) = (Vec::new(), Vec::new());
        for reading in carried {
            let said = self.memory.catalog.entry(reading.index).last.as_ref();
            let has_value =
                reading.last.value.is_none() || !birth.without_value.contains(&reading.index);
            if birth.left_out.contains(&reading.index) {
                self.refuse(reading.ticket, no_room(bytes_max));
            } else if has_value && said == Some(&reading.last) {
                tickets.push(reading.ticket);
            } else {
                behind.push(reading);
            }
        }
        if !behind.is_empty() {
            // What waits already came later.
            self.bundles.entry(device).or_default().splice(..0, behind);
        }
        if birth.draft.metrics() == 0 {
            // There is nothing to say of it.
            return;
        }
        self.life(device, now).born_at = Some(now.elapsed);
        self.behind.remove(&device);
        self.publish(topic, birth.draft, tickets);
    }

    /// Makes a birth of what there is room for: of all metrics with their values; else without those that are not small,
    /// which come again; else of as many metrics as go in, in the order of their numbers.
    fn draft_birth(&self, device: usize, bytes_max: usize, now: Moment) -> Birth {
        let whole = self.draft_birth_with(device, usize::MAX, bytes_max, now);
        if whole.left_out.is_empty() {
            return whole;
        }
        self.draft_birth_with(device, SMALL_VALUE_BYTES, bytes_max, now)
    }

    fn draft_birth_with(
        &self,
        device: usize,
        value_bytes_max: usize,
        bytes_max: usize,
        now: Moment,
    ) -> Birth {
        let draft = Draft::new(now.unix_ms);
        let (left_out, without_value) = (BTreeSet::new(), BTreeSet::new());
        let mut birth = Birth { draft, left_out, without_value };
        if device == NODE {
            // A node without these is none: whoever sends it sees that it is too large.
            for own in [self.bd_seq_metric(Some(now.unix_ms)), rebirth_metric(now.unix_ms)] {
                birth.draft.push(&own, usize::MAX);
            }
        }
        for (index, mut metric) in
            self.memory.catalog.births(device, self.settings.aliases, now.unix_ms)
        {
            if metric.value.as_ref().is_some_and(|value| value.bytes() > value_bytes_max) {
                metric.value = None;
                metric.is_null = Some(true);
                birth.without_value.insert(index);
            }
            if !birth.draft.push(&metric, bytes_max) {
                birth.left_out.insert(index);
            }
        }
        birth
    }

    /// Remembers for which metrics of a device there is no room, and tells it if that has changed.
    fn note_left_out(&mut self, device: usize, birth: &Birth, bytes_max: usize) {
        let of = self.memory.catalog.device(device);
        let before = of.metrics.intersection(&self.left_out).count();
        let has_changed = !birth.left_out.is_subset(&self.left_out);
        self.left_out.retain(|index| !of.metrics.contains(index));
        self.left_out.extend(&birth.left_out);
        let metrics = birth.left_out.len();
        if metrics > 0 && (has_changed || metrics != before) {
            let device = of.id.clone();
            self.events.push_back(Event::NoRoom { device, metrics, bytes_max });
        }
    }

    /// Sends the births that are due; all of them if the node's is.
    pub(super) fn publish_due(&mut self, now: Moment) {
        if self.due.contains_key(&NODE) {
            return self.publish_births(now);
        }
        while let Some((device, carried)) = self.due.pop_first() {
            self.publish_birth(device, carried, now);
        }
    }

    /// Says that a device is not there any more.
    pub(super) fn publish_death(&mut self, device: usize, now: Moment) {
        self.behind.remove(&device);
        if self.life(device, now).born_at.take().is_some() {
            let topic = self.topic(device, MessageType::Death);
            self.publish(topic, Draft::new(now.unix_ms), Vec::new());
        }
    }

    /// Returns the topic of messages of the node or a device.
    pub(super) fn topic(&self, device: usize, kind: MessageType) -> String {
        let node = &self.settings.node;
        match &self.memory.catalog.device(device).id {
            Some(id) => node.device_topic(kind, id),
            None => node.topic(kind),
        }
    }

    /// Sends all births again because a host asks; if that was done just now, when some time is over. Until then it has
    /// no data, which it could not read.
    pub(super) fn rebirth(&mut self, now: Moment) {
        if self.phase != Phase::Online {
            return self.ignore("a host asks for births before there were any".to_owned());
        }
        let ready = self.born_at.map_or(now.elapsed, |at| at + REBIRTH_INTERVAL);
        self.rebirth_at = Some(ready);
        self.answer_rebirth(now);
    }

    /// Sends the births that a host has asked for, if it is time. Returns whether none are awaited.
    pub(super) fn answer_rebirth(&mut self, now: Moment) -> bool {
        match self.rebirth_at {
            None => true,
            Some(at) if at <= now.elapsed => {
                self.publish_births(now);
                true
            }
            Some(_) => false,
        }
    }

    /// Returns until when the birth of a device must wait; `None` if it need not.
    pub(super) fn birth_waits_until(&self, device: Option<usize>, now: Moment) -> Option<Duration> {
        let device = device?;
        if self.due.contains_key(&device) {
            return None;
        }
        let born_at = self.lives.get(&device)?.born_at?;
        let ready = born_at + BIRTH_INTERVAL;
        (ready > now.elapsed).then_some(ready)
    }

    /// Returns how a device is; one that was not there is new.
    pub(super) fn life(&mut self, device: usize, now: Moment) -> &mut DeviceLife {
        let fresh = DeviceLife { born_at: None, heard_at: now.elapsed };
        self.lives.entry(device).or_insert(fresh)
    }

    /// Says the death of devices that have gone silent.
    pub(super) fn find_silent(&mut self, now: Moment) {
        let Some(silence) = self.settings.silence else { return };
        if self.silence_at.is_none_or(|at| at > now.elapsed) {
            return;
        }
        self.silence_at = Some(now.elapsed + SILENCE_STEP.max(silence / 10));
        let lives = self.lives.iter().filter(|(device, _)| **device != NODE);
        let silent = lives.filter(|(_, life)| {
            life.born_at.is_some() && now.elapsed.saturating_sub(life.heard_at) >= silence
        });
        let silent: Vec<usize> = silent.map(|(device, _)| *device).collect();
        for device in silent {
            self.publish_death(device, now);
        }
    }

    /// Tells what devices are whose last values went out as history.
    pub(super) fn catch_up(&mut self, now: Moment) {
        let ready = self.behind.iter().filter(|(_, at)| **at <= now.elapsed);
        let ready: Vec<usize> = ready.map(|(device, _)| *device).collect();
        for device in ready {
            self.behind.remove(&device);
            self.due.entry(device).or_default();
        }
        self.publish_due(now);
    }
}

/// Says why a reading is refused whose metric is not in the birth of its device.
pub(super) fn no_room(bytes_max: usize) -> String {
    format!("the birth of its device may have {bytes_max} bytes, which have no room for its metric")
}

fn rebirth_metric(now_ms: u64) -> Metric {
    Metric {
        name: Some(Arc::from(REBIRTH)),
        timestamp: Some(now_ms),
        datatype: Some(DataType::Boolean.code()),
        value: Some(MetricValue::Boolean(false)),
        ..Metric::default()
    }
}

impl Message {
    /// What a packet has beside topic and payload, at most: its header, two lengths, and no properties.
    pub(super) const OVERHEAD: usize = 8;

    /// Returns how large it is as a packet, at most.
    pub fn packet_bytes(&self) -> usize {
        self.topic.len() + self.payload.len() + Self::OVERHEAD
    }
}

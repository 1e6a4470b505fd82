//! Births and deaths.

use std::time::Duration;

use super::{Devices, Message, Moment, Phase, Session};
use crate::{
    DataType,
    catalog::NODE,
    payload::{Metric, MetricValue, Payload},
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

/// How a device is in this session.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct DeviceLife {
    /// When its birth was last sent; none if it is not there for hosts.
    pub(super) born_at: Option<Duration>,
    /// When a reading of it last came.
    pub(super) heard_at: Duration,
}

impl Session {
    /// Sends the births of the node and of all its devices.
    pub(super) fn publish_births(&mut self, now: Moment) {
        let mut due = std::mem::take(&mut self.due);
        self.seq = 0;
        let mut metrics = vec![self.bd_seq_metric(Some(now.unix_ms)), rebirth_metric(now.unix_ms)];
        metrics.extend(self.memory.catalog.births(NODE, self.settings.aliases, now.unix_ms));
        let payload = Payload {
            timestamp: Some(now.unix_ms),
            metrics,
            seq: self.next_seq(),
            ..Payload::default()
        };
        let topic = self.settings.node.topic(MessageType::Birth);
        self.publish(topic, &payload, due.remove(&NODE).unwrap_or_default());
        self.born_at = Some(now.elapsed);
        self.life(NODE, now).born_at = Some(now.elapsed);
        self.behind.remove(&NODE);
        for device in 1..self.memory.catalog.devices().len() {
            let is_new = self.lives.get(device).is_none();
            let was_there = self.life(device, now).born_at.is_some();
            let tickets = due.remove(&device);
            // One that was said to be dead stays so until something comes.
            if is_new || was_there || tickets.is_some() {
                self.publish_birth(device, tickets.unwrap_or_default(), now);
            }
        }
    }

    /// Sends the birth of a device.
    fn publish_birth(&mut self, device: usize, tickets: Vec<u16>, now: Moment) {
        let metrics = self.memory.catalog.births(device, self.settings.aliases, now.unix_ms);
        if metrics.is_empty() {
            return;
        }
        self.life(device, now).born_at = Some(now.elapsed);
        self.behind.remove(&device);
        self.publish_for(device, MessageType::Birth, metrics, tickets, now);
    }

    /// Sends the births that are due; all of them if the node's is.
    pub(super) fn publish_due(&mut self, now: Moment) {
        if self.due.contains_key(&NODE) {
            return self.publish_births(now);
        }
        while let Some((device, tickets)) = self.due.pop_first() {
            self.publish_birth(device, tickets, now);
        }
    }

    /// Sends a message of the node or a device, with the next number.
    pub(super) fn publish_for(
        &mut self,
        device: usize,
        kind: MessageType,
        metrics: Vec<Metric>,
        tickets: Vec<u16>,
        now: Moment,
    ) {
        let node = &self.settings.node;
        let topic = match &self.memory.catalog.devices()[device].id {
            Some(id) => node.device_topic(kind, id),
            None => node.topic(kind),
        };
        let timestamp = Some(now.unix_ms);
        let payload = Payload { timestamp, metrics, seq: self.next_seq(), ..Payload::default() };
        self.publish(topic, &payload, tickets);
    }

    /// Sends all births again because a host asks, unless it was done just now.
    pub(super) fn rebirth(&mut self, now: Moment) {
        if self.phase != Phase::Online {
            return self.ignore("a host asks for births before there were any".to_owned());
        }
        let is_early =
            self.born_at.is_some_and(|at| now.elapsed.saturating_sub(at) < REBIRTH_INTERVAL);
        if is_early {
            return self.ignore("a host asks for births that were sent a moment ago".to_owned());
        }
        self.publish_births(now);
    }

    /// Returns until when the birth of a device must wait; `None` if it need not.
    pub(super) fn birth_waits_until(&self, device: Option<usize>, now: Moment) -> Option<Duration> {
        let device = device?;
        if self.due.contains_key(&device) {
            return None;
        }
        let born_at = self.lives.get(device)?.born_at?;
        let ready = born_at + BIRTH_INTERVAL;
        (ready > now.elapsed).then_some(ready)
    }

    /// Returns how a device is; one that was not there is new.
    pub(super) fn life(&mut self, device: usize, now: Moment) -> &mut DeviceLife {
        if self.lives.len() <= device {
            let fresh = DeviceLife { born_at: None, heard_at: now.elapsed };
            self.lives.resize(device + 1, fresh);
        }
        &mut self.lives[device]
    }

    /// Says the death of devices that have gone silent.
    pub(super) fn find_silent(&mut self, now: Moment) {
        let Some(silence) = self.settings.silence else { return };
        if self.silence_at.is_none_or(|at| at > now.elapsed) {
            return;
        }
        self.silence_at = Some(now.elapsed + SILENCE_STEP.max(silence / 10));
        let lives = self.lives.iter().enumerate().skip(1);
        let silent = lives.filter(|(_, life)| {
            life.born_at.is_some() && now.elapsed.saturating_sub(life.heard_at) >= silence
        });
        let silent: Devices = silent.map(|(device, _)| device).collect();
        for device in silent {
            self.lives[device].born_at = None;
            self.behind.remove(&device);
            self.publish_for(device, MessageType::Death, Vec::new(), Vec::new(), now);
        }
    }

    /// Tells what devices are whose last values went out as history.
    pub(super) fn catch_up(&mut self, now: Moment) {
        let ready = self.behind.iter().filter(|(_, at)| **at <= now.elapsed);
        let ready: Devices = ready.map(|(device, _)| *device).collect();
        for device in ready {
            self.behind.remove(&device);
            self.due.entry(device).or_default();
        }
        self.publish_due(now);
    }
}

fn rebirth_metric(now_ms: u64) -> Metric {
    Metric {
        name: Some(REBIRTH.into()),
        timestamp: Some(now_ms),
        datatype: Some(DataType::Boolean.code()),
        value: Some(MetricValue::Boolean(false)),
        ..Metric::default()
    }
}

impl Message {
    /// Returns how many bytes it has, for who bounds them.
    pub fn bytes(&self) -> usize {
        self.topic.len() + self.payload.len()
    }
}

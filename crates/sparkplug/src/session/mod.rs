//! One connection of an edge node, from CONNECT to its end (section 5 of the specification).
//!
//! Nothing is published but in the order of births, data, death; a reading that needs another birth brings it about. What
//! a birth carries of a reading counts as having been sent with it.

mod births;
mod commands;
mod data;
mod forget;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use tidegate_model::{Status, Timestamp, Value};

use self::{
    births::DeviceLife,
    data::{Bundles, Ready},
};
use crate::{
    memory::{BdSeq, Kept, Memory},
    payload::{Draft, Metric, MetricValue, Payload},
    settings::Settings,
    topic::MessageType,
};

/// The moment of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Monotonic time, since any fixed moment.
    pub elapsed: Duration,
    /// Milliseconds since 1970.
    pub unix_ms: u64,
}

/// A reading to be sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Its local topic.
    pub topic: Arc<str>,
    /// The value.
    pub value: Value,
    /// When it was acquired.
    pub time: Timestamp,
    /// How good it is.
    pub status: Status,
    /// Whether it is known not to be the present value.
    pub is_historical: bool,
    /// By which its sender knows it.
    pub ticket: u16,
}

/// A message to publish: with quality of service 0 and not retained, but for the will, which has 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// The topic.
    pub topic: String,
    /// The payload.
    pub payload: Vec<u8>,
    /// The readings that it carries.
    pub tickets: Vec<u16>,
}

/// What comes of what was put in.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A message is to be published, in this order.
    Publish(Message),
    /// Births are out: readings may come.
    Ready,
    /// A reading can never be sent.
    Refused {
        /// Which one.
        ticket: u16,
        /// Why.
        reason: String,
    },
    /// A host writes to a metric.
    Command {
        /// The local topic of the metric.
        topic: Arc<str>,
        /// What it writes.
        value: Value,
    },
    /// Something came that is not followed.
    Ignored {
        /// Why.
        reason: String,
    },
    /// The birth of a device (none: of the node) has no room for some of its metrics, and their readings are refused.
    NoRoom {
        /// The device.
        device: Option<Arc<str>>,
        /// How many metrics.
        metrics: usize,
        /// How large the birth may be.
        bytes_max: usize,
    },
    /// The primary host is not there, and nothing was sent yet.
    HostAway,
    /// The primary host has gone; the death is said, and the connection is to be closed.
    HostLost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    ExpectSubscribed,
    ExpectHost,
    Online,
    Ended,
}

/// One connection as a state machine.
#[derive(Debug)]
pub struct Session {
    settings: Arc<Settings>,
    memory: Memory,
    bd_seq: BdSeq,
    /// The number of the next message.
    seq: u8,
    phase: Phase,
    /// Whether the primary host has last said that it is there.
    host_is_online: bool,
    /// The server that it is with, among those that will do.
    server: usize,
    /// The largest packet that it takes.
    packet_bytes_max: usize,
    /// Readings that wait, in order.
    rows: VecDeque<Row>,
    /// How the devices are, by their number in the catalog; the node is the first.
    lives: BTreeMap<usize, DeviceLife>,
    /// Devices that need a birth, and the readings that it is to carry.
    due: BTreeMap<usize, Vec<Ready>>,
    /// Metrics for which the birth of their device has no room.
    left_out: BTreeSet<usize>,
    bundles: Bundles,
    /// Until when the first reading waits for a birth.
    held_until: Option<Duration>,
    /// When all births were last sent.
    born_at: Option<Duration>,
    /// When they are to be sent again for a host that has asked; until then there is no data.
    rebirth_at: Option<Duration>,
    /// When metrics of which nothing comes any more are looked for.
    forget_at: Option<Duration>,
    /// When devices that have gone silent are looked for.
    silence_at: Option<Duration>,
    /// Devices of which the host knows old values only, and when it is told the present ones.
    behind: BTreeMap<usize, Duration>,
    events: VecDeque<Event>,
}

impl Session {
    /// Begins a session with one of the servers that will do, counted by its `bdSeq`: each has one CONNECT, and one that
    /// is not sent is none.
    pub fn new(settings: Arc<Settings>, mut memory: Memory, server: usize) -> Self {
        let bd_seq = memory.begin();
        Self {
            settings,
            memory,
            bd_seq,
            seq: 0,
            phase: Phase::ExpectSubscribed,
            host_is_online: false,
            server,
            packet_bytes_max: usize::MAX,
            rows: VecDeque::new(),
            lives: BTreeMap::new(),
            due: BTreeMap::new(),
            left_out: BTreeSet::new(),
            bundles: Bundles::default(),
            held_until: None,
            born_at: None,
            rebirth_at: None,
            forget_at: None,
            silence_at: None,
            behind: BTreeMap::new(),
            events: VecDeque::new(),
        }
    }

    /// Returns what must be durable before CONNECT is sent.
    pub fn kept_first(&self) -> Option<Kept> {
        self.memory.keep_bd_seq()
    }

    /// Returns what is to be kept since; with `values` also what the metrics last were.
    pub fn take_kept(&mut self, values: bool) -> Vec<Kept> {
        self.memory.take_kept(values)
    }

    /// Returns what the session leaves to the next one.
    pub fn into_memory(self) -> Memory {
        self.memory
    }

    /// Takes notice of the largest packet that the broker takes.
    pub fn limit_bytes(&mut self, packet_bytes_max: usize) {
        self.packet_bytes_max = packet_bytes_max;
    }

    /// Returns how large a payload on this topic may be.
    fn payload_bytes_max(&self, topic: &str) -> usize {
        let room = self.packet_bytes_max.saturating_sub(topic.len() + Message::OVERHEAD);
        self.settings.payload_bytes_max.map_or(room, |most| room.min(most))
    }

    /// Returns the will of CONNECT.
    pub fn will(&self) -> Message {
        let metrics = vec![self.bd_seq_metric(None)];
        let payload = Payload { metrics, ..Payload::default() };
        Message {
            topic: self.settings.node.topic(MessageType::Death),
            payload: payload.encode(),
            tickets: Vec::new(),
        }
    }

    /// Returns what is to be subscribed to, with quality of service 1, before anything is published.
    pub fn subscriptions(&self) -> Vec<String> {
        let node = &self.settings.node;
        let mut filters = vec![node.topic(MessageType::Command)];
        if self.settings.commands {
            filters.push(node.device_topic(MessageType::Command, "+"));
        }
        filters.extend(self.state_topic());
        filters
    }

    /// Takes notice that the broker has accepted the subscriptions.
    pub fn handle_subscribed(&mut self, now: Moment) {
        if self.phase != Phase::ExpectSubscribed {
            return;
        }
        // Its STATE may come before the answer to the subscription.
        if self.settings.primary_host.is_some() && !self.host_is_online {
            self.phase = Phase::ExpectHost;
        } else {
            self.go_online(now);
        }
    }

    /// Takes a message from the broker.
    pub fn handle_message(&mut self, topic: &str, payload: bytes::Bytes, now: Moment) {
        if self.state_topic().is_some_and(|state| state == topic) {
            return self.handle_state(&payload, now);
        }
        match self.settings.node.commanded(topic) {
            Some(device) => self.handle_command(device, payload, now),
            None => self.ignore(format!("`{topic}` is not for this edge node")),
        }
    }

    /// Takes a reading; [`flush`](Self::flush) sends what can be sent.
    pub fn handle_row(&mut self, row: Row) {
        self.rows.push_back(row);
    }

    /// Returns how many readings wait.
    pub fn waiting(&self) -> usize {
        self.rows.len()
    }

    /// Returns what has come of it all, the first first.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Returns when [`handle_timeout`](Self::handle_timeout) is to be called.
    pub fn poll_timeout(&self) -> Option<Duration> {
        if self.phase != Phase::Online {
            return None;
        }
        if self.rebirth_at.is_some() {
            return self.rebirth_at;
        }
        let behind = self.behind.values().min().copied();
        [self.held_until, self.silence_at, self.forget_at, behind].into_iter().flatten().min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Moment) {
        if self.phase != Phase::Online {
            return;
        }
        if !self.answer_rebirth(now) {
            return;
        }
        self.find_silent(now);
        self.find_forgotten(now);
        self.catch_up(now);
        self.flush(now);
    }

    /// Says the death of the node, before the connection is closed on purpose.
    pub fn close(&mut self, now: Moment) {
        if self.phase == Phase::Online {
            let metrics = vec![self.bd_seq_metric(Some(now.unix_ms))];
            let payload = Payload { timestamp: Some(now.unix_ms), metrics, ..Payload::default() };
            let topic = self.settings.node.topic(MessageType::Death);
            // It has no number.
            let (payload, tickets) = (payload.encode(), Vec::new());
            self.events.push_back(Event::Publish(Message { topic, payload, tickets }));
        }
        self.phase = Phase::Ended;
    }

    fn state_topic(&self) -> Option<String> {
        self.settings.primary_host.as_ref().map(|host| self.settings.state.topic(host))
    }

    /// Takes what the primary host says of itself; what is older than what it has said before is nothing.
    fn handle_state(&mut self, payload: &[u8], now: Moment) {
        let Some(state) = self.settings.state.read(payload) else {
            return self.ignore("the primary host's STATE cannot be read".to_owned());
        };
        // Servers have STATE messages, and times, of their own.
        let said = self.memory.host_said.entry(self.server).or_default();
        if state.timestamp < *said {
            return self.ignore("the primary host's STATE is older than its last one".to_owned());
        }
        *said = state.timestamp;
        self.host_is_online = state.online;
        match (state.online, self.phase) {
            (true, Phase::ExpectHost) => self.go_online(now),
            (false, Phase::ExpectHost) => self.events.push_back(Event::HostAway),
            (false, Phase::Online) => {
                self.close(now);
                self.events.push_back(Event::HostLost);
            }
            _ => {}
        }
    }

    fn go_online(&mut self, now: Moment) {
        self.phase = Phase::Online;
        self.silence_at = self.settings.silence.map(|silence| now.elapsed + silence);
        self.forget_at = Some(now.elapsed + self.forget_step());
        self.publish_births(now);
        self.events.push_back(Event::Ready);
    }

    fn bd_seq_metric(&self, timestamp: Option<u64>) -> Metric {
        Metric {
            name: Some("bdSeq".into()),
            timestamp,
            datatype: Some(crate::DataType::Int64.code()),
            value: Some(MetricValue::Long(self.bd_seq.get().into())),
            ..Metric::default()
        }
    }

    fn ignore(&mut self, reason: String) {
        self.events.push_back(Event::Ignored { reason });
    }

    /// Sends a message that is known to fit, with the next number.
    fn publish(&mut self, topic: String, draft: Draft, tickets: Vec<u16>) {
        let payload = draft.finish(self.next_seq());
        self.events.push_back(Event::Publish(Message { topic, payload, tickets }));
    }

    /// Returns the number of the next message of the session (3.0: 0 after 255).
    fn next_seq(&mut self) -> u8 {
        let seq = self.seq;
        self.seq = seq.wrapping_add(1);
        seq
    }
}

/// Returns a time as hosts know it; they know none before 1970.
fn unix_ms(time: Timestamp) -> u64 {
    u64::try_from(time.as_unix_millis()).unwrap_or(0)
}

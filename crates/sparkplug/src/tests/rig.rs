//! A session with a clock, and a host that reads what comes of it.

use std::{sync::Arc, time::Duration};

use tidegate_model::{Status, Timestamp, Value};

use crate::{
    DataType, DeviceRule, Event, Id, Limits, Memory, Message, Metric, MetricValue, Moment, Node,
    Payload, Row, Session, Settings, StateVersion,
};

pub(super) const T0: i64 = 1_700_000_000_000;

pub(super) fn settings() -> Settings {
    Settings {
        node: Node { group: Id::new("g").unwrap(), id: Id::new("e").unwrap() },
        primary_host: None,
        state: StateVersion::V3,
        aliases: true,
        commands: true,
        devices: vec![DeviceRule::new("h/{device}/{metric}", "{device}", "{metric}").unwrap()],
        silence: None,
        forget: Settings::FORGET_DEFAULT,
        payload_bytes_max: None,
        topic_bytes_max: None,
    }
}

pub(super) fn with_host() -> Settings {
    Settings { primary_host: Some(Id::new("scada").unwrap()), ..settings() }
}

/// A session and a clock, and what has come of it.
pub(super) struct Rig {
    pub(super) session: Session,
    pub(super) now: Moment,
    ticket: u16,
}

/// A message as a host sees it.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) topic: String,
    pub(super) payload: Payload,
    pub(super) tickets: Vec<u16>,
}

impl Seen {
    pub(super) fn of(message: Message) -> Self {
        let payload = Payload::decode(message.payload.into(), Limits::OWN).unwrap();
        Self { payload, topic: message.topic, tickets: message.tickets }
    }
}

impl Rig {
    pub(super) fn begin(settings: Settings, memory: Memory) -> Self {
        Self::begin_at(0, settings, memory)
    }

    /// Begins with one of several servers.
    pub(super) fn begin_at(server: usize, settings: Settings, memory: Memory) -> Self {
        let now = Moment { elapsed: Duration::from_secs(100), unix_ms: T0.cast_unsigned() };
        Self { session: Session::new(Arc::new(settings), memory, server), now, ticket: 0 }
    }

    /// Begins and goes online; what was published by then is not looked at. Births may be sent again.
    pub(super) fn online(settings: Settings) -> Self {
        let mut rig = Self::begin(settings, Memory::new());
        rig.session.handle_subscribed(rig.now);
        rig.published();
        rig.pass(Duration::from_secs(2));
        rig
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now.elapsed += time;
        self.now.unix_ms += u64::try_from(time.as_millis()).unwrap();
        if self.session.poll_timeout().is_some_and(|due| due <= self.now.elapsed) {
            self.session.handle_timeout(self.now);
        }
    }

    /// Goes on with what this session leaves, as a process does after a restart; everything was kept.
    pub(super) fn restart(mut self, settings: Settings) -> Self {
        let kept = self.session.take_kept(true);
        let entries = kept.iter().filter_map(|it| Some((&*it.name, it.value.as_deref()?)));
        let memory = Memory::open(entries, &settings.devices);
        assert!(!memory.is_damaged());
        let now = self.now;
        let mut rig = Self::begin(settings, memory);
        rig.now = now;
        rig.session.handle_subscribed(rig.now);
        rig
    }

    /// Returns which readings are refused, and why; nothing is published meanwhile.
    pub(super) fn refused(&mut self) -> Vec<(u16, String)> {
        self.session.flush(self.now);
        let refused = self.events().into_iter().filter_map(|event| match event {
            Event::Refused { ticket, reason } => Some((ticket, reason)),
            _ => None,
        });
        refused.collect()
    }

    /// Hands in a reading acquired at [`T0`] and so many milliseconds.
    pub(super) fn row_at(
        &mut self,
        topic: &str,
        value: Value,
        millis: i64,
        is_historical: bool,
    ) -> u16 {
        self.ticket += 1;
        self.session.handle_row(Row {
            topic: topic.into(),
            value,
            time: Timestamp::from_unix_millis(T0 + millis),
            status: Status::GOOD,
            is_historical,
            ticket: self.ticket,
        });
        self.ticket
    }

    pub(super) fn row(&mut self, topic: &str, value: f64) -> u16 {
        let millis = i64::try_from(self.now.unix_ms).unwrap() - T0;
        self.row_at(topic, Value::Double(value), millis, false)
    }

    pub(super) fn flush(&mut self) -> Vec<Seen> {
        self.session.flush(self.now);
        self.published()
    }

    pub(super) fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.session.poll_event()).collect()
    }

    pub(super) fn published(&mut self) -> Vec<Seen> {
        let messages = self.events().into_iter().filter_map(|event| match event {
            Event::Publish(message) => Some(message),
            _ => None,
        });
        messages.map(Seen::of).collect()
    }

    pub(super) fn ask(&mut self, topic: &str, metric: Metric) {
        let payload = Payload { metrics: vec![metric], ..Payload::default() }.encode();
        self.session.handle_message(topic, payload.into(), self.now);
    }

    pub(super) fn ask_rebirth(&mut self) {
        let value = Some(MetricValue::Boolean(true));
        let name = Some("Node Control/Rebirth".into());
        self.ask("spBv1.0/g/NCMD/e", Metric { name, value, ..Metric::default() });
    }

    pub(super) fn state(&mut self, online: bool, timestamp: u64) {
        let state = format!("{{\"online\":{online},\"timestamp\":{timestamp}}}");
        self.session.handle_message("spBv1.0/STATE/scada", state.into(), self.now);
    }
}

pub(super) fn kinds(seen: &[Seen]) -> Vec<&str> {
    seen.iter().map(|seen| seen.topic.strip_prefix("spBv1.0/g/").unwrap()).collect()
}

pub(super) fn seqs(seen: &[Seen]) -> Vec<Option<u64>> {
    seen.iter().map(|seen| seen.payload.seq).collect()
}

pub(super) fn bd_seq(payload: &Payload) -> Option<MetricValue> {
    let metric = payload.metrics.iter().find(|it| it.name.as_deref() == Some("bdSeq"))?;
    assert_eq!((metric.datatype, metric.alias), (Some(DataType::Int64.code()), None));
    metric.value.clone()
}

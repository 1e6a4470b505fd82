//! Readings: those of one device that wait go out together.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{Event, Moment, Phase, Row, Session, births::no_room, unix_ms};
use crate::{
    DataType, Place,
    catalog::{Last, NoPlace},
    naming,
    payload::{Draft, Metric},
    topic::MessageType,
};

/// The most readings of one message.
const METRICS_MAX: usize = 256;
/// The most bytes of the payload of one message, unless a single reading has more.
const BYTES_MAX: usize = 64 << 10;
/// When nothing old has come for so long, hosts are told what is now.
const CATCH_UP: Duration = Duration::from_secs(2);

/// Readings that go next, by device.
pub(super) type Bundles = BTreeMap<usize, Vec<Ready>>;

/// A reading that fits what was announced.
#[derive(Clone, Debug)]
pub(super) struct Ready {
    pub(super) index: usize,
    pub(super) last: Last,
    pub(super) is_historical: bool,
    pub(super) ticket: u16,
}

/// What becomes of a reading.
enum Step {
    Taken,
    /// It and those behind it wait.
    Waits(Duration),
}

impl Session {
    /// Sends what waits, together with the births that it needs.
    pub fn flush(&mut self, now: Moment) {
        if self.phase != Phase::Online || !self.answer_rebirth(now) {
            return;
        }
        self.held_until = None;
        while let Some(row) = self.rows.front() {
            // Cheap: what is large in it is shared.
            let row = row.clone();
            match self.step(&row, now) {
                Step::Taken => drop(self.rows.pop_front()),
                Step::Waits(until) => {
                    self.held_until = Some(until);
                    break;
                }
            }
        }
        self.publish_ready(now);
    }

    fn step(&mut self, row: &Row, now: Moment) -> Step {
        match self.memory.catalog.find(&row.topic) {
            Some(index) => self.step_known(index, row, now),
            None => self.step_new(row, now),
        }
    }

    /// Takes a reading of a metric that was not announced: it goes with the birth.
    fn step_new(&mut self, row: &Row, now: Moment) -> Step {
        let place = naming::place(&self.settings.devices, &row.topic);
        let heir = match self.memory.catalog.check(&place, now.unix_ms) {
            Ok(heir) => heir,
            Err(reason) => return self.refuse_row(row, reason.to_string()),
        };
        if let Some(reason) = self.refuses_device(&place) {
            return self.refuse_row(row, reason);
        }
        if let Some(index) = heir {
            self.memory.catalog.hand_over(index, row.topic.clone());
            return self.step_known(index, row, now);
        }
        if self.memory.catalog.is_full() {
            // Nothing that is forgotten may be needed for what is ready.
            self.publish_ready(now);
            if !self.make_room(now) {
                return self.refuse_row(row, NoPlace::Full.to_string());
            }
        }
        let device = self.memory.catalog.device_of(&place);
        if let Some(until) = self.birth_waits_until(device, now) {
            return Step::Waits(until);
        }
        let datatype = DataType::of(&row.value).unwrap_or(DataType::String);
        let index = self.memory.catalog.add(row.topic.clone(), place, datatype);
        self.take_with_birth(index, row, now);
        Step::Taken
    }

    /// Returns why messages of a device would have no topic that the broker takes.
    fn refuses_device(&self, place: &Place) -> Option<String> {
        let (most, device) = (self.settings.topic_bytes_max?, place.device.as_ref()?);
        let bytes = self.settings.node.device_topic(MessageType::Birth, device).len();
        (bytes > most).then(|| {
            format!("the topics of its device have {bytes} bytes, and the broker takes {most}")
        })
    }

    fn step_known(&mut self, index: usize, row: &Row, now: Moment) -> Step {
        let entry = self.memory.catalog.entry(index);
        let device = entry.device;
        if self.left_out.contains(&index) {
            let topic = self.topic(device, MessageType::Birth);
            return self.refuse_row(row, no_room(self.payload_bytes_max(&topic)));
        }
        let is_null = row.value == tidegate_model::Value::Null;
        let value = if is_null { None } else { entry.fit(&row.value) };
        if value.is_none() && !is_null {
            if let Some(until) = self.birth_waits_until(Some(device), now) {
                return Step::Waits(until);
            }
            // What waits is of the old type.
            self.publish_ready(now);
            if let Some(until) = self.birth_waits_until(Some(device), now) {
                return Step::Waits(until);
            }
            self.memory.catalog.retype(index, &row.value);
            self.take_with_birth(index, row, now);
            return Step::Taken;
        }
        let life = self.life(device, now);
        life.heard_at = now.elapsed;
        if life.born_at.is_none() && !self.due.contains_key(&device) {
            self.take_with_birth(index, row, now);
            return Step::Taken;
        }
        self.memory.catalog.hear(index, now.unix_ms);
        self.bundles.entry(device).or_default().push(Ready {
            index,
            last: Last::new(unix_ms(row.time), value, row.status),
            is_historical: row.is_historical,
            ticket: row.ticket,
        });
        Step::Taken
    }

    /// Lets a birth carry a reading, or precede it if it is history.
    fn take_with_birth(&mut self, index: usize, row: &Row, now: Moment) {
        let entry = self.memory.catalog.entry(index);
        let device = entry.device;
        let last = Last::new(unix_ms(row.time), entry.fit(&row.value), row.status);
        let is_older = entry.last.as_ref().is_some_and(|known| last.time_ms < known.time_ms);
        let is_first = entry.last.is_none();
        self.life(device, now).heard_at = now.elapsed;
        self.memory.catalog.hear(index, now.unix_ms);
        let is_historical = row.is_historical || is_older;
        let ready = Ready { index, last: last.clone(), is_historical, ticket: row.ticket };
        let carried = self.due.entry(device).or_default();
        if !is_historical {
            carried.push(ready);
            self.memory.catalog.note(index, last);
            return;
        }
        if is_first {
            // The birth says that there was nothing then: nothing that follows is older.
            self.memory.catalog.note(index, Last { value: None, ..last });
        }
        self.bundles.entry(device).or_default().push(ready);
    }

    /// Sends births that are due, and then the readings behind them.
    fn publish_ready(&mut self, now: Moment) {
        self.publish_due(now);
        while let Some((device, ready)) = self.bundles.pop_first() {
            self.publish_data(device, ready, now);
        }
    }

    /// Sends readings of a device in as many messages as they need. One that no message has room for is refused.
    fn publish_data(&mut self, device: usize, ready: Vec<Ready>, now: Moment) {
        let topic = self.topic(device, MessageType::Data);
        let bytes_max = self.payload_bytes_max(&topic);
        let (mut draft, mut tickets) = (Draft::new(now.unix_ms), Vec::new());
        for reading in ready {
            if self.left_out.contains(&reading.index) {
                self.refuse(reading.ticket, no_room(bytes_max));
                continue;
            }
            let metric = self.metric(&reading);
            let goes_along =
                draft.metrics() < METRICS_MAX && draft.push(&metric, BYTES_MAX.min(bytes_max));
            if !goes_along {
                if draft.metrics() > 0 {
                    let draft = std::mem::replace(&mut draft, Draft::new(now.unix_ms));
                    self.publish(topic.clone(), draft, std::mem::take(&mut tickets));
                }
                if !draft.push(&metric, bytes_max) {
                    let reason = format!("a message may have {bytes_max} bytes, and it has more");
                    self.refuse(reading.ticket, reason);
                    continue;
                }
            }
            tickets.push(reading.ticket);
            self.note_sent(device, reading, now);
        }
        if draft.metrics() > 0 {
            self.publish(topic, draft, tickets);
        }
    }

    /// Makes a metric of a reading.
    fn metric(&self, reading: &Ready) -> Metric {
        let entry = self.memory.catalog.entry(reading.index);
        let mut metric = reading.last.metric();
        // What comes behind a newer value is not the present one.
        let is_historical = reading.is_historical || !self.is_newest(reading);
        metric.is_historical = is_historical.then_some(true);
        if self.settings.aliases {
            metric.alias = Some(entry.alias);
        } else {
            metric.name = Some(Arc::clone(&entry.name));
        }
        metric
    }

    fn is_newest(&self, reading: &Ready) -> bool {
        let known = self.memory.catalog.entry(reading.index).last.as_ref();
        known.is_none_or(|known| known.time_ms <= reading.last.time_ms)
    }

    /// Remembers a reading that is sent.
    fn note_sent(&mut self, device: usize, reading: Ready, now: Moment) {
        if !self.is_newest(&reading) {
            return;
        }
        if reading.is_historical {
            self.behind.insert(device, now.elapsed + CATCH_UP);
        }
        self.memory.catalog.note(reading.index, reading.last);
    }

    pub(super) fn refuse(&mut self, ticket: u16, reason: String) {
        self.events.push_back(Event::Refused { ticket, reason });
    }

    fn refuse_row(&mut self, row: &Row, reason: String) -> Step {
        self.refuse(row.ticket, reason);
        Step::Taken
    }
}

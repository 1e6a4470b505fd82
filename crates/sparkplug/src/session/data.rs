//! Readings: those of one device that wait go out together.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{Event, Moment, Phase, Row, Session, unix_ms};
use crate::{
    DataType,
    catalog::{Catalog, Last},
    naming,
    payload::Metric,
    topic::MessageType,
};

/// The most readings of one message.
const METRICS_MAX: usize = 256;
/// The most bytes of the values of one message, unless a single one has more.
pub(super) const BYTES_MAX: usize = 64 << 10;
/// About what a metric has beside its value.
const METRIC_OVERHEAD: usize = 32;
/// When nothing old has come for so long, hosts are told what is now.
const CATCH_UP: Duration = Duration::from_secs(2);

/// Readings that go next, by device.
pub(super) type Bundles = BTreeMap<usize, Vec<Ready>>;

/// A reading that fits what was announced.
#[derive(Clone, Debug)]
pub(super) struct Ready {
    index: usize,
    last: Last,
    is_historical: bool,
    ticket: u16,
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
        if self.phase != Phase::Online {
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
        if let Err(reason) = self.memory.catalog.check(&place) {
            return self.refuse(row, reason.to_string());
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

    fn step_known(&mut self, index: usize, row: &Row, now: Moment) -> Step {
        let entry = self.memory.catalog.entry(index);
        let Some(device) = entry.device else {
            let reason = "another topic has its place among the metrics";
            return self.refuse(row, reason.to_owned());
        };
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
        let Some(device) = entry.device else { return };
        let last = Last::new(unix_ms(row.time), entry.fit(&row.value), row.status);
        let is_older = entry.last.as_ref().is_some_and(|known| last.time_ms < known.time_ms);
        let is_first = entry.last.is_none();
        self.life(device, now).heard_at = now.elapsed;
        let tickets = self.due.entry(device).or_default();
        if row.is_historical || is_older {
            if is_first {
                // The birth says that there was nothing then: nothing that follows is older.
                let nothing = Last { value: None, ..last.clone() };
                self.memory.catalog.note(index, nothing);
            }
            let (is_historical, ticket) = (true, row.ticket);
            let ready = Ready { index, last, is_historical, ticket };
            self.bundles.entry(device).or_default().push(ready);
        } else {
            tickets.push(row.ticket);
            self.memory.catalog.note(index, last);
        }
    }

    /// Sends births that are due, and then the readings behind them.
    fn publish_ready(&mut self, now: Moment) {
        self.publish_due(now);
        while let Some((device, ready)) = self.bundles.pop_first() {
            let (mut metrics, mut tickets, mut bytes) = (Vec::new(), Vec::new(), 0);
            for reading in ready {
                let size = METRIC_OVERHEAD + reading.last.value.as_ref().map_or(0, |it| it.bytes());
                if metrics.len() >= METRICS_MAX || (bytes + size > self.data_bytes_max && bytes > 0)
                {
                    let (metrics, tickets) =
                        (std::mem::take(&mut metrics), std::mem::take(&mut tickets));
                    self.publish_for(device, MessageType::Data, metrics, tickets, now);
                    bytes = 0;
                }
                bytes += size;
                tickets.push(reading.ticket);
                metrics.push(self.metric(device, reading, now));
            }
            self.publish_for(device, MessageType::Data, metrics, tickets, now);
        }
    }

    /// Makes a metric of a reading, and remembers it.
    fn metric(&mut self, device: usize, reading: Ready, now: Moment) -> Metric {
        let Ready { index, last, is_historical, .. } = reading;
        let entry = self.memory.catalog.entry(index);
        let mut metric = last.metric();
        let is_newer = entry.last.as_ref().is_none_or(|known| known.time_ms <= last.time_ms);
        // What comes behind a newer value is not the present one.
        metric.is_historical = (is_historical || !is_newer).then_some(true);
        if self.settings.aliases {
            metric.alias = Some(Catalog::alias(index));
        } else {
            metric.name = Some(Arc::clone(&entry.name));
        }
        if is_newer {
            self.memory.catalog.note(index, last);
            if is_historical {
                self.behind.insert(device, now.elapsed + CATCH_UP);
            }
        }
        metric
    }

    fn refuse(&mut self, row: &Row, reason: String) -> Step {
        self.events.push_back(Event::Refused { ticket: row.ticket, reason });
        Step::Taken
    }
}

//! What hosts ask for.

use bytes::Bytes;

use super::{Event, Moment, Session, births::REBIRTH};
use crate::payload::{Limits, Metric, MetricValue, Payload};

impl Session {
    /// Takes a command for the node, or for one of its devices.
    pub(super) fn handle_command(&mut self, device: Option<&str>, payload: Bytes, now: Moment) {
        let payload = match Payload::decode(payload, Limits::COMMAND) {
            Ok(payload) => payload,
            Err(error) => return self.ignore(format!("a command {error}")),
        };
        let mut asks_for_births = false;
        for metric in &payload.metrics {
            if device.is_none() && metric.name.as_deref() == Some(REBIRTH) {
                asks_for_births |= metric.value == Some(MetricValue::Boolean(true));
            } else if let Err(reason) = self.take_command(device, metric) {
                self.ignore(reason);
            }
        }
        if asks_for_births {
            self.rebirth(now);
        }
    }

    fn take_command(&mut self, device: Option<&str>, metric: &Metric) -> Result<(), String> {
        let catalog = &self.memory.catalog;
        let found = match (&metric.name, metric.alias) {
            (Some(name), _) => catalog.named(device, name),
            (None, Some(alias)) => catalog.aliased(device, alias),
            (None, None) => None,
        };
        let said = || match (&metric.name, metric.alias) {
            (Some(name), _) => format!("`{}`", name.chars().take(64).collect::<String>()),
            (None, alias) => format!("the alias {}", alias.unwrap_or_default()),
        };
        // One that no birth has room for was never announced.
        let found = found.filter(|index| !self.left_out.contains(index));
        let index =
            found.ok_or_else(|| format!("a command is for {}, which is no metric", said()))?;
        if !self.settings.commands {
            return Err(format!("a host writes to {}, and none may", said()));
        }
        let entry = catalog.entry(index);
        let written = metric.value.as_ref().filter(|_| metric.is_null != Some(true));
        let value = written.and_then(|written| entry.datatype.value(written));
        let value = value.ok_or_else(|| {
            format!("a command for {} is not of the type {:?}", said(), entry.datatype)
        })?;
        self.events.push_back(Event::Command { topic: entry.topic.clone(), value });
        Ok(())
    }
}

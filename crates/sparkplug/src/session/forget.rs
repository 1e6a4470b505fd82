//! Metrics of which nothing comes any more: they leave the births, and devices without metrics die.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::{Moment, Session};
use crate::catalog::{NODE, SILENT_ENOUGH_MS};

/// They are looked for ten times in the time that makes one silent, but no more and no less often than this.
const STEPS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3_600));
/// So many make room at once when there is none, so that not every new metric costs births of others.
const ROOM: usize = 64;

impl Session {
    pub(super) fn forget_step(&self) -> Duration {
        (self.settings.forget / 10).clamp(STEPS.0, STEPS.1)
    }

    /// Forgets metrics that have been silent for too long.
    pub(super) fn find_forgotten(&mut self, now: Moment) {
        if self.forget_at.is_none_or(|at| at > now.elapsed) {
            return;
        }
        self.forget_at = Some(now.elapsed + self.forget_step());
        if !self.behind.is_empty() {
            // What waited is still coming: it may be of any metric.
            return;
        }
        let silence = u64::try_from(self.settings.forget.as_millis()).unwrap_or(u64::MAX);
        let silent = self.silent(silence, now);
        self.forget(&silent, now);
    }

    /// Lets the longest silent metrics go when there are too many; returns whether there is room now. Nothing may be about
    /// to be sent.
    pub(super) fn make_room(&mut self, now: Moment) -> bool {
        let mut silent = self.silent(SILENT_ENOUGH_MS, now);
        silent.truncate(ROOM);
        self.forget(&silent, now);
        !self.memory.catalog.is_full()
    }

    fn silent(&mut self, silence_ms: u64, now: Moment) -> Vec<usize> {
        let waiting: BTreeSet<&Arc<str>> = self.rows.iter().map(|row| &row.topic).collect();
        let is_needed = |topic: &Arc<str>| waiting.contains(topic);
        self.memory.catalog.silent(silence_ms, now.unix_ms, is_needed)
    }

    fn forget(&mut self, metrics: &[usize], now: Moment) {
        let mut devices = BTreeSet::new();
        for index in metrics {
            self.left_out.remove(index);
            devices.extend(self.memory.catalog.remove(*index));
        }
        for device in devices {
            if device != NODE && self.memory.catalog.device(device).metrics.is_empty() {
                self.publish_death(device, now);
                self.lives.remove(&device);
                self.due.remove(&device);
                self.memory.catalog.remove_device(device);
            } else if self.life(device, now).born_at.is_some() {
                self.due.entry(device).or_default();
            }
        }
    }
}

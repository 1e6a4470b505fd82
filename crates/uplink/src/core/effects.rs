//! What comes of a record, or of the clock, beside the record itself.

use tidegate_model::{Clock, Reading, Topic};
use tidegate_rules::{Effects, Made};

use super::{Core, Now, WINDOW_BATCHES, forming::Moment};

impl Core {
    /// Returns when to call [`handle_idle`](Self::handle_idle) if all that arrived was handed in.
    pub fn poll_idle(&self) -> Option<std::time::Duration> {
        if !self.takes_ticks() {
            return None;
        }
        let rules =
            self.rules.wake().map(|wake| self.now.elapsed + wake.saturating_since(self.now.wall));
        [rules, self.rules_due()].into_iter().flatten().min()
    }

    /// Takes notice that every record was handed in that had arrived when the one before the last call was:
    /// what the rules keep for want of newer readings is due by the clock.
    pub fn handle_idle(&mut self, now: Now) {
        self.now = now;
        if !self.takes_ticks() {
            return;
        }
        if self.rules.wake().is_some_and(|wake| wake <= now.wall) {
            let mut effects = std::mem::take(&mut self.effects);
            if self.rules.advance(now.wall, &mut effects) {
                self.make_fit_all(&effects, None, now);
                self.take_effects(&mut effects, now);
                self.forming.note_tick(now.wall, now.elapsed);
            }
            self.effects = effects;
            if self.is_full(now) || self.rules_must_be_saved() {
                self.close();
            }
        }
        self.save_rules_when_idle();
        self.plan_move();
    }

    /// Returns whether more may be decided now.
    fn takes_ticks(&self) -> bool {
        self.restoring.is_empty() && self.unresolved() < WINDOW_BATCHES
    }

    /// Closes the batch if not all of this can go into it, and starts the next one. What comes of one record
    /// goes into one batch, however large it is; its clock is untrusted if any of them is.
    pub(super) fn make_fit_all(
        &mut self,
        effects: &Effects,
        record: Option<(&Topic, &Reading)>,
        now: Now,
    ) {
        let made = effects.made.iter().map(|made| (&made.topic, &made.reading));
        let all = || made.clone().chain(record);
        let Some(arrival) = all().map(|(_, reading)| reading.arrival).max() else { return };
        let size: usize =
            all().map(|(topic, reading)| self.encoder.reading_bound(topic, reading, true)).sum();
        let is_untrusted = all().any(|(_, reading)| reading.clock == Clock::Untrusted);
        let clock = if is_untrusted { Clock::Untrusted } else { Clock::Trusted };
        let replayed = self.link.is_replayed(arrival, now);
        let forming = &self.forming;
        let differs = forming.content.clock != clock || forming.content.replayed != replayed;
        let is_large = forming.size + size > self.settings.batch.bytes;
        if forming.readings > 0 && (differs || is_large) {
            self.close_batch(Moment::WithinRecord);
        }
        if self.forming.readings == 0 {
            self.forming.content.clock = clock;
            self.forming.content.replayed = replayed;
        }
    }

    /// Takes over what the rules made and let go.
    pub(super) fn take_effects(&mut self, effects: &mut Effects, now: Now) {
        for Made { name, topic, reading } in effects.made.drain(..) {
            let stream = self.streams.id(&topic);
            let raw = self.encoder.raw_of(&reading);
            let numbered = stream.map(|stream| (self.push(stream, &topic, &reading, raw), reading));
            self.forming.note_made(&self.rule_names[name], numbered);
        }
        for (made_by, filtered_by) in effects.made_in_vain.drain(..) {
            self.forming.note_in_vain(&self.rule_names[made_by], &self.rule_names[filtered_by]);
        }
        for (name, records) in effects.released.drain(..) {
            self.forming.release(&self.rule_names[name], records);
        }
        self.forming.open(now.elapsed);
    }
}

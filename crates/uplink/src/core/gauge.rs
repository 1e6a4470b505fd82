//! How large the batch that is being formed will be on the wire, and when to close it for that.
//!
//! What compression makes of a batch is not known before it is tried. It is tried once, when by the ratio of the
//! batch before it should have come to 95 % of the goal; from there on its own ratio is good enough to close
//! it at 99 %. Where the first guess was far off, it is tried again. What comes out larger than the far
//! side takes is divided before it is sent: decisions, and with them numbers, are the same for all parts.

use super::{Core, Now, RECORDS_MAX};

/// At how much of the goal a batch is tried, in per cent.
const TRY_AT: usize = 95;
/// From how much of the goal on the ratio found is good enough for what is left.
const NEAR: usize = 85;
/// At how much of the goal a batch is closed.
const CLOSE_AT: usize = 99;

/// What to do once the batch has grown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Try,
    Close,
}

/// Follows one batch after the other.
#[derive(Debug)]
pub(super) struct Gauge {
    /// The number of the batch that is followed.
    batch: u64,
    /// At how many metering steps it is to be closed.
    steps: usize,
    /// The last trial: the size before compression and on the wire.
    tried: (usize, usize),
    next: Next,
    /// At which size before compression.
    at: usize,
}

impl Gauge {
    pub(super) fn new() -> Self {
        // Half is more than most batches leave; the first trial finds out.
        Self { batch: 0, steps: 1, tried: (2, 1), next: Next::Try, at: 0 }
    }

    /// Returns at which size before compression a batch comes to so many per cent of `goal`.
    fn size_for(&self, goal: usize, percent: usize) -> usize {
        let (size, wire) = self.tried;
        let size = goal.saturating_mul(percent).saturating_mul(size) / wire.max(1) / 100;
        if goal == usize::MAX { usize::MAX } else { size }
    }

    fn aim(&mut self, goal: usize) {
        (self.next, self.at) = (Next::Try, self.size_for(goal, TRY_AT));
    }

    fn note(&mut self, size: usize, wire: usize, goal: usize) {
        self.tried = (size, wire);
        if wire.saturating_mul(100) >= goal.saturating_mul(NEAR) {
            (self.next, self.at) = (Next::Close, self.size_for(goal, CLOSE_AT));
        } else {
            self.aim(goal);
        }
    }
}

impl Core {
    /// Returns whether nothing more should be added to the batch that is being formed.
    pub(super) fn is_full(&mut self, now: Now) -> bool {
        self.forming.is_full(&self.settings.batch) || self.is_full_on_the_wire(now)
    }

    /// Returns how large a payload may be.
    pub(super) fn payload_bytes_max(&self) -> usize {
        let profile = self.settings.profile.bounds().payload_bytes;
        profile.min(self.settings.batch.wire_bytes.unwrap_or(usize::MAX))
    }

    /// Returns how large the payload should become, if so many metering steps are paid.
    fn goal(&self, steps: usize) -> usize {
        let most = self.payload_bytes_max();
        let Some(step) = self.settings.batch.metering_step else { return most };
        let metered = steps.saturating_mul(step);
        // What is metered beside the payload leaves something of each step, whatever the topic.
        metered.saturating_sub(self.encoder.metered_overhead()).max(step / 2).min(most)
    }

    fn is_full_on_the_wire(&mut self, now: Now) -> bool {
        if self.encoder.is_per_reading() || self.forming.readings == 0 {
            return false;
        }
        if self.gauge.batch != self.forming.number {
            (self.gauge.batch, self.gauge.steps) = (self.forming.number, 1);
            self.gauge.aim(self.goal(1));
        }
        while self.forming.size >= self.gauge.at {
            match self.gauge.next {
                Next::Try => self.try_size(),
                Next::Close => {
                    let further = self.goal(self.gauge.steps + 1);
                    if further <= self.goal(self.gauge.steps) || self.size_in_the_end(now) < further
                    {
                        return true;
                    }
                    self.gauge.steps += 1;
                    self.gauge.aim(further);
                }
            }
        }
        false
    }

    fn try_size(&mut self) {
        let wire = self.encoder.size(self.forming.number, &self.forming.content);
        while self.goal(self.gauge.steps) < wire
            && self.goal(self.gauge.steps + 1) > self.goal(self.gauge.steps)
        {
            self.gauge.steps += 1;
        }
        let goal = self.goal(self.gauge.steps);
        self.gauge.note(self.forming.size, wire, goal);
    }

    /// Returns how large the payload would become if the batch went on until another limit ends it, at the pace it
    /// has had.
    fn size_in_the_end(&self, now: Now) -> usize {
        let (forming, limits) = (&self.forming, &self.settings.batch);
        let (size, wire) = self.gauge.tried;
        let present = forming.size.saturating_mul(wire) / size.max(1);
        let grown = |most: u64, present_part: u64| {
            let times = u128::from(most) * present as u128 / u128::from(present_part.max(1));
            usize::try_from(times).unwrap_or(usize::MAX)
        };
        let records = forming.to.ordinal - forming.from.ordinal;
        let elapsed = now.elapsed.saturating_sub(forming.opened().unwrap_or(now.elapsed));
        let micros =
            |time: std::time::Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        grown(limits.readings as u64, forming.readings as u64)
            .min(grown(limits.bytes as u64, forming.size as u64))
            .min(grown(RECORDS_MAX, records))
            .min(grown(micros(limits.age), micros(elapsed)))
    }
}

#[cfg(test)]
mod tests;

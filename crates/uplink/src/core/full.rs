//! Letting the oldest records go when the uplink or the store is full, or when they have waited for too long.

use tidegate_model::Timestamp;

use super::{
    Core, Now,
    batch::{Batch, PartState},
    delivery::Link,
    forming::Mode,
};
use crate::{decision::GapEntry, ledger::DropReason, settings::WhenFull};

/// How much waits, and how the store is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// The size of the bodies of all records behind the cursor.
    pub queued_bytes: u64,
    /// Whether the store nears its reserve and asks uplinks to give something up.
    pub store_is_tight: bool,
}

/// Under pressure of the store, this part of what waits is given up at a time.
const TIGHT_DIVISOR: u64 = 8;
/// Once full, so much more is given up that it does not begin again with the next record.
const SLACK_DIVISOR: u64 = 16;

/// The beginning of 2025: a clock that stands before it was never set.
const EARLIEST: Timestamp = Timestamp::from_unix_micros(1_735_689_600_000_000);

impl Core {
    /// Returns whether the front should refuse records for this uplink.
    pub fn refuses(&self, load: Load) -> bool {
        self.settings.when_full == WhenFull::Refuse && load.queued_bytes >= self.settings.max_bytes
    }

    /// Lets the oldest records go if too much waits. Call it when the load has changed; it does
    /// nothing while what was given up before has not left the journal yet.
    ///
    /// Without a connection, decided batches go first, as they are the oldest; with one they are on
    /// their way and stay.
    pub fn handle_load(&mut self, load: Load, now: Now) {
        self.give_up_old(now);
        let excess = self.excess(load);
        if excess == 0 {
            if self.forming.is_dropping() && self.to_drop == 0 {
                self.stop_dropping();
            }
            return;
        }
        let mut left = excess;
        if !self.link.is_up() {
            left = left.saturating_sub(self.give_up_decided(left));
        }
        if left > 0 && self.restoring.is_empty() {
            self.to_drop = left;
            if !self.forming.is_dropping() {
                self.close();
                self.forming.mode = Mode::Dropping;
            }
        }
        self.plan_move();
        self.open_for_gaps(now);
    }

    /// Returns how many bytes must go, beside those that are about to.
    fn excess(&self, load: Load) -> u64 {
        if self.settings.when_full == WhenFull::Refuse {
            return 0;
        }
        let resolved: u64 =
            self.window.iter().filter(|batch| batch.open_parts == 0).map(|batch| batch.bytes).sum();
        let moving = self.moving.unwrap_or(0);
        let forming = if self.forming.is_dropping() { self.forming.bytes } else { 0 };
        let waiting = load.queued_bytes.saturating_sub(resolved + moving + forming);
        if waiting > self.settings.max_bytes {
            return waiting - (self.settings.max_bytes - self.settings.max_bytes / SLACK_DIVISOR);
        }
        // One share at a time: the store must get its space back before it is asked again.
        let nothing_leaves = resolved + moving + forming == 0;
        if load.store_is_tight && nothing_leaves { waiting.div_ceil(TIGHT_DIVISOR) } else { 0 }
    }

    /// Notes that a record was dropped, and stops when enough were.
    pub(super) fn note_dropped(&mut self, bytes: usize) {
        self.to_drop = self.to_drop.saturating_sub(bytes as u64);
        if self.to_drop == 0 {
            self.stop_dropping();
        }
    }

    fn stop_dropping(&mut self) {
        self.close();
        self.forming.mode = Mode::Deciding;
    }

    /// Gives up decided batches, oldest first, until `bytes` are reached. Returns how many were.
    fn give_up_decided(&mut self, bytes: u64) -> u64 {
        let mut given_up = 0;
        for batch in self.window.iter_mut().filter(|batch| batch.open_parts > 0) {
            if given_up >= bytes {
                break;
            }
            batch.give_up(DropReason::Full, &mut self.link);
            given_up += batch.bytes;
        }
        given_up
    }

    /// Returns whether the record with this ordinal, which arrived then, has waited for too long.
    ///
    /// A clock that was set in between must not make it old: none is older than the process if it came to it, none
    /// is while the clock is not trusted, and none whose clock stood at a time before there was this software.
    pub(super) fn is_too_old(&self, ordinal: u64, arrival: Timestamp, now: Now) -> bool {
        let Some(max_age) = self.settings.max_age else { return false };
        let may_be = ordinal <= self.settings.recovered || now.elapsed > max_age;
        may_be
            && now.wall_is_trusted
            && arrival >= EARLIEST
            && arrival.saturating_add(max_age) < now.wall
    }

    /// Without a connection, gives up decided batches all of whose records have waited for too long. With one they
    /// are on their way.
    fn give_up_old(&mut self, now: Now) {
        if self.settings.max_age.is_none() || self.link.is_up() {
            return;
        }
        let mut window = std::mem::take(&mut self.window);
        let mut some_went = false;
        for batch in window.iter_mut().filter(|batch| batch.open_parts > 0) {
            let last = batch.to.ordinal;
            if batch.newest.is_some_and(|newest| self.is_too_old(last, newest, now)) {
                batch.give_up(DropReason::Age, &mut self.link);
                some_went = true;
            }
        }
        self.window = window;
        if some_went {
            self.plan_move();
        }
    }
}

impl Batch {
    /// Drops what is not acknowledged yet.
    fn give_up(&mut self, reason: DropReason, link: &mut Link) {
        for part in self.parts.iter_mut().filter(|part| part.state != PartState::Done) {
            part.state = PartState::Done;
            link.forget_suspect(part);
            self.open_parts -= 1;
            let readings = part.content.readings() as u64;
            self.outcomes.add_dropped(reason, readings);
            let readings = part.content.as_gaps(reason);
            self.lost.extend(readings.map(|gap| GapEntry::from(&gap)));
            self.lost.extend(part.content.gaps.iter().map(GapEntry::from));
        }
    }
}

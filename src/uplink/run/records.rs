//! Records: from the journal to the core.

use std::time::{Duration, Instant};

use tidegate_store::Item;
use tidegate_uplink::Load;
use tokio::runtime::{Handle, RuntimeFlavor};

use super::{Run, UplinkError};

/// Records taken from the reader at a time.
const BLOCK_RECORDS: usize = 512;
/// Bytes of records taken from the reader at a time.
const BLOCK_BYTES: usize = 256 << 10;
/// How often it is looked whether the clock is known to be right, for records that wait for that.
const CLOCK_INTERVAL: Duration = Duration::from_millis(100);
/// Records handed to the core before the connection gets its turn.
const RECORDS_PER_TURN: usize = 4_096;

impl Run<'_> {
    /// Tells the core how much waits.
    pub(super) fn check_load(&mut self) {
        let load = Load {
            queued_bytes: self.shared.queued_bytes(),
            // What is spilled takes up less room: nothing is given up before that has been tried.
            store_is_tight: self.store_is_tight() && !self.spiller.may_relieve(),
        };
        self.core.handle_load(load, self.shared.now());
    }

    /// Hands records to the core while it wants them.
    pub(super) fn read(&mut self) -> Result<(), UplinkError> {
        if self.items_wait_until.is_some_and(|until| until > Instant::now()) {
            return Ok(());
        }
        self.items_wait_until = None;
        let is_due = self.may_read && Instant::now() >= self.read_at;
        if !self.core.wants_items() || (self.items.is_empty() && !is_due) {
            return Ok(());
        }
        // The reader waits for the disk, and batches are compressed on the way.
        if Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread {
            tokio::task::block_in_place(|| self.read_turn())
        } else {
            self.read_turn()
        }
    }

    fn read_turn(&mut self) -> Result<(), UplinkError> {
        let now = self.shared.now();
        for _ in 0..RECORDS_PER_TURN {
            if !self.core.wants_items() {
                return Ok(());
            }
            if self.items.is_empty() {
                self.items = self.reader.next_block(BLOCK_RECORDS, BLOCK_BYTES)?.into();
            }
            let Some(item) = self.items.pop_front() else {
                self.may_read = false;
                self.read_at = Instant::now() + self.read_interval;
                return Ok(());
            };
            if let Item::Record { seq, .. } = &item {
                let Some(stamp) = self.shared.time.stamp(*seq) else {
                    // It is not known yet when it came in.
                    self.items.push_front(item);
                    self.items_wait_until = Some(Instant::now() + CLOCK_INTERVAL);
                    return Ok(());
                };
                self.core.set_stamp(stamp);
            }
            self.core.handle_item(&item, now);
        }
        Ok(())
    }
}

//! Memory that is given back: what a storm of connections took does not stay with the process.

mod allowance;
mod ceiling;
mod strangers;

use std::fs;

use tracing::debug;

pub use self::{
    allowance::ceiling_within,
    ceiling::{Ceiling, Pressure},
    strangers::Stranger,
};

/// By how much more than the least that was seen memory may have grown before freed memory is looked for.
const GROWTH_BYTES: u64 = 4 << 20;

/// The resident memory of this process, watched.
#[derive(Debug, Default)]
pub struct Memory {
    least: Option<u64>,
}

impl Memory {
    /// Gives freed memory back if there may be much of it. Blocks for some milliseconds at most.
    pub fn look(&mut self) {
        let Some(before) = resident() else { return };
        let least = *self.least.get_or_insert(before);
        if before < least.saturating_add(GROWTH_BYTES) {
            self.least = Some(least.min(before));
            return;
        }
        tidegate_heap::give_back();
        if let Some(after) = resident() {
            debug!(before, after, "Freed memory given back");
            self.least = Some(least.min(after));
        }
    }
}

/// Returns the resident memory in bytes (proc(5)).
fn resident() -> Option<u64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * u64::try_from(rustix::param::page_size()).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_tells_the_memory() {
        let bytes = resident().unwrap();
        assert!((1 << 20..1 << 40).contains(&bytes), "{bytes}");
    }
}

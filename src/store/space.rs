//! Free space: what is left, what is set aside for draining, and when to refuse.

use std::fs::File;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use rustix::fs::{FallocateFlags, Mode, OFlags};

use crate::config::StoreConfig;

/// The file that occupies part of the reserve, so that other programs cannot take it.
const RESERVE_FILE: &str = "reserve";
/// It takes up this part of the reserve.
const HELD_PART: u64 = 4;
/// While the margin is written, what is left is looked at so often.
const CHECKS_IN_MARGIN: u64 = 16;
/// Refusing ends when this part of the reserve is free beyond it.
const HYSTERESIS_PART: u64 = 4;

/// Whether new durable traffic is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is.
    Accepting,
    /// There is no room but for draining.
    StorageFull,
}

/// Space on the disk that is held for hard times.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    /// How much is held now.
    held: Mutex<u64>,
}

impl Reserve {
    pub(super) fn new(directory: &Path) -> Self {
        let path = directory.join(RESERVE_FILE);
        let held = path.symlink_metadata().map_or(0, |metadata| metadata.len());
        Self { path, held: Mutex::new(held) }
    }

    pub(super) fn held(&self) -> u64 {
        *self.held.lock()
    }

    /// Sets space aside. Without room, or on a file system that cannot, nothing is.
    pub(super) fn hold(&self, bytes: u64) {
        let mut held = self.held.lock();
        if *held >= bytes {
            return;
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o600);
        let Ok(file) = rustix::fs::open(&self.path, flags, mode).map(File::from) else { return };
        match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes) {
            Ok(()) => *held = bytes,
            Err(_) => {
                // Part of it may have been taken.
                let _ = file.set_len(0);
                *held = 0;
            }
        }
    }

    /// Gives the space back to the file system, for draining.
    pub(super) fn give_up(&self) {
        let mut held = self.held.lock();
        // What was never there need not be removed.
        let _ = std::fs::remove_file(&self.path);
        *held = 0;
    }
}

/// The limits, and what follows from what is left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    bytes_max: u64,
    reserve: u64,
    /// Room beyond the reserve below which the oldest records are given up.
    margin: u64,
}

impl Budget {
    pub(super) fn new(config: &StoreConfig, segment_bytes: u64) -> Self {
        let (bytes_max, reserve) = (config.max_bytes.get(), config.reserve.get());
        // Space comes back segment by segment.
        let margin = reserve.min(bytes_max / 8).max(2 * segment_bytes);
        Self { bytes_max, reserve, margin }
    }

    /// Returns after how much that was written what is left is looked at, so that a fast flood meets the pressure
    /// long before the refusal.
    pub(super) fn check_bytes(&self) -> u64 {
        self.margin / CHECKS_IN_MARGIN
    }

    /// Returns how much is held on the disk as part of the reserve.
    pub(super) fn held_bytes(&self) -> u64 {
        self.reserve / HELD_PART
    }

    /// Returns how much may still be written, the reserve included.
    pub(super) fn left(&self, journal_bytes: u64, free_bytes: u64) -> u64 {
        self.bytes_max.saturating_sub(journal_bytes).min(free_bytes)
    }

    /// Decides about new durable traffic; once refused, it is taken again a little later.
    pub(super) fn admission(&self, left: u64, now: Admission) -> Admission {
        let needed = match now {
            Admission::Accepting => self.reserve,
            Admission::StorageFull => self.reserve + self.reserve / HYSTERESIS_PART,
        };
        if left < needed { Admission::StorageFull } else { Admission::Accepting }
    }

    /// Returns how many bytes of the oldest records should be given up.
    pub(super) fn pressure(&self, left: u64) -> u64 {
        (self.reserve + self.margin).saturating_sub(left)
    }
}

#[cfg(test)]
mod tests {
    use tidegate_settings::ByteSize;

    use super::*;

    #[test]
    fn fault_s10_pressure_comes_before_refusal() {
        use Admission::{Accepting, StorageFull};
        let config = StoreConfig {
            max_bytes: ByteSize::mib(128),
            reserve: ByteSize::mib(16),
            ..StoreConfig::default()
        };
        let budget = Budget::new(&config, 1 << 20);
        #[rustfmt::skip]
        let cases = [
            // journal, free,  left, pressure, from accepting, from refusing
            (10,        1_000, 118,  0,        Accepting,      Accepting),
            (100,       1_000, 28,   4,        Accepting,      Accepting),
            (110,       1_000, 18,   14,       Accepting,      StorageFull),
            (115,       1_000, 13,   19,       StorageFull,    StorageFull),
            (130,       1_000, 0,    32,       StorageFull,    StorageFull),
            (10,        12,    12,   20,       StorageFull,    StorageFull),
        ];
        for (journal, free, left, pressure, accepting, refusing) in cases {
            let mib = |count: u64| count << 20;
            assert_eq!(budget.left(mib(journal), mib(free)), mib(left), "{journal}");
            assert_eq!(budget.pressure(mib(left)), mib(pressure), "{journal}");
            assert_eq!(budget.admission(mib(left), Accepting), accepting, "{journal}");
            assert_eq!(budget.admission(mib(left), StorageFull), refusing, "{journal}");
        }
    }

    #[test]
    fn what_is_held_is_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let reserve = Reserve::new(folder.path());
        reserve.hold(64 << 10);
        let file = folder.path().join(RESERVE_FILE);
        if reserve.held() > 0 {
            assert_eq!(file.metadata().unwrap().len(), 64 << 10);
            assert_eq!(Reserve::new(folder.path()).held(), 64 << 10);
        }
        reserve.give_up();
        assert_eq!(reserve.held(), 0);
        assert!(!file.exists());
    }
}

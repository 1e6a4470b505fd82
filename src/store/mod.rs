//! The journal's files, its lock, and the thread that writes it.
//!
//! [`DataDirectory`] is opened and locked first, [`open`] recovers the journal in it, and [`spawn`]
//! starts the one thread that writes, syncs and deletes. Everybody else holds a [`StoreHandle`].

mod directory;
mod files;
mod handle;
mod queue;
mod space;
mod status;
mod sync_times;
mod wear;
mod writer;

use std::hash::{BuildHasher, RandomState};

use tidegate_store::{Journal, JournalOptions, OpenError, Recovery, Visibility};

pub use self::directory::{DataDirectory, DirectoryError};
pub use self::files::JournalFiles;
pub use self::handle::{Pressure, StoreHandle};
pub use self::queue::{Completion, DurableListener, NotStored};
pub use self::space::Admission;
pub use self::status::StoreStatus;
pub use self::wear::Written;
pub use self::writer::{Store, spawn};
use crate::config::{Durability, StoreConfig};

/// A segment is at most this part of what the journal may hold, so that space comes back in time.
const SEGMENTS_PER_STORE: u64 = 16;
/// Segments are not made smaller than this.
const SEGMENT_BYTES_MIN: u64 = 256 << 10;

/// Opens the journal of a data directory, or makes a new one, and recovers it.
///
/// On a full disk the space that was set aside for draining is given up first.
///
/// # Errors
///
/// See [`Journal::open`].
pub fn open(
    directory: &DataDirectory,
    config: &StoreConfig,
) -> Result<(Journal<JournalFiles>, Recovery), OpenError> {
    let files = directory.journal_files();
    match Journal::open(files.clone(), options(config)) {
        Err(error) if error.is_storage_full() => {
            directory.reserve().give_up();
            Journal::open(files, options(config))
        }
        opened => opened,
    }
}

fn options(config: &StoreConfig) -> JournalOptions {
    // The standard library seeds its hash maps from the system's random source.
    let epoch = RandomState::new().hash_one("epoch");
    JournalOptions {
        segment_bytes: segment_bytes(config),
        visibility: match config.durability {
            Durability::Ack => Visibility::Synced,
            Durability::Interval(_) | Durability::Memory => Visibility::Written,
        },
        ..JournalOptions::new(epoch)
    }
}

/// Returns how large the segments of a journal are.
pub(crate) fn segment_bytes(config: &StoreConfig) -> u64 {
    let share = config.max_bytes.get() / SEGMENTS_PER_STORE;
    share.clamp(SEGMENT_BYTES_MIN, JournalOptions::SEGMENT_BYTES_DEFAULT)
}

#[cfg(test)]
mod tests;

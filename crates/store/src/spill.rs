//! Records of a taker that lags far behind, moved out of the journal into compressed files of its own.
//!
//! A taker whose cursor stands still would keep every segment since alive, with all that others have in
//! them. What it still needs of old segments is copied into a *spill file*, which is a fraction as large;
//! once the file is on disk and its [`SpillEntry`] stands in the journal's state, the segments may go. A
//! [`QueueReader`] reads on as if nothing had happened.
//!
//! The files of a taker follow each other without a hole and end where the journal takes over. The journal
//! does not know them: whoever asks for one keeps the entry, under keys of its own.

mod file;
mod queue;
mod write;

#[cfg(test)]
mod tests;

pub use self::file::{SpillEntry, SpillError};
pub use self::queue::{QueueReader, Spilled};
pub use self::write::Stopped;

use std::io;

use crate::catalog::Catalog;
use crate::file_system::FileSystem;
use crate::format;
use crate::position::TakerId;

impl<F: FileSystem> Catalog<F> {
    /// Removes a spill file; one that is gone already is no error.
    ///
    /// # Errors
    ///
    /// The storage failed.
    pub fn remove_spill(&self, taker: TakerId, number: u64) -> io::Result<()> {
        match self.files().remove(&format::spill_name(taker, number)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Removes the spill files that nobody has an entry of: those of takers that are gone, and those that a
    /// crash left between the file and the entry. Returns how many there were.
    ///
    /// # Errors
    ///
    /// The storage failed.
    pub fn remove_spills_except(
        &self,
        is_known: impl Fn(TakerId, u64) -> bool,
    ) -> io::Result<usize> {
        let mut removed = 0;
        for name in self.files().list()? {
            let Some((taker, number)) = format::spill_of_name(&name) else { continue };
            if !is_known(taker, number) {
                self.remove_spill(taker, number)?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

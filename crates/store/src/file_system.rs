//! What the journal asks of storage: one directory of files, written in place and synced.

use std::{fmt, io};

/// One directory that belongs to the journal alone. Clones name the same directory.
///
/// Names are plain ASCII file names without a separator. A rename, creation or removal survives a
/// power cut only after [`sync_directory`](Self::sync_directory) has returned; the contents of a
/// file only after [`File::sync_data`].
pub trait FileSystem: Clone + fmt::Debug + Send + Sync + 'static {
    /// An open file.
    type File: File;

    /// Returns the names of all files, in any order.
    ///
    /// # Errors
    ///
    /// Whatever the storage reports.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Creates an empty file for reading and writing.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` if there is one of that name; else whatever the storage reports.
    fn create(&self, name: &str) -> io::Result<Self::File>;

    /// Opens an existing file for reading and writing.
    ///
    /// # Errors
    ///
    /// `NotFound` if there is none; else whatever the storage reports.
    fn open(&self, name: &str) -> io::Result<Self::File>;

    /// Gives a file another name, in one step, and replaces a file that had it.
    ///
    /// # Errors
    ///
    /// Whatever the storage reports.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file. Open handles stay usable.
    ///
    /// # Errors
    ///
    /// Whatever the storage reports.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes all earlier creations, renames and removals durable.
    ///
    /// # Errors
    ///
    /// Whatever the storage reports. A later success covers nothing that came before a failure.
    fn sync_directory(&self) -> io::Result<()>;

    /// Returns how many bytes may still be written.
    ///
    /// # Errors
    ///
    /// Whatever the storage reports.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// One open file; usable from several threads at once.
pub trait File: fmt::Debug + Send + Sync + 'static {
    /// Fills `buffer` from `offset` on and returns how many bytes there were.
    ///
    /// Fewer than asked for are returned at the end of the file only.
    ///
    /// # Errors
    ///
    /// Whatever the storage reports.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes all of `bytes` at `offset`; a hole before it reads as zeros.
    ///
    /// # Errors
    ///
    /// Whatever the storage reports; `StorageFull` if there is no room. Part of the bytes may have
    /// been written.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Returns the length in bytes.
    ///
    /// # Errors
    ///
    /// Whatever the storage reports.
    fn len(&self) -> io::Result<u64>;

    /// Returns whether the file holds nothing.
    ///
    /// # Errors
    ///
    /// Whatever the storage reports.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Shortens the file to `length` bytes.
    ///
    /// # Errors
    ///
    /// Whatever the storage reports.
    fn truncate(&self, length: u64) -> io::Result<()>;

    /// Makes everything written so far durable.
    ///
    /// # Errors
    ///
    /// Whatever the storage reports. A later success covers nothing that came before a failure.
    fn sync_data(&self) -> io::Result<()>;
}

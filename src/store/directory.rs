//! The data directory: made private, checked, and locked against a second gateway.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Arc;

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use thiserror::Error;

use super::files::JournalFiles;
use super::space::Reserve;
use crate::private_folder;

/// The file whose lock says that a gateway is at work here.
const LOCK_FILE: &str = "lock";
/// The folder of the journal.
const JOURNAL_FOLDER: &str = "journal";
const OTHERS_MAY_WRITE: u32 = 0o002;

/// A data directory that belongs to this process until it is dropped.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    files: JournalFiles,
    reserve: Arc<Reserve>,
    lock: File,
}

/// A data directory cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// Another process is at work there. Exit code 75.
    #[error("{} is in use by {holder}", .path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
        /// Who has it, in words.
        holder: String,
    },
    /// Others could change what is in it.
    #[error("{}: {problem}; to correct it: {remedy}", .path.display())]
    Unsafe {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
        /// What to do, as a command where there is one.
        remedy: String,
    },
    /// The file system refused.
    #[error("cannot {action} {}", .path.display())]
    Storage {
        /// What was tried.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl DirectoryError {
    /// Returns the exit code of the process that could not start because of it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::InUse { .. } => 75,
            Self::Unsafe { .. } | Self::Storage { .. } => 74,
        }
    }

    fn storage(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Storage { action, path: path.to_owned(), source }
    }
}

impl DataDirectory {
    /// Makes the directory if there is none, checks that nobody else can change it, and locks it.
    ///
    /// Nothing but the lock is touched before it is held. The lock ends with the process.
    ///
    /// # Errors
    ///
    /// See [`DirectoryError`].
    pub fn open(path: &Path) -> Result<Self, DirectoryError> {
        make_private(path)?;
        let lock = lock(path)?;
        let journal = path.join(JOURNAL_FOLDER);
        make_private(&journal)?;
        let files = JournalFiles::open(&journal)
            .map_err(|source| DirectoryError::storage("open", &journal, source))?;
        let reserve = Arc::new(Reserve::new(path));
        Ok(Self { path: path.to_owned(), files, reserve, lock })
    }

    /// Returns where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn journal_files(&self) -> JournalFiles {
        self.files.clone()
    }

    pub(super) fn reserve(&self) -> Arc<Reserve> {
        Arc::clone(&self.reserve)
    }
}

impl Drop for DataDirectory {
    fn drop(&mut self) {
        // So that nobody takes an old number for the holder; the lock itself ends with the file.
        let _ = self.lock.set_len(0);
    }
}

/// Makes a directory for this user alone, or checks the one that is there.
fn make_private(path: &Path) -> Result<(), DirectoryError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(DirectoryError::storage("look at", path, source)),
        Ok(metadata) => check(path, &metadata)?,
    }
    // Without its name on disk a power cut would take all that is in it, whatever was synced there.
    private_folder::make(path).map_err(|source| DirectoryError::storage("create", path, source))
}

fn check(path: &Path, metadata: &fs::Metadata) -> Result<(), DirectoryError> {
    let refuse =
        |problem, remedy| Err(DirectoryError::Unsafe { path: path.to_owned(), problem, remedy });
    let shown = path.display();
    if metadata.is_symlink() {
        let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let remedy = format!("name {} itself, or rm {shown}", target.display());
        return refuse("it is a symbolic link, which can be made to point elsewhere", remedy);
    }
    if !metadata.is_dir() {
        return refuse("it is not a directory", format!("rm {shown}"));
    }
    let user = rustix::process::geteuid().as_raw();
    if metadata.uid() != user {
        return refuse("it belongs to another user", format!("chown -R {user} {shown}"));
    }
    if metadata.mode() & OTHERS_MAY_WRITE != 0 {
        return refuse("every user may write to it", format!("chmod 0700 {shown}"));
    }
    Ok(())
}

fn lock(directory: &Path) -> Result<File, DirectoryError> {
    let path = directory.join(LOCK_FILE);
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::open(&path, flags, Mode::from_raw_mode(0o600));
    let mut file = match opened {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::LOOP) => {
            return Err(DirectoryError::Unsafe {
                problem: "it is a symbolic link, which can be made to point elsewhere",
                remedy: format!("rm {}", path.display()),
                path,
            });
        }
        Err(error) => return Err(DirectoryError::storage("open", &path, error.into())),
    };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            return Err(DirectoryError::InUse {
                path: directory.to_owned(),
                holder: holder(&mut file),
            });
        }
        Err(error) => return Err(DirectoryError::storage("lock", &path, error.into())),
    }
    let write_number = |file: &mut File| {
        file.set_len(0)?;
        writeln!(file, "{}", process::id())
    };
    write_number(&mut file).map_err(|source| DirectoryError::storage("write", &path, source))?;
    Ok(file)
}

/// Says who holds a lock: as the system tells it, else as the holder wrote it.
fn holder(file: &mut File) -> String {
    let locked = file.metadata().ok().and_then(|metadata| {
        let locks = fs::read_to_string("/proc/locks").ok()?;
        holder_in(&locks, metadata.ino())
    });
    let written = || {
        let mut text = String::new();
        file.take(32).read_to_string(&mut text).ok()?;
        text.trim().parse::<u32>().ok()
    };
    match locked.or_else(written) {
        Some(number) => format!("process {number}"),
        None => "another process".to_owned(),
    }
}

/// Finds the holder of a file's lock in `/proc/locks`.
///
/// A line is `1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF`: the process, device and inode.
fn holder_in(locks: &str, inode: u64) -> Option<u32> {
    let inode = format!(":{inode}");
    locks.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        if words.next() != Some("FLOCK") {
            return None;
        }
        let process = words.nth(2)?;
        words.next().filter(|file| file.ends_with(&inode))?;
        process.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_lock_is_found_by_inode() {
        let locks = "1: POSIX  ADVISORY  WRITE 11 08:01:77 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 22 08:01:177 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 33 08:01:77 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 44 08:01:77 0 EOF\n";
        assert_eq!(holder_in(locks, 77), Some(44));
        assert_eq!(holder_in(locks, 78), None);
    }
}

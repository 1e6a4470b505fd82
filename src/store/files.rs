//! The journal's files on a real file system.

use std::fs::File as StdFile;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use tidegate_store::{File, FileSystem};

use super::sync_times::SyncTimes;
use super::wear::Wear;

/// The folder of the journal. Every file is reached through the folder that was opened first, is a
/// plain file, and is for this user alone.
#[derive(Clone, Debug)]
pub struct JournalFiles(Arc<Folder>);

#[derive(Debug)]
struct Folder {
    path: PathBuf,
    descriptor: OwnedFd,
    gauges: Gauges,
}

/// What is measured of the medium.
#[derive(Clone, Debug, Default)]
pub(super) struct Gauges {
    /// How long syncs take.
    pub(super) sync_times: Arc<SyncTimes>,
    /// How much is written.
    pub(super) wear: Arc<Wear>,
}

/// One file of the journal.
#[derive(Debug)]
pub struct JournalFile {
    file: StdFile,
    gauges: Gauges,
}

impl JournalFiles {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let descriptor = rustix::fs::open(path, flags, Mode::empty())?;
        let gauges = Gauges::default();
        Ok(Self(Arc::new(Folder { path: path.to_owned(), descriptor, gauges })))
    }

    /// Returns what is measured while they are used.
    pub(super) fn gauges(&self) -> Gauges {
        self.0.gauges.clone()
    }

    fn open_file(&self, name: &str, flags: OFlags) -> io::Result<JournalFile> {
        let flags = flags | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o600);
        let opened = match rustix::fs::openat(&self.0.descriptor, name, flags, mode) {
            Ok(opened) => opened,
            Err(rustix::io::Errno::LOOP) => return Err(self.not_plain(name, "a symbolic link")),
            Err(error) => return Err(error.into()),
        };
        let status = rustix::fs::fstat(&opened)?;
        if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
            return Err(self.not_plain(name, "no plain file"));
        }
        Ok(JournalFile { file: StdFile::from(opened), gauges: self.gauges() })
    }

    fn not_plain(&self, name: &str, what: &str) -> io::Error {
        let path = self.0.path.join(name);
        let path = path.display();
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{path} is {what}; to correct it: rm {path}"),
        )
    }
}

impl FileSystem for JournalFiles {
    type File = JournalFile;

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.0.path)? {
            // A name that is no text is none of ours.
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<JournalFile> {
        self.open_file(name, OFlags::CREATE | OFlags::EXCL)
    }

    fn open(&self, name: &str) -> io::Result<JournalFile> {
        self.open_file(name, OFlags::empty())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let folder = &self.0.descriptor;
        Ok(rustix::fs::renameat(folder, from, folder, to)?)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.0.descriptor, name, AtFlags::empty())?)
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.0.gauges.sync_times.measure(|| Ok(rustix::fs::fsync(&self.0.descriptor)?))
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let status = rustix::fs::fstatvfs(&self.0.descriptor)?;
        Ok(status.f_bavail.saturating_mul(status.f_frsize))
    }
}

impl File for JournalFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.file.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)?;
        self.gauges.wear.note(offset, bytes.len());
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.gauges.sync_times.measure(|| self.file.sync_data())
    }
}

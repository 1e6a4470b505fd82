//! Where sets and the note are kept: `data-dir/push`, files of mode 0600 that carry their own checksum.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use data_encoding::HEXLOWER;
use ring::digest::{SHA256, digest};
use rustix::fs::{Mode, OFlags};
use serde_json::Value as Json;
use thiserror::Error;
use tidegate_model::Timestamp;
use tracing::{error, warn};

use super::{Note, PushedSet, Restart, set};
use crate::{
    secret_file,
    store::{DataDirectory, DirectoryError},
};

/// Name of the folder in the data directory.
pub const FOLDER: &str = "push";
const NOTE: &str = "note";
const SET_PREFIX: &str = "set-";
/// Larger files were not written here: each byte of a text takes six at most in JSON, and names are short.
const FILE_BYTES_MAX: u64 = 8 * set::BYTES_MAX as u64;
/// Who a return is ascribed to that nobody asked for.
pub(super) const GATEWAY: &str = "gateway";

/// The folder of sets and the note on them.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

/// What was pushed cannot be read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FolderError {
    /// The file system refused.
    #[error("{}: {source}", .path.display())]
    Storage {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not as it was written.
    #[error(
        "{}: the file is damaged; `tidegate run` goes on with the last intact set", .path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
    },
}

impl Folder {
    /// Takes the folder at a path, which need not exist.
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Returns the set in force; `None` if that are the files in the folder of the configuration.
    ///
    /// # Errors
    ///
    /// If the note or the set cannot be read.
    pub fn in_force(&self) -> Result<Option<PushedSet>, FolderError> {
        match self.read_note()?.map_or(0, |note| note.in_force()) {
            0 => Ok(None),
            number => self.read_set(number).map(Some),
        }
    }

    /// Returns the note, if anything was ever pushed.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub fn read_note(&self) -> Result<Option<Note>, FolderError> {
        let path = self.0.join(NOTE);
        match read(&path)? {
            None => Ok(None),
            Some(kept) => match Note::from_json(&kept) {
                Some(note) => Ok(Some(note)),
                None => Err(FolderError::Damaged { path }),
            },
        }
    }

    /// Returns a set; set 0 has nothing of its own.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or is not there.
    pub fn read_set(&self, number: u64) -> Result<PushedSet, FolderError> {
        if number == 0 {
            return Ok(PushedSet::default());
        }
        let path = self.set(number);
        let missing =
            || FolderError::Storage { path: path.clone(), source: io::ErrorKind::NotFound.into() };
        let kept = read(&path)?.ok_or_else(missing)?;
        PushedSet::from_json(&kept).ok_or(FolderError::Damaged { path })
    }

    /// Replaces the note: when this returns, the new one is on disk; when it fails, the old one or the new one.
    pub(super) fn write_note(&self, note: &Note) -> anyhow::Result<()> {
        self.write(&self.0.join(NOTE), &note.to_json())
    }

    /// Puts a set on disk.
    pub(super) fn write_set(&self, number: u64, set: &PushedSet) -> anyhow::Result<()> {
        self.write(&self.set(number), &set.to_json())
    }

    /// Removes all but the note and the sets that are needed: what interrupted writes have left goes, too. What fails is tried again with the
    /// next push.
    pub(super) fn prune(&self, needed: &BTreeSet<u64>) {
        let listing = match fs::read_dir(&self.0) {
            Ok(listing) => listing,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => return warn!(%error, "Old sets cannot be looked for"),
        };
        for entry in listing.flatten() {
            let name = entry.file_name();
            let name = name.to_str().unwrap_or_default();
            let number = name.strip_prefix(SET_PREFIX).and_then(|number| number.parse().ok());
            let is_needed = name == NOTE || number.is_some_and(|number| needed.contains(&number));
            if !is_needed && let Err(error) = fs::remove_file(entry.path()) {
                warn!(path = %entry.path().display(), %error, "An old set cannot be removed");
            }
        }
    }

    fn set(&self, number: u64) -> PathBuf {
        self.0.join(format!("{SET_PREFIX}{number}"))
    }

    fn write(&self, path: &Path, content: &Json) -> anyhow::Result<()> {
        secret_file::make_folder(&self.0)?;
        secret_file::sync_folder_of(&self.0)?;
        let content = content.to_string();
        let text = format!("{}\n{content}\n", checksum(content.as_bytes()));
        secret_file::replace(&[(path, text.as_bytes())])
    }
}

fn checksum(bytes: &[u8]) -> String {
    HEXLOWER.encode(digest(&SHA256, bytes).as_ref())
}

/// Reads a file that [`Folder::write`] made; `None` if there is none. A symbolic link is not followed.
fn read(path: &Path) -> Result<Option<Json>, FolderError> {
    let failed = |source| FolderError::Storage { path: path.to_owned(), source };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(error) => return Err(failed(error.into())),
    };
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(failed)?;
    let damaged = || FolderError::Damaged { path: path.to_owned() };
    let text = String::from_utf8(bytes).map_err(|_| damaged())?;
    let (sum, content) = text.split_once('\n').ok_or_else(damaged)?;
    let content = content.strip_suffix('\n').ok_or_else(damaged)?;
    if sum != checksum(content.as_bytes()) {
        return Err(damaged());
    }
    serde_json::from_str(content).map(Some).map_err(|_| damaged())
}

/// Puts in order, before a start, what the end of the last run has left: a set that was on trial is put back, and one that
/// is damaged gives way to the last intact one.
///
/// To be called before the configuration is read. Writes nothing unless there is something to put in order, and then
/// under the lock of the data directory; leaves everything to whoever holds that.
///
/// # Errors
///
/// If the data directory cannot be used, or the note cannot be written.
pub fn settle(folder: PathBuf, now: Timestamp) -> anyhow::Result<()> {
    let Some(data_dir) = folder.parent().map(Path::to_owned) else { return Ok(()) };
    let folder = Folder::new(folder);
    if folder.is_in_order() {
        return Ok(());
    }
    let _lock = match DataDirectory::open(&data_dir) {
        // Its note is no business of ours; the start fails by the same lock.
        Err(DirectoryError::InUse { .. }) => return Ok(()),
        opened => opened?,
    };
    let mut note = match folder.read_note() {
        Ok(note) => note.unwrap_or_default(),
        Err(error) => {
            error!(%error, "Which set was pushed last is not known any more: the files of the configuration's folder are in force");
            // Numbers of sets are not used again for as long as files with them may be there.
            Note { next: folder.numbers().last().map_or(1, |last| last + 1), ..Note::default() }
        }
    };
    if let Some(trial) = &mut note.trial
        && trial.restart == Restart::Due
        && folder.read_set(trial.set).is_ok()
    {
        // The start that the set needs; whatever ends it ends the trial.
        trial.restart = Restart::Begun;
        return folder.write_note(&note);
    }
    if let Some(trial) = &note.trial {
        error!(
            set = trial.set,
            "A set was on trial when the last run ended; the last good one is put back"
        );
        note.put_back(GATEWAY, now, "the gateway ended while it was on trial");
    }
    while let Err(error) = folder.read_set(note.last_good()) {
        error!(set = note.last_good(), %error, "The set in force cannot be read; the one before it is put back");
        note.go_back(GATEWAY, now, &error.to_string());
    }
    folder.write_note(&note)?;
    folder.prune(&note.needed());
    Ok(())
}

/// Puts back a set with which this start has failed. Returns whether there was one: then the next start has another.
///
/// # Errors
///
/// As [`settle`].
pub fn put_back(folder: PathBuf, now: Timestamp, reason: &str) -> anyhow::Result<bool> {
    let Some(data_dir) = folder.parent().map(Path::to_owned) else { return Ok(false) };
    let folder = Folder::new(folder);
    if folder.read_note()?.is_none_or(|note| note.trial.is_none()) {
        return Ok(false);
    }
    let _lock = DataDirectory::open(&data_dir)?;
    let Some(mut note) = folder.read_note()? else { return Ok(false) };
    note.put_back(GATEWAY, now, reason);
    folder.write_note(&note)?;
    folder.prune(&note.needed());
    Ok(true)
}

impl Folder {
    /// Returns whether the set in force can be read and is not on trial.
    fn is_in_order(&self) -> bool {
        match self.read_note() {
            Ok(None) => true,
            Ok(Some(note)) => note.trial.is_none() && self.read_set(note.last_good()).is_ok(),
            Err(_) => false,
        }
    }

    /// Returns the numbers of the sets that are there.
    fn numbers(&self) -> BTreeSet<u64> {
        let listing = fs::read_dir(&self.0).into_iter().flatten().flatten();
        listing
            .filter_map(|entry| entry.file_name().to_str()?.strip_prefix(SET_PREFIX)?.parse().ok())
            .collect()
    }
}

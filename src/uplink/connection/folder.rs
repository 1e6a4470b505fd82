//! The folder of one connection, for what belongs to it alone: files for the owner, each replaced as a whole.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use tidegate_uplink::{Disconnect, Failure};
use zeroize::Zeroizing;

use super::super::link::LinkError;
use crate::secret_file;

/// Larger files are not ours.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// A folder; it is made when something is written.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    path: PathBuf,
}

impl Folder {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Returns the path, for people.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns what a file says; what is no text, or too long, counts as missing.
    pub(super) async fn read(&self, name: &str) -> Result<Option<Zeroizing<String>>, LinkError> {
        let path = self.path.join(name);
        on_disk(move || match fs::metadata(&path) {
            Ok(file) if file.len() > FILE_BYTES_MAX => Ok(None),
            Ok(_) => match fs::read_to_string(&path) {
                Ok(text) => Ok(Some(Zeroizing::new(text))),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(None),
                Err(error) => Err(cannot("read", &path, error)),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(cannot("read", &path, error)),
        })
        .await
    }

    /// Replaces a file; it is on disk when this returns.
    pub(super) async fn write(&self, name: &str, text: Zeroizing<String>) -> Result<(), LinkError> {
        let (folder, path) = (self.path.clone(), self.path.join(name));
        on_disk(move || {
            secret_file::make_folder(&folder)?;
            secret_file::replace(&[(&path, text.as_bytes())])
        })
        .await
    }

    /// Makes sure that so many bytes could be written to a file, which stays as it is.
    pub(super) async fn rehearse(&self, name: &str, bytes: usize) -> Result<(), LinkError> {
        let (folder, path) = (self.path.clone(), self.path.join(name));
        on_disk(move || {
            secret_file::make_folder(&folder)?;
            secret_file::rehearse(&path, bytes)
        })
        .await
    }

    /// Returns whether a file was written so long ago, or is not there, or nobody knows when.
    pub(super) async fn is_older_than(&self, name: &str, age: Duration) -> Result<bool, LinkError> {
        let path = self.path.join(name);
        on_disk(move || match fs::metadata(&path).and_then(|file| file.modified()) {
            Ok(said) => Ok(!said.elapsed().is_ok_and(|since| since < age)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) => Err(cannot("look at", &path, error)),
        })
        .await
    }

    /// Removes a file, if it is there.
    pub(super) async fn remove(&self, name: &str) -> Result<(), LinkError> {
        let path = self.path.join(name);
        on_disk(move || match fs::remove_file(&path) {
            Ok(()) => secret_file::sync_folder_of(&path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(cannot("remove", &path, error)),
        })
        .await
    }
}

fn cannot(what: &str, path: &Path, error: io::Error) -> anyhow::Error {
    anyhow::Error::new(error).context(format!("cannot {what} {}", path.display()))
}

/// Works on the disk where that may take its time.
async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> Result<T, LinkError> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.map_err(|_| LinkError::transient("the work on the disk was broken off"))?;
    done.map_err(|error| LinkError {
        reason: format!("{error:#}"),
        failure: Failure::Transient,
        how: Disconnect::Otherwise,
    })
}

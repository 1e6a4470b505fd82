//! A disk in memory, mounted for real programs, that does to them what bad disks do.
//!
//! It keeps beside each file and folder what a power cut would leave of it: content that was synced, names whose folder
//! was synced. Of the rest a cut keeps what a draw says: any of the writes, whole or in part, and the names up to some
//! change. It holds programs to the letter of POSIX: a name is durable once its folder is synced, whatever was done to
//! the file. It can also turn read-only, run out of space, and fail syncs.

mod draw;
mod file;
mod folder;
mod image;
mod requests;

use std::{io, path::Path, sync::Arc};

use fuser::{BackgroundSession, Config, MountOption};
use parking_lot::Mutex;

use self::{draw::Draw, image::Image, requests::Requests};

/// What goes wrong with a disk; the default is nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Whatever would change something is refused (EROFS).
    pub is_read_only: bool,
    /// Each sync fails (EIO). What a file was to have on disk by it never comes there, whatever later syncs say.
    pub fails_syncs: bool,
    /// Bytes of content that fit; more is refused (ENOSPC). `None` is 1 GiB.
    pub capacity: Option<u64>,
}

/// What a disk was asked to do since it was mounted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls that wrote to files.
    pub writes: u64,
    /// Bytes that they wrote.
    pub written_bytes: u64,
    /// Files that were synced.
    pub file_syncs: u64,
    /// Folders that were synced.
    pub folder_syncs: u64,
    /// Requests that were refused because of [`Faults`].
    pub refused: u64,
}

/// A mounted disk; unmounted when it is dropped, by when no program may use it any more.
#[derive(Debug)]
pub struct Disk {
    image: Arc<Mutex<Image>>,
    _session: BackgroundSession,
}

impl Disk {
    /// Mounts an empty disk at an empty folder. Takes the rights of root, or `fusermount3`.
    ///
    /// # Errors
    ///
    /// Says why it cannot be mounted.
    pub fn mount(folder: &Path) -> io::Result<Self> {
        let image = Arc::new(Mutex::new(Image::new()));
        let mut config = Config::default();
        config.mount_options = vec![
            MountOption::FSName("tidegate-fault-disk".to_owned()),
            MountOption::DefaultPermissions,
        ];
        let session = fuser::spawn_mount(Requests::new(Arc::clone(&image)), folder, &config)?;
        Ok(Self { image, _session: session })
    }

    /// Has things go wrong from now on, or not any more.
    pub fn set_faults(&self, faults: Faults) {
        self.image.lock().faults = faults;
    }

    /// Cuts the power: what was not synced is kept or lost as the seed draws. No program may have a file open.
    pub fn cut(&self, seed: u64) {
        self.image.lock().cut(&mut Draw::new(seed));
    }

    /// Returns what was asked of it.
    pub fn counts(&self) -> Counts {
        self.image.lock().counts
    }
}

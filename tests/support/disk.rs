//! A disk of its own for a gateway's data, on which things go wrong.

use std::{fs, io::ErrorKind, ops::Deref};

use tempfile::TempDir;
use tidegate_fault_disk::Disk;

use super::gateway::Gateway;

/// A mounted disk. Has to outlive the gateway on it.
#[derive(Debug)]
pub(crate) struct DataDisk {
    // Before its folder, for it is unmounted first.
    disk: Disk,
    folder: TempDir,
}

impl DataDisk {
    /// Mounts an empty one. Where this machine does not let us, that is printed, and the case is not run.
    pub(crate) fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        match Disk::mount(folder.path()) {
            Ok(disk) => Some(Self { disk, folder }),
            Err(error)
                if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::NotFound) =>
            {
                eprintln!("NOT RUN: FUSE takes root, or fusermount3: {error}");
                None
            }
            Err(error) => panic!("the disk cannot be mounted: {error}"),
        }
    }

    /// Has a gateway that is not started yet keep its data here.
    #[track_caller]
    pub(crate) fn carry(&self, gateway: &Gateway) {
        let config = fs::read_to_string(gateway.folder().join("tidegate.toml")).expect("a file");
        let named = format!("data-dir = \"{}\"", self.folder.path().display());
        assert_eq!(config.matches("data-dir = \"data\"").count(), 1, "{config}");
        gateway.write("tidegate.toml", &config.replace("data-dir = \"data\"", &named));
    }
}

impl Deref for DataDisk {
    type Target = Disk;

    fn deref(&self) -> &Disk {
        &self.disk
    }
}

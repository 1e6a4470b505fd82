//! Files for the owner alone, and their folder.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use anyhow::Context as _;

/// Makes a folder that only its owner can enter, if it is not there.
pub(super) fn make_folder(folder: &Path) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("cannot make {}", folder.display()))
}

/// Writes a new file of mode 0600, to the disk.
///
/// # Errors
///
/// If the file is there already, or cannot be written.
pub(super) fn create(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot make {}", path.display()))?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Puts files in the place of others, as close together as can be: each appears whole.
pub(super) fn replace(files: &[(&Path, &[u8])]) -> anyhow::Result<()> {
    let aside = |path: &Path| path.with_added_extension("new");
    for (path, bytes) in files {
        let aside = aside(path);
        if aside.exists() {
            fs::remove_file(&aside)
                .with_context(|| format!("cannot remove {}", aside.display()))?;
        }
        create(&aside, bytes)?;
    }
    for (path, _) in files {
        fs::rename(aside(path), path)
            .with_context(|| format!("cannot replace {}", path.display()))?;
    }
    Ok(())
}

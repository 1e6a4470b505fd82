//! Files for the owner alone, and their folder.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
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
        .with_context(|| format!("cannot write {}", path.display()))?;
    sync_folder_of(path)
}

/// Puts the names in a file's folder on disk.
fn sync_folder_of(path: &Path) -> anyhow::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .with_context(|| format!("cannot write {}", folder.display()))
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
    for (path, _) in files {
        sync_folder_of(path)?;
    }
    Ok(())
}

//! Files for one user alone, and their folder.

use std::{
    fs::{self, Metadata, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, fchown},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use tidegate_model::Principal;

use crate::private_folder;

/// Whose a file becomes that root makes; anybody else keeps what they make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Root's.
    Maker,
    /// The owner's of the folder it is put in: the gateway's, in folders that the package made.
    OfFolder,
}

/// Returns the file of an account whose name ends in `extension`.
///
/// # Errors
///
/// If the name cannot be a principal's and a file's.
pub(crate) fn of_account(folder: &Path, name: &str, extension: &str) -> anyhow::Result<PathBuf> {
    Principal::new(name).with_context(|| format!("the name `{name}`"))?;
    ensure!(
        !name.contains(['/', '+', '#', '*']) && !name.starts_with('.'),
        "the name `{name}` must not contain `/`, `+`, `#` or `*`, or begin with a dot"
    );
    Ok(folder.join(format!("{name}.{extension}")))
}

/// Makes a folder that only its owner can enter, if it is not there.
pub(crate) fn make_folder(folder: &Path) -> anyhow::Result<()> {
    private_folder::make(folder).with_context(|| format!("cannot make {}", folder.display()))
}

/// Writes a new file of mode 0600, to the disk.
///
/// # Errors
///
/// If the file is there already, or cannot be written or given to its owner.
pub(crate) fn create(path: &Path, bytes: &[u8], owner: Owner) -> anyhow::Result<()> {
    let like = match owner {
        Owner::Maker => None,
        Owner::OfFolder => Some(metadata(folder_of(path))?),
    };
    create_like(path, bytes, like.as_ref())
}

/// Puts files in the place of others, as close together as can be: each appears whole.
///
/// Each has the owner of the one before it, or else of the folder.
pub(crate) fn replace(files: &[(&Path, &[u8])]) -> anyhow::Result<()> {
    for (path, bytes) in files {
        write_aside(path, bytes)?;
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

/// Finds out whether a file of so many bytes could be put in the place of another, by doing all of it but that.
pub(crate) fn rehearse(path: &Path, bytes: usize) -> anyhow::Result<()> {
    write_aside(path, &vec![0; bytes])?;
    let aside = aside(path);
    fs::remove_file(&aside).with_context(|| format!("cannot remove {}", aside.display()))
}

/// Returns where a file is written before it takes its place.
fn aside(path: &Path) -> PathBuf {
    path.with_added_extension("new")
}

fn write_aside(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let aside = aside(path);
    if aside.exists() {
        fs::remove_file(&aside).with_context(|| format!("cannot remove {}", aside.display()))?;
    }
    let before = match fs::symlink_metadata(path) {
        Ok(before) => before,
        Err(error) if error.kind() == io::ErrorKind::NotFound => metadata(folder_of(path))?,
        Err(error) => return Err(error).context(format!("cannot look at {}", path.display())),
    };
    create_like(&aside, bytes, Some(&before))
}

/// Writes a new file, which root gives to the owner of `like`.
fn create_like(path: &Path, bytes: &[u8], like: Option<&Metadata>) -> anyhow::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot make {}", path.display()))?;
    if let Some(like) = like.filter(|_| rustix::process::geteuid().is_root()) {
        // Before there is anything to read in it.
        fchown(&file, Some(like.uid()), Some(like.gid()))
            .with_context(|| format!("cannot give {} to its owner", path.display()))?;
    }
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .with_context(|| format!("cannot write {}", path.display()))?;
    sync_folder_of(path)
}

/// Puts the names in a file's folder on disk.
pub(crate) fn sync_folder_of(path: &Path) -> anyhow::Result<()> {
    let folder = folder_of(path);
    private_folder::sync(folder).with_context(|| format!("cannot write {}", folder.display()))
}

fn folder_of(path: &Path) -> &Path {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}

fn metadata(path: &Path) -> anyhow::Result<Metadata> {
    fs::metadata(path).with_context(|| format!("cannot look at {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::chown;

    use super::*;

    /// A user that no machine has.
    const OTHER: u32 = 61_234;

    /// What root makes in the gateway's folder is the gateway's, who demands mode 0600 (identity.9).
    #[test]
    fn identity_9_root_gives_files_to_the_owner_of_their_folder() {
        let folder = tempfile::tempdir().unwrap();
        let maker = rustix::process::geteuid().as_raw();
        // Nobody but root can give things away; for others everything stays theirs.
        let owner = if maker == 0 { OTHER } else { maker };
        let group = if maker == 0 { OTHER } else { rustix::process::getegid().as_raw() };
        chown(folder.path(), Some(owner), Some(group)).unwrap();
        let (given, kept) = (folder.path().join("given"), folder.path().join("kept"));
        let check = |path: &Path, uid, text: &str| {
            let found = fs::metadata(path).unwrap();
            assert_eq!((found.uid(), found.mode() & 0o777), (uid, 0o600), "{}", path.display());
            assert_eq!(fs::read_to_string(path).unwrap(), text);
        };

        create(&given, b"one", Owner::OfFolder).unwrap();
        create(&kept, b"one", Owner::Maker).unwrap();
        check(&given, owner, "one");
        check(&kept, maker, "one");
        assert!(create(&given, b"two", Owner::OfFolder).is_err(), "it is there already");
        check(&given, owner, "one");

        let new = folder.path().join("new");
        replace(&[(&given, b"two"), (&kept, b"two"), (&new, b"two")]).unwrap();
        check(&given, owner, "two");
        check(&kept, maker, "two");
        check(&new, owner, "two");
    }
}

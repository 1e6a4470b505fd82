//! Folders for one user alone, whose names are on the disk.

use std::{
    fs::{DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::Path,
};

/// Makes a folder that only its owner can enter, and those above it that are not there, and puts their names on disk.
///
/// One that is there may have been made by a process that ended before its name was on disk, so that is done for it too,
/// where the system lets us.
///
/// # Errors
///
/// If something else has its name, or it cannot be made or its name cannot be put on disk.
pub(crate) fn make(folder: &Path) -> io::Result<()> {
    let create = || DirBuilder::new().mode(0o700).create(folder);
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    let created = match create() {
        Err(error) if error.kind() == io::ErrorKind::NotFound && parent != Path::new(".") => {
            make(parent)?;
            create()
        }
        created => created,
    };
    match created {
        Ok(()) => {
            // The parent may have been made by a process that ended just then.
            if let Some(above) = parent.parent().filter(|above| !above.as_os_str().is_empty()) {
                let _ = sync(above);
            }
            sync(parent)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => {
            match sync(parent) {
                // Not ours to read, or on a medium that is not written to: then it is older than this process's data.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
                    ) =>
                {
                    Ok(())
                }
                synced => synced,
            }
        }
        Err(error) => Err(error),
    }
}

/// Puts the names in a folder on disk.
pub(crate) fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn folders_are_made_for_their_owner_with_those_above_them() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("a/b/c");
        make(&folder).unwrap();
        make(&folder).unwrap();
        for made in ["a", "a/b", "a/b/c"] {
            let mode = fs::metadata(root.path().join(made)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700, "{made}");
        }
        fs::write(root.path().join("file"), "").unwrap();
        assert_eq!(
            make(&root.path().join("file")).unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        assert!(make(&root.path().join("file/below")).is_err());
    }
}

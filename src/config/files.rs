//! Finds and reads the files that people wrote.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use thiserror::Error;
use tidegate_model::Glob;

/// Larger files were not written by people.
pub(super) const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// More files than this match by mistake.
pub(super) const FILES_MAX: usize = 1_000;

/// Why a file could not be read as text.
#[derive(Debug, Error)]
pub(super) enum TextError {
    /// It cannot be opened or read.
    #[error("cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// It is too large.
    #[error("is larger than 4 MiB")]
    TooLarge,
    /// Its bytes are no text.
    #[error("is not UTF-8 text: byte {0} is wrong")]
    NotText(usize),
}

/// Reads a file as text.
pub(super) fn read_text(path: &Path) -> Result<String, TextError> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(TextError::TooLarge);
    }
    String::from_utf8(bytes).map_err(|error| TextError::NotText(error.utf8_error().valid_up_to()))
}

/// Returns whether a path has wildcards.
pub(super) fn is_glob(pattern: &str) -> bool {
    pattern.contains(['*', '?'])
}

/// Returns the files that a glob below `directory` matches, sorted. Names that begin with a dot match only a
/// pattern that does. Folders that do not exist match nothing; at most [`FILES_MAX`] + 1 are returned.
///
/// # Errors
///
/// If a folder exists and cannot be read.
pub(super) fn expand(directory: &Path, pattern: &str) -> io::Result<Vec<PathBuf>> {
    let start = if pattern.starts_with('/') { PathBuf::from("/") } else { directory.to_path_buf() };
    let mut found = vec![start];
    let mut parts = pattern.split('/').filter(|part| !part.is_empty() && *part != ".").peekable();
    while let Some(part) = parts.next() {
        let last = parts.peek().is_none();
        let mut next = Vec::new();
        for folder in found {
            if is_glob(part) {
                next.extend(entries(&folder, part, last)?);
            } else {
                let path = folder.join(part);
                next.extend(path.exists().then_some(path));
            }
            if next.len() > FILES_MAX {
                break;
            }
        }
        found = next;
    }
    found.sort();
    Ok(found)
}

/// Returns whether the files of a pattern can be pushed: those in the folder of the configuration, or below it.
pub(super) fn is_pushable(pattern: &str) -> bool {
    !pattern.starts_with('/') && pattern.split('/').all(|part| part != "..")
}

/// Returns whether [`expand`] would find a file of that name, relative to the folder and without `.` in it.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('/').filter(|part| !part.is_empty() && *part != ".");
    let mut names = name.split('/');
    let fits = |part: &str, name: &str| {
        let hidden = name.starts_with('.') && !part.starts_with('.');
        if is_glob(part) { !hidden && Glob::new(part).matches(name) } else { part == name }
    };
    is_pushable(pattern)
        && loop {
            match (parts.next(), names.next()) {
                (None, None) => break true,
                (Some(part), Some(name)) if fits(part, name) => {}
                _ => break false,
            }
        }
}

fn entries(folder: &Path, pattern: &str, files: bool) -> io::Result<Vec<PathBuf>> {
    let listing = match fs::read_dir(folder) {
        Ok(listing) => listing,
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    let glob = Glob::new(pattern);
    let mut found = Vec::new();
    for entry in listing {
        let name = entry?.file_name();
        let Some(name) = name.to_str() else { continue };
        let hidden = name.starts_with('.') && !pattern.starts_with('.');
        let path = folder.join(name);
        if !hidden && glob.matches(name) && path.is_file() == files {
            found.push(path);
        }
        if found.len() > FILES_MAX {
            break;
        }
    }
    Ok(found)
}

//! What files there are, whose they are, and which can be used at all.

use std::collections::BTreeMap;
use std::io;

use super::OpenError;
use crate::file_system::{File, FileSystem};
use crate::format::{
    self, CLOSED_FILE, HEADER_BYTES, HeaderError, IDENTITY_FILE, SegmentHeader, UNFINISHED_SUFFIX,
    identity,
};
use crate::small_file::{self, ClosedMark};

/// The files of a journal.
#[derive(Debug)]
pub(crate) struct Inventory {
    pub(crate) epoch: u64,
    /// Whether there was no journal before.
    pub(crate) created: bool,
    /// Whether the identity file had to be written anew although there was a journal.
    pub(crate) identity_was_lost: bool,
    pub(crate) segments: BTreeMap<u64, SegmentFile>,
    pub(crate) closed: Option<ClosedMark>,
    /// The size of each copy of damaged bytes.
    pub(crate) quarantine: BTreeMap<String, u64>,
}

/// A file that has the name of a segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SegmentFile {
    pub(crate) length: u64,
    /// Its header, if that was readable.
    pub(crate) header: Option<SegmentHeader>,
}

impl Inventory {
    /// Looks at all files. Writes the identity if there is none, and removes unfinished files.
    pub(crate) fn take<F: FileSystem>(files: &F, new_epoch: u64) -> Result<Self, OpenError> {
        let names = files.list().map_err(|source| OpenError::storage("list", ".", source))?;
        let mut segments = BTreeMap::new();
        let mut quarantine = BTreeMap::new();
        for name in &names {
            if let Some(number) = format::segment_number(name) {
                segments.insert(number, SegmentFile::read(files, name)?);
            } else if format::is_quarantine(name) {
                let length = files.open(name).and_then(|file| file.len());
                quarantine.insert(name.clone(), length.unwrap_or(0));
            }
        }
        let (epoch, identity_is_there) = determine_epoch(files, &segments, new_epoch)?;
        // From here on it is known that the files are ours.
        for name in names.iter().filter(|name| name.ends_with(UNFINISHED_SUFFIX)) {
            files.remove(name).map_err(|source| OpenError::storage("remove", name, source))?;
        }
        if !identity_is_there {
            small_file::replace(files, IDENTITY_FILE, &identity::encode(epoch))
                .map_err(|source| OpenError::storage("write", IDENTITY_FILE, source))?;
        }
        let closed = small_file::read(files, CLOSED_FILE)
            .map_err(|source| OpenError::storage("read", CLOSED_FILE, source))?
            .and_then(|bytes| ClosedMark::decode(&bytes).ok())
            .filter(|mark| mark.epoch == epoch);
        let existed = !segments.is_empty() || closed.is_some();
        Ok(Self {
            epoch,
            created: !identity_is_there && !existed,
            identity_was_lost: !identity_is_there && existed,
            segments,
            closed,
            quarantine,
        })
    }
}

impl SegmentFile {
    fn read<F: FileSystem>(files: &F, name: &str) -> Result<Self, OpenError> {
        let read = || -> io::Result<(u64, Vec<u8>)> {
            let file = files.open(name)?;
            let mut header = vec![0; HEADER_BYTES];
            let read = file.read_at(0, &mut header)?;
            header.truncate(read);
            Ok((file.len()?, header))
        };
        let (length, header) = read().map_err(|source| OpenError::storage("read", name, source))?;
        match SegmentHeader::decode(&header) {
            Ok(header) => Ok(Self { length, header: Some(header) }),
            Err(HeaderError::Damaged) => Ok(Self { length, header: None }),
            Err(HeaderError::Newer(version)) => {
                Err(OpenError::NewerFormat { file: name.to_owned(), version })
            }
        }
    }
}

/// Returns the journal's identity, and whether the identity file holds it.
fn determine_epoch<F: FileSystem>(
    files: &F,
    segments: &BTreeMap<u64, SegmentFile>,
    new_epoch: u64,
) -> Result<(u64, bool), OpenError> {
    let bytes = small_file::read(files, IDENTITY_FILE)
        .map_err(|source| OpenError::storage("read", IDENTITY_FILE, source))?;
    let own = match bytes.map(|bytes| identity::decode(&bytes)) {
        Some(Ok(epoch)) => Some(epoch),
        Some(Err(HeaderError::Newer(version))) => {
            return Err(OpenError::NewerFormat { file: IDENTITY_FILE.to_owned(), version });
        }
        Some(Err(HeaderError::Damaged)) | None => None,
    };
    let mut epoch = own;
    for (&number, segment) in segments.iter().rev() {
        let Some(header) = segment.header else { continue };
        match epoch {
            None => epoch = Some(header.epoch),
            Some(epoch) if epoch == header.epoch => {}
            Some(epoch) => {
                let file = format::segment_name(number);
                return Err(OpenError::ForeignIdentity { file, epoch, found: header.epoch });
            }
        }
    }
    Ok((epoch.unwrap_or(new_epoch), own.is_some()))
}

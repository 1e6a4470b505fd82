//! All that is on a disk.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    fs::{self, Metadata},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

use fuser::{Errno, FileAttr, FileType, INodeNo};

use crate::{Counts, Faults, draw::Draw, file::File, folder::Folder};

/// Bytes that fit when nothing else is said.
const CAPACITY: u64 = 1 << 30;
const ROOT: u64 = INodeNo::ROOT.0;

/// Who asks, and with which rights something is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner {
    pub(crate) user: u32,
    pub(crate) group: u32,
    /// Permission bits.
    pub(crate) mode: u16,
}

/// Files and folders by number. Numbers are not given twice.
#[derive(Debug)]
pub(crate) struct Image {
    nodes: BTreeMap<u64, Node>,
    last: u64,
    pub(crate) faults: Faults,
    pub(crate) counts: Counts,
}

#[derive(Debug)]
struct Node {
    kind: Kind,
    owner: Owner,
    modified: SystemTime,
    /// Names and open handles. What has none takes no space, and stays only as a cut may bring its name back.
    names: u32,
    handles: u32,
}

#[derive(Debug)]
pub(crate) enum Kind {
    File(File),
    Folder(Folder),
    Link(PathBuf),
    /// The place of a local socket; the kernel does the rest.
    Socket,
}

impl Kind {
    fn file_type(&self) -> FileType {
        match self {
            Self::File(_) => FileType::RegularFile,
            Self::Folder(_) => FileType::Directory,
            Self::Link(_) => FileType::Symlink,
            Self::Socket => FileType::Socket,
        }
    }
}

impl Image {
    pub(crate) fn new() -> Self {
        let process = fs::metadata("/proc/self").ok();
        let id = |of: fn(&Metadata) -> u32| process.as_ref().map_or(0, of);
        let owner = Owner { user: id(MetadataExt::uid), group: id(MetadataExt::gid), mode: 0o700 };
        let root = Node::new(Kind::Folder(Folder::default()), owner);
        Self {
            nodes: [(ROOT, root)].into(),
            last: ROOT,
            faults: Faults::default(),
            counts: Counts::default(),
        }
    }

    /// Refuses if the disk is read-only.
    pub(crate) fn check_writable(&mut self) -> Result<(), Errno> {
        self.refuse_if(self.faults.is_read_only, Errno::EROFS)
    }

    /// Refuses if syncs fail.
    pub(crate) fn check_syncs(&mut self) -> Result<(), Errno> {
        self.refuse_if(self.faults.fails_syncs, Errno::EIO)
    }

    fn refuse_if(&mut self, is_refused: bool, error: Errno) -> Result<(), Errno> {
        self.counts.refused += u64::from(is_refused);
        if is_refused { Err(error) } else { Ok(()) }
    }

    /// Returns capacity and free space in bytes.
    pub(crate) fn space(&self) -> (u64, u64) {
        let used = |node: &Node| match &node.kind {
            Kind::File(file) if node.names + node.handles > 0 => file.len() as u64,
            _ => 0,
        };
        let capacity = self.faults.capacity.unwrap_or(CAPACITY);
        (capacity, capacity.saturating_sub(self.nodes.values().map(used).sum()))
    }

    pub(crate) fn attributes(&self, number: u64) -> Result<FileAttr, Errno> {
        let node = self.nodes.get(&number).ok_or(Errno::ENOENT)?;
        let size = match &node.kind {
            Kind::File(file) => file.len() as u64,
            _ => 0,
        };
        Ok(FileAttr {
            ino: INodeNo(number),
            size,
            blocks: size.div_ceil(512),
            atime: node.modified,
            mtime: node.modified,
            ctime: node.modified,
            crtime: node.modified,
            kind: node.kind.file_type(),
            perm: node.owner.mode,
            nlink: node.names,
            uid: node.owner.user,
            gid: node.owner.group,
            rdev: 0,
            blksize: 4_096,
            flags: 0,
        })
    }

    pub(crate) fn set_owner(
        &mut self,
        number: u64,
        change: impl FnOnce(&mut Owner),
    ) -> Result<(), Errno> {
        change(&mut self.nodes.get_mut(&number).ok_or(Errno::ENOENT)?.owner);
        Ok(())
    }

    pub(crate) fn look_up(&self, folder: u64, name: &OsStr) -> Result<u64, Errno> {
        self.folder(folder)?.names().get(name).copied().ok_or(Errno::ENOENT)
    }

    /// Makes something new; refuses a name that is taken.
    pub(crate) fn make(
        &mut self,
        folder: u64,
        name: &OsStr,
        kind: Kind,
        owner: Owner,
    ) -> Result<u64, Errno> {
        self.check_writable()?;
        if self.look_up(folder, name).is_ok() {
            return Err(Errno::EEXIST);
        }
        let number = self.last + 1;
        self.folder_mut(folder)?.add(name, number);
        self.last = number;
        self.nodes.insert(number, Node { names: 1, ..Node::new(kind, owner) });
        Ok(number)
    }

    /// Gives a file one more name.
    pub(crate) fn link(&mut self, number: u64, folder: u64, name: &OsStr) -> Result<(), Errno> {
        self.check_writable()?;
        if self.look_up(folder, name).is_ok() {
            return Err(Errno::EEXIST);
        }
        self.folder_mut(folder)?.add(name, number);
        self.nodes.get_mut(&number).ok_or(Errno::ENOENT)?.names += 1;
        Ok(())
    }

    pub(crate) fn remove(&mut self, folder: u64, name: &OsStr) -> Result<(), Errno> {
        self.check_writable()?;
        let number = self.look_up(folder, name)?;
        if self.folder(number).is_ok_and(|inner| !inner.names().is_empty()) {
            return Err(Errno::ENOTEMPTY);
        }
        self.folder_mut(folder)?.remove(name);
        self.take_name(number);
        Ok(())
    }

    /// Renames within a folder, or moves to another. A move is two changes, one for each folder.
    pub(crate) fn rename(&mut self, from: (u64, &OsStr), to: (u64, &OsStr)) -> Result<(), Errno> {
        self.check_writable()?;
        let number = self.look_up(from.0, from.1)?;
        let replaced = self.look_up(to.0, to.1).ok();
        if from.0 == to.0 {
            self.folder_mut(from.0)?.rename(from.1, to.1, number);
        } else {
            self.folder_mut(to.0)?.add(to.1, number);
            self.folder_mut(from.0)?.remove(from.1);
        }
        if let Some(replaced) = replaced.filter(|replaced| *replaced != number) {
            self.take_name(replaced);
        }
        Ok(())
    }

    pub(crate) fn names(&self, folder: u64) -> Result<Vec<(u64, FileType, OsString)>, Errno> {
        let entry = |(name, number): (&OsString, &u64)| {
            let kind =
                self.nodes.get(number).map_or(FileType::RegularFile, |node| node.kind.file_type());
            (*number, kind, name.clone())
        };
        Ok(self.folder(folder)?.names().iter().map(entry).collect())
    }

    pub(crate) fn target(&self, number: u64) -> Result<&Path, Errno> {
        match &self.nodes.get(&number).ok_or(Errno::ENOENT)?.kind {
            Kind::Link(target) => Ok(target),
            _ => Err(Errno::EINVAL),
        }
    }

    pub(crate) fn file(&self, number: u64) -> Result<&File, Errno> {
        match &self.nodes.get(&number).ok_or(Errno::ENOENT)?.kind {
            Kind::File(file) => Ok(file),
            _ => Err(Errno::EISDIR),
        }
    }

    fn file_mut(&mut self, number: u64) -> Result<&mut File, Errno> {
        let node = self.nodes.get_mut(&number).ok_or(Errno::ENOENT)?;
        node.modified = SystemTime::now();
        match &mut node.kind {
            Kind::File(file) => Ok(file),
            _ => Err(Errno::EISDIR),
        }
    }

    pub(crate) fn write(&mut self, number: u64, offset: usize, bytes: &[u8]) -> Result<(), Errno> {
        self.check_writable()?;
        let more = (offset + bytes.len()).saturating_sub(self.file(number)?.len()) as u64;
        let is_full = more > self.space().1;
        self.refuse_if(is_full, Errno::ENOSPC)?;
        self.file_mut(number)?.write(offset, bytes);
        self.counts.writes += 1;
        self.counts.written_bytes += bytes.len() as u64;
        Ok(())
    }

    pub(crate) fn set_len(&mut self, number: u64, length: usize) -> Result<(), Errno> {
        self.check_writable()?;
        let more = length.saturating_sub(self.file(number)?.len()) as u64;
        let is_full = more > self.space().1;
        self.refuse_if(is_full, Errno::ENOSPC)?;
        self.file_mut(number)?.set_len(length);
        Ok(())
    }

    pub(crate) fn sync_file(&mut self, number: u64) -> Result<(), Errno> {
        if let Err(error) = self.check_syncs() {
            self.file_mut(number)?.fail_sync();
            return Err(error);
        }
        self.file_mut(number)?.sync();
        self.counts.file_syncs += 1;
        Ok(())
    }

    pub(crate) fn sync_folder(&mut self, number: u64) -> Result<(), Errno> {
        self.check_syncs()?;
        self.folder_mut(number)?.sync();
        self.counts.folder_syncs += 1;
        Ok(())
    }

    pub(crate) fn opened(&mut self, number: u64) {
        if let Some(node) = self.nodes.get_mut(&number) {
            node.handles += 1;
        }
    }

    pub(crate) fn released(&mut self, number: u64) {
        if let Some(node) = self.nodes.get_mut(&number) {
            node.handles = node.handles.saturating_sub(1);
        }
    }

    /// Leaves what a power cut leaves.
    pub(crate) fn cut(&mut self, draw: &mut Draw) {
        for node in self.nodes.values_mut() {
            node.handles = 0;
            node.names = 0;
            match &mut node.kind {
                Kind::File(file) => file.cut(draw),
                Kind::Folder(folder) => folder.cut(draw),
                Kind::Link(_) | Kind::Socket => {}
            }
        }
        let mut reached = BTreeSet::from([ROOT]);
        let mut unseen = vec![ROOT];
        while let Some(number) = unseen.pop() {
            let numbers: Vec<u64> = self
                .folder(number)
                .map(|it| it.names().values().copied().collect())
                .unwrap_or_default();
            for number in numbers {
                if let Some(node) = self.nodes.get_mut(&number) {
                    node.names += 1;
                }
                if reached.insert(number) {
                    unseen.push(number);
                }
            }
        }
        self.nodes.retain(|number, _| reached.contains(number));
    }

    fn take_name(&mut self, number: u64) {
        if let Some(node) = self.nodes.get_mut(&number) {
            node.names = node.names.saturating_sub(1);
        }
    }

    fn folder(&self, number: u64) -> Result<&Folder, Errno> {
        match &self.nodes.get(&number).ok_or(Errno::ENOENT)?.kind {
            Kind::Folder(folder) => Ok(folder),
            _ => Err(Errno::ENOTDIR),
        }
    }

    fn folder_mut(&mut self, number: u64) -> Result<&mut Folder, Errno> {
        let node = self.nodes.get_mut(&number).ok_or(Errno::ENOENT)?;
        node.modified = SystemTime::now();
        match &mut node.kind {
            Kind::Folder(folder) => Ok(folder),
            _ => Err(Errno::ENOTDIR),
        }
    }
}

impl Node {
    fn new(kind: Kind, owner: Owner) -> Self {
        Self { kind, owner, modified: SystemTime::now(), names: 1, handles: 0 }
    }
}

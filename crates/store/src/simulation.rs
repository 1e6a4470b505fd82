//! Storage in memory that forgets, tears, fills up and fails on command.
//!
//! A [`SimulatedDisk`] keeps two images of every file and of the directory: what programs see, and
//! what would be there after a power cut. A sync carries the first over to the second. A
//! [power cut](SimulatedDisk::power_cut) keeps, drops or tears what was not synced, in blocks, with
//! the entries of the directory apart from the contents of the files. Everything follows from
//! seeds.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::file_system::{File, FileSystem};

/// A directory on simulated storage. Clones are the same directory.
#[derive(Clone, Debug, Default)]
pub struct SimulatedDisk(Arc<Mutex<Disk>>);

/// A file on simulated storage.
#[derive(Debug)]
pub struct SimulatedFile {
    disk: SimulatedDisk,
    inode: u64,
}

/// What becomes of writes that no sync has covered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// All of them reach the medium.
    Kept,
    /// None of them does.
    Dropped,
    /// Each block of each write, and each change of the directory, does or does not.
    Torn {
        /// Decides which.
        seed: u64,
        /// The size of a block: 512 or 4,096.
        block_bytes: usize,
    },
}

/// A small generator of numbers that follow from a seed.
#[derive(Clone, Debug)]
pub struct Random(u64);

#[derive(Debug, Default)]
struct Disk {
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    unsynced_names: Vec<NameChange>,
    operations: u64,
    syncs: u64,
    bytes_written: u64,
    cut_at: Option<u64>,
    is_off: bool,
    failing_syncs: Option<(u64, u64)>,
    failing_writes: Option<(u64, u64)>,
    writes: u64,
    capacity: Option<u64>,
}

#[derive(Clone, Debug, Default)]
struct Inode {
    seen: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Truncate(usize),
}

#[derive(Clone, Debug)]
enum NameChange {
    Set { name: String, inode: u64, from: Option<String> },
    Remove { name: String },
}

impl Random {
    /// Starts from a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next number.
    pub fn next_u64(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next_u64() % bound
    }
}

impl SimulatedDisk {
    /// Makes an empty directory without a limit.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Limits the size of all files together.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.0.lock().capacity = bytes;
    }

    /// Cuts the power during the change number `operation` from the beginning, counted from 1.
    pub fn cut_power_at(&self, operation: u64) {
        self.0.lock().cut_at = Some(operation);
    }

    /// Lets `count` syncs of files or the directory fail, after `after` more have succeeded.
    ///
    /// As on Linux, what such a sync should have covered is taken for written and is not.
    pub fn fail_syncs(&self, after: u64, count: u64) {
        let mut disk = self.0.lock();
        let first = disk.syncs + after;
        disk.failing_syncs = Some((first, first.saturating_add(count)));
    }

    /// Lets `count` writes fail, after `after` more have succeeded. Half of each reaches the file.
    pub fn fail_writes(&self, after: u64, count: u64) {
        let mut disk = self.0.lock();
        let first = disk.writes + after;
        disk.failing_writes = Some((first, first.saturating_add(count)));
    }

    /// Returns how many changes and syncs there were.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.0.lock().operations
    }

    /// Returns how many syncs there were.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.0.lock().syncs
    }

    /// Returns how many bytes were written.
    #[must_use]
    pub fn bytes_written(&self) -> u64 {
        self.0.lock().bytes_written
    }

    /// Returns whether the power is off.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.0.lock().is_off
    }

    /// Cuts the power and returns the directory as it is when the power is back.
    ///
    /// Open files and this directory are of no more use.
    #[must_use]
    pub fn power_cut(&self, fate: Fate) -> Self {
        self.0.lock().is_off = true;
        self.image_after_cut(fate)
    }

    /// Returns what a power cut at this moment would leave, and goes on.
    #[must_use]
    pub fn image_after_cut(&self, fate: Fate) -> Self {
        let old = self.0.lock();
        let mut disk = Disk { next_inode: old.next_inode, ..Disk::default() };
        let mut tear = Tear::new(fate);
        let mut names = old.durable_names.clone();
        for change in &old.unsynced_names {
            if tear.keeps() {
                change.apply(&mut names);
            }
        }
        for &inode in names.values() {
            let old_inode = &old.inodes[&inode];
            let mut image = old_inode.durable.clone();
            let mut whole = image.clone();
            for change in &old_inode.unsynced {
                tear.apply(change, &mut image, &mut whole);
            }
            let inode_after = Inode { seen: image.clone(), durable: image, unsynced: Vec::new() };
            disk.inodes.insert(inode, inode_after);
        }
        disk.durable_names = names.clone();
        disk.names = names;
        Self(Arc::new(Mutex::new(disk)))
    }

    /// Returns a copy of the directory as programs see it, all of it durable: what is there after
    /// the end of the process alone.
    #[must_use]
    pub fn copy(&self) -> Self {
        let old = self.0.lock();
        let mut disk = Disk {
            next_inode: old.next_inode,
            names: old.names.clone(),
            durable_names: old.names.clone(),
            ..Disk::default()
        };
        for inode in old.names.values() {
            let seen = old.inodes[inode].seen.clone();
            let copied = Inode { seen: seen.clone(), durable: seen, unsynced: Vec::new() };
            disk.inodes.insert(*inode, copied);
        }
        Self(Arc::new(Mutex::new(disk)))
    }

    /// Returns the contents of a file as programs see it.
    #[must_use]
    pub fn contents(&self, name: &str) -> Option<Vec<u8>> {
        let disk = self.0.lock();
        disk.names.get(name).map(|inode| disk.inodes[inode].seen.clone())
    }

    /// Puts other contents into a file, durably, as damage to the medium does.
    pub fn set_contents(&self, name: &str, contents: Vec<u8>) {
        let mut disk = self.0.lock();
        let inode = match disk.names.get(name) {
            Some(&inode) => inode,
            None => {
                disk.next_inode += 1;
                let inode = disk.next_inode;
                disk.names.insert(name.to_owned(), inode);
                inode
            }
        };
        disk.durable_names.insert(name.to_owned(), inode);
        let image = Inode { seen: contents.clone(), durable: contents, unsynced: Vec::new() };
        disk.inodes.insert(inode, image);
    }

    /// Removes a file, durably.
    pub fn lose(&self, name: &str) {
        let mut disk = self.0.lock();
        disk.names.remove(name);
        disk.durable_names.remove(name);
    }
}

impl Disk {
    /// Counts a change, and tells whether the power is cut while it happens.
    fn count(&mut self) -> io::Result<Power> {
        self.check_power()?;
        self.operations += 1;
        if self.cut_at == Some(self.operations) {
            self.is_off = true;
            return Ok(Power::CutNow);
        }
        Ok(Power::On)
    }

    fn check_power(&self) -> io::Result<()> {
        if self.is_off { Err(io::Error::other("the power is off")) } else { Ok(()) }
    }

    fn inode(&self, name: &str) -> io::Result<u64> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn used_bytes(&self) -> u64 {
        self.names.values().map(|inode| self.inodes[inode].seen.len() as u64).sum()
    }

    fn sync_fails(&mut self) -> bool {
        let number = self.syncs;
        self.syncs += 1;
        self.failing_syncs.is_some_and(|(first, end)| (first..end).contains(&number))
    }

    fn change_names(&mut self, change: NameChange) -> io::Result<()> {
        let power = self.count()?;
        change.apply(&mut self.names);
        self.unsynced_names.push(change);
        power.check()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Power {
    On,
    CutNow,
}

impl Power {
    fn check(self) -> io::Result<()> {
        match self {
            Self::On => Ok(()),
            Self::CutNow => Err(io::Error::other("the power was cut")),
        }
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, u64>) {
        match self {
            Self::Set { name, inode, from } => {
                if let Some(from) = from {
                    names.remove(from);
                }
                names.insert(name.clone(), *inode);
            }
            Self::Remove { name } => {
                names.remove(name);
            }
        }
    }
}

impl Change {
    fn apply(&self, image: &mut Vec<u8>) {
        match self {
            Self::Truncate(length) => image.truncate(*length),
            Self::Write { offset, bytes } => put(image, *offset, bytes),
        }
    }
}

/// Decides what survives a power cut.
struct Tear {
    fate: Fate,
    random: Random,
    /// Of 8 blocks, how many survive on average.
    kept_of_8: u64,
}

impl Tear {
    fn new(fate: Fate) -> Self {
        let mut random = Random::new(match fate {
            Fate::Torn { seed, .. } => seed,
            Fate::Kept | Fate::Dropped => 0,
        });
        let kept_of_8 = 1 + random.below(7);
        Self { fate, random, kept_of_8 }
    }

    fn keeps(&mut self) -> bool {
        match self.fate {
            Fate::Kept => true,
            Fate::Dropped => false,
            Fate::Torn { .. } => self.random.below(8) < self.kept_of_8,
        }
    }

    /// Carries a change out on what survives, as far as it survives, and on the `whole` file as programs saw it.
    ///
    /// A block reaches the medium with all that was written to it up to then: never without an earlier write.
    fn apply(&mut self, change: &Change, image: &mut Vec<u8>, whole: &mut Vec<u8>) {
        let block_bytes = match self.fate {
            Fate::Torn { block_bytes, .. } => block_bytes,
            Fate::Kept | Fate::Dropped => usize::MAX / 2,
        };
        change.apply(whole);
        match change {
            Change::Truncate(length) => {
                if self.keeps() {
                    image.truncate(*length);
                }
            }
            Change::Write { offset, bytes } => {
                let (mut at, end) = (*offset, offset + bytes.len());
                while at < end {
                    let start = at - at % block_bytes;
                    let next = end.min(start.saturating_add(block_bytes));
                    if self.keeps() {
                        put(image, start, &whole[start..next]);
                    }
                    at = next;
                }
            }
        }
    }
}

fn put(image: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    if image.len() < offset + bytes.len() {
        image.resize(offset + bytes.len(), 0);
    }
    image[offset..offset + bytes.len()].copy_from_slice(bytes);
}

impl FileSystem for SimulatedDisk {
    type File = SimulatedFile;

    fn list(&self) -> io::Result<Vec<String>> {
        let disk = self.0.lock();
        disk.check_power()?;
        Ok(disk.names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<SimulatedFile> {
        let mut disk = self.0.lock();
        if disk.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        disk.next_inode += 1;
        let inode = disk.next_inode;
        disk.inodes.insert(inode, Inode::default());
        disk.change_names(NameChange::Set { name: name.to_owned(), inode, from: None })?;
        Ok(SimulatedFile { disk: self.clone(), inode })
    }

    fn open(&self, name: &str) -> io::Result<SimulatedFile> {
        let disk = self.0.lock();
        disk.check_power()?;
        Ok(SimulatedFile { disk: self.clone(), inode: disk.inode(name)? })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut disk = self.0.lock();
        let inode = disk.inode(from)?;
        let from = Some(from.to_owned());
        disk.change_names(NameChange::Set { name: to.to_owned(), inode, from })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut disk = self.0.lock();
        disk.inode(name)?;
        disk.change_names(NameChange::Remove { name: name.to_owned() })
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut disk = self.0.lock();
        disk.count()?.check()?;
        if disk.sync_fails() {
            disk.unsynced_names.clear();
            return Err(io::Error::other("the sync of the directory failed"));
        }
        disk.durable_names = disk.names.clone();
        disk.unsynced_names.clear();
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let disk = self.0.lock();
        disk.check_power()?;
        Ok(disk.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(disk.used_bytes())))
    }
}

impl File for SimulatedFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let disk = self.disk.0.lock();
        disk.check_power()?;
        let seen = &disk.inodes[&self.inode].seen;
        let available = seen.get(offset as usize..).unwrap_or_default();
        let read = available.len().min(buffer.len());
        buffer[..read].copy_from_slice(&available[..read]);
        Ok(read)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut disk = self.disk.0.lock();
        let power = disk.count()?;
        let number = disk.writes;
        disk.writes += 1;
        let offset = offset as usize;
        let grows = (offset + bytes.len()).saturating_sub(disk.inodes[&self.inode].seen.len());
        let room = disk.capacity.map_or(u64::MAX, |all| all.saturating_sub(disk.used_bytes()));
        let is_full = grows as u64 > room;
        let fails = disk.failing_writes.is_some_and(|(first, end)| (first..end).contains(&number));
        let written = match (is_full, fails) {
            (true, _) => bytes.len().saturating_sub(grows - room as usize),
            (false, true) => bytes.len() / 2,
            (false, false) => bytes.len(),
        };
        disk.bytes_written += written as u64;
        let inode = disk.inodes.get_mut(&self.inode).expect("an open file has an inode");
        put(&mut inode.seen, offset, &bytes[..written]);
        inode.unsynced.push(Change::Write { offset, bytes: bytes[..written].to_vec() });
        power.check()?;
        match (is_full, fails) {
            (true, _) => Err(io::ErrorKind::StorageFull.into()),
            (false, true) => Err(io::Error::other("the write failed")),
            (false, false) => Ok(()),
        }
    }

    fn len(&self) -> io::Result<u64> {
        let disk = self.disk.0.lock();
        disk.check_power()?;
        Ok(disk.inodes[&self.inode].seen.len() as u64)
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        let mut disk = self.disk.0.lock();
        let power = disk.count()?;
        let inode = disk.inodes.get_mut(&self.inode).expect("an open file has an inode");
        inode.seen.truncate(length as usize);
        inode.unsynced.push(Change::Truncate(length as usize));
        power.check()
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut disk = self.disk.0.lock();
        disk.count()?.check()?;
        let fails = disk.sync_fails();
        let inode = disk.inodes.get_mut(&self.inode).expect("an open file has an inode");
        let changes = std::mem::take(&mut inode.unsynced);
        if fails {
            return Err(io::Error::other("the sync failed"));
        }
        changes.iter().for_each(|change| change.apply(&mut inode.durable));
        Ok(())
    }
}

//! The kernel's requests, answered from the image.
//!
//! Nothing is cached by the kernel: attributes and names are asked for each time, and content goes past the page cache,
//! so that the image always knows what a program has written.

use std::{
    ffi::OsStr,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use fuser::{
    BsdFileFlags, Errno, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use parking_lot::Mutex;

use crate::{
    file::File,
    folder::Folder,
    image::{Image, Kind, Owner},
};

const NOT_CACHED: Duration = Duration::ZERO;
const FIRST: Generation = Generation(0);
const BLOCK_BYTES: u32 = 4_096;
/// The permission bits of a mode.
const PERMISSIONS: u32 = 0o7777;
/// The bits of a mode that say what it is, and two of their values (inode(7)).
const FORMAT: u32 = 0o170_000;
const FORMAT_FILE: u32 = 0o100_000;
const FORMAT_SOCKET: u32 = 0o140_000;

/// Answers the kernel.
#[derive(Debug)]
pub(crate) struct Requests {
    image: Arc<Mutex<Image>>,
}

impl Requests {
    pub(crate) fn new(image: Arc<Mutex<Image>>) -> Self {
        Self { image }
    }

    fn entry(&self, reply: ReplyEntry, find: impl FnOnce(&mut Image) -> Result<u64, Errno>) {
        let mut image = self.image.lock();
        match find(&mut image).and_then(|number| image.attributes(number)) {
            Ok(attributes) => reply.entry(&NOT_CACHED, &attributes, FIRST),
            Err(error) => reply.error(error),
        }
    }

    fn done(&self, reply: ReplyEmpty, act: impl FnOnce(&mut Image) -> Result<(), Errno>) {
        match act(&mut self.image.lock()) {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error),
        }
    }
}

fn owner(request: &Request, mode: u32, umask: u32) -> Owner {
    let mode = u16::try_from(mode & !umask & PERMISSIONS).unwrap_or_default();
    Owner { user: request.uid(), group: request.gid(), mode }
}

fn size(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

impl Filesystem for Requests {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.entry(reply, |image| image.look_up(parent.0, name));
    }

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.image.lock().attributes(number.0) {
            Ok(attributes) => reply.attr(&NOT_CACHED, &attributes),
            Err(error) => reply.error(error),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        number: INodeNo,
        mode: Option<u32>,
        user: Option<u32>,
        group: Option<u32>,
        length: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut image = self.image.lock();
        let changed = image.check_writable().and_then(|()| {
            image.set_owner(number.0, |owner| {
                owner.mode = mode
                    .and_then(|mode| u16::try_from(mode & PERMISSIONS).ok())
                    .unwrap_or(owner.mode);
                owner.user = user.unwrap_or(owner.user);
                owner.group = group.unwrap_or(owner.group);
            })?;
            length.map_or(Ok(()), |length| image.set_len(number.0, size(length)))?;
            image.attributes(number.0)
        });
        match changed {
            Ok(attributes) => reply.attr(&NOT_CACHED, &attributes),
            Err(error) => reply.error(error),
        }
    }

    fn readlink(&self, _: &Request, number: INodeNo, reply: ReplyData) {
        match self.image.lock().target(number.0) {
            Ok(target) => reply.data(target.as_os_str().as_encoded_bytes()),
            Err(error) => reply.error(error),
        }
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _: u32,
        reply: ReplyEntry,
    ) {
        let owner = owner(request, mode, umask);
        let kind = match mode & FORMAT {
            FORMAT_FILE => Kind::File(File::default()),
            FORMAT_SOCKET => Kind::Socket,
            _ => return reply.error(Errno::EPERM),
        };
        self.entry(reply, |image| image.make(parent.0, name, kind, owner));
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let owner = owner(request, mode, umask);
        self.entry(reply, |image| {
            image.make(parent.0, name, Kind::Folder(Folder::default()), owner)
        });
    }

    fn symlink(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let owner = owner(request, 0o777, 0);
        self.entry(reply, |image| image.make(parent.0, name, Kind::Link(target.to_owned()), owner));
    }

    fn link(&self, _: &Request, number: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.entry(reply, |image| image.link(number.0, parent.0, name).map(|()| number.0));
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.done(reply, |image| image.remove(parent.0, name));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.done(reply, |image| image.remove(parent.0, name));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if !flags.is_empty() {
            return reply.error(Errno::EINVAL);
        }
        self.done(reply, |image| image.rename((parent.0, name), (new_parent.0, new_name)));
    }

    fn open(&self, _: &Request, number: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        self.image.lock().opened(number.0);
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        let mut image = self.image.lock();
        let owner = owner(request, mode, umask);
        let made = image.make(parent.0, name, Kind::File(File::default()), owner);
        match made.and_then(|number| Ok((number, image.attributes(number)?))) {
            Ok((number, attributes)) => {
                image.opened(number);
                let flags = FopenFlags::FOPEN_DIRECT_IO;
                reply.created(&NOT_CACHED, &attributes, FIRST, FileHandle(0), flags);
            }
            Err(error) => reply.error(error),
        }
    }

    fn read(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.image.lock().file(number.0) {
            Ok(file) => reply.data(file.read(size(offset), length as usize)),
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        bytes: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.image.lock().write(number.0, size(offset), bytes) {
            Ok(()) => reply.written(u32::try_from(bytes.len()).unwrap_or(u32::MAX)),
            Err(error) => reply.error(error),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn release(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.image.lock().released(number.0);
        reply.ok();
    }

    fn fsync(&self, _: &Request, number: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.done(reply, |image| image.sync_file(number.0));
    }

    fn fsyncdir(&self, _: &Request, number: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.done(reply, |image| image.sync_folder(number.0));
    }

    fn readdir(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let names = match self.image.lock().names(number.0) {
            Ok(names) => names,
            Err(error) => return reply.error(error),
        };
        let own = [".", ".."].map(|name| (number.0, FileType::Directory, name.into()));
        for (index, (number, kind, name)) in
            (1..).zip(own.into_iter().chain(names)).skip(size(offset))
        {
            if reply.add(INodeNo(number), index, kind, &name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let (capacity, free) = self.image.lock().space();
        let [blocks, free] = [capacity, free].map(|bytes| bytes / u64::from(BLOCK_BYTES));
        reply.statfs(blocks, free, free, 1 << 20, 1 << 20, BLOCK_BYTES, 255, BLOCK_BYTES);
    }
}

//! A file system for temporary files that hangs on demand, or is full: FUSE, served by a thread of the test.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, Result};
use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyEmpty, ReplyEntry,
    ReplyStatfs, ReplyWrite, Request, WriteFlags,
};

/// The mounted file system; it is taken down when it is dropped.
pub struct HangingFs {
    folder: tempfile::TempDir,
    state: Arc<Mutex<State>>,
    _session: BackgroundSession,
}

#[derive(Default)]
struct State {
    names: HashMap<OsString, INodeNo>,
    files: HashMap<INodeNo, Vec<u8>>,
    made: u64,
    hangs: bool,
    /// Once so much was written, it is full.
    room_bytes: Option<usize>,
    waiting: Vec<Waiting>,
}

/// What gets no answer for now.
enum Waiting {
    Write(Write, ReplyWrite),
    Read(Read, ReplyData),
}

struct Write {
    inode: INodeNo,
    offset: u64,
    bytes: Vec<u8>,
}

struct Read {
    inode: INodeNo,
    offset: u64,
    size: u32,
}

impl HangingFs {
    /// Mounts one without a file.
    pub fn mount() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let state = Arc::new(Mutex::new(State::default()));
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("replsync-test".to_owned())];
        let session = fuser::spawn_mount(Files(state.clone()), folder.path(), &config).context(
            "cannot mount a FUSE file system; this test needs /dev/fuse and the right to mount (root, or fusermount3)",
        )?;
        Ok(Self { folder, state, _session: session })
    }

    /// From now on there is room for so many bytes more, whatever it says.
    pub fn limit(&self, room_bytes: usize) {
        lock(&self.state).room_bytes = Some(room_bytes);
    }

    /// The folder for the files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// From now on, writes and reads do not return, until what is returned is dropped.
    #[must_use]
    pub fn hang(&self) -> Hang<'_> {
        lock(&self.state).hangs = true;
        Hang(self)
    }

    /// How many calls wait.
    pub fn waiting(&self) -> usize {
        lock(&self.state).waiting.len()
    }
}

/// While it is there, calls hang. A process that has one cannot end before: drop it first.
pub struct Hang<'a>(&'a HangingFs);

impl Drop for Hang<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.hangs = false;
        for waiting in std::mem::take(&mut state.waiting) {
            state.answer(waiting);
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().expect("nobody panics")
}

impl State {
    fn ask(&mut self, call: Waiting) {
        match self.hangs {
            true => self.waiting.push(call),
            false => self.answer(call),
        }
    }

    fn answer(&mut self, call: Waiting) {
        match call {
            Waiting::Write(Write { inode, offset, bytes }, reply) => {
                let Some(file) = self.files.get_mut(&inode) else { return reply.error(Errno::ENOENT) };
                if let Some(room_bytes) = &mut self.room_bytes {
                    let Some(left) = room_bytes.checked_sub(bytes.len()) else {
                        return reply.error(Errno::ENOSPC);
                    };
                    *room_bytes = left;
                }
                let end = offset as usize + bytes.len();
                file.resize(file.len().max(end), 0);
                file[offset as usize..end].copy_from_slice(&bytes);
                reply.written(bytes.len() as u32);
            }
            Waiting::Read(Read { inode, offset, size }, reply) => {
                let Some(file) = self.files.get(&inode) else { return reply.error(Errno::ENOENT) };
                let begin = (offset as usize).min(file.len());
                let end = (begin + size as usize).min(file.len());
                reply.data(&file[begin..end]);
            }
        }
    }

    fn attr(&self, inode: INodeNo) -> FileAttr {
        let (kind, size) = match self.files.get(&inode) {
            Some(file) => (FileType::RegularFile, file.len() as u64),
            None => (FileType::Directory, 0),
        };
        FileAttr {
            ino: inode,
            size,
            blocks: size.div_ceil(512),
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm: 0o700,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

const NO_CACHE: Duration = Duration::ZERO;

struct Files(Arc<Mutex<State>>);

impl Filesystem for Files {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let state = lock(&self.0);
        match state.names.get(name) {
            Some(inode) => reply.entry(&NO_CACHE, &state.attr(*inode), Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&NO_CACHE, &lock(&self.0).attr(inode));
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        reply.statfs(1 << 20, 1 << 20, 1 << 20, 1 << 20, 1 << 20, 4096, 255, 4096);
    }

    /// Without the page cache: every call comes here.
    fn create(&self, _: &Request, _: INodeNo, name: &OsStr, _: u32, _: u32, _: i32, reply: ReplyCreate) {
        let mut state = lock(&self.0);
        state.made += 1;
        let inode = INodeNo(1 + state.made);
        state.names.insert(name.to_owned(), inode);
        state.files.insert(inode, Vec::new());
        let attr = state.attr(inode);
        reply.created(&NO_CACHE, &attr, Generation(0), FileHandle(inode.0), FopenFlags::FOPEN_DIRECT_IO);
    }

    /// The name goes; the file goes with its last use.
    fn unlink(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        lock(&self.0).names.remove(name);
        reply.ok();
    }

    fn release(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        lock(&self.0).files.remove(&inode);
        reply.ok();
    }

    fn write(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        bytes: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let write = Write { inode, offset, bytes: bytes.to_vec() };
        lock(&self.0).ask(Waiting::Write(write, reply));
    }

    fn read(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        lock(&self.0).ask(Waiting::Read(Read { inode, offset, size }, reply));
    }
}

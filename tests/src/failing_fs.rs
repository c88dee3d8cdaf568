//! A file system with one file, `dump.rdb`, which fails on demand: FUSE, served by a thread of the test.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEntry, ReplyOpen, Request,
};

/// What happens once somebody reads at or behind an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Reads fail with `EIO`.
    Io,
    /// Reads fail with `ESTALE`.
    Stale,
    /// The file ends there: somebody has cut it.
    Cut,
    /// The file is written to: its time changes, and no byte of it.
    Written,
}

/// The mounted file system; it is taken down when it is dropped.
pub struct FailingFs {
    folder: tempfile::TempDir,
    state: Arc<Mutex<State>>,
    _session: BackgroundSession,
}

struct State {
    bytes: Vec<u8>,
    fault: Option<(Fault, u64)>,
    modified: SystemTime,
}

impl FailingFs {
    /// Mounts one with this file.
    pub fn mount(bytes: Vec<u8>) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let modified = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let state = Arc::new(Mutex::new(State { bytes, fault: None, modified }));
        let mut config = Config::default();
        config.mount_options = vec![MountOption::RO, MountOption::FSName("replsync-test".to_owned())];
        let session = fuser::spawn_mount(OneFile(state.clone()), folder.path(), &config).context(
            "cannot mount a FUSE file system; this test needs /dev/fuse and the right to mount (root, or fusermount3)",
        )?;
        Ok(Self { folder, state, _session: session })
    }

    /// The file.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("dump.rdb")
    }

    /// From now on, this happens once somebody reads at or behind `offset`.
    pub fn fail(&self, fault: Fault, offset: u64) {
        self.state.lock().expect("nobody panics").fault = Some((fault, offset));
    }
}

/// Its inode; the folder's is 1.
const FILE: INodeNo = INodeNo(2);
const NO_CACHE: Duration = Duration::ZERO;

struct OneFile(Arc<Mutex<State>>);

impl OneFile {
    fn attr(&self, inode: INodeNo) -> FileAttr {
        let state = self.0.lock().expect("nobody panics");
        let (kind, size) = match inode {
            FILE => (FileType::RegularFile, state.bytes.len() as u64),
            _ => (FileType::Directory, 0),
        };
        FileAttr {
            ino: inode,
            size,
            blocks: size.div_ceil(512),
            atime: UNIX_EPOCH,
            mtime: state.modified,
            ctime: state.modified,
            crtime: UNIX_EPOCH,
            kind,
            perm: 0o755,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

impl Filesystem for OneFile {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match name == "dump.rdb" {
            true => reply.entry(&NO_CACHE, &self.attr(FILE), Generation(0)),
            false => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&NO_CACHE, &self.attr(inode));
    }

    /// Without the page cache: every read comes here, and ends where it ends here.
    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(1), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut state = self.0.lock().expect("nobody panics");
        let mut end = offset + u64::from(size);
        if let Some((fault, from)) = state.fault {
            match fault {
                Fault::Io if offset >= from => return reply.error(Errno::EIO),
                Fault::Stale if offset >= from => return reply.error(Errno::ESTALE),
                Fault::Cut if end > from => state.bytes.truncate(from as usize),
                Fault::Written if end > from => state.modified += Duration::from_secs(1),
                // what is before the fault is read
                Fault::Io | Fault::Stale => end = end.min(from),
                _ => {}
            }
        }
        let len = state.bytes.len();
        reply.data(&state.bytes[(offset as usize).min(len)..(end as usize).min(len)]);
    }
}

//! What ends a spool.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// A spool that cannot go on. What waited in it is gone.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No file could be made.
    #[error("cannot make a file in the spool folder {}: {source}; name another folder (--spool)", folder.display())]
    Create {
        /// The folder.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A write failed: the disk is broken.
    #[error(
        "cannot write to the spool in {} where {spooled_bytes} bytes wait: {source}; \
         make room there, name another folder (--spool), or make the target faster",
        folder.display()
    )]
    Write {
        /// The folder.
        folder: PathBuf,
        /// How much waited on disk.
        spooled_bytes: u64,
        /// Why.
        source: io::Error,
    },
    /// The disk stands still, or does not keep up.
    #[error(
        "the disk of the spool folder {} stands still: a {what} has not returned for {seconds:.1} s while \
         {waiting_bytes} bytes wait in memory; see what holds it up, or name another folder (--spool)",
        folder.display()
    )]
    Stalled {
        /// The folder.
        folder: PathBuf,
        /// Whether it is a write or a read.
        what: &'static str,
        /// For how long.
        seconds: f32,
        /// How much waits in memory to be written.
        waiting_bytes: usize,
    },
    /// The disk writes, but more comes all the time than it takes.
    #[error(
        "the disk of the spool folder {} is too slow: for {seconds:.1} s more than half of {write_behind_bytes} bytes \
         in memory have waited to be written; name a faster one (--spool), or make the target faster",
        folder.display()
    )]
    TooSlow {
        /// The folder.
        folder: PathBuf,
        /// For how long.
        seconds: f32,
        /// How much may wait in memory.
        write_behind_bytes: usize,
    },
    /// There is no thread for the disk.
    #[error("cannot start a thread that writes to the spool: {source}")]
    Thread {
        /// Why.
        source: io::Error,
    },
    /// The disk is full.
    #[error(
        "no room in the spool folder {} where {spooled_bytes} bytes wait, for {needed_bytes} more: {source}; \
         make room there, name another folder (--spool), or make the target faster",
        folder.display()
    )]
    NoSpace {
        /// The folder.
        folder: PathBuf,
        /// How much waited on disk.
        spooled_bytes: u64,
        /// How much more was to be written.
        needed_bytes: u64,
        /// Why.
        source: io::Error,
    },
    /// There is not enough room, before anything is written.
    #[error(
        "the spool folder {} has {free_bytes} bytes free, and {needed_bytes} are needed; \
         make room there, or name another folder (--spool)",
        folder.display()
    )]
    NoRoom {
        /// The folder.
        folder: PathBuf,
        /// How much is needed.
        needed_bytes: u64,
        /// How much is free.
        free_bytes: u64,
    },
    /// More waits than may.
    #[error(
        "the spool in {} is full: {spooled_bytes} of {max_bytes} bytes wait, and {needed_bytes} more have come; \
         allow more (--spool-max-bytes), where need be in another folder (--spool), or make the target faster",
        folder.display()
    )]
    Full {
        /// The folder.
        folder: PathBuf,
        /// How much waited on disk.
        spooled_bytes: u64,
        /// How much more was to be written.
        needed_bytes: u64,
        /// How much may.
        max_bytes: u64,
    },
    /// What was written could not be read.
    #[error("cannot read {role} of the spool in {} at byte {at}: {source}", folder.display())]
    Read {
        /// The folder.
        folder: PathBuf,
        /// Which file.
        role: Role,
        /// The byte in that file.
        at: u64,
        /// Why.
        source: io::Error,
    },
    /// What was read is not what was written.
    #[error(
        "{role} of the spool in {} at byte {at}: {what}; \
         what was read is not what was written: a fault of the disk or of the memory",
        folder.display()
    )]
    Corrupt {
        /// The folder.
        folder: PathBuf,
        /// Which file.
        role: Role,
        /// Where in that file the record begins.
        at: u64,
        /// What is wrong with it.
        what: String,
    },
    /// A log was used after a write to it had failed.
    #[error("a write to this log in the spool folder {} has failed before", folder.display())]
    Failed {
        /// The folder.
        folder: PathBuf,
    },
    /// More than a record can hold.
    #[error("a record of {len} bytes is more than the spool takes, 4 GiB")]
    TooLarge {
        /// Its length.
        len: u64,
    },
}

/// What a file of the spool is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A part of a queue; they are counted from 1.
    Segment(u64),
    /// The records of a log.
    Records,
    /// A log's index.
    Index,
    /// A log's index while it is sorted.
    Parts,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Role::Segment(number) => write!(f, "segment {number}"),
            Role::Records => f.write_str("the records"),
            Role::Index => f.write_str("the index"),
            Role::Parts => f.write_str("the parted index"),
        }
    }
}

impl Error {
    /// Why `needed_bytes` could not be written where `spooled_bytes` are already.
    pub(super) fn write(folder: &Path, spooled_bytes: u64, needed_bytes: u64, source: io::Error) -> Self {
        let folder = folder.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Error::NoSpace { folder, spooled_bytes, needed_bytes, source }
            }
            _ => Error::Write { folder, spooled_bytes, source },
        }
    }
}

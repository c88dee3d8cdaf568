//! What ends a spool.

use std::io;
use std::path::PathBuf;

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
    /// A write failed: the disk is full, or broken.
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
    /// More waits than may.
    #[error(
        "the spool in {} is full: {spooled_bytes} of {max_bytes} bytes wait, and more has come; \
         allow more (--spool-max-bytes), where need be in another folder (--spool), or make the target faster",
        folder.display()
    )]
    Full {
        /// The folder.
        folder: PathBuf,
        /// How much waited on disk.
        spooled_bytes: u64,
        /// How much may.
        max_bytes: u64,
    },
    /// What was written could not be read.
    #[error("cannot read segment {segment} of the spool in {} at byte {at}: {source}", folder.display())]
    Read {
        /// The folder.
        folder: PathBuf,
        /// Which file, counted from 1.
        segment: u64,
        /// The byte in that file.
        at: u64,
        /// Why.
        source: io::Error,
    },
    /// What was read is not what was written.
    #[error(
        "segment {segment} of the spool in {} at byte {at}: {what}; \
         what was read is not what was written: a fault of the disk or of the memory",
        folder.display()
    )]
    Corrupt {
        /// The folder.
        folder: PathBuf,
        /// Which file, counted from 1.
        segment: u64,
        /// Where in that file the record begins.
        at: u64,
        /// What is wrong with it.
        what: String,
    },
}

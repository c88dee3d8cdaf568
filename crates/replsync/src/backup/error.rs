//! Why there is no backup.

use std::io;
use std::path::PathBuf;

use crate::{capture, endpoint, link, spool};

/// Why there is no backup. Nothing was published.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The source could not be asked.
    #[error(transparent)]
    Endpoint(#[from] endpoint::Error),
    /// It could not be captured.
    #[error(transparent)]
    Capture(#[from] capture::Error),
    /// The spool's folder is of no use, or what waited there could not be read.
    #[error(transparent)]
    Spool(spool::Error),
    /// The full sync failed.
    #[error("the link to the source broke {received_bytes} bytes into the RDB: {source}")]
    FullSync {
        /// Bytes of the RDB that had come.
        received_bytes: u64,
        /// Why.
        source: link::Error,
    },
    /// Something about the backup's folder, or a file in it.
    #[error("{}: {what}: {source}", path.display())]
    Folder {
        /// The folder or file.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// What was kept of a big value is not what was written.
    #[error("a part of a big value cannot be read from the spool: {0}")]
    Part(crate::rdb::Error),
    /// What was read back is not what was written.
    #[error(
        "the backup was read back from {}, and is not what was written: {what}; a fault of the disk, of the memory, or of \
         replsync. It was deleted",
        path.display()
    )]
    Unsound {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The source's RDB lacks what a replica's has.
    #[error("the RDB that the source has sent says nothing of its place in the stream ({0})")]
    NoPlace(&'static str),
    /// The source counts replicas.
    #[error(transparent)]
    Refused(#[from] capture::AttachError),
    /// A thread has ended.
    #[error("a fault in replsync, please report it: {0}")]
    Thread(String),
    /// Told to stop.
    #[error("stopped before the end: there is no backup, and nothing was left behind")]
    Stopped,
}

impl Error {
    /// Something about a file or folder.
    pub(super) fn folder(path: impl Into<PathBuf>, what: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Folder { path, what, source }
    }

    /// Whether it could not be made exact or safe; otherwise a server or a folder could not be reached or refused, or we
    /// were told to stop.
    pub fn is_unsafe(&self) -> bool {
        match self {
            Error::Capture(error) => error.is_unsafe(),
            Error::Refused(error) => error.is_unsafe(),
            Error::Spool(error) => {
                !matches!(error, spool::Error::Create { .. } | spool::Error::NoRoom { .. })
            }
            Error::FullSync { received_bytes, source } => {
                *received_bytes > 0 || matches!(source, link::Error::Spool(_))
            }
            Error::Part(_) | Error::Unsound { .. } | Error::NoPlace(_) | Error::Thread(_) => true,
            Error::Endpoint(_) | Error::Folder { .. } | Error::Stopped => false,
        }
    }
}

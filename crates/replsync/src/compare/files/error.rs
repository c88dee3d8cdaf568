//! What keeps two files from being compared.

use std::fmt;
use std::path::PathBuf;

use crate::compare::text::quoted;
use crate::{files, rdb};

/// Why two files could not be compared. What could not be looked at is never taken for equal.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read, or changed while it was read.
    #[error(transparent)]
    File(#[from] files::Error),
    /// A file is no RDB, or a corrupt one.
    #[error("{}: {source}{at}", path.display())]
    Rdb {
        /// The file.
        path: PathBuf,
        /// Database and key, as far as it is about one.
        at: At,
        /// What is wrong.
        source: rdb::Error,
    },
    /// A pipe or a device, which can be read only once.
    #[error("{} is no regular file: a comparison reads its files more than once", path.display())]
    NotRegular {
        /// The file.
        path: PathBuf,
    },
    /// A key that a file has twice. No server loads such a file.
    #[error("{}: the key comes twice, at offsets {first} and {second}{at}", path.display())]
    Twice {
        /// The file.
        path: PathBuf,
        /// Database and key.
        at: At,
        /// Where its type byte stands.
        first: u64,
        /// Where it stands again.
        second: u64,
    },
    /// Something follows the RDB, such as the rest of an AOF that begins with one.
    #[error(
        "{}: {bytes} bytes follow the RDB, which ends at offset {offset}: they would not be compared",
        path.display()
    )]
    Trailing {
        /// The file.
        path: PathBuf,
        /// Where the RDB ends.
        offset: u64,
        /// How many bytes follow.
        bytes: u64,
    },
    /// More function libraries than can be held.
    #[error("{}: more than {limit} function libraries", path.display())]
    Functions {
        /// The file.
        path: PathBuf,
        /// How many are held at most.
        limit: usize,
    },
    /// A file was not the same when it was read again.
    #[error("{} changed while it was read: compare again when nobody writes to it", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// A difference could not be handed on.
    #[error("a difference cannot be written: {0}")]
    Output(std::io::Error),
    /// It was [stopped](super::Progress::stop).
    #[error("stopped")]
    Stopped,
}

impl Error {
    /// Whether the system did not give what was asked of it: what the files hold is not to blame.
    pub fn is_unreachable(&self) -> bool {
        use files::Error::{List, Open, Read};
        match self {
            Self::File(error) => matches!(error, Open { .. } | List { .. } | Read { .. }),
            Self::Rdb { source, .. } => matches!(source, rdb::Error::Io { .. }),
            Self::Output(_) => true,
            _ => false,
        }
    }
}

/// Database and key that an error is about, if it is about one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct At(pub Option<(u32, Vec<u8>)>);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some((db, key)) => write!(f, " (database {db}, key {})", quoted(key)),
            None => Ok(()),
        }
    }
}

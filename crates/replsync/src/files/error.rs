//! Why a file could not be read.

use std::io;
use std::path::{Path, PathBuf};

use super::FileSystem;
use crate::rdb;

/// What is wrong with a file as such; what is wrong with its bytes is [`rdb::Error`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be opened.
    #[error("cannot open {}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A folder cannot be listed.
    #[error("cannot list the folder {}: {source}", path.display())]
    List {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A read failed.
    #[error("cannot read {} at byte {offset}: {source}{}", path.display(), advice(source, *file_system))]
    Read {
        /// The file.
        path: PathBuf,
        /// Where the bytes were to be read.
        offset: u64,
        /// Where the file lives.
        file_system: FileSystem,
        /// What the system said.
        source: io::Error,
    },
    /// It ends before where it ended when it was opened.
    #[error(
        "{} was cut to {len} bytes while being read (it had {opened_len}): reading stopped at byte {offset}; \
         whoever writes it was at work, read it again when that is done", path.display()
    )]
    Cut {
        /// The file.
        path: PathBuf,
        /// Where the bytes were to be read.
        offset: u64,
        /// Its length now.
        len: u64,
        /// Its length when it was opened.
        opened_len: u64,
    },
    /// It is not what it was when it was opened.
    #[error("{} {what} while being read: what was read of it is a mixture, read it again when nobody writes to it", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// What happened to it.
        what: String,
    },
    /// Under its name there is another file now, or none.
    #[error("{} {what} while being read: what was read is the file that was there before, read the new one", path.display())]
    Replaced {
        /// The file.
        path: PathBuf,
        /// What happened to it.
        what: &'static str,
    },
    /// A pattern cannot be read as one.
    #[error("{pattern} is neither a file nor a pattern: {what}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A pattern or a folder gives no file.
    #[error(
        "nothing to read in {word}: a pattern must match a file, a folder must hold files that end in .rdb or start with \
         REDIS or VALKEY"
    )]
    Nothing {
        /// The word.
        word: String,
    },
}

impl Error {
    /// Takes what happened to the file out of a reader's error; whatever else it is comes back.
    ///
    /// # Errors
    /// The same error, where it is about the bytes and not about the file.
    pub fn taken_out_of(error: rdb::Error) -> Result<Self, rdb::Error> {
        match error {
            rdb::Error::Io { offset, source } => {
                source.downcast().map_err(|source| rdb::Error::Io { offset, source })
            }
            other => Err(other),
        }
    }

    /// The file or folder; for words that are none, the word.
    pub fn path(&self) -> &Path {
        match self {
            Self::Open { path, .. }
            | Self::List { path, .. }
            | Self::Read { path, .. }
            | Self::Cut { path, .. }
            | Self::Changed { path, .. }
            | Self::Replaced { path, .. } => path,
            Self::Pattern { pattern: word, .. } | Self::Nothing { word } => Path::new(word),
        }
    }

    /// Where in the file it happened, if that is known.
    pub fn offset(&self) -> Option<u64> {
        match self {
            Self::Read { offset, .. } | Self::Cut { offset, .. } => Some(*offset),
            _ => None,
        }
    }
}

/// As a [`Stream`](super::Stream) answers it to a reader, which adds nothing to it.
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Open { source, .. } | Error::Read { source, .. } => source.kind(),
            Error::Cut { .. } => io::ErrorKind::UnexpectedEof,
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

/// What to do about a read that failed.
fn advice(source: &io::Error, file_system: FileSystem) -> String {
    use rustix::io::Errno;
    let errno = source.raw_os_error().map(Errno::from_raw_os_error);
    match (errno, file_system.remote()) {
        (Some(Errno::STALE), _) => {
            "; the file was removed or replaced on the server, or its export is gone: run again, on the new file"
                .to_owned()
        }
        (Some(Errno::IO | Errno::TIMEDOUT), Some(name)) => {
            format!("; it is on {name}: see whether its server can be reached and what its log says, then run again")
        }
        (Some(Errno::IO), None) => {
            "; the disk did not give these bytes: see dmesg, and take the file from another copy".to_owned()
        }
        (_, Some(name)) => format!("; it is on {name}"),
        _ => String::new(),
    }
}

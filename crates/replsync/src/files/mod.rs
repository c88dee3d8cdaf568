//! RDB files, opened for reading: on local disks, on remote file systems, on standard input; and what the words of a
//! command line mean ([`expand`]).
//!
//! Files are read by position (`pread`), never mapped: a map of a file that somebody cuts, or whose server goes away,
//! kills the process by SIGBUS, and a read says what happened and where (docs/decisions/0005-files-are-read.md).

mod error;
mod expand;
mod file_system;
mod stream;

use std::fs::{File, Metadata};
use std::io::{self, Seek};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Advice, fadvise};

pub use error::Error;
pub use expand::{Expanded, STDIN, expand, is_unfinished, unfinished};
pub use file_system::FileSystem;
pub use stream::Stream;

use crate::rdb::{Buffered, Limits, Place, Reader};

/// An RDB file to be read, from its start or from any [`Place`] in it, by several readers at once.
///
/// Its readers answer what happens to the file as [`rdb::Error::Io`](crate::rdb::Error::Io), from which
/// [`Error::taken_out_of`] takes it. After the last one, [`check_unchanged`](Self::check_unchanged) tells whether
/// what was read was one and the same file.
#[derive(Clone, Debug)]
pub struct RdbFile {
    shared: Arc<Shared>,
    read_bytes: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    file: File,
    /// What it was when it was opened; nothing for what is not a regular file, which is read once and in order.
    opened: Option<Metadata>,
    file_system: FileSystem,
}

impl RdbFile {
    /// Opens the file at `path`; `-` is standard input.
    ///
    /// # Errors
    /// [`Error::Open`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        let open = |source| Error::Open { path: path.to_owned(), source };
        let stdin = path == Path::new(STDIN);
        let mut file = match stdin {
            true => File::from(io::stdin().as_fd().try_clone_to_owned().map_err(open)?),
            false => File::open(path).map_err(open)?,
        };
        let metadata = file.metadata().map_err(open)?;
        if metadata.is_dir() {
            return Err(open(io::ErrorKind::IsADirectory.into()));
        }
        // Of a redirected file somebody may have read the beginning.
        let has_positions = metadata.is_file() && (!stdin || matches!(file.stream_position(), Ok(0)));
        if has_positions {
            // A hint: twice the read-ahead. A system that does not take it reads all the same.
            let _ = fadvise(&file, 0, None, Advice::Sequential);
        }
        let (file_system, opened) = (FileSystem::of(&file), has_positions.then_some(metadata));
        let shared = Shared { path: path.to_owned(), file, opened, file_system };
        Ok(Self { shared: Arc::new(shared), read_bytes: Arc::default() })
    }

    /// The same open file, whose readers do not count for [`read_bytes`](Self::read_bytes) of this one.
    pub fn uncounted(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), read_bytes: Arc::default() }
    }

    /// Whether both are one and the same open file.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// What it was opened as.
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// Its length in bytes when it was opened; nothing for a pipe.
    pub fn len(&self) -> Option<u64> {
        self.shared.opened.as_ref().map(Metadata::len)
    }

    /// Whether it was empty when it was opened.
    pub fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }

    /// Where it lives.
    pub fn file_system(&self) -> FileSystem {
        self.shared.file_system
    }

    /// Bytes that all its readers have read so far: for progress.
    pub fn read_bytes(&self) -> u64 {
        self.read_bytes.load(Ordering::Relaxed)
    }

    /// Reads it from the start.
    pub fn reader(&self, limits: Limits) -> Reader<Buffered<Stream>> {
        Reader::with_limits(Buffered::new(self.stream(0)), limits)
    }

    /// Reads it from `place` on. To be called of a regular file only.
    pub fn reader_at(&self, limits: Limits, place: Place) -> Reader<Buffered<Stream>> {
        Reader::resume(Buffered::at(self.stream(place.offset), place.offset), limits, place)
    }

    /// Its bytes from `offset` on. To be called of a regular file, or with offset 0.
    pub fn stream(&self, offset: u64) -> Stream {
        Stream::new(self.clone(), offset)
    }

    /// Whether it is still what it was when it was opened: length, time of change, and what its name leads to. A
    /// pipe always is.
    ///
    /// # Errors
    /// [`Error::Changed`], [`Error::Cut`], [`Error::Replaced`], and [`Error::Read`] when the system does not tell.
    pub fn check_unchanged(&self) -> Result<(), Error> {
        let Some(opened) = &self.shared.opened else { return Ok(()) };
        let now = self.shared.file.metadata().map_err(|error| self.read_error(opened.len(), error))?;
        if now.len() < opened.len() {
            return Err(self.cut(now.len()));
        }
        let changed = |what: String| Err(Error::Changed { path: self.path().to_owned(), what });
        if now.len() > opened.len() {
            return changed(format!("grew from {} to {} bytes", opened.len(), now.len()));
        }
        if (now.mtime(), now.mtime_nsec()) != (opened.mtime(), opened.mtime_nsec()) {
            return changed("was written to".to_owned());
        }
        if self.path() == Path::new(STDIN) {
            return Ok(());
        }
        let replaced = |what| Err(Error::Replaced { path: self.path().to_owned(), what });
        match std::fs::metadata(self.path()) {
            Ok(named) if (named.dev(), named.ino()) != (opened.dev(), opened.ino()) => {
                replaced("was replaced")
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => replaced("was removed or renamed"),
            Err(error) => Err(self.read_error(opened.len(), error)),
            Ok(_) => Ok(()),
        }
    }

    /// It ends at `offset` or before, where bytes were when it was opened.
    fn cut(&self, offset: u64) -> Error {
        let len = self.shared.file.metadata().map_or(offset, |now| now.len());
        Error::Cut { path: self.path().to_owned(), offset, len, opened_len: self.len().unwrap_or(0) }
    }

    fn read_error(&self, offset: u64, source: io::Error) -> Error {
        Error::Read { path: self.path().to_owned(), offset, file_system: self.file_system(), source }
    }
}

#[cfg(test)]
mod tests;

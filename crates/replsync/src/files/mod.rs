//! RDB files, opened for reading: on local disks, on remote file systems, on standard input.
//!
//! Files are read by position (`pread`), never mapped: a map of a file that somebody cuts, or whose server goes away,
//! kills the process by SIGBUS, and a read says what happened and where.

mod error;
mod stream;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use error::Error;
pub use stream::Stream;

use crate::rdb::{Buffered, Limits, Place, Reader};

/// An RDB file to be read, from its start or from any [`Place`] in it, by several readers at once.
#[derive(Clone, Debug)]
pub struct RdbFile {
    path: PathBuf,
    file: Arc<File>,
    /// When it was opened; nothing for what is not a regular file, which is read once and in order.
    len: Option<u64>,
    read_bytes: Arc<AtomicU64>,
}

impl RdbFile {
    /// Opens the file at `path`.
    ///
    /// # Errors
    /// [`Error::Open`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        let open = |source| Error::Open { path: path.to_owned(), source };
        let file = File::open(path).map_err(open)?;
        let metadata = file.metadata().map_err(open)?;
        if metadata.is_dir() {
            return Err(open(std::io::ErrorKind::IsADirectory.into()));
        }
        let len = metadata.is_file().then_some(metadata.len());
        Ok(Self { path: path.to_owned(), file: Arc::new(file), len, read_bytes: Arc::default() })
    }

    /// What it was opened as.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its length in bytes when it was opened; nothing for a pipe.
    pub fn len(&self) -> Option<u64> {
        self.len
    }

    /// Whether it was empty when it was opened.
    pub fn is_empty(&self) -> bool {
        self.len == Some(0)
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

    fn stream(&self, offset: u64) -> Stream {
        Stream::new(Arc::clone(&self.file), offset, self.len.is_some(), Arc::clone(&self.read_bytes))
    }
}

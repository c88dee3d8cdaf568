//! A file as a stream of bytes from a position on.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The bytes of a file from a position on. Several streams of one file do not disturb each other.
#[derive(Debug)]
pub struct Stream {
    file: Arc<File>,
    offset: u64,
    /// Whether the file has positions; a pipe has none.
    seekable: bool,
    read_bytes: Arc<AtomicU64>,
}

impl Stream {
    pub(super) fn new(file: Arc<File>, offset: u64, seekable: bool, read_bytes: Arc<AtomicU64>) -> Self {
        Self { file, offset, seekable, read_bytes }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = match self.seekable {
            true => self.file.read_at(buffer, self.offset)?,
            false => (&*self.file).read(buffer)?,
        };
        self.offset += read as u64;
        self.read_bytes.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

//! A file as a stream of bytes from a position on.

use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;

use rustix::fs::{Advice, fadvise};

use super::RdbFile;

/// On a remote file system this much is asked for ahead of the reader: the kernel's own read-ahead (128 KiB by
/// default) leaves the wire idle between requests.
const AHEAD_BYTES: u64 = 8 * 1024 * 1024;

/// The bytes of a file from a position on. Several streams of one file do not disturb each other.
#[derive(Debug)]
pub struct Stream {
    file: RdbFile,
    offset: u64,
    /// Up to where the system was told that bytes will be wanted.
    advised: u64,
}

impl Stream {
    pub(super) fn new(file: RdbFile, offset: u64) -> Self {
        Self { file, offset, advised: offset }
    }

    /// Has the system read what comes next, while we look at what is here.
    fn look_ahead(&mut self) {
        if self.file.file_system().remote().is_some() && self.offset + AHEAD_BYTES / 2 >= self.advised {
            let len = std::num::NonZeroU64::new(AHEAD_BYTES);
            // A hint: a system that does not take it reads all the same.
            let _ = fadvise(&self.file.shared.file, self.advised, len, Advice::WillNeed);
            self.advised = self.advised.saturating_add(AHEAD_BYTES);
        }
    }

    fn read_at(&mut self, buffer: &mut [u8], opened_len: u64) -> io::Result<usize> {
        self.look_ahead();
        match self.file.shared.file.read_at(buffer, self.offset) {
            Ok(0) if self.offset < opened_len && !buffer.is_empty() => Err(self.file.cut(self.offset).into()),
            Ok(read) => Ok(read),
            Err(error) => Err(self.failed(error)),
        }
    }

    fn failed(&self, error: io::Error) -> io::Error {
        match error.kind() {
            io::ErrorKind::Interrupted => error,
            _ => self.file.read_error(self.offset, error).into(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = match self.file.len() {
            Some(opened_len) => self.read_at(buffer, opened_len)?,
            None => (&self.file.shared.file).read(buffer).map_err(|error| self.failed(error))?,
        };
        self.offset += read as u64;
        self.file.read_bytes.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

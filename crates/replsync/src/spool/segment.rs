//! A file of records.
//!
//! A record is a header and a body:
//!
//! ```text
//! crc 8 | segment 8 | at 8 | len 8 | kind 1 | body: len bytes
//! ```
//!
//! Numbers are little-endian. The CRC-64 is over the body, then the rest of the header. Since a record says where it
//! is, one that is whole but elsewhere, or a page of zeros (whose CRC-64 is 0), is found as well as a flipped bit.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::BytesMut;

use super::{Error, Role, file};
use crate::checksum::Crc64;

const HEADER_LEN: usize = 33;
/// A large item is written in pieces of this size.
const WRITE_BYTES: usize = 256 * 1024;

/// A file that nobody else sees.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) file: File,
    pub(super) number: u64,
    pub(super) folder: PathBuf,
}

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An item.
    Written = 1,
    /// The place of an item that is held in memory.
    Kept = 2,
}

impl Segment {
    /// Makes a file in that folder.
    pub(super) fn create(folder: &Path, number: u64) -> Result<Self, Error> {
        Ok(Self { file: file::create(folder)?, number, folder: folder.to_owned() })
    }

    /// Begins a record at that byte, with a buffer to work in. `spooled_bytes` of the `max_bytes` that may be on
    /// disk are there already.
    pub(super) fn record<'a>(
        &'a self,
        at: u64,
        buffer: &'a mut Vec<u8>,
        spooled_bytes: u64,
        max_bytes: u64,
    ) -> Record<'a> {
        buffer.clear();
        buffer.resize(HEADER_LEN, 0);
        Record {
            segment: self,
            at,
            buffer,
            body_len: 0,
            crc: Crc64::new(),
            failure: None,
            spooled_bytes,
            max_bytes,
        }
    }

    /// Reads the record at that byte of the `written` ones: its kind, its body, and where it ends.
    pub(super) fn read(&self, at: u64, written: u64) -> Result<(Kind, BytesMut, u64), Error> {
        let failed = |source| Error::Read {
            folder: self.folder.clone(),
            role: Role::Segment(self.number),
            at,
            source,
        };
        let mut header = [0; HEADER_LEN];
        self.file.read_exact_at(&mut header, at).map_err(failed)?;
        let number = |from: usize| {
            header[from..from + 8].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
        };
        let (expected, segment, place, len) = (number(0), number(8), number(16), number(24));
        let kind = match header[32] {
            1 => Some(Kind::Written),
            2 => Some(Kind::Kept),
            _ => None,
        };
        let end = at.saturating_add(HEADER_LEN as u64).saturating_add(len);
        let (Some(kind), true) = (kind, (segment, place) == (self.number, at) && end <= written) else {
            return Err(self.corrupt(at, "it does not hold the record that belongs there".to_owned()));
        };
        let len = usize::try_from(len).map_err(|_| failed(io::ErrorKind::OutOfMemory.into()))?;
        let mut body = BytesMut::zeroed(len);
        self.file.read_exact_at(&mut body, at + HEADER_LEN as u64).map_err(failed)?;
        let mut crc = Crc64::new();
        crc.update(&body);
        crc.update(&header[8..]);
        if crc.value() != expected {
            let what = format!("its checksum is {:016x} instead of {expected:016x}", crc.value());
            return Err(self.corrupt(at, what));
        }
        Ok((kind, body, end))
    }

    pub(super) fn corrupt(&self, at: u64, what: String) -> Error {
        Error::Corrupt { folder: self.folder.clone(), role: Role::Segment(self.number), at, what }
    }
}

/// An item on its way to disk. Small ones are written at once, large ones in pieces.
pub struct Record<'a> {
    segment: &'a Segment,
    at: u64,
    /// Room for the header, then what of the body is not written yet.
    buffer: &'a mut Vec<u8>,
    /// Bytes of the body that are written.
    body_len: u64,
    crc: Crc64,
    /// The first thing that went wrong, told at the end.
    failure: Option<Error>,
    spooled_bytes: u64,
    max_bytes: u64,
}

impl Record<'_> {
    /// Appends bytes to the body.
    pub fn put(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.failure.is_none() {
            let room = WRITE_BYTES.saturating_sub(self.buffer.len());
            let (piece, rest) = bytes.split_at(room.min(bytes.len()));
            self.buffer.extend_from_slice(piece);
            bytes = rest;
            if self.buffer.len() >= WRITE_BYTES {
                self.flush();
            }
        }
    }

    /// Ends it with its header, which makes it one, and says where it ends.
    pub(super) fn finish(mut self, kind: Kind) -> Result<u64, Error> {
        if self.body_len > 0 {
            self.flush();
        }
        let body = &self.buffer[HEADER_LEN..];
        let len = self.body_len + body.len() as u64;
        self.crc.update(body);
        let mut header = [0; HEADER_LEN];
        header[8..16].copy_from_slice(&self.segment.number.to_le_bytes());
        header[16..24].copy_from_slice(&self.at.to_le_bytes());
        header[24..32].copy_from_slice(&len.to_le_bytes());
        header[32] = kind as u8;
        self.crc.update(&header[8..]);
        header[..8].copy_from_slice(&self.crc.value().to_le_bytes());
        self.buffer[..HEADER_LEN].copy_from_slice(&header);
        self.write(0, self.at);
        match self.failure {
            Some(failure) => Err(failure),
            None => Ok(self.at + HEADER_LEN as u64 + len),
        }
    }

    /// Writes what there is of the body behind what was written of it.
    fn flush(&mut self) {
        self.crc.update(&self.buffer[HEADER_LEN..]);
        self.write(HEADER_LEN, self.at + HEADER_LEN as u64 + self.body_len);
        self.body_len += (self.buffer.len() - HEADER_LEN) as u64;
        self.buffer.truncate(HEADER_LEN);
    }

    /// Writes the buffer from `from` on to that place in the file.
    fn write(&mut self, from: usize, at: u64) {
        if self.failure.is_some() {
            return;
        }
        let (folder, spooled_bytes) = (&self.segment.folder, self.spooled_bytes);
        let record_bytes = self.body_len + self.buffer.len() as u64;
        if spooled_bytes.saturating_add(record_bytes) > self.max_bytes {
            let (needed_bytes, max_bytes) = (record_bytes, self.max_bytes);
            self.failure =
                Some(Error::Full { folder: folder.clone(), spooled_bytes, needed_bytes, max_bytes });
        } else if let Err(source) = self.segment.file.write_all_at(&self.buffer[from..], at) {
            self.failure = Some(Error::write(folder, spooled_bytes, record_bytes, source));
        }
    }
}

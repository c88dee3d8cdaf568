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
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::{Buf, BytesMut};

use super::pulse::Pulse;
use super::{Error, Item, Role, file};
use crate::checksum::Crc64;

const HEADER_LEN: usize = 33;
/// A large item is written in pieces of this size.
const WRITE_BYTES: usize = 512 << 10;
/// So much is read at once.
pub(super) const READ_BYTES: usize = 512 << 10;

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

    /// Begins a batch of records at that byte, with a buffer to work in. `spooled_bytes` are on disk, to be named
    /// where it is full.
    pub(super) fn batch<'a>(
        &'a self,
        at: u64,
        buffer: &'a mut Vec<u8>,
        spooled_bytes: u64,
        pulse: &'a Pulse,
    ) -> Batch<'a> {
        buffer.clear();
        Batch {
            segment: self,
            at,
            buffer,
            body_from: 0,
            crc: Crc64::new(),
            spooled_bytes,
            pulse,
            failure: None,
        }
    }

    /// Reads records from that byte on, of the `written` ones: as many as are whole in about `READ_BYTES`, but at
    /// least one. What is wrong with one is told when it is the first.
    pub(super) fn read_some(&self, at: u64, written: u64, pulse: &Pulse) -> Result<Vec<Read>, Error> {
        let len = written.saturating_sub(at).min(READ_BYTES as u64) as usize;
        let mut window = BytesMut::zeroed(len);
        let (mut records, mut at) = (Vec::new(), at);
        if self.file.read_exact_at(&mut window, at).is_ok() {
            while let Some(read) = self.parse(&mut window, at, written) {
                at = read.end;
                records.push(read);
            }
        }
        if records.is_empty() {
            records.push(self.read(at, written, pulse)?);
        }
        Ok(records)
    }

    /// Takes the record that begins a window of the file; what is missing of it is read, unless that is much.
    fn parse(&self, window: &mut BytesMut, at: u64, written: u64) -> Option<Read> {
        let header: [u8; HEADER_LEN] = *window.first_chunk()?;
        let (kind, len, end) = self.header(&header, at, written).ok()?;
        let (record_len, had) = (HEADER_LEN.checked_add(len)?, window.len());
        if record_len > had {
            if record_len - had > READ_BYTES {
                return None;
            }
            window.resize(record_len, 0);
            self.file.read_exact_at(&mut window[had..], at + had as u64).ok()?;
        }
        let mut body = window.split_to(record_len);
        body.advance(HEADER_LEN);
        self.check(&header, &body, at).ok()?;
        Some(Read { kind, body, at, end })
    }

    /// Reads the record at that byte, and says what is wrong with it.
    fn read(&self, at: u64, written: u64, pulse: &Pulse) -> Result<Read, Error> {
        let role = Role::Segment(self.number);
        let failed = |source| Error::Read { folder: self.folder.clone(), role, at, source };
        let mut header = [0; HEADER_LEN];
        self.file.read_exact_at(&mut header, at).map_err(failed)?;
        let (kind, len, end) = self.header(&header, at, written)?;
        let mut body = BytesMut::zeroed(len);
        let mut from = at + HEADER_LEN as u64;
        for piece in body.chunks_mut(READ_BYTES) {
            pulse.beat();
            self.file.read_exact_at(piece, from).map_err(failed)?;
            from += piece.len() as u64;
        }
        self.check(&header, &body, at)?;
        Ok(Read { kind, body, at, end })
    }

    /// What the header at that byte says: the kind, how long the body is, and where it ends.
    fn header(&self, header: &[u8; HEADER_LEN], at: u64, written: u64) -> Result<(Kind, usize, u64), Error> {
        let number = |from: usize| {
            header[from..from + 8].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
        };
        let (segment, place, len) = (number(8), number(16), number(24));
        let kind = match header[32] {
            1 => Some(Kind::Written),
            2 => Some(Kind::Kept),
            _ => None,
        };
        let end = at.saturating_add(HEADER_LEN as u64).saturating_add(len);
        match (kind, usize::try_from(len)) {
            (Some(kind), Ok(len)) if (segment, place) == (self.number, at) && end <= written => {
                Ok((kind, len, end))
            }
            _ => Err(self.corrupt(at, "it does not hold the record that belongs there".to_owned())),
        }
    }

    fn check(&self, header: &[u8; HEADER_LEN], body: &[u8], at: u64) -> Result<(), Error> {
        let expected = header[..8].iter().rev().fold(0, |crc, byte| crc << 8 | u64::from(*byte));
        let mut crc = Crc64::new();
        crc.update(body);
        crc.update(&header[8..]);
        if crc.value() != expected {
            let what = format!("its checksum is {:016x} instead of {expected:016x}", crc.value());
            return Err(self.corrupt(at, what));
        }
        Ok(())
    }

    pub(super) fn corrupt(&self, at: u64, what: String) -> Error {
        Error::Corrupt { folder: self.folder.clone(), role: Role::Segment(self.number), at, what }
    }
}

/// A record that was read.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) kind: Kind,
    pub(super) body: BytesMut,
    /// Where it begins and ends.
    pub(super) at: u64,
    pub(super) end: u64,
}

/// Records on their way to disk, one behind the other: small ones are written together, large ones in pieces.
pub(super) struct Batch<'a> {
    segment: &'a Segment,
    /// What is not written yet, and where it goes.
    buffer: &'a mut Vec<u8>,
    at: u64,
    /// Where in the buffer the body of the last record begins, behind its header; 0 once a part of it is written.
    body_from: usize,
    /// Of that part.
    crc: Crc64,
    spooled_bytes: u64,
    pulse: &'a Pulse,
    /// The first thing that went wrong, told at the end.
    failure: Option<Error>,
}

impl Batch<'_> {
    /// Adds a record, and says what it is.
    pub(super) fn add(&mut self, item: &impl Item) -> Kind {
        let at = self.at + self.buffer.len() as u64;
        self.buffer.extend_from_slice(&[0; HEADER_LEN]);
        (self.body_from, self.crc) = (self.buffer.len(), Crc64::new());
        let mut record = Record { len: 0, out: Some(self) };
        let kind = if item.encode(&mut record) { Kind::Written } else { Kind::Kept };
        let len = record.len;
        self.seal(at, len, kind);
        kind
    }

    /// Puts the header in its place, in the buffer or on disk: that makes it a record.
    fn seal(&mut self, at: u64, len: u64, kind: Kind) {
        self.crc.update(&self.buffer[self.body_from..]);
        let mut header = [0; HEADER_LEN];
        header[8..16].copy_from_slice(&self.segment.number.to_le_bytes());
        header[16..24].copy_from_slice(&at.to_le_bytes());
        header[24..32].copy_from_slice(&len.to_le_bytes());
        header[32] = kind as u8;
        self.crc.update(&header[8..]);
        header[..8].copy_from_slice(&self.crc.value().to_le_bytes());
        match self.body_from.checked_sub(HEADER_LEN) {
            Some(from) => self.buffer[from..self.body_from].copy_from_slice(&header),
            None => self.write(&header, at),
        }
    }

    /// Writes what is left, and says where that ends.
    pub(super) fn finish(mut self) -> Result<u64, Error> {
        self.flush();
        match self.failure {
            Some(failure) => Err(failure),
            None => Ok(self.at),
        }
    }

    fn flush(&mut self) {
        let mut buffer = std::mem::take(self.buffer);
        self.write(&buffer, self.at);
        self.at += buffer.len() as u64;
        buffer.clear();
        *self.buffer = buffer;
    }

    fn write(&mut self, bytes: &[u8], at: u64) {
        if self.failure.is_some() {
            return;
        }
        self.pulse.beat();
        if let Err(source) = self.segment.file.write_all_at(bytes, at) {
            let (spooled_bytes, needed_bytes) = (self.spooled_bytes, bytes.len() as u64);
            self.failure = Some(Error::write(&self.segment.folder, spooled_bytes, needed_bytes, source));
        }
    }
}

/// Where the body of a record goes.
trait Out {
    fn put(&mut self, bytes: &[u8]);
}

impl Out for Batch<'_> {
    fn put(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.failure.is_none() {
            let room = WRITE_BYTES.saturating_sub(self.buffer.len());
            let (piece, rest) = bytes.split_at(room.min(bytes.len()));
            self.buffer.extend_from_slice(piece);
            bytes = rest;
            if self.buffer.len() >= WRITE_BYTES {
                self.crc.update(&self.buffer[self.body_from..]);
                self.body_from = 0;
                self.flush();
            }
        }
    }
}

/// An item on its way to disk; or only measured, to know how much room it needs there.
pub struct Record<'a> {
    len: u64,
    out: Option<&'a mut dyn Out>,
}

impl Record<'_> {
    /// Appends bytes to the body.
    pub fn put(&mut self, bytes: &[u8]) {
        self.len += bytes.len() as u64;
        if let Some(out) = &mut self.out {
            out.put(bytes);
        }
    }

    /// How many bytes of disk an item will take.
    pub(super) fn measure(item: &impl Item) -> u64 {
        let mut record = Record { len: 0, out: None };
        item.encode(&mut record);
        HEADER_LEN as u64 + record.len
    }
}

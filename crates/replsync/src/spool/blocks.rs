//! Files of blocks, each with a checksum.
//!
//! ```text
//! payload | crc 8
//! ```
//!
//! The CRC-64 is over the payload, the number of the file and the place in it: a block that is whole but elsewhere,
//! or a page of zeros, is found as well as a flipped bit.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::budget::Share;
use super::pulse::Watched;
use super::{Config, Error, Role, file};
use crate::checksum::Crc64;

const CRC_LEN: usize = 8;

/// A file of blocks that is made when the first one is written.
#[derive(Debug)]
pub(super) struct Sealed {
    role: Role,
    /// No other file of this process has it.
    number: u64,
    file: Option<File>,
    share: Share,
    config: Config,
    /// Since when it waits for the disk.
    watched: Option<Arc<Watched>>,
}

impl Sealed {
    pub(super) fn new(config: &Config, role: Role) -> Self {
        static NUMBERS: AtomicU64 = AtomicU64::new(1);
        let number = NUMBERS.fetch_add(1, Relaxed);
        let (config, share) = (config.clone(), Share::new(&config.budget));
        Self { role, number, file: None, share, config, watched: None }
    }

    /// How much of the file a payload of that length takes.
    pub(super) fn block_len(payload_len: usize) -> u64 {
        (payload_len + CRC_LEN) as u64
    }

    /// Takes so much of the budget.
    pub(super) fn take(&mut self, bytes: u64) -> Result<(), Error> {
        self.share.take(bytes, &self.config.folder)
    }

    /// Goes on with what another file had taken.
    pub(super) fn inherit(&mut self, share: Share) {
        self.share = share;
    }

    /// Writes a block at that byte of the file; its room was taken from the budget.
    pub(super) fn write(&mut self, payload: &mut Vec<u8>, at: u64) -> Result<(), Error> {
        payload.extend(seal(payload, self.number, at).to_le_bytes());
        let written = self.write_all(payload, at);
        let block_bytes = payload.len() as u64;
        payload.truncate(payload.len() - CRC_LEN);
        written?.map_err(|source| {
            let spooled_bytes = self.config.budget.gauge().bytes();
            Error::write(&self.config.folder, spooled_bytes, block_bytes, source)
        })
    }

    fn write_all(&mut self, bytes: &[u8], at: u64) -> Result<io::Result<()>, Error> {
        let watched = self.watched.get_or_insert_with(|| self.config.budget.gauge().watch(&self.config));
        watched.write.beat();
        let file = match &mut self.file {
            Some(file) => Ok(file),
            none => file::create(&self.config.folder).map(|file| none.insert(file)),
        };
        let written = file.map(|file| file.write_all_at(bytes, at));
        watched.write.rest();
        written
    }

    /// Reads the block at that byte, whose payload has that length.
    pub(super) fn read(&self, payload: &mut Vec<u8>, len: usize, at: u64) -> Result<(), Error> {
        let (folder, role) = (&self.config.folder, self.role);
        payload.resize(len + CRC_LEN, 0);
        let read = match (&self.file, &self.watched) {
            (Some(file), Some(watched)) => {
                watched.read.beat();
                let read = file.read_exact_at(payload, at);
                watched.read.rest();
                read
            }
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        };
        if let Err(source) = read {
            return Err(Error::Read { folder: folder.clone(), role, at, source });
        }
        let mut expected = [0; CRC_LEN];
        expected.copy_from_slice(&payload[len..]);
        payload.truncate(len);
        let (expected, found) = (u64::from_le_bytes(expected), seal(payload, self.number, at));
        if found != expected {
            let what = format!("the checksum of its block is {found:016x} instead of {expected:016x}");
            return Err(Error::Corrupt { folder: folder.clone(), role, at, what });
        }
        Ok(())
    }

    /// For tests to spoil.
    #[cfg(test)]
    pub(super) fn file(&self) -> Option<&File> {
        self.file.as_ref()
    }

    /// For tests to stand still.
    #[cfg(test)]
    pub(super) fn watched(&self) -> Option<Arc<Watched>> {
        self.watched.clone()
    }
}

fn seal(payload: &[u8], number: u64, at: u64) -> u64 {
    let mut place = [0; 16];
    place[..8].copy_from_slice(&number.to_le_bytes());
    place[8..].copy_from_slice(&at.to_le_bytes());
    let mut crc = Crc64::new();
    crc.update(payload);
    crc.update(&place);
    crc.value()
}

/// Bytes that are appended to a file of blocks of the same length. What does not fill a block stays in memory.
#[derive(Debug)]
pub(super) struct Writer {
    file: Sealed,
    block_bytes: usize,
    /// Bytes of the budget that are taken for each that is written.
    takes: u64,
    last: Vec<u8>,
    /// How many blocks are before the last.
    full: u64,
}

impl Writer {
    pub(super) fn new(file: Sealed, block_bytes: usize, takes: u64) -> Self {
        Self { file, block_bytes, takes, last: Vec::new(), full: 0 }
    }

    /// Room in the last block; without any, the next bytes begin another one.
    #[inline]
    pub(super) fn room(&self) -> usize {
        self.block_bytes - self.last.len()
    }

    /// The last block, which is not written yet.
    #[inline]
    pub(super) fn last(&mut self) -> &mut Vec<u8> {
        &mut self.last
    }

    pub(super) fn append(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while bytes.len() > self.room() {
            let (piece, rest) = bytes.split_at(self.room());
            self.last.extend_from_slice(piece);
            self.write()?;
            bytes = rest;
        }
        self.last.extend_from_slice(bytes);
        Ok(())
    }

    fn write(&mut self) -> Result<(), Error> {
        let block_len = Sealed::block_len(self.block_bytes);
        self.file.take(block_len * self.takes)?;
        self.file.write(&mut self.last, self.full * block_len)?;
        self.full += 1;
        self.last.clear();
        Ok(())
    }

    /// Reads all that was appended.
    pub(super) fn read(self) -> Reader {
        Reader { written: self, block: Vec::new(), at: 0, next: 0 }
    }

    #[cfg(test)]
    pub(super) fn sealed(&self) -> &Sealed {
        &self.file
    }
}

/// Reads what a [`Writer`] has written, from its beginning.
#[derive(Debug)]
pub(super) struct Reader {
    written: Writer,
    block: Vec<u8>,
    /// How much of the block is taken.
    at: usize,
    /// Which block comes next; the one behind the full ones is the last.
    next: u64,
}

impl Reader {
    /// What of the block is not taken yet.
    #[inline]
    pub(super) fn rest(&self) -> &[u8] {
        &self.block[self.at..]
    }

    /// Takes bytes of the rest.
    #[inline]
    pub(super) fn take(&mut self, len: usize) {
        self.at += len;
    }

    /// The bytes that were taken last.
    #[inline]
    pub(super) fn taken(&self, len: usize) -> &[u8] {
        &self.block[self.at - len..self.at]
    }

    /// Goes on to the next block; what is left of this one is skipped. False at the end.
    pub(super) fn next_block(&mut self) -> Result<bool, Error> {
        let Writer { file, block_bytes, last, full, .. } = &self.written;
        if self.next > *full {
            self.at = self.block.len();
            return Ok(false);
        }
        self.at = 0;
        if self.next == *full {
            self.block.clone_from(last);
        } else {
            // On an error nothing is left to be taken.
            let read = file.read(&mut self.block, *block_bytes, self.next * Sealed::block_len(*block_bytes));
            read.inspect_err(|_| self.block.clear())?;
        }
        self.next += 1;
        Ok(true)
    }

    /// Takes bytes into `out`; false when fewer are left.
    pub(super) fn gather(&mut self, mut len: usize, out: &mut Vec<u8>) -> Result<bool, Error> {
        while len > 0 {
            if self.rest().is_empty() && !self.next_block()? {
                return Ok(false);
            }
            let piece = len.min(self.rest().len());
            self.take(piece);
            out.extend_from_slice(self.taken(piece));
            len -= piece;
        }
        Ok(true)
    }

    /// Skips bytes, whole blocks without reading them; false when fewer are left.
    pub(super) fn skip(&mut self, len: u64) -> Result<bool, Error> {
        let here = self.rest().len() as u64;
        if len <= here {
            self.take(len as usize);
            return Ok(true);
        }
        let (block_bytes, behind) = (self.written.block_bytes as u64, len - here);
        self.next = self.next.saturating_add(behind / block_bytes).min(self.written.full + 1);
        self.at = self.block.len();
        if behind % block_bytes == 0 {
            return Ok(true);
        }
        let rest = (behind % block_bytes) as usize;
        Ok(self.next_block()? && self.rest().len() >= rest && {
            self.take(rest);
            true
        })
    }

    pub(super) fn rewind(&mut self) {
        (self.next, self.at) = (0, self.block.len());
    }

    /// Gives the file back, and leaves what it had taken of the budget.
    pub(super) fn into_share(self) -> Share {
        self.written.file.share
    }

    /// That what was written is not there: at the block that was read last.
    pub(super) fn corrupt(&self, what: &str) -> Error {
        let Writer { file, block_bytes, .. } = &self.written;
        let at = self.next.saturating_sub(1) * Sealed::block_len(*block_bytes);
        Error::Corrupt { folder: file.config.folder.clone(), role: file.role, at, what: what.to_owned() }
    }
}

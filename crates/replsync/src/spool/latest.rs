//! The records of a log that count, one after the other.

use std::io;

use super::Error;
use super::blocks::Reader;
use super::index::Live;
use super::log::HEADER_LEN;

/// The last record of each id, in the order in which they were put.
#[derive(Debug)]
pub struct Latest {
    records: Reader,
    /// How many there are, and which comes next, of all that were put.
    count: u64,
    next: u64,
    live: Live,
    whole_bytes_max: usize,
    /// What of a large body was not read.
    unread: u64,
    /// A body that is in more than one block.
    joined: Vec<u8>,
}

/// What a record holds.
#[derive(Debug)]
pub enum Body<'a> {
    /// All of it, up to 1 MiB.
    Whole(&'a [u8]),
    /// More, to be read in pieces.
    Large(Pieces<'a>),
}

impl Latest {
    pub(super) fn new(records: Reader, count: u64, live: Live, whole_bytes_max: usize) -> Self {
        Self { records, count, next: 0, live, whole_bytes_max, unread: 0, joined: Vec::new() }
    }

    /// How many records there are.
    pub fn len(&self) -> u64 {
        self.live.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.live.len == 0
    }

    /// How many of them are flagged.
    pub fn flagged(&self) -> u64 {
        self.live.flagged
    }

    /// The bytes of their bodies.
    pub fn bytes(&self) -> u64 {
        self.live.bytes
    }

    /// The next one; `None` behind the last. What was left of a large one is skipped.
    ///
    /// # Errors
    /// When it cannot be read, or is not what was written.
    #[allow(clippy::should_implement_trait)] // it lends
    pub fn next(&mut self) -> Result<Option<Body<'_>>, Error> {
        let mut behind = std::mem::take(&mut self.unread);
        let len = loop {
            if behind > 0 && !self.records.skip(behind)? {
                return Err(self.ends_early());
            }
            if self.next == self.count {
                return Ok(None);
            }
            let len = self.header()?;
            self.next += 1;
            if self.live.counts(self.next - 1) {
                break len as usize;
            }
            behind = u64::from(len);
        };
        if len <= self.records.rest().len() {
            self.records.take(len);
            return Ok(Some(Body::Whole(self.records.taken(len))));
        }
        if len > self.whole_bytes_max {
            self.unread = len as u64;
            return Ok(Some(Body::Large(Pieces { latest: self, len: len as u64 })));
        }
        self.joined.clear();
        if !self.records.gather(len, &mut self.joined)? {
            return Err(self.ends_early());
        }
        Ok(Some(Body::Whole(&self.joined)))
    }

    /// Begins anew with the first.
    pub fn rewind(&mut self) {
        self.records.rewind();
        (self.next, self.unread) = (0, 0);
    }

    #[inline]
    fn header(&mut self) -> Result<u32, Error> {
        let mut header = [0; HEADER_LEN];
        if let Some(bytes) = self.records.rest().first_chunk() {
            header = *bytes;
            self.records.take(HEADER_LEN);
        } else {
            self.joined.clear();
            if !self.records.gather(HEADER_LEN, &mut self.joined)? {
                return Err(self.ends_early());
            }
            header.copy_from_slice(&self.joined);
        }
        Ok(u32::from_le_bytes(header))
    }

    fn ends_early(&self) -> Error {
        self.records.corrupt("it ends before the last record")
    }
}

/// A large body. It can also be read as [`io::Read`], whose errors hold an [`Error`].
#[derive(Debug)]
pub struct Pieces<'a> {
    latest: &'a mut Latest,
    len: u64,
}

impl Pieces<'_> {
    /// The length of all of it.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it is empty, which a large body never is.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The next bytes, a quarter of a megabyte at most; `None` behind the last.
    ///
    /// # Errors
    /// When they cannot be read, or are not what was written.
    #[allow(clippy::should_implement_trait)] // it lends
    pub fn next(&mut self) -> Result<Option<&[u8]>, Error> {
        self.up_to(usize::MAX)
    }

    fn up_to(&mut self, max: usize) -> Result<Option<&[u8]>, Error> {
        let Latest { records, unread, .. } = &mut *self.latest;
        if *unread == 0 {
            return Ok(None);
        }
        if records.rest().is_empty() && !records.next_block()? {
            return Err(self.latest.ends_early());
        }
        let left = usize::try_from(*unread).unwrap_or(usize::MAX);
        let piece = records.rest().len().min(left).min(max);
        *unread -= piece as u64;
        records.take(piece);
        Ok(Some(self.latest.records.taken(piece)))
    }
}

impl io::Read for Pieces<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let piece = self.up_to(out.len()).map_err(io::Error::other)?.unwrap_or_default();
        out[..piece.len()].copy_from_slice(piece);
        Ok(piece.len())
    }
}

//! Where the bytes of an RDB come from: memory, or a stream through a bounded buffer.
//!
//! An input sums what is consumed (for the trailer's CRC-64) in large pieces, and can remember a position, so
//! that a value can be measured first and, when it is too long to hold, gone back to and read in pieces.

use std::io::{ErrorKind, Read};

use super::Error;
use crate::checksum::Crc64;

/// Bytes to read from, with one checkpoint.
///
/// Order of calls: `peek` or `take` show bytes, `consume` moves past what was shown; `mark` … `rewind` goes back.
/// Between `mark` and `release` or `rewind` everything consumed is kept.
pub trait Input {
    /// At least the next `n` bytes, and all that is at hand. Nothing is consumed.
    ///
    /// # Errors
    /// [`Error::Truncated`] when the input ends before them, [`Error::Io`] when the stream fails.
    fn peek(&mut self, n: usize) -> Result<&[u8], Error>;

    /// Moves past `n` bytes that `peek` has shown; more than that moves past what was shown only.
    fn consume(&mut self, n: usize);

    /// Exactly the next `n` bytes, consumed.
    ///
    /// # Errors
    /// As [`Input::peek`].
    fn take(&mut self, n: usize) -> Result<&[u8], Error>;

    /// Moves past `n` bytes without holding them (unless a mark is set). After an error the position is somewhere
    /// within them.
    ///
    /// # Errors
    /// As [`Input::peek`].
    fn skip(&mut self, n: u64) -> Result<(), Error>;

    /// Bytes consumed since the start.
    fn offset(&self) -> u64;

    /// Remembers this position, in place of any earlier one.
    fn mark(&mut self);

    /// As [`Input::mark`], but the mark may be lost once more than `max_bytes` were consumed since.
    fn mark_within(&mut self, max_bytes: usize);

    /// Goes back to the mark, which is then gone. Without a mark, stays and answers `false`.
    fn rewind(&mut self) -> bool;

    /// Forgets the mark.
    fn release(&mut self);

    /// The bytes consumed since the mark; none without a mark.
    fn since_mark(&self) -> &[u8];

    /// Sums all that is consumed from now on. To be called without a mark.
    fn start_checksum(&mut self);

    /// The CRC-64 of all that was consumed since [`Input::start_checksum`], which must have been called.
    /// To be called without a mark.
    fn checksum(&mut self) -> u64;
}

/// How many consumed bytes are summed at once: an update of the CRC has a fixed cost.
const CHECKSUM_CHUNK: usize = 64 * 1024;

/// Bytes in memory: a map, a file read whole, a DUMP payload. Nothing is copied.
#[derive(Debug)]
pub struct Slice<'a> {
    bytes: &'a [u8],
    pos: usize,
    mark: Option<usize>,
    summed: usize,
    crc: Option<Crc64>,
}

impl<'a> Slice<'a> {
    /// An input that ends where `bytes` end.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, pos: 0, mark: None, summed: 0, crc: None }
    }

    /// What is not consumed yet.
    pub fn rest(&self) -> &'a [u8] {
        &self.bytes[self.pos..]
    }

    #[cold]
    fn truncated(&self, wanted: u64) -> Error {
        Error::Truncated { offset: self.pos as u64, wanted }
    }

    fn sum(&mut self) {
        if let Some(crc) = &mut self.crc {
            crc.update(&self.bytes[self.summed..self.pos]);
            self.summed = self.pos;
        }
    }

    #[inline]
    fn advance(&mut self, n: usize) {
        self.pos += n;
        if self.pos - self.summed >= CHECKSUM_CHUNK && self.mark.is_none() {
            self.sum();
        }
    }
}

impl Input for Slice<'_> {
    #[inline]
    fn peek(&mut self, n: usize) -> Result<&[u8], Error> {
        let rest = &self.bytes[self.pos..];
        if rest.len() < n {
            return Err(self.truncated(n as u64));
        }
        Ok(rest)
    }

    #[inline]
    fn consume(&mut self, n: usize) {
        self.advance(n.min(self.bytes.len() - self.pos));
    }

    #[inline]
    fn take(&mut self, n: usize) -> Result<&[u8], Error> {
        let bytes = self.bytes;
        match bytes[self.pos..].get(..n) {
            Some(taken) => {
                self.advance(n);
                Ok(taken)
            }
            None => Err(self.truncated(n as u64)),
        }
    }

    #[inline]
    fn skip(&mut self, n: u64) -> Result<(), Error> {
        let left = self.bytes.len() - self.pos;
        match usize::try_from(n) {
            Ok(n) if n <= left => {
                self.advance(n);
                Ok(())
            }
            _ => Err(self.truncated(n)),
        }
    }

    #[inline]
    fn offset(&self) -> u64 {
        self.pos as u64
    }

    fn mark(&mut self) {
        self.mark = Some(self.pos);
    }

    fn mark_within(&mut self, _: usize) {
        self.mark();
    }

    fn rewind(&mut self) -> bool {
        let mark = self.mark.take();
        self.pos = mark.unwrap_or(self.pos);
        mark.is_some()
    }

    fn release(&mut self) {
        self.mark = None;
    }

    fn since_mark(&self) -> &[u8] {
        self.mark.map_or(&[], |mark| &self.bytes[mark..self.pos])
    }

    fn start_checksum(&mut self) {
        self.summed = self.pos;
        self.crc = Some(Crc64::new());
    }

    fn checksum(&mut self) -> u64 {
        self.sum();
        self.crc.as_ref().map_or(0, Crc64::value)
    }
}

/// What a buffer starts with, and how much a stream is asked for at once at least.
const BUFFER_BYTES: usize = 256 * 1024;

/// A buffer that one long string made larger than this is given back once the string is done.
const BUFFER_KEPT_BYTES: usize = 4 * 1024 * 1024;

/// Bytes from a stream, through a buffer that holds what is peeked at and what was consumed since the mark.
///
/// The buffer grows as bytes arrive (it at most doubles), never by a length that the stream merely claims.
#[derive(Debug)]
pub struct Buffered<R> {
    stream: R,
    buffer: Vec<u8>,
    /// The next byte to consume, and the end of what was read, in `buffer`.
    start: usize,
    end: usize,
    mark: Option<usize>,
    /// How much is kept for the mark.
    mark_max_bytes: usize,
    /// The offset of `buffer[0]` in the stream.
    base: u64,
    /// Up to where in `buffer` bytes were summed.
    summed: usize,
    crc: Option<Crc64>,
}

impl<R: Read> Buffered<R> {
    /// Reads from `stream`, which needs no buffer of its own.
    pub fn new(stream: R) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
            start: 0,
            end: 0,
            mark: None,
            mark_max_bytes: 0,
            base: 0,
            summed: 0,
            crc: None,
        }
    }

    /// Reads from `stream`, whose next byte is at `offset` of the whole.
    pub fn at(stream: R, offset: u64) -> Self {
        Self { base: offset, ..Self::new(stream) }
    }

    /// The stream, and what was read from it but not consumed.
    pub fn into_parts(mut self) -> (R, Vec<u8>) {
        self.buffer.truncate(self.end);
        (self.stream, self.buffer.split_off(self.start))
    }

    fn sum(&mut self, until: usize) {
        if let Some(crc) = &mut self.crc
            && self.summed < until
        {
            crc.update(&self.buffer[self.summed..until]);
            self.summed = until;
        }
    }

    /// Drops what is neither marked nor unread, to make room behind it.
    fn drop_consumed(&mut self) {
        self.mark = self.mark.filter(|mark| self.start - mark <= self.mark_max_bytes);
        let keep = self.mark.unwrap_or(self.start);
        if keep == 0 {
            return;
        }
        self.sum(keep);
        self.buffer.copy_within(keep..self.end, 0);
        self.base += keep as u64;
        self.start -= keep;
        self.end -= keep;
        self.summed = self.summed.saturating_sub(keep);
        self.mark = self.mark.map(|mark| mark - keep);
        if self.buffer.len() > BUFFER_KEPT_BYTES && self.end < BUFFER_BYTES {
            self.buffer.truncate(BUFFER_BYTES);
            self.buffer.shrink_to_fit();
        }
    }

    /// Reads until `n` bytes are unread.
    #[cold]
    fn fill(&mut self, n: usize) -> Result<(), Error> {
        self.drop_consumed();
        while self.end - self.start < n {
            if self.buffer.is_empty() {
                self.buffer = vec![0; BUFFER_BYTES];
            } else if self.end == self.buffer.len() {
                self.buffer.resize(self.buffer.len() * 2, 0);
            }
            // A buffer that a long string made large is not filled for short ones: what is read is soon looked at, and
            // summed, while it is in the processor's cache.
            let until = self.buffer.len().min(self.end + BUFFER_BYTES);
            match self.stream.read(&mut self.buffer[self.end..until]) {
                Ok(0) => return Err(Error::Truncated { offset: self.offset(), wanted: n as u64 }),
                Ok(read) => self.end = (self.end + read).min(self.buffer.len()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(source) => return Err(Error::Io { offset: self.base + self.end as u64, source }),
            }
        }
        Ok(())
    }
}

impl<R: Read> Input for Buffered<R> {
    #[inline]
    fn peek(&mut self, n: usize) -> Result<&[u8], Error> {
        if self.end - self.start < n {
            self.fill(n)?;
        }
        Ok(&self.buffer[self.start..self.end])
    }

    #[inline]
    fn consume(&mut self, n: usize) {
        self.start += n.min(self.end - self.start);
    }

    #[inline]
    fn take(&mut self, n: usize) -> Result<&[u8], Error> {
        if self.end - self.start < n {
            self.fill(n)?;
        }
        let from = self.start;
        self.start += n;
        Ok(&self.buffer[from..self.start])
    }

    #[inline]
    fn skip(&mut self, n: u64) -> Result<(), Error> {
        let offset = self.offset();
        let mut left = n;
        loop {
            let here = ((self.end - self.start) as u64).min(left);
            self.start += here as usize;
            left -= here;
            if left == 0 {
                return Ok(());
            }
            self.fill(1).map_err(|error| match error {
                Error::Truncated { .. } => Error::Truncated { offset, wanted: n },
                other => other,
            })?;
        }
    }

    #[inline]
    fn offset(&self) -> u64 {
        self.base + self.start as u64
    }

    fn mark(&mut self) {
        self.mark_within(usize::MAX);
    }

    fn mark_within(&mut self, max_bytes: usize) {
        (self.mark, self.mark_max_bytes) = (Some(self.start), max_bytes);
    }

    fn rewind(&mut self) -> bool {
        let mark = self.mark.take();
        self.start = mark.unwrap_or(self.start);
        mark.is_some()
    }

    fn release(&mut self) {
        self.mark = None;
    }

    fn since_mark(&self) -> &[u8] {
        self.mark.map_or(&[], |mark| &self.buffer[mark..self.start])
    }

    fn start_checksum(&mut self) {
        self.summed = self.start;
        self.crc = Some(Crc64::new());
    }

    fn checksum(&mut self) -> u64 {
        self.sum(self.start);
        self.crc.as_ref().map_or(0, Crc64::value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checksum::crc64;
    use proptest::prelude::*;

    /// A stream that gives a few bytes a read, and is interrupted now and then.
    pub(crate) struct Drip<'a> {
        pub bytes: &'a [u8],
        pub sizes: Vec<usize>,
        pub turn: usize,
    }

    impl Read for Drip<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.turn += 1;
            let size = self.sizes[self.turn % self.sizes.len()];
            if size == 0 && self.turn.is_multiple_of(2) {
                return Err(ErrorKind::Interrupted.into());
            }
            let n = size.max(1).min(self.bytes.len()).min(buffer.len());
            buffer[..n].copy_from_slice(&self.bytes[..n]);
            self.bytes = &self.bytes[n..];
            Ok(n)
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Take(usize),
        Skip(u64),
        Peek(usize),
        Mark,
        Rewind,
        Release,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0usize..40_000).prop_map(Step::Take),
            (0u64..200_000).prop_map(Step::Skip),
            (0usize..200_000).prop_map(Step::Peek),
            Just(Step::Mark),
            Just(Step::Rewind),
            Just(Step::Release),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// The slice is simple enough to be right; the buffer must do the same whatever the reads are.
        #[test]
        fn a_buffer_does_what_a_slice_does(
            seed: u8,
            len in 0usize..600_000,
            steps in prop::collection::vec(step(), 1..30),
            sizes in prop::collection::vec(0usize..90_000, 1..5),
        ) {
            let bytes: Vec<u8> = (0..len).map(|i| (i as u8).wrapping_mul(31).wrapping_add(seed) ^ (i >> 8) as u8).collect();
            let mut slice = Slice::new(&bytes);
            let mut buffered = Buffered::new(Drip { bytes: &bytes, sizes, turn: 0 });
            slice.start_checksum();
            buffered.start_checksum();
            for step in steps {
                match step {
                    Step::Take(n) => prop_assert_eq!(slice.take(n).ok(), buffered.take(n).ok()),
                    Step::Skip(n) => {
                        if slice.skip(n).is_ok() {
                            prop_assert!(buffered.skip(n).is_ok());
                        }
                    }
                    Step::Peek(n) => {
                        let (a, b) = (slice.peek(n).ok(), buffered.peek(n).ok());
                        prop_assert_eq!(a.map(|a| &a[..n]), b.map(|b| &b[..n]));
                    }
                    Step::Mark => { slice.mark(); buffered.mark(); }
                    Step::Rewind => { slice.rewind(); buffered.rewind(); }
                    Step::Release => { slice.release(); buffered.release(); }
                }
                prop_assert_eq!(slice.offset(), buffered.offset());
                prop_assert_eq!(slice.since_mark(), buffered.since_mark());
            }
            slice.release();
            buffered.release();
            let crc = crc64(&bytes[..slice.offset() as usize]);
            prop_assert_eq!(slice.checksum(), crc);
            prop_assert_eq!(buffered.checksum(), crc);
            let unread = buffered.offset() as usize;
            let (stream, rest) = buffered.into_parts();
            prop_assert_eq!([&rest[..], stream.bytes].concat(), &bytes[unread..]);
        }
    }
}

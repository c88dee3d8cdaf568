//! A log of records, of which the last of each id counts.

use super::blocks::{Sealed, Writer};
use super::index::{Entry, Index};
use super::latest::Latest;
use super::{Config, Error, Role};

/// A record is this much longer than its body.
pub(super) const HEADER_LEN: usize = 4;

/// How a log divides what it holds; other values are for tests.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// A block of records.
    pub(super) block_bytes: usize,
    /// How many entries of the index are a block.
    pub(super) block_entries: usize,
    /// A body that is longer is not handed out in one piece.
    pub(super) whole_bytes_max: usize,
}

/// With their checksums, blocks are 256 KiB and nearly 128 KiB.
const SIZES: Sizes = Sizes { block_bytes: (256 << 10) - 8, block_entries: 4680, whole_bytes_max: 1 << 20 };

/// The memory in which [`Log::latest`] sorts.
const SORT_BYTES: usize = 64 << 20;

/// Records of things that have an id, of which only the last of each id will count: what is put again supersedes what
/// was put before. Nothing is looked up while it is written, and memory is bounded, however many records there are:
///
/// - while it is written, about 0.4 MiB; a log that holds less than that is in memory alone;
/// - in [`latest`](Self::latest), 64 MiB and a bit for each record;
/// - afterwards the bit for each record, and half a megabyte.
///
/// On disk a record takes four bytes beside its body, and 56 in the index until `latest` is done. A log holds two
/// files open, a third one during `latest`. Dropping it gives all back to the budget and to the file system.
///
/// Writing waits where the disk makes it wait: a log belongs on a thread that may, and somebody else looks whether the
/// disk [stands still](super::Gauge::stalled).
#[derive(Debug)]
pub struct Log {
    config: Config,
    sizes: Sizes,
    records: Writer,
    index: Index,
    count: u64,
    /// A write has failed: what is there is not whole.
    failed: bool,
}

impl Log {
    /// An empty log. Its files are made in the folder when they are needed, and share in the budget.
    pub fn new(config: &Config) -> Self {
        Self::of_sizes(config, SIZES)
    }

    pub(super) fn of_sizes(config: &Config, sizes: Sizes) -> Self {
        Self {
            records: Writer::new(Sealed::new(config, Role::Records), sizes.block_bytes, 1),
            index: Index::new(config, sizes.block_entries),
            config: config.clone(),
            sizes,
            count: 0,
            failed: false,
        }
    }

    /// From now on this is the record of `id`: the parts one after the other. Flags are counted in the end.
    ///
    /// # Errors
    /// When the disk or the budget is full, or the disk fails; and from then on.
    pub fn put(&mut self, id: u128, parts: &[&[u8]], flagged: bool) -> Result<(), Error> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let Ok(body_len) = u32::try_from(len) else {
            return Err(Error::TooLarge { len: len as u64 });
        };
        let put = self.append(body_len, parts);
        self.count += 1;
        let put = put.and_then(|()| self.index.push(Entry::put(id, self.count, flagged, body_len)));
        self.sound(put)
    }

    /// `id` has no record any more.
    ///
    /// # Errors
    /// As with [`put`](Self::put).
    pub fn remove(&mut self, id: u128) -> Result<(), Error> {
        let removed = self.index.push(Entry::removed(id, self.count));
        self.sound(removed)
    }

    /// How many records were put.
    pub fn records(&self) -> u64 {
        self.count
    }

    /// Finds the last record of each id. This takes some 0.2 µs a record.
    ///
    /// # Errors
    /// When the disk fails or is full, or what is read is not what was written.
    pub fn latest(self) -> Result<Latest, Error> {
        self.latest_within(SORT_BYTES)
    }

    /// … sorting in so much memory, about.
    ///
    /// # Errors
    /// As with [`latest`](Self::latest).
    pub fn latest_within(self, sort_bytes: usize) -> Result<Latest, Error> {
        if self.failed {
            return Err(Error::Failed { folder: self.config.folder });
        }
        let live = self.index.resolve(&self.config, self.count, sort_bytes)?;
        Ok(Latest::new(self.records.read(), self.count, live, self.sizes.whole_bytes_max))
    }

    #[inline]
    fn append(&mut self, body_len: u32, parts: &[&[u8]]) -> Result<(), Error> {
        let header = body_len.to_le_bytes();
        if !self.failed && self.records.room() >= HEADER_LEN + body_len as usize {
            let block = self.records.last();
            block.extend_from_slice(&header);
            parts.iter().for_each(|part| block.extend_from_slice(part));
            return Ok(());
        }
        if self.failed {
            return Err(Error::Failed { folder: self.config.folder.clone() });
        }
        self.records.append(&header)?;
        parts.iter().try_for_each(|part| self.records.append(part))
    }

    #[inline]
    fn sound(&mut self, result: Result<(), Error>) -> Result<(), Error> {
        self.failed |= result.is_err();
        result
    }

    #[cfg(test)]
    pub(super) fn parts(&self) -> (&Writer, &Index) {
        (&self.records, &self.index)
    }
}

//! Which record is the last of its id: exact, however many there are, in bounded memory.
//!
//! An entry for each record, in the order in which they came, goes to a file. In the end the entries are sorted: those
//! that do not fit in memory at once are first parted by the highest bits of their ids, into ranges that do.

use super::blocks::{Reader, Sealed, Writer};
use super::{Config, Error, Role};

const ENTRY_LEN: usize = 28;
/// Entries are counted by so many of the highest bits of their ids, so that ranges can be cut where they fit.
const BUCKET_BITS: u32 = 12;
/// A range that is being parted off waits for this much before it is written.
const PART_BYTES: usize = 64 << 10;

/// What happened to an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    id: u128,
    /// Of two entries with the same id the greater counts: twice the number of the record, from 1; that and one where
    /// it was removed after that record. Then a bit: flagged.
    order: u64,
    body_len: u32,
}

impl Entry {
    pub(super) fn put(id: u128, number: u64, flagged: bool, body_len: u32) -> Self {
        Self { id, order: number << 2 | u64::from(flagged), body_len }
    }

    pub(super) fn removed(id: u128, behind: u64) -> Self {
        Self { id, order: behind << 2 | 2, body_len: 0 }
    }

    /// The number of its record, from 0; `None` where it was removed.
    fn record(&self) -> Option<u64> {
        if self.order & 2 == 0 { (self.order >> 2).checked_sub(1) } else { None }
    }

    fn is_flagged(&self) -> bool {
        self.order & 1 == 1
    }

    #[inline]
    fn encode(&self) -> [u8; ENTRY_LEN] {
        let mut bytes = [0; ENTRY_LEN];
        bytes[..16].copy_from_slice(&self.id.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.order.to_le_bytes());
        bytes[24..].copy_from_slice(&self.body_len.to_le_bytes());
        bytes
    }

    #[inline]
    fn decode(bytes: &[u8; ENTRY_LEN]) -> Self {
        let (mut id, mut order, mut body_len) = ([0; 16], [0; 8], [0; 4]);
        id.copy_from_slice(&bytes[..16]);
        order.copy_from_slice(&bytes[16..24]);
        body_len.copy_from_slice(&bytes[24..]);
        Self {
            id: u128::from_le_bytes(id),
            order: u64::from_le_bytes(order),
            body_len: u32::from_le_bytes(body_len),
        }
    }

    fn bucket(&self) -> usize {
        (self.id >> (u128::BITS - BUCKET_BITS)) as usize
    }
}

/// The entries in a block.
fn entries(block: &[u8]) -> impl Iterator<Item = Entry> {
    block.as_chunks().0.iter().map(Entry::decode)
}

/// The records that count.
#[derive(Debug, Default)]
pub(super) struct Live {
    /// A bit for each record.
    bits: Vec<u64>,
    pub(super) len: u64,
    pub(super) flagged: u64,
    pub(super) bytes: u64,
}

impl Live {
    fn of(records: u64) -> Self {
        Self { bits: vec![0; records.div_ceil(64) as usize], ..Self::default() }
    }

    #[inline]
    pub(super) fn counts(&self, record: u64) -> bool {
        self.bits.get((record / 64) as usize).is_some_and(|bits| bits >> (record % 64) & 1 == 1)
    }

    /// Looks at all entries of some ids.
    fn settle(&mut self, entries: &mut [Entry]) {
        entries.sort_unstable_by_key(|entry| (entry.id, entry.order));
        for same in entries.chunk_by(|a, b| a.id == b.id) {
            let Some((last, record)) = same.last().and_then(|last| Some((last, last.record()?))) else {
                continue;
            };
            if let Some(bits) = self.bits.get_mut((record / 64) as usize) {
                *bits |= 1 << (record % 64);
            }
            self.len += 1;
            self.flagged += u64::from(last.is_flagged());
            self.bytes += u64::from(last.body_len);
        }
    }
}

/// An entry for each record.
#[derive(Debug)]
pub(super) struct Index {
    blocks: Writer,
    block_entries: usize,
    count: u64,
    /// How many entries there are for each value of the highest bits, of those in full blocks; empty before the first.
    buckets: Vec<u64>,
}

impl Index {
    /// Its room is taken from the budget twice: what is sorted in the end must be parted first.
    pub(super) fn new(config: &Config, block_entries: usize) -> Self {
        let file = Sealed::new(config, Role::Index);
        Self {
            blocks: Writer::new(file, block_entries * ENTRY_LEN, 2),
            block_entries,
            count: 0,
            buckets: Vec::new(),
        }
    }

    #[inline]
    pub(super) fn push(&mut self, entry: Entry) -> Result<(), Error> {
        if self.blocks.room() == 0 {
            self.count_last();
        }
        self.blocks.append(&entry.encode())?;
        self.count += 1;
        Ok(())
    }

    fn count_last(&mut self) {
        self.buckets.resize(1 << BUCKET_BITS, 0);
        entries(self.blocks.last()).for_each(|entry| self.buckets[entry.bucket()] += 1);
    }

    /// Finds which of so many records count.
    pub(super) fn resolve(mut self, config: &Config, records: u64, sort_bytes: usize) -> Result<Live, Error> {
        let mut live = Live::of(records);
        let at_once = (sort_bytes / size_of::<Entry>()).max(1) as u64;
        if self.count <= at_once {
            let mut all = Vec::with_capacity(self.count as usize);
            let mut blocks = self.blocks.read();
            while blocks.next_block()? {
                all.extend(entries(blocks.rest()));
            }
            live.settle(&mut all);
            return Ok(live);
        }
        self.count_last();
        let mut parts = Parts::new(config, &self.buckets, at_once, self.block_entries, sort_bytes);
        parts.fill(self.blocks.read())?;
        parts.settle(&mut live)?;
        Ok(live)
    }

    #[cfg(test)]
    pub(super) fn sealed(&self) -> &Sealed {
        self.blocks.sealed()
    }
}

/// The entries of a range of ids: a stretch of the file of parts.
struct Part {
    begin: u64,
    /// Where the next block goes.
    at: u64,
    count: u64,
    /// What waits to be written.
    block: Vec<u8>,
}

/// The entries, parted by ranges of ids.
struct Parts {
    file: Sealed,
    parts: Vec<Part>,
    /// The part of each bucket.
    part_of: Vec<u32>,
    /// Entries in a block.
    block_entries: usize,
}

impl Parts {
    /// Cuts where a range would be more than can be sorted at once. A single bucket may be more all the same: that
    /// takes thousands of times as many entries as can be sorted at once, or ids that are no hashes.
    fn new(config: &Config, buckets: &[u64], at_once: u64, block_entries: usize, sort_bytes: usize) -> Self {
        let (mut counts, mut part_of) = (vec![0], Vec::with_capacity(buckets.len()));
        for bucket in buckets {
            match counts.last_mut() {
                Some(count) if *count == 0 || *count + bucket <= at_once => *count += bucket,
                _ => counts.push(*bucket),
            }
            part_of.push(counts.len() as u32 - 1);
        }
        // All that waits together takes no more memory than sorting will.
        let fair = (sort_bytes / counts.len()).min(PART_BYTES) / ENTRY_LEN;
        let block_entries = fair.clamp(1, block_entries);
        let mut at = 0;
        let part = |count: u64| {
            let begin = at;
            at += count * ENTRY_LEN as u64 + count.div_ceil(block_entries as u64) * Sealed::block_len(0);
            Part { begin, at: begin, count, block: Vec::new() }
        };
        let parts = counts.into_iter().map(part).collect();
        Self { file: Sealed::new(config, Role::Parts), parts, part_of, block_entries }
    }

    fn fill(&mut self, mut blocks: Reader) -> Result<(), Error> {
        let block_bytes = self.block_entries * ENTRY_LEN;
        while blocks.next_block()? {
            for entry in entries(blocks.rest()) {
                let part = &mut self.parts[self.part_of[entry.bucket()] as usize];
                part.block.extend_from_slice(&entry.encode());
                if part.block.len() >= block_bytes {
                    part.write(&mut self.file)?;
                }
            }
        }
        for part in &mut self.parts {
            if !part.block.is_empty() {
                part.write(&mut self.file)?;
            }
            part.block = Vec::new();
        }
        self.file.inherit(blocks.into_share());
        Ok(())
    }

    fn settle(self, live: &mut Live) -> Result<(), Error> {
        let (mut block, mut all) = (Vec::new(), Vec::new());
        for part in &self.parts {
            all.clear();
            all.reserve_exact(part.count as usize);
            let (mut at, mut left) = (part.begin, part.count as usize);
            while left > 0 {
                let len = left.min(self.block_entries) * ENTRY_LEN;
                self.file.read(&mut block, len, at)?;
                all.extend(entries(&block));
                at += Sealed::block_len(len);
                left -= len / ENTRY_LEN;
            }
            live.settle(&mut all);
        }
        Ok(())
    }
}

impl Part {
    fn write(&mut self, file: &mut Sealed) -> Result<(), Error> {
        file.write(&mut self.block, self.at)?;
        self.at += Sealed::block_len(self.block.len());
        self.block.clear();
        Ok(())
    }
}

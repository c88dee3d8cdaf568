//! Keys that are twice in one database: found exactly, in bounded memory.
//!
//! Of every key a hash of 64 bits is kept. When there are more than fit, the upper half of the hashes is forgotten, and
//! looked at in another pass over the file, as often as it takes. Equal hashes alone prove nothing: another pass looks at
//! the names.

use std::collections::HashMap;

use xxhash_rust::xxh3::xxh3_128;

use super::report::{Finding, FindingKind, KEY_SHOWN_BYTES};

/// So many are taken at once.
const PART: usize = 4096;
/// What is there so many times is dropped but for two when room is needed.
const MANY: usize = 16;

/// The hashes in a range, as many as fit.
#[derive(Debug)]
pub struct Hashes {
    hashes: Vec<u64>,
    max: usize,
    from: u64,
    /// The last hash of the range.
    last: u64,
    /// Hashes that were there many times, and how many of each were dropped. They take no more room than they give.
    dropped: Vec<(u64, u64)>,
}

impl Hashes {
    /// An empty collection that grows to so many bytes.
    pub fn new(max_bytes: usize) -> Self {
        Self {
            hashes: Vec::new(),
            max: (max_bytes / size_of::<u64>()).max(2 * PART),
            from: 0,
            last: u64::MAX,
            dropped: Vec::new(),
        }
    }

    /// Takes those that are in the range. The range gets smaller when they do not fit.
    pub fn extend(&mut self, hashes: &[u64]) {
        for part in hashes.chunks(PART) {
            let room = self.max.saturating_sub(self.hashes.len());
            if room < part.len() {
                self.make_room();
            }
            match (self.from, self.last) {
                (0, u64::MAX) => self.push_all(part.iter().copied(), part.len()),
                (from, last) => {
                    self.push_all(
                        part.iter().copied().filter(|hash| (from..=last).contains(hash)),
                        part.len(),
                    );
                }
            }
        }
    }

    /// Room grows by halves of what there is, never beyond the bound.
    fn push_all(&mut self, hashes: impl Iterator<Item = u64>, at_most: usize) {
        if self.hashes.capacity() - self.hashes.len() < at_most {
            let wanted = (self.hashes.len() / 2).max(at_most).max(PART);
            self.hashes
                .reserve_exact(wanted.min(self.max.max(self.hashes.len() + at_most) - self.hashes.len()));
        }
        self.hashes.extend(hashes);
    }

    /// Forgets upper halves until there is room.
    fn make_room(&mut self) {
        self.thin();
        while self.taken() + PART > self.max && self.last > self.from {
            self.last = self.from + (self.last - self.from) / 2;
            let last = self.last;
            self.hashes.retain(|hash| *hash <= last);
            self.dropped.retain(|(hash, _)| *hash <= last);
        }
    }

    fn taken(&self) -> usize {
        self.hashes.len() + 2 * self.dropped.len()
    }

    /// Drops what is there many times, if that makes much room: else one key a million times would let the range shrink
    /// until it is alone, pass after pass. Hashes are spread evenly, unless many are equal.
    fn thin(&mut self) {
        let middle = self.from + (self.last - self.from) / 2;
        let (all, lower) = (self.hashes.len(), self.hashes.iter().filter(|hash| **hash <= middle).count());
        if (all / 4..=all - all / 4).contains(&lower) {
            return;
        }
        self.hashes.sort_unstable();
        let mut dropped = std::mem::take(&mut self.dropped);
        let mut kept = 0;
        let mut at = 0;
        while let Some(&hash) = self.hashes.get(at) {
            let same = self.hashes[at..].iter().take_while(|other| **other == hash).count();
            // two say that it is there twice; an entry of `dropped` takes the room of two more
            let keep = if same >= MANY { 2 } else { same };
            self.hashes.copy_within(at..at + keep, kept);
            if keep < same {
                dropped.push((hash, (same - keep) as u64));
            }
            (kept, at) = (kept + keep, at + same);
        }
        self.hashes.truncate(kept);
        dropped.sort_unstable();
        dropped.dedup_by(|one, other| {
            let is_same = one.0 == other.0;
            other.1 += if is_same { one.1 } else { 0 };
            is_same
        });
        self.dropped = dropped;
    }

    /// Whether all hashes are in the range.
    pub fn is_all(&self) -> bool {
        (self.from, self.last) == (0, u64::MAX)
    }

    /// The next range, for another pass over `keys` keys in all; nothing after the last one.
    pub fn next_range(&mut self, keys: u64) -> bool {
        let Some(from) = self.last.checked_add(1) else { return false };
        self.hashes.clear();
        self.dropped.clear();
        // Hashes are spread evenly: so many fit, with some room left.
        let share = (self.max as f64 * 0.9 / keys.max(1) as f64).min(1.0);
        let width = (share * u64::MAX as f64) as u64;
        (self.from, self.last) = (from, from.saturating_add(width));
        true
    }

    /// Hashes that are there more than once, and how many times more than once in all. Sorts with so many threads.
    pub fn repeated(&mut self, jobs: usize, max: usize) -> (Vec<u64>, u64) {
        sort(&mut self.hashes, jobs);
        let (mut repeated, mut surplus): (Vec<u64>, u64) =
            (Vec::new(), self.dropped.iter().map(|(_, count)| count).sum());
        for pair in self.hashes.windows(2) {
            if pair[0] == pair[1] {
                surplus += 1;
                if repeated.last() != Some(&pair[0]) && repeated.len() < max {
                    repeated.push(pair[0]);
                }
            }
        }
        (repeated, surplus)
    }
}

/// Sorts, each half of each half with a thread of its own.
fn sort(hashes: &mut [u64], jobs: usize) {
    if jobs < 2 || hashes.len() < 65_536 {
        return hashes.sort_unstable();
    }
    let middle = hashes.len() / 2;
    let (lower, _, upper) = hashes.select_nth_unstable(middle);
    std::thread::scope(|scope| {
        scope.spawn(|| sort(lower, jobs / 2));
        sort(upper, jobs - jobs / 2);
    });
}

/// The names behind hashes that are there more than once.
#[derive(Debug)]
pub struct Names {
    seen: HashMap<u64, Vec<Seen>>,
    pub findings: Vec<Finding>,
    pub not_kept: u64,
    max: usize,
}

#[derive(Debug)]
struct Seen {
    db: u32,
    len: usize,
    name: Name,
    offset: u64,
}

/// What is kept of a name: of a long one a hash of another kind.
#[derive(Debug, PartialEq, Eq)]
enum Name {
    Whole(Vec<u8>),
    Long(u128),
}

impl Name {
    fn of(key: &[u8]) -> Self {
        if key.len() <= KEY_SHOWN_BYTES { Self::Whole(key.to_vec()) } else { Self::Long(xxh3_128(key)) }
    }
}

impl Names {
    /// Names of these hashes; at most `max` findings are kept.
    pub fn new(hashes: &[u64], max: usize) -> Self {
        let seen = hashes.iter().map(|hash| (*hash, Vec::new())).collect();
        Self { seen, findings: Vec::new(), not_kept: 0, max }
    }

    /// Another key, in the order of the file.
    pub fn key(&mut self, hash: u64, db: u32, key: &[u8], offset: u64) {
        let Some(seen) = self.seen.get_mut(&hash) else { return };
        let name = Name::of(key);
        let is_same = |seen: &&Seen| (seen.db, seen.len) == (db, key.len()) && seen.name == name;
        let Some(first) = seen.iter().find(is_same) else {
            return seen.push(Seen { db, len: key.len(), name, offset });
        };
        if self.findings.len() >= self.max {
            self.not_kept += 1;
            return;
        }
        let message =
            format!("the key is a second time in its database; it was there at offset {}", first.offset);
        self.findings.push(Finding::at(FindingKind::DuplicateKey, offset, message).of(db, key));
    }
}

//! Whether names are distinct: exact, however many there are, in bounded memory.
//!
//! Of each name a hash of 64 bits is kept. Names of equal hashes are suspects: whether they are equal is seen in
//! another pass, which looks at these alone. When the hashes do not fit, a pass keeps those of a range, and says
//! where the next pass is to go on.
//!
//! ```
//! use replsync::rdb::distinct::{Distinct, hash};
//!
//! let mut names = Distinct::new(1 << 20);
//! for name in [b"a", b"b", b"a"] {
//!     names.push(hash(name));
//! }
//! let pass = names.finish();
//! assert_eq!((pass.suspects, pass.next), (vec![hash(b"a")], None));
//! ```

use xxhash_rust::xxh3::xxh3_64;

/// The hash of a name; never 0.
#[inline]
pub fn hash(name: &[u8]) -> u64 {
    xxh3_64(name).max(1)
}

/// Hashes that wait to be sorted into buckets. Fewer are compared at once.
const RECENT: usize = 8192;
/// The low bits of a hash say its bucket, so that a bucket's table fits in a processor's cache.
const BUCKETS: usize = 1024;
/// A bucket grows by so many hashes at once.
const CHUNK: usize = 256;
const NONE: u32 = u32::MAX;

/// Collects the hashes of one pass.
///
/// ```text
/// (start | start_at) ─► push … ─► finish ─► (another pass: start_at its `next`, looking at its `suspects`)
/// ```
#[derive(Debug)]
pub struct Distinct {
    max_chunks: usize,
    /// The range that is kept: from here on, and up to and with `last`.
    from: u64,
    last: u64,
    recent: Vec<u64>,
    /// Chunks of hashes of one bucket each; for each chunk the one before it in its bucket.
    hashes: Vec<u64>,
    before: Vec<u32>,
    /// Chunks that are not in use.
    free: Vec<u32>,
    /// For each bucket, its newest chunk and how many hashes are in that.
    heads: Vec<(u32, u32)>,
    /// Room to find equal ones in.
    table: Vec<u64>,
    suspects: Vec<u64>,
}

/// What a pass found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pass {
    /// Hashes that came more than once, ascending; each once, and not more than [`MAX_SUSPECTS`].
    pub suspects: Vec<u64>,
    /// Where the next pass begins, if the hashes from there on did not fit.
    pub next: Option<u64>,
}

/// How many suspects are kept: where there are more, those are enough to show what is wrong.
pub const MAX_SUSPECTS: usize = 64;

impl Distinct {
    /// Keeps at most about `max_bytes` of hashes, eight bytes each, but never less than 4 MiB.
    pub fn new(max_bytes: usize) -> Self {
        let max_chunks = (max_bytes / (CHUNK * 8)).clamp(2 * BUCKETS, NONE as usize);
        Self {
            max_chunks,
            from: 0,
            last: u64::MAX,
            recent: Vec::new(),
            hashes: Vec::new(),
            before: Vec::new(),
            free: Vec::new(),
            heads: Vec::new(),
            table: Vec::new(),
            suspects: Vec::new(),
        }
    }

    /// Begins a pass over other names.
    pub fn start(&mut self) {
        self.start_at(0);
    }

    /// Begins another pass over the same names, which keeps the hashes from `from` on.
    pub fn start_at(&mut self, from: u64) {
        (self.from, self.last) = (from, u64::MAX);
        self.recent.clear();
        self.suspects.clear();
        if !self.before.is_empty() {
            self.hashes.clear();
            self.before.clear();
            self.free.clear();
            self.heads.fill((NONE, CHUNK as u32));
        }
    }

    /// The hash of the next name.
    #[inline]
    pub fn push(&mut self, hash: u64) {
        if hash < self.from || hash > self.last {
            return;
        }
        self.recent.push(hash);
        if self.recent.len() >= RECENT {
            self.scatter();
        }
    }

    /// Ends the pass.
    pub fn finish(&mut self) -> Pass {
        if self.before.is_empty() {
            find_equal(self.recent.len(), self.recent.iter(), &mut self.table, &mut self.suspects);
        } else {
            self.scatter();
            for bucket in 0..BUCKETS {
                let chunks = Chunks { at: self.heads[bucket], before: &self.before, hashes: &self.hashes };
                let len = chunks.map(<[u64]>::len).sum();
                let chunks = Chunks { at: self.heads[bucket], before: &self.before, hashes: &self.hashes };
                find_equal(len, chunks.flatten(), &mut self.table, &mut self.suspects);
            }
        }
        // some were found before the range was narrowed
        self.suspects.retain(|hash| *hash <= self.last);
        self.suspects.sort_unstable();
        self.suspects.dedup();
        self.suspects.truncate(MAX_SUSPECTS);
        let next = self.last.checked_add(1);
        let pass = Pass { suspects: std::mem::take(&mut self.suspects), next };
        self.start();
        pass
    }

    /// Sorts what is recent into buckets.
    fn scatter(&mut self) {
        if self.heads.is_empty() {
            self.heads.resize(BUCKETS, (NONE, CHUNK as u32));
        }
        let mut recent = std::mem::take(&mut self.recent);
        for hash in recent.drain(..) {
            self.put(hash);
        }
        self.recent = recent;
    }

    #[inline]
    fn put(&mut self, hash: u64) {
        let bucket = hash as usize % BUCKETS;
        if self.heads[bucket].1 == CHUNK as u32 {
            let Some(chunk) = self.chunk() else { return self.put_narrowed(hash) };
            self.before[chunk as usize] = self.heads[bucket].0;
            self.heads[bucket] = (chunk, 0);
        }
        let (chunk, len) = &mut self.heads[bucket];
        self.hashes[*chunk as usize * CHUNK + *len as usize] = hash;
        *len += 1;
    }

    /// A chunk to be filled, if there is room for one more.
    fn chunk(&mut self) -> Option<u32> {
        if let Some(chunk) = self.free.pop() {
            return Some(chunk);
        }
        let chunks = self.before.len();
        if chunks >= self.max_chunks {
            return None;
        }
        let chunk = u32::try_from(chunks).ok()?;
        if self.hashes.len() == self.hashes.capacity() {
            let more =
                chunks.clamp(BUCKETS, self.max_chunks - chunks + BUCKETS).min(self.max_chunks - chunks);
            self.hashes.reserve_exact(more * CHUNK);
        }
        self.hashes.resize((chunks + 1) * CHUNK, 0);
        self.before.push(NONE);
        Some(chunk)
    }

    /// Makes room, and puts `hash` there if its range is still kept.
    #[cold]
    fn put_narrowed(&mut self, hash: u64) {
        self.compact();
        while self.free.len() < self.max_chunks / 4 && self.from < self.last {
            // what is in the upper half is left to the next pass
            self.last = self.from + (self.last - self.from) / 2;
            self.compact();
        }
        if hash <= self.last && !self.free.is_empty() {
            self.put(hash);
        }
    }

    /// Drops what is beyond the range, and keeps what is equal once.
    fn compact(&mut self) {
        let mut kept: Vec<u64> = Vec::new();
        for bucket in 0..BUCKETS {
            kept.clear();
            let chunks = Chunks { at: self.heads[bucket], before: &self.before, hashes: &self.hashes };
            kept.extend(chunks.flatten().copied().filter(|hash| *hash <= self.last));
            kept.sort_unstable();
            let equal = kept.chunk_by(|a, b| a == b).filter(|same| same.len() > 1);
            let room = (4 * MAX_SUSPECTS).saturating_sub(self.suspects.len());
            self.suspects.extend(equal.take(room).map(|same| same[0]));
            kept.dedup();
            let mut chunk = std::mem::replace(&mut self.heads[bucket], (NONE, CHUNK as u32)).0;
            while chunk != NONE {
                self.free.push(chunk);
                chunk = self.before[chunk as usize];
            }
            for &hash in &kept {
                self.put(hash);
            }
        }
    }
}

/// The chunks of a bucket, newest first.
struct Chunks<'a> {
    at: (u32, u32),
    before: &'a [u32],
    hashes: &'a [u64],
}

impl<'a> Iterator for Chunks<'a> {
    type Item = &'a [u64];

    fn next(&mut self) -> Option<&'a [u64]> {
        let (chunk, len) = self.at;
        if chunk == NONE {
            return None;
        }
        self.at = (self.before[chunk as usize], CHUNK as u32);
        let start = chunk as usize * CHUNK;
        Some(&self.hashes[start..start + len as usize])
    }
}

/// Adds to `suspects` what is among `hashes` more than once, of which there are `len`.
fn find_equal<'a>(
    len: usize,
    hashes: impl Iterator<Item = &'a u64>,
    table: &mut Vec<u64>,
    suspects: &mut Vec<u64>,
) {
    if len < 2 {
        return;
    }
    // At most half full, so that what is looked for is found or missed within a few steps.
    let size = (2 * len).next_power_of_two();
    table.clear();
    table.resize(size, 0);
    let mask = size - 1;
    for &hash in hashes {
        // the low bits are the bucket's own
        let mut at = (hash >> 10) as usize & mask;
        while table[at] != 0 && table[at] != hash {
            at = (at + 1) & mask;
        }
        if table[at] == hash && suspects.len() < 4 * MAX_SUSPECTS {
            suspects.push(hash);
        }
        table[at] = hash;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// All passes over `hashes`, with room for `max_chunks` chunks: suspects, and the number of passes.
    fn suspects(hashes: &[u64], max_chunks: usize) -> (Vec<u64>, usize) {
        let mut distinct = Distinct::new(0);
        distinct.max_chunks = max_chunks;
        let (mut all, mut passes, mut next) = (Vec::new(), 0, Some(0));
        while let Some(from) = next {
            distinct.start_at(from);
            hashes.iter().for_each(|hash| distinct.push(*hash));
            let pass = distinct.finish();
            all.extend(pass.suspects);
            assert!(pass.next.is_none_or(|next| next > from));
            (next, passes) = (pass.next, passes + 1);
        }
        (all, passes)
    }

    fn expected(hashes: &[u64]) -> Vec<u64> {
        let mut counts = BTreeMap::new();
        hashes.iter().for_each(|hash| *counts.entry(*hash).or_insert(0) += 1);
        counts.into_iter().filter(|(_, count)| *count > 1).map(|(hash, _)| hash).collect()
    }

    #[test]
    fn a_bound_makes_passes() {
        let hashes: Vec<u64> = (0u64..600_000).map(|i| hash(&(i % 599_990).to_le_bytes())).collect();
        let expected = expected(&hashes);
        assert_eq!(expected.len(), 10);
        assert_eq!(suspects(&hashes, 1 << 20), (expected.clone(), 1));
        let (found, passes) = suspects(&hashes, 2 * BUCKETS);
        assert_eq!(found, expected);
        assert!((2..=4).contains(&passes), "{passes}");
    }

    #[test]
    fn one_name_a_million_times_is_one_suspect() {
        assert_eq!(suspects(&vec![7 << 40; 600_000], 2 * BUCKETS).0, [7 << 40]);
        let few: Vec<u64> = (0..700_000u64).map(|i| hash(&[(i % 3) as u8])).collect();
        assert_eq!(suspects(&few, 2 * BUCKETS).0, expected(&few));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]
        #[test]
        fn suspects_are_those_that_come_twice(
            len in 0usize..30_000,
            twins in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
            seed: u64,
        ) {
            let mut hashes: Vec<u64> = (0..len as u64).map(|i| hash(&(seed ^ i).to_le_bytes())).collect();
            for twin in twins {
                if len > 0 {
                    hashes.push(hashes[twin.index(len)]);
                }
            }
            let expected = expected(&hashes);
            prop_assert_eq!(suspects(&hashes, 1 << 20).0, expected);
        }
    }
}

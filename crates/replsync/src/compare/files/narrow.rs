//! Which of two large sets of things differ, in little memory: the things of each side are read once to add up
//! digests in buckets; only those in buckets whose sums differ are read again and held, as many at a time as there is
//! room for.
//!
//! A thing is an id (a hash of its name) and a digest (a hash of its content): the keys of a file, the elements of a
//! value. 128 bits of id keep different names apart; the sums of a bucket are of 128 bits, too.

use std::ops::Range;

use crate::digest::replsync_1::Sum;

/// The buckets are the highest bits of an id.
const BUCKET_BITS: u32 = 18;
const BUCKETS: usize = 1 << BUCKET_BITS;

fn bucket(id: u128) -> usize {
    (id >> (u128::BITS - BUCKET_BITS)) as usize
}

/// The sums of one side: 5 MiB, however many things there are.
#[derive(Debug)]
pub(super) struct Sums {
    sums: Vec<Sum>,
    counts: Vec<u32>,
    pub count: u64,
}

impl Sums {
    pub fn new() -> Self {
        Self { sums: vec![Sum::default(); BUCKETS], counts: vec![0; BUCKETS], count: 0 }
    }

    /// Adds a thing; its digest must depend on its id.
    #[inline]
    pub fn add(&mut self, id: u128, digest: u128) {
        let bucket = bucket(id);
        self.sums[bucket] += Sum(digest);
        self.counts[bucket] = self.counts[bucket].saturating_add(1);
        self.count += 1;
    }
}

/// What to read again: the buckets whose sums differ, in shares that fit into memory.
#[derive(Debug)]
pub(super) struct Plan {
    /// A bit for each bucket.
    differing: Vec<u64>,
    shares: Vec<Share>,
}

/// Buckets that are looked at together, and how many things of each side are in those that differ.
#[derive(Clone, Debug)]
pub(super) struct Share {
    buckets: Range<usize>,
    pub counts: [u64; 2],
}

impl Plan {
    /// At most `records_max` things of both sides together are in a share, unless a single bucket has more.
    pub fn new(a: &Sums, b: &Sums, records_max: u64) -> Self {
        let mut plan = Self { differing: vec![0; BUCKETS / 64], shares: Vec::new() };
        let mut share = Share { buckets: 0..BUCKETS, counts: [0, 0] };
        for bucket in 0..BUCKETS {
            if (a.sums[bucket], a.counts[bucket]) == (b.sums[bucket], b.counts[bucket]) {
                continue;
            }
            plan.differing[bucket / 64] |= 1 << (bucket % 64);
            let more = [a.counts[bucket], b.counts[bucket]].map(u64::from);
            let held = share.counts.iter().sum::<u64>();
            if held > 0 && held + more.iter().sum::<u64>() > records_max {
                share.buckets.end = bucket;
                plan.shares
                    .push(std::mem::replace(&mut share, Share { buckets: bucket..BUCKETS, counts: [0, 0] }));
            }
            share.counts = [share.counts[0] + more[0], share.counts[1] + more[1]];
        }
        if share.counts != [0, 0] {
            plan.shares.push(share);
        }
        plan
    }

    /// The shares, each of which is to be read for itself; none when nothing differs.
    pub fn shares(&self) -> &[Share] {
        &self.shares
    }

    /// Whether the thing of that id is to be looked at in this share.
    #[inline]
    pub fn wants(&self, share: &Share, id: u128) -> bool {
        let bucket = bucket(id);
        self.differing[bucket / 64] >> (bucket % 64) & 1 == 1 && share.buckets.contains(&bucket)
    }
}

/// A thing, and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record<T> {
    pub id: u128,
    pub digest: u64,
    pub at: T,
}

/// Things of one side, held up to a number.
#[derive(Debug)]
pub(super) struct Records<T> {
    records: Vec<Record<T>>,
    max: usize,
}

impl<T: Copy> Records<T> {
    pub fn new(max: usize) -> Self {
        Self { records: Vec::new(), max }
    }

    /// Whether one more would be taken in.
    #[inline]
    pub fn has_room(&self) -> bool {
        self.records.len() < self.max
    }

    /// Takes one in, if there is room.
    #[inline]
    pub fn push(&mut self, record: Record<T>) -> bool {
        let has_room = self.has_room();
        if has_room {
            if self.records.len() == self.records.capacity() {
                self.grow();
            }
            self.records.push(record);
        }
        has_room
    }

    /// Grows by what it has, as vectors do, though never beyond its maximum.
    #[cold]
    fn grow(&mut self) {
        let len = self.records.len();
        self.records.reserve_exact(len.max(64).min(self.max.saturating_sub(len)));
    }

    /// Makes room for as many again.
    pub fn raise(&mut self) {
        self.max = self.max.saturating_mul(2).max(1);
    }

    /// Sorts them by id. A sort that keeps the order of equals would take half as much memory again.
    pub fn sort(&mut self) -> &[Record<T>] {
        self.records.sort_unstable_by_key(|record| record.id);
        &self.records
    }

    /// All, as they are.
    pub fn into_vec(self) -> Vec<Record<T>> {
        self.records
    }
}

/// What is found when both sides are gone through by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Match<T> {
    OnlyA(Record<T>),
    OnlyB(Record<T>),
    Differ(Record<T>, Record<T>),
    /// An id that one side has more than once.
    TwiceA(Record<T>, Record<T>),
    TwiceB(Record<T>, Record<T>),
}

/// Goes through both sides, sorted by id.
pub(super) fn unlike<T: Copy, E>(
    a: &[Record<T>],
    b: &[Record<T>],
    mut found: impl FnMut(Match<T>) -> Result<(), E>,
) -> Result<(), E> {
    let (mut at_a, mut at_b) = (0, 0);
    loop {
        let (one, other) = (a.get(at_a), b.get(at_b));
        let Some(id) = one.into_iter().chain(other).map(|record| record.id).min() else { return Ok(()) };
        let same =
            |side: &[Record<T>], at: usize| side[at..].iter().take_while(|record| record.id == id).count();
        let (in_a, in_b) = (same(a, at_a), same(b, at_b));
        for pair in a[at_a..at_a + in_a].windows(2) {
            found(Match::TwiceA(pair[0], pair[1]))?;
        }
        for pair in b[at_b..at_b + in_b].windows(2) {
            found(Match::TwiceB(pair[0], pair[1]))?;
        }
        match (a.get(at_a).filter(|_| in_a > 0), b.get(at_b).filter(|_| in_b > 0)) {
            (Some(a), None) => found(Match::OnlyA(*a))?,
            (None, Some(b)) => found(Match::OnlyB(*b))?,
            (Some(a), Some(b)) if a.digest != b.digest => found(Match::Differ(*a, *b))?,
            _ => {}
        }
        (at_a, at_b) = (at_a + in_a, at_b + in_b);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use xxhash_rust::xxh3::xxh3_128;

    use super::*;

    fn sums(side: &BTreeMap<u16, u8>) -> Sums {
        let mut sums = Sums::new();
        side.iter().for_each(|(name, content)| sums.add(id(*name), digest(*name, *content)));
        sums
    }

    fn id(name: u16) -> u128 {
        xxh3_128(&name.to_le_bytes())
    }

    fn digest(name: u16, content: u8) -> u128 {
        xxh3_128(&[&name.to_le_bytes()[..], &[content]].concat())
    }

    fn side() -> impl Strategy<Value = BTreeMap<u16, u8>> {
        prop::collection::btree_map(0u16..300, 0u8..2, 0..150)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn what_differs_is_found_in_any_memory(a in side(), b in side(), records_max in 1usize..80) {
            let plan = Plan::new(&sums(&a), &sums(&b), records_max as u64);
            let mut found = BTreeMap::new();
            for share in plan.shares() {
                let [one, other] = [&a, &b].map(|side| {
                    let mut records = Records::new(usize::MAX);
                    for (&at, &content) in side.iter().filter(|(name, _)| plan.wants(share, id(**name))) {
                        records.push(Record { id: id(at), digest: digest(at, content) as u64, at });
                    }
                    records.sort();
                    records.into_vec()
                });
                prop_assert!(one.len() + other.len() <= records_max.max(2));
                unlike(&one, &other, |what| {
                    let (name, kind) = match what {
                        Match::OnlyA(a) => (a.at, "a"),
                        Match::OnlyB(b) => (b.at, "b"),
                        Match::Differ(a, _) => (a.at, "differ"),
                        Match::TwiceA(a, _) | Match::TwiceB(a, _) => (a.at, "twice"),
                    };
                    found.insert(name, kind);
                    Ok::<_, ()>(())
                }).unwrap();
            }
            let mut expected = BTreeMap::new();
            for name in 0..300 {
                match (a.get(&name), b.get(&name)) {
                    (Some(_), None) => drop(expected.insert(name, "a")),
                    (None, Some(_)) => drop(expected.insert(name, "b")),
                    (one, other) if one != other => drop(expected.insert(name, "differ")),
                    _ => {}
                }
            }
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn what_comes_twice_is_found_and_room_is_kept_to() {
        let mut records = Records::new(3);
        let taken = [2, 1, 2, 3].map(|id| records.push(Record { id, digest: 0, at: () }));
        assert_eq!(taken, [true, true, true, false]);
        let records = records.sort();
        let mut found = Vec::new();
        unlike(records, &records[..1], |what| {
            found.push(what);
            Ok::<_, ()>(())
        })
        .unwrap();
        let two = records[1];
        assert_eq!(found, [Match::TwiceA(two, two), Match::OnlyA(two)]);
    }
}

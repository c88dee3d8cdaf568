//! What stands for a name: 128 bits, so that a dirty key costs no more memory than that.
//!
//! The hash is keyed with a seed drawn anew for each capture, which nobody outside knows: names cannot be made to
//! collide, and that two of 2^40 names do by chance is less likely than 2^-48.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher, RandomState};

use xxhash_rust::xxh3::Xxh3;

/// The id of a key, or of an element of a big collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Id(pub u128);

/// Makes ids.
#[derive(Clone, Debug)]
pub struct Ids {
    seed: u64,
}

impl Ids {
    /// Ids of a seed that nobody knows.
    pub fn new() -> Self {
        use std::hash::BuildHasher;
        // The standard library's own random keys.
        Self { seed: RandomState::new().hash_one("replsync") }
    }

    /// The id of `name` in `owner`: a space for a key, a big value for an element.
    #[inline]
    pub fn of(&self, owner: Owner, name: &[u8]) -> Id {
        let (kind, number) = match owner {
            Owner::Space(space) => (0u64, space),
            Owner::Big(big) => (1, big),
        };
        let head = ((kind << 32) | u64::from(number)).to_le_bytes();
        let mut short = [0u8; 248];
        match short.get_mut(..8 + name.len()) {
            Some(all) => {
                all[..8].copy_from_slice(&head);
                all[8..].copy_from_slice(name);
                Id(xxhash_rust::xxh3::xxh3_128_with_seed(all, self.seed))
            }
            None => {
                let mut hasher = Xxh3::with_seed(self.seed);
                hasher.update(&head);
                hasher.update(name);
                Id(hasher.digest128())
            }
        }
    }
}

impl Default for Ids {
    fn default() -> Self {
        Self::new()
    }
}

/// Whose name it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A key of this space.
    Space(u32),
    /// An element of this big value.
    Big(u32),
}

/// An id is a hash already.
#[derive(Default)]
pub struct Plain(u64);

impl Hasher for Plain {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Only ids are hashed, by `write_u128`.
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u128(&mut self, id: u128) {
        self.0 = id as u64;
    }
}

/// How maps of ids hash.
pub type ById = BuildHasherDefault<Plain>;

/// Tables grow by doubling, with the old one beside the new: in so many pieces, only a small part does at a time.
const SHARDS: usize = 64;

/// A set of ids. 16 bytes and one of the table's for each, at least 7/16 of its places in use: at most 39 bytes an id
/// where there are many.
#[derive(Debug, Default)]
pub struct IdSet {
    shards: Vec<HashSet<Id, ById>>,
    len: usize,
}

impl IdSet {
    /// Adds an id; whether it was not there.
    pub fn insert(&mut self, id: Id) -> bool {
        if self.shards.is_empty() {
            self.shards.resize_with(SHARDS, HashSet::default);
        }
        let added = self.shards[shard(id)].insert(id);
        self.len += usize::from(added);
        added
    }

    /// Removes an id; whether it was there.
    pub fn remove(&mut self, id: Id) -> bool {
        let Some(set) = self.shards.get_mut(shard(id)) else { return false };
        let removed = set.remove(&id);
        self.len -= usize::from(removed);
        if removed && set.len() * 8 < set.capacity() && set.capacity() > 64 {
            set.shrink_to(set.len() * 2);
        }
        removed
    }

    /// Whether it is there.
    pub fn contains(&self, id: Id) -> bool {
        self.shards.get(shard(id)).is_some_and(|set| set.contains(&id))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// Other bits than the tables use.
fn shard(id: Id) -> usize {
    (id.0 >> 64) as usize % SHARDS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_another_in_another_space_or_value() {
        let ids = Ids::new();
        for name in [&b""[..], b"k", &[7; 239], &[7; 240], &[7; 241], &[7; 5000]] {
            let all = [Owner::Space(0), Owner::Space(1), Owner::Big(0), Owner::Big(1)];
            let found: HashSet<u128> = all.iter().map(|owner| ids.of(*owner, name).0).collect();
            assert_eq!(found.len(), all.len());
            assert_eq!(ids.of(Owner::Space(1), name), ids.clone().of(Owner::Space(1), name));
            assert_ne!(ids.of(Owner::Space(1), name), Ids::new().of(Owner::Space(1), name));
        }
    }

    #[test]
    fn the_set_counts_and_shrinks() {
        let ids = Ids::new();
        let mut set = IdSet::default();
        let id = |n: u32| ids.of(Owner::Space(0), &n.to_le_bytes());
        assert!(!set.remove(id(0)) && !set.contains(id(0)));
        for n in 0..10_000 {
            assert!(set.insert(id(n)) && !set.insert(id(n)));
        }
        assert_eq!(set.len(), 10_000);
        for n in 0..9_999 {
            assert!(set.remove(id(n)) && !set.remove(id(n)));
        }
        assert!(set.contains(id(9_999)) && !set.is_empty());
        let places: usize = set.shards.iter().map(HashSet::capacity).sum();
        assert!(places < 64 * SHARDS + SHARDS, "{places}");
    }
}

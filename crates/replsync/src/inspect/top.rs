//! The biggest few of many keys.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::key::{BigKey, Key};

/// Keeps the `limit` keys with the greatest sizes; of equal ones those that came first.
#[derive(Clone, Debug)]
pub(super) struct Top {
    limit: usize,
    heap: BinaryHeap<Reverse<Entry>>,
}

/// Ordered by size, then by who came first.
#[derive(Clone, Debug)]
struct Entry {
    size: u64,
    turn: Reverse<u64>,
    key: BigKey,
}

impl Top {
    pub fn new(limit: usize) -> Self {
        Self { limit, heap: BinaryHeap::new() }
    }

    /// `turn` is how many keys came before.
    pub fn add(&mut self, size: u64, turn: u64, key: &Key<'_>) {
        if self.heap.len() < self.limit {
            self.heap.push(Reverse(Entry { size, turn: Reverse(turn), key: key.into() }));
        } else if let Some(mut least) = self.heap.peek_mut()
            && size > least.0.size
        {
            *least = Reverse(Entry { size, turn: Reverse(turn), key: key.into() });
        }
    }

    /// The biggest first.
    pub fn into_keys(self) -> Vec<BigKey> {
        self.heap.into_sorted_vec().into_iter().map(|entry| entry.0.key).collect()
    }
}

impl Entry {
    fn rank(&self) -> (u64, Reverse<u64>) {
        (self.size, self.turn)
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.rank().cmp(&other.rank())
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.rank() == other.rank()
    }
}

impl Eq for Entry {}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rdb::DataType;
    use proptest::prelude::*;

    pub fn key(name: &[u8], bytes: u64) -> Key<'_> {
        Key {
            db: 0,
            name,
            data_type: DataType::String,
            module: None,
            encoding: "plain",
            elements: Some(1),
            bytes,
            field_expiries: 0,
            expires_at_ms: None,
            is_expired: false,
            idle_seconds: None,
            freq: None,
            offset: 0,
        }
    }

    proptest! {
        #[test]
        fn the_biggest_are_kept_in_their_order(sizes in prop::collection::vec(0u64..20, 0..60), limit in 0usize..10) {
            let mut top = Top::new(limit);
            for (turn, &size) in sizes.iter().enumerate() {
                top.add(size, turn as u64, &key(&(turn as u64).to_le_bytes(), size));
            }
            let mut expected: Vec<(Reverse<u64>, u64)> =
                sizes.iter().zip(0u64..).map(|(&size, turn)| (Reverse(size), turn)).collect();
            expected.sort();
            expected.truncate(limit);
            let found: Vec<_> = top
                .into_keys()
                .iter()
                .map(|key| (Reverse(key.bytes), u64::from_le_bytes(key.name[..].try_into().unwrap())))
                .collect();
            prop_assert_eq!(found, expected);
        }
    }
}

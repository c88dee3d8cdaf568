//! The biggest prefixes of keys, counted in bounded memory.
//!
//! Each depth (how many delimiters a prefix has) has counters of its own, so that one prefix for each user does not push
//! out the few that lead to them. When the counters of a depth are all taken, the smaller half of them is given up, and
//! what they held at most is remembered: a prefix that comes (again) later may have had that much before. So each figure
//! is a lower bound with a known error, which is zero for every prefix that was counted from its first key on. This is
//! lossy counting (Manku and Motwani, 2002) with weights, and with the errors told.

use std::collections::HashMap;

use memchr::memmem::Finder;

use super::summary::Counts;

/// Counts prefixes.
#[derive(Clone, Debug)]
pub struct Prefixes {
    finder: Finder<'static>,
    max: usize,
    depths: Vec<Depth>,
    without: Counts,
    too_long: Size,
}

/// The counters of one depth.
#[derive(Clone, Debug, Default)]
struct Depth {
    counters: HashMap<Box<[u8]>, Counter>,
    /// What a prefix without a counter may have had.
    missed: Size,
    given_up: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Size {
    keys: u64,
    bytes: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counter {
    seen: Size,
    missed: Size,
}

/// A prefix, with its delimiter at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// The first bytes of the keys.
    pub prefix: Vec<u8>,
    /// Keys that were counted.
    pub keys: u64,
    /// What they take in the file.
    pub bytes: u64,
    /// At most so many keys more were not counted; 0 where the figures are exact.
    pub missed_keys_max: u64,
    /// At most so many bytes more were not counted; 0 where the figures are exact.
    pub missed_bytes_max: u64,
}

/// The biggest prefixes, and what is known of all others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrefixSummary {
    /// What ends a prefix.
    pub delimiter: Vec<u8>,
    /// How many delimiters the longest prefix has.
    pub depth: usize,
    /// The biggest, by bytes.
    pub biggest: Vec<Prefix>,
    /// How many different prefixes there are; nothing when there were too many to count, or too long ones.
    pub distinct: Option<u64>,
    /// No prefix that is not in the list has more bytes than this.
    pub unlisted_bytes_max: u64,
    /// Keys without the delimiter.
    pub without: Counts,
    /// Keys with a prefix of more than [`Prefixes::PREFIX_BYTES_MAX`] bytes, which was not counted.
    pub too_long_keys: u64,
}

impl PrefixSummary {
    /// Whether all prefixes could be counted; else each says what it may have missed.
    pub fn is_exact(&self) -> bool {
        self.distinct.is_some()
    }
}

impl Prefixes {
    /// A longer prefix is not counted.
    pub const PREFIX_BYTES_MAX: usize = 256;

    /// Prefixes end with `delimiter`, of which they have at most `depth`; at most `max` are counted of each depth.
    pub fn new(delimiter: &[u8], depth: usize, max: usize) -> Self {
        let depths = vec![Depth::default(); if delimiter.is_empty() { 0 } else { depth }];
        let finder = Finder::new(delimiter).into_owned();
        Self { finder, max: max.max(2), depths, without: Counts::default(), too_long: Size::default() }
    }

    /// Counts a key of that name, which comes to `counts`.
    pub fn add(&mut self, name: &[u8], counts: &Counts) {
        let delimiter_len = self.finder.needle().len();
        let mut len = 0;
        for depth in &mut self.depths {
            let Some(found) = name.get(len..).and_then(|rest| self.finder.find(rest)) else { break };
            let size = Size { keys: counts.keys, bytes: counts.bytes };
            len += found + delimiter_len;
            if len > Self::PREFIX_BYTES_MAX {
                self.too_long.add(size);
                return;
            }
            depth.add(&name[..len], size, self.max);
        }
        if len == 0 {
            self.without.join(counts);
        }
    }

    /// The `top` biggest.
    pub fn into_summary(self, top: usize) -> PrefixSummary {
        let delimiter = self.finder.needle().to_vec();
        let (depth, given_up) = (self.depths.len(), self.depths.iter().any(|depth| depth.given_up > 0));
        let counted: usize = self.depths.iter().map(|depth| depth.counters.len()).sum();
        let missed = self.depths.iter().map(|depth| depth.missed.bytes).max().unwrap_or(0);
        let mut all: Vec<Prefix> = self.depths.into_iter().flat_map(Depth::into_prefixes).collect();
        all.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.prefix.cmp(&b.prefix)));
        let rest = all.split_off(top.min(all.len()));
        let unlisted = rest.iter().map(|prefix| prefix.bytes + prefix.missed_bytes_max).max().unwrap_or(0);
        PrefixSummary {
            delimiter,
            depth,
            biggest: all,
            distinct: (!given_up && self.too_long.keys == 0).then_some(counted as u64),
            // The long ones may all have the same.
            unlisted_bytes_max: unlisted.max(missed).max(self.too_long.bytes),
            without: self.without,
            too_long_keys: self.too_long.keys,
        }
    }
}

impl Depth {
    fn add(&mut self, prefix: &[u8], size: Size, max: usize) {
        if let Some(counter) = self.counters.get_mut(prefix) {
            counter.seen.add(size);
            return;
        }
        if self.counters.len() >= max {
            self.give_up_half();
        }
        self.counters.insert(prefix.into(), Counter { seen: size, missed: self.missed });
    }

    fn give_up_half(&mut self) {
        let mut sizes: Vec<u64> = self.counters.values().map(|counter| counter.seen.bytes).collect();
        let middle = sizes.len() / 2;
        let (_, &mut least_kept, _) = sizes.select_nth_unstable(middle);
        // Of those as small as the middle one, no more than needed: there may be nothing but them.
        let mut equal = sizes[..middle].iter().filter(|&&bytes| bytes == least_kept).count();
        let (missed, given_up) = (&mut self.missed, &mut self.given_up);
        self.counters.retain(|_, counter| {
            let bytes = counter.seen.bytes;
            let is_kept = bytes > least_kept || bytes == least_kept && equal == 0;
            if !is_kept {
                equal -= usize::from(bytes == least_kept);
                missed.keys = missed.keys.max(counter.seen.keys + counter.missed.keys);
                missed.bytes = missed.bytes.max(counter.seen.bytes + counter.missed.bytes);
                *given_up += 1;
            }
            is_kept
        });
    }

    fn into_prefixes(self) -> impl Iterator<Item = Prefix> {
        self.counters.into_iter().map(|(prefix, Counter { seen, missed })| Prefix {
            prefix: prefix.into_vec(),
            keys: seen.keys,
            bytes: seen.bytes,
            missed_keys_max: missed.keys,
            missed_bytes_max: missed.bytes,
        })
    }
}

impl Size {
    fn add(&mut self, other: Self) {
        self.keys += other.keys;
        self.bytes += other.bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(bytes: u64) -> Counts {
        Counts { keys: 1, bytes, ..Default::default() }
    }

    fn counted(names: &[&str], delimiter: &str, depth: usize) -> Vec<(String, u64)> {
        let mut prefixes = Prefixes::new(delimiter.as_bytes(), depth, 100);
        names.iter().for_each(|name| prefixes.add(name.as_bytes(), &one(1)));
        let summary = prefixes.into_summary(100);
        assert!(summary.is_exact());
        summary
            .biggest
            .into_iter()
            .map(|prefix| (String::from_utf8(prefix.prefix).unwrap(), prefix.keys))
            .collect()
    }

    #[test]
    fn prefixes_end_with_their_delimiter() {
        let of = |name: &str, keys| (name.to_owned(), keys);
        assert_eq!(
            counted(&["a:b:c:d:e", "a:x", "none", "a:"], ":", 3),
            [of("a:", 3), of("a:b:", 1), of("a:b:c:", 1)]
        );
        assert_eq!(counted(&["a::b", "::"], "::", 2), [of("::", 1), of("a::", 1)]);
        assert_eq!(counted(&["a:b"], "", 3), []);
    }

    #[test]
    fn long_prefixes_are_said_to_be_left_out() {
        let mut prefixes = Prefixes::new(b":", 3, 100);
        let long = "x".repeat(Prefixes::PREFIX_BYTES_MAX);
        prefixes.add(format!("a:{long}:").as_bytes(), &one(7));
        prefixes.add(format!("{long}:x").as_bytes(), &one(5));
        prefixes.add(format!("{long}:y").as_bytes(), &one(6));
        let summary = prefixes.into_summary(10);
        assert_eq!((summary.biggest.len(), summary.too_long_keys, summary.is_exact()), (1, 3, false));
        // 11 bytes begin with the same prefix, which is not in the list.
        assert!(summary.unlisted_bytes_max >= 11, "{}", summary.unlisted_bytes_max);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Whatever comes in whatever order, the truth lies between what is counted and that plus what may be missed.
        #[test]
        fn the_truth_is_within_the_bounds(
            keys in prop::collection::vec((0u8..40, 1u64..1000), 1..400),
            max in 2usize..30,
            top in 0usize..50,
        ) {
            let mut prefixes = Prefixes::new(b":", 1, max);
            let mut truth: HashMap<Vec<u8>, (u64, u64)> = HashMap::new();
            for (name, bytes) in keys {
                let name = format!("{name}:");
                prefixes.add(name.as_bytes(), &one(bytes));
                let (keys, sum) = truth.entry(name.into_bytes()).or_default();
                (*keys, *sum) = (*keys + 1, *sum + bytes);
                prop_assert!(prefixes.depths[0].counters.len() <= max);
            }
            let summary = prefixes.into_summary(top);
            prop_assert_eq!(summary.is_exact(), truth.len() <= max);
            if let Some(distinct) = summary.distinct {
                prop_assert_eq!(distinct, truth.len() as u64);
            }
            for prefix in &summary.biggest {
                let (keys, bytes) = truth.remove(&prefix.prefix).unwrap();
                prop_assert!((prefix.keys..=prefix.keys + prefix.missed_keys_max).contains(&keys));
                prop_assert!((prefix.bytes..=prefix.bytes + prefix.missed_bytes_max).contains(&bytes));
                prop_assert!(!summary.is_exact() || prefix.missed_bytes_max == 0);
            }
            for (_, bytes) in truth.values() {
                prop_assert!(*bytes <= summary.unlisted_bytes_max);
            }
        }
    }
}

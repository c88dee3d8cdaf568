//! What differs, and how many of these are kept.

use std::fmt;

use super::{Kind, sums};
use crate::compare::text::quoted;

/// How many bytes a difference takes beside its key and its text.
const FIXED_BYTES: usize = size_of::<Difference>();

/// In what way something differs, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unlike {
    pub kind: Kind,
    pub what: String,
    /// The larger of the two payloads.
    pub payload_bytes: usize,
}

impl Unlike {
    pub fn new(kind: Kind, what: String) -> Self {
        Self { kind, what, payload_bytes: 0 }
    }

    pub fn at(self, db: Option<u32>, key: Vec<u8>) -> Difference {
        self.of_key(db, key, sums::Pair::default())
    }

    pub fn of_key(mut self, db: Option<u32>, key: Vec<u8>, added: sums::Pair) -> Difference {
        self.what.shrink_to_fit();
        Difference { db, key, kind: self.kind, what: self.what, payload_bytes: self.payload_bytes, added }
    }
}

/// A key or a function library that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The database; `None` for a function library.
    pub db: Option<u32>,
    /// The key, or the library's name.
    pub key: Vec<u8>,
    /// In what way it differs.
    pub kind: Kind,
    /// The first thing that differs: the source's, then the target's. Of a key that one side lacks, what the other
    /// side has.
    pub what: String,
    /// What it will about cost to ask for it again.
    pub(super) payload_bytes: usize,
    /// What it has added to the digests, to be taken away once it is read again.
    pub(super) added: sums::Pair,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = quoted(&self.key);
        match self.db {
            Some(db) => write!(f, "database {db}, key {key}: ")?,
            None => write!(f, "function library {key}: ")?,
        }
        match self.kind {
            Kind::MissingInSource => write!(f, "missing in the source ({} in the target)", self.what),
            Kind::MissingInTarget => write!(f, "missing in the target ({} in the source)", self.what),
            Kind::Function => f.write_str(&self.what),
            Kind::Type | Kind::Value | Kind::Expiry => write!(f, "{}: {}", self.kind.name(), self.what),
        }
    }
}

/// Differences, as many as there is room for.
#[derive(Debug)]
pub(super) struct Found {
    /// By database and key once [`sort`](Self::sort) has run, function libraries first.
    pub kept: Vec<Difference>,
    /// How many more were found.
    pub beyond: u64,
    bytes: usize,
    max: usize,
    bytes_max: usize,
}

impl Found {
    pub fn new(max: usize, bytes_max: usize) -> Self {
        Self { kept: Vec::new(), beyond: 0, bytes: 0, max, bytes_max }
    }

    pub fn clear(&mut self) {
        *self = Self::new(self.max, self.bytes_max);
    }

    pub fn add(&mut self, difference: Difference) {
        let bytes = FIXED_BYTES + difference.key.len() + difference.what.len();
        if self.kept.len() >= self.max || self.bytes.saturating_add(bytes) > self.bytes_max {
            self.beyond += 1;
            return;
        }
        self.bytes += bytes;
        self.kept.push(difference);
    }

    /// A key may have been compared twice. `twice` hears of those that go.
    pub fn sort(&mut self, mut twice: impl FnMut(&Difference)) {
        self.kept.sort_unstable_by(|a, b| (a.db, &a.key).cmp(&(b.db, &b.key)));
        self.kept.dedup_by(|a, b| {
            let is_same = (a.db, &a.key) == (b.db, &b.key);
            if is_same {
                twice(a);
            }
            is_same
        });
    }

    /// How many function libraries are among those kept.
    pub fn functions(&self) -> usize {
        self.kept.partition_point(|one| one.db.is_none())
    }

    pub fn replace_functions(&mut self, functions: impl Iterator<Item = Difference>) {
        self.kept.splice(..self.functions(), functions);
    }

    pub fn count(&self) -> u64 {
        self.beyond.saturating_add(self.kept.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unlike(what: &str) -> Unlike {
        Unlike::new(Kind::Value, what.to_owned())
    }

    #[test]
    fn they_say_where_and_what() {
        let of =
            |kind, db, what: &str| Unlike::new(kind, what.to_owned()).at(db, b"a\nkey".to_vec()).to_string();
        assert_eq!(
            of(Kind::Value, Some(3), "item 0: 1 and 2"),
            r#"database 3, key "a\nkey": value: item 0: 1 and 2"#
        );
        assert_eq!(
            of(Kind::MissingInTarget, Some(0), "list"),
            r#"database 0, key "a\nkey": missing in the target (list in the source)"#
        );
        assert_eq!(
            of(Kind::Function, None, "missing in the source"),
            r#"function library "a\nkey": missing in the source"#
        );
    }

    #[test]
    fn no_more_are_kept_than_there_is_room_for() {
        let mut found = Found::new(3, 10_000);
        for key in [b"c", b"a", b"b", b"d"] {
            found.add(unlike("x").at(Some(1), key.to_vec()));
        }
        found.sort(|_| {});
        assert_eq!(found.kept.iter().map(|one| &one.key[..]).collect::<Vec<_>>(), [b"a", b"b", b"c"]);
        assert_eq!((found.beyond, found.count()), (1, 4));
        found.clear();
        found.add(unlike("x").at(Some(1), vec![0; 9_000]));
        found.add(unlike("x").at(Some(1), vec![1; 9_000]));
        assert_eq!((found.kept.len(), found.beyond), (1, 1));
    }
}

//! The figures of an inspection.

use std::collections::BTreeMap;

use super::facts::Facts;
use super::key::{BigKey, Key, type_name};
use super::prefixes::PrefixSummary;
use super::ttl::Ttls;
use crate::rdb::{DataType, ModuleId};

/// What all keys of some kind come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Keys.
    pub keys: u64,
    /// Keys with an expiry among them.
    pub expires: u64,
    /// Elements of all of them, bytes of strings; modules' values do not say.
    pub elements: u64,
    /// What they take in the file, in bytes.
    pub bytes: u64,
}

impl Counts {
    pub(super) fn add(&mut self, key: &Key<'_>) {
        self.keys += 1;
        self.expires += u64::from(key.expires_at_ms.is_some());
        self.elements = self.elements.saturating_add(key.elements.unwrap_or(0));
        self.bytes += key.bytes;
    }

    pub(super) fn join(&mut self, other: &Self) {
        self.keys += other.keys;
        self.expires += other.expires;
        self.elements = self.elements.saturating_add(other.elements);
        self.bytes += other.bytes;
    }
}

/// Keys of one type and encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// The type.
    pub data_type: DataType,
    /// Of modules' values: the type that the module registered; nothing for those of modules beyond the first
    /// [`Group::MODULES_MAX`].
    pub module: Option<ModuleId>,
    /// How the values are written.
    pub encoding: &'static str,
    /// What they come to.
    pub counts: Counts,
    /// The most elements that one of them has.
    pub elements_max: u64,
}

impl Group {
    /// So many modules' types are told apart.
    pub const MODULES_MAX: usize = 64;

    /// What `TYPE` answers.
    pub fn type_name(&self) -> String {
        type_name(self.data_type, self.module)
    }
}

/// A database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Database {
    /// What its keys come to.
    pub counts: Counts,
    /// Its keys by type, the words that `TYPE` answers, `module` for all modules' types.
    pub types: BTreeMap<&'static str, Counts>,
}

impl Database {
    /// So many databases are told apart: more than servers are configured for.
    pub const MAX: usize = 4096;
}

/// What is in an RDB, or in what was read of it.
#[derive(Clone, Debug)]
pub struct Summary {
    /// What the file says of itself.
    pub facts: Facts,
    /// All keys that were looked at.
    pub totals: Counts,
    /// Keys that were passed over, since the filter does not choose them.
    pub keys_left_out: u64,
    /// Fields of hashes that have an expiry.
    pub field_expiries: u64,
    /// By database.
    pub databases: BTreeMap<u32, Database>,
    /// All databases beyond the first [`Database::MAX`].
    pub databases_beyond: Counts,
    /// By type and encoding, in the order of types, the most bytes first within one.
    pub groups: Vec<Group>,
    /// The biggest keys by their bytes in the file.
    pub biggest_by_bytes: Vec<BigKey>,
    /// The biggest keys of each type by elements.
    pub biggest_by_elements: Vec<(DataType, Vec<BigKey>)>,
    /// The biggest prefixes.
    pub prefixes: PrefixSummary,
    /// When keys expire.
    pub ttls: Ttls,
    /// Bytes of the file that were read.
    pub bytes: u64,
    /// Whether the file was read to its end; else these are the figures of its beginning only.
    pub is_complete: bool,
}

impl Summary {
    /// By type: the name that `TYPE` answers, what its keys come to, its encodings.
    pub fn types(&self) -> Vec<(String, Counts, &[Group])> {
        let same = |a: &Group, b: &Group| (a.data_type, a.module) == (b.data_type, b.module);
        self.groups
            .chunk_by(same)
            .map(|groups| {
                let mut counts = Counts::default();
                groups.iter().for_each(|group| counts.join(&group.counts));
                (groups[0].type_name(), counts, groups)
            })
            .collect()
    }
}

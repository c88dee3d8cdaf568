//! `debug-digest`: what a server's `DEBUG DIGEST` prints for a keyspace, computed from its elements. The rules of each
//! version, and what this digest does not see, are in docs/formats/debug-digest.md.
//!
//! [`of_rdb`] does it for a file. Below it, a [`KeyHasher`] makes the digest of one key after the other, and a [`Digest`]
//! puts them together, in any order.

mod file;
mod grisu;
mod score;

use std::collections::BTreeMap;

use sha1::{Digest as _, Sha1};

use crate::rdb::{DataType, Element, ModuleId, STRING_PART_BYTES};
use crate::server::{Product, Server};
pub use file::{Database, Error, Summary, of_rdb};
use score::ScoreText;

/// A SHA-1.
pub type Hash = [u8; 20];

/// In what the versions differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    scores: ScoreText,
    fields: Fields,
}

/// What becomes of fields of hashes that have an expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fields {
    /// They count as others do.
    Plain,
    /// That they have one counts: Redis from 7.4 on.
    Marked,
    /// They count as others do until they are past it: Valkey from 9.0 on.
    UntilExpired,
}

impl Rules {
    /// The rules by which `server` computes it. Of a version that nobody tried, those of the one before it.
    ///
    /// Source: `xorObjectDigest` in `src/debug.c` of each release, `hashTypeNext` in `src/t_hash.c` of Valkey 9.
    pub fn of(server: Server) -> Self {
        let scores = if server.has((7, 2), None) { ScoreText::Fpconv } else { ScoreText::Printf };
        let fields = match server.product {
            Product::Redis if server.has((7, 4), None) => Fields::Marked,
            Product::Valkey if server.has((9, 0), Some((9, 0))) => Fields::UntilExpired,
            _ => Fields::Plain,
        };
        Self { scores, fields }
    }
}

/// The digest of a keyspace in the making. The order in which keys and databases come makes no difference.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    databases: BTreeMap<u32, Hash>,
}

/// The most databases whose keys one [`Digest`] holds: servers have 16 by default.
pub const MAX_DATABASES: usize = 1 << 16;

impl Digest {
    /// Adds a key of that database; added again, it is taken away. Says whether there was room for the database.
    ///
    /// Source: `computeDatasetDigest` in `src/debug.c`.
    #[must_use]
    pub fn add(&mut self, db: u32, key: Hash) -> bool {
        if self.databases.len() >= MAX_DATABASES && !self.databases.contains_key(&db) {
            return false;
        }
        xor(self.databases.entry(db).or_default(), &key);
        true
    }

    /// Adds all keys of `other`, as where parts of a keyspace were read side by side.
    #[must_use]
    pub fn merge(&mut self, other: &Self) -> bool {
        other.databases.iter().all(|(&db, keys)| self.add(db, *keys))
    }

    /// What `DEBUG DIGEST` prints, in binary: 20 zeros for no keys.
    ///
    /// Source: `computeDatasetDigest` in `src/debug.c`.
    pub fn finish(&self) -> Hash {
        self.databases.iter().fold(Hash::default(), with_database)
    }

    /// What it would print for each database if there were no other.
    pub fn databases(&self) -> impl Iterator<Item = (u32, Hash)> {
        self.databases.iter().map(|(&db, keys)| (db, with_database(Hash::default(), (&db, keys))))
    }
}

fn with_database(mut digest: Hash, (db, keys): (&u32, &Hash)) -> Hash {
    mix(&mut digest, &db.to_be_bytes());
    xor(&mut digest, keys);
    digest
}

/// An element whose part is not known; what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown(pub String);

/// The digest of one key in the making: [`start`](Self::start), its elements in the order of the file,
/// [`finish`](Self::finish).
#[derive(Clone, Debug)]
pub struct KeyHasher {
    rules: Rules,
    digest: Hash,
    expires: bool,
    saved_at_ms: u64,
    expired_fields: u64,
    /// A string that comes in parts.
    string: Option<Sha1>,
    /// Numbers as text.
    text: Vec<u8>,
}

impl KeyHasher {
    /// A hasher for keys, one after the other.
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            digest: Hash::default(),
            expires: false,
            saved_at_ms: 0,
            expired_fields: 0,
            string: None,
            text: Vec::new(),
        }
    }

    /// The same at that time (milliseconds since the epoch): Valkey leaves out fields whose expiry has passed. Without
    /// it, none has.
    pub fn at(self, saved_at_ms: u64) -> Self {
        Self { saved_at_ms, ..self }
    }

    /// How many fields were left out so far since their expiry had passed.
    pub fn expired_fields(&self) -> u64 {
        self.expired_fields
    }

    /// Begins with the key `name`. That it expires counts, when does not.
    ///
    /// Source: `xorObjectDigest` in `src/debug.c`; the numbers of types are in `src/server.h`.
    pub fn start(&mut self, name: &[u8], data_type: DataType, expiry_ms: Option<i64>) {
        let number: u32 = match data_type {
            DataType::String => 0,
            DataType::List => 1,
            DataType::Set => 2,
            DataType::Zset => 3,
            DataType::Hash => 4,
            DataType::Module => 5,
            DataType::Stream => 6,
            DataType::Array => u32::MAX, // its element is refused
        };
        self.digest = Hash::default();
        self.string = None;
        // -1 is how a server says that there is none; it takes it from a file so
        self.expires = expiry_ms.is_some_and(|at| at != -1);
        mix(&mut self.digest, name);
        mix(&mut self.digest, &number.to_be_bytes());
    }

    /// The next element of its value.
    ///
    /// # Errors
    /// When it is not known what a server would make of it. Then this key has no digest.
    pub fn element(&mut self, element: &Element<'_>) -> Result<(), Unknown> {
        match *element {
            Element::StringPart(part) => self.string_part(part),
            Element::ListItem(item) => mix(&mut self.digest, item),
            Element::SetMember(member) => xor(&mut self.digest, &sha1(member)),
            Element::ZsetMember { member, score } => {
                self.rules.scores.write(score, &mut self.text);
                let pair = pair(member, &self.text);
                xor(&mut self.digest, &sha1(&pair));
            }
            Element::HashField { field, value, expiry_ms } => {
                let mut pair = pair(field, value);
                match (self.rules.fields, expiry_ms) {
                    (Fields::Marked, Some(_)) => xor(&mut pair, &sha1(b"!!hexpire!!")),
                    (Fields::UntilExpired, Some(at)) if at < self.saved_at_ms => {
                        self.expired_fields += 1;
                        return Ok(());
                    }
                    _ => {}
                }
                xor(&mut self.digest, &sha1(&pair));
            }
            Element::StreamEntry { id, fields } => {
                self.text.clear();
                let mut number = itoa::Buffer::new();
                self.text.extend_from_slice(number.format(id.ms).as_bytes());
                self.text.push(b'.');
                self.text.extend_from_slice(number.format(id.seq).as_bytes());
                mix(&mut self.digest, &self.text);
                for (field, value) in fields {
                    mix(&mut self.digest, field);
                    mix(&mut self.digest, value);
                }
            }
            Element::StreamMeta { .. }
            | Element::StreamGroup { .. }
            | Element::StreamConsumer { .. }
            | Element::StreamPending { .. }
            | Element::StreamNacked { .. }
            | Element::StreamIdmp(_)
            | Element::ModulePart(_) => {}
            Element::ArrayMeta { .. } | Element::ArrayItem { .. } => {
                return Err(Unknown("an array".to_owned()));
            }
            Element::ModuleValue { id } => {
                if !adds_nothing(id) {
                    return Err(Unknown(format!("a value of the module type {id}")));
                }
            }
        }
        Ok(())
    }

    /// The digest of the key, as [`Digest::add`] takes it.
    pub fn finish(&mut self) -> Hash {
        if let Some(string) = self.string.take() {
            mix_hash(&mut self.digest, &string.finalize().into());
        }
        if self.expires {
            xor(&mut self.digest, &sha1(b"!!expire!!"));
        }
        // as it goes into that of the database
        sha1(&self.digest)
    }

    /// Strings are hashed in one go unless they are longer than one part.
    fn string_part(&mut self, part: &[u8]) {
        match &mut self.string {
            Some(string) => string.update(part),
            None if part.len() < STRING_PART_BYTES => mix(&mut self.digest, part),
            None => self.string = Some(Sha1::new_with_prefix(part)),
        }
    }
}

/// Whether values of that module type add nothing but their key, since the module gave the server no function for it.
/// These were tried with the modules of Redis Stack 7.4; others are not known, and vector sets do have one.
///
/// Source: `xorObjectDigest` in `src/debug.c`, `moduleInitDigestContext` in `src/module.c`.
fn adds_nothing(id: ModuleId) -> bool {
    const TRIED: [&str; 7] =
        ["ReJSON-RL", "MBbloom--", "MBbloomCF", "CMSk-TYPE", "TopK-TYPE", "TDIS-TYPE", "TSDB-TYPE"];
    TRIED.contains(&id.name().as_str())
}

/// The digest of a field and what belongs to it.
fn pair(first: &[u8], second: &[u8]) -> Hash {
    let mut digest = Hash::default();
    mix(&mut digest, first);
    mix(&mut digest, second);
    digest
}

/// Takes `bytes` into a digest so that their order counts.
///
/// Source: `mixDigest` in `src/debug.c`.
fn mix(digest: &mut Hash, bytes: &[u8]) {
    mix_hash(digest, &sha1(bytes));
}

fn mix_hash(digest: &mut Hash, hash: &Hash) {
    xor(digest, hash);
    *digest = sha1(digest);
}

/// Takes a hash into a digest so that the order does not count.
///
/// Source: `xorDigest` in `src/debug.c`, which hashes first.
fn xor(digest: &mut Hash, hash: &Hash) {
    digest.iter_mut().zip(hash).for_each(|(digest, hash)| *digest ^= hash);
}

fn sha1(bytes: &[u8]) -> Hash {
    Sha1::digest(bytes).into()
}

#[cfg(test)]
mod tests;

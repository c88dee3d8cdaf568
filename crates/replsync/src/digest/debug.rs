//! `debug-digest`: what a server's `DEBUG DIGEST` prints for a keyspace, computed from its elements. The rules of each
//! version, and what this digest does not see, are in docs/formats/debug-digest.md.
//!
//! [`of_rdb`] does it for a file. Below it, a [`KeyHasher`] makes the digest of one key after the other, and a [`Digest`]
//! puts them together, in any order.

mod grisu;
mod score;

use std::collections::BTreeMap;

use sha1::{Digest as _, Sha1};

use crate::rdb::{self, DataType, Element, Input, Item, ModuleId, Reader, STRING_PART_BYTES, Writer};
use crate::server::Server;
use score::ScoreText;

/// A SHA-1.
pub type Hash = [u8; 20];

/// In what the versions differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    scores: ScoreText,
    /// Whether it counts that a field of a hash has an expiry.
    field_expiries: bool,
}

impl Rules {
    /// The rules by which `server` computes it. Of a version that nobody tried, those of the one before it.
    ///
    /// Source: `xorObjectDigest` in `src/debug.c` of each release; Valkey's has no expiries of fields.
    pub fn of(server: Server) -> Self {
        let scores = if server.has((7, 2), None) { ScoreText::Fpconv } else { ScoreText::Printf };
        Self { scores, field_expiries: server.has((7, 4), None) }
    }
}

/// Why the digest of a file cannot be computed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error(transparent)]
    Rdb(#[from] rdb::Error),
    /// A value whose part of the digest is not known: a module's, or of a type that came later.
    #[error(
        "no debug-digest: key \"{}\" in database {db}, at offset {offset}, is {what}, and what a server would make of it \
         is not known; --algorithm replsync-1 has no such limit",
        key.escape_ascii()
    )]
    Unknown {
        /// The database.
        db: u32,
        /// The key.
        key: Vec<u8>,
        /// Where its type byte stands.
        offset: u64,
        /// What it is.
        what: String,
    },
    /// More databases than there can be sense in.
    #[error(
        "no debug-digest: keys in more than {MAX_DATABASES} databases, up to database {db} at offset {offset}"
    )]
    Databases {
        /// The database that was one too many.
        db: u32,
        /// Where its key's type byte stands.
        offset: u64,
    },
}

/// What was computed of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// What `DEBUG DIGEST` prints, in binary.
    pub digest: Hash,
    /// The server whose rules it was computed by.
    pub like: Server,
    /// Keys in the file.
    pub keys: u64,
    /// Keys with an expiry among them. Those that have passed count too, as they do in the server that wrote them: it
    /// hashes what it holds. A server that loads the file drops them, and prints another digest.
    pub expires: u64,
}

/// Reads a file from its start to its end, and computes its digest as `like` would, or else as its writer would.
///
/// # Errors
/// [`Error`].
pub fn of_rdb<I: Input>(reader: &mut Reader<I>, like: Option<Server>) -> Result<Summary, Error> {
    let mut writer = Writer::default();
    let mut summing: Option<(Server, KeyHasher)> = None;
    let (mut digest, mut keys, mut expires) = (Digest::default(), 0, 0);
    while let Some(item) = reader.next_item()? {
        let Item::Entry(entry) = item else {
            writer.see(&item);
            continue;
        };
        // What the file says of its writer stands before its first key.
        let (_, hasher) = summing.get_or_insert_with(|| {
            let server = like.or_else(|| writer.server()).unwrap_or(NEWEST);
            (server, KeyHasher::new(Rules::of(server)))
        });
        hasher.start(reader.key(), entry.kind.data_type(), entry.expiry_ms);
        let unknown =
            |key: &[u8], what| Error::Unknown { db: entry.db, key: key.to_vec(), offset: entry.offset, what };
        reader.decode_value(&mut |key, element| {
            hasher.element(&element).map_err(|Unknown(what)| unknown(key, what))
        })?;
        if !digest.add(entry.db, hasher.finish()) {
            return Err(Error::Databases { db: entry.db, offset: entry.offset });
        }
        keys += 1;
        expires += u64::from(entry.expiry_ms.is_some());
    }
    let like = summing.map(|(server, _)| server).or(like).or_else(|| writer.server()).unwrap_or(NEWEST);
    Ok(Summary { digest: digest.finish(), like, keys, expires })
}

/// Where neither the file nor the caller says it.
const NEWEST: Server = Server::redis(8, 6);

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
        let mut digest = Hash::default();
        for (db, keys) in &self.databases {
            mix(&mut digest, &db.to_be_bytes());
            xor(&mut digest, keys);
        }
        digest
    }
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
    /// A string that comes in parts.
    string: Option<Sha1>,
    /// Numbers as text.
    text: Vec<u8>,
}

impl KeyHasher {
    /// A hasher for keys, one after the other.
    pub fn new(rules: Rules) -> Self {
        Self { rules, digest: Hash::default(), expires: false, string: None, text: Vec::new() }
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
                if self.rules.field_expiries && expiry_ms.is_some() {
                    xor(&mut pair, &sha1(b"!!hexpire!!"));
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
                    return Err(Unknown(format!("of the module type {id}")));
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

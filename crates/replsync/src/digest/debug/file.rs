//! The digest of a file.

use std::collections::BTreeMap;

use super::{Digest, Hash, KeyHasher, MAX_DATABASES, Rules, Unknown};
use crate::digest::read::nothing_more;
use crate::digest::{self, About, At};
use crate::rdb::{self, Entry, Input, Item, Reader, Writer};
use crate::server::Server;

/// What was computed of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// What `DEBUG DIGEST` prints, in binary.
    pub digest: Hash,
    /// The server by whose rules it was computed.
    pub like: Server,
    /// The same for each database.
    pub databases: BTreeMap<u32, Database>,
    /// Fields of hashes that were left out since they had expired when the file was written, by the time that it says
    /// (`ctime`, whole seconds): Valkey 9 prints the digest without them, Redis with them.
    pub expired_fields: u64,
    /// What else the file holds.
    pub about: About,
}

/// What was computed of a database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Database {
    /// What `DEBUG DIGEST` would print if there were no other.
    pub digest: Hash,
    /// Keys in it.
    pub keys: u64,
    /// Keys with an expiry among them. Those that have passed count too, as they do in the server that wrote them: it
    /// hashes what it holds. A master that loads the file drops them, and prints another digest.
    pub expires: u64,
}

/// Why the digest of a file cannot be computed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] digest::Error),
    /// A value whose part of the digest is not known: a module's, or of a type that came later.
    #[error(
        "no debug-digest: what a server would make of {what} is not known, at offset {offset}{at}; the digest replsync-1 \
         has no such limit"
    )]
    Unknown {
        /// What it is.
        what: String,
        /// Where its type byte stands.
        offset: u64,
        /// Its database and key.
        at: At,
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

/// Reads a file from its start to its end, and computes its digest as `like` would, or else as its writer would.
///
/// # Errors
/// [`Error`].
pub fn of_rdb<I: Input>(mut reader: Reader<I>, like: Option<Server>) -> Result<Summary, Error> {
    let mut head = Head { like, ..Head::default() };
    let mut hasher = None;
    let mut digest = Digest::default();
    let mut databases = BTreeMap::<u32, Database>::new();
    while let Some(item) = reader.next_item().map_err(|source| Error::from_rdb(source, At::default()))? {
        let Item::Entry(entry) = item else {
            head.take(&item);
            continue;
        };
        // What the file says of its writer stands before its first key.
        let hasher = hasher.get_or_insert_with(|| head.hasher());
        head.about.keys_with_metadata += u64::from(entry.metadata_classes > 0);
        if !digest.add(entry.db, key(&mut reader, hasher, &entry)?) {
            return Err(Error::Databases { db: entry.db, offset: entry.offset });
        }
        let database = databases.entry(entry.db).or_default();
        database.keys += 1;
        database.expires += u64::from(entry.expiry_ms.is_some());
    }
    nothing_more(reader)?;
    for (db, hash) in digest.databases() {
        databases.entry(db).or_default().digest = hash;
    }
    Ok(Summary {
        digest: digest.finish(),
        like: head.server(),
        databases,
        expired_fields: hasher.map_or(0, |hasher| hasher.expired_fields()),
        about: head.about,
    })
}

/// The digest of the key at hand, whose value is unread.
fn key<I: Input>(reader: &mut Reader<I>, hasher: &mut KeyHasher, entry: &Entry) -> Result<Hash, Error> {
    hasher.start(reader.key(), entry.kind.data_type(), entry.expiry_ms);
    let mut unknown = None;
    let decoded = reader.decode_value(&mut |_, element| {
        if unknown.is_none() {
            unknown = hasher.element(&element).err();
        }
        Ok::<_, rdb::Error>(())
    });
    let at = || At(Some((entry.db, reader.key().to_vec())));
    if let Err(source) = decoded {
        return Err(Error::from_rdb(source, at()));
    }
    match unknown {
        Some(Unknown(what)) => Err(Error::Unknown { what, offset: entry.offset, at: at() }),
        None => Ok(hasher.finish()),
    }
}

impl Error {
    fn from_rdb(source: rdb::Error, at: At) -> Self {
        Self::Read(digest::Error::Rdb { source, at })
    }
}

/// What a file says of itself, and what the caller says of it.
#[derive(Default)]
struct Head {
    like: Option<Server>,
    writer: Writer,
    saved_at_ms: u64,
    about: About,
}

impl Head {
    fn take(&mut self, item: &Item) {
        self.writer.see(item);
        self.about.take(item);
        if let Item::Aux { key, value } = item
            && key == b"ctime"
        {
            let seconds = std::str::from_utf8(value).ok().and_then(|text| text.parse::<u64>().ok());
            self.saved_at_ms = seconds.unwrap_or(0).saturating_mul(1000);
        }
    }

    fn server(&self) -> Server {
        self.like.or_else(|| self.writer.server()).unwrap_or(Server::redis(8, 6))
    }

    fn hasher(&self) -> KeyHasher {
        KeyHasher::new(Rules::of(self.server())).at(self.saved_at_ms)
    }
}

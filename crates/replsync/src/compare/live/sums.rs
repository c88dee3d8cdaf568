//! What both sides add up to, each key as it was when it was last compared.

use super::peer::Functions;
use crate::clock::now_signed_ms;
use crate::digest::{KeyDigest, KeyHasher, Keyspace, Sum};
use crate::rdb::{self, DataType, Element, Limits, dump};

/// The digests `replsync-1` of both sides: what `digest` says of an RDB that a side saves while nobody writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digests {
    /// Of the data.
    pub data: Both,
    /// Of the expiries; nothing where keys expire and a server is too old to say when, to the millisecond.
    pub expiries: Option<Both>,
}

/// The same of both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Both {
    /// The source's.
    pub source: Sum,
    /// The target's.
    pub target: Sum,
}

/// What one key adds to its side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Added {
    /// It is not there, or as good as gone.
    #[default]
    Nothing,
    /// It is there, and it is not known what it holds.
    Unknown,
    /// It is there.
    Key(KeyDigest),
}

/// What one key adds to both sides.
pub(super) type Pair = [Added; 2];

/// Both sides' keys added up.
#[derive(Debug)]
pub(super) struct Sums {
    sides: [Keyspace; 2],
    /// How many keys there are whose digest is not known.
    unknown: u64,
}

impl Sums {
    pub fn new() -> Self {
        let now_ms = now_signed_ms();
        Self { sides: [Keyspace::new(now_ms), Keyspace::new(now_ms)], unknown: 0 }
    }

    pub fn add(&mut self, db: u32, key: &[u8], added: &Pair) {
        for (side, added) in self.sides.iter_mut().zip(added) {
            match added {
                Added::Nothing => {}
                Added::Unknown => self.unknown += 1,
                Added::Key(digest) => side.add(db, key, digest),
            }
        }
    }

    /// Takes away what a key has added: it was read again, or twice.
    pub fn remove(&mut self, db: u32, key: &[u8], added: &Pair) {
        for (side, added) in self.sides.iter_mut().zip(added) {
            match added {
                Added::Nothing => {}
                Added::Unknown => self.unknown = self.unknown.saturating_sub(1),
                Added::Key(digest) => side.remove(db, key, digest),
            }
        }
    }

    pub fn set_functions(&mut self, functions: &Functions) {
        for (side, libraries) in self.sides.iter_mut().zip(functions) {
            side.clear_functions();
            libraries.values().for_each(|code| side.add_function(code));
        }
    }

    /// The digests, unless a key's is not known. `exact` says whether both sides tell expiries to the millisecond.
    pub fn digests(&self, exact: bool) -> Option<Digests> {
        let both = |of: fn(&Keyspace) -> Sum| Both { source: of(&self.sides[0]), target: of(&self.sides[1]) };
        let none_expires = self.sides.iter().all(|side| side.total().expires == 0);
        (self.unknown == 0).then(|| Digests {
            data: both(Keyspace::data),
            expiries: (exact || none_expires).then(|| both(Keyspace::expiries)),
        })
    }
}

/// What a key adds. `meant` takes shifts off the expiries of hash fields; those that have expired by `now_ms` are left
/// out, as they are when values are compared, and a hash without any is as good as none.
///
/// # Errors
/// A payload that cannot be read.
pub(super) fn added(
    hasher: &mut KeyHasher,
    name: &[u8],
    payload: &[u8],
    expiry_ms: Option<i64>,
    meant: impl Fn(u64) -> u64,
    now_ms: u64,
) -> Result<Added, rdb::Error> {
    let dump = dump::parse(payload)?;
    let mut any = false;
    hasher.start(name, expiry_ms);
    rdb::decode(dump.kind, dump.raw, &Limits::default(), &mut |element| {
        match element {
            Element::HashField { field, value, expiry_ms: Some(at_ms) } => {
                let at_ms = meant(at_ms);
                if at_ms > now_ms {
                    any = true;
                    hasher.element(&Element::HashField { field, value, expiry_ms: Some(at_ms) });
                }
            }
            element => {
                any = true;
                hasher.element(&element);
            }
        }
        Ok::<_, rdb::Error>(())
    })?;
    let data_type = dump.kind.data_type();
    let is_gone = data_type == DataType::Hash && !any;
    Ok(if is_gone { Added::Nothing } else { Added::Key(hasher.finish(data_type)) })
}

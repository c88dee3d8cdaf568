//! The digest of an RDB, read from its start to its end.

use std::fmt;

use super::keyspace::Keyspace;
use super::replsync_1::KeyHasher;
use crate::rdb::{self, Checksum, Entry, Input, Item, Magic, Reader};

/// What an RDB holds beside its keyspace, none of which is part of a digest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// Its family and version; nothing before the header was read.
    pub format: Option<(Magic, u16)>,
    /// Who wrote it, as it says itself: `redis 7.4.1`, `valkey 8.1.0`.
    pub writer: Option<String>,
    /// What its checksum said; nothing before the end was read.
    pub checksum: Option<Checksum>,
    /// What modules keep outside the keyspace: fields of it.
    pub module_aux: u64,
    /// Scripts in fields about the file, as servers before 7.0 write them.
    pub scripts: u64,
    /// Keys with metadata that modules attached (Redis 8.6).
    pub keys_with_metadata: u64,
}

/// Why an RDB has no digest.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something is wrong with its bytes, or they cannot be read.
    #[error("{source}{at}")]
    Rdb {
        /// What.
        source: rdb::Error,
        /// In which value.
        at: At,
    },
    /// More databases than there can be sense in.
    #[error("keys in more than {DATABASES_MAX} databases, up to database {db} at offset {offset}")]
    Databases {
        /// The database that was one too many.
        db: u32,
        /// Where its first key's type byte stands.
        offset: u64,
    },
    /// It goes on after its end.
    #[error(
        "bytes after the end of the RDB at offset {offset}: an AOF that begins with an RDB, or two files in one?"
    )]
    AfterEnd {
        /// Where the RDB ends.
        offset: u64,
    },
}

/// The most databases that a file may have keys in: servers have 16 by default, and what each adds up to is held.
pub const DATABASES_MAX: usize = 1 << 16;

/// A key, where an error is about its value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct At(pub Option<(u32, Vec<u8>)>);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some((db, key)) => {
                write!(f, " (database {db}, key {})", rdb::quoted(key, SHOWN_BYTES))
            }
            None => Ok(()),
        }
    }
}

/// Of a key's name, so many bytes are shown.
const SHOWN_BYTES: usize = 60;

/// Adds all that `reader` reads to `keyspace`, up to the end of the RDB, behind which there must be nothing.
///
/// # Errors
/// The first thing that is wrong; what was added until then stays.
pub fn read<I: Input>(mut reader: Reader<I>, keyspace: &mut Keyspace) -> Result<About, Error> {
    let mut about = About::default();
    let mut hasher = KeyHasher::new();
    while let Some(item) = reader.next_item().map_err(|source| Error::Rdb { source, at: At::default() })? {
        match item {
            Item::Entry(entry) => {
                about.keys_with_metadata += u64::from(entry.metadata_classes > 0);
                add(&mut reader, &mut hasher, &entry, keyspace)?;
            }
            Item::Function(code) => keyspace.add_function(&code),
            item => about.take(&item),
        }
    }
    nothing_more(reader)?;
    Ok(about)
}

/// That nothing is behind the end of the RDB, to which `reader` has come.
pub(super) fn nothing_more<I: Input>(reader: Reader<I>) -> Result<(), Error> {
    let offset = reader.offset();
    match reader.into_input().peek(1) {
        Err(rdb::Error::Truncated { .. }) => Ok(()),
        Err(source) => Err(Error::Rdb { source, at: At::default() }),
        Ok(_) => Err(Error::AfterEnd { offset }),
    }
}

/// Adds the key at hand, whose value is unread.
fn add<I: Input>(
    reader: &mut Reader<I>,
    hasher: &mut KeyHasher,
    entry: &Entry,
    keyspace: &mut Keyspace,
) -> Result<(), Error> {
    hasher.start(reader.key(), entry.expiry_ms);
    let decoded = reader.decode_value(&mut |_, element| {
        hasher.element(&element);
        Ok::<_, rdb::Error>(())
    });
    if let Err(source) = decoded {
        return Err(Error::Rdb { source, at: At(Some((entry.db, reader.key().to_vec()))) });
    }
    keyspace.add(entry.db, reader.key(), &hasher.finish(entry.kind.data_type()));
    if keyspace.databases_touched() > DATABASES_MAX {
        return Err(Error::Databases { db: entry.db, offset: entry.offset });
    }
    Ok(())
}

impl About {
    pub(super) fn take(&mut self, item: &Item) {
        match item {
            Item::Header { magic, version } => self.format = Some((*magic, *version)),
            Item::Aux { key, value } => match (&key[..], key.strip_suffix(b"-ver")) {
                (b"lua", _) => self.scripts += 1,
                (_, Some(product @ (b"redis" | b"valkey"))) => {
                    let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
                    self.writer = Some(format!("{} {}", text(product), text(value)));
                }
                _ => {}
            },
            Item::ModuleAux(_) => self.module_aux += 1,
            Item::End { checksum } => self.checksum = Some(*checksum),
            Item::Function(_)
            | Item::ResizeDb { .. }
            | Item::SlotInfo { .. }
            | Item::SlotImport { .. }
            | Item::Entry(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rdb::Slice;

    /// Two databases, an expiry, a function library and a script; without a checksum.
    const FILE: &[u8] = b"REDIS0010\
        \xfa\x09redis-ver\x057.0.0\
        \xfa\x03lua\x08return 1\
        \xf5\x0c#!lua name=a\
        \xfe\x00\xfb\x02\x01\x00\x01k\xc0\x2a\xfc\x01\0\0\0\0\0\0\0\x02\x01s\x01\x01m\
        \xfe\x03\x00\x01k\x0242\xff\0\0\0\0\0\0\0\0";

    fn of(file: &[u8]) -> Result<(Keyspace, About), Error> {
        let mut keyspace = Keyspace::new(1);
        let about = read(Reader::new(Slice::new(file)), &mut keyspace)?;
        Ok((keyspace, about))
    }

    #[test]
    fn a_file_is_added_up() {
        let (keyspace, about) = of(FILE).unwrap();
        let databases: Vec<_> = keyspace.databases().collect();
        assert_eq!(
            databases.iter().map(|(db, tally)| (*db, tally.keys)).collect::<Vec<_>>(),
            [(0, 2), (3, 1)]
        );
        let total = keyspace.total();
        assert_eq!((total.expires, total.expired, keyspace.functions()), (1, 1, 1));
        assert_eq!(about.writer.as_deref(), Some("redis 7.0.0"));
        assert_eq!((about.scripts, about.checksum), (1, Some(Checksum::None)));
        // 42 as a number and as text: what db 3 holds is in db 0 too.
        let mut only_k = Keyspace::new(1);
        let mut hasher = KeyHasher::new();
        hasher.start(b"k", None);
        hasher.element(&rdb::Element::StringPart(b"42"));
        only_k.add(3, b"k", &hasher.finish(rdb::DataType::String));
        assert_eq!(only_k.databases().next().unwrap(), databases[1]);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let bare = b"REDIS0010\xfe\x02\x00\x01k\x05va";
        assert_eq!(
            of(bare).unwrap_err().to_string(),
            "truncated: 5 bytes wanted at offset 15, the input ends before (database 2, key \"k\")"
        );
        let mut many = b"REDIS0004".to_vec();
        for db in 0..=DATABASES_MAX as u32 {
            many.extend([b"\xfe\x80", &db.to_be_bytes()[..], b"\x00\x01k\x01v"].concat());
        }
        assert!(matches!(of(&many), Err(Error::Databases { db: 65_536, offset: 720_911 })));
        let more = b"REDIS0010\xff\0\0\0\0\0\0\0\0*1\r\n";
        assert!(matches!(of(more), Err(Error::AfterEnd { offset: 18 })));
    }
}

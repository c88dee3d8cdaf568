//! One of the two files, read: whole to be summed, whole again for the keys that may differ, and at the places of those
//! that do.

use std::collections::BTreeMap;

use xxhash_rust::xxh3::{xxh3_128, xxh3_128_with_seed};

use super::error::{At, Error};
use super::narrow::{Plan, Record, Records, Share, Sums};
use super::progress::Progress;
use crate::digest::replsync_1::KeyHasher;
use crate::files::{self, RdbFile, Stream};
use crate::rdb::{self, Buffered, Checksum, Element, Entry, Item, Limits, Magic, Place, Reader};

/// So many function libraries are held …
const FUNCTIONS_MAX: usize = 10_000;
/// … and so much of the code of each.
const CODE_BYTES_MAX: usize = 2 * 1024;

/// A file, and how to read it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Side<'a> {
    pub file: &'a RdbFile,
    pub limits: Limits,
    pub now_ms: i64,
    pub progress: &'a Progress,
}

/// What a file holds, as far as one pass tells.
#[derive(Debug)]
pub(super) struct Seen {
    pub magic: Magic,
    pub version: u16,
    pub has_checksum: bool,
    pub sums: Sums,
    pub expired: u64,
    pub module_aux: u64,
    pub functions: BTreeMap<Vec<u8>, Function>,
}

/// A library of functions: the hash of its code, and how the code begins.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Function {
    pub hash: u128,
    pub len: usize,
    pub code: Vec<u8>,
}

/// Where a key's entry is, and what stands before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    pub offset: u64,
    pub db: u32,
    expires: bool,
    expiry_ms: i64,
}

impl Spot {
    fn of(entry: &Entry) -> Self {
        let (expires, expiry_ms) = (entry.expiry_ms.is_some(), entry.expiry_ms.unwrap_or_default());
        Self { offset: entry.offset, db: entry.db, expires, expiry_ms }
    }

    /// When the key expires.
    pub fn expiry_ms(&self) -> Option<i64> {
        self.expires.then_some(self.expiry_ms)
    }
}

/// Why a value was not read to its end.
enum Halt {
    Rdb(rdb::Error),
    Stopped,
}

impl From<rdb::Error> for Halt {
    fn from(error: rdb::Error) -> Self {
        Self::Rdb(error)
    }
}

type FileReader = Reader<Buffered<Stream>>;

/// A key, by its database and name.
fn id(db: u32, name: &[u8]) -> u128 {
    xxh3_128_with_seed(name, db.into())
}

impl<'a> Side<'a> {
    /// The first pass: everything is read, checked and summed, nothing is held.
    pub fn first_pass(&self) -> Result<Seen, Error> {
        let mut hasher = KeyHasher::new();
        let mut seen = Seen {
            magic: Magic::Redis,
            version: 0,
            has_checksum: false,
            sums: Sums::new(),
            expired: 0,
            module_aux: 0,
            functions: BTreeMap::new(),
        };
        self.scan(|reader, item| {
            match item {
                Item::Header { magic, version } => (seen.magic, seen.version) = (magic, version),
                Item::Entry(entry) => {
                    let (id, digest) = self.digest(reader, &entry, &mut hasher)?;
                    seen.sums.add(id, digest);
                    seen.expired += u64::from(entry.expiry_ms.is_some_and(|at| at <= self.now_ms));
                }
                Item::Function(code) => self.add_function(&mut seen.functions, &code)?,
                Item::ModuleAux(_) => seen.module_aux += 1,
                Item::End { checksum } => seen.has_checksum = checksum == Checksum::Verified,
                _ => {}
            }
            Ok(())
        })?;
        Ok(seen)
    }

    /// Another pass, for the keys of a share of the plan: by id. They are `expected` as the first pass counted them;
    /// more than `max` at once are only held when no key comes twice.
    pub fn records(
        &self,
        (plan, share): (&Plan, &Share),
        (expected, max): (u64, u64),
        seen: &Seen,
    ) -> Result<Vec<Record<Spot>>, Error> {
        let mut hasher = KeyHasher::new();
        let mut records = Records::new(usize::try_from(expected.min(max)).unwrap_or(usize::MAX));
        self.scan(|reader, item| {
            let Item::Entry(entry) = item else { return Ok(()) };
            if !plan.wants(share, id(entry.db, reader.key())) {
                return Ok(());
            }
            let (id, digest) = self.digest(reader, &entry, &mut hasher)?;
            let record = Record { id, digest: digest as u64, at: Spot::of(&entry) };
            if !records.push(record) {
                self.check_unique(&mut records, seen)?;
                records.raise();
                records.push(record);
            }
            Ok(())
        })?;
        self.check_unique(&mut records, seen)?;
        Ok(records.into_vec())
    }

    /// Sorts them, and fails where two are of one key.
    fn check_unique(&self, records: &mut Records<Spot>, seen: &Seen) -> Result<(), Error> {
        match records.sort().windows(2).find(|pair| pair[0].id == pair[1].id) {
            Some(pair) => Err(self.twice(&pair[0], &pair[1], seen)),
            None => Ok(()),
        }
    }

    /// Reads the entry of a record: up to its value.
    pub fn open(&self, record: &Record<Spot>, seen: &Seen) -> Result<(FileReader, Entry), Error> {
        let Spot { offset, db, .. } = record.at;
        let place = Place { offset, magic: seen.magic, version: seen.version, db };
        let mut reader = self.file.reader_at(self.limits, place);
        match reader.next_item().map_err(|source| self.error(source, None))? {
            Some(Item::Entry(entry)) if id(entry.db, reader.key()) == record.id => Ok((reader, entry)),
            _ => Err(Error::Changed { path: self.file.path().to_owned() }),
        }
    }

    /// Hands on the elements of the value that the reader stands before.
    pub fn elements(
        &self,
        reader: &mut FileReader,
        db: u32,
        mut give: impl FnMut(Element<'_>),
    ) -> Result<(), Error> {
        let read = reader.decode_value(&mut |_, element| {
            give(element);
            if self.progress.is_over() { Err(Halt::Stopped) } else { Ok(()) }
        });
        read.map_err(|halt| match halt {
            Halt::Rdb(source) => self.error(source, Some((db, reader.key()))),
            Halt::Stopped => Error::Stopped,
        })
    }

    /// Reads the whole file, item by item, and checks that nothing follows.
    fn scan(&self, mut each: impl FnMut(&mut FileReader, Item) -> Result<(), Error>) -> Result<(), Error> {
        let mut reader = self.file.reader(self.limits);
        while let Some(item) = reader.next_item().map_err(|source| self.error(source, None))? {
            if self.progress.is_over() {
                return Err(Error::Stopped);
            }
            each(&mut reader, item)?;
        }
        let offset = reader.offset();
        match self.file.len().unwrap_or(offset).saturating_sub(offset) {
            0 => Ok(()),
            bytes => Err(Error::Trailing { path: self.file.path().to_owned(), offset, bytes }),
        }
    }

    /// The id of a key, and the digest of all that counts of it.
    fn digest(
        &self,
        reader: &mut FileReader,
        entry: &Entry,
        hasher: &mut KeyHasher,
    ) -> Result<(u128, u128), Error> {
        let id = id(entry.db, reader.key());
        hasher.start(reader.key(), entry.expiry_ms);
        self.elements(reader, entry.db, |element| hasher.element(&element))?;
        let digest = hasher.finish(entry.kind.data_type());
        let mut bytes = [0; 48];
        bytes[..16].copy_from_slice(&id.to_le_bytes());
        bytes[16..32].copy_from_slice(&digest.data.0.to_le_bytes());
        bytes[32..].copy_from_slice(&digest.expiries.0.to_le_bytes());
        Ok((id, xxh3_128(&bytes)))
    }

    fn add_function(&self, functions: &mut BTreeMap<Vec<u8>, Function>, code: &[u8]) -> Result<(), Error> {
        if functions.len() == FUNCTIONS_MAX {
            return Err(Error::Functions { path: self.file.path().to_owned(), limit: FUNCTIONS_MAX });
        }
        let kept = code[..code.len().min(CODE_BYTES_MAX)].to_vec();
        functions.insert(library(code), Function { hash: xxh3_128(code), len: code.len(), code: kept });
        Ok(())
    }

    #[cold]
    fn twice(&self, one: &Record<Spot>, other: &Record<Spot>, seen: &Seen) -> Error {
        let [first, second] = [one, other].map(|record| record.at.offset);
        match self.open(one, seen) {
            Ok((reader, entry)) => Error::Twice {
                path: self.file.path().to_owned(),
                at: At(Some((entry.db, reader.key().to_vec()))),
                first: first.min(second),
                second: first.max(second),
            },
            Err(error) => error,
        }
    }

    #[cold]
    pub fn error(&self, source: rdb::Error, at: Option<(u32, &[u8])>) -> Error {
        let at = At(at.map(|(db, key)| (db, key.to_vec())));
        match files::Error::taken_out_of(source) {
            Ok(error) => Error::File(error),
            Err(source) => Error::Rdb { path: self.file.path().to_owned(), at, source },
        }
    }
}

/// The name of a library, as the first line of its code says it: `#!lua name=mylib`.
///
/// Source: `functionExtractLibMetaData` in `src/functions.c`.
fn library(code: &[u8]) -> Vec<u8> {
    let line = code.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let mut words = line.split(u8::is_ascii_whitespace);
    let name = words.find_map(|word| word.strip_prefix(b"name="));
    // What names no library is known by its first line.
    name.unwrap_or(&line[..line.len().min(CODE_BYTES_MAX)]).to_vec()
}

//! One stretch of a file, checked: from a place between two items to the first such place at or behind another.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::counts::{Counts, Runs};
use super::report::{Finding, FindingKind};
use crate::digest::{KeyHasher, Keyspace};
use crate::files::{self, RdbFile};
use crate::rdb::{self, Again, Checked, Checker, Element, Entry, Input, Item, Limits, Place, Reader};

/// What a stretch holds. All of it can be added to what is known of the stretch before.
#[derive(Debug, Default)]
pub struct Segment {
    pub end: Option<End>,
    /// The CRC-64 of its bytes.
    pub sum: u64,
    pub counts: Counts,
    pub expired: u64,
    pub functions: u64,
    pub server: Option<String>,
    pub databases: BTreeMap<u32, Counts>,
    pub sizes: Vec<DatabaseSize>,
    pub runs: Runs,
    /// Of the databases and names of its keys.
    pub hashes: Vec<u64>,
    pub findings: Vec<Finding>,
    pub findings_not_kept: u64,
    /// Collections that had to be read again to see whether their names are distinct, and could not be.
    pub not_read_again: u64,
    /// Its keys added up; nothing where they cannot be.
    pub keyspace: Option<Keyspace>,
}

/// How a stretch ended.
#[derive(Debug)]
pub enum End {
    /// Where the next one begins.
    At(Place),
    /// With the end of the RDB, behind which is `offset`.
    Rdb { checksum: rdb::Checksum, offset: u64 },
    /// In the middle of something: what follows cannot be made sense of.
    Lost,
    /// The file could not be read on.
    Failed(files::Error),
    /// Nobody wants to know any more.
    Cancelled,
}

/// What a file says of a database.
#[derive(Clone, Copy, Debug)]
pub struct DatabaseSize {
    pub db: u32,
    pub counts: Counts,
    /// Behind what says so.
    pub offset: u64,
}

/// What is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// From where values can be read again; nothing for a pipe.
    pub file: Option<&'a RdbFile>,
    pub limits: Limits,
    pub now_ms: i64,
    pub findings_max: usize,
    /// Whether keys are added up.
    pub digest: bool,
}

/// Which of several plans a stretch belongs to: it is given up when another one holds.
#[derive(Debug)]
pub struct Plan<'a> {
    pub current: &'a AtomicU64,
    pub own: u64,
}

impl Plan<'_> {
    pub fn is_void(&self) -> bool {
        self.current.load(Ordering::Relaxed) != self.own
    }
}

/// What stands for a key of a database among its like.
#[inline]
pub fn hash(db: u32, key: &[u8]) -> u64 {
    xxh3_64_with_seed(key, u64::from(db))
}

/// Reads on until the first place at or behind `stop`.
pub fn check<I: Input>(
    reader: &mut Reader<I>,
    checker: &mut Checker,
    stop: u64,
    wanted: Wanted<'_>,
    plan: &Plan<'_>,
) -> Segment {
    let start = reader.place();
    let mut check = Check {
        segment: Segment::default(),
        wanted,
        checker,
        found: Vec::new(),
        db: None,
        in_db: Counts::default(),
    };
    let end = check.run(reader, stop, plan);
    let mut segment = check.done();
    if matches!(end, End::At(_) | End::Rdb { .. }) {
        segment.sum = reader.take_sum();
        segment.keyspace = start.and_then(|start| add_up(wanted, start, stop));
    }
    segment.end = Some(end);
    segment
}

struct Check<'a> {
    segment: Segment,
    wanted: Wanted<'a>,
    checker: &'a mut Checker,
    /// What was found in the value at hand.
    found: Vec<rdb::Finding>,
    /// The database of the last keys, and what is not yet in `segment.databases` of it.
    db: Option<u32>,
    in_db: Counts,
}

impl Check<'_> {
    fn run<I: Input>(&mut self, reader: &mut Reader<I>, stop: u64, plan: &Plan<'_>) -> End {
        loop {
            if let Some(place) = reader.place()
                && place.offset >= stop
            {
                return End::At(place);
            }
            if plan.is_void() {
                return End::Cancelled;
            }
            let result = match reader.next_item() {
                Ok(Some(Item::Entry(entry))) => self.entry(reader, &entry),
                Ok(Some(Item::End { checksum })) => return End::Rdb { checksum, offset: reader.offset() },
                Ok(Some(item)) => {
                    reader.place().into_iter().for_each(|place| self.item(&item, place));
                    Ok(())
                }
                Ok(None) => return End::Lost,
                Err(error) => Err((error, None)),
            };
            if let Err((error, entry)) = result
                && let Some(end) = self.error(error, entry, reader)
            {
                return end;
            }
        }
    }

    #[inline]
    fn entry<I: Input>(
        &mut self,
        reader: &mut Reader<I>,
        entry: &Entry,
    ) -> Result<(), (rdb::Error, Option<Entry>)> {
        if self.db != Some(entry.db) {
            self.change_db(entry.db);
        }
        let expires = u64::from(entry.expiry_ms.is_some());
        self.in_db.keys += 1;
        self.in_db.expires += expires;
        self.segment.runs.key(expires);
        if let Some(at) = entry.expiry_ms {
            self.segment.expired += u64::from(at <= self.wanted.now_ms);
        }
        self.segment.hashes.push(hash(entry.db, reader.key()));
        self.value(reader, entry.db).map_err(|error| (error, Some(*entry)))
    }

    /// Checks the structure of the current value. An error means that its end was not found.
    #[inline]
    fn value<I: Input>(&mut self, reader: &mut Reader<I>, db: u32) -> Result<(), rdb::Error> {
        let found = &mut self.found;
        let checked = reader.check_value(self.checker, &mut |finding| found.push(finding));
        let again = match checked {
            Ok(Checked { again, .. }) => again.map_or(Ok(()), |again| self.again(reader, again)),
            Err(error) => Err(error),
        };
        if !self.found.is_empty() {
            for finding in std::mem::take(&mut self.found) {
                let kind = FindingKind::In(finding.kind);
                self.keep(Finding::at(kind, finding.offset, finding.message).of(db, reader.key()));
            }
        }
        again
    }

    /// Reads a value again, as often as it takes to know whether its names are distinct.
    #[cold]
    fn again<I: Input>(&mut self, reader: &Reader<I>, again: Again) -> Result<(), rdb::Error> {
        let (Some(file), Some(place)) = (self.wanted.file, reader.entry_place()) else {
            self.segment.not_read_again += 1;
            return Ok(());
        };
        let mut again = Some(again);
        while let Some(next) = again {
            let mut reader = file.reader_at(self.wanted.limits, place);
            reader.next_item()?;
            let found = &mut self.found;
            again = reader.check_again(self.checker, &next, &mut |finding| found.push(finding))?.again;
        }
        Ok(())
    }

    fn item(&mut self, item: &Item, place: Place) {
        match item {
            Item::Aux { key, value } if key == b"redis-ver" || key == b"valkey-ver" => {
                let name = if key == b"redis-ver" { "redis" } else { "valkey" };
                self.segment.server = Some(format!("{name} {}", String::from_utf8_lossy(value)));
            }
            Item::Function(_) => self.segment.functions += 1,
            &Item::ResizeDb { db, keys, expires } => {
                self.segment.sizes.push(DatabaseSize {
                    db,
                    counts: Counts { keys, expires },
                    offset: place.offset,
                });
            }
            &Item::SlotInfo { slot, keys, expires } => {
                let findings = self.segment.runs.slot(place.db, slot, Counts { keys, expires }, place.offset);
                findings.into_iter().for_each(|finding| self.keep(finding));
            }
            _ => {}
        }
    }

    /// How the stretch ends by `error`, if it does.
    fn error<I: Input>(
        &mut self,
        error: rdb::Error,
        entry: Option<Entry>,
        reader: &Reader<I>,
    ) -> Option<End> {
        let error = match files::Error::taken_out_of(error) {
            Ok(failed) => return Some(End::Failed(failed)),
            Err(error) => error,
        };
        let finding = Finding::from_error(&error);
        self.keep(match entry {
            Some(entry) => finding.of(entry.db, reader.key()),
            None => finding,
        });
        Some(End::Lost)
    }

    fn keep(&mut self, finding: Finding) {
        match self.segment.findings.len() < self.wanted.findings_max {
            true => self.segment.findings.push(finding),
            false => self.segment.findings_not_kept += 1,
        }
    }

    #[cold]
    fn change_db(&mut self, db: u32) {
        self.put_down();
        self.db = Some(db);
        let findings = self.segment.runs.key_in(db);
        findings.into_iter().for_each(|finding| self.keep(finding));
    }

    fn put_down(&mut self) {
        if let Some(db) = self.db {
            self.segment.databases.entry(db).or_default().add(std::mem::take(&mut self.in_db));
        }
    }

    fn done(mut self) -> Segment {
        self.put_down();
        self.segment.counts = self.segment.databases.values().fold(Counts::default(), |mut all, counts| {
            all.add(*counts);
            all
        });
        self.segment
    }
}

/// The keys from `start` to `stop` added up; nothing where that is not wanted, or some value cannot be decoded.
fn add_up(wanted: Wanted<'_>, start: Place, stop: u64) -> Option<Keyspace> {
    let file = wanted.file.filter(|_| wanted.digest)?;
    let mut keyspace = Keyspace::new(wanted.now_ms);
    let mut hasher = KeyHasher::new();
    let mut reader = file.reader_at(wanted.limits, start);
    while reader.place().is_none_or(|place| place.offset < stop) {
        match reader.next_item().ok()? {
            Some(Item::Entry(entry)) => {
                hasher.start(reader.key(), entry.expiry_ms);
                let add = &mut |_: &[u8], element: Element<'_>| {
                    hasher.element(&element);
                    Ok::<_, rdb::Error>(())
                };
                reader.decode_value(add).ok()?;
                keyspace.add(entry.db, reader.key(), &hasher.finish(entry.kind.data_type()));
            }
            Some(Item::Function(code)) => keyspace.add_function(&code),
            Some(_) => {}
            None => break,
        }
    }
    Some(keyspace)
}

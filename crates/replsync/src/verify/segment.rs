//! One stretch of a file, checked: from a place between two items to the first such place at or behind another.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::counts::{Counts, Runs};
use super::report::{Finding, FindingKind};
use crate::files;
use crate::rdb::{self, Entry, Input, Item, Place, Reader};

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
pub struct Wanted {
    pub now_ms: i64,
    pub findings_max: usize,
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
pub fn check<I: Input>(reader: &mut Reader<I>, stop: u64, wanted: Wanted, plan: &Plan<'_>) -> Segment {
    let mut check = Check { segment: Segment::default(), wanted, db: None, in_db: Counts::default() };
    let end = check.run(reader, stop, plan);
    let Check { mut segment, .. } = check.done();
    if matches!(end, End::At(_) | End::Rdb { .. }) {
        segment.sum = reader.take_sum();
    }
    segment.end = Some(end);
    segment
}

struct Check {
    segment: Segment,
    wanted: Wanted,
    /// The database of the last keys, and what is not yet in `segment.databases` of it.
    db: Option<u32>,
    in_db: Counts,
}

impl Check {
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
            if at < 0 {
                let message = format!("the key expires at {at} ms, before 1970");
                self.keep(Finding::at(FindingKind::Expiry, entry.offset, message).of(entry.db, reader.key()));
            }
        }
        self.segment.hashes.push(hash(entry.db, reader.key()));
        check_value(reader).map_err(|error| (error, Some(*entry)))
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

    fn done(mut self) -> Self {
        self.put_down();
        self.segment.counts = self.segment.databases.values().fold(Counts::default(), |mut all, counts| {
            all.add(*counts);
            all
        });
        self
    }
}

/// Checks the structure of the current value. An error means that its end was not found, either.
#[inline]
fn check_value<I: Input>(reader: &mut Reader<I>) -> Result<(), rdb::Error> {
    reader.decode_value::<rdb::Error>(&mut |_, _| Ok(()))
}

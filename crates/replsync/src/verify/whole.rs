//! What is known of a file from its start on, stretch by stretch.

use std::collections::BTreeMap;

use super::Options;
use super::counts::{Counts, Runs};
use super::duplicates::Hashes;
use super::report::{Checksum, Finding, FindingKind, Report};
use super::segment::{DatabaseSize, End, Segment};
use crate::checksum::combine;
use crate::digest::Keyspace;
use crate::rdb::{self, Place};

/// Of more databases than these no sizes are kept (servers have 16 by default).
const DATABASES_MAX: usize = 65_536;
/// So many places are kept at most, from which several threads can read the file again.
const PLACES_MAX: usize = 4_096;

/// What is known up to a place.
#[derive(Debug)]
pub struct Whole {
    pub report: Report,
    pub hashes: Hashes,
    /// Places at which stretches began, far apart in large files.
    pub places: Vec<Place>,
    place_every: u64,
    /// The checksum of the file up to here.
    pub sum: u64,
    /// Behind the end of the RDB, once that is reached.
    pub rdb_end: Option<u64>,
    /// Whether the keys were read to the last one.
    pub complete: bool,
    databases: BTreeMap<u32, Counts>,
    too_many_databases: bool,
    sizes: Vec<DatabaseSize>,
    runs: Runs,
    findings_max: usize,
    /// Collections whose names were not compared.
    not_read_again: u64,
    /// Nothing as soon as something cannot be added.
    keyspace: Option<Keyspace>,
}

impl Whole {
    pub fn new(report: Report, options: &Options) -> Self {
        Self {
            report,
            hashes: Hashes::new(options.key_hashes_bytes()),
            places: Vec::new(),
            place_every: 1,
            sum: 0,
            rdb_end: None,
            complete: false,
            databases: BTreeMap::new(),
            too_many_databases: false,
            sizes: Vec::new(),
            runs: Runs::default(),
            findings_max: options.findings_max,
            not_read_again: 0,
            keyspace: Some(Keyspace::new(options.now_ms)),
        }
    }

    /// Appends the stretch from `start` on. Where the next one begins, if there is one.
    pub fn append(&mut self, start: Place, segment: Segment) -> Option<Place> {
        let Segment { end, sum, counts, databases, sizes, runs, hashes, keyspace, .. } = segment;
        self.report.keys += counts.keys;
        self.report.expires += counts.expires;
        self.report.expired += segment.expired;
        self.report.functions += segment.functions;
        self.report.server = self.report.server.take().or(segment.server);
        self.hashes.extend(&hashes);
        self.not_read_again += segment.not_read_again;
        self.keyspace = match (self.keyspace.take(), keyspace) {
            (Some(mut all), Some(more)) => {
                all.merge(&more);
                Some(all)
            }
            _ => None,
        };
        self.databases(databases, sizes);
        if let Some(finding) = self.runs.append(runs) {
            self.keep(finding);
        }
        segment.findings.into_iter().for_each(|finding| self.keep(finding));
        self.report.findings_not_kept += segment.findings_not_kept;
        self.place(start);
        match end {
            Some(End::At(next)) => {
                self.sum = combine(self.sum, sum, next.offset.saturating_sub(start.offset));
                Some(next)
            }
            Some(End::Rdb { checksum, offset }) => {
                let trailer = if segment_has_trailer(start) { 8 } else { 0 };
                let len = offset.saturating_sub(start.offset).saturating_sub(trailer);
                self.sum = combine(self.sum, sum, len);
                self.end(checksum, offset, trailer);
                None
            }
            Some(End::Failed(error)) => {
                self.report.failed = Some(error);
                None
            }
            Some(End::Lost | End::Cancelled) | None => None,
        }
    }

    fn end(&mut self, checksum: rdb::Checksum, offset: u64, trailer: u64) {
        (self.rdb_end, self.complete) = (Some(offset), true);
        self.report.keyspace = self.keyspace.take();
        if self.not_read_again > 0 {
            let number = self.not_read_again;
            self.report.not_checked.push(format!(
                "whether all names in {number} large collections are distinct: a pipe cannot be read again; raise the \
                 bound, or verify the file"
            ));
        }
        self.report.checksum = match checksum {
            rdb::Checksum::None => Checksum::None,
            rdb::Checksum::Verified => Checksum::Verified,
            rdb::Checksum::NotSummed(found) if found == self.sum => Checksum::Verified,
            rdb::Checksum::NotSummed(found) => {
                self.keep(Finding::checksum(self.sum, found, offset.saturating_sub(trailer)));
                Checksum::Differs
            }
        };
        if let Some(finding) = self.runs.end() {
            self.keep(finding);
        }
        self.check_sizes();
    }

    fn databases(&mut self, databases: BTreeMap<u32, Counts>, sizes: Vec<DatabaseSize>) {
        for (db, counts) in databases {
            if self.databases.len() >= DATABASES_MAX && !self.databases.contains_key(&db) {
                self.too_many_databases = true;
                continue;
            }
            self.databases.entry(db).or_default().add(counts);
        }
        match self.sizes.len() + sizes.len() <= DATABASES_MAX {
            true => self.sizes.extend(sizes),
            false => self.too_many_databases = true,
        }
    }

    /// Every database against what is said of it; said several times, the last time counts, as it does for nobody:
    /// servers say it once.
    fn check_sizes(&mut self) {
        if self.too_many_databases {
            let what = format!("sizes of databases: there are more than {DATABASES_MAX}");
            return self.report.not_checked.push(what);
        }
        let mut findings = Vec::new();
        for size in &self.sizes {
            let counted = self.databases.get(&size.db).copied().unwrap_or_default();
            let what = format!("database {}", size.db);
            let finding = counted.compared(size.counts, FindingKind::DatabaseSize, &what, size.offset);
            findings.extend(finding.map(|finding| Finding { db: Some(size.db), ..finding }));
        }
        findings.into_iter().for_each(|finding| self.keep(finding));
    }

    fn place(&mut self, start: Place) {
        let far_enough = |last: &Place| start.offset.saturating_sub(last.offset) >= self.place_every;
        if self.places.last().is_none_or(far_enough) {
            self.places.push(start);
        }
        if self.places.len() >= PLACES_MAX {
            let mut at = 0;
            self.places.retain(|_| {
                at += 1;
                at % 2 == 1
            });
            let first = self.places.first().map_or(0, |place| place.offset);
            let halves = self.places.len().max(1) as u64;
            self.place_every = start.offset.saturating_sub(first) / halves;
        }
    }

    pub fn keep(&mut self, finding: Finding) {
        match self.report.findings.len() < self.findings_max {
            true => self.report.findings.push(finding),
            false => self.report.findings_not_kept += 1,
        }
    }
}

/// Whether a checksum stands behind the end of the RDB.
fn segment_has_trailer(place: Place) -> bool {
    place.version >= 5
}

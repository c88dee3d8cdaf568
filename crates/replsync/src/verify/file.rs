//! One file, from its header to what is behind its end.

use std::io::Read;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::duplicates::{Hashes, Names};
use super::report::{Finding, FindingKind, Report};
use super::scout::SEGMENT_BYTES;
use super::segment::{Plan, Wanted, check, hash};
use super::whole::Whole;
use super::{Options, Progress, chain};
use crate::files::{Error, RdbFile, Stream};
use crate::rdb::{self, Buffered, Checker, Input, Item, Place, Reader};

/// Verifies an open file.
pub fn verify(file: &RdbFile, report: Report, options: &Options, progress: &Progress) -> Report {
    let bytes = file.len().unwrap_or(0);
    let report = Report { bytes, remote: file.file_system().remote(), passes: 1, ..report };
    let mut whole = Whole::new(report, options);
    let again = file.uncounted();
    let mut reader = file.reader(options.limits);
    let Some(start) = read_header(&mut reader, &mut whole) else { return whole.report };
    let wanted = Wanted {
        file: file.len().map(|_| &again),
        limits: options.limits,
        now_ms: options.now_ms,
        findings_max: options.findings_max,
        digest: options.digest,
    };
    match file.len() {
        Some(len) => {
            if options.jobs > 1 && len > 2 * SEGMENT_BYTES {
                chain::check_over(file, wanted, start, options, &mut whole);
            } else {
                check_in_order(&mut reader, &mut options.checker(), wanted, start, &mut whole);
            }
            look_behind_the_end(file, len, &mut whole);
            if whole.report.failed.is_none() && !whole.report.is_aof {
                Duplicates { file, options, progress }.find(&mut whole);
            }
        }
        None => {
            check_in_order(&mut reader, &mut options.checker(), wanted, start, &mut whole);
            whole.report.bytes = reader.offset();
            drain(reader.into_input(), &mut whole);
            judge_hashes(&mut whole);
            if options.digest {
                let what = "the digest: a pipe is read once only; the command digest takes it";
                whole.report.not_checked.push(what.to_owned());
            }
        }
    }
    whole.report.findings.sort_by_key(|finding| finding.offset);
    whole.report
}

/// Where the items begin, if there are any.
fn read_header(reader: &mut Reader<Buffered<Stream>>, whole: &mut Whole) -> Option<Place> {
    match reader.next_item() {
        Ok(Some(Item::Header { magic, version })) => {
            whole.report.version = Some((magic, version));
            let place = reader.place()?;
            whole.sum = reader.take_sum();
            Some(place)
        }
        Ok(_) => None,
        Err(error) => {
            match Error::taken_out_of(error) {
                Ok(failed) => whole.report.failed = Some(failed),
                // A command, or the first line of a manifest.
                Err(rdb::Error::BadMagic { found })
                    if found.starts_with('*') || found.starts_with("file ") =>
                {
                    whole.report.is_aof = true;
                }
                Err(error) => whole.keep(Finding::from_error(&error)),
            }
            None
        }
    }
}

fn check_in_order<I: Input>(
    reader: &mut Reader<I>,
    checker: &mut Checker,
    wanted: Wanted<'_>,
    start: Place,
    whole: &mut Whole,
) {
    let plan = Plan { current: &AtomicU64::new(0), own: 0 };
    let mut start = start;
    loop {
        let segment = check(reader, checker, start.offset.saturating_add(SEGMENT_BYTES), wanted, &plan);
        match whole.append(start, segment) {
            Some(next) => start = next,
            None => return,
        }
    }
}

fn look_behind_the_end(file: &RdbFile, len: u64, whole: &mut Whole) {
    let Some(end) = whole.rdb_end.filter(|end| *end < len) else { return };
    let mut first = Vec::new();
    // What cannot be read is behind the end all the same.
    let _ = file.uncounted().stream(end).take(16).read_to_end(&mut first);
    behind_the_end(whole, end, len - end, &first);
}

/// Reads a pipe to its end, so that whoever writes to it is not cut off.
fn drain(input: Buffered<Stream>, whole: &mut Whole) {
    let (mut stream, mut rest) = input.into_parts();
    let first: Vec<u8> = rest.drain(..rest.len().min(16)).collect();
    let mut len = (first.len() + rest.len()) as u64;
    rest.resize(128 * 1024, 0);
    if whole.report.failed.is_none() {
        while let Ok(read @ 1..) = stream.read(&mut rest) {
            len += read as u64;
        }
    }
    whole.report.bytes += len;
    if let Some(end) = whole.rdb_end.filter(|_| len > 0) {
        behind_the_end(whole, end, len, &first);
    }
}

/// Commands behind an RDB make an AOF of it.
fn behind_the_end(whole: &mut Whole, end: u64, len: u64, first: &[u8]) {
    if let [b'*', b'1'..=b'9', ..] = first {
        whole.report.is_aof = true;
        return;
    }
    let (bytes, begins) = (if len == 1 { "byte follows" } else { "bytes follow" }, first.escape_ascii());
    let message = format!("{len} {bytes} the end of the RDB; they begin with \"{begins}\"");
    whole.keep(Finding::at(FindingKind::AfterEnd, end, message));
}

/// Of a pipe there are hashes of names only.
fn judge_hashes(whole: &mut Whole) {
    let (_, surplus) = whole.hashes.repeated(1, 0);
    if surplus > 0 {
        let message = format!(
            "{surplus} keys are a second time in their database, by a hash of their names; a pipe cannot be read again \
             to name them: verify the file"
        );
        let finding = Finding::at(FindingKind::DuplicateKey, 0, message);
        whole.keep(Finding { offset: None, ..finding });
    }
    if !whole.hashes.is_all() {
        whole.report.not_checked.push(
            "whether keys are twice in a database, of all whose hashes did not fit: a pipe cannot be read again; raise \
             the bound, or verify the file"
                .to_owned(),
        );
    }
}

/// The search for keys that are twice in a database.
struct Duplicates<'a> {
    file: &'a RdbFile,
    options: &'a Options,
    progress: &'a Progress,
}

impl Duplicates<'_> {
    fn find(&self, whole: &mut Whole) {
        let max = self.options.findings_max;
        let (mut repeated, mut surplus) = whole.hashes.repeated(self.options.jobs, max + 1);
        while whole.complete && whole.hashes.next_range(whole.report.keys) {
            whole.report.passes += 1;
            if let Err(failed) = self.read_hashes(&whole.places, &mut whole.hashes) {
                whole.report.failed = Some(failed);
                return;
            }
            let (more, more_surplus) = whole.hashes.repeated(self.options.jobs, max + 1);
            repeated.extend(more);
            surplus += more_surplus;
        }
        if !whole.complete && !whole.hashes.is_all() {
            let what = "whether keys are twice in a database: the file cannot be read to its end";
            whole.report.not_checked.push(what.to_owned());
        }
        if surplus > 0 {
            whole.report.passes += 1;
            self.name(whole, &repeated, surplus);
        }
    }

    /// Looks at the names behind equal hashes. Where there are more than can be kept, the others count by their hash.
    fn name(&self, whole: &mut Whole, repeated: &[u64], surplus: u64) {
        let max = self.options.findings_max;
        let named = repeated.get(..max).unwrap_or(repeated);
        let mut names = Names::new(named, max);
        let Some(first) = whole.places.first().copied() else { return };
        let read = self.keys(first, u64::MAX, &mut |hash, db, key, offset| names.key(hash, db, key, offset));
        if let Err(failed) = read {
            whole.report.failed = Some(failed);
        }
        let confirmed = names.findings.len() as u64 + names.not_kept;
        whole.report.findings_not_kept += names.not_kept;
        if named.len() < repeated.len() {
            whole.report.findings_not_kept += surplus.saturating_sub(confirmed);
        }
        names.findings.into_iter().for_each(|finding| whole.keep(finding));
    }

    /// Reads the file again for the hashes in the range, several threads from several places.
    fn read_hashes(&self, places: &[Place], hashes: &mut Hashes) -> Result<(), Error> {
        let (shared, next, failed) = (Mutex::new(hashes), AtomicUsize::new(0), Mutex::new(None));
        let work = || {
            let mut some = Vec::with_capacity(HASHES_AT_ONCE);
            let put = |some: &mut Vec<u64>| {
                shared.lock().unwrap_or_else(PoisonError::into_inner).extend(some);
                some.clear();
            };
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(place) = places.get(at) else { break };
                let stop = places.get(at + 1).map_or(u64::MAX, |place| place.offset);
                let read = self.keys(*place, stop, &mut |hash, _, _, _| {
                    some.push(hash);
                    if some.len() == HASHES_AT_ONCE {
                        put(&mut some);
                    }
                });
                if let Err(error) = read {
                    *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    break;
                }
            }
            put(&mut some);
        };
        self.progress.expect(self.file.len().unwrap_or(0));
        std::thread::scope(|scope| {
            (1..self.options.jobs).for_each(|_| {
                scope.spawn(work);
            });
            work();
        });
        match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Shows the keys between two places, up to where the file cannot be read any further.
    fn keys(&self, from: Place, stop: u64, show: &mut impl FnMut(u64, u32, &[u8], u64)) -> Result<(), Error> {
        let mut reader = self.file.reader_at(self.options.limits, from);
        loop {
            match reader.next_item() {
                Ok(Some(Item::Entry(entry))) if entry.offset < stop => {
                    show(hash(entry.db, reader.key()), entry.db, reader.key(), entry.offset);
                }
                Ok(Some(Item::Entry(_) | Item::End { .. }) | None) => return Ok(()),
                Ok(Some(_)) => {}
                Err(error) => return Error::taken_out_of(error).map_or(Ok(()), Err),
            }
        }
    }
}

const HASHES_AT_ONCE: usize = 16 * 1024;

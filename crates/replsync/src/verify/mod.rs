//! RDB files verified: whether a file is what a server would write and load, and where it is not.
//!
//! [`verify`] reads a file once, checks the structure of every value, counts keys against what the file says of its
//! databases and slots, sums its bytes, and looks behind its end. Keys that are twice in a database are found exactly;
//! where the hashes of all names do not fit into [`Options::duplicates_bytes`], the file is read again, as often as it
//! takes. With several threads, what is found is the same and in the same order.
//!
//! ```text
//! scout ──places──► segments, one a thread ──in the order of the file──► whole ──► duplicates ──► report
//! ```

mod chain;
mod counts;
mod duplicates;
mod file;
mod report;
mod scout;
mod segment;
mod whole;

use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

pub use report::{Checksum, Finding, FindingKind, Report};

use crate::files::RdbFile;
use crate::rdb::{Checker, Limits};

/// How to verify.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many threads work on one file: as many as there are cores.
    pub jobs: usize,
    /// How much memory the search for what must not be there twice may take, in bytes, 8 for a name: 128 MiB. Half of it
    /// is for keys (8 million at once), half for fields and members, each thread's part of it.
    pub duplicates_bytes: usize,
    /// Whether the keyspace is added up, too: its digest. It takes about as long again.
    pub digest: bool,
    /// How many findings are kept; the rest is counted. 1,000.
    pub findings_max: usize,
    /// What counts as expired, in milliseconds since the epoch.
    pub now_ms: i64,
    /// What a file may ask for.
    pub limits: Limits,
}

impl Options {
    /// The defaults, at this time.
    pub fn at(now_ms: i64) -> Self {
        Self {
            jobs: std::thread::available_parallelism().map_or(1, Into::into),
            duplicates_bytes: 128 * 1024 * 1024,
            digest: false,
            findings_max: 1000,
            now_ms,
            limits: Limits::default(),
        }
    }

    fn key_hashes_bytes(&self) -> usize {
        self.duplicates_bytes / 2
    }

    fn checker(&self) -> Checker {
        Checker::new(self.duplicates_bytes / 2 / self.jobs.max(1))
    }
}

/// How far verifications are, for whoever looks from another thread.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes of the files that are done, or of passes over them.
    done: AtomicU64,
    /// Bytes to read, as far as is known.
    total: AtomicU64,
    under_way: Mutex<Vec<RdbFile>>,
}

impl Progress {
    /// Adds to what is to be read.
    pub fn expect(&self, bytes: u64) {
        self.total.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes read, and to be read.
    pub fn bytes(&self) -> (u64, u64) {
        let files = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let reading: u64 = files.iter().map(RdbFile::read_bytes).sum();
        (self.done.load(Ordering::Relaxed) + reading, self.total.load(Ordering::Relaxed))
    }

    fn start(&self, file: &RdbFile) {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).push(file.clone());
    }

    fn end(&self, file: &RdbFile) {
        let mut files = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = files.iter().position(|other| other.is_same(file)) {
            files.swap_remove(at);
            self.done.fetch_add(file.read_bytes(), Ordering::Relaxed);
        }
    }
}

/// Files from this length on have all threads to themselves.
const LARGE_BYTES: u64 = 16 * 1024 * 1024;

/// Verifies several files, `-` for standard input among them: small ones one a thread, then large ones one after the
/// other, each over all threads. A report for each, in their order; what cannot be read is in it, too.
pub fn verify_all(paths: &[PathBuf], options: &Options, progress: &Progress) -> Vec<Report> {
    let lens: Vec<Option<u64>> = paths
        .iter()
        .map(|path| std::fs::metadata(path).ok().filter(Metadata::is_file).map(|metadata| metadata.len()))
        .collect();
    lens.iter().flatten().for_each(|len| progress.expect(*len));
    let is_small = |at: usize| lens.get(at).copied().flatten().is_some_and(|len| len < LARGE_BYTES);
    let (small, large): (Vec<usize>, Vec<usize>) = (0..paths.len()).partition(|at| is_small(*at));
    let threads = options.jobs.clamp(1, small.len().max(1));
    let one_thread =
        Options { jobs: 1, duplicates_bytes: options.duplicates_bytes / threads, ..options.clone() };
    let (next, reports) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(&at) = small.get(next.fetch_add(1, Ordering::Relaxed))
            && let Some(path) = paths.get(at)
        {
            let report = verify(path, &one_thread, progress);
            reports.lock().unwrap_or_else(PoisonError::into_inner).push((at, report));
        }
    };
    std::thread::scope(|scope| {
        (1..threads).for_each(|_| {
            scope.spawn(work);
        });
        work();
    });
    let mut reports = reports.into_inner().unwrap_or_else(PoisonError::into_inner);
    let large = large.into_iter().filter_map(|at| paths.get(at).map(|path| (at, path)));
    reports.extend(large.map(|(at, path)| (at, verify(path, options, progress))));
    reports.sort_by_key(|(at, _)| *at);
    reports.into_iter().map(|(_, report)| report).collect()
}

/// Verifies the file at `path`; `-` is standard input. What cannot be read is in the report, too.
pub fn verify(path: &Path, options: &Options, progress: &Progress) -> Report {
    let began = Instant::now();
    let report = Report { path: path.to_owned(), ..Report::default() };
    let file = match RdbFile::open(path) {
        Ok(file) => file,
        Err(error) => return Report { failed: Some(error), ..report },
    };
    progress.start(&file);
    let mut report = file::verify(&file, report, options, progress);
    progress.end(&file);
    // What is wrong with a file that was written to meanwhile may be right now.
    if report.failed.is_none() {
        report.failed = file.check_unchanged().err();
    }
    Report { took: began.elapsed(), ..report }
}

#[cfg(test)]
mod tests;

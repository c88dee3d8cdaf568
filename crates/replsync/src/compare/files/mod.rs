//! Two RDB files of any versions, compared key by key, in bounded memory whatever their size and order.
//!
//! ```text
//! pass 1   both files, each on a thread ► the digest of each key is added to one of 262,144 buckets
//!          all buckets equal: the same keys, the end
//! pass 2…  both files again, keys of buckets that differ only ► id, digest, offset of each, by id ► who lacks what, what differs
//! then     the entries of what differs, at their offsets ► what differs, down to the element
//! ```
//!
//! What counts is what the [room](super) says; unlike those of a live server, keys and fields count although their
//! expiry has passed, as they do in a server's own dump. A key or an element is known by a hash of 128 bits, which guards
//! against accidents, not against somebody who makes files that collide.
//!
//! **What it costs.** Memory for the buckets of both files (10 MiB), for one string of each file at a time, and
//! [`Options::memory_bytes`]: half of that for keys in buckets that differ, half for the elements of a value that does.
//! What does not fit is read in more passes. Few differences are found in two passes, however large the files are.
//!
//! A key that comes twice in a file, which no server loads, is an [error](Error::Twice) where it is seen: in a bucket
//! that differs.

mod difference;
mod error;
mod narrow;
mod progress;
mod side;
mod value;

use std::io;

pub use difference::{Difference, ElementDifference, TextDifference};
pub use error::{At, Error};
pub use progress::{Pass, Progress};

use super::text;
use super::{Kind, Side as Which};
use crate::files::RdbFile;
use crate::rdb::{DataType, Limits, Magic};
use difference::{expiries, file};
use narrow::{Match, Plan, Record};
use side::{Seen, Side, Spot};
use value::Values;

/// Differences are handed on by database and key as long as they take no more than this; then they come in batches.
const SORTED_BYTES: usize = 16 << 20;

/// In less memory a large file would be read thousands of times.
const MEMORY_BYTES_MIN: u64 = 64 * 1024;

/// How to compare.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// What may be held of keys and elements that may differ: 64 KiB at least. More makes fewer passes.
    pub memory_bytes: u64,
    /// So many elements of a key are named at most; more are counted.
    pub elements_max: usize,
    /// So many differing keys are named at most; more are counted.
    pub keys_max: u64,
    /// What the files may ask for.
    pub limits: Limits,
    /// Keys that expire by then are counted as expired.
    pub now_ms: i64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            memory_bytes: 256 << 20,
            elements_max: 10,
            keys_max: u64::MAX,
            limits: Limits::default(),
            now_ms: crate::clock::now_signed_ms(),
        }
    }
}

impl Options {
    /// So many keys, or elements of a value, may be held.
    fn records_max<T>(&self) -> u64 {
        self.memory_bytes.max(MEMORY_BYTES_MIN) / 2 / size_of::<Record<T>>() as u64
    }
}

/// What was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Keys that are the same in both files.
    pub same: u64,
    /// Keys of both files that differ.
    pub different: u64,
    /// Keys that only B has.
    pub missing_in_a: u64,
    /// Keys that only A has.
    pub missing_in_b: u64,
    /// Function libraries that differ.
    pub functions: u64,
    /// Differing keys that were counted and not named, since there were more than [`Options::keys_max`].
    pub not_named: u64,
    /// The two files.
    pub files: [FileSummary; 2],
    /// How often both files were read.
    pub passes: usize,
}

/// What is in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileSummary {
    /// The family of its format.
    pub magic: Option<Magic>,
    /// The version of its format.
    pub rdb_version: u16,
    /// Whether it has a checksum (which fits then).
    pub has_checksum: bool,
    /// Its keys.
    pub keys: u64,
    /// Those whose expiry has passed.
    pub expired: u64,
    /// Fields of module data outside the keyspace, which are not compared.
    pub module_aux: u64,
}

impl Summary {
    /// Whether nothing differs.
    pub fn is_equal(&self) -> bool {
        self.different + self.missing_in_a + self.missing_in_b + self.functions == 0
    }
}

/// Compares two files. Every difference goes to `sink`: function libraries first, then by database and key (in batches,
/// each sorted, when there are more than fit into 16 MiB). The memory it may use changes nothing in what is said.
///
/// # Errors
/// Whatever keeps the files from being compared to their ends. Differences that the sink was given are right even so.
pub fn compare(
    a: &RdbFile,
    b: &RdbFile,
    options: &Options,
    progress: &Progress,
    sink: &mut dyn FnMut(&Difference) -> io::Result<()>,
) -> Result<Summary, Error> {
    for file in [a, b] {
        if file.len().is_none() {
            return Err(Error::NotRegular { path: file.path().to_owned() });
        }
    }
    let result = read_and_compare([a, b], options, progress, sink);
    if !matches!(result, Err(Error::Stopped | Error::Output(_))) {
        // That a file was written to explains whatever was found in it.
        a.check_unchanged()?;
        b.check_unchanged()?;
    }
    result
}

fn read_and_compare(
    files: [&RdbFile; 2],
    options: &Options,
    progress: &Progress,
    sink: &mut dyn FnMut(&Difference) -> io::Result<()>,
) -> Result<Summary, Error> {
    let Options { limits, now_ms, .. } = *options;
    let sides = files.map(|file| Side { file, limits, now_ms, progress });
    progress.begin(1, 1);
    let seen = both(progress, &sides, |_, side| side.first_pass())?;
    let summary = Summary { passes: 1, files: [0, 1].map(|side| seen[side].summary()), ..Summary::default() };
    let [seen_a, seen_b] = &seen;
    let found = Found { options, progress, sink, summary, named: 0, waiting: Vec::new(), waiting_bytes: 0 };
    Comparison { sides, seen: [seen_a, seen_b], found }.run()
}

/// Reads both files at the same time.
fn both<T: Send>(
    progress: &Progress,
    sides: &[Side<'_>; 2],
    read: impl Fn(usize, &Side<'_>) -> Result<T, Error> + Sync,
) -> Result<[T; 2], Error> {
    let read = |side: usize| read(side, &sides[side]).inspect_err(|_| progress.fail());
    let (a, b) = std::thread::scope(|scope| {
        let other = scope.spawn(|| read(1));
        (read(0), other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    match (a, b) {
        (Ok(a), Ok(b)) => Ok([a, b]),
        // The one that was only told to stop does not know why.
        (Err(Error::Stopped), Err(error)) | (Err(error), _) | (_, Err(error)) => Err(error),
    }
}

impl Seen {
    fn summary(&self) -> FileSummary {
        FileSummary {
            magic: Some(self.magic),
            rdb_version: self.version,
            has_checksum: self.has_checksum,
            keys: self.sums.count,
            expired: self.expired,
            module_aux: self.module_aux,
        }
    }
}

struct Comparison<'a> {
    sides: [Side<'a>; 2],
    seen: [&'a Seen; 2],
    found: Found<'a>,
}

impl Comparison<'_> {
    fn run(mut self) -> Result<Summary, Error> {
        let progress = self.found.progress;
        self.functions()?;
        let records_max = self.found.options.records_max::<Spot>();
        let plan = Plan::new(&self.seen[0].sums, &self.seen[1].sums, records_max);
        let passes = 1 + plan.shares().len();
        for (share, pass) in plan.shares().iter().zip(2..) {
            progress.begin(pass, passes);
            let records = both(progress, &self.sides, |side, reading| {
                reading.records((&plan, share), (share.counts[side], records_max), self.seen[side])
            })?;
            narrow::unlike(&records[0], &records[1], |found| self.key(found))?;
        }
        self.found.flush()?;
        let mut summary = self.found.summary;
        let [a, b] = summary.files.map(|file| file.keys);
        summary.passes = passes;
        summary.same = a.saturating_sub(summary.missing_in_b).saturating_sub(summary.different);
        let differing = summary.different + summary.missing_in_a + summary.missing_in_b;
        // Sums that differ, of keys that do not; or more keys than there were.
        if (differing == 0) != plan.shares().is_empty()
            || summary.same + summary.different + summary.missing_in_a != b
        {
            return Err(Error::Changed { path: self.sides[0].file.path().to_owned() });
        }
        Ok(summary)
    }

    /// Compares the function libraries.
    fn functions(&mut self) -> Result<(), Error> {
        let [a, b] = self.seen.map(|seen| &seen.functions);
        let names = a.keys().chain(b.keys().filter(|name| !a.contains_key(*name)));
        for name in names {
            let what = match (a.get(name), b.get(name)) {
                (Some(_), None) => format!("missing in {}", file(Which::Target)),
                (None, _) => format!("missing in {}", file(Which::Source)),
                (Some(a), Some(b)) if a == b => continue,
                (Some(a), Some(b)) if a.code == b.code => {
                    format!(
                        "code of {} and {} bytes, which differ behind the first {}",
                        a.len,
                        b.len,
                        a.code.len()
                    )
                }
                (Some(a), Some(b)) => format!("code {}", text::both(&a.code, &b.code)),
            };
            self.found.summary.functions += 1;
            self.found.add(Difference::new(None, name.clone(), Kind::Function, what))?;
        }
        self.found.flush()
    }

    /// Counts a key that differs, and says how.
    fn key(&mut self, found: Match<Spot>) -> Result<(), Error> {
        let summary = &mut self.found.summary;
        match found {
            Match::OnlyA(_) => summary.missing_in_b += 1,
            Match::OnlyB(_) => summary.missing_in_a += 1,
            _ => summary.different += 1,
        }
        self.found.progress.differs();
        if self.found.named >= self.found.options.keys_max {
            self.found.summary.not_named += 1;
            return Ok(());
        }
        self.found.named += 1;
        let difference = match found {
            Match::OnlyA(record) => self.missing(0, record, Kind::MissingInTarget)?,
            Match::OnlyB(record) => self.missing(1, record, Kind::MissingInSource)?,
            Match::Differ(a, b) => self.differing(a, b)?,
            // Each side was looked through for these.
            Match::TwiceA(..) | Match::TwiceB(..) => return Err(self.changed()),
        };
        self.found.progress.looked();
        self.found.add(difference)
    }

    fn missing(&self, side: usize, record: Record<Spot>, kind: Kind) -> Result<Difference, Error> {
        let (reader, entry) = self.sides[side].open(&record, self.seen[side])?;
        let data_type = entry.kind.data_type();
        let mut difference =
            Difference::new(Some(entry.db), reader.key().to_vec(), kind, data_type.name().to_owned());
        difference.types[side] = Some(data_type);
        Ok(difference)
    }

    fn differing(&self, a: Record<Spot>, b: Record<Spot>) -> Result<Difference, Error> {
        let (reader, entry) = self.sides[0].open(&a, self.seen[0])?;
        let (key, type_a) = (reader.key().to_vec(), entry.kind.data_type());
        drop(reader);
        let type_b = self.sides[1].open(&b, self.seen[1])?.1.kind.data_type();
        let mut difference = Difference::new(Some(a.at.db), key, Kind::Value, String::new());
        difference.types = [Some(type_a), Some(type_b)];
        let values = Values { sides: self.sides, seen: self.seen, records: [a, b] };
        if type_a != type_b {
            difference.kind = Kind::Type;
            difference.what = format!("{} and {}", type_a.name(), type_b.name());
        } else if type_a == DataType::String {
            if let Some((what, text)) = values.texts()? {
                (difference.what, difference.text) = (what, Some(text));
            }
        } else {
            let elements = values.elements(self.found.options)?;
            difference.what = elements.named.first().map(ToString::to_string).unwrap_or_default();
            if difference.what.is_empty() && elements.more > 0 {
                difference.what = format!("{} elements", elements.more);
            }
            (difference.elements, difference.more_elements) = (elements.named, elements.more);
        }
        let at = [a.at.expiry_ms(), b.at.expiry_ms()];
        if at[0] != at[1] {
            difference.expiries = Some(at);
            if difference.what.is_empty() {
                difference.kind = Kind::Expiry;
                difference.what = expiries(at);
            } else {
                difference.what = format!("{}; expiry: {}", difference.what, expiries(at));
            }
        }
        if difference.what.is_empty() {
            // Such as two numbers that are none, of other bits.
            difference.what = "something that has no name here".to_owned();
        }
        Ok(difference)
    }

    #[cold]
    fn changed(&self) -> Error {
        Error::Changed { path: self.sides[0].file.path().to_owned() }
    }
}

/// What was found, on its way to the sink.
struct Found<'a> {
    options: &'a Options,
    progress: &'a Progress,
    sink: &'a mut dyn FnMut(&Difference) -> io::Result<()>,
    summary: Summary,
    named: u64,
    waiting: Vec<Difference>,
    waiting_bytes: usize,
}

impl Found<'_> {
    fn add(&mut self, difference: Difference) -> Result<(), Error> {
        self.waiting_bytes += difference.bytes();
        self.waiting.push(difference);
        if self.waiting_bytes > SORTED_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.waiting.sort_unstable_by(|a, b| (a.db, &a.key).cmp(&(b.db, &b.key)));
        self.waiting_bytes = 0;
        self.waiting.drain(..).try_for_each(|one| (self.sink)(&one).map_err(Error::Output))
    }
}

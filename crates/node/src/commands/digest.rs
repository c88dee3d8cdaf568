//! `replsync-node digest SOURCE`

mod debug;
mod live;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use indicatif::ProgressBar;
use replsync::clock::now_signed_ms;
use replsync::digest::{self, About, Keyspace, Tally};
use replsync::files::{self, RdbFile};
use replsync::rdb::{self, Checksum, Limits};
use serde::Serialize;

use crate::args::{Algorithm, Digest, Output};
use crate::exit::{ExitCode, Failure};
use crate::offline::{self, Bytes, Shown};
use crate::output::{self, counted};
use crate::stderr::Stderr;

/// Reads the file and prints what it adds up to.
pub async fn run(
    args: &Digest,
    output: &Output,
    stderr: &Stderr,
    bar: Option<ProgressBar>,
) -> Result<ExitCode, Failure> {
    let source = source(&args.source)?;
    let shown = Shown { output, stderr, bar };
    match args.algorithm {
        Algorithm::Replsync1 if args.like.is_some() => {
            return Err(Failure::usage(
                "--like is for --algorithm debug-digest: replsync-1 is the same for all",
            ));
        }
        Algorithm::DebugDigest if args.slots => {
            return Err(Failure::usage("--slots is not for --algorithm debug-digest, which knows no slots"));
        }
        _ => {}
    }
    let path = match (source, args.algorithm) {
        (Source::Server, Algorithm::Replsync1) => return live::run(args, shown).await,
        (Source::Server, Algorithm::DebugDigest) => {
            return Err(Failure::usage(
                "--algorithm debug-digest is for files: of a live server make a backup, and name its RDB. (Its own DEBUG \
                 DIGEST holds up all its clients for as long as that takes, and is never asked for.)",
            ));
        }
        (Source::File(path), Algorithm::DebugDigest) => return debug::run(args, shown, path).await,
        (Source::File(path), Algorithm::Replsync1) => path,
    };
    let slots = args.slots;
    let read = of_file(shown, path, move |file| add_up(file, slots)).await?;
    let (keyspace, about) = read.map_err(|error| failure(&args.source, &error))?;
    let text = text(&args.source, &keyspace, &about);
    output::result(output, &Document::new(&args.source, &keyspace, &about, args.slots), &text)?;
    Ok(ExitCode::Done)
}

/// Opens the file and does `work` with it, while its progress is shown.
async fn of_file<T: Send + 'static>(
    shown: Shown<'_>,
    path: PathBuf,
    work: impl FnOnce(&RdbFile) -> T + Send + 'static,
) -> Result<T, Failure> {
    // Opening a file may take as long as reading it: a pipe waits for who writes to it.
    let opened = Arc::new(OnceLock::<RdbFile>::new());
    let looked_at = Arc::clone(&opened);
    let look = move || Bytes {
        what: "adding up".to_owned(),
        done: looked_at.get().map_or(0, RdbFile::read_bytes),
        total: looked_at.get().and_then(RdbFile::len),
    };
    let work = move || {
        let file = RdbFile::open(&path)?;
        let file = opened.get_or_init(|| file);
        let done = work(file);
        // What was written to meanwhile may be two files in one.
        file.check_unchanged()?;
        Ok(done)
    };
    offline::run(shown, look, work)
        .await?
        .map_err(|error: files::Error| Failure { message: error.to_string(), code: ExitCode::Unreachable })
}

enum Source {
    File(PathBuf),
    Server,
}

fn source(source: &str) -> Result<Source, Failure> {
    match source.split_once("://") {
        Some(("redis" | "rediss" | "unix", _)) => Ok(Source::Server),
        Some((scheme @ ("sentinel" | "cluster"), _)) => Err(Failure::usage(format!(
            "{scheme}://: the digest of a live server by that way does not work yet; name one server, as redis://host:port"
        ))),
        _ => Ok(Source::File(source.into())),
    }
}

fn add_up(file: &RdbFile, slots: bool) -> Result<(Keyspace, About), digest::Error> {
    let now_ms = now_signed_ms();
    let mut keyspace = if slots { Keyspace::with_slots(now_ms) } else { Keyspace::new(now_ms) };
    let about = digest::read(file.reader(Limits::default()), &mut keyspace)?;
    Ok((keyspace, about))
}

fn failure(source: &str, error: &digest::Error) -> Failure {
    let code = match error {
        digest::Error::Rdb { source: rdb::Error::Io { .. }, .. } => ExitCode::Unreachable,
        digest::Error::Rdb { .. } | digest::Error::Databases { .. } | digest::Error::AfterEnd { .. } => {
            ExitCode::No
        }
    };
    Failure { message: format!("{source}: {error}"), code }
}

/// What scripts read.
#[derive(Serialize)]
struct Document<'a> {
    algorithm: &'static str,
    source: &'a str,
    #[serde(flatten)]
    all: All,
    rdb_version: Option<u16>,
    writer: Option<&'a str>,
    checksum: Option<&'static str>,
    left_out: LeftOut,
}

/// What a keyspace adds up to.
#[derive(Serialize)]
struct All {
    #[serde(flatten)]
    sums: Sums,
    functions: u64,
    databases: BTreeMap<u32, Database>,
}

#[derive(Serialize)]
struct Database {
    #[serde(flatten)]
    sums: Sums,
    #[serde(skip_serializing_if = "Option::is_none")]
    slots: Option<BTreeMap<u16, Sums>>,
}

/// Keys added up.
#[derive(Serialize)]
struct Sums {
    keys: u64,
    expires: u64,
    expired: u64,
    field_expires: u64,
    digest: String,
    digest_expiries: String,
}

/// What is in the file and not in the digest.
#[derive(Serialize)]
struct LeftOut {
    module_aux: u64,
    scripts: u64,
    keys_with_metadata: u64,
}

impl<'a> Document<'a> {
    fn new(source: &'a str, keyspace: &Keyspace, about: &'a About, slots: bool) -> Self {
        Self {
            algorithm: "replsync-1",
            source,
            all: All::new(keyspace, slots),
            rdb_version: about.format.map(|(_, version)| version),
            writer: about.writer.as_deref(),
            checksum: checksum(about),
            left_out: LeftOut {
                module_aux: about.module_aux,
                scripts: about.scripts,
                keys_with_metadata: about.keys_with_metadata,
            },
        }
    }
}

impl All {
    fn new(keyspace: &Keyspace, slots: bool) -> Self {
        let database = |(db, tally): (u32, &Tally)| {
            let slots =
                slots.then(|| keyspace.slots(db).map(|(slot, tally)| (slot, Sums::new(tally))).collect());
            (db, Database { sums: Sums::new(tally), slots })
        };
        let (digest, digest_expiries) = (keyspace.data().to_string(), keyspace.expiries().to_string());
        Self {
            sums: Sums { digest, digest_expiries, ..Sums::new(&keyspace.total()) },
            functions: keyspace.functions(),
            databases: keyspace.databases().map(database).collect(),
        }
    }
}

fn checksum(about: &About) -> Option<&'static str> {
    about.checksum.map(|checksum| match checksum {
        Checksum::Verified => "verified",
        Checksum::NotSummed(_) => "not_summed",
        Checksum::None => "none",
    })
}

impl Sums {
    fn new(tally: &Tally) -> Self {
        let Tally { keys, expires, expired, field_expires, data, expiries } = *tally;
        let (digest, digest_expiries) = (data.to_string(), expiries.to_string());
        Self { keys, expires, expired, field_expires, digest, digest_expiries }
    }
}

/// What people read.
fn text(source: &str, keyspace: &Keyspace, about: &About) -> String {
    let mut text = headline(source, about);
    sums(&mut text, keyspace);
    let left_out = [
        (
            about.module_aux,
            "field of module data outside the keyspace",
            "fields of module data outside the keyspace",
        ),
        (about.scripts, "script", "scripts"),
        (about.keys_with_metadata, "key's metadata of modules", "keys' metadata of modules"),
    ];
    for (number, one, many) in left_out.into_iter().filter(|(number, ..)| *number > 0) {
        let _ = writeln!(text, "left out     {}", counted(number, one, many));
    }
    text.push_str(last_line(about));
    text
}

/// What a keyspace adds up to.
fn sums(text: &mut String, keyspace: &Keyspace) {
    let _ = writeln!(text, "data         {}", keyspace.data());
    let _ = writeln!(text, "expiries     {}", keyspace.expiries());
    let functions = counted(keyspace.functions(), "function library", "function libraries");
    let _ = writeln!(text, "all          {}, {functions}", counts(&keyspace.total()));
    for (db, tally) in keyspace.databases() {
        let _ = writeln!(text, "database {db:<3} {} {}  {}", tally.data, tally.expiries, counts(tally));
        for (slot, tally) in keyspace.slots(db) {
            let _ = writeln!(text, "  slot {slot:<5} {} {}  {}", tally.data, tally.expiries, counts(tally));
        }
    }
}

/// Which file it is.
fn headline(source: &str, about: &About) -> String {
    let format = about.format.map(|(magic, version)| format!("{} {version}", magic.as_str()));
    let writer = about.writer.as_deref().unwrap_or("an unknown server");
    let source = output::path(source.as_ref());
    format!("{source}: RDB {}, written by {writer}\n", format.unwrap_or_default())
}

/// What is to be said of a file without a checksum.
fn last_line(about: &About) -> &'static str {
    match about.checksum {
        Some(Checksum::None) => "the file has no checksum: nobody can tell whether it is as it was written\n",
        _ => "",
    }
}

fn counts(tally: &Tally) -> String {
    let mut text = counted(tally.keys, "key", "keys");
    if tally.expires > 0 {
        let _ = write!(text, ", {} with an expiry", output::count(tally.expires));
    }
    if tally.expired > 0 {
        let _ = write!(text, " ({} past it)", output::count(tally.expired));
    }
    if tally.field_expires > 0 {
        let _ =
            write!(text, ", {} with an expiry", counted(tally.field_expires, "hash field", "hash fields"));
    }
    text
}

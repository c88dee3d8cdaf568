//! `replsync-node verify PATH…`

use std::fmt::Write;
use std::sync::Arc;
use std::time::Instant;

use indicatif::{HumanBytes, ProgressBar};
use replsync::clock::now_signed_ms;
use replsync::files::{self, expand};
use replsync::inspect::printable;
use replsync::rdb::{Magic, quoted};
use replsync::verify::{Checksum, Finding, Options, Progress, Report, verify_all};
use serde::Serialize;

use crate::args::{Output, Verify};
use crate::exit::{ExitCode, Failure};
use crate::offline::{self, Bytes, Shown};
use crate::output::{self, Name, count, counted};
use crate::stderr::{Stderr, harmless};

/// Verifies the files and prints what was found.
pub async fn run(
    args: &Verify,
    output: &Output,
    stderr: &Stderr,
    bar: Option<ProgressBar>,
) -> Result<ExitCode, Failure> {
    let began = Instant::now();
    let options = options(args);
    let found = expand(&args.paths).map_err(|error| Failure::usage(error.to_string()))?;
    let (files, progress) = (found.files, Arc::new(Progress::default()));
    let look = {
        let (progress, only_pipes) = (progress.clone(), files.iter().all(|path| path.as_os_str() == "-"));
        move || {
            let (done, total) = progress.bytes();
            Bytes { what: "verifying".to_owned(), done, total: (!only_pipes).then_some(total) }
        }
    };
    let work = move || verify_all(&files, &options, &progress);
    let reports = offline::run(Shown { output, stderr, bar }, look, work).await?;
    let all = All { reports, failed: found.failed, left_out: found.left_out };
    output::result(output, &Document::new(&all, began.elapsed().as_secs_f64()), &all.text())?;
    Ok(all.exit_code())
}

fn options(args: &Verify) -> Options {
    let mut options = Options::at(now_signed_ms());
    if let Some(jobs) = args.jobs {
        options.jobs = jobs.into();
    }
    options.duplicates_bytes = args.duplicates_bytes;
    options.findings_max = args.max_findings;
    options.digest = args.digest;
    options
}

/// What was found in all files, and what was not even a file.
struct All {
    reports: Vec<Report>,
    failed: Vec<files::Error>,
    left_out: u64,
}

impl All {
    fn is_sound(&self) -> bool {
        self.failed.is_empty() && self.reports.iter().all(Report::is_sound)
    }

    /// What is corrupt is the worst that can be said.
    fn exit_code(&self) -> ExitCode {
        let any = |of: fn(&Report) -> bool| self.reports.iter().any(of);
        match () {
            () if any(|report| report.is_corrupt()) => ExitCode::No,
            () if any(|report| report.failed.is_some()) || !self.failed.is_empty() => ExitCode::Unreachable,
            () if any(|report| report.is_aof) => ExitCode::Usage,
            () => ExitCode::Done,
        }
    }
}

/// What scripts read.
#[derive(Serialize)]
struct Document<'a> {
    ok: bool,
    files: Vec<FileDocument<'a>>,
    files_left_out: u64,
    seconds: f64,
}

#[derive(Default, Serialize)]
struct FileDocument<'a> {
    path: String,
    ok: bool,
    rdb_version: Option<u16>,
    product: Option<&'static str>,
    server: Option<&'a str>,
    keys: u64,
    expires: u64,
    expired: u64,
    functions: u64,
    bytes: u64,
    checksum: Option<&'static str>,
    digest: Option<String>,
    digest_expiries: Option<String>,
    error: Option<String>,
    error_offset: Option<u64>,
    findings: Vec<FindingDocument<'a>>,
    findings_not_kept: u64,
    not_checked: &'a [String],
    file_system: Option<&'static str>,
    passes: u64,
    seconds: f64,
}

#[derive(Serialize)]
struct FindingDocument<'a> {
    kind: &'static str,
    offset: Option<u64>,
    db: Option<u32>,
    #[serde(flatten)]
    key: Option<Name<'a>>,
    message: &'a str,
}

impl<'a> Document<'a> {
    fn new(all: &'a All, seconds: f64) -> Self {
        let failed = all.failed.iter().map(|error| FileDocument {
            path: error.path().display().to_string(),
            error: Some(error.to_string()),
            ..FileDocument::default()
        });
        Self {
            ok: all.is_sound(),
            files: all.reports.iter().map(FileDocument::new).chain(failed).collect(),
            files_left_out: all.left_out,
            seconds: rounded(seconds),
        }
    }
}

impl<'a> FileDocument<'a> {
    fn new(report: &'a Report) -> Self {
        let (error, error_offset) = error(report).map_or((None, None), |(text, at)| (Some(text), at));
        Self {
            path: report.path.display().to_string(),
            ok: report.is_sound(),
            rdb_version: report.version.map(|(_, version)| version),
            product: report.version.map(|(magic, _)| product(magic)),
            server: report.server.as_deref(),
            keys: report.keys,
            expires: report.expires,
            expired: report.expired,
            functions: report.functions,
            bytes: report.bytes,
            checksum: match report.checksum {
                Checksum::Verified => Some("verified"),
                Checksum::Differs => Some("differs"),
                Checksum::None => Some("none"),
                Checksum::NotReached => None,
            },
            digest: report.keyspace.as_ref().map(|keyspace| keyspace.data().to_string()),
            digest_expiries: report.keyspace.as_ref().map(|keyspace| keyspace.expiries().to_string()),
            error,
            error_offset,
            findings: report.findings.iter().map(FindingDocument::new).collect(),
            findings_not_kept: report.findings_not_kept,
            not_checked: &report.not_checked,
            file_system: report.remote,
            passes: report.passes,
            seconds: rounded(report.took.as_secs_f64()),
        }
    }
}

impl<'a> FindingDocument<'a> {
    fn new(finding: &'a Finding) -> Self {
        Self {
            kind: finding.kind.name(),
            offset: finding.offset,
            db: finding.db,
            key: finding.key.as_deref().map(Name::of),
            message: &finding.message,
        }
    }
}

/// The first thing that is wrong: what happened to the file, else the first finding.
fn error(report: &Report) -> Option<(String, Option<u64>)> {
    if let Some(failed) = &report.failed {
        return Some((failed.to_string(), failed.offset()));
    }
    if report.is_aof {
        return Some(("it is an AOF; only RDB files are verified so far".to_owned(), None));
    }
    report.findings.first().map(|finding| (finding.message.clone(), finding.offset))
}

fn product(magic: Magic) -> &'static str {
    match magic {
        Magic::Redis => "redis",
        Magic::Valkey => "valkey",
    }
}

fn rounded(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}

/// So many findings of a file are told to people; scripts get all that are kept.
const FINDINGS_SHOWN: usize = 20;

impl All {
    /// What people read.
    fn text(&self) -> String {
        let mut text = String::new();
        self.reports.iter().for_each(|report| describe(report, &mut text));
        for error in &self.failed {
            let _ = writeln!(text, "UNREADABLE  {}", harmless(&error.to_string()));
        }
        let files = self.reports.len() + self.failed.len();
        if files > 1 || self.left_out > 0 {
            self.summary(files, &mut text);
        }
        text
    }

    fn summary(&self, files: usize, text: &mut String) {
        let number = |of: fn(&Report) -> bool| self.reports.iter().filter(|report| of(report)).count();
        let sound = number(Report::is_sound);
        let corrupt = number(Report::is_corrupt);
        let aofs = number(|report| report.is_aof && !report.is_corrupt() && report.failed.is_none());
        let unreadable = files - sound - corrupt - aofs;
        let _ = write!(text, "{}: {sound} ok", counted(files as u64, "file", "files"));
        for (number, what) in [(corrupt, "corrupt"), (unreadable, "unreadable"), (aofs, "not verified (AOF)")]
        {
            if number > 0 {
                let _ = write!(text, ", {number} {what}");
            }
        }
        if self.left_out > 0 {
            let _ = write!(text, "; {} in folders are no RDB", counted(self.left_out, "file", "files"));
        }
        text.push('\n');
    }
}

/// One line, and one for each finding.
fn describe(report: &Report, text: &mut String) {
    let path = output::path(&report.path);
    let _ = match (&report.failed, report.is_corrupt()) {
        (Some(failed), false) => writeln!(text, "UNREADABLE  {}", harmless(&failed.to_string())),
        (_, true) => writeln!(text, "CORRUPT     {path}: {}", contents(report)),
        (None, false) if report.is_aof => {
            writeln!(text, "NOT AN RDB  {path}: it is an AOF; only RDB files are verified so far")
        }
        (None, false) => writeln!(text, "ok          {path}: {}", contents(report)),
    };
    for finding in report.findings.iter().take(FINDINGS_SHOWN) {
        let _ = writeln!(text, "  {}", sentence(finding));
    }
    let more = report.findings.len().saturating_sub(FINDINGS_SHOWN) as u64;
    match (more, report.findings_not_kept) {
        (0, 0) => {}
        (more, 0) => drop(writeln!(text, "  and {} more: --json has them", count(more))),
        (more, not_kept) => {
            let _ = writeln!(
                text,
                "  and {} more; --max-findings says how many are kept",
                count(more + not_kept)
            );
        }
    }
    if let (Some(failed), true) = (&report.failed, report.is_corrupt()) {
        let _ = writeln!(text, "  {}", harmless(&failed.to_string()));
    }
    for what in &report.not_checked {
        let _ = writeln!(text, "  not checked: {what}");
    }
}

fn contents(report: &Report) -> String {
    let mut text = counted(report.keys, "key", "keys");
    if report.expired > 0 {
        let _ = write!(text, " ({} expired)", count(report.expired));
    }
    if let Some((magic, version)) = report.version {
        let rdb = if magic == Magic::Valkey { "Valkey RDB" } else { "RDB" };
        let _ = write!(text, ", {rdb} {version}");
    }
    if let Some(server) = &report.server {
        let _ = write!(text, " of {}", printable(server.as_bytes()));
    }
    text.push_str(match report.checksum {
        Checksum::Verified => ", checksum verified",
        Checksum::Differs => ", checksum WRONG",
        Checksum::None => ", it has no checksum",
        Checksum::NotReached => ", checksum not reached",
    });
    let remote = report.remote.map(|name| format!(" on {name}")).unwrap_or_default();
    let _ = write!(text, ", {}{remote} in {:.1} s", HumanBytes(report.bytes), report.took.as_secs_f64());
    text
}

fn sentence(finding: &Finding) -> String {
    let at = finding.offset.map(|offset| format!("at byte {offset}: ")).unwrap_or_default();
    let key = match (&finding.key, finding.db) {
        (Some(key), Some(db)) => format!(" (key {} of database {db})", quoted(key, KEY_SHOWN_BYTES)),
        _ => String::new(),
    };
    format!("{at}{}{key}", finding.message)
}

/// Names may be long.
const KEY_SHOWN_BYTES: usize = 100;

//! `replsync-node compare A B`

use std::fmt::Write as _;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use indicatif::ProgressBar;
use replsync::compare::files::{
    self, Difference, ElementDifference, FileSummary, Options, Progress, Summary,
};
use replsync::files::RdbFile;
use serde::Serialize;

use crate::args::{Compare, Output};
use crate::exit::{ExitCode, Failure};
use crate::offline::{self, Bytes, Shown};
use crate::output::{self, Name, count, counted};
use crate::stderr::Stderr;

/// So many keys are named for people unless they ask for more.
const KEYS_FOR_PEOPLE: u64 = 1_000;

/// Compares the files and prints what differs as it is found.
pub async fn run(
    args: &Compare,
    output: &Output,
    stderr: &Stderr,
    bar: Option<ProgressBar>,
) -> Result<ExitCode, Failure> {
    let started = Instant::now();
    let (a, b) = (open(&args.a)?, open(&args.b)?);
    let keys_max = args.keys.unwrap_or(if output.json { u64::MAX } else { KEYS_FOR_PEOPLE });
    let options =
        Options { memory_bytes: args.memory, elements_max: args.elements, keys_max, ..Options::default() };
    let progress = Arc::new(Progress::default());
    let look = look([a.clone(), b.clone()], progress.clone());
    let (json, named) = (output.json, bar.clone());
    let work = move || {
        let mut out = BufWriter::new(io::stdout());
        let result = files::compare(&a, &b, &options, &progress, &mut |difference| {
            let lines = if json { json_line(difference)? } else { lines(difference) };
            out.write_all(lines.as_bytes())
        });
        // Differences before an error, too; and before the bar comes back.
        let written = suspended(named.as_ref(), || out.flush());
        match (result, written) {
            (Err(error), _) => Err(error),
            (Ok(_), Err(error)) => Err(files::Error::Output(error)),
            (Ok(summary), Ok(())) => Ok(summary),
        }
    };
    let summary = match offline::run(Shown { output, stderr, bar }, look, work).await? {
        Ok(summary) => summary,
        // Who has stopped reading has read enough: something differs.
        Err(files::Error::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            return Ok(ExitCode::No);
        }
        Err(error) => return Err(failure(&error)),
    };
    let document =
        LastLine { summary: SummaryDocument::new(args, &summary, started.elapsed().as_secs_f64()) };
    output::result(output, &document, &text(args, &summary))?;
    Ok(if summary.is_equal() { ExitCode::Done } else { ExitCode::No })
}

fn open(path: &Path) -> Result<RdbFile, Failure> {
    RdbFile::open(path).map_err(|error| failure(&error.into()))
}

fn failure(error: &files::Error) -> Failure {
    let code = match error {
        files::Error::NotRegular { .. } => ExitCode::Usage,
        files::Error::Stopped => ExitCode::Stopped,
        error if error.is_unreachable() => ExitCode::Unreachable,
        _ => ExitCode::Unsafe,
    };
    Failure { message: format!("not compared: {error}"), code }
}

/// What the progress bar shows: every pass reads both files.
fn look(files: [RdbFile; 2], progress: Arc<Progress>) -> impl Fn() -> Bytes {
    move || {
        let pass = progress.now();
        let done = files.iter().map(RdbFile::read_bytes).sum();
        let bytes = files.iter().map(|file| file.len().unwrap_or(0)).sum::<u64>();
        let what = match pass.pass {
            0 | 1 => "comparing".to_owned(),
            number => format!("pass {number} of {}, {} differ", pass.passes, count(pass.differing)),
        };
        Bytes { what, done, total: Some(bytes.saturating_mul(pass.passes.max(1).into())) }
    }
}

fn suspended<T>(bar: Option<&ProgressBar>, write: impl FnOnce() -> T) -> T {
    match bar {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// A difference for people: a line, and one for each more element.
fn lines(difference: &Difference) -> String {
    let mut text = format!("{difference}\n");
    for element in difference.elements.iter().skip(1) {
        let _ = writeln!(text, "    {element}");
    }
    if difference.more_elements > 0 && !difference.elements.is_empty() {
        let more = counted(difference.more_elements, "more element", "more elements");
        let _ = writeln!(text, "    … and {more}");
    }
    text
}

fn json_line(difference: &Difference) -> io::Result<String> {
    let mut line = serde_json::to_string(&DifferenceDocument::new(difference)).map_err(io::Error::other)?;
    line.push('\n');
    Ok(line)
}

/// A key or function library that differs.
#[derive(Serialize)]
struct DifferenceDocument<'a> {
    db: Option<u32>,
    #[serde(flatten)]
    key: Name<'a>,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    type_a: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    type_b: Option<&'static str>,
    what: &'a str,
    #[serde(flatten)]
    text: Option<TextDocument>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    elements: Vec<ElementDocument<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    more_elements: Option<u64>,
    #[serde(flatten)]
    expiries: Option<Expiries>,
}

/// How two strings differ.
#[derive(Serialize)]
struct TextDocument {
    bytes_a: u64,
    bytes_b: u64,
    first_different_byte: u64,
}

/// When the key expires, where that differs; `null` for never.
#[derive(Serialize)]
struct Expiries {
    expiry_ms_a: Option<i64>,
    expiry_ms_b: Option<i64>,
}

#[derive(Serialize)]
struct ElementDocument<'a> {
    element: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    kind: &'static str,
    what: &'a str,
}

/// Bytes as text where they are UTF-8, else as base64.
fn text_or_base64(bytes: &[u8]) -> (Option<&str>, Option<String>) {
    let text = std::str::from_utf8(bytes).ok();
    (text, text.is_none().then(|| output::base64(bytes)))
}

impl<'a> DifferenceDocument<'a> {
    fn new(difference: &'a Difference) -> Self {
        let [type_a, type_b] = difference.types.map(|data_type| data_type.map(|data_type| data_type.name()));
        Self {
            db: difference.db,
            key: Name::of(&difference.key),
            kind: difference.kind.name(),
            type_a,
            type_b,
            what: &difference.what,
            text: difference.text.map(|text| TextDocument {
                bytes_a: text.lens[0],
                bytes_b: text.lens[1],
                first_different_byte: text.first,
            }),
            elements: difference.elements.iter().map(ElementDocument::new).collect(),
            more_elements: Some(difference.more_elements).filter(|more| *more > 0),
            expiries: difference
                .expiries
                .map(|[expiry_ms_a, expiry_ms_b]| Expiries { expiry_ms_a, expiry_ms_b }),
        }
    }
}

impl<'a> ElementDocument<'a> {
    fn new(element: &'a ElementDifference) -> Self {
        let (name, name_base64) = element.name.as_deref().map_or((None, None), text_or_base64);
        Self {
            element: element.part.name(),
            name,
            name_base64,
            index: element.index,
            id: element.id.map(|id| id.to_string()),
            kind: element.kind.name(),
            what: &element.what,
        }
    }
}

#[derive(Serialize)]
struct LastLine {
    summary: SummaryDocument,
}

#[derive(Serialize)]
struct SummaryDocument {
    same: u64,
    different: u64,
    missing_in_a: u64,
    missing_in_b: u64,
    functions: u64,
    not_named: u64,
    a: FileDocument,
    b: FileDocument,
    passes: usize,
    seconds: f64,
}

#[derive(Serialize)]
struct FileDocument {
    path: String,
    magic: Option<&'static str>,
    rdb_version: u16,
    checksum: bool,
    keys: u64,
    expired: u64,
    module_aux: u64,
}

impl SummaryDocument {
    fn new(args: &Compare, summary: &Summary, seconds: f64) -> Self {
        Self {
            same: summary.same,
            different: summary.different,
            missing_in_a: summary.missing_in_a,
            missing_in_b: summary.missing_in_b,
            functions: summary.functions,
            not_named: summary.not_named,
            a: FileDocument::new(&args.a, &summary.files[0]),
            b: FileDocument::new(&args.b, &summary.files[1]),
            passes: summary.passes,
            seconds: (seconds * 1000.0).round() / 1000.0,
        }
    }
}

impl FileDocument {
    fn new(path: &Path, file: &FileSummary) -> Self {
        Self {
            path: path.display().to_string(),
            magic: file.magic.map(|magic| magic.as_str()),
            rdb_version: file.rdb_version,
            checksum: file.has_checksum,
            keys: file.keys,
            expired: file.expired,
            module_aux: file.module_aux,
        }
    }
}

/// What people read last.
fn text(args: &Compare, summary: &Summary) -> String {
    let mut text = String::new();
    if summary.not_named > 0 {
        let more = counted(summary.not_named, "more key differs", "more keys differ");
        let _ = writeln!(text, "… and {more} (--keys names more)");
    }
    for (name, path, file) in [("A", &args.a, &summary.files[0]), ("B", &args.b, &summary.files[1])] {
        let format = format!("{} {}", file.magic.map_or("", |magic| magic.as_str()), file.rdb_version);
        let path = output::path(path);
        let _ = write!(text, "{name}  {path}: {format}, {}", counted(file.keys, "key", "keys"));
        let notes = [
            (file.expired, "past their expiry"),
            (file.module_aux, "fields of module data outside the keyspace, which are not compared"),
        ];
        for (number, what) in notes.iter().filter(|(number, _)| *number > 0) {
            let _ = write!(text, ", {} {what}", count(*number));
        }
        let _ = writeln!(text, "{}", if file.has_checksum { "" } else { ", no checksum" });
    }
    let same = counted(summary.same, "key", "keys");
    if summary.is_equal() {
        let _ = writeln!(text, "the same: {same}");
        return text;
    }
    let functions = match summary.functions {
        0 => String::new(),
        number => format!(", {}", counted(number, "function library differs", "function libraries differ")),
    };
    let _ = writeln!(
        text,
        "they differ: {} only in A, {} only in B, {} different, {same} the same{functions}",
        count(summary.missing_in_b),
        count(summary.missing_in_a),
        count(summary.different),
    );
    text
}

//! `replsync-node inspect FILE`

mod document;
mod lines;
mod text;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use indicatif::ProgressBar;
use replsync::digest::At;
use replsync::files::{self, RdbFile};
use replsync::inspect::{Inspector, Options, Summary, page};
use replsync::rdb::{self, Limits};

use crate::args::{Inspect, Output};
use crate::exit::{ExitCode, Failure};
use crate::offline::{self, Bytes, Shown};
use crate::output;
use crate::stderr::Stderr;
use lines::Lines;

/// Reads the file once and prints what is in it.
pub async fn run(
    args: &Inspect,
    output: &Output,
    stderr: &Stderr,
    bar: Option<ProgressBar>,
) -> Result<ExitCode, Failure> {
    if let Some(html) = args.html.as_deref().filter(|html| is_rdb(html)) {
        return Err(Failure::usage(format!(
            "--html {} is an RDB file, which the page would replace: name another",
            html.display()
        )));
    }
    let file = RdbFile::open(&args.file)
        .map_err(|error| Failure { message: error.to_string(), code: ExitCode::Unreachable })?;
    let (looked_at, options, keys) = (file.clone(), args.options(), args.keys);
    let needs_all = args.html.is_some();
    let look =
        move || Bytes { what: "inspecting".to_owned(), done: looked_at.read_bytes(), total: looked_at.len() };
    let shown = Shown { output, stderr, bar };
    let seen = offline::run(shown, look, move || inspect(&file, options, keys, needs_all)).await??;
    if let (Some(html), None) = (&args.html, &seen.error) {
        let title = args.file.file_name().unwrap_or(args.file.as_os_str()).to_string_lossy();
        let page = page(&title, args.filter_text().as_deref(), &seen.summary);
        output::write_file(html, page.as_bytes())?;
    }
    if !args.keys {
        let document = document::Document::new(args, &seen);
        output::result(output, &document, &text::text(args, &seen))?;
    }
    let Some(error) = &seen.error else { return Ok(ExitCode::Done) };
    let failure = Failure { message: error.message.clone(), code: error.code };
    if args.keys {
        return Err(failure);
    }
    // The document says it, too.
    stderr.line(&format!("error: {}", failure.message));
    if args.html.is_some() {
        stderr.line("error: no page is written of a file that was not read to its end");
    }
    Ok(failure.code)
}

/// Whether there is such a file, the one that is inspected or another: a slip must not cost a backup.
fn is_rdb(path: &Path) -> bool {
    let mut magic = [0; 5];
    let is_file = path.metadata().is_ok_and(|metadata| metadata.is_file());
    is_file
        && File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok()
        && (magic == *b"REDIS" || magic == *b"VALKE")
}

/// What was read, and why no more.
struct Seen {
    summary: Summary,
    file_bytes: Option<u64>,
    error: Option<Stop>,
}

/// Why the file was not read to its end.
struct Stop {
    message: String,
    code: ExitCode,
    offset: u64,
}

fn inspect(file: &RdbFile, options: Options, keys: bool, needs_all: bool) -> Result<Seen, Failure> {
    let mut inspector = Inspector::new(file.reader(Limits::default()), options);
    let mut lines = keys.then(Lines::new);
    let error = loop {
        match inspector.next_key() {
            Ok(Some(key)) => {
                if let Some(lines) = &mut lines
                    && !lines.add(&key)?
                    && !needs_all
                {
                    // Who has stopped reading has read enough.
                    break None;
                }
            }
            Ok(None) => break changed(file, inspector.offset()),
            Err(error) => break Some(stop(file, error, inspector.offset(), inspector.failed_key())),
        }
    };
    if let Some(lines) = &mut lines {
        lines.flush()?;
    }
    Ok(Seen { summary: inspector.into_summary(), file_bytes: file.len(), error })
}

fn stop(file: &RdbFile, error: rdb::Error, offset: u64, key: Option<(u32, &[u8])>) -> Stop {
    match files::Error::taken_out_of(error) {
        Ok(error) => unreadable(&error, offset),
        Err(error) => {
            let code = match error {
                rdb::Error::Io { .. } => ExitCode::Unreachable,
                _ => ExitCode::No,
            };
            let at = At(key.map(|(db, key)| (db, key.to_vec())));
            let message = format!("{}: {error}{at}", file.path().display());
            Stop { message, code, offset: error.offset().unwrap_or(offset) }
        }
    }
}

fn unreadable(error: &files::Error, offset: u64) -> Stop {
    let offset = error.offset().unwrap_or(offset);
    Stop { message: error.to_string(), code: ExitCode::Unreachable, offset }
}

/// Figures of a file that was written to meanwhile are of no file that ever was. A new one under its name does no harm: what
/// was read is the old one, whole.
fn changed(file: &RdbFile, offset: u64) -> Option<Stop> {
    match file.check_unchanged() {
        Ok(()) => None,
        Err(error @ files::Error::Replaced { .. }) => {
            tracing::warn!("{error}");
            None
        }
        Err(error) => Some(unreadable(&error, offset)),
    }
}

//! `--algorithm debug-digest`: what a server's own DEBUG DIGEST prints for what is in the file.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

use replsync::digest::debug::{Error, Hash, Summary, of_rdb};
use replsync::rdb::Limits;
use replsync::server::Server;
use serde::Serialize;

use super::{checksum, failure, headline, last_line, of_file};
use crate::args::Digest;
use crate::exit::{ExitCode, Failure};
use crate::offline::Shown;
use crate::output::{self, count, counted};

pub async fn run(args: &Digest, shown: Shown<'_>, path: PathBuf) -> Result<ExitCode, Failure> {
    let (output, like) = (shown.output, args.like);
    let computed = of_file(shown, path, move |file| of_rdb(file.reader(Limits::default()), like)).await?;
    let summary = computed.map_err(|error| match error {
        Error::Read(error) => failure(&args.source, &error),
        Error::Unknown { .. } | Error::Databases { .. } => {
            Failure { message: format!("{}: {error}", args.source), code: ExitCode::Unsafe }
        }
    })?;
    output::result(output, &Document::new(&args.source, &summary), &text(&args.source, &summary))?;
    Ok(ExitCode::Done)
}

/// What scripts read.
#[derive(Serialize)]
struct Document<'a> {
    algorithm: &'static str,
    source: &'a str,
    digest: String,
    /// This algorithm has none.
    digest_expiries: Option<String>,
    like: String,
    keys: u64,
    expires: u64,
    expired_fields: u64,
    databases: BTreeMap<u32, Database>,
    rdb_version: Option<u16>,
    writer: Option<&'a str>,
    checksum: Option<&'static str>,
}

#[derive(Serialize)]
struct Database {
    keys: u64,
    expires: u64,
    digest: String,
}

impl<'a> Document<'a> {
    fn new(source: &'a str, summary: &'a Summary) -> Self {
        let (keys, expires) = totals(summary);
        let about = &summary.about;
        let databases = summary
            .databases
            .iter()
            .map(|(&db, of)| (db, Database { keys: of.keys, expires: of.expires, digest: hex(&of.digest) }));
        Self {
            algorithm: "debug-digest",
            source,
            digest: hex(&summary.digest),
            digest_expiries: None,
            like: name(summary.like),
            keys,
            expires,
            expired_fields: summary.expired_fields,
            databases: databases.collect(),
            rdb_version: about.format.map(|(_, version)| version),
            writer: about.writer.as_deref(),
            checksum: checksum(about),
        }
    }
}

/// What people read.
fn text(source: &str, summary: &Summary) -> String {
    let mut text = headline(source, &summary.about);
    let (keys, expires) = totals(summary);
    let _ = writeln!(text, "debug-digest {}  as {} prints it", hex(&summary.digest), summary.like);
    let _ = writeln!(text, "all          {}", counts(keys, expires));
    for (db, of) in &summary.databases {
        let _ = writeln!(text, "database {db:<3} {}  {}", hex(&of.digest), counts(of.keys, of.expires));
    }
    if summary.expired_fields > 0 {
        let fields = counted(summary.expired_fields, "hash field", "hash fields");
        let _ = writeln!(text, "left out     {fields} that had expired when the file was written");
    }
    text.push_str(
        "not seen     when keys and fields expire, groups and what is pending, last ids, functions\n",
    );
    text.push_str(last_line(&summary.about));
    text
}

fn totals(summary: &Summary) -> (u64, u64) {
    summary.databases.values().fold((0, 0), |(keys, expires), of| (keys + of.keys, expires + of.expires))
}

fn counts(keys: u64, expires: u64) -> String {
    let mut text = counted(keys, "key", "keys");
    if expires > 0 {
        let _ = write!(text, ", {} with an expiry", count(expires));
    }
    text
}

fn hex(hash: &Hash) -> String {
    hash.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// As `--like` takes it.
fn name(server: Server) -> String {
    server.to_string().to_lowercase().replace(' ', "-")
}

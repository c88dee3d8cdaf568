//! `replsync-node doctor MASTER --backup FILE`: whether a replica that is started on a backup would continue from there.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::HumanBytes;
use replsync::backup::{Following, Head, Manifest, can_follow};
use replsync::endpoint::Endpoint;
use serde::Serialize;

use crate::args::Output;
use crate::exit::{ExitCode, Failure};
use crate::output;

/// Less than this is too short for a server to be started in.
const SHORT: Duration = Duration::from_secs(300);

/// Looks at the file and at the master, and prints what becomes of a replica.
pub async fn run(master: &Endpoint, file: &Path, output: &Output) -> Result<ExitCode, Failure> {
    let path = file.to_owned();
    let read = tokio::task::spawn_blocking(move || Backup::read(&path)).await;
    let backup = read.map_err(|error| Failure {
        message: format!("a fault in replsync-node, please report it: {error}"),
        code: ExitCode::Unsafe,
    })??;
    let seen = can_follow(master, &backup.head, Duration::from_secs(5))
        .await
        .map_err(|error| Failure { message: error.to_string(), code: ExitCode::Unreachable })?;
    let mut reasons: Vec<String> = seen.obstacles.iter().map(ToString::to_string).collect();
    reasons.extend(backup.inexact());
    let ok = reasons.is_empty();
    let text = text(master, &backup, &seen, &reasons);
    output::result(output, &Document::new(&backup, &seen, reasons), &text)?;
    Ok(if ok { ExitCode::Done } else { ExitCode::No })
}

/// An RDB, and its manifest where there is one.
struct Backup {
    rdb: PathBuf,
    head: Head,
    manifest: Option<Manifest>,
}

impl Backup {
    fn read(file: &Path) -> Result<Self, Failure> {
        let is_manifest = file.extension().is_some_and(|extension| extension == "json");
        let (rdb, manifest) = if is_manifest {
            let manifest = Manifest::read(file)?;
            (file.with_file_name(&manifest.rdb), Some(manifest))
        } else {
            // What is not ours has none.
            let manifest = Manifest::read(&file.with_extension("manifest.json")).ok();
            (file.to_owned(), manifest)
        };
        let head = Head::read(&rdb)?;
        Ok(Self { rdb, head, manifest })
    }

    fn inexact(&self) -> Option<String> {
        let facts = &self.manifest.as_ref()?.facts;
        (!facts.exact).then(|| {
            "its manifest says that it is inexact: what is wrong in it would stay wrong on the replica"
                .to_owned()
        })
    }
}

#[derive(Serialize)]
struct Document {
    ok: bool,
    rdb: PathBuf,
    exact: Option<bool>,
    written_by: Option<String>,
    rdb_version: Option<u16>,
    replid: Option<String>,
    offset: Option<u64>,
    stream_db: Option<u32>,
    master: String,
    master_replid: String,
    master_offset: u64,
    master_replicas: Option<u64>,
    backlog_bytes: Option<u64>,
    behind_bytes: u64,
    bytes_per_s: f64,
    left_bytes: u64,
    seconds_left: Option<f64>,
    reasons: Vec<String>,
}

impl Document {
    fn new(backup: &Backup, seen: &Following, reasons: Vec<String>) -> Self {
        let (head, position) = (&backup.head, backup.head.position);
        Self {
            ok: reasons.is_empty(),
            rdb: backup.rdb.clone(),
            exact: backup.manifest.as_ref().map(|manifest| manifest.facts.exact),
            written_by: head.writer.clone(),
            rdb_version: head.format.map(|(_, version)| version),
            replid: position.map(|position| position.replid.to_string()),
            offset: position.map(|position| position.offset),
            stream_db: head.stream_db,
            master: seen.master.server.to_string(),
            master_replid: seen.master.position.replid.to_string(),
            master_offset: seen.master.position.offset,
            master_replicas: seen.master.number("connected_slaves"),
            backlog_bytes: seen.master.number("repl_backlog_size"),
            behind_bytes: seen.behind_bytes,
            bytes_per_s: seen.bytes_per_s.round(),
            left_bytes: seen.left_bytes,
            seconds_left: seen.time_left.map(|left| left.as_secs_f64().round()),
            reasons,
        }
    }
}

fn text(master: &Endpoint, backup: &Backup, seen: &Following, reasons: &[String]) -> String {
    let mut text = String::new();
    let head = &backup.head;
    let place = head.position.map_or_else(|| "no place in a stream".to_owned(), |at| at.to_string());
    let writer = head.writer.as_deref().unwrap_or("an unknown server");
    let _ = writeln!(text, "backup   {}: of {writer}, at {place}", output::path(&backup.rdb));
    let _ = writeln!(
        text,
        "master   {master}: {}, at {}, writes {}/s",
        seen.master.server,
        seen.master.position,
        HumanBytes(seen.bytes_per_s as u64)
    );
    for reason in reasons {
        let _ = writeln!(text, "refusal  {reason}");
    }
    if !reasons.is_empty() {
        let _ = writeln!(text, "no: a replica that starts on it must not, or cannot, go on from there");
        return text;
    }
    let (behind, left) = (HumanBytes(seen.behind_bytes), HumanBytes(seen.left_bytes));
    let _ = writeln!(text, "backlog  goes back {behind} to the backup, and {left} more may be written");
    let _ = match seen.time_left {
        Some(time) if time < SHORT => writeln!(
            text,
            "yes, for the next {} at this rate, which is SHORT: CONFIG SET repl-backlog-size to more there (7.0 and newer \
             keep their history then, older ones lose it)",
            span(time)
        ),
        Some(time) => writeln!(text, "yes, for the next {} at this rate", span(time)),
        None => writeln!(text, "yes: nothing is written at the moment"),
    };
    if seen.master.number("connected_slaves") == Some(0) {
        let _ = writeln!(
            text,
            "note     the master has no replica now: it gives its backlog up repl-backlog-ttl (an hour, unless set) after it \
             had the last one, which was the backup"
        );
    }
    text
}

/// `90 s`, `12 min`, `7.5 h`.
fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        _ => format!("{:.1} h", seconds as f64 / 3600.0),
    }
}

//! `replsync-node backup FROM --to DIR`

mod progress;

use std::fmt::Write;
use std::path::Path;

use indicatif::{HumanBytes, ProgressBar};
use replsync::backup::{self, Facts, Progress, backup};
use replsync::endpoint::{Address, Endpoint};
use serde::Serialize;
use tokio::sync::watch;

use crate::args::{Backup, Output};
use crate::exit::{ExitCode, Failure};
use crate::output::{self, count, counted};
use crate::signals;
use crate::stderr::Stderr;

/// Makes a backup and prints what it is.
pub async fn run(
    args: &Backup,
    output: &Output,
    stderr: &Stderr,
    bar: Option<ProgressBar>,
) -> Result<ExitCode, Failure> {
    let from = args.from_access.apply(&args.from)?;
    let options = args.options()?;
    let stop = signals::first("stopping; nothing is left behind. A second signal ends at once")?;
    let (sender, receiver) = watch::channel(Progress::default());
    // A task of its own: a terminal that is held up holds up nothing else.
    let shown = tokio::spawn(progress::show(receiver, output.no_progress, stderr.clone(), bar.clone()));
    let result = backup(&from, &args.to, &options, sender, stop).await;
    shown.abort();
    crate::progress::clear(bar).await;
    let done = result?;
    output::result(output, &Document::new(&done), &text(&from, &done))?;
    Ok(if done.facts.exact { ExitCode::Done } else { ExitCode::Inexact })
}

/// What scripts read.
#[derive(Serialize)]
struct Document<'a> {
    rdb: &'a Path,
    manifest: &'a Path,
    #[serde(flatten)]
    facts: &'a Facts,
}

impl<'a> Document<'a> {
    fn new(done: &'a backup::Backup) -> Self {
        Self { rdb: &done.rdb, manifest: &done.manifest, facts: &done.facts }
    }
}

/// What people read.
fn text(from: &Endpoint, done: &backup::Backup) -> String {
    let (facts, mut text) = (&done.facts, String::new());
    let _ = writeln!(text, "backup    {}", output::path(&done.rdb));
    let _ = writeln!(text, "manifest  {}", output::path(&done.manifest));
    let (keys, bytes) = (counted(facts.keys, "key", "keys"), HumanBytes(facts.bytes));
    let functions = match facts.functions {
        0 => String::new(),
        number => format!(", {}", counted(number, "function library", "function libraries")),
    };
    let (product, version) = (&facts.product, &facts.server_version);
    let _ = writeln!(
        text,
        "holds     {keys}{functions} in {bytes}, RDB {} of {product} {version}",
        facts.rdb_version
    );
    let exact = if facts.exact { "exact at" } else { "INEXACT, about" };
    let _ = writeln!(text, "{exact:<9} {}:{}, database {}", facts.replid, facts.offset, facts.stream_db);
    let _ = writeln!(text, "verified  read back; digest {} ({})", facts.digest, facts.digest_algorithm);
    let _ = writeln!(text, "source    {}", cost(facts));
    let _ = writeln!(text, "took      {}", work(facts));
    for caveat in &facts.caveats {
        let _ = writeln!(text, "caveat    {caveat}");
    }
    if facts.exact {
        boot(from, done, &mut text);
    }
    text
}

/// What it has cost the source.
fn cost(facts: &Facts) -> String {
    let others = match facts.forks_other {
        Some(0) => String::new(),
        Some(number) => format!(" ({number} more of its own meanwhile)"),
        None => " (others are not counted there)".to_owned(),
    };
    let pause = match facts.pauses {
        0 => "writers never held up".to_owned(),
        _ => format!("writers held up for {:.1} ms", facts.pause_ms),
    };
    let evicted = match facts.evicted {
        0 => "nothing evicted".to_owned(),
        number => format!("{} evicted meanwhile", counted(number, "key", "keys")),
    };
    let forks = counted(facts.forks_caused, "fork", "forks");
    format!(
        "{forks}{others}, {pause}, {evicted}, longest batch {:.1} ms, {:.1} s of its CPU",
        facts.longest_batch_ms, facts.source_cpu_s
    )
}

fn work(facts: &Facts) -> String {
    let took = format!("{:.1} s", facts.duration_s);
    if facts.keys_copied == 0 {
        return format!("{took}, by {}", facts.method);
    }
    format!(
        "{took}: {} read at {}/s, {} again in {}",
        counted(facts.keys_copied, "key", "keys"),
        count(facts.copies_per_s as u64),
        count(facts.keys_copied_again),
        counted(facts.rounds, "round", "rounds"),
    )
}

/// How to add a replica by it.
fn boot(from: &Endpoint, done: &backup::Backup, text: &mut String) {
    let facts = &done.facts;
    let Address::Tcp(host, port) = &from.address else { return };
    // Of a copy: a server saves over the file that it has started on.
    let _ = writeln!(
        text,
        "\nA {} {} that starts on a copy of it as a replica of the source goes on from there, without a full sync, for as\n\
         long as the source's backlog goes back that far (replsync-node doctor … --backup …):\n\
         cp {} REPLICAS_DIR/dump.rdb\n\
         {}-server --dir REPLICAS_DIR --dbfilename dump.rdb --appendonly no --replicaof {host} {port}",
        facts.product,
        facts.server_version,
        output::path(&done.rdb),
        facts.product,
    );
}

//! `replsync-node migrate FROM TO`

use std::fmt::Write;
use std::time::Duration;

use indicatif::{HumanBytes, ProgressBar};
use replsync::compare::{Both, Difference};
use replsync::migrate::{Ended, Method, Progress, Report, Verdict, migrate};
use serde::Serialize;
use tokio::sync::watch;

use crate::args::{Migrate, Output};
use crate::exit::{ExitCode, Failure};
use crate::output::{self, Name, count, counted};
use crate::progress;
use crate::signals;
use crate::stderr::Stderr;

/// Runs the job and prints its report.
pub async fn run(
    args: &Migrate,
    output: &Output,
    stderr: &Stderr,
    bar: Option<ProgressBar>,
) -> Result<ExitCode, Failure> {
    let from = args.from_access.apply(&args.from)?;
    let to = args.to_access.apply(&args.to)?;
    let options = args.options()?;
    let stop = signals::first(
        "stopping at the end of the transaction under way, then putting expiries right; a second signal stops at once, and \
         leaves them shifted",
    )?;
    let (sender, receiver) = watch::channel(Progress::default());
    // A task of its own: a terminal that is held up holds up nothing else.
    let shown = tokio::spawn(progress::show(receiver, output.no_progress, stderr.clone(), bar.clone()));
    let result = migrate(from, to, options, sender, stop).await;
    shown.abort();
    progress::clear(bar).await;
    let report = result?;
    name_differences(&report, stderr);
    output::result(output, &Document::new(&report), &text(&report))?;
    Ok(match (report.verification.as_ref().map(|seen| seen.verdict), report.ended) {
        (Some(Verdict::Differs), _) => ExitCode::No,
        (Some(Verdict::DiffersUnderWrites), _) => ExitCode::Unsafe,
        (_, Ended::CaughtUp | Ended::Quiet) => ExitCode::Done,
        (_, Ended::Stopped) => ExitCode::Stopped,
    })
}

/// Names what differs, each on a line of its own.
fn name_differences(report: &Report, stderr: &Stderr) {
    let Some(seen) = &report.verification else { return };
    for difference in &seen.differences {
        stderr.line(&format!("differs: {difference}"));
    }
    if seen.more > 0 {
        stderr.line(&format!("differs: {} more keys, which there is no room to name", count(seen.more)));
    }
}

/// What scripts read.
#[derive(Serialize)]
struct Document<'a> {
    exact: bool,
    verified: bool,
    caught_up: bool,
    copied_all: bool,
    ended: &'static str,
    from: String,
    to: String,
    keys: u64,
    commands: u64,
    replid: Option<String>,
    offset: Option<u64>,
    method: &'static str,
    forks_caused: Option<u64>,
    forks_other: Option<u64>,
    pause_ms: Option<f64>,
    rounds: Option<u64>,
    copied_again: Option<u64>,
    big_values: Option<u64>,
    longest_batch_ms: Option<f64>,
    source_evicted: Option<u64>,
    digest: Option<Digest>,
    digest_expiries: Option<Digest>,
    keys_compared: Option<u64>,
    differences: Vec<DifferenceDocument<'a>>,
    differences_not_named: u64,
    expiries_compared: Option<String>,
    expiries_shifted: bool,
    expiries_put_right: u64,
    field_expiries_put_right: u64,
    expiries_inexact: u64,
    fields_in_doubt: u64,
    source_paused_ms: Option<u64>,
    spooled_bytes_max: u64,
    reconnects: u64,
    restarts: u32,
    rdb_bytes: u64,
    functions: u64,
    scripts: u64,
    keys_by_commands: u64,
    dropped: Dropped,
    seconds: f64,
}

/// `replsync-1` of both sides.
#[derive(Serialize)]
struct Digest {
    from: String,
    to: String,
}

impl Digest {
    fn new(both: Both) -> Self {
        Self { from: both.source.to_string(), to: both.target.to_string() }
    }
}

/// A key or function library that differs; a is the source, b the target.
#[derive(Serialize)]
struct DifferenceDocument<'a> {
    db: Option<u32>,
    #[serde(flatten)]
    key: Name<'a>,
    kind: &'static str,
    what: &'a str,
}

impl<'a> DifferenceDocument<'a> {
    fn new(difference: &'a Difference) -> Self {
        let Difference { db, key, kind, what, .. } = difference;
        Self { db: *db, key: Name::of(key), kind: kind.name(), what }
    }
}

/// What was left behind, by kind.
#[derive(Serialize)]
struct Dropped {
    lru_lfu_hints: u64,
    module_aux: u64,
    idempotent_streams: u64,
    published_messages: u64,
    other_commands: u64,
}

impl<'a> Document<'a> {
    fn new(report: &'a Report) -> Self {
        let seen = report.verification.as_ref();
        let digests = seen.and_then(|seen| seen.digests);
        let swept = report.swept.unwrap_or_default();
        let capture = report.capture.as_ref();
        Self {
            exact: report.is_exact(),
            verified: seen.is_some_and(|seen| seen.verdict == Verdict::Equal),
            keys_compared: seen.map(|seen| seen.keys),
            differences: seen
                .map_or(Vec::new(), |seen| seen.differences.iter().map(DifferenceDocument::new).collect()),
            differences_not_named: seen.map_or(0, |seen| seen.more),
            expiries_compared: seen.map(|seen| seen.precision.to_string()),
            expiries_shifted: report.swept.is_none(),
            expiries_put_right: swept.keys,
            field_expiries_put_right: swept.fields,
            expiries_inexact: swept.inexact,
            fields_in_doubt: report.fields_in_doubt,
            source_paused_ms: report.paused.map(|paused| paused.as_millis() as u64),
            spooled_bytes_max: report.spooled_bytes_max,
            caught_up: report.caught_up,
            copied_all: report.copied_all,
            ended: match report.ended {
                Ended::CaughtUp => "caught_up",
                Ended::Quiet => "quiet",
                Ended::Stopped => "stopped",
            },
            from: report.from.to_string(),
            to: report.to.to_string(),
            keys: report.copied.keys,
            commands: report.commands,
            replid: report.position.map(|position| position.replid.to_string()),
            offset: report.position.map(|position| position.offset),
            method: match report.method {
                Method::ForkFree => "fork-free",
                Method::FullSync => "full-sync",
            },
            forks_caused: report.forks_caused,
            forks_other: report.forks_other,
            pause_ms: capture.map(|capture| millis(capture.pause)),
            rounds: capture.map(|capture| capture.rounds),
            copied_again: capture.map(|capture| capture.copied_again),
            big_values: capture.map(|capture| capture.big_values),
            longest_batch_ms: capture.map(|capture| millis(capture.longest_batch)),
            source_evicted: capture.map(|capture| capture.evicted.1.saturating_sub(capture.evicted.0)),
            digest: digests.map(|digests| Digest::new(digests.data)),
            digest_expiries: digests.and_then(|digests| digests.expiries).map(Digest::new),
            reconnects: report.reconnects,
            restarts: report.restarts,
            rdb_bytes: report.copied.rdb_bytes,
            functions: report.copied.functions,
            scripts: report.copied.scripts,
            keys_by_commands: report.copied.keys_by_commands,
            dropped: Dropped {
                lru_lfu_hints: report.copied.hints_dropped,
                module_aux: report.copied.module_aux_dropped,
                idempotent_streams: report.copied.idempotent_streams,
                published_messages: report.dropped.messages,
                other_commands: report.dropped.others,
            },
            seconds: (report.took.as_secs_f64() * 1000.0).round() / 1000.0,
        }
    }
}

fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// What people read.
fn text(report: &Report) -> String {
    let mut text = String::new();
    let copied = &report.copied;
    let _ = writeln!(text, "{} → {} in {:.1} s", report.from, report.to, report.took.as_secs_f64());
    if !report.copied_all {
        let _ = writeln!(
            text,
            "stopped during the copy: the target is a fragment, with shifted expiries, and not to be used"
        );
        return text;
    }
    let (keys, bytes) = (counted(copied.keys, "key", "keys"), HumanBytes(copied.rdb_bytes));
    let functions = counted(copied.functions, "function library", "function libraries");
    let _ = writeln!(text, "copied    {keys}, {functions} ({bytes} of RDB)");
    if let Some(capture) = &report.capture {
        let again = counted(capture.copied_again, "key", "keys");
        let rounds = counted(capture.rounds, "round", "rounds");
        let _ = writeln!(
            text,
            "captured  without a full sync: {again} read again in {rounds}, writers held up for {:.1} ms",
            millis(capture.pause)
        );
        for caveat in &capture.caveats {
            let _ = writeln!(text, "          {caveat}");
        }
    }
    let _ = match (report.method, report.forks_caused, report.forks_other) {
        (Method::ForkFree, Some(caused), Some(other)) => {
            writeln!(text, "forks     {} caused, {} of the source's own", count(caused), count(other))
        }
        (Method::ForkFree, Some(caused), None) => writeln!(text, "forks     {} caused", count(caused)),
        (_, Some(forks), _) => {
            writeln!(text, "forks     {} of the source meanwhile (a full sync takes one)", count(forks))
        }
        (_, None, _) => Ok(()),
    };
    let commands = counted(report.commands, "command", "commands");
    let reconnects = counted(report.reconnects, "reconnect", "reconnects");
    let _ = writeln!(text, "followed  {commands}, {reconnects}");
    if report.restarts > 0 {
        let _ = writeln!(text, "started   anew {}", counted(report.restarts.into(), "time", "times"));
    }
    if let Some(position) = report.position {
        let _ = writeln!(text, "applied   up to {position}");
    }
    let left = [
        (copied.hints_dropped, "LRU/LFU hints (the target does not evict by them)"),
        (copied.module_aux_dropped, "fields of module data outside the keyspace"),
        (copied.idempotent_streams, "streams' memory of idempotent producers"),
        (report.dropped.messages, "published messages"),
        (report.dropped.others, "commands that mean nothing to the target"),
    ];
    for (number, what) in left.iter().filter(|(number, _)| *number > 0) {
        let _ = writeln!(text, "left out  {} {what}", count(*number));
    }
    if let Some(swept) = report.swept {
        let keys = counted(swept.keys, "key", "keys");
        let fields = counted(swept.fields, "hash field", "hash fields");
        let _ = writeln!(text, "expiries  put right of {keys}, {fields}");
        if swept.inexact > 0 {
            let inexact = counted(swept.inexact, "key expires", "keys expire");
            let _ = writeln!(
                text,
                "          {inexact} by when the command arrived: the source has no such key now"
            );
        }
    }
    if report.fields_in_doubt > 0 {
        let fields = counted(report.fields_in_doubt, "hash field", "hash fields");
        let _ = writeln!(
            text,
            "in doubt  {fields}: if expired on the source, which deletes them late, not so on the target"
        );
    }
    if let Some(paused) = report.paused {
        let _ = writeln!(text, "paused    the source's writers for {} ms", paused.as_millis());
    }
    if let Some(Both { source, target }) =
        report.verification.as_ref().and_then(|seen| seen.digests).map(|digests| digests.data)
    {
        let _ = match source == target {
            true => writeln!(text, "digest    {source} (replsync-1) of both sides"),
            false => writeln!(
                text,
                "digest    {source} (replsync-1) of the source\n          {target} of the target"
            ),
        };
    }
    let _ = writeln!(text, "{}", verdict(report));
    text
}

/// The last line: what the target is worth.
fn verdict(report: &Report) -> String {
    let reached = match (report.caught_up, report.ended) {
        (true, Ended::Quiet) => "caught up, and the source was quiet",
        (true, _) => "caught up",
        (false, _) => "NOT caught up: the target lacks what the source wrote last",
    };
    let Some(seen) = &report.verification else { return format!("{reached}; not verified") };
    let keys = counted(seen.keys, "key", "keys");
    let differ = counted(seen.differences.len() as u64 + seen.more, "key differs", "keys differ");
    match seen.verdict {
        Verdict::Equal => format!("{reached}; verified: {keys} equal, expiries {}", seen.precision),
        Verdict::Differs => format!("{reached}; {differ} of {keys}"),
        Verdict::DiffersUnderWrites => {
            format!("{reached}; NOT verified: {differ} of {keys}, while clients wrote to the source")
        }
    }
}

//! `digest redis://…`: what a live keyspace adds up to, at one offset.

use std::fmt::Write;
use std::time::Duration;

use replsync::capture::{Captured, Digests, Report, capture};
use replsync::digest::Keyspace;
use serde::Serialize;

use super::{All, sums};
use crate::args::{Digest, Settled};
use crate::exit::{ExitCode, Failure};
use crate::live;
use crate::offline::Shown;
use crate::output::{self, counted};

/// Captures the server into digests, and prints what they add up to.
pub async fn run(args: &Digest, shown: Shown<'_>) -> Result<ExitCode, Failure> {
    let output = shown.output;
    let source = args.from_access.apply(&args.source)?;
    let Settled { attach, options } = args.capture.settle()?;
    let sink = Digests::new(options.spool.clone(), args.slots);
    let captured = live::run(shown, |progress| {
        let captured = capture(&source, &attach, options, sink, progress);
        async { captured.await.map_err(Failure::from) }
    });
    let Captured { output: keyspace, report, .. } = captured.await?;
    let name = source.to_string();
    let document = Document::new(&name, &keyspace, &report, args.slots);
    output::result(output, &document, &text(&name, &keyspace, &report))?;
    Ok(ExitCode::Done)
}

/// What scripts read.
#[derive(Serialize)]
struct Document<'a> {
    algorithm: &'static str,
    source: &'a str,
    #[serde(flatten)]
    all: All,
    writer: String,
    rdb_version: u16,
    exact: bool,
    caveats: Vec<String>,
    replid: String,
    offset: u64,
    stream_db: u32,
    forks_caused: u64,
    forks_other: Option<u64>,
    evicted: u64,
    pause_ms: f64,
    pauses: u64,
    rounds: u64,
    copied: u64,
    copied_again: u64,
    copied_bytes: u64,
    big_values: u64,
    longest_batch_ms: f64,
    source_cpu_seconds: f64,
    reconnects: u64,
    seconds: f64,
}

impl<'a> Document<'a> {
    fn new(source: &'a str, keyspace: &Keyspace, report: &Report, slots: bool) -> Self {
        Self {
            algorithm: "replsync-1",
            source,
            all: All::new(keyspace, slots),
            writer: report.source.to_string(),
            rdb_version: report.rdb_version,
            exact: report.exact && report.caveats.is_empty(),
            caveats: report.caveats.iter().map(ToString::to_string).collect(),
            replid: report.position.replid.to_string(),
            offset: report.position.offset,
            stream_db: report.stream_db,
            forks_caused: report.forks_caused,
            forks_other: report.forks_other,
            evicted: report.evicted.1.saturating_sub(report.evicted.0),
            pause_ms: ms(report.pause),
            pauses: report.pauses,
            rounds: report.rounds,
            copied: report.copied,
            copied_again: report.copied_again,
            copied_bytes: report.copied_bytes,
            big_values: report.big_values,
            longest_batch_ms: ms(report.longest_batch),
            source_cpu_seconds: ms(report.source_cpu) / 1000.0,
            reconnects: report.reconnects,
            seconds: ms(report.took) / 1000.0,
        }
    }
}

fn ms(time: Duration) -> f64 {
    time.as_micros() as f64 / 1000.0
}

/// What people read.
fn text(source: &str, keyspace: &Keyspace, report: &Report) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{source}: {} at {}", report.source, report.position);
    sums(&mut text, keyspace);
    for caveat in &report.caveats {
        let _ = writeln!(text, "NOT exact    {caveat}");
    }
    let (rounds, forks) =
        (counted(report.rounds, "round", "rounds"), counted(report.forks_caused, "fork", "forks"));
    let pause = match report.pauses {
        0 => "writers never held up".to_owned(),
        _ => format!("writers held up for {:.1} ms", ms(report.pause)),
    };
    let _ = writeln!(text, "captured     in {:.1} s, {rounds}, {pause}, {forks}", report.took.as_secs_f64());
    text
}

//! What a server's clients and its memory feel of a capture: the server on one processor, its clients and the agent on
//! the other; runs with the load alone beside runs with a capture under it.

use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::Result;
use replsync_tests::bootable::{backup, checked_report};
use replsync_tests::load::{Latencies, Load, Shape};
use replsync_tests::server::TestServer;

use crate::Spread;
use crate::speed::classic;
use crate::watch::{Memory, MemoryWatch};

/// Writes a second.
const RATES: [u32; 2] = [2_000, 10_000];
/// The load runs so long alone, before anything is measured and between the runs.
const SETTLES_FOR: Duration = Duration::from_secs(1);
/// What is looked at of the load alone where nothing else says how long.
const ALONE_FOR: Duration = Duration::from_secs(5);

/// What is done to the server under its load.
#[derive(Clone, Copy, PartialEq)]
enum What {
    Nothing,
    Backup,
    Classic,
}

struct Run {
    seconds: f64,
    latencies: Latencies,
    memory: Memory,
    pause_ms: Option<f64>,
    rounds: Option<f64>,
}

/// A table for each rate, and which aims were met.
pub fn measure(server: &TestServer, pairs: u32, keys: u32) -> Result<String> {
    let data_bytes = server.info_number("used_memory_dataset") as f64;
    let mut text = String::new();
    for rate in RATES {
        let shape = Shape { keys, digits: 7, value_len: 24, rate };
        let load = Load::start(server.port(), shape, u64::from(rate))?;
        std::thread::sleep(SETTLES_FOR);
        let (mut alone, mut backups) = (Vec::new(), Vec::new());
        for pair in 1..=pairs {
            alone.push(run(server, &load, What::Nothing)?);
            backups.push(run(server, &load, What::Backup)?);
            eprintln!("bench-capture: {rate} writes/s, pair {pair} of {pairs}");
        }
        let classic = vec![run(server, &load, What::Classic)?];
        load.stop()?;
        writeln!(
            text,
            "{rate} writes/s, {pairs} pairs; server on one processor, clients and agent on the other\n"
        )?;
        writeln!(
            text,
            "| way | seconds | p50 ms | p99 ms | p99.9 ms | extra memory MB | resident MB | of the data |"
        )?;
        writeln!(text, "| --- | --- | --- | --- | --- | --- | --- | --- |")?;
        for (way, runs) in
            [("load alone", &alone), ("`backup`", &backups), ("`redis-cli --rdb`, once", &classic)]
        {
            writeln!(text, "| {way} | {}", line(runs, data_bytes))?;
        }
        writeln!(text, "\n{}", aims(rate, &alone, &backups, data_bytes))?;
    }
    Ok(text)
}

fn run(server: &TestServer, load: &Load, what: What) -> Result<Run> {
    std::thread::sleep(SETTLES_FOR);
    let watch = MemoryWatch::start(server)?;
    let (from, begun) = (load.elapsed(), Instant::now());
    let mut report = None;
    match what {
        What::Nothing => std::thread::sleep(ALONE_FOR),
        What::Backup => {
            let folder = tempfile::tempdir()?;
            report = Some(checked_report(&backup(&server.url(), folder.path(), &[])?)?);
        }
        What::Classic => classic(server)?,
    }
    let (to, seconds) = (load.elapsed(), begun.elapsed().as_secs_f64());
    let memory = watch.end()?;
    // What was due at the end is answered soon.
    std::thread::sleep(Duration::from_millis(200));
    let said = |field: &str| report.as_ref().and_then(|report| report[field].as_f64());
    Ok(Run {
        seconds,
        latencies: load.between(from, to),
        memory,
        pause_ms: said("pause_ms"),
        rounds: said("rounds"),
    })
}

fn line(runs: &[Run], data_bytes: f64) -> String {
    let percentile =
        |percent: f64| Spread::of(runs.iter().map(|run| run.latencies.percentile_ms(percent)), 2);
    let [p50, p99, p999] = [50.0, 99.0, 99.9].map(percentile);
    let used = Spread::of(runs.iter().map(|run| extra_bytes(run) / 1e6), 1);
    let resident = Spread::of(runs.iter().map(|run| run.memory.resident_bytes as f64 / 1e6), 1);
    let part = used.median() * 1e6 / data_bytes * 100.0;
    let seconds = Spread::of(runs.iter().map(|run| run.seconds), 1);
    format!("{seconds} | {p50} | {p99} | {p999} | {used} | {resident} | {part:.1} % |")
}

/// With the pages that a child made it copy.
fn extra_bytes(run: &Run) -> f64 {
    (run.memory.used_bytes + run.memory.copied_on_write_bytes) as f64
}

fn aims(rate: u32, alone: &[Run], backups: &[Run], data_bytes: f64) -> String {
    let median = |runs: &[Run], field: fn(&Run) -> f64| Spread::of(runs.iter().map(field), 2).median();
    let p99 = |run: &Run| run.latencies.percentile_ms(99.0);
    let (p99_alone, p99_backup) = (median(alone, p99), median(backups, p99));
    let extra = median(backups, extra_bytes) / data_bytes * 100.0;
    let pause = Spread::of(backups.iter().filter_map(|run| run.pause_ms), 1);
    let rounds = Spread::of(backups.iter().filter_map(|run| run.rounds), 0);
    let met = |met: bool| if met { "met" } else { "MISSED" };
    let mut lines = vec![
        format!("{rate}/s: extra memory {extra:.2} % of the data (aim: at most 1 %): {}", met(extra <= 1.0)),
        format!(
            "{rate}/s: pause {pause} ms, {rounds} rounds (aim: at most 20 ms): {}",
            met(pause.median() <= 20.0)
        ),
    ];
    let p99_said = format!("{rate}/s: p99 {p99_backup:.2} ms, alone {p99_alone:.2} ms");
    lines.push(match rate {
        2_000 => {
            let is_met = p99_backup <= 2.0 * p99_alone || p99_backup <= p99_alone + 1.0;
            format!("{p99_said} (aim: at most twice or 1 ms more): {}", met(is_met))
        }
        _ => p99_said,
    });
    lines.join("\n")
}

//! How fast, with nothing else to do: `backup` beside `redis-cli --rdb`, and beside the rate at which the server answers
//! PEXPIRETIME and DUMP at all.

use std::fmt::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use replsync_tests::bootable::{backup, checked_report};
use replsync_tests::datasets::DataSet;
use replsync_tests::server::{TestServer, program};

use crate::Spread;
use crate::ceiling::{Names, dump_all, names};
use crate::watch::cpu;

/// At least this part of the ceiling is wanted, in copies a second.
fn rate_aim(set: DataSet) -> f64 {
    match set {
        DataSet::Small => 1.4,
        DataSet::Mixed => 0.7,
    }
}
/// At most this part of the ceiling's processor time a key is wanted, on small strings.
const CPU_AIM: f64 = 0.75;

/// What a run took.
struct Run {
    seconds: f64,
    /// What `backup` says of its copying alone, without attaching, writing the file and verifying it.
    copying_seconds: Option<f64>,
    /// The server's, with the children that it forked.
    cpu: f64,
}

/// A table, and which aims were met.
pub fn measure(server: &TestServer, set: DataSet, rounds: u32) -> Result<String> {
    let names = names(server)?;
    let keys: usize = names.iter().map(|(_, names)| names.len()).sum();
    let used = server.info_number("used_memory") as f64 / 1e6;
    let (mut ceiling, mut classic, mut backups) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=rounds {
        ceiling.push(run_ceiling(server, &names)?);
        classic.push(run_classic(server)?);
        backups.push(run_backup(server)?);
        eprintln!("bench-capture: {}, round {round} of {rounds}", set.name());
    }
    let mut table = String::new();
    writeln!(
        table,
        "{}: {keys} keys, {used:.0} MB in memory, {rounds} rounds, nothing else to do\n",
        set.name()
    )?;
    writeln!(table, "| way | seconds | of it copying | keys/s | server CPU µs a key |")?;
    writeln!(table, "| --- | --- | --- | --- | --- |")?;
    let ways = [
        ("PEXPIRETIME + DUMP, one connection", &ceiling),
        ("`redis-cli --rdb`", &classic),
        ("`backup`", &backups),
    ];
    for (way, runs) in ways {
        let copying = Spread::of(runs.iter().filter_map(|run| run.copying_seconds), 2);
        let rate = Spread::of(runs.iter().map(|run| run.rate(keys) / 1e3), 0);
        let cpu = Spread::of(runs.iter().map(|run| run.cpu * 1e6 / keys as f64), 2);
        let seconds = Spread::of(runs.iter().map(|run| run.seconds), 2);
        writeln!(table, "| {way} | {seconds} | {copying} | {rate} k | {cpu} |")?;
    }
    let median = |runs: &[Run], field: fn(&Run, usize) -> f64| {
        Spread::of(runs.iter().map(|run| field(run, keys)), 2).median()
    };
    let rate = median(&backups, Run::rate) / median(&ceiling, Run::rate);
    let aim = rate_aim(set);
    writeln!(
        table,
        "\n{}: {rate:.2} × the ceiling's rate (aim: at least {aim}): {}",
        set.name(),
        met(rate >= aim)
    )?;
    let cost = median(&backups, |run, _| run.cpu) / median(&ceiling, |run, _| run.cpu);
    match set {
        DataSet::Small => writeln!(
            table,
            "{}: {cost:.2} × its processor time a key (aim: at most {CPU_AIM}): {}",
            set.name(),
            met(cost <= CPU_AIM)
        )?,
        DataSet::Mixed => writeln!(table, "{}: {cost:.2} × its processor time a key", set.name())?,
    }
    Ok(table)
}

impl Run {
    fn rate(&self, keys: usize) -> f64 {
        keys as f64 / self.copying_seconds.unwrap_or(self.seconds)
    }
}

fn run_ceiling(server: &TestServer, names: &Names) -> Result<Run> {
    let [before, _] = cpu(server)?;
    let seconds = dump_all(server, names)?;
    Ok(Run { seconds, copying_seconds: None, cpu: cpu(server)?[0] - before })
}

fn run_classic(server: &TestServer) -> Result<Run> {
    let [_, before] = cpu(server)?;
    let begun = Instant::now();
    classic(server)?;
    let seconds = begun.elapsed().as_secs_f64();
    while server.info_number("rdb_bgsave_in_progress") == 1 {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    Ok(Run { seconds, copying_seconds: None, cpu: cpu(server)?[1] - before })
}

fn run_backup(server: &TestServer) -> Result<Run> {
    let folder = tempfile::tempdir()?;
    let [_, before] = cpu(server)?;
    let begun = Instant::now();
    let report = checked_report(&backup(&server.url(), folder.path(), &[])?)?;
    let seconds = begun.elapsed().as_secs_f64();
    let copying_seconds = report["capture_s"].as_f64();
    Ok(Run { seconds, copying_seconds, cpu: cpu(server)?[1] - before })
}

/// `redis-cli --rdb`: a full sync, for which the server forks.
pub fn classic(server: &TestServer) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let rdb = folder.path().join("classic.rdb");
    let cli = program(server.name()).with_file_name("cli");
    ensure!(Path::new(&cli).exists(), "{} has no redis-cli beside it", server.name());
    let port = server.port().to_string();
    let mut command = Command::new(cli);
    command.args(["-p", &port, "--rdb"]).arg(&rdb).stdout(Stdio::null()).stderr(Stdio::null());
    let status = command.status().context("redis-cli does not run")?;
    ensure!(status.success() && rdb.metadata()?.len() > 0, "redis-cli --rdb failed: {status}");
    Ok(())
}

fn met(met: bool) -> &'static str {
    if met { "met" } else { "MISSED" }
}

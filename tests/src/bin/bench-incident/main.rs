//! The incident that the project began with, and that its own ways do not cause it: `scripts/bench-incident.sh` runs it.
//!
//! A master in a 256 MiB memory cgroup holds 190,000 keys of 1000 bytes, with AOF and save points on, under 10,000
//! SET/s. Then a stock replica attaches: the fork's copy-on-write kills the master. The same with `backup` and
//! `migrate` instead, each on a new master: it lives.
//!
//! usage: `bench-incident SERVER [RUNS]`. Exit code 1 when the classic way left it alive or one of ours did not.

mod cgroup;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use replsync_tests::bootable::{backup, checked_report};
use replsync_tests::client::Batch;
use replsync_tests::job::{start, wait_for};
use replsync_tests::load::{Latencies, Load, Shape};
use replsync_tests::server::TestServer;

use crate::cgroup::Cgroup;

const LIMIT_BYTES: u64 = 256 << 20;
const SHAPE: Shape = Shape { keys: 190_000, digits: 12, value_len: 1_000, rate: 10_000 };
const SAVE_POINTS: &str = "900 1 300 10 60 10000";
/// The load runs so long before anybody attaches.
const ALONE_FOR: Duration = Duration::from_secs(2);
/// At 10 MB/s the AOF has doubled some 19 s after the load began, and the master forks by itself to rewrite it. Whatever
/// is measured is over by then.
const PATIENCE: Duration = Duration::from_secs(14);
const FILLED_WITHIN: Duration = Duration::from_secs(60);
const KEYS_PER_BATCH: u32 = 1_000;

/// Who attaches.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Classic,
    Backup,
    Migrate,
}

/// What came of it.
struct Outcome {
    lived: bool,
    kills: u64,
    /// How often the master forked since somebody attached.
    forks: usize,
    before_bytes: u64,
    peak_bytes: u64,
    seconds: f64,
    alone: Latencies,
    meanwhile: Latencies,
    said: String,
}

fn main() -> ExitCode {
    match bench() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench-incident: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bench() -> Result<bool> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some(name) = args.first() else { bail!("usage: bench-incident SERVER [RUNS]") };
    let runs: u32 = args.get(1).map_or(Ok(1), |text| text.parse()).context("RUNS is a number")?;
    println!(
        "{name} in {} MiB, {} keys of {} bytes, AOF and save points on, {} SET/s; anonymous memory in MB, latency in ms\n",
        LIMIT_BYTES >> 20,
        SHAPE.keys,
        SHAPE.value_len,
        SHAPE.rate
    );
    println!(
        "| way | master | forks | kills | before | peak | p50 | p99 | p99.9 | unanswered | alone p50, p99, p99.9 | seconds |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    let mut as_expected = true;
    for _ in 0..runs {
        for (way, named) in [
            (Way::Classic, "a stock replica attaches"),
            (Way::Backup, "`backup`"),
            (Way::Migrate, "`migrate`"),
        ] {
            let outcome = incident(name, way)?;
            println!("| {named} | {}", outcome.line());
            if !outcome.said.is_empty() {
                eprintln!("bench-incident: {named}: {}", outcome.said);
            }
            as_expected &= outcome.lived == (way != Way::Classic) && outcome.said.is_empty();
        }
    }
    println!(
        "\n{}",
        if as_expected { "the classic way killed it, ours did not" } else { "NOT as it should be" }
    );
    Ok(as_expected)
}

fn incident(name: &str, way: Way) -> Result<Outcome> {
    let folder = tempfile::tempdir()?;
    let cgroup = Cgroup::new("replsync-incident", LIMIT_BYTES)?;
    let launcher = cgroup.launcher(name, folder.path())?.display().to_string();
    let mut master =
        TestServer::start(&launcher, &["--appendonly", "yes", "--auto-aof-rewrite-percentage", "0"]);
    fill(&master)?;
    let load = Load::start(master.port(), SHAPE, 1)?;
    std::thread::sleep(ALONE_FOR);
    let before_bytes = cgroup.anonymous_bytes();
    cgroup.take_peak_bytes();
    let forks = forks_logged(&master);
    let (from, begun) = (load.elapsed(), Instant::now());
    let said = match way {
        Way::Classic => attach_replica(name, &mut master)?,
        Way::Backup => {
            let folder = tempfile::tempdir()?;
            whether(
                backup(&master.url(), folder.path(), &[])
                    .and_then(|outcome| checked_report(&outcome))
                    .map(drop),
            )
        }
        Way::Migrate => {
            let target = TestServer::start(name, &[]);
            whether(migrate(&master, &target))
        }
    };
    let (to, seconds) = (load.elapsed(), begun.elapsed().as_secs_f64());
    let peak_bytes = cgroup.take_peak_bytes();
    // What was due at the end is answered soon, if ever.
    std::thread::sleep(Duration::from_millis(500));
    let (lived, kills) = (master.is_running(), cgroup.kills());
    let forks = forks_logged(&master) - forks;
    let (alone, meanwhile) = (load.between(ALONE_FOR / 4, from), load.between(from, to));
    drop(load);
    master.kill();
    Ok(Outcome { lived, kills, forks, before_bytes, peak_bytes, seconds, alone, meanwhile, said })
}

/// By its log, which a dead one leaves.
fn forks_logged(master: &TestServer) -> usize {
    master.log().matches("started by pid").count()
}

/// What an error said.
fn whether(result: Result<()>) -> String {
    result.err().map_or_else(String::new, |error| format!("{error:#}"))
}

fn migrate(master: &TestServer, target: &TestServer) -> Result<()> {
    let node = start(&master.url(), &target.url(), &["--until", "caught-up"])?;
    let outcome = node.wait(PATIENCE)?;
    ensure!(outcome.code == Some(0), "migrate ended with {:?}: {}", outcome.code, outcome.stderr);
    ensure!(outcome.json()?["forks_caused"] == 0, "migrate made the master fork: {}", outcome.stdout);
    Ok(())
}

/// Fills it, and lets it write its files while that costs nothing: nobody writes yet. Then save points are on.
fn fill(master: &TestServer) -> Result<()> {
    let mut conn = master.client(0);
    // What can be compressed makes a small AOF, which soon has doubled: then the master would fork by itself.
    let mut rng = fastrand::Rng::with_seed(1);
    let value: String = (0..SHAPE.value_len).map(|_| rng.alphanumeric()).collect();
    for first in (0..SHAPE.keys).step_by(KEYS_PER_BATCH as usize) {
        let mut batch = Batch::default();
        (first..first + KEYS_PER_BATCH).for_each(|number| batch.add(&["SET", &SHAPE.key(number), &value]));
        conn.send_all(batch)?;
    }
    ensure!(conn.keys()? == u64::from(SHAPE.keys), "the master does not hold its keys");
    for command in ["BGREWRITEAOF", "BGSAVE"] {
        conn.words(command)?;
        let under_way = ["aof_rewrite_in_progress:1", "aof_rewrite_scheduled:1", "rdb_bgsave_in_progress:1"];
        wait_for(command, FILLED_WITHIN, || {
            let info = master.info("persistence");
            Ok(!under_way.iter().any(|field| info.contains(field)))
        })?;
    }
    conn.call(&["CONFIG", "SET", "save", SAVE_POINTS])?;
    conn.words("CONFIG SET auto-aof-rewrite-percentage 100").map(drop)
}

/// Until the replica has its copy, or the master is dead.
fn attach_replica(name: &str, master: &mut TestServer) -> Result<String> {
    let port = master.port().to_string();
    let replica = TestServer::start(name, &["--replicaof", "127.0.0.1", &port]);
    let deadline = Instant::now() + PATIENCE;
    while master.is_running() && !replica.info("replication").contains("master_link_status:up") {
        if Instant::now() > deadline {
            return Ok(format!("neither dead nor copied within {PATIENCE:?}"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_secs(1));
    Ok(String::new())
}

impl Outcome {
    fn line(&self) -> String {
        let percentiles =
            |latencies: &Latencies| [50.0, 99.0, 99.9].map(|p| format!("{:.2}", latencies.percentile_ms(p)));
        format!(
            "{} | {} | {} | {:.0} | {:.0} | {} | {} | {} | {:.1} |",
            if self.lived { "alive" } else { "DEAD" },
            self.forks,
            self.kills,
            self.before_bytes as f64 / 1e6,
            self.peak_bytes as f64 / 1e6,
            percentiles(&self.meanwhile).join(" | "),
            self.meanwhile.unanswered,
            percentiles(&self.alone).join(", "),
            self.seconds
        )
    }
}

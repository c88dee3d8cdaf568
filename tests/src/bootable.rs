//! The proof of a backup, from outside: a stock server of the master's version is started on its RDB as a replica of
//! the master, continues from the offset in the file without a full sync, and once the writers stopped both hold the
//! same.
//!
//! A key that the backup has too much, too little or too old stays wrong on the replica, since the stream goes on from
//! behind it. So does everything if the file names a wrong offset or database. Nothing here believes what
//! `replsync-node` says of its own backup.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::client::{Version, bytes};
use crate::contents::{Difference, EXPIRY_TOLERANCE_MS, NATIVE_TOLERANCE_MS, diff_within, read_both, report};
use crate::digest::debug_digest;
use crate::fill::fill;
use crate::job::wait_for;
use crate::node::{Node, Outcome};
use crate::server::{Options, TestServer};
use crate::settle::expire;
use crate::writer::{Load, NEAR_MS, Writer, fill_big};

/// How long a capture, or anything else here, may take.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// The writers go on for so long after the replica is up.
const GOES_ON_FOR: Duration = Duration::from_millis(300);
/// More than is written between a cut and the replica's start, with time to spare.
const BACKLOG: [&str; 2] = ["--repl-backlog-size", "64mb"];

/// One capture under writers, and what the master is like.
#[derive(Clone, Debug)]
pub struct Case {
    /// As `scripts/servers.sh` knows it.
    pub server: String,
    /// More of its configuration.
    pub args: Vec<String>,
    /// Keys before the writers begin, beside the big ones.
    pub keys: u32,
    /// Commands a second.
    pub rate: u32,
    /// What is written.
    pub load: Load,
    /// Where the filling and the writers come from.
    pub seed: u64,
}

/// What became of a capture.
#[derive(Debug)]
pub enum Verdict {
    /// Exact: the replica held what the master held.
    Equal(Proof),
    /// Exit code 5: nothing was published. Standard error says why.
    Refused(String),
    /// It called itself exact and was not. What was kept of it is in the folder.
    Unequal {
        /// What differs.
        what: String,
        /// The backup, and both sides' dumps of the keys that differ; kept.
        kept: PathBuf,
    },
}

/// The figures of a capture that was proved exact.
#[derive(Debug)]
pub struct Proof {
    /// Which server.
    pub version: Version,
    /// Keys that were compared.
    pub keys: usize,
    /// Commands of the writers.
    pub writes: u64,
    /// The master's forks before the capture and after the replica was up.
    pub forks: [i64; 2],
    /// What `backup --json` said.
    pub report: Value,
    /// How long the capture took.
    pub seconds: f64,
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let said = |field: &str| self.report.get(field).map_or_else(|| "?".to_owned(), Value::to_string);
        write!(
            f,
            "equal: {} keys, {} writes, {} rounds, pause {} ms, capture {:.1} s, forks {} -> {}",
            self.keys,
            self.writes,
            said("rounds"),
            said("pause_ms"),
            self.seconds,
            self.forks[0],
            self.forks[1]
        )
    }
}

impl Case {
    /// Fills a master, writes to it, lets `replsync-node backup` capture it meanwhile, and proves what that says. An
    /// error is anything that is neither exact nor refused: no server, a failed capture, a fork.
    pub fn run(&self, kept: &Path) -> Result<Verdict> {
        let args: Vec<&str> = BACKLOG.iter().copied().chain(self.args.iter().map(|arg| &arg[..])).collect();
        let master = TestServer::start(&self.server, &args);
        fill(&master.url(), self.keys, self.seed)?;
        fill_big(&master.url(), self.seed)?;
        let forks = master.forks_seen();
        let writers =
            [1, 2].map(|n| Writer::start_with(&master.url(), self.seed + n, self.rate / 2, self.load));
        let writers: Vec<Writer> = writers.into_iter().collect::<Result<_>>()?;
        // Not before there is something in the stream, and keys that are about to expire.
        std::thread::sleep(Duration::from_millis(NEAR_MS.start));

        let (folder, begun) = (tempfile::tempdir()?, Instant::now());
        let outcome = backup(&master.url(), folder.path(), &[])?;
        let seconds = begun.elapsed().as_secs_f64();
        if outcome.code == Some(5) {
            ensure!(std::fs::read_dir(folder.path())?.next().is_none(), "refused, and left files behind");
            return Ok(Verdict::Refused(outcome.stderr.trim_end().to_owned()));
        }
        let report = checked_report(&outcome)?;
        let rdb = std::fs::read(report["rdb"].as_str().context("the JSON names no rdb")?)?;
        let replica = continues(&master, &rdb)?;
        let late_ms = begun.elapsed().as_millis() as i64;
        std::thread::sleep(GOES_ON_FOR);
        let writes = writers.into_iter().map(Writer::stop).sum::<Result<u64>>()?;
        let forks = [forks, master.forks_seen()];
        ensure!(forks[0] == forks[1], "the master forked: {} -> {}", forks[0], forks[1]);
        std::thread::sleep(Duration::from_millis(NEAR_MS.end));
        let (keys, differences) = differences_within(&master, &replica, EXPIRY_TOLERANCE_MS + late_ms)?;
        if !differences.is_empty() {
            let what = report_of(&outcome, &differences);
            keep(kept, &rdb, [&master, &replica], &differences, &what)?;
            return Ok(Verdict::Unequal { what, kept: kept.to_owned() });
        }
        Ok(Verdict::Equal(Proof { version: master.version(), keys, writes, forks, report, seconds }))
    }
}

/// Runs `replsync-node backup` of the master at that address into a folder.
pub fn backup(master: &str, to: &Path, more: &[&str]) -> Result<Outcome> {
    let to = to.display().to_string();
    Node::run(&[&["backup", master, "--to", &to, "--json"], more].concat(), PATIENCE)
}

/// The JSON of a capture that ended well, and says of itself what it must.
pub fn checked_report(outcome: &Outcome) -> Result<Value> {
    ensure!(outcome.code == Some(0), "backup ended with {:?}: {}", outcome.code, outcome.stderr);
    let report = outcome.json()?;
    for (field, value) in
        [("exact", Value::from(true)), ("method", "fork-free".into()), ("forks_caused", 0.into())]
    {
        ensure!(report[field] == value, "{field} is {}, not {value}: {report}", report[field]);
    }
    for path in ["rdb", "manifest"] {
        let path = report[path].as_str().with_context(|| format!("the JSON names no {path}"))?;
        ensure!(Path::new(path).is_file(), "{path} is no file");
    }
    Ok(report)
}

/// Starts a server of the master's own version on that RDB as its replica, and waits until the link is up. An error
/// where that took a full sync.
pub fn continues(master: &TestServer, rdb: &[u8]) -> Result<TestServer> {
    let counters =
        || ["sync_full", "sync_partial_ok", "sync_partial_err"].map(|name| master.info_number(name));
    let [full, partial, refused] = counters();
    let port = master.port().to_string();
    let args = ["--replicaof", "127.0.0.1", &port];
    let replica = TestServer::start_with(master.name(), &Options::default().rdb(rdb).args(&args));
    let up = || Ok(replica.info("replication").contains("master_link_status:up"));
    wait_for("the replica's link to the master", PATIENCE, up).with_context(|| replica.log())?;
    let after = counters();
    if after != [full, partial + 1, refused] {
        bail!("no CONTINUE: sync_full {full}, sync_partial_ok {partial} became {after:?}: {}", replica.log());
    }
    Ok(replica)
}

/// Lets what is due expire and the replica take in all that the master has said; then says how many keys the master
/// holds and what differs: every key by ordinary commands, functions, and as a second opinion DEBUG DIGEST.
pub fn differences(master: &TestServer, replica: &TestServer) -> Result<(usize, Vec<Difference>)> {
    differences_within(master, replica, NATIVE_TOLERANCE_MS)
}

/// The same with that tolerance for expiries before 7.0. There a relative expiry travels as such, and counts on a
/// replica from when that reads it: what was set between the cut and the replica's start expires as much later on it.
fn differences_within(
    master: &TestServer,
    replica: &TestServer,
    tolerance_ms: i64,
) -> Result<(usize, Vec<Difference>)> {
    expire(&master.url())?;
    replica.wait_for_offset_of(master)?;
    let sides = read_both(&master.url(), &replica.url())?;
    let mut differences = diff_within(&sides, tolerance_ms);
    let [one, two] = [master, replica].map(|server| debug_digest(&mut server.client(0)));
    let [one, two] = [one?, two?];
    if differences.is_empty() && one != two {
        let what = format!("DEBUG DIGEST: {one} and {two}");
        differences.push(Difference { db: None, key: Vec::new(), what });
    }
    Ok((sides[0].len(), differences))
}

fn report_of(outcome: &Outcome, differences: &[Difference]) -> String {
    format!("{}\n  it said {}", report(differences), outcome.stdout.trim_end())
}

/// Keeps what is needed to find out why.
fn keep(
    folder: &Path,
    rdb: &[u8],
    sides: [&TestServer; 2],
    differences: &[Difference],
    what: &str,
) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join("backup.rdb"), rdb)?;
    let all: String = differences.iter().map(|difference| format!("{difference}\n")).collect();
    std::fs::write(folder.join("differences.txt"), format!("{what}\n\n{all}"))?;
    for (side, server) in ["master", "replica"].into_iter().zip(sides) {
        std::fs::write(folder.join(format!("{side}.log")), server.log())?;
        for (number, Difference { db, key, .. }) in differences.iter().take(100).enumerate() {
            let Some(db) = *db else { continue };
            let value = bytes(server.client(db).call(&[&b"DUMP"[..], key])?);
            std::fs::write(folder.join(format!("{number:03}.{side}.dump")), value)?;
        }
    }
    Ok(())
}

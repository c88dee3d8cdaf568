//! A backup under load, to be watched: `scripts/demo.sh backup` runs it.
//!
//! usage: `demo-backup SERVER [KEYS]`: the name of a server (see `scripts/servers.sh`) or the path of a server program.

use std::process::{ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use replsync_tests::bootable::{PATIENCE, checked_report, continues, differences};
use replsync_tests::contents::report;
use replsync_tests::fill::fill;
use replsync_tests::node::Node;
use replsync_tests::server::TestServer;
use replsync_tests::writer::{Load, NEAR_MS, Writer};

const COMMANDS_PER_SECOND: u32 = 3_000;
const GOES_ON_FOR: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    match demo() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn demo() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [name, keys @ ..] = &args[..] else { bail!("usage: demo-backup SERVER [KEYS]") };
    let keys: u32 = keys.first().map_or(Ok(120_000), |keys| keys.parse()).context("KEYS is a number")?;
    let seed = fastrand::u64(..);
    let folder = tempfile::tempdir()?;
    let to = folder.path().display().to_string();

    let master = TestServer::start(name, &["--repl-backlog-size", "64mb"]);
    let version = master.version().to_string();
    println!("the master is {version} at {}; it never had a replica", master.url());
    println!("filling it with strings, lists, sets, sorted sets, hashes, streams (seed {seed}) …");
    fill(&master.url(), keys, seed)?;
    println!("a client now writes {COMMANDS_PER_SECOND} mixed commands a second to it, all the time");
    let writer = Writer::start_with(&master.url(), seed, COMMANDS_PER_SECOND, Load::ForCapture)?;
    let forks = master.forks_seen();

    println!("replsync-node backup {} --to {to}", master.url());
    let args = ["backup", &master.url(), "--to", &to, "--json"];
    let said = checked_report(&Node::start_with(&args, Stdio::inherit(), &[])?.wait(PATIENCE)?)?;
    let rdb = said["rdb"].as_str().context("no rdb")?;
    let asked = ["doctor", &master.url(), "--backup", rdb];
    let doctor = Node::run(&asked, PATIENCE)?;
    ensure!(doctor.code == Some(0), "doctor: {}{}", doctor.stdout, doctor.stderr);
    let verified = Node::run(&["verify", rdb], PATIENCE)?;
    ensure!(verified.code == Some(0), "verify: {}{}", verified.stdout, verified.stderr);

    println!("starting {version} on the RDB, as a replica of the master …");
    let replica = continues(&master, &std::fs::read(rdb)?)?;
    std::thread::sleep(GOES_ON_FOR);
    let written = writer.stop()?;
    let forks = [forks, master.forks_seen()];
    std::thread::sleep(Duration::from_millis(NEAR_MS.end));
    println!("the writer has stopped; comparing master and replica, key by key, and by DEBUG DIGEST …");
    let (compared, differing) = differences(&master, &replica)?;
    let verdict = if differing.is_empty() { "nothing differs".to_owned() } else { report(&differing) };

    println!();
    println!(
        "1. backed up {} keys in {} bytes within {} s while a client wrote {written} commands",
        said["keys"], said["bytes"], said["duration_s"]
    );
    println!(
        "2. forks of the master: {} → {}; writers held up for {} ms; {} keys evicted; {} rounds",
        forks[0], forks[1], said["pause_ms"], said["evicted"], said["rounds"]
    );
    println!("3. exact: {} at {}:{}", said["exact"], said["replid"].as_str().unwrap_or("?"), said["offset"]);
    println!("4. verified: {}", verified.stdout.trim());
    println!("5. doctor --backup: {}", doctor.stdout.lines().last().unwrap_or_default());
    println!("6. the replica continued from there by PSYNC, without a full sync");
    println!("7. {compared} keys compared (type, value, expiry, streams, functions): {verdict}");
    ensure!(differing.is_empty(), "master and replica differ");
    ensure!(forks[0] == forks[1], "the master forked");
    Ok(())
}

//! The main job, to be watched: `scripts/demo.sh` runs it.
//!
//! usage: `demo LEGACY V2 [KEYS]`: names of servers (see `scripts/servers.sh`) or paths of server programs.

use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use replsync_tests::contents::{diff, read_both, report};
use replsync_tests::fill::fill;
use replsync_tests::node::Node;
use replsync_tests::server::TestServer;
use replsync_tests::settle::{expire, pass_mark};
use replsync_tests::writer::Writer;

const COMMANDS_PER_SECOND: u32 = 3_000;
const FOLLOW: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(120);

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
    let [from, to, keys @ ..] = &args[..] else { bail!("usage: demo LEGACY V2 [KEYS]") };
    let keys: u32 = keys.first().map_or(Ok(120_000), |keys| keys.parse()).context("KEYS is a number")?;
    let seed = fastrand::u64(..);

    let (legacy, v2) = (TestServer::start(from, &[]), TestServer::start(to, &[]));
    let names = [&legacy, &v2].map(|server| server.version().to_string());
    println!("legacy is {} at {}", names[0], legacy.url());
    println!("v2     is {} at {}", names[1], v2.url());
    println!("filling legacy with strings, lists, sets, sorted sets, hashes, streams (seed {seed}) …");
    fill(&legacy.url(), keys, seed)?;
    let native = native_attempt(&legacy, &v2)?;

    println!("a client now writes {COMMANDS_PER_SECOND} mixed commands a second to legacy, all the time");
    println!("replsync-node migrate {} {} --verify", legacy.url(), v2.url());
    let begun = Instant::now();
    let writer = Writer::start(&legacy.url(), seed, COMMANDS_PER_SECOND)?;
    let args = ["migrate", &legacy.url(), &v2.url(), "--verify", "--json"];
    let mut node = Node::start_with(&args, Stdio::inherit(), &[])?;
    let mut alive = || {
        ensure!(node.is_running()?, "replsync-node ended by itself");
        Ok(())
    };
    pass_mark(&legacy.url(), &v2.url(), PATIENCE, &mut alive)?;
    std::thread::sleep(FOLLOW);
    let written = writer.stop()?;
    expire(&legacy.url())?;
    pass_mark(&legacy.url(), &v2.url(), PATIENCE, &mut alive)?;
    node.signal("TERM");
    let outcome = node.wait(PATIENCE)?;
    let seconds = begun.elapsed().as_secs_f64();
    ensure!(outcome.code == Some(4), "replsync-node ended with {:?}: {}", outcome.code, outcome.stdout);
    let said = outcome.json()?;

    println!("the writer has stopped; comparing both sides by ordinary commands, key by key …");
    let sides = read_both(&legacy.url(), &v2.url())?;
    let differences = diff(&sides);
    let verdict = if differences.is_empty() { "nothing differs".to_owned() } else { report(&differences) };
    println!();
    println!("1. {} → {} while a client wrote {written} commands", names[0], names[1]);
    println!("2. native replication: {native}; forks that the migration caused: {}", said["forks_caused"]);
    println!(
        "3. copied {} keys, followed {} commands, in {seconds:.1} s (of these {} s were waited for show)",
        said["keys"],
        said["commands"],
        FOLLOW.as_secs()
    );
    println!(
        "4. offset {}, caught up: {}, exact: {}, verified by itself: {}",
        said["offset"], said["caught_up"], said["exact"], said["verified"]
    );
    println!("5. {} keys compared (type, value, expiry, streams, functions): {verdict}", sides[0].len());
    ensure!(differences.is_empty(), "the two sides differ");
    ensure!(said["caught_up"] == true, "it was not caught up");
    ensure!(
        said["exact"] == true && said["verified"] == true,
        "it does not say that both sides are equal: {said}"
    );
    Ok(())
}

/// What plain REPLICAOF makes of this pair, for comparison; v2 is empty again afterwards.
fn native_attempt(legacy: &TestServer, v2: &TestServer) -> Result<String> {
    let mut conn = v2.client(0);
    conn.words(&format!("REPLICAOF 127.0.0.1 {}", legacy.port()))?;
    let deadline = Instant::now() + Duration::from_secs(10);
    let verdict = loop {
        let log = v2.log();
        if let Some(line) = log.lines().find(|line| line.contains("Can't handle RDB format version")) {
            let what = line.split(" # ").last().unwrap_or(line).trim();
            break format!("refused (\"{what}\")");
        }
        if v2.info("replication").contains("master_link_status:up") {
            break "possible between these two versions".to_owned();
        }
        if Instant::now() > deadline {
            break "did not come up within 10 s".to_owned();
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    conn.words("REPLICAOF NO ONE")?;
    conn.words("FLUSHALL")?;
    if conn.version()?.is_7_0() {
        conn.words("FUNCTION FLUSH")?;
    }
    Ok(verdict)
}

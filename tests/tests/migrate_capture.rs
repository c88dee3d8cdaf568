//! `replsync-node migrate` by a capture, which is the default: the source does not fork, whatever its clients write
//! meanwhile, and afterwards both sides hold the same.
//!
//! `REPLSYNC_SEED` and `REPLSYNC_KEYS` choose another load.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, Result};
use replsync_tests::fill::fill;
use replsync_tests::gate::{Gate, kill_who_sent};
use replsync_tests::job::{PATIENCE, arrive, assert_equal, run, running, setting, start, stop};
use replsync_tests::server::TestServer;
use replsync_tests::settle::expire;
use replsync_tests::writer::{Load, NEAR_MS, Writer, fill_big};
use serde_json::Value;

fn forks(server: &TestServer) -> i64 {
    server.info_number("total_forks")
}

fn assert_no_fork(said: &Value, source: &TestServer) {
    assert_eq!((&said["method"], &said["forks_caused"]), (&"fork-free".into(), &0.into()), "{said}");
    if source.version().is_6_2() {
        assert_eq!((forks(source), &said["forks_other"]), (0, &0.into()), "{said}");
    }
}

macro_rules! pairs {
    ($($test:ident $from:literal $to:literal)*) => {
        $(#[test] fn $test() -> Result<()> { moves_under_everything($from, $to) })*
    };
}

pairs! {
    redis_6_2_to_redis_8_0 "redis-6.2" "redis-8.0"
    redis_7_0_to_redis_8_6 "redis-7.0" "redis-8.6"
    redis_7_2_to_valkey_8_1 "redis-7.2" "valkey-8.1"
    redis_7_4_to_valkey_9 "redis-7.4" "valkey-9"
    redis_8_6_to_redis_7_4 "redis-8.6" "redis-7.4"
    valkey_9_to_valkey_9 "valkey-9" "valkey-9"
}

/// Every kind of command, databases flushed and exchanged, transactions, expiries, functions, big collections.
fn moves_under_everything(from: &str, to: &str) -> Result<()> {
    let (seed, keys) = (setting("REPLSYNC_SEED", 1), setting("REPLSYNC_KEYS", 3_000));
    println!("{from} to {to}: seed {seed}, {keys} keys");
    let (source, target) = (TestServer::start(from, &[]), TestServer::start(to, &[]));
    fill(&source.url(), u32::try_from(keys)?, seed)?;
    fill_big(&source.url(), seed)?;
    let writer = Writer::start_with(&source.url(), seed, 1_000, Load::ForCapture)?;
    let mut node = start(&source.url(), &target.url(), &[])?;
    // The load flushes and exchanges databases: its own marks would not stay.
    let followed = || {
        running(&mut node)?;
        Ok(node.stderr().contains("following "))
    };
    replsync_tests::job::wait_for("the cut, and what follows it", PATIENCE, followed)?;
    std::thread::sleep(Duration::from_secs(1));
    let commands = writer.stop()?;
    std::thread::sleep(Duration::from_millis(NEAR_MS.end));
    expire(&source.url())?;
    arrive(&mut node, &source, &target, PATIENCE).context("the last commands")?;
    let said = stop(node)?.json()?;
    println!("{from} to {to}: {commands} commands by the writer, {said}");
    assert_no_fork(&said, &source);
    assert_eq!((&said["exact"], &said["caught_up"]), (&true.into(), &true.into()), "{said}");
    assert!(said["rounds"].as_u64() > Some(0) && said["big_values"].as_u64() > Some(0), "{said}");
    assert_equal(&source, &target)?;
    Ok(())
}

/// The connection that copies is killed in the middle of requests: no restart, and nothing is missing.
#[test]
fn a_copying_connection_that_is_killed_again_and_again_is_made_again() -> Result<()> {
    for (from, to) in [("redis-7.4", "redis-8.0"), ("valkey-9", "valkey-9")] {
        let (source, target) = (TestServer::start(from, &[]), TestServer::start(to, &[]));
        let seed = setting("REPLSYNC_SEED", 1);
        fill(&source.url(), 3_000, seed)?;
        fill_big(&source.url(), seed)?;
        let (kills, mut reads) = (Arc::new(AtomicU64::new(0)), 0);
        let (killed, mut killer, mut captures) = (kills.clone(), source.client(0), false);
        let gate = Gate::start(&source, move |command| {
            let is = |name: &str| command[0].eq_ignore_ascii_case(name.as_bytes());
            // Before that the source is only looked at.
            captures |= is("FUNCTION") && command[1].eq_ignore_ascii_case(b"DUMP");
            if captures && ["GETRANGE", "DUMP", "HSCAN", "SSCAN", "ZSCAN", "XRANGE"].into_iter().any(is) {
                reads += 1;
                if reads % 37 == 0 && killed.load(Relaxed) < 20 {
                    let count = kill_who_sent(&mut killer, &command[0]).expect("it can be killed");
                    killed.fetch_add(count, Relaxed);
                }
            }
        })?;
        let writer = Writer::start_with(&source.url(), seed, 500, Load::ForCapture)?;
        let mut node = start(&gate.url(), &target.url(), &[])?;
        let followed = || {
            running(&mut node)?;
            Ok(node.stderr().contains("following "))
        };
        replsync_tests::job::wait_for("the cut, and what follows it", PATIENCE, followed)?;
        let commands = writer.stop()?;
        std::thread::sleep(Duration::from_millis(NEAR_MS.end));
        expire(&source.url())?;
        arrive(&mut node, &source, &target, PATIENCE).context("the last commands")?;
        let said = stop(node)?.json()?;
        let kills = kills.load(Relaxed);
        println!("{from} to {to}: {kills} kills, {} reconnects, {commands} commands", said["reconnects"]);
        anyhow::ensure!(kills == 20 && said["reconnects"].as_u64() >= Some(kills), "{kills} kills: {said}");
        assert_no_fork(&said, &source);
        assert_equal(&source, &target)?;
    }
    Ok(())
}

/// Nobody writes: what arrives is the capture and nothing else.
#[test]
fn a_source_at_rest_is_copied_as_it_is() -> Result<()> {
    let pairs = [
        ("redis-6.2", "redis-7.0"),
        ("redis-7.0", "redis-8.6"),
        ("redis-7.2", "valkey-8.0"),
        ("redis-8.6", "redis-7.4"),
        ("valkey-9", "redis-8.0"),
    ];
    for (from, to) in pairs {
        let (source, target) = (TestServer::start(from, &[]), TestServer::start(to, &[]));
        let seed = setting("REPLSYNC_SEED", 1);
        fill(&source.url(), 2_000, seed)?;
        expire(&source.url())?;
        let until = ["--until", "caught-up", "--verify"];
        // What its hashes hold beyond that is no matter of this test.
        let outcome = run(&source.url(), &target.url(), &until)?;
        let said = outcome.json().with_context(|| format!("{from} to {to}"))?;
        println!("{from} to {to}: {said}");
        outcome.assert(0, &[]);
        assert_no_fork(&said, &source);
        assert_eq!((&said["exact"], &said["verified"]), (&true.into(), &true.into()), "{said}");
        assert_eq!(said["keys"], said["keys_compared"], "{said}");
        assert_equal(&source, &target)?;
    }
    Ok(())
}

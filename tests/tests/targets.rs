//! Targets that have little room: in memory, or for replicas of their own.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use replsync_tests::client::Batch;
use replsync_tests::contents::{compare, read_both, report};
use replsync_tests::fill::fill;
use replsync_tests::job::{PATIENCE, assert_equal, following, run, shifted, start, wait_for};
use replsync_tests::proxy::Proxy;
use replsync_tests::server::TestServer;
use replsync_tests::writer::Writer;

/// Writes so many values of random bytes, in pipelines.
fn write(server: &TestServer, db: u32, name: &str, count: u32, value_bytes: usize) -> Result<()> {
    let (mut conn, mut rng) = (server.client(db), fastrand::Rng::with_seed(7));
    let mut value = vec![0; value_bytes];
    for first in (0..count).step_by(500) {
        let mut batch = Batch::default();
        for number in first..(first + 500).min(count) {
            rng.fill(&mut value);
            batch.add(&[b"SET", format!("{name}:{number}").as_bytes(), &value]);
        }
        conn.send_all(batch)?;
    }
    Ok(())
}

/// Keys that a target evicts are lost without an error: a job that follows ends as soon as it sees that.
#[test]
fn a_target_that_begins_to_evict_ends_the_job() -> Result<()> {
    let source = TestServer::start("redis-7.4", &[]);
    let args = ["--maxmemory", "20mb", "--maxmemory-policy", "allkeys-lru"];
    let target = TestServer::start("redis-7.4", &args);
    write(&source, 0, "copied", 5_000, 500)?;
    let mut node = following(&source, &target, &[])?;
    ensure!(target.info_number("evicted_keys") == 0, "it is full already");
    write(&source, 0, "streamed", 40_000, 1_000)?;
    wait_for("evictions", PATIENCE, || Ok(target.info_number("evicted_keys") > 0))?;
    let seen = Instant::now();
    wait_for("the job's end", Duration::from_secs(20), || Ok(!node.is_running()?))?;
    println!("ended {:?} after the first eviction was seen", seen.elapsed());
    node.wait(PATIENCE)?.assert(5, &["has evicted"]);
    Ok(())
}

/// During the copy, too, and long before its end. A target that is too small from the start is refused: this one
/// shrinks.
#[test]
fn a_target_that_evicts_during_the_copy_ends_the_job() -> Result<()> {
    let source = TestServer::start("redis-7.4", &["--rdb-key-save-delay", "1000"]);
    let args = ["--maxmemory", "500mb", "--maxmemory-policy", "allkeys-lru"];
    let target = TestServer::start("redis-7.4", &args);
    // Half a minute and more of copying; a few seconds of it fill the target.
    write(&source, 0, "copied", 30_000, 2_000)?;
    let args = ["--until", "caught-up", "--method", "full-sync"];
    let node = start(&source.url(), &target.url(), &args)?;
    target.wait_for_keys(500, PATIENCE)?;
    target.client(0).words("CONFIG SET maxmemory 6mb")?;
    node.wait(PATIENCE)?.assert(5, &["has evicted"]);
    let (sent, of) = (target.info_number("total_net_input_bytes"), 60_000_000);
    println!("{sent} of {of} bytes were sent");
    ensure!(sent < of * 3 / 4, "it went on to the end: {sent} bytes sent");
    Ok(())
}

/// One that has no room for what the source holds is refused before anything is written.
#[test]
fn a_target_that_is_too_small_is_refused() -> Result<()> {
    let source = TestServer::start("redis-7.4", &[]);
    let args = ["--maxmemory", "6mb", "--maxmemory-policy", "allkeys-lru"];
    let target = TestServer::start("redis-7.4", &args);
    write(&source, 0, "copied", 20_000, 1_000)?;
    let outcome = run(&source.url(), &target.url(), &["--until", "caught-up"])?;
    outcome.assert(3, &["maxmemory"]);
    ensure!(target.client(0).keys()? == 0 && source.info_number("sync_full") == 0, "it began all the same");
    Ok(())
}

/// A target's own replicas have an output buffer each, which a copy at full speed overruns: the target drops them, and
/// they begin anew. So the copy waits for the slowest.
#[test]
fn replicas_of_the_target_are_not_overrun() -> Result<()> {
    let source = TestServer::start("redis-7.4", &[]);
    let limit = ["--client-output-buffer-limit", "replica", "1mb", "0", "0"];
    let target = TestServer::start("redis-7.4", &limit);
    let replicas = [TestServer::start("redis-7.4", &[]), TestServer::start("redis-7.4", &[])];
    let proxy = Proxy::start(&target)?;
    for (replica, port) in replicas.iter().zip([target.port(), proxy.port()]) {
        replica.client(0).words(&format!("REPLICAOF 127.0.0.1 {port}"))?;
        wait_for("a replica", PATIENCE, || {
            Ok(replica.info("replication").contains("master_link_status:up"))
        })?;
    }
    ensure!(target.info_number("sync_full") == 2, "{}", target.info("replication"));
    proxy.throttle(25 << 20);
    write(&source, 0, "copied", 50_000, 2_000)?;
    let began = Instant::now();
    run(&source.url(), &target.url(), &["--until", "caught-up"])?.assert(0, &[]);
    println!("copied in {:?}; {} MB went to the slow replica", began.elapsed(), proxy.link_bytes() >> 20);
    proxy.throttle(0);
    for replica in &replicas {
        replica.wait_for_offset_of(&target)?;
    }
    let log = target.log();
    let dropped = "scheduled to be closed ASAP for overcoming of output buffer limits";
    let dropped: Vec<&str> = log.lines().filter(|line| line.contains(dropped)).take(3).collect();
    let full = target.info_number("sync_full");
    assert!(full == 2 && dropped.is_empty(), "sync_full {full}, {}", dropped.join("\n"));
    assert_equal(&source, &target)?;
    for replica in &replicas {
        let differences = compare(&target.url(), &replica.url())?;
        assert!(differences.is_empty(), "{}", report(&differences));
    }
    Ok(())
}

/// A target that drops the job's connections ends it, but gets its expiries put right where it still can be reached;
/// where it cannot, that is said.
#[test]
fn a_target_that_drops_the_job_is_left_in_order() -> Result<()> {
    for gone in [false, true] {
        let source = TestServer::start("redis-7.4", &[]);
        let mut target = TestServer::start("redis-7.4", &[]);
        fill(&source.url(), 2_000, 9)?;
        let writer = Writer::start(&source.url(), 9, 2_000)?;
        let node = following(&source, &target, &[])?;
        if gone {
            target.kill();
        } else {
            target.client(0).words("CLIENT KILL TYPE normal SKIPME yes")?;
        }
        let outcome = node.wait(PATIENCE)?;
        println!("{:?} {}{}", outcome.code, outcome.stdout, outcome.stderr);
        writer.stop()?;
        if gone {
            outcome.assert(3, &["still shifted"]);
            continue;
        }
        outcome.assert(3, &["put right"]);
        let sides = read_both(&source.url(), &target.url())?;
        ensure!(shifted(&sides).is_empty(), "left shifted: {}", report(&shifted(&sides)));
    }
    Ok(())
}

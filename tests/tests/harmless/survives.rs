//! What a capture meets on real servers and gets through, exactly.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use replsync_tests::bootable::{PATIENCE, checked_report, continues};
use replsync_tests::client::Batch;
use replsync_tests::digest::debug_digest;
use replsync_tests::gate::{Gate, kill_who_sent};
use replsync_tests::job::wait_for;
use replsync_tests::server::{TestServer, signal};

use super::{Capture, assert_nothing_in, fill, is, master, rdb_of};

/// An operator's `CLIENT KILL TYPE replica` meets every link that is not a client's.
#[test]
fn links_that_are_killed_continue() -> Result<()> {
    let master = master("redis-7.4", 3_000, &["--repl-backlog-size", "16mb"])?;
    let mut capture = Capture::reading(&master, &["--max-keys-per-second", "1000"])?;
    let mut conn = master.client(0);
    for kill in 1..=3 {
        let partial = master.info_number("sync_partial_ok");
        conn.words("CLIENT KILL TYPE replica")?;
        (0..50).try_for_each(|n| conn.words(&format!("SET key:{n} killed-{kill}")).map(drop))?;
        wait_for("the link to continue", PATIENCE, || {
            capture.assert_running()?;
            Ok(master.info_number("sync_partial_ok") > partial)
        })?;
    }
    capture.proved(&master)?;
    ensure!(master.info_number("sync_full") <= 1, "no full sync but the one that primes");
    Ok(())
}

/// Commands that keys, elements and names are read with.
const READS: [&str; 6] = ["GETRANGE", "DUMP", "SCAN", "HSCAN", "LRANGE", "MEMORY"];

/// The connection that copies is killed in the middle of a request, whatever is being read, again and again.
#[test]
fn a_copying_connection_that_is_killed_again_and_again_is_made_again() -> Result<()> {
    for name in ["redis-6.2", "redis-7.4", "valkey-9"] {
        let master = master(name, 3_000, &["--repl-backlog-size", "16mb"])?;
        let mut batch = Batch::default();
        for number in 0..3_000 {
            batch.add(&["HSET", "large:hash", &format!("field:{number}"), "a value of some length"]);
            batch.add(&["RPUSH", "large:list", &format!("element:{number} of a large list")]);
        }
        master.client(0).send_all(batch)?;
        let (mut killer, mut writer) = (master.client(0), master.client(0));
        let (kills, mut reads) = (Arc::new(AtomicU64::new(0)), 0);
        let killed = kills.clone();
        let gate = Gate::start(&master, move |command| {
            if !READS.iter().any(|name| is(command, name)) || killed.load(Relaxed) == 25 {
                return;
            }
            reads += 1;
            if reads % 41 != 0 {
                return;
            }
            let mut batch = Batch::default();
            batch.add(&["SET", &format!("key:{}", reads % 3_000), "written at a kill"]);
            batch.add(&["HSET", "large:hash", &format!("field:{}", reads % 3_000), "written at a kill"]);
            writer.send_all(batch).expect("nothing is paused while others are killed");
            killed.fetch_add(kill_who_sent(&mut killer, &command[0]).expect("it can be killed"), Relaxed);
        })?;
        let capture = Capture::start(&gate.url(), &["--max-pause", "0", "--big-value-bytes", "32KiB"])?;
        let report = capture.proved(&master)?;
        let kills = kills.load(Relaxed);
        println!("{name}: {kills} kills, {} reconnects, {} rounds", report["reconnects"], report["rounds"]);
        ensure!(kills == 25, "{name}: only {kills} were killed");
        ensure!(report["reconnects"].as_u64() >= Some(kills), "{name}: {report}");
    }
    Ok(())
}

/// A connection that breaks while writers are paused is not waited for meanwhile, though no new one can be had for a second:
/// writers go on at once, and another cut is made.
#[test]
fn a_copying_connection_that_is_killed_while_writers_are_paused_holds_nobody_up() -> Result<()> {
    let master = master("redis-7.4", 300, &[])?;
    let (mut killer, mut writer) = (master.client(0), master.client(0));
    let mut blocked = Some((master.client(0), master.client(0)));
    let (sender, held_up) = std::sync::mpsc::channel();
    let (mut is_paused, mut hot) = (false, 0);
    let gate = Gate::start(&master, move |command| {
        is_paused |= is(command, "CLIENT") && command[1].eq_ignore_ascii_case(b"PAUSE");
        if !["GETRANGE", "DUMP"].iter().any(|name| is(command, name)) || command[1] != b"key:7" {
            return;
        }
        if !is_paused {
            // Never clean before the pause.
            hot += 1;
            writer.words(&format!("SET key:7 {hot}")).expect("nothing is paused yet");
        } else if let Some((mut blocked, mut operator)) = blocked.take() {
            killer.words("CONFIG SET maxclients 1").expect("it can be set");
            assert_eq!(kill_who_sent(&mut killer, &command[0]).expect("it can be killed"), 1);
            let (begun, sender) = (Instant::now(), sender.clone());
            std::thread::spawn(move || {
                let _ = sender.send(blocked.words("SET behind-the-pause 1").map(|_| begun.elapsed()));
                std::thread::sleep(Duration::from_secs(1).saturating_sub(begun.elapsed()));
                operator.words("CONFIG SET maxclients 1000")
            });
        }
    })?;
    let report = Capture::start(&gate.url(), &["--max-pause", "5s"])?.proved(&master)?;
    let held_up = held_up.recv_timeout(PATIENCE).context("nobody paused")??;
    println!(
        "killed in a pause: a write was held up for {held_up:?}; {} ms by its own word",
        report["pause_ms"]
    );
    ensure!(held_up < Duration::from_millis(500), "a write was held up for {held_up:?}");
    ensure!(report["reconnects"] == 1 && report["pauses"].as_u64() > Some(0), "{report}");
    Ok(())
}

/// All connections but the link go at once, the one that asks beside the copies among them.
#[test]
fn all_connections_that_are_killed_at_once_are_made_again() -> Result<()> {
    for name in ["redis-6.2", "redis-7.4"] {
        let master = master(name, 3_000, &["--repl-backlog-size", "16mb"])?;
        let mut capture = Capture::reading(&master, &["--max-keys-per-second", "1000"])?;
        let mut conn = master.client(0);
        for kill in 0..8 {
            conn.words("CLIENT KILL TYPE normal")?;
            (0..50).try_for_each(|n| conn.words(&format!("SET key:{n} killed-{kill}")).map(drop))?;
            capture.assert_running()?;
            std::thread::sleep(Duration::from_millis(200));
        }
        let report = capture.proved(&master)?;
        println!("{name}: 8 kills, {} reconnects", report["reconnects"]);
        ensure!(report["reconnects"].as_u64() >= Some(8), "{name}: {report}");
    }
    Ok(())
}

#[test]
fn a_master_that_is_gone_is_waited_for_and_then_given_up() -> Result<()> {
    let master = master("redis-7.4", 3_000, &[])?;
    let capture = Capture::reading(&master, &["--max-keys-per-second", "500", "--reconnect-for", "2s"])?;
    let begun = Instant::now();
    signal(master.pid(), "KILL");
    let (outcome, to) = capture.end()?;
    println!("gone for {:?}: {}", begun.elapsed(), outcome.stderr.trim_end());
    outcome.assert(3, &[]);
    ensure!(begun.elapsed() > Duration::from_millis(1_900), "it was given up after {:?}", begun.elapsed());
    assert_nothing_in(to.path())
}

#[test]
fn an_empty_keyspace_is_captured() -> Result<()> {
    for name in ["redis-6.2", "redis-8.6", "valkey-9"] {
        let master = TestServer::start(name, &[]);
        let report = Capture::start(&master.url(), &[])?.proved(&master)?;
        ensure!(report["keys"] == 0, "{name}: {report}");
    }
    Ok(())
}

/// Keys, values, fields, members and elements of no bytes.
#[test]
fn names_and_values_of_no_bytes_are_captured() -> Result<()> {
    let master = TestServer::start("redis-7.4", &[]);
    let mut batch = Batch::default();
    batch.add(&["SET", "", ""]);
    batch.add(&["SET", "empty", ""]);
    batch.add(&["HSET", "hash", "", ""]);
    batch.add(&["SADD", "set", ""]);
    batch.add(&["ZADD", "zset", "1", ""]);
    batch.add(&["RPUSH", "list", "", ""]);
    batch.add(&["XADD", "stream", "1-1", "", ""]);
    master.client(0).send_all(batch)?;
    master.client(5).call(&["RPUSH", "", ""])?;
    let report = Capture::start(&master.url(), &[])?.proved(&master)?;
    ensure!(report["keys"] == 8, "{report}");
    Ok(())
}

/// A DUMP would build all of it a second time in the master's memory.
#[test]
fn a_huge_string_is_read_in_parts() -> Result<()> {
    const HUGE: usize = 200 << 20;
    let master = TestServer::start("redis-7.4", &[]);
    let mut conn = master.client(0);
    conn.call(&["SETRANGE", "huge", &(HUGE - 4).to_string(), "last"])?;
    for part in 0..20_usize {
        conn.call(&["SETRANGE", "huge", &(part * 10_000_019).to_string(), &format!("part {part}")])?;
    }
    fill(&master, 0, 100)?;
    let before = master.info_number("used_memory_peak");
    let (outcome, _to) = Capture::start(&master.url(), &[])?.end()?;
    let report = checked_report(&outcome)?;
    let grown = master.info_number("used_memory_peak") - before;
    println!(
        "a string of 200 MB: the master's peak grew by {grown} bytes, ours was {} MiB",
        outcome.peak_rss_bytes >> 20
    );
    ensure!(grown < 16 << 20, "the master's peak grew by {grown} bytes");
    let replica = continues(&master, &std::fs::read(rdb_of(&report)?)?)?;
    replica.wait_for_offset_of(&master)?;
    let [one, two] = [&master, &replica].map(|server| debug_digest(&mut server.client(0)));
    ensure!(one? == two?, "the replica's data is another");
    Ok(())
}

/// The source takes no longer words than 1 MB; what it holds is longer.
#[test]
fn a_source_that_takes_short_words_only_is_captured() -> Result<()> {
    let master = master("redis-7.4", 500, &[])?;
    let mut conn = master.client(0);
    conn.call(&["SET", "long", &"0123456789".repeat(300_000)])?;
    conn.call(&["RPUSH", "list", &"element".repeat(100_000), &"another".repeat(200_000)])?;
    conn.call(&["HSET", "hash", "field", &"value".repeat(500_000), "short", "value"])?;
    conn.words("CONFIG SET proto-max-bulk-len 1mb")?;
    let capture = Capture::start(&master.url(), &[])?;
    let report = capture.proved(&master)?;
    ensure!(report["keys"] == 503, "{report}");
    Ok(())
}

/// Transactions are in the stream as one; no cut may fall into one.
#[test]
fn transactions_of_ten_thousand_commands_are_captured() -> Result<()> {
    let master = master("redis-7.4", 2_000, &["--repl-backlog-size", "64mb"])?;
    let mut capture = Capture::reading(&master, &["--max-keys-per-second", "1500"])?;
    let mut conn = master.client(0);
    for round in 0..4 {
        let mut batch = Batch::default();
        batch.add(&["MULTI"]);
        for number in 0..10_000 {
            batch.add(&["SET", &format!("multi:{}", number % 3_000), &format!("{round}.{number}")]);
        }
        batch.add(&["EXEC"]);
        conn.send_all(batch)?;
        if round == 0 {
            capture.assert_running()?;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    capture.proved(&master).map(drop)
}

/// Every database has keys of the same names; two are exchanged meanwhile.
#[test]
fn sixteen_databases_are_captured() -> Result<()> {
    let master = TestServer::start("valkey-9", &[]);
    (0..16).try_for_each(|db| fill(&master, db, 100))?;
    let mut capture = Capture::reading(&master, &["--max-keys-per-second", "1000"])?;
    master.client(0).words("SWAPDB 3 14")?;
    for db in 0..16 {
        master.client(db).words(&format!("SET key:5 meanwhile-in-{db}"))?;
    }
    capture.assert_running()?;
    let report = capture.proved(&master)?;
    ensure!(report["keys"] == 1_600, "{report}");
    Ok(())
}

/// What was copied is gone, and what comes after is not.
#[test]
fn a_flush_of_everything_is_captured() -> Result<()> {
    for name in ["redis-6.2", "redis-8.6"] {
        let master = master(name, 2_000, &[])?;
        fill(&master, 9, 500)?;
        let mut capture = Capture::reading(&master, &["--max-keys-per-second", "1000"])?;
        master.client(0).words("FLUSHALL")?;
        fill(&master, 4, 30)?;
        capture.assert_running().context("before the flush was over")?;
        let report = capture.proved(&master)?;
        ensure!(report["keys"] == 30, "{name}: {report}");
    }
    Ok(())
}

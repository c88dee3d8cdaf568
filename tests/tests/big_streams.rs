//! Big streams: they are read in parts, are exact to the last pending entry, and what no command shows is not lost.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use redis::Value;
use replsync_tests::bootable::{PATIENCE, backup, checked_report, continues, differences};
use replsync_tests::client::{Batch, Conn, array, bytes, int};
use replsync_tests::contents::report;
use replsync_tests::job::digest_of;
use replsync_tests::node::{Node, Outcome};
use replsync_tests::server::{Options, TestServer};

const SEED: u64 = 20_251_124;
/// Above this a value is read in parts.
const BIG: [&str; 2] = ["--big-value-bytes", "64KiB"];
/// What cannot be read in parts is refused.
const NO_DUMP: [&str; 2] = ["--max-dump-bytes", "16KiB"];

/// Some 3 MB: deleted entries, three groups, thousands of pending entries, some of them of entries that are gone.
fn fill(conn: &mut Conn) -> Result<()> {
    let mut rng = Rng::with_seed(SEED);
    let mut batch = Batch::default();
    let mut add = |id: String, fields: &[&str]| {
        batch.add(&[&["XADD", "big", &id], fields].concat());
    };
    let long = "long ".repeat(20_000);
    for number in 1..=20_000u64 {
        let (id, value) = (format!("{}-{}", 1 + number / 5, number), "x".repeat(rng.usize(0..200)));
        let text = number.to_string();
        match number % 100 {
            0..70 => add(id, &["a", &text, "b", &value]),
            70..90 => add(id, &["a", &value]),
            90..99 => add(id, &["", "-9223372036854775808", "12", "-0", "b", "", "b", "twice"]),
            _ if number % 5_000 == 999 => add(id, &["long", &long]),
            _ => add(id, &["z", &value, "a", &text]),
        }
    }
    conn.send_all(std::mem::take(&mut batch))?;
    for words in [
        "XGROUP CREATE big g 0",
        "XGROUP CREATE big idle 5-0",
        "XGROUP CREATE big none $",
        "XREADGROUP GROUP g alice COUNT 3000 STREAMS big >",
        "XREADGROUP GROUP g 12 COUNT 2000 STREAMS big >",
        "XREADGROUP GROUP idle nobody COUNT 3 STREAMS big >",
        "XCLAIM big g 12 0 2-7 2-8 RETRYCOUNT 1000",
        "XCLAIM big g old 0 2-9 TIME 86400000",
    ] {
        conn.words(words)?;
    }
    for number in 0..40 {
        let name = format!("consumer {number}");
        conn.call(&["XREADGROUP", "GROUP", "g", &name, "COUNT", "50", "STREAMS", "big", ">"])?;
        std::thread::sleep(Duration::from_millis(2)); // another delivery time
    }
    for number in 1..=20_000u64 {
        if rng.u32(0..10) == 0 || (7_000..7_500).contains(&number) {
            batch.add(&["XDEL", "big", &format!("{}-{}", 1 + number / 5, number)]);
        }
        if number < 6_000 && rng.u32(0..5) == 0 {
            batch.add(&["XACK", "big", "g", &format!("{}-{}", 1 + number / 5, number)]);
        }
    }
    conn.send_all(batch)?;
    conn.words("XSETID big 18446744073709551615-5")?;
    conn.words("PEXPIREAT big 4102444800123").map(drop)
}

/// All that a server says of the stream, but how it lies in memory.
fn told(server: &TestServer) -> Result<Vec<(Vec<u8>, Value)>> {
    let full = server.client(0).words("XINFO STREAM big FULL COUNT 0")?;
    let mut items = array(full).into_iter();
    let mut fields = Vec::new();
    while let (Some(name), Some(value)) = (items.next(), items.next()) {
        fields.push((bytes(name), value));
    }
    fields.retain(|(name, _)| !name.starts_with(b"radix-tree"));
    Ok(fields)
}

/// Runs `work` while somebody calls `write` again and again.
fn meanwhile<T>(
    server: &TestServer,
    write: impl Fn(&mut Conn, u64) -> Result<()> + Sync,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let (stop, mut conn) = (AtomicBool::new(false), server.client(0));
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| -> Result<()> {
            let mut number = 0;
            while !stop.load(Ordering::Relaxed) {
                number += 1;
                write(&mut conn, number)?;
            }
            Ok(())
        });
        let done = work();
        stop.store(true, Ordering::Relaxed);
        writer.join().expect("a writer does not panic")?;
        done
    })
}

fn rdb_of(outcome: &Outcome) -> Result<Vec<u8>> {
    Ok(std::fs::read(checked_report(outcome)?["rdb"].as_str().context("no rdb")?)?)
}

fn big_streams_are_exact(name: &str) -> Result<()> {
    println!("{name}, seed {SEED}");
    let master = TestServer::start(name, &["--repl-backlog-size", "64mb"]);
    fill(&mut master.client(0))?;
    let used = int(&master.client(0).words("MEMORY USAGE big SAMPLES 0")?).context("no number")?;
    let folder = tempfile::tempdir()?;
    let others = |conn: &mut Conn, number: u64| {
        conn.call(&["XADD", &format!("other {}", number % 9), "*", "n", &number.to_string()])?;
        std::thread::sleep(Duration::from_micros(300));
        Ok(())
    };
    let more = [&BIG[..], &NO_DUMP].concat();
    let outcome = meanwhile(&master, others, || backup(&master.url(), folder.path(), &more))?;
    let said = checked_report(&outcome)?;
    let replica = continues(&master, &rdb_of(&outcome)?)?;
    // Who looks at what follows must not be told that it was DUMP: that was forbidden.
    ensure!(said["big_values"].as_u64() >= Some(1), "not read in parts: {said}");
    if master.version().redis_at_least(6, 0) {
        let [one, two] = [told(&master)?, told(&replica)?];
        assert!(one == two, "{one:?}\n{two:?}");
    }
    let (keys, differences) = differences(&master, &replica)?;
    assert!(differences.is_empty(), "{}", report(&differences));

    let url = master.url();
    let args = [&["digest", &url, "--json"][..], &more].concat();
    let live = Node::run(&args, PATIENCE)?;
    live.assert(0, &[]);
    assert_eq!(live.json()?["data"], digest_of(&master)?["data"], "{live:?}");
    println!(
        "{name}: {keys} keys, one of {used} bytes in {} parts, pause {} ms",
        said["big_parts"], said["pause_ms"]
    );
    Ok(())
}

macro_rules! servers {
    ($($test:ident $name:literal)*) => {
        $(#[test] fn $test() -> Result<()> { big_streams_are_exact($name) })*
    };
}

servers! {
    big_streams_of_redis_5_0_are_exact "redis-5.0"
    big_streams_of_redis_6_2_are_exact "redis-6.2"
    big_streams_of_redis_7_0_are_exact "redis-7.0"
    big_streams_of_redis_7_2_are_exact "redis-7.2"
    big_streams_of_redis_7_4_are_exact "redis-7.4"
    big_streams_of_redis_8_6_are_exact "redis-8.6"
    big_streams_of_valkey_9_are_exact "valkey-9"
}

/// Whatever is read of it is old before the next page: it waits until writers are paused.
#[test]
fn a_stream_that_is_written_all_the_time_waits_for_the_pause() -> Result<()> {
    let master = TestServer::start("redis-7.4", &["--repl-backlog-size", "64mb"]);
    fill(&mut master.client(0))?;
    master.client(0).words("DEL big")?;
    let mut batch = Batch::default();
    (0..20_000).for_each(|number| batch.add(&["XADD", "big", "*", "n", &format!("{number:050}")]));
    master.client(0).send_all(batch)?;
    let hot = |conn: &mut Conn, number: u64| {
        conn.call(&["XADD", "big", "*", "n", &number.to_string()])?;
        std::thread::sleep(Duration::from_micros(200));
        Ok(())
    };
    let folder = tempfile::tempdir()?;
    let more = ["--big-value-bytes", "64KiB", "--max-pause", "2s"];
    let (outcome, replica) = meanwhile(&master, hot, || {
        let outcome = backup(&master.url(), folder.path(), &more)?;
        let replica = continues(&master, &rdb_of(&outcome)?)?;
        Ok((outcome, replica))
    })?;
    let said = checked_report(&outcome)?;
    ensure!(said["pauses"].as_u64() >= Some(1) && said["big_values"].as_u64() >= Some(1), "{said}");
    let (_, differences) = differences(&master, &replica)?;
    assert!(differences.is_empty(), "{}", report(&differences));
    Ok(())
}

/// No command shows which message ids of producers 8.6 remembers: by DUMP up to the limit, or not at all.
#[test]
fn a_big_stream_that_remembers_message_ids_is_read_at_once_or_refused() -> Result<()> {
    let master = TestServer::start("redis-8.6", &["--repl-backlog-size", "64mb"]);
    fill(&mut master.client(0))?;
    let mut conn = master.client(0);
    conn.words("XSETID big 9999999-5")?;
    conn.words("XADD big IDMP producer message * a b")?;
    let folder = tempfile::tempdir()?;
    let outcome = backup(&master.url(), folder.path(), &[&BIG[..], &NO_DUMP].concat())?;
    outcome.assert(5, &["big", "stream", "--max-dump-bytes"]);
    ensure!(std::fs::read_dir(folder.path())?.next().is_none(), "refused, and left files behind");
    let outcome = backup(&master.url(), folder.path(), &BIG)?;
    let copy = TestServer::start_with("redis-8.6", &Options::default().rdb(&rdb_of(&outcome)?));
    assert_eq!(told(&master)?, told(&copy)?);
    let again = |server: &TestServer| server.client(0).words("XADD big IDMP producer message * a b");
    assert_eq!(again(&master)?, again(&copy)?, "a message that came twice was not recognised");
    Ok(())
}

//! Links that break and targets that are slow: nothing is lost, and nothing copied twice.
//!
//! `REPLSYNC_SEED` chooses other places to cut at.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use replsync_tests::client::Batch;
use replsync_tests::contents::read_both;
use replsync_tests::fill::fill;
use replsync_tests::job::{
    PATIENCE, arrive, assert_equal, following_by, running, setting, shifted, start, stop,
};
use replsync_tests::node::{Node, Outcome};
use replsync_tests::proxy::Proxy;
use replsync_tests::server::TestServer;
use replsync_tests::settle::expire;
use replsync_tests::writer::Writer;

const CUTS: u32 = 10;

macro_rules! pairs {
    ($($test:ident $from:literal $to:literal)*) => {
        $(#[test] fn $test() -> Result<()> { cut_in_the_stream($from, $to) })*
    };
}

pairs! {
    cut_in_the_stream_redis_5_0_to_redis_6_2 "redis-5.0" "redis-6.2"
    cut_in_the_stream_redis_6_2_to_redis_7_4 "redis-6.2" "redis-7.4"
    cut_in_the_stream_redis_7_4_to_redis_7_4 "redis-7.4" "redis-7.4"
    cut_in_the_stream_redis_8_6_to_redis_7_4 "redis-8.6" "redis-7.4"
    cut_in_the_stream_valkey_9_to_redis_8_6 "valkey-9" "redis-8.6"
}

/// Ten resets at random bytes behind the RDB, under writes: each time it goes on exactly where it was.
fn cut_in_the_stream(from: &str, to: &str) -> Result<()> {
    let seed = setting("REPLSYNC_SEED", 1);
    let (source, target) = (TestServer::start(from, &[]), TestServer::start(to, &[]));
    let proxy = Proxy::start(&source)?;
    fill(&source.url(), 2_000, seed)?;
    let writer = Writer::start(&source.url(), seed, 3_000)?;
    let mut node = following_by(&proxy.url(), &source, &target, &[])?;
    arrive(&mut node, &source, &target, PATIENCE)?;
    proxy.cut(CUTS, 1..60_000, seed);
    proxy.wait_for_cuts(CUTS.into(), PATIENCE, || running(&mut node))?;
    writer.stop()?;
    expire(&source.url())?;
    arrive(&mut node, &source, &target, PATIENCE)?;
    let outcome = stop(node)?;
    let (full, partial) = (source.info_number("sync_full"), source.info_number("sync_partial_ok"));
    let links = proxy.links();
    println!("{from} to {to}, seed {seed}: {links} links, sync_full {full}, sync_partial_ok {partial}");
    assert_eq!(full, 1, "no second full sync");
    // A cut within the answer to PSYNC counts for the source, not for us.
    assert!(partial >= i64::from(CUTS), "{partial} partial syncs");
    let reconnects = outcome.json()?["reconnects"].as_u64();
    assert!(reconnects.is_some_and(|count| count > 0 && count <= partial as u64), "{}", outcome.stdout);
    assert_equal(&source, &target).map(drop)
}

/// The link breaks again and again while the job waits for quiet, verifies and puts expiries right: messages to
/// subscribers keep it busy, which nobody takes for writes.
#[test]
fn cut_while_nobody_writes() -> Result<()> {
    let seed = setting("REPLSYNC_SEED", 1);
    let (source, target) = (TestServer::start("redis-6.2", &[]), TestServer::start("redis-7.4", &[]));
    let proxy = Proxy::start(&source)?;
    fill(&source.url(), 3_000, seed)?;
    expire(&source.url())?;
    let mut node = start(&proxy.url(), &target.url(), &["--until", "quiet:1s", "--verify"])?;
    for _ in 0..2 {
        arrive(&mut node, &source, &target, PATIENCE)?;
    }
    let (mut conn, began) = (source.client(0), Instant::now());
    while node.is_running()? && began.elapsed() < PATIENCE {
        proxy.cut(1, 1..100, seed + proxy.cuts());
        conn.words("PUBLISH news something")?;
        std::thread::sleep(Duration::from_millis(150));
    }
    let outcome = node.wait(PATIENCE)?;
    println!("seed {seed}: {} cuts, {}", proxy.cuts(), outcome.stdout);
    outcome.assert(0, &[]);
    let said = outcome.json()?;
    assert_eq!((&said["verified"], &said["exact"]), (&true.into(), &true.into()), "{said}");
    ensure!(proxy.cuts() > 3, "only {} cuts", proxy.cuts());
    assert_eq!(source.info_number("sync_full"), 1);
    assert_equal(&source, &target).map(drop)
}

/// Three resets at random bytes of the RDB, under writes: what had come is flushed, and it starts anew.
fn cut_in_the_rdb(from: &str, to: &str) -> Result<()> {
    let seed = setting("REPLSYNC_SEED", 1);
    let (source, target) = (TestServer::start(from, &[]), TestServer::start(to, &[]));
    let proxy = Proxy::start(&source)?;
    // Some 3 MB of RDB, of which a part arrives each time.
    fill(&source.url(), 2_000, seed)?;
    let mut doomed = Batch::default();
    (0..1_000).for_each(|number| doomed.add(&["SET", &format!("doomed:{number}"), "1"]));
    source.client(0).send_all(doomed)?;
    let writer = Writer::start(&source.url(), seed, 2_000)?;
    proxy.cut_within_payload(3, 1..2_000_000, seed);
    let mut node = start(&proxy.url(), &target.url(), &["--restarts", "3", "--method", "full-sync"])?;
    for cut in 1..=3 {
        proxy.wait_for_cuts(cut, PATIENCE, || running(&mut node))?;
        let script = "for i = 0, 999 do redis.call('DEL', 'doomed:' .. i) end";
        source.client(0).call(&["EVAL", script, "0"])?;
    }
    arrive(&mut node, &source, &target, PATIENCE)?;
    writer.stop()?;
    expire(&source.url())?;
    arrive(&mut node, &source, &target, PATIENCE)?;
    let outcome = stop(node)?;
    println!("{from} to {to}, seed {seed}: {}", outcome.stdout);
    assert_eq!(outcome.json()?["restarts"], 3, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("starting anew"), "{}", outcome.stderr);
    assert_eq!(source.info_number("sync_full"), 4);
    assert_equal(&source, &target).map(drop)
}

#[test]
fn cut_in_the_rdb_redis_6_2_to_redis_7_4() -> Result<()> {
    cut_in_the_rdb("redis-6.2", "redis-7.4")
}

#[test]
fn cut_in_the_rdb_redis_7_4_to_valkey_9() -> Result<()> {
    cut_in_the_rdb("redis-7.4", "valkey-9")
}

/// More cuts of the RDB than it may start anew: it gives up and says that the target is not to be used.
#[test]
fn cut_in_the_rdb_too_often() -> Result<()> {
    let seed = setting("REPLSYNC_SEED", 1);
    let (source, target) = (TestServer::start("redis-7.4", &[]), TestServer::start("redis-7.4", &[]));
    let proxy = Proxy::start(&source)?;
    fill(&source.url(), 2_000, seed)?;
    proxy.cut_within_payload(2, 1..2_000_000, seed);
    let args = ["--restarts", "1", "--method", "full-sync"];
    start(&proxy.url(), &target.url(), &args)?.wait(PATIENCE)?.assert(5, &["into the RDB"]);
    Ok(())
}

/// Values for a keyspace that stays small, however long it is written to.
const VALUE_BYTES: usize = 10_000;
const VALUES_PER_SECOND: u64 = 2_000;
/// A source drops a replica that is so far behind.
const OUTPUT_LIMIT: [&str; 5] = ["--client-output-buffer-limit", "replica", "4mb", "0", "0"];

/// A source that is written to, and a target that takes a quarter of that, each behind a proxy.
struct Slow {
    source: TestServer,
    target: TestServer,
    before_source: Proxy,
    before_target: Proxy,
    spool: tempfile::TempDir,
    node: Node,
    seed: u64,
}

impl Slow {
    fn new(source_args: &[&str]) -> Result<Self> {
        let seed = setting("REPLSYNC_SEED", 1);
        let source = TestServer::start("redis-7.4", &[&OUTPUT_LIMIT, source_args].concat());
        let target = TestServer::start("redis-7.4", &[]);
        let (before_source, before_target) = (Proxy::start(&source)?, Proxy::start(&target)?);
        fill(&source.url(), 600, seed)?;
        let spool = tempfile::tempdir()?;
        let folder = spool.path().display().to_string();
        let mut node = start(&before_source.url(), &before_target.url(), &["--spool", &folder])?;
        for _ in 0..2 {
            arrive(&mut node, &source, &target, PATIENCE)?;
        }
        before_target.throttle(VALUES_PER_SECOND * VALUE_BYTES as u64 / 4);
        Ok(Self { source, target, before_source, before_target, spool, node, seed })
    }

    /// Writes for that long.
    fn write(&mut self, seconds: u64) -> Result<()> {
        let (began, mut conn, mut written_bytes) = (Instant::now(), self.source.client(3), 0);
        let mut rng = fastrand::Rng::with_seed(self.seed);
        for part in 0..seconds * 20 {
            let mut batch = Batch::default();
            for _ in 0..VALUES_PER_SECOND / 20 {
                let value = vec![rng.alphanumeric() as u8; VALUE_BYTES];
                let name = rng.u16(..500);
                batch.add(&[b"SET", format!("slow:{name}").as_bytes(), &value]);
                // One that is lost or comes twice is not made good by the next.
                batch.add(&["INCR", &format!("counter:{name}")]);
            }
            batch.add(&["INCR", "batches"]);
            written_bytes += batch.len_bytes();
            conn.send_all(batch)?;
            running(&mut self.node)?;
            std::thread::sleep(Duration::from_millis(part * 50).saturating_sub(began.elapsed()));
        }
        println!("seed {}: {} MB in {:?}", self.seed, written_bytes >> 20, began.elapsed());
        Ok(())
    }

    /// Lets the target be as fast as it was, waits until everything has arrived, and compares.
    fn catch_up(self) -> Result<(Outcome, TestServer)> {
        let Self { source, target, before_target, spool, mut node, .. } = self;
        let late = Instant::now();
        before_target.throttle(4 * VALUES_PER_SECOND * VALUE_BYTES as u64);
        arrive(&mut node, &source, &target, 2 * PATIENCE)?;
        println!("applied {:?} later", late.elapsed());
        let outcome = stop(node)?;
        println!("peak {} MB, {}", outcome.peak_rss_bytes >> 20, outcome.stdout);
        ensure!(outcome.peak_rss_bytes < 128 << 20, "{} bytes of memory", outcome.peak_rss_bytes);
        let spooled_bytes = outcome.json()?["spooled_bytes_max"].as_u64();
        ensure!(spooled_bytes > Some(20 << 20), "hardly anything was spooled: {spooled_bytes:?}");
        assert_equal(&source, &target)?;
        let left: Vec<_> = std::fs::read_dir(spool.path())?.collect();
        assert!(left.is_empty(), "the spool is left behind: {left:?}");
        Ok((outcome, source))
    }
}

/// The target takes a quarter of what is written, for longer than the source would wait for anyone.
#[test]
fn a_target_at_a_quarter_of_the_speed_is_waited_for() -> Result<()> {
    let mut slow = Slow::new(&[])?;
    slow.write(setting("REPLSYNC_LAG_SECONDS", 4).max(3))?;
    let (_, source) = slow.catch_up()?;
    let (full, partial) = (source.info_number("sync_full"), source.info_number("sync_partial_ok"));
    assert_eq!((full, partial), (1, 1), "the source never dropped the link: {}", source.log());
    Ok(())
}

/// What waits in the spool when the link breaks is applied, and what comes after it, and nothing twice.
#[test]
fn cut_while_much_waits_for_a_slow_target() -> Result<()> {
    let mut slow = Slow::new(&["--repl-backlog-size", "64mb"])?;
    slow.before_source.cut(CUTS, 1..5_000_000, slow.seed);
    slow.write(setting("REPLSYNC_LAG_SECONDS", 4).max(3))?;
    let cuts = slow.before_source.cuts();
    let (outcome, source) = slow.catch_up()?;
    let (full, partial) = (source.info_number("sync_full"), source.info_number("sync_partial_ok"));
    println!("{cuts} cuts, sync_full {full}, sync_partial_ok {partial}");
    ensure!(cuts >= 5, "only {cuts} cuts: {outcome:?}");
    assert_eq!(full, 1, "no second full sync");
    assert!(partial as u64 >= cuts, "{partial} partial syncs");
    Ok(())
}

/// Told to stop with much in the spool, it says what the target has, and that is a whole transaction's end.
#[test]
fn told_to_stop_while_much_waits_for_a_slow_target() -> Result<()> {
    let mut slow = Slow::new(&[])?;
    slow.write(setting("REPLSYNC_LAG_SECONDS", 4).max(3))?;
    let Slow { source, target, before_target: _slow, node, .. } = slow;
    node.signal("TERM");
    let outcome = node.wait(PATIENCE)?;
    println!("{:?} {} {}", outcome.code, outcome.stdout, outcome.stderr);
    // Either it was in time, or it says that it was not.
    let said = outcome.json()?;
    let arrived = |server: &TestServer| server.client(3).words("GET batches");
    let all = arrived(&source)? == arrived(&target)?;
    ensure!(!all, "it arrived in time: nothing was tested");
    outcome.assert(4, &[]);
    assert_eq!((&said["caught_up"], &said["exact"]), (&false.into(), &false.into()), "{said}");
    let sides = read_both(&source.url(), &target.url())?;
    ensure!(shifted(&sides).is_empty(), "left shifted: {}", shifted(&sides).len());
    Ok(())
}

/// A spool has a limit, and what does not fit is not lost in silence.
#[test]
fn a_full_spool_ends_the_job() -> Result<()> {
    let source = TestServer::start("redis-7.4", &OUTPUT_LIMIT);
    let target = TestServer::start("redis-7.4", &[]);
    source.client(0).words("SET a 1")?;
    let spool = tempfile::tempdir()?;
    let folder = spool.path().display().to_string();
    let mut node =
        start(&source.url(), &target.url(), &["--spool", &folder, "--spool-max-bytes", "4000000"])?;
    for _ in 0..2 {
        arrive(&mut node, &source, &target, PATIENCE)?;
    }
    target.pause();
    let (mut conn, deadline) = (source.client(3), Instant::now() + PATIENCE);
    while node.is_running()? {
        ensure!(Instant::now() < deadline, "it goes on: {}", node.stderr());
        let mut batch = Batch::default();
        (0..100).for_each(|number| batch.add(&["SET", &format!("k:{number}"), &"v".repeat(VALUE_BYTES)]));
        conn.send_all(batch)?;
        std::thread::sleep(Duration::from_millis(50));
    }
    target.resume();
    node.wait(PATIENCE)?.assert(5, &["spool"]);
    Ok(())
}

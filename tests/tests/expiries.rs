//! Nothing expires too early, and nothing too late: keys and fields are set, renewed and persisted on the source around
//! the moment at which they expire, while the target lags so far that it sees all of it when it is past.
//!
//! `REPLSYNC_LAG_SECONDS` (5), `REPLSYNC_KEYS` (10,000) and `REPLSYNC_SEED` choose another load;
//! `scripts/prove-nothing-lost.sh` lets it lag for 30 s.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use replsync_tests::client::{Batch, Conn, array, int};
use replsync_tests::contents::{Contents, read_both};
use replsync_tests::expiring::{For, Plan, epoch_ms};
use replsync_tests::fill::fill;
use replsync_tests::job::{
    PATIENCE, arrive, assert_equal, following, run, running, setting, shifted, start, stop, wait_for,
};
use replsync_tests::node::Node;
use replsync_tests::proxy::Proxy;
use replsync_tests::server::TestServer;
use replsync_tests::settle::expire;

macro_rules! pairs {
    ($($test:ident $from:literal $to:literal)*) => {
        $(#[test] fn $test() -> Result<()> { renewed_while_the_target_lags($from, $to) })*
    };
}

pairs! {
    redis_5_0_to_redis_6_2 "redis-5.0" "redis-6.2"
    redis_6_2_to_redis_7_4 "redis-6.2" "redis-7.4"
    redis_7_0_to_redis_8_0 "redis-7.0" "redis-8.0"
    redis_7_4_to_redis_7_4 "redis-7.4" "redis-7.4"
    redis_7_4_to_valkey_9 "redis-7.4" "valkey-9"
    redis_7_2_to_valkey_8_1 "redis-7.2" "valkey-8.1"
    redis_8_6_to_redis_7_4 "redis-8.6" "redis-7.4"
    valkey_9_to_redis_8_6 "valkey-9" "redis-8.6"
}

fn lag() -> Duration {
    Duration::from_secs(setting("REPLSYNC_LAG_SECONDS", 5).max(3))
}

/// A source with keys that have a story, and a target that has begun to lag before the copy was sent.
struct Lagging {
    source: TestServer,
    target: TestServer,
    node: Node,
    keys: u32,
}

impl Lagging {
    /// Starts both and the job, stops the target before the first key of the copy, and lets the stories happen. They are
    /// over when this returns; the target still stands.
    fn new(from: &str, to: &str, more: &[&str]) -> Result<Self> {
        let (seed, keys) = (setting("REPLSYNC_SEED", 1), setting("REPLSYNC_KEYS", 10_000) as u32);
        println!("{from} to {to} {more:?}: seed {seed}, {keys} keys, {:?} of lag", lag());
        let (source, target) = (TestServer::start(from, &[]), TestServer::start(to, &[]));
        let mut conn = source.client(0);
        let window = lag() - Duration::from_secs(1);
        let target_version = target.version();
        let mut plan = Plan::new(For { source: &mut conn, target: target_version, keys, window, seed })?;
        plan.prepare(&mut conn)?;
        // Enough to stop the target and to set the first expiries between our coming and the fork.
        conn.words("CONFIG SET repl-diskless-sync-delay 2")?;
        let mut node = start(&source.url(), &target.url(), more)?;
        wait_for("the link", PATIENCE, || {
            running(&mut node)?;
            Ok(source.info("replication").contains("slave0:"))
        })?;
        target.pause();
        plan.run(&mut conn)?;
        // The copy and the stream are on their way, and nothing of them has arrived.
        ensure!(source.info("replication").contains("state=online"), "{}", source.info("replication"));
        running(&mut node)?;
        Ok(Self { source, target, node, keys })
    }

    /// Lets the target run again.
    fn catch_up(&self) {
        self.target.resume();
    }

    /// Waits until everything that is left has arrived.
    fn arrived(&mut self) -> Result<()> {
        expire(&self.source.url())?;
        arrive(&mut self.node, &self.source, &self.target, PATIENCE)
    }
}

/// That enough of them were renewed, and enough were not, for the comparison to say something.
fn assert_both_happened(sides: &[Contents; 2], keys: u32) {
    let census = sides[0].census();
    println!("of {keys} keys: {census:?}");
    let left = sides[0].len();
    let keys = keys as usize;
    assert!((keys / 3..keys * 9 / 10).contains(&left), "{left} of {keys} are left: not what was wanted");
    assert!(census["expires"] > keys / 5, "{census:?}");
    if sides.iter().all(|side| side.version.has_field_ttl()) {
        assert!(census["field expires"] > keys / 20, "{census:?}");
    }
}

fn renewed_while_the_target_lags(from: &str, to: &str) -> Result<()> {
    let mut job = Lagging::new(from, to, &[])?;
    job.catch_up();
    job.arrived()?;
    let Lagging { source, target, node, keys } = job;
    let outcome = stop(node)?;
    assert_eq!(outcome.json()?["caught_up"], true, "{}", outcome.stdout);
    assert_both_happened(&assert_equal(&source, &target)?, keys);
    Ok(())
}

/// It ends by itself once nothing happens any more, and says that it has compared all of it.
fn until_quiet(from: &str, to: &str) -> Result<()> {
    let job = Lagging::new(from, to, &["--until", "quiet:1s", "--verify"])?;
    job.catch_up();
    let Lagging { source, target, node, keys } = job;
    let outcome = node.wait(PATIENCE)?;
    outcome.assert(0, &[]);
    let said = outcome.json()?;
    let claims = ["exact", "verified", "caught_up"].map(|claim| said[claim] == true);
    assert_eq!(claims, [true; 3], "{said}");
    assert_both_happened(&assert_equal(&source, &target)?, keys);
    Ok(())
}

#[test]
fn until_quiet_redis_6_2_to_redis_7_4() -> Result<()> {
    until_quiet("redis-6.2", "redis-7.4")
}

#[test]
fn until_quiet_valkey_9_to_valkey_9() -> Result<()> {
    until_quiet("valkey-9", "valkey-9")
}

/// A job that is killed leaves everything shifted. The next one says so and changes nothing, unless it may flush.
fn killed_and_run_again(from: &str, to: &str) -> Result<()> {
    let job = Lagging::new(from, to, &[])?;
    // Some of it arrives, in the middle of which the job dies.
    let Lagging { source, target, node, keys } = job;
    target.resume();
    target.wait_for_keys(u64::from(keys / 10), PATIENCE)?;
    node.signal("KILL");
    let killed = node.wait(PATIENCE)?;
    ensure!(killed.code.is_none(), "{killed:?}");
    std::thread::sleep(Duration::from_millis(300)); // what the kernel still has for the target
    expire(&source.url())?;
    let sides = read_both(&source.url(), &target.url())?;
    let (left_shifted, keys_before) = (shifted(&sides).len(), sides[1].len());
    println!("{left_shifted} expiries were left shifted, {keys_before} keys");
    ensure!(left_shifted > 0, "a killed job left no expiry shifted");

    let again = run(&source.url(), &target.url(), &["--until", "caught-up"])?;
    again.assert(2, &["shifted", "--flush-target"]);
    let sides = read_both(&source.url(), &target.url())?;
    ensure!(
        shifted(&sides).len() == left_shifted && sides[1].len() == keys_before,
        "a refusal changes nothing"
    );

    run(&source.url(), &target.url(), &["--until", "caught-up", "--flush-target"])?.assert(0, &[]);
    assert_equal(&source, &target).map(drop)
}

#[test]
fn killed_redis_6_2_to_redis_7_4() -> Result<()> {
    killed_and_run_again("redis-6.2", "redis-7.4")
}

#[test]
fn killed_redis_8_6_to_valkey_9() -> Result<()> {
    killed_and_run_again("redis-8.6", "valkey-9")
}

/// Told to stop while the target stands still: nothing stays shifted, and what it says of being caught up is true.
#[test]
fn told_to_stop_while_the_target_lags() -> Result<()> {
    let job = Lagging::new("redis-7.4", "redis-7.4", &[])?;
    expire(&job.source.url())?;
    job.node.signal("TERM");
    std::thread::sleep(Duration::from_secs(1));
    job.catch_up();
    let Lagging { source, target, node, .. } = job;
    let outcome = node.wait(PATIENCE)?;
    println!("{}{}", outcome.stdout, outcome.stderr);
    outcome.assert(4, &[]);
    let said = outcome.json()?;
    let sides = read_both(&source.url(), &target.url())?;
    ensure!(shifted(&sides).is_empty(), "left shifted: {}", shifted(&sides).len());
    if said["caught_up"] == true {
        assert_equal(&source, &target)?;
    }
    Ok(())
}

/// Clients write in bursts, with pauses of which some are a little longer than what the job takes for quiet: it puts
/// expiries right and has to take that back. It ends well, or says that something expired meanwhile.
fn written_to_in_bursts(from: &str, to: &str, ttl_ms: std::ops::Range<u64>) -> Result<()> {
    let seed = setting("REPLSYNC_SEED", 1);
    let (source, target) = (TestServer::start(from, &[]), TestServer::start(to, &[]));
    fill(&source.url(), 6_000, seed)?;
    expire(&source.url())?;
    let fields = source.version().has_field_ttl() && target.version().has_field_ttl();
    let (mut rng, mut conn) = (fastrand::Rng::with_seed(seed), source.client(0));
    let mut node = start(&source.url(), &target.url(), &["--until", "quiet:200ms"])?;
    let (mut bursts, mut written) = (0, 0);
    while bursts < 40 && node.is_running()? {
        conn.send_all(burst(&mut rng, fields, &ttl_ms))?;
        written = source.info_number("master_repl_offset");
        bursts += 1;
        std::thread::sleep(Duration::from_millis(rng.u64(50..260)));
    }
    let outcome = node.wait(PATIENCE)?;
    let taken_back = outcome.stderr.matches("following again").count();
    let code = outcome.code;
    println!(
        "{from} to {to}, seed {seed}: {bursts} bursts, taken back {taken_back} times, exit code {code:?}"
    );
    let brief = ttl_ms.end < 10_000;
    if code == Some(5) && brief {
        outcome.assert(5, &["expired on the target meanwhile"]);
        return Ok(());
    }
    outcome.assert(0, &[]);
    let said = outcome.json()?;
    assert_eq!(said["caught_up"], true, "{said}");
    if said["offset"].as_i64() < Some(written) {
        println!("the last burst came after its end");
        return Ok(());
    }
    // Until nothing expires any more.
    std::thread::sleep(Duration::from_millis(if brief { ttl_ms.end } else { 0 }));
    for server in [&source, &target] {
        expire(&server.url())?;
    }
    assert_equal(&source, &target).map(drop)
}

fn burst(rng: &mut fastrand::Rng, fields: bool, ttl_ms: &std::ops::Range<u64>) -> Batch {
    let mut batch = Batch::default();
    for _ in 0..20 {
        let ttl_ms = rng.u64(ttl_ms.clone()).to_string();
        let (key, hash) = (format!("burst:{}", rng.u8(..)), format!("burst hash:{}", rng.u8(..20)));
        let field = ["a", "b"][rng.usize(..2)];
        match rng.u8(..12) + if rng.u8(..3) == 0 { 0 } else { 2 } {
            0 => batch.add(&["SET", &key, "v", "PX", &ttl_ms]),
            1 => batch.add(&["PEXPIRE", &key, &ttl_ms]),
            2 | 3 => batch.add(&["PERSIST", &key]),
            4..7 => batch.add(&["APPEND", &key, "+"]),
            7 | 8 if fields => batch.add(&["HSET", &hash, field, "v"]),
            9 if fields => batch.add(&["HPEXPIRE", &hash, &ttl_ms, "FIELDS", "1", field]),
            10 if fields => batch.add(&["HPERSIST", &hash, "FIELDS", "1", field]),
            _ => batch.add(&["INCR", "burst counter"]),
        }
    }
    batch
}

const HOURS_MS: std::ops::Range<u64> = 3_600_000..100_000_000;

#[test]
fn written_to_in_bursts_6_2_to_7_4() -> Result<()> {
    written_to_in_bursts("redis-6.2", "redis-7.4", HOURS_MS)
}

#[test]
fn written_to_in_bursts_8_6_to_valkey_9() -> Result<()> {
    written_to_in_bursts("redis-8.6", "valkey-9", HOURS_MS)
}

#[test]
fn written_to_in_bursts_with_short_expiries() -> Result<()> {
    written_to_in_bursts("redis-7.4", "redis-7.4", 1_000..6_000)
}

/// Keys and fields that expire while the job ends, and shortly before and after: on the source they are gone by its
/// clock, on the target by its own once the shift is off.
fn expire_around_the_end(from: &str, to: &str) -> Result<()> {
    let seed = setting("REPLSYNC_SEED", 1);
    println!("{from} to {to}: seed {seed}");
    let (source, target) = (TestServer::start(from, &[]), TestServer::start(to, &[]));
    let mut node = following(&source, &target, &[])?;
    let mut rng = fastrand::Rng::with_seed(seed);
    let both_have_fields = source.version().has_field_ttl() && target.version().has_field_ttl();
    let (mut conn, mut batch) = (source.client(0), Batch::default());
    let (opened, window_ms) = (epoch_ms()?, 4_000);
    for number in 0..3_000 {
        let (key, ttl_ms) = (format!("late:{number}"), rng.u64(1..window_ms).to_string());
        if both_have_fields && number % 3 == 0 {
            batch.add(&["HSET", &key, "a", "1", "b", "2"]);
            batch.add(&["HPEXPIRE", &key, &ttl_ms, "FIELDS", "1", "a"]);
        } else {
            batch.add(&["SET", &key, "v", "PX", &ttl_ms]);
        }
    }
    conn.send_all(batch)?;
    std::thread::sleep(Duration::from_millis(rng.u64(500..1500)));
    arrive(&mut node, &source, &target, PATIENCE)?;
    stop(node)?;
    let stopped_ms = epoch_ms()? - opened;
    println!("stopped {stopped_ms} ms after the first, {} keys on the target", target.client(0).keys()?);
    ensure!(stopped_ms < window_ms, "too late to see anything");
    std::thread::sleep(Duration::from_millis(window_ms - stopped_ms));
    for server in [&source, &target] {
        expire(&server.url())?;
    }
    let sides = assert_equal(&source, &target)?;
    let fields = if both_have_fields { 1_000 } else { 0 };
    // With the mark of `arrive`.
    assert_eq!(sides[1].len(), fields + 1, "{:?}", sides[1].census());
    Ok(())
}

#[test]
fn what_expires_around_the_end_5_0_to_6_2() -> Result<()> {
    expire_around_the_end("redis-5.0", "redis-6.2")
}

#[test]
fn what_expires_around_the_end_7_4_to_valkey_9() -> Result<()> {
    expire_around_the_end("redis-7.4", "valkey-9")
}

/// While a job runs nothing on the target is within reach of its clock, and `doctor` knows what that means.
#[test]
fn what_is_written_meanwhile_is_out_of_reach() -> Result<()> {
    for (from, to) in [("redis-5.0", "redis-6.2"), ("redis-8.6", "redis-7.4")] {
        let (source, target) = (TestServer::start(from, &[]), TestServer::start(to, &[]));
        let fields = source.version().has_field_ttl() && target.version().has_field_ttl();
        let write = |part: &str| -> Result<()> {
            let mut conn = source.client(0);
            conn.words(&format!("SET {part}:key v PX 3600000"))?;
            conn.words(&format!("RPUSH {part}:list v"))?;
            conn.words(&format!("EXPIRE {part}:list 3600"))?;
            if fields {
                conn.words(&format!("HSET {part}:hash f v"))?;
                conn.words(&format!("HPEXPIRE {part}:hash 3600000 FIELDS 1 f"))?;
            }
            Ok(())
        };
        write("copied")?;
        let mut node = following(&source, &target, &[])?;
        write("streamed")?;
        arrive(&mut node, &source, &target, PATIENCE)?;
        for part in ["copied", "streamed"] {
            for key in ["key", "list"] {
                let left_ms = left_ms(&mut target.client(0), &format!("{part}:{key}"))?;
                ensure!(left_ms >= 1 << 59, "{part}:{key} expires in {left_ms} ms on {to}");
            }
            if fields {
                let left = target.client(0).words(&format!("HPTTL {part}:hash FIELDS 1 f"))?;
                let left_ms = array(left).first().and_then(int).unwrap_or(0);
                ensure!(left_ms >= 1 << 44, "the field of {part}:hash expires in {left_ms} ms on {to}");
            }
        }
        stop(node)?;
        assert_equal(&source, &target)?;
    }
    Ok(())
}

fn left_ms(conn: &mut Conn, key: &str) -> Result<i64> {
    int(&conn.call(&["PTTL", key])?).context("PTTL is not a number")
}

/// A server of before 7.0 sends relative expiries, which count from when they arrive, and on a slow link that is
/// late: they are read again at the end.
fn relative_expiries_come_late(more: &[&str]) -> Result<()> {
    let (source, target) = (TestServer::start("redis-6.2", &[]), TestServer::start("redis-7.4", &[]));
    let proxy = Proxy::start(&source)?;
    let mut node = start(&proxy.url(), &target.url(), more)?;
    arrive(&mut node, &source, &target, PATIENCE)?;
    proxy.delay(Duration::from_secs(3));
    let mut batch = Batch::default();
    for number in 0..2_000 {
        let ttl_ms = (3_600_000 + number * 1_000).to_string();
        batch.add(&["SET", &format!("relative:{number}"), "v", "PX", &ttl_ms]);
    }
    source.client(0).send_all(batch)?;
    arrive(&mut node, &source, &target, PATIENCE)?;
    proxy.delay(Duration::ZERO);
    if more.is_empty() {
        stop(node)?;
    } else {
        let outcome = node.wait(PATIENCE)?;
        assert_eq!(outcome.code, Some(0), "{} {}", outcome.stdout.len(), &outcome.stdout[..500]);
        assert_eq!(outcome.json()?["verified"], true, "{}", outcome.stdout);
    }
    assert_equal(&source, &target).map(drop)
}

#[test]
fn relative_expiries_are_put_right_at_the_end() -> Result<()> {
    relative_expiries_come_late(&[])
}

/// Nor does anybody call them different before.
#[test]
fn relative_expiries_are_not_called_different() -> Result<()> {
    relative_expiries_come_late(&["--until", "quiet:2s", "--verify"])
}

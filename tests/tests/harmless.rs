//! What a capture does to production: nothing that others notice. Each test measures it on a real server, while the
//! built `replsync-node backup` runs against it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use replsync_tests::bootable::{PATIENCE, checked_report, continues, differences};
use replsync_tests::client::{Batch, Conn, array, int, text};
use replsync_tests::contents::report;
use replsync_tests::gate::Gate;
use replsync_tests::job::wait_for;
use replsync_tests::node::{Node, Outcome};
use replsync_tests::server::{TestServer, signal};

#[path = "harmless/sentinel.rs"]
mod sentinel;
#[path = "harmless/survives.rs"]
mod survives;

/// A backup under way.
struct Capture {
    node: Node,
    to: tempfile::TempDir,
}

impl Capture {
    /// Starts `replsync-node backup`.
    fn start(master: &str, more: &[&str]) -> Result<Self> {
        let to = tempfile::tempdir()?;
        let folder = to.path().display().to_string();
        let node = Node::start(&[&["backup", master, "--to", &folder, "--json"], more].concat())?;
        Ok(Self { node, to })
    }

    /// The same, and waits until it reads keys.
    fn reading(master: &TestServer, more: &[&str]) -> Result<Self> {
        let mut capture = Self::start(&master.url(), more)?;
        wait_for("the capture to read keys", PATIENCE, || {
            capture.assert_running()?;
            Ok(our_line(master)?.is_some() && master.info("commandstats").contains("cmdstat_memory"))
        })?;
        Ok(capture)
    }

    fn assert_running(&mut self) -> Result<()> {
        ensure!(self.node.is_running()?, "the capture ended too early: {}", self.node.stderr());
        Ok(())
    }

    /// Waits for its end.
    fn end(self) -> Result<(Outcome, tempfile::TempDir)> {
        Ok((self.node.wait(PATIENCE)?, self.to))
    }

    /// Waits for its end, and proves from outside that it is exact.
    fn proved(self, master: &TestServer) -> Result<serde_json::Value> {
        let (outcome, _to) = self.end()?;
        let report = checked_report(&outcome)?;
        assert_exact(master, &rdb_of(&report)?)?;
        Ok(report)
    }
}

fn rdb_of(report: &serde_json::Value) -> Result<PathBuf> {
    Ok(report["rdb"].as_str().context("the JSON names no rdb")?.into())
}

/// A stock server continues from the file, and then holds what the master holds.
fn assert_exact(master: &TestServer, rdb: &Path) -> Result<()> {
    let replica = continues(master, &std::fs::read(rdb)?)?;
    let (_, differences) = differences(master, &replica)?;
    assert!(differences.is_empty(), "{} is not exact: {}", master.name(), report(&differences));
    Ok(())
}

/// Nothing is left that could be taken for a backup.
fn assert_nothing_in(folder: &Path) -> Result<()> {
    let left: Vec<PathBuf> =
        std::fs::read_dir(folder)?.map(|file| Ok(file?.path())).collect::<std::io::Result<_>>()?;
    assert!(left.is_empty(), "published or left behind: {left:?}");
    Ok(())
}

/// Small strings and some hashes in a database.
fn fill(server: &TestServer, db: u32, keys: u32) -> Result<()> {
    let mut batch = Batch::default();
    for number in 0..keys {
        match number % 10 {
            0 => batch.add(&["HSET", &format!("hash:{number}"), "field", "value", "", ""]),
            _ => batch.add(&["SET", &format!("key:{number}"), &format!("{number} in {db}")]),
        }
    }
    server.client(db).send_all(batch).map(drop)
}

/// A master with so many keys, started with more configuration.
fn master(name: &str, keys: u32, args: &[&str]) -> Result<TestServer> {
    let master = TestServer::start(name, args);
    fill(&master, 0, keys)?;
    Ok(master)
}

/// How a master lists us.
fn our_line(master: &TestServer) -> Result<Option<String>> {
    let info = master.info("replication");
    Ok(info.lines().find(|line| line.starts_with("slave") && line.contains("port=70000")).map(str::to_owned))
}

/// Sentinel passes over replicas with a port that cannot be; Lettuce's topology lookup fails on such a port, but not
/// where the name has a hyphen. WAIT counts replicas that acknowledge, which we never do.
#[test]
fn the_listing_is_passed_over_and_wait_is_not_satisfied() -> Result<()> {
    let masters = ["redis-6.2", "redis-7.4", "valkey-9"].map(|name| master(name, 2_000, &[]));
    let masters: Vec<TestServer> = masters.into_iter().collect::<Result<_>>()?;
    for master in &masters {
        let name = master.name();
        let mut capture = Capture::reading(master, &["--max-keys-per-second", "800"])?;
        let line = our_line(master)?.context("it was listed")?;
        let address = line.split(['=', ',']).nth(1).unwrap_or_default();
        ensure!(address.starts_with("replsync-"), "{name} lists {line}");
        let mut conn = master.client(0);
        conn.words("SET waited-for 1")?;
        let begun = Instant::now();
        let acknowledged = int(&conn.words("WAIT 1 200")?);
        ensure!(acknowledged == Some(0), "{name}: WAIT says {acknowledged:?}");
        ensure!(begun.elapsed() >= Duration::from_millis(190), "{name}: WAIT did not wait");
        let line = our_line(master)?.context("it is still listed")?;
        ensure!(line.contains("offset=0,"), "{name}: something was acknowledged: {line}");
        capture.assert_running()?;
        capture.proved(master)?;
        wait_for("the listing to end", PATIENCE, || Ok(our_line(master)?.is_none()))?;
    }
    Ok(())
}

/// Since 7.0 a master that shuts down waits for replicas that lag behind, and we never acknowledge anything.
#[test]
fn a_master_shuts_down_as_fast_as_without_us() -> Result<()> {
    for name in ["redis-6.2", "redis-7.4", "valkey-9"] {
        let mut alone = master(name, 10, &[])?;
        let without = time_to_end(&mut alone)?;
        let mut master = master(name, 3_000, &[])?;
        let more = ["--max-keys-per-second", "100", "--reconnect-for", "1s"];
        let mut capture = Capture::reading(&master, &more)?;
        master.client(0).words("SET behind 1")?;
        capture.assert_running()?;
        let with = time_to_end(&mut master)?;
        ensure!(with < without + Duration::from_secs(1), "{name}: {with:?} with us, {without:?} without");
        println!("{name}: SIGTERM takes {without:?} without us, {with:?} with us");
        let (outcome, to) = capture.end()?;
        ensure!(matches!(outcome.code, Some(3 | 5)), "{name}: {:?}: {}", outcome.code, outcome.stderr);
        assert_nothing_in(to.path())?;
    }
    Ok(())
}

fn time_to_end(server: &mut TestServer) -> Result<Duration> {
    let begun = Instant::now();
    signal(server.pid(), "TERM");
    while server.is_running() {
        ensure!(begun.elapsed() < PATIENCE, "it does not end: {}", server.log());
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(begun.elapsed())
}

/// How long an operator's pause of writers lasts, which begins just before the capture's cut.
const THEIR_PAUSE_MS: u64 = 4_000;

/// A pause is one for the whole server: our PAUSE would lengthen theirs, our UNPAUSE would end it.
#[test]
fn an_operators_pause_is_neither_ended_nor_extended() -> Result<()> {
    // Longer than theirs: if it were asked for it would show.
    assert_their_pause_stands("redis-7.4", "20s", |command| is(command, "SELECT"))
}

/// From Valkey 8.1 on INFO shows a pause: one that begins behind our look is seen at our second.
#[test]
fn an_operators_pause_that_begins_behind_our_look_stands_too_where_info_shows_it() -> Result<()> {
    assert_their_pause_stands("valkey-9", "100ms", |command| is(command, "INFO") && command.len() == 1)
}

fn is(command: &[Vec<u8>], name: &str) -> bool {
    command[0].eq_ignore_ascii_case(name.as_bytes())
}

/// Lets an operator pause writers at the first command that `is_look` knows behind the first values; a client that
/// writes from then on says when its write went through.
fn assert_their_pause_stands(name: &str, max_pause: &str, is_look: fn(&[Vec<u8>]) -> bool) -> Result<()> {
    let master = master(name, 300, &[])?;
    let (sender, paused) = std::sync::mpsc::channel();
    let (mut operator, mut writer, mut blocked) =
        (master.client(0), master.client(0), Some(master.client(0)));
    let (mut reads, mut hot_reads) = (false, 0);
    let gate = Gate::start(&master, move |command| {
        let of_hot = ["GETRANGE", "DUMP"].iter().any(|name| is(command, name)) && command[1] == b"key:7";
        reads |= of_hot;
        let Some(mut conn) = blocked.take() else { return };
        if of_hot {
            // Never clean before the pause.
            hot_reads += 1;
            writer.words(&format!("SET key:7 {hot_reads}")).expect("nothing is paused yet");
        }
        if reads && is_look(command) {
            let begun = Instant::now();
            operator.words(&format!("CLIENT PAUSE {THEIR_PAUSE_MS} WRITE")).expect("it takes a pause");
            let sender = sender.clone();
            std::thread::spawn(move || {
                let written = conn.words("SET behind-the-pause 1").map(|_| begun.elapsed());
                let _ = sender.send(written);
            });
        } else {
            blocked = Some(conn);
        }
    })?;
    let capture = Capture::start(&gate.url(), &["--max-pause", max_pause])?;
    let (outcome, _to) = capture.end()?;
    ensure!(paused.try_recv().is_err(), "the pause was over before the capture: it shows nothing");
    let report = checked_report(&outcome)?;
    let blocked_for = paused.recv_timeout(PATIENCE).context("nobody paused")??;
    println!("{name}: a write under a pause of {THEIR_PAUSE_MS} ms went through after {blocked_for:?}");
    let theirs = Duration::from_millis(THEIR_PAUSE_MS);
    ensure!(blocked_for >= theirs, "{name}: it ended after {blocked_for:?}");
    ensure!(blocked_for < theirs + Duration::from_secs(2), "{name}: it ended after {blocked_for:?}");
    assert_exact(&master, &rdb_of(&report)?)
}

type Settings = BTreeMap<String, String>;

fn settings(server: &TestServer) -> Result<Settings> {
    let words = array(server.client(0).words("CONFIG GET *")?);
    Ok(words.chunks(2).map(|pair| (text(&pair[0]), text(&pair[1]))).collect())
}

/// Also those that a priming changes for a moment, and however the agent ends.
#[test]
fn every_setting_is_as_before_also_after_a_kill() -> Result<()> {
    for name in ["redis-6.2", "redis-7.4", "valkey-9"] {
        let no_diskless = ["--repl-diskless-sync", "no", "--repl-diskless-sync-delay", "0"];
        let master = master(name, 2_000, &no_diskless)?;
        let before = settings(&master)?;
        ensure!(before.get("repl-diskless-sync").is_some_and(|value| value == "no"), "{name}: {before:?}");
        let killed = Capture::reading(&master, &["--max-keys-per-second", "500"])?;
        assert_eq!(settings(&master)?, before, "{name}, while keys are read");
        killed.node.signal("KILL");
        let (outcome, to) = killed.end()?;
        ensure!(outcome.code.is_none(), "{name}: it ended with {:?}", outcome.code);
        assert_eq!(settings(&master)?, before, "{name}, after SIGKILL");
        let json = |file: &Path| file.extension().is_some_and(|extension| extension == "json");
        let files = std::fs::read_dir(to.path())?.map(|file| Ok(file?.path()));
        let files: Vec<PathBuf> = files.collect::<std::io::Result<_>>()?;
        ensure!(!files.iter().any(|file| json(file)), "{name}: a manifest is there: {files:?}");
        Capture::start(&master.url(), &[])?.proved(&master)?;
        assert_eq!(settings(&master)?, before, "{name}, after a whole backup");
    }
    Ok(())
}

const VALUE: &str = "a value of some length, so that not too many of them fill a small server";

/// Writes until there is no room: until something is evicted, or refused.
fn fill_up(server: &TestServer) -> Result<()> {
    let mut conn = server.client(0);
    for first in (0..10_000_000).step_by(500) {
        let mut batch = Batch::default();
        (first..first + 500).for_each(|number| batch.add(&["SET", &format!("full:{number}"), VALUE]));
        let refused = conn.send(batch)?.iter().any(|reply| matches!(reply, redis::Value::ServerError(_)));
        if refused || server.info_number("evicted_keys") > 0 {
            return Ok(());
        }
    }
    anyhow::bail!("it does not become full")
}

/// Fills a master with small keys and, where any are to stay, some large ones, and lets so many bytes be free under its `maxmemory`; returns what
/// a small key takes.
fn fill_to_within(conn: &mut Conn, free_bytes: i64) -> Result<i64> {
    const KEYS: i64 = 40_000;
    for first in (0..KEYS).step_by(500) {
        let mut batch = Batch::default();
        (first..first + 500).for_each(|number| batch.add(&["SET", &format!("full:{number}"), VALUE]));
        conn.send_all(batch)?;
    }
    let key_bytes = int(&conn.words("MEMORY USAGE full:12345")?).context("a key takes memory")?;
    // One of these that is evicted makes room for all that a capture takes.
    let large = if free_bytes > 0 { 2_000 } else { 0 };
    for number in 0..large {
        let (id, text) = (format!("{}-1", number + 1), format!("{number} {VALUE}"));
        let mut batch = Batch::default();
        batch.add(&["HSET", "large:hash", &id, &text]);
        batch.add(&["RPUSH", "large:list", &text]);
        batch.add(&["XADD", "large:stream", &id, "field", &text]);
        batch.add(&["APPEND", "large:string", &text]);
        conn.send_all(batch)?;
    }
    // Tables that have grown move little by little, and buffers of connections that are idle shrink.
    let mut seen = Vec::new();
    wait_for("the master's memory to stay as it is", PATIENCE, || {
        std::thread::sleep(Duration::from_millis(80));
        seen.push(counted(conn)?);
        let last = seen.last_chunk::<30>();
        Ok(last.is_some_and(|last| last.iter().all(|used| used.abs_diff(last[29]) < 1024)))
    })?;
    let max = counted(conn)? + free_bytes;
    conn.call(&["CONFIG", "SET", "maxmemory", &max.to_string()])?;
    Ok(key_bytes)
}

/// What counts under `maxmemory`.
fn counted(conn: &mut Conn) -> Result<i64> {
    Ok(number(conn, "used_memory")? - number(conn, "mem_not_counted_for_evict")?)
}

fn number(conn: &mut Conn, name: &str) -> Result<i64> {
    let field = conn.info_field(name)?.with_context(|| format!("no {name}"))?;
    Ok(field.trim().parse()?)
}

/// What a capture of a full master has cost.
struct Full {
    evicted: i64,
    key_bytes: i64,
    report: serde_json::Value,
    stderr: String,
}

/// What a capture may call beside what every capture does: from 7.0 on a server makes a histogram of 25 KiB of each command
/// that is called for the first time.
const CALLED_BEFORE: [&str; 21] = [
    "CLIENT PAUSE 1 WRITE",
    "CLIENT UNPAUSE",
    "ACL DRYRUN default INFO",
    "TYPE k",
    "MEMORY USAGE k",
    "GETRANGE k 0 1",
    "DUMP k",
    "PEXPIRETIME k",
    "HSCAN k 0",
    "SSCAN k 0",
    "ZSCAN k 0",
    "LRANGE k 0 1",
    "HMGET k f",
    "SMISMEMBER k m",
    "ZMSCORE k m",
    "HPEXPIRETIME k FIELDS 1 f",
    "XRANGE k - +",
    "XPENDING k g",
    "XINFO STREAM k",
    "XINFO GROUPS k",
    "XINFO CONSUMERS k g",
];

/// Captures a master that has so many bytes free, and proves that it is exact. One that was captured before it was full has
/// a backlog, and knows the commands.
fn capture_full(name: &str, free_bytes: i64, was_captured: bool) -> Result<Full> {
    let master = TestServer::start(name, &["--maxmemory-policy", "allkeys-lru"]);
    if was_captured {
        fill(&master, 0, 20)?;
        Capture::start(&master.url(), &[])?.end()?.0.assert(0, &[]);
        let mut batch = Batch::default();
        CALLED_BEFORE.iter().for_each(|line| batch.add(&line.split(' ').collect::<Vec<_>>()));
        master.client(0).send(batch)?;
    }
    // The test's own connection counts, too: it is there from the beginning.
    let mut conn = master.client(0);
    let key_bytes = fill_to_within(&mut conn, free_bytes)?;
    let before = number(&mut conn, "evicted_keys")?;
    let (outcome, _to) = Capture::start(&master.url(), &[])?.end()?;
    let report = checked_report(&outcome)?;
    let evicted = number(&mut conn, "evicted_keys")? - before;
    println!(
        "{name}: {free_bytes} bytes free, keys of {key_bytes} bytes: {evicted} evicted, {} s",
        report["capture_s"]
    );
    // The proof costs more.
    conn.words("CONFIG SET maxmemory 0")?;
    assert_exact(&master, &rdb_of(&report)?)?;
    Ok(Full { evicted, key_bytes, report, stderr: outcome.stderr })
}

/// Little is free, as much as a capture takes where each of its commands was called before; or what it says that it needs.
/// What is new to a server, which it is once in its life, costs it more.
#[test]
fn nothing_is_evicted_from_a_master_that_is_nearly_full() -> Result<()> {
    // KiB, whether it was captured before, whether it is warned of all the same.
    let cases = [
        ("redis-7.4", 160, true, true),
        ("valkey-9", 160, true, true),
        ("redis-6.2", 192, true, true),
        ("redis-7.4", 256, true, false),
        ("redis-7.4", 1024, false, false),
        ("valkey-9", 1024, false, false),
    ];
    for (name, free_kib, was_captured, is_warned) in cases {
        let full = capture_full(name, free_kib << 10, was_captured)?;
        ensure!(full.evicted == 0, "{name}: {} keys were evicted; {}", full.evicted, full.report);
        ensure!(full.report["evicted"] == 0, "{}", full.report);
        ensure!(full.stderr.contains("the source is full") == is_warned, "{name}: {}", full.stderr);
    }
    Ok(())
}

/// Where nothing at all is free every connection evicts: it says so before, and evicts no more than takes what it said.
#[test]
fn what_is_evicted_from_a_full_master_is_bounded_and_said_before() -> Result<()> {
    // Each key that is evicted leaves a DEL in the stream, which counts until the backlog is full.
    const DEL_BYTES: i64 = 40;
    let cases = [("redis-7.4", false), ("redis-7.4", true), ("valkey-9", true), ("redis-6.2", true)];
    for (name, was_captured) in cases {
        let full = capture_full(name, 0, was_captured)?;
        let said = full.stderr.split("a capture needs about ").nth(1).and_then(|rest| rest.split(' ').next());
        let needs_kib: i64 =
            said.with_context(|| format!("{name} did not warn: {}", full.stderr))?.parse()?;
        let most = needs_kib * 1024 / (full.key_bytes - DEL_BYTES);
        println!("{name}: {} keys evicted, at most {most} for {needs_kib} KiB", full.evicted);
        ensure!(full.evicted <= most, "{name}: {} keys were evicted, more than {most}", full.evicted);
        // What its first connection has evicted was gone when it first could ask.
        let said = full.report["evicted"].as_i64().context("a number")?;
        ensure!((1..=full.evicted).contains(&said), "{name}: {} evicted, {}", full.evicted, full.report);
    }
    Ok(())
}

#[test]
fn a_full_master_that_evicts_nothing_is_captured() -> Result<()> {
    for name in ["redis-7.2", "redis-8.6", "valkey-9"] {
        let args = ["--maxmemory", "8mb", "--maxmemory-policy", "noeviction"];
        let master = TestServer::start(name, &args);
        fill_up(&master)?;
        let used = [master.info_number("used_memory"), master.info_number("maxmemory")];
        // What the filling client's connection took is free again.
        ensure!(used[0] > used[1] - (256 << 10), "{name} is not full: {used:?}");
        Capture::start(&master.url(), &[])?.proved(&master)?;
    }
    Ok(())
}

/// Since 7.2 a connection can read without touching; idle times count in seconds, so half of the keys are older.
#[test]
fn lru_order_and_lfu_counters_stay() -> Result<()> {
    for name in ["redis-7.2", "valkey-9"] {
        let master = TestServer::start(name, &["--maxmemory-policy", "allkeys-lru"]);
        fill(&master, 0, 50)?;
        std::thread::sleep(Duration::from_millis(3_100));
        let (before, begun) = (of_objects(&master, "IDLETIME")?, Instant::now());
        Capture::start(&master.url(), &[])?.end()?.0.assert(0, &[]);
        let (after, passed) = (of_objects(&master, "IDLETIME")?, begun.elapsed().as_secs() as i64);
        for (key, before) in before {
            let (idle, least) = (after[&key], before + passed - 1);
            ensure!(
                idle >= least,
                "{name}: {key} was idle for {before} s, and {passed} s later for {idle} s"
            );
        }
        let lfu = ["--maxmemory-policy", "allkeys-lfu", "--lfu-log-factor", "0", "--lfu-decay-time", "1000"];
        let master = TestServer::start(name, &lfu);
        fill(&master, 0, 50)?;
        // Without a logarithm each use counts.
        (0..9).try_for_each(|n| {
            master.client(0).words(&format!("GET key:{n}")).map(drop).or(Ok::<_, anyhow::Error>(()))
        })?;
        let before = of_objects(&master, "FREQ")?;
        Capture::start(&master.url(), &[])?.end()?.0.assert(0, &[]);
        assert_eq!(of_objects(&master, "FREQ")?, before, "{name}: counters moved");
    }
    Ok(())
}

/// What `OBJECT … key` says of each key, by a connection that does not count either.
fn of_objects(server: &TestServer, what: &str) -> Result<BTreeMap<String, i64>> {
    let mut conn = server.client(0);
    let keys: Vec<String> = array(conn.words("KEYS *")?).iter().map(text).collect();
    let ask = |key: String| {
        let said = int(&conn.call(&["OBJECT", what, &key])?).context("OBJECT answers with a number")?;
        Ok((key, said))
    };
    keys.into_iter().map(ask).collect()
}

/// How long the agent stands still.
const STOPPED_FOR: Duration = Duration::from_secs(10);

/// An agent that stands still costs its master no more than the replica limit says; the master ends the link, and what
/// it has sent since is in its backlog no more: nothing is published.
#[test]
fn an_agent_that_stands_still_costs_a_bounded_amount_of_memory() -> Result<()> {
    let master = bounded_master("1mb")?;
    let capture = stand_still(&master)?;
    let (outcome, to) = capture.end()?;
    ensure!(matches!(outcome.code, Some(3 | 5)), "{:?}: {}", outcome.code, outcome.stderr);
    println!("after a stop: exit code {:?}: {}", outcome.code, outcome.stderr.trim_end());
    assert_nothing_in(to.path())
}

/// The same where the backlog still holds it: the link goes on where it was.
#[test]
fn an_agent_that_was_cut_off_while_it_stood_still_goes_on_from_the_backlog() -> Result<()> {
    let master = bounded_master("64mb")?;
    let capture = stand_still(&master)?;
    capture.proved(&master)?;
    Ok(())
}

fn bounded_master(backlog: &str) -> Result<TestServer> {
    let limit = ["--client-output-buffer-limit", "replica 4mb 2mb 3", "--repl-backlog-size", backlog];
    master("redis-7.4", 3_000, &limit)
}

/// Stops an agent while 32 MB are written, and lets it go on. The values are large and few: what grows is not the data.
fn stand_still(master: &TestServer) -> Result<Capture> {
    let mut conn = master.client(0);
    let value = "x".repeat(64 * 1024);
    (0..10).try_for_each(|n| conn.call(&["SET", &format!("large:{n}"), &value]).map(drop))?;
    let backlog = master.client(0).words("CONFIG GET repl-backlog-size")?;
    let backlog = int(&array(backlog)[1]).context("a backlog has a size")?;
    let capture = Capture::reading(master, &["--max-keys-per-second", "500"])?;
    let (begun, before) = (Instant::now(), master.info_number("used_memory"));
    capture.node.signal("STOP");
    let (mut written, mut most_used, mut most_waiting) = (0, 0, 0);
    while begun.elapsed() < STOPPED_FOR {
        if written < 512 {
            conn.call(&["SET", &format!("large:{}", written % 10), &value])?;
            written += 1;
        }
        most_used = most_used.max(master.info_number("used_memory"));
        most_waiting = most_waiting.max(waiting_for_us(master)?);
        std::thread::sleep(Duration::from_millis(5));
    }
    let grown = most_used - before;
    println!(
        "{written} times 64 KiB: the master grew by {grown} bytes, of which {most_waiting} waited for us"
    );
    ensure!(written == 512, "only {written} were written");
    ensure!(most_waiting > 0, "nothing ever waited for us: it shows nothing");
    // A limit below the backlog's size means that size: they share what they hold.
    ensure!(most_waiting <= backlog.max(4 << 20) + (2 << 20), "{most_waiting} bytes waited for us");
    ensure!(grown <= backlog + (8 << 20), "the master grew by {grown} bytes");
    ensure!(our_line(master)?.is_none(), "the master has not ended our link");
    capture.node.signal("CONT");
    Ok(capture)
}

/// What the master keeps for our link.
fn waiting_for_us(master: &TestServer) -> Result<i64> {
    let list = text(&master.client(0).words("CLIENT LIST TYPE replica")?);
    let words = list.split_whitespace().filter_map(|word| word.strip_prefix("omem=")?.parse::<i64>().ok());
    Ok(words.sum())
}

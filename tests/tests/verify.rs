//! `--verify`: what is changed on the target behind the job's back is named, and nothing else is.
//!
//! `REPLSYNC_RUNS` (3) is how often it runs under writes that stop; `REPLSYNC_SEED` chooses another load.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use replsync_tests::client::{Conn, array, int};
use replsync_tests::contents::compare;
use replsync_tests::fill::{fill, function_library};
use replsync_tests::job::{PATIENCE, assert_equal, digest_of, following, run, running, setting, start};
use replsync_tests::node::Outcome;
use replsync_tests::server::TestServer;
use replsync_tests::settle::{expire, pass_mark};
use replsync_tests::writer::Writer;

const UNTIL_QUIET: [&str; 3] = ["--until", "quiet:1s", "--verify"];

/// A change on the target: the database and the key that it changes, and what that is called.
struct Change {
    db: Option<u32>,
    /// As the report names it.
    key: &'static str,
    kind: &'static str,
    how: How,
}

/// How it is done.
enum How {
    /// A command of words.
    Words(&'static str),
    /// Commands of words, one after the other.
    All(&'static [&'static str]),
    /// It expires a millisecond later.
    Later,
    /// That field expires a millisecond later.
    FieldLater(&'static str),
    /// The library of the key's name is loaded anew, with that number in its code.
    Library(u32),
    /// The key \x00\xff is written.
    Binary,
}

use How::{All, Binary, FieldLater, Later, Library, Words};

const fn of(db: u32, key: &'static str, kind: &'static str, how: How) -> Change {
    Change { db: Some(db), key, kind, how }
}

/// What is made on the source for them, by database.
const MADE: [(u32, &str); 28] = [
    (0, "SET string value"),
    (0, "SET appended value"),
    (0, "SET deleted value"),
    (3, "SET deleted value"),
    (0, "SET retyped value"),
    (0, "SET expires v PXAT 4102444800000"),
    (3, "SET expires v PXAT 4102444800000"),
    (0, "SET persisted v PXAT 4102444800000"),
    (0, "SET stays v"),
    (0, "RPUSH list a b c"),
    (0, "RPUSH longer a b c"),
    (0, "SADD set a b c"),
    (0, "SADD numbers 1 2 3"),
    (0, "ZADD zset 1 a 2 b"),
    (0, "ZADD zset2 1 a 2 b"),
    (0, "HSET hash f v g w"),
    (0, "HSET hash2 f v g w"),
    (0, "HSET late f v g w"),
    (0, "HPEXPIREAT late 4102444800000 FIELDS 1 f"),
    (0, "HSET kept f v g w"),
    (0, "HPEXPIREAT kept 4102444800000 FIELDS 1 f"),
    (0, "HSET brief f v g w"),
    (0, "XADD stream 1-1 a b"),
    (0, "XADD groups 1-1 a b"),
    (0, "XGROUP CREATE groups g 0"),
    (0, "XREADGROUP GROUP g c STREAMS groups >"),
    (9, "SET moved v"),
    (0, "SETRANGE sparse 3000000 end"),
];

const CHANGES: [Change; 30] = [
    of(0, "string", "value", Words("SET string other")),
    of(0, "appended", "value", Words("APPEND appended .")),
    of(0, "deleted", "missing_in_b", Words("DEL deleted")),
    of(3, "deleted", "missing_in_b", Words("DEL deleted")),
    of(0, "extra", "missing_in_a", Words("SET extra v")),
    of(11, "extra", "missing_in_a", Words("RPUSH extra a")),
    of(0, "retyped", "type", All(&["DEL retyped", "SADD retyped value"])),
    of(0, "expires", "expiry", Later),
    of(3, "expires", "expiry", Words("PEXPIREAT expires 4102444800001")),
    of(0, "persisted", "expiry", Words("PERSIST persisted")),
    of(0, "stays", "expiry", Words("EXPIREAT stays 4102444800")),
    of(0, "list", "value", Words("LSET list 1 other")),
    of(0, "longer", "value", Words("RPUSH longer d")),
    of(0, "set", "value", All(&["SREM set b", "SADD set d"])),
    of(0, "numbers", "value", Words("SADD numbers 70000")),
    of(0, "zset", "value", Words("ZADD zset 1.0000000000000002 a")),
    of(0, "zset2", "value", All(&["ZREM zset2 a", "ZADD zset2 1 c"])),
    of(0, "hash", "value", Words("HSET hash f other")),
    of(0, "hash2", "value", Words("HDEL hash2 g")),
    of(0, "late", "value", FieldLater("f")),
    of(0, "kept", "value", Words("HPERSIST kept FIELDS 1 f")),
    of(0, "brief", "value", Words("HPEXPIREAT brief 4102444800000 FIELDS 1 g")),
    of(0, "stream", "value", Words("XADD stream 9-9 a b")),
    of(0, "groups", "value", Words("XACK groups g 1-1")),
    of(9, "moved", "missing_in_b", Words("MOVE moved 12")),
    of(12, "moved", "missing_in_a", All(&[])),
    of(0, "sparse", "value", Words("SETRANGE sparse 1500000 x")),
    of(0, "AP8=", "value", Binary),
    Change { db: None, key: "changed", kind: "function", how: Library(2) },
    Change { db: None, key: "dropped", kind: "function", how: Words("FUNCTION DELETE dropped") },
];

impl Change {
    fn make(&self, conn: &mut Conn) -> Result<()> {
        conn.select(self.db.unwrap_or(0))?;
        match self.how {
            Words(words) => drop(conn.words(words)?),
            All(all) => all.iter().try_for_each(|words| conn.words(words).map(drop))?,
            Later => {
                let at_ms = int(&conn.call(&["PEXPIRETIME", self.key])?).context("no expiry")?;
                conn.call(&["PEXPIREAT", self.key, &(at_ms + 1).to_string()])?;
            }
            FieldLater(field) => {
                let at_ms = array(conn.call(&["HPEXPIRETIME", self.key, "FIELDS", "1", field])?);
                let at_ms = at_ms.first().and_then(int).context("no expiry")?;
                conn.call(&["HPEXPIREAT", self.key, &(at_ms + 1).to_string(), "FIELDS", "1", field])?;
            }
            Library(number) => {
                conn.call(&["FUNCTION", "LOAD", "REPLACE", &function_library(self.key, number)])?;
            }
            Binary => drop(conn.call(&[&b"SET"[..], b"\x00\xff", b"other"])?),
        }
        Ok(())
    }

    fn expected(&self) -> Named {
        (self.db, self.key.to_owned(), self.kind.to_owned())
    }
}

/// Database, key, kind.
type Named = (Option<u32>, String, String);

/// What a report names.
fn named(outcome: &Outcome) -> Result<BTreeSet<Named>> {
    let said = outcome.json()?;
    let differences = said["differences"].as_array().with_context(|| format!("no differences in {said}"))?;
    let mut named = BTreeSet::new();
    for difference in differences {
        let text = |field: &str| difference[field].as_str().map(str::to_owned);
        let db = difference["db"].as_u64().map(|db| db as u32);
        let key = text("key").or_else(|| text("key_base64")).with_context(|| difference.to_string())?;
        ensure!(text("what").is_some_and(|what| !what.is_empty()), "{difference}");
        let kind = text("kind").with_context(|| difference.to_string())?;
        ensure!(named.insert((db, key, kind)), "named twice: {difference}");
    }
    Ok(named)
}

/// Writes to the source all the time, to a key of its own: no job takes it for quiet.
struct Heartbeat {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Heartbeat {
    fn start(source: &TestServer) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (mut conn, stopped) = (source.client(0), stop.clone());
        let thread = std::thread::spawn(move || {
            for beat in 0_u64.. {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                conn.call(&["SET", "heartbeat", &beat.to_string()])?;
                std::thread::sleep(Duration::from_millis(20));
            }
            Ok(())
        });
        Self { stop, thread: Some(thread) }
    }

    fn stop(mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map_or(Ok(()), |thread| thread.join().expect("it does not panic"))
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// A source that holds what the changes need, among other keys.
fn source_of(name: &str) -> Result<TestServer> {
    let source = TestServer::start(name, &[]);
    fill(&source.url(), 900, 5)?;
    let mut conn = source.client(0);
    for (db, words) in MADE {
        conn.select(db)?;
        conn.words(words)?;
    }
    conn.select(0)?;
    conn.call(&[&b"SET"[..], b"\x00\xff", b"value"])?;
    for name in ["changed", "dropped"] {
        conn.call(&["FUNCTION", "LOAD", &function_library(name, 1)])?;
    }
    expire(&source.url())?;
    Ok(source)
}

/// Changes the target while a job follows, lets it get quiet, and returns how the job ended.
fn changed_meanwhile<'a>(
    source: &TestServer,
    target: &TestServer,
    changes: impl Iterator<Item = &'a Change>,
) -> Result<Outcome> {
    let heartbeat = Heartbeat::start(source);
    let node = following(source, target, &[&UNTIL_QUIET[..], &["--flush-target"]].concat())?;
    let mut conn = target.client(0);
    for change in changes {
        change.make(&mut conn).with_context(|| format!("changing {}", change.key))?;
    }
    heartbeat.stop()?;
    node.wait(PATIENCE)
}

/// The oracle sees of the changes what they claim to be: no more, no less.
#[test]
fn the_changes_are_what_they_say() -> Result<()> {
    for to in ["redis-7.4", "valkey-9"] {
        let (source, target) = (source_of("redis-7.4")?, TestServer::start(to, &[]));
        run(&source.url(), &target.url(), &["--until", "caught-up"])?.assert(0, &[]);
        assert_equal(&source, &target)?;
        let mut conn = target.client(0);
        CHANGES.iter().try_for_each(|change| change.make(&mut conn))?;
        let seen = compare(&source.url(), &target.url())?.into_iter().map(|difference| {
            let kinds = [
                ("missing in the first", "missing_in_a"),
                ("missing in the second", "missing_in_b"),
                ("type: ", "type"),
                // When a field expires belongs to the value.
                ("expiry: ", "expiry"),
                ("code differs", "function"),
            ];
            let kind = kinds.iter().find(|(words, _)| difference.what.starts_with(words));
            let key = match &difference.key[..] {
                b"\x00\xff" => "AP8=".to_owned(),
                key => String::from_utf8_lossy(key).into_owned(),
            };
            (difference.db, key, kind.map_or("value", |(_, kind)| kind).to_owned())
        });
        let expected: BTreeSet<Named> = CHANGES.iter().map(Change::expected).collect();
        assert_eq!(seen.collect::<BTreeSet<_>>(), expected);
    }
    Ok(())
}

fn all_changes_are_named(from: &str, to: &str) -> Result<()> {
    let (source, target) = (source_of(from)?, TestServer::start(to, &[]));
    let outcome = changed_meanwhile(&source, &target, CHANGES.iter())?;
    println!("{}\n{}", outcome.stdout, outcome.stderr);
    outcome.assert(1, &[]);
    let expected: BTreeSet<Named> = CHANGES.iter().map(Change::expected).collect();
    let named = named(&outcome)?;
    let missed: Vec<_> = expected.difference(&named).collect();
    let invented: Vec<_> = named.difference(&expected).collect();
    ensure!(missed.is_empty() && invented.is_empty(), "not named: {missed:?}\nnamed wrongly: {invented:?}");
    let keys = CHANGES.iter().filter(|change| !matches!(change.how, Binary));
    outcome.assert(1, &keys.map(|change| change.key).collect::<Vec<_>>());
    let said = outcome.json()?;
    let claims = ["exact", "verified"].map(|claim| said[claim] == false);
    assert_eq!(claims, [true; 2], "{said}");
    Ok(())
}

#[test]
fn all_changes_are_named_redis_7_4_to_redis_7_4() -> Result<()> {
    all_changes_are_named("redis-7.4", "redis-7.4")
}

#[test]
fn all_changes_are_named_redis_8_6_to_redis_7_4() -> Result<()> {
    all_changes_are_named("redis-8.6", "redis-7.4")
}

#[test]
fn all_changes_are_named_redis_7_4_to_valkey_9() -> Result<()> {
    all_changes_are_named("redis-7.4", "valkey-9")
}

/// The report's digests differ in data and in expiries, or not, and are those of files that both sides save now.
fn digests_are(outcome: &Outcome, source: &TestServer, target: &TestServer, differ: [bool; 2]) -> Result<()> {
    let said = outcome.json()?;
    let files = [digest_of(source)?, digest_of(target)?];
    for (digest, differs) in ["digest", "digest_expiries"].into_iter().zip(differ) {
        for (side, file) in ["from", "to"].into_iter().zip(&files) {
            ensure!(said[digest][side] == file[digest], "{digest} {side}: {said}\n{file}");
        }
        ensure!((said[digest]["from"] != said[digest]["to"]) == differs, "{digest}: {said}");
    }
    Ok(())
}

/// Each alone: one of twenty would do for an exit code.
#[test]
fn a_single_change_is_enough() -> Result<()> {
    let (source, target) = (source_of("redis-8.6")?, TestServer::start("redis-7.4", &[]));
    let is = |change: &Change| {
        let db = change.db.map_or("function".to_owned(), |db| db.to_string());
        matches!(
            (db.as_str(), change.key),
            ("0", "expires" | "late" | "deleted") | ("11", "extra") | ("function", "changed")
        )
    };
    let single: Vec<_> = CHANGES.iter().filter(|change| is(change)).collect();
    assert_eq!(single.len(), 5);
    for change in single {
        let outcome = changed_meanwhile(&source, &target, [change].into_iter())?;
        println!("{} {}: {}", change.kind, change.key, outcome.stdout);
        outcome.assert(1, &[change.key]);
        assert_eq!(named(&outcome)?, BTreeSet::from([change.expected()]), "{}", outcome.stdout);
        // When a key or a field expires is no data.
        let is_expiry = change.kind == "expiry" || change.key == "late";
        digests_are(&outcome, &source, &target, [!is_expiry, is_expiry])
            .with_context(|| format!("{} {}", change.kind, change.key))?;
    }
    let outcome = changed_meanwhile(&source, &target, [].into_iter())?;
    outcome.assert(0, &[]);
    digests_are(&outcome, &source, &target, [false, false])?;
    assert_eq!(named(&outcome)?, BTreeSet::new());
    assert_eq!(outcome.json()?["verified"], true, "{}", outcome.stdout);
    Ok(())
}

/// Clients write while it copies, follows and begins to compare, and stop.
#[test]
fn no_difference_is_invented_under_writes_that_stop() -> Result<()> {
    const PAIRS: [(&str, &str); 8] = [
        ("redis-7.4", "redis-7.4"),
        ("redis-6.2", "redis-7.4"),
        ("redis-8.6", "redis-7.4"),
        ("valkey-9", "redis-8.6"),
        ("redis-5.0", "redis-6.2"),
        ("redis-7.0", "redis-8.0"),
        ("redis-7.4", "valkey-9"),
        ("redis-7.2", "valkey-8.1"),
    ];
    let (first, runs) = (setting("REPLSYNC_SEED", 1), setting("REPLSYNC_RUNS", 3));
    for seed in first..first + runs {
        let (from, to) = PAIRS[(seed - 1) as usize % PAIRS.len()];
        let (source, target) = (TestServer::start(from, &[]), TestServer::start(to, &[]));
        fill(&source.url(), 2_000, seed)?;
        let writer = Writer::start(&source.url(), seed, 3_000)?;
        let mut node = start(&source.url(), &target.url(), &UNTIL_QUIET)?;
        pass_mark(&source.url(), &target.url(), PATIENCE, || running(&mut node))?;
        std::thread::sleep(Duration::from_millis(1_000 + seed % 7 * 100));
        let commands = writer.stop()?;
        let outcome = node.wait(PATIENCE)?;
        println!("seed {seed}, {from} to {to}, {commands} commands: {}", outcome.stdout);
        outcome.assert(0, &[]);
        let said = outcome.json()?;
        let claims = ["exact", "verified", "caught_up"].map(|claim| said[claim] == true);
        assert_eq!(claims, [true; 3], "{said}");
        ensure!(
            said["digest"]["from"].is_string() && said["digest"]["from"] == said["digest"]["to"],
            "{said}"
        );
        assert_eq!(said["digest_expiries"]["from"], said["digest_expiries"]["to"], "{said}");
        assert_eq!(named(&outcome)?, BTreeSet::new());
        expire(&source.url())?;
        expire(&target.url())?;
        assert_equal(&source, &target)?;
    }
    Ok(())
}

/// Valkey's COPY leaves out fields that are past their time, and sends COPY on: who has not deleted them yet copies
/// them, and never hears of it. Out of reach of the clock they are still there, and gone once expiries are put right.
#[test]
fn a_field_that_is_past_its_time_is_no_difference() -> Result<()> {
    for to in ["valkey-9", "redis-8.6"] {
        let (source, target) = (TestServer::start("valkey-9", &[]), TestServer::start(to, &[]));
        let heartbeat = Heartbeat::start(&source);
        let node = following(&source, &target, &UNTIL_QUIET)?;
        let mut conn = source.client(0);
        conn.words("DEBUG SET-ACTIVE-EXPIRE 0")?;
        conn.words("HSET hash a 1 b 2")?;
        conn.words("HPEXPIRE hash 100 FIELDS 1 a")?;
        std::thread::sleep(Duration::from_millis(200));
        conn.words("COPY hash copied")?;
        conn.words("DEBUG SET-ACTIVE-EXPIRE 1")?;
        heartbeat.stop()?;
        let outcome = node.wait(PATIENCE)?;
        outcome.assert(0, &[]);
        assert_eq!(outcome.json()?["verified"], true, "{}", outcome.stdout);
        expire(&source.url())?;
        assert_equal(&source, &target)?;
    }
    Ok(())
}

/// While they write on and on, it can say that it does not know, and never that there is a difference.
#[test]
fn under_writes_that_never_stop_it_never_says_that_something_differs() -> Result<()> {
    for (from, to) in [("redis-7.4", "redis-7.4"), ("redis-6.2", "redis-7.4")] {
        let seed = setting("REPLSYNC_SEED", 1);
        let (source, target) = (TestServer::start(from, &[]), TestServer::start(to, &[]));
        fill(&source.url(), 2_000, seed)?;
        let writer = Writer::start(&source.url(), seed, 3_000)?;
        let more = ["--until", "caught-up", "--verify", "--verify-timeout", "5s"];
        let outcome = start(&source.url(), &target.url(), &more)?.wait(PATIENCE)?;
        println!("seed {seed}, {from} to {to}, {:?}: {}", outcome.code, outcome.stdout);
        ensure!(matches!(outcome.code, Some(0 | 5)), "{outcome:?}");
        let verified = outcome.json()?["verified"] == true;
        ensure!(verified == (outcome.code == Some(0)), "{outcome:?}");
        writer.stop()?;
    }
    Ok(())
}

/// With the source's writers held for a moment it knows, though they never stop; and they go on afterwards.
#[test]
fn a_short_pause_of_the_source_is_enough_to_know() -> Result<()> {
    let seed = setting("REPLSYNC_SEED", 1);
    let (source, target) = (TestServer::start("redis-7.4", &[]), TestServer::start("redis-7.4", &[]));
    fill(&source.url(), 2_000, seed)?;
    let writer = Writer::start(&source.url(), seed, 3_000)?;
    let more = ["--until", "caught-up", "--verify", "--pause-source", "2s"];
    let outcome = start(&source.url(), &target.url(), &more)?.wait(PATIENCE)?;
    println!("seed {seed}: {}", outcome.stdout);
    outcome.assert(0, &[]);
    assert_eq!(outcome.json()?["verified"], true, "{}", outcome.stdout);
    let written = writer.commands();
    std::thread::sleep(Duration::from_millis(500));
    ensure!(writer.commands() > written, "the source is still paused");
    writer.stop().map(drop)
}

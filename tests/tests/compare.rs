//! Two servers compared by the library: nothing is found where nothing differs, and everything that was changed
//! behind a migration's back is found, named, and nothing else.

use std::collections::BTreeSet;
use std::task::Poll;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use replsync::compare::{Comparison, Error, Kind, Options, Precision, Side};
use replsync_tests::client::{Conn, array, bytes, int, text};
use replsync_tests::contents;
use replsync_tests::fill::{fill, function_library};
use replsync_tests::node::Node;
use replsync_tests::server::TestServer;
use replsync_tests::settle::{expire, pass_mark};
use replsync_tests::writer::Writer;
use tokio::runtime::Runtime;

const PATIENCE: Duration = Duration::from_secs(60);

macro_rules! pairs {
    ($($test:ident $from:literal $to:literal)*) => {
        $(#[test] fn $test() -> Result<()> { finds_what_was_changed($from, $to) })*
    };
}

pairs! {
    from_redis_6_2_to_redis_7_4 "redis-6.2" "redis-7.4"
    from_redis_8_6_to_redis_7_4 "redis-8.6" "redis-7.4"
    from_redis_7_4_to_redis_7_4 "redis-7.4" "redis-7.4"
    from_redis_7_4_to_valkey_9 "redis-7.4" "valkey-9"
    from_valkey_9_to_redis_8_6 "valkey-9" "redis-8.6"
    from_redis_7_2_to_redis_6_2 "redis-7.2" "redis-6.2"
    from_redis_5_0_to_redis_6_2 "redis-5.0" "redis-6.2"
}

/// A comparison, and what it runs in.
struct Run {
    runtime: Runtime,
    comparison: Comparison,
}

impl Run {
    fn connect(source: &str, target: &str, options: Options) -> Result<Self, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime can be had");
        let [from, to] = [source, target].map(|url| url.parse().expect("a test's address is right"));
        let comparison = runtime.block_on(Comparison::connect(&from, &to, options))?;
        Ok(Self { runtime, comparison })
    }

    fn first_pass(&mut self) -> Result<(), Error> {
        self.runtime.block_on(self.comparison.first_pass(|_| {}))
    }

    fn again(&mut self) -> Result<usize, Error> {
        self.runtime.block_on(self.comparison.again())
    }

    fn lines(&self) -> Vec<String> {
        self.comparison.differences().iter().map(ToString::to_string).collect()
    }

    /// Database and key of what differs; functions have no database.
    fn keys(&self) -> BTreeSet<(Option<u32>, Vec<u8>)> {
        self.comparison.differences().iter().map(|one| (one.db, one.key.clone())).collect()
    }
}

/// Compares everything once.
fn compare(source: &TestServer, target: &TestServer, options: Options) -> Result<Run> {
    let mut run = Run::connect(&source.url(), &target.url(), options)?;
    run.first_pass()?;
    Ok(run)
}

/// A server that is filled, and another that holds the same.
fn moved(from: &str, to: &str) -> Result<[TestServer; 2]> {
    let (source, target) = (TestServer::start(from, &[]), TestServer::start(to, &[]));
    fill(&source.url(), 1_500, 7)?;
    own_keys(&source, &target)?;
    if !target.version().is_7_0() && source.version().is_7_0() {
        source.client(0).words("FUNCTION FLUSH")?;
    }
    expire(&source.url())?;
    let outcome = Node::run(&["migrate", &source.url(), &target.url(), "--until", "caught-up"], PATIENCE)?;
    outcome.assert(0, &[]);
    Ok([source, target])
}

/// The database of the keys that will be changed.
const OWN: u32 = 3;
/// The epoch milliseconds at which some of them expire.
const EXPIRY_MS: i64 = 4_102_444_800_000;

fn own_keys(source: &TestServer, target: &TestServer) -> Result<()> {
    let mut conn = source.client(OWN);
    for words in [
        "SET own:string value",
        "SET own:type value",
        "SET own:gone value",
        "SET own:never value",
        "SET own:equal value",
        "RPUSH own:list a b c",
        "SADD own:set a b c",
        "ZADD own:zset 1 a 2 b",
        "HSET own:hash f v g w",
    ] {
        conn.words(words)?;
    }
    for name in ["own:expiry", "own:persists", "own:nearly", "own:both"] {
        conn.words(&format!("SET {name} value"))?;
        conn.words(&format!("PEXPIREAT {name} {EXPIRY_MS}"))?;
    }
    for name in ["entry", "last", "group", "acked", "claimed", "uncounted"] {
        let key = format!("own:stream:{name}");
        for id in 1..4 {
            conn.words(&format!("XADD {key} {id}-0 field value"))?;
        }
        conn.words(&format!("XGROUP CREATE {key} workers 0"))?;
        conn.words(&format!("XREADGROUP GROUP workers alice COUNT 2 STREAMS {key} >"))?;
    }
    if have_field_expiries(source, target) {
        conn.words("HSET own:fields f v g w")?;
        conn.words(&format!("HPEXPIREAT own:fields {EXPIRY_MS} FIELDS 2 f g"))?;
    }
    if have_functions(source, target) {
        for name in ["changed", "deleted"] {
            conn.call(&["FUNCTION", "LOAD", &function_library(name, 1)])?;
        }
    }
    Ok(())
}

fn have_field_expiries(source: &TestServer, target: &TestServer) -> bool {
    source.version().has_field_ttl() && target.version().has_field_ttl()
}

fn have_functions(source: &TestServer, target: &TestServer) -> bool {
    source.version().is_7_0() && target.version().is_7_0()
}

/// A difference that must be found: where, of what kind, and what is said.
struct Expected(Option<u32>, &'static str, Kind, String);

/// Changes the target behind everybody's back.
fn change(source: &TestServer, target: &TestServer, precision: Precision) -> Result<Vec<Expected>> {
    let mut conn = target.client(OWN);
    let mut expected = Vec::new();
    let mut own = |key, kind, commands: &[&str], what: &str| -> Result<()> {
        commands.iter().try_for_each(|words| conn.words(words).map(drop).context((*words).to_owned()))?;
        expected.push(Expected(Some(OWN), key, kind, what.to_owned()));
        Ok(())
    };
    own("own:string", Kind::Value, &["SET own:string other"], r#""value" and "other""#)?;
    own("own:type", Kind::Type, &["DEL own:type", "RPUSH own:type x"], "string and list")?;
    own("own:gone", Kind::MissingInTarget, &["DEL own:gone"], "missing in the target (string")?;
    own("own:list", Kind::Value, &["LSET own:list 1 x"], r#"item 1: "b" and "x""#)?;
    own("own:set", Kind::Value, &["SREM own:set b"], r#"member "b" is missing in the target"#)?;
    own("own:zset", Kind::Value, &["ZINCRBY own:zset 0.5 b"], r#"member "b": 2 and 2.5"#)?;
    own("own:hash", Kind::Value, &["HSET own:hash g x"], r#"field "g": "w" and "x""#)?;
    own(
        "own:stream:entry",
        Kind::Value,
        &["XDEL own:stream:entry 3-0"],
        "entry 3-0 is missing in the target",
    )?;
    own("own:stream:last", Kind::Value, &["XSETID own:stream:last 9-0"], "last id: 3-0 and 9-0")?;
    own(
        "own:stream:group",
        Kind::Value,
        &["XGROUP SETID own:stream:group workers 3-0"],
        r#"group "workers": 2-0 and 3-0"#,
    )?;
    own(
        "own:stream:acked",
        Kind::Value,
        &["XACK own:stream:acked workers 2-0"],
        r#"pending entry 2-0 of group "workers" is missing in the target"#,
    )?;
    own(
        "own:stream:claimed",
        Kind::Value,
        &["XCLAIM own:stream:claimed workers bob 0 1-0"],
        r#"pending entry 1-0 of group "workers": "alice" and "bob""#,
    )?;
    own("own:persists", Kind::Expiry, &["PERSIST own:persists"], "and none")?;
    own("own:never", Kind::Expiry, &[&format!("PEXPIREAT own:never {EXPIRY_MS}")], "none and ")?;
    let later = format!("PEXPIREAT own:both {}", EXPIRY_MS + 5_000);
    own("own:both", Kind::Value, &["SET own:both other", &later], r#""other"; expiry: "#)?;
    let (found_ms, nearly_ms) = match precision {
        Precision::Exact => (1, 0),
        // more than what asking takes on a slow machine
        Precision::Asked => (3_000, 0),
        Precision::Second => (3_000, 500),
    };
    own("own:expiry", Kind::Expiry, &[&format!("PEXPIREAT own:expiry {}", EXPIRY_MS + found_ms)], " and ")?;
    conn.words(&format!("PEXPIREAT own:nearly {}", EXPIRY_MS + nearly_ms))?;
    // What does not count: who asked for nothing, and how often something was delivered.
    conn.words("XREADGROUP GROUP workers idler STREAMS own:stream:uncounted 0")?;
    conn.words("XCLAIM own:stream:uncounted workers alice 0 1-0 TIME 1 RETRYCOUNT 9")?;
    if have_field_expiries(source, target) {
        conn.words(&format!("HPEXPIREAT own:fields {} FIELDS 1 g", EXPIRY_MS + 1))?;
        let what = format!(r#"field "g": expires at {EXPIRY_MS} and at {}"#, EXPIRY_MS + 1);
        expected.push(Expected(Some(OWN), "own:fields", Kind::Value, what));
    }
    let mut other = target.client(9);
    other.call(&["HSET", "large hash", "item 77", "x"])?;
    let what = r#"field "item 77": "item 77item 77" and "x""#.to_owned();
    expected.push(Expected(Some(9), "large hash", Kind::Value, what));
    target.client(14).words("SADD extra 1")?;
    let what = "missing in the source (set".to_owned();
    expected.push(Expected(Some(14), "extra", Kind::MissingInSource, what));
    if target.version().is_7_0() {
        other.call(&["FUNCTION", "LOAD", &function_library("added", 1)])?;
        expected.push(Expected(None, "added", Kind::Function, "missing in the source".to_owned()));
    }
    if have_functions(source, target) {
        other.words("FUNCTION DELETE deleted")?;
        other.call(&["FUNCTION", "LOAD", "REPLACE", &function_library("changed", 2)])?;
        expected.push(Expected(None, "deleted", Kind::Function, "missing in the target".to_owned()));
        expected.push(Expected(None, "changed", Kind::Function, r#"code from byte "#.to_owned()));
    }
    Ok(expected)
}

fn finds_what_was_changed(from: &str, to: &str) -> Result<()> {
    let [source, target] = moved(from, to)?;
    let mut run = compare(&source, &target, Options::default())?;
    assert!(run.comparison.is_equal(), "{:#?}", run.lines());
    assert!(run.comparison.compared() >= source.client(0).keys()?);
    let precision = run.comparison.precision();
    println!("{from} to {to}: {} keys, expiries {precision}", run.comparison.compared());

    let expected = change(&source, &target, precision)?;
    assert_eq!(run.again()?, 0, "what was equal is not read again");
    run.first_pass()?;
    println!("{:#?}", run.lines());
    let found = run.comparison.differences();
    for Expected(db, key, kind, what) in &expected {
        let one = found.iter().find(|one| (one.db, &one.key[..]) == (*db, key.as_bytes()));
        let one =
            one.with_context(|| format!("{key} of database {db:?} is not found: {:#?}", run.lines()))?;
        assert_eq!(one.kind, *kind, "{one}");
        assert!(one.to_string().contains(what), "{one}, not {what:?}");
    }
    assert_eq!(found.len(), expected.len(), "{:#?}", run.lines());
    assert_eq!(run.again()?, expected.len(), "nothing has changed since");
    assert!(!run.comparison.is_equal() && run.comparison.not_kept() == 0);

    // Ordinary commands say the same.
    let told = contents::compare(&source.url(), &target.url())?;
    let told: BTreeSet<_> = told.into_iter().map(|one| (one.db, one.key)).collect();
    let mut ours = run.keys();
    ours.insert((Some(OWN), b"own:stream:uncounted".to_vec()));
    if precision == Precision::Second {
        // Closer than what is compared here, and further apart than what is there.
        ours.insert((Some(OWN), b"own:nearly".to_vec()));
    }
    let only = |a: &BTreeSet<(Option<u32>, Vec<u8>)>, b| a.difference(b).cloned().collect::<Vec<_>>();
    assert_eq!((only(&told, &ours), only(&ours, &told)), (vec![], vec![]));

    // What is put right is equal again.
    target.client(OWN).words("SET own:string value")?;
    target.client(14).words("DEL extra")?;
    assert_eq!(run.again()?, expected.len() - 2);
    assert!(!run.keys().contains(&(Some(14), b"extra".to_vec())));
    Ok(())
}

/// As a migration writes them while it runs.
#[test]
fn shifted_expiries_are_what_they_were() -> Result<()> {
    for (from, to) in [("redis-7.4", "redis-7.4"), ("redis-7.4", "valkey-9"), ("redis-7.0", "redis-6.2")] {
        let [source, target] = moved(from, to)?;
        let shifted = shift(&source, &target)?;
        ensure!(shifted > 100, "only {shifted} keys expire");
        let while_it_runs = Options { target_shifted: true, ..Options::default() };
        let mut run = compare(&source, &target, while_it_runs)?;
        assert!(run.comparison.is_equal(), "{from} to {to}: {:#?}", run.lines());

        // a shift that was left behind is found
        run.comparison.set_target_shifted(false);
        run.first_pass()?;
        assert_eq!(run.comparison.differences().len(), shifted, "{from} to {to}");
        for one in run.comparison.differences() {
            assert!(one.what.contains(" (shifted)") || one.what.contains("expires at "), "{one}");
        }
    }
    Ok(())
}

/// Shifts every expiry on the target, of keys and of fields, and says of how many keys.
fn shift(source: &TestServer, target: &TestServer) -> Result<usize> {
    let mut shifted = 0;
    for db in source.client(0).databases()? {
        let (mut from, mut to) = (source.client(db), target.client(db));
        for key in array(from.words("KEYS *")?).into_iter().map(bytes) {
            let key = &key[..];
            let mut any = false;
            let at_ms = int(&from.call(&[b"PEXPIRETIME", key])?).context("no number")?;
            if at_ms > 0 {
                any = true;
                to.call(&[b"PEXPIREAT", key, (at_ms + (1 << 60)).to_string().as_bytes()])?;
            }
            if have_field_expiries(source, target) && text(&from.call(&[b"TYPE", key])?) == "hash" {
                any |= shift_fields(&mut from, &mut to, key)?;
            }
            shifted += usize::from(any);
        }
    }
    Ok(shifted)
}

fn shift_fields(from: &mut Conn, to: &mut Conn, key: &[u8]) -> Result<bool> {
    let mut any = false;
    for field in array(from.call(&[b"HKEYS", key])?).into_iter().map(bytes) {
        let at_ms = array(from.call(&[b"HPEXPIRETIME", key, b"FIELDS", b"1", &field[..]])?);
        let at_ms = at_ms.first().and_then(int).context("no number")?;
        if at_ms > 0 {
            any = true;
            let at_ms = (at_ms + (1 << 45)).to_string();
            to.call(&[b"HPEXPIREAT", key, at_ms.as_bytes(), b"FIELDS", b"1", &field[..]])?;
        }
    }
    Ok(any)
}

/// Whatever a client writes to the target behind a migration's back is found, by the word of ordinary commands.
#[test]
fn finds_what_ordinary_commands_find() -> Result<()> {
    for (from, to) in [("redis-7.4", "redis-7.4"), ("redis-8.6", "redis-7.4"), ("redis-7.4", "valkey-9")] {
        let [source, target] = moved(from, to)?;
        let writer = Writer::start(&target.url(), 11, 3_000)?;
        std::thread::sleep(Duration::from_secs(2));
        writer.stop()?;
        expire(&target.url())?;
        let run = compare(&source, &target, Options::default())?;
        let told = contents::compare(&source.url(), &target.url())?;
        let mut kinds = std::collections::BTreeMap::new();
        for one in run.comparison.differences() {
            *kinds.entry(one.kind.name()).or_insert(0) += 1;
        }
        println!("{from} to {to}: {kinds:?} found, {} by ordinary commands", told.len());
        let told: BTreeSet<_> = told.into_iter().map(|one| (one.db, one.key)).collect();
        let ours = run.keys();
        let too_many: Vec<_> = ours.difference(&told).collect();
        assert!(too_many.is_empty(), "{from} to {to}: {too_many:?}");
        for (db, key) in told.difference(&ours) {
            // of which more is compared by them
            let kind = |server: &TestServer| -> Result<String> {
                Ok(text(&server.client(db.unwrap_or(0)).call(&[b"TYPE", &key[..]])?))
            };
            let kinds = (kind(&source)?, kind(&target)?);
            assert_eq!(kinds, ("stream".to_owned(), "stream".to_owned()), "{db:?} {}", key.escape_ascii());
        }
        ensure!(ours.len() > 50, "only {} differ", ours.len());
    }
    Ok(())
}

/// Under writes keys differ for a moment; when the writes stop, none does.
#[test]
fn what_differs_under_writes_is_equal_in_the_end() -> Result<()> {
    for (from, to, seed) in [("redis-7.4", "redis-8.0", 5), ("redis-6.2", "redis-7.4", 6)] {
        let (source, target) = (TestServer::start(from, &[]), TestServer::start(to, &[]));
        fill(&source.url(), 3_000, seed)?;
        let writer = Writer::start(&source.url(), seed, 3_000)?;
        let mut node = Node::start(&["migrate", &source.url(), &target.url()])?;
        let mut alive = || {
            ensure!(node.is_running()?, "replsync-node ended by itself: {}", node.stderr());
            Ok(())
        };
        pass_mark(&source.url(), &target.url(), PATIENCE, &mut alive)?;
        // While the job runs, its target's expiries are shifted.
        let options = Options { target_shifted: true, ..Options::default() };
        let mut run = compare(&source, &target, options)?;
        let first = run.lines().len();
        let second = run.again()?;
        writer.stop()?;
        expire(&source.url())?;
        pass_mark(&source.url(), &target.url(), PATIENCE, &mut alive)?;
        let deadline = Instant::now() + PATIENCE;
        while run.again()? > 0 {
            ensure!(Instant::now() < deadline, "{from} to {to} still differ: {:#?}", run.lines());
            std::thread::sleep(Duration::from_millis(50));
        }
        println!("{from} to {to}: {first} differed, then {second}, then none");
        assert!(run.comparison.is_equal());
        run.first_pass()?;
        assert!(run.comparison.is_equal(), "{from} to {to}: {:#?}", run.lines());
        node.signal("TERM");
        node.wait(PATIENCE)?;
    }
    Ok(())
}

#[test]
fn only_so_many_differences_are_kept() -> Result<()> {
    let (source, target) = (TestServer::start("redis-7.4", &[]), TestServer::start("redis-7.4", &[]));
    let fill = "for i = 1, 1000 do redis.call('SET', 'k' .. i, 'v') end";
    source.client(0).call(&["EVAL", fill, "0"])?;
    let mut run = compare(&source, &target, Options { kept_max: 10, ..Options::default() })?;
    assert_eq!((run.comparison.differences().len(), run.comparison.not_kept()), (10, 990));
    for one in run.comparison.differences() {
        target.client(0).call(&[b"SET", &one.key[..], b"v"])?;
    }
    assert_eq!(run.again()?, 0);
    assert!(!run.comparison.is_equal(), "990 are not looked at");
    Ok(())
}

/// A database that one side is not configured for is empty there.
#[test]
fn a_key_beyond_the_sources_databases_is_found() -> Result<()> {
    let source = TestServer::start("redis-7.4", &["--databases", "4"]);
    let target = TestServer::start("redis-7.4", &[]);
    source.client(0).words("SET a b")?;
    target.client(0).words("SET a b")?;
    target.client(12).words("SET x y")?;
    let mut run = compare(&source, &target, Options::default())?;
    assert_eq!(run.lines(), [r#"database 12, key "x": missing in the source (string in the target)"#]);
    assert_eq!(run.again()?, 1);
    let mut run = compare(&target, &source, Options::default())?;
    assert_eq!(run.lines(), [r#"database 12, key "x": missing in the target (string in the source)"#]);
    target.client(12).words("DEL x")?;
    assert_eq!(run.again()?, 0);
    Ok(())
}

/// What may not be looked at is never called equal.
#[test]
fn a_missing_right_is_an_error_that_says_which() -> Result<()> {
    let (source, target) = (TestServer::start("redis-7.4", &[]), TestServer::start("redis-7.4", &[]));
    source.client(0).words("SET secret 1")?;
    for (number, (rules, command, words)) in [
        ("~* +@all -function", "FUNCTION LIST", "the target "),
        ("~* +@all -dump", "DUMP", r#"(database 0, key "secret")"#),
        ("~public* +@all", "PEXPIRETIME", r#"(database 0, key "secret")"#),
        ("~* +@all -scan", "SCAN", "(database 0)"),
    ]
    .into_iter()
    .enumerate()
    {
        target.client(0).words(&format!("ACL SETUSER u{number} on >pw {rules}"))?;
        let url = target.url().replace("redis://", &format!("redis://u{number}:pw@"));
        let mut run = Run::connect(&source.url(), &url, Options::default())?;
        let error = run.first_pass().expect_err("it may not look");
        let said = error.to_string();
        assert!(said.contains("NOPERM") && said.contains(words), "{said}");
        match error {
            Error::Refused { side, command: of, .. } => assert_eq!((side, of), (Side::Target, command)),
            error => panic!("{error:?}"),
        }
        assert!(!run.comparison.is_equal());
    }
    Ok(())
}

/// Nothing is written, nothing is asked that blocks a server, and keys stay as long unused as they were.
#[test]
fn only_harmless_questions_are_asked() -> Result<()> {
    // those of the test's own connections among them
    const KNOWN: [&str; 15] = [
        "client",
        "client|setinfo",
        "config",
        "config|resetstat",
        "dump",
        "exists",
        "function|list",
        "info",
        "object|idletime",
        "pexpiretime",
        "ping",
        "pttl",
        "scan",
        "select",
        "time",
    ];
    let (source, target) = (TestServer::start("redis-7.4", &[]), TestServer::start("redis-6.2", &[]));
    for server in [&source, &target] {
        let mut conn = server.client(0);
        conn.words("SET a b PX 3600000")?;
        conn.words("RPUSH c d")?;
    }
    target.client(7).words("SET x y")?;
    std::thread::sleep(Duration::from_millis(2_100));
    let mut run = Run::connect(&source.url(), &target.url(), Options::default())?;
    [&source, &target].iter().try_for_each(|server| server.client(0).words("CONFIG RESETSTAT").map(drop))?;
    run.first_pass()?;
    assert!(run.again()? > 0);
    for server in [&source, &target] {
        let stats = server.info("commandstats");
        let names = stats.lines().filter_map(|line| line.strip_prefix("cmdstat_")?.split_once(':'));
        for (name, _) in names {
            assert!(KNOWN.contains(&name), "{name} was sent to {}", server.name());
        }
    }
    let idle_s = int(&source.client(0).words("OBJECT IDLETIME c")?);
    assert!(idle_s >= Some(2), "DUMP has touched the key: {idle_s:?}");
    Ok(())
}

/// Whenever it is told to stop, it names all that still differs, each once.
#[test]
fn nothing_that_differs_is_lost_when_reading_again_is_dropped() -> Result<()> {
    // So many that they are read again in several requests, whose answers are waited for at several points.
    const KEYS: usize = 1800;
    let (source, target) = (TestServer::start("redis-7.4", &[]), TestServer::start("redis-7.4", &[]));
    let fill = |server: &TestServer, step: u32, value: &str| {
        let code = format!("for i = 1, {KEYS}, {step} do redis.call('SET', 'k' .. i, '{value}') end");
        server.client(0).call(&["EVAL", &code, "0"])
    };
    fill(&source, 1, "v")?;
    let mut dropped = 0;
    for polls_max in 1.. {
        fill(&target, 1, "other")?;
        let mut run = compare(&source, &target, Options::default())?;
        assert_eq!(run.lines().len(), KEYS);
        fill(&target, 2, "v")?;
        let mut polls = 0;
        let mut again = Box::pin(run.comparison.again());
        let ended = run.runtime.block_on(std::future::poll_fn(|context| {
            polls += 1;
            match polls > polls_max {
                true => Poll::Ready(None),
                false => again.as_mut().poll(context).map(Some),
            }
        }));
        drop(again);
        let keys = run.keys();
        assert_eq!(keys.len(), run.lines().len(), "some are named twice");
        for number in (2..=KEYS).step_by(2) {
            assert!(keys.contains(&(Some(0), format!("k{number}").into_bytes())), "k{number} is lost");
        }
        if let Some(still) = ended {
            assert_eq!((still?, keys.len()), (KEYS / 2, KEYS / 2));
            break;
        }
        dropped += 1;
        assert!(run.again().is_err(), "the connections are of no more use");
    }
    ensure!(dropped > 3, "it was dropped at {dropped} points only");
    Ok(())
}

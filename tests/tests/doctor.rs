//! `doctor` on real servers: what it says, and that it changes nothing. `permissions.rs` has what it says of rights.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use replsync_tests::client::{Batch, array, bytes, int, text};
use replsync_tests::contents::{self, Contents};
use replsync_tests::doctor::{Said, doctor, of_pair};
use replsync_tests::fill::{fill, function_library};
use replsync_tests::node::{Node, Outcome};
use replsync_tests::server::{TestServer, program};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(30);

fn migrate(source: &TestServer, target: &TestServer, more: &[&str]) -> Result<Outcome> {
    let (from, to) = (source.url(), target.url());
    let mut args = vec!["migrate", &from, &to, "--until", "caught-up", "--json"];
    args.extend(more);
    Node::run(&args, PATIENCE)
}

fn now_ms() -> Result<i64> {
    Ok(i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?)
}

#[test]
fn a_target_without_room_is_said_or_refused() -> Result<()> {
    let source = TestServer::start("redis-7.4", &[]);
    let many = "for i = 1, 20000 do redis.call('SET', 'k' .. i, string.rep('v', 200)) end";
    source.client(0).call(&["EVAL", many, "0"])?;
    let target = TestServer::start("redis-7.4", &[]);
    let data = of_pair(&source, &target)?.0["source"]["data_bytes"].as_i64().context("no data_bytes")?;
    // It is what the target takes in, give or take a tenth.
    let before = target.info_number("used_memory");
    migrate(&source, &target, &[])?.assert(0, &[]);
    let taken = target.info_number("used_memory") - before;
    ensure!((data - taken).abs() < taken / 10, "said {data} bytes, took {taken}");

    target.client(0).words("FLUSHALL")?;
    let limit = |share: i64, policy: &str| -> Result<Said> {
        let max = target.info_number("used_memory") + data * share / 100;
        target.client(0).call(&["CONFIG", "SET", "maxmemory", &max.to_string()])?;
        target.client(0).call(&["CONFIG", "SET", "maxmemory-policy", policy])?;
        of_pair(&source, &target)
    };
    let said = limit(140, "noeviction")?;
    ensure!(said.0["ok"] == true && said.0["target"]["maxmemory_bytes"].is_i64(), "{:#}", said.0);
    said.says_nothing_of("has room for")?;
    limit(75, "noeviction")?.one("warning", &["has room for", "refuses writes (OOM)", "Raise maxmemory"])?;
    let said = limit(75, "allkeys-lru")?;
    said.one("warning", &["has room for", "evicts keys"])?;
    said.one("warning", &["evicts keys when it is full (allkeys-lru)"])?;
    limit(20, "allkeys-lru")?.one("refusal", &["has room for", "evicts"])?;
    limit(20, "noeviction")?.one("refusal", &["has room for", "OOM"])?;
    migrate(&source, &target, &[])?.assert(3, &["has room for"]);
    ensure!(target.client(0).keys()? == 0, "something was written");
    // What is there and will be flushed makes room.
    target.client(0).words("CONFIG SET maxmemory 0")?;
    migrate(&source, &target, &[])?.assert(0, &[]);
    let max = target.info_number("used_memory") + data / 2;
    target.client(0).call(&["CONFIG", "SET", "maxmemory", &max.to_string()])?;
    of_pair(&source, &target)?.says_nothing_of("has room for")?;
    Ok(())
}

#[test]
fn a_target_that_cannot_save_refuses_writes_and_so_do_we() -> Result<()> {
    for name in ["redis-5.0", "redis-7.4", "valkey-9"] {
        let (source, target) = (TestServer::start(name, &[]), TestServer::start(name, &[]));
        source.client(0).call(&["CONFIG", "SET", "save", "3600 1"])?;
        let said = of_pair(&source, &target)?;
        said.one("warning", &["the target writes nothing to disk", "and the source does"])?;
        ensure!(said.0["source"]["save_points"] == "3600 1", "{:#}", said.0);

        // No file can take the place of a folder.
        std::fs::create_dir_all(target.folder().join("dump.rdb/full"))?;
        target.client(0).words("BGSAVE")?;
        wait_until(|| Ok(target.info("persistence").contains("rdb_last_bgsave_status:err")))?;
        of_pair(&source, &target)?.one("warning", &["trouble with its disk", "BGSAVE failed"])?;
        target.client(0).call(&["CONFIG", "SET", "save", "3600 1"])?;
        let said = of_pair(&source, &target)?;
        said.one("refusal", &["MISCONF", "BGSAVE failed"])?;
        ensure!(said.0["target"]["last_bgsave_ok"] == false, "{:#}", said.0);
        let refused = target.client(0).words("SET a b").map_err(|error| format!("{error:#}"));
        ensure!(refused.is_err_and(|error| error.contains("MISCONF")), "{name} takes writes");
        migrate(&source, &target, &[])?.assert(3, &["MISCONF"]);
        target.client(0).call(&["CONFIG", "SET", "stop-writes-on-bgsave-error", "no"])?;
        ensure!(of_pair(&source, &target)?.0["ok"] == true, "it takes writes again");
        migrate(&source, &target, &[])?.assert(0, &[]);

        // As a source it forks in vain.
        doctor(&target.url(), None)?.one("warning", &["last BGSAVE of the source failed"])?;
    }
    Ok(())
}

fn wait_until(mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !done()? {
        ensure!(Instant::now() < deadline, "waited in vain");
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

#[test]
fn a_target_that_wants_replicas_refuses_writes() -> Result<()> {
    let source = TestServer::start("redis-7.4", &[]);
    let target = TestServer::start("redis-7.4", &["--min-replicas-to-write", "1"]);
    of_pair(&source, &target)?.one("refusal", &["NOREPLICAS", "min-replicas-to-write"])?;
    let replica = TestServer::start("redis-7.4", &[]);
    replica.replicate(&target)?;
    // The target counts those that are good once a second.
    wait_until(|| Ok(target.info_number("min_slaves_good_slaves") == 1))?;
    let said = of_pair(&source, &target)?;
    ensure!(said.0["ok"] == true, "{:#}", said.0);
    let replicas = ["the target has 1 replica", "256.00 MiB, or 64.00 MiB for 60 s", "slows down"];
    said.one("note", &replicas)?;
    Ok(())
}

#[test]
fn expiries_that_a_killed_migration_left_are_recognised() -> Result<()> {
    for name in ["redis-5.0", "redis-6.2", "redis-7.4", "redis-8.6", "valkey-9"] {
        let (source, target) = (TestServer::start(name, &[]), TestServer::start(name, &[]));
        let has_fields = target.version().has_field_ttl();
        source.client(0).words("SET a b EX 1000")?;
        // Three of ours, and three that are far away by themselves.
        let at = now_ms()? + 60_000;
        for (db, key, expiry_ms) in [
            (0, "a", (1 << 60) + at),
            (0, "b", (1 << 60) + 1),
            (9, "c", (1 << 60) + at),
            (0, "soon", at),
            (0, "5138", 99_999_999_999_999),
        ] {
            let mut conn = target.client(db);
            conn.call(&["SET", key, "v"])?;
            conn.call(&["PEXPIREAT", key, &expiry_ms.to_string()])?;
        }
        target.client(0).words("SET never v")?;
        let mut expected = vec!["of 6 keys looked at, 3 have an expiry that is shifted by 2^60 ms"];
        if has_fields {
            let mut conn = target.client(2);
            conn.words("HSET h f v g v soon v never v")?;
            let shifted = ((1i64 << 45) + at).to_string();
            conn.call(&["HPEXPIREAT", "h", &shifted, "FIELDS", "2", "f", "g"])?;
            conn.call(&["HPEXPIREAT", "h", &at.to_string(), "FIELDS", "1", "soon"])?;
            expected = vec![
                "of 7 keys looked at, 3 have an expiry that is shifted by 2^60 ms",
                "of 4 hash fields looked at, 2 have an expiry that is shifted by 2^45 ms",
            ];
        }
        let said = of_pair(&source, &target)?;
        said.one(
            "refusal",
            &[&["the target is not empty", "was killed", "--flush-target"], &expected[..]].concat(),
        )?;
        said.one("warning", &[&["into the target was killed", "--flush-target"], &expected[..]].concat())?;
        let refused = migrate(&source, &target, &[])?;
        refused.assert(2, &[&["the target is not empty", "was killed"], &expected[..]].concat());

        // As a source it is no good: what it holds is not what it means.
        let empty = TestServer::start(name, &[]);
        let said = of_pair(&target, &empty)?;
        said.one("refusal", &[&["into the source was killed"], &expected[..]].concat())?;
        migrate(&target, &empty, &[])?.assert(5, &["into the source was killed"]);
        migrate(&source, &target, &["--flush-target"])?.assert(0, &["was killed", "will be flushed"]);
    }
    Ok(())
}

#[test]
fn a_large_target_is_looked_at_in_part() -> Result<()> {
    let (source, target) = (TestServer::start("redis-7.4", &[]), TestServer::start("redis-7.4", &[]));
    let many = "for i = 1, 60000 do redis.call('SET', 'k' .. i, 'v', 'PXAT', ARGV[1]) end";
    let shifted = ((1i64 << 60) + now_ms()?).to_string();
    target.client(0).call(&["EVAL", many, "0", &shifted])?;
    let began = Instant::now();
    let message = of_pair(&source, &target)?.one("refusal", &["the target is not empty", "looked at"])?;
    let looked_at = message.split("of ").nth(1).and_then(|rest| rest.split(' ').next()?.parse::<u64>().ok());
    ensure!(looked_at.is_some_and(|count| (500..12_000).contains(&count)), "{message}");
    ensure!(began.elapsed() < Duration::from_secs(10), "it took {:?}", began.elapsed());
    Ok(())
}

#[test]
fn sentinels_are_seen_by_their_names() -> Result<()> {
    for name in ["redis-5.0", "redis-7.4", "valkey-9"] {
        let (source, target) = (TestServer::start(name, &[]), TestServer::start(name, &[]));
        of_pair(&source, &target)?.says_nothing_of("Sentinel")?;
        let mut connections = Vec::new();
        for (server, name) in [
            (&source, "sentinel-0123abcd-cmd"),
            (&target, "sentinel-abc-cmd"),
            (&target, "sentinel-abc-pubsub"),
            (&target, "sentinel-def-cmd"),
        ] {
            let mut conn = server.client(0);
            conn.call(&["CLIENT", "SETNAME", name])?;
            connections.push(conn);
        }
        let said = of_pair(&source, &target)?;
        said.one("note", &["1 Sentinel watches the source", "failover"])?;
        said.one("warning", &["2 Sentinels watch the target", "READONLY", "SENTINEL REMOVE"])?;
        ensure!(said.0["target"]["sentinels"] == 2, "{:#}", said.0);
    }
    Ok(())
}

#[test]
fn a_real_sentinel_is_seen() -> Result<()> {
    for name in ["redis-6.2", "redis-7.4", "valkey-9"] {
        let (source, target) = (TestServer::start(name, &[]), TestServer::start(name, &[]));
        let folder = tempfile::tempdir()?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let file = folder.path().join("sentinel.conf");
        let watch = format!("sentinel monitor legacy 127.0.0.1 {} 1", target.port());
        std::fs::write(
            &file,
            format!("port {port}\nbind 127.0.0.1\ndir {}\n{watch}\n", folder.path().display()),
        )?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program(name)).arg(&file).arg("--sentinel");
        let mut sentinel = command.stdout(Stdio::null()).spawn()?;
        let seen = wait_until(|| Ok(of_pair(&source, &target)?.0["target"]["sentinels"] == 1));
        let said = of_pair(&source, &target)?;
        sentinel.kill()?;
        sentinel.wait()?;
        seen.with_context(|| format!("{name}: {:#}", said.0))?;
        said.one("warning", &["1 Sentinel watches the target"])?;
        ensure!(said.0["source"]["sentinels"] == 0, "{:#}", said.0);
    }
    Ok(())
}

#[test]
fn what_a_pair_does_not_move_is_said() -> Result<()> {
    let settings =
        ["--notify-keyspace-events", "KEA", "--hash-max-ziplist-entries", "64", "--databases", "20"];
    let source = TestServer::start("redis-7.4", &settings);
    let lru = ["--maxmemory", "900mb", "--maxmemory-policy", "allkeys-lru"];
    let target = TestServer::start("redis-8.6", &["--maxclients", "500"]);
    source.client(0).call(&["ACL", "SETUSER", "app", "on", ">x", "~*", "+@all"])?;
    source.client(0).call(&["ACL", "SETUSER", "metrics", "on", ">x", "+info"])?;
    target.client(0).call(&["ACL", "SETUSER", "app", "on", ">x", "~*", "+@all"])?;
    source.client(0).call(&["EVAL", "return 1", "0"])?;
    let said = of_pair(&source, &target)?;
    let users =
        said.one("warning", &["2 ACL users of the source are not moved", "lacks metrics", "ACL SETUSER"])?;
    ensure!(!users.contains("app,"), "{users}");
    said.one("note", &["script cache (1 script)", "NOSCRIPT"])?;
    let config = said.one("note", &["configuration is not moved"])?;
    for difference in [
        "databases 20 → 16",
        "notify-keyspace-events AKE → \"\"",
        "hash-max-listpack-entries 64 → 512",
        "maxclients 10000 → 500",
    ] {
        ensure!(config.contains(difference), "{difference} is not in: {config}");
    }
    ensure!(!config.contains("timeout"), "{config}");
    let said = of_pair(&TestServer::start("redis-7.4", &lru), &target)?;
    said.one("note", &["LRU", "not moved"])?;
    said.says_nothing_of("ACL user")?;
    of_pair(&target, &source)?.one("note", &["vector sets", "stop the job"])?;
    Ok(())
}

#[test]
fn what_would_be_lost_is_refused() -> Result<()> {
    let (source, old) =
        (TestServer::start("redis-7.4", &["--databases", "32"]), TestServer::start("redis-6.2", &[]));
    source.client(0).call(&["FUNCTION", "LOAD", &function_library("lib", 1)])?;
    source.client(20).words("HSET h f v")?;
    source.client(20).words("HEXPIRE h 1000 FIELDS 1 f")?;
    let said = of_pair(&source, &old)?;
    said.one("refusal", &["the source has functions"])?;
    said.one("refusal", &["hash fields on the source have expiries"])?;
    said.one("refusal", &["uses database 20, and the target has 16"])?;
    // The worst comes first.
    let severities: Vec<_> = said.0["findings"]
        .as_array()
        .context("no findings")?
        .iter()
        .map(|finding| finding["severity"].clone())
        .collect();
    let rank = |severity: &Value| ["refusal", "warning", "note"].iter().position(|name| severity == name);
    ensure!(severities.is_sorted_by_key(rank), "{severities:?}");
    Ok(())
}

#[test]
fn it_changes_nothing() -> Result<()> {
    for name in ["redis-5.0", "redis-6.2", "redis-7.4", "valkey-9"] {
        let servers = [TestServer::start(name, &[]), TestServer::start(name, &[])];
        for server in &servers {
            fill(&server.url(), 300, 7)?;
            replsync_tests::settle::expire(&server.url())?;
        }
        let before = [State::of(&servers[0])?, State::of(&servers[1])?];
        for server in &servers {
            server.client(0).words("CONFIG RESETSTAT")?;
        }
        std::thread::sleep(Duration::from_millis(2_500));
        of_pair(&servers[0], &servers[1])?;
        for (server, before) in servers.iter().zip(before) {
            let ran = commands_run(server)?;
            let writes: Vec<_> = ran.iter().filter(|name| !HARMLESS.contains(&&name[..])).collect();
            ensure!(writes.is_empty(), "{name}: it ran {writes:?}");
            ensure!(ran.len() > 8, "{name}: it ran hardly anything: {ran:?}");
            let idle = least_idle_seconds(server)?;
            ensure!(idle >= 2, "{name}: it has used a key, {idle} s ago");
            let after = State::of(server)?;
            ensure!(after.config == before.config, "{name}: {:?}", after.config);
            ensure!(
                (after.offset, after.dirty) == (before.offset, before.dirty),
                "{name}: something was written"
            );
            ensure!(after.contents.len() > 100, "{name}: hardly anything was compared");
            let differences = contents::diff(&[before.contents, after.contents]);
            ensure!(differences.is_empty(), "{name}: {}", contents::report(&differences));
        }
    }
    Ok(())
}

/// Looking is no use of a key: an eviction policy must not see it.
fn least_idle_seconds(server: &TestServer) -> Result<i64> {
    let mut least = i64::MAX;
    for db in server.client(0).databases()? {
        let mut conn = server.client(db);
        let mut batch = Batch::default();
        for key in array(conn.words("KEYS *")?) {
            batch.add(&[b"OBJECT".to_vec(), b"IDLETIME".to_vec(), bytes(key)]);
        }
        let idle = conn.send_all(batch)?;
        least = idle.iter().filter_map(int).fold(least, i64::min);
    }
    Ok(least)
}

/// What it may run, as INFO names it: before 7.0 without subcommands.
const HARMLESS: [&str; 26] = [
    "info",
    "ping",
    "auth",
    "select",
    "time",
    "command",
    "command|info",
    "config|get",
    "config",
    "config|resetstat",
    "client|list",
    "client",
    "client|no-touch",
    "module|list",
    "module",
    "acl|users",
    "acl|dryrun",
    "acl",
    "function|list",
    "scan",
    "type",
    "pttl",
    "pexpiretime",
    "hscan",
    "hpexpiretime",
    "client|setinfo",
];

fn commands_run(server: &TestServer) -> Result<BTreeSet<String>> {
    let info = server.client(0).info("commandstats")?;
    let names = info.lines().filter_map(|line| line.strip_prefix("cmdstat_")?.split(':').next());
    Ok(names.map(str::to_owned).collect())
}

/// A server's configuration, how much was ever written to it, and all that it holds.
struct State {
    config: BTreeMap<String, String>,
    offset: i64,
    dirty: i64,
    contents: Contents,
}

impl State {
    fn of(server: &TestServer) -> Result<Self> {
        let mut conn = server.client(0);
        let pairs: Vec<_> = array(conn.words("CONFIG GET *")?).iter().map(text).collect();
        let config = pairs.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect();
        let number = |field| server.info_number(field);
        let (offset, dirty) = (number("master_repl_offset"), number("rdb_changes_since_last_save"));
        let contents = Contents::read(&mut conn, [server.version(), server.version()])?;
        Ok(Self { config, offset, dirty, contents })
    }
}

#[test]
fn six_pairs() -> Result<()> {
    for (from, to) in [
        ("redis-5.0", "redis-6.2"),
        ("redis-6.2", "redis-7.4"),
        ("redis-7.4", "valkey-9"),
        ("redis-8.6", "redis-7.4"),
        ("redis-7.2", "valkey-8.1"),
        ("valkey-9", "redis-8.6"),
    ] {
        let (source, target) = (TestServer::start(from, &[]), TestServer::start(to, &[]));
        fill(&source.url(), 3_000, 1)?;
        std::thread::sleep(Duration::from_secs(2)); // the rate of what comes in is that of the last two seconds
        let outcome = Node::run(&["doctor", &source.url(), "--to", &target.url()], PATIENCE)?;
        println!("\n$ replsync-node doctor {from} --to {to}\n{}", outcome.stdout);
        outcome.assert(0, &[]);
        for line in [
            "source   ",
            "target   ",
            "  memory  ",
            "  persistence  ",
            "  clock  ",
            "nothing stands in the way",
        ] {
            ensure!(outcome.stdout.contains(line), "no {line:?} in:\n{}", outcome.stdout);
        }
    }
    Ok(())
}

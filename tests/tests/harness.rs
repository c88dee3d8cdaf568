//! The oracle itself: between servers that replicate natively nothing differs, and what is changed behind a replica's
//! back is found.

use std::time::Duration;

use anyhow::Result;
use replsync_tests::client::text;
use replsync_tests::contents::{NATIVE_TOLERANCE_MS, compare, diff_within, read_both, report};
use replsync_tests::digest::debug_digest;
use replsync_tests::fill::{fill, function_library};
use replsync_tests::server::{Options, TestServer};
use replsync_tests::writer::Writer;

const SEED: u64 = 20_240_617;

/// Fills and writes to a master that a native replica of the same version follows, and compares them.
fn native_replica_is_equal(name: &str) -> Result<()> {
    println!("{name}, seed {SEED}");
    let (master, replica) = (TestServer::start(name, &[]), TestServer::start(name, &[]));
    fill(&master.url(), 3_000, SEED)?;
    let writer = Writer::start(&master.url(), SEED, 4_000)?;
    replica.replicate(&master)?;
    std::thread::sleep(Duration::from_secs(1));
    let commands = writer.stop()?;
    std::thread::sleep(Duration::from_millis(600));
    replica.wait_for_offset_of(&master)?;
    let sides = read_both(&master.url(), &replica.url())?;
    println!("{name}: {commands} commands; {:?}", sides[0].census());
    let differences = diff_within(&sides, NATIVE_TOLERANCE_MS);
    assert!(differences.is_empty(), "{}", report(&differences));
    let digests = [&master, &replica].map(|server| debug_digest(&mut server.client(0)));
    let [one, two] = digests;
    assert_eq!(one?, two?, "DEBUG DIGEST");
    Ok(())
}

macro_rules! native_replicas {
    ($($test:ident $name:literal)*) => {
        $(#[test] fn $test() -> Result<()> { native_replica_is_equal($name) })*
    };
}

native_replicas! {
    redis_5_0_replicates_to_itself "redis-5.0"
    redis_6_2_replicates_to_itself "redis-6.2"
    redis_7_0_replicates_to_itself "redis-7.0"
    redis_7_2_replicates_to_itself "redis-7.2"
    redis_7_4_replicates_to_itself "redis-7.4"
    redis_8_0_replicates_to_itself "redis-8.0"
    redis_8_6_replicates_to_itself "redis-8.6"
    valkey_8_1_replicates_to_itself "valkey-8.1"
    valkey_9_replicates_to_itself "valkey-9"
}

#[test]
fn what_is_changed_behind_its_back_is_found() -> Result<()> {
    let changes = [
        "SET str:changed other",
        "APPEND empty x",
        "DEL sparse",
        "SET extra 1",
        "PEXPIREAT str:changed 4102444800001",
        "PERSIST until",
        "LSET list 1 other",
        "SREM set b",
        "ZADD zset 1.0000000000000002 a",
        "HSET hash g 2",
        "HSET hash f other",
        "HPEXPIREAT hash 4102444800001 FIELDS 1 f",
        "HPERSIST hash FIELDS 1 ttl",
        "XADD stream 9-9 a b",
        "XDEL stream 1-1",
        "XSETID stream 77-7",
        "XACK stream g 1-1",
        "XCLAIM stream g other 0 1-1",
        "XCLAIM stream g c 0 1-1 TIME 1000",
        "XGROUP SETID stream g 0",
        "XGROUP CREATE stream h 0",
        "XGROUP DESTROY stream g",
        "XGROUP CREATECONSUMER stream g d",
        "FUNCTION DELETE filled",
        "FUNCTION FLUSH",
        "SWAPDB 0 3",
        "MOVE sparse 5",
        "FLUSHDB",
        "FLUSHALL",
    ];
    let master = TestServer::start("redis-7.4", &[]);
    let mut conn = master.client(0);
    conn.call(&["FUNCTION", "LOAD", &function_library("filled", 1)])?;
    for words in [
        "SET str:changed v",
        "SET sparse v",
        "SET empty v",
        "SET until v PXAT 4102444800000",
        "RPUSH list a b c",
        "SADD set a b c",
        "ZADD zset 1 a 2 b",
        "HSET hash f v ttl v",
        "HPEXPIREAT hash 4102444800000 FIELDS 1 ttl",
        "XADD stream 1-1 a b",
        "XADD stream 2-1 a b",
        "XGROUP CREATE stream g 0",
        "XREADGROUP GROUP g c COUNT 1 STREAMS stream >",
    ] {
        conn.words(words)?;
    }
    let file = master.save()?;
    for change in changes {
        let copy = TestServer::start_with("redis-7.4", &Options::default().rdb(&file));
        assert_eq!(compare(&master.url(), &copy.url())?, [], "before {change}");
        copy.client(0).words(change)?;
        let differences = compare(&master.url(), &copy.url())?;
        assert!(!differences.is_empty(), "not found: {change}");
        println!("{change}: {}", differences[0]);
    }
    Ok(())
}

#[test]
fn thousands_of_keys_are_compared() -> Result<()> {
    let (master, replica) = (TestServer::start("redis-7.4", &[]), TestServer::start("redis-7.4", &[]));
    fill(&master.url(), 20_000, SEED)?;
    replica.replicate(&master)?;
    let begun = std::time::Instant::now();
    let differences = compare(&master.url(), &replica.url())?;
    let seconds = begun.elapsed().as_secs_f64();
    println!("{} keys in {seconds:.1} s", master.client(0).keys()?);
    assert_eq!(differences, []);
    Ok(())
}

#[test]
fn servers_take_passwords_users_sockets_and_pauses() -> Result<()> {
    let locked = TestServer::start_with("redis-6.2", &Options::default().password("secret"));
    assert!(locked.url().contains(":secret@"));
    let user = TestServer::start_with("valkey-8.1", &Options::default().user("bob", "pass"));
    assert!(text(&user.client(0).words("ACL WHOAMI")?).contains("bob"));
    let mut server = TestServer::start("redis-8.6", &["--maxmemory", "100mb"]);
    assert_eq!(server.info_number("maxmemory"), 100 << 20);
    replsync_tests::client::Conn::open(&server.unix_url())?.words("SET a b")?;
    assert!(server.save()?.starts_with(b"REDIS0013"));
    server.pause();
    server.resume();
    server.restart()?;
    assert_eq!(server.client(0).keys()?, 1, "the file that SAVE left is loaded");
    Ok(())
}

//! The main job on real servers: a live keyspace, written to the whole time, moves to another version, and afterwards
//! both sides hold the same.
//!
//! `REPLSYNC_SEED` and `REPLSYNC_KEYS` choose another load; `scripts/prove-migrate.sh` does so again and again.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use replsync_tests::contents::{diff, read_both, report};
use replsync_tests::digest;
use replsync_tests::fill::fill;
use replsync_tests::node::{Node, Outcome};
use replsync_tests::server::TestServer;
use replsync_tests::settle::{expire, pass_mark};
use replsync_tests::writer::Writer;

const PATIENCE: Duration = Duration::from_secs(60);
const COMMANDS_PER_SECOND: u32 = 3_000;

macro_rules! pairs {
    ($($test:ident $from:literal $to:literal)*) => {
        $(#[test] fn $test() -> Result<()> { moves_while_clients_write($from, $to) })*
    };
}

pairs! {
    redis_5_0_to_redis_6_2 "redis-5.0" "redis-6.2"
    redis_6_2_to_redis_7_4 "redis-6.2" "redis-7.4"
    redis_7_0_to_redis_8_0 "redis-7.0" "redis-8.0"
    redis_7_4_to_redis_7_4 "redis-7.4" "redis-7.4"
    redis_7_4_to_valkey_9 "redis-7.4" "valkey-9"
    redis_7_2_to_valkey_8_1 "redis-7.2" "valkey-8.1"
    redis_8_6_to_redis_7_4 "redis-8.6" "redis-7.4"
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// Follows without an end, is told to stop once everything has arrived, and both sides are equal.
fn moves_while_clients_write(from: &str, to: &str) -> Result<()> {
    let (seed, keys) = (setting("REPLSYNC_SEED", 1), setting("REPLSYNC_KEYS", 6_000));
    println!("{from} to {to}: seed {seed}, {keys} keys");
    let (source, target) = (TestServer::start(from, &[]), TestServer::start(to, &[]));
    fill(&source.url(), u32::try_from(keys)?, seed)?;
    let writer = Writer::start(&source.url(), seed, COMMANDS_PER_SECOND)?;
    let mut node = Node::start(&["migrate", &source.url(), &target.url(), "--json"])?;

    let mut alive = || {
        let running = node.is_running()?;
        ensure!(running, "replsync-node ended by itself: {}", node.stderr());
        Ok(())
    };
    pass_mark(&source.url(), &target.url(), PATIENCE, &mut alive).context("the copy and what follows it")?;
    std::thread::sleep(Duration::from_secs(3)); // the stream is followed for a while
    let commands = writer.stop()?;
    expire(&source.url())?;
    let offset_written = source.info_number("master_repl_offset");
    pass_mark(&source.url(), &target.url(), PATIENCE, &mut alive).context("the last commands")?;

    node.signal("TERM");
    let outcome = node.wait(PATIENCE)?;
    outcome.assert(4, &[]);
    let said = outcome.json()?;
    let offset = said["offset"].as_i64().context("no offset in the result")?;
    let offset_now = source.info_number("master_repl_offset");
    assert!((offset_written..=offset_now).contains(&offset), "{offset_written} ≤ {offset} ≤ {offset_now}");
    assert_eq!(said["caught_up"], true, "{said}");
    assert!(said["commands"].as_u64().is_some_and(|count| count > 0), "{said}");
    println!("{from} to {to}: {commands} commands by the writer, {said}");
    nothing_differs(&source, &target)
}

fn nothing_differs(source: &TestServer, target: &TestServer) -> Result<()> {
    let sides = read_both(&source.url(), &target.url())?;
    println!("{:?}", sides[0].census());
    let differences = diff(&sides);
    assert!(differences.is_empty(), "{}", report(&differences));
    assert!(sides[0].len() > 100, "hardly anything was compared: {:?}", sides[0].census());
    if digest::print_alike(source.version(), target.version()) {
        let [a, b] = [source, target].map(|server| digest::debug_digest(&mut server.client(0)));
        assert_eq!(a?, b?, "DEBUG DIGEST");
    }
    Ok(())
}

fn until_caught_up(source: &TestServer, target: &TestServer, more: &[&str]) -> Result<Outcome> {
    let (from, to) = (source.url(), target.url());
    let mut args = vec!["migrate", &from, &to, "--until", "caught-up", "--json"];
    args.extend(more);
    Node::run(&args, PATIENCE)
}

#[test]
fn ends_by_itself_when_caught_up() -> Result<()> {
    let (source, target) = (TestServer::start("redis-8.6", &[]), TestServer::start("redis-7.4", &[]));
    fill(&source.url(), 3_000, 2)?;
    expire(&source.url())?;
    let outcome = until_caught_up(&source, &target, &[])?;
    outcome.assert(0, &[]);
    let said = outcome.json()?;
    assert_eq!((&said["caught_up"], &said["verified"]), (&true.into(), &false.into()), "{said}");
    assert!(said["keys"].as_u64().is_some_and(|keys| keys >= source.client(0).keys().unwrap_or(0)), "{said}");
    nothing_differs(&source, &target)
}

#[test]
fn passwords_users_and_unix_sockets_work() -> Result<()> {
    use replsync_tests::server::Options;
    let source = TestServer::start_with("redis-7.4", &Options::default().user("mover", "s3cret"));
    let target = TestServer::start_with("valkey-8.1", &Options::default().password("other"));
    source.client(3).words("SET a b")?;
    until_caught_up(&source, &target, &[])?.assert(0, &[]);
    nothing_differs_at_all(&source, &target)?;
    let (source, target) = (TestServer::start("redis-6.2", &[]), TestServer::start("redis-7.0", &[]));
    source.client(3).words("SET a b")?;
    let outcome = Node::run(
        &["migrate", &source.unix_url(), &target.unix_url(), "--until", "caught-up", "--json"],
        PATIENCE,
    )?;
    outcome.assert(0, &[]);
    nothing_differs_at_all(&source, &target)
}

#[test]
fn an_empty_source_is_moved_too() -> Result<()> {
    let (source, target) = (TestServer::start("redis-7.4", &[]), TestServer::start("redis-7.4", &[]));
    let outcome = until_caught_up(&source, &target, &[])?;
    outcome.assert(0, &[]);
    assert_eq!(outcome.json()?["keys"], 0);
    Ok(())
}

#[test]
fn a_target_that_holds_keys_is_flushed_when_asked() -> Result<()> {
    let (source, target) = (TestServer::start("redis-7.4", &[]), TestServer::start("redis-8.0", &[]));
    source.client(0).words("SET a b")?;
    target.client(5).words("SET old 1")?;
    let refused = until_caught_up(&source, &target, &[])?;
    refused.assert(2, &["--flush-target"]);
    assert_eq!(target.client(5).keys()?, 1, "a refusal changes nothing");
    until_caught_up(&source, &target, &["--flush-target"])?.assert(0, &[]);
    nothing_differs_at_all(&source, &target)
}

fn nothing_differs_at_all(source: &TestServer, target: &TestServer) -> Result<()> {
    assert_eq!(replsync_tests::contents::compare(&source.url(), &target.url())?, []);
    Ok(())
}

#[test]
fn a_target_that_drops_idle_clients_keeps_us() -> Result<()> {
    let source = TestServer::start("redis-7.4", &["--repl-ping-replica-period", "100"]);
    let target = TestServer::start("redis-7.4", &["--timeout", "2"]);
    source.client(0).words("SET a b")?;
    let mut node = Node::start(&["migrate", &source.url(), &target.url(), "--json"])?;
    target.wait_for_keys(1, PATIENCE)?;
    std::thread::sleep(Duration::from_secs(5));
    source.client(1).words("SET c d")?;
    target.wait_for_keys(2, PATIENCE).with_context(|| node.stderr())?;
    ensure!(node.is_running()?, "{}", node.stderr());
    node.signal("TERM");
    node.wait(PATIENCE)?.assert(4, &[]);
    Ok(())
}

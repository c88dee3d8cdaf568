//! What happens while a target lands, and just before: the job is held still in the middle of its sweep, and meanwhile
//! something happens that it must not miss.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use replsync_tests::client::{Batch, int};
use replsync_tests::node::Node;
use replsync_tests::server::TestServer;

const PATIENCE: Duration = Duration::from_secs(60);
/// Enough for a sweep to be caught in the middle.
const KEYS: usize = 40_000;
/// Expiries from here on are shifted.
const SHIFTED_KEY: i64 = 1 << 60;
const SHIFTED_FIELD: i64 = 1 << 45;

/// Writes keys that expire, but not soon, into that database.
fn fill(source: &TestServer, db: u32) -> Result<()> {
    let mut batch = Batch::default();
    for number in 0..KEYS {
        batch.add(&["SET", &format!("key:{number}"), "v", "PX", "5000000"]);
    }
    source.client(db).send_all(batch).map(drop)
}

fn number(server: &TestServer, db: u32, command: &str) -> Result<i64> {
    let reply = server.client(db).words(command)?;
    let first = match &reply {
        redis::Value::Array(replies) => replies.first().context("an empty reply")?,
        reply => reply,
    };
    int(first).with_context(|| format!("{command}: {reply:?}"))
}

/// Starts a job and holds it still (SIGSTOP) as soon as the sweep has put that expiry right.
fn held_when_put_right(
    source: &TestServer,
    target: &TestServer,
    more: &[&str],
    mut is_right: impl FnMut() -> Result<bool>,
) -> Result<Node> {
    let (from, to) = (source.url(), target.url());
    let mut args = vec!["migrate", &from, &to, "--json"];
    args.extend(more);
    let mut node = Node::start(&args)?;
    let deadline = Instant::now() + PATIENCE;
    while !is_right()? {
        if Instant::now() > deadline || !node.is_running()? {
            bail!("it was never seen in the middle of the sweep: {}", node.stderr());
        }
    }
    node.signal("STOP");
    Ok(node)
}

/// Whether the sweep is under way among the keys of database 0.
fn some_key_is_right(target: &TestServer) -> Result<bool> {
    let mut batch = Batch::default();
    for number in 0..50 {
        batch.add(&["PEXPIRETIME", &format!("key:{number}")]);
    }
    let expiries = target.client(0).send_all(batch)?;
    Ok(expiries.iter().any(|expiry| int(expiry).is_some_and(|at| (1..SHIFTED_KEY).contains(&at))))
}

#[test]
fn told_to_stop_while_landing_it_says_what_it_has_missed() -> Result<()> {
    let (source, target) = (TestServer::start("redis-7.4", &[]), TestServer::start("redis-7.4", &[]));
    fill(&source, 0)?;
    let until = ["--until", "quiet:300ms"];
    let node = held_when_put_right(&source, &target, &until, || some_key_is_right(&target))?;
    source.client(0).words("SET written late")?;
    node.signal("TERM");
    node.signal("CONT");
    let outcome = node.wait(PATIENCE)?;
    outcome.assert(4, &[]);
    let said = outcome.json()?;
    assert_eq!(target.client(0).words("EXISTS written")?, redis::Value::Int(0));
    assert_eq!((&said["caught_up"], &said["exact"]), (&false.into(), &false.into()), "{said}");
    assert_eq!(said["expiries_shifted"], false, "{said}");
    Ok(())
}

/// The target does not remove expired fields at once, nor count them; but it treats them as gone.
#[test]
fn a_field_that_was_renewed_while_landing_is_not_lost_unseen() -> Result<()> {
    let (source, target) = (TestServer::start("redis-7.4", &[]), TestServer::start("redis-7.4", &[]));
    target.client(0).words("DEBUG SET-ACTIVE-EXPIRE 0")?;
    fill(&source, 1)?;
    source.client(0).words("HSET h f precious g v")?;
    source.client(0).words("HPEXPIRE h 8000 FIELDS 1 f")?;
    let expires = Instant::now() + Duration::from_secs(8);
    let until = ["--until", "quiet:300ms"];
    let node = held_when_put_right(&source, &target, &until, || {
        Ok((1..SHIFTED_FIELD).contains(&number(&target, 0, "HPEXPIRETIME h FIELDS 1 f")?))
    })?;
    assert!(Instant::now() < expires, "the machine is too slow for this test");
    source.client(0).words("HPEXPIRE h 5000000 FIELDS 1 f")?;
    std::thread::sleep(expires.saturating_duration_since(Instant::now()) + Duration::from_millis(100));
    node.signal("CONT");
    let outcome = node.wait(PATIENCE)?;
    let field = target.client(0).words("HGET h f")?;
    if outcome.code == Some(0) {
        assert_eq!(field, redis::Value::BulkString(b"precious".to_vec()), "{}", outcome.stderr);
    }
    outcome.assert(5, &["while expiries were put right"]);
    Ok(())
}

#[test]
fn expiries_that_were_read_too_late_are_not_called_exact() -> Result<()> {
    let (source, target) = (TestServer::start("redis-6.2", &[]), TestServer::start("redis-7.4", &[]));
    fill(&source, 0)?;
    let until = ["--until", "caught-up"];
    let node = held_when_put_right(&source, &target, &until, || some_key_is_right(&target))?;
    let mut batch = Batch::default();
    for number in 0..KEYS {
        batch.add(&["PEXPIRE", &format!("key:{number}"), "9000000"]);
    }
    source.client(0).send_all(batch)?;
    node.signal("CONT");
    let outcome = node.wait(PATIENCE)?;
    outcome.assert(0, &[]);
    let said = outcome.json()?;
    assert_eq!(said["exact"], false, "{said}");
    Ok(())
}

#[test]
fn an_idle_source_is_not_waited_for() -> Result<()> {
    let source = TestServer::start("redis-7.4", &["--repl-ping-replica-period", "1000"]);
    let target = TestServer::start("redis-7.4", &[]);
    // With a replica of its own its offset has left 0.
    let replica = TestServer::start("redis-7.4", &[]);
    replica.replicate(&source)?;
    source.client(0).words("SET a b")?;
    let args = ["migrate", &source.url(), &target.url(), "--until", "caught-up", "--verify"];
    Node::run(&args, Duration::from_secs(15))?.assert(0, &[]);
    Ok(())
}

#[test]
fn what_has_expired_on_a_source_that_deletes_nothing_is_no_difference() -> Result<()> {
    for (from, to) in [("redis-7.4", "redis-7.4"), ("valkey-9", "redis-8.6")] {
        let (source, target) = (TestServer::start(from, &[]), TestServer::start(to, &[]));
        let mut conn = source.client(0);
        for command in ["SET k v PX 2500", "HSET h f v g v", "HSET all f v"] {
            conn.words(command)?;
        }
        conn.words("HPEXPIRE h 2500 FIELDS 1 f")?;
        conn.words("HPEXPIRE all 2500 FIELDS 1 f")?;
        let args = ["migrate", &source.url(), &target.url(), "--until", "quiet:3s", "--verify", "--json"];
        let node = Node::start(&args)?;
        target.wait_for_keys(3, PATIENCE)?;
        // Whoever pauses writers holds up expiries, too.
        conn.words("CLIENT PAUSE 30000 WRITE")?;
        let outcome = node.wait(PATIENCE)?;
        outcome.assert(0, &[]);
        assert_eq!(outcome.json()?["verified"], true);
        assert_eq!(target.client(0).words("EXISTS k all")?, redis::Value::Int(0));
        assert_eq!(target.client(0).words("HLEN h")?, redis::Value::Int(1));
    }
    Ok(())
}

#[test]
fn a_folder_that_is_of_no_use_is_found_before_the_target_is_flushed() -> Result<()> {
    let (source, target) = (TestServer::start("redis-7.4", &[]), TestServer::start("redis-7.4", &[]));
    target.client(0).words("SET a b")?;
    let args = ["migrate", &source.url(), &target.url(), "--flush-target", "--spool", "/nonexistent/folder"];
    Node::run(&args, PATIENCE)?.assert(3, &["/nonexistent/folder"]);
    assert_eq!(target.client(0).keys()?, 1);
    Ok(())
}

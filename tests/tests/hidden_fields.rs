//! Servers hide fields that are past their time and delete them later. HPERSIST of several fields, and HEXPIRE on Valkey 9, skip
//! hidden ones, but travel with all: whoever applies the stream renews what is gone, and a job may end before the deletion.

use std::time::Duration;

use anyhow::{Result, ensure};
use redis::Value;
use replsync_tests::client::{Batch, Conn, array, bytes, int};
use replsync_tests::expiring::epoch_ms;
use replsync_tests::job::{PATIENCE, arrive, assert_equal, following, stop, wait_for};
use replsync_tests::node::{Node, Outcome};
use replsync_tests::server::{Options, TestServer};

/// A source that deletes nothing by itself, so that what has expired stays hidden for as long as the test wants.
fn that_hides(name: &str) -> Result<TestServer> {
    let source = TestServer::start(name, &[]);
    source.client(0).words("DEBUG SET-ACTIVE-EXPIRE 0")?;
    Ok(source)
}

/// A hash of which a expires after that, and c much later.
fn make(conn: &mut Conn, key: &str, left_ms: &str) -> Result<()> {
    conn.words(&format!("HSET {key} a 1 b 2 c 3 d 4"))?;
    conn.words(&format!("HPEXPIRE {key} 5000000 FIELDS 1 c"))?;
    conn.words(&format!("HPEXPIRE {key} {left_ms} FIELDS 1 a")).map(drop)
}

fn make_all(conn: &mut Conn) -> Result<()> {
    const BRIEF: [&str; 8] =
        ["renewed", "persisted", "conditional", "copied", "renamed", "moved", "anew", "untouched"];
    for db in [3, 0] {
        conn.select(db)?;
        BRIEF.iter().try_for_each(|key| make(conn, key, "50"))?;
        make(conn, "kept", "3600000")?;
        // Of which nothing is left to be shown; but the key is there, and so is its expiry.
        for key in ["emptied", "refilled"] {
            conn.words(&format!("HSET {key} a 1 d 4"))?;
            conn.words(&format!("PEXPIRE {key} 7200000"))?;
            conn.words(&format!("HPEXPIRE {key} 50 FIELDS 2 a d"))?;
        }
    }
    Ok(())
}

/// Names a together with others once it is hidden; that of `kept` is there.
fn renew(conn: &mut Conn) -> Result<()> {
    wait_for("a field's end", PATIENCE, || Ok(!has_a(conn, "untouched")?))?;
    for db in [3, 0] {
        conn.select(db)?;
        for words in [
            "HEXPIRE renewed 5000 FIELDS 2 a d",
            "HPERSIST persisted FIELDS 2 a c",
            "HPEXPIRE conditional 6000000 XX FIELDS 2 a c",
            "HEXPIRE copied 5000 FIELDS 2 a d",
            "COPY copied copy",
            "HEXPIRE renamed 5000 FIELDS 2 a d",
            "RENAME renamed new",
            "HEXPIRE moved 5000 FIELDS 2 a d",
            "MOVE moved 9",
            "HEXPIRE anew 5000 FIELDS 2 a d",
            "HSET anew a again",
            "HEXPIRE kept 6000 FIELDS 2 a d",
            "HSET refilled late v",
        ] {
            conn.words(words)?;
        }
    }
    Ok(())
}

fn has_a(conn: &mut Conn, key: &str) -> Result<bool> {
    Ok(conn.call(&["HEXISTS", key, "a"])? == Value::Int(1))
}

/// Both sides show the same, and the source has not deleted anything.
fn assert_none_came_back(source: &TestServer, target: &TestServer, outcome: &Outcome) -> Result<()> {
    let said = outcome.json()?;
    assert_equal(source, target)?;
    assert_eq!((&said["exact"], &said["fields_in_doubt"]), (&true.into(), &0.into()), "{said}");
    let hidden = int(&source.client(0).words("HLEN renewed")?);
    ensure!(hidden == Some(4), "{} has deleted the field by itself: {hidden:?}", source.name());
    Ok(())
}

fn told_to_stop(from: &str, to: &str, more: &[&str]) -> Result<()> {
    let (source, target) = (that_hides(from)?, TestServer::start(to, &[]));
    let mut node = following(&source, &target, more)?;
    let mut conn = source.client(0);
    make_all(&mut conn)?;
    renew(&mut conn)?;
    arrive(&mut node, &source, &target, PATIENCE)?;
    // Up to here the target is as a replica of Valkey 9 is.
    // (Redis deletes what it is asked for.)
    let both = [&target, &source].map(|server| has_a(&mut server.client(0), "persisted"));
    assert!(matches!(both, [Ok(true), Ok(false)]), "the stream did not renew it: nothing is tested");
    assert_none_came_back(&source, &target, &stop(node)?)
}

#[test]
fn told_to_stop_to_valkey_9() -> Result<()> {
    told_to_stop("valkey-9", "valkey-9", &[])
}

#[test]
fn told_to_stop_to_redis_8_6() -> Result<()> {
    told_to_stop("valkey-9", "redis-8.6", &["--method", "full-sync", "--verify"])
}

#[test]
fn told_to_stop_from_redis_7_4() -> Result<()> {
    told_to_stop("redis-7.4", "valkey-9", &[])
}

#[test]
fn told_to_stop_from_redis_8_6() -> Result<()> {
    told_to_stop("redis-8.6", "redis-7.4", &[])
}

/// The hidden fields come with the copy, and are renewed behind it.
fn ends_by_itself(more: &[&str]) -> Result<()> {
    let (source, target) = (that_hides("valkey-9")?, TestServer::start("valkey-9", &[]));
    let mut conn = source.client(0);
    make_all(&mut conn)?;
    let (from, to) = (source.url(), target.url());
    let mut node = Node::start(&[&["migrate", &from, &to, "--json"], more].concat())?;
    wait_for("the end of the copy", PATIENCE, || {
        ensure!(node.is_running()?, "{}", node.stderr());
        Ok(node.stderr().contains("following  "))
    })?;
    renew(&mut conn)?;
    let outcome = node.wait(PATIENCE)?;
    outcome.assert(0, &[]);
    assert_none_came_back(&source, &target, &outcome)
}

#[test]
fn quiet_without_a_comparison() -> Result<()> {
    ends_by_itself(&["--until", "quiet:3s"])
}

#[test]
fn quiet_and_compared() -> Result<()> {
    ends_by_itself(&["--until", "quiet:3s", "--verify"])
}

/// Who may not ask is told that it is not known.
#[test]
fn a_source_that_may_not_be_asked() -> Result<()> {
    let (source, target) = (that_hides("valkey-9")?, TestServer::start("valkey-9", &[]));
    let mut conn = source.client(0);
    conn.words("ACL SETUSER tool on >word ~* &* +@all -hpexpiretime")?;
    let from = source.url().replace("redis://", "redis://tool:word@");
    let args = ["migrate", &from, &target.url(), "--json", "--method", "full-sync"];
    let mut node = Node::start(&args)?;
    arrive(&mut node, &source, &target, PATIENCE)?;
    conn.words("HSET h a 1 b 2 c 3 d 4")?;
    conn.words("HEXPIRE h 6000 FIELDS 2 a d")?;
    arrive(&mut node, &source, &target, PATIENCE)?;
    let outcome = stop(node)?;
    let said = outcome.json()?;
    assert_eq!((&said["exact"], &said["fields_in_doubt"]), (&false.into(), &2.into()), "{said}");
    ensure!(outcome.stderr.contains("HPEXPIRETIME"), "{}", outcome.stderr);
    Ok(())
}

/// What the server's own replica does: it holds what its master does not show, until the deletion comes.
#[test]
fn a_native_replica_shows_it_until_it_is_deleted() -> Result<()> {
    let (master, replica) = (that_hides("valkey-9")?, TestServer::start("valkey-9", &[]));
    replica.replicate(&master)?;
    let mut conn = master.client(0);
    make(&mut conn, "h", "50")?;
    wait_for("a field's end", PATIENCE, || Ok(!has_a(&mut conn, "h")?))?;
    let done = array(conn.words("HEXPIRE h 5000 FIELDS 2 a d")?);
    assert_eq!(done, [Value::Int(-2), Value::Int(1)]);
    replica.wait_for_offset_of(&master)?;
    assert!(has_a(&mut replica.client(0), "h")? && !has_a(&mut conn, "h")?);
    conn.words("DEBUG SET-ACTIVE-EXPIRE 1")?;
    wait_for("the deletion", PATIENCE, || {
        std::thread::sleep(Duration::from_millis(20));
        Ok(!has_a(&mut replica.client(0), "h")?)
    })
}

/// Values above a size are read in parts, and a field's expiry after its value: its time may come in between.
fn backed_up_while_fields_expire(name: &str) -> Result<()> {
    const FIELDS: u64 = 60_000;
    const WITHIN_MS: u64 = 6_000;
    let source = that_hides(name)?;
    let mut conn = source.client(0);
    let (mut values, mut expiries, first_ms) = (Batch::default(), Batch::default(), epoch_ms()? + 2_000);
    for number in 0..FIELDS {
        let (field, at_ms) = (format!("field:{number}"), first_ms + number * WITHIN_MS / FIELDS);
        values.add(&["HSET", "big", &field, "v"]);
        expiries.add(&["HPEXPIREAT", "big", &at_ms.to_string(), "FIELDS", "1", &field]);
    }
    conn.send_all(values)?;
    conn.send_all(expiries)?;
    ensure!(epoch_ms()? < first_ms, "too slow a machine for this test");
    let folder = tempfile::tempdir()?;
    let to = folder.path().display().to_string();
    std::thread::sleep(Duration::from_millis(first_ms.saturating_sub(epoch_ms()?)));
    let (mut backups, mut lasting) = (0, Vec::new());
    while epoch_ms()? < first_ms + WITHIN_MS / 2 {
        let args = ["backup", &source.url(), "--to", &to, "--big-value-bytes", "4KiB", "--json"];
        let outcome = Node::run(&args, PATIENCE)?;
        outcome.assert(0, &[]);
        let said = outcome.json()?;
        let file = std::fs::read(said["rdb"].as_str().unwrap_or_default())?;
        let restored = TestServer::start_with(name, &Options::default().rdb(&file));
        lasting.extend(fields_without_expiry(&mut restored.client(0), "big")?);
        backups += 1;
    }
    println!("{name}: {backups} backups");
    ensure!(lasting.is_empty(), "{} fields lost their expiry, such as {:?}", lasting.len(), lasting[0]);
    Ok(())
}

fn fields_without_expiry(conn: &mut Conn, key: &str) -> Result<Vec<Vec<u8>>> {
    let fields: Vec<Vec<u8>> = array(conn.call(&["HKEYS", key])?).into_iter().map(bytes).collect();
    let mut batch = Batch::default();
    for field in &fields {
        batch.add(&[b"HPEXPIRETIME", key.as_bytes(), b"FIELDS", b"1", &field[..]]);
    }
    let never = [Value::Int(-1)];
    let replies = conn.send_all(batch)?.into_iter().map(array);
    Ok(fields.into_iter().zip(replies).filter(|(_, reply)| *reply == never).map(|(field, _)| field).collect())
}

#[test]
fn backed_up_while_fields_expire_on_valkey_9() -> Result<()> {
    backed_up_while_fields_expire("valkey-9")
}

#[test]
fn backed_up_while_fields_expire_on_redis_7_4() -> Result<()> {
    backed_up_while_fields_expire("redis-7.4")
}

//! What goes wrong on the way: broken data, lying masters, targets that refuse or die. Each ends with a message that
//! names the place, with the exit code of the interface, and never as if the job were done.

use std::time::Duration;

use anyhow::Result;
use replsync_tests::client::Batch;
use replsync_tests::fake::{self, Script, with_length, with_mark};
use replsync_tests::fill::fill;
use replsync_tests::node::{Node, Outcome};
use replsync_tests::server::{Options, TestServer};

const PATIENCE: Duration = Duration::from_secs(40);
/// No claim of a master or target makes it take more.
const MEMORY_LIMIT_BYTES: u64 = 200 << 20;

fn migrate(from: &str, to: &str) -> Result<Outcome> {
    migrate_by(from, to, "fork-free")
}

fn migrate_by(from: &str, to: &str, method: &str) -> Result<Outcome> {
    // A link that breaks is tried again for a second: long enough to see that it is, short enough for a test.
    let args = ["migrate", from, to, "--until", "caught-up", "--json", "--reconnect-for", "1"];
    let outcome = Node::run(&[&args[..], &["--method", method]].concat(), PATIENCE)?;
    println!("exit code {:?}: {}", outcome.code, outcome.stderr.trim());
    assert!(outcome.peak_rss_bytes < MEMORY_LIMIT_BYTES, "{} bytes of memory", outcome.peak_rss_bytes);
    assert!(!outcome.stderr.contains("panicked"), "{}", outcome.stderr);
    Ok(outcome)
}

/// A small source, and an empty target.
fn pair() -> Result<(TestServer, TestServer)> {
    let (source, target) = (TestServer::start("redis-7.4", &[]), TestServer::start("redis-7.4", &[]));
    fill(&source.url(), 300, 4)?;
    Ok((source, target))
}

/// Migrates from a fake master that sends those bytes after +FULLRESYNC and then closes.
fn from_a_fake(bytes: impl Fn(&[u8]) -> Vec<u8>, close: bool) -> Result<Outcome> {
    let (source, target) = pair()?;
    let mut script = Script::full_resync(&source, &bytes(&source.save()?))?;
    if close {
        script = script.then_close();
    }
    migrate_by(&fake::master(&source, script)?, &target.url(), "full-sync")
}

/// Whether the message says where in the RDB it was.
fn names_a_byte(outcome: &Outcome) -> bool {
    let mut places = outcome.stderr.split("byte ").skip(1).chain(outcome.stderr.split("at offset ").skip(1));
    places.any(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

#[test]
fn a_truncated_rdb_of_the_right_length() -> Result<()> {
    let outcome = from_a_fake(|rdb| with_length(&rdb[..rdb.len() / 2]), false)?;
    outcome.assert(5, &["RDB"]);
    assert!(names_a_byte(&outcome), "{}", outcome.stderr);
    Ok(())
}

#[test]
fn a_truncated_rdb_before_its_mark() -> Result<()> {
    let outcome = from_a_fake(|rdb| with_mark(&rdb[..rdb.len() / 2]), false)?;
    outcome.assert(5, &["RDB"]);
    assert!(names_a_byte(&outcome), "{}", outcome.stderr);
    Ok(())
}

#[test]
fn an_rdb_that_ends_early_on_the_wire() -> Result<()> {
    for form in [with_length, with_mark] {
        let outcome = from_a_fake(
            |rdb| {
                let whole = form(rdb);
                whole[..whole.len() / 2].to_vec()
            },
            true,
        )?;
        outcome.assert(5, &["bytes into the RDB"]);
    }
    Ok(())
}

#[test]
fn a_flipped_byte_anywhere_is_an_error() -> Result<()> {
    // In the header, in a name, in a value, in the last key, in the checksum.
    for place in [0.0, 0.1, 0.37, 0.61, 0.89, 0.999_999] {
        let outcome = from_a_fake(
            |rdb| {
                let mut rdb = rdb.to_vec();
                let at = ((rdb.len() as f64 * place) as usize).min(rdb.len() - 1);
                rdb[at] ^= 0x10;
                with_length(&rdb)
            },
            false,
        )?;
        outcome.assert(5, &[]);
        assert!(outcome.stderr.contains("RDB") || outcome.stderr.contains("RESTORE"), "{}", outcome.stderr);
    }
    Ok(())
}

#[test]
fn bytes_behind_the_end_of_the_rdb() -> Result<()> {
    let outcome = from_a_fake(|rdb| with_length(&[rdb, b"more"].concat()), false)?;
    outcome.assert(5, &["RDB"]);
    Ok(())
}

#[test]
fn masters_that_answer_nonsense() -> Result<()> {
    let (source, target) = pair()?;
    for (answer, code) in [
        (&b"+WHATEVER\r\n"[..], 3),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", 3),
        (b"-ERR no such thing here\r\n", 3),
        (b"+FULLRESYNC short 1\r\n", 3),
        (b"+FULLRESYNC 0123456789012345678901234567890123456789 minus-one\r\n", 3),
        (b"+FULLRESYNC 0123456789012345678901234567890123456789 1\r\n$not-a-length\r\n", 5),
        (b"\x00\xff\x00\xff\r\n", 3),
    ] {
        let script = Script::answer(answer).then_close();
        let outcome = migrate_by(&fake::master(&source, script)?, &target.url(), "full-sync")?;
        assert!(
            outcome.code == Some(code) || (code == 5 && outcome.code == Some(3)),
            "{:?} for {}: {}",
            outcome.code,
            answer.escape_ascii(),
            outcome.stderr
        );
        assert!(!outcome.stderr.contains("REPLCONF"), "the handshake itself went well: {}", outcome.stderr);
        assert_eq!(target.client(0).keys()?, 0);
    }
    Ok(())
}

#[test]
fn a_stream_that_is_no_stream() -> Result<()> {
    for garbage in [
        &b"*1\r\n$-5\r\nx\r\n"[..],
        b"*2\r\n$3\r\nSET\r\n:5\r\n",
        b"nonsense that is no command\r\n",
        b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\nbXX",
    ] {
        let outcome = from_a_fake(|rdb| [&with_length(rdb), garbage].concat(), true)?;
        assert!([Some(3), Some(5)].contains(&outcome.code), "{:?}: {}", outcome.code, outcome.stderr);
        assert!(outcome.stderr.contains("stream") || outcome.stderr.contains("link"), "{}", outcome.stderr);
    }
    Ok(())
}

#[test]
fn a_string_of_an_incredible_length_in_the_rdb() -> Result<()> {
    let length = (1u64 << 60).to_be_bytes();
    let value = [b"REDIS0011\xfe\x00\x00\x01k\x81", &length[..], b"only this"].concat();
    let outcome = from_a_fake(|_| with_length(&value), false)?;
    outcome.assert(5, &["RDB"]);
    assert!(names_a_byte(&outcome), "{}", outcome.stderr);
    Ok(())
}

#[test]
fn a_string_of_an_incredible_length_in_the_stream() -> Result<()> {
    for garbage in [
        &b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1152921504606846976\r\nonly this"[..],
        b"*1152921504606846976\r\n$3\r\nSET\r\n",
        b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$99999999999999999999999\r\n",
    ] {
        let outcome = from_a_fake(|rdb| [&with_length(rdb), garbage].concat(), true)?;
        assert!([Some(3), Some(5)].contains(&outcome.code), "{:?}: {}", outcome.code, outcome.stderr);
    }
    Ok(())
}

#[test]
fn an_lzf_bomb() -> Result<()> {
    // A string of four compressed bytes that claims to be 2^60, and one that claims 3 GiB.
    for claim in [1u64 << 60, 3 << 30] {
        let bomb =
            [b"REDIS0011\xfe\x00\x00\x01k\xc3\x04\x81", &claim.to_be_bytes()[..], b"\xe0\xff\x00\x00\xff"]
                .concat();
        from_a_fake(|_| with_length(&bomb), false)?.assert(5, &["RDB"]);
    }
    Ok(())
}

#[test]
fn a_collection_of_an_incredible_count() -> Result<()> {
    let count = (1u64 << 60).to_be_bytes();
    for type_byte in [1u8, 2, 4, 5, 15, 18, 21, 24] {
        let rdb = [b"REDIS0012\xfe\x00", &[type_byte][..], b"\x01k\x81", &count, b"\x01x"].concat();
        from_a_fake(|_| with_length(&rdb), false)?.assert(5, &["RDB"]);
    }
    Ok(())
}

#[test]
fn ten_thousand_nested_arrays_from_a_target() -> Result<()> {
    let (source, target) = pair()?;
    for word in ["INFO", "RESTORE"] {
        let fake = fake::target(&target, word, b"*1\r\n".repeat(10_000))?;
        let outcome = migrate(&source.url(), &fake)?;
        assert!([Some(3), Some(5)].contains(&outcome.code), "{:?}: {}", outcome.code, outcome.stderr);
    }
    Ok(())
}

#[test]
fn wrong_passwords() -> Result<()> {
    let (open, empty) = pair()?;
    let locked = TestServer::start_with("redis-7.4", &Options::default().password("secret"));
    let wrong = locked.url().replace("secret", "wr0ng-and-not-to-be-shown");
    for (from, to) in [(&wrong, &empty.url()), (&open.url(), &wrong)] {
        let outcome = migrate(from, to)?;
        outcome.assert(3, &["WRONGPASS"]);
        assert!(!outcome.stderr.contains("wr0ng-and-not-to-be-shown"), "{}", outcome.stderr);
    }
    let none = locked.url().replace(":secret@", "");
    migrate(&none, &empty.url())?.assert(3, &["NOAUTH"]);
    Ok(())
}

#[test]
fn a_full_target() -> Result<()> {
    let source = TestServer::start("redis-7.4", &[]);
    fill(&source.url(), 3_000, 4)?;
    let target = TestServer::start("redis-7.4", &["--maxmemory", "2mb", "--maxmemory-policy", "noeviction"]);
    // Far too small, it is refused; with room for most of it, it may be tried.
    migrate(&source.url(), &target.url())?.assert(3, &["has room for", "OOM", "maxmemory"]);
    let own = target.info_number("used_memory");
    let most = own + (source.info_number("used_memory") - own) * 7 / 10;
    target.client(0).call(&["CONFIG", "SET", "maxmemory", &most.to_string()])?;
    migrate(&source.url(), &target.url())?.assert(3, &["OOM command not allowed", "key"]);
    Ok(())
}

#[test]
fn targets_that_are_replicas_loading_or_clusters() -> Result<()> {
    let (source, target) = pair()?;
    let replica = TestServer::start("redis-7.4", &[]);
    replica.replicate(&target)?;
    migrate(&source.url(), &replica.url())?.assert(3, &["is a replica"]);

    let cluster = TestServer::start("redis-7.4", &["--cluster-enabled", "yes"]);
    migrate(&source.url(), &cluster.url())?.assert(2, &["cluster"]);

    // Slow to load: a key every now and then, and enough of them.
    let file = source.save()?;
    let slow = ["--key-load-delay", "20000", "--loading-process-events-interval-bytes", "1024"];
    let loading = TestServer::start_with("redis-7.4", &Options::default().args(&slow).rdb(&file));
    migrate(&source.url(), &loading.url())?.assert(3, &["loading"]);
    Ok(())
}

#[test]
fn a_target_that_is_the_source() -> Result<()> {
    let (source, _) = pair()?;
    replsync_tests::settle::expire(&source.url())?;
    let before = source.client(0).keys()?;
    for to in [source.url(), source.unix_url(), source.url().replace("127.0.0.1", "localhost")] {
        let args = ["migrate", &source.url(), &to, "--until", "caught-up", "--flush-target", "--json"];
        Node::run(&args, PATIENCE)?.assert(2, &["source"]);
    }
    assert_eq!(source.client(0).keys()?, before, "nothing was flushed");
    Ok(())
}

#[test]
fn a_target_that_is_not_empty() -> Result<()> {
    let (source, target) = pair()?;
    target.client(7).words("SET mine 1")?;
    migrate(&source.url(), &target.url())?.assert(2, &["--flush-target"]);
    assert_eq!(target.client(0).keys()?, 1);
    Ok(())
}

#[test]
fn servers_that_are_not_there() -> Result<()> {
    let (source, mut target) = pair()?;
    let gone = target.url();
    target.kill();
    migrate(&source.url(), &gone)?.assert(3, &["127.0.0.1"]);
    migrate(&gone, &source.url())?.assert(3, &["127.0.0.1"]);
    Ok(())
}

/// Enough to be killed in the middle of.
fn large_source() -> Result<TestServer> {
    let source = TestServer::start("redis-7.4", &["--rdb-key-save-delay", "20"]);
    let mut conn = source.client(0);
    for part in 0..60 {
        let mut batch = Batch::default();
        for number in 0..1000 {
            batch.add(&["SET", &format!("key:{part}:{number}"), "value"]);
        }
        conn.send_all(batch)?;
    }
    Ok(source)
}

#[test]
fn a_target_that_dies_half_way() -> Result<()> {
    let (source, mut target) = (large_source()?, TestServer::start("redis-7.4", &[]));
    let node = Node::start(&["migrate", &source.url(), &target.url(), "--until", "caught-up", "--json"])?;
    target.wait_for_keys(1_000, PATIENCE)?;
    target.kill();
    let outcome = node.wait(PATIENCE)?;
    println!("{}", outcome.stderr);
    outcome.assert(3, &["127.0.0.1"]);
    Ok(())
}

#[test]
fn a_source_that_dies_half_way() -> Result<()> {
    for (method, word) in [("full-sync", "RDB"), ("fork-free", "cannot connect to")] {
        let (mut source, target) = (large_source()?, TestServer::start("redis-7.4", &[]));
        let (from, to) = (source.url(), target.url());
        let args = [
            "migrate",
            &from,
            &to,
            "--until",
            "caught-up",
            "--reconnect-for",
            "1",
            "--json",
            "--method",
            method,
        ];
        let node = Node::start(&args)?;
        target.wait_for_keys(1_000, PATIENCE)?;
        source.kill();
        let outcome = node.wait(PATIENCE)?;
        println!("{}", outcome.stderr);
        outcome.assert(5, &[word]);
    }
    Ok(())
}

#[test]
fn a_target_that_becomes_a_replica_while_following() -> Result<()> {
    let (source, target) = pair()?;
    let other = TestServer::start("redis-7.4", &[]);
    let mut node = replsync_tests::job::following(&source, &target, &[])?;
    target.client(0).words(&format!("REPLICAOF 127.0.0.1 {}", other.port()))?;
    let mut conn = source.client(0);
    let deadline = std::time::Instant::now() + PATIENCE;
    while node.is_running()? && std::time::Instant::now() < deadline {
        conn.words("SET after that")?;
        std::thread::sleep(Duration::from_millis(20));
    }
    let outcome = node.wait(PATIENCE)?;
    println!("{}", outcome.stderr);
    outcome.assert(3, &["READONLY"]);
    Ok(())
}

#[test]
fn wrong_usage() -> Result<()> {
    for args in [
        &["migrate"][..],
        &["migrate", "redis://localhost"],
        &["migrate", "sentinel://localhost/x", "redis://localhost"],
        &["migrate", "redis://localhost", "cluster://localhost"],
        &["migrate", "http://localhost", "redis://localhost"],
        &["no-such-command"],
    ] {
        let outcome = Node::run(args, PATIENCE)?;
        assert_eq!(outcome.code, Some(2), "{args:?}: {}", outcome.stderr);
        assert!(!outcome.stderr.is_empty());
    }
    Ok(())
}

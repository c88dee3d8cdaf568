//! The replica link on real servers: cut, resumed, offered a full resync, failed over, shut down; and how we look
//! from the master meanwhile.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use replsync_tests::contents::{compare, report};
use replsync_tests::fill::fill;
use replsync_tests::node::Node;
use replsync_tests::server::{TestServer, signal};
use replsync_tests::settle::{expire, pass_mark};
use replsync_tests::writer::Writer;

const PATIENCE: Duration = Duration::from_secs(60);

/// Starts a migration and waits until it follows: the first mark may come with the copy, the second cannot.
fn following(source: &TestServer, target: &TestServer) -> Result<Node> {
    replsync_tests::job::following(source, target, &[])
}

fn assert_equal(source: &TestServer, target: &TestServer) -> Result<()> {
    let differences = compare(&source.url(), &target.url())?;
    assert!(differences.is_empty(), "{}", report(&differences));
    Ok(())
}

#[test]
fn a_link_that_is_cut_goes_on_at_the_exact_offset() -> Result<()> {
    for (from, to) in [("redis-7.4", "redis-7.4"), ("valkey-9", "redis-8.6")] {
        let (source, target) = (TestServer::start(from, &[]), TestServer::start(to, &[]));
        fill(&source.url(), 2_000, 3)?;
        let writer = Writer::start(&source.url(), 3, 3_000)?;
        let node = following(&source, &target)?;
        for _ in 0..10 {
            source.client(0).words("CLIENT KILL TYPE replica")?;
            std::thread::sleep(Duration::from_millis(400));
        }
        writer.stop()?;
        expire(&source.url())?;
        let mut node = node;
        pass_mark(&source.url(), &target.url(), PATIENCE, || {
            ensure!(node.is_running()?, "it ended: {}", node.stderr());
            Ok(())
        })?;
        node.signal("TERM");
        let outcome = node.wait(PATIENCE)?;
        outcome.assert(4, &[]);
        assert_eq!(source.info_number("sync_full"), 1, "no second full sync");
        assert!(source.info_number("sync_partial_ok") >= 10, "{}", source.info("stats"));
        assert!(outcome.json()?["reconnects"].as_u64() >= Some(10), "{}", outcome.stdout);
        assert_equal(&source, &target)?;
    }
    Ok(())
}

#[test]
fn a_cut_while_the_target_is_behind_loses_nothing() -> Result<()> {
    let source = TestServer::start("redis-7.4", &["--repl-backlog-size", "200mb"]);
    let target = TestServer::start("redis-7.4", &[]);
    source.client(0).words("SET a 1")?;
    let node = following(&source, &target)?;
    // More than all that may wait in memory: part of it is on disk when the link breaks, and has to come first.
    target.pause();
    let fill = "for i = 1, 60000 do redis.call('SET', 'k' .. i, string.rep('v', 1000)) end";
    source.client(3).call(&["EVAL", fill, "0"])?;
    let mut conn = source.client(4);
    for part in 0..60 {
        let mut batch = replsync_tests::client::Batch::default();
        for number in 0..1000 {
            batch.add(&["SET", &format!("key:{part}:{number}"), &"w".repeat(1000)]);
        }
        conn.send_all(batch)?;
    }
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(700));
        source.client(0).words("CLIENT KILL TYPE replica")?;
    }
    target.resume();
    pass_mark(&source.url(), &target.url(), PATIENCE, || Ok(()))?;
    node.signal("TERM");
    let outcome = node.wait(PATIENCE)?;
    outcome.assert(4, &[]);
    // The fill is one transaction of 60 MB, which is planned whole.
    assert!(outcome.peak_rss_bytes < 200 << 20, "{} bytes of memory", outcome.peak_rss_bytes);
    assert_eq!(source.info_number("sync_full"), 1, "no second full sync");
    assert_equal(&source, &target)
}

/// Breaks a link so that it cannot go on: another history from now on, to which our offset means nothing.
fn break_for_good(source: &TestServer) -> Result<()> {
    source.client(0).words("DEBUG CHANGE-REPL-ID")?;
    source.client(2).words("SET b 1")?;
    source.client(0).words("CLIENT KILL TYPE replica").map(drop)
}

#[test]
fn a_job_that_follows_never_flushes_what_it_brought() -> Result<()> {
    let source = TestServer::start("redis-7.4", &["--enable-debug-command", "yes"]);
    let target = TestServer::start("redis-7.4", &[]);
    source.client(2).words("SET a 1")?;
    let node = following(&source, &target)?;
    // The target is in use by now.
    target.client(5).words("SET mine 1")?;
    break_for_good(&source)?;
    node.wait(PATIENCE)?.assert(5, &["does not continue at", "--flush-target"]);
    assert_eq!(source.info_number("sync_full"), 1);
    assert_eq!(target.client(5).words("GET mine")?, redis::Value::BulkString(b"1".to_vec()));
    assert_eq!(target.client(2).words("GET a")?, redis::Value::BulkString(b"1".to_vec()));
    Ok(())
}

#[test]
fn a_source_that_comes_back_empty_is_not_copied() -> Result<()> {
    let mut source = TestServer::start("redis-7.4", &["--rdb-key-save-delay", "1000"]);
    let target = TestServer::start("redis-7.4", &[]);
    fill(&source.url(), 3_000, 6)?;
    let (from, to) = (source.url(), target.url());
    let node =
        Node::start(&["migrate", &from, &to, "--until", "caught-up", "--json", "--method", "full-sync"])?;
    target.wait_for_keys(200, PATIENCE)?;
    source.restart()?;
    let outcome = node.wait(PATIENCE)?;
    outcome.assert(5, &["bytes into the RDB", "has come back with none"]);
    assert!(target.client(0).keys()? > 0, "nothing was flushed for it");
    Ok(())
}

#[test]
fn a_copy_that_is_cut_starts_anew() -> Result<()> {
    // Slow to write, so that the cut falls into the RDB.
    let source = TestServer::start("redis-7.4", &["--rdb-key-save-delay", "300"]);
    let target = TestServer::start("redis-7.4", &[]);
    fill(&source.url(), 3_000, 6)?;
    expire(&source.url())?;
    // First of all keys in the RDB or not: each is gone from the source when its turn comes.
    let mut doomed = replsync_tests::client::Batch::default();
    (0..3_000).for_each(|number| doomed.add(&["SET", &format!("doomed:{number}"), "1"]));
    source.client(0).send_all(doomed)?;
    let (from, to) = (source.url(), target.url());
    let node =
        Node::start(&["migrate", &from, &to, "--until", "caught-up", "--json", "--method", "full-sync"])?;
    for cut in 1..=3 {
        target.wait_for_keys(400, PATIENCE)?;
        // What is on its way when the link breaks must not arrive behind the flush.
        target.pause();
        source.client(0).words("CLIENT KILL TYPE replica")?;
        source.client(0).call(&["EVAL", "for i = 0, 2999 do redis.call('DEL', 'doomed:' .. i) end", "0"])?;
        std::thread::sleep(Duration::from_millis(200));
        target.resume();
        let deadline = Instant::now() + PATIENCE;
        while source.info_number("sync_full") <= cut && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        std::thread::sleep(Duration::from_millis(300)); // the target is flushed
    }
    source.client(0).words("CONFIG SET rdb-key-save-delay 0")?;
    let outcome = node.wait(PATIENCE)?;
    outcome.assert(0, &["starting anew"]);
    assert_eq!(outcome.json()?["restarts"], 3, "{}", outcome.stderr);
    assert_equal(&source, &target)
}

#[test]
fn a_source_that_is_promoted_goes_on_under_its_new_history() -> Result<()> {
    let (old, source) = (TestServer::start("redis-7.4", &[]), TestServer::start("redis-7.4", &[]));
    let target = TestServer::start("redis-8.0", &[]);
    // A replica passes its master's stream on as it is, and says in the RDB which database that has selected.
    old.client(5).words("SET before 1")?;
    source.replicate(&old)?;
    let before = source.info("replication");
    old.client(5).words("SET meanwhile 1")?;
    source.wait_for_offset_of(&old)?;
    let node = Node::start(&["migrate", &source.url(), &target.url(), "--json", "--method", "full-sync"])?;
    target.wait_for_keys(2, PATIENCE)?;
    old.client(5).words("SET followed 1")?;
    target.wait_for_keys(3, PATIENCE).context("the master's database is selected without a SELECT")?;
    source.client(0).words("REPLICAOF NO ONE")?;
    source.client(7).words("SET promoted 1")?;
    target.wait_for_keys(4, PATIENCE)?;
    node.signal("TERM");
    let outcome = node.wait(PATIENCE)?;
    outcome.assert(4, &[]);
    let said = outcome.json()?;
    let replid = source.info("replication");
    ensure!(
        replid.contains(&format!("master_replid:{}", said["replid"].as_str().unwrap_or("?"))),
        "{said}\n{before}"
    );
    assert_eq!(source.info_number("sync_full"), 1);
    assert_equal(&source, &target)
}

#[test]
fn the_master_does_not_wait_for_us_when_it_shuts_down() -> Result<()> {
    let (mut source, target) = (TestServer::start("redis-7.4", &[]), TestServer::start("redis-7.4", &[]));
    source.client(0).words("SET a 1")?;
    let node = Node::start(&["migrate", &source.url(), &target.url(), "--json", "--reconnect-for", "2"])?;
    target.wait_for_keys(1, PATIENCE)?;
    // Behind an offset that we do not acknowledge: something to wait for.
    source.client(0).words("SET b 1")?;
    target.wait_for_keys(2, PATIENCE)?;
    let began = Instant::now();
    signal(source.pid(), "TERM");
    while source.is_running() {
        ensure!(began.elapsed() < PATIENCE, "it does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
    // shutdown-timeout is 10 s: we always seem to be behind, and it would wait that long.
    ensure!(began.elapsed() < Duration::from_secs(5), "it took {:?}", began.elapsed());
    let outcome = node.wait(PATIENCE)?;
    outcome.assert(3, &["the link stayed down"]);
    Ok(())
}

#[test]
fn the_master_lists_us_where_sentinel_does_not_look() -> Result<()> {
    let (source, target) = (TestServer::start("redis-7.4", &[]), TestServer::start("redis-7.4", &[]));
    source.client(0).words("SET a 1")?;
    let node = following(&source, &target)?;
    let listed = source.info("replication");
    assert!(listed.contains("slave0:ip=replsync-") && listed.contains(",port=70000,"), "{listed}");
    assert!(listed.contains(",offset=0,"), "never acknowledges: {listed}");
    let mut client = source.client(0);
    client.words("SET a 2")?;
    assert_eq!(client.words("WAIT 1 300")?, redis::Value::Int(0), "satisfies nobody's WAIT");
    node.signal("TERM");
    node.wait(PATIENCE)?.assert(4, &[]);
    Ok(())
}

#[test]
fn a_source_that_counts_its_replicas_is_left_alone() -> Result<()> {
    let source = TestServer::start("redis-7.4", &["--min-replicas-to-write", "1"]);
    let target = TestServer::start("redis-7.4", &[]);
    let args = ["migrate", &source.url(), &target.url(), "--until", "caught-up", "--json"];
    Node::run(&args, PATIENCE)?.assert(5, &["min-replicas-to-write", "--allow-counted-as-replica"]);
    assert_eq!(source.info_number("sync_full"), 0);
    let allowed: Vec<_> = args.iter().copied().chain(["--allow-counted-as-replica"]).collect();
    Node::run(&allowed, PATIENCE)?.assert(0, &[]);
    Ok(())
}

/// Builds an example of the library and says where it is.
fn example(name: &str) -> Result<std::path::PathBuf> {
    let folder = replsync_tests::node::program();
    let path = folder.parent().context("no folder")?.join("examples").join(name);
    ensure!(path.exists(), "{} is missing: cargo build --examples", path.display());
    Ok(path)
}

#[test]
fn the_example_follow_prints_commands_with_offsets() -> Result<()> {
    use std::io::{BufRead, BufReader};
    let source = TestServer::start("redis-8.6", &[]);
    let mut child = Command::new(example("follow")?)
        .arg(source.url())
        .stdout(Stdio::piped())
        .spawn()
        .context("follow")?;
    let out = child.stdout.take().context("no output")?;
    let mut lines = BufReader::new(out).lines();
    let first = lines.next().context("nothing printed")??;
    assert!(first.starts_with("full resync from "), "{first}");
    source.client(4).words("SET a 1")?;
    let select = lines.next().context("no SELECT")??;
    let set = lines.next().context("no SET")??;
    child.kill()?;
    child.wait()?;
    assert!(select.ends_with(" SELECT 4") && set.ends_with(" SET a 1"), "{select}\n{set}");
    let offset: i64 = set.split(' ').next().unwrap_or_default().parse()?;
    assert_eq!(offset, source.info_number("master_repl_offset"));
    Ok(())
}

#[test]
fn the_example_stream_rdb_counts_keys_by_type() -> Result<()> {
    let source = TestServer::start("redis-7.2", &[]);
    for command in ["SET a 1", "SET b 2", "RPUSH l 1 2", "XADD s 1-1 f v"] {
        source.client(0).words(command)?;
    }
    source.save()?;
    let file = source.folder().join("dump.rdb");
    let ran = Command::new(example("stream_rdb")?).arg(file).output()?;
    let text = String::from_utf8(ran.stdout)?;
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    for line in ["2 string", "1 list", "1 stream", "RDB version 11", "Verified"] {
        assert!(text.contains(line), "{line}: {text}");
    }
    Ok(())
}

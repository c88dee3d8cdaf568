//! A target that is behind, and a source that drops replicas that do not read: what the target cannot take waits on
//! our disk, and nothing of that is left behind.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use replsync::link::{self, Event, Link};
use replsync::psync::Announce;
use replsync::spool;
use replsync_tests::client::{Batch, text};
use replsync_tests::contents::{compare, report};
use replsync_tests::hanging_fs::HangingFs;
use replsync_tests::node::Node;
use replsync_tests::server::TestServer;
use replsync_tests::settle::pass_mark;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(60);
/// So much of what a replica has not read makes the source drop it.
const OUTPUT_LIMIT: [&str; 5] = ["--client-output-buffer-limit", "replica", "8mb", "0", "0"];

/// Starts a migration that spools into `folder`, and waits until it follows.
fn following(source: &TestServer, target: &TestServer, folder: &Path) -> Result<Node> {
    let folder = folder.to_str().context("the folder's name")?;
    let args = ["migrate", &source.url(), &target.url(), "--json"];
    let node = Node::start_with(&args, Stdio::piped(), &[("TMPDIR", folder)])?;
    for _ in 0..2 {
        pass_mark(&source.url(), &target.url(), PATIENCE, || Ok(()))?;
    }
    Ok(node)
}

/// Writes so many megabytes, a tenth of which change values that are there. It waits while much is to be sent to the
/// replica (a replica that reads on a busy machine may be slow), but not for one that does not read at all.
fn write(source: &TestServer, megabytes: usize) -> Result<()> {
    let mut conn = source.client(3);
    let mut patience = Duration::from_secs(20);
    for part in 0..megabytes {
        let mut batch = Batch::default();
        for number in 0..900 {
            let value = format!("{part:1000}");
            batch.add(&["SET", &format!("key:{part}:{number}"), &value]);
            if number % 9 == 0 {
                batch.add(&["APPEND", &format!("key:{number}"), &value]);
            }
        }
        conn.send_all(batch)?;
        while unread_bytes(source)? > 1 << 20 && !patience.is_zero() {
            std::thread::sleep(Duration::from_millis(5));
            patience = patience.saturating_sub(Duration::from_millis(5));
        }
    }
    Ok(())
}

/// What the source still has to send to its replica.
fn unread_bytes(source: &TestServer) -> Result<u64> {
    let list = text(&source.client(0).words("CLIENT LIST TYPE replica")?);
    let field = list.split(' ').find_map(|word| word.strip_prefix("omem="));
    Ok(field.unwrap_or("0").parse()?)
}

/// The spool's files that the process holds open; they have no names any more.
fn spool_files(pid: u32, folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))? {
        let path = entry?.path();
        if std::fs::read_link(&path).is_ok_and(|target| target.starts_with(folder)) {
            found.push(path);
        }
    }
    Ok(found)
}

fn spooled_bytes(pid: u32, folder: &Path) -> Result<u64> {
    spool_files(pid, folder)?.iter().map(|path| Ok(std::fs::metadata(path)?.len())).sum()
}

/// Waits until that much is on disk.
fn wait_for_spool(node: &Node, folder: &Path, bytes: u64) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while spooled_bytes(node.pid(), folder)? < bytes {
        if Instant::now() > deadline {
            bail!("only {} bytes were spooled: {}", spooled_bytes(node.pid(), folder)?, node.stderr());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn files(folder: &Path) -> Result<usize> {
    Ok(std::fs::read_dir(folder)?.count())
}

#[test]
fn a_target_that_stands_still_does_not_cost_the_link() -> Result<()> {
    for name in ["redis-5.0", "redis-7.4"] {
        let (source, target) = (TestServer::start(name, &OUTPUT_LIMIT), TestServer::start(name, &[]));
        let folder = tempfile::tempdir()?;
        source.client(0).words("SET a 1")?;
        let mut node = following(&source, &target, folder.path())?;
        target.pause();
        write(&source, 200)?;
        wait_for_spool(&node, folder.path(), 150 << 20)?;
        assert_eq!(files(folder.path())?, 0, "files are seen");
        target.resume();
        pass_mark(&source.url(), &target.url(), PATIENCE, || {
            ensure!(node.is_running()?, "it ended: {}", node.stderr());
            Ok(())
        })?;
        assert_eq!(spooled_bytes(node.pid(), folder.path())?, 0, "the space is given back");
        node.signal("TERM");
        let outcome = node.wait(PATIENCE)?;
        outcome.assert(4, &[]);
        println!("{name}: {} MiB of memory", outcome.peak_rss_bytes >> 20);
        assert!(outcome.peak_rss_bytes < 100 << 20, "{} bytes of memory", outcome.peak_rss_bytes);
        let [full, partial] = ["sync_full", "sync_partial_ok"].map(|field| source.info_number(field));
        assert_eq!((full, partial), (1, 1), "the source has dropped the link");
        assert_eq!(outcome.json()?["reconnects"], 0);
        let differences = compare(&source.url(), &target.url())?;
        assert!(differences.is_empty(), "{}", report(&differences));
        assert_eq!(files(folder.path())?, 0);
    }
    Ok(())
}

#[test]
fn a_byte_that_changes_on_disk_ends_the_job() -> Result<()> {
    let (source, target) = (TestServer::start("redis-7.4", &[]), TestServer::start("redis-7.4", &[]));
    let folder = tempfile::tempdir()?;
    source.client(0).words("SET a 1")?;
    let node = following(&source, &target, folder.path())?;
    target.pause();
    write(&source, 50)?;
    wait_for_spool(&node, folder.path(), 20 << 20)?;
    // In the middle of what was written last.
    let files = spool_files(node.pid(), folder.path())?;
    let file = File::options().read(true).write(true).open(files.last().context("no file")?)?;
    let (at, mut byte) = (file.metadata()?.len() - 5_000, [0]);
    file.read_exact_at(&mut byte, at)?;
    file.write_all_at(&[byte[0] ^ 4], at)?;
    target.resume();
    let outcome = node.wait(PATIENCE)?;
    let place = format!("spool in {}", folder.path().display());
    outcome.assert(5, &[&place, "at byte", "checksum", "is not what was written"]);
    Ok(())
}

#[test]
fn nothing_is_left_of_a_process_that_is_killed() -> Result<()> {
    let (source, target) = (TestServer::start("redis-7.4", &[]), TestServer::start("redis-7.4", &[]));
    let folder = tempfile::tempdir()?;
    source.client(0).words("SET a 1")?;
    let node = following(&source, &target, folder.path())?;
    target.pause();
    write(&source, 50)?;
    wait_for_spool(&node, folder.path(), 20 << 20)?;
    node.signal("KILL");
    assert_eq!(node.wait(PATIENCE)?.code, None);
    assert_eq!(files(folder.path())?, 0);
    Ok(())
}

#[test]
fn a_folder_that_is_not_there_is_refused_at_once() -> Result<()> {
    let (source, target) = (TestServer::start("redis-7.4", &[]), TestServer::start("redis-7.4", &[]));
    source.client(0).words("SET a 1")?;
    let args = ["migrate", &source.url(), &target.url(), "--spool", "/no/such/folder", "--json"];
    Node::run(&args, PATIENCE)?.assert(3, &["/no/such/folder", "--spool"]);
    assert_eq!(target.client(0).keys()?, 0);
    assert_eq!(source.info_number("sync_full"), 0, "the source was not bothered");
    Ok(())
}

#[test]
fn a_full_spool_ends_the_job() -> Result<()> {
    let (source, target) = (TestServer::start("redis-7.4", &[]), TestServer::start("redis-7.4", &[]));
    let folder = tempfile::tempdir()?;
    source.client(0).words("SET a 1")?;
    let folder_text = folder.path().display().to_string();
    let limited = ["--spool", &folder_text, "--spool-max-bytes", "8000000"];
    let node = Node::start(&[&["migrate", &source.url(), &target.url(), "--json"][..], &limited].concat())?;
    for _ in 0..2 {
        pass_mark(&source.url(), &target.url(), PATIENCE, || Ok(()))?;
    }
    target.pause();
    write(&source, 50)?;
    let outcome = node.wait(PATIENCE)?;
    target.resume();
    outcome.assert(5, &["is full", &folder_text, "--spool-max-bytes", "still shifted"]);
    assert_eq!(files(folder.path())?, 0);
    Ok(())
}

/// The disk hangs while the target stands still and clients go on writing: the link ends, soon, and the source holds
/// little for us until then.
#[test]
fn a_disk_that_stands_still_frees_the_source() -> Result<()> {
    let (source, target) = (TestServer::start("redis-7.4", &[]), TestServer::start("redis-7.4", &[]));
    let fs = HangingFs::mount()?;
    source.client(0).words("SET a 1")?;
    let mut node = following_in(&source, &target, fs.folder())?;
    target.pause();
    write(&source, 20)?;
    wait_for_spool_of(&source, PATIENCE)?;
    let hang = fs.hang();
    let (hung, mut unread_bytes_max, mut written_mb) = (Instant::now(), 0, 0);
    while source.info_number("connected_slaves") > 0 {
        ensure!(hung.elapsed() < PATIENCE, "the link is still there: {}", node.stderr());
        put_mb(&source, written_mb)?;
        written_mb += 1;
        unread_bytes_max = unread_bytes(&source)?.max(unread_bytes_max);
        std::thread::sleep(Duration::from_millis(50));
    }
    println!(
        "the link was gone after {:.1} s and {written_mb} MB; the source held at most {} KiB for it; {} calls hang",
        hung.elapsed().as_secs_f32(),
        unread_bytes_max >> 10,
        fs.waiting()
    );
    assert!(fs.waiting() > 0, "nothing hangs");
    assert!(hung.elapsed() < Duration::from_secs(20), "{:?}", hung.elapsed());
    assert!(unread_bytes_max < 64 << 20, "{unread_bytes_max}");
    // The process says why, also while the kernel holds one of its threads.
    let deadline = Instant::now() + PATIENCE;
    while !node.stderr().contains("stands still") {
        ensure!(Instant::now() < deadline, "it does not say why: {}", node.stderr());
        node.is_running()?;
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(hang);
    let outcome = node.wait(PATIENCE)?;
    target.resume();
    outcome.assert(5, &["stands still", &fs.folder().display().to_string(), "--spool", "still shifted"]);
    Ok(())
}

/// A disk that hangs for less than it may costs nothing.
#[test]
fn a_disk_that_hangs_for_a_moment_is_waited_for() -> Result<()> {
    let (source, target) = (TestServer::start("redis-7.4", &[]), TestServer::start("redis-7.4", &[]));
    let fs = HangingFs::mount()?;
    source.client(0).words("SET a 1")?;
    let node = following_in(&source, &target, fs.folder())?;
    target.pause();
    write(&source, 10)?;
    wait_for_spool_of(&source, PATIENCE)?;
    let hang = fs.hang();
    write(&source, 8)?;
    std::thread::sleep(Duration::from_secs(2));
    assert!(fs.waiting() > 0, "nothing hangs");
    drop(hang);
    write(&source, 10)?;
    target.resume();
    pass_mark(&source.url(), &target.url(), PATIENCE, || Ok(()))?;
    node.signal("TERM");
    let outcome = node.wait(PATIENCE)?;
    outcome.assert(4, &[]);
    assert_eq!(outcome.json()?["reconnects"], 0);
    let differences = compare(&source.url(), &target.url())?;
    assert!(differences.is_empty(), "{}", report(&differences));
    Ok(())
}

#[test]
fn a_full_disk_ends_the_job() -> Result<()> {
    let (source, target) = (TestServer::start("redis-7.4", &[]), TestServer::start("redis-7.4", &[]));
    let fs = HangingFs::mount()?;
    source.client(0).words("SET a 1")?;
    let node = following_in(&source, &target, fs.folder())?;
    target.pause();
    fs.limit(8_000_000);
    write(&source, 50)?;
    let outcome = node.wait(PATIENCE)?;
    target.resume();
    let folder = fs.folder().display().to_string();
    outcome.assert(5, &["no room in the spool folder", &folder, "No space left", "--spool", "still shifted"]);
    Ok(())
}

/// The copies of a capture wait on a disk that hangs, or is full.
#[test]
fn a_backup_whose_disk_stands_still_or_is_full_frees_the_source() -> Result<()> {
    let source = TestServer::start("redis-7.4", &[]);
    let fs = HangingFs::mount()?;
    let (spool, to) = (fs.folder().display().to_string(), tempfile::tempdir()?);
    write(&source, 60)?;
    let clients = source.info_number("connected_clients");
    let to_text = to.path().display().to_string();
    let backup = ["backup", &source.url(), "--to", &to_text, "--spool", &spool, "--json"];

    let hang = fs.hang();
    let mut node = Node::start(&backup)?;
    let deadline = Instant::now() + PATIENCE;
    while !node.stderr().contains("stands still") {
        ensure!(Instant::now() < deadline && node.is_running()?, "it does not say why: {}", node.stderr());
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(fs.waiting() > 0, "nothing hangs");
    while source.info_number("connected_slaves") > 0 || source.info_number("connected_clients") > clients {
        ensure!(Instant::now() < deadline, "the source still has us: {}", source.info("clients"));
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(hang);
    node.wait(PATIENCE)?.assert(5, &["stands still", &spool, "--spool"]);
    assert_eq!(files(to.path())?, 0, "something was left that could be taken for a backup");

    fs.limit(8_000_000);
    Node::run(&backup, PATIENCE)?.assert(5, &["no room in the spool folder", &spool, "--spool"]);
    assert_eq!(files(to.path())?, 0, "something was left that could be taken for a backup");
    assert_eq!(source.info_number("total_forks"), 0);
    Ok(())
}

/// Starts a migration with that folder for the spool, and waits until it follows.
fn following_in(source: &TestServer, target: &TestServer, folder: &Path) -> Result<Node> {
    let folder = folder.display().to_string();
    let node = Node::start(&["migrate", &source.url(), &target.url(), "--spool", &folder, "--json"])?;
    for _ in 0..2 {
        pass_mark(&source.url(), &target.url(), PATIENCE, || Ok(()))?;
    }
    Ok(node)
}

/// Waits until all is read from the source: it is in the spool.
fn wait_for_spool_of(source: &TestServer, patience: Duration) -> Result<()> {
    let deadline = Instant::now() + patience;
    while unread_bytes(source)? > 1 << 20 {
        ensure!(Instant::now() < deadline, "it is not read");
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Writes a megabyte, whether somebody reads it or not.
fn put_mb(source: &TestServer, number: usize) -> Result<()> {
    let mut batch = Batch::default();
    for part in 0..1000 {
        batch.add(&["SET", &format!("more:{part}"), &format!("{number:1000}")]);
    }
    source.client(3).send_all(batch)?;
    Ok(())
}

/// Runs with a link to the source that has taken the RDB and spools all else into a folder of its own.
fn with_link(
    source: &TestServer,
    max_bytes: u64,
    run: impl AsyncFnOnce(&mut Link) -> Result<()>,
) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let spool = spool::Config {
            folder: folder.path().to_owned(),
            budget: spool::Budget::new(max_bytes),
            memory_bytes: 1 << 20,
            ..spool::Config::default()
        };
        let config = link::Config { spool, ..link::Config::new(Announce::unseen("test", None)) };
        let mut link = Link::start(source.url().parse()?, config, None);
        while !matches!(link.next().await?, Event::PayloadEnd) {}
        assert_eq!(link.spooled().bytes_max(), 0);
        run(&mut link).await
    })
}

#[test]
fn a_full_spool_ends_the_link() -> Result<()> {
    let source = TestServer::start("redis-7.4", &[]);
    with_link(&source, 4 << 20, async |link| {
        let gauge = link.spooled();
        write(&source, 20)?;
        let error = timeout(PATIENCE, link.failure()).await?;
        assert!(matches!(error, link::Error::Spool(spool::Error::Full { .. })), "{error}");
        assert!((3 << 20..=4 << 20).contains(&gauge.bytes_max()), "{gauge:?}");
        assert_eq!(gauge.bytes(), 0);
        assert!(matches!(link.next().await, Err(link::Error::Broken { .. })), "nothing more");
        Ok(())
    })
}

#[test]
fn a_full_resync_drops_what_waits() -> Result<()> {
    let source = TestServer::start("redis-7.4", &[]);
    with_link(&source, 1 << 30, async |link| {
        let gauge = link.spooled();
        write(&source, 20)?;
        let deadline = Instant::now() + PATIENCE;
        while gauge.bytes() < 18 << 20 {
            ensure!(Instant::now() < deadline, "it does not spool: {gauge:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // Another history, to which our offset means nothing.
        source.client(0).words("DEBUG CHANGE-REPL-ID")?;
        source.client(0).words("SET b 1")?;
        source.client(0).words("CLIENT KILL TYPE replica")?;
        while gauge.bytes() > 10 << 20 {
            ensure!(Instant::now() < deadline, "it still holds what is void: {gauge:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let event = link.next().await?;
        assert!(matches!(event, Event::FullResync(_)), "{event:?}");
        assert_eq!(source.info_number("sync_full"), 2);
        Ok(())
    })
}

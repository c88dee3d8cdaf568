//! The permissions that `docs/operations/acl.md` lists are enough, and each of them is needed: its blocks are what is tried
//! here, on real servers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use replsync_tests::client::{Batch, Conn};
use replsync_tests::contents;
use replsync_tests::doctor::doctor;
use replsync_tests::fill::{fill, function_library};
use replsync_tests::node::{Node, Outcome};
use replsync_tests::server::TestServer;
use replsync_tests::workspace;

const PATIENCE: Duration = Duration::from_secs(30);
/// Small enough that everything is read in every way.
const IN_PARTS: [&str; 2] = ["--big-value-bytes", "4KiB"];

/// A line of a block.
#[derive(Clone, Debug)]
struct Line {
    rules: Vec<String>,
    optional: bool,
}

/// The lines of the document's block `acl NAME SIDE` that are for that server.
fn block(what: &str, server: &str) -> Result<Vec<Line>> {
    let text = std::fs::read_to_string(workspace().join("docs/operations/acl.md"))?;
    let begin = format!("```acl {what}\n");
    let block = text.split(&begin).nth(1).and_then(|rest| rest.split("```").next());
    let mut lines = Vec::new();
    for line in block.with_context(|| format!("no block {begin:?}"))?.lines() {
        let (rules, words) = line.split_once('#').with_context(|| format!("no reason: {line}"))?;
        // `from 7.4 or valkey-9, may be left out: why`
        let condition = words.split_once(':').map_or("", |(condition, _)| condition);
        let is_for = condition.split(',').all(|part| match part.trim().split_once(' ') {
            Some(("from", versions)) => versions.split(" or ").any(|version| is_from(server, version)),
            Some(("before", version)) => !is_from(server, version),
            _ => true,
        });
        if is_for {
            let rules = rules.split_whitespace().map(str::to_owned).collect();
            lines.push(Line { rules, optional: condition.contains("may be left out") });
        }
    }
    ensure!(lines.len() > 1, "{what}: {lines:?}");
    Ok(lines)
}

/// Whether a server is of that version or a newer one: `7.4`, `valkey-9`. Valkey began with Redis 7.2.
fn is_from(server: &str, version: &str) -> bool {
    let number = |text: &str| {
        let mut parts = text.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
    };
    let (product, is) = server.split_once('-').unwrap_or(("", server));
    match (product, version.strip_prefix("valkey-")) {
        ("valkey", Some(version)) => number(is) >= number(version),
        ("valkey", None) => (7, 2) >= number(version),
        (_, Some(_)) => false,
        (_, None) => number(is) >= number(version),
    }
}

/// Gives the user of that server these rules and no others. Its address.
fn user(server: &TestServer, lines: &[Line]) -> Result<String> {
    let mut args = ["ACL", "SETUSER", "tool", "reset", "on", ">s3cret"].map(str::to_owned).to_vec();
    args.extend(lines.iter().flat_map(|line| line.rules.iter().cloned()));
    server.client(0).call(&args).with_context(|| format!("{}: {args:?}", server.name()))?;
    Ok(format!("redis://tool:s3cret@127.0.0.1:{}", server.port()))
}

/// The lines with that rule taken out of them.
fn without(lines: &[Line], rule: &str) -> Vec<Line> {
    let mut lines = lines.to_vec();
    lines.iter_mut().for_each(|line| line.rules.retain(|other| other != rule));
    lines
}

fn node(args: &[&str], more: &[&str]) -> Result<Outcome> {
    Node::run(&[args, more].concat(), PATIENCE)
}

/// Writes to a key, and to elements of big values, as fast as it can: only a pause ends that.
struct Hot(Arc<AtomicBool>, Option<JoinHandle<Result<()>>>);

impl Hot {
    fn start(server: &TestServer) -> Result<Self> {
        let (stop, mut conn) = (Arc::new(AtomicBool::new(false)), Conn::open(&server.url())?);
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            for number in 0u64.. {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                let mut batch = Batch::default();
                batch.add(&["INCR", "hot"]);
                for element in (0..10).map(|n| format!("e{}", (number + n * 7) % 300)) {
                    // No shorter than before: it stays big.
                    batch.add(&["HSET", "big:hash", &element, &format!("{number:040}")]);
                    batch.add(&["ZADD", "big:zset", &number.to_string(), &element]);
                    batch.add(&["SREM", "big:set", &element]);
                    batch.add(&["SADD", "big:set", &element]);
                }
                conn.send_all(batch)?;
                std::thread::sleep(Duration::from_millis(3));
            }
            Ok(())
        });
        Ok(Self(stop, Some(thread)))
    }

    fn stop(mut self) -> Result<()> {
        self.0.store(true, Ordering::Relaxed);
        self.1.take().map_or(Ok(()), |thread| thread.join().expect("the writer"))
    }
}

impl Drop for Hot {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn make(server: &TestServer) -> Result<()> {
    fill(&server.url(), 150, 3)?;
    let mut conn = server.client(0);
    let filling = "x".repeat(40);
    let mut batch = Batch::default();
    for number in 0..300 {
        let element = format!("e{number}");
        batch.add(&["HSET", "big:hash", &element, &filling]);
        batch.add(&["ZADD", "big:zset", "1", &element]);
        batch.add(&["SADD", "big:set", &element]);
        batch.add(&["RPUSH", "big:list", &filling]);
        batch.add(&["XADD", "big:stream", "*", &element, &filling]);
    }
    batch.add(&["XGROUP", "CREATE", "big:stream", "group", "0"]);
    batch.add(&["XREADGROUP", "GROUP", "group", "consumer", "STREAMS", "big:stream", ">"]);
    batch.add(&["PEXPIREAT", "big:list", "4102444800000"]);
    conn.send_all(batch)?;
    if server.version().has_field_ttl() {
        conn.words("HPEXPIREAT big:hash 4102444800000 FIELDS 1 e299")?;
    }
    if server.version().is_7_0() {
        conn.call(&["FUNCTION", "LOAD", "REPLACE", &function_library("some", 1)])?;
    }
    Ok(())
}

/// What captures a source, as commands; those that this build has.
fn captures(url: &str, folder: &str) -> Result<Vec<Vec<String>>> {
    let own = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    let mut commands = vec![own(&["digest", url, "--json"])];
    if Node::run(&["backup", "--help"], PATIENCE)?.code == Some(0) {
        commands.push(own(&["backup", url, "--to", folder, "--json"]));
    }
    Ok(commands)
}

fn a_capture_needs_what_is_listed(name: &str) -> Result<()> {
    let server = TestServer::start(name, &[]);
    make(&server)?;
    let lines = block("capture source", name)?;
    let needed: Vec<Line> = lines.iter().filter(|line| !line.optional).cloned().collect();
    let folder = tempfile::tempdir()?;
    let to = folder.path().display().to_string();
    // A master without a backlog is primed, which needs CONFIG: before anything else, while there is none.
    let url = user(&server, &without(&without(&lines, "+config|get"), "+config|set"))?;
    node(&["digest", &url], &IN_PARTS)?.assert(3, &["CONFIG GET", "NOPERM", "ACL SETUSER"]);
    user(&server, &without(&lines, "+config|set"))?;
    node(&["digest", &url], &IN_PARTS)?.assert(3, &["CONFIG SET", "ACL SETUSER"]);
    ensure!(server.info_number("repl_backlog_active") == 0, "it was primed");
    user(&server, &lines)?;
    node(&["digest", &url], &IN_PARTS)?.assert(0, &[]);
    // From now on what may be left out may, where nobody writes.
    user(&server, &needed)?;
    for command in captures(&url, &to)? {
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        node(&command, &IN_PARTS)?.assert(0, &[]);
        node(&command, &[&IN_PARTS[..], &["--max-pause", "0"]].concat())?.assert(0, &[]);
    }
    // Which database the stream has selected is never said then.
    for rule in ["+publish", "&__replsync__:probe"] {
        user(&server, &without(&lines, rule))?;
        let outcome = node(&["digest", &url, "--give-up-after", "8s"], &IN_PARTS)?;
        outcome.assert(3, &["NOPERM", "allow PUBLISH", "+publish &__replsync__:probe"]);
    }
    user(&server, &needed)?;
    let hot = Hot::start(&server)?;
    // It goes on without a pause, and may or may not come to an end.
    let outcome = node(&["digest", &url, "--give-up-after", "10s"], &IN_PARTS)?;
    outcome.assert(if outcome.code == Some(0) { 0 } else { 5 }, &["cannot be paused (CLIENT", "NOPERM"]);
    user(&server, &lines)?;
    for command in captures(&url, &to)? {
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        let outcome = node(&command, &IN_PARTS)?;
        outcome.assert(0, &[]);
        let said = outcome.json()?;
        ensure!(said["pause_ms"].as_f64() > Some(0.0) && said["forks_caused"] == 0, "{name}: {said}");
    }
    // Each of the others is needed.
    for rule in needed.iter().flat_map(|line| &line.rules) {
        let less = match rule.as_str() {
            "resetchannels" | "+publish" | "&__replsync__:probe" => continue,
            "~*" => {
                let mut less = without(&lines, rule);
                less.push(Line { rules: vec!["~nothing:*".to_owned()], optional: false });
                less
            }
            rule => without(&lines, rule),
        };
        user(&server, &less)?;
        // What is written meanwhile is up to the moment: elements of a big value need not be asked for every time.
        let mut outcome = node(&["digest", &url], &IN_PARTS)?;
        for _ in 0..20 {
            if outcome.code != Some(0) {
                break;
            }
            outcome = node(&["digest", &url, "--max-keys-per-second", "500"], &IN_PARTS)?;
        }
        let (said, code) = (outcome.stderr.to_ascii_lowercase(), outcome.code);
        let command = rule.trim_start_matches('+').replace('|', " ");
        let command = command.split(' ').next().unwrap_or_default();
        let named = if rule.starts_with('+') { command } else { "noperm" };
        ensure!(code == Some(3) && said.contains(named), "{name} without {rule}: {code:?} {said}");
        ensure!(said.contains("noperm"), "{name} without {rule}: {said}");
    }
    hot.stop()?;
    ensure!(server.forks().unwrap_or(0) == 0, "{name}: {}", server.log());
    Ok(())
}

#[test]
fn a_capture_of_redis_6_2_needs_what_is_listed() -> Result<()> {
    a_capture_needs_what_is_listed("redis-6.2")
}

#[test]
fn a_capture_of_redis_7_4_needs_what_is_listed() -> Result<()> {
    a_capture_needs_what_is_listed("redis-7.4")
}

#[test]
fn a_capture_of_redis_8_6_needs_what_is_listed() -> Result<()> {
    a_capture_needs_what_is_listed("redis-8.6")
}

#[test]
fn a_capture_of_valkey_9_needs_what_is_listed() -> Result<()> {
    a_capture_needs_what_is_listed("valkey-9")
}

/// A migration without a fork, with all that goes with it: what a capture needs, and what --verify needs beyond.
#[test]
fn a_migration_without_a_fork_needs_what_is_listed() -> Result<()> {
    for name in ["redis-6.2", "redis-7.4", "redis-8.6", "valkey-9"] {
        let (source, target) = (TestServer::start(name, &[]), TestServer::start(name, &[]));
        make(&source)?;
        let (lines, at_target) = (block("capture source", name)?, block("migrate target", name)?);
        let verified = [lines.clone(), block("full-sync source", name)?].concat();
        let (from, to) = (user(&source, &verified)?, user(&target, &at_target)?);
        let args = ["migrate", &from, &to, "--until", "caught-up"];
        node(&args, &["--verify", "--pause-source", "2s"])?.assert(0, &[]);
        ensure!(contents::compare(&source.url(), &target.url())?.is_empty(), "{name}: they differ");
        let needed = |lines: &[Line]| lines.iter().filter(|line| !line.optional).cloned().collect::<Vec<_>>();
        user(&source, &needed(&lines))?;
        user(&target, &needed(&at_target))?;
        node(&args, &["--flush-target"])?.assert(0, &[]);
        ensure!(contents::compare(&source.url(), &target.url())?.is_empty(), "{name}: they differ");
        ensure!(source.forks().unwrap_or(0) == 0, "{name}: {}", source.log());
    }
    Ok(())
}

/// The classic way, with all its options, between users who may do what is listed and no more.
#[test]
fn a_full_sync_needs_what_is_listed() -> Result<()> {
    for name in ["redis-6.2", "redis-7.4", "redis-8.6", "valkey-9"] {
        let (source, target) = (TestServer::start(name, &[]), TestServer::start(name, &[]));
        make(&source)?;
        let (lines, at_target) = (block("full-sync source", name)?, block("migrate target", name)?);
        let (from, to) = (user(&source, &lines)?, user(&target, &at_target)?);
        let args = ["migrate", &from, &to, "--method", "full-sync", "--until", "caught-up"];
        node(&args, &["--verify", "--pause-source", "2s"])?.assert(0, &[]);
        ensure!(contents::compare(&source.url(), &target.url())?.is_empty(), "{name}: they differ");
        // Without what may be left out.
        let needed = |lines: &[Line]| lines.iter().filter(|line| !line.optional).cloned().collect::<Vec<_>>();
        let (less, less_at_target) = (needed(&lines), needed(&at_target));
        user(&source, &less)?;
        user(&target, &less_at_target)?;
        node(&args, &["--flush-target"])?.assert(0, &[]);
        ensure!(contents::compare(&source.url(), &target.url())?.is_empty(), "{name}: they differ");
        for rule in ["+psync", "+replconf", "+info"] {
            user(&source, &without(&less, rule))?;
            let command = rule[1..].to_ascii_uppercase();
            node(&args, &["--flush-target"])?.assert(3, &[&command]);
        }
        user(&source, &less)?;
        for rule in ["+info", "+@write", "+select", "~*"] {
            user(&target, &without(&less_at_target, rule))?;
            node(&args, &["--flush-target"])?.assert(3, &["NOPERM"]);
        }
    }
    Ok(())
}

/// `doctor` names nothing as not looked at, and without INFO has nothing to say.
#[test]
fn doctor_needs_what_is_listed() -> Result<()> {
    for name in ["redis-6.2", "redis-7.4", "redis-8.6", "valkey-9"] {
        let server = TestServer::start(name, &[]);
        let lines = block("doctor source", name)?;
        let url = user(&server, &lines)?;
        let said = doctor(&url, None)?;
        for finding in said.0["findings"].as_array().context("no findings")? {
            let message = finding["message"].as_str().unwrap_or_default();
            ensure!(!message.contains("what user \"tool\" may do ("), "{name}: {message}");
            ensure!(!message.contains("its settings"), "{name}: {message}");
        }
        user(&server, &lines[..1])?;
        let said = doctor(&url, None)?;
        said.one("note", &["what user \"tool\" may do"])?;
        user(&server, &without(&lines, "+info"))?;
        node(&["doctor", &url], &[])?.assert(3, &["INFO"]);
    }
    Ok(())
}

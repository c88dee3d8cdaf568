//! `doctor` names what our user may not do, on real servers, and its advice is enough.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use replsync_tests::contents;
use replsync_tests::doctor::{doctor, of_pair};
use replsync_tests::fill::fill;
use replsync_tests::node::Node;
use replsync_tests::server::{ALL, TestServer};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(30);
/// A server with two users: who asks, and one who may set the other's rights.
fn with_mover(name: &str) -> Result<(TestServer, String)> {
    let server = TestServer::start(name, &[]);
    server.client(0).call(&["ACL", "SETUSER", "mover", "on", ">s3cret", "~*", "&*", "+@all"])?;
    let url = format!("redis://mover:s3cret@127.0.0.1:{}", server.port());
    Ok((server, url))
}

/// Runs the `ACL SETUSER …` that a message proposes.
fn follow_advice(server: &TestServer, message: &str) -> Result<()> {
    let advice = message.split("ACL SETUSER ").nth(1).with_context(|| format!("no advice in: {message}"))?;
    let words = advice
        .split(' ')
        .take_while(|word| ["mover", "allkeys"].contains(word) || word.starts_with(['+', '&']));
    let mut args = vec!["ACL", "SETUSER"];
    args.extend(words);
    server.client(0).call(&args)?;
    Ok(())
}

#[test]
fn what_a_user_may_not_do_is_named() -> Result<()> {
    // 6.2 has no ACL DRYRUN: there the user's rules are read.
    for name in ["redis-6.2", "redis-7.0", "redis-7.4", "redis-8.6", "valkey-9"] {
        let ((source, from), (target, to)) = (with_mover(name)?, with_mover(name)?);
        source.client(0).call(&["ACL", "SETUSER", "mover", "-psync", "-dump", "-module"])?;
        target.client(0).call(&["ACL", "SETUSER", "mover", "-@dangerous", "+info", "+acl", "-xadd"])?;
        let said = doctor(&from, Some(&to))?;
        let psync = said.one("refusal", &["PSYNC", "on the source", "every migration"])?;
        let restore = said.one("refusal", &["RESTORE", "on the target", "every migration"])?;
        said.one("warning", &["DUMP", "--verify"])?;
        said.one("note", &["not looked at on the source: its modules (MODULE LIST)", "NOPERM"])?;
        said.one("warning", &["XADD", "clients may write"])?;
        said.one("warning", &["FLUSHALL", "--flush-target"])?;
        let missing: Vec<_> = ["DUMP", "MODULE LIST", "PSYNC"].map(Value::from).to_vec();
        let mut listed = said.0["source"]["missing_permissions"].as_array().cloned().unwrap_or_default();
        listed.sort_by_key(Value::to_string);
        ensure!(listed == missing, "{name}: {listed:?}");

        // The job would have ended there, and goes on once the advice is followed.
        let refused = Node::run(&["migrate", &from, &to, "--until", "caught-up"], PATIENCE)?;
        refused.assert(3, &["PSYNC", "ACL SETUSER mover +psync"]);
        follow_advice(&source, &psync)?;
        let refused = Node::run(&["migrate", &from, &to, "--until", "caught-up"], PATIENCE)?;
        refused.assert(3, &["RESTORE"]);
        follow_advice(&target, &restore)?;
        let said = doctor(&from, Some(&to))?;
        ensure!(said.0["ok"] == true, "{name}: {:#}", said.0);
    }
    Ok(())
}

/// Who starts with nothing and follows all that is said can migrate everything, and is told nothing more.
#[test]
fn advice_is_enough() -> Result<()> {
    for (from, to) in [("redis-6.2", "redis-6.2"), ("redis-7.4", "redis-8.6"), ("valkey-9", "redis-7.4")] {
        let ((source, from), (target, to)) = (with_mover(from)?, with_mover(to)?);
        fill(&source.url(), 600, 5)?;
        for server in [&source, &target] {
            let may_ask = if server.version().is_7_0() { "+acl|dryrun" } else { "+acl" };
            let little = ["ACL", "SETUSER", "mover", "resetkeys", "resetchannels", "-@all", "+info", may_ask];
            server.client(0).call(&little)?;
        }
        // Each time something is set right: keys are asked about once commands are allowed.
        for _ in 0..3 {
            let said = doctor(&from, Some(&to))?;
            for finding in said.0["findings"].as_array().context("no findings")? {
                let message = finding["message"].as_str().unwrap_or_default();
                let server = if finding["subject"] == "source" { &source } else { &target };
                if message.contains("ACL SETUSER mover") {
                    follow_advice(server, message)?;
                }
            }
        }
        let said = doctor(&from, Some(&to))?;
        ensure!(said.0["ok"] == true, "{:#}", said.0);
        said.says_nothing_of("ACL SETUSER mover")?;
        ensure!(said.0["target"]["missing_permissions"] == serde_json::json!([]), "{:#}", said.0);
        let all = ["--until", "quiet:1s", "--verify", "--pause-source", "5s", "--method", "full-sync"];
        Node::run(&[&["migrate", &from, &to][..], &all].concat(), PATIENCE)?.assert(0, &[]);
        ensure!(contents::compare(&source.url(), &target.url())?.is_empty(), "they differ");
    }
    Ok(())
}

/// What a server does not tell is neither refused nor passed over.
#[test]
fn what_cannot_be_told_is_said() -> Result<()> {
    for name in ["redis-6.2", "redis-7.4", "valkey-9"] {
        let ((source, from), (target, to)) = (with_mover(name)?, with_mover(name)?);
        for server in [&source, &target] {
            let mut limits = vec!["ACL", "SETUSER", "mover", "-acl", "-config", "-client", "-command"];
            // Before 7.0 nothing but TIME and PTTL tell when a key expires: migrate needs it.
            limits.extend((name != "redis-6.2").then_some("-time"));
            server.client(0).call(&limits)?;
        }
        let said = doctor(&from, Some(&to))?;
        ensure!(said.0["ok"] == true, "{:#}", said.0);
        for side in ["source", "target"] {
            said.one(
                "note",
                &[&format!("not looked at on the {side}: what user \"mover\" may do"), "NOPERM"],
            )?;
            let rest =
                said.one("note", &[&format!("not looked at on the {side}: its settings"), "NOPERM"])?;
            for what in ["CONFIG GET", "CLIENT LIST", "ACL USERS", "COMMAND"] {
                ensure!(rest.contains(what), "{rest}");
            }
            let server = &said.0[side];
            ensure!(server["missing_permissions"].is_null() && server["save_points"].is_null(), "{server:#}");
            ensure!(server["sentinels"].is_null(), "{server:#}");
            let timeless = name != "redis-6.2";
            ensure!(rest.contains("TIME") == timeless, "{rest}");
            ensure!(server["clock_offset_ms"].is_null() == timeless, "{server:#}");
        }
        // A capture needs to know more, and is refused.
        let args = ["migrate", &from, &to, "--until", "caught-up"];
        Node::run(&args, PATIENCE)?.assert(3, &["CONFIG GET", "--method full-sync"]);
        Node::run(&[&args[..], &["--method", "full-sync"]].concat(), PATIENCE)?.assert(0, &[]);
    }
    Ok(())
}

#[test]
fn limits_on_keys_and_channels_are_said() -> Result<()> {
    for name in ["redis-6.2", "redis-7.4"] {
        let ((source, from), (target, to)) = (with_mover(name)?, with_mover(name)?);
        for server in [&source, &target] {
            server.client(0).call(&["ACL", "SETUSER", "mover", "resetkeys", "~app:*", "resetchannels"])?;
        }
        let said = doctor(&from, Some(&to))?;
        said.one("warning", &["on the source may touch only keys", "--verify"])?;
        said.one("warning", &["on the source may not publish", "--pause-source", "&__replsync__:probe"])?;
        said.one("warning", &["on the target may touch only keys", "stops the job", "allkeys"])?;
    }
    Ok(())
}

#[test]
fn commands_that_were_taken_away_are_named() -> Result<()> {
    let gone = ["--rename-command", "FLUSHALL", "", "--rename-command", "FLUSHDB", "flushdb-0815"];
    for name in ["redis-5.0", "redis-6.2", "redis-7.4", "redis-8.6", "valkey-9"] {
        let (source, target) = (TestServer::start(name, &[]), TestServer::start(name, &gone));
        let said = of_pair(&source, &target)?;
        ensure!(said.0["ok"] == true, "{:#}", said.0);
        said.one("warning", &["the target does not know FLUSHALL", "--flush-target", "rename-command"])?;
        said.one("warning", &["the target does not know FLUSHDB", "clients may write"])?;
        target.client(0).words("SET old 1")?;
        let args = ["migrate", &source.url(), &target.url(), "--until", "caught-up", "--flush-target"];
        Node::run(&args, PATIENCE)?.assert(3, &["FLUSHALL"]);
        ensure!(target.client(0).keys()? == 1, "it was touched");
        let mute = TestServer::start(name, &["--rename-command", "PSYNC", ""]);
        doctor(&mute.url(), None)?.one("refusal", &["the source does not know PSYNC"])?;
    }
    Ok(())
}

/// Every command that is tried is valid on every server: an unlimited user lacks nothing, and all is told.
#[test]
fn an_unlimited_user_lacks_nothing() -> Result<()> {
    for name in ALL {
        let (source, target) = (TestServer::start(name, &[]), TestServer::start(name, &[]));
        source.client(3).words("SET a b")?;
        let said = of_pair(&source, &target)?;
        ensure!(said.0["ok"] == true, "{name}: {:#}", said.0);
        for side in ["source", "target"] {
            let server = &said.0[side];
            ensure!(server["missing_permissions"] == serde_json::json!([]), "{name}: {server:#}");
            ensure!(server["missing_commands"] == serde_json::json!([]), "{name}: {server:#}");
            ensure!(server["save_points"] == "" && server["sentinels"] == 0, "{name}: {server:#}");
            let apart = server["clock_offset_ms"].as_f64().context("no clock")?;
            let sure = server["clock_uncertainty_ms"].as_f64().context("no uncertainty")?;
            ensure!(apart.abs() <= sure + 1.0, "{name}: the same clock is {apart} ms off, ± {sure} ms");
        }
        said.says_nothing_of("not looked at")?;
        said.says_nothing_of("clock is")?;
    }
    Ok(())
}

//! `verify` as an operator runs it: on sound and broken files, and on file systems that fail under it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use replsync_tests::failing_fs::{FailingFs, Fault};
use replsync_tests::node::{Node, Outcome, program};
use replsync_tests::workspace;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(120);

fn verify(args: &[&str]) -> Result<Outcome> {
    Node::run(&[&["verify", "--json"][..], args].concat(), PATIENCE)
}

/// What the document says of its only file.
fn only_file(outcome: &Outcome) -> Result<Value> {
    let document = outcome.json()?;
    ensure!(document["files"].as_array().is_some_and(|files| files.len() == 1), "{document}");
    ensure!(document["ok"] == document["files"][0]["ok"], "{document}");
    Ok(document["files"][0].clone())
}

/// A file of 8 MB: long strings after one another, in one database, without a checksum.
fn large() -> Vec<u8> {
    let mut bytes = b"REDIS0011\xfe\x00".to_vec();
    for key in 0..8_000 {
        bytes.extend_from_slice(format!("\x00\x08{key:08}").as_bytes());
        bytes.extend_from_slice(&[0x43, 0xe8]);
        bytes.extend_from_slice(&[b'v'; 1000]);
    }
    bytes.push(0xff);
    bytes.extend_from_slice(&[0; 8]);
    bytes
}

fn fixture(name: &str) -> PathBuf {
    workspace().join("crates/replsync/tests/data").join(name)
}

#[test]
fn a_file_system_that_fails_is_an_error_with_its_place() -> Result<()> {
    let fs = FailingFs::mount(large())?;
    let path = fs.path().to_str().context("UTF-8")?.to_owned();
    for jobs in ["1", "3"] {
        let file = only_file(&verify(&[&path, "--jobs", jobs])?)?;
        ensure!(file["ok"] == true && file["keys"] == 8_000 && file["file_system"] == "FUSE", "{file}");
    }
    for (fault, words) in [(Fault::Io, "Input/output error"), (Fault::Stale, "Stale file handle")] {
        fs.fail(fault, 5_000_000);
        for jobs in ["1", "3"] {
            let outcome = verify(&[&path, "--jobs", jobs])?;
            outcome.assert(3, &[]);
            let file = only_file(&outcome)?;
            let error = file["error"].as_str().unwrap_or("");
            ensure!(file["error_offset"] == 5_000_000 && file["ok"] == false, "{file}");
            ensure!(
                error.contains(words) && error.contains("at byte 5000000") && error.contains(&path),
                "{error}"
            );
            ensure!(file["findings"].as_array().is_some_and(Vec::is_empty), "nothing is corrupt: {file}");
        }
    }
    Ok(())
}

#[test]
fn a_file_that_is_cut_while_it_is_read_is_an_error_and_no_crash() -> Result<()> {
    for jobs in ["1", "3"] {
        let fs = FailingFs::mount(large())?;
        let path = fs.path().to_str().context("UTF-8")?.to_owned();
        fs.fail(Fault::Cut, 4_000_000);
        let outcome = verify(&[&path, "--jobs", jobs])?;
        outcome.assert(3, &[]);
        let file = only_file(&outcome)?;
        let error = file["error"].as_str().unwrap_or("");
        ensure!(error.contains("was cut to 4000000 bytes while being read"), "{error}");
        ensure!(file["error_offset"] == 4_000_000, "{file}");
        // As a person sees it; by now the file is simply too short.
        let outcome = Node::run(&["verify", &path], PATIENCE)?;
        outcome.assert(1, &[]);
        ensure!(
            outcome.stdout.contains("CORRUPT") && outcome.stdout.contains("the file ends before"),
            "{outcome:?}"
        );
    }
    Ok(())
}

#[test]
fn a_file_that_is_written_to_while_it_is_read_is_not_sound() -> Result<()> {
    let fs = FailingFs::mount(large())?;
    fs.fail(Fault::Written, 4_000_000);
    let outcome = verify(&[fs.path().to_str().context("UTF-8")?])?;
    outcome.assert(3, &[]);
    let file = only_file(&outcome)?;
    ensure!(
        file["error"].as_str().is_some_and(|error| error.contains("was written to while being read")),
        "{file}"
    );
    Ok(())
}

#[test]
fn exit_codes_and_words_are_those_promised() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    let sound = std::fs::read(fixture("all_redis-7.2_v11.rdb"))?;
    std::fs::write(at("sound.rdb"), &sound)?;
    let outcome = verify(&[&at("sound.rdb"), "--digest"])?;
    outcome.assert(0, &[]);
    let file = only_file(&outcome)?;
    ensure!(file["rdb_version"] == 11 && file["checksum"] == "verified" && file["error"].is_null(), "{file}");
    ensure!(file["digest"].as_str().is_some_and(|digest| digest.len() == 32), "{file}");

    let mut broken = sound.clone();
    broken[300] ^= 4;
    std::fs::write(at("broken.rdb"), &broken)?;
    let outcome = verify(&[&at("broken.rdb")])?;
    outcome.assert(1, &[]);
    let file = only_file(&outcome)?;
    let first = &file["findings"][0];
    ensure!(file["error"] == first["message"] && file["error_offset"] == first["offset"], "{file}");

    std::fs::write(at("old.aof"), b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n")?;
    verify(&[&at("old.aof")])?.assert(2, &[]);
    verify(&[&at("none*")])?.assert(2, &["none*"]);
    verify(&[&at("gone.rdb")])?.assert(3, &[]);
    // Worst first; and the folder leaves out what is no RDB.
    let outcome = verify(&[folder.path().to_str().context("UTF-8")?, &at("gone.rdb")])?;
    outcome.assert(1, &[]);
    let document = outcome.json()?;
    ensure!(document["files"].as_array().is_some_and(|files| files.len() == 3), "{document}");
    ensure!(document["files_left_out"] == 1, "{document}");
    let outcome = Node::run(&["verify", folder.path().to_str().context("UTF-8")?], PATIENCE)?;
    ensure!(
        outcome.stdout.contains("2 files: 1 ok, 1 corrupt; 1 file in folders are no RDB"),
        "{}",
        outcome.stdout
    );
    Ok(())
}

/// What files say of themselves, and what they are called, is whatever somebody wrote.
#[test]
fn nothing_in_a_file_or_its_name_reaches_a_terminal_as_it_is() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let name = folder.path().join("a\x1b[31m\nok          b.rdb");
    let aux = b"\xfa\x09redis-ver\x0c7.2.0\x1b]0;x\x07\r";
    std::fs::write(&name, [&b"REDIS0011"[..], aux, b"\xfe\0\0\x01k\x01v\xff", &[0; 8]].concat())?;
    let name = name.to_str().context("UTF-8")?;
    let missing = format!("{name}.none");
    for args in [
        &["verify", folder.path().to_str().context("UTF-8")?][..],
        &["verify", &missing],
        &["digest", name],
        &["digest", &missing],
        &["compare", name, name],
        &["compare", name, &missing],
        &["inspect", name],
        &["inspect", name, "--match", "\x1b[0m"],
        &["inspect", &missing],
    ] {
        let outcome = Node::run(args, PATIENCE)?;
        let said = [outcome.stdout, outcome.stderr].concat();
        let bites = said.chars().find(|c| c.is_control() && *c != '\n');
        ensure!(bites.is_none(), "{args:?}: {bites:?} in {said}");
        ensure!(!said.contains("\nok          b.rdb: "), "{args:?}: a line of its own in {said}");
    }
    Ok(())
}

#[test]
fn standard_input_is_read_and_what_it_cannot_show_is_said() -> Result<()> {
    let run = |bytes: &[u8], args: &[&str]| -> Result<(Option<i32>, Value)> {
        let mut child = Command::new(program())
            .args(["verify", "-", "--json"])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        child.stdin.take().context("a pipe")?.write_all(bytes)?;
        let output = child.wait_with_output()?;
        Ok((output.status.code(), serde_json::from_slice(&output.stdout)?))
    };
    let (code, document) = run(&large(), &[])?;
    ensure!((code, &document["files"][0]["keys"]) == (Some(0), &Value::from(8_000)), "{document}");
    ensure!(document["files"][0]["bytes"] == large().len(), "{document}");
    let (_, document) = run(&large(), &["--digest"])?;
    ensure!(
        document["files"][0]["not_checked"][0].as_str().is_some_and(|what| what.contains("digest")),
        "{document}"
    );
    let twice = b"REDIS0004\xfe\x00\x00\x01k\x01v\x00\x01k\x01w\xff";
    let (code, document) = run(twice, &[])?;
    ensure!(code == Some(1) && document["files"][0]["findings"][0]["kind"] == "duplicate_key", "{document}");
    let (code, document) = run(&[&twice[..], b"and more"].concat(), &[])?;
    ensure!(code == Some(1) && document["files"][0]["findings"][1]["kind"] == "after_end", "{document}");
    Ok(())
}

#[test]
fn a_signal_ends_it_with_4() -> Result<()> {
    // A pipe that nobody writes to.
    let folder = tempfile::tempdir()?;
    let fifo: &Path = &folder.path().join("fifo");
    ensure!(Command::new("mkfifo").arg(fifo).status()?.success());
    let node = Node::start(&["verify", fifo.to_str().context("UTF-8")?])?;
    // Opening waits for a writer: only once it is there, it has surely begun to read.
    let _writer = std::fs::OpenOptions::new().write(true).open(fifo)?;
    node.signal("TERM");
    node.wait(PATIENCE)?.assert(4, &["SIGTERM"]);
    Ok(())
}

//! Damaged files: every changed byte is found, and where the checksum fits again, our verdict is that of a server
//! that starts with the file, and of its redis-check-rdb.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use fastrand::Rng;
use replsync::rdb::Magic;
use replsync::server::Server;
use replsync::verify::{Options, Progress, verify};
use replsync_tests::server::{self, TestServer, program};

use crate::values::{damaged_file, fixtures, header};
use crate::{MUTATIONS_VARIABLE, explained, number};

/// Bytes that are changed in each fixture, unless told otherwise.
const FLIPS: usize = 120;
/// Files that each server starts with, unless told otherwise.
const FILES: u64 = 10;

/// What `verify` finds first; nothing in a sound file.
fn first_finding(path: &Path) -> Result<Option<String>> {
    let now = std::time::UNIX_EPOCH.elapsed()?.as_millis();
    let options = Options { jobs: 1, ..Options::at(i64::try_from(now)?) };
    let report = verify(path, &options, &Progress::default());
    if report.is_sound() {
        return Ok(None);
    }
    let first = report.findings.first().with_context(|| format!("{report:?}"))?;
    Ok(Some(format!("{}: {}", first.kind.name(), first.message)))
}

#[test]
fn every_changed_byte_is_found() -> Result<()> {
    let every = std::env::var(MUTATIONS_VARIABLE).is_ok();
    let mut rng = Rng::with_seed(number("REPLSYNC_SEED", 1)?);
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("damaged.rdb");
    let (mut changed, mut kinds) = (0, BTreeMap::<String, u32>::new());
    for (name, file) in fixtures()? {
        std::fs::write(&path, &file)?;
        assert_eq!(first_finding(&path)?, None, "{name} is sound");
        if file.ends_with(&[0; 8]) {
            continue; // it has no checksum
        }
        let step = if every { 1 } else { file.len().div_ceil(FLIPS) };
        for at in (0..file.len()).step_by(step) {
            let mut damaged = file.clone();
            damaged[at] ^= rng.u8(1..);
            std::fs::write(&path, &damaged)?;
            let found = first_finding(&path)?;
            let found = found.with_context(|| format!("{name}: byte {at} is now {}", damaged[at]))?;
            *kinds.entry(found.split(':').next().unwrap_or_default().to_owned()).or_default() += 1;
            changed += 1;
        }
    }
    println!(
        "{changed} bytes changed, one at a time, and each was found; the first finding is of kind {kinds:?}"
    );
    Ok(())
}

/// Whether `check-rdb` of that server takes the file.
fn check_rdb(name: &str, path: &Path) -> Result<bool> {
    let mut command = Command::new(program(name).with_file_name("check-rdb"));
    let status = command.arg(path).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    Ok(status.success())
}

/// Whether the server starts with the file.
fn starts(name: &str, file: &[u8]) -> Result<bool> {
    let options = server::Options::default().args(&["--sanitize-dump-payload", "yes"]).rdb(file);
    match TestServer::try_start_with(name, &options) {
        Ok(_) => Ok(true),
        Err(error) if format!("{error:#}").contains("it ended with") => Ok(false),
        Err(error) => Err(error),
    }
}

fn word(takes: bool) -> &'static str {
    if takes { "takes" } else { "refuses" }
}

pub fn compare(name: &str, by: Server) -> Result<()> {
    let count = number(MUTATIONS_VARIABLE, 0)?.div_ceil(1000).max(FILES);
    let mut rng = Rng::with_seed(number("REPLSYNC_SEED", 1)?);
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("dump.rdb");
    let mut files = fixtures()?;
    files.retain(|(name, file)| {
        let reads = match header(file) {
            Ok((Magic::Redis, version)) if by.rdb_version() == 80 => version <= 11,
            Ok((_, version)) => version <= by.rdb_version(),
            Err(_) => false,
        };
        reads && !name.contains("module") && !name.contains("vector") && !name.contains("cluster")
    });
    let mut classes = BTreeMap::<(String, String), (u32, Vec<u8>)>::new();
    for _ in 0..count {
        let file = damaged_file(&files[rng.usize(..files.len())].1, &mut rng);
        std::fs::write(&path, &file)?;
        let ours = first_finding(&path)?;
        let (server, check) = (starts(name, &file)?, check_rdb(name, &path)?);
        let reason = explained::reason(ours.as_deref().unwrap_or_default());
        let class = match (ours.is_none(), server, check) {
            (true, true, true) => ("all take".to_owned(), String::new()),
            (false, false, false) => ("all refuse".to_owned(), String::new()),
            (false, true, true) => (explained::ONLY_WE_REFUSE.to_owned(), reason),
            (_, _, check) => (format!("the server {}, check-rdb {}", word(server), word(check)), reason),
        };
        classes.entry(class).or_insert((0, file)).0 += 1;
    }
    println!("{name}: {count} damaged files");
    let mut unexplained = 0;
    for ((who, reason), (count, example)) in &classes {
        let why = if who.starts_with("all ") { Some("") } else { explained::why(who, reason) };
        println!("  {count:>6} {who}: {reason}: {}", why.unwrap_or("NOT EXPLAINED"));
        if why.is_none() {
            unexplained += 1;
            let kept = std::env::temp_dir().join(format!("replsync-unexplained-{name}-{unexplained}.rdb"));
            std::fs::write(&kept, example)?;
            println!("         {}", kept.display());
        }
    }
    assert_eq!(unexplained, 0, "classes of differences that nothing explains");
    Ok(())
}

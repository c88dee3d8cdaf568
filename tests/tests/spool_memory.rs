//! The memory that a log of five million records takes, half of which are superseded. In a process of its own: nothing
//! else runs in it.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use replsync::spool::{Body, Budget, Config, Log};

const IDS: u64 = 5_000_000;
const MIB: u64 = 1 << 20;
/// What `Log` says: 64 MiB to sort in, a bit for each record, blocks and buffers; and what the allocator keeps.
const MAX_BYTES: u64 = (64 + 16) * MIB + 3 * IDS / 2 / 8;

#[test]
fn a_log_of_five_million_records_takes_little_memory() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let config =
        Config { folder: folder.path().to_owned(), budget: Budget::new(4 << 30), ..Config::default() };
    std::fs::write("/proc/self/clear_refs", "5").context("the mark of the most memory cannot be set back")?;
    let before = memory()?.1;
    let began = Instant::now();
    let mut log = Log::new(&config);
    for number in 0..IDS {
        log.put(id(number), &[&number.to_le_bytes(), &[7; 32]], number % 4 == 0)?;
    }
    for number in (0..IDS).step_by(2) {
        match number % 10 {
            0 => log.remove(id(number))?,
            _ => log.put(id(number), &[&number.to_le_bytes(), &[8; 16]], false)?,
        }
    }
    let (written, writing) = (began.elapsed(), memory()?.0 - before);
    let disk = config.budget.gauge().bytes();
    let mut latest = log.latest()?;
    let (sorted, sorting) = (began.elapsed() - written, memory()?.0 - before);
    ensure!(latest.len() == IDS * 9 / 10, "{}", latest.len());
    let (mut sum, mut again) = (0, 0);
    while let Some(body) = latest.next()? {
        let Body::Whole(body) = body else { anyhow::bail!("a small body in pieces") };
        let number = u64::from_le_bytes(*body.first_chunk().context("a short body")?);
        sum += number;
        again += u64::from(body[8..] == [8; 16]);
        ensure!(number % 10 != 0 && body[8..].iter().all(|byte| *byte == 8 - (number % 2) as u8), "{number}");
    }
    // All numbers but those that end with 0, which were removed.
    ensure!((sum, again) == (IDS * (IDS - 1) / 2 - 10 * (IDS / 10) * (IDS / 10 - 1) / 2, IDS * 4 / 10));
    println!(
        "{IDS} records, then {} changes: {} MiB on disk; memory at most {} MiB while it was written ({written:.1?}), {} \
         MiB in the end (sorted in {sorted:.1?}, read in {:.1?})",
        IDS / 2,
        disk / MIB,
        writing / MIB,
        sorting / MIB,
        began.elapsed() - written - sorted
    );
    assert!(writing < 16 * MIB, "{writing} bytes of memory while it was written");
    assert!(memory()?.0 - before < MAX_BYTES, "{sorting} bytes of memory in the end");
    drop(latest);
    assert_eq!(config.budget.gauge().bytes(), 0);
    Ok(())
}

/// Mixed, as hashes are.
fn id(number: u64) -> u128 {
    u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
}

/// The most memory that this process has had, and what it has now.
fn memory() -> Result<(u64, u64)> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let field = |name: &str| -> Result<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).context("no such line")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
    };
    Ok((field("VmHWM:")?, field("VmRSS:")?))
}

//! One run of one reader: its time, and its memory at most.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// How often a reader's memory is looked at. A look takes some 20 µs of another core.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// Of the times in /proc (`USER_HZ`).
const TICKS_A_SECOND: f64 = 100.0;

/// What a run took.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    pub seconds: f64,
    /// User and system time.
    pub cpu_seconds: f64,
    /// Anonymous memory at most, as far as it was seen; pages of a mapped file are not in it.
    pub anonymous_kib: u64,
}

/// Runs `command` on so many cores, and waits for it.
pub fn run(command: &[String], cores: u32) -> Result<Run> {
    let cpus = format!("0-{}", cores - 1);
    let before = children_seconds()?;
    let begun = Instant::now();
    let mut child = Command::new("taskset")
        .args(["--cpu-list", &cpus])
        .args(command)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .context("taskset")?;
    let mut anonymous_kib = 0;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        anonymous_kib = anonymous_kib.max(anonymous(child.id()));
        std::thread::sleep(LOOK_EVERY);
    };
    let seconds = begun.elapsed().as_secs_f64();
    ensure!(status.success(), "{} ended with {status}", command.join(" "));
    Ok(Run { seconds, cpu_seconds: children_seconds()? - before, anonymous_kib })
}

/// Anonymous memory of a process now, in KiB; 0 once it has ended.
fn anonymous(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0)
}

/// Processor time of all children that were waited for.
fn children_seconds() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // the name, in parentheses, may hold spaces; cutime and cstime are the 14th and 15th field behind it
    let fields = stat.rsplit_once(") ").context("/proc/self/stat")?.1;
    let ticks = fields.split(' ').skip(13).take(2).filter_map(|field| field.parse::<f64>().ok()).sum::<f64>();
    Ok(ticks / TICKS_A_SECOND)
}

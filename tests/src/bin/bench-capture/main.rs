//! How fast a capture is, and what it does to a server that has other things to do: `scripts/bench-capture.sh` runs it.
//!
//! usage: `bench-capture SERVER [PAIRS [PERCENT]]`: the server as `scripts/servers.sh` knows it; PAIRS of runs with and
//! without a capture (5); PERCENT of the full data sets, for a quick look. Prints Markdown.

mod ceiling;
mod harm;
mod speed;
mod watch;

use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};
use replsync_tests::datasets::{DataSet, SEED};
use replsync_tests::server::TestServer;

fn main() -> ExitCode {
    match bench() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-capture: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bench() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [name, numbers @ ..] = &args[..] else { bail!("usage: bench-capture SERVER [PAIRS [PERCENT]]") };
    let number = |at: usize, default: u32| numbers.get(at).map_or(Ok(default), |text| text.parse());
    let pairs = number(0, 5).context("PAIRS is a number")?.max(1);
    let percent = number(1, 100).context("PERCENT is a number")?;
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let processors = std::thread::available_parallelism()?;
    let server = TestServer::start(name, &[]);
    println!(
        "{}, {processors} processors, load before it {}; medians (least–most)",
        server.version(),
        load.split(' ').next().unwrap_or_default()
    );
    drop(server);
    ensure!(processors.get() >= 2, "one processor for the server and one for its clients are needed");
    for set in [DataSet::Small, DataSet::Mixed] {
        let server = filled(name, set, percent)?;
        pin(server.pid(), 0)?;
        pin(std::process::id(), 1)?;
        println!("\n{}", speed::measure(&server, set, pairs)?);
        if set == DataSet::Small {
            println!("\n{}", harm::measure(&server, pairs, 2_000_000 / 100 * percent)?);
        }
        taskset(std::process::id(), "0-1")?;
    }
    Ok(())
}

fn filled(name: &str, set: DataSet, percent: u32) -> Result<TestServer> {
    let server = TestServer::start(name, &[]);
    eprintln!("bench-capture: filling {name} with {} (seed {SEED})", set.name());
    set.fill(&server, percent)?;
    Ok(server)
}

/// Keeps a process, with all its threads and those to come, to one processor.
fn pin(pid: u32, processor: usize) -> Result<()> {
    taskset(pid, &processor.to_string())
}

fn taskset(pid: u32, processors: &str) -> Result<()> {
    let output = Command::new("taskset").args(["-acp", processors, &pid.to_string()]).output()?;
    ensure!(output.status.success(), "taskset: {}", String::from_utf8_lossy(&output.stderr).trim_end());
    Ok(())
}

/// The median of some runs, with the least and the most.
struct Spread {
    sorted: Vec<f64>,
    digits: usize,
}

impl Spread {
    fn of(runs: impl IntoIterator<Item = f64>, digits: usize) -> Self {
        let mut sorted: Vec<f64> = runs.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        Self { sorted, digits }
    }

    /// The middle one; of an even number the mean of the two in the middle.
    fn median(&self) -> f64 {
        let middle = [self.sorted.len().wrapping_sub(1) / 2, self.sorted.len() / 2];
        middle.iter().map(|&at| self.sorted.get(at).copied().unwrap_or(f64::NAN)).sum::<f64>() / 2.0
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let (Some(least), Some(most)) = (self.sorted.first(), self.sorted.last()) else {
            return f.write_str("–");
        };
        let digits = self.digits;
        write!(f, "{:.digits$} ({least:.digits$}–{most:.digits$})", self.median())
    }
}

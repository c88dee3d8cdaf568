//! How long a migration takes, beside native replication and beside the target's own pace: `scripts/bench-migrate.sh`
//! runs it.
//!
//! usage: `bench-migrate FROM TO [ROUNDS [PERCENT]]`: names of servers (see `scripts/servers.sh`); PERCENT of the
//! full data sets, for a quick look.

mod cost;
mod recorder;
mod table;
mod ways;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use replsync_tests::datasets::{self, DataSet};
use replsync_tests::server::TestServer;

use crate::table::Table;
use crate::ways::{CAPTURE, FULL_SYNC, ceiling, migrate, native, record, source_alone};

fn main() -> ExitCode {
    match bench() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-migrate: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bench() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [from, to, numbers @ ..] = &args[..] else {
        bail!("usage: bench-migrate FROM TO [ROUNDS [PERCENT]]")
    };
    let number = |at: usize, default: u32| numbers.get(at).map_or(Ok(default), |text| text.parse());
    let rounds = number(0, 3).context("ROUNDS is a number")?.max(1);
    let percent = number(1, 100).context("PERCENT is a number")?;
    let processors = std::thread::available_parallelism()?;
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    println!("{rounds} rounds, medians; {processors} processors, load before it {load}");
    let mut tables = Vec::new();
    for set in [DataSet::Small, DataSet::Mixed] {
        tables.push(measure(set, from, to, rounds, percent)?);
    }
    for table in &tables {
        println!("\n{table}");
    }
    let aims = tables.iter().flat_map(Table::aims);
    for aim in aims {
        println!("{aim}");
    }
    Ok(())
}

/// All ways, one after the other and again, so that what else the machine does meets all of them.
fn measure(set: DataSet, from: &str, to: &str, rounds: u32, percent: u32) -> Result<Table> {
    let source = TestServer::start(from, &[]);
    eprintln!("bench-migrate: filling {} with {} (seed {})", source.name(), set.name(), datasets::SEED);
    set.fill(&source, percent)?;
    let mut table = Table::new(set, &source, to)?;
    let recorded = record(&source, to)?;
    table.note_recording(&recorded);
    for round in 1..=rounds {
        table.native.extend(native(&source, to)?);
        table.migrate.push(migrate(&source, to, CAPTURE)?);
        table.full_sync.push(migrate(&source, to, FULL_SYNC)?);
        table.ceiling.push(ceiling(&recorded, &source, to)?);
        table.source.push(source_alone(&source)?);
        eprintln!("bench-migrate: {}, round {round} of {rounds}: {}", set.name(), table.last_round());
    }
    Ok(table)
}

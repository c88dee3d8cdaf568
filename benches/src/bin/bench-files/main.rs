//! RDB files of some 450 MB, and how long each reader takes for them: `scripts/bench-files.sh` runs it.
//!
//! usage: `bench-files FOLDER ROUNDS [FILE…]`: makes the files in FOLDER that are not there yet, and prints the table.

mod data;
mod measure;
mod table;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::data::{FILES, File};
use crate::measure::{Run, run};
use crate::table::Table;

fn main() -> ExitCode {
    match bench() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-files: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bench() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [folder, rounds, names @ ..] = &args[..] else { bail!("usage: bench-files FOLDER ROUNDS [FILE…]") };
    let rounds = rounds.parse::<u32>().context("ROUNDS is a number")?.max(1);
    let files =
        FILES.into_iter().filter(|file| names.is_empty() || names.iter().any(|name| name == file.name()));
    let processors = std::thread::available_parallelism()?;
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    println!("best of {rounds} rounds, {processors} processors, load before it {load}");
    let made = files.map(|file| Ok((file, file.make(Path::new(folder))?))).collect::<Result<Vec<_>>>()?;
    let tables = made.iter().map(|(file, path)| measure(*file, path, rounds)).collect::<Result<Vec<_>>>()?;
    for table in &tables {
        println!("\n{table}");
    }
    println!();
    tables.iter().flat_map(Table::aims).for_each(|aim| println!("{aim}"));
    Ok(())
}

/// All readers one after the other, and again, so that what else the machine does meets all of them.
fn measure(file: File, path: &Path, rounds: u32) -> Result<Table> {
    let mut table = Table::new(file, path)?;
    for round in 1..=rounds {
        for how in Reader::ALL {
            table.add(how, run(&how.command(path)?, how.cores())?);
        }
        eprintln!("bench-files: {}, round {round} of {rounds}", file.name());
    }
    Ok(table)
}

/// Who reads a file, and how far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reader {
    Plain,
    CheckRdb,
    RdbCrate,
    Librdb,
    Boundaries,
    Verify,
    VerifyTwo,
    Digest,
}

impl Reader {
    const ALL: [Self; 8] = [
        Self::Plain,
        Self::CheckRdb,
        Self::RdbCrate,
        Self::Librdb,
        Self::Boundaries,
        Self::Verify,
        Self::VerifyTwo,
        Self::Digest,
    ];

    /// As it is called in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain read",
            Self::CheckRdb => "redis-check-rdb",
            Self::RdbCrate => "rdb crate (no CRC)",
            Self::Librdb => "librdb crate",
            Self::Boundaries => "boundaries + CRC",
            Self::Verify => "verify --jobs 1",
            Self::VerifyTwo => "verify --jobs 2",
            Self::Digest => "digest --jobs 1",
        }
    }

    /// How many cores it may use: all but one are kept to one.
    fn cores(self) -> u32 {
        if self == Self::VerifyTwo { 2 } else { 1 }
    }

    fn command(self, path: &Path) -> Result<Vec<String>> {
        let own = std::env::current_exe()?;
        let program = |name: &str| own.with_file_name(name).display().to_string();
        let words = |program: String, args: &[&str]| {
            let args = args.iter().map(|&arg| arg.to_owned());
            [program].into_iter().chain(args).chain([path.display().to_string()]).collect()
        };
        let reader = |how: &str| words(program("bench-reader"), &[how]);
        let node = |args: &[&str]| words(program("replsync-node"), args);
        Ok(match self {
            Self::Plain => reader("plain"),
            Self::CheckRdb => words(check_rdb().display().to_string(), &[]),
            Self::RdbCrate => reader("rdb"),
            Self::Librdb => reader("librdb"),
            Self::Boundaries => reader("boundaries"),
            Self::Verify => node(&["verify", "--json", "--no-progress", "--jobs", "1"]),
            Self::VerifyTwo => node(&["verify", "--json", "--no-progress", "--jobs", "2"]),
            Self::Digest => node(&["digest", "--json", "--no-progress"]),
        })
    }
}

/// Of the server that wrote the files.
fn check_rdb() -> PathBuf {
    replsync_tests::server::program(data::SERVER).with_file_name("check-rdb")
}

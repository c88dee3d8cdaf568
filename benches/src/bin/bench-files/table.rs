//! The runs of one file as a table, and what became of the aims.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::Result;

use crate::data::File;
use crate::{Reader, Run};

/// The most anonymous memory of an offline command, `compare` and the exact duplicate check apart.
const MEMORY_AIM_MIB: f64 = 64.0;
const VERIFY_TWO_AIM: f64 = 1.6;

/// What the issue asks of a file: GB/s of boundaries, and how many times as fast as redis-check-rdb.
struct Aims {
    boundaries: Option<f64>,
    verify: f64,
    digest: f64,
}

impl File {
    fn aims(self) -> Aims {
        match self {
            File::SmallKeys => Aims { boundaries: Some(0.6), verify: 3.0, digest: 2.0 },
            File::Mixed => Aims { boundaries: None, verify: 5.0, digest: 3.0 },
            File::BigCollections => Aims { boundaries: Some(1.5), verify: 15.0, digest: 8.0 },
        }
    }
}

pub struct Table {
    file: File,
    bytes: u64,
    runs: BTreeMap<Reader, Vec<Run>>,
}

impl Table {
    pub fn new(file: File, path: &Path) -> Result<Self> {
        Ok(Self { file, bytes: std::fs::metadata(path)?.len(), runs: BTreeMap::new() })
    }

    pub fn add(&mut self, reader: Reader, run: Run) {
        self.runs.entry(reader).or_default().push(run);
    }

    /// The fastest run: what else a machine does only ever makes one slower.
    fn seconds(&self, reader: Reader) -> f64 {
        self.least(reader, |run| run.seconds)
    }

    fn least(&self, reader: Reader, of: impl Fn(&Run) -> f64) -> f64 {
        self.runs.get(&reader).into_iter().flatten().map(of).fold(f64::INFINITY, f64::min)
    }

    fn gigabytes_a_second(&self, reader: Reader) -> f64 {
        self.bytes as f64 / 1e9 / self.seconds(reader)
    }

    /// How many times as fast as redis-check-rdb.
    fn ratio(&self, reader: Reader) -> f64 {
        self.seconds(Reader::CheckRdb) / self.seconds(reader)
    }

    fn peak_mib(&self, reader: Reader) -> f64 {
        let peaks = self.runs.get(&reader).into_iter().flatten().map(|run| run.anonymous_kib);
        peaks.max().unwrap_or(0) as f64 / 1024.0
    }

    /// A line for each aim.
    pub fn aims(&self) -> Vec<String> {
        let aims = self.file.aims();
        let name = self.file.name();
        let line = |what: &str, found: f64, least: f64, unit: &str| {
            let met = if found >= least { "met" } else { "MISSED" };
            format!("{name}: {what} {found:.2}{unit} (aim: {least}{unit}): {met}")
        };
        let times = " × redis-check-rdb";
        let mut lines = Vec::new();
        if let Some(least) = aims.boundaries {
            lines.push(line("boundaries + CRC", self.gigabytes_a_second(Reader::Boundaries), least, " GB/s"));
        }
        lines.push(line("verify", self.ratio(Reader::Verify), aims.verify, times));
        lines.push(line("digest", self.ratio(Reader::Digest), aims.digest, times));
        let two = self.seconds(Reader::Verify) / self.seconds(Reader::VerifyTwo);
        lines.push(line("verify on two cores", two, VERIFY_TWO_AIM, " × one"));
        for reader in [Reader::Boundaries, Reader::Verify, Reader::VerifyTwo, Reader::Digest] {
            let peak = self.peak_mib(reader);
            let met = if peak < MEMORY_AIM_MIB { "met" } else { "MISSED" };
            lines.push(format!(
                "{name}: {} takes {peak:.0} MiB (aim: under {MEMORY_AIM_MIB}): {met}",
                reader.name()
            ));
        }
        lines
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        writeln!(f, "{}: {:.0} MB", self.file.name(), self.bytes as f64 / 1e6)?;
        let head = "reader                seconds  CPU seconds    GB/s  × check-rdb  peak anonymous MiB";
        write!(f, "{head}")?;
        for &reader in self.runs.keys() {
            let cpu = self.least(reader, |run| run.cpu_seconds);
            let (seconds, speed) = (self.seconds(reader), self.gigabytes_a_second(reader));
            let (ratio, peak, name) = (self.ratio(reader), self.peak_mib(reader), reader.name());
            write!(f, "\n{name:<20} {seconds:>8.2} {cpu:>12.2} {speed:>7.2} {ratio:>12.1} {peak:>19.1}")?;
        }
        Ok(())
    }
}

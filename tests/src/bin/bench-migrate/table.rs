//! The runs of one data set as a table, and what became of the aims.

use std::fmt;

use anyhow::Result;
use replsync_tests::client::Version;
use replsync_tests::datasets::DataSet;
use replsync_tests::server::TestServer;

use crate::cost::Cost;
use crate::recorder::Recording;

/// At least this part of the ceiling is wanted.
const CEILING_AIM_PERCENT: f64 = 80.0;
/// More memory than this is too much.
const MEMORY_AIM_BYTES: u64 = 64 << 20;

/// The runs of one data set.
pub struct Table {
    set: DataSet,
    pair: [Version; 2],
    keys: u64,
    rdb_bytes: usize,
    memory_bytes: i64,
    sent_bytes: usize,
    pub native: Vec<Cost>,
    pub migrate: Vec<Cost>,
    pub full_sync: Vec<Cost>,
    pub ceiling: Vec<Cost>,
    pub source: Vec<Cost>,
}

impl Table {
    /// A table without runs; it looks at the filled source.
    pub fn new(set: DataSet, source: &TestServer, to: &str) -> Result<Self> {
        Ok(Self {
            set,
            pair: [source.version(), TestServer::start(to, &[]).version()],
            keys: source.client(0).keys()?,
            rdb_bytes: source.save()?.len(),
            memory_bytes: source.info_number("used_memory"),
            sent_bytes: 0,
            native: Vec::new(),
            migrate: Vec::new(),
            full_sync: Vec::new(),
            ceiling: Vec::new(),
            source: Vec::new(),
        })
    }

    /// Takes note of what `migrate` sends.
    pub fn note_recording(&mut self, recording: &Recording) {
        self.sent_bytes = recording.iter().map(Vec::len).sum();
    }

    /// One line on the last round.
    pub fn last_round(&self) -> String {
        let last =
            |runs: &[Cost]| runs.last().map_or("-".to_owned(), |cost| format!("{:.2} s", cost.seconds));
        self.ways().map(|(way, runs)| format!("{way} {}", last(runs))).join(", ")
    }

    fn ways(&self) -> [(&'static str, &[Cost]); 5] {
        [
            ("native", &self.native),
            ("migrate", &self.migrate),
            ("by full sync", &self.full_sync),
            ("ceiling", &self.ceiling),
            ("source alone", &self.source),
        ]
    }

    /// Each aim and whether it was met: by the medians, and beside them what the fastest runs say, since neighbours on
    /// the machine only ever make one slower.
    pub fn aims(&self) -> Vec<String> {
        let name = self.set.name();
        let [native, migrate, _, ceiling, source] =
            self.ways().map(|(_, runs)| median_of(runs, |cost| cost.seconds));
        let [native_least, migrate_least, _, ceiling_least, source_least] =
            self.ways().map(|(_, runs)| least(runs));
        let mut aims = Vec::new();
        if !self.native.is_empty() {
            let (ratio, ratio_least, aim) =
                (migrate / native, migrate_least / native_least, self.set.native_aim());
            let met = met(ratio <= aim);
            aims.push(format!(
                "{name}: migrate takes {ratio:.2} × native, fastest runs {ratio_least:.2} (aim: at most {aim}): {met}"
            ));
        }
        let (part, part_least) = (100.0 * ceiling / migrate, 100.0 * ceiling_least / migrate_least);
        let met_ceiling = met(part >= CEILING_AIM_PERCENT);
        aims.push(format!(
            "{name}: migrate reaches {part:.0} % of the ceiling, fastest runs {part_least:.0} % \
             (aim: at least {CEILING_AIM_PERCENT} %): {met_ceiling}"
        ));
        aims.push(format!(
            "{name}: for scale, migrate takes {:.2} × what the source alone needs for its RDB, fastest runs {:.2}",
            migrate / source,
            migrate_least / source_least
        ));
        let peak = self.migrate.iter().map(|cost| cost.peak_bytes).max().unwrap_or(0);
        aims.push(format!(
            "{name}: migrate takes {} MiB of memory (aim: under {}): {}",
            peak >> 20,
            MEMORY_AIM_BYTES >> 20,
            met(peak < MEMORY_AIM_BYTES)
        ));
        aims
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let megabytes = |bytes: usize| bytes / 1_000_000;
        writeln!(
            f,
            "{}, {} → {}: {} keys, {} MB in memory, {} MB as RDB, {} MB sent to the target",
            self.set.name(),
            self.pair[0],
            self.pair[1],
            self.keys,
            megabytes(self.memory_bytes as usize),
            megabytes(self.rdb_bytes),
            megabytes(self.sent_bytes)
        )?;
        let [seconds, keys_in, said] = ["seconds (least–most)", "all keys in", "JSON says"];
        let [source, target, mover, peak] = ["source CPU", "target CPU", "mover CPU", "peak MiB"];
        writeln!(
            f,
            "{:<12}  {seconds:<20}  {keys_in:>11}  {said:>9}  {source}  {target}  {mover:>10}  {peak}",
            ""
        )?;
        for (way, runs) in self.ways() {
            writeln!(f, "{}", line(way, runs))?;
        }
        Ok(())
    }
}

/// The medians of one way.
fn line(way: &str, runs: &[Cost]) -> String {
    if runs.is_empty() {
        return format!("{way:<12}  the target refuses the source's RDB");
    }
    let of = |field: fn(&Cost) -> f64| median_of(runs, field);
    let least = least(runs);
    let most = runs.iter().map(|cost| cost.seconds).fold(0.0, f64::max);
    let seconds = format!("{:.2} ({least:.2}–{most:.2})", of(|cost| cost.seconds));
    let some = |value: f64| if value > 0.0 { format!("{value:.2}") } else { "-".to_owned() };
    let peak_bytes = runs.iter().map(|cost| cost.peak_bytes).max().unwrap_or(0);
    let peak = if peak_bytes > 0 { (peak_bytes >> 20).to_string() } else { "-".to_owned() };
    format!(
        "{way:<12}  {seconds:<20}  {:>11}  {:>9}  {:>10}  {:>10}  {:>10}  {peak:>8}",
        some(of(|cost| cost.keys_in_seconds)),
        some(of(|cost| cost.said_seconds)),
        some(of(|cost| cost.source_cpu)),
        some(of(|cost| cost.target_cpu)),
        some(of(|cost| cost.mover_cpu))
    )
}

/// The middle one; of an even number the mean of the two in the middle.
fn median_of(runs: &[Cost], field: fn(&Cost) -> f64) -> f64 {
    let mut values: Vec<f64> = runs.iter().map(field).collect();
    values.sort_by(f64::total_cmp);
    let middle = [values.len().wrapping_sub(1) / 2, values.len() / 2];
    middle.iter().map(|&at| values.get(at).copied().unwrap_or(f64::NAN)).sum::<f64>() / 2.0
}

/// The fastest run's seconds.
fn least(runs: &[Cost]) -> f64 {
    runs.iter().map(|cost| cost.seconds).fold(f64::INFINITY, f64::min)
}

fn met(met: bool) -> &'static str {
    if met { "met" } else { "MISSED" }
}

//! `bench-table FOLDER`: what criterion wrote into FOLDER (`target/criterion`), as one table. A ratio above 1 is by
//! how much this repository's own is faster. Speeds are those of the fastest sample: neighbours on the machine only
//! ever make one slower.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use replsync_benches::OURS;
use serde_json::Value;

/// Speeds (units a second) of the contenders in a group, and the unit.
type Groups = BTreeMap<String, (BTreeMap<String, f64>, &'static str)>;

fn main() -> Result<()> {
    let folder = std::env::args().nth(1).context("usage: bench-table target/criterion")?;
    let mut groups = Groups::new();
    for group in fs::read_dir(&folder).with_context(|| folder.clone())? {
        let group = group?.path();
        if !group.is_dir() {
            continue;
        }
        for contender in fs::read_dir(group)? {
            let new = contender?.path().join("new");
            if new.join("benchmark.json").exists() {
                add(&mut groups, &new).with_context(|| new.display().to_string())?;
            }
        }
    }
    println!("{:<46}  {:<14}  {:>13}  {:>6}", "benchmark", "contender", "speed", "ratio");
    for (name, (speeds, unit)) in groups {
        let ours = *speeds.get(OURS).with_context(|| format!("{name}: {OURS} did not run"))?;
        println!("{name:<46}  {OURS:<14}  {:>13}", speed(ours, unit));
        for (contender, theirs) in speeds.into_iter().filter(|(contender, _)| contender != OURS) {
            println!("{:<46}  {contender:<14}  {:>13}  {:>6.2}", "", speed(theirs, unit), ours / theirs);
        }
    }
    Ok(())
}

/// Reads one benchmark's last run.
fn add(groups: &mut Groups, new: &Path) -> Result<()> {
    let read = |name: &str| -> Result<Value> { Ok(serde_json::from_slice(&fs::read(new.join(name))?)?) };
    let benchmark = read("benchmark.json")?;
    let sample = read("sample.json")?;
    let numbers = |name: &str| -> Result<Vec<f64>> { Ok(serde_json::from_value(sample[name].clone())?) };
    let (times, iterations) = (numbers("times")?, numbers("iters")?);
    let nanoseconds = times.iter().zip(iterations).map(|(time, n)| time / n).fold(f64::INFINITY, f64::min);
    let text = |name: &str| -> Result<String> { Ok(benchmark[name].as_str().context("a name")?.to_owned()) };
    let (count, unit) = match &benchmark["throughput"] {
        throughput if throughput["Bytes"].is_u64() => (&throughput["Bytes"], "B/s"),
        throughput => (&throughput["Elements"], "keys/s"),
    };
    let speed = count.as_f64().context("a throughput")? / nanoseconds * 1e9;
    let group = groups.entry(text("group_id")?).or_insert_with(|| (BTreeMap::new(), unit));
    group.0.insert(text("value_str")?, speed);
    Ok(())
}

fn speed(per_second: f64, unit: &str) -> String {
    match per_second {
        1e9.. => format!("{:.2} G{unit}", per_second / 1e9),
        1e6.. => format!("{:.1} M{unit}", per_second / 1e6),
        _ => format!("{:.0} k{unit}", per_second / 1e3),
    }
}

//! Damaged files and values: we find every byte that was changed, and where the checksum was made to fit again, our
//! verdict is a real server's, but for the differences that docs/formats/verdicts.md explains.
//!
//! `scripts/prove-mutations.sh SEED N` runs more of it: `REPLSYNC_SEED`, and `REPLSYNC_MUTATIONS` of each server.

mod explained;
mod files;
mod values;
mod verdict;

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use fastrand::Rng;
use replsync::server::Server;

use crate::verdict::{Judge, Verdict, breaks, ours};

/// How many values each server is asked about, unless told otherwise.
const MUTATIONS: usize = 6_000;
/// How many at once.
const AT_ONCE: usize = 200;

/// What says otherwise.
const MUTATIONS_VARIABLE: &str = "REPLSYNC_MUTATIONS";

fn number(name: &str, default: u64) -> Result<u64> {
    std::env::var(name)
        .map_or(Ok(default), |text| text.parse().with_context(|| format!("{name} is a number")))
}

/// Verdicts of one kind that differ, and an example.
#[derive(Default)]
struct Class {
    count: u32,
    examples: Vec<values::Value>,
}

fn compare(name: &str, by: Server) -> Result<()> {
    let seed = number("REPLSYNC_SEED", 1)?;
    let count = number(MUTATIONS_VARIABLE, MUTATIONS as u64)?;
    let (values, mut rng) = (values::values(by)?, Rng::with_seed(seed));
    let mut judge = Judge::start(name, by)?;
    let mut not_asked = 0;
    let (mut same, mut classes) = ([0, 0], BTreeMap::<(String, String), Class>::new());
    for _ in 0..count.div_ceil(AT_ONCE as u64) {
        let mut damaged: Vec<_> = (0..AT_ONCE).map(|_| values::damaged(&values, &mut rng)).collect();
        damaged.retain(|(kind, raw)| !breaks(*kind, raw, by));
        not_asked += AT_ONCE - damaged.len();
        let theirs = judge.verdicts(&damaged)?;
        for (value, theirs) in damaged.into_iter().zip(theirs) {
            let ours = ours(value.0, &value.1, by);
            let class = match (&ours, &theirs) {
                (Verdict::Sound, Verdict::Sound) => {
                    same[0] += 1;
                    continue;
                }
                (Verdict::Bad(_), Verdict::Bad(_)) => {
                    same[1] += 1;
                    continue;
                }
                (Verdict::Bad(reason), Verdict::Sound) => {
                    (explained::ONLY_WE_REFUSE, explained::reason(reason))
                }
                (Verdict::Sound, Verdict::Bad(_)) => ("only the server refuses", "?".to_owned()),
                (Verdict::Bad(reason), Verdict::Crashed) => (explained::HARM, explained::reason(reason)),
                (_, Verdict::Crashed) => (explained::HARM, "nothing is wrong".to_owned()),
                (Verdict::Crashed, _) => unreachable!("we do not"),
            };
            let class =
                classes.entry((class.0.to_owned(), format!("{:?}: {}", value.0, class.1))).or_default();
            class.count += 1;
            if class.examples.len() < 3 {
                class.examples.push(value);
            }
        }
    }
    println!(
        "{name}, seed {seed}: {count} damaged values; both take {}, both refuse {}, not asked {not_asked}",
        same[0], same[1]
    );
    let mut unexplained = 0;
    for ((direction, what), class) in &classes {
        let why = explained::why(direction, what);
        println!("  {:>6} {direction}: {what}: {}", class.count, why.unwrap_or("NOT EXPLAINED"));
        if why.is_none() {
            unexplained += 1;
            for value in &class.examples {
                println!("         {}", value.1.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
                println!("         {}", judge.last_words(value));
            }
        }
    }
    assert_eq!(unexplained, 0, "classes of differences that nothing explains");
    Ok(())
}

#[test]
fn values_for_redis_7_0() -> Result<()> {
    compare("redis-7.0", Server::redis(7, 0))
}

#[test]
fn values_for_redis_7_4() -> Result<()> {
    compare("redis-7.4", Server::redis(7, 4))
}

#[test]
fn values_for_redis_8_6() -> Result<()> {
    compare("redis-8.6", Server::redis(8, 6))
}

#[test]
fn values_for_valkey_9() -> Result<()> {
    compare("valkey-9", Server::valkey(9, 0))
}

#[test]
fn files_for_redis_7_0() -> Result<()> {
    files::compare("redis-7.0", Server::redis(7, 0))
}

#[test]
fn files_for_redis_7_4() -> Result<()> {
    files::compare("redis-7.4", Server::redis(7, 4))
}

#[test]
fn files_for_redis_8_6() -> Result<()> {
    files::compare("redis-8.6", Server::redis(8, 6))
}

#[test]
fn files_for_valkey_9() -> Result<()> {
    files::compare("valkey-9", Server::valkey(9, 0))
}

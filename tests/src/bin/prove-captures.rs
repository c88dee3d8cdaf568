//! Captures under writers, one after another, each proved from outside: `scripts/prove-captures.sh` runs it.
//!
//! usage: `prove-captures [CAPTURES [SEED]]`: so many captures over the servers on which each must be exact. Those
//! that may refuse, since they know no pause for writes, come in between and are counted apart. The same seed gives
//! the same cases; what a capture meets within one is up to the moment.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;

use anyhow::{Context, Result, bail};
use fastrand::Rng;
use replsync_tests::bootable::{Case, Verdict};
use replsync_tests::writer::Load;

/// On these every capture must be exact.
const EXACT: [&str; 9] = [
    "redis-6.2",
    "redis-7.0",
    "redis-7.2",
    "redis-7.4",
    "redis-8.0",
    "redis-8.6",
    "valkey-8.0",
    "valkey-8.1",
    "valkey-9",
];
/// On these it must be exact or refused.
const EXACT_OR_REFUSED: [&str; 2] = ["redis-5.0", "redis-6.0"];
/// Captures at a time. More would only slow each other down.
const AT_A_TIME: usize = 2;

fn main() -> ExitCode {
    match prove() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn prove() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let captures: usize =
        args.first().map_or(Ok(200), |text| text.parse()).context("CAPTURES is a number")?;
    let seed: u64 =
        args.get(1).map_or(Ok(fastrand::u32(..).into()), |text| text.parse()).context("SEED is a number")?;
    println!("{captures} captures, seed {seed}");
    let cases = cases(captures, seed);
    let (next, tally) = (Mutex::new(cases.iter().enumerate()), Mutex::new(Tally::default()));
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while !tally.lock().expect("no thread panics with it").is_over() {
                    let Some((number, case)) = next.lock().expect("no thread panics with it").next() else {
                        break;
                    };
                    let kept = format!("target/prove-captures/{}-{}", case.server, case.seed);
                    let verdict = case.run(Path::new(&kept));
                    tally.lock().expect("no thread panics with it").count(number + 1, case, verdict);
                }
            });
        }
    });
    tally.into_inner().expect("no thread panicked with it").total(captures, seed)
}

/// Every server in turn, each time with other keys, another rate and other settings.
fn cases(captures: usize, seed: u64) -> Vec<Case> {
    let mut rng = Rng::with_seed(seed);
    let (mut cases, mut exact) = (Vec::new(), 0);
    for &server in EXACT.iter().chain(&EXACT_OR_REFUSED).cycle() {
        let may_refuse = EXACT_OR_REFUSED.contains(&server);
        if !may_refuse {
            if exact == captures {
                break;
            }
            exact += 1;
        }
        cases.push(case(&mut rng, server, may_refuse));
    }
    cases
}

fn case(rng: &mut Rng, server: &str, may_refuse: bool) -> Case {
    let mut args = Vec::new();
    let mut set = |name: &str, value: &str| args.extend([format!("--{name}"), value.to_owned()]);
    // A priming that must change settings first, and put them back.
    match rng.u8(..4) {
        0 => set("repl-diskless-sync", "no"),
        1 => set("repl-diskless-sync-delay", "0"),
        _ => set("repl-diskless-sync-delay", "5"),
    }
    let verbatim = server == "redis-6.2" && rng.u8(..3) == 0;
    if verbatim {
        set("lua-replicate-commands", "no");
    }
    let rate = match (may_refuse, verbatim) {
        (true, _) => rng.u32(50..500),
        (false, true) => rng.u32(300..1_500),
        (false, false) => rng.u32(300..4_000),
    };
    Case {
        server: server.to_owned(),
        args,
        keys: rng.u32(0..12_000),
        rate,
        load: if verbatim { Load::WithVerbatimScripts } else { Load::ForCapture },
        seed: rng.u32(..).into(),
    }
}

/// What came out of the captures so far.
#[derive(Default)]
struct Tally {
    exact: usize,
    old_exact: usize,
    old_refused: usize,
    writes: u64,
    failed: Option<String>,
}

impl Tally {
    fn is_over(&self) -> bool {
        self.failed.is_some()
    }

    fn count(&mut self, number: usize, case: &Case, verdict: Result<Verdict>) {
        let may_refuse = EXACT_OR_REFUSED.contains(&&case.server[..]);
        let settings = case.args.join(" ");
        let head =
            format!("{number:3} {:10} seed {:10} {:4}/s {settings}", case.server, case.seed, case.rate);
        match verdict {
            Ok(Verdict::Equal(proof)) => {
                println!("{head}: {proof}");
                self.writes += proof.writes;
                *if may_refuse { &mut self.old_exact } else { &mut self.exact } += 1;
            }
            Ok(Verdict::Refused(why)) if may_refuse => {
                println!("{head}: refused: {}", why.lines().last().unwrap_or_default());
                self.old_refused += 1;
            }
            Ok(Verdict::Refused(why)) => self.fail(format!("{head}: REFUSED: {why}")),
            Ok(Verdict::Unequal { what, kept }) => {
                self.fail(format!("{head}: UNEQUAL: {what}\n  kept in {}", kept.display()));
            }
            Err(error) => self.fail(format!("{head}: FAILED: {error:#}")),
        }
    }

    fn fail(&mut self, what: String) {
        println!("{what}");
        self.failed.get_or_insert(what);
    }

    fn total(self, captures: usize, seed: u64) -> Result<()> {
        println!(
            "{} of {captures} captures equal under {} writes, 0 forks; 5.0 and 6.0: {} equal, {} refused; seed {seed}",
            self.exact, self.writes, self.old_exact, self.old_refused
        );
        if let Some(what) = self.failed {
            bail!("ended at: {}", what.lines().next().unwrap_or_default());
        }
        Ok(())
    }
}

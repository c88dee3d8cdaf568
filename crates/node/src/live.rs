//! What the commands that capture a live server have in common: progress, signals.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use indicatif::HumanBytes;
use replsync::capture::{Phase, Progress};
use tokio::sync::watch;

use crate::exit::Failure;
use crate::offline::Shown;
use crate::output::{count, counted};
use crate::progress::{BAR_EVERY, LINE_EVERY, clear, time_left};
use crate::signals::unless_stopped;

/// Does `work`, which tells its progress, and shows that.
///
/// SIGINT and SIGTERM drop the work at once, with exit code 4: a capture that is dropped leaves nothing behind but a pause
/// of writers that ends by itself.
pub async fn run<T, W: Future<Output = Result<T, Failure>>>(
    shown: Shown<'_>,
    work: impl FnOnce(watch::Sender<Progress>) -> W,
) -> Result<T, Failure> {
    let (sender, receiver) = watch::channel(Progress::default());
    let ended = unless_stopped(async {
        tokio::select! {
            ended = work(sender) => ended,
            never = show(&shown, receiver) => match never {},
        }
    })
    .await;
    clear(shown.bar).await;
    ended
}

/// Never completes.
async fn show(shown: &Shown<'_>, progress: watch::Receiver<Progress>) -> Infallible {
    if shown.output.no_progress {
        return std::future::pending().await;
    }
    let mut meter = Meter::new();
    let mut line: Option<(Phase, bool, Instant)> = None;
    loop {
        tokio::time::sleep(BAR_EVERY).await;
        let now = *progress.borrow();
        meter.take(&now);
        match &shown.bar {
            Some(bar) => {
                bar.set_message(meter.describe(&now));
                bar.tick();
            }
            None => {
                // Rounds and pauses take turns; that the link is down is worth a line at once.
                let phase = if now.phase == Phase::Cutting { Phase::Converging } else { now.phase };
                let is_news = line.is_none_or(|(shown, down, at)| {
                    shown != phase || down != now.link_down || at.elapsed() >= LINE_EVERY
                });
                if is_news {
                    line = Some((phase, now.link_down, Instant::now()));
                    shown.stderr.line(&meter.describe(&now));
                }
            }
        }
    }
}

/// What an operator can do about it.
pub const AT_REST: &str = "all is read  waiting for a write on the source (or its master) that says which database its stream is in";

/// Rates over the last seconds.
pub struct Meter {
    samples: Vec<(Instant, Progress)>,
}

impl Meter {
    /// Rates are taken over this time.
    const WINDOW: Duration = Duration::from_secs(5);

    pub fn new() -> Self {
        Self { samples: Vec::new() }
    }

    pub fn take(&mut self, progress: &Progress) {
        let now = Instant::now();
        self.samples.retain(|(at, _)| now.duration_since(*at) <= Self::WINDOW);
        self.samples.push((now, *progress));
    }

    /// Growth per second of what `of` reads; negative where it becomes less.
    fn rate(&self, of: impl Fn(&Progress) -> u64) -> f64 {
        match (self.samples.first(), self.samples.last()) {
            (Some((from, before)), Some((to, after))) if to > from => {
                (of(after) as f64 - of(before) as f64) / to.duration_since(*from).as_secs_f64()
            }
            _ => 0.0,
        }
    }

    /// One line for people.
    pub fn describe(&self, now: &Progress) -> String {
        let mut rest = String::new();
        if let Some(big) = now.big {
            let parts = match self.rate(|progress| progress.big.map_or(0, |big| big.parts)) {
                rate if rate >= 1.0 => format!(", {} elements/s", count(rate as u64)),
                _ => String::new(),
            };
            let values = counted(big.values, "big value", "big values");
            rest.push_str(&format!("  {values} under way{parts}"));
        }
        if now.spooled_bytes > 0 {
            rest.push_str(&format!("  {} in the spool", HumanBytes(now.spooled_bytes)));
        }
        if now.link_down {
            rest.push_str("  LINK DOWN, trying again");
        }
        let keys_rate = self.rate(|progress| progress.copied).max(0.0);
        match now.phase {
            Phase::Attaching => format!("attaching to the source's stream{rest}"),
            Phase::Copying => {
                let total = now.keys_total.max(now.copied);
                let percent = u128::from(now.copied) * 100 / u128::from(total.max(1));
                let (keys, total) = (count(now.copied), count(total));
                let left = time_left(now.keys_total.saturating_sub(now.copied), keys_rate);
                let bytes_rate = self.rate(|progress| progress.copied_bytes).max(0.0);
                let (rate, bytes) = (count(keys_rate as u64), HumanBytes(bytes_rate as u64));
                let dirty = count(now.dirty);
                format!(
                    "copying  {percent} %  {keys} of about {total} keys  {rate} keys/s  {bytes}/s{left}  {dirty} dirty{rest}"
                )
            }
            Phase::Converging | Phase::Cutting => {
                // What matters is how fast it becomes less, not how much is read.
                let left = time_left(now.dirty, -self.rate(|progress| progress.dirty));
                let name = if now.phase == Phase::Cutting { "cutting" } else { "converging" };
                let (rounds, dirty) = (counted(now.rounds, "round", "rounds"), count(now.dirty));
                let rate = count(keys_rate as u64);
                format!("{name}  {dirty} dirty  {rounds}  {rate} keys/s{left}  offset {}{rest}", now.offset)
            }
            Phase::AtRest => format!("{AT_REST}  offset {}{rest}", now.offset),
            Phase::Finishing => {
                format!("putting it together  {} keys copied{rest}", count(now.copied))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use replsync::capture::BigProgress;

    fn over(seconds: u64, from: Progress, to: Progress) -> String {
        let mut meter = Meter::new();
        let now = Instant::now();
        let before = now.checked_sub(Duration::from_secs(seconds)).unwrap();
        meter.samples = vec![(before, from), (now, to)];
        meter.describe(&to)
    }

    #[test]
    fn progress_says_how_far_it_is_and_for_how_long() {
        let at = |copied, dirty| Progress {
            phase: Phase::Copying,
            keys_total: 10_000,
            copied,
            copied_bytes: copied * 1024,
            dirty,
            ..Progress::default()
        };
        assert_eq!(
            over(2, at(0, 0), at(4_000, 7)),
            "copying  40 %  4,000 of about 10,000 keys  2,000 keys/s  1.95 MiB/s  0:03 left  7 dirty"
        );
        let converging = |dirty, offset| Progress {
            phase: Phase::Converging,
            rounds: 1,
            offset,
            big: Some(BigProgress { values: 1, parts: offset }),
            ..at(12_000, dirty)
        };
        assert_eq!(
            over(2, converging(500, 1_000), converging(100, 3_000)),
            "converging  100 dirty  1 round  0 keys/s  0:01 left  offset 3000  1 big value under way, 1,000 elements/s"
        );
        let down = Progress { link_down: true, ..Progress::default() };
        assert_eq!(over(1, down, down), "attaching to the source's stream  LINK DOWN, trying again");
    }
}

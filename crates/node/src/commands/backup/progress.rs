//! How far a backup is, for people.

use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar};
use replsync::backup::{Phase, Progress};
use replsync::capture;
use tokio::sync::watch;

use crate::live;
use crate::output::count;
use crate::progress::{BAR_EVERY, LINE_EVERY, time_left};
use crate::stderr::Stderr;

/// Shows progress until the other side is dropped. A bar is left as it is.
pub async fn show(
    mut progress: watch::Receiver<Progress>,
    no_progress: bool,
    stderr: Stderr,
    bar: Option<ProgressBar>,
) {
    if no_progress {
        return;
    }
    let (mut meter, mut capture) = (Meter::default(), live::Meter::new());
    let mut shown = None;
    let mut line_at = Instant::now();
    while progress.has_changed().is_ok() {
        let now = *progress.borrow_and_update();
        meter.take(&now);
        capture.take(&now.capture);
        let describe = || match now.phase {
            Phase::Capturing => capture.describe(&now.capture),
            _ => meter.describe(&now),
        };
        match &bar {
            Some(bar) => {
                bar.set_message(describe());
                bar.tick();
            }
            // A change of phase is worth a line at once.
            None if shown != Some(phase(&now)) || line_at.elapsed() >= LINE_EVERY => {
                (shown, line_at) = (Some(phase(&now)), Instant::now());
                stderr.line(&describe());
            }
            None => {}
        }
        tokio::time::sleep(BAR_EVERY).await;
    }
}

/// The cut is a part of the last round, and comes and goes.
fn phase(progress: &Progress) -> (Phase, capture::Phase) {
    let capture = match progress.capture.phase {
        capture::Phase::Cutting => capture::Phase::Converging,
        phase => phase,
    };
    (progress.phase, capture)
}

/// Rates over the last seconds.
#[derive(Default)]
struct Meter {
    samples: Vec<(Instant, Progress)>,
}

impl Meter {
    /// Rates are taken over this time.
    const WINDOW: Duration = Duration::from_secs(5);

    fn take(&mut self, progress: &Progress) {
        let now = Instant::now();
        // Another phase counts other things.
        if self.samples.last().is_some_and(|(_, last)| phase(last) != phase(progress)) {
            self.samples.clear();
        }
        self.samples.retain(|(at, _)| now.duration_since(*at) <= Self::WINDOW);
        self.samples.push((now, *progress));
    }

    /// Growth per second of what `of` reads; less than nothing where it shrinks.
    fn rate(&self, of: impl Fn(&Progress) -> u64) -> f64 {
        match (self.samples.first(), self.samples.last()) {
            (Some((from, before)), Some((to, after))) if to > from => {
                (of(after) as f64 - of(before) as f64) / to.duration_since(*from).as_secs_f64()
            }
            _ => 0.0,
        }
    }

    /// One line for people.
    fn describe(&self, progress: &Progress) -> String {
        match progress.phase {
            Phase::Capturing => "capturing".to_owned(),
            Phase::Waiting => "waiting for the source's RDB (it forks)".to_owned(),
            Phase::Receiving => self.bytes("receiving", progress.bytes, progress.bytes_total, |p| p.bytes),
            Phase::Writing => {
                let rate = self.rate(|progress| progress.keys_written);
                let left = time_left(progress.keys.saturating_sub(progress.keys_written), rate);
                let (done, keys) = (count(progress.keys_written), count(progress.keys));
                let percent = percent(progress.keys_written, progress.keys);
                format!("writing  {percent} %  {done} of {keys} keys{left}")
            }
            Phase::Verifying => {
                let (done, total) = (progress.bytes_verified, progress.bytes_total);
                self.bytes("reading it back", done, total, |progress| progress.bytes_verified)
            }
            Phase::Publishing => "publishing".to_owned(),
        }
    }

    fn bytes(&self, what: &str, done: u64, total: Option<u64>, of: impl Fn(&Progress) -> u64) -> String {
        let rate = self.rate(of).max(0.0);
        let (shown, per_second) = (HumanBytes(done), HumanBytes(rate as u64));
        match total {
            Some(total) => {
                let (left, percent) = (time_left(total.saturating_sub(done), rate), percent(done, total));
                format!("{what}  {percent} %  {shown} of {}  {per_second}/s{left}", HumanBytes(total))
            }
            None => format!("{what}  {shown}  {per_second}/s"),
        }
    }
}

fn percent(done: u64, total: u64) -> u128 {
    (u128::from(done) * 100 / u128::from(total.max(1))).min(100)
}

//! What the commands that read files have in common: work on threads of its own, progress in bytes, signals.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

use crate::args::Output;
use crate::exit::{ExitCode, Failure};
use crate::progress::{BAR_EVERY, LINE_EVERY, clear, time_left};
use crate::signals::unless_stopped;
use crate::stderr::Stderr;

/// Where progress goes.
pub struct Shown<'a> {
    pub output: &'a Output,
    pub stderr: &'a Stderr,
    pub bar: Option<ProgressBar>,
}

/// How far the work is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bytes {
    /// What is done, in a word or two: `verifying`, `verifying dump.rdb`.
    pub what: String,
    /// Bytes read so far.
    pub done: u64,
    /// Bytes to read; nothing where nobody knows (a pipe). It may grow, when a file is to be read again.
    pub total: Option<u64>,
}

/// Does `work` on a thread of its own, and shows what `look` sees of it.
///
/// SIGINT and SIGTERM end it at once with exit code 4, wherever the work is: a read from a file system that hangs
/// holds nothing up. So the work must leave nothing behind that a reader could take for whole: temporary files are
/// unlinked as soon as they are open, and files get their names when they are complete.
pub async fn run<T: Send + 'static>(
    shown: Shown<'_>,
    look: impl Fn() -> Bytes,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    let ended = unless_stopped(async {
        let work = tokio::task::spawn_blocking(work);
        tokio::select! {
            ended = work => ended.map_err(|error| Failure {
                message: format!("a fault in replsync-node, please report it: {error}"),
                code: ExitCode::Unsafe,
            }),
            never = show(&shown, look) => match never {},
        }
    })
    .await;
    clear(shown.bar).await;
    ended
}

/// Never completes.
async fn show(shown: &Shown<'_>, look: impl Fn() -> Bytes) -> Infallible {
    if shown.output.no_progress {
        return std::future::pending().await;
    }
    if let Some(bar) = &shown.bar
        && let Ok(style) = ProgressStyle::with_template("{spinner} [{bar:24}] {wide_msg}")
    {
        bar.set_style(style.progress_chars("=> "));
    }
    let mut meter = Meter::default();
    let mut line_at = Instant::now();
    loop {
        tokio::time::sleep(BAR_EVERY).await;
        let now = look();
        meter.take(now.done);
        match &shown.bar {
            Some(bar) => {
                bar.set_length(now.total.unwrap_or(0));
                bar.set_position(now.total.map_or(0, |total| now.done.min(total)));
                bar.set_message(describe(&now, meter.rate()));
                bar.tick();
            }
            None if line_at.elapsed() >= LINE_EVERY => {
                line_at = Instant::now();
                shown.stderr.line(&describe(&now, meter.rate()));
            }
            None => {}
        }
    }
}

/// One line for people.
fn describe(now: &Bytes, rate: f64) -> String {
    let (what, done, per_second) = (&now.what, HumanBytes(now.done), HumanBytes(rate as u64));
    match now.total {
        Some(total) => {
            let percent = (u128::from(now.done) * 100 / u128::from(total.max(1))).min(100);
            let left = time_left(total.saturating_sub(now.done), rate);
            format!("{what}  {percent} %  {done} of {}  {per_second}/s{left}", HumanBytes(total))
        }
        None => format!("{what}  {done}  {per_second}/s"),
    }
}

/// The rate over the last seconds.
#[derive(Default)]
struct Meter {
    samples: Vec<(Instant, u64)>,
}

impl Meter {
    const WINDOW: Duration = Duration::from_secs(5);

    fn take(&mut self, done: u64) {
        let now = Instant::now();
        self.samples.retain(|(at, _)| now.duration_since(*at) <= Self::WINDOW);
        self.samples.push((now, done));
    }

    /// Bytes per second.
    fn rate(&self) -> f64 {
        match (self.samples.first(), self.samples.last()) {
            (Some((from, before)), Some((to, after))) if to > from => {
                after.saturating_sub(*before) as f64 / to.duration_since(*from).as_secs_f64()
            }
            _ => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_says_how_far_it_is_and_for_how_long() {
        let at = |done, total| Bytes { what: "verifying".to_owned(), done, total };
        let text = describe(&at(256 << 20, Some(1 << 30)), f64::from(128 << 20));
        assert_eq!(text, "verifying  25 %  256.00 MiB of 1.00 GiB  128.00 MiB/s  0:06 left");
        assert_eq!(describe(&at(1024, None), 512.0), "verifying  1.00 KiB  512 B/s");
        assert_eq!(describe(&at(0, Some(0)), 0.0), "verifying  0 %  0 B of 0 B  0 B/s");
    }
}

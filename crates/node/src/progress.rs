//! Progress: a bar on a terminal, a plain line every 10 s elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use replsync::clock::now_ms;
use replsync::migrate::{Phase, Progress};
use tokio::sync::watch;

use crate::args::Output;
use crate::live;
use crate::output::{count, counted};
use crate::stderr::Stderr;

pub const BAR_EVERY: Duration = Duration::from_millis(250);
pub const LINE_EVERY: Duration = Duration::from_secs(10);

/// A bar, where standard error is a terminal and progress is wanted.
pub fn bar(output: &Output) -> Option<ProgressBar> {
    let wanted = !output.no_progress && std::io::stderr().is_terminal();
    wanted.then(|| {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
            bar.set_style(style);
        }
        bar
    })
}

/// Takes the bar away. It goes before the result comes, unless it cannot: a terminal may be held up.
pub async fn clear(bar: Option<ProgressBar>) {
    let cleared = tokio::task::spawn_blocking(move || bar.map(|bar| bar.finish_and_clear()));
    let _ = tokio::time::timeout(Duration::from_secs(1), cleared).await;
}

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
    let mut meter = Meter::new();
    let mut shown = None;
    let mut line_at = Instant::now();
    while progress.has_changed().is_ok() {
        let now = *progress.borrow_and_update();
        meter.take(&now);
        match &bar {
            Some(bar) => {
                bar.set_message(meter.describe(&now));
                bar.tick();
            }
            // A change of phase is worth a line at once; rounds and pauses take turns.
            None if shown.map(settled) != Some(settled(now.phase)) || line_at.elapsed() >= LINE_EVERY => {
                (shown, line_at) = (Some(now.phase), Instant::now());
                stderr.line(&meter.describe(&now));
            }
            None => {}
        }
        tokio::time::sleep(BAR_EVERY).await;
    }
}

fn settled(phase: Phase) -> Phase {
    if phase == Phase::Cutting { Phase::Converging } else { phase }
}

/// Rates over the last seconds.
struct Meter {
    samples: Vec<(Instant, Progress)>,
}

impl Meter {
    /// Rates are taken over this time.
    const WINDOW: Duration = Duration::from_secs(5);

    fn new() -> Self {
        Self { samples: Vec::new() }
    }

    fn take(&mut self, progress: &Progress) {
        let now = Instant::now();
        // Another phase counts other things.
        if self.samples.last().is_some_and(|(_, last)| last.phase != progress.phase) {
            self.samples.clear();
        }
        self.samples.retain(|(at, _)| now.duration_since(*at) <= Self::WINDOW);
        self.samples.push((now, *progress));
    }

    /// Growth per second of what `of` reads.
    fn rate(&self, of: impl Fn(&Progress) -> u64) -> f64 {
        match (self.samples.first(), self.samples.last()) {
            (Some((from, before)), Some((to, after))) if to > from => {
                of(after).saturating_sub(of(before)) as f64 / to.duration_since(*from).as_secs_f64()
            }
            _ => 0.0,
        }
    }

    /// Fall per second of what `of` reads.
    fn fall(&self, of: impl Fn(&Progress) -> u64) -> f64 {
        self.rate(|progress| u64::MAX - of(progress))
    }

    /// One line for people.
    fn describe(&self, progress: &Progress) -> String {
        let down = match (progress.link_down, progress.throttled) {
            (true, _) => "  LINK DOWN, trying again",
            (_, true) => "  waiting for the target's replicas",
            _ => "",
        };
        let spooled = match progress.spooled_bytes {
            0 => String::new(),
            bytes => format!("  {} in the spool", HumanBytes(bytes)),
        };
        match progress.phase {
            Phase::Examining => "looking at both servers".to_owned(),
            Phase::Waiting => format!("waiting for the source's RDB{down}"),
            Phase::Attaching => format!("attaching to the source's stream{down}"),
            Phase::Copying if progress.keys_read > 0 => {
                let read_rate = self.rate(|progress| progress.keys_read);
                let bytes_rate = HumanBytes(self.rate(|progress| progress.bytes_read) as u64);
                let total = progress.keys_total.max(progress.keys_read);
                let left = time_left(total - progress.keys_read, read_rate);
                let (read, total, rate) = (count(progress.keys_read), count(total), count(read_rate as u64));
                format!(
                    "copying  {read} of about {total} keys  {rate} keys/s  {bytes_rate}/s{left}{}{spooled}{down}",
                    captured(progress)
                )
            }
            Phase::Converging | Phase::Cutting => {
                let name = if progress.phase == Phase::Cutting { "cutting" } else { "converging" };
                // What matters is how fast it becomes less, not how much is read.
                let left = time_left(progress.dirty, self.fall(|progress| progress.dirty));
                let rounds = counted(progress.rounds, "round", "rounds");
                format!("{name}{}  {rounds}{left}{spooled}{down}", captured(progress))
            }
            Phase::AtRest => format!("{}{spooled}{down}", live::AT_REST),
            Phase::Finishing => format!("copying big values{spooled}{down}"),
            Phase::Copying => {
                let (keys, keys_rate) = (count(progress.keys), self.rate(|progress| progress.keys));
                let bytes = HumanBytes(progress.rdb_bytes);
                let bytes_rate = HumanBytes(self.rate(|progress| progress.rdb_bytes) as u64);
                let total = count(progress.keys_total.max(progress.keys));
                let left = time_left(progress.keys_total.saturating_sub(progress.keys), keys_rate);
                let rate = count(keys_rate as u64);
                format!(
                    "copying  {keys} of about {total} keys  {rate} keys/s  {bytes}  {bytes_rate}/s{left}{spooled}{down}"
                )
            }
            Phase::CatchingUp | Phase::Following => {
                let name = if progress.phase == Phase::Following { "following" } else { "catching up" };
                let (commands, rate) = (count(progress.commands), self.rate(|progress| progress.commands));
                let (lag, offset) = (HumanBytes(progress.lag_bytes()), progress.applied_offset);
                let seconds = progress.lag_ms(now_ms()) as f64 / 1000.0;
                let left = match progress.phase {
                    Phase::Following => String::new(),
                    _ => time_left(progress.lag_bytes(), self.rate(|progress| progress.applied_offset)),
                };
                let rate = count(rate as u64);
                format!(
                    "{name}  {commands} commands  {rate}/s  lag {lag}, {seconds:.1} s{left}  offset {offset}{spooled}{down}"
                )
            }
            Phase::Verifying => {
                let (keys, rate) =
                    (count(progress.keys_verified), self.rate(|progress| progress.keys_verified));
                let left = time_left(progress.keys_total.saturating_sub(progress.keys_verified), rate);
                let (rate, differing) = (count(rate as u64), count(progress.keys_differing));
                format!("verifying  {keys} keys  {rate} keys/s{left}  {differing} differ so far{down}")
            }
            Phase::Sweeping => {
                let (keys, rate) = (count(progress.keys_swept), self.rate(|progress| progress.keys_swept));
                format!("putting expiries right  {keys} keys  {} keys/s", count(rate as u64))
            }
        }
    }
}

/// What a capture still has before it.
fn captured(progress: &Progress) -> String {
    let mut text = format!("  {} dirty", count(progress.dirty));
    if progress.big_values > 0 {
        text += &format!("  {} under way", counted(progress.big_values, "big value", "big values"));
    }
    text
}

pub fn time_left(left: u64, rate: f64) -> String {
    if left == 0 || rate < 1.0 {
        return String::new();
    }
    let seconds = (left as f64 / rate).ceil() as u64;
    format!("  {}:{:02} left", seconds / 60, seconds % 60)
}

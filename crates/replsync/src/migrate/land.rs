//! Landing: the expiries on the target, out of reach until now, are put right, and it stays as it is.
//!
//! From then on the target expires keys by its own clock, so nothing may follow that renews them. While the source is
//! quiet, what came meanwhile is looked at: deletions do no harm. Anything else takes the job up again, with
//! expiries out of reach once more, unless something has expired by then.

use std::time::Duration;

use super::job::{Job, Stage};
use super::{Error, Phase};
use crate::apply::{Direction, Sweeper, Swept, Throttle};
use crate::clock::now_signed_ms;
use crate::endpoint::{Client, Info};
use crate::server::Server;

/// A page of a sweep may take the target this long.
const SWEEP: Duration = Duration::from_secs(60);

impl Job {
    /// Takes the shift off all expiries. Nothing is applied any more but deletions; nothing may be on its way.
    pub(super) async fn land(&mut self) -> Result<(), Error> {
        self.land_having_all_until(0).await
    }

    /// The same, where the target has all that the source wrote until then by its clock.
    async fn land_having_all_until(&mut self, renewable_from_ms: i64) -> Result<(), Error> {
        self.stage = Stage::Landed;
        self.done.swept = None;
        self.enter(Phase::Sweeping);
        let swept = self.sweep(Direction::Off, renewable_from_ms).await?;
        tracing::info!(keys = swept.keys, fields = swept.fields, "expiries are put right");
        self.done.swept = Some(swept);
        Ok(())
    }

    /// Lands while the source is quiet; true when it still was so afterwards, and the target has everything. Else the
    /// stream is followed again.
    pub(super) async fn land_if_quiet(&mut self, all_until_ms: i64) -> Result<bool, Error> {
        self.settle().await?;
        self.land_having_all_until(all_until_ms).await?;
        if self.fetch_deletions().await? {
            return Ok(true);
        }
        tracing::warn!("the source was written to while expiries were put right: following again");
        self.settle().await?;
        let soonest_ms = self.done.swept.take().and_then(|swept| swept.soonest_ms);
        self.sweep(Direction::On, 0).await?;
        let now_ms = clock_ms(&self.look_at_target().await?).max(now_signed_ms());
        // It was in the target's reach. Whether it is gone, counters do not tell: expired fields are counted when they are
        // removed, some time later.
        if soonest_ms.is_some_and(|soonest_ms| soonest_ms <= now_ms) {
            return Err(Error::ExpiredMeanwhile);
        }
        self.stage = Stage::Applying;
        self.disturbed = false;
        self.enter(Phase::Following);
        if let Some(held) = self.held.take() {
            self.take(held)?;
        }
        Ok(false)
    }

    /// Applies what the source has deleted by now, which does no harm after the landing: most often what has expired
    /// there. False when it wrote anything else, which then waits.
    pub(super) async fn fetch_deletions(&mut self) -> Result<bool, Error> {
        let goal = self.source_now().await?.position.offset;
        while !self.disturbed && self.received < goal {
            self.step(None, true).await?;
        }
        self.settle().await?;
        if let Some(swept) = self.done.swept.as_mut().filter(|_| !self.disturbed) {
            // The keys that the source could not be asked for are deleted by now.
            swept.inexact = if swept.without_source { swept.inexact } else { 0 };
        }
        if let Some(swept) = self.done.swept.as_mut().filter(|_| self.disturbed)
            && sends_relative_expiries(self.source.server)
        {
            // What was read from the source may be later than what is applied.
            swept.inexact = swept.keys;
        }
        Ok(!self.disturbed)
    }

    /// Reads expiries again from a source before 7.0: until then they count from when their commands arrived, which
    /// behind a long copy is much too late.
    pub(super) async fn read_expiries_again(&mut self) -> Result<(), Error> {
        if sends_relative_expiries(self.source.server) {
            self.settle().await?;
            self.sweep(Direction::Again, 0).await?;
        }
        Ok(())
    }

    async fn sweep(&mut self, direction: Direction, renewable_from_ms: i64) -> Result<Swept, Error> {
        let (timeout, evicted) = (self.options.timeout, self.evicted);
        let mut client = Client::connect(&self.to, timeout).await?;
        client.set_limit(SWEEP);
        let mut throttle = Throttle::new(self.to.clone(), timeout, evicted);
        let mut sweeper = Sweeper::new(&mut client, self.target.server(), &mut throttle, direction)
            .renewable_from(renewable_from_ms);
        let mut source;
        if direction != Direction::On && sends_relative_expiries(self.source.server) {
            source = Client::connect(&self.from, timeout).await;
            if let Err(error) = &source {
                tracing::warn!("the source cannot be asked again when its keys expire: {error}");
            }
            sweeper = sweeper.reading_again_from(source.as_mut().ok());
        }
        let progress = self.progress.clone();
        let seen = |keys| progress.send_modify(|progress| progress.keys_swept = keys);
        Ok(sweeper.sweep(seen).await?)
    }

    pub(super) async fn look_at_target(&mut self) -> Result<Info, Error> {
        let mut client = Client::connect(&self.to, self.options.timeout).await?;
        Ok(client.info().await?)
    }
}

/// Before 7.0 servers send expiries as their clients said them.
pub(super) fn sends_relative_expiries(source: Server) -> bool {
    !source.has((7, 0), None)
}

/// A server's clock when it was asked, in milliseconds since the epoch; ours where it does not say (before 6.2).
pub(super) fn clock_ms(info: &Info) -> i64 {
    let said = info.number("server_time_usec").and_then(|micros| i64::try_from(micros / 1000).ok());
    said.unwrap_or_else(now_signed_ms)
}

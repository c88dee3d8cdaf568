//! Landing: the expiries on the target, out of reach until now, are put right, and it stays as it is.
//!
//! From then on the target expires keys by its own clock, so nothing may follow that renews them. While the source is
//! quiet, what came meanwhile is looked at: deletions do no harm. Anything else takes the job up again, with
//! expiries out of reach once more, unless something has expired by then.

use std::time::Duration;

use super::job::{Job, Stage};
use super::{Error, Phase};
use crate::apply::{Direction, Sweeper, Swept, Throttle};
use crate::clock::now_ms;
use crate::endpoint::{Client, Info};
use crate::server::Server;

/// A page of a sweep may take the target this long.
const SWEEP: Duration = Duration::from_secs(60);

impl Job {
    /// Takes the shift off all expiries. Nothing is applied any more but deletions; nothing may be on its way.
    pub(super) async fn land(&mut self) -> Result<(), Error> {
        self.stage = Stage::Landed;
        self.done.swept = None;
        self.enter(Phase::Sweeping);
        let swept = self.sweep(Direction::Off).await?;
        tracing::info!(keys = swept.keys, fields = swept.fields, "expiries are put right");
        self.done.swept = Some(swept);
        Ok(())
    }

    /// Lands while the source is quiet; true when it still was so afterwards, and the target has everything. Else the
    /// stream is followed again.
    pub(super) async fn land_if_quiet(&mut self, quiet: Duration) -> Result<bool, Error> {
        let quiet_since_ms = now_ms().saturating_sub(u64::try_from(quiet.as_millis()).unwrap_or(u64::MAX));
        let before = Expired::of(&self.look_at_target().await?);
        self.settle().await?;
        self.land().await?;
        let goal = self.source_now().await?.position.offset;
        while !self.disturbed && self.applied.borrow().offset.is_none_or(|offset| offset < goal) {
            self.step(None, true).await?;
        }
        if !self.disturbed {
            return Ok(true);
        }
        tracing::warn!("the source was written to while expiries were put right: following again");
        self.settle().await?;
        let gone_ms = self.done.swept.take().and_then(|swept| swept.gone_ms).unwrap_or(0);
        self.sweep(Direction::On).await?;
        let after = Expired::of(&self.look_at_target().await?);
        // What was past before the source fell quiet cannot have been renewed since.
        if after != before || u64::try_from(gone_ms).is_ok_and(|gone_ms| gone_ms >= quiet_since_ms) {
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

    async fn sweep(&mut self, direction: Direction) -> Result<Swept, Error> {
        let (timeout, evicted) = (self.options.timeout, self.evicted);
        let mut client = Client::connect(&self.to, timeout).await?;
        client.set_limit(SWEEP);
        let mut throttle = Throttle::new(self.to.clone(), timeout, evicted);
        let mut sweeper = Sweeper::new(&mut client, self.target.server(), &mut throttle, direction);
        let mut source;
        if sends_relative_expiries(self.source.server) {
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

/// What a server has expired by itself so far: keys, and hash fields (`expired_subkeys` in Redis from 7.4 on,
/// `expired_fields` in Valkey 9).
#[derive(PartialEq, Eq)]
struct Expired([Option<u64>; 3]);

impl Expired {
    fn of(info: &Info) -> Self {
        Self(["expired_keys", "expired_subkeys", "expired_fields"].map(|name| info.number(name)))
    }
}

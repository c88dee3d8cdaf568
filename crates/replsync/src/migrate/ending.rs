//! How a job ends: well, told to stop, or after a failure.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::job::{Job, Stage};
use super::{Ended, Error, Report};
use crate::apply::{self, Follower};
use crate::psync::Position;

/// Told to stop, the job still fetches what the source has written by then, for at most this long.
const DRAIN: Duration = Duration::from_secs(5);
/// Then it waits for the target's answers for at most this long.
const LAST_ANSWERS: Duration = Duration::from_secs(10);

impl Job {
    /// Fetches what is on its way, puts the expiries right, looks at the target once more, and reports.
    pub(super) async fn end(&mut self, ended: Ended) -> Result<Report, Error> {
        if ended == Ended::Stopped && self.follower.is_some() && self.stage == Stage::Applying {
            self.drain().await?;
            if self.done.caught_up {
                self.land().await?;
                self.fetch_last_deletions().await?;
            }
        } else if ended == Ended::Stopped && self.stage == Stage::Landed {
            // Nobody has looked yet what was written since the landing began.
            if self.done.swept.is_none() {
                self.land().await?;
            }
            self.done.caught_up &= self.fetch_last_deletions().await?;
        }
        let answered = self.close().await?;
        let applied = *self.applied.borrow();
        // The first offset is answered for behind the last key of the copy.
        let position =
            self.done.start.zip(applied.offset).map(|(start, offset)| Position { offset, ..start });
        if ended == Ended::Stopped {
            self.done.caught_up &= answered;
        }
        if position.is_some() && self.done.swept.is_none() {
            if !answered {
                return Err(Error::StillShifted);
            }
            self.land().await?;
        }
        self.missed = self.disturbed;
        (self.stage, self.disturbed, self.held) = (Stage::Over, false, None);
        if self.done.caught_up && self.done.verification.is_none() {
            self.verify_if_asked().await?;
        }
        self.unpause_writers().await;
        self.check_target().await?;
        Ok(self.report(ended, position))
    }

    /// Told to stop: applies what the source had written by then.
    async fn drain(&mut self) -> Result<(), Error> {
        let began = Instant::now();
        let drained = timeout(DRAIN, async {
            self.pause_writers().await?;
            let goal = self.source_now().await?;
            self.follow_to(goal.position.offset).await?;
            self.clear_doubts().await?;
            self.settle().await
        });
        self.done.caught_up = match drained.await {
            Ok(Ok(())) => true,
            Ok(Err(error @ (Error::Apply(_) | Error::FullResyncAgain { .. }))) => return Err(error),
            Ok(Err(_)) | Err(_) => false,
        };
        tracing::debug!(took_ms = began.elapsed().as_millis() as u64, "drained");
        Ok(())
    }

    /// What the source has deleted while the target landed. True when it is known that it did nothing else.
    async fn fetch_last_deletions(&mut self) -> Result<bool, Error> {
        match timeout(DRAIN, self.fetch_deletions()).await {
            Ok(Err(error @ Error::Apply(_))) => Err(error),
            Ok(Err(error)) => {
                tracing::warn!("what the source has deleted meanwhile is left out: {error}");
                Ok(false)
            }
            Ok(Ok(all)) => Ok(all),
            Err(_) => {
                tracing::warn!("what the source has deleted meanwhile is left out: it took too long");
                Ok(false)
            }
        }
    }

    /// Sends nothing more. Whether all that was sent is answered: a target that does not answer is not waited for.
    async fn close(&mut self) -> Result<bool, Error> {
        self.batches = None;
        self.waiting.clear();
        match timeout(LAST_ANSWERS, self.pipeline.finish()).await {
            Ok(finished) => Ok(finished.map(|()| true)?),
            Err(_) => Ok(false),
        }
    }

    fn report(&mut self, ended: Ended, position: Option<Position>) -> Report {
        let applied = *self.applied.borrow();
        let mut copied = self.done.copied.unwrap_or_default();
        if position.is_none() {
            copied.keys = applied.keys;
        }
        let capture = self.done.capture.take();
        let forks = self.source.number("total_forks").zip(self.done.forks);
        let forks = forks.map(|(before, after)| after.saturating_sub(before));
        Report {
            ended,
            caught_up: self.done.caught_up,
            copied_all: position.is_some(),
            verification: self.done.verification.take(),
            swept: self.done.swept,
            fields_in_doubt: self.in_doubt(),
            spooled_bytes_max: self.options.spool.budget.gauge().bytes_max(),
            paused: self.done.paused,
            from: self.source.server,
            to: self.target.server(),
            position,
            commands: applied.commands,
            copied,
            dropped: self.follower.as_ref().map(Follower::dropped).unwrap_or_default(),
            reconnects: self.done.reconnects,
            restarts: self.done.restarts,
            method: self.options.method,
            forks_caused: capture.as_ref().map_or(forks, |capture| Some(capture.forks_caused)),
            forks_other: capture.as_ref().and_then(|capture| capture.forks_other),
            capture,
            took: self.started.elapsed(),
        }
    }

    /// After a failure: ends our pause of the source, and puts right what expiries can be put right.
    pub(super) async fn leave(&mut self, error: &Error) {
        self.unpause_writers().await;
        if self.done.copied.is_none() && self.done.start.is_some() {
            tracing::warn!(
                "the target holds a part of the copy, with shifted expiries: --flush-target starts anew"
            );
        }
        let is_known_shifted = matches!(error, Error::StillShifted);
        if self.done.copied.is_none() || self.done.swept.is_some() || is_known_shifted {
            return;
        }
        let landed = match self.close().await {
            Ok(false) => Err(Error::StillShifted),
            Ok(true) | Err(_) => self.land().await,
        };
        match landed {
            Ok(()) => tracing::warn!("the expiries on the target were put right all the same"),
            Err(error) => tracing::warn!("the expiries on the target are still shifted: {error}"),
        }
    }

    /// A target that evicts has lost keys without an error, and one that has become a replica all of them.
    async fn check_target(&mut self) -> Result<(), Error> {
        match self.look_at_target().await {
            Ok(info) => Ok(apply::check_target(&info, self.evicted)?),
            Err(error) => {
                tracing::warn!("nobody knows whether the target still holds what was written there: {error}");
                Ok(())
            }
        }
    }
}

//! Verifying: both sides compared key by key, while the stream is applied.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::job::{Job, Stage};
use super::{Error, Phase, Verdict, Verification};
use crate::compare::{self, Comparison};

/// Differing keys are read again this often.
const AGAIN_EVERY: Duration = Duration::from_millis(200);
/// … and so often without their number falling, before that is taken for an answer.
const ROUNDS_IN_VAIN_MAX: u32 = 50;
/// So many differences are named.
const DIFFERENCES_MAX: usize = 50_000;
/// A difference that is still there so often in a row while nobody writes is one.
const QUIET_ROUNDS: u32 = 2;

impl Job {
    /// Compares both sides. What differs because it is on its way is read again, for at most `limit`.
    pub(super) async fn verify(&mut self, limit: Duration) -> Result<Verification, Error> {
        let before = self.progress.borrow().phase;
        self.enter(Phase::Verifying);
        // Once landed, a shift that is left is a difference.
        let target_shifted = self.stage == Stage::Applying;
        let options = compare::Options {
            timeout: self.options.timeout,
            target_shifted,
            kept_max: DIFFERENCES_MAX,
            digests: true,
            ..compare::Options::default()
        };
        let mut comparison = Comparison::connect(&self.from, &self.to, options).await?;
        let progress = self.progress.clone();
        let seen = move |pass: compare::Pass| {
            progress.send_modify(|progress| {
                progress.keys_verified = pass.compared;
                progress.keys_differing = pass.differing;
            });
        };
        self.alongside(comparison.first_pass(&seen)).await??;
        let verdict = self.read_again(&mut comparison, limit, seen).await?;
        self.enter(before);
        Ok(Verification {
            verdict,
            keys: comparison.compared(),
            precision: comparison.precision(),
            more: comparison.not_kept(),
            digests: comparison.digests(),
            differences: comparison.into_differences(),
        })
    }

    /// Reads the differing keys again until none is left, or it is clear that some stay.
    async fn read_again(
        &mut self,
        comparison: &mut Comparison,
        limit: Duration,
        seen: impl Fn(compare::Pass),
    ) -> Result<Verdict, Error> {
        let began = Instant::now();
        let (mut least, mut in_vain, mut quiet_rounds) = (usize::MAX, 0, 0);
        loop {
            let writes = self.writes;
            // All that the source had when a key was read must be applied before it is read again.
            self.catch_what_is_on_its_way().await?;
            self.clear_doubts().await?;
            let differing = self.alongside(comparison.again()).await??;
            self.progress.send_modify(|progress| progress.keys_differing = differing as u64);
            self.catch_what_is_on_its_way().await?;
            if differing == 0 && comparison.is_equal() {
                return Ok(Verdict::Equal);
            }
            // Of differences that there was no room for, only another look at everything can tell.
            if differing == 0 && comparison.not_kept() > 0 && began.elapsed() < limit {
                self.alongside(comparison.first_pass(&seen)).await??;
                (least, in_vain, quiet_rounds) = (usize::MAX, 0, 0);
                continue;
            }
            quiet_rounds = if self.writes == writes { quiet_rounds + 1 } else { 0 };
            if quiet_rounds >= QUIET_ROUNDS {
                // What the target lacks because the job is over may come and go like what is on its way.
                return Ok(if self.missed { Verdict::DiffersUnderWrites } else { Verdict::Differs });
            }
            in_vain = if differing < least { 0 } else { in_vain + 1 };
            least = least.min(differing);
            if began.elapsed() >= limit || in_vain >= ROUNDS_IN_VAIN_MAX {
                return Ok(Verdict::DiffersUnderWrites);
            }
            self.alongside(sleep(AGAIN_EVERY)).await?;
        }
    }

    /// Takes in what the source has sent by now, and applies it where anything still is.
    async fn catch_what_is_on_its_way(&mut self) -> Result<(), Error> {
        let goal = self.source_now().await?.position.offset;
        match self.stage {
            Stage::Applying => self.follow_to(goal).await,
            Stage::Landed | Stage::Over => {
                while self.received < goal {
                    self.step(None, true).await?;
                }
                Ok(())
            }
        }
    }

    /// Waits for `other` while the stream is followed.
    pub(super) async fn alongside<T>(&mut self, other: impl Future<Output = T>) -> Result<T, Error> {
        tokio::pin!(other);
        loop {
            tokio::select! {
                done = &mut other => return Ok(done),
                stepped = self.step(None, true) => stepped?,
            }
        }
    }
}

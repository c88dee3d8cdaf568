//! Rounds over what was written meanwhile, and the cut.

use std::time::{Duration, Instant};

use super::mend::is_transient;
use super::pause::Pause;
use super::run::Run;
use super::{Error, Phase};
use crate::endpoint;

/// A pause is asked for when what is left should take at most this part of it.
const PART_OF_PAUSE: u32 = 4;
/// So often writers are paused though more is left than a pause should take, because rounds get no smaller.
const BOLD_PAUSES_MAX: u32 = 10;
/// For so long writers are left alone after a pause that came to nothing, in pauses.
const BETWEEN_PAUSES: u32 = 5;
/// Between two rounds that came to nothing, so that a busy source is not asked all the time.
const REST: Duration = Duration::from_millis(20);
/// So long is waited for a write of others, which may say what database the stream has selected.
const AT_REST: Duration = Duration::from_millis(200);
/// What is not exact is read anew so often when connections break.
const MAKE_DO_TRIES: u32 = 5;

impl Run {
    /// Reads everything once, then again and again what was written, until nothing is left: then it is exact. One that
    /// is not, only where that was agreed to.
    pub async fn converge(&mut self) -> Result<bool, Error> {
        match self.converge_exactly().await {
            Ok(()) => Ok(true),
            Err(Error::Inexact { after_s, why }) if self.options.best_effort => {
                tracing::warn!("the capture is not exact after {after_s} s: {why}");
                self.make_do().await?;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Reads once more what is dirty, and keeps what is read, whatever is written meanwhile.
    async fn make_do(&mut self) -> Result<(), Error> {
        self.ledger.make_do();
        (self.is_lenient, self.pausing) = (true, true);
        self.read_all(Some(Instant::now())).await?;
        self.take_up();
        for _ in 0..MAKE_DO_TRIES {
            let reconnects = self.stats.reconnects;
            self.quota = self.names_waiting();
            self.drive(None).await?;
            // What a connection that broke has given back is among the names again.
            if self.stats.reconnects == reconnects {
                break;
            }
        }
        self.pausing = false;
        Ok(())
    }

    async fn converge_exactly(&mut self) -> Result<(), Error> {
        self.enter(Phase::Copying);
        // However long everything takes to be read once: what is given up is that it converges.
        self.read_all(None).await?;
        let began = Instant::now();
        self.enter(Phase::Converging);
        let (mut bold_pauses, mut not_before) = (0, Instant::now());
        loop {
            let (started, names) = (Instant::now(), self.names_waiting());
            if self.options.max_pause.is_none() {
                // There will be no better moment.
                self.take_up();
            }
            self.quota = names;
            self.drive(None).await?;
            self.stats.rounds += 1;
            self.learn_selected().await?;
            self.read_all(Some(began)).await?;
            self.tell();
            if self.ledger.is_exact() {
                return Ok(());
            }
            if self.ledger.is_settled() && self.ledger.stream_db().is_none() {
                self.enter(Phase::AtRest);
                self.wait(AT_REST).await?;
            } else {
                self.enter(Phase::Converging);
            }
            let per_key = started.elapsed() / u32::try_from(names).unwrap_or(u32::MAX).max(1);
            let left = self.ledger.dirty() as u64;
            if let Some(bound) = self.options.max_pause {
                let expected = per_key * u32::try_from(left).unwrap_or(u32::MAX);
                let few = left > 0 && expected < bound / PART_OF_PAUSE;
                let no_fewer = left * 5 > names * 4;
                let bold = !few && no_fewer && bold_pauses < BOLD_PAUSES_MAX;
                if (few || bold) && Instant::now() >= not_before {
                    bold_pauses += u32::from(bold);
                    if self.cut(bound).await? {
                        return Ok(());
                    }
                    not_before = Instant::now() + bound * BETWEEN_PAUSES;
                }
            }
            if began.elapsed() > self.options.give_up_after {
                return Err(self.inexact(began));
            }
            if left * 5 >= names * 4 {
                self.wait(REST).await?;
            }
        }
    }

    /// Reads all names, whichever were added meanwhile.
    async fn read_all(&mut self, began: Option<Instant>) -> Result<(), Error> {
        let (mut began, voids) = (began, self.ledger.voids().0);
        while self.ledger.wants_databases().is_some() || self.ledger.unscanned().next().is_some() {
            self.discover().await?;
            self.drive(None).await?;
            if self.ledger.voids().0 > voids {
                // It had to be begun anew, and may have to be again and again.
                began.get_or_insert_with(Instant::now);
            }
            if let Some(began) = began.filter(|began| began.elapsed() > self.options.give_up_after) {
                return Err(self.inexact(began));
            }
        }
        Ok(())
    }

    /// Reads what is left while writers are paused; whether that was all.
    async fn cut(&mut self, bound: Duration) -> Result<bool, Error> {
        self.enter(Phase::Cutting);
        self.tell();
        let db = self.ledger.stream_db();
        // None: writers are paused by somebody else, and so they stay; what we read is as good.
        let pause = match Pause::begin(&self.source, db, bound, self.options.timeout).await {
            Ok(pause) => pause,
            Err(error) if is_transient(&error) => {
                tracing::warn!(%error, "the source's writers cannot be paused now");
                self.enter(Phase::Converging);
                return Ok(false);
            }
            Err(endpoint::Error::Refused { command, reply, .. }) => {
                tracing::warn!(
                    "the source's writers cannot be paused ({command}: {reply}): going on without"
                );
                self.options.max_pause = None;
                self.enter(Phase::Converging);
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        };
        let deadline = Instant::now() + pause.as_ref().map_or(bound, Pause::left) * 9 / 10;
        self.stats.pauses += 1;
        self.pausing = true;
        let read = self.read_paused(deadline).await;
        self.pausing = false;
        if let Some(pause) = pause {
            self.stats.pause = self.stats.pause.max(pause.end().await);
        }
        self.enter(Phase::Converging);
        read.map(|()| self.ledger.is_exact())
    }

    async fn read_paused(&mut self, deadline: Instant) -> Result<(), Error> {
        // A connection that breaks is made again when writers go on.
        let Some(now) = self.now().await? else { return Ok(()) };
        self.absorb_to(now).await?;
        let hot: u64 = self.deferred.iter().map(|deferred| deferred.bytes).sum();
        if hot <= self.options.pause_bytes {
            self.take_up();
        }
        loop {
            self.quota = self.names_waiting();
            self.drive(Some(deadline)).await?;
            if self.names_waiting() == 0 || self.broken.is_some() || Instant::now() >= deadline {
                return Ok(());
            }
        }
    }

    /// Follows the stream for a while, without asking for anything.
    async fn wait(&mut self, rest: Duration) -> Result<(), Error> {
        let until = Instant::now() + rest;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            tokio::select! {
                event = self.link.next() => self.absorb(event.map_err(Error::Link)?).await?,
                () = tokio::time::sleep(left) => break,
            }
        }
        Ok(())
    }

    fn inexact(&self, began: Instant) -> Error {
        if self.ledger.is_settled() && self.ledger.stream_db().is_none() {
            return Error::NoStreamDatabase;
        }
        let after_s = began.elapsed().as_secs();
        let (voids, name) = self.ledger.voids();
        let mut why = format!(
            "{} keys and elements were still dirty after {} rounds",
            self.ledger.dirty(),
            self.stats.rounds
        );
        if voids > 0 {
            why.push_str(&format!(
                "; the source sent {voids} commands whose keys cannot be told, {name} last, and each makes everything dirty"
            ));
        }
        if let Some(hot) = self.deferred.iter().max_by_key(|deferred| deferred.bytes) {
            why.push_str(&format!(
                "; {} (about {} bytes) is written all the time, and only up to {} bytes are read while writers are paused \
                 (--pause-bytes)",
                crate::rdb::quoted(&hot.key, super::copy::KEY_SHOWN),
                hot.bytes,
                self.options.pause_bytes
            ));
        }
        match self.options.max_pause {
            None => why.push_str("; a pause of writers (--max-pause, from 6.2 on) would end it"),
            Some(bound) => why.push_str(&format!(
                "; {} pauses of at most {} ms were not enough (--max-pause)",
                self.stats.pauses,
                bound.as_millis()
            )),
        }
        Error::Inexact { after_s, why }
    }

    fn enter(&mut self, phase: Phase) {
        self.progress.send_modify(|progress| progress.phase = phase);
    }
}

//! Following: the stream behind the copy, applied to the target.

use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};

use super::job::{Job, Stage};
use super::land::clock_ms;
use super::{Error, Phase};
use crate::apply::{Batch, Copied, Follower};
use crate::channel::{Room, Sender};
use crate::command::{self, Class};
use crate::endpoint::Info;
use crate::link::{self, Event, Link};
use crate::psync::Position;
use crate::resp::StreamCommand;

/// How often a source whose history is not the link's is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(500);

impl Job {
    /// Applies the stream from `start` on, behind the copy, until the target has everything up to where the source
    /// was when the copy was in.
    pub(super) async fn catch_up(&mut self, start: Position, copied: Copied) -> Result<(), Error> {
        self.follower =
            Some(Follower::new(self.target.clone(), self.source.server, start.offset, copied.stream_db));
        self.done.copied = Some(copied);
        // Until its first PING, an idle source sends nothing more.
        self.received = start.offset;
        // Once this is answered, the copy is in.
        self.waiting.push_back(Batch::marker(start.offset));
        self.enter(Phase::CatchingUp);
        if self.done.capture.is_some() {
            self.count_keys().await?;
        }
        let goal = self.source_now().await?;
        self.done.forks = goal.number("total_forks");
        self.follow_to(goal.position.offset).await?;
        self.done.caught_up = true;
        self.enter(Phase::Following);
        tracing::info!(offset = goal.position.offset, "caught up");
        Ok(())
    }

    /// The copies of a capture do not tell how many keys they make up, but the target does, which has nothing else yet, and
    /// expires nothing.
    async fn count_keys(&mut self) -> Result<(), Error> {
        self.settle().await?;
        let target = self.look_at_target().await;
        if let (Some(copied), Ok(info)) = (&mut self.done.copied, target) {
            copied.keys = info.keys();
        }
        Ok(())
    }

    /// The source's INFO now, of the very history that the link follows. A promoted source or one behind a balancer
    /// may answer for another one: then the link goes on meanwhile and has its say.
    pub(super) async fn source_now(&mut self) -> Result<Info, Error> {
        let asked = Instant::now();
        loop {
            let answer = self.asker.info().await;
            let late = asked.elapsed() > self.options.reconnect_for;
            match answer {
                Ok(info) if self.done.start.is_some_and(|start| start.replid == info.position.replid) => {
                    return Ok(info);
                }
                Ok(info) if late => {
                    let replid = info.position.replid;
                    return Err(Error::AnotherHistory { link: self.done.start, replid });
                }
                Err(error) if late => return Err(error.into()),
                Ok(_) | Err(_) => {}
            }
            match timeout(ASK_AGAIN, self.follow_to(u64::MAX)).await {
                Ok(followed) => followed?,
                Err(_) => tracing::debug!("asking the source again how far it is"),
            }
        }
    }

    /// Applies the stream until the target has answered for `goal`. Nothing is lost when this is dropped.
    pub(super) async fn follow_to(&mut self, goal: u64) -> Result<(), Error> {
        while self.applied_offset().is_none_or(|offset| offset < goal) {
            self.step(None, true).await?;
        }
        self.note_applied();
        Ok(())
    }

    /// Follows until nothing was written to the source for that long, and everything is applied: until when, by the
    /// source's clock, in milliseconds since the epoch.
    pub(super) async fn follow_until_quiet(&mut self, quiet: Duration) -> Result<i64, Error> {
        loop {
            while let left @ 1.. = quiet.saturating_sub(self.last_write.elapsed()).as_micros() {
                let left = Duration::from_micros(u64::try_from(left).unwrap_or(u64::MAX));
                self.step(Some(Instant::now() + left), true).await?;
                self.clear_many_doubts().await?;
            }
            // What the source has written by now may still be on its way.
            let goal = self.source_now().await?;
            self.follow_to(goal.position.offset).await?;
            if self.last_write.elapsed() >= quiet {
                return Ok(clock_ms(&goal));
            }
        }
    }

    /// Waits until the target has answered for all that was taken in, without taking in more.
    pub(super) async fn settle(&mut self) -> Result<(), Error> {
        let Some(boundary) = self.follower.as_ref().map(Follower::boundary) else { return Ok(()) };
        while !self.waiting.is_empty() || self.applied_offset().is_none_or(|offset| offset < boundary) {
            self.step(None, false).await?;
        }
        self.note_applied();
        Ok(())
    }

    fn applied_offset(&self) -> Option<u64> {
        self.applied.borrow().offset
    }

    /// Waits for one thing to happen, at most until `deadline`, and sees to it. Nothing is lost when this is dropped.
    pub(super) async fn step(&mut self, deadline: Option<Instant>, taking: bool) -> Result<(), Error> {
        let batches = self.batches.clone();
        let next_bytes = self.waiting.front().map(Batch::len_bytes);
        // While the target is behind, nothing more is taken in: the link keeps it.
        let taking = taking && next_bytes.is_none() && !self.disturbed;
        tokio::select! {
            error = self.pipeline.failure(), if batches.is_some() => return Err(error.into()),
            Ok(()) = self.applied.changed() => self.note_applied(),
            room = room_for(&batches, next_bytes), if next_bytes.is_some() => match room {
                Some(room) => if let Some(batch) = self.waiting.pop_front() { room.send(batch) },
                None => return Err(self.pipeline.failure().await.into()),
            },
            offset = self.watch.changed() => {
                self.progress.send_modify(|progress| progress.source_offset = Some(offset));
                self.note_applied();
            }
            Ok(()) = self.throttled.changed() => {
                let throttled = *self.throttled.borrow_and_update();
                self.progress.send_modify(|progress| progress.throttled = throttled);
            }
            event = next(&mut self.link, taking) => self.take(event.map_err(Error::of_link)?)?,
            () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {}
        }
        Ok(())
    }

    /// Takes in what happened on the link.
    pub(super) fn take(&mut self, event: Event) -> Result<(), Error> {
        let (Some(follower), Some(start)) = (&self.follower, self.done.start) else { return Ok(()) };
        match event {
            Event::Commands { commands, arrived_ms } => self.take_commands(commands, arrived_ms)?,
            Event::Resumed(position) => {
                tracing::info!(%position, "the replication link goes on");
                self.done.start = Some(Position { replid: position.replid, ..start });
                self.done.reconnects += 1;
                self.progress.send_modify(|progress| {
                    progress.link_down = false;
                    progress.reconnects += 1;
                });
            }
            Event::Down { .. } => self.progress.send_modify(|progress| progress.link_down = true),
            Event::FullResync(to) => {
                let from = Position { offset: follower.boundary(), ..start };
                return Err(Error::FullResyncAgain { from, to });
            }
            // They follow a full resync, which has ended this.
            Event::PayloadStart(_) | Event::Payload(_) | Event::PayloadEnd => {}
        }
        Ok(())
    }

    fn take_commands(
        &mut self,
        mut commands: Vec<(StreamCommand, u64)>,
        arrived_ms: u64,
    ) -> Result<(), Error> {
        let Some(follower) = &mut self.follower else { return Ok(()) };
        self.received = commands.last().map_or(self.received, |(_, offset)| *offset);
        // What merely expires on the source would otherwise keep it from ever being quiet.
        if commands.iter().any(is_more_than_deletion) {
            self.last_write = Instant::now();
            self.writes += 1;
        }
        match self.stage {
            Stage::Applying => {}
            Stage::Over => {
                self.missed |= commands.iter().any(is_more_than_deletion);
                return Ok(());
            }
            Stage::Landed => {
                // What a key that expired too early could spoil waits until expiries are out of reach again.
                if let Some(at) = commands.iter().position(is_more_than_deletion) {
                    self.disturbed = true;
                    self.held = Some(Event::Commands { commands: commands.split_off(at), arrived_ms });
                }
            }
        }
        let Some((_, received)) = commands.last() else { return Ok(()) };
        let received = *received;
        for (command, offset) in commands {
            follower.command(command, offset, arrived_ms)?;
            if follower.is_full() {
                self.waiting.extend(follower.take());
            }
        }
        self.waiting.extend(follower.take());
        self.progress.send_modify(|progress| {
            progress.received_offset = received;
            progress.behind_since_ms.get_or_insert(arrived_ms);
        });
        Ok(())
    }
}

fn is_more_than_deletion((command, _): &(StreamCommand, u64)) -> bool {
    command::classify(&command.args) == Class::Write && !command::only_deletes(&command.args)
}

/// What happens next on the link; while nothing is to be taken in, only its failure.
pub(super) async fn next(link: &mut Option<Link>, taking: bool) -> Result<Event, link::Error> {
    match link {
        Some(link) if taking => link.next().await,
        Some(link) => Err(link.failure().await),
        None => std::future::pending().await,
    }
}

/// Room in the pipeline for a batch of so many bytes; `None` when it has broken.
async fn room_for(batches: &Option<Sender<Batch>>, bytes: Option<usize>) -> Option<Room<'_, Batch>> {
    batches.as_ref()?.room(bytes?).await
}

//! Following: the stream behind the copy, applied to the target.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::job::Job;
use super::{Ended, Error, Phase, Until};
use crate::apply::{Batch, Copied, Follower};
use crate::channel::{Room, Sender};
use crate::endpoint::Info;
use crate::link::Event;
use crate::psync::Position;

/// How often a source whose history is not the link's is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(500);

impl Job {
    /// Applies the stream from `start` on, behind the copy, until it is time to end.
    pub(super) async fn follow(&mut self, start: Position, copied: Copied) -> Result<Ended, Error> {
        self.follower =
            Some(Follower::new(self.target.clone(), self.source.server, start.offset, copied.stream_db));
        self.done.copied = Some(copied);
        // Once this is answered, the copy is in.
        self.waiting.push_back(Batch::marker(start.offset));
        self.progress.send_modify(|progress| progress.phase = Phase::CatchingUp);
        let goal = self.source_now().await?;
        self.done.forks = goal.number("total_forks");
        self.follow_to(goal.position.offset).await?;
        self.done.caught_up = true;
        self.progress.send_modify(|progress| progress.phase = Phase::Following);
        tracing::info!(offset = goal.position.offset, "caught up");
        if self.options.until == Until::CaughtUp {
            return Ok(Ended::CaughtUp);
        }
        loop {
            self.follow_to(u64::MAX).await?;
        }
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
        loop {
            if self.applied.borrow().offset.is_some_and(|offset| offset >= goal) {
                self.note_applied();
                return Ok(());
            }
            let batches = self.batches.clone();
            let next_bytes = self.waiting.front().map(Batch::len_bytes);
            tokio::select! {
                error = self.pipeline.failure() => return Err(error.into()),
                Ok(()) = self.applied.changed() => self.note_applied(),
                room = room_for(&batches, next_bytes), if next_bytes.is_some() => match room {
                    Some(room) => if let Some(batch) = self.waiting.pop_front() { room.send(batch) },
                    None => return Err(self.pipeline.failure().await.into()),
                },
                offset = self.watch.changed() => {
                    self.progress.send_modify(|progress| progress.source_offset = Some(offset));
                }
                // While the target is behind, nothing more is taken in.
                event = self.link.next(), if next_bytes.is_none() => self.take(event.map_err(Error::Link)?)?,
            }
        }
    }

    /// Takes in what happened on the link.
    fn take(&mut self, event: Event) -> Result<(), Error> {
        let (Some(follower), Some(start)) = (&mut self.follower, self.done.start) else { return Ok(()) };
        match event {
            Event::Commands { commands, arrived_ms } => {
                let received = commands.last().map_or(0, |(_, offset)| *offset);
                for (command, offset) in commands {
                    follower.command(command, offset, arrived_ms)?;
                    if follower.is_full() {
                        self.waiting.extend(follower.take());
                    }
                }
                self.waiting.extend(follower.take());
                self.progress.send_modify(|progress| progress.received_offset = received);
            }
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
}

/// Room in the pipeline for a batch of so many bytes; `None` when it has broken.
async fn room_for(batches: &Option<Sender<Batch>>, bytes: Option<usize>) -> Option<Room<'_, Batch>> {
    batches.as_ref()?.room(bytes?).await
}

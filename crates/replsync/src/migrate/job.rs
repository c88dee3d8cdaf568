//! The migration itself, from top to bottom.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout};

use super::examine::{Agreed, Destination, Source, refuse};
use super::source::{SourceWatch, ask};
use super::{Ended, Error, Phase, Progress, Report, Severity};
use crate::apply::{self, Applied, Batch, Copied, Copier, CopyOptions, Follower, Pipeline, Target};
use crate::channel::{Room, Sender};
use crate::endpoint::{Client, Endpoint, Info};
use crate::link::{self, Event, Link, PayloadReader, payload_channel};
use crate::psync::{Announce, Position};
use crate::rdb::Buffered;
use crate::server::{Product, Server};

/// How many pieces of the RDB may wait for its parser; each is what one read brought.
const PAYLOAD_PIECES: usize = 16;
/// Told to stop, the job still fetches what the source has written by then, for at most this long.
const DRAIN: Duration = Duration::from_secs(5);
/// Then it waits for the target's answers for at most this long.
const LAST_ANSWERS: Duration = Duration::from_secs(10);
/// Deleting everything takes a target a while.
const FLUSH: Duration = Duration::from_secs(600);
/// How often a source whose history is not the link's is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// When a migration is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// When it is told to stop.
    Stopped,
    /// When the target has everything up to the offset that the source reported after the copy was in.
    CaughtUp,
}

/// How to migrate.
#[derive(Clone, Debug)]
pub struct Options {
    /// When it is done.
    pub until: Until,
    /// Whether a target that is not empty may be flushed.
    pub flush_target: bool,
    /// Whether to attach to a source that counts its replicas before it takes writes.
    pub allow_counted_as_replica: bool,
    /// How values are copied.
    pub copy: CopyOptions,
    /// How long connecting and single answers may take.
    pub timeout: Duration,
    /// How long the link may be down.
    pub reconnect_for: Duration,
    /// How often the job may start anew, with a flushed target, when the source cannot continue where it was.
    pub restarts: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            until: Until::Stopped,
            flush_target: false,
            allow_counted_as_replica: false,
            copy: CopyOptions::default(),
            timeout: Duration::from_secs(5),
            reconnect_for: Duration::from_secs(60),
            restarts: 3,
        }
    }
}

/// Migrates `from` to `to` until it is done or `stop` completes. `progress` is kept up to date meanwhile.
///
/// # Errors
/// Once the copy has begun, the target is not to be used after an error.
pub async fn migrate(
    from: Endpoint,
    to: Endpoint,
    options: Options,
    progress: watch::Sender<Progress>,
    stop: impl Future<Output = ()>,
) -> Result<Report, Error> {
    tokio::pin!(stop);
    let mut job = tokio::select! {
        prepared = Job::prepare(from, to, options, progress) => prepared?,
        () = &mut stop => return Err(Error::StoppedEarly),
    };
    let ended = tokio::select! {
        ended = job.run() => ended?,
        () = &mut stop => Ended::Stopped,
    };
    job.end(ended).await
}

/// What has been done so far.
#[derive(Default)]
struct Done {
    /// Where the copy began, under the replid of today.
    start: Option<Position>,
    copied: Option<Copied>,
    caught_up: bool,
    reconnects: u64,
    restarts: u32,
    /// The source's count of forks when the copy was in.
    forks: Option<u64>,
}

struct Job {
    from: Endpoint,
    to: Endpoint,
    options: Options,
    started: Instant,
    source: Info,
    source_client: Client,
    target: Arc<Target>,
    /// Keys that the target had evicted before we came.
    evicted: u64,
    link: Link,
    pipeline: Pipeline,
    /// Dropped when nothing more is to be sent.
    batches: Option<Sender<Batch>>,
    applied: watch::Receiver<Applied>,
    /// Exists while the stream is followed.
    follower: Option<Follower>,
    /// Batches that the pipeline has yet to take.
    waiting: VecDeque<Batch>,
    watch: SourceWatch,
    progress: watch::Sender<Progress>,
    done: Done,
}

impl Job {
    /// Looks at both servers, refuses what cannot go well, and connects.
    async fn prepare(
        from: Endpoint,
        to: Endpoint,
        options: Options,
        progress: watch::Sender<Progress>,
    ) -> Result<Self, Error> {
        let started = Instant::now();
        let agreed = Agreed {
            flush_target: options.flush_target,
            counted_as_replica: options.allow_counted_as_replica,
        };
        let mut source = Source::examine(&from, options.timeout, agreed).await?;
        refuse(&source.findings)?;
        let destination = Destination::examine(&mut source, &to, options.timeout, agreed).await?;
        refuse(&destination.findings)?;
        for finding in source.findings.iter().chain(&destination.findings) {
            match finding.severity {
                Severity::Note => tracing::info!("{finding}"),
                _ => tracing::warn!("{finding}"),
            }
        }
        if options.flush_target {
            flush(&to, destination.info.server).await?;
        }
        progress.send_modify(|progress| {
            progress.phase = Phase::Waiting;
            progress.keys_total = source.info.keys();
        });
        let (pipeline, batches) = Pipeline::start(destination.client.into_socket(), to.to_string());
        Ok(Self {
            started,
            link: Link::start(from.clone(), link_config(&source.info, &options), None),
            watch: SourceWatch::start(from.clone(), options.timeout),
            applied: pipeline.applied(),
            pipeline,
            batches: Some(batches),
            target: Arc::new(destination.target),
            evicted: destination.info.number("evicted_keys").unwrap_or(0),
            follower: None,
            waiting: VecDeque::new(),
            source: source.info,
            source_client: source.client,
            from,
            to,
            options,
            progress,
            done: Done::default(),
        })
    }

    /// Copies and follows, and starts anew where the source cannot continue. Dropped at any point, it leaves the
    /// job in a state from which [`end`](Self::end) goes on.
    async fn run(&mut self) -> Result<Ended, Error> {
        let mut offered = None;
        let mut cut: Option<Error> = None;
        loop {
            let start = match offered.take() {
                Some(start) => start,
                // What made us start anew says more than that it did not come to it.
                None => self.attach().await.map_err(|error| cut.take().unwrap_or(error))?,
            };
            if cut.take().is_some() {
                self.start_anew().await?;
            }
            self.begin(start);
            let ended = match self.copy(start).await {
                Ok(copied) => self.follow(start, copied).await,
                Err(error) => Err(error),
            };
            match ended {
                Err(error) if error.is_cut() && self.done.restarts < self.options.restarts => {
                    self.done.restarts += 1;
                    tracing::warn!(restart = self.done.restarts, "starting anew: {error}");
                    if let Error::FullResyncAgain { to, .. } = &error {
                        offered = Some(*to);
                    }
                    cut = Some(error);
                }
                ended => return ended,
            }
        }
    }

    /// Waits for the source to offer a full resync.
    async fn attach(&mut self) -> Result<Position, Error> {
        loop {
            match self.link.next().await.map_err(Error::Link)? {
                Event::FullResync(start) => return Ok(start),
                Event::Down { .. } => self.progress.send_modify(|progress| progress.link_down = true),
                // Nothing else comes before it, but what is left of a copy that was cut.
                _ => {}
            }
        }
    }

    /// Empties the target, which was empty when we began, once nothing is on its way there any more.
    async fn start_anew(&mut self) -> Result<(), Error> {
        self.follower = None;
        self.waiting.clear();
        self.batches = None;
        self.pipeline.finish().await?;
        flush(&self.to, self.target.server()).await?;
        let client = Client::connect(&self.to, self.options.timeout).await?;
        let (pipeline, batches) = Pipeline::start(client.into_socket(), self.to.to_string());
        (self.applied, self.pipeline, self.batches) = (pipeline.applied(), pipeline, Some(batches));
        self.done = Done { restarts: self.done.restarts, ..Done::default() };
        Ok(())
    }

    fn begin(&mut self, start: Position) {
        self.done.start = Some(start);
        let keys_total = self.source.keys();
        let restarts = self.done.restarts;
        self.progress.send_modify(|progress| {
            *progress = Progress {
                phase: Phase::Copying,
                keys_total,
                received_offset: start.offset,
                applied_offset: start.offset,
                restarts,
                ..Progress::default()
            };
        });
    }

    /// Copies the RDB into the target.
    async fn copy(&mut self, start: Position) -> Result<Copied, Error> {
        let (sender, reader) = payload_channel(PAYLOAD_PIECES);
        let mut payload = Some(sender);
        let mut copier = spawn_copier(reader, self.target.clone(), self.options.copy, self.batches.clone());
        let mut received_bytes = 0;
        loop {
            let event = tokio::select! {
                error = self.pipeline.failure() => return Err(error.into()),
                Ok(()) = self.applied.changed() => {
                    self.note_applied();
                    continue;
                }
                copied = &mut copier => return match copied {
                    Ok(Ok(copied)) => Ok(copied),
                    // It stopped because the pipeline did, which says why.
                    Ok(Err(apply::Error::Stopped(_))) => Err(self.pipeline.failure().await.into()),
                    Ok(Err(error)) => Err(error.into()),
                    Err(_) => Err(apply::Error::Stopped("the thread that reads it panicked").into()),
                },
                event = self.link.next(), if payload.is_some() => {
                    event.map_err(|source| Error::CopyCut { received_bytes, source })?
                }
            };
            match event {
                Event::PayloadStart(len) => {
                    self.progress.send_modify(|progress| progress.rdb_bytes_total = len);
                }
                Event::Payload(bytes) => {
                    received_bytes += bytes.len() as u64;
                    self.progress.send_modify(|progress| progress.rdb_bytes = received_bytes);
                    if let Some(payload) = &payload {
                        // A copier that has left says why at the next turn.
                        let _ = payload.send(bytes).await;
                    }
                }
                Event::PayloadEnd => {
                    if let Some(payload) = payload.take() {
                        payload.end().await;
                    }
                }
                Event::Down { error, .. } => return Err(Error::CopyCut { received_bytes, source: error }),
                Event::FullResync(to) => return Err(Error::FullResyncAgain { from: start, to }),
                // The stream comes after the end of the RDB, and is not asked for until then.
                Event::Commands { .. } | Event::Resumed(_) => {}
            }
        }
    }

    /// Applies the stream from `start` on, behind the copy, until it is time to end.
    async fn follow(&mut self, start: Position, copied: Copied) -> Result<Ended, Error> {
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
    async fn source_now(&mut self) -> Result<Info, Error> {
        let asked = Instant::now();
        loop {
            let answer = ask(&mut self.source_client, &self.from, self.options.timeout).await;
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
    async fn follow_to(&mut self, goal: u64) -> Result<(), Error> {
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

    fn note_applied(&mut self) {
        let applied = *self.applied.borrow_and_update();
        self.progress.send_modify(|progress| {
            progress.keys = applied.keys;
            progress.commands = applied.commands;
            progress.sent_bytes = applied.bytes;
            progress.applied_offset = applied.offset.unwrap_or(progress.applied_offset);
        });
    }

    /// Fetches what is on its way, looks at the target once more, and reports.
    async fn end(mut self, ended: Ended) -> Result<Report, Error> {
        if ended == Ended::Stopped && self.follower.is_some() {
            let began = Instant::now();
            let drained = timeout(DRAIN, async {
                let goal = self.source_now().await?;
                self.follow_to(goal.position.offset).await
            });
            self.done.caught_up = match drained.await {
                Ok(Ok(())) => true,
                Ok(Err(error @ (Error::Apply(_) | Error::FullResyncAgain { .. }))) => return Err(error),
                Ok(Err(_)) | Err(_) => false,
            };
            tracing::debug!(took_ms = began.elapsed().as_millis() as u64, "drained");
        }
        self.batches = None;
        match timeout(LAST_ANSWERS, self.pipeline.finish()).await {
            Ok(finished) => finished?,
            // A target that does not answer is not to be waited for; what it has answered for is known.
            Err(_) => self.done.caught_up = false,
        }
        self.refuse_evictions().await?;
        let applied = *self.applied.borrow();
        let at = |start: Position| Position { offset: applied.offset.unwrap_or(start.offset), ..start };
        let forks = self.source.number("total_forks").zip(self.done.forks);
        Ok(Report {
            ended,
            caught_up: self.done.caught_up,
            copied_all: self.done.copied.is_some(),
            from: self.source.server,
            to: self.target.server(),
            position: self.done.start.map(at),
            commands: applied.commands,
            copied: self.done.copied.unwrap_or_default(),
            dropped: self.follower.as_ref().map(Follower::dropped).unwrap_or_default(),
            reconnects: self.done.reconnects,
            restarts: self.done.restarts,
            forks: forks.map(|(before, after)| after.saturating_sub(before)),
            took: self.started.elapsed(),
        })
    }

    /// A target that evicts has lost keys without an error.
    async fn refuse_evictions(&mut self) -> Result<(), Error> {
        let look = async {
            let mut client = Client::connect(&self.to, self.options.timeout).await?;
            client.info().await
        };
        match look.await.map(|info| info.number("evicted_keys").unwrap_or(0)) {
            Ok(now) if now > self.evicted => Err(Error::Evicted { keys: now - self.evicted }),
            Ok(_) => Ok(()),
            Err(error) => {
                tracing::warn!("nobody knows whether the target has evicted keys: {error}");
                Ok(())
            }
        }
    }
}
/// Room in the pipeline for a batch of so many bytes; `None` when it has broken.
async fn room_for(batches: &Option<Sender<Batch>>, bytes: Option<usize>) -> Option<Room<'_, Batch>> {
    batches.as_ref()?.room(bytes?).await
}

/// How the link to `source` is kept, and how we show ourselves there.
fn link_config(source: &Info, options: &Options) -> link::Config {
    let version = match source.server.product {
        Product::Valkey => source.field("valkey_version").map(str::to_owned),
        Product::Redis => None,
    };
    let announce = Announce::unseen(&std::process::id().to_string(), version);
    link::Config {
        connect_timeout: options.timeout,
        reconnect_for: options.reconnect_for,
        ..link::Config::new(announce)
    }
}

/// Deletes everything on the target, functions too.
async fn flush(to: &Endpoint, server: Server) -> Result<(), Error> {
    let mut client = Client::connect(to, FLUSH).await?;
    client.ask(&["FLUSHALL"]).await?;
    if server.has((7, 0), None) {
        client.ask(&["FUNCTION", "FLUSH"]).await?;
    }
    Ok(())
}

/// Parses the RDB and plans its commands on a thread of its own.
fn spawn_copier(
    reader: PayloadReader,
    target: Arc<Target>,
    options: CopyOptions,
    batches: Option<Sender<Batch>>,
) -> oneshot::Receiver<Result<Copied, apply::Error>> {
    let (ended, result) = oneshot::channel();
    let copy = move || {
        let emit = |batch: Batch| {
            let cost = batch.len_bytes();
            match batches.as_ref().is_some_and(|batches| batches.blocking_send(batch, cost)) {
                true => Ok(()),
                false => Err(apply::Error::Stopped("the target is gone")),
            }
        };
        let copied = Copier::new(target, options, emit).copy(Buffered::new(reader));
        // Nobody waits for it once the job was told to stop.
        let _ = ended.send(copied);
    };
    // A thread that cannot be had drops the channel, which is seen.
    let _ = std::thread::Builder::new().name("rdb".to_owned()).spawn(copy);
    result
}

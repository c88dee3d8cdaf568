//! The migration itself, from top to bottom.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, interval};

use super::examine::{Agreed, Destination, Source, refuse};
use super::{Ended, Error, Phase, Progress, Report, Severity};
use crate::apply::{self, Applied, Batch, Copied, Copier, CopyOptions, Dropped, Follower, Pipeline, Target};
use crate::endpoint::{Client, Endpoint, Info};
use crate::link::{self, Event, Link, PayloadReader, payload_channel};
use crate::psync::{Announce, Position};
use crate::rdb::Buffered;
use crate::server::Product;

/// How many pieces of the RDB may wait for its parser; each is what one read brought.
const PAYLOAD_PIECES: usize = 16;
/// How often the source is asked how far it is.
const LOOK_EVERY: Duration = Duration::from_secs(2);

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
    let started = Instant::now();
    let agreed =
        Agreed { flush_target: options.flush_target, counted_as_replica: options.allow_counted_as_replica };
    let mut source = Source::examine(&from, options.timeout, agreed).await?;
    refuse(&source.findings)?;
    let mut destination = Destination::examine(&mut source, &to, options.timeout, agreed).await?;
    refuse(&destination.findings)?;
    for finding in source.findings.iter().chain(&destination.findings) {
        match finding.severity {
            Severity::Note => tracing::info!("{finding}"),
            _ => tracing::warn!("{finding}"),
        }
    }
    if options.flush_target {
        flush(&mut destination).await?;
    }
    progress.send_modify(|progress| {
        progress.phase = Phase::Waiting;
        progress.keys_total = source.info.keys();
    });
    let pipeline = Pipeline::start(destination.client.into_socket(), to.to_string());
    let mut job = Job {
        link: Link::start(from.clone(), link_config(&source.info, &options), None),
        applied: pipeline.applied(),
        pipeline,
        target: Arc::new(destination.target),
        from,
        source: source.client,
        options,
        progress,
        stop: Box::pin(stop),
        done: Done::default(),
    };
    let ended = job.run().await?;

    let Job { pipeline, done, .. } = job;
    let applied = pipeline.finish().await?;
    let position =
        done.start.map(|start| Position { offset: applied.offset.unwrap_or(start.offset), ..start });
    Ok(Report {
        ended,
        caught_up: done.caught_up,
        copied_all: done.copied.is_some(),
        from: source.info.server,
        to: destination.info.server,
        position,
        commands: applied.commands,
        copied: done.copied.unwrap_or_default(),
        dropped: done.dropped,
        reconnects: done.reconnects,
        forks: source
            .info
            .number("total_forks")
            .zip(done.forks)
            .map(|(before, after)| after.saturating_sub(before)),
        took: started.elapsed(),
    })
}

/// What has been done so far.
#[derive(Default)]
struct Done {
    /// Where the copy began, under the replid of today.
    start: Option<Position>,
    copied: Option<Copied>,
    caught_up: bool,
    dropped: Dropped,
    reconnects: u64,
    /// The source's count of forks when the copy was in.
    forks: Option<u64>,
}

struct Job<S> {
    from: Endpoint,
    source: Client,
    link: Link,
    target: Arc<Target>,
    pipeline: Pipeline,
    applied: watch::Receiver<Applied>,
    options: Options,
    progress: watch::Sender<Progress>,
    stop: Pin<Box<S>>,
    done: Done,
}

impl<S: Future<Output = ()>> Job<S> {
    async fn run(&mut self) -> Result<Ended, Error> {
        let Some(start) = self.attach().await? else { return Ok(Ended::Stopped) };
        let Some(copied) = self.copy(start).await? else { return Ok(Ended::Stopped) };
        self.follow(start, copied.stream_db).await
    }

    /// Waits for the source to offer a full resync. `None` when told to stop.
    async fn attach(&mut self) -> Result<Option<Position>, Error> {
        loop {
            let event = tokio::select! {
                () = &mut self.stop => return Ok(None),
                event = self.link.next() => event.map_err(Error::Link)?,
            };
            match event {
                Event::FullResync(start) => {
                    self.done.start = Some(start);
                    self.progress.send_modify(|progress| {
                        progress.link_down = false;
                        progress.received_offset = start.offset;
                        progress.applied_offset = start.offset;
                    });
                    return Ok(Some(start));
                }
                Event::Down { .. } => self.progress.send_modify(|progress| progress.link_down = true),
                // Nothing else comes before it.
                _ => {}
            }
        }
    }

    /// Copies the RDB into the target. `None` when told to stop.
    async fn copy(&mut self, start: Position) -> Result<Option<Copied>, Error> {
        self.progress.send_modify(|progress| progress.phase = Phase::Copying);
        let (sender, reader) = payload_channel(PAYLOAD_PIECES);
        let mut payload = Some(sender);
        let mut copier =
            spawn_copier(reader, self.target.clone(), self.options.copy, self.pipeline.batches());
        let mut received_bytes = 0;
        let copied = loop {
            let event = tokio::select! {
                () = &mut self.stop => return Ok(None),
                error = self.pipeline.failure() => return Err(error.into()),
                Ok(()) = self.applied.changed() => {
                    self.note_applied();
                    continue;
                }
                copied = &mut copier => break match copied {
                    Ok(Ok(copied)) => copied,
                    // It stopped because the pipeline did, which says why.
                    Ok(Err(apply::Error::Stopped(_))) => return Err(self.pipeline.failure().await.into()),
                    Ok(Err(error)) => return Err(error.into()),
                    Err(_) => return Err(apply::Error::Stopped("the thread that reads it panicked").into()),
                },
                event = self.link.next(), if payload.is_some() => event.map_err(|source| Error::CopyCut { received_bytes, source })?,
            };
            match event {
                Event::PayloadStart(len) => {
                    self.progress.send_modify(|progress| progress.rdb_bytes_total = len)
                }
                Event::Payload(bytes) => {
                    received_bytes += bytes.len() as u64;
                    self.progress.send_modify(|progress| progress.rdb_bytes = received_bytes);
                    if let Some(payload) = &payload {
                        tokio::select! {
                            () = &mut self.stop => return Ok(None),
                            // A copier that has left says why at the next turn.
                            _ = payload.send(bytes) => {}
                        }
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
        };
        self.done.copied = Some(copied);
        Ok(Some(copied))
    }

    /// Applies the stream from `start` on, until it is time to end.
    async fn follow(&mut self, start: Position, db: Option<u32>) -> Result<Ended, Error> {
        let source = self.source_info().await?;
        self.done.forks = source.number("total_forks");
        let goal = source.position.offset;
        self.progress.send_modify(|progress| {
            progress.phase = Phase::CatchingUp;
            progress.source_offset = Some(goal);
        });
        let mut follower = Follower::new(self.target.clone(), start.offset, db);
        // Once this is answered, the copy is in.
        let mut waiting = vec![Batch::marker(start.offset)];
        let mut look = interval(LOOK_EVERY);
        loop {
            for batch in waiting.drain(..) {
                let sent = tokio::select! {
                    () = &mut self.stop => return Ok(Ended::Stopped),
                    sent = self.pipeline.send(batch) => sent,
                };
                if !sent {
                    return Err(self.pipeline.failure().await.into());
                }
            }
            tokio::select! {
                () = &mut self.stop => return Ok(Ended::Stopped),
                error = self.pipeline.failure() => return Err(error.into()),
                Ok(()) = self.applied.changed() => {
                    self.note_applied();
                    if self.applied.borrow().offset.is_some_and(|offset| offset >= goal) && !self.done.caught_up {
                        self.done.caught_up = true;
                        self.progress.send_modify(|progress| progress.phase = Phase::Following);
                        tracing::info!(offset = goal, "caught up");
                        if self.options.until == Until::CaughtUp {
                            return Ok(Ended::CaughtUp);
                        }
                    }
                }
                _ = look.tick() => {
                    // For the lag alone: a source that cannot be asked is the link's business.
                    if let Ok(source) = self.source_info().await {
                        self.progress.send_modify(|progress| progress.source_offset = Some(source.position.offset));
                    }
                }
                event = self.link.next() => match event.map_err(Error::Link)? {
                    Event::Commands { commands, arrived_ms } => {
                        let received = commands.last().map_or(0, |(_, offset)| *offset);
                        for (command, offset) in commands {
                            follower.command(command, offset, arrived_ms)?;
                            if follower.is_full() {
                                waiting.extend(follower.take());
                            }
                        }
                        waiting.extend(follower.take());
                        self.done.dropped = follower.dropped();
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
                        let offset = follower.boundary();
                        return Err(Error::FullResyncAgain { from: Position { offset, ..start }, to });
                    }
                    // They follow a full resync, which has ended this.
                    Event::PayloadStart(_) | Event::Payload(_) | Event::PayloadEnd => {}
                },
            }
        }
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

    /// The source's INFO, over a new connection where the old one was closed meanwhile.
    async fn source_info(&mut self) -> Result<Info, Error> {
        if let Ok(info) = self.source.info().await {
            return Ok(info);
        }
        self.source = Client::connect(&self.from, self.options.timeout).await?;
        Ok(self.source.info().await?)
    }
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

async fn flush(destination: &mut Destination) -> Result<(), Error> {
    destination.client.ask(&["FLUSHALL"]).await?;
    if destination.info.server.has((7, 0), None) {
        destination.client.ask(&["FUNCTION", "FLUSH"]).await?;
    }
    Ok(())
}

/// Parses the RDB and plans its commands on a thread of its own.
fn spawn_copier(
    reader: PayloadReader,
    target: Arc<Target>,
    options: CopyOptions,
    batches: mpsc::Sender<Batch>,
) -> oneshot::Receiver<Result<Copied, apply::Error>> {
    let (ended, result) = oneshot::channel();
    let copy = move || {
        let emit =
            |batch| batches.blocking_send(batch).map_err(|_| apply::Error::Stopped("the target is gone"));
        let copied = Copier::new(target, options, emit).copy(Buffered::new(reader));
        // Nobody waits for it once the job was told to stop.
        let _ = ended.send(copied);
    };
    // A thread that cannot be had drops the channel, which is seen.
    let _ = std::thread::Builder::new().name("rdb".to_owned()).spawn(copy);
    result
}

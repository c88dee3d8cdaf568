//! The migration itself, from top to bottom.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::examine::{Agreed, Destination, Source, refuse};
use super::source::{Asker, SourceWatch};
use super::{Ended, Error, Options, Phase, Progress, Report, Severity};
use crate::apply::{Applied, Batch, Copied, Follower, Pipeline, Target};
use crate::channel::Sender;
use crate::endpoint::{Client, Endpoint, Info};
use crate::link::{self, Event, Link};
use crate::psync::{Announce, Position};
use crate::server::{Product, Server};

/// Told to stop, the job still fetches what the source has written by then, for at most this long.
const DRAIN: Duration = Duration::from_secs(5);
/// Then it waits for the target's answers for at most this long.
const LAST_ANSWERS: Duration = Duration::from_secs(10);
/// Deleting everything takes a target a while.
const FLUSH: Duration = Duration::from_secs(600);

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
pub(super) struct Done {
    /// Where the copy began, under the replid of today.
    pub(super) start: Option<Position>,
    pub(super) copied: Option<Copied>,
    pub(super) caught_up: bool,
    pub(super) reconnects: u64,
    pub(super) restarts: u32,
    /// The source's count of forks when the copy was in.
    pub(super) forks: Option<u64>,
}

pub(super) struct Job {
    pub(super) to: Endpoint,
    pub(super) options: Options,
    pub(super) started: Instant,
    pub(super) source: Info,
    pub(super) asker: Asker,
    pub(super) target: Arc<Target>,
    /// Keys that the target had evicted before we came.
    pub(super) evicted: u64,
    pub(super) link: Link,
    pub(super) pipeline: Pipeline,
    /// Dropped when nothing more is to be sent.
    pub(super) batches: Option<Sender<Batch>>,
    pub(super) applied: watch::Receiver<Applied>,
    /// Exists while the stream is followed.
    pub(super) follower: Option<Follower>,
    /// Batches that the pipeline has yet to take.
    pub(super) waiting: VecDeque<Batch>,
    pub(super) watch: SourceWatch,
    pub(super) progress: watch::Sender<Progress>,
    pub(super) done: Done,
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
            flush(&to, destination.info.server, options.timeout).await?;
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
            asker: Asker::new(from, options.timeout, Some(source.client)),
            to,
            options,
            progress,
            done: Done::default(),
        })
    }

    /// Copies and follows. Where the source cannot continue before the target has caught up, it starts anew: later
    /// the target may be in use, and what it holds may be the only copy. Dropped at any point, this leaves the job in
    /// a state from which [`end`](Self::end) goes on.
    async fn run(&mut self) -> Result<Ended, Error> {
        let mut start = self.attach().await?;
        loop {
            self.begin(start);
            let cut = match self.copy_and_follow(start).await {
                Err(error) if error.is_cut() => error,
                ended => return ended,
            };
            if self.done.caught_up || self.done.restarts == self.options.restarts {
                return Err(cut);
            }
            self.done.restarts += 1;
            tracing::warn!(restart = self.done.restarts, "starting anew: {cut}");
            start = match self.start_anew(&cut).await {
                Ok(start) => start,
                Err(last) => return Err(Error::NotAnew { cut: Box::new(cut), last: Box::new(last) }),
            };
        }
    }

    async fn copy_and_follow(&mut self, start: Position) -> Result<Ended, Error> {
        let copied = self.copy(start).await?;
        self.follow(start, copied).await
    }

    /// Waits for the source to offer a full resync.
    async fn attach(&mut self) -> Result<Position, Error> {
        loop {
            let event = tokio::select! {
                error = self.pipeline.failure() => return Err(error.into()),
                event = self.link.next() => event.map_err(Error::Link)?,
            };
            match event {
                Event::FullResync(start) => return Ok(start),
                Event::Down { .. } => self.progress.send_modify(|progress| progress.link_down = true),
                // Nothing else comes before it, but what is left of a copy that was cut.
                _ => {}
            }
        }
    }

    /// Waits for another full resync, and empties the target, which was empty when we began, once nothing is on its
    /// way there any more.
    async fn start_anew(&mut self, cut: &Error) -> Result<Position, Error> {
        // From here on nothing of what was done counts.
        self.done = Done { restarts: self.done.restarts, ..Done::default() };
        self.follower = None;
        self.waiting.clear();
        let start = match cut {
            Error::FullResyncAgain { to, .. } => *to,
            _ => self.attach().await?,
        };
        let source = self.asker.info().await?;
        if source.keys() == 0 && self.source.keys() > 0 {
            return Err(Error::SourceIsEmpty { keys: self.source.keys() });
        }
        self.batches = None;
        self.pipeline.finish().await?;
        flush(&self.to, self.target.server(), self.options.timeout).await?;
        let client = Client::connect(&self.to, self.options.timeout).await?;
        let (pipeline, batches) = Pipeline::start(client.into_socket(), self.to.to_string());
        (self.applied, self.pipeline, self.batches) = (pipeline.applied(), pipeline, Some(batches));
        Ok(start)
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

    pub(super) fn note_applied(&mut self) {
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
            // A target that does not answer is not to be waited for; what it has answered for is known. Who is done
            // has had all its answers.
            Err(_) => self.done.caught_up &= ended == Ended::CaughtUp,
        }
        self.refuse_evictions().await?;
        let applied = *self.applied.borrow();
        // The first offset is answered for behind the last key of the copy.
        let position =
            self.done.start.zip(applied.offset).map(|(start, offset)| Position { offset, ..start });
        let mut copied = self.done.copied.unwrap_or_default();
        if position.is_none() {
            copied.keys = applied.keys;
        }
        let forks = self.source.number("total_forks").zip(self.done.forks);
        Ok(Report {
            ended,
            caught_up: self.done.caught_up,
            copied_all: position.is_some(),
            from: self.source.server,
            to: self.target.server(),
            position,
            commands: applied.commands,
            copied,
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
async fn flush(to: &Endpoint, server: Server, timeout: Duration) -> Result<(), Error> {
    let mut client = Client::connect(to, timeout).await?;
    client.set_limit(FLUSH);
    client.ask(&["FLUSHALL"]).await?;
    if server.has((7, 0), None) {
        client.ask(&["FUNCTION", "FLUSH"]).await?;
    }
    Ok(())
}

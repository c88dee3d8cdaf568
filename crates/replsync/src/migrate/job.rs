//! The migration itself, from top to bottom.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::examine::{Agreed, Destination, Source, refuse};
use super::source::{Asker, SourceWatch};
use super::{Ended, Error, Method, Options, Phase, Progress, Report, Severity, Until, Verification};
use crate::apply::{self, Applied, Batch, Copied, Follower, Pipeline, Swept, Target, Throttle};
use crate::capture::{self, Allowed, AttachError, AttachOptions, Pause};
use crate::channel::Sender;
use crate::endpoint::{Client, Endpoint, Info, Role};
use crate::link::{self, Event, Link};
use crate::psync::{Announce, Position};
use crate::server::{Product, Server};

/// Deleting everything takes a target a while.
const FLUSH: Duration = Duration::from_secs(600);
/// How often a source that is not back yet is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(500);

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
        ended = job.run() => ended,
        () = &mut stop => Ok(Ended::Stopped),
    };
    let ended = match ended {
        Ok(ended) => job.end(ended).await,
        Err(error) => Err(error),
    };
    if let Err(error) = &ended {
        job.leave(error).await;
    }
    ended
}

/// What has been done so far.
#[derive(Default)]
pub(super) struct Done {
    /// Where the copy began, under the replid of today.
    pub(super) start: Option<Position>,
    pub(super) copied: Option<Copied>,
    /// How the capture went, where the copy was one.
    pub(super) capture: Option<capture::Report>,
    pub(super) caught_up: bool,
    pub(super) reconnects: u64,
    pub(super) restarts: u32,
    /// The source's count of forks when the copy was in.
    pub(super) forks: Option<u64>,
    pub(super) verification: Option<Verification>,
    /// What the sweep that put the expiries right has done, once it was whole.
    pub(super) swept: Option<Swept>,
    /// How long the source's writers were paused.
    pub(super) paused: Option<Duration>,
}

/// What becomes of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It is applied, with expiries out of the target's reach.
    Applying,
    /// Expiries are being put right, or were: deletions alone are applied.
    Landed,
    /// Nothing is applied any more; that the source writes is noticed.
    Over,
}

pub(super) struct Job {
    pub(super) from: Endpoint,
    pub(super) to: Endpoint,
    pub(super) options: Options,
    pub(super) started: Instant,
    pub(super) source: Info,
    pub(super) asker: Asker,
    pub(super) target: Arc<Target>,
    /// Keys that the target had evicted before we came.
    pub(super) evicted: u64,
    /// What a capture leaves behind, or there from the beginning.
    pub(super) link: Option<Link>,
    pub(super) pipeline: Pipeline,
    /// Dropped when nothing more is to be sent.
    pub(super) batches: Option<Sender<Batch>>,
    pub(super) applied: watch::Receiver<Applied>,
    /// Whether sending waits for the target's own replicas.
    pub(super) throttled: watch::Receiver<bool>,
    /// Exists while the stream is followed.
    pub(super) follower: Option<Follower>,
    /// Batches that the pipeline has yet to take.
    pub(super) waiting: VecDeque<Batch>,
    pub(super) stage: Stage,
    /// Landed, when the source wrote more than deletions: they wait here, and nothing more is taken in.
    pub(super) disturbed: bool,
    pub(super) held: Option<Event>,
    /// Over, whether the source wrote more than deletions since the landing: the target lacks that.
    pub(super) missed: bool,
    /// The stream's offset that was taken in.
    pub(super) received: u64,
    /// When the source was written to last, and how often that was noticed.
    pub(super) last_write: Instant,
    pub(super) writes: u64,
    pub(super) pause: Option<Pause>,
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
            fork_free: options.method == Method::ForkFree,
        };
        let mut source = Source::examine(&from, options.timeout, agreed).await?;
        refuse(&source.findings)?;
        if options.method == Method::ForkFree {
            // Better refused before the target is flushed.
            let verdict = source.fork_free(&from, options.timeout, attach_options(&options).allowed).await?;
            if let Some(refusal) = verdict.refusals.into_iter().next() {
                return Err(Error::Capture(AttachError::Refused(refusal).into()));
            }
        }
        if options.pause_source.is_some() && !source.info.server.has((6, 2), None) {
            return Err(Error::NoPause(source.info.server));
        }
        if options.pause_source.is_some() && source.info.role == Role::Replica {
            return Err(Error::PausesNobody);
        }
        if options.verify.is_some() {
            // Better refused now than after the copy.
            source.client.ask(&["DUMP", "replsync:nobody"]).await?;
        }
        let mut destination = Destination::examine(&mut source, &to, options.timeout, agreed).await?;
        refuse(&destination.findings)?;
        // A job that ends without it would leave expiries shifted: better not to begin.
        apply::try_sweep(&mut destination.client, destination.info.server).await?;
        for finding in source.findings.iter().chain(&destination.findings) {
            match finding.severity {
                Severity::Note => tracing::info!("{finding}"),
                _ => tracing::warn!("{finding}"),
            }
        }
        options.spool.check()?;
        if options.flush_target {
            flush(&to, destination.info.server, options.timeout).await?;
        }
        progress.send_modify(|progress| {
            progress.phase = Phase::Waiting;
            progress.keys_total = source.info.keys();
        });
        let data_bytes = source.info.number("used_memory_dataset").or(source.info.number("used_memory"));
        if data_bytes.is_some_and(|bytes| bytes > options.spool.budget.max_bytes()) {
            tracing::warn!(
                "the source holds {} bytes, and the spool takes {}: if the target is much slower than the source, the job \
                 ends with a full spool (--spool-max-bytes)",
                data_bytes.unwrap_or(0),
                options.spool.budget.max_bytes()
            );
        }
        let evicted = destination.info.number("evicted_keys").unwrap_or(0);
        let throttle = Throttle::new(to.clone(), options.timeout, evicted);
        let throttled = throttle.waiting();
        let socket = destination.client.into_socket();
        let (pipeline, batches) = Pipeline::start(socket, to.to_string(), throttle);
        Ok(Self {
            started,
            throttled,
            stage: Stage::Applying,
            disturbed: false,
            held: None,
            missed: false,
            received: 0,
            last_write: started,
            writes: 0,
            pause: None,
            link: (options.method == Method::FullSync)
                .then(|| Link::start(from.clone(), link_config(&source.info, &options), None)),
            watch: SourceWatch::start(from.clone(), options.timeout),
            applied: pipeline.applied(),
            pipeline,
            batches: Some(batches),
            target: Arc::new(destination.target),
            evicted,
            follower: None,
            waiting: VecDeque::new(),
            source: source.info,
            asker: Asker::new(from.clone(), options.timeout, Some(source.client)),
            from,
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
        let mut start = self.attach_for_full_sync().await?;
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

    /// `start` is where a full sync begins.
    async fn copy_and_follow(&mut self, start: Option<Position>) -> Result<Ended, Error> {
        let (start, copied) = match start {
            Some(start) => (start, self.copy(start).await?),
            None => self.capture().await?,
        };
        self.catch_up(start, copied).await?;
        match self.options.until {
            Until::Stopped => loop {
                self.step(None, true).await?;
                self.clear_many_doubts().await?;
            },
            Until::CaughtUp => {
                self.verify_if_asked().await?;
                // What is in doubt afterwards is little, and costs the pause little.
                self.clear_doubts().await?;
                self.pause_writers().await?;
                let goal = self.source_now().await?;
                self.follow_to(goal.position.offset).await?;
                self.clear_doubts().await?;
                self.settle().await?;
                self.land().await?;
                self.fetch_deletions().await?;
                Ok(Ended::CaughtUp)
            }
            Until::Quiet(quiet) => {
                self.follow_until_quiet(quiet).await?;
                self.verify_if_asked().await?;
                loop {
                    // Whoever wrote meanwhile makes us wait again.
                    let all_until_ms = self.follow_until_quiet(quiet).await?;
                    self.clear_doubts().await?;
                    self.pause_writers().await?;
                    self.clear_doubts().await?;
                    let landed = self.land_if_quiet(all_until_ms).await?;
                    self.unpause_writers().await;
                    if landed {
                        return Ok(Ended::Quiet);
                    }
                }
            }
        }
    }

    pub(super) async fn verify_if_asked(&mut self) -> Result<(), Error> {
        if let Some(limit) = self.options.verify {
            if self.stage == Stage::Applying {
                self.read_expiries_again().await?;
                self.clear_doubts().await?;
            }
            self.done.verification = Some(self.verify(limit).await?);
        }
        Ok(())
    }

    /// Holds up the source's writers, where that is asked, for the last look.
    pub(super) async fn pause_writers(&mut self) -> Result<(), Error> {
        // Told to stop meanwhile, the job asks for it again: it would take our own pause for somebody else's.
        if let (Some(limit), None) = (self.options.pause_source, &self.pause) {
            self.pause = Pause::begin(&self.from, None, limit, self.options.timeout).await?;
        }
        Ok(())
    }

    pub(super) async fn unpause_writers(&mut self) {
        if let Some(pause) = self.pause.take() {
            self.done.paused = Some(pause.end().await);
        }
    }

    /// Waits for the source to offer a full resync, where the copy is to be one.
    async fn attach_for_full_sync(&mut self) -> Result<Option<Position>, Error> {
        let Some(link) = &mut self.link else { return Ok(None) };
        loop {
            let event = tokio::select! {
                error = self.pipeline.failure() => return Err(error.into()),
                event = link.next() => event.map_err(Error::Link)?,
            };
            match event {
                Event::FullResync(start) => return Ok(Some(start)),
                Event::Down { .. } => self.progress.send_modify(|progress| progress.link_down = true),
                // Nothing else comes before it, but what is left of a copy that was cut.
                _ => {}
            }
        }
    }

    /// Waits for the source, or another full resync, and empties the target, which was empty when we began, once nothing is
    /// on its way there any more.
    async fn start_anew(&mut self, cut: &Error) -> Result<Option<Position>, Error> {
        // From here on nothing of what was done counts.
        self.done = Done { restarts: self.done.restarts, ..Done::default() };
        self.follower = None;
        self.waiting.clear();
        if self.options.method == Method::ForkFree {
            self.link = None;
        }
        let start = match cut {
            Error::FullResyncAgain { to, .. } => Some(*to),
            _ => self.attach_for_full_sync().await?,
        };
        let source = self.source_is_back().await?;
        if source.keys() == 0 && self.source.keys() > 0 {
            return Err(Error::SourceIsEmpty { keys: self.source.keys() });
        }
        self.batches = None;
        self.pipeline.finish().await?;
        flush(&self.to, self.target.server(), self.options.timeout).await?;
        let client = Client::connect(&self.to, self.options.timeout).await?;
        let throttle = Throttle::new(self.to.clone(), self.options.timeout, self.evicted);
        self.throttled = throttle.waiting();
        let (pipeline, batches) = Pipeline::start(client.into_socket(), self.to.to_string(), throttle);
        (self.applied, self.pipeline, self.batches) = (pipeline.applied(), pipeline, Some(batches));
        Ok(start)
    }

    /// The source's INFO, once it answers and has loaded its data.
    async fn source_is_back(&mut self) -> Result<Info, Error> {
        let asked = Instant::now();
        loop {
            let answer = self.asker.info().await;
            let is_late =
                self.options.method == Method::FullSync || asked.elapsed() > self.options.reconnect_for;
            match answer {
                Ok(info) if is_late || !info.is_loading() => return Ok(info),
                Err(error) if is_late => return Err(error.into()),
                _ => sleep(ASK_AGAIN).await,
            }
        }
    }

    fn begin(&mut self, start: Option<Position>) {
        self.done.start = start;
        let offset = start.map_or(0, |start| start.offset);
        let phase = if start.is_some() { Phase::Copying } else { Phase::Attaching };
        let keys_total = self.source.keys();
        let restarts = self.done.restarts;
        self.progress.send_modify(|progress| {
            *progress = Progress {
                phase,
                keys_total,
                received_offset: offset,
                applied_offset: offset,
                restarts,
                ..Progress::default()
            };
        });
    }

    pub(super) fn enter(&mut self, phase: Phase) {
        self.progress.send_modify(|progress| progress.phase = phase);
    }

    pub(super) fn note_applied(&mut self) {
        let applied = *self.applied.borrow_and_update();
        let spooled_bytes = self.options.spool.budget.gauge().bytes();
        self.progress.send_modify(|progress| {
            progress.keys = applied.keys;
            progress.commands = applied.commands;
            progress.sent_bytes = applied.bytes;
            progress.applied_offset = applied.offset.unwrap_or(progress.applied_offset);
            progress.behind_since_ms = match applied.offset {
                Some(offset) if offset >= progress.received_offset => None,
                _ => progress.behind_since_ms.max(applied.arrived_ms),
            };
            progress.spooled_bytes = spooled_bytes;
        });
    }
}

/// How the stream is attached to for a capture.
pub(super) fn attach_options(options: &Options) -> AttachOptions {
    AttachOptions {
        allowed: Allowed {
            counted_as_replica: options.allow_counted_as_replica,
            module_aux_loss: options.copy.allow_module_aux_loss,
            inexact: false,
        },
        timeout: options.timeout,
        reconnect_for: options.reconnect_for,
        spool: options.spool.clone(),
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
        spool: options.spool.clone(),
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

//! The task that keeps the connection up and passes on what comes.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};

use super::Error;
use super::resume::{self, FullResync, NotContinued};
use crate::clock::now_ms;
use crate::endpoint::{Client, Endpoint, Socket};
use crate::psync::{self, Announce, Position, Replica};
use crate::resp::StreamCommand;
use crate::spool;

/// Received bytes are read in pieces of this size.
const READ_BYTES: usize = 128 * 1024;
/// … unless this much is left of the last one. Events are slices of it, so a trickle must not get a new one each time.
const READ_BYTES_MIN: usize = 32 * 1024;
/// A master forks for each full resync that is asked for; where the answer gets lost every time, it must not go on.
const FORKS_IN_VAIN_MAX: u32 = 3;
/// … and one that must not fork and leaves PSYNC unanswered is left in peace after so many.
const UNANSWERED_MAX: u32 = 2;
/// Masters drop a replica that is silent for `repl-timeout`, 60 s; real replicas say ACK every second.
const ACK_EVERY: Duration = Duration::from_secs(1);
/// … and more often until the stream begins: a diskless master begins it at the first ACK after its child has ended
/// (`replconfCommand` in `src/replication.c`).
const ACK_AT_FIRST_EVERY: Duration = Duration::from_millis(50);

/// How the link is kept.
#[derive(Clone, Debug)]
pub struct Config {
    /// How we show ourselves to the master.
    pub announce: Announce,
    /// Connecting takes at most this long.
    pub connect_timeout: Duration,
    /// A master that sends nothing for this long, not even a keepalive, is taken for dead.
    pub silence_timeout: Duration,
    /// A link that is down for this long is given up.
    pub reconnect_for: Duration,
    /// The first wait before a new try; each next one is twice as long, up to 5 s.
    pub backoff: Duration,
    /// Whether the master may be asked for a full resync.
    pub full_resync: FullResync,
    /// Where events wait for a consumer that is behind.
    pub spool: spool::Config,
}

impl Config {
    /// The usual: 5 s to connect, 60 s of silence (the servers' `repl-timeout`), 60 s of new tries, full resyncs
    /// allowed, the spool in the folder for temporary files.
    pub fn new(announce: Announce) -> Self {
        Self {
            announce,
            connect_timeout: Duration::from_secs(5),
            silence_timeout: Duration::from_secs(60),
            reconnect_for: Duration::from_secs(60),
            backoff: Duration::from_millis(100),
            full_resync: FullResync::Allowed,
            spool: spool::Config::default(),
        }
    }
}

/// What happens on a link.
#[derive(Debug)]
pub enum Event {
    /// A full resync begins. Whatever came before is void: the RDB and the stream behind it start anew.
    FullResync(Position),
    /// The RDB begins; its length in bytes where the master knows it.
    PayloadStart(Option<u64>),
    /// Bytes of the RDB.
    Payload(Bytes),
    /// The RDB is over.
    PayloadEnd,
    /// Commands of the stream.
    Commands {
        /// Each with the stream's offset behind it.
        commands: Vec<(StreamCommand, u64)>,
        /// When they came, in milliseconds since the epoch by our clock.
        arrived_ms: u64,
    },
    /// The stream goes on where it broke.
    Resumed(Position),
    /// The connection is down and will be tried again.
    Down {
        /// Why.
        error: Error,
        /// When it is tried again.
        retry_in: Duration,
    },
}

/// A running link. Dropping it ends the connection.
#[derive(Debug)]
pub struct Link {
    events: spool::Receiver<Result<Event, Error>>,
}

impl Link {
    /// Starts a link to `master`: with a full resync, or from `resume` on. With [`FullResync::Never`] there must be a
    /// `resume`: what cannot be continued from it ends the link.
    pub fn start(master: Endpoint, config: Config, resume: Option<Position>) -> Self {
        let (sender, events) = spool::queue(config.spool.clone());
        let in_stream = resume.is_some();
        let driver = Driver { master, config, position: resume, in_stream, unanswered: 0, events: sender };
        tokio::spawn(driver.run());
        Self { events }
    }

    /// What happens next. After an error there is nothing more: the link is down for good.
    pub async fn next(&mut self) -> Result<Event, Error> {
        match self.events.recv().await {
            Ok(Some(event)) => event,
            Ok(None) => Err(Error::Broken {
                master: "the link".to_owned(),
                position: None,
                source: io::ErrorKind::NotConnected.into(),
            }),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits for the end that comes before all that was sent is taken: the spool cannot hold it. For a consumer that
    /// takes nothing for now; [`next`](Self::next) tells it otherwise.
    pub async fn failure(&mut self) -> Error {
        self.events.failure().await.into()
    }

    /// How much of what the master has sent waits on disk.
    pub fn spooled(&self) -> spool::Gauge {
        self.events.gauge()
    }
}

/// Why a connection is over.
enum Over {
    /// The consumer has dropped the link, or the spool has failed, which it is told.
    Unwanted,
    /// It failed.
    Failed(Error),
}

impl From<spool::Closed> for Over {
    fn from(spool::Closed: spool::Closed) -> Self {
        Over::Unwanted
    }
}

impl From<Error> for Over {
    fn from(error: Error) -> Self {
        Over::Failed(error)
    }
}

/// A connection that ended.
struct Ended {
    /// Whether PSYNC was answered.
    synced: bool,
    /// Whether a full resync was asked for and not answered.
    in_vain: bool,
    over: Over,
}

struct Driver {
    master: Endpoint,
    config: Config,
    /// The end of what was taken in: the consumer has it, or it waits in the spool.
    position: Option<Position>,
    /// Whether that position is in the stream: within an RDB no partial resync is possible.
    in_stream: bool,
    /// How many PSYNCs in a row got no answer in time, where a full resync is not allowed.
    unanswered: u32,
    events: spool::Sender<Result<Event, Error>>,
}

impl Driver {
    async fn run(mut self) {
        let mut down_since: Option<Instant> = None;
        let mut backoff = self.config.backoff;
        let mut forks_in_vain = 0;
        loop {
            let started = Instant::now();
            let Ended { synced, in_vain, over } = self.connection().await;
            let Over::Failed(error) = over else { return };
            forks_in_vain += u32::from(in_vain);
            if synced {
                // It was up: what counts is how long it is down now.
                down_since = None;
                forks_in_vain = 0;
                backoff = self.config.backoff;
            }
            let since = *down_since.get_or_insert(if synced { Instant::now() } else { started });
            let (event, is_last) = if !error.is_transient() {
                (Err(error), true)
            } else if since.elapsed() >= self.config.reconnect_for || forks_in_vain >= FORKS_IN_VAIN_MAX {
                (Err(Error::GaveUp { after: since.elapsed(), last: Box::new(error) }), true)
            } else {
                tracing::warn!(%error, retry_in_ms = backoff.as_millis() as u64, "the replication link is down");
                (Ok(Event::Down { error, retry_in: backoff }), false)
            };
            if self.events.send(event).is_err() || is_last {
                return;
            }
            sleep(backoff.min(self.config.reconnect_for.saturating_sub(since.elapsed()))).await;
            backoff = (backoff * 2).min(Duration::from_secs(5));
        }
    }

    /// One connection, from its beginning to its end.
    async fn connection(&mut self) -> Ended {
        let mut socket = match self.socket().await {
            Ok(socket) => socket,
            Err(error) => {
                return Ended { synced: false, in_vain: false, over: Over::Failed(error) };
            }
        };
        let resume = self.position.filter(|_| self.in_stream);
        let credentials = self.master.login().cloned();
        let mut replica = Replica::new(credentials, self.config.announce.clone(), resume);
        let Err(over) = self.converse(&mut socket, &mut replica).await;
        Ended { synced: replica.is_synced(), in_vain: replica.is_full_resync_pending(), over }
    }

    /// A connection to ask PSYNC on. Where it may not end in a full resync, the master has said on it that it can
    /// continue.
    async fn socket(&self) -> Result<Socket, Error> {
        let limit = self.config.connect_timeout;
        if self.config.full_resync == FullResync::Allowed {
            return Ok(Socket::connect(&self.master, limit).await?);
        }
        let position = self.position.ok_or_else(|| self.not_continued(NotContinued::NoPosition))?;
        let mut client = Client::connect(&self.master, limit).await?;
        let info = client.info().await?;
        if info.is_loading() {
            return Err(Error::Loading { master: self.master.to_string() });
        }
        resume::can_continue(&info, position).map_err(|reason| self.not_continued(reason))?;
        Ok(client.into_socket())
    }

    /// Reads all that comes, as it comes: a master that is not read drops the link.
    async fn converse(&mut self, socket: &mut Socket, replica: &mut Replica) -> Result<Infallible, Over> {
        let mut acks = interval(ACK_EVERY);
        acks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut shutdown = ShutdownWatch::default();
        let mut heard = Instant::now();
        let mut ticked = Instant::now();
        let mut answer_until: Option<Instant> = None;
        loop {
            // An RDB may come as slowly as our disk takes it. Of the stream, a master holds what we do not read.
            self.events.room(!self.in_stream).await?;
            if let Some(bytes) = replica.transmit() {
                let send = async {
                    socket.write_all(&bytes).await?;
                    socket.flush().await
                };
                let sent = timeout(self.config.silence_timeout, send).await;
                sent.map_err(|_| self.silent())?.map_err(|source| self.broken(source))?;
            }
            let awaits_stream = replica.awaits_stream();
            let answer_within = self.config.full_resync.answer_within().filter(|_| replica.awaits_psync());
            answer_until =
                answer_within.map(|within| answer_until.unwrap_or_else(|| Instant::now() + within));
            let input = replica.input();
            if input.capacity() - input.len() < READ_BYTES_MIN {
                input.reserve(READ_BYTES);
            }
            tokio::select! {
                () = self.events.closed() => return Err(Over::Unwanted),
                read = socket.read_buf(input) => {
                    match read {
                        Ok(0) => return Err(self.broken(io::ErrorKind::UnexpectedEof.into()).into()),
                        Ok(_) => heard = Instant::now(),
                        Err(source) => return Err(self.broken(source).into()),
                    }
                    let asked = self.absorb(replica)?;
                    if asked && shutdown.is_announced(&self.master, self.config.connect_timeout).await {
                        let (master, position) = (self.master.to_string(), self.position);
                        return Err(Error::ShuttingDown { master, position }.into());
                    }
                }
                () = sleep(ACK_AT_FIRST_EVERY), if awaits_stream => replica.ack(),
                () = sleep_until(answer_until.unwrap_or(heard)), if answer_until.is_some() => {
                    return Err(self.no_answer().into());
                }
                _ = acks.tick() => {
                    replica.ack();
                    // Where we did not get to listen (a disk that let the spool wait, a stopped process), the
                    // silence is ours.
                    let now = Instant::now();
                    heard = now.min(heard + (now - ticked).saturating_sub(2 * ACK_EVERY));
                    ticked = now;
                    if heard.elapsed() > self.config.silence_timeout {
                        return Err(self.silent().into());
                    }
                }
            }
        }
    }

    /// Passes on what was read, as events; true when the master asked for an ACK.
    fn absorb(&mut self, replica: &mut Replica) -> Result<bool, Over> {
        let (mut commands, mut asked, mut result) = (Vec::new(), false, Ok(()));
        loop {
            let event = match replica.event() {
                Ok(None) => break,
                Ok(Some(event)) => event,
                Err(source) => {
                    result = Err(Error::Protocol { master: self.master.to_string(), source });
                    break;
                }
            };
            let event = match event {
                psync::Event::FullResync(position) if self.config.full_resync != FullResync::Allowed => {
                    // Gone at once: what the master has begun for us, it ends when we are.
                    return Err(self.not_continued(NotContinued::Offered(position)).into());
                }
                psync::Event::FullResync(position) => {
                    self.in_stream = false;
                    // What waits is void.
                    self.events.clear();
                    Event::FullResync(position)
                }
                psync::Event::Continue(position) => {
                    self.unanswered = 0;
                    Event::Resumed(position)
                }
                psync::Event::PayloadStart(len) => Event::PayloadStart(len),
                psync::Event::Payload(bytes) => Event::Payload(bytes),
                psync::Event::PayloadEnd => {
                    self.in_stream = true;
                    Event::PayloadEnd
                }
                psync::Event::Command { command, offset } => {
                    commands.push((command, offset));
                    continue;
                }
                psync::Event::GetAck { command, offset } => {
                    asked = true;
                    commands.push((command, offset));
                    continue;
                }
            };
            self.events.send(Ok(event))?;
        }
        // What came before an error counts.
        if !commands.is_empty() {
            self.events.send(Ok(Event::Commands { commands, arrived_ms: now_ms() }))?;
        }
        self.position = replica.position();
        result?;
        Ok(asked)
    }

    /// PSYNC was not answered: the master waits for more replicas before it forks for them all, or it is held up. What
    /// INFO says on the next connection tells which; but a master that never answers is not asked for ever.
    fn no_answer(&mut self) -> Error {
        self.unanswered += 1;
        if self.unanswered >= UNANSWERED_MAX {
            return self.not_continued(NotContinued::Unanswered(self.unanswered));
        }
        let limit = self.config.full_resync.answer_within().unwrap_or_default();
        Error::Silent { master: self.master.to_string(), position: self.position, limit }
    }

    fn not_continued(&self, reason: NotContinued) -> Error {
        Error::NotContinued { master: self.master.to_string(), position: self.position, reason }
    }

    fn broken(&self, source: io::Error) -> Error {
        Error::Broken { master: self.master.to_string(), position: self.position, source }
    }

    fn silent(&self) -> Error {
        Error::Silent {
            master: self.master.to_string(),
            position: self.position,
            limit: self.config.silence_timeout,
        }
    }
}

/// Looks whether the master that asks for an ACK is about to shut down: from 7.0 on it then waits for replicas
/// that are behind, as we always seem to be, with its clients' writes held up (`shutdown-timeout`, 10 s).
#[derive(Default)]
struct ShutdownWatch {
    looked: Option<Instant>,
}

impl ShutdownWatch {
    /// At most once a second: clients' WAITs make a master ask, too.
    async fn is_announced(&mut self, master: &Endpoint, limit: Duration) -> bool {
        if self.looked.is_some_and(|looked| looked.elapsed() < Duration::from_secs(1)) {
            return false;
        }
        self.looked = Some(Instant::now());
        let look = async {
            let mut client = Client::connect(master, limit).await?;
            client.ask_text(&["INFO", "server"]).await
        };
        // A master that cannot be asked keeps its link; if it really ends, that is noticed there.
        look.await.is_ok_and(|info| info.contains("shutdown_in_milliseconds"))
    }
}

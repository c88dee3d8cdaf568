//! The task that keeps the connection up and passes on what comes.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::Error;
use crate::channel;
use crate::endpoint::{Client, Endpoint, Socket};
use crate::psync::{self, Announce, Position, Replica};
use crate::resp::StreamCommand;

/// Received bytes are read in pieces of this size.
const READ_BYTES: usize = 128 * 1024;
/// How many events may wait for the consumer. Each holds at most what one read brought.
const EVENTS_WAITING_MAX: usize = 32;
/// … and how many bytes of them altogether, whatever the size of one.
const BYTES_WAITING_MAX: u32 = 4 * 1024 * 1024;
/// A master forks for each full resync that is asked for; where the answer gets lost every time, it must not go on.
const FORKS_IN_VAIN_MAX: u32 = 3;
/// Masters drop a replica that is silent for `repl-timeout`, 60 s; real replicas say ACK every second.
const ACK_EVERY: Duration = Duration::from_secs(1);

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
}

impl Config {
    /// The usual: 5 s to connect, 60 s of silence (the servers' `repl-timeout`), 60 s of new tries.
    pub fn new(announce: Announce) -> Self {
        Self {
            announce,
            connect_timeout: Duration::from_secs(5),
            silence_timeout: Duration::from_secs(60),
            reconnect_for: Duration::from_secs(60),
            backoff: Duration::from_millis(100),
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

impl Event {
    /// What it costs to hold, in bytes.
    fn cost_bytes(&self) -> usize {
        match self {
            Event::Payload(bytes) => bytes.len(),
            Event::Commands { commands, .. } => {
                commands.iter().map(|(command, _)| command.cost_bytes()).sum()
            }
            _ => 0,
        }
    }
}

/// A running link. Dropping it ends the connection.
#[derive(Debug)]
pub struct Link {
    events: channel::Receiver<Result<Event, Error>>,
}

impl Link {
    /// Starts a link to `master`: with a full resync, or from `resume` on.
    pub fn start(master: Endpoint, config: Config, resume: Option<Position>) -> Self {
        let (sender, events) = channel::channel(EVENTS_WAITING_MAX, BYTES_WAITING_MAX);
        let driver = Driver {
            master,
            config,
            position: resume,
            in_stream: resume.is_some(),
            waiting: VecDeque::new(),
            events: sender,
        };
        tokio::spawn(driver.run());
        Self { events }
    }

    /// What happens next. After an error there is nothing more: the link is down for good.
    pub async fn next(&mut self) -> Result<Event, Error> {
        match self.events.recv().await {
            Some((event, _share)) => event,
            None => Err(Error::Broken {
                master: "the link".to_owned(),
                position: None,
                source: io::ErrorKind::NotConnected.into(),
            }),
        }
    }
}

/// The consumer has dropped the link.
struct Unwanted;

/// A connection that ended.
struct Ended {
    /// Whether PSYNC was answered.
    synced: bool,
    /// Whether a full resync was asked for and not answered.
    in_vain: bool,
    error: Error,
}

struct Driver {
    master: Endpoint,
    config: Config,
    /// The end of what was taken in: passed on, or waiting.
    position: Option<Position>,
    /// Whether that position is in the stream: within an RDB no partial resync is possible.
    in_stream: bool,
    /// What the consumer has yet to take. It outlives a connection: the next one begins behind it.
    waiting: VecDeque<Event>,
    events: channel::Sender<Result<Event, Error>>,
}

impl Driver {
    async fn run(mut self) {
        let mut down_since: Option<Instant> = None;
        let mut backoff = self.config.backoff;
        let mut forks_in_vain = 0;
        loop {
            let started = Instant::now();
            let Ended { synced, in_vain, error } = match self.connection().await {
                Ok(Unwanted) => return,
                Err(ended) => ended,
            };
            forks_in_vain += u32::from(in_vain);
            if !self.hand_over().await {
                return;
            }
            if synced {
                // It was up: what counts is how long it is down now.
                down_since = None;
                forks_in_vain = 0;
                backoff = self.config.backoff;
            }
            let since = *down_since.get_or_insert(if synced { Instant::now() } else { started });
            let last = if !error.is_transient() {
                Some(error)
            } else if since.elapsed() >= self.config.reconnect_for || forks_in_vain >= FORKS_IN_VAIN_MAX {
                Some(Error::GaveUp { after: since.elapsed(), last: Box::new(error) })
            } else {
                tracing::warn!(%error, retry_in_ms = backoff.as_millis() as u64, "the replication link is down");
                let down = Event::Down { error, retry_in: backoff };
                if !self.events.send(Ok(down), 0).await {
                    return;
                }
                None
            };
            if let Some(last) = last {
                // A consumer that has left wants to know nothing more.
                let _ = self.events.send(Err(last), 0).await;
                return;
            }
            sleep(backoff.min(self.config.reconnect_for.saturating_sub(since.elapsed()))).await;
            backoff = (backoff * 2).min(Duration::from_secs(5));
        }
    }

    /// Passes on all that waits; false when the consumer has left.
    async fn hand_over(&mut self) -> bool {
        while let Some(event) = self.waiting.pop_front() {
            let cost = event.cost_bytes();
            if !self.events.send(Ok(event), cost).await {
                return false;
            }
        }
        true
    }

    /// One connection, from its beginning to its end.
    async fn connection(&mut self) -> Result<Unwanted, Ended> {
        let socket = Socket::connect(&self.master, self.config.connect_timeout).await;
        let mut socket =
            socket.map_err(|error| Ended { synced: false, in_vain: false, error: error.into() })?;
        let resume = self.position.filter(|_| self.in_stream);
        let credentials = self.master.login().cloned();
        let mut replica = Replica::new(credentials, self.config.announce.clone(), resume);
        let ended = self.converse(&mut socket, &mut replica).await;
        let (synced, in_vain) = (replica.is_synced(), replica.is_full_resync_pending());
        ended.map_err(|error| Ended { synced, in_vain, error })
    }

    async fn converse(&mut self, socket: &mut Socket, replica: &mut Replica) -> Result<Unwanted, Error> {
        let mut acks = interval(ACK_EVERY);
        acks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut shutdown = ShutdownWatch::default();
        let events = self.events.clone();
        let mut heard = Instant::now();
        loop {
            if let Some(bytes) = replica.transmit() {
                let sent = timeout(self.config.silence_timeout, socket.write_all(&bytes)).await;
                sent.map_err(|_| self.silent())?.map_err(|source| self.broken(source))?;
            }
            // The consumer comes first: while it is behind, nothing more is read.
            let full = !self.waiting.is_empty();
            let cost = self.waiting.front().map_or(0, Event::cost_bytes);
            tokio::select! {
                room = events.room(cost), if full => match room {
                    Some(room) => if let Some(event) = self.waiting.pop_front() { room.send(Ok(event)) },
                    None => return Ok(Unwanted),
                },
                () = events.closed() => return Ok(Unwanted),
                read = socket.read_buf(replica.input()), if !full => {
                    match read {
                        Ok(0) => return Err(self.broken(io::ErrorKind::UnexpectedEof.into())),
                        Ok(_) => heard = Instant::now(),
                        Err(source) => return Err(self.broken(source)),
                    }
                    let asked = self.absorb(replica)?;
                    if asked && shutdown.is_announced(&self.master, self.config.connect_timeout).await {
                        return Err(Error::ShuttingDown { master: self.master.to_string(), position: self.position });
                    }
                    replica.input().reserve(READ_BYTES);
                }
                _ = acks.tick() => {
                    replica.ack();
                    if full {
                        // We did not listen: the silence is ours.
                        heard = Instant::now();
                    } else if heard.elapsed() > self.config.silence_timeout {
                        return Err(self.silent());
                    }
                }
            }
        }
    }

    /// Turns what was read into events; true when the master asked for an ACK.
    fn absorb(&mut self, replica: &mut Replica) -> Result<bool, Error> {
        let (mut commands, mut asked, mut result) = (Vec::new(), false, Ok(()));
        loop {
            match replica.event() {
                Ok(None) => break,
                Ok(Some(event)) => match event {
                    psync::Event::FullResync(position) => {
                        self.in_stream = false;
                        self.waiting.push_back(Event::FullResync(position));
                    }
                    psync::Event::Continue(position) => self.waiting.push_back(Event::Resumed(position)),
                    psync::Event::PayloadStart(len) => self.waiting.push_back(Event::PayloadStart(len)),
                    psync::Event::Payload(bytes) => self.waiting.push_back(Event::Payload(bytes)),
                    psync::Event::PayloadEnd => {
                        self.in_stream = true;
                        self.waiting.push_back(Event::PayloadEnd);
                    }
                    psync::Event::Command { command, offset } => commands.push((command, offset)),
                    psync::Event::GetAck { command, offset } => {
                        asked = true;
                        commands.push((command, offset));
                    }
                },
                Err(source) => {
                    result = Err(Error::Protocol { master: self.master.to_string(), source });
                    break;
                }
            }
        }
        // What came before an error counts.
        if !commands.is_empty() {
            let arrived = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            self.waiting.push_back(Event::Commands { commands, arrived_ms: arrived.as_millis() as u64 });
        }
        self.position = replica.position();
        result.map(|()| asked)
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

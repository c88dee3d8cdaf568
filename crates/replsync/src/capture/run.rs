//! The capture itself: asks, settles, follows the stream, until nothing is left.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::watch;

use super::ask::{KEYS_MAX, Queue};
use super::attach::Attached;
use super::change::Change;
use super::copy::{Answered, Batch, Item};
use super::dialect::Dialect;
use super::footprint::IN_FLIGHT_MIN_BYTES;
use super::guess::Guess;
use super::ids::{Id, Ids, Owner};
use super::ledger::{Ledger, Name};
use super::mend::{Peer, Trouble, is_busy, is_transient};
use super::names::Names;
use super::outlet::Outlet;
use super::parts::PAGE_BYTES;
use super::wire::{Answer, Wire};
use super::{BigProgress, Error, Options, Progress};
use crate::command::CommandTable;
use crate::endpoint::{self, Client, Endpoint};
use crate::link::{Event, Link};
use crate::psync::ReplId;
use crate::resp::{Reply, StreamCommand};
use crate::server::Server;

/// The fewest keys of a request.
pub(super) const KEYS_MIN: usize = 8;
/// The most bytes of what is asked for as a small string.
const TEXT_BYTES: u64 = 1024;
/// For so long the stream may be behind what INFO said.
const STREAM_LATE: Duration = Duration::from_secs(60);
/// So many commands are asked about at a time: the source has to hold some 16 KiB of replies for them.
const NAMES_PER_PAGE: usize = 16;
/// So long after the end of a pause answers are waited for.
const OVERDUE: Duration = Duration::from_secs(2);
/// How often the source's memory is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// After so many beginnings a big value that changes all the time waits for the cut.
const RESTARTS: u32 = 3;

/// Bytes that decide how something is asked for.
pub(super) struct Limits {
    /// Replies in flight.
    pub in_flight: u64,
    /// A small string.
    pub text: u64,
    /// A part of a big value.
    pub page: u64,
    /// Above this a value is read in parts.
    pub big: u64,
    /// Above this nothing is asked for at once.
    pub dump: u64,
}

/// What was done.
#[derive(Default)]
pub(super) struct Stats {
    pub copied: u64,
    pub copied_bytes: u64,
    pub big_values: u64,
    pub big_parts: u64,
    pub rounds: u64,
    pub copied_again: u64,
    pub longest: Duration,
    pub reconnects: u64,
    pub pause: Duration,
    pub pauses: u64,
}

/// A key that changes too often to be read while it is written.
pub(super) struct Deferred {
    pub space: u32,
    pub key: Bytes,
    pub bytes: u64,
}

pub(super) struct Run {
    pub source: Endpoint,
    pub options: Options,
    pub dialect: Dialect,
    pub ledger: Ledger,
    pub table: CommandTable,
    pub link: Link,
    pub replid: ReplId,
    /// For what is asked beside the copies.
    pub control: Client,
    pub wire: Wire,
    pub peer: Peer,
    /// Why the wire is to be made again.
    pub broken: Option<endpoint::Error>,
    /// How often it broke at a key that was asked for by itself.
    pub breaks: HashMap<Id, u32>,
    /// Why it is not made again.
    pub blamed: Option<Error>,
    pub wire_trouble: Trouble,
    pub control_trouble: Trouble,
    pub link_is_down: bool,
    pub selected: Option<u32>,
    /// In flight, oldest first.
    pub batches: VecDeque<Batch>,
    /// Answered, but the stream was not read so far.
    pub answered: VecDeque<Answered>,
    pub late_since: Option<Instant>,
    pub queues: BTreeMap<u32, Queue>,
    /// Spaces of which a page of names is in flight.
    pub scanning: HashSet<u32>,
    pub functions_in_flight: bool,
    pub names: Names,
    /// Names that may still be taken from those in this round.
    pub quota: u64,
    /// Big values that are being read.
    pub active: VecDeque<u32>,
    pub elements: HashMap<u32, VecDeque<(Id, Bytes)>>,
    pub field_expiries: HashMap<u32, VecDeque<(Id, Bytes, Bytes)>>,
    pub deferred: Vec<Deferred>,
    /// Streams that hold what no command shows.
    pub unreadable: HashSet<Id>,
    /// Whether writers are paused: what changes too often may be read now.
    pub pausing: bool,
    /// Whether what does not hold is kept all the same.
    pub is_lenient: bool,
    pub guess: Guess,
    pub limits: Limits,
    pub batch_keys: usize,
    pub rtt: Duration,
    /// Not earlier than this the next request, under a rate limit.
    pub not_before: Instant,
    pub expires: HashMap<u32, (bool, bool)>,
    pub name_bytes: usize,
    pub rdb_version: Option<u16>,
    pub changes: Vec<Change>,
    pub outlet: Outlet,
    pub stats: Stats,
    pub progress: watch::Sender<Progress>,
    pub looked: Instant,
}

impl Run {
    /// Goes on with a stream that is attached to.
    pub async fn start(
        source: &Endpoint,
        attached: Attached,
        reconnect_for: Duration,
        options: Options,
        outlet: Outlet,
        progress: watch::Sender<Progress>,
    ) -> Result<Self, Error> {
        let server = attached.info.server;
        let dialect = Dialect::of(server);
        let max_pause = options.max_pause.filter(|_| dialect.pauses_writes);
        let options = Options { max_pause, ..options };
        let peer = Peer::new(source, &attached, &options, reconnect_for);
        let [mut control, mut copying] = attached.clients;
        let table = read_table(&mut control, server).await?;
        peer.prepare(&mut copying).await?;
        let mut rtt = Duration::MAX;
        for _ in 0..5 {
            let asked = Instant::now();
            copying.ask(&["INFO", "replication"]).await?;
            rtt = rtt.min(asked.elapsed());
        }
        let mut run = Self {
            source: source.clone(),
            dialect,
            ledger: Ledger::new(Ids::new(), attached.start.offset, attached.stream_db, dialect.is_seven),
            table,
            replid: attached.start.replid,
            link: attached.link,
            control,
            wire: peer.wire(copying),
            peer,
            broken: None,
            breaks: HashMap::new(),
            blamed: None,
            wire_trouble: Trouble::default(),
            control_trouble: Trouble::default(),
            link_is_down: false,
            // It was used before.
            selected: None,
            batches: VecDeque::new(),
            answered: VecDeque::new(),
            late_since: None,
            queues: BTreeMap::new(),
            scanning: HashSet::new(),
            functions_in_flight: false,
            names: Names::new(options.spool.clone()),
            quota: 0,
            active: VecDeque::new(),
            elements: HashMap::new(),
            field_expiries: HashMap::new(),
            deferred: Vec::new(),
            unreadable: HashSet::new(),
            pausing: false,
            is_lenient: false,
            guess: Guess::new(),
            limits: Limits { in_flight: 0, text: 0, page: 0, big: 0, dump: 0 },
            batch_keys: 4 * KEYS_MIN,
            rtt,
            not_before: Instant::now(),
            expires: HashMap::new(),
            name_bytes: 16,
            rdb_version: (!dialect.is_seven).then_some(9),
            changes: Vec::new(),
            outlet,
            stats: Stats::default(),
            progress,
            looked: Instant::now(),
            options,
        };
        run.look(&attached.info);
        Ok(run)
    }

    /// What may be in flight, by what is free under the source's `maxmemory`.
    fn look(&mut self, info: &crate::endpoint::Info) {
        let free = info.headroom_bytes().unwrap_or(u64::MAX);
        // A source that is full can still answer; but not much at a time.
        let in_flight = self.options.in_flight_bytes.min(free / 10).max(IN_FLIGHT_MIN_BYTES);
        self.limits = Limits {
            in_flight,
            text: TEXT_BYTES.min(in_flight / 64),
            page: PAGE_BYTES.min(in_flight),
            big: self.options.big_value_bytes.min(in_flight),
            dump: self.options.max_dump_bytes.min((free / 10).max(in_flight)),
        };
        self.looked = Instant::now();
    }

    /// The offset of the source now; nothing where the connection broke.
    pub async fn now(&mut self) -> Result<Option<u64>, Error> {
        let reply = match self.control.ask(&["INFO", "replication"]).await {
            Ok(reply) => reply,
            Err(error) if is_transient(&error) => {
                tracing::warn!(%error, "where the source is cannot be told");
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        super::dialect::Replies::new(vec![reply]).offset(self.replid).map(Some)
    }

    /// Learns which databases hold keys, if that is not known.
    pub async fn discover(&mut self) -> Result<(), Error> {
        if self.ledger.wants_databases().is_none() {
            return Ok(());
        }
        let (at, dbs) = self.databases().await?;
        self.ledger.discovered(at, dbs);
        Ok(())
    }

    /// Learns which database the stream has selected, where that can be told from what was written.
    pub async fn learn_selected(&mut self) -> Result<(), Error> {
        if self.ledger.left_since().is_none() {
            return Ok(());
        }
        let (at, dbs) = self.databases().await?;
        self.ledger.held(at, dbs);
        Ok(())
    }

    /// Which databases hold keys, at an offset that the stream was read past by now.
    async fn databases(&mut self) -> Result<(u64, impl Iterator<Item = u32> + use<>), Error> {
        // Databases and offset of one moment: between two replies databases may be exchanged.
        let info = self.info().await?;
        Error::unless_same(self.replid, info.position.replid)?;
        let at = info.position.offset;
        self.absorb_to(at).await?;
        Ok((at, info.keyspace.into_keys()))
    }

    /// Reads the stream up to an offset that the source has said.
    pub async fn absorb_to(&mut self, offset: u64) -> Result<(), Error> {
        while self.ledger.offset() < offset {
            match tokio::time::timeout(STREAM_LATE, self.link.next()).await {
                Ok(event) => self.absorb(event.map_err(Error::Link)?).await?,
                Err(_) => return Err(Error::StreamStuck { offset, after_s: STREAM_LATE.as_secs() }),
            }
        }
        self.hand_on().await
    }

    /// Works until nothing is left that may be asked for now, or until `deadline`, when nothing new is begun.
    pub async fn drive(&mut self, deadline: Option<Instant>) -> Result<(), Error> {
        loop {
            // What is settled may be asked more about.
            self.settle_ready().await?;
            self.hand_on().await?;
            if self.broken.is_some() {
                if deadline.is_some() {
                    // Writers do not wait for a connection.
                    return Ok(());
                }
                self.mend().await?;
            }
            let is_late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if !is_late {
                self.refill().await?;
                self.ask();
            }
            if self.batches.is_empty() && self.answered.is_empty() {
                let waits = !is_late && self.not_before > Instant::now();
                if !waits && (is_late || !self.has_work()) {
                    return self.hand_on().await;
                }
            }
            let is_overdue = deadline.is_some_and(|deadline| deadline + OVERDUE < Instant::now());
            if is_overdue && !self.batches.is_empty() {
                // A pause has ended by itself, and who does not answer is not waited for as long as otherwise.
                let error = self.peer.mute(OVERDUE);
                self.wire_is_broken(error);
                continue;
            }
            let pace = self.not_before.saturating_duration_since(Instant::now());
            tokio::select! {
                answer = self.wire.answer(), if !self.batches.is_empty() => match answer {
                    Ok(answer) => self.take_answer(answer)?,
                    Err(error) => self.wire_is_broken(error),
                },
                event = self.link.next() => self.absorb(event.map_err(Error::Link)?).await?,
                error = self.outlet.failure() => return Err(error),
                () = tokio::time::sleep(pace), if !pace.is_zero() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            self.watch_the_clock().await?;
        }
    }

    /// Every second: how much memory the source has left, and whether the stream comes.
    async fn watch_the_clock(&mut self) -> Result<(), Error> {
        match (self.answered.front(), self.late_since) {
            (None, _) => self.late_since = None,
            (Some(_), None) => self.late_since = Some(Instant::now()),
            (Some(answered), Some(since)) if since.elapsed() > STREAM_LATE => {
                return Err(Error::StreamStuck { offset: answered.until, after_s: STREAM_LATE.as_secs() });
            }
            _ => {}
        }
        if self.looked.elapsed() >= LOOK_EVERY && !self.pausing {
            let info = self.info().await?;
            self.look(&info);
            self.tell();
        }
        Ok(())
    }

    // --- what comes back -----------------------------------------------------------------------------------------

    fn take_answer(&mut self, answer: Answer) -> Result<(), Error> {
        let Some(batch) = self.batches.pop_front() else { return Ok(()) };
        if let Some(busy) = answer.replies.iter().find(|reply| is_busy(reply)).and_then(Reply::error) {
            // Like one that does not answer: it is asked again when the script has ended.
            let error = self.peer.refused("copying", busy);
            self.batches.push_front(batch);
            self.wire_is_broken(error);
            return Ok(());
        }
        self.wire_trouble.is_over();
        self.pace_bytes(answer.bytes);
        let held = answer.took.saturating_sub(self.rtt);
        self.stats.longest = self.stats.longest.max(held);
        if batch.items.len() >= self.batch_keys / 2 || held > self.options.hold {
            let ratio = self.options.hold.as_secs_f64() / held.as_secs_f64().max(1e-6);
            let keys = (self.batch_keys as f64 * ratio.clamp(0.5, 1.5)) as usize;
            self.batch_keys = keys.clamp(KEYS_MIN, KEYS_MAX);
        }
        if batch.items.iter().any(|item| matches!(item, Item::Functions)) {
            self.functions_in_flight = false;
        }
        let answered = Answered::new(batch, answer.replies, self.replid)?;
        self.expires.insert(answered.batch.db, (answered.expires, answered.field_expiries));
        self.answered.push_back(answered);
        Ok(())
    }

    /// Keeps what the stream has been read far enough for.
    async fn settle_ready(&mut self) -> Result<(), Error> {
        while self.answered.front().is_some_and(|answered| answered.until <= self.ledger.offset()) {
            if let Some(answered) = self.answered.pop_front() {
                self.settle(answered)?;
                self.hand_on().await?;
            }
        }
        Ok(())
    }

    /// Takes in what happened on the link.
    pub(super) async fn absorb(&mut self, event: Event) -> Result<(), Error> {
        match event {
            Event::Commands { commands, .. } => {
                for (command, offset) in &commands {
                    self.know(command).await?;
                    self.ledger.command(&self.table, command, *offset);
                }
            }
            Event::Resumed(position) => {
                Error::unless_same(self.replid, position.replid)?;
                self.stats.reconnects += 1;
                self.link_is_down = false;
                self.tell_link();
            }
            Event::Down { .. } => {
                self.link_is_down = true;
                self.tell_link();
            }
            Event::FullResync(position) => {
                let (was, is) = (self.replid.to_string(), position.replid.to_string());
                return Err(Error::AnotherHistory { was, is });
            }
            Event::PayloadStart(_) | Event::Payload(_) | Event::PayloadEnd => {}
        }
        Ok(())
    }

    /// A name that the source's table does not have is asked for once. A connection that breaks at that is made again even
    /// while writers are paused: the command is taken in by nobody else, and the pause ends by itself.
    async fn know(&mut self, command: &StreamCommand) -> Result<(), Error> {
        let name = command.name();
        if !self.table.knows(name) {
            let reply = self.ask_control(&[&b"COMMAND"[..], b"INFO", name]).await?;
            self.table.add(name, &reply)?;
        }
        Ok(())
    }

    pub(super) fn push(&mut self, change: Change) {
        // The ledger's own come before: a key's value belongs to a space that was opened.
        self.changes.extend(self.ledger.take_changes());
        self.changes.push(change);
    }

    /// Hands on what is known, and puts dirty names aside.
    async fn hand_on(&mut self) -> Result<(), Error> {
        self.changes.extend(self.ledger.take_changes());
        if !self.changes.is_empty() {
            self.outlet.send(std::mem::take(&mut self.changes)).await?;
        }
        let names = self.ledger.take_names();
        if !names.is_empty() {
            self.names.push(names).await?;
        }
        Ok(())
    }

    /// Names that wait.
    pub(super) fn names_waiting(&self) -> u64 {
        self.names.len()
    }

    /// Whether a key changes too often to be read in parts, in order, while it is written.
    pub(super) fn is_hot(&self, id: Id) -> bool {
        self.ledger.restarts(id) >= RESTARTS
    }

    /// Puts a key aside until writers are paused.
    pub(super) fn defer(&mut self, space: u32, id: Id, key: Bytes, bytes: u64) {
        self.ledger.put_aside(space, id);
        self.deferred.push(Deferred { space, key, bytes });
    }

    /// Takes up what was put aside.
    pub(super) fn take_up(&mut self) {
        for Deferred { space, key, .. } in std::mem::take(&mut self.deferred) {
            let name = Name { owner: Owner::Space(space), name: key };
            if let Some(id) = self.ledger.wants(&name) {
                self.queue(space).first.push_back((id, name.name));
            }
        }
    }

    pub(super) fn tell(&mut self) {
        let values = self.active.len() as u64;
        let big = (values > 0).then_some(BigProgress { values, parts: self.stats.big_parts });
        let (dirty, offset) = (self.ledger.dirty() as u64, self.ledger.offset());
        // Names, the stream and the sink share one account.
        let spooled_bytes = self.options.spool.budget.gauge().bytes();
        let stats = &self.stats;
        self.progress.send_modify(|progress| {
            progress.copied = stats.copied;
            progress.copied_bytes = stats.copied_bytes;
            progress.rounds = stats.rounds;
            (progress.dirty, progress.offset, progress.big) = (dirty, offset, big);
            progress.spooled_bytes = spooled_bytes;
        });
    }
}

/// What the source says of the commands that we have rules for. Others are asked about when they come.
async fn read_table(control: &mut Client, server: Server) -> Result<CommandTable, Error> {
    let mut table = CommandTable::new(server);
    for names in CommandTable::names().chunks(NAMES_PER_PAGE) {
        let mut about = vec![Bytes::from_static(b"COMMAND"), Bytes::from_static(b"INFO")];
        about.extend(names.iter().cloned());
        table.confirm(names, &control.ask(&about).await?)?;
    }
    Ok(table)
}

//! The capture itself: asks, settles, follows the stream, until nothing is left.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::watch;

use super::attach::Attached;
use super::change::Change;
use super::copy::{Answered, Batch, Item};
use super::dialect::Dialect;
use super::guess::Guess;
use super::ids::{Id, Ids, Owner};
use super::ledger::{Ledger, Name, Scan};
use super::mutant::lacks;
use super::names::Names;
use super::outlet::Outlet;
use super::wire::{Answer, Request, Wire};
use super::{BigProgress, Error, Options, Progress};
use crate::command::CommandTable;
use crate::endpoint::{Client, Endpoint};
use crate::link::{Event, Link};
use crate::psync::ReplId;
use crate::rdb::DataType;
use crate::resp::StreamCommand;

/// So many requests are under way at a time: while one is answered, the next is on its way.
const BATCHES: usize = 2;
/// The most keys of a request.
const KEYS_MAX: usize = 1000;
/// The fewest.
const KEYS_MIN: usize = 8;
/// The most bytes of what is asked for as a small string.
const TEXT_BYTES: u64 = 1024;
/// For so long the stream may be behind what INFO said.
const STREAM_LATE: Duration = Duration::from_secs(60);
/// How often the source's memory is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// After so many beginnings a big value that changes all the time waits for the cut.
const RESTARTS: u32 = 3;
/// Names that may wait to be asked for.
const QUEUED: usize = 4 * KEYS_MAX;

/// What waits to be asked for, of one space.
#[derive(Default)]
pub(super) struct Queue {
    pub first: VecDeque<(Id, Bytes)>,
    pub sizes: VecDeque<(Id, Bytes)>,
    pub types: VecDeque<(Id, Bytes, u64)>,
    pub wholes: VecDeque<(Id, Bytes, u64)>,
}

impl Queue {
    /// What was asked about and is to be asked more about.
    fn begun(&self) -> impl Iterator<Item = Id> {
        let sizes = self.sizes.iter().map(|(id, _)| *id);
        let others = self.types.iter().chain(&self.wholes).map(|(id, ..)| *id);
        sizes.chain(others)
    }

    fn len(&self) -> usize {
        self.first.len() + self.sizes.len() + self.types.len() + self.wholes.len()
    }
}

/// Bytes that decide how something is asked for.
pub(super) struct Limits {
    /// Replies in flight.
    pub in_flight: u64,
    /// A small string.
    pub text: u64,
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
    wire: Wire,
    selected: Option<u32>,
    /// In flight, oldest first.
    batches: VecDeque<(Batch, Instant)>,
    /// Answered, but the stream was not read so far.
    answered: VecDeque<Answered>,
    late_since: Option<Instant>,
    queues: BTreeMap<u32, Queue>,
    /// Spaces of which a page of names is in flight.
    pub scanning: HashSet<u32>,
    functions_in_flight: bool,
    names: Names,
    /// Names that may still be taken from those in this round.
    pub quota: u64,
    /// Big values that are being read.
    pub active: VecDeque<u32>,
    elements: HashMap<u32, VecDeque<(Id, Bytes)>>,
    pub field_expiries: HashMap<u32, VecDeque<(Id, Bytes, Bytes)>>,
    pub element_types: HashMap<u32, DataType>,
    pub deferred: Vec<Deferred>,
    /// Streams that hold what no command shows.
    pub unreadable: HashSet<Id>,
    /// Whether writers are paused: what changes too often may be read now.
    pub pausing: bool,
    /// Whether what does not hold is kept all the same.
    pub is_lenient: bool,
    pub guess: Guess,
    pub limits: Limits,
    batch_keys: usize,
    rtt: Duration,
    /// Not earlier than this the next request, under a rate limit.
    not_before: Instant,
    expires: HashMap<u32, (bool, bool)>,
    name_bytes: usize,
    pub rdb_version: Option<u16>,
    changes: Vec<Change>,
    pub outlet: Outlet,
    pub stats: Stats,
    pub progress: watch::Sender<Progress>,
    looked: Instant,
}

impl Run {
    /// Goes on with a stream that is attached to.
    pub async fn start(
        source: &Endpoint,
        attached: Attached,
        options: Options,
        outlet: Outlet,
        progress: watch::Sender<Progress>,
    ) -> Result<Self, Error> {
        let server = attached.info.server;
        let dialect = Dialect::of(server);
        let max_pause = options.max_pause.filter(|_| dialect.pauses_writes);
        let options = Options { max_pause, ..options };
        let mut control = Client::connect(source, options.timeout).await?;
        let mut table = CommandTable::read(&control.ask(&["COMMAND"]).await?, server)?;
        let names = table.names();
        let mut about = vec![Bytes::from_static(b"COMMAND"), Bytes::from_static(b"INFO")];
        about.extend(names.iter().cloned());
        table.confirm(&names, &control.ask(&about).await?)?;
        let mut copying = Client::connect(source, options.timeout).await?;
        prepare(&mut copying, attached.import_source).await?;
        let mut rtt = Duration::MAX;
        for _ in 0..5 {
            let asked = Instant::now();
            copying.ask(&["INFO", "replication"]).await?;
            rtt = rtt.min(asked.elapsed());
        }
        let limit = Duration::from_secs(60).max(options.timeout);
        let mut run = Self {
            source: source.clone(),
            dialect,
            ledger: Ledger::new(Ids::new(), attached.start.offset, attached.stream_db, dialect.is_seven),
            table,
            replid: attached.start.replid,
            link: attached.link,
            control,
            wire: Wire::start(source, copying, limit),
            selected: Some(0),
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
            element_types: HashMap::new(),
            deferred: Vec::new(),
            unreadable: HashSet::new(),
            pausing: false,
            is_lenient: false,
            guess: Guess::new(),
            limits: Limits { in_flight: 0, text: 0, big: 0, dump: 0 },
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
        let max = info.number("maxmemory").unwrap_or(0);
        let used = info.number("used_memory").unwrap_or(0);
        let free = if max == 0 { u64::MAX } else { max.saturating_sub(used) };
        // A source that is full can still answer; but not much at a time.
        let in_flight = self.options.in_flight_bytes.min(free / 10).max(16 * 1024);
        self.limits = Limits {
            in_flight,
            text: TEXT_BYTES.min(in_flight / 16),
            big: self.options.big_value_bytes.min(in_flight),
            dump: self.options.max_dump_bytes.min((free / 10).max(in_flight)),
        };
        self.looked = Instant::now();
    }

    /// The offset of the source now.
    pub async fn now(&mut self) -> Result<u64, Error> {
        let reply = self.control.ask(&["INFO", "replication"]).await?;
        super::dialect::Replies::new(vec![reply]).offset(self.replid)
    }

    /// Learns which databases hold keys, if that is not known.
    pub async fn discover(&mut self) -> Result<(), Error> {
        if self.ledger.wants_databases().is_none() {
            return Ok(());
        }
        // Databases and offset of one moment: between two replies databases may be exchanged.
        let info = self.control.info().await?;
        if info.position.replid != self.replid {
            let (was, is) = (self.replid.to_string(), info.position.replid.to_string());
            return Err(Error::AnotherHistory { was, is });
        }
        let at = info.position.offset;
        self.absorb_to(at).await?;
        self.ledger.discovered(at, info.keyspace.into_keys());
        Ok(())
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
            let pace = self.not_before.saturating_duration_since(Instant::now());
            tokio::select! {
                answer = self.wire.answer(), if !self.batches.is_empty() => self.take_answer(answer?)?,
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
            let info = self.control.info().await?;
            self.look(&info);
            self.tell();
        }
        Ok(())
    }

    // --- asking --------------------------------------------------------------------------------------------------

    pub(super) fn queue(&mut self, space: u32) -> &mut Queue {
        self.queues.entry(space).or_default()
    }

    /// Takes names that are to be read again, as far as this round goes.
    async fn refill(&mut self) -> Result<(), Error> {
        while self.quota > 0 && self.names.len() > 0 && self.queued() < QUEUED {
            for name in self.names.take().await? {
                self.quota = self.quota.saturating_sub(1);
                let Some(id) = self.ledger.wants(&name) else { continue };
                match name.owner {
                    Owner::Space(space) => self.queue(space).first.push_back((id, name.name)),
                    Owner::Big(big) => self.elements.entry(big).or_default().push_back((id, name.name)),
                }
                self.stats.copied_again += 1;
            }
        }
        Ok(())
    }

    fn queued(&self) -> usize {
        let keys: usize = self.queues.values().map(Queue::len).sum();
        keys + self.elements.values().map(VecDeque::len).sum::<usize>()
    }

    fn has_work(&mut self) -> bool {
        let functions = self.ledger.functions_are_dirty() && !self.functions_in_flight;
        self.next_space().is_some() || functions || (self.quota > 0 && self.names.len() > 0)
    }

    /// A space of which something can be asked, the one with the most first.
    fn next_space(&mut self) -> Option<u32> {
        self.forget_what_is_gone();
        let ledger = &self.ledger;
        self.queues.retain(|_, queue| queue.len() > 0);
        let busiest = self.queues.iter().max_by_key(|(_, queue)| queue.len()).map(|(space, _)| *space);
        if busiest.is_some() {
            return busiest;
        }
        let unscanned = ledger.unscanned().find(|(space, _)| !self.scanning.contains(space));
        if let Some((space, _)) = unscanned {
            return Some(space);
        }
        self.next_big_space()
    }

    /// What waits to be asked more about is in flight until it is settled, which never comes once its space or its big
    /// value is gone.
    fn forget_what_is_gone(&mut self) {
        let ledger = &mut self.ledger;
        self.queues.retain(|space, queue| {
            let is_there = ledger.space(*space).is_some();
            if !is_there {
                queue.begun().for_each(|id| ledger.forget(id));
            }
            is_there
        });
        self.field_expiries.retain(|big, queue| {
            let is_there = ledger.big(*big).is_some();
            if !is_there {
                queue.iter().for_each(|(id, ..)| ledger.forget(*id));
            }
            is_there
        });
    }

    fn next_big_space(&mut self) -> Option<u32> {
        let (ledger, active) = (&mut self.ledger, &mut self.active);
        self.elements.retain(|big, queue| !queue.is_empty() && ledger.big(*big).is_some());
        self.field_expiries.retain(|big, queue| !queue.is_empty() && ledger.big(*big).is_some());
        active.retain(|big| ledger.big(*big).is_some_and(|big| !big.is_complete()));
        // One that was complete may have its expiry to be asked for again.
        let again = ledger.bigs().filter(|big| big.wants_expiry()).map(|big| big.number);
        for big in again.collect::<Vec<_>>() {
            if !active.contains(&big) {
                active.push_back(big);
            }
        }
        let mut bigs = self.field_expiries.keys().chain(self.elements.keys()).copied().collect::<Vec<_>>();
        let idle = |big: &u32| {
            ledger.big(*big).is_some_and(|big| big.has_page() && !big.is_busy || big.wants_expiry())
        };
        bigs.extend(active.iter().copied().collect::<Vec<_>>().into_iter().filter(idle).take(1));
        bigs.into_iter().find_map(|big| ledger.big(big).map(|big| big.space))
    }

    /// Sends requests while there is room for them.
    fn ask(&mut self) {
        while self.batches.len() < BATCHES && self.not_before <= Instant::now() {
            let Some(batch) = self.compose() else { return };
            let ledger = std::cell::RefCell::new(&mut self.ledger);
            let commands = batch.commands(&self.dialect, |big| {
                let mut ledger = ledger.borrow_mut();
                let big = ledger.big(big)?;
                let len = super::copy::page_len(big);
                Some((big.key.clone(), big.data_type, big.reading.clone(), len))
            });
            if batch.selects {
                self.selected = Some(batch.db);
            }
            self.pace(&batch);
            self.wire.ask(Request { bytes: commands.bytes.freeze(), replies: commands.count });
            self.batches.push_back((batch, Instant::now()));
        }
    }

    /// Under a rate limit, when the next request may be sent.
    fn pace(&mut self, batch: &Batch) {
        let mut wait = Duration::ZERO;
        if let Some(keys) = self.options.max_keys_per_s {
            wait = Duration::from_secs_f64(batch.items.len() as f64 / keys.max(1) as f64);
        }
        if let Some(bytes) = self.options.max_bytes_per_s {
            let expected = (batch.reply_bytes / 2) as f64;
            wait = wait.max(Duration::from_secs_f64(expected / bytes.max(1) as f64));
        }
        if !wait.is_zero() && !self.pausing {
            self.not_before = Instant::now().max(self.not_before) + wait;
        }
    }

    /// The next request, if there is anything to ask and room for the answer.
    fn compose(&mut self) -> Option<Batch> {
        let functions = self.ledger.functions_are_dirty() && !self.functions_in_flight;
        let space = match self.next_space() {
            Some(space) => space,
            None if functions => self.ledger.databases().values().next().copied().unwrap_or(0),
            None => return None,
        };
        let db = self.ledger.space(space).map_or(0, |space| space.db);
        let (expires, fields) = self.expires.get(&db).copied().unwrap_or((true, true));
        let mut batch = Batch {
            db,
            space,
            items: Vec::new(),
            asks_expiries: expires,
            asks_fields: fields && self.dialect.field_expiries,
            selects: self.selected != Some(db),
            reply_bytes: 0,
            text_bytes: self.limits.text,
            page_len: 0,
        };
        let in_flight: u64 = self.batches.iter().map(|(batch, _)| batch.reply_bytes).sum();
        let room =
            (self.limits.in_flight / BATCHES as u64).min(self.limits.in_flight.saturating_sub(in_flight));
        if functions {
            self.functions_in_flight = true;
            batch.items.push(Item::Functions);
        }
        self.put_keys(&mut batch, room, in_flight == 0);
        self.put_bigs(&mut batch, room);
        self.put_scan(&mut batch);
        for item in &batch.items {
            match item {
                Item::Text(id, _) | Item::Size(id, _) | Item::Type(id, ..) | Item::Whole(id, _) => {
                    self.ledger.asked(*id);
                }
                Item::Elements(_, elements) => elements.iter().for_each(|(id, _)| self.ledger.asked(*id)),
                _ => {}
            }
        }
        (!batch.items.is_empty()).then_some(batch)
    }

    fn put_keys(&mut self, batch: &mut Batch, room: u64, is_alone: bool) {
        let (keys_max, text) = (self.batch_keys, self.limits.text + 32);
        let Some(queue) = self.queues.get_mut(&batch.space) else { return };
        while batch.items.len() < keys_max {
            // What was begun is ended first.
            if let Some((_, _, bytes)) = queue.wholes.front() {
                let bytes = *bytes + 64;
                let fits = batch.reply_bytes + bytes <= room;
                // More than there is room for goes alone.
                if fits || (is_alone && batch.reply_bytes == 0) {
                    if let Some((id, key, _)) = queue.wholes.pop_front() {
                        batch.items.push(Item::Whole(id, key));
                        batch.reply_bytes += bytes;
                    }
                    continue;
                }
                return;
            }
            let item = if let Some((id, key, bytes)) = queue.types.pop_front() {
                Item::Type(id, key, bytes)
            } else if let Some((id, key)) = queue.sizes.pop_front() {
                Item::Size(id, key)
            } else if let Some((_, key)) = queue.first.front() {
                let is_text = self.guess.is_text(key);
                if is_text && batch.reply_bytes + text > room {
                    return;
                }
                let Some((id, key)) = queue.first.pop_front() else { return };
                if is_text { Item::Text(id, key) } else { Item::Size(id, key) }
            } else {
                return;
            };
            batch.reply_bytes += if matches!(item, Item::Text(..)) { text } else { 16 };
            batch.items.push(item);
        }
    }

    fn put_bigs(&mut self, batch: &mut Batch, room: u64) {
        let page_bytes = super::parts::PAGE_BYTES;
        let has_room = |batch: &Batch| {
            batch.reply_bytes + page_bytes <= room.max(page_bytes) && batch.items.len() < KEYS_MAX
        };
        for (number, queue) in &mut self.field_expiries {
            let Some(big) = self.ledger.big(*number) else { continue };
            if big.space != batch.space || queue.is_empty() || !has_room(batch) {
                continue;
            }
            let count = queue.len().min(self.batch_keys.max(64));
            batch.items.push(Item::FieldExpiries(*number, queue.drain(..count).collect()));
            batch.reply_bytes += 24 * count as u64;
        }
        for (number, queue) in &mut self.elements {
            let Some(big) = self.ledger.big(*number) else { continue };
            if big.space != batch.space || queue.is_empty() || !has_room(batch) {
                continue;
            }
            self.element_types.insert(*number, big.data_type);
            let count = queue.len().min(self.batch_keys.max(64)).min(big.page.max(16) as usize);
            batch.items.push(Item::Elements(*number, queue.drain(..count).collect()));
            batch.reply_bytes += page_bytes / 4;
        }
        for _ in 0..self.active.len() {
            let Some(number) = self.active.pop_front() else { return };
            self.active.push_back(number);
            let Some(big) = self.ledger.big(number) else { continue };
            if big.space != batch.space || !has_room(batch) {
                continue;
            }
            if big.wants_expiry() {
                big.expiry_is_asked = true;
                batch.items.push(Item::Expiry(number));
            }
            if big.has_page() && !big.is_busy {
                big.is_busy = true;
                batch.items.push(match &big.stream {
                    Some(stream) => Item::Stream(number, stream.ask().clone()),
                    None => Item::Page(number),
                });
                batch.reply_bytes += page_bytes;
            }
        }
    }

    fn put_scan(&mut self, batch: &mut Batch) {
        let queued = self.queues.get(&batch.space).map_or(0, Queue::len);
        let wanted = 2 * self.batch_keys;
        if queued >= wanted || self.scanning.contains(&batch.space) {
            return;
        }
        if let Some(Scan::At(cursor)) = self.ledger.space(batch.space).map(|space| space.scan.clone()) {
            // A page of names is a reply as others are.
            let fit = self.limits.in_flight as usize / 4 / self.name_bytes.max(16);
            batch.page_len = wanted.min(fit).max(10) as u64;
            batch.reply_bytes += batch.page_len * (self.name_bytes as u64 + 16);
            batch.items.push(Item::Scan(cursor));
            self.scanning.insert(batch.space);
        }
    }

    /// How long names are, roughly.
    pub(super) fn note_names(&mut self, count: usize, bytes: usize) {
        if let Some(each) = bytes.checked_div(count) {
            self.name_bytes = (self.name_bytes + each) / 2;
        }
    }

    // --- what comes back -----------------------------------------------------------------------------------------

    fn take_answer(&mut self, answer: Answer) -> Result<(), Error> {
        let Some((batch, _)) = self.batches.pop_front() else { return Ok(()) };
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
        self.expires.insert(answered.batch.db, (answered.has_expiries(), answered.field_expiries));
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
                if position.replid != self.replid {
                    let (was, is) = (self.replid.to_string(), position.replid.to_string());
                    return Err(Error::AnotherHistory { was, is });
                }
                self.stats.reconnects += 1;
                self.progress.send_modify(|progress| progress.link_down = false);
            }
            Event::Down { .. } => self.progress.send_modify(|progress| progress.link_down = true),
            Event::FullResync(position) => {
                let (was, is) = (self.replid.to_string(), position.replid.to_string());
                return Err(Error::AnotherHistory { was, is });
            }
            Event::PayloadStart(_) | Event::Payload(_) | Event::PayloadEnd => {}
        }
        Ok(())
    }

    /// A name that the source's table does not have is asked for once.
    async fn know(&mut self, command: &StreamCommand) -> Result<(), Error> {
        let name = command.name();
        if !self.table.knows(name) {
            let reply = self.control.ask(&[&b"COMMAND"[..], b"INFO", name]).await?;
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
    pub(super) fn is_hot(&self, id: Id, _data_type: Option<DataType>) -> bool {
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
        let bigs: Vec<u32> = self.active.iter().copied().collect();
        let values = bigs.len() as u64;
        let big = (values > 0).then_some(BigProgress { values, parts: self.stats.big_parts });
        let (dirty, offset) = (self.ledger.dirty() as u64, self.ledger.offset());
        let spooled_bytes =
            self.names.spooled_bytes() + self.link.spooled().bytes() + self.outlet.spooled_bytes();
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

/// Sets the connection up that keys are read from.
async fn prepare(copying: &mut Client, import_source: bool) -> Result<(), Error> {
    if import_source && !lacks("import-source") {
        copying.ask(&["CLIENT", "IMPORT-SOURCE", "ON"]).await?;
    }
    // Since 7.2; before, DUMP counts as use.
    match copying.ask(&["CLIENT", "NO-TOUCH", "ON"]).await {
        Ok(_) | Err(crate::endpoint::Error::Refused { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

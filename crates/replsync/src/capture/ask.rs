//! What is asked for next: requests put together from what waits, within what the source may have to hold.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::Error;
use super::copy::{Batch, Item};
use super::footprint::IN_FLIGHT_MIN_BYTES;
use super::ids::{Id, Owner};
use super::ledger::Scan;
use super::run::Run;
use super::wire::Request;

/// So many requests are under way at a time: while one is answered, the next is on its way …
const BATCHES: usize = 2;
/// … more of them to a source that is farther away than it needs for one.
const BATCHES_FAR: usize = 4;
/// A source is far away from this round trip on.
const FAR: Duration = Duration::from_millis(1);
/// The most keys of a request: enough that what goes with each request costs little, and few enough that clients whose
/// commands come behind it hardly wait.
pub(super) const KEYS_MAX: usize = 192;
/// A page of names is for so many requests: while the next is asked for there is enough to ask about.
const REQUESTS_PER_PAGE: usize = 3;
/// Under a rate limit, what was not asked for in so long may be made up for.
const LATE_MAX: Duration = Duration::from_millis(20);
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

impl Run {
    pub(super) fn queue(&mut self, space: u32) -> &mut Queue {
        self.queues.entry(space).or_default()
    }

    /// Takes names that are to be read again, as far as this round goes.
    pub(super) async fn refill(&mut self) -> Result<(), Error> {
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

    pub(super) fn has_work(&mut self) -> bool {
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
        self.field_expiries.retain(|_, queue| !queue.is_empty());
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

    fn batches_max(&self) -> usize {
        let is_full = self.limits.in_flight <= IN_FLIGHT_MIN_BYTES;
        if self.rtt < FAR || is_full { BATCHES } else { BATCHES_FAR }
    }

    /// Sends requests while there is room for them.
    pub(super) fn ask(&mut self) {
        while self.batches.len() < self.batches_max() && self.not_before <= Instant::now() {
            let Some(batch) = self.compose() else { return };
            let commands = batch.commands(&self.dialect, &self.ledger);
            if batch.selects {
                self.selected = Some(batch.db);
            }
            self.pace(&batch);
            self.wire.ask(Request { bytes: commands.bytes.freeze(), replies: commands.count });
            self.batches.push_back(batch);
        }
    }

    /// Under a limit of keys, when the next request may be sent.
    fn pace(&mut self, batch: &Batch) {
        if let Some(keys) = self.options.max_keys_per_s {
            self.pause_for(batch.items.len() as u64, keys);
        }
    }

    /// Under a limit of bytes, the same by what came.
    pub(super) fn pace_bytes(&mut self, bytes: u64) {
        if let Some(limit) = self.options.max_bytes_per_s {
            self.pause_for(bytes, limit);
        }
    }

    fn pause_for(&mut self, count: u64, limit_per_s: u64) {
        let wait = Duration::from_secs_f64(count as f64 / limit_per_s.max(1) as f64);
        if !wait.is_zero() && !self.pausing {
            // Who wakes up late makes up for it: a request takes less time than a timer is accurate to.
            let earliest = Instant::now().checked_sub(LATE_MAX).unwrap_or(self.not_before);
            self.not_before = self.not_before.max(earliest) + wait;
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
            page_bytes: self.limits.page,
        };
        let in_flight: u64 = self.batches.iter().map(|batch| batch.reply_bytes).sum();
        let room = (self.limits.in_flight / self.batches_max() as u64)
            .min(self.limits.in_flight.saturating_sub(in_flight));
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
                Item::Elements(_, _, elements) => elements.iter().for_each(|(id, _)| self.ledger.asked(*id)),
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
        let page_bytes = self.limits.page;
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
            let data_type = big.data_type;
            let count = queue.len().min(self.batch_keys.max(64)).min(big.page as usize);
            batch.items.push(Item::Elements(*number, data_type, queue.drain(..count).collect()));
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
        let wanted = REQUESTS_PER_PAGE * self.batch_keys;
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
}

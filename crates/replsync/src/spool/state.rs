//! What waits in a queue, and where.

use std::collections::VecDeque;
use std::mem::take;
use std::sync::Arc;
use std::time::Instant;

use super::disk::Shared;
use super::segment::{Kind, READ_BYTES, Segment};
use super::{Error, Item, Record};

/// Items in their order: in memory, read back from disk, on disk, being written, and to be written.
pub(super) struct State<T> {
    /// Each with its cost in bytes.
    memory: VecDeque<(T, usize)>,
    memory_bytes: usize,
    /// What was read back from disk, each with what it took there; and what is wrong with the one behind.
    ahead: VecDeque<(T, u64)>,
    ahead_bytes: u64,
    ahead_error: Option<Error>,
    /// The thread reads.
    reading: bool,
    /// The receiver wants more to be read.
    pub(super) wanted: bool,
    /// Files that hold something to read. The first is read, the last is written; one file may be both.
    pub(super) segments: VecDeque<Open>,
    /// What could not be written: an item for each record that only holds its place.
    kept: VecDeque<T>,
    /// The thread writes what costs so much memory.
    writing: Option<usize>,
    /// The thread waits for more to write.
    pub(super) writer_waits: bool,
    /// What is to be written, each with its cost in memory and what it will take on disk.
    behind: VecDeque<Behind<T>>,
    behind_bytes: usize,
    /// Since when more than half of what may wait to be written did, once it was more than all.
    behind_since: Option<Instant>,
    /// How often all was dropped: what was being read or written then is void.
    drops: u64,
    /// Files that nobody reads any more. To give back gigabytes of disk takes a while, and a disk may stand still:
    /// a thread closes them.
    pub(super) garbage: Vec<Open>,
    pub(super) sender_left: bool,
    pub(super) closed: bool,
    /// Why, if the receiver has yet to be told.
    pub(super) failure: Option<Error>,
}

/// An item that is to be written.
pub(super) struct Behind<T> {
    pub(super) item: T,
    cost_bytes: usize,
    disk_bytes: u64,
}

/// A file, and how far it is read and written.
#[derive(Clone, Debug)]
pub(super) struct Open {
    pub(super) segment: Arc<Segment>,
    pub(super) read: u64,
    pub(super) written: u64,
}

/// Where a sent item went.
pub(super) enum Taken {
    /// To memory.
    Memory,
    /// Behind what is written to disk.
    Behind {
        /// The thread is to be told.
        writer_waits: bool,
    },
    /// Nowhere: it is closed.
    Closed,
}

/// What the receiver sees.
pub(super) enum Next<T> {
    Item(T),
    Nothing,
    End,
    Failed(Error),
}

/// What is written next.
pub(super) struct Writing<T> {
    pub(super) items: Vec<Behind<T>>,
    /// The file that was written last.
    pub(super) last: Option<Open>,
    drops: u64,
}

/// What is read next.
pub(super) struct Reading {
    pub(super) open: Open,
    drops: u64,
}

/// What was read: items, or the place of one that is held in memory, with what they took on disk.
pub(super) struct Found<T> {
    pub(super) items: Vec<(Option<T>, u64)>,
    pub(super) end: u64,
    pub(super) error: Option<Error>,
}

impl<T> Default for State<T> {
    fn default() -> Self {
        Self {
            memory: VecDeque::new(),
            memory_bytes: 0,
            ahead: VecDeque::new(),
            ahead_bytes: 0,
            ahead_error: None,
            reading: false,
            wanted: false,
            segments: VecDeque::new(),
            kept: VecDeque::new(),
            writing: None,
            writer_waits: false,
            behind: VecDeque::new(),
            behind_bytes: 0,
            behind_since: None,
            drops: 0,
            garbage: Vec::new(),
            sender_left: false,
            closed: false,
            failure: None,
        }
    }
}

/// What the ends do.
impl<T: Item> State<T> {
    /// Adds an item behind all others.
    pub(super) fn add(&mut self, item: T, shared: &Shared<T>) -> Result<Taken, Error> {
        if self.closed {
            return Ok(Taken::Closed);
        }
        let cost_bytes = item.cost_bytes() + size_of::<(T, usize)>();
        let fits = self.memory_bytes + cost_bytes <= shared.config.memory_bytes;
        if !self.is_on_disk() && (fits || self.memory.is_empty()) {
            self.memory.push_back((item, cost_bytes));
            self.memory_bytes += cost_bytes;
            return Ok(Taken::Memory);
        }
        let disk_bytes = Record::measure(&item);
        shared.config.budget.take(disk_bytes, &shared.config.folder)?;
        shared.gauge.add(disk_bytes);
        self.behind.push_back(Behind { item, cost_bytes, disk_bytes });
        self.behind_bytes += cost_bytes;
        if self.behind_bytes > shared.config.write_behind_bytes {
            self.behind_since.get_or_insert_with(Instant::now);
        }
        Ok(Taken::Behind { writer_waits: take(&mut self.writer_waits) })
    }

    /// Whether anything is behind what waits in memory.
    fn is_on_disk(&self) -> bool {
        !(self.ahead.is_empty()
            && self.ahead_error.is_none()
            && self.segments.is_empty()
            && self.behind.is_empty()
            && self.writing.is_none())
    }

    /// Takes the next item, and has more read where that is on disk.
    pub(super) fn next(&mut self, shared: &Shared<T>) -> Next<T> {
        if let Some(error) = self.failure.take() {
            return Next::Failed(error);
        }
        if self.closed {
            return Next::End;
        }
        if let Some((item, cost_bytes)) = self.memory.pop_front() {
            self.memory_bytes -= cost_bytes;
            return Next::Item(item);
        }
        if self.ahead_bytes < READ_BYTES as u64 / 2 && !self.segments.is_empty() && !self.wanted {
            self.wanted = true;
            shared.to_read.notify_one();
        }
        if let Some((item, disk_bytes)) = self.ahead.pop_front() {
            self.ahead_bytes -= disk_bytes;
            shared.give_back(disk_bytes);
            return Next::Item(item);
        }
        if let Some(error) = self.ahead_error.take() {
            return Next::Failed(error);
        }
        if !self.segments.is_empty() || self.writing.is_some() {
            return Next::Nothing;
        }
        // It was not written yet, and need not be.
        match self.behind.pop_front() {
            Some(Behind { item, cost_bytes, disk_bytes }) => {
                let had_room = self.has_room(shared);
                self.behind_less(cost_bytes, shared);
                if !had_room && self.has_room(shared) {
                    shared.left.notify_one();
                }
                shared.give_back(disk_bytes);
                Next::Item(item)
            }
            None if self.sender_left => Next::End,
            None => Next::Nothing,
        }
    }

    /// Drops all that waits; what memory held is returned, to be dropped without the lock.
    #[must_use]
    pub(super) fn clear(&mut self, shared: &Shared<T>) -> impl Sized + use<T> {
        self.drops += 1;
        shared.give_back(shared.gauge.bytes());
        self.garbage.extend(take(&mut self.segments));
        self.behind_less(self.behind_bytes, shared);
        (self.memory_bytes, self.ahead_bytes) = (0, 0);
        self.ahead_error = None;
        (take(&mut self.memory), take(&mut self.ahead), take(&mut self.kept), take(&mut self.behind))
    }

    fn behind_less(&mut self, cost_bytes: usize, shared: &Shared<T>) {
        self.behind_bytes -= cost_bytes;
        if self.behind_bytes <= shared.config.write_behind_bytes / 2 {
            self.behind_since = None;
        }
    }

    /// What costs memory until it is written.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.behind_bytes + self.writing.unwrap_or(0)
    }

    /// Whether more may wait to be written.
    pub(super) fn has_room(&self, shared: &Shared<T>) -> bool {
        self.waiting_bytes() <= shared.config.write_behind_bytes
    }

    /// Whether the disk may hold anything up.
    pub(super) fn uses_disk(&self) -> bool {
        self.reading || self.writing.is_some() || !self.behind.is_empty() || self.wanted
    }

    /// Whether nothing will be written or read any more.
    pub(super) fn is_over(&self) -> bool {
        self.closed || (self.sender_left && !self.uses_disk() && self.segments.is_empty())
    }

    /// Whether the disk stands still, or does not keep up: who is patient waits for it while it writes at all.
    pub(super) fn stall(&self, shared: &Shared<T>, patient: bool) -> Option<Error> {
        let (folder, waiting_bytes) = (&shared.config.folder, self.waiting_bytes());
        let (write_behind_bytes, limit) = (shared.config.write_behind_bytes, shared.config.stall_timeout);
        let write_limit = if !patient && waiting_bytes > write_behind_bytes { limit / 10 } else { limit };
        for (what, pulse, limit) in
            [("write", &shared.write_pulse, write_limit), ("read", &shared.read_pulse, limit)]
        {
            let Some(waited) = pulse.waited().filter(|waited| *waited >= limit) else { continue };
            let (folder, seconds) = (folder.clone(), waited.as_secs_f32());
            return Some(Error::Stalled { folder, what, seconds, waiting_bytes });
        }
        let waited = self.behind_since?.elapsed();
        let (folder, seconds) = (folder.clone(), waited.as_secs_f32());
        (!patient && waited >= limit).then_some(Error::TooSlow { folder, seconds, write_behind_bytes })
    }
}

/// What the threads do.
impl<T: Item> State<T> {
    /// Takes what is to be written next, up to so many bytes.
    pub(super) fn begin_write(&mut self, bytes: u64, shared: &Shared<T>) -> Option<Writing<T>> {
        let (mut items, mut disk_bytes, mut cost_bytes) = (Vec::new(), 0, 0);
        while disk_bytes < bytes
            && let Some(behind) = self.behind.pop_front()
        {
            disk_bytes += behind.disk_bytes;
            cost_bytes += behind.cost_bytes;
            items.push(behind);
        }
        if items.is_empty() {
            return None;
        }
        self.writing = Some(cost_bytes);
        self.behind_less(cost_bytes, shared);
        Some(Writing { items, last: self.segments.back().cloned(), drops: self.drops })
    }

    /// Shows the receiver what was written, from where that file was written before; and what of it was only kept.
    pub(super) fn end_write(&mut self, writing: Writing<T>, written: Open, kinds: &[Kind]) {
        self.writing = None;
        if writing.drops != self.drops || self.closed {
            self.garbage.push(written);
            return;
        }
        let kept = writing.items.into_iter().zip(kinds).filter(|(_, kind)| **kind == Kind::Kept);
        self.kept.extend(kept.map(|(behind, _)| behind.item));
        match self.segments.back_mut() {
            Some(last) if last.segment.number == written.segment.number => last.written = written.written,
            // A new one, or one that was read to its end and let go while this was written.
            _ => self.segments.push_back(written),
        }
    }

    /// Nothing was written.
    pub(super) fn fail_write(&mut self) {
        self.writing = None;
    }

    /// Where to read next, if the receiver wants that.
    pub(super) fn begin_read(&mut self) -> Option<Reading> {
        if !self.wanted {
            return None;
        }
        self.wanted = false;
        let open = self.segments.front()?.clone();
        self.reading = true;
        Some(Reading { open, drops: self.drops })
    }

    /// Shows the receiver what was read, unless that was dropped meanwhile. Returns a file that was read to its end.
    pub(super) fn end_read(&mut self, reading: &Reading, found: Found<T>) -> Option<Open> {
        self.reading = false;
        if reading.drops != self.drops {
            return None;
        }
        let first = self.segments.front_mut()?;
        first.read = found.end;
        let whole = first.read == first.written && found.error.is_none();
        for (item, disk_bytes) in found.items {
            if let Some(item) = item.or_else(|| self.kept.pop_front()) {
                self.ahead.push_back((item, disk_bytes));
                self.ahead_bytes += disk_bytes;
            }
        }
        self.ahead_error = found.error;
        if whole { self.segments.pop_front() } else { None }
    }
}

//! The two ends of the queue, and what is between them.

use std::collections::VecDeque;
use std::fmt;
use std::mem::take;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::task::coop::consume_budget;

use super::segment::{Kind, Segment};
use super::{Budget, Config, Error, Gauge, Item};

/// Once a file holds this much, another one is begun.
const SEGMENT_BYTES: u64 = 64 << 20;
/// … or more, so that a large spool is not more files than this: a process may hold only so many open.
const SEGMENTS_MAX: u64 = 256;

/// A queue that goes to disk where memory does not hold it. No file is made before it is needed.
pub fn queue<T: Item>(config: Config) -> (Sender<T>, Receiver<T>) {
    let segment_bytes = SEGMENT_BYTES.max(config.budget.max_bytes() / SEGMENTS_MAX);
    queue_of_segments(config, segment_bytes)
}

pub(super) fn queue_of_segments<T: Item>(config: Config, segment_bytes: u64) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared {
        state: Mutex::new(State::default()),
        arrived: Notify::new(),
        left: Notify::new(),
        gauge: Gauge::default(),
        budget: config.budget.clone(),
    });
    let receiver = Receiver(shared.clone());
    (Sender { shared, config, segment_bytes, segments: 0, buffer: Vec::new() }, receiver)
}

/// The end that never waits.
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
    config: Config,
    segment_bytes: u64,
    /// How many files were made.
    segments: u64,
    /// Where records are put together.
    buffer: Vec<u8>,
}

/// The end that takes items in their order.
pub struct Receiver<T>(Arc<Shared<T>>);

/// Nobody takes anything any more: the receiver has left, or the spool has failed, which the receiver is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nobody takes anything from the spool any more")]
pub struct Closed;

struct Shared<T> {
    /// Held for moments only: neither across an await nor while a file is read or written.
    state: Mutex<State<T>>,
    /// Tells the receiver that there is something to see.
    arrived: Notify,
    /// Tells the sender that it is closed.
    left: Notify,
    gauge: Gauge,
    budget: Budget,
}

/// All that waits in memory goes before all that waits on disk.
struct State<T> {
    /// Each with its cost in bytes.
    memory: VecDeque<(T, usize)>,
    memory_bytes: usize,
    /// Files that hold something to read. The first is read, the last is written; one file may be both.
    segments: VecDeque<Open>,
    /// Records in them that wait to be read.
    records: u64,
    /// What could not be written: an item for each record that only holds its place.
    kept: VecDeque<T>,
    sender_left: bool,
    closed: bool,
    /// Why, if the receiver has yet to be told.
    failure: Option<Error>,
}

/// A file, and how far it is read and written.
#[derive(Clone)]
pub(super) struct Open {
    pub(super) segment: Arc<Segment>,
    read: u64,
    written: u64,
}

impl<T> Default for State<T> {
    fn default() -> Self {
        Self {
            memory: VecDeque::new(),
            memory_bytes: 0,
            segments: VecDeque::new(),
            records: 0,
            kept: VecDeque::new(),
            sender_left: false,
            closed: false,
            failure: None,
        }
    }
}

impl<T: Item> Sender<T> {
    /// Adds an item behind all others. What cannot be written closes the queue, and the receiver is told why.
    pub fn send(&mut self, item: T) -> Result<(), Closed> {
        let last = {
            let mut state = self.shared.lock();
            if state.closed {
                return Err(Closed);
            }
            let cost = item.cost_bytes() + size_of::<(T, usize)>();
            let fits = state.memory_bytes + cost <= self.config.memory_bytes;
            if state.records == 0 && (fits || state.memory.is_empty()) {
                state.memory.push_back((item, cost));
                state.memory_bytes += cost;
                drop(state);
                self.shared.arrived.notify_one();
                return Ok(());
            }
            state.segments.back().cloned()
        };
        match self.write(&item, last) {
            Ok((open, kind)) => self.publish(open, (kind == Kind::Kept).then_some(item)),
            Err(error) => Err(self.fail(error)),
        }
    }

    fn fail(&self, error: Error) -> Closed {
        self.shared.close(Some(error));
        self.shared.arrived.notify_one();
        Closed
    }

    /// Writes a record, into the last file if there is room, else into a new one: says where it is.
    fn write(&mut self, item: &T, last: Option<Open>) -> Result<(Open, Kind), Error> {
        let (segment, at) = match last {
            Some(open) if open.written < self.segment_bytes => (open.segment, open.written),
            _ => {
                self.segments += 1;
                (Arc::new(Segment::create(&self.config.folder, self.segments)?), 0)
            }
        };
        let spooled_bytes = self.config.budget.gauge().bytes();
        let mut record = segment.record(at, &mut self.buffer, spooled_bytes, self.config.budget.max_bytes());
        let kind = if item.encode(&mut record) { Kind::Written } else { Kind::Kept };
        let written = record.finish(kind)?;
        Ok((Open { segment, read: at, written }, kind))
    }

    /// Shows the receiver a record that was written.
    fn publish(&mut self, record: Open, kept: Option<T>) -> Result<(), Closed> {
        let mut state = self.shared.lock();
        if state.closed {
            return Err(Closed);
        }
        state.records += 1;
        state.kept.extend(kept);
        let record_bytes = record.written - record.read;
        if let Err(error) = self.config.budget.take(record_bytes, &self.config.folder) {
            drop(state);
            return Err(self.fail(error));
        }
        self.shared.gauge.set(self.shared.gauge.bytes() + record_bytes);
        match state.segments.back_mut() {
            Some(last) if last.segment.number == record.segment.number => last.written = record.written,
            // A new one, or one that was read to its end and let go while this was written.
            _ => state.segments.push_back(record),
        }
        drop(state);
        self.shared.arrived.notify_one();
        Ok(())
    }

    /// Drops all that waits.
    pub fn clear(&mut self) {
        let _dropped = self.shared.lock().clear(&self.shared);
    }

    /// Completes when it is closed.
    pub async fn closed(&self) {
        while !self.shared.lock().closed {
            self.shared.left.notified().await;
        }
    }
}

/// What the receiver sees.
enum Next<T> {
    Item(T),
    Nothing,
    End,
}

impl<T: Item> Receiver<T> {
    /// The next item; `None` when the sender is gone and nothing is left. An error is the end, too: what was behind
    /// it is gone. Nothing is lost when this is dropped while it waits.
    pub async fn recv(&mut self) -> Result<Option<T>, Error> {
        // However much waits here, the other tasks get their turn.
        consume_budget().await;
        loop {
            match self.next()? {
                Next::Item(item) => return Ok(Some(item)),
                Next::End => return Ok(None),
                Next::Nothing => self.0.arrived.notified().await,
            }
        }
    }

    /// Waits for what ends the queue before all is taken: the disk is full, or cannot be written. A receiver that does
    /// not take anything for now hears of it here; it is told once, here or by [`recv`](Self::recv).
    pub async fn failure(&mut self) -> Error {
        loop {
            let failure = self.0.lock().failure.take();
            match failure {
                Some(error) => return error,
                None => self.0.arrived.notified().await,
            }
        }
    }

    fn next(&mut self) -> Result<Next<T>, Error> {
        loop {
            let open = {
                let mut state = self.0.lock();
                if let Some(error) = state.failure.take() {
                    return Err(error);
                }
                if let Some((item, cost)) = state.memory.pop_front() {
                    state.memory_bytes -= cost;
                    return Ok(Next::Item(item));
                }
                match state.segments.front() {
                    Some(open) => open.clone(),
                    None if state.sender_left || state.closed => return Ok(Next::End),
                    None => return Ok(Next::Nothing),
                }
            };
            match self.read(&open) {
                // It was dropped while it was read.
                Ok(None) => {}
                Ok(Some(item)) => return Ok(Next::Item(item)),
                Err(error) => {
                    self.0.close(None);
                    return Err(error);
                }
            }
        }
    }

    /// Takes the record where that file is read; `None` if it was dropped meanwhile.
    pub(super) fn read(&mut self, open: &Open) -> Result<Option<T>, Error> {
        let (kind, body, end) = open.segment.read(open.read, open.written)?;
        let kept = {
            let mut state = self.0.lock();
            let Some(first) = state.segments.front_mut() else { return Ok(None) };
            if (first.segment.number, first.read) != (open.segment.number, open.read) {
                return Ok(None);
            }
            first.read = end;
            if first.read == first.written {
                state.segments.pop_front();
            }
            state.records -= 1;
            self.0.gauge.set(self.0.gauge.bytes() - (end - open.read));
            self.0.budget.give_back(end - open.read);
            if kind == Kind::Kept { state.kept.pop_front() } else { None }
        };
        let item = kept.or_else(|| T::decode(body));
        let nonsense = || open.segment.corrupt(open.read, "it holds nothing that was written".to_owned());
        item.map(Some).ok_or_else(nonsense)
    }
}

impl<T> Receiver<T> {
    /// How much is on disk.
    pub fn gauge(&self) -> Gauge {
        self.0.gauge.clone()
    }

    /// The file that is read: for tests to spoil, and to drop while it is read.
    #[cfg(test)]
    pub(super) fn first(&self) -> Option<Open> {
        self.0.lock().segments.front().cloned()
    }
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Nothing in there panics half way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops all that waits and takes nothing more. A failure is told to the receiver.
    fn close(&self, failure: Option<Error>) {
        let _dropped = {
            let mut state = self.lock();
            (state.closed, state.failure) = (true, failure);
            state.clear(self)
        };
        self.left.notify_one();
    }
}

/// What waited. To give back gigabytes of disk takes a while: it is dropped when the lock is not held any more.
type Dropped<T> = (VecDeque<(T, usize)>, VecDeque<Open>, VecDeque<T>);

impl<T> State<T> {
    #[must_use]
    fn clear(&mut self, shared: &Shared<T>) -> Dropped<T> {
        (self.memory_bytes, self.records) = (0, 0);
        shared.budget.give_back(shared.gauge.bytes());
        shared.gauge.set(0);
        (take(&mut self.memory), take(&mut self.segments), take(&mut self.kept))
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.shared.lock().sender_left = true;
        self.shared.arrived.notify_one();
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.0.close(None);
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("config", &self.config).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("gauge", &self.0.gauge).finish_non_exhaustive()
    }
}

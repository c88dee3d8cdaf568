//! The threads that write and read a queue's files.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use super::pulse::Pulse;
use super::segment::{Kind, Segment};
use super::state::{Found, Open, Reading, State, Writing};
use super::{Config, Error, Gauge, Item};

/// About so much is written at once.
const WRITE_BYTES: u64 = 256 << 10;

/// What the ends and the threads of a queue share.
pub(super) struct Shared<T: Item> {
    pub(super) config: Config,
    segment_bytes: u64,
    /// Held for moments only: neither across an await nor while a file is read or written.
    state: Mutex<State<T>>,
    /// Tells the receiver that there is something to see.
    pub(super) arrived: Notify,
    /// Tells the sender that it is closed, or that less waits to be written.
    pub(super) left: Notify,
    /// Tell the threads that there is something to do.
    pub(super) to_write: Condvar,
    pub(super) to_read: Condvar,
    /// Since when the threads wait for the disk.
    pub(super) write_pulse: Pulse,
    pub(super) read_pulse: Pulse,
    pub(super) gauge: Gauge,
}

impl<T: Item> Shared<T> {
    pub(super) fn new(config: Config, segment_bytes: u64) -> Self {
        Self {
            config,
            segment_bytes,
            state: Mutex::new(State::default()),
            arrived: Notify::new(),
            left: Notify::new(),
            to_write: Condvar::new(),
            to_read: Condvar::new(),
            write_pulse: Pulse::default(),
            read_pulse: Pulse::default(),
            gauge: Gauge::default(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Nothing in there panics half way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn give_back(&self, disk_bytes: u64) {
        self.gauge.subtract(disk_bytes);
        self.config.budget.give_back(disk_bytes);
    }

    /// Drops all that waits and takes nothing more. A failure is told to the receiver.
    pub(super) fn close(&self, failure: Option<Error>) {
        let _dropped = {
            let mut state = self.lock();
            (state.closed, state.failure) = (true, failure);
            state.clear(self)
        };
        self.left.notify_one();
        self.to_write.notify_one();
        self.to_read.notify_one();
    }

    /// Closes it, unless it is, and tells the receiver why.
    pub(super) fn fail(&self, error: Error) {
        if !self.lock().closed {
            self.close(Some(error));
            self.arrived.notify_one();
        }
    }

    /// Fails if the disk stands still or does not keep up.
    pub(super) fn look_at_disk(&self, patient: bool) {
        let stall = self.lock().stall(self, patient);
        if let Some(error) = stall {
            self.fail(error);
        }
    }

    /// Often enough to see a stall in time.
    pub(super) fn look_every(&self) -> Duration {
        (self.config.stall_timeout / 20).max(Duration::from_millis(1))
    }

    /// Waits to be told; not for long while the disk may hold up who would tell.
    pub(super) async fn wait(&self, told: &Notify) {
        let uses_disk = self.lock().uses_disk();
        match uses_disk {
            true => drop(timeout(self.look_every(), told.notified()).await),
            false => told.notified().await,
        }
    }
}

/// Starts both threads. They end when there is nothing more to do; one that hangs in a call to the disk keeps what it
/// works on, and no end waits for it.
pub(super) fn start<T: Item>(shared: &Arc<Shared<T>>) -> io::Result<()> {
    let (writer, reader) = (shared.clone(), shared.clone());
    thread::Builder::new().name("spool-write".to_owned()).spawn(move || write_all(&writer))?;
    thread::Builder::new().name("spool-read".to_owned()).spawn(move || read_all(&reader))?;
    Ok(())
}

fn write_all<T: Item>(shared: &Shared<T>) {
    let (mut segments, mut buffer) = (0, Vec::new());
    let mut state = shared.lock();
    loop {
        let garbage = std::mem::take(&mut state.garbage);
        if !garbage.is_empty() {
            drop(state);
            drop(garbage);
            state = shared.lock();
        } else if let Some(writing) = state.begin_write(WRITE_BYTES, shared) {
            drop(state);
            shared.write_pulse.beat();
            let written = write(shared, &writing, &mut segments, &mut buffer);
            shared.write_pulse.rest();
            state = shared.lock();
            match written {
                Ok((open, kinds)) => state.end_write(writing, open, &kinds),
                Err(error) => {
                    state.fail_write();
                    drop((state, writing));
                    shared.fail(error);
                    state = shared.lock();
                }
            }
            shared.left.notify_one();
            shared.arrived.notify_one();
        } else if state.is_over() {
            return;
        } else {
            state.writer_waits = true;
            state = shared.to_write.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Writes records, into the last file if there is room, else into a new one: says where they are, and what each is.
pub(super) fn write<T: Item>(
    shared: &Shared<T>,
    writing: &Writing<T>,
    segments: &mut u64,
    buffer: &mut Vec<u8>,
) -> Result<(Open, Vec<Kind>), Error> {
    let (segment, at) = match &writing.last {
        Some(open) if open.written < shared.segment_bytes => (open.segment.clone(), open.written),
        _ => {
            *segments += 1;
            (Arc::new(Segment::create(&shared.config.folder, *segments)?), 0)
        }
    };
    let mut batch = segment.batch(at, buffer, shared.config.budget.gauge().bytes(), &shared.write_pulse);
    let kinds = writing.items.iter().map(|behind| batch.add(&behind.item)).collect();
    let written = batch.finish()?;
    Ok((Open { segment, read: at, written }, kinds))
}

fn read_all<T: Item>(shared: &Shared<T>) {
    let mut state = shared.lock();
    loop {
        if let Some(reading) = state.begin_read() {
            drop(state);
            shared.read_pulse.beat();
            let found = read(&reading, &shared.read_pulse);
            shared.read_pulse.rest();
            state = shared.lock();
            let whole = state.end_read(&reading, found);
            shared.arrived.notify_one();
            drop(state);
            drop((whole, reading));
            state = shared.lock();
        } else if state.is_over() {
            return;
        } else {
            state = shared.to_read.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Reads what comes next in a file.
pub(super) fn read<T: Item>(reading: &Reading, pulse: &Pulse) -> Found<T> {
    let Open { segment, read, written } = &reading.open;
    let mut found = Found { items: Vec::new(), end: *read, error: None };
    match segment.read_some(*read, *written, pulse) {
        Ok(records) => {
            for record in records {
                let item = match record.kind {
                    Kind::Kept => None,
                    Kind::Written => match T::decode(record.body) {
                        None => {
                            let what = "it holds nothing that was written".to_owned();
                            found.error = Some(segment.corrupt(record.at, what));
                            break;
                        }
                        item => item,
                    },
                };
                found.items.push((item, record.end - record.at));
                found.end = record.end;
            }
        }
        Err(error) => found.error = Some(error),
    }
    found
}

//! A queue that never makes its sender wait: what memory may not hold waits on disk.
//!
//! A master drops a replica that does not read, so what a slow consumer cannot take must go somewhere else than back
//! onto the socket. Items wait in memory while they fit there, then in files, and come out in the order in which
//! they went in. Once the files are read to their end, new items go to memory again.
//!
//! - **Files** are made when they are needed, of about 64 MiB each, and unlinked as soon as they are open: but for
//!   that instant the folder looks empty, and their space is given back when they are read, dropped, or when the
//!   process ends, however it ends (SIGKILL too). A file system that is memory (tmpfs) is a poor folder.
//! - **Records** carry their place, their length and a CRC-64 over all of it, which are checked when they are read:
//!   a disk that returns something else is an error, not data.
//! - **Bounds**: `memory_bytes` for what waits in memory, `max_bytes` for what waits on disk, whatever the size of one
//!   item. Nothing is held in memory for each item on disk, but for those that cannot be written.
//!
//! Files are written and read by two threads of the queue's own: a disk that stands still holds up neither end. What
//! is to be written waits in memory meanwhile, up to `write_behind_bytes` (a sender that has more coming waits for
//! [`room`](Sender::room)); if a write or a read does not return for `stall_timeout`, the queue fails.
//!
//! [`Log`] is the other thing that waits here: copies of things, of which the last of each will count.

mod blocks;
mod budget;
mod disk;
mod error;
mod file;
mod index;
mod latest;
mod log;
mod pulse;
mod queue;
mod segment;
mod state;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::BytesMut;

use pulse::Watched;

pub use budget::{Budget, check_space};
pub use error::{Error, Role};
pub use latest::{Body, Latest, Pieces};
pub use log::Log;
pub use queue::{Closed, Receiver, Sender, queue};
pub use segment::Record;

/// How much may wait, and where.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the files are made.
    pub folder: PathBuf,
    /// How much may wait on disk, together with all who have a clone of it; more is an error. What was read already
    /// and is in the file that is read now comes on top of it: at most one file of each queue.
    pub budget: Budget,
    /// How much waits in memory before anything goes to disk. An item that costs more waits there alone.
    pub memory_bytes: usize,
    /// How much may wait in memory to be written to disk, beside that; where more waits, the disk is too slow.
    pub write_behind_bytes: usize,
    /// A write or a read that has not returned for this long fails the queue: the disk stands still. A tenth of it is
    /// enough while more than `write_behind_bytes` wait and the sender is not patient.
    pub stall_timeout: Duration,
}

impl Default for Config {
    /// 4 MiB in memory, then 10 GiB in the folder for temporary files (`TMPDIR`), behind 16 MiB; 10 s for a write.
    fn default() -> Self {
        Self {
            folder: std::env::temp_dir(),
            budget: Budget::new(10 << 30),
            memory_bytes: 4 << 20,
            write_behind_bytes: 16 << 20,
            stall_timeout: Duration::from_secs(10),
        }
    }
}

impl Config {
    /// Tries whether files can be made in the folder.
    ///
    /// # Errors
    /// [`Error::Create`] when they cannot.
    pub fn check(&self) -> Result<(), Error> {
        file::create(&self.folder).map(drop)
    }
}

/// What can wait in a spool.
pub trait Item: Sized + Send + 'static {
    /// What it costs to hold, in bytes.
    fn cost_bytes(&self) -> usize;

    /// Puts it into a record, the same whenever it is asked. One that cannot be written (an error with its causes) puts nothing and says false: it
    /// is held in memory, in its place.
    fn encode(&self, record: &mut Record<'_>) -> bool;

    /// Takes it out of what `encode` has put; `None` for anything else.
    fn decode(body: BytesMut) -> Option<Self>;
}

/// How much is on disk. Cheap to clone and to ask; it may be asked when the queue is gone.
#[derive(Clone, Debug, Default)]
pub struct Gauge(Arc<Levels>);

#[derive(Debug, Default)]
struct Levels {
    bytes: AtomicU64,
    bytes_max: AtomicU64,
    /// Logs that have files.
    watched: Mutex<Vec<Weak<Watched>>>,
}

/// How often a disk is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);

impl Gauge {
    /// Bytes that wait on disk now, or are about to be written there.
    pub fn bytes(&self) -> u64 {
        self.0.bytes.load(Relaxed)
    }

    /// The most that ever waited there.
    pub fn bytes_max(&self) -> u64 {
        self.0.bytes_max.load(Relaxed)
    }

    /// Waits until a write or a read of one of the [logs](Log) that share the account has not returned for
    /// `stall_timeout`. Whoever writes a log waits where the disk makes it wait, so that another one has to look.
    pub async fn stalled(&self) -> Error {
        loop {
            let stall = self.watched().iter().filter_map(Weak::upgrade).find_map(|watched| watched.stall());
            if let Some(error) = stall {
                return error;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn watch(&self, config: &Config) -> Arc<Watched> {
        let watched = Arc::new(Watched::new(config));
        let mut all = self.watched();
        if all.len() == all.capacity() {
            all.retain(|watched| watched.strong_count() > 0);
        }
        all.push(Arc::downgrade(&watched));
        watched
    }

    fn watched(&self) -> MutexGuard<'_, Vec<Weak<Watched>>> {
        // Nothing in there panics half way.
        self.0.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, bytes: u64) {
        let before = self.0.bytes.fetch_add(bytes, Relaxed);
        self.0.bytes_max.fetch_max(before + bytes, Relaxed);
    }

    fn subtract(&self, bytes: u64) {
        self.0.bytes.fetch_sub(bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests;

//! The two ends of the queue.

use std::fmt;
use std::sync::Arc;

use tokio::task::coop::consume_budget;
use tokio::time::timeout;

use super::disk::{self, Shared};
use super::state::{Next, Taken};
use super::{Config, Error, Gauge, Item};

/// Once a file holds this much, another one is begun.
const SEGMENT_BYTES: u64 = 64 << 20;
/// … or more, so that a large spool is not more files than this: a process may hold only so many open.
const SEGMENTS_MAX: u64 = 256;

/// A queue that goes to disk where memory does not hold it. No file and no thread is made before it is needed. Its ends
/// need a runtime that knows the time.
pub fn queue<T: Item>(config: Config) -> (Sender<T>, Receiver<T>) {
    let segment_bytes = SEGMENT_BYTES.max(config.budget.max_bytes() / SEGMENTS_MAX);
    queue_of_segments(config, segment_bytes)
}

pub(super) fn queue_of_segments<T: Item>(config: Config, segment_bytes: u64) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared::new(config, segment_bytes));
    (Sender { shared: shared.clone(), has_threads: false }, Receiver(shared))
}

/// The end that never waits.
pub struct Sender<T: Item> {
    shared: Arc<Shared<T>>,
    has_threads: bool,
}

/// The end that takes items in their order.
pub struct Receiver<T: Item>(Arc<Shared<T>>);

/// Nobody takes anything any more: the receiver has left, or the spool has failed, which the receiver is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nobody takes anything from the spool any more")]
pub struct Closed;

impl<T: Item> Sender<T> {
    /// Adds an item behind all others. What there is no room for closes the queue, and the receiver is told why.
    pub fn send(&mut self, item: T) -> Result<(), Closed> {
        let added = self.shared.lock().add(item, &self.shared);
        match added {
            Ok(Taken::Memory) => self.shared.arrived.notify_one(),
            Ok(Taken::Behind { writer_waits }) => {
                self.shared.arrived.notify_one();
                if writer_waits {
                    self.shared.to_write.notify_one();
                }
                self.start_threads()?;
            }
            Ok(Taken::Closed) => return Err(Closed),
            Err(error) => {
                self.shared.fail(error);
                return Err(Closed);
            }
        }
        Ok(())
    }

    /// Waits until what waits to be written is less than may (`write_behind_bytes`): a sender that has more coming
    /// asks for room first. For a `patient` one it is enough that each write returns within `stall_timeout`. For
    /// another one, who is held up meanwhile, a tenth of that is too long, and a disk that does not keep up for
    /// `stall_timeout` fails the queue, too.
    ///
    /// # Errors
    /// When it is closed.
    pub async fn room(&mut self, patient: bool) -> Result<(), Closed> {
        loop {
            {
                let state = self.shared.lock();
                if state.closed {
                    return Err(Closed);
                }
                if state.has_room(&self.shared) {
                    return Ok(());
                }
            }
            self.shared.look_at_disk(patient);
            let _again = timeout(self.shared.look_every(), self.shared.left.notified()).await;
        }
    }

    /// Drops all that waits.
    pub fn clear(&mut self) {
        let _dropped = self.shared.lock().clear(&self.shared);
        self.shared.to_write.notify_one();
    }

    /// Completes when it is closed.
    pub async fn closed(&self) {
        while !self.shared.lock().closed {
            self.shared.look_at_disk(true);
            self.shared.wait(&self.shared.left).await;
        }
    }

    fn start_threads(&mut self) -> Result<(), Closed> {
        if !self.has_threads {
            self.has_threads = true;
            disk::start(&self.shared).map_err(|source| {
                self.shared.fail(Error::Thread { source });
                Closed
            })?;
        }
        Ok(())
    }
}

impl<T: Item> Receiver<T> {
    /// The next item; `None` when the sender is gone and nothing is left. An error is the end, too: what was behind
    /// it is gone. Nothing is lost when this is dropped while it waits.
    pub async fn recv(&mut self) -> Result<Option<T>, Error> {
        // However much waits here, the other tasks get their turn.
        consume_budget().await;
        loop {
            let next = self.0.lock().next(&self.0);
            match next {
                Next::Item(item) => return Ok(Some(item)),
                Next::End => return Ok(None),
                Next::Failed(error) => {
                    self.0.close(None);
                    return Err(error);
                }
                Next::Nothing => {
                    self.0.look_at_disk(true);
                    self.0.wait(&self.0.arrived).await;
                }
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
                None => {
                    self.0.look_at_disk(true);
                    self.0.wait(&self.0.arrived).await;
                }
            }
        }
    }

    /// How much is on disk.
    pub fn gauge(&self) -> Gauge {
        self.0.gauge.clone()
    }

    /// What both ends share, for tests to look into.
    #[cfg(test)]
    pub(super) fn shared(&self) -> &Arc<Shared<T>> {
        &self.0
    }
}

impl<T: Item> Drop for Sender<T> {
    fn drop(&mut self) {
        self.shared.lock().sender_left = true;
        self.shared.arrived.notify_one();
        self.shared.to_write.notify_one();
        self.shared.to_read.notify_one();
    }
}

impl<T: Item> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.0.close(None);
    }
}

impl<T: Item> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("config", &self.shared.config).finish_non_exhaustive()
    }
}

impl<T: Item> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("gauge", &self.0.gauge).finish_non_exhaustive()
    }
}

//! A channel that is bounded by items and by bytes.
//!
//! A bound on items alone is none on memory: sixteen commands can be sixteen bytes or sixteen gigabytes. Here each
//! item has a cost in bytes, and its share of the budget is given back when the receiver drops it.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// A channel for at most `items` at a time, of at most `bytes` altogether. An item that costs more than `bytes`
/// goes alone.
///
/// # Panics
/// Outside a tokio runtime.
pub fn channel<T>(items: usize, bytes: u32) -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = mpsc::channel(items);
    let budget = Arc::new(Semaphore::new(bytes as usize));
    (Sender { sender, budget, bytes, runtime: Handle::current() }, Receiver(receiver))
}

/// The sending side.
#[derive(Debug)]
pub struct Sender<T> {
    sender: mpsc::Sender<(T, Share)>,
    budget: Arc<Semaphore>,
    bytes: u32,
    runtime: Handle,
}

/// The receiving side.
#[derive(Debug)]
pub struct Receiver<T>(mpsc::Receiver<(T, Share)>);

/// An item's share of the bytes, given back when this is dropped.
#[derive(Debug)]
pub struct Share(#[allow(dead_code, reason = "it is held to be dropped")] OwnedSemaphorePermit);

/// Room for one item.
#[derive(Debug)]
pub struct Room<'a, T> {
    place: mpsc::Permit<'a, (T, Share)>,
    share: Share,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        let Self { sender, budget, bytes, runtime } = self;
        Self { sender: sender.clone(), budget: budget.clone(), bytes: *bytes, runtime: runtime.clone() }
    }
}

impl<T> Sender<T> {
    /// Waits for room for an item that costs so many bytes; `None` when the receiver is gone. Nothing is lost when this
    /// is dropped while it waits.
    pub async fn room(&self, cost_bytes: usize) -> Option<Room<'_, T>> {
        let cost = u32::try_from(cost_bytes).unwrap_or(u32::MAX).clamp(1, self.bytes);
        let place = self.sender.reserve().await.ok()?;
        let share = tokio::select! {
            share = self.budget.clone().acquire_many_owned(cost) => Share(share.ok()?),
            () = self.sender.closed() => return None,
        };
        Some(Room { place, share })
    }

    /// Sends an item once there is room; false when the receiver is gone.
    pub async fn send(&self, item: T, cost_bytes: usize) -> bool {
        let room = self.room(cost_bytes).await;
        room.map(|room| room.send(item)).is_some()
    }

    /// The same from a thread outside the runtime.
    pub fn blocking_send(&self, item: T, cost_bytes: usize) -> bool {
        self.runtime.block_on(self.send(item, cost_bytes))
    }

    /// Completes when the receiver is gone.
    pub async fn closed(&self) {
        self.sender.closed().await;
    }
}

impl<T> Room<'_, T> {
    /// Sends the item that this is for.
    pub fn send(self, item: T) {
        self.place.send((item, self.share));
    }
}

impl<T> Receiver<T> {
    /// The next item, and its share of the budget; `None` when all senders are gone. Nothing is lost when this is
    /// dropped while it waits.
    pub async fn recv(&mut self) -> Option<(T, Share)> {
        self.0.recv().await
    }

    /// The same from a thread outside the runtime.
    pub fn blocking_recv(&mut self) -> Option<(T, Share)> {
        self.0.blocking_recv()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bytes_are_given_back_when_the_share_is_dropped() {
        let (sender, mut receiver) = channel(10, 100);
        assert!(sender.send('a', 60).await);
        let full = tokio::time::timeout(std::time::Duration::from_millis(20), sender.send('b', 60)).await;
        assert!(full.is_err(), "60 and 60 of 100");
        let (item, share) = receiver.recv().await.unwrap();
        assert_eq!(item, 'a');
        drop(share);
        assert!(sender.send('c', 1_000_000).await, "more than all goes alone");
        assert_eq!(receiver.recv().await.unwrap().0, 'c');
        drop(receiver);
        assert!(!sender.send('d', 1).await);
    }
}

//! The way to the sink, which runs on a thread of its own.

use tokio::sync::oneshot;

use super::Error;
use super::change::{Change, Cut, Sink};
use crate::channel::{Sender, channel};
use crate::spool::Gauge;

/// Changes under way: so many messages …
const MESSAGES: usize = 256;
/// … of so many bytes.
const BYTES: u32 = 8 << 20;

enum Message {
    Changes(Vec<Change>),
    Cut(Box<Cut>),
}

/// The capture's end.
pub(super) struct Outlet {
    sender: Sender<Message>,
    failed: oneshot::Receiver<Error>,
    gauge: Gauge,
}

impl Outlet {
    /// Starts the sink's thread: what it makes comes back once it is given the cut.
    pub fn start<S: Sink>(mut sink: S) -> (Self, oneshot::Receiver<S::Output>)
    where
        S::Error: Sync,
    {
        let (sender, mut receiver) = channel(MESSAGES, BYTES);
        let (fail, failed) = oneshot::channel();
        let (done, output) = oneshot::channel();
        let gauge = sink.spooled();
        let work = move || {
            while let Some((message, _share)) = receiver.blocking_recv() {
                let result = match message {
                    Message::Changes(changes) => {
                        changes.into_iter().try_for_each(|change| sink.change(change))
                    }
                    Message::Cut(cut) => match sink.finish(*cut) {
                        Ok(output) => {
                            // Nobody waits for it once the capture was told to stop.
                            let _ = done.send(output);
                            return;
                        }
                        Err(error) => {
                            let _ = fail.send(Error::Sink(Box::new(error)));
                            return;
                        }
                    },
                };
                if let Err(error) = result {
                    let _ = fail.send(Error::Sink(Box::new(error)));
                    return;
                }
            }
        };
        // A thread that cannot be had drops the channel, which is seen.
        let _ = std::thread::Builder::new().name("sink".to_owned()).spawn(work);
        (Self { sender, failed, gauge }, output)
    }

    /// Hands changes on; waits while the sink is behind.
    pub async fn send(&mut self, changes: Vec<Change>) -> Result<(), Error> {
        let cost = changes.iter().map(Change::cost_bytes).sum();
        self.hand(Message::Changes(changes), cost).await
    }

    /// Hands on the cut, the last thing that is said.
    pub async fn finish(&mut self, cut: Cut) -> Result<(), Error> {
        self.hand(Message::Cut(Box::new(cut)), 0).await
    }

    /// A sink that is behind is waited for, one whose disk stands still is not.
    async fn hand(&mut self, message: Message, cost: usize) -> Result<(), Error> {
        tokio::select! {
            biased;
            taken = self.sender.send(message, cost) => match taken {
                true => Ok(()),
                false => Err(self.failure().await),
            },
            error = self.gauge.stalled() => Err(error.into()),
        }
    }

    /// Waits for the sink to fail, or its disk to stand still.
    pub async fn failure(&mut self) -> Error {
        let failed = async {
            match (&mut self.failed).await {
                Ok(error) => error,
                // It has ended well, or panicked: then nothing comes out of it, which is seen.
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            error = failed => error,
            error = self.gauge.stalled() => error.into(),
        }
    }
}

//! The source, asked on the side how far it is.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::endpoint::{Client, Endpoint, Error, Info};

/// How often the source is asked.
const ASK_EVERY: Duration = Duration::from_secs(2);

/// The source's INFO, over a new connection where the old one is no more.
pub(super) async fn ask(client: &mut Client, server: &Endpoint, timeout: Duration) -> Result<Info, Error> {
    if let Ok(info) = client.info().await {
        return Ok(info);
    }
    *client = Client::connect(server, timeout).await?;
    client.info().await
}

/// A task that asks the source for its offset again and again: for the lag that people see, nothing else.
pub(super) struct SourceWatch {
    offsets: watch::Receiver<u64>,
    task: JoinHandle<()>,
}

impl SourceWatch {
    pub fn start(server: Endpoint, timeout: Duration) -> Self {
        let (sender, offsets) = watch::channel(0);
        let task = tokio::spawn(async move {
            let mut client = None;
            loop {
                sleep(ASK_EVERY).await;
                // A source that cannot be asked is the link's business.
                let Ok(connection) = connected(client.take(), &server, timeout).await else { continue };
                let connection = client.insert(connection);
                match connection.info().await {
                    Ok(info) => sender.send_replace(info.position.offset),
                    Err(_) => {
                        client = None;
                        continue;
                    }
                };
            }
        });
        Self { offsets, task }
    }

    /// The offset when it was asked next.
    pub async fn changed(&mut self) -> u64 {
        match self.offsets.changed().await {
            Ok(()) => *self.offsets.borrow_and_update(),
            Err(_) => std::future::pending().await,
        }
    }
}

async fn connected(client: Option<Client>, server: &Endpoint, timeout: Duration) -> Result<Client, Error> {
    match client {
        Some(client) => Ok(client),
        None => Client::connect(server, timeout).await,
    }
}

impl Drop for SourceWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

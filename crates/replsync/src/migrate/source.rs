//! The source, asked on the side how far it is.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::endpoint::{Client, Endpoint, Error, Info};

/// How often the source is asked.
const ASK_EVERY: Duration = Duration::from_secs(2);

/// Asks the source for its INFO, over a new connection where the old one is no more.
pub(super) struct Asker {
    server: Endpoint,
    timeout: Duration,
    /// Not there while it is in use: a wait that is dropped takes its connection along.
    client: Option<Client>,
}

impl Asker {
    pub fn new(server: Endpoint, timeout: Duration, client: Option<Client>) -> Self {
        Self { server, timeout, client }
    }

    pub async fn info(&mut self) -> Result<Info, Error> {
        if let Some(mut client) = self.client.take()
            && let Ok(info) = client.info().await
        {
            self.client = Some(client);
            return Ok(info);
        }
        let mut client = Client::connect(&self.server, self.timeout).await?;
        let info = client.info().await?;
        self.client = Some(client);
        Ok(info)
    }
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
            let mut source = Asker::new(server, timeout, None);
            loop {
                sleep(ASK_EVERY).await;
                // A source that cannot be asked is the link's business.
                if let Ok(info) = source.info().await {
                    sender.send_replace(info.position.offset);
                }
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

impl Drop for SourceWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

//! A pause of the source's writers, for a bounded time.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::Error;
use crate::endpoint::{Client, Endpoint};

/// A PUBLISH that takes so much longer than INFO, which a pause of writers does not hold up, is held up by a pause.
const PROBE: Duration = Duration::from_millis(50);
/// A channel that nobody else uses.
const CHANNEL: &str = "__replsync__:probe";

/// Writers of a server that are held up by us. It ends by itself after its time, also when we die.
pub(super) struct Pause {
    client: Client,
    began: Instant,
    limit: Duration,
}

impl Pause {
    /// Pauses the writers of `server` (6.2 and newer), for at most `limit`. `None` when they are paused already: then
    /// that pause is somebody else's, and is neither lengthened nor ended.
    pub async fn begin(server: &Endpoint, limit: Duration, answer: Duration) -> Result<Option<Self>, Error> {
        let mut probe = Client::connect(server, answer).await?;
        let asked = Instant::now();
        probe.ask(&["INFO", "server"]).await?;
        let limit_of_probe = PROBE + 4 * asked.elapsed();
        match timeout(limit_of_probe, probe.ask(&["PUBLISH", CHANNEL, ""])).await {
            Ok(answered) => answered?,
            Err(_) => {
                tracing::warn!(
                    "the source's writers are paused already, by somebody else: that pause is used"
                );
                return Ok(None);
            }
        };
        let mut client = Client::connect(server, answer).await?;
        let ms = limit.as_millis().to_string();
        let began = Instant::now();
        client.ask(&["CLIENT", "PAUSE", &ms, "WRITE"]).await?;
        tracing::info!(limit_ms = limit.as_millis() as u64, "the source's writers are paused");
        Ok(Some(Self { client, began, limit }))
    }

    /// Ends it, and says how long it took.
    pub async fn end(mut self) -> Duration {
        let took = self.began.elapsed();
        if took >= self.limit {
            tracing::warn!(
                "the pause of the source's writers ended by itself after {} ms, before the last look was over",
                self.limit.as_millis()
            );
            return self.limit;
        }
        if let Err(error) = self.client.ask(&["CLIENT", "UNPAUSE"]).await {
            let left = self.limit.saturating_sub(took).as_millis();
            tracing::warn!("the source's writers stay paused for {left} ms: {error}");
        }
        took
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// A server that answers everything, after that long.
    async fn far_away(delay: Duration) -> Endpoint {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut buffer = [0; 1024];
                    while let Ok(1..) = socket.read(&mut buffer).await {
                        tokio::time::sleep(delay).await;
                        let _ = socket.write_all(b"+OK\r\n").await;
                    }
                });
            }
        });
        url.parse().unwrap()
    }

    #[tokio::test]
    async fn a_source_that_is_far_away_is_not_taken_for_a_paused_one() {
        let source = far_away(2 * PROBE).await;
        let limit = Duration::from_secs(5);
        assert!(Pause::begin(&source, limit, limit).await.unwrap().is_some());
    }
}

//! A pause of a server's writers: whether there is one, and one of our own, for a bounded time.
//!
//! A pause is one for the whole server: a second CLIENT PAUSE lengthens the first, and any UNPAUSE ends it. So we look
//! first, and leave alone what is not ours.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::endpoint::{Client, Endpoint, Error, Info};

/// A PUBLISH that takes so much longer than INFO, which a pause of writers does not hold up, is held up by a pause.
const PROBE: Duration = Duration::from_millis(50);
/// What our UNPAUSE may take to arrive: it is not sent so shortly before our pause ends by itself, since it might end the
/// next one.
const UNPAUSE_BEFORE_END: Duration = Duration::from_millis(3);

/// The channel that probes and marks are published on, for ACL rules: `&__replsync__:probe`.
pub const PROBE_CHANNEL: &str = "__replsync__:probe";

/// Whether the writers of `server` are paused, by whomever. `stream_db` is the database that its stream has selected: a
/// probe from another one would move it.
pub async fn writes_paused(
    server: &Endpoint,
    stream_db: Option<u32>,
    answer: Duration,
) -> Result<bool, Error> {
    let mut client = Client::connect(server, answer).await?;
    Ok(probe(&mut client, stream_db).await?.paused)
}

/// What was found.
struct Probed {
    paused: bool,
    /// Whether INFO says so.
    is_shown: bool,
}

/// Where they are paused, the connection may be held up, too.
async fn probe(client: &mut Client, stream_db: Option<u32>) -> Result<Probed, Error> {
    let asked = Instant::now();
    let info = client.info().await?;
    if let Some(shown) = Shown::of(&info) {
        return Ok(Probed { paused: shown.actions != Actions::None, is_shown: true });
    }
    let limit = PROBE + 4 * asked.elapsed();
    if let Some(db) = stream_db {
        client.ask(&["SELECT", &db.to_string()]).await?;
    }
    let paused = match timeout(limit, client.ask(&["PUBLISH", PROBE_CHANNEL, ""])).await {
        Ok(answered) => answered.map(|_| false)?,
        Err(_) => true,
    };
    Ok(Probed { paused, is_shown: false })
}

/// Writers of a server that are held up by us. It ends by itself after its time, also when we die.
#[derive(Debug)]
pub struct Pause {
    client: Client,
    began: Instant,
    limit: Duration,
    /// Whether INFO shows pauses.
    is_shown: bool,
}

impl Pause {
    /// Pauses the writers of `server` (6.2 and newer), for at most `limit`. `None` when they are paused already: then
    /// that pause is somebody else's, and is neither lengthened nor ended.
    pub async fn begin(
        server: &Endpoint,
        stream_db: Option<u32>,
        limit: Duration,
        answer: Duration,
    ) -> Result<Option<Self>, Error> {
        let mut client = Client::connect(server, answer).await?;
        let Probed { paused, is_shown } = probe(&mut client, stream_db).await?;
        if paused {
            tracing::warn!("the source's writers are paused already, by somebody else: that pause is used");
            return Ok(None);
        }
        let ms = limit.as_millis().to_string();
        let began = Instant::now();
        client.ask(&["CLIENT", "PAUSE", &ms, "WRITE"]).await?;
        tracing::info!(limit_ms = limit.as_millis() as u64, "the source's writers are paused");
        Ok(Some(Self { client, began, limit, is_shown }))
    }

    /// How much of it is left, at least.
    pub fn left(&self) -> Duration {
        self.limit.saturating_sub(self.began.elapsed())
    }

    /// Ends it, and says how long it took.
    pub async fn end(mut self) -> Duration {
        match self.try_end().await {
            Ok(took) => took,
            Err(error) => {
                let left = self.left().as_millis();
                tracing::warn!("the source's writers stay paused for {left} ms: {error}");
                self.began.elapsed().min(self.limit)
            }
        }
    }

    async fn try_end(&mut self) -> Result<Duration, Error> {
        let asked = Instant::now();
        let shown = match self.is_shown {
            true => Shown::of(&self.client.info().await?),
            false => None,
        };
        let round_trip = asked.elapsed();
        let took = self.began.elapsed();
        if took + UNPAUSE_BEFORE_END.max(2 * round_trip) >= self.limit {
            tracing::warn!(
                "the pause of the source's writers ended by itself after {} ms, before the last look was over",
                self.limit.as_millis()
            );
            return Ok(self.limit);
        }
        // An operator may have paused them for longer since.
        if shown.is_some_and(|shown| shown.is_not(self.left() + round_trip)) {
            tracing::warn!("the source's writers were paused by somebody else meanwhile: that pause stands");
            return Ok(took);
        }
        self.client.ask(&["CLIENT", "UNPAUSE"]).await?;
        Ok(took)
    }
}

/// What is held up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Actions {
    None,
    Write,
    All,
}

/// The pause that INFO shows, from Valkey 8.1 on.
///
/// Source: `genValkeyInfoString` in `src/server.c`, section clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shown {
    actions: Actions,
    left: Duration,
}

impl Shown {
    fn of(info: &Info) -> Option<Self> {
        let actions = match info.field("paused_actions")? {
            "none" => Actions::None,
            "write" => Actions::Write,
            _ => Actions::All,
        };
        let left = info.number("paused_timeout_milliseconds").map_or(Duration::ZERO, Duration::from_millis);
        Some(Self { actions, left })
    }

    /// Whether it is another pause than ours, of which so much was left a moment ago.
    fn is_not(self, ours: Duration) -> bool {
        self.actions != Actions::Write || self.left > ours + Duration::from_millis(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    const INFO: &str = "redis_version:7.4.1\r\nrun_id:x\r\nrole:master\r\nmaster_repl_offset:1\r\n\
                        master_replid:0123456789abcdef0123456789abcdef01234567\r\n";

    /// A server that answers everything with INFO, after that long.
    async fn far_away(delay: Duration) -> Endpoint {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut buffer = [0; 1024];
                    while let Ok(1..) = socket.read(&mut buffer).await {
                        tokio::time::sleep(delay).await;
                        let reply = format!("${}\r\n{INFO}\r\n", INFO.len());
                        let _ = socket.write_all(reply.as_bytes()).await;
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
        assert!(Pause::begin(&source, Some(3), limit, limit).await.unwrap().is_some());
    }

    #[test]
    fn a_pause_that_is_not_ours_is_told() {
        let shown = |more: &str| Shown::of(&Info::parse(&format!("{INFO}{more}")).unwrap());
        assert_eq!(shown(""), None, "no such field");
        let none =
            shown("paused_reason:none\r\npaused_actions:none\r\npaused_timeout_milliseconds:0\r\n").unwrap();
        assert_eq!(none.actions, Actions::None);
        let write = shown("paused_actions:write\r\npaused_timeout_milliseconds:90\r\n").unwrap();
        let ms = Duration::from_millis;
        assert!(!write.is_not(ms(90)) && !write.is_not(ms(95)), "it is ours");
        assert!(write.is_not(ms(50)), "it lasts longer than ours");
        assert!(shown("paused_actions:all\r\npaused_timeout_milliseconds:90\r\n").unwrap().is_not(ms(90)));
        assert!(none.is_not(ms(90)), "ours has been ended");
    }
}

//! Making a master have a backlog, without the fork that it would make for a replica.
//!
//! ```text
//! REPLCONF …; INFO: how many forks so far
//!   ► CONFIG SET what would make it fork at once         ┐
//!   ► PSYNC ? -1, and the connection's end right behind  │ the window in which settings are changed,
//!   ► INFO: it has a backlog, and does not list us       │ and in which a kill leaves them so
//!   ► CONFIG SET as it was                               ┘
//! ```
//!
//! The master reads PSYNC, makes its backlog, lists us as a replica that waits, and reads the connection's end next:
//! nobody waits then, and it has nothing to fork for. A kill of ours closes the connection, too.

use std::thread::JoinHandle;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use super::verdict::SettingChange;
use super::{AttachError, Refusal};
use crate::endpoint::{Client, Endpoint, Error, Info};
use crate::psync::Announce;
use crate::resp::{Reply, write_command};

/// How often the master is asked whether it has seen us go.
const ASK_EVERY: Duration = Duration::from_millis(2);
/// How long it is given for that. One that is held up for longer goes on with what we sent, and then with our end.
const GONE_WITHIN: Duration = Duration::from_secs(10);
/// How long putting settings back is tried.
const PUT_BACK_FOR: Duration = Duration::from_secs(10);
const TRY_AGAIN: Duration = Duration::from_millis(100);

/// Primes `source`, and returns how often it forked meanwhile. A caller that stops waiting waits for settings to be put
/// back all the same: that happens on a thread of its own.
pub(super) async fn prime(
    source: &Endpoint,
    change: Vec<SettingChange>,
    delay: Duration,
    announce: Announce,
    limit: Duration,
) -> Result<u64, AttachError> {
    let failed = |error: std::io::Error| AttachError::Thread(error.to_string());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let primer = Primer { source: source.clone(), change, delay, announce, limit };
    let (sender, receiver) = oneshot::channel();
    let run = move || {
        let _ = sender.send(runtime.block_on(primer.run()));
    };
    let thread = std::thread::Builder::new().name("prime".to_owned()).spawn(run).map_err(failed)?;
    let _joined = Joined(Some(thread));
    receiver.await.unwrap_or_else(|error| Err(AttachError::Thread(error.to_string())))
}

/// A thread that is waited for however its starter ends.
struct Joined(Option<JoinHandle<()>>);

impl Drop for Joined {
    fn drop(&mut self) {
        if let Some(thread) = self.0.take() {
            let _ = thread.join();
        }
    }
}

struct Primer {
    source: Endpoint,
    change: Vec<SettingChange>,
    /// How long the master waits before it forks, in whole seconds of its own clock.
    delay: Duration,
    announce: Announce,
    limit: Duration,
}

impl Primer {
    async fn run(self) -> Result<u64, AttachError> {
        // All that can be done before settings change is done before.
        let mut control = Control { primer: &self, client: None };
        let replica = self.introduce().await?;
        let before = control.info().await?;
        let began = Instant::now();
        let asked = match self.change_settings(&mut control).await {
            Ok(()) => self.ask_and_go(replica).await,
            Err(error) => {
                drop(replica);
                Err(error)
            }
        };
        let gone = self.wait_until_gone(&mut control, asked.is_ok()).await;
        self.put_back(&mut control).await?;
        let changed: Vec<_> = self.change.iter().map(|change| change.setting).collect();
        tracing::debug!(took_us = began.elapsed().as_micros() as u64, ?changed, "primed");
        asked?;
        Ok(forks(&before, &gone?))
    }

    /// A connection that has said who it is.
    async fn introduce(&self) -> Result<Client, AttachError> {
        let mut client = Client::connect(&self.source, self.limit).await?;
        let Announce { port, address, version: _ } = &self.announce;
        for args in [
            &["REPLCONF", "listening-port", &port.to_string()][..],
            &["REPLCONF", "ip-address", address],
            &["REPLCONF", "capa", "eof", "capa", "psync2"],
        ] {
            client.ask(args).await.map_err(refused)?;
        }
        Ok(client)
    }

    async fn change_settings(&self, control: &mut Control<'_>) -> Result<(), AttachError> {
        for SettingChange { setting, from, to } in &self.change {
            match control.ask(&["CONFIG", "SET", setting, to]).await {
                Ok(_) => {}
                Err(Error::Refused { reply, .. }) => {
                    let value = from.clone();
                    return Err(AttachError::Refused(Refusal::SettingStays {
                        setting,
                        value,
                        wanted: to,
                        reply,
                    }));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Asks for a full sync and closes the connection in one go. Only an error is ever answered in time.
    async fn ask_and_go(&self, replica: Client) -> Result<(), AttachError> {
        let mut socket = replica.into_socket();
        // The master counts whole seconds, of which the first may be short.
        let stay = self.delay.saturating_sub(Duration::from_secs(1)).min(self.limit) / 2;
        let mut request = BytesMut::new();
        write_command(&mut request, &["PSYNC", "?", "-1"]);
        let mut answer = BytesMut::new();
        let go = async {
            socket.write_all(&request).await?;
            socket.flush().await?;
            socket.shutdown().await?;
            while socket.read_buf(&mut answer).await? > 0 {}
            Ok::<_, std::io::Error>(())
        };
        // Without an end from the other side, as behind some proxies, it is closed for real all the same.
        let ended = timeout(stay, go).await;
        drop(socket);
        if let Ok(Err(error)) = ended {
            tracing::debug!(%error, "the priming connection");
        }
        let lines = answer[..].split(|byte| *byte == b'\n');
        match lines.into_iter().find_map(|line: &[u8]| line.strip_prefix(b"-")) {
            Some(error) => Err(AttachError::NoReplica {
                command: "PSYNC".to_owned(),
                reply: String::from_utf8_lossy(error).trim_end().to_owned(),
            }),
            None => Ok(()),
        }
    }

    /// Waits until the master lists us no more; where `asked`, until it has a backlog, too.
    async fn wait_until_gone(&self, control: &mut Control<'_>, asked: bool) -> Result<Info, AttachError> {
        let began = Instant::now();
        loop {
            let failed = match control.info().await {
                Ok(info) => {
                    let listed = info.replicas().any(|replica| replica.address == self.announce.address);
                    let primed = info.number("repl_backlog_active") == Some(1);
                    if !listed && (primed || !asked) {
                        return Ok(info);
                    }
                    AttachError::NoBacklog { within: GONE_WITHIN }
                }
                Err(error) => error.into(),
            };
            if began.elapsed() > GONE_WITHIN {
                return Err(failed);
            }
            sleep(ASK_EVERY).await;
        }
    }

    async fn put_back(&self, control: &mut Control<'_>) -> Result<(), AttachError> {
        let began = Instant::now();
        for SettingChange { setting, from, to } in &self.change {
            loop {
                let why = match control.ask(&["CONFIG", "SET", setting, from]).await {
                    Ok(_) => break,
                    // What may not be set was not changed either; unless it was forbidden meanwhile.
                    Err(Error::Refused { .. }) if control.setting(setting).await.as_deref() != Some(to) => {
                        break;
                    }
                    Err(error) => error,
                };
                if began.elapsed() > PUT_BACK_FOR {
                    let (setting, value) = (String::from(*setting), from.clone());
                    return Err(AttachError::NotPutBack { setting, value, why: why.to_string() });
                }
                sleep(TRY_AGAIN).await;
            }
        }
        Ok(())
    }
}

/// A connection for settings and INFO, made anew where it broke.
struct Control<'a> {
    primer: &'a Primer,
    client: Option<Client>,
}

impl Control<'_> {
    async fn ask(&mut self, args: &[&str]) -> Result<Reply, Error> {
        let mut client = match self.client.take() {
            Some(client) => client,
            None => Client::connect(&self.primer.source, self.primer.limit).await?,
        };
        let answer = client.ask(args).await;
        // After any other error it is of no more use.
        if matches!(answer, Ok(_) | Err(Error::Refused { .. })) {
            self.client = Some(client);
        }
        answer
    }

    async fn info(&mut self) -> Result<Info, Error> {
        let server = || self.primer.source.to_string();
        let text = self.ask(&["INFO"]).await?.text().unwrap_or_default();
        Info::parse(&text).map_err(|source| Error::Info { server: server(), source })
    }

    async fn setting(&mut self, name: &str) -> Option<String> {
        match self.ask(&["CONFIG", "GET", name]).await {
            Ok(Reply::Array(pair)) => pair.get(1).and_then(Reply::text),
            _ => None,
        }
    }
}

/// What a server says to a would-be replica that it does not want.
fn refused(error: Error) -> AttachError {
    match error {
        Error::Refused { command, reply, .. } => AttachError::NoReplica { command, reply },
        error => error.into(),
    }
}

/// How often the server forked between two INFOs.
fn forks(before: &Info, after: &Info) -> u64 {
    match (before.number("total_forks"), after.number("total_forks")) {
        (Some(before), Some(after)) => after.saturating_sub(before),
        // Before 6.2: a fork shows as a save under way, or by the time that it took.
        _ => {
            let fork = |info: &Info| (info.field("latest_fork_usec").map(str::to_owned), saves(info));
            u64::from(fork(before) != fork(after))
        }
    }
}

fn saves(info: &Info) -> bool {
    info.field("rdb_bgsave_in_progress") == Some("1")
}

//! How much may be sent to a target: no more than its own replicas can take, and nothing once it evicts.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::Error;
use crate::endpoint::{self, Client, Endpoint, Info, Pipelined, Role};
use crate::resp::Reply;

/// The target is looked at this often at least.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// … and this often while one of its replicas is behind.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Watches a target and says how much may be sent.
///
/// What is sent there goes on to its replicas, and one that does not take it in time is dropped once it holds more than
/// `client-output-buffer-limit` allows, to start anew with a full sync. So while a replica is behind by more than a
/// quarter of that, nothing is sent, and never more at once than a quarter.
#[derive(Debug)]
pub struct Throttle {
    target: Endpoint,
    timeout: Duration,
    client: Option<Client>,
    /// Keys that the target had evicted before we came.
    evicted: u64,
    looked: Option<Instant>,
    /// Bytes that may be sent before the target is looked at again.
    budget: u64,
    waiting: watch::Sender<bool>,
}

impl Throttle {
    /// A throttle for `target`, which had evicted so many keys before.
    pub fn new(target: Endpoint, timeout: Duration, evicted: u64) -> Self {
        let (waiting, _) = watch::channel(false);
        Self { target, timeout, client: None, evicted, looked: None, budget: 0, waiting }
    }

    /// Whether sending waits for a replica of the target now.
    pub fn waiting(&self) -> watch::Receiver<bool> {
        self.waiting.subscribe()
    }

    /// Waits until so many bytes may be sent; `unanswered` says how many were sent and not answered yet.
    ///
    /// # Errors
    /// [`Error::Evicted`] once the target has evicted keys, [`Error::Demoted`] once it is a replica.
    pub async fn admit(&mut self, bytes: u64, unanswered: impl Fn() -> u64) -> Result<(), Error> {
        while self.budget < bytes || self.looked.is_none_or(|looked| looked.elapsed() > LOOK_EVERY) {
            // Before the look: what is executed meanwhile counts twice then, and never not at all.
            let in_flight = unanswered();
            let room = self.look().await?;
            self.looked = Some(Instant::now());
            self.budget = room.bytes.saturating_sub(in_flight);
            // What is larger than a quarter of the limit must pass, too: alone.
            if bytes <= self.budget || (room.is_idle && in_flight == 0) {
                self.budget = self.budget.max(bytes);
                break;
            }
            self.waiting.send_if_modified(|waiting| !std::mem::replace(waiting, true));
            sleep(LOOK_AGAIN).await;
        }
        self.waiting.send_if_modified(std::mem::take);
        self.budget -= bytes;
        Ok(())
    }

    /// Looks at the target, whose end the one who writes there notices by itself.
    async fn look(&mut self) -> Result<Room, Error> {
        match self.ask().await {
            Ok((info, room)) => check_target(&info, self.evicted).map(|()| room),
            Err(error) => {
                tracing::warn!(
                    "cannot look whether the target evicts, and how far its replicas are: {error}"
                );
                self.client = None;
                Ok(Room::UNLIMITED)
            }
        }
    }

    async fn ask(&mut self) -> Result<(Info, Room), endpoint::Error> {
        let mut client = match self.client.take() {
            Some(client) => client,
            None => Client::connect(&self.target, self.timeout).await?,
        };
        let info = client.info().await?;
        let room = match info.number("connected_slaves") {
            None | Some(0) => Room::UNLIMITED,
            Some(_) => room(&mut client, &info).await?,
        };
        self.client = Some(client);
        Ok((info, room))
    }
}

/// Whether a target, whose INFO is `info`, still holds what was written there: it had evicted so many keys before.
///
/// # Errors
/// [`Error::Evicted`], and [`Error::Demoted`].
pub fn check_target(info: &Info, evicted_before: u64) -> Result<(), Error> {
    if info.role == Role::Replica {
        return Err(Error::Demoted { master: info.master().unwrap_or_default() });
    }
    match evicted_since(evicted_before, info.number("evicted_keys").unwrap_or(0)) {
        0 => Ok(()),
        keys => Err(Error::Evicted { keys }),
    }
}

/// How many keys a target has evicted, from its counter before and now. A counter that is lower was reset meanwhile
/// (`CONFIG RESETSTAT`), and what it says came since.
fn evicted_since(before: u64, now: u64) -> u64 {
    now.checked_sub(before).unwrap_or(now)
}

/// What a target's replicas can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Room {
    bytes: u64,
    /// Nothing is on its way to any of them, as far as they have said.
    is_idle: bool,
}

impl Room {
    const UNLIMITED: Self = Self { bytes: u64::MAX, is_idle: true };
}

async fn room(client: &mut Client, info: &Info) -> Result<Room, endpoint::Error> {
    let mut questions = Pipelined::default();
    questions.add(&["CONFIG", "GET", "client-output-buffer-limit"]);
    questions.add(&["CLIENT", "LIST", "TYPE", "replica"]);
    let replies = client.pipeline("CLIENT LIST", &questions).await?;
    let limits = match &replies[..] {
        [Reply::Array(pair), _] => pair.get(1).and_then(Reply::text).unwrap_or_default(),
        // Without the right to look: what servers have unless it is configured.
        _ => "slave 268435456 67108864 60".to_owned(),
    };
    let held = match &replies[..] {
        [_, reply @ Reply::Bulk(_)] => held_bytes(&reply.text().unwrap_or_default()),
        _ => behind_bytes(info),
    };
    Ok(match OutputLimit::parse(&limits).and_then(OutputLimit::lower_bytes) {
        Some(limit) => Room { bytes: (limit / 4).saturating_sub(held), is_idle: behind_bytes(info) == 0 },
        None => Room::UNLIMITED,
    })
}

/// `client-output-buffer-limit` of replicas: one that lags by more is dropped. 0 stands for no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputLimit {
    /// More than this, and it is dropped at once.
    pub hard_bytes: u64,
    /// More than this for [`soft_seconds`](Self::soft_seconds), and it is dropped.
    pub soft_bytes: u64,
    /// See [`soft_bytes`](Self::soft_bytes).
    pub soft_seconds: u64,
}

impl OutputLimit {
    /// From the value of the setting: `normal 0 0 0 slave <hard> <soft> <seconds> pubsub …`.
    pub fn parse(setting: &str) -> Option<Self> {
        let mut words = setting.split_ascii_whitespace();
        words.find(|word| matches!(*word, "slave" | "replica"))?;
        let mut number = || words.next()?.parse().ok();
        Some(Self { hard_bytes: number()?, soft_bytes: number()?, soft_seconds: number()? })
    }

    /// The lower of the two, in bytes; nothing where there is none.
    fn lower_bytes(self) -> Option<u64> {
        [self.hard_bytes, self.soft_bytes].into_iter().filter(|limit| *limit > 0).min()
    }
}

/// The most that the target holds for one of its replicas: `omem` of CLIENT LIST, which is what the limit counts
/// (`getClientOutputBufferMemoryUsage` in `src/networking.c`).
fn held_bytes(list: &str) -> u64 {
    let held = |line: &str| line.split(' ').find_map(|pair| pair.strip_prefix("omem=")?.parse().ok());
    list.lines().filter_map(held).max().unwrap_or(0)
}

/// How far the last of the target's replicas is behind, as INFO tells: up to a second late. One in a full sync takes
/// nothing at all.
fn behind_bytes(info: &Info) -> u64 {
    let replica = |number: u64| info.field(&format!("slave{number}"));
    let behind = |line: &str| {
        let value = |name| line.split(',').find_map(|pair| pair.strip_prefix(name));
        match (value("state="), value("offset=").and_then(|offset| offset.parse().ok())) {
            (Some("online") | None, Some(offset @ 1..)) => info.position.offset.saturating_sub(offset),
            // One that never says how far it is.
            (Some("online") | None, _) => 0,
            _ => u64::MAX,
        }
    };
    (0..).map_while(replica).map(behind).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica_limit(setting: &str) -> Option<u64> {
        OutputLimit::parse(setting)?.lower_bytes()
    }

    #[test]
    fn the_lower_limit_counts() {
        let setting =
            |slave: &str| replica_limit(&format!("normal 0 0 0 slave {slave} pubsub 33554432 8388608 60"));
        assert_eq!(setting("268435456 67108864 60"), Some(67_108_864));
        assert_eq!(setting("1048576 0 0"), Some(1_048_576));
        assert_eq!(setting("0 0 0"), None);
        assert_eq!(replica_limit("normal 0 0 0"), None);
    }

    #[test]
    fn a_replica_in_a_full_sync_is_not_idle() {
        let behind = |replicas: &str| {
            let replid = "0123456789abcdef0123456789abcdef01234567";
            let text = format!(
                "redis_version:7.4.1\r\nrun_id:a\r\nrole:master\r\nmaster_replid:{replid}\r\n\
                 master_repl_offset:1000\r\n{replicas}"
            );
            behind_bytes(&Info::parse(&text).unwrap())
        };
        let online = "slave0:ip=::1,port=1,state=online,offset=990,lag=0\r\n";
        assert_eq!((behind(""), behind(online)), (0, 10));
        assert_eq!(behind("slave0:ip=::1,port=1,state=online,offset=0,lag=0\r\n"), 0, "another replsync");
        let syncing = format!("{online}slave1:ip=::1,port=2,state=send_bulk,offset=0,lag=0\r\n");
        assert_eq!(behind(&syncing), u64::MAX);
    }

    #[test]
    fn a_counter_that_was_reset_counts_from_nothing() {
        assert_eq!((evicted_since(5, 5), evicted_since(5, 8)), (0, 3));
        assert_eq!((evicted_since(5, 0), evicted_since(5, 2)), (0, 2), "CONFIG RESETSTAT");
    }

    #[test]
    fn the_replica_that_is_behind_most_counts() {
        let list = "id=3 addr=a name= flags=S omem=20504 events=r\nid=4 addr=b flags=S omem=7 events=r\n";
        assert_eq!(held_bytes(list), 20_504);
        assert_eq!(held_bytes(""), 0);
    }
}

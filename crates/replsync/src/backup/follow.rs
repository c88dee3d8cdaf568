//! Whether a replica that is started on a backup would go on from there, or make its master fork.

use std::time::Duration;

use tokio::time::sleep;

use super::Head;
use crate::endpoint::{Client, Endpoint, Error, Info};
use crate::link::{NotContinued, can_continue};
use crate::server::{Product, parse_version};

/// For so long the master's writes are watched.
const WATCHED_FOR: Duration = Duration::from_secs(1);

/// What a master says of a replica that would be started on a backup.
#[derive(Clone, Debug)]
pub struct Following {
    /// The master, as it is now.
    pub master: Info,
    /// Bytes that the replica would be behind.
    pub behind_bytes: u64,
    /// What the master writes to its stream, a second.
    pub bytes_per_s: f64,
    /// Bytes that may be written until the master no longer holds the backup's offset.
    pub left_bytes: u64,
    /// For how long that is at this rate; nothing while nothing is written.
    pub time_left: Option<Duration>,
    /// Why it would not go on: all of it.
    pub obstacles: Vec<Obstacle>,
}

/// Why a replica that is started on a backup would not continue, or must not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// The RDB has no place in a stream.
    #[error(
        "the RDB does not say where in a replication stream it is: a server that is started on it asks for a full sync"
    )]
    NoPlace,
    /// Without it, writes land in database 0.
    #[error(
        "the RDB does not say which database the stream had selected: the replica's first writes may land in another one"
    )]
    NoStreamDatabase,
    /// The master will not continue there.
    #[error("the master would not continue from there, and would fork for a full sync: {0}")]
    NotContinued(NotContinued),
    /// Another product or version than the one whose stream it is.
    #[error(
        "the backup is of {backup} and the master is {master}: a replica reads the stream of its own product and version only \
         (7.4 that continued from 8.6's data held wrong values with all indicators green)"
    )]
    AnotherVersion {
        /// Who wrote the RDB.
        backup: String,
        /// Who would be followed.
        master: String,
    },
}

impl Following {
    /// Whether it would go on without a full sync.
    pub fn can(&self) -> bool {
        self.obstacles.is_empty()
    }
}

/// Whether a replica of `master` that is started on an RDB with this head would continue from there. Looks at the master's
/// writes for a second, and changes nothing.
///
/// # Errors
/// When the master cannot be asked.
pub async fn can_follow(master: &Endpoint, head: &Head, timeout: Duration) -> Result<Following, Error> {
    let mut client = Client::connect(master, timeout).await?;
    let first = client.info().await?;
    let began = tokio::time::Instant::now();
    sleep(WATCHED_FOR).await;
    let info = client.info().await?;
    let grown = info.position.offset.saturating_sub(first.position.offset);
    let bytes_per_s = grown as f64 / began.elapsed().as_secs_f64();
    let mut obstacles = Vec::new();
    let (mut behind_bytes, mut left_bytes) = (0, 0);
    match head.position {
        None => obstacles.push(Obstacle::NoPlace),
        Some(at) => {
            behind_bytes = info.position.offset.saturating_sub(at.offset);
            match can_continue(&info, at) {
                Err(reason) => obstacles.push(Obstacle::NotContinued(reason)),
                Ok(()) => left_bytes = room(&info, at.offset),
            }
        }
    }
    if head.stream_db.is_none() {
        obstacles.push(Obstacle::NoStreamDatabase);
    }
    if let Some(backup) = &head.writer
        && !is_same_line(backup, &info)
    {
        obstacles.push(Obstacle::AnotherVersion { backup: backup.clone(), master: info.server.to_string() });
    }
    let time_left = (bytes_per_s >= 1.0).then(|| Duration::from_secs_f64(left_bytes as f64 / bytes_per_s));
    Ok(Following { master: info, behind_bytes, bytes_per_s, left_bytes, time_left, obstacles })
}

/// How much may be written until the backlog no longer holds what follows `offset`: it drops the oldest once it is full.
fn room(info: &Info, offset: u64) -> u64 {
    let number = |name| info.number(name).unwrap_or(0);
    let kept = info.position.offset.saturating_sub(offset);
    number("repl_backlog_size").saturating_sub(kept)
}

/// Patch releases read each other's streams.
fn is_same_line(writer: &str, info: &Info) -> bool {
    let Some((product, version)) = writer.split_once(' ') else { return false };
    let product = match product {
        "redis" => Product::Redis,
        "valkey" => Product::Valkey,
        _ => return false,
    };
    let line = |(major, minor, _): (u16, u16, u16)| (major, minor);
    product == info.server.product
        && parse_version(version).is_ok_and(|version| line(version) == line(info.server.version))
}

//! What a target is and what it can do, asked once before anything is written.

use std::collections::HashSet;

use bytes::Bytes;

use crate::command::{self, Expiries};
use crate::endpoint::{Client, Error, Info};
use crate::resp::Reply;
use crate::server::Server;

/// How a target chooses what to evict when it is full: whether access hints are of use to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eviction {
    /// By the time of last access: IDLETIME is of use.
    Lru,
    /// By access counters: FREQ is of use.
    Lfu,
    /// Neither.
    Other,
}

/// A target, as far as writing into it needs to know.
#[derive(Clone, Debug)]
pub struct Target {
    /// What its stream commands are rewritten for.
    pub dialect: command::Target,
    /// How it evicts.
    pub eviction: Eviction,
}

impl Target {
    /// Asks the server at the other end of `client`, whose INFO is `info`, into which expiries go as `expiries` says.
    pub async fn inspect(client: &mut Client, info: &Info, expiries: Expiries) -> Result<Self, Error> {
        let policy = match info.field("maxmemory_policy") {
            Some(policy) => Some(policy.to_owned()),
            None => client.config("maxmemory-policy").await?,
        };
        let eviction = match policy.as_deref() {
            Some(policy) if policy.ends_with("-lru") => Eviction::Lru,
            Some(policy) if policy.ends_with("-lfu") => Eviction::Lfu,
            _ => Eviction::Other,
        };
        let commands = command_names(client).await?;
        Ok(Self { dialect: command::Target { server: info.server, commands, expiries }, eviction })
    }

    /// Product and version.
    pub fn server(&self) -> Server {
        self.dialect.server
    }
}

/// The names in the server's command table, in lower case, or `None` where this user may not read it.
async fn command_names(client: &mut Client) -> Result<Option<HashSet<Bytes>>, Error> {
    let rows = match client.ask(&["COMMAND"]).await {
        Ok(Reply::Array(rows)) => rows,
        Ok(reply) => return Err(client.unexpected(&["COMMAND"], &reply)),
        Err(Error::Refused { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let name = |row: &Reply| match row {
        Reply::Array(row) => {
            row.first().and_then(Reply::text).map(|name| Bytes::from(name.to_ascii_lowercase()))
        }
        _ => None,
    };
    Ok(Some(rows.iter().filter_map(name).collect()))
}

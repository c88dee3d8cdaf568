//! What ends the writing.

use std::fmt;

use super::Place;
use crate::{command, endpoint, rdb};

/// Something that the target cannot hold, and that was not allowed to be lost.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Loss {
    /// Function libraries, on a target before 7.0.
    #[error("the source has functions and {0} has none; delete them on the source or use a newer target")]
    Functions(String),
    /// Field expiries, on a target without them.
    #[error("hash fields have expiries and {0} has none; use Redis 7.4 or Valkey 9 or newer as the target")]
    FieldExpiries(String),
    /// Data that a module keeps outside the keyspace.
    #[error(
        "the module type {0} keeps data outside the keyspace, which no command can move; --allow-loss module-aux goes on without it"
    )]
    ModuleAux(String),
    /// Metadata that modules attached to a key.
    #[error("modules attached metadata to this key, which no command can move")]
    KeyMetadata,
    /// A value that the target neither loads nor has commands for.
    #[error(
        "a {kind} written as RDB type {type_byte}: {target} does not load it, or not at this size, and no command builds it"
    )]
    Value {
        /// What it is.
        kind: &'static str,
        /// The type byte in the RDB.
        type_byte: u8,
        /// The target.
        target: String,
    },
    /// An expiry that cannot be kept out of the target's reach.
    #[error(
        "its expiry, {0} ms since the epoch, is beyond what can be moved: it is shifted already, by a migration into the \
         source that was killed, or so far away that PERSIST or HPERSIST on the source does as well"
    )]
    ExpiryOutOfRange(i64),
    /// Pending entries given back by their consumers (RDB 14).
    #[error("pending entries without a consumer, which {0} cannot hold")]
    NackedEntries(String),
}

/// What ends the writing into a target.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection to the target failed.
    #[error(transparent)]
    Connection(#[from] endpoint::Error),
    /// The target answered a command with an error.
    #[error("{target} refused {command}{at}: {reply}")]
    Refused {
        /// The target's address.
        target: String,
        /// The command's name.
        command: String,
        /// Database, key, and place in the source.
        at: Box<At>,
        /// The error reply, or what is wrong with the reply.
        reply: String,
    },
    /// The RDB cannot be read.
    #[error("the RDB from the source: {0}")]
    Rdb(#[from] rdb::Error),
    /// The RDB ended before the payload that carried it.
    #[error("the RDB from the source ended at byte {0}, but more bytes follow in its payload")]
    BehindRdb(u64),
    /// A value that was copied cannot be read.
    #[error("a value from the source cannot be read{at}: {source}")]
    Value {
        /// What is wrong.
        source: rdb::Error,
        /// Database and key.
        at: Box<At>,
    },
    /// Something would be lost.
    #[error("would lose data{at}: {loss}")]
    Loss {
        /// What.
        loss: Loss,
        /// Database, key, and place in the source.
        at: Box<At>,
    },
    /// The stream holds a command that cannot be brought to the target.
    #[error("the stream cannot be applied{at}: {source}")]
    NoRule {
        /// Why.
        source: command::NoRule,
        /// Database, key, and place in the source.
        at: Box<At>,
    },
    /// The stream breaks its own rules.
    #[error("the replication stream makes no sense{at}: {what}")]
    Stream {
        /// What is wrong.
        what: &'static str,
        /// Where.
        at: Box<At>,
    },
    /// A transaction that is too large to be held until its EXEC.
    #[error("a transaction of more than {limit_bytes} bytes{at}")]
    TransactionTooLarge {
        /// The limit.
        limit_bytes: usize,
        /// Where it stands.
        at: Box<At>,
    },
    /// The target has evicted keys, which it does without an error.
    #[error(
        "the target has evicted {keys} keys since the job began (maxmemory-policy): give it more memory, and run again"
    )]
    Evicted {
        /// How many.
        keys: u64,
    },
    /// The target was made a replica, which replaces its data without a word to its clients.
    #[error(
        "the target has become a replica of {master}, and holds that one's data: make it a master again (REPLICAOF NO ONE) \
         and run again with --flush-target"
    )]
    Demoted {
        /// The address of its master.
        master: String,
    },
    /// The thread that reads the RDB ended without a word.
    #[error("reading the RDB stopped: {0}")]
    Stopped(&'static str),
}

/// What an error is about: database, key, and place in the source; as far as they are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct At {
    /// The database.
    pub db: Option<u32>,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The place in the source.
    pub place: Option<Place>,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if let Some(key) = &self.key {
            parts.push(format!("key {}", rdb::quoted(key, 120)));
        }
        if let Some(db) = self.db {
            parts.push(format!("database {db}"));
        }
        if let Some(place) = self.place {
            parts.push(place.to_string());
        }
        if parts.is_empty() { Ok(()) } else { write!(f, " ({})", parts.join(", ")) }
    }
}

//! What can go wrong between a master and its replica.

use std::fmt;

use super::Position;
use crate::resp::ScanError;

/// A step of the handshake, named by what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// `PING`
    Ping,
    /// `AUTH`
    Auth,
    /// `REPLCONF listening-port`
    ListeningPort,
    /// `REPLCONF ip-address`
    IpAddress,
    /// `REPLCONF capa`
    Capa,
    /// `REPLCONF version`
    Version,
    /// `PSYNC`
    Psync,
    /// The answer to PSYNC was +FULLRESYNC: the RDB's length comes next.
    PayloadHeader,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::Ping => "PING",
            Step::Auth => "AUTH",
            Step::ListeningPort => "REPLCONF listening-port",
            Step::IpAddress => "REPLCONF ip-address",
            Step::Capa => "REPLCONF capa",
            Step::Version => "REPLCONF version",
            Step::Psync => "PSYNC",
            Step::PayloadHeader => "the full resync",
        })
    }
}

/// A replication connection that cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The master answered with an error.
    #[error("the master answered {step} with an error: {reply}")]
    Refused {
        /// What it answered.
        step: Step,
        /// The error, without its dash.
        reply: String,
    },
    /// The master answered with something that is no answer to it.
    #[error("the master answered {step} with {reply:?}, which a master never does")]
    Unexpected {
        /// What it answered.
        step: Step,
        /// The start of its answer.
        reply: String,
    },
    /// The stream after `position` is not commands.
    #[error("the replication stream is broken at {position}: {source}")]
    Stream {
        /// The last position at which all was well.
        position: Position,
        /// What is wrong.
        source: ScanError,
    },
}

impl Error {
    /// Whether the same may go well a little later: a master that loads its data, or a replica whose own link
    /// is down.
    pub fn is_transient(&self) -> bool {
        const TRANSIENT: [&str; 5] = ["LOADING", "NOMASTERLINK", "MASTERDOWN", "BUSY", "TRYAGAIN"];
        match self {
            // What a master says instead of the RDB ends this try, not the next: its child died, say.
            Error::Refused { step: Step::PayloadHeader, .. } => true,
            Error::Refused { reply, .. } => TRANSIENT.iter().any(|word| reply.starts_with(word)),
            _ => false,
        }
    }
}

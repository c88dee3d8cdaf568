//! What ends a link.

use std::io;
use std::time::Duration;

use super::NotContinued;
use crate::endpoint;
use crate::psync::{self, Position};
use crate::spool;

/// A link that is down, for this try or for good.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The master could not be reached.
    #[error(transparent)]
    Connect(#[from] endpoint::Error),
    /// The master, or what it sent, broke the protocol or refused us.
    #[error("{master}: {source}")]
    Protocol {
        /// Its address.
        master: String,
        /// What is wrong.
        source: psync::Error,
    },
    /// The connection broke.
    #[error("the replication link to {master} broke{}: {source}", at(position))]
    Broken {
        /// Its address.
        master: String,
        /// The end of what had come.
        position: Option<Position>,
        /// Why.
        source: io::Error,
    },
    /// Nothing came for too long, not even a keepalive.
    #[error("{master} sent nothing for {} s{}", limit.as_secs_f32(), at(position))]
    Silent {
        /// Its address.
        master: String,
        /// The end of what had come.
        position: Option<Position>,
        /// The limit.
        limit: Duration,
    },
    /// The master is shutting down, and a replica that stays would make it wait.
    #[error("{master} is shutting down{}", at(position))]
    ShuttingDown {
        /// Its address.
        master: String,
        /// The end of what had come.
        position: Option<Position>,
    },
    /// The master loads its data: whose history it has is known when that is over.
    #[error("{master} is loading its data")]
    Loading {
        /// Its address.
        master: String,
    },
    /// The master cannot go on where we are, and a full resync, for which it would fork, is not wanted.
    #[error("{master} does not continue{}: {reason}", at(position))]
    NotContinued {
        /// Its address.
        master: String,
        /// The end of what had come.
        position: Option<Position>,
        /// Why not, and what to do.
        reason: NotContinued,
    },
    /// It stayed down for longer than it may.
    #[error("the link stayed down for {} s; the last try: {last}", after.as_secs_f32())]
    GaveUp {
        /// How long was tried.
        after: Duration,
        /// Why the last try failed.
        last: Box<Error>,
    },
    /// The consumer is too far behind, or what waited for it could not be read.
    #[error(transparent)]
    Spool(#[from] spool::Error),
}

fn at(position: &Option<Position>) -> String {
    position.map(|position| format!(" at {position}")).unwrap_or_default()
}

impl Error {
    /// Whether another try may go well.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            // A certificate may be about to be renewed: that, too, is given its time.
            Error::Connect(
                endpoint::Error::Connect { .. }
                | endpoint::Error::Tls { .. }
                | endpoint::Error::Timeout { .. }
                | endpoint::Error::Broken { .. },
            ) => true,
            // A script that runs for long refuses INFO, too.
            Error::Connect(endpoint::Error::Refused { reply, .. }) => reply.starts_with("BUSY"),
            Error::Protocol { source, .. } => source.is_transient(),
            Error::Broken { .. }
            | Error::Silent { .. }
            | Error::ShuttingDown { .. }
            | Error::Loading { .. } => true,
            Error::Connect(_) | Error::NotContinued { .. } | Error::GaveUp { .. } | Error::Spool(_) => false,
        }
    }
}

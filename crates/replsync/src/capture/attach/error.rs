//! Why we are not attached.

use std::time::Duration;

use super::Refusal;
use crate::psync::{self, Step};
use crate::{endpoint, link};

/// Why a server's stream could not be followed.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The server could not be asked.
    #[error(transparent)]
    Endpoint(#[from] endpoint::Error),
    /// It could not be done without a fork or other harm. Nothing was changed.
    #[error("{0}")]
    Refused(Refusal),
    /// The link did not come up, or is down for good.
    #[error("the link to the source: {source}{}", hint(.source))]
    Link {
        /// Why.
        source: link::Error,
    },
    /// The server does not let us be a replica.
    #[error("the source answered {command} with an error: {reply}. {NO_REPLICAS}")]
    NoReplica {
        /// The command.
        command: String,
        /// What it said.
        reply: String,
    },
    /// A master without a backlog was asked for a full sync, and made none.
    #[error(
        "the source was asked for a full sync so that it makes a replication backlog, and has made none within {} s; the \
         connection was closed before it would fork. Attach a replica to it, or use --method full-sync",
        within.as_secs_f32()
    )]
    NoBacklog {
        /// How long was waited.
        within: Duration,
    },
    /// A transaction that had begun when we joined went on for too long.
    #[error(
        "the source's stream is inside a transaction that did not end within {} s: run again, or with a longer timeout",
        within.as_secs_f32()
    )]
    NoEnd {
        /// How long was waited.
        within: Duration,
    },
    /// A setting that was changed for the moment could not be put back.
    #[error(
        "the setting {setting} of the source was changed for the moment and could not be put back ({why}): CONFIG SET {setting} {value}"
    )]
    NotPutBack {
        /// Its name.
        setting: String,
        /// What it was before.
        value: String,
        /// Why not.
        why: String,
    },
    /// The thread that primes a backlog could not be started.
    #[error("priming the source's backlog: {0}")]
    Thread(String),
}

const NO_REPLICAS: &str = "Without REPLCONF and PSYNC nothing can follow its stream: ACL SETUSER <user> +replconf +psync, \
                           where that is the reason; many managed services have no PSYNC";

fn hint(error: &link::Error) -> String {
    match error {
        link::Error::Protocol { source: psync::Error::Refused { step, .. }, .. } if *step != Step::Auth => {
            format!(". {NO_REPLICAS}")
        }
        _ => String::new(),
    }
}

impl AttachError {
    /// Whether it could not be made safe or exact; otherwise the server could not be reached, or refused us.
    pub fn is_unsafe(&self) -> bool {
        match self {
            AttachError::Refused(refusal) => refusal.is_unsafe(),
            AttachError::NoBacklog { .. } | AttachError::NotPutBack { .. } => true,
            AttachError::Link { source: link::Error::NotContinued { .. } | link::Error::Spool(_) } => true,
            AttachError::Link {
                source: link::Error::Protocol { source: psync::Error::Stream { .. }, .. },
            } => true,
            AttachError::Endpoint(_)
            | AttachError::NoEnd { .. }
            | AttachError::Link { .. }
            | AttachError::NoReplica { .. }
            | AttachError::Thread(_) => false,
        }
    }
}

//! Why a capture could not be made.

use crate::psync::ReplId;
use crate::{endpoint, link, psync, spool};

/// Why a capture could not be made. Nothing of it may be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be attached to.
    #[error(transparent)]
    Attach(#[from] super::AttachError),
    /// The source could not be asked.
    #[error(transparent)]
    Source(#[from] endpoint::Error),
    /// A connection to it broke, and could not be made again.
    #[error("{last} (tried again for {} s: --reconnect-for)", after.as_secs())]
    GaveUp {
        /// For how long it was tried.
        after: std::time::Duration,
        /// What went wrong last.
        last: endpoint::Error,
    },
    /// Its commands are not to be understood.
    #[error(transparent)]
    Commands(#[from] crate::command::CommandTableError),
    /// The replication link is down for good.
    #[error(transparent)]
    Link(link::Error),
    /// What waits on disk could not be written or read.
    #[error(transparent)]
    Spool(#[from] spool::Error),
    /// The source answered with an error.
    #[error("the source refused {command}: {reply}{}", right(command, reply))]
    Refused {
        /// What was asked.
        command: String,
        /// The error reply.
        reply: String,
    },
    /// The source answered with something else than the command has.
    #[error("the source gave {command} an answer that it cannot have (a proxy between?)")]
    Nonsense {
        /// What was asked.
        command: String,
    },
    /// A failover, or a proxy that leads to several servers.
    #[error(
        "the source's history is another one now: {is} instead of {was} (a failover, or a proxy that leads to several \
         servers); start again"
    )]
    AnotherHistory {
        /// The replid of the link.
        was: String,
        /// The one that was found.
        is: String,
    },
    /// It was a master, and is none any more.
    #[error("the source is a replica of {master} now (a failover): {cause}; start again from the new master")]
    Demoted {
        /// Its master.
        master: String,
        /// What was noticed of it.
        cause: Box<Error>,
    },
    /// A DUMP payload that is damaged.
    #[error("DUMP of {key} in database {db} cannot be read: {source}")]
    Payload {
        /// Its database.
        db: u32,
        /// The key, quoted.
        key: String,
        /// What is wrong.
        source: crate::rdb::Error,
    },
    /// A FUNCTION DUMP payload that is damaged.
    #[error("FUNCTION DUMP cannot be read: {source}")]
    Functions {
        /// What is wrong.
        source: crate::rdb::Error,
    },
    /// A value that cannot be asked for at once, and not in parts.
    #[error(
        "{key} in database {db} ({what}, about {bytes} bytes) cannot be read in parts, and is above the {limit_bytes} \
         bytes that may be asked for at once (--max-dump-bytes)"
    )]
    TooBig {
        /// Its database.
        db: u32,
        /// The key, quoted.
        key: String,
        /// Its type.
        what: String,
        /// Its size.
        bytes: u64,
        /// The limit.
        limit_bytes: u64,
    },
    /// The connection does not survive a value.
    #[error(
        "the connection broke {times} times while {key} in database {db} was asked for, which cannot be read in parts: {last} \
         (client-output-buffer-limit normal, or a limit of a proxy between?)"
    )]
    Breaks {
        /// Its database.
        db: u32,
        /// The key, quoted.
        key: String,
        /// How often.
        times: u32,
        /// What was said of it last.
        last: String,
    },
    /// It did not come to an end.
    #[error("no exact cut within {after_s} s: {why}")]
    Inexact {
        /// How long it was tried.
        after_s: u64,
        /// What stood against it, and what to do.
        why: String,
    },
    /// The stream did not come as far as INFO said it was.
    #[error(
        "the stream has not come to offset {offset}, which INFO said, for {after_s} s (the link is stuck, or INFO is of \
         another server)"
    )]
    StreamStuck {
        /// The offset.
        offset: u64,
        /// How long was waited.
        after_s: u64,
    },
    /// The database that the stream has selected was never said.
    #[error(
        "the database that the stream has selected is not known, and nothing was written that tells it: write something \
         to the source (to its master, where it is a replica), or allow PUBLISH to this user there and name that"
    )]
    NoStreamDatabase,
    /// The sink has failed.
    #[error("{0}")]
    Sink(Box<dyn std::error::Error + Send + Sync>),
    /// Told to stop.
    #[error("stopped")]
    Stopped,
}

impl Error {
    /// Nothing, where what is now is of the history of the link.
    pub(super) fn unless_same(was: ReplId, is: ReplId) -> Result<(), Self> {
        match is == was {
            true => Ok(()),
            false => Err(Self::AnotherHistory { was: was.to_string(), is: is.to_string() }),
        }
    }

    /// Whether it could not be made safe or exact; otherwise the source could not be reached, or refused us.
    pub fn is_unsafe(&self) -> bool {
        match self {
            Error::Attach(error) => error.is_unsafe(),
            // The stream broke off, or had no room to wait on our side.
            Error::Link(link::Error::Spool(_) | link::Error::NotContinued { .. }) => true,
            Error::Link(link::Error::Protocol { source: psync::Error::Stream { .. }, .. }) => true,
            Error::Source(_)
            | Error::GaveUp { .. }
            | Error::Link(_)
            | Error::Refused { .. }
            | Error::Nonsense { .. } => false,
            // What is missing is a permission.
            Error::NoStreamDatabase => false,
            // A folder that is of no use from the start has cost nothing.
            Error::Spool(spool::Error::Create { .. } | spool::Error::NoRoom { .. }) | Error::Stopped => false,
            Error::Commands(_)
            | Error::Spool(_)
            | Error::AnotherHistory { .. }
            | Error::Demoted { .. }
            | Error::Payload { .. }
            | Error::Functions { .. }
            | Error::TooBig { .. }
            | Error::Breaks { .. }
            | Error::Inexact { .. }
            | Error::StreamStuck { .. }
            | Error::Sink(_) => true,
        }
    }
}

/// What the user lacks, where that is why. Source of the words: `getAclErrorMessage` in `src/acl.c`.
fn right(command: &str, reply: &str) -> String {
    if !reply.starts_with("NOPERM") {
        return String::new();
    }
    if reply.contains("key") && !reply.contains("run the") {
        return ". A copy of everything reads every key: ACL SETUSER <user> ~*".to_owned();
    }
    // FUNCTION DUMP is one right, MEMORY USAGE, too; before 7.0 they are given by their first word.
    let name = command.to_ascii_lowercase().replace(' ', "|");
    let name = name.split_once("info|").map_or(&name[..], |_| "info");
    format!(". ACL SETUSER <user> +{name}, and whatever else reading takes (docs/operations/acl.md)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_user_lacks_is_said() {
        let said = |command: &str, reply: &str| {
            Error::Refused { command: command.to_owned(), reply: reply.to_owned() }.to_string()
        };
        let dump = said("DUMP", "NOPERM User bak has no permissions to run the 'dump' command");
        assert!(dump.contains("ACL SETUSER <user> +dump,"), "{dump}");
        let dump =
            said("FUNCTION DUMP", "NOPERM this user has no permissions to run the 'function|dump' command");
        assert!(dump.contains("+function|dump,"), "{dump}");
        let info = said("INFO replication", "NOPERM this user has no permissions to run the 'info' command");
        assert!(info.contains("+info,"), "{info}");
        let keys = said("MEMORY USAGE", "NOPERM No permissions to access a key");
        assert!(keys.ends_with("ACL SETUSER <user> ~*"), "{keys}");
        let keys =
            said("DUMP", "NOPERM this user has no permissions to access one of the keys used as arguments");
        assert!(keys.ends_with("ACL SETUSER <user> ~*"), "{keys}");
        assert!(!said("DUMP", "ERR no").contains("ACL"));
    }
}

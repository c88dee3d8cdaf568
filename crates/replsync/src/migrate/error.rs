//! What ends a migration before its time.

use crate::psync::{self, Position, ReplId};
use crate::{apply, capture, compare, endpoint, link, spool};

use super::Finding;
use super::sink::SinkError;
use crate::server::Server;

/// Why a migration failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A server could not be asked.
    #[error(transparent)]
    Endpoint(#[from] endpoint::Error),
    /// The pair cannot be migrated, or not safely.
    #[error("{0}")]
    Refused(Finding),
    /// The replication link is down for good.
    #[error("the link to the source: {0}")]
    Link(#[source] link::Error),
    /// The copy could not be made without a fork.
    #[error("{0}{hint}", hint = full_sync_hint(.0))]
    Capture(#[source] capture::Error),
    /// The source cannot continue the stream behind a capture where it was.
    #[error(
        "the link to the source: {0}. What the source wrote meanwhile is lost to the target, which may hold keys that the \
         source has deleted; run again with --flush-target"
    )]
    NotContinued(#[source] link::Error),
    /// The link broke while the RDB came.
    #[error("the link to the source broke {received_bytes} bytes into the RDB: {source}")]
    CopyCut {
        /// Bytes of the RDB that had come.
        received_bytes: u64,
        /// Why.
        source: link::Error,
    },
    /// The source answered a reconnect with a full resync: what was copied may hold keys that it has deleted
    /// since.
    #[error(
        "the source could not continue at {from} and offered a full resync from {to}: the target may hold keys \
         that the source has deleted meanwhile; enlarge repl-backlog-size on the source and run again with --flush-target"
    )]
    FullResyncAgain {
        /// Where the copy or the stream had got to.
        from: Position,
        /// What was offered.
        to: Position,
    },
    /// The source's INFO tells of another history than the one that the link follows.
    #[error(
        "the link follows {}, but INFO of the same address tells of {replid}: two servers behind one address? \
         Name one server",
        link.map(|at| at.to_string()).unwrap_or_default()
    )]
    AnotherHistory {
        /// Where the link began.
        link: Option<Position>,
        /// Whose history INFO tells of.
        replid: ReplId,
    },
    /// The source was written to while expiries were put right, and something expired on the target meanwhile, which the
    /// source may have renewed.
    #[error(
        "the source was written to again while expiries were put right, and keys expired on the target meanwhile: a renewal \
         may be lost. Run again with --flush-target once its writers have stopped, or with --pause-source"
    )]
    ExpiredMeanwhile,
    /// The job ended before the expiries on the target could be put right.
    #[error(
        "the target does not answer, so its expiries stay shifted: no key that should expire does. Run again with --flush-target"
    )]
    StillShifted,
    /// The source cannot pause its writers alone.
    #[error(
        "--pause-source: {0} cannot pause writers alone (CLIENT PAUSE … WRITE is of Redis 6.2); leave it out"
    )]
    NoPause(Server),
    /// The source's writers write elsewhere.
    #[error(
        "--pause-source: the source is a replica, and its writers write to its master: name that one as the source"
    )]
    PausesNobody,
    /// The spool's folder is of no use.
    #[error(transparent)]
    Spool(#[from] spool::Error),
    /// Both sides could not be compared.
    #[error("comparing both sides: {0}")]
    Compare(#[from] compare::Error),
    /// The job had to start anew, and that failed, too. The target holds a part of the copy, or nothing.
    #[error("{cut}; starting anew failed: {last}")]
    NotAnew {
        /// Why it had to.
        cut: Box<Error>,
        /// Why that failed.
        last: Box<Error>,
    },
    /// The source has come back without its data. Copying that would only delete what the target has.
    #[error("the source had {keys} keys and has come back with none")]
    SourceIsEmpty {
        /// How many it had.
        keys: u64,
    },
    /// Told to stop before the copy began.
    #[error("stopped before the copy began (with --flush-target, the target may be empty already)")]
    StoppedEarly,
    /// Writing into the target failed.
    #[error(transparent)]
    Apply(#[from] apply::Error),
}

/// What an error means to the one who runs the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Wrong usage or configuration; nothing was done.
    Usage,
    /// A server could not be reached, or refused.
    Unreachable,
    /// The result could not be made exact or safe: the target is not to be used.
    Unsafe,
    /// Stopped, as was told.
    Stopped,
}

/// What else there is where a capture is refused.
fn full_sync_hint(error: &capture::Error) -> &'static str {
    use capture::{AttachError, Refusal};
    let helps = match error {
        capture::Error::Attach(AttachError::Refused(refusal)) => matches!(
            refusal,
            Refusal::OneReplicaIsEnough
                | Refusal::AnotherSync
                | Refusal::WritableReplica
                | Refusal::ClockOff { .. }
                | Refusal::ImportMode { .. }
                | Refusal::WritesPaused
        ),
        capture::Error::TooBig { .. } | capture::Error::Inexact { .. } | capture::Error::NoStreamDatabase => {
            true
        }
        _ => false,
    };
    if helps { ". --method full-sync needs none of this, and makes the source fork" } else { "" }
}

/// Whether a connection failed, and another one may go well.
fn is_broken(error: &endpoint::Error) -> bool {
    use endpoint::Error::{Broken, Connect, Timeout};
    matches!(error, Connect { .. } | Timeout { .. } | Broken { .. })
}

impl Error {
    /// What has ended the link behind the copy.
    pub(super) fn of_link(error: link::Error) -> Self {
        match error {
            link::Error::NotContinued { .. } => Error::NotContinued(error),
            error => Error::Link(error),
        }
    }

    /// What has ended a capture. What the target says is no business of the source.
    pub(super) fn of_capture(error: capture::Error) -> Self {
        let capture::Error::Sink(sink) = error else { return Error::Capture(error) };
        match sink.downcast::<SinkError>().map(|sink| *sink) {
            Ok(SinkError::Apply(error)) => Error::Apply(error),
            Ok(error) => Error::Capture(capture::Error::Sink(Box::new(error))),
            Err(error) => Error::Capture(capture::Error::Sink(error)),
        }
    }

    /// Whether the link could not go on where it was, so that only a new copy helps.
    pub(super) fn is_cut(&self) -> bool {
        match self {
            // The link is gone, and the next copy would not fit either.
            Error::CopyCut { source: link::Error::Spool(_), .. } => false,
            Error::CopyCut { .. } | Error::FullResyncAgain { .. } | Error::NotContinued(_) => true,
            Error::Capture(capture::Error::AnotherHistory { .. }) => true,
            Error::Capture(capture::Error::Link(link::Error::NotContinued { .. })) => true,
            // While it attaches its connections are not made again.
            Error::Capture(capture::Error::Source(error)) => is_broken(error),
            _ => false,
        }
    }

    /// What this means to the one who runs the job.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Refused(finding) => finding.kind,
            Error::NoPause(_) | Error::PausesNobody => ErrorKind::Usage,
            Error::Spool(_) => ErrorKind::Unreachable,
            // The stream broke off in the middle: the target is a fragment of what was to come.
            Error::Link(link::Error::Protocol { source: psync::Error::Stream { .. }, .. }) => {
                ErrorKind::Unsafe
            }
            // So it did on our side.
            Error::Link(link::Error::Spool(_)) => ErrorKind::Unsafe,
            Error::Endpoint(_) | Error::Link(_) => ErrorKind::Unreachable,
            Error::Capture(capture::Error::Stopped) => ErrorKind::Stopped,
            Error::Capture(error) if error.is_unsafe() => ErrorKind::Unsafe,
            // It had begun: the target holds a part of the copy.
            Error::Capture(
                capture::Error::GaveUp { .. } | capture::Error::Link(link::Error::GaveUp { .. }),
            ) => ErrorKind::Unsafe,
            Error::Capture(_) => ErrorKind::Unreachable,
            Error::CopyCut { .. }
            | Error::FullResyncAgain { .. }
            | Error::NotContinued(_)
            | Error::AnotherHistory { .. }
            | Error::NotAnew { .. }
            | Error::SourceIsEmpty { .. }
            | Error::ExpiredMeanwhile
            | Error::StillShifted => ErrorKind::Unsafe,
            Error::Compare(_) => ErrorKind::Unreachable,
            Error::StoppedEarly => ErrorKind::Stopped,
            Error::Apply(apply::Error::Connection(_)) => ErrorKind::Unreachable,
            Error::Apply(apply::Error::Refused { reply, .. }) if is_the_targets_state(reply) => {
                ErrorKind::Unreachable
            }
            Error::Apply(_) => ErrorKind::Unsafe,
        }
    }
}

/// Whether an error reply speaks of the target's state or of our rights there, not of the data.
fn is_the_targets_state(reply: &str) -> bool {
    const STATES: [&str; 9] = [
        "OOM",
        "READONLY",
        "LOADING",
        "NOAUTH",
        "NOPERM",
        "MISCONF",
        "MASTERDOWN",
        "NOREPLICAS",
        "CLUSTERDOWN",
    ];
    STATES.iter().any(|state| reply.starts_with(state))
}

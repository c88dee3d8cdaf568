//! How to migrate.

use std::time::Duration;

use crate::apply::CopyOptions;
use crate::capture;
use crate::spool;

/// When a migration is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// When it is told to stop.
    Stopped,
    /// When the target has everything up to the offset that the source reported after the copy was in.
    CaughtUp,
    /// When nothing was written to the source for this long, and the target has everything.
    Quiet(Duration),
}

/// How the copy is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// By a capture: keys are read as by a client, and the stream says which of them to read again.
    #[default]
    ForkFree,
    /// By a full sync, for which the source forks.
    FullSync,
}

/// How to migrate.
#[derive(Clone, Debug)]
pub struct Options {
    /// How the copy is made.
    pub method: Method,
    /// When it is done.
    pub until: Until,
    /// Whether to compare both sides before it ends, and for how long to read again what differs.
    pub verify: Option<Duration>,
    /// For how long at most the source's writers are held up for the last look.
    pub pause_source: Option<Duration>,
    /// Whether a target that is not empty may be flushed.
    pub flush_target: bool,
    /// Whether to attach to a source that counts its replicas before it takes writes.
    pub allow_counted_as_replica: bool,
    /// How a capture is made; where it waits on disk, [`spool`](Self::spool) says.
    pub capture: capture::Options,
    /// How values are copied.
    pub copy: CopyOptions,
    /// How long connecting and single answers may take.
    pub timeout: Duration,
    /// How long the link may be down.
    pub reconnect_for: Duration,
    /// Where what the target has yet to take waits.
    pub spool: spool::Config,
    /// How often the job may start anew, with a flushed target, when the source cannot continue where it was.
    pub restarts: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            method: Method::default(),
            until: Until::Stopped,
            verify: None,
            pause_source: None,
            flush_target: false,
            allow_counted_as_replica: false,
            capture: capture::Options::default(),
            copy: CopyOptions::default(),
            timeout: Duration::from_secs(5),
            reconnect_for: Duration::from_secs(60),
            spool: spool::Config::default(),
            restarts: 3,
        }
    }
}

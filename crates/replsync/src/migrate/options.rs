//! How to migrate.

use std::time::Duration;

use crate::apply::CopyOptions;
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

/// How to migrate.
#[derive(Clone, Debug)]
pub struct Options {
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
            until: Until::Stopped,
            verify: None,
            pause_source: None,
            flush_target: false,
            allow_counted_as_replica: false,
            copy: CopyOptions::default(),
            timeout: Duration::from_secs(5),
            reconnect_for: Duration::from_secs(60),
            spool: spool::Config::default(),
            restarts: 3,
        }
    }
}

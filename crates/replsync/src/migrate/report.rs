//! What a migration says while it runs and when it has ended.

use std::time::Duration;

use crate::apply::{Copied, Dropped};
use crate::psync::Position;
use crate::server::Server;

/// What a migration is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Looking at both servers.
    #[default]
    Examining,
    /// Waiting for the source to begin its RDB.
    Waiting,
    /// The RDB comes in.
    Copying,
    /// The stream is applied, but not yet up to where the source was when the copy was in.
    CatchingUp,
    /// The stream is applied as it comes.
    Following,
}

/// How far a migration has got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// What it is doing.
    pub phase: Phase,
    /// Keys that the source says it has.
    pub keys_total: u64,
    /// Keys of the copy that the target has answered for.
    pub keys: u64,
    /// Bytes of the RDB that came.
    pub rdb_bytes: u64,
    /// Bytes of the RDB in all, where the source knows.
    pub rdb_bytes_total: Option<u64>,
    /// Commands of the stream that the target has answered for.
    pub commands: u64,
    /// Bytes that the target has answered for.
    pub sent_bytes: u64,
    /// The stream's offset that came.
    pub received_offset: u64,
    /// The stream's offset that the target has answered for.
    pub applied_offset: u64,
    /// The source's own offset when it was last asked.
    pub source_offset: Option<u64>,
    /// Whether the link is down and being tried again.
    pub link_down: bool,
    /// How often the stream went on after a break.
    pub reconnects: u64,
    /// How often the job started anew.
    pub restarts: u32,
}

impl Progress {
    /// Bytes of the stream that the target is behind the source.
    pub fn lag_bytes(&self) -> u64 {
        self.source_offset.unwrap_or(0).max(self.received_offset).saturating_sub(self.applied_offset)
    }
}

/// Why a migration ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was caught up, as was asked.
    CaughtUp,
    /// It was told to stop.
    Stopped,
}

/// What a migration did.
#[derive(Clone, Debug)]
pub struct Report {
    /// Why it ended.
    pub ended: Ended,
    /// Whether the target has everything up to the offset that the source reported: after the copy was in where
    /// that ended the job, else when it was told to stop.
    pub caught_up: bool,
    /// Whether the copy is whole. Without it the target is a fragment.
    pub copied_all: bool,
    /// The source.
    pub from: Server,
    /// The target.
    pub to: Server,
    /// The source's history and the offset that the target has answered for, always between transactions; nothing while
    /// the copy is not whole.
    pub position: Option<Position>,
    /// Commands of the stream that were applied.
    pub commands: u64,
    /// What was copied.
    pub copied: Copied,
    /// What was left out of the stream on purpose.
    pub dropped: Dropped,
    /// How often the stream went on after a break.
    pub reconnects: u64,
    /// How often the job started anew, with a flushed target.
    pub restarts: u32,
    /// Forks of the source between our attaching and the end of the copy; unknown before 6.2.
    pub forks: Option<u64>,
    /// How long it took.
    pub took: Duration,
}

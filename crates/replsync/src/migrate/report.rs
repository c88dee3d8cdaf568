//! What a migration says while it runs and when it has ended.

use std::time::Duration;

use super::Method;
use crate::apply::{Copied, Dropped, Swept};
use crate::capture;
use crate::compare::{Difference, Digests, Precision};
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
    /// Attaching to the source's stream, for a capture.
    Attaching,
    /// The RDB comes in, or every key is read once.
    Copying,
    /// A capture reads again what was written meanwhile.
    Converging,
    /// A capture reads what is left while the source's writers are held up.
    Cutting,
    /// A capture has read everything, and waits for a write that says what database the stream has selected.
    AtRest,
    /// Big values of a capture, of which all parts are there now, go to the target.
    Finishing,
    /// The stream is applied, but not yet up to where the source was when the copy was in.
    CatchingUp,
    /// The stream is applied as it comes.
    Following,
    /// Both sides are compared, while the stream is applied.
    Verifying,
    /// Expiries, out of the target's reach until now, are put right.
    Sweeping,
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
    /// Keys that a capture has read, and again those that were written.
    pub keys_read: u64,
    /// Bytes of their values.
    pub bytes_read: u64,
    /// Keys and elements that were written since a capture has read them.
    pub dirty: u64,
    /// Big values that a capture is reading in parts.
    pub big_values: u64,
    /// Rounds over dirty keys.
    pub rounds: u64,
    /// Commands of the stream that the target has answered for.
    pub commands: u64,
    /// Bytes that the target has answered for.
    pub sent_bytes: u64,
    /// The stream's offset that came.
    pub received_offset: u64,
    /// The stream's offset that the target has answered for.
    pub applied_offset: u64,
    /// When the oldest command arrived that the target has not answered for, in milliseconds since the epoch by our
    /// clock: not later than that.
    pub behind_since_ms: Option<u64>,
    /// Bytes of the stream and the copy that wait on disk.
    pub spooled_bytes: u64,
    /// Whether sending waits for the target's own replicas.
    pub throttled: bool,
    /// Keys of both sides that were compared.
    pub keys_verified: u64,
    /// Keys that differed when they were read last.
    pub keys_differing: u64,
    /// Keys that the sweep has looked at.
    pub keys_swept: u64,
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

    /// For how long the oldest command that the target has not answered for has waited, in milliseconds.
    pub fn lag_ms(&self, now_ms: u64) -> u64 {
        self.behind_since_ms.map_or(0, |since_ms| now_ms.saturating_sub(since_ms))
    }
}

/// Why a migration ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was caught up, as was asked.
    CaughtUp,
    /// Nothing was written to the source for as long as was asked.
    Quiet,
    /// It was told to stop.
    Stopped,
}

/// What comparing both sides has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every key was seen to be equal, and the functions.
    Equal,
    /// Something differs, and nobody writes.
    Differs,
    /// Something still differed while clients wrote to the source: it may be on its way.
    DiffersUnderWrites,
}

/// A comparison of both sides.
#[derive(Clone, Debug)]
pub struct Verification {
    /// What it has shown.
    pub verdict: Verdict,
    /// Keys that were compared.
    pub keys: u64,
    /// What differs, by database and key.
    pub differences: Vec<Difference>,
    /// How many differences there were beyond those.
    pub more: u64,
    /// How exactly expiries were compared.
    pub precision: Precision,
    /// What both sides add up to, each key as it was when it was last compared; nothing where a key could not be read.
    pub digests: Option<Digests>,
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
    /// What comparing both sides has shown, where that was asked and done.
    pub verification: Option<Verification>,
    /// What putting the expiries right has done. Without it they are still shifted: no key that should expire does.
    pub swept: Option<Swept>,
    /// Hash fields that may be there though they have expired on the source, which had yet to delete them, and could not be
    /// asked or was written to meanwhile.
    pub fields_in_doubt: u64,
    /// The most bytes of the stream and the copy that ever waited on disk.
    pub spooled_bytes_max: u64,
    /// How long the source's writers were held up.
    pub paused: Option<Duration>,
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
    /// How the copy was made.
    pub method: Method,
    /// Forks of the source that a capture has caused; with a full sync all forks between our attaching and the end of the
    /// copy, which are unknown before 6.2.
    pub forks_caused: Option<u64>,
    /// Other forks of the source while a capture was made; unknown before 6.2.
    pub forks_other: Option<u64>,
    /// How the capture went, where the copy was one and is whole.
    pub capture: Option<capture::Report>,
    /// How long it took.
    pub took: Duration,
}

impl Report {
    /// Whether the target holds just what the source held at [`position`](Self::position): everything was applied, expiries
    /// are as they were, nothing was left behind. A comparison that found differences says otherwise.
    pub fn is_exact(&self) -> bool {
        let caveats = self.capture.as_ref().map_or(0, |capture| capture.caveats.len() as u64);
        let left_behind = caveats + self.copied.module_aux_dropped + self.copied.idempotent_streams;
        let equal = self.verification.as_ref().is_none_or(|seen| seen.verdict == Verdict::Equal);
        let expiries = self.swept.is_some_and(|swept| swept.inexact == 0) && self.fields_in_doubt == 0;
        self.caught_up && self.position.is_some() && expiries && left_behind == 0 && equal
    }
}

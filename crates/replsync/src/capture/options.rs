//! How a capture is made, how far it is, and what it did.

use std::time::Duration;

use super::attach::Caveat;
use crate::psync::Position;
use crate::server::Server;
use crate::spool;

/// How a capture is made.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long connecting and single answers may take.
    pub timeout: Duration,
    /// For how long at most the source's writers are held up for the cut; `None` for never.
    pub max_pause: Option<Duration>,
    /// For how long at most a batch should hold the source up.
    pub hold: Duration,
    /// Replies that the source may have to hold for us, in bytes; never more than a tenth of what is free under its
    /// `maxmemory`.
    pub in_flight_bytes: u64,
    /// Values above this are read in parts: estimated bytes in memory.
    pub big_value_bytes: u64,
    /// Values that cannot be read in parts are asked for at once up to this, in bytes.
    pub max_dump_bytes: u64,
    /// What may be read while writers are paused because it changes too often, in bytes.
    pub pause_bytes: u64,
    /// At most so many keys a second.
    pub max_keys_per_s: Option<u64>,
    /// At most so many bytes a second.
    pub max_bytes_per_s: Option<u64>,
    /// After so long without an exact cut it is given up.
    pub give_up_after: Duration,
    /// Whether a cut that is not exact is better than none.
    pub best_effort: bool,
    /// Where names and copies wait.
    pub spool: spool::Config,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(5),
            max_pause: Some(Duration::from_millis(100)),
            hold: Duration::from_millis(1),
            in_flight_bytes: 1 << 20,
            big_value_bytes: 1 << 20,
            max_dump_bytes: 64 << 20,
            pause_bytes: 16 << 20,
            max_keys_per_s: None,
            max_bytes_per_s: None,
            give_up_after: Duration::from_secs(600),
            best_effort: false,
            spool: spool::Config::default(),
        }
    }
}

/// What a capture is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Looking at the source, and attaching to its stream.
    #[default]
    Attaching,
    /// Every key is read once.
    Copying,
    /// What was written meanwhile is read again.
    Converging,
    /// Writers are held up for the last keys.
    Cutting,
    /// Everything is read; what database the stream has selected is not known before somebody writes.
    AtRest,
    /// The copies are put together.
    Finishing,
}

/// How far a capture has got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// What it is doing.
    pub phase: Phase,
    /// Keys that the source says it has.
    pub keys_total: u64,
    /// Keys that were read, again and again those that were written.
    pub copied: u64,
    /// Bytes of their values.
    pub copied_bytes: u64,
    /// Keys and elements that were written since they were read.
    pub dirty: u64,
    /// Elements and bytes of big values under way.
    pub big: Option<BigProgress>,
    /// Rounds over dirty keys.
    pub rounds: u64,
    /// The stream's offset that was read.
    pub offset: u64,
    /// Whether the link, or the connection that copies, is down and being tried again.
    pub link_down: bool,
    /// Bytes that wait on disk.
    pub spooled_bytes: u64,
}

/// How far the reading of big values has got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BigProgress {
    /// How many are being read.
    pub values: u64,
    /// Elements, or bytes of strings, of them that were read.
    pub parts: u64,
}

/// What a capture did.
#[derive(Clone, Debug)]
pub struct Report {
    /// The source.
    pub source: Server,
    /// Where the capture is exact.
    pub position: Position,
    /// The database that the stream has selected there.
    pub stream_db: u32,
    /// The RDB version that the source writes.
    pub rdb_version: u16,
    /// Whether it is exact.
    pub exact: bool,
    /// Rounds over dirty keys.
    pub rounds: u64,
    /// Copies of keys that were read.
    pub copied: u64,
    /// … of them again, because the key was written.
    pub copied_again: u64,
    /// Bytes of the copies.
    pub copied_bytes: u64,
    /// Big values that were read in parts.
    pub big_values: u64,
    /// Elements of big values that were read.
    pub big_parts: u64,
    /// How long writers were held up for the cut at the longest.
    pub pause: Duration,
    /// How often.
    pub pauses: u64,
    /// Forks that attaching has caused.
    pub forks_caused: u64,
    /// Other forks of the source meanwhile (save points, AOF rewrites, other replicas); unknown before 6.2.
    pub forks_other: Option<u64>,
    /// Whether the source had to be made to keep a backlog.
    pub primed: bool,
    /// Keys that the source had evicted before and after.
    pub evicted: (u64, u64),
    /// For how long the longest batch held the source up, at most.
    pub longest_batch: Duration,
    /// Processor time of the source meanwhile, its other clients' among it.
    pub source_cpu: Duration,
    /// How often the stream, or another connection, went on after a break.
    pub reconnects: u64,
    /// From attaching to the cut.
    pub took: Duration,
    /// What makes it less than exact, as was agreed to.
    pub caveats: Vec<Caveat>,
}

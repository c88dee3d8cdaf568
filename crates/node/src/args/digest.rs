//! Arguments of `digest`.

use clap::ValueEnum;
use replsync::server::Server;

use super::{CaptureArgs, FromAccess};

const EXAMPLES: &str = "\
Examples:
  replsync-node digest dump.rdb
  replsync-node digest dump.rdb --slots --json
  ssh backup cat dump.rdb | replsync-node digest -
  replsync-node digest dump.rdb --algorithm debug-digest --like redis-7.4
  replsync-node digest redis://master --json
  replsync-node digest redis://master --max-pause 0 --max-keys-per-second 20000

Exit codes: 0 done · 1 the file is corrupt · 2 wrong usage
            3 the file cannot be read, or the server not be reached, or it refused
            4 stopped by a signal · 5 refused: this algorithm cannot tell what the file holds;
            or the server's keyspace could not be added up exactly (standard error says why)";

/// Say what a keyspace adds up to: equal digests, equal data
///
/// The digest is the same for the same keys, values, functions and expiries, whatever the order and the encoding in the
/// file and the version that wrote it. Data and expiries have a digest each, and every database has its own, so that two
/// that differ can be narrowed down. What counts and what does not is written in docs/formats/digest.md.
///
/// Keys whose expiry has passed count, since they are in the file; a server that loads it now leaves them out. They are
/// shown as `expired`.
///
/// Of a live server it is the digest of its keyspace at one replication offset, which is printed with it: the same as that of
/// a backup or of any replica at this offset. Nothing is written to the server and it does not fork: its keys are read one
/// after the other, what clients write meanwhile is read again, and for the last keys writers are held up for some
/// milliseconds (--max-pause). Values are not kept, but those of big streams: --spool needs some 120 bytes for each key.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Digest {
    /// An RDB file, `-` for standard input, or a live server such as redis://master:6379
    pub source: String,
    /// How to add up
    #[arg(long, value_enum, default_value_t = Algorithm::Replsync1)]
    pub algorithm: Algorithm,
    /// Whose DEBUG DIGEST is meant, such as redis-7.4 or valkey-9; else that of the server that wrote the file
    ///
    /// For `--algorithm debug-digest`, which differs between versions where there are scores and hash fields that expire
    /// (docs/formats/debug-digest.md).
    #[arg(long, value_name = "SERVER")]
    pub like: Option<Server>,
    /// Add up the keys of each slot of a cluster, too
    #[arg(long)]
    pub slots: bool,
    #[command(flatten)]
    pub capture: CaptureArgs,
    #[command(flatten)]
    pub from_access: FromAccess,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Algorithm {
    /// Ours: independent of versions and encodings, with expiries
    #[value(name = "replsync-1")]
    Replsync1,
    /// What a server's own DEBUG DIGEST prints: blind to when keys expire, to groups and functions
    DebugDigest,
}

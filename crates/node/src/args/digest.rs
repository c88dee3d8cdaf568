//! Arguments of `digest`.

use clap::ValueEnum;
use replsync::server::Server;

const EXAMPLES: &str = "\
Examples:
  replsync-node digest dump.rdb
  replsync-node digest dump.rdb --slots --json
  ssh backup cat dump.rdb | replsync-node digest -
  replsync-node digest dump.rdb --algorithm debug-digest --like redis-7.4

Exit codes: 0 done · 1 the file is corrupt · 2 wrong usage · 3 the file cannot be read
            4 stopped by a signal · 5 refused: this algorithm cannot tell what the file holds";

/// Say what a keyspace adds up to: equal digests, equal data
///
/// The digest is the same for the same keys, values, functions and expiries, whatever the order and the encoding in the
/// file and the version that wrote it. Data and expiries have a digest each, and every database has its own, so that two
/// that differ can be narrowed down. What counts and what does not is written in docs/formats/digest.md.
///
/// Keys whose expiry has passed count, since they are in the file; a server that loads it now leaves them out. They are
/// shown as `expired`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Digest {
    /// An RDB file, or `-` for standard input
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
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Algorithm {
    /// Ours: independent of versions and encodings, with expiries
    #[value(name = "replsync-1")]
    Replsync1,
    /// What a server's own DEBUG DIGEST prints: blind to when keys expire, to groups and functions
    DebugDigest,
}

//! Arguments.

mod access;
mod backup;
mod capture;
mod compare;
mod digest;
mod inspect;

use std::path::PathBuf;
use std::time::Duration;

use crate::exit::Failure;
use clap::{ArgAction, Parser, Subcommand, ValueEnum};

pub use access::{FromAccess, ToAccess};
pub use backup::Backup;
pub use capture::{CaptureArgs, Settled};
pub use compare::Compare;
pub use digest::{Algorithm, Digest};
pub use inspect::Inspect;

/// Moves live Redis and Valkey data between servers and versions.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, propagate_version = true)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    Migrate(Migrate),
    Backup(Backup),
    Doctor(Doctor),
    Digest(Digest),
    Compare(Compare),
    Inspect(Inspect),
    Verify(Verify),
}

/// How results, progress and logs are shown.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Output")]
pub struct Output {
    /// Print the result as one JSON document on standard output
    #[arg(long, global = true)]
    pub json: bool,
    /// Show no progress
    #[arg(long, global = true)]
    pub no_progress: bool,
    /// Log more; twice for debugging
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// How logs on standard error look
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

const SERVERS: &str = "\
Servers:
  redis://[user[:password]@]host[:port]   unix:///path/to/socket
  rediss://…   over TLS: the certificate and its name are checked (--from-tls-…, --to-tls-…)
  A password in a URL can be seen by everybody with `ps`. Better: the environment
  (REPLSYNC_FROM_PASSWORD, REPLSYNC_TO_PASSWORD) or a file (--from-password-file).";

const MIGRATE_EXAMPLES: &str = "\
Examples:
  replsync-node migrate redis://legacy redis://v2
  replsync-node migrate redis://legacy redis://v2 --until quiet:10s --verify --json

Exit codes: 0 done · 1 --verify found differences · 2 wrong usage
            3 a server could not be reached, or refused · 4 stopped by a signal
            5 the target is not to be used";

/// Copy a live server into another one and follow what its clients write
///
/// The source is read as by a client, while its replication stream says which keys to read again: it does not fork. The
/// target is written as by an ordinary client. All databases, functions and expiries are moved, across versions too. Without
/// --until it follows the source until it is stopped (SIGINT or SIGTERM), which it does between two transactions.
/// --method full-sync copies by a full sync, as a replica does, for which the source forks.
///
/// While it runs, every expiry on the target is shifted far into the future, so that the target expires nothing that the
/// source may still renew; what expires on the source is deleted on the target. At its end, also when it is stopped, it
/// puts the expiries right. Give it the time for that: a second signal or a SIGKILL leaves them shifted.
#[derive(Debug, clap::Args)]
#[command(after_help = MIGRATE_EXAMPLES, after_long_help = format!("{SERVERS}\n\n{MIGRATE_EXAMPLES}"))]
pub struct Migrate {
    /// The server to copy from, such as redis://legacy:6379
    pub from: String,
    /// The server to copy to
    pub to: String,
    /// When to end by itself: `caught-up`, once the target has everything up to where the source was when the copy was
    /// in; `quiet` or `quiet:30s`, once nothing was written to the source for that long (5s)
    #[arg(long, value_name = "caught-up|quiet[:TIME]", value_parser = until)]
    pub until: Option<Until>,
    /// Compare both sides, key by key, before it ends
    #[arg(long)]
    pub verify: bool,
    /// For how long --verify reads again what differs while clients write
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "60s")]
    pub verify_timeout: Duration,
    /// Hold up the source's writers for the last look, for at most this long (Redis 6.2 and newer)
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub pause_source: Option<Duration>,
    /// Delete everything on the target first
    #[arg(long)]
    pub flush_target: bool,
    /// How the copy is made: by reading keys as a client does, or by a full sync, for which the source forks
    #[arg(long, value_enum, default_value_t = Method::ForkFree)]
    pub method: Method,
    /// How often to start anew, with a flushed target, when the source cannot continue where it was
    #[arg(long, value_name = "TIMES", default_value_t = 3)]
    pub restarts: u32,
    #[command(flatten)]
    pub capture: CaptureArgs,
    #[command(flatten)]
    pub from_access: FromAccess,
    #[command(flatten)]
    pub to_access: ToAccess,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    CaughtUp,
    Quiet(Duration),
}

/// How long the source must be quiet unless that is said.
const QUIET: Duration = Duration::from_secs(5);

fn until(text: &str) -> Result<Until, String> {
    match text.split_once(':') {
        None if text == "caught-up" => Ok(Until::CaughtUp),
        None if text == "quiet" => Ok(Until::Quiet(QUIET)),
        Some(("quiet", time)) => match duration(time)? {
            Duration::ZERO => Err("quiet for no time at all; --until caught-up ends at once".to_owned()),
            quiet => Ok(Until::Quiet(quiet)),
        },
        _ => Err("caught-up, quiet or quiet:TIME, such as quiet:30s".to_owned()),
    }
}

/// A time with its unit: `500ms`, `5s`, `2m`, `1h`; without one in seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let ms = match unit {
        "ms" => 1,
        "s" | "" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err("a time, such as 500ms, 5s, 2m or 1h".to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| "a time, such as 500ms, 5s, 2m or 1h".to_owned())?;
    Ok(Duration::from_millis(number.saturating_mul(ms)))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Method {
    /// Read keys, and again those that were written: no fork
    ForkFree,
    /// The classic way: the source forks
    FullSync,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Loss {
    /// What modules keep outside the keyspace
    ModuleAux,
}

const DOCTOR_EXAMPLE: &str = "\
Example:
  replsync-node doctor redis://legacy --to redis://v2
  replsync-node doctor redis://master --backup /backups/master-6379-20261124T160541Z.rdb

Exit codes: 0 all well · 1 something stands in the way · 3 a server or a file could not be reached";

/// Say what can be done from here, and what stands in the way; changes nothing
///
/// Looks at roles and versions, memory against the data set, persistence, what our user may not do, clocks, Sentinels,
/// what a killed migration left behind, and what a pair cannot move. Refusals are what `migrate` would refuse; what a
/// server does not tell is said as such.
#[derive(Debug, clap::Args)]
#[command(
    after_help = DOCTOR_EXAMPLE,
    after_long_help = format!("{SERVERS}\n\n{DOCTOR_EXAMPLE}")
)]
pub struct Doctor {
    /// The server to copy from
    pub from: String,
    /// The server to copy to
    #[arg(long)]
    pub to: Option<String>,
    /// Say instead whether a replica of FROM that is started on this backup (its RDB or its manifest) would continue from
    /// there, or make FROM fork; and for how long yet, at the rate at which FROM is written to now
    #[arg(long, value_name = "FILE", conflicts_with = "to")]
    pub backup: Option<PathBuf>,
    #[command(flatten)]
    pub from_access: FromAccess,
    #[command(flatten)]
    pub to_access: ToAccess,
}

const VERIFY_EXAMPLES: &str = "\
Examples:
  replsync-node verify /backups/dump.rdb
  replsync-node verify /backups '/mnt/nfs/**/*.rdb' --json
  zstdcat dump.rdb.zst | replsync-node verify -

Exit codes: 0 all sound · 1 something is corrupt · 2 wrong usage, nothing to verify, or an AOF
            3 a file cannot be read, or changed meanwhile · 4 stopped by a signal";

/// Say whether RDB files are sound, and what is wrong with them and where
///
/// Checks the structure of every value, the checksum, the sizes of databases, that no key is twice in a database, and that
/// nothing follows the end. Goes on after what is wrong where the rest can still be told apart. Files are read, never
/// mapped: one that is cut, or whose server goes away, is an error and no crash. A file that was changed while it was read
/// is not sound.
#[derive(Debug, clap::Args)]
#[command(after_help = VERIFY_EXAMPLES)]
pub struct Verify {
    /// RDB files; folders, for all files in them and below that end in .rdb or start as an RDB does; patterns with *, ?,
    /// [...] and **; - for standard input
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// How many threads work [default: as many as there are cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub jobs: Option<u16>,
    /// Also add up the digest replsync-1 of what is in each file; it takes about as long again
    #[arg(long)]
    pub digest: bool,
    /// Memory for the search for keys, fields and members that are there twice; what needs more (16 bytes a key) is read
    /// several times
    #[arg(long, value_name = "BYTES", default_value_t = 128 * 1024 * 1024)]
    pub duplicates_bytes: usize,
    /// How many findings to keep for each file; the rest is counted
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub max_findings: usize,
}

impl Migrate {
    /// As the library wants it.
    ///
    /// # Errors
    /// When the spool's folder is of no use.
    pub fn options(&self) -> Result<replsync::migrate::Options, Failure> {
        let Settled { attach, options: capture } = self.capture.settle()?;
        let mut options = replsync::migrate::Options {
            method: match self.method {
                Method::ForkFree => replsync::migrate::Method::ForkFree,
                Method::FullSync => replsync::migrate::Method::FullSync,
            },
            until: match self.until {
                Some(Until::CaughtUp) => replsync::migrate::Until::CaughtUp,
                Some(Until::Quiet(quiet)) => replsync::migrate::Until::Quiet(quiet),
                None => replsync::migrate::Until::Stopped,
            },
            flush_target: self.flush_target,
            allow_counted_as_replica: attach.allowed.counted_as_replica,
            reconnect_for: attach.reconnect_for,
            verify: self.verify.then_some(self.verify_timeout),
            pause_source: self.pause_source,
            restarts: self.restarts,
            spool: attach.spool,
            ..Default::default()
        };
        options.copy.big_value_bytes = usize::try_from(capture.big_value_bytes).unwrap_or(usize::MAX);
        options.copy.allow_module_aux_loss = attach.allowed.module_aux_loss;
        options.capture = capture;
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_ends_are_read() {
        assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert!(duration("fast").is_err() && duration("5 s").is_err() && duration("").is_err());
        assert_eq!(until("quiet"), Ok(Until::Quiet(QUIET)));
        assert_eq!(until("quiet:1s"), Ok(Until::Quiet(Duration::from_secs(1))));
        assert_eq!(until("caught-up"), Ok(Until::CaughtUp));
        assert!(until("quiet:").is_err() && until("caught-up:5s").is_err() && until("soon").is_err());
        assert!(until("quiet:0s").is_err());
    }
}

//! Arguments of `backup`.

use std::path::PathBuf;

use clap::ValueEnum;
use replsync::backup::{Method, Options};

use super::{CaptureArgs, FromAccess, SERVERS, Settled};
use crate::exit::Failure;

const EXAMPLES: &str = "\
Examples:
  replsync-node backup redis://master --to /mnt/backups
  replsync-node backup redis://master --to /mnt/backups --max-keys-per-second 20000 --json

Exit codes: 0 done, and exact · 2 wrong usage · 3 the server or a folder could not be reached, or refused
            4 stopped by a signal · 5 it could not be made exact or safe, and nothing was published
            6 published, but labelled inexact, as --best-effort asked";

/// Make an exact backup of a live server, which does not fork for it
///
/// The result is an RDB that is what a replica holds at one offset of the stream, and a manifest (JSON) beside it; the RDB
/// was read back and verified before it got its name, and a backup exists when its manifest does. A server of the same
/// version that is started on the RDB as a replica of the source continues from there without a full sync: `doctor MASTER
/// --backup FILE` says whether it still can.
///
/// Keys are read as any client reads them while the stream says which of them are written meanwhile; those are read again,
/// in rounds, the last ones while writers are held up for at most --max-pause. Copies wait in --spool, which should be a
/// local disk; DIR may be a remote one.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{SERVERS}\n\n{EXAMPLES}"))]
pub struct Backup {
    /// The server to back up, such as redis://master:6379
    pub from: String,
    /// The folder for the backup; it must be there
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,
    /// How the data comes; full-sync makes the source fork
    #[arg(long, value_enum, default_value_t = BackupMethod::ForkFree)]
    pub method: BackupMethod,
    /// Publish what could not be made exact, too, labelled so (exit code 6)
    #[arg(long)]
    pub best_effort: bool,
    #[command(flatten)]
    pub capture: CaptureArgs,
    #[command(flatten)]
    pub from_access: FromAccess,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BackupMethod {
    /// Keys are read by commands while the stream is followed: no fork
    ForkFree,
    /// As a replica gets it: the source forks, and may need up to twice its memory
    FullSync,
}

impl Backup {
    /// As the library wants it.
    pub fn options(&self) -> Result<Options, Failure> {
        let Settled { mut attach, options: mut capture } = self.capture.settle()?;
        attach.allowed.inexact = self.best_effort;
        capture.best_effort = self.best_effort;
        let method = match self.method {
            BackupMethod::ForkFree => Method::ForkFree,
            BackupMethod::FullSync => Method::FullSync,
        };
        Ok(Options { method, attach, capture })
    }
}

//! How a backup is made, and how far it is.

use crate::capture::{self, AttachOptions};

/// How the data comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// By a [capture](crate::capture): the source does not fork.
    #[default]
    ForkFree,
    /// As a replica gets it: the source forks.
    FullSync,
}

impl Method {
    /// Its name in reports and manifests.
    pub fn name(self) -> &'static str {
        match self {
            Method::ForkFree => "fork-free",
            Method::FullSync => "full-sync",
        }
    }
}

/// How a backup is made.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// How the data comes.
    pub method: Method,
    /// What was agreed to, and how long the link may be down.
    pub attach: AttachOptions,
    /// How the capture is made, and where it waits on disk; this folder is that of the link, too.
    pub capture: capture::Options,
}

/// What a backup is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// The source is captured: [`Progress::capture`] says how far that is.
    #[default]
    Capturing,
    /// The source was asked for a full sync, and has sent nothing yet: it forks.
    Waiting,
    /// It sends its RDB.
    Receiving,
    /// The file is written.
    Writing,
    /// It is read back.
    Verifying,
    /// It gets its name, and a manifest.
    Publishing,
}

/// How far a backup has got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// What it is doing.
    pub phase: Phase,
    /// How far the capture is.
    pub capture: capture::Progress,
    /// Keys that were written, and that are to be.
    pub keys_written: u64,
    /// How many there are.
    pub keys: u64,
    /// Bytes of the file that were received or written.
    pub bytes: u64,
    /// How many there will be, where that is known.
    pub bytes_total: Option<u64>,
    /// Bytes of it that were read back.
    pub bytes_verified: u64,
}

//! Since when somebody waits for the disk.

use std::path::PathBuf;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::{Config, Error};

static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Set before each call to the disk, and read by others.
#[derive(Debug, Default)]
pub(super) struct Pulse(AtomicU64);

impl Pulse {
    /// Another call to the disk begins.
    pub(super) fn beat(&self) {
        self.0.store(EPOCH.elapsed().as_micros() as u64 + 1, Relaxed);
    }

    /// The disk is not waited for.
    pub(super) fn rest(&self) {
        self.0.store(0, Relaxed);
    }

    /// How long the last call has not returned, if it is waited for.
    pub(super) fn waited(&self) -> Option<Duration> {
        let since = self.0.load(Relaxed).checked_sub(1)?;
        Some(EPOCH.elapsed().saturating_sub(Duration::from_micros(since)))
    }
}

/// Whose calls to the disk are watched.
#[derive(Debug)]
pub(super) struct Watched {
    folder: PathBuf,
    stall_timeout: Duration,
    pub(super) write: Pulse,
    pub(super) read: Pulse,
}

impl Watched {
    pub(super) fn new(config: &Config) -> Self {
        let (folder, stall_timeout) = (config.folder.clone(), config.stall_timeout);
        Self { folder, stall_timeout, write: Pulse::default(), read: Pulse::default() }
    }

    /// What has not returned in time.
    pub(super) fn stall(&self) -> Option<Error> {
        [("write", &self.write), ("read", &self.read)].into_iter().find_map(|(what, pulse)| {
            let waited = pulse.waited().filter(|waited| *waited >= self.stall_timeout)?;
            let (folder, seconds) = (self.folder.clone(), waited.as_secs_f32());
            Some(Error::Stalled { folder, what, seconds, waiting_bytes: 0 })
        })
    }
}

//! Since when somebody waits for the disk.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

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

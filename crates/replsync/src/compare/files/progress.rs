//! How far a comparison is, and an end to it from outside.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// Shared between a comparison and who watches it.
#[derive(Debug, Default)]
pub struct Progress {
    stopped: AtomicBool,
    /// One of the two threads has failed: the other need not go on.
    failed: AtomicBool,
    pass: AtomicU32,
    passes: AtomicU32,
    looked_at: AtomicU64,
    differing: AtomicU64,
}

/// How far a comparison is. What its files have [read](crate::files::RdbFile::read_bytes) says the rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pass {
    /// The pass over both files that is under way, from 1 on.
    pub pass: u32,
    /// How many passes there will be, as far as that is known.
    pub passes: u32,
    /// Keys that were looked at to say what differs.
    pub looked_at: u64,
    /// Differences until now.
    pub differing: u64,
}

impl Progress {
    /// Ends the comparison soon, with [`Error::Stopped`](super::Error::Stopped).
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// How far it is.
    pub fn now(&self) -> Pass {
        Pass {
            pass: self.pass.load(Ordering::Relaxed),
            passes: self.passes.load(Ordering::Relaxed),
            looked_at: self.looked_at.load(Ordering::Relaxed),
            differing: self.differing.load(Ordering::Relaxed),
        }
    }

    #[inline]
    pub(super) fn is_over(&self) -> bool {
        self.stopped.load(Ordering::Relaxed) || self.failed.load(Ordering::Relaxed)
    }

    pub(super) fn fail(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    pub(super) fn begin(&self, pass: usize, passes: usize) {
        let small = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        self.pass.store(small(pass), Ordering::Relaxed);
        self.passes.store(small(passes), Ordering::Relaxed);
    }

    pub(super) fn differs(&self) {
        self.differing.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn looked(&self) {
        self.looked_at.fetch_add(1, Ordering::Relaxed);
    }
}

//! How many bytes of disk all that waits may take together.

use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;

use super::{Config, Error, Gauge};

/// An account of bytes on disk that queues and logs share: each clone is the same account.
#[derive(Clone, Debug)]
pub struct Budget {
    max_bytes: u64,
    gauge: Gauge,
}

impl Budget {
    /// So many bytes may be on disk at once.
    pub fn new(max_bytes: u64) -> Self {
        Self { max_bytes, gauge: Gauge::default() }
    }

    /// How many bytes may be on disk.
    pub fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    /// How many are there, of all who share it.
    pub fn gauge(&self) -> Gauge {
        self.gauge.clone()
    }

    /// Takes so many bytes before they are written; nothing if that would be more than may be.
    pub(super) fn take(&self, bytes: u64, folder: &Path) -> Result<(), Error> {
        let levels = &self.gauge.0;
        let more = |now: u64| now.checked_add(bytes).filter(|then| *then <= self.max_bytes);
        match levels.bytes.fetch_update(Relaxed, Relaxed, more) {
            Ok(before) => {
                levels.bytes_max.fetch_max(before + bytes, Relaxed);
                Ok(())
            }
            Err(spooled_bytes) => Err(Error::Full {
                folder: folder.to_owned(),
                spooled_bytes,
                needed_bytes: bytes,
                max_bytes: self.max_bytes,
            }),
        }
    }

    pub(super) fn give_back(&self, bytes: u64) {
        self.gauge.0.bytes.fetch_sub(bytes, Relaxed);
    }
}

/// What one file has taken; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    budget: Budget,
    bytes: u64,
}

impl Share {
    pub(super) fn new(budget: &Budget) -> Self {
        Self { budget: budget.clone(), bytes: 0 }
    }

    pub(super) fn take(&mut self, bytes: u64, folder: &Path) -> Result<(), Error> {
        self.budget.take(bytes, folder)?;
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

/// Whether so many bytes will fit, as far as can be said beforehand: neither the budget nor the file system may be
/// too small. Says how many bytes are free. Others may take the room meanwhile, so writing looks again.
///
/// # Errors
/// [`Error::Create`] when the folder is not there, [`Error::Full`] when more is needed than may wait,
/// [`Error::NoRoom`] when more is needed than is free.
pub fn check_space(config: &Config, needed_bytes: u64) -> Result<u64, Error> {
    let folder = &config.folder;
    let found = rustix::fs::statvfs(folder);
    let stat = found.map_err(|error| Error::Create { folder: folder.clone(), source: error.into() })?;
    // What root alone may use does not count.
    let free_bytes = stat.f_bavail.saturating_mul(stat.f_frsize);
    let (spooled_bytes, max_bytes) = (config.budget.gauge.bytes(), config.budget.max_bytes);
    if spooled_bytes.saturating_add(needed_bytes) > max_bytes {
        return Err(Error::Full { folder: folder.clone(), spooled_bytes, needed_bytes, max_bytes });
    }
    if needed_bytes > free_bytes {
        return Err(Error::NoRoom { folder: folder.clone(), needed_bytes, free_bytes });
    }
    Ok(free_bytes)
}

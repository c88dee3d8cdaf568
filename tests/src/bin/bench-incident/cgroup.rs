//! A memory cgroup (version 1) with a server in it, and its peak.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use replsync_tests::server::program;

const ROOT: &str = "/sys/fs/cgroup/memory";
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A memory cgroup, removed when it is dropped; by then what ran in it must have ended.
pub struct Cgroup {
    folder: PathBuf,
    peak: Arc<Peak>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Peak {
    is_over: AtomicBool,
    anonymous_bytes: AtomicU64,
}

impl Cgroup {
    /// Makes one with that limit.
    pub fn new(name: &str, limit_bytes: u64) -> Result<Self> {
        let folder = Path::new(ROOT).join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir(&folder).with_context(|| {
            format!(
                "cannot make the memory cgroup {} (version 1, as root): the incident needs one",
                folder.display()
            )
        })?;
        let peak = Arc::new(Peak::default());
        let (watched, into) = (folder.clone(), peak.clone());
        let thread = std::thread::spawn(move || {
            while !into.is_over.load(Ordering::Relaxed) {
                let now = field(&watched.join("memory.stat"), "rss").unwrap_or(0);
                into.anonymous_bytes.fetch_max(now, Ordering::Relaxed);
                std::thread::sleep(LOOK_EVERY);
            }
        });
        let cgroup = Self { folder, peak, thread: Some(thread) };
        std::fs::write(cgroup.folder.join("memory.limit_in_bytes"), limit_bytes.to_string())
            .context("the memory cgroup takes no limit")?;
        Ok(cgroup)
    }

    /// A program that runs that server in here, from its first page on; it lies in the folder.
    pub fn launcher(&self, server: &str, folder: &Path) -> Result<PathBuf> {
        let path = folder.join("server-in-cgroup");
        let (procs, server) = (self.folder.join("cgroup.procs"), program(server));
        let text =
            format!("#!/bin/sh\necho $$ > '{}'\nexec '{}' \"$@\"\n", procs.display(), server.display());
        std::fs::write(&path, text)?;
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755))?;
        Ok(path)
    }

    /// Anonymous memory now, page cache apart.
    pub fn anonymous_bytes(&self) -> u64 {
        field(&self.folder.join("memory.stat"), "rss").unwrap_or(0)
    }

    /// The most anonymous memory since the last call, looked at every 10 ms.
    pub fn take_peak_bytes(&self) -> u64 {
        self.peak.anonymous_bytes.swap(0, Ordering::Relaxed)
    }

    /// How many processes in here the kernel has killed for memory.
    pub fn kills(&self) -> u64 {
        field(&self.folder.join("memory.oom_control"), "oom_kill").unwrap_or(0)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        self.peak.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        // A process that was killed leaves its cgroup a moment later.
        for _ in 0..50 {
            if std::fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn field(path: &Path, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

//! What something costs a server: processor time by its own INFO, memory by its own count and the kernel's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use replsync_tests::client::Conn;
use replsync_tests::server::TestServer;

/// How often the server is asked for its memory. INFO memory takes it some 50 µs.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Seconds of processor time that the server has taken, without and with the children that it forked.
pub fn cpu(server: &TestServer) -> Result<[f64; 2]> {
    let info = server.info("cpu");
    let field = |name: &str| -> Result<f64> {
        let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        Ok(value.with_context(|| format!("no {name} in INFO cpu"))?.trim().parse()?)
    };
    let own = field("used_cpu_user")? + field("used_cpu_sys")?;
    Ok([own, own + field("used_cpu_user_children")? + field("used_cpu_sys_children")?])
}

/// Memory that a server has taken beyond what it had.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// By its own count (`used_memory`), less what its replication backlog grew by.
    pub used_bytes: i64,
    /// Resident, by the kernel's high-water mark.
    pub resident_bytes: i64,
    /// Copied on write for a child that it forked in that time, as the server says.
    pub copied_on_write_bytes: i64,
}

/// Watches a server's memory from a thread of its own.
pub struct MemoryWatch<'a> {
    server: &'a TestServer,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<i64>>,
    resident_before: i64,
    forks_before: i64,
}

impl<'a> MemoryWatch<'a> {
    /// Begins; the kernel's high-water mark begins anew.
    pub fn start(server: &'a TestServer) -> Result<Self> {
        std::fs::write(format!("/proc/{}/clear_refs", server.pid()), "5")
            .context("the high-water mark cannot be reset")?;
        let resident_before = status(server, "VmRSS")?;
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, mut conn) = (stop.clone(), server.client(0));
        let before = used(&mut conn)?;
        let thread = std::thread::spawn(move || {
            let mut most = 0;
            while !stopped.load(Ordering::Relaxed) {
                most = most.max(used(&mut conn)? - before);
                std::thread::sleep(LOOK_EVERY);
            }
            Ok(most)
        });
        Ok(Self { server, stop, thread, resident_before, forks_before: server.forks_seen() })
    }

    /// The most that it has taken since.
    pub fn end(self) -> Result<Memory> {
        self.stop.store(true, Ordering::Relaxed);
        let used_bytes = self.thread.join().map_err(|_| anyhow!("the watching thread panicked"))??;
        let resident_bytes = status(self.server, "VmHWM")? - self.resident_before;
        let forked = self.server.forks_seen() > self.forks_before;
        let copied_on_write_bytes = if forked { self.server.info_number("rdb_last_cow_size") } else { 0 };
        Ok(Memory { used_bytes, resident_bytes, copied_on_write_bytes })
    }
}

/// The server's own count without its backlog.
fn used(conn: &mut Conn) -> Result<i64> {
    let info = conn.info("memory")?;
    let field = |name: &str| {
        let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.and_then(|value| value.trim().parse::<i64>().ok())
    };
    let backlog = field("mem_replication_backlog").unwrap_or(0);
    Ok(field("used_memory").context("no used_memory in INFO memory")? - backlog)
}

fn status(server: &TestServer, name: &str) -> Result<i64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid()))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib = line.with_context(|| format!("no {name} in /proc"))?.trim().trim_end_matches(" kB");
    Ok(kib.parse::<i64>()? * 1024)
}

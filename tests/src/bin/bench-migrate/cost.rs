//! What a way into a target costs: time, processor time, memory.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use replsync_tests::client::Conn;
use replsync_tests::server::TestServer;

/// The kernel shows processor time in hundredths of a second, on every Linux of today (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// What one run cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// From its beginning to its end.
    pub seconds: f64,
    /// Until the target held as many keys as the source; 0 without a target.
    pub keys_in_seconds: f64,
    /// What `migrate` says of itself.
    pub said_seconds: f64,
    /// Processor time of the source and the children that it forked.
    pub source_cpu: f64,
    /// Processor time of the target.
    pub target_cpu: f64,
    /// Processor time of who moved the data, where that is neither of them.
    pub mover_cpu: f64,
    /// The most memory that the mover had resident.
    pub peak_bytes: u64,
}

/// Watches a run from its beginning to its end.
pub struct Watch {
    begun: Instant,
    source: Server,
    target: Option<Server>,
    keys: u64,
    keys_in: Option<Duration>,
}

/// A server that takes part.
struct Server {
    conn: Conn,
    pid: u32,
    cpu_before: f64,
}

impl Watch {
    /// The run begins.
    pub fn start(source: &TestServer, target: Option<&TestServer>) -> Result<Self> {
        let mut source = Server::new(source)?;
        let keys = source.conn.keys()?;
        let target = target.map(Server::new).transpose()?;
        Ok(Self { begun: Instant::now(), source, target, keys, keys_in: None })
    }

    /// How long it has run.
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Whether the target holds as many keys as the source.
    pub fn are_keys_in(&mut self) -> Result<bool> {
        if let (None, Some(target)) = (self.keys_in, &mut self.target)
            && target.conn.keys()? == self.keys
        {
            self.keys_in = Some(self.begun.elapsed());
        }
        Ok(self.keys_in.is_some())
    }

    /// The run is at its end: what it has cost, but for the mover's part.
    pub fn end(mut self) -> Result<Cost> {
        let seconds = self.begun.elapsed().as_secs_f64();
        let all_in = self.are_keys_in()? || self.target.is_none();
        ensure!(all_in, "the target does not hold {} keys at the end", self.keys);
        // A child's time is the source's once it has been waited for.
        while self.source.conn.info("persistence")?.contains("rdb_bgsave_in_progress:1") {
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(Cost {
            seconds,
            keys_in_seconds: self.keys_in.map_or(0.0, |keys_in| keys_in.as_secs_f64().min(seconds)),
            source_cpu: self.source.cpu()?,
            target_cpu: self.target.map_or(Ok(0.0), |target| target.cpu())?,
            ..Cost::default()
        })
    }
}

impl Server {
    fn new(server: &TestServer) -> Result<Self> {
        let pid = server.pid();
        Ok(Self { conn: server.client(0), pid, cpu_before: cpu(pid)? })
    }

    /// Processor time that it has taken since.
    fn cpu(&self) -> Result<f64> {
        Ok(cpu(self.pid)? - self.cpu_before)
    }
}

/// Seconds of processor time that a process has taken, with those of its children that ended.
fn cpu(pid: u32) -> Result<f64> {
    Ok(times(&pid.to_string())?.iter().sum())
}

/// Seconds of processor time of this process, and of its children that ended.
pub fn own_and_childrens_cpu() -> Result<[f64; 2]> {
    let [user, system, children_user, children_system] = times("self")?;
    Ok([user + system, children_user + children_system])
}

/// `utime`, `stime`, `cutime` and `cstime` of proc(5), in seconds.
fn times(process: &str) -> Result<[f64; 4]> {
    let path = format!("/proc/{process}/stat");
    let stat = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    // The second field is the program's name in parentheses, which may hold anything; utime is the fourteenth.
    let (_, fields) = stat.rsplit_once(')').with_context(|| path.clone())?;
    let ticks: Result<Vec<f64>, _> = fields.split_whitespace().skip(11).take(4).map(str::parse).collect();
    let ticks: [f64; 4] = ticks?.try_into().ok().with_context(|| path)?;
    Ok(ticks.map(|ticks| ticks / TICKS_PER_SECOND))
}

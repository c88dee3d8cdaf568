//! A TCP proxy on loopback that is as bad as networks are: it resets connections in the middle, is slow, and late.
//!
//! What a client says decides which of its connections are cut: those that said PSYNC. The others (INFO, the
//! oracle's own) pass, slowed like all.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use fastrand::Rng;
use socket2::SockRef;

use crate::server::TestServer;

/// What is read at once when nothing is slowed.
const CHUNK_BYTES: usize = 64 * 1024;
/// What the kernel may hold for us, or a throttled connection would not be felt for megabytes.
const SOCKET_BUFFER_BYTES: usize = 64 * 1024;

/// A proxy in front of a server. It lives as long as the test's process does.
pub struct Proxy {
    port: u16,
    ways: Arc<Ways>,
}

/// What all its connections share.
#[derive(Default)]
struct Ways {
    server_port: u16,
    /// For each connection and direction; 0 is as fast as it goes.
    bytes_per_second: AtomicU64,
    delay_ms: AtomicU64,
    plan: Mutex<Plan>,
    links: AtomicU64,
    link_bytes: AtomicU64,
    cuts: AtomicU64,
}

/// The cuts to come.
struct Plan {
    rng: Rng,
    left: u32,
    after_bytes: Range<u64>,
    within_payload: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self { rng: Rng::with_seed(0), left: 0, after_bytes: 1..2, within_payload: false }
    }
}

impl Proxy {
    /// Listens on a free port and passes everything on to that server.
    pub fn start(server: &TestServer) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        SockRef::from(&listener).set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
        let port = listener.local_addr()?.port();
        let ways = Arc::new(Ways { server_port: server.port(), ..Ways::default() });
        let shared = ways.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let ways = shared.clone();
                std::thread::spawn(move || drop(ways.pass(client)));
            }
        });
        Ok(Self { port, ways })
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `redis://…`, the server behind it.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// From now on resets replication connections so many times, each after a random number of bytes from its first
    /// ones behind this call (or behind the last cut).
    pub fn cut(&self, times: u32, after_bytes: Range<u64>, seed: u64) {
        self.plan(Plan { rng: Rng::with_seed(seed), left: times, after_bytes, within_payload: false });
    }

    /// The same, but each cut falls that many bytes into an RDB.
    pub fn cut_within_payload(&self, times: u32, after_bytes: Range<u64>, seed: u64) {
        self.plan(Plan { rng: Rng::with_seed(seed), left: times, after_bytes, within_payload: true });
    }

    fn plan(&self, plan: Plan) {
        *self.ways.plan.lock().expect("no thread panics with it") = plan;
    }

    /// Lets at most so many bytes a second through, on each connection and in each direction; 0 lifts it.
    pub fn throttle(&self, bytes_per_second: u64) {
        self.ways.bytes_per_second.store(bytes_per_second, Relaxed);
    }

    /// Holds everything back for so long. At most one read of 64 KiB is on its way in a direction of a connection.
    pub fn delay(&self, delay: Duration) {
        self.ways.delay_ms.store(delay.as_millis() as u64, Relaxed);
    }

    /// How many connections it has cut.
    pub fn cuts(&self) -> u64 {
        self.ways.cuts.load(Relaxed)
    }

    /// How many connections have said PSYNC.
    pub fn links(&self) -> u64 {
        self.ways.links.load(Relaxed)
    }

    /// How many bytes have gone to replicas.
    pub fn link_bytes(&self) -> u64 {
        self.ways.link_bytes.load(Relaxed)
    }

    /// Waits until it has cut so many. `alive` is asked meanwhile, and its error ends the wait.
    pub fn wait_for_cuts(
        &self,
        cuts: u64,
        timeout: Duration,
        mut alive: impl FnMut() -> Result<()>,
    ) -> Result<()> {
        let deadline = Instant::now() + timeout;
        while self.cuts() < cuts {
            alive()?;
            if Instant::now() > deadline {
                bail!("{} of {cuts} cuts within {timeout:?}, {} links", self.cuts(), self.links());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Ways {
    /// Passes bytes both ways until one side closes or the connection is cut.
    fn pass(self: Arc<Self>, client: TcpStream) -> Result<()> {
        let server = TcpStream::connect(("127.0.0.1", self.server_port))?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        // Shared, not cloned: a reset goes out when the last descriptor of the socket is closed.
        let (client, server) = (Arc::new(client), Arc::new(server));
        let is_link = Arc::new(AtomicBool::new(false));
        let up = {
            let (ways, client, server, is_link) =
                (self.clone(), client.clone(), server.clone(), is_link.clone());
            std::thread::spawn(move || {
                let _ = ways.to_server(&client, &server, &is_link);
                let _ = server.shutdown(Shutdown::Write);
            })
        };
        let was_cut = self.to_client(&server, &client, &is_link).unwrap_or(false);
        if was_cut {
            // Wakes the other thread without a word to the peers; dropping both is what they notice.
            for socket in [&client, &server] {
                SockRef::from(&**socket).set_linger(Some(Duration::ZERO))?;
                let _ = socket.shutdown(Shutdown::Read);
            }
            self.cuts.fetch_add(1, Relaxed);
        } else {
            let _ = client.shutdown(Shutdown::Both);
        }
        drop((client, server));
        let _ = up.join();
        Ok(())
    }

    fn to_server(&self, client: &TcpStream, server: &TcpStream, is_link: &AtomicBool) -> Result<()> {
        const WORD: &[u8] = b"\r\nPSYNC\r\n";
        let (mut buffer, mut said) = ([0; CHUNK_BYTES], Vec::new());
        loop {
            let len = self.read(client, &mut buffer)?;
            if len == 0 {
                return Ok(());
            }
            if !is_link.load(Relaxed) {
                said.extend_from_slice(&buffer[..len].to_ascii_uppercase());
                if said.windows(WORD.len()).any(|part| part == WORD) {
                    is_link.store(true, Relaxed);
                    self.links.fetch_add(1, Relaxed);
                }
                said.drain(..said.len().saturating_sub(WORD.len()));
            }
            self.write(server, &buffer[..len])?;
        }
    }

    /// Whether the connection was cut.
    fn to_client(&self, server: &TcpStream, client: &TcpStream, is_link: &AtomicBool) -> Result<bool> {
        let (mut buffer, mut fuse) = ([0; CHUNK_BYTES], Fuse::default());
        loop {
            let len = self.read(server, &mut buffer)?;
            if len == 0 {
                return Ok(false);
            }
            let passed = match is_link.load(Relaxed) {
                true => fuse.burn(&buffer[..len], &mut self.plan.lock().expect("no thread panics with it")),
                false => None,
            };
            self.write(client, &buffer[..passed.unwrap_or(len)])?;
            if is_link.load(Relaxed) {
                self.link_bytes.fetch_add(passed.unwrap_or(len) as u64, Relaxed);
            }
            if passed.is_some() {
                return Ok(true);
            }
        }
    }

    fn read(&self, mut from: &TcpStream, buffer: &mut [u8]) -> Result<usize> {
        // Twenty portions a second: slow, not in bursts.
        let portion = match self.bytes_per_second.load(Relaxed) {
            0 => buffer.len(),
            rate => (rate as usize / 20).clamp(1, buffer.len()),
        };
        Ok(from.read(&mut buffer[..portion])?)
    }

    fn write(&self, mut to: &TcpStream, bytes: &[u8]) -> Result<()> {
        std::thread::sleep(Duration::from_millis(self.delay_ms.load(Relaxed)));
        to.write_all(bytes)?;
        let rate = self.bytes_per_second.load(Relaxed);
        if rate > 0 {
            std::thread::sleep(Duration::from_secs_f64(bytes.len() as f64 / rate as f64));
        }
        Ok(())
    }
}

/// When one connection is cut.
#[derive(Default)]
struct Fuse {
    left_bytes: Option<u64>,
    payload_began: bool,
    /// The last bytes, while the beginning of an RDB is looked for.
    tail: Vec<u8>,
}

impl Fuse {
    /// How many of these bytes still pass, where the cut is among them.
    fn burn(&mut self, bytes: &[u8], plan: &mut Plan) -> Option<usize> {
        if plan.left == 0 {
            self.left_bytes = None;
            return None;
        }
        let begun = if plan.within_payload { self.payload_start(bytes)? } else { 0 };
        let left = *self.left_bytes.get_or_insert_with(|| plan.rng.u64(plan.after_bytes.clone()));
        let left = left.saturating_add_signed(begun);
        if left < bytes.len() as u64 {
            plan.left -= 1;
            return Some(left as usize);
        }
        self.left_bytes = Some(left - bytes.len() as u64);
        None
    }

    /// Where the RDB begins, counted from the first of these bytes (less than 0 where it is only recognised now), if it
    /// has; 0 for all that comes after.
    fn payload_start(&mut self, bytes: &[u8]) -> Option<i64> {
        const MAGICS: [&[u8; 7]; 2] = [b"\nREDIS0", b"\nVALKEY"];
        if self.payload_began {
            return Some(0);
        }
        let known = self.tail.len();
        self.tail.extend_from_slice(bytes);
        let found = self.tail.windows(7).position(|part| MAGICS.iter().any(|magic| part == &magic[..]));
        let keep = self.tail.len().saturating_sub(6);
        match found {
            Some(at) => {
                self.payload_began = true;
                self.tail.clear();
                Some(at as i64 + 1 - known as i64)
            }
            None => {
                self.tail.drain(..keep);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn burnt(plan: &mut Plan, pieces: &[&[u8]]) -> Option<usize> {
        let (mut fuse, mut passed) = (Fuse::default(), 0);
        for piece in pieces {
            if let Some(last) = fuse.burn(piece, plan) {
                return Some(passed + last);
            }
            passed += piece.len();
        }
        None
    }

    #[test]
    fn a_cut_falls_on_the_byte_however_the_bytes_come() {
        let bytes = b"+FULLRESYNC 0123 7\r\n$EOF:mmmm\r\nREDIS0011 and what is in it mmmm*1\r\n";
        let magic = 31;
        for within_payload in [false, true] {
            for piece in 1..bytes.len() {
                let mut plan = Plan { rng: Rng::with_seed(1), left: 1, after_bytes: 12..13, within_payload };
                let pieces: Vec<&[u8]> = bytes.chunks(piece).collect();
                let at = if within_payload { magic + 12 } else { 12 };
                assert_eq!(burnt(&mut plan, &pieces), Some(at), "in pieces of {piece}");
                assert_eq!(burnt(&mut plan, &pieces), None, "once only");
            }
        }
    }
}

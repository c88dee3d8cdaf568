//! A load whose clients' latency is measured as they feel it: requests are due at fixed times, whether or not the
//! server has answered those before, and each one's latency counts from when it was due. A server that stands still
//! for a second so delays every request of that second, not the one that happened to wait for it.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use fastrand::Rng;

/// What is sent: `SET key:<number> <value>`, for a random one of the keys.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// How many keys there are.
    pub keys: u32,
    /// With how many digits their numbers are written.
    pub digits: usize,
    /// How long a value is.
    pub value_len: usize,
    /// How many requests are due a second.
    pub rate: u32,
}

impl Shape {
    /// The name of a key.
    pub fn key(&self, number: u32) -> String {
        format!("key:{number:0width$}", width = self.digits)
    }
}

/// A load on one connection: a thread sends what is due, another takes the replies.
pub struct Load {
    shape: Shape,
    begun: Instant,
    stop: Arc<AtomicBool>,
    /// Microseconds from when a request was due to its reply, in the order of the requests.
    latencies_us: Arc<Mutex<Vec<u32>>>,
    threads: Option<(JoinHandle<u64>, JoinHandle<()>)>,
}

/// The latencies of some requests.
#[derive(Clone, Debug)]
pub struct Latencies {
    sorted_us: Vec<u32>,
    /// Requests that were due and never answered.
    pub unanswered: u64,
}

impl Load {
    /// Begins.
    pub fn start(port: u16, shape: Shape, seed: u64) -> Result<Self> {
        let mut socket = TcpStream::connect(("127.0.0.1", port))?;
        socket.set_nodelay(true)?;
        let replies = socket.try_clone()?;
        let (stop, latencies_us) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let begun = Instant::now();
        let (stopped, into) = (stop.clone(), latencies_us.clone());
        let sending = std::thread::spawn(move || {
            let (mut rng, mut sent) = (Rng::with_seed(seed), 0);
            let value: String = (0..shape.value_len).map(|_| rng.alphanumeric()).collect();
            let mut requests = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                std::thread::sleep(shape.due(begun, sent).saturating_duration_since(Instant::now()));
                let now = Instant::now();
                while shape.due(begun, sent) <= now {
                    request(&mut requests, &shape.key(rng.u32(..shape.keys)), &value);
                    sent += 1;
                }
                if socket.write_all(&requests).is_err() {
                    break; // the server is gone, as its latencies will show
                }
                requests.clear();
            }
            let _ = socket.shutdown(std::net::Shutdown::Write);
            sent
        });
        let taking = std::thread::spawn(move || {
            let (mut replies, mut line, mut taken) = (BufReader::new(replies), Vec::new(), 0);
            while replies.read_until(b'\n', &mut line).is_ok_and(|len| len > 0) {
                line.clear();
                let latency = shape.due(begun, taken).elapsed().as_micros();
                into.lock().expect("no thread panics with it").push(latency.try_into().unwrap_or(u32::MAX));
                taken += 1;
            }
        });
        Ok(Self { shape, begun, stop, latencies_us, threads: Some((sending, taking)) })
    }

    /// How far it is.
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// The latencies of the requests that were due in that time and are answered by now.
    pub fn between(&self, from: Duration, to: Duration) -> Latencies {
        let at = |time: Duration| (time.as_secs_f64() * f64::from(self.shape.rate)) as usize;
        let all = self.latencies_us.lock().expect("no thread panics with it");
        let [first, last] = [from, to].map(|time| at(time).min(all.len()));
        Latencies::new(all[first..last].to_vec(), (at(to) - at(from) - (last - first)) as u64)
    }

    /// Ends, and returns the latencies of all requests.
    pub fn stop(mut self) -> Result<Latencies> {
        self.stop.store(true, Ordering::Relaxed);
        let (sending, taking) = self.threads.take().context("it is stopped once")?;
        let sent = sending.join().map_err(|_| anyhow!("the sending thread panicked"))?;
        taking.join().map_err(|_| anyhow!("the reading thread panicked"))?;
        let all = std::mem::take(&mut *self.latencies_us.lock().expect("no thread panicked with it"));
        let unanswered = sent - all.len() as u64;
        Ok(Latencies::new(all, unanswered))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Shape {
    fn due(&self, begun: Instant, number: u64) -> Instant {
        begun + Duration::from_secs_f64(number as f64 / f64::from(self.rate))
    }
}

impl Latencies {
    fn new(mut latencies_us: Vec<u32>, unanswered: u64) -> Self {
        latencies_us.sort_unstable();
        Self { sorted_us: latencies_us, unanswered }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.sorted_us.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.sorted_us.is_empty()
    }

    /// The latency that so many percent of the requests did not exceed, in milliseconds.
    pub fn percentile_ms(&self, percent: f64) -> f64 {
        let at = (self.sorted_us.len() as f64 * percent / 100.0).ceil() as usize;
        self.sorted_us.get(at.saturating_sub(1)).map_or(f64::NAN, |&us| f64::from(us) / 1000.0)
    }
}

fn request(into: &mut Vec<u8>, key: &str, value: &str) {
    let (key_len, value_len) = (key.len(), value.len());
    // Writing to memory does not fail.
    let _ = write!(into, "*3\r\n$3\r\nSET\r\n${key_len}\r\n{key}\r\n${value_len}\r\n{value}\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let latencies = Latencies::new((1..=1000).rev().map(|ms| ms * 1000).collect(), 0);
        assert_eq!(
            [50.0, 99.0, 99.9, 100.0].map(|p| latencies.percentile_ms(p)),
            [500.0, 990.0, 999.0, 1000.0]
        );
        assert!(Latencies::new(Vec::new(), 0).percentile_ms(99.0).is_nan());
    }
}

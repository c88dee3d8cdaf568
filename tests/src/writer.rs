//! A client that writes to a server all the time: commands of every kind, over three databases, from a seed.
//!
//! Expiries are either shorter than 300 ms (`NEAR_MS` in the load for captures), on names that are used for nothing
//! else and never again, or longer than an hour: a second after it stopped, nothing changes any more and two servers
//! can be compared.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use fastrand::Rng;
use redis::Value;

use crate::client::{Batch, Conn, Version, message};
use crate::fill::{DATABASES, function_library};

mod capture;

pub use capture::{NEAR_MS, fill_big};

/// A writer on a thread of its own.
pub struct Writer {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<Result<()>>>,
}

/// What a writer writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// Commands of every kind on small keys.
    Ordinary,
    /// Beyond that all that a capture must get right: big collections, databases that are flushed and exchanged all the
    /// time, transactions over several databases, expiries that come while it runs.
    ForCapture,
    /// The same for a server with `lua-replicate-commands no` (before 7.0): a script every other second or so, which
    /// travels as a script and writes keys that it does not name.
    WithVerbatimScripts,
}

/// Commands sent at once: enough to be fast, few enough to be many clients' work.
const COMMANDS_PER_BATCH: u32 = 20;
/// Names per type and database. Few, so that commands meet each other.
const NAMES: u32 = 60;

impl Writer {
    /// Starts to write about `commands_per_second` to the server at that address.
    pub fn start(url: &str, seed: u64, commands_per_second: u32) -> Result<Self> {
        Self::start_with(url, seed, commands_per_second, Load::Ordinary)
    }

    /// The same with another load.
    pub fn start_with(url: &str, seed: u64, commands_per_second: u32, load: Load) -> Result<Self> {
        let mut conn = Conn::open(url)?;
        let version = conn.version()?;
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let rng = Rng::with_seed(seed);
        let batch = Batch::default();
        let mut commands = Commands { rng, version, load, commands_per_second, db: 0, brief: 0, seed, batch };
        let (stopped, counter) = (stop.clone(), sent.clone());
        let pause = Duration::from_secs(1) * COMMANDS_PER_BATCH / commands_per_second.max(1);
        let thread = std::thread::spawn(move || {
            let mut next = Instant::now();
            while !stopped.load(Ordering::Relaxed) {
                let batch = commands.batch();
                let count = batch.len() as u64;
                check(conn.send(batch)?)?;
                counter.fetch_add(count, Ordering::Relaxed);
                next += pause;
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
            }
            Ok(())
        });
        Ok(Self { stop, sent, thread: Some(thread) })
    }

    /// How many commands it has sent.
    pub fn commands(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Stops it, and says how many commands it has sent. An error of the server that a mixed load does not explain
    /// is returned here.
    pub fn stop(mut self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result?,
            _ => bail!("the writer panicked"),
        }
        Ok(self.commands())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Errors that commands at random run into, and only those.
fn check(replies: Vec<Value>) -> Result<()> {
    for reply in replies {
        let Value::ServerError(error) = reply else { continue };
        let message = message(&error);
        let ordinary = [
            "WRONGTYPE",
            "BUSYGROUP",
            "NOGROUP",
            "requires the key to exist",
            "no such key",
            "not a valid float",
            "not an integer",
            "would overflow",
            "out of range",
            "source and destination objects are the same",
            "hash value is not a float",
            "equal or smaller than the target stream top item",
            "NaN",
            "can't be converted into double",
            "INVALIDOBJ",
            "not a valid HyperLogLog",
        ];
        if !ordinary.iter().any(|part| message.contains(part)) {
            bail!("the writer was told: {message}");
        }
    }
    Ok(())
}

struct Commands {
    rng: Rng,
    version: Version,
    load: Load,
    commands_per_second: u32,
    /// The database that is selected.
    db: u32,
    /// Names with short expiries so far: each is used once.
    brief: u64,
    seed: u64,
    batch: Batch,
}

impl Commands {
    fn batch(&mut self) -> Batch {
        self.db = DATABASES[self.rng.usize(..DATABASES.len())];
        self.add(&["SELECT", &self.db.to_string()]);
        for _ in 0..COMMANDS_PER_BATCH {
            if self.rng.u8(..20) == 0 {
                self.transaction();
            } else {
                self.command();
            }
        }
        std::mem::take(&mut self.batch)
    }

    fn transaction(&mut self) {
        self.add(&["MULTI"]);
        for _ in 0..self.rng.u8(1..6) {
            self.command();
        }
        self.add(&["EXEC"]);
    }

    fn add(&mut self, args: &[&str]) {
        self.batch.add(args);
    }

    /// A name that the writer or the filling uses for that type.
    fn key(&mut self, kind: &str) -> String {
        let number = self.rng.u32(..NAMES);
        if self.rng.u8(..4) == 0 { format!("{kind}:{number}") } else { format!("w:{kind}:{number}") }
    }

    fn number(&mut self) -> String {
        self.rng.i32(-1000..1000).to_string()
    }

    fn float(&mut self) -> String {
        format!("{:.3}", self.rng.f64() * 100.0 - 50.0)
    }

    fn word(&mut self) -> String {
        let count = self.rng.usize(1..40);
        (0..count).map(|_| self.rng.alphanumeric()).collect()
    }

    fn member(&mut self) -> String {
        format!("m{}", self.rng.u8(..))
    }

    fn field(&mut self) -> String {
        format!("f{}", self.rng.u8(..50))
    }

    /// Hours, in milliseconds.
    fn long_ms(&mut self) -> String {
        self.rng.u64(3_600_000..1 << 38).to_string()
    }

    fn brief_ms(&mut self) -> String {
        self.rng.u64(20..300).to_string()
    }

    fn brief_key(&mut self) -> String {
        self.brief += 1;
        format!("brief:{:x}:{}", self.seed, self.brief)
    }

    fn any_key(&mut self) -> String {
        let kind = ["str", "list", "set", "zset", "hash", "stream"][self.rng.usize(..6)];
        self.key(kind)
    }

    fn command(&mut self) {
        if self.load != Load::Ordinary && self.rng.u8(..5) == 0 {
            return self.for_capture();
        }
        match self.rng.u8(..100) {
            0..25 => self.string(),
            25..38 => self.list(),
            38..50 => self.set(),
            50..62 => self.zset(),
            62..76 => self.hash(),
            76..88 => self.stream(),
            88..97 => self.keyspace(),
            _ => self.program(),
        }
    }

    fn string(&mut self) {
        let (key, word) = (self.key("str"), self.word());
        let (counter, float) = (self.key("counter"), self.key("float"));
        let newer = self.version.is_6_2();
        match self.rng.u8(..19) {
            0..4 => self.add(&["SET", &key, &word]),
            4 => self.add(&["APPEND", &key, &word]),
            5 => {
                let offset = self.rng.u16(..300).to_string();
                self.add(&["SETRANGE", &key, &offset, &word]);
            }
            6 => {
                let by = self.number();
                self.add(&["INCRBY", &counter, &by]);
            }
            7 | 8 => {
                let by = self.float();
                self.add(&["INCRBYFLOAT", &float, &by]);
            }
            9 => {
                let seconds = self.rng.u32(3600..1 << 30).to_string();
                self.add(&["SET", &key, &word, "EX", &seconds]);
            }
            10 => {
                let (brief, ms) = (self.brief_key(), self.brief_ms());
                self.add(&["SET", &brief, &word, "PX", &ms]);
            }
            11 => self.add(&["SET", &key, &word, "NX"]),
            12 if newer => self.add(&["SET", &key, &word, "KEEPTTL", "GET"]),
            13 if newer => self.add(&["GETDEL", &key]),
            14 if newer => {
                let ms = self.long_ms();
                let how: &[&str] = if self.rng.bool() { &["PERSIST"] } else { &["PX", &ms] };
                self.add(&[&["GETEX", &key], how].concat());
            }
            15 => {
                let (other, more) = (self.key("str"), self.word());
                self.add(&["MSET", &key, &word, &other, &more]);
            }
            16 => {
                let offset = format!("#{}", self.rng.u8(..20));
                let bits = self.key("bits");
                self.add(&["BITFIELD", &bits, "SET", "u8", &offset, "77", "INCRBY", "i5", "100", "1"]);
            }
            17 => {
                let log = self.key("hll");
                self.add(&["PFADD", &log, &word]);
                let merged = self.key("hll");
                self.add(&["PFMERGE", &merged, &log]);
            }
            // What servers of 8.4 and newer send on with its condition.
            _ if self.version.redis_at_least(8, 4) => self.add(&["SET", &key, &word, "IFNE", "x"]),
            _ => self.add(&["GETSET", &key, &word]),
        }
    }

    fn list(&mut self) {
        let (key, other, word) = (self.key("list"), self.key("list"), self.word());
        match self.rng.u8(..10) {
            0..3 => self.add(&["RPUSH", &key, &word, "x", "y"]),
            3 => self.add(&["LPUSH", &key, &word]),
            4 => self.add(&["LPOP", &key]),
            5 => self.add(&["RPOPLPUSH", &key, &other]),
            6 if self.version.is_6_2() => self.add(&["LMOVE", &key, &other, "LEFT", "RIGHT"]),
            7 => {
                let at = self.rng.u8(..5).to_string();
                self.add(&["LSET", &key, &at, &word]);
                self.add(&["LINSERT", &key, "BEFORE", "x", &word]);
            }
            8 => {
                self.add(&["LTRIM", &key, "0", "200"]);
                self.add(&["LREM", &key, "1", "y"]);
            }
            _ => {
                let target = self.key("list");
                self.add(&["SORT", &key, "ALPHA", "LIMIT", "0", "50", "STORE", &target]);
            }
        }
    }

    fn set(&mut self) {
        let (key, other, member) = (self.key("set"), self.key("set"), self.member());
        match self.rng.u8(..9) {
            0..3 => {
                let number = self.number();
                self.add(&["SADD", &key, &member, &number]);
            }
            3 => self.add(&["SREM", &key, &member]),
            4 => self.add(&["SPOP", &key]),
            5 => {
                let count = self.rng.u8(1..8).to_string();
                self.add(&["SPOP", &key, &count]);
            }
            6 => self.add(&["SMOVE", &key, &other, &member]),
            7 => {
                let target = self.key("set");
                let how = ["SUNIONSTORE", "SINTERSTORE", "SDIFFSTORE"][self.rng.usize(..3)];
                self.add(&[how, &target, &key, &other]);
            }
            _ => {
                let target = self.key("list");
                self.add(&["SORT", &key, "ALPHA", "DESC", "STORE", &target]);
            }
        }
    }

    fn zset(&mut self) {
        let (key, other, member, score) = (self.key("zset"), self.key("zset"), self.member(), self.float());
        match self.rng.u8(..11) {
            0..3 => self.add(&["ZADD", &key, &score, &member, "1", "one"]),
            3 => self.add(&["ZINCRBY", &key, &score, &member]),
            4 => self.add(&["ZREM", &key, &member]),
            5 => self.add(&["ZPOPMIN", &key]),
            6 => self.add(&["ZPOPMAX", &key, "2"]),
            7 if self.version.is_6_2() => self.add(&["ZADD", &key, "GT", "CH", &score, &member]),
            8 => self.add(&["ZREMRANGEBYSCORE", &key, &score, &score]),
            9 => {
                let target = self.key("zset");
                self.add(&["ZUNIONSTORE", &target, "2", &key, &other, "WEIGHTS", "2", "0.5"]);
            }
            _ => {
                let places = self.key("geo");
                let (x, y) = (self.float(), self.float());
                self.add(&["GEOADD", &places, &x, &y, &member]);
            }
        }
    }

    fn hash(&mut self) {
        let (key, field, word) = (self.key("hash"), self.field(), self.word());
        let field_ttl = self.version.has_field_ttl();
        match self.rng.u8(..14) {
            0..4 => self.add(&["HSET", &key, &field, &word, "x", "1"]),
            4 => self.add(&["HDEL", &key, &field]),
            5 => self.add(&["HSETNX", &key, &field, &word]),
            6 => {
                let by = self.number();
                self.add(&["HINCRBY", &key, "counter", &by]);
            }
            7 | 8 => {
                let by = self.float();
                self.add(&["HINCRBYFLOAT", &key, "float", &by]);
            }
            9 if field_ttl => {
                let ms = self.long_ms();
                // 7.4 and 8.0 replicate HINCRBYFLOAT as HSET, at which a replica drops the field's expiry.
                let other = if self.version.redis_at_least(8, 6) { "float" } else { "x" };
                self.add(&["HPEXPIRE", &key, &ms, "FIELDS", "2", &field, other]);
            }
            10 if field_ttl => self.add(&["HPERSIST", &key, "FIELDS", "1", &field]),
            11 if field_ttl => {
                let (brief, ms) = (self.brief_key(), self.brief_ms());
                self.add(&["HSET", &brief, "brief", &word, "stays", "1"]);
                self.add(&["HPEXPIRE", &brief, &ms, "FIELDS", "1", "brief"]);
            }
            12 if self.version.redis_at_least(8, 0) => {
                let seconds = self.rng.u32(3600..1 << 28).to_string();
                match self.rng.u8(..3) {
                    0 => self.add(&["HSETEX", &key, "EX", &seconds, "FIELDS", "1", &field, &word]),
                    1 => self.add(&["HGETEX", &key, "EX", &seconds, "FIELDS", "1", &field]),
                    _ => self.add(&["HGETDEL", &key, "FIELDS", "1", &field]),
                }
            }
            _ => self.add(&["HMSET", &key, &field, &word]),
        }
    }

    fn stream(&mut self) {
        let (key, word) = (self.key("stream"), self.word());
        let group = format!("g{}", self.rng.u8(..2));
        let consumer = ["ann", "ben", "cleo"][self.rng.usize(..3)];
        match self.rng.u8(..14) {
            0..4 => self.add(&["XADD", &key, "*", "field", &word]),
            4 => self.add(&["XADD", &key, "MAXLEN", "~", "100", "*", "field", &word, "more", "1"]),
            5 => self.add(&["XGROUP", "CREATE", &key, &group, "0", "MKSTREAM"]),
            6..9 => {
                let count = self.rng.u8(1..5).to_string();
                self.make_consumer(&key, &group, consumer);
                self.add(&["XREADGROUP", "GROUP", &group, consumer, "COUNT", &count, "STREAMS", &key, ">"]);
            }
            9 => {
                // Filled streams have ids of thousands; elsewhere it finds nothing and says 0.
                let id = format!("{}-0", self.rng.u32(1..20) * 1000);
                self.add(&["XACK", &key, &group, &id]);
                self.add(&["XDEL", &key, &id]);
            }
            10 => self.add(&["XTRIM", &key, "MAXLEN", "50"]),
            11 if self.version.is_6_2() => {
                self.make_consumer(&key, &group, consumer);
                self.add(&["XAUTOCLAIM", &key, &group, consumer, "0", "0", "COUNT", "3"]);
            }
            12 if self.load != Load::WithVerbatimScripts => {
                // Acknowledges what is pending without knowing it.
                let script = "local p = redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 2) \
                              for _, e in ipairs(p) do redis.call('XACK', KEYS[1], ARGV[1], e[1]) end";
                self.add(&["XGROUP", "CREATE", &key, &group, "0", "MKSTREAM"]);
                self.add(&["EVAL", script, "1", &key, &group]);
            }
            _ => match self.rng.u8(..4) {
                0 => self.add(&["XGROUP", "DESTROY", &key, &group]),
                1 => self.add(&["XGROUP", "DELCONSUMER", &key, &group, consumer]),
                _ => self.add(&["XGROUP", "SETID", &key, &group, "0"]),
            },
        }
    }

    /// XREADGROUP and XAUTOCLAIM that find nothing make the consumer without telling replicas (7.0 alone tells them).
    /// Made by a command of its own it is on every side, and can be compared.
    fn make_consumer(&mut self, key: &str, group: &str, consumer: &str) {
        if self.version.is_6_2() {
            self.add(&["XGROUP", "CREATECONSUMER", key, group, consumer]);
        }
    }

    fn keyspace(&mut self) {
        let key = self.any_key();
        let same_kind = key.trim_start_matches("w:").split(':').next().unwrap_or("str").to_owned();
        let other = self.key(&same_kind);
        match self.rng.u16(..1000) {
            0..200 => {
                let ms = self.long_ms();
                self.add(&["PEXPIRE", &key, &ms]);
            }
            200..280 => {
                let seconds = self.rng.u32(3600..1 << 28).to_string();
                self.add(&["EXPIRE", &key, &seconds]);
            }
            280..350 => self.add(&["PERSIST", &key]),
            350..480 => self.add(&["RENAME", &key, &other]),
            480..530 => self.add(&["RENAMENX", &key, &other]),
            530..650 => self.add(&["DEL", &key]),
            // 5.0 asserts and dies at the UNLINK of a stream that has a group (lazyfree.c).
            650..730 if self.version.redis_at_least(6, 0) => self.add(&["UNLINK", &key, &other]),
            730..850 if self.version.is_6_2() => {
                let db = DATABASES[self.rng.usize(..3)].to_string();
                let fresh = format!("w:copy:{}", self.rng.u8(..));
                self.add(&["COPY", &key, &fresh, "DB", &db, "REPLACE"]);
            }
            850..950 => {
                let db = DATABASES[self.rng.usize(..3)].to_string();
                self.add(&["MOVE", &key, &db]);
            }
            950..985 => {
                let (brief, ms) = (self.brief_key(), self.brief_ms());
                self.add(&["RPUSH", &brief, "a", "b"]);
                self.add(&["PEXPIRE", &brief, &ms]);
            }
            // At each a capture reads all names of both databases once more.
            985..994 if self.load == Load::Ordinary || self.rng.u8(..5) == 0 => {
                let at = |rng: &mut Rng| DATABASES[rng.usize(..3)].to_string();
                let (one, two) = (at(&mut self.rng), at(&mut self.rng));
                self.add(&["SWAPDB", &one, &two]);
            }
            // Rare, or there would be nothing to compare.
            994 if self.rng.u8(..15) == 0 => self.add(&["FLUSHDB"]),
            _ => {
                let zset = self.key("zset");
                self.add(&["ZADD", &zset, "5", "five"]);
                self.add(&["EXPIREAT", &zset, "4102444800"]);
            }
        }
    }

    fn program(&mut self) {
        let (key, other, word) = (self.key("str"), self.key("set"), self.word());
        let library = format!("lib{}", self.rng.u8(..3));
        match self.rng.u8(..4) {
            0 | 1 if self.load != Load::WithVerbatimScripts => {
                let script = "redis.call('SET', KEYS[1], ARGV[1]) redis.call('SADD', KEYS[2], ARGV[1]) \
                              return redis.call('SPOP', KEYS[2])";
                self.add(&["EVAL", script, "2", &key, &other, &word]);
            }
            2 if self.version.is_7_0() => {
                let code = function_library(&library, self.rng.u32(..1000));
                self.add(&["FUNCTION", "LOAD", "REPLACE", &code]);
            }
            3 if self.version.is_7_0() => {
                let function = format!("{library}_set");
                // In one go with its library, which may not be there yet.
                let code = function_library(&library, self.rng.u32(..1000));
                self.add(&["FUNCTION", "LOAD", "REPLACE", &code]);
                self.add(&["FCALL", &function, "1", &key, &word]);
                if self.rng.u8(..10) == 0 {
                    self.add(&["FUNCTION", "DELETE", &library]);
                }
            }
            _ => self.add(&["PUBLISH", "news", &word]),
        }
    }
}

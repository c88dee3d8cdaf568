//! Fills a server with keys of every type and encoding, over three databases, from a seed.

use anyhow::Result;
use fastrand::Rng;

use crate::client::{Batch, Conn, Version};

/// The databases that are filled and written to.
pub const DATABASES: [u32; 3] = [0, 3, 9];

/// Bytes sent at once.
const BATCH_BYTES: usize = 1 << 20;

/// Fills an empty server with about `keys` keys and a few large ones (20,000 elements, 2 MB), the same for the same
/// seed and version except for expiries, which count from now.
pub fn fill(url: &str, keys: u32, seed: u64) -> Result<()> {
    let mut conn = Conn::open(url)?;
    let version = conn.version()?;
    let mut filler = Filler { rng: Rng::with_seed(seed), version, batch: Batch::default(), conn: &mut conn };
    for db in DATABASES {
        filler.add(&[b"SELECT", db.to_string().as_bytes()])?;
        for number in 0..keys / DATABASES.len() as u32 {
            filler.key(number)?;
        }
        filler.oddities()?;
    }
    filler.large()?;
    if version.is_7_0() {
        filler.add(&["FUNCTION", "LOAD", "REPLACE", &function_library("filled", 1)])?;
    }
    filler.flush()
}

/// A function library of that name, whose function `<name>_set` sets a key; `number` is in its code.
pub fn function_library(name: &str, number: u32) -> String {
    format!(
        "#!lua name={name}\nredis.register_function('{name}_set', function(keys, args) \
         return redis.call('SET', keys[1], args[1] .. ':{number}') end)"
    )
}

struct Filler<'a> {
    rng: Rng,
    version: Version,
    batch: Batch,
    conn: &'a mut Conn,
}

impl Filler<'_> {
    fn add<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Result<()> {
        self.batch.add(args);
        if self.batch.len_bytes() > BATCH_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        self.conn.send_all(std::mem::take(&mut self.batch)).map(drop)
    }

    fn key(&mut self, number: u32) -> Result<()> {
        // Small strings are half of it, as they are elsewhere.
        let kind = ["str", "str", "str", "str", "str", "list", "set", "zset", "hash", "stream"]
            [self.rng.usize(..10)];
        let key = format!("{kind}:{number}");
        match kind {
            "str" => self.string(&key)?,
            "list" => self.list(&key)?,
            "set" => self.set(&key)?,
            "zset" => self.zset(&key)?,
            "hash" => self.hash(&key)?,
            _ => self.stream(&key)?,
        }
        if self.rng.u8(..100) < 15 {
            // An hour or more: nothing expires while a test compares.
            let ttl_ms = self.rng.u64(3_600_000..1 << 40).to_string();
            self.add(&["PEXPIRE", &key, &ttl_ms])?;
        } else if self.rng.u8(..100) < 2 {
            let key = format!("brief:{key}");
            let ttl_ms = self.rng.u64(50..300).to_string();
            self.add(&["SET", &key, "gone soon", "PX", &ttl_ms])?;
        }
        Ok(())
    }

    fn string(&mut self, key: &str) -> Result<()> {
        let value = match self.rng.u8(..5) {
            0 => self.rng.i64(..).to_string().into_bytes(),
            1 => self.rng.u8(..).to_string().into_bytes(),
            2 => self.noise(0..100),
            3 => format!("{key} ").repeat(self.rng.usize(1..200)).into_bytes(), // LZF takes it
            _ => self.word().into_bytes(),
        };
        self.add(&[b"SET", key.as_bytes(), &value])
    }

    fn list(&mut self, key: &str) -> Result<()> {
        let count = self.size();
        let items: Vec<Vec<u8>> = (0..count).map(|_| self.item()).collect();
        self.many(&["RPUSH", key], items)
    }

    fn set(&mut self, key: &str) -> Result<()> {
        let count = self.size();
        let numbers = self.rng.bool();
        let items: Vec<Vec<u8>> = (0..count)
            .map(|_| if numbers { self.rng.i32(..).to_string().into_bytes() } else { self.item() })
            .collect();
        self.many(&["SADD", key], items)
    }

    fn zset(&mut self, key: &str) -> Result<()> {
        let count = self.size();
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(self.score());
            items.push(self.item());
        }
        self.many(&["ZADD", key], items)
    }

    fn score(&mut self) -> Vec<u8> {
        match self.rng.u8(..12) {
            0 => b"-inf".to_vec(),
            1 => b"+inf".to_vec(),
            2 => b"1e-300".to_vec(),
            3..6 => self.rng.i32(..).to_string().into_bytes(),
            _ => format!("{}", self.rng.f64() * 1e6 - 5e5).into_bytes(),
        }
    }

    fn hash(&mut self, key: &str) -> Result<()> {
        let count = self.size();
        let mut items = Vec::new();
        for number in 0..count {
            items.push(format!("f{number}").into_bytes());
            items.push(self.item());
        }
        self.many(&["HSET", key], items)?;
        if self.version.has_field_ttl() && self.rng.u8(..3) == 0 {
            for number in 0..count.min(5) {
                let ttl_s = self.rng.u64(3600..1 << 28).to_string();
                self.add(&["HEXPIRE", key, &ttl_s, "FIELDS", "1", &format!("f{number}")])?;
            }
        }
        Ok(())
    }

    fn stream(&mut self, key: &str) -> Result<()> {
        let count = self.size();
        for number in 1..=count {
            let id = format!("{}-{}", number * 1000, self.rng.u8(..));
            let value = self.item();
            let fields = ["same", "fields", "other"][self.rng.usize(..3)];
            self.add(&[b"XADD", key.as_bytes(), id.as_bytes(), fields.as_bytes(), &value, b"n", b"1"])?;
        }
        if self.rng.bool() {
            let deleted = format!("{}-0", self.rng.usize(1..=count) * 1000);
            self.add(&["XDEL", key, &deleted])?;
            self.add(&["XTRIM", key, "MAXLEN", &count.saturating_sub(2).max(1).to_string()])?;
        }
        for group in 0..self.rng.u8(..3) {
            let group = format!("group{group}");
            self.add(&["XGROUP", "CREATE", key, &group, "0"])?;
            for consumer in ["alice", "bob"] {
                let many = self.rng.u8(1..20).to_string();
                self.add(&["XREADGROUP", "GROUP", &group, consumer, "COUNT", &many, "STREAMS", key, ">"])?;
            }
            let acked = format!("{}-0", self.rng.usize(1..=count) * 1000);
            self.add(&["XACK", key, &group, &acked])?;
        }
        Ok(())
    }

    /// What is easily forgotten: empty names and values, binary names, a stream that was emptied, equal scores.
    fn oddities(&mut self) -> Result<()> {
        self.add(&[&b"SET"[..], b"", b"a key without a name"])?;
        self.add(&[&b"SET"[..], b"empty", b""])?;
        self.add(&[&b"SET"[..], b"\x00\xff\r\n binary \x80", b"\r\n$-1\r\n*3\r\n\x00"])?;
        self.add(&[&b"HSET"[..], b"hash of empties", b"", b"", b"f", b""])?;
        self.add(&[&b"SADD"[..], b"set of one empty", b""])?;
        self.add(&["RPUSH", "list of empties", "", "", ""])?;
        self.add(&["ZADD", "equal scores", "1", "b", "1", "a", "1", "", "0", "z"])?;
        self.add(&["XADD", "emptied stream", "5-5", "a", "b"])?;
        self.add(&["XGROUP", "CREATE", "emptied stream", "g", "$"])?;
        self.add(&["XDEL", "emptied stream", "5-5"])?;
        self.add(&["XGROUP", "CREATE", "stream never written", "g", "0", "MKSTREAM"])?;
        self.add(&["PFADD", "hyperloglog", "a", "b", "c"])?;
        self.add(&["GEOADD", "places", "13.361389", "38.115556", "Palermo"])?;
        self.add(&["SETRANGE", "sparse", "100000", "end"])?;
        self.add(&["SET", "until the year 5138", "v", "PX", "99999999999999"])?;
        for encoding in 0..64u32 {
            let edge = 1i64 << (encoding % 63);
            self.add(&[
                "SADD",
                &format!("intset:{}", encoding / 16),
                &edge.to_string(),
                &(-edge).to_string(),
            ])?;
        }
        Ok(())
    }

    /// Collections too large for one command, and a large string that compresses and one that does not.
    fn large(&mut self) -> Result<()> {
        let count = 20_000;
        let items: Vec<Vec<u8>> = (0..count).map(|n| format!("item {n}").into_bytes()).collect();
        let mut scored = Vec::new();
        for (n, item) in items.iter().enumerate() {
            scored.extend([(n as f64 / 3.0).to_string().into_bytes(), item.clone()]);
        }
        let fields = items.iter().flat_map(|item| [item.clone(), item.repeat(2)]).collect();
        self.many(&["RPUSH", "large list"], items.clone())?;
        self.many(&["SADD", "large set"], items)?;
        self.many(&["ZADD", "large zset"], scored)?;
        self.many(&["HSET", "large hash"], fields)?;
        for number in 1..=count {
            self.add(&["XADD", "large stream", &format!("{number}-0"), "n", &number.to_string()])?;
        }
        self.add(&["XGROUP", "CREATE", "large stream", "g", "0"])?;
        let read = ["XREADGROUP", "GROUP", "g", "c", "COUNT", "5000", "STREAMS", "large stream", ">"];
        self.add(&read)?;
        let noise = self.noise(2_000_000..2_000_001);
        self.add(&[b"SET", &b"large string"[..], &noise])?;
        let text = b"compressible ".repeat(160_000);
        self.add(&[b"SET", &b"large compressible string"[..], &text])
    }

    /// One command with all items, or several of at most 2,000.
    fn many(&mut self, command: &[&str], items: Vec<Vec<u8>>) -> Result<()> {
        for items in items.chunks(2_000) {
            let mut args: Vec<&[u8]> = command.iter().map(|word| word.as_bytes()).collect();
            args.extend(items.iter().map(|item| &item[..]));
            self.add(&args)?;
        }
        Ok(())
    }

    /// Sizes on both sides of where servers change the encoding (128 and 512).
    fn size(&mut self) -> usize {
        match self.rng.u8(..20) {
            0 => self.rng.usize(500..700),
            1..3 => self.rng.usize(100..160),
            _ => self.rng.usize(1..20),
        }
    }

    fn item(&mut self) -> Vec<u8> {
        match self.rng.u8(..10) {
            0 => self.noise(0..90), // beyond 64 bytes a collection leaves its packed encoding
            1 => self.rng.i64(..).to_string().into_bytes(),
            2..4 => self.rng.u16(..).to_string().into_bytes(),
            _ => self.word().into_bytes(),
        }
    }

    fn word(&mut self) -> String {
        let count = self.rng.usize(1..16);
        (0..count).map(|_| self.rng.lowercase()).collect()
    }

    fn noise(&mut self, len: std::ops::Range<usize>) -> Vec<u8> {
        let mut noise = vec![0; self.rng.usize(len)];
        self.rng.fill(&mut noise);
        noise
    }
}

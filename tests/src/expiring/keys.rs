//! Stories of whole keys.

use super::{MOVED_TO, Story};

/// Far away: beyond the year 3000, beyond 2^50 ms, and the farthest that no shift reaches.
const FAR_MS: [u64; 5] =
    [32_503_680_000_001, 99_999_999_999_999, (1 << 50) + 7, (1 << 59) + 11, (1 << 62) + 13];

impl Story<'_> {
    pub(super) fn of_a_key(&mut self) {
        match self.rng.u8(..100) {
            0..60 => self.of_a_string(),
            60..75 => self.of_a_collection(),
            75..80 => self.far_away(),
            _ => self.at_random(),
        }
    }

    /// A string that expires at `first_ms`.
    fn string(&mut self, story: &str) {
        self.name(story);
        let key = self.key.clone();
        let at_ms = self.make(&[&["SET", &key, "7"]]);
        self.expires(at_ms);
    }

    /// Gives the key its first expiry, one way or another.
    fn expires(&mut self, at_ms: u64) {
        let (key, left_ms) = (self.key.clone(), (self.first_ms - at_ms).to_string());
        match self.rng.u8(..4) {
            0 if at_ms > 0 => self.at(at_ms, &["PEXPIREAT", &key, &format!("@{}", self.first_ms)]),
            1 if self.version.is_6_2() && at_ms > 0 => {
                self.at(at_ms, &["SET", &key, "8", "PXAT", &format!("@{}", self.first_ms)]);
            }
            2 => self.at(at_ms, &["PSETEX", &key, &left_ms, "9"]),
            _ => self.at(at_ms, &["PEXPIRE", &key, &left_ms]),
        }
    }

    fn of_a_string(&mut self) {
        let (is_6_2, is_7_0) = (self.version.is_6_2(), self.version.is_7_0());
        let (around, before, long_ms, long_s) = (self.around(), self.before(), self.long_ms(), self.long_s());
        let long_at = format!("@{long_ms}");
        match self.rng.u8(..26) {
            0 | 1 => self.string("gone"),
            2 => self.renewed("pexpire", around, &["PEXPIRE", "K", &long_ms]),
            3 => self.renewed("expire", around, &["EXPIRE", "K", &long_s]),
            4 => self.renewed("pexpireat", around, &["PEXPIREAT", "K", &long_at]),
            5 => self.renewed("expireat", around, &["EXPIREAT", "K", &format!("@s{long_ms}")]),
            6 => self.renewed("set", around, &["SET", "K", "again", "PX", &long_ms]),
            7 => self.renewed("setnx", around, &["SET", "K", "again", "NX", "PX", &long_ms]),
            8 => self.renewed("setxx", around, &["SET", "K", "again", "XX", "EX", &long_s]),
            9 if is_6_2 => self.renewed("getex", around, &["GETEX", "K", "PX", &long_ms]),
            10 if is_6_2 => self.renewed("getexat", around, &["GETEX", "K", "PXAT", &long_at]),
            11 if is_6_2 => self.renewed("getpersist", around, &["GETEX", "K", "PERSIST"]),
            12 => self.renewed("persist", around, &["PERSIST", "K"]),
            // The first expiry is past when it arrives: a target that expires by itself loses the value.
            13 | 14 => {
                let after = before + self.rng.u64(5..60);
                self.renewed("append", before, &["APPEND", "K", " and more"]);
                self.then(after, &["PEXPIREAT", "K", &long_at]);
            }
            15 => {
                self.renewed("incr", before, &["INCRBY", "K", "1000"]);
                self.then(before + 20, &["INCRBYFLOAT", "K", "0.5"]);
                self.then(before + 50, &["PEXPIRE", "K", &long_ms]);
            }
            16 => {
                self.renewed("rename", around, &["RENAME", "K", "K:new"]);
                self.then(around + 30, &["PEXPIRE", "K:new", &long_ms]);
            }
            17 => {
                let other = self.rng.u64(..100);
                self.renewed("renamed onto", before, &["SET", "K:other", "v", "PX", &long_ms]);
                self.then(before + other, &["RENAME", "K", "K:other"]);
            }
            18 if is_6_2 => {
                self.renewed("copy", around, &["COPY", "K", "K:copy", "REPLACE"]);
                self.then(around + 30, &["PERSIST", "K:copy"]);
            }
            19 if self.version.redis_at_least(6, 0) => {
                self.renewed("keepttl", before, &["SET", "K", "kept", "KEEPTTL"]);
                self.then(around, &["PEXPIRE", "K", &long_ms]);
            }
            20 => self.restored(around),
            21 if is_7_0 => {
                let how = ["GT", "XX", "LT", "NX"][self.rng.usize(..4)];
                self.renewed("condition", around, &["PEXPIRE", "K", &long_ms, how]);
            }
            22 => self.renewed("past", around, &["PEXPIRE", "K", "-1"]),
            23 => {
                self.renewed("moved", around, &["MOVE", "K", MOVED_TO]);
                self.db = 9;
                self.then(around + 30, &["PEXPIRE", "K", &long_ms]);
            }
            24 => {
                self.renewed("transaction", around, &["MULTI"]);
                self.then(around, &["APPEND", "K", " in one"]);
                self.then(around, &["PEXPIRE", "K", &long_ms]);
                self.then(around, &["EXEC"]);
            }
            _ => self.overwritten(around, &long_ms),
        }
    }

    /// Written anew, with its expiry or without.
    fn overwritten(&mut self, around: u64, long_ms: &str) {
        let script = "redis.call('APPEND', KEYS[1], '!') return redis.call('PEXPIRE', KEYS[1], ARGV[1])";
        match self.rng.u8(..5) {
            0 => self.renewed("set again", around, &["SET", "K", "without"]),
            1 => self.renewed("getset", around, &["GETSET", "K", "without"]),
            2 => self.renewed("mset", around, &["MSET", "K", "without", "K:more", "v"]),
            3 => self.renewed("script", around, &["EVAL", script, "1", "K", long_ms]),
            _ => {
                self.renewed("deleted", around, &["DEL", "K"]);
                self.then(around + 40, &["SET", "K", "new", "PX", long_ms]);
            }
        }
    }

    /// By RESTORE with its expiry, relative or absolute.
    fn restored(&mut self, around: u64) {
        self.name("restored");
        let key = self.key.clone();
        let at_ms = self.make(&[&["SET", &key, "7"]]);
        let (ttl, how) = match self.rng.bool() && at_ms > 0 {
            true => (format!("@{}", self.first_ms), Some(&b"ABSTTL"[..])),
            false => ((self.first_ms - at_ms).to_string(), None),
        };
        let payload = self.payload.to_vec();
        let mut words: Vec<&[u8]> = vec![b"RESTORE", key.as_bytes(), ttl.as_bytes(), &payload, b"REPLACE"];
        words.extend(how);
        self.at(at_ms, &words);
        let long_ms = self.long_ms();
        match self.rng.u8(..3) {
            0 => self.at(around, &[b"RESTORE", key.as_bytes(), long_ms.as_bytes(), &payload, b"REPLACE"]),
            1 => self.at(around, &["PEXPIRE", &key, &long_ms]),
            _ => {}
        }
    }

    fn of_a_collection(&mut self) {
        let (make, write): (&[&str], &[&str]) = match self.rng.u8(..5) {
            0 => (&["RPUSH", "K", "a", "b"], &["RPUSH", "K", "c"]),
            1 => (&["SADD", "K", "1", "2"], &["SADD", "K", "c"]),
            2 => (&["ZADD", "K", "1", "a", "2", "b"], &["ZINCRBY", "K", "1.5", "a"]),
            3 => (&["XADD", "K", "1-1", "a", "b"], &["XADD", "K", "*", "a", "b"]),
            _ => (&["HSET", "K", "f", "v", "g", "w"], &["HSET", "K", "f", "x"]),
        };
        self.name("collection");
        let make = self.with_key(make);
        let at_ms = self.make(&[&make.iter().map(String::as_str).collect::<Vec<_>>()]);
        let (key, left_ms) = (self.key.clone(), (self.first_ms - at_ms).to_string());
        self.at(at_ms, &["PEXPIRE", &key, &left_ms]);
        let (before, around, long_ms) = (self.before(), self.around(), self.long_ms());
        self.then(before, write);
        match self.rng.u8(..4) {
            0 => self.then(around, &["PEXPIRE", "K", &long_ms]),
            1 => self.then(around, &["PERSIST", "K"]),
            2 => self.then(around, &["RENAME", "K", "K:new"]),
            // Where it has expired it begins anew, with one element and no expiry.
            _ => self.then(around, write),
        }
    }

    fn far_away(&mut self) {
        self.name("far");
        let (key, far) = (self.key.clone(), FAR_MS[self.rng.usize(..FAR_MS.len())].to_string());
        let at_ms = self.make(&[&["SET", &key, "v"], &["PEXPIREAT", &key, &far]]);
        if self.rng.bool() {
            let (first_ms, left_ms) = (self.first_ms, (self.first_ms - at_ms).to_string());
            self.at(at_ms, &["PEXPIRE", &key, &left_ms]);
            let again_ms = first_ms - self.rng.u64(50..300);
            self.at(again_ms, &["PEXPIREAT", &key, &far]);
        }
    }

    /// A few things, one after the other, whatever comes of it.
    fn at_random(&mut self) {
        self.string("random");
        for _ in 0..self.rng.u8(1..5) {
            let (around, brief_ms) = (self.around(), self.rng.u64(1..300).to_string());
            let long_ms = self.long_ms();
            match self.rng.u8(..7) {
                0 => self.then(around, &["PEXPIRE", "K", &long_ms]),
                1 => self.then(around, &["PERSIST", "K"]),
                2 => self.then(around, &["PEXPIRE", "K", &brief_ms]),
                3 => self.then(around, &["APPEND", "K", "+"]),
                4 => self.then(around, &["SET", "K", "new", "PX", &brief_ms]),
                5 => self.then(around, &["SET", "K", "new", "PX", &long_ms]),
                _ => self.then(around, &["DEL", "K"]),
            }
        }
    }

    /// A string with an expiry, and what happens to it.
    fn renewed(&mut self, story: &str, at_ms: u64, words: &[&str]) {
        self.string(story);
        self.then(at_ms, words);
    }

    /// `K` stands for the key, `K:…` for one beside it.
    pub(super) fn then(&mut self, at_ms: u64, words: &[&str]) {
        let words = self.with_key(words);
        self.at(at_ms, &words);
    }

    pub(super) fn with_key(&self, words: &[&str]) -> Vec<String> {
        let key = &self.key;
        words
            .iter()
            .map(|word| match word.strip_prefix('K') {
                Some("") => key.clone(),
                Some(rest) if rest.starts_with(':') => format!("{key}{rest}"),
                _ => (*word).to_owned(),
            })
            .collect()
    }
}

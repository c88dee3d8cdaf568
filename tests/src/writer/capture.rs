//! What a capture must get right beyond the ordinary: collections of more than 1 MiB that are written element by
//! element, databases that are flushed and exchanged all the time, transactions over several databases, keys and
//! fields that expire while it runs, scripts that travel as scripts.
//!
//! What servers change without telling the stream (delivery counts when a group's history is read, idle times, LRU)
//! stays out: no copy of a replica's could agree in it.

use std::ops::Range;

use anyhow::Result;
use fastrand::Rng;

use super::{Commands, Load};
use crate::client::{Batch, Conn};

/// Expiries that come while a capture runs.
pub const NEAR_MS: Range<u64> = 200..2_500;

/// Two databases of few keys, which are flushed and exchanged with each other.
const SCRATCH: [&str; 2] = ["12", "13"];

/// Elements of each big collection. Serialized, each is larger than 1 MiB, from where on one is read in chunks.
const ELEMENTS: u32 = 24_000;
/// Bytes of an element's filling: random, since text would be compressed below that size.
const FILLING_LEN: usize = 50;
/// Elements sent at once while filling.
const ELEMENTS_PER_COMMAND: u32 = 1_000;

/// Makes the big collections in database 0: a hash, a set, a sorted set, a list, a stream with a group, and a string.
pub fn fill_big(url: &str, seed: u64) -> Result<()> {
    let (mut conn, mut rng) = (Conn::open(url)?, Rng::with_seed(seed));
    for first in (0..ELEMENTS).step_by(ELEMENTS_PER_COMMAND as usize) {
        let heads = ["HSET big:hash", "SADD big:set", "ZADD big:zset", "RPUSH big:list"];
        let [mut hash, mut set, mut zset, mut list] =
            heads.map(|head| head.split(' ').map(str::to_owned).collect::<Vec<_>>());
        let mut batch = Batch::default();
        for number in first..first + ELEMENTS_PER_COMMAND {
            hash.extend([format!("f{number}"), filling(&mut rng)]);
            set.push(big_member(number));
            zset.extend([rng.u16(..).to_string(), big_member(number)]);
            list.push(filling(&mut rng));
            let id = format!("{}-1", number + 1);
            batch.add(&["XADD", "big:stream", &id, "n", &number.to_string(), "filling", &filling(&mut rng)]);
        }
        [hash, set, zset, list].iter().for_each(|command| batch.add(command));
        batch.add(&["APPEND", "big:string", &filling(&mut rng).repeat(ELEMENTS_PER_COMMAND as usize)]);
        conn.send_all(batch)?;
    }
    conn.words("XGROUP CREATE big:stream g 0")?;
    conn.words("XREADGROUP GROUP g c COUNT 300 STREAMS big:stream >").map(drop)
}

/// The name of a member says its filling, so that a writer meets it again.
fn big_member(number: u32) -> String {
    format!("m{number}:{}", filling(&mut Rng::with_seed(number.into())))
}

fn filling(rng: &mut Rng) -> String {
    (0..FILLING_LEN).map(|_| rng.alphanumeric()).collect()
}

impl Commands {
    pub(super) fn for_capture(&mut self) {
        match self.rng.u8(..100) {
            0..70 => self.big(),
            70..80 => self.near(),
            80..86 => self.scratch(),
            86..92 => self.over_databases(),
            _ => self.by_rank(),
        }
        // Each makes everything dirty; rarely, or a capture would have no time to copy everything.
        let commands = 10 * self.commands_per_second;
        if self.load == Load::WithVerbatimScripts && self.rng.u32(..commands) < 25 {
            self.verbatim_script();
        }
    }

    /// Most name the elements that they change, as the applications do that have such collections. Now and then
    /// something comes that does not.
    fn big(&mut self) {
        let number = self.rng.u32(..ELEMENTS + 50);
        let (field, member, word) = (format!("f{number}"), big_member(number), self.word());
        let (by, float) = (self.number(), self.float());
        let in_db = self.db.to_string();
        self.add(&["SELECT", "0"]);
        match self.rng.u16(..1000) {
            0..300 => self.add(&["ZINCRBY", "big:zset", &by, &member]),
            300..400 => self.add(&["ZADD", "big:zset", &float, &member]),
            400..430 => self.add(&["ZREM", "big:zset", &member]),
            430..540 => self.add(&["HSET", "big:hash", &field, &word]),
            540..580 => self.add(&["HDEL", "big:hash", &field]),
            580..640 => self.add(&["HINCRBY", "big:hash", &format!("n{}", number % 100), &by]),
            640..680 if self.version.has_field_ttl() => {
                let ms = self.long_ms();
                self.add(&["HPEXPIRE", "big:hash", &ms, "FIELDS", "1", &field]);
            }
            680..700 if self.version.has_field_ttl() => {
                let ms = self.near_ms();
                let name = self.brief_key();
                self.add(&["HSET", "big:hash", &name, &word]);
                self.add(&["HPEXPIRE", "big:hash", &ms, "FIELDS", "1", &name]);
            }
            640..850 => self.add(&["SADD", "big:set", &member, &word]),
            850..950 => self.add(&["SREM", "big:set", &member]),
            950..965 => self.add(&["RPUSH", "big:list", &word]),
            965..975 => self.add(&["LPOP", "big:list"]),
            975..985 => self.add(&["XADD", "big:stream", "*", "n", &by]),
            985..987 => self.add(&["LTRIM", "big:list", "1", "-1"]),
            987 => self.add(&["XREADGROUP", "GROUP", "g", "c", "COUNT", "2", "STREAMS", "big:stream", ">"]),
            988 => self.add(&["ZPOPMIN", "big:zset"]),
            989 => self.add(&["ZREMRANGEBYRANK", "big:zset", "0", "1"]),
            990 => self.add(&["SPOP", "big:set", "2"]),
            991 => self.add(&["XTRIM", "big:stream", "MAXLEN", "~", &ELEMENTS.to_string()]),
            992..994 => self.add(&["SETRANGE", "big:string", &(number * 7).to_string(), &word]),
            994 => self.add(&["APPEND", "big:string", &word]),
            _ => self.add(&["LSET", "big:list", &(number / 2).to_string(), &word]),
        }
        self.add(&["SELECT", &in_db]);
    }

    fn near_ms(&mut self) -> String {
        self.rng.u64(NEAR_MS).to_string()
    }

    /// There long enough to be copied, gone before the comparison.
    fn near(&mut self) {
        let (key, ms, word) = (self.brief_key(), self.near_ms(), self.word());
        match self.rng.u8(..3) {
            0 => self.add(&["SET", &key, &word, "PX", &ms]),
            1 => {
                self.add(&["RPUSH", &key, &word, "x"]);
                self.add(&["PEXPIRE", &key, &ms]);
            }
            _ => {
                // Saved from expiring: by then its copy may say that it does.
                self.add(&["SADD", &key, &word]);
                self.add(&["PEXPIRE", &key, &ms]);
                if self.rng.bool() {
                    self.add(&["PERSIST", &key]);
                }
            }
        }
    }

    fn scratch(&mut self) {
        let (key, word, in_db) = (self.any_key(), self.word(), self.db.to_string());
        let at = SCRATCH[self.rng.usize(..2)];
        match self.rng.u8(..40) {
            0 => self.add(&["SWAPDB", SCRATCH[0], SCRATCH[1]]),
            1..4 => {
                self.add(&["SELECT", at]);
                self.add(&["FLUSHDB"]);
                self.add(&["SET", &key, &word]);
                self.add(&["SELECT", &in_db]);
            }
            4..8 if self.version.is_6_2() => self.add(&["COPY", &key, &key, "DB", at, "REPLACE"]),
            8..15 => self.add(&["MOVE", &key, at]),
            _ => {
                self.add(&["SELECT", at]);
                self.add(&["SET", &key, &word]);
                self.add(&["RPUSH", &format!("list:{word}"), &word]);
                self.add(&["SELECT", &in_db]);
            }
        }
    }

    /// Often within a transaction: then its SELECTs are part of that.
    fn over_databases(&mut self) {
        let (key, other, word, in_db) = (self.key("str"), self.key("str"), self.word(), self.db.to_string());
        self.add(&["SELECT", SCRATCH[0]]);
        self.add(&["SET", &key, &word]);
        self.add(&["SELECT", "3"]);
        self.add(&["SET", &other, &word]);
        self.add(&["SELECT", &in_db]);
        self.add(&["APPEND", &key, &word]);
    }

    /// What names the elements it removes by their place alone.
    fn by_rank(&mut self) {
        let (zset, list, set) = (self.key("zset"), self.key("list"), self.key("set"));
        match self.rng.u8(..5) {
            0 => self.add(&["ZREMRANGEBYRANK", &zset, "0", "0"]),
            1 => {
                // Where scores differ, what it removes depends on how the set lies in memory.
                let (equal, word) = (self.key("equal"), self.word());
                self.add(&["ZADD", &equal, "0", &word, "0", "m"]);
                self.add(&["ZREMRANGEBYLEX", &equal, "[a", "[m"]);
            }
            2 => self.add(&["LTRIM", &list, "1", "-1"]),
            3 => self.add(&["SPOP", &set, "2"]),
            _ => self.add(&["ZPOPMAX", &zset]),
        }
    }

    fn verbatim_script(&mut self) {
        let script = "redis.call('SET', 'str:' .. ARGV[1], ARGV[2]) \
                      redis.call('RPUSH', 'w:list:' .. ARGV[1], ARGV[2]) return redis.call('DEL', 'w:' .. ARGV[3])";
        let (number, word, other) = (self.rng.u8(..60).to_string(), self.word(), self.key("hash"));
        self.add(&["EVAL", script, "0", &number, &word, &other]);
    }
}

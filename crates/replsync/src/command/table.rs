//! The one table of the stream's commands: a line for each.
//!
//! Arities, key positions and "since" are those that the servers' own `COMMAND` answers on Redis 5.0, 6.0, 6.2,
//! 7.0, 7.2, 7.4, 8.0, 8.6 and Valkey 8.0, 8.1, 9.1 (and `since` in `src/commands/*.json`, from 7.0).

use bytes::Bytes;

use super::hashes as h;
use super::payloads as p;
use super::rules as r;
use super::streams as x;
use super::{NoRule, Rewritten, Target};
use crate::server::{Product, Server};

/// A command's line.
#[derive(Debug)]
pub(super) struct Row {
    /// Its name in lower case.
    pub name: &'static str,
    /// How many arguments, name included: exactly so many, or, negative, at least.
    pub arity: i8,
    /// Where its keys are.
    pub keys: Keys,
    /// From which versions on a target has it.
    pub since: Since,
    /// What becomes of it.
    pub rule: Rule,
}

impl Row {
    /// Whether the command may have so many arguments.
    pub fn takes(&self, count: usize) -> bool {
        let arity = usize::from(self.arity.unsigned_abs());
        if self.arity < 0 { count >= arity } else { count == arity }
    }
}

/// Where a command's keys are.
#[derive(Clone, Copy, Debug)]
pub(super) enum Keys {
    /// It touches no data.
    None,
    /// From argument `.0` to `.1` (negative: from the end), every `.2`-th.
    Range(usize, isize, usize),
    /// A destination at argument 1, the number of keys at 2, the keys after it.
    StoreCounted,
    /// The number of keys at argument `.0`, then the keys, every `.1`-th.
    Counted(usize, usize),
    /// Key at 1, a destination after the word STORE or STOREDIST.
    Store,
    /// The keys are in the first half of what follows the word STREAMS.
    Streams,
    /// `MIGRATE`: at 3, or after the word KEYS.
    Migrate,
    /// `COPY`: two keys, the second perhaps in another database.
    Copy,
    /// `MOVE`: a key, here and in another database.
    Move,
    /// The selected database, whole.
    Database,
    /// All databases, whole.
    Databases,
    /// `SWAPDB`.
    Swap,
    /// The functions.
    Functions,
    /// Cannot be told.
    Unknown,
}

/// From which versions on a server has something: Redis (major, minor), and Valkey where it has it at all. What
/// Redis had by 7.2 is in every Valkey.
#[derive(Clone, Copy, Debug)]
pub(super) struct Since {
    redis: Option<(u16, u16)>,
    valkey: Option<(u16, u16)>,
}

impl Since {
    /// Whether this server has it.
    pub fn on(self, server: &Server) -> bool {
        match (self.redis, server.product) {
            (Some(redis), _) => server.has(redis, self.valkey),
            (None, Product::Redis) => false,
            (None, Product::Valkey) => {
                self.valkey.is_some_and(|since| (server.version.0, server.version.1) >= since)
            }
        }
    }
}

/// Since this Redis; Valkey has it when that is at most 7.2.
const fn redis(major: u16, minor: u16) -> Since {
    Since { redis: Some((major, minor)), valkey: None }
}

/// Since this Redis and this Valkey.
const fn both(redis: (u16, u16), valkey: (u16, u16)) -> Since {
    Since { redis: Some(redis), valkey: Some(valkey) }
}

/// Since this Valkey alone.
const fn valkey(major: u16, minor: u16) -> Since {
    Since { redis: None, valkey: Some((major, minor)) }
}

/// In every server that this library knows.
const ALL: Since = redis(0, 0);

/// Field expiries: `HPEXPIREAT` and its family.
pub(super) const FIELD_EXPIRY: Since = both((7, 4), (9, 0));
/// `SET … KEEPTTL`.
pub(super) const SET_KEEPTTL: Since = redis(6, 0);
/// `SET … PXAT`, `LPOP k n`, `ZADD … GT`, `XADD … MINID`, `GEORADIUS … ANY`, `FLUSHALL SYNC`.
pub(super) const REDIS_6_2: Since = redis(6, 2);
/// `XGROUP … ENTRIESREAD`, `XSETID … ENTRIESADDED`, functions.
pub(super) const REDIS_7_0: Since = redis(7, 0);
/// `XTRIM … KEEPREF | DELREF | ACKED`, `BITOP DIFF`.
pub(super) const REDIS_8_2: Since = redis(8, 2);
/// `HSETEX`.
pub(super) const HSETEX: Since = both((8, 0), (9, 0));
/// `MSETEX`.
pub(super) const MSETEX: Since = both((8, 4), (9, 1));
/// `XADD … IDMP`.
pub(super) const IDMP: Since = redis(8, 6);
/// `GEOSEARCHSTORE … BYPOLYGON`.
pub(super) const POLYGON: Since = valkey(9, 0);

/// A rule with code: command, target, now in ms.
pub(super) type RuleFn = fn(&[Bytes], &Target, u64) -> Result<Rewritten, NoRule>;

/// What becomes of a command.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rule {
    /// It has no options and no conditions that matter: it passes where the target has it.
    AsIs,
    /// It is left out, and why.
    Drop(&'static str),
    /// It never comes, or must not be sent, and why.
    Refuse(&'static str),
    /// It is read and, where need be, rewritten.
    With(RuleFn),
}
use Rule::{AsIs, Drop, Refuse, With};

/// One key.
const K: Keys = Keys::Range(1, 1, 1);
/// Two keys.
const KK: Keys = Keys::Range(1, 2, 1);
/// Nothing but keys.
const KEYS: Keys = Keys::Range(1, -1, 1);

/// What servers send in its stead is known, so it can only be a module's doing.
const DECIDED: Rule = Refuse(
    "servers send its effect instead; a module of the source sends it, and what it does depends on the moment",
);
/// It would block our connection.
const BLOCKS: Rule = Refuse("servers send its effect without blocking instead; it would block the target");
/// Scripts that travel whole.
const SCRIPT: Rule = Refuse(
    "a script whose effects only the source knows; set `lua-replicate-commands yes` on the source (its default) \
     and start again",
);
/// Resharding.
const SLOTS: Rule =
    Refuse("it deletes the keys of slots that moved away; do not reshard the source meanwhile");

/// The line for a command, by its name in any case.
pub(super) fn lookup(name: &[u8]) -> Option<&'static Row> {
    let mut lower = [0u8; 20];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    let found = TABLE.binary_search_by(|row| row.name.as_bytes().cmp(lower)).ok()?;
    TABLE.get(found)
}

const fn row(name: &'static str, arity: i8, keys: Keys, since: Since, rule: Rule) -> Row {
    Row { name, arity, keys, since, rule }
}

/// Sorted by name.
#[rustfmt::skip]
pub(super) static TABLE: &[Row] = &[
    row("append",            3, K,                      ALL,                    AsIs),
    row("bitfield",         -2, K,                      ALL,                    AsIs),
    row("bitop",            -4, Keys::Range(2, -1, 1),  ALL,                    With(r::bitop)),
    row("blmove",            6, KK,                     redis(6, 2),            BLOCKS),
    row("blmpop",           -5, Keys::Counted(2, 1),    redis(7, 0),            BLOCKS),
    row("blpop",            -3, Keys::Range(1, -2, 1),  ALL,                    BLOCKS),
    row("brpop",            -3, Keys::Range(1, -2, 1),  ALL,                    BLOCKS),
    row("brpoplpush",        4, KK,                     ALL,                    BLOCKS),
    row("bzmpop",           -5, Keys::Counted(2, 1),    redis(7, 0),            BLOCKS),
    row("bzpopmax",         -3, Keys::Range(1, -2, 1),  ALL,                    BLOCKS),
    row("bzpopmin",         -3, Keys::Range(1, -2, 1),  ALL,                    BLOCKS),
    row("cluster",          -2, Keys::Unknown,          ALL,                    SLOTS),
    row("copy",             -3, Keys::Copy,             redis(6, 2),            With(r::copy)),
    row("decr",              2, K,                      ALL,                    AsIs),
    row("decrby",            3, K,                      ALL,                    AsIs),
    row("del",              -2, KEYS,                   ALL,                    AsIs),
    row("delex",            -2, K,                      redis(8, 4),            With(r::delete)),
    row("delifeq",           3, K,                      valkey(9, 0),           With(r::delete)),
    row("eval",             -3, Keys::Unknown,          ALL,                    SCRIPT),
    row("evalsha",          -3, Keys::Unknown,          ALL,                    SCRIPT),
    row("exec",              1, Keys::None,             ALL,                    AsIs),
    row("expire",           -3, K,                      ALL,                    With(r::expire)),
    row("expireat",         -3, K,                      ALL,                    With(r::expire)),
    row("fcall",            -3, Keys::Unknown,          redis(7, 0),            SCRIPT),
    row("flushall",         -1, Keys::Databases,        ALL,                    With(r::flush)),
    row("flushdb",          -1, Keys::Database,         ALL,                    With(r::flush)),
    row("function",         -2, Keys::Functions,        redis(7, 0),            With(p::function)),
    row("geoadd",           -5, K,                      ALL,                    AsIs),
    row("georadius",        -6, Keys::Store,            ALL,                    With(r::georadius)),
    row("georadiusbymember",-5, Keys::Store,            ALL,                    With(r::georadius)),
    row("geosearchstore",   -8, KK,                     redis(6, 2),            With(r::geosearchstore)),
    row("getdel",            2, K,                      redis(6, 2),            With(r::delete)),
    row("getex",            -2, K,                      redis(6, 2),            With(r::getex)),
    row("getset",            3, K,                      ALL,                    AsIs),
    row("hdel",             -3, K,                      ALL,                    AsIs),
    row("hexpire",          -6, K,                      FIELD_EXPIRY,           With(h::hash_expire)),
    row("hexpireat",        -6, K,                      FIELD_EXPIRY,           With(h::hash_expire)),
    row("hgetdel",          -5, K,                      both((8, 0), (9, 1)),   With(h::hgetdel)),
    row("hgetex",           -5, K,                      both((8, 0), (9, 0)),   With(h::hgetex)),
    row("hincrby",           4, K,                      ALL,                    AsIs),
    row("hincrbyfloat",      4, K,                      ALL,                    AsIs),
    row("hmset",            -4, K,                      ALL,                    AsIs),
    row("hpersist",         -5, K,                      FIELD_EXPIRY,           With(h::hpersist)),
    row("hpexpire",         -6, K,                      FIELD_EXPIRY,           With(h::hash_expire)),
    row("hpexpireat",       -6, K,                      FIELD_EXPIRY,           With(h::hash_expire)),
    row("hset",             -4, K,                      ALL,                    AsIs),
    row("hsetex",           -6, K,                      HSETEX,                 With(h::hsetex)),
    row("hsetnx",            4, K,                      ALL,                    With(r::unconditional)),
    row("incr",              2, K,                      ALL,                    AsIs),
    row("incrby",            3, K,                      ALL,                    AsIs),
    row("incrbyfloat",       3, K,                      ALL,                    AsIs),
    row("linsert",           5, K,                      ALL,                    AsIs),
    row("lmove",             5, KK,                     redis(6, 2),            With(r::lmove)),
    row("lmpop",            -4, Keys::Counted(1, 1),    redis(7, 0),            DECIDED),
    row("lpop",             -2, K,                      ALL,                    With(r::pop)),
    row("lpush",            -3, K,                      ALL,                    AsIs),
    row("lpushx",           -3, K,                      ALL,                    AsIs),
    row("lrem",              4, K,                      ALL,                    AsIs),
    row("lset",              4, K,                      ALL,                    AsIs),
    row("ltrim",             4, K,                      ALL,                    AsIs),
    row("migrate",          -6, Keys::Migrate,          ALL,                    DECIDED),
    row("move",              3, Keys::Move,             ALL,                    AsIs),
    row("mset",             -3, Keys::Range(1, -1, 2),  ALL,                    AsIs),
    row("msetex",           -4, Keys::Counted(1, 2),    MSETEX,                 With(r::msetex)),
    row("msetnx",           -3, Keys::Range(1, -1, 2),  ALL,                    With(r::unconditional)),
    row("multi",             1, Keys::None,             ALL,                    AsIs),
    row("persist",           2, K,                      ALL,                    AsIs),
    row("pexpire",          -3, K,                      ALL,                    With(r::expire)),
    row("pexpireat",        -3, K,                      ALL,                    With(r::expire)),
    row("pfadd",            -2, K,                      ALL,                    AsIs),
    row("pfcount",          -2, KEYS,                   ALL,                    AsIs),
    row("pfdebug",          -3, Keys::Range(2, 2, 1),   ALL,                    AsIs),
    row("pfmerge",          -2, KEYS,                   ALL,                    AsIs),
    row("ping",             -1, Keys::None,             ALL,                    Drop("ping")),
    row("psetex",            4, K,                      ALL,                    With(r::setex)),
    row("publish",           3, Keys::None,             ALL,                    Drop("publish")),
    row("rename",            3, KK,                     ALL,                    AsIs),
    row("renamenx",          3, KK,                     ALL,                    With(r::unconditional)),
    row("replconf",         -1, Keys::None,             ALL,                    Drop("replconf")),
    row("restore",          -4, K,                      ALL,                    With(p::restore)),
    row("restore-asking",   -4, K,                      ALL,                    With(p::restore)),
    row("rpop",             -2, K,                      ALL,                    With(r::pop)),
    row("rpoplpush",         3, KK,                     ALL,                    AsIs),
    row("rpush",            -3, K,                      ALL,                    AsIs),
    row("rpushx",           -3, K,                      ALL,                    AsIs),
    row("sadd",             -3, K,                      ALL,                    AsIs),
    row("script",           -2, Keys::None,             ALL,                    With(r::script)),
    row("sdiffstore",       -3, KEYS,                   ALL,                    AsIs),
    row("select",            2, Keys::None,             ALL,                    With(r::select)),
    row("set",              -3, K,                      ALL,                    With(r::set)),
    row("setbit",            4, K,                      ALL,                    AsIs),
    row("setex",             4, K,                      ALL,                    With(r::setex)),
    row("setnx",             3, K,                      ALL,                    With(r::unconditional)),
    row("setrange",          4, K,                      ALL,                    AsIs),
    row("sinterstore",      -3, KEYS,                   ALL,                    AsIs),
    row("smove",             4, KK,                     ALL,                    AsIs),
    row("sort",             -2, Keys::Store,            ALL,                    AsIs),
    row("spop",             -2, K,                      ALL,                    DECIDED),
    row("spublish",          3, Keys::None,             redis(7, 0),            Drop("spublish")),
    row("srem",             -3, K,                      ALL,                    AsIs),
    row("sunionstore",      -3, KEYS,                   ALL,                    AsIs),
    row("swapdb",            3, Keys::Swap,             ALL,                    AsIs),
    row("trimslots",        -1, Keys::Unknown,          redis(8, 4),            SLOTS),
    row("unlink",           -2, KEYS,                   ALL,                    AsIs),
    row("vadd",             -5, K,                      redis(8, 0),            AsIs),
    row("vrem",              3, K,                      redis(8, 0),            AsIs),
    row("vsetattr",          4, K,                      redis(8, 0),            AsIs),
    row("xack",             -4, K,                      ALL,                    AsIs),
    row("xackdel",          -6, K,                      REDIS_8_2,              With(x::xackdel)),
    row("xadd",             -5, K,                      ALL,                    With(x::xadd)),
    row("xautoclaim",       -6, K,                      redis(6, 2),            DECIDED),
    row("xcfgset",          -2, K,                      IDMP,                   With(x::idempotence)),
    row("xclaim",           -6, K,                      ALL,                    AsIs),
    row("xdel",             -3, K,                      ALL,                    AsIs),
    row("xdelex",           -5, K,                      REDIS_8_2,              With(x::xdelex)),
    row("xgroup",           -4, Keys::Range(2, 2, 1),   ALL,                    With(x::xgroup)),
    row("xidmprecord",       5, K,                      IDMP,                   With(x::idempotence)),
    row("xreadgroup",       -7, Keys::Streams,          ALL,                    DECIDED),
    row("xsetid",           -3, K,                      ALL,                    With(x::xsetid)),
    row("xtrim",            -4, K,                      ALL,                    With(x::xtrim)),
    row("zadd",             -4, K,                      ALL,                    With(r::zadd)),
    row("zdiffstore",       -4, Keys::StoreCounted,     redis(6, 2),            AsIs),
    row("zincrby",           4, K,                      ALL,                    AsIs),
    row("zinterstore",      -4, Keys::StoreCounted,     ALL,                    With(r::zstore)),
    row("zmpop",            -4, Keys::Counted(1, 1),    redis(7, 0),            DECIDED),
    row("zpopmax",          -2, K,                      ALL,                    AsIs),
    row("zpopmin",          -2, K,                      ALL,                    AsIs),
    row("zrangestore",      -5, KK,                     redis(6, 2),            AsIs),
    row("zrem",             -3, K,                      ALL,                    AsIs),
    row("zremrangebylex",    4, K,                      ALL,                    AsIs),
    row("zremrangebyrank",   4, K,                      ALL,                    AsIs),
    row("zremrangebyscore",  4, K,                      ALL,                    AsIs),
    row("zunionstore",      -4, Keys::StoreCounted,     ALL,                    With(r::zstore)),
];

//! What a server holds, read by ordinary commands, and the comparison of two servers key by key.
//!
//! Compared are: the keys of every database, TYPE, the whole value, the expiry (PEXPIRETIME), the expiry of every
//! hash field (HPEXPIRETIME), streams by XINFO STREAM FULL COUNT 0, and functions with their code. Versions print
//! some things differently; what is left out or made alike, and why:
//!
//! - Scores are compared as numbers: versions before 7.2 print seventeen digits, newer ones the shortest form, and
//!   7.0 and newer print -0 as 0.
//! - Of XINFO STREAM FULL only the fields that both sides have: `entries-added`, `max-deleted-entry-id` and
//!   `recorded-first-entry-id` are new in 7.0, `idmp-*`, `pids-*` and `iids-*` in 8.6. Entries, groups, pending entries
//!   with their delivery times and counts, and consumers are on every side or the comparison says that they are not.
//! - Never compared: `seen-time` and `active-time` of consumers, the number of radix tree nodes and keys (how it lies
//!   in memory); `entries-read` unless both sides are 7.4 or newer, since in it a native replica differs too; `lag`
//!   unless both are of one version as well: it is not kept but computed, and of one payload with 50 of 200 entries read
//!   and 87 trimmed 7.4 says 150, 8.6 says 113.
//! - Before 6.2 there is no XGROUP CREATECONSUMER, and a consumer that asked for entries and got none does not travel to
//!   replicas: there, only consumers with pending entries count.
//! - 5.0 has no XINFO STREAM FULL: against it, XRANGE, XINFO GROUPS, XINFO CONSUMERS and XPENDING are compared, which
//!   print no absolute delivery times.
//! - A hash that shows no field is none: Valkey 9 keeps one whose fields have all expired until it comes by.
//! - Before 7.0 an expiry is only seen as TIME plus PTTL: there, expiries may differ by `EXPIRY_TOLERANCE_MS`. The server
//!   itself sends relative expiries to its replicas, which are off by as long as they were on their way: native replicas
//!   are given `NATIVE_TOLERANCE_MS`.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context, Result, bail};
use redis::Value;

use crate::client::{Batch, Conn, Version, array, bytes, int, message};

/// How far expiries may differ when one side is older than 7.0.
pub const EXPIRY_TOLERANCE_MS: i64 = 100;
/// The same between a master and its native replica, which buffers the stream while it loads.
pub const NATIVE_TOLERANCE_MS: i64 = 3_000;

/// One thing that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The database; `None` for functions.
    pub db: Option<u32>,
    /// The key, or the function library.
    pub key: Vec<u8>,
    /// What differs, with both sides.
    pub what: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.db {
            Some(db) => write!(f, "db {db} key \"{}\": {}", self.key.escape_ascii(), self.what),
            None => write!(f, "function library \"{}\": {}", self.key.escape_ascii(), self.what),
        }
    }
}

/// The first ten differences, a line each.
pub fn report(differences: &[Difference]) -> String {
    let lines = differences.iter().take(10).map(|difference| format!("\n  {difference}"));
    format!("{} differ:{}", differences.len(), lines.collect::<String>())
}

/// Compares two servers by address. Nothing may write to them meanwhile.
pub fn compare(a: &str, b: &str) -> Result<Vec<Difference>> {
    Ok(diff(&read_both(a, b)?))
}

/// Both sides' contents, read at the same time.
pub fn read_both(a: &str, b: &str) -> Result<[Contents; 2]> {
    let (mut conn_a, mut conn_b) = (Conn::open(a)?, Conn::open(b)?);
    let versions = [conn_a.version()?, conn_b.version()?];
    let [side_a, side_b] = std::thread::scope(|scope| {
        let threads = [
            scope.spawn(|| Contents::read(&mut conn_a, versions)),
            scope.spawn(|| Contents::read(&mut conn_b, [versions[1], versions[0]])),
        ];
        threads.map(|thread| thread.join().expect("reading does not panic"))
    });
    Ok([side_a.with_context(|| format!("reading {a}"))?, side_b.with_context(|| format!("reading {b}"))?])
}

/// What differs between two sides, by database and key.
pub fn diff(sides: &[Contents; 2]) -> Vec<Difference> {
    diff_within(sides, EXPIRY_TOLERANCE_MS)
}

/// The same where expiries may differ by that much when one side is older than 7.0.
pub fn diff_within([a, b]: &[Contents; 2], tolerance_ms: i64) -> Vec<Difference> {
    let exact = a.version.is_7_0() && b.version.is_7_0();
    let tolerance_ms = if exact { 0 } else { tolerance_ms };
    let mut differences = Vec::new();
    for (key, entry) in &a.keys {
        let what = match b.keys.get(key) {
            None => Some(format!("missing in the second ({})", entry.kind)),
            Some(other) => entry.diff(other, tolerance_ms),
        };
        differences.extend(what.map(|what| Difference { db: Some(key.0), key: key.1.clone(), what }));
    }
    for (key, entry) in &b.keys {
        if !a.keys.contains_key(key) {
            let what = format!("missing in the first ({})", entry.kind);
            differences.push(Difference { db: Some(key.0), key: key.1.clone(), what });
        }
    }
    let none = Vec::new();
    for name in a.functions.keys().chain(b.functions.keys().filter(|name| !a.functions.contains_key(*name))) {
        let sides = [a, b].map(|side| side.functions.get(name).unwrap_or(&none));
        if sides[0] != sides[1] {
            let what = format!("code differs: {} and {} bytes", sides[0].len(), sides[1].len());
            differences.push(Difference { db: None, key: name.clone(), what });
        }
    }
    differences
}

/// All that a server holds.
#[derive(Debug)]
pub struct Contents {
    /// Who it is.
    pub version: Version,
    keys: BTreeMap<(u32, Vec<u8>), Entry>,
    functions: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// When a key or a hash field expires.
#[derive(Clone, Debug)]
pub struct Expiry {
    /// The database.
    pub db: u32,
    /// The key.
    pub key: Vec<u8>,
    /// The field, where it is one that expires.
    pub field: Option<Vec<u8>>,
    /// In milliseconds since the epoch.
    pub at_ms: i64,
}

#[derive(Debug)]
struct Entry {
    kind: String,
    value: Tree,
    expires_at_ms: i64,
    field_expiries: BTreeMap<Vec<u8>, i64>,
}

/// A value in a form in which equal values are equal trees.
#[derive(Clone, Debug, PartialEq)]
enum Tree {
    Bytes(Vec<u8>),
    Number(f64),
    List(Vec<Tree>),
    Map(BTreeMap<Vec<u8>, Tree>),
    /// Metadata by field name, of which a version may lack some.
    Fields(BTreeMap<Vec<u8>, Tree>),
}

/// Keys asked for at once.
const KEYS_PER_BATCH: usize = 500;

impl Contents {
    /// Reads everything; `versions` are its own and the other side's, since what can be compared depends on both.
    pub fn read(conn: &mut Conn, versions: [Version; 2]) -> Result<Self> {
        let mut reader = Reader { conn, versions };
        let mut keys = BTreeMap::new();
        for db in reader.conn.databases()? {
            reader.conn.select(db)?;
            for names in reader.names()?.chunks(KEYS_PER_BATCH) {
                for (name, entry) in reader.entries(names)? {
                    keys.insert((db, name), entry);
                }
            }
        }
        Ok(Self { version: versions[0], keys, functions: reader.functions()? })
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Every expiry there is.
    pub fn expiries(&self) -> impl Iterator<Item = Expiry> {
        self.keys.iter().flat_map(|((db, key), entry)| {
            let expiry = |field, at_ms| Expiry { db: *db, key: key.clone(), field, at_ms };
            let fields = entry.field_expiries.iter();
            let fields = fields.map(move |(field, &at_ms)| expiry(Some(field.clone()), at_ms));
            (entry.expires_at_ms >= 0).then(|| expiry(None, entry.expires_at_ms)).into_iter().chain(fields)
        })
    }

    /// How many keys there are of each type, and how many keys and fields have an expiry: to see that a test tests.
    pub fn census(&self) -> BTreeMap<String, usize> {
        let mut census = BTreeMap::new();
        for entry in self.keys.values() {
            *census.entry(entry.kind.clone()).or_default() += 1;
            *census.entry("expires".to_owned()).or_default() += usize::from(entry.expires_at_ms >= 0);
            let fields = entry.field_expiries.values().filter(|&&at| at >= 0).count();
            *census.entry("field expires".to_owned()).or_default() += fields;
        }
        census.insert("functions".to_owned(), self.functions.len());
        census
    }
}

struct Reader<'a> {
    conn: &'a mut Conn,
    versions: [Version; 2],
}

impl Reader<'_> {
    fn both(&self, test: impl Fn(&Version) -> bool) -> bool {
        self.versions.iter().all(test)
    }

    /// The keys of the selected database. SCAN may name one twice.
    fn names(&mut self) -> Result<Vec<Vec<u8>>> {
        let mut names = Vec::new();
        let mut cursor = b"0".to_vec();
        loop {
            let mut reply = array(self.conn.call(&[&b"SCAN"[..], &cursor, b"COUNT", b"5000"])?);
            names.extend(array(reply.pop().context("SCAN's reply is short")?).into_iter().map(bytes));
            cursor = bytes(reply.pop().context("SCAN's reply is short")?);
            if cursor == b"0" {
                break;
            }
        }
        names.sort();
        names.dedup();
        Ok(names)
    }

    fn entries(&mut self, names: &[Vec<u8>]) -> Result<Vec<(Vec<u8>, Entry)>> {
        let mut entries = self.kinds_and_expiries(names)?;
        let mut batch = Batch::default();
        for (name, entry) in &entries {
            self.ask_value(&mut batch, name, &entry.kind);
        }
        let replies = self.conn.send(batch)?;
        for ((name, entry), reply) in entries.iter_mut().zip(replies) {
            entry.value = self.value(name, &entry.kind, reply)?;
        }
        entries.retain(|(_, entry)| entry.kind != "hash" || entry.value != Tree::Map(BTreeMap::new()));
        if self.versions[0].has_field_ttl() {
            self.field_expiries(&mut entries)?;
        }
        Ok(entries)
    }

    /// Keys that have gone meanwhile are left out.
    fn kinds_and_expiries(&mut self, names: &[Vec<u8>]) -> Result<Vec<(Vec<u8>, Entry)>> {
        let absolute = self.versions[0].is_7_0();
        let mut batch = Batch::default();
        for name in names {
            batch.add(&[b"TYPE", &name[..]]);
            if absolute {
                batch.add(&[b"PEXPIRETIME", &name[..]]);
                batch.add(&["PING"]);
            } else {
                batch.add(&[b"PTTL", &name[..]]);
                batch.add(&["TIME"]);
            }
        }
        let replies = self.conn.send_all(batch)?;
        let mut entries = Vec::new();
        for (name, reply) in names.iter().zip(replies.chunks(3)) {
            let kind = crate::client::text(&reply[0]);
            let ttl_ms = int(&reply[1]).context("an expiry is not a number")?;
            if kind == "none" || ttl_ms == -2 {
                continue;
            }
            let expires_at_ms = match &reply[2] {
                Value::Array(now) if ttl_ms >= 0 => {
                    let part = |at: usize| now.get(at).and_then(int).context("TIME's reply is short");
                    part(0)? * 1000 + part(1)? / 1000 + ttl_ms
                }
                _ => ttl_ms,
            };
            let value = Tree::List(Vec::new());
            entries
                .push((name.clone(), Entry { kind, value, expires_at_ms, field_expiries: BTreeMap::new() }));
        }
        Ok(entries)
    }

    fn ask_value(&self, batch: &mut Batch, name: &[u8], kind: &str) {
        let command: &[&[u8]] = match kind {
            "string" => &[b"GET", name],
            "list" => &[b"LRANGE", name, b"0", b"-1"],
            "set" => &[b"SMEMBERS", name],
            "zset" => &[b"ZRANGE", name, b"0", b"-1", b"WITHSCORES"],
            "hash" => &[b"HGETALL", name],
            "stream" if self.has_full() => &[b"XINFO", b"STREAM", name, b"FULL", b"COUNT", b"0"],
            "stream" => &[b"XRANGE", name, b"-", b"+"],
            // A module's type: as it is dumped, which says something between equal versions only.
            _ => &[b"DUMP", name],
        };
        batch.add(command);
    }

    fn has_full(&self) -> bool {
        self.both(|version| version.redis_at_least(6, 0))
    }

    fn value(&mut self, name: &[u8], kind: &str, reply: Value) -> Result<Tree> {
        if let Value::ServerError(error) = &reply {
            bail!("{} of {kind} \"{}\"", message(error), name.escape_ascii());
        }
        Ok(match kind {
            "list" => Tree::List(array(reply).into_iter().map(|item| Tree::Bytes(bytes(item))).collect()),
            "set" => {
                Tree::Map(array(reply).into_iter().map(|item| (bytes(item), Tree::List(vec![]))).collect())
            }
            "hash" => Tree::Map(pairs(reply).map(|(k, v)| (k, Tree::Bytes(bytes(v)))).collect()),
            "zset" => Tree::Map(pairs(reply).map(|(k, v)| (k, score(v))).collect()),
            "stream" if self.has_full() => self.stream(reply)?,
            "stream" => self.stream_in_parts(name, reply)?,
            _ => Tree::Bytes(bytes(reply)),
        })
    }

    /// A stream from XINFO STREAM FULL.
    fn stream(&self, reply: Value) -> Result<Tree> {
        let mut stream = named(reply);
        let positions = self.both(|v| !v.valkey && v.redis_at_least(7, 4));
        let mut drop = vec!["radix-tree-keys", "radix-tree-nodes"];
        let known = ["length", "last-generated-id", "entries", "groups"];
        if let Some(missing) = known.iter().find(|field| !stream.contains_key(field.as_bytes())) {
            bail!("XINFO STREAM FULL does not say {missing}");
        }
        if !positions {
            drop.push("entries-read");
        }
        if !positions || self.versions[0] != self.versions[1] {
            drop.push("lag");
        }
        drop.extend(["seen-time", "active-time"]);
        let mut groups = BTreeMap::new();
        for group in array(stream.remove(&b"groups"[..]).unwrap_or(Value::Nil)) {
            let mut group = named(group);
            let name = bytes(group.remove(&b"name"[..]).context("a group has no name")?);
            let mut consumers = BTreeMap::new();
            for consumer in array(group.remove(&b"consumers"[..]).context("a group has no consumers")?) {
                let mut consumer = named(consumer);
                let name = bytes(consumer.remove(&b"name"[..]).context("a consumer has no name")?);
                let pending = consumer.get(&b"pel-count"[..]).and_then(int).context("no pel-count")?;
                if pending > 0 || self.both(Version::is_6_2) {
                    consumers.insert(name, Tree::Fields(fields(consumer, &drop)));
                }
            }
            let mut group = fields(group, &drop);
            group.insert(b"consumers".to_vec(), Tree::Map(consumers));
            groups.insert(name, Tree::Fields(group));
        }
        let mut stream = fields(stream, &drop);
        stream.insert(b"groups".to_vec(), Tree::Map(groups));
        Ok(Tree::Fields(stream))
    }

    /// A stream as 5.0 can show it: entries, last id, groups with their positions, who has which entry pending.
    fn stream_in_parts(&mut self, name: &[u8], entries: Value) -> Result<Tree> {
        let mut about = named(self.conn.call(&[&b"XINFO"[..], b"STREAM", name])?);
        let last = about.remove(&b"last-generated-id"[..]).context("no last-generated-id")?;
        let mut groups = BTreeMap::new();
        for group in array(self.conn.call(&[&b"XINFO"[..], b"GROUPS", name])?) {
            let mut group = named(group);
            let id = bytes(group.remove(&b"name"[..]).context("a group has no name")?);
            let mut field = |field: &str| tree(group.remove(field.as_bytes()).unwrap_or(Value::Nil));
            let position = field("last-delivered-id");
            let count = field("pending");
            let pending = self.conn.call(&[&b"XPENDING"[..], name, &id, b"-", b"+", b"1000000"])?;
            let pending = array(pending).into_iter().map(|entry| {
                let mut entry = array(entry);
                if entry.len() == 4 {
                    entry.remove(2); // how long ago it was delivered: it grows
                }
                tree(Value::Array(entry))
            });
            groups.insert(id, Tree::List(vec![position, count, Tree::List(pending.collect())]));
        }
        Ok(Tree::List(vec![tree(entries), tree(last), Tree::Map(groups)]))
    }

    fn field_expiries(&mut self, entries: &mut [(Vec<u8>, Entry)]) -> Result<()> {
        let (mut batch, mut asked) = (Batch::default(), Vec::new());
        for (at, (name, entry)) in entries.iter().enumerate().filter(|(_, (_, entry))| entry.kind == "hash") {
            let Tree::Map(hash) = &entry.value else { bail!("a hash is not a map") };
            let fields: Vec<&Vec<u8>> = hash.keys().collect();
            for fields in fields.chunks(10_000) {
                let count = fields.len().to_string();
                let mut command: Vec<&[u8]> = vec![b"HPEXPIRETIME", name, b"FIELDS", count.as_bytes()];
                command.extend(fields.iter().map(|field| &field[..]));
                batch.add(&command);
                asked.push((at, fields.iter().map(|&field| field.clone()).collect::<Vec<_>>()));
            }
        }
        let replies = self.conn.send_all(batch)?;
        for ((at, fields), reply) in asked.into_iter().zip(replies) {
            for (field, at_ms) in fields.into_iter().zip(array(reply)) {
                let at_ms = int(&at_ms).context("a field's expiry is not a number")?;
                if at_ms >= 0 {
                    entries[at].1.field_expiries.insert(field, at_ms);
                }
            }
        }
        Ok(())
    }

    fn functions(&mut self) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
        let mut functions = BTreeMap::new();
        if !self.versions[0].is_7_0() {
            return Ok(functions);
        }
        for library in array(self.conn.words("FUNCTION LIST WITHCODE")?) {
            let mut library = named(library);
            let mut field = |name: &str| library.remove(name.as_bytes()).map(bytes);
            let name = field("library_name").context("a library has no name")?;
            functions.insert(name, field("library_code").context("a library has no code")?);
        }
        Ok(functions)
    }
}

impl Entry {
    fn diff(&self, other: &Self, tolerance_ms: i64) -> Option<String> {
        if self.kind != other.kind {
            return Some(format!("type: {} and {}", self.kind, other.kind));
        }
        if let Some(what) = self.value.diff(&other.value) {
            return Some(format!("{} value: {what}", self.kind));
        }
        if !same_time(self.expires_at_ms, other.expires_at_ms, tolerance_ms) {
            return Some(format!("expiry: {} and {} ms", self.expires_at_ms, other.expires_at_ms));
        }
        let fields = self.field_expiries.keys().chain(other.field_expiries.keys());
        for field in fields {
            let at = |entry: &Self| entry.field_expiries.get(field).copied().unwrap_or(-1);
            if at(self) != at(other) {
                let (ours, theirs) = (at(self), at(other));
                return Some(format!("expiry of field \"{}\": {ours} and {theirs} ms", field.escape_ascii()));
            }
        }
        None
    }
}

fn same_time(a: i64, b: i64, tolerance_ms: i64) -> bool {
    a == b || (a >= 0 && b >= 0 && (a - b).abs() <= tolerance_ms)
}

impl Tree {
    /// What differs first, with the way to it.
    fn diff(&self, other: &Self) -> Option<String> {
        match (self, other) {
            (Tree::Map(a), Tree::Map(b)) => {
                for (key, value) in a {
                    let name = key.escape_ascii();
                    match b.get(key) {
                        Some(other) => {
                            if let Some(what) = value.diff(other) {
                                return Some(format!("{name}: {what}"));
                            }
                        }
                        None => return Some(format!("\"{name}\" is missing in the second")),
                    }
                }
                let extra = b.keys().find(|key| !a.contains_key(*key));
                extra.map(|key| format!("\"{}\" is missing in the first", key.escape_ascii()))
            }
            (Tree::Fields(a), Tree::Fields(b)) => a.iter().find_map(|(name, value)| {
                let what = value.diff(b.get(name)?)?;
                Some(format!("{}: {what}", name.escape_ascii()))
            }),
            (Tree::List(a), Tree::List(b)) => {
                if a.len() != b.len() {
                    return Some(format!("{} and {} elements", a.len(), b.len()));
                }
                let differing = a.iter().zip(b).enumerate().find_map(|(at, (a, b))| Some((at, a.diff(b)?)));
                differing.map(|(at, what)| format!("element {at}: {what}"))
            }
            (a, b) if a == b => None,
            (a, b) => Some(format!("{a} and {b}")),
        }
    }
}

impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Tree::Bytes(bytes) if bytes.len() > 60 => {
                write!(f, "\"{}…\" ({} bytes)", bytes[..60].escape_ascii(), bytes.len())
            }
            Tree::Bytes(bytes) => write!(f, "\"{}\"", bytes.escape_ascii()),
            Tree::Number(number) => write!(f, "{number}"),
            Tree::List(items) => write!(f, "a list of {}", items.len()),
            Tree::Map(items) | Tree::Fields(items) => write!(f, "a map of {}", items.len()),
        }
    }
}

fn pairs(reply: Value) -> impl Iterator<Item = (Vec<u8>, Value)> {
    let mut items = array(reply).into_iter();
    std::iter::from_fn(move || Some((bytes(items.next()?), items.next()?)))
}

fn named(reply: Value) -> BTreeMap<Vec<u8>, Value> {
    pairs(reply).collect()
}

fn fields(map: BTreeMap<Vec<u8>, Value>, drop: &[&str]) -> BTreeMap<Vec<u8>, Tree> {
    let kept = map.into_iter().filter(|(name, _)| !drop.iter().any(|field| field.as_bytes() == name));
    kept.map(|(name, value)| (name, tree(value))).collect()
}

fn tree(value: Value) -> Tree {
    match value {
        Value::Array(items) => Tree::List(items.into_iter().map(tree).collect()),
        Value::Nil => Tree::List(Vec::new()),
        value => Tree::Bytes(bytes(value)),
    }
}

fn score(value: Value) -> Tree {
    let text = bytes(value);
    match std::str::from_utf8(&text).ok().and_then(|text| text.parse::<f64>().ok()) {
        Some(number) => Tree::Number(number),
        None => Tree::Bytes(text),
    }
}

//! RDB files that the library writes, as real servers load them: what a server holds is read by ordinary commands,
//! written by the encoder, and a stock server of the same kind is started on the file.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use redis::Value;
use replsync::rdb::encode::{self, HashFields, StreamEnd, StreamGroups, StreamIdmp, StreamMeta, StreamNodes};
use replsync::rdb::{Checker, DataType, FileWriter, Item, Kind, Magic, Reader, Slice, StreamId, dump};
use replsync::server::{Product, Server};
use replsync_tests::client::{Conn, Version, array, bytes, int, text};
use replsync_tests::contents::{compare, report};
use replsync_tests::digest::debug_digest;
use replsync_tests::fill::fill;
use replsync_tests::server::{Options, TestServer, program};

const SEED: u64 = 20_250_611;

/// How values are read.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    /// By DUMP, whose bytes go into the file as they are.
    Dumps,
    /// By their elements, which are written in the plain forms.
    Elements,
}

/// A file of all that the server holds.
fn file_of(server: &TestServer, way: Way) -> Result<Vec<u8>> {
    let mut source = Source::new(server)?;
    let version = source.server.rdb_version();
    let mut file = FileWriter::new(Vec::new(), Magic::of_version(version), version);
    file.aux(b"redis-bits", b"64")?;
    if source.version.is_7_0() {
        let functions = bytes(source.conn.words("FUNCTION DUMP")?);
        file.functions(dump::functions(&functions)?.0)?;
    }
    let databases = source.conn.databases()?;
    // One after the other, and those of the first once more: files may come back to a database.
    for (at, db) in databases.iter().chain(&databases[..1]).enumerate() {
        source.conn.select(*db)?;
        file.select(*db)?;
        if at < databases.len() {
            file.resize(int(&source.conn.words("DBSIZE")?).context("DBSIZE")? as u64, 12)?;
        }
        for (number, key) in source.keys()?.into_iter().enumerate() {
            let first_half = number % 2 == 0;
            let twice = *db == databases[0];
            if !twice || first_half == (at == 0) {
                source.write_key(&mut file, &key, way)?;
            }
        }
    }
    Ok(file.finish()?.out)
}

struct Source {
    conn: Conn,
    version: Version,
    server: Server,
}

impl Source {
    fn new(server: &TestServer) -> Result<Self> {
        let conn = server.client(0);
        let version = server.version();
        let product = if version.valkey { Product::Valkey } else { Product::Redis };
        let server = Server { product, version: (version.major as u16, version.minor as u16, 0) };
        Ok(Self { conn, version, server })
    }

    fn keys(&mut self) -> Result<Vec<Vec<u8>>> {
        let mut keys: Vec<Vec<u8>> = array(self.conn.words("KEYS *")?).into_iter().map(bytes).collect();
        keys.sort();
        Ok(keys)
    }

    fn call(&mut self, args: &[&[u8]]) -> Result<Value> {
        self.conn.call(args)
    }

    fn write_key(&mut self, file: &mut FileWriter<Vec<u8>>, key: &[u8], way: Way) -> Result<()> {
        let expiry_ms = self.expiry(key)?;
        if way == Way::Dumps {
            let payload = bytes(self.call(&[b"DUMP", key])?);
            let dumped = dump::parse(&payload)?;
            assert_eq!(dumped.rdb_version, self.server.rdb_version());
            return Ok(file.entry(expiry_ms, dumped.kind.type_byte(), key, dumped.raw)?);
        }
        let (kind, raw) = self.elements(key)?;
        // each way of the writer
        match raw.len() {
            0..200 => {
                let mut entry = Vec::new();
                encode::entry(&mut entry, expiry_ms, kind.type_byte(), key, &raw);
                file.encoded(&entry)?;
            }
            _ => {
                file.begin_entry(expiry_ms, kind.type_byte(), key)?;
                raw.chunks(raw.len() / 3).try_for_each(|part| file.raw(part))?;
            }
        }
        Ok(())
    }

    fn expiry(&mut self, key: &[u8]) -> Result<Option<i64>> {
        let ask: &[u8] = if self.version.is_7_0() { b"PEXPIRETIME" } else { b"PTTL" };
        let now =
            array(self.conn.words("TIME")?).iter().map(int).collect::<Option<Vec<_>>>().unwrap_or_default();
        let answer = int(&self.call(&[ask, key])?).context("an expiry is no number")?;
        let since = if self.version.is_7_0() { 0 } else { now[0] * 1000 + now[1] / 1000 };
        Ok((answer >= 0).then_some(since + answer))
    }

    /// The value in its plain form.
    fn elements(&mut self, key: &[u8]) -> Result<(Kind, Vec<u8>)> {
        let mut raw = Vec::new();
        let data_type = match text(&self.call(&[b"TYPE", key])?).as_str() {
            "string" => {
                let value = bytes(self.call(&[b"GET", key])?);
                if value.len() > 1000 {
                    encode::length(&mut raw, value.len() as u64);
                    raw.extend(value);
                } else {
                    encode::string(&mut raw, &value);
                }
                DataType::String
            }
            "list" => {
                let items = array(self.call(&[b"LRANGE", key, b"0", b"-1"])?);
                encode::length(&mut raw, items.len() as u64);
                items.into_iter().for_each(|item| encode::member(&mut raw, &bytes(item)));
                DataType::List
            }
            "set" => {
                let members = array(self.call(&[b"SMEMBERS", key])?);
                encode::length(&mut raw, members.len() as u64);
                members.into_iter().for_each(|member| encode::member(&mut raw, &bytes(member)));
                DataType::Set
            }
            "zset" => {
                let pairs = pairs(self.call(&[b"ZRANGE", key, b"0", b"-1", b"WITHSCORES"])?);
                encode::length(&mut raw, pairs.len() as u64);
                for (member, score) in pairs {
                    encode::scored(&mut raw, &member, text(&score).parse()?);
                }
                DataType::Zset
            }
            "hash" => return self.hash(key),
            "stream" => return self.stream(key),
            other => anyhow::bail!("a value of type {other}"),
        };
        Ok((encode::plain_kind(data_type).context("no plain kind")?, raw))
    }

    fn hash(&mut self, key: &[u8]) -> Result<(Kind, Vec<u8>)> {
        let pairs = pairs(self.call(&[b"HGETALL", key])?);
        let mut expiries = vec![None; pairs.len()];
        if self.version.has_field_ttl() {
            let count = pairs.len().to_string();
            let mut ask: Vec<&[u8]> = vec![b"HPEXPIRETIME", key, b"FIELDS", count.as_bytes()];
            ask.extend(pairs.iter().map(|(field, _)| &field[..]));
            let answers = array(self.call(&ask)?).into_iter();
            expiries = answers.map(|at| int(&at).and_then(|at| u64::try_from(at).ok())).collect();
        }
        let mut kept = Vec::new();
        let mut fields = HashFields::default();
        for ((field, value), expiry_ms) in pairs.into_iter().zip(&expiries) {
            let mut bytes_of_it = Vec::new();
            encode::kept_field(&mut bytes_of_it, &field, &bytes(value), *expiry_ms);
            fields.add(*expiry_ms);
            kept.push(bytes_of_it);
        }
        let form = fields.form(self.server).context("no form")?;
        let mut raw = Vec::new();
        form.head(&mut raw);
        for kept in &kept {
            form.kept(&mut raw, encode::KeptField::parse(kept)?);
        }
        Ok((form.kind(), raw))
    }

    fn stream(&mut self, key: &[u8]) -> Result<(Kind, Vec<u8>)> {
        let kind = encode::stream_kind(self.server).context("no streams")?;
        let nodes = self.stream_nodes(key)?;
        let mut raw = nodes;
        let meta = self.call(&[b"XINFO", b"STREAM", key])?;
        let id = |name: &str| StreamId::parse(&bytes(field(&meta, name)));
        let number = |name: &str| int(&field(&meta, name));
        let first = array(field(&meta, "first-entry")).into_iter().next().map(bytes);
        let end = StreamEnd {
            meta: StreamMeta {
                length: number("length").context("length")? as u64,
                last_id: id("last-generated-id").context("last id")?,
                first_id: id("recorded-first-entry-id")
                    .or(first.and_then(|id| StreamId::parse(&id)))
                    .unwrap_or_default(),
                max_deleted_id: id("max-deleted-entry-id").unwrap_or_default(),
                entries_added: number("entries-added").unwrap_or(0) as u64,
            },
            groups: if self.version.redis_at_least(6, 0) {
                self.groups(key)?
            } else {
                self.groups_of_5_0(key)?
            },
            idmp: StreamIdmp {
                duration_seconds: number("idmp-duration").unwrap_or(100) as u64,
                max_entries: number("idmp-maxsize").unwrap_or(100) as u64,
                ..StreamIdmp::default()
            },
        };
        end.write(kind, &mut raw)?;
        Ok((kind, raw))
    }

    /// The number of nodes, and the nodes: read in chunks, each of which begins where the one before ended.
    fn stream_nodes(&mut self, key: &[u8]) -> Result<Vec<u8>> {
        let (mut nodes, mut encoded) = (StreamNodes::default(), Vec::new());
        let mut from = b"-".to_vec();
        loop {
            let chunk = array(self.call(&[b"XRANGE", key, &from, b"+", b"COUNT", b"701"])?);
            let is_last = chunk.len() < 701;
            for entry in chunk {
                let mut entry = array(entry).into_iter();
                let id = StreamId::parse(&entry.next().map(bytes).unwrap_or_default()).context("an id")?;
                let fields: Vec<_> = pairs(entry.next().unwrap_or(Value::Nil))
                    .into_iter()
                    .map(|(field, value)| (field, bytes(value)))
                    .collect();
                nodes.push(&mut encoded, id, &fields)?;
                match id.next() {
                    Some(next) => from = next.to_string().into_bytes(),
                    None => assert!(is_last),
                }
            }
            if is_last {
                break;
            }
        }
        let written = nodes.finish(&mut encoded);
        let mut raw = Vec::new();
        encode::length(&mut raw, written.nodes);
        raw.extend(encoded);
        Ok(raw)
    }

    fn groups(&mut self, key: &[u8]) -> Result<StreamGroups> {
        let full = self.call(&[b"XINFO", b"STREAM", key, b"FULL", b"COUNT", b"0"])?;
        let mut groups = StreamGroups::default();
        for group in array(field(&full, "groups")) {
            let last_id = StreamId::parse(&bytes(field(&group, "last-delivered-id"))).context("a last id")?;
            groups.group(&bytes(field(&group, "name")), last_id, int(&field(&group, "entries-read")));
            for consumer in array(field(&group, "consumers")) {
                let name = bytes(field(&consumer, "name"));
                let seen = int(&field(&consumer, "seen-time")).context("seen-time")?;
                groups.consumer(&name, seen, int(&field(&consumer, "active-time")).unwrap_or(-1))?;
            }
            for pending in array(field(&group, "pending")) {
                let [id, consumer, time, count] = &array(pending)[..] else { anyhow::bail!("pending") };
                let id = StreamId::parse(&bytes(id.clone())).context("an id")?;
                let (time, count) = (int(time).context("time")?, int(count).context("count")?);
                groups.pending(&bytes(consumer.clone()), id, time, count as u64)?;
            }
        }
        Ok(groups)
    }

    fn groups_of_5_0(&mut self, key: &[u8]) -> Result<StreamGroups> {
        let now_ms = int(&array(self.conn.words("TIME")?)[0]).context("TIME")? * 1000;
        let mut groups = StreamGroups::default();
        for group in array(self.call(&[b"XINFO", b"GROUPS", key])?) {
            let name = bytes(field(&group, "name"));
            let last_id = StreamId::parse(&bytes(field(&group, "last-delivered-id"))).context("a last id")?;
            groups.group(&name, last_id, None);
            for consumer in array(self.call(&[b"XINFO", b"CONSUMERS", key, &name])?) {
                let idle = int(&field(&consumer, "idle")).context("idle")?;
                groups.consumer(&bytes(field(&consumer, "name")), now_ms - idle, -1)?;
            }
            for pending in array(self.call(&[b"XPENDING", key, &name, b"-", b"+", b"1000000"])?) {
                let [id, consumer, idle, count] = &array(pending)[..] else { anyhow::bail!("pending") };
                let id = StreamId::parse(&bytes(id.clone())).context("an id")?;
                let (idle, count) = (int(idle).context("idle")?, int(count).context("count")?);
                groups.pending(&bytes(consumer.clone()), id, now_ms - idle, count as u64)?;
            }
        }
        Ok(groups)
    }
}

fn pairs(reply: Value) -> Vec<(Vec<u8>, Value)> {
    let mut items = array(reply).into_iter();
    std::iter::from_fn(|| Some((bytes(items.next()?), items.next()?))).collect()
}

/// What stands behind a name in a reply.
fn field(reply: &Value, name: &str) -> Value {
    let named = pairs(reply.clone()).into_iter().find(|(key, _)| key == name.as_bytes());
    named.map_or(Value::Nil, |(_, value)| value)
}

/// Fills a server, and holds what another says to whom the file was given against it.
fn files_are_loaded(name: &str) -> Result<()> {
    println!("{name}, seed {SEED}");
    let source = TestServer::start(name, &[]);
    fill(&source.url(), 1_500, SEED)?;
    odd_streams(&mut source.client(0))?;
    odd_names(&mut source.client(9))?;
    std::thread::sleep(Duration::from_millis(400)); // what was to be gone soon is gone
    // from 6.2 on a server looks into every value when told to
    let checks: &[&str] = if source.version().is_6_2() { &["--sanitize-dump-payload", "yes"] } else { &[] };
    for way in [Way::Dumps, Way::Elements] {
        let file = file_of(&source, way)?;
        checked_by_redis_check_rdb(&source, &file)?;
        checked_by_us(&file)?;
        let copy = TestServer::start_with(name, &Options::default().args(checks).rdb(&file));
        let differences = compare(&source.url(), &copy.url())?;
        assert!(differences.is_empty(), "{way:?}: {}", report(&differences));
        let digests = [&source, &copy].map(|server| debug_digest(&mut server.client(0)));
        let [one, two] = digests;
        assert_eq!(one?, two?, "{way:?}: DEBUG DIGEST");
        if source.version().redis_at_least(6, 0) {
            streams_are_told_of_alike(&source, &copy)?;
        }
        println!("{name}: {way:?}: {} bytes, {} keys", file.len(), copy.client(0).keys()?);
    }
    Ok(())
}

/// More than the filling has: consumers without entries, pending entries that were deleted, entries of many shapes.
fn odd_streams(conn: &mut Conn) -> Result<()> {
    for number in 1..=1500u64 {
        let id = format!("{}-{}", number / 7 + 1, number);
        let value = "x".repeat((number as usize * 37) % 300);
        match number % 50 {
            0..40 => conn.call(&["XADD", "odd", &id, "a", &number.to_string(), "b", &value])?,
            40..45 => conn.call(&["XADD", "odd", &id, "a", &value])?,
            _ => conn.call(&["XADD", "odd", &id, "", "-9223372036854775808", "12", "-0", "b", ""])?,
        };
    }
    for words in [
        "XGROUP CREATE odd g 0",
        "XGROUP CREATE odd idle 5-0",
        "XREADGROUP GROUP g alice COUNT 700 STREAMS odd >",
        "XREADGROUP GROUP g 12 COUNT 100 STREAMS odd >",
        "XREADGROUP GROUP idle nobody COUNT 3 STREAMS odd >",
        "XDEL odd 1-1 3-20",
        "XCLAIM odd g 12 0 2-7 2-8 RETRYCOUNT 1000",
        "XACK odd idle 5-28",
        "XADD far 1-18446744073709551615 f v",
        "XADD far 18446744073709551615-1 f v",
        "XADD far 18446744073709551615-18446744073709551615 g v",
    ] {
        conn.words(words)?;
    }
    let large = "large ".repeat(100_000);
    conn.call(&["XADD", "odd", "*", "before", &large])?;
    conn.call(&["XADD", "odd", "*", "behind", "v"]).map(drop)
}

/// Names and values that are numbers, or nearly, and names that are long.
fn odd_names(conn: &mut Conn) -> Result<()> {
    let numbers = ["0", "12", "-12", "300", "-70000", "2147483647", "-2147483648"];
    let nearly = ["2147483648", "007", "-0", "+1", "-", "1e3", "12345678901234567890"];
    for name in numbers.into_iter().chain(nearly) {
        conn.call(&["SET", name, name])?;
        conn.call(&["HSET", "odd hash", name, name])?;
        conn.call(&["SADD", "odd set", name])?;
        conn.call(&["RPUSH", "odd list", name])?;
        conn.call(&["ZADD", "odd zset", "1", name])?;
    }
    let long = "long ".repeat(30_000);
    conn.call(&["SET", &long, &long])?;
    conn.call(&["HSET", "odd hash", &long, &long]).map(drop)
}

/// What servers that evict keep of a key's use is taken over.
fn hints_are_loaded(name: &str) -> Result<()> {
    let mut about = Vec::new();
    encode::idle(&mut about, 70_000);
    encode::entry(&mut about, Some(4_102_444_800_000), Kind::String.type_byte(), b"idle", b"\x01v");
    encode::freq(&mut about, 77);
    encode::entry(&mut about, None, Kind::String.type_byte(), b"freq", b"\x01v");
    let mut file = FileWriter::new(Vec::new(), Magic::Redis, 9);
    file.encoded(&about)?;
    let file = file.finish()?.out;
    for (policy, ask) in [("allkeys-lru", "OBJECT IDLETIME idle"), ("allkeys-lfu", "OBJECT FREQ freq")] {
        let options = Options::default().args(&["--maxmemory-policy", policy]).rdb(&file);
        let server = TestServer::start_with(name, &options);
        let answer = int(&server.client(0).words(ask)?).context("no number")?;
        let expected = if policy == "allkeys-lru" { 70_000..70_100 } else { 77..78 };
        assert!(expected.contains(&answer), "{ask}: {answer}");
    }
    Ok(())
}

fn checked_by_redis_check_rdb(server: &TestServer, file: &[u8]) -> Result<()> {
    let path = tempfile::NamedTempFile::new()?;
    std::fs::write(path.path(), file)?;
    let output =
        Command::new(program(server.name()).with_file_name("check-rdb")).arg(path.path()).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success() && said.contains("looks OK"), "redis-check-rdb: {said}");
    Ok(())
}

fn checked_by_us(file: &[u8]) -> Result<()> {
    let mut reader = Reader::new(Slice::new(file));
    let mut checker = Checker::new(1 << 20);
    let mut findings = Vec::new();
    while let Some(item) = reader.next_item()? {
        if let Item::Entry(_) = item {
            reader.check_value(&mut checker, &mut |finding| findings.push(finding))?;
        }
    }
    assert_eq!(findings, []);
    Ok(())
}

/// To the last counter and the last moment that a consumer was seen; but how it lies in memory.
fn streams_are_told_of_alike(a: &TestServer, b: &TestServer) -> Result<()> {
    let (mut count, mut conns) = (0, [a, b].map(|server| server.client(0)));
    for db in conns[0].databases()? {
        let mut sides = Vec::new();
        for conn in &mut conns {
            conn.select(db)?;
            let mut keys: Vec<Vec<u8>> = array(conn.words("KEYS *")?).into_iter().map(bytes).collect();
            keys.sort();
            let mut side = Vec::new();
            for key in keys {
                if text(&conn.call(&[b"TYPE", &key[..]])?) == "stream" {
                    let full = conn.call(&[&b"XINFO"[..], b"STREAM", &key, b"FULL", b"COUNT", b"0"])?;
                    let told: Vec<_> = pairs(full)
                        .into_iter()
                        .filter(|(name, _)| !name.starts_with(b"radix-tree"))
                        .collect();
                    side.push((key, told));
                }
            }
            sides.push(side);
        }
        count += sides[0].len();
        for (one, two) in sides[0].iter().zip(&sides[1]) {
            assert!(one == two, "db {db} {}:\n{one:?}\n{two:?}", one.0.escape_ascii());
        }
        assert_eq!(sides[0].len(), sides[1].len());
    }
    ensure!(count > 10, "too few streams to say anything: {count}");
    Ok(())
}

/// A stream from which nothing was deleted is written as its server writes it, to the byte.
fn streams_are_written_as_servers_do(name: &str) -> Result<()> {
    let server = TestServer::start(name, &["--rdbcompression", "no"]);
    let mut conn = server.client(0);
    odd_streams(&mut conn)?;
    for words in ["XADD small 1-1 a b", "XGROUP CREATE small g 0", "XREADGROUP GROUP g c STREAMS small >"] {
        conn.words(words)?;
    }
    for number in 0..500 {
        conn.call(&["XADD", "even", "*", "n", &number.to_string()])?;
    }
    // around the size at which the second entry gets a node of its own; before 6.2 only what the first takes counts
    let edges: Vec<String> = (1000..1100).map(|len| format!("edge {len}")).collect();
    for (key, len) in edges.iter().zip(1000..) {
        conn.call(&["XADD", key, "1-1", "n", &"x".repeat(3000)])?;
        conn.call(&["XADD", key, "1-2", "n", &"x".repeat(len)])?;
    }
    let mut source = Source::new(&server)?;
    let edges = if source.version.is_6_2() { &edges[..] } else { &[] };
    let keys = ["small", "even", "far"].into_iter().chain(edges.iter().map(String::as_str));
    for key in keys {
        let payload = bytes(source.call(&[b"DUMP", key.as_bytes()])?);
        let dumped = dump::parse(&payload)?;
        let (kind, raw) = source.stream(key.as_bytes())?;
        assert_eq!(dumped.kind, kind);
        if source.version.redis_at_least(6, 0) || key != "small" {
            assert!(dumped.raw == raw, "{key}:\n{}\n{}", dumped.raw.escape_ascii(), raw.escape_ascii());
        }
    }
    Ok(())
}

macro_rules! servers {
    ($($server:ident $name:literal)*) => {
        $(mod $server {
            use super::*;
            #[test]
            fn files_are_loaded() -> Result<()> { super::files_are_loaded($name) }
            #[test]
            fn hints_are_loaded() -> Result<()> { super::hints_are_loaded($name) }
            #[test]
            fn streams_are_written_as_servers_do() -> Result<()> { super::streams_are_written_as_servers_do($name) }
        })*
    };
}

servers! {
    redis_5_0 "redis-5.0"
    redis_6_0 "redis-6.0"
    redis_6_2 "redis-6.2"
    redis_7_0 "redis-7.0"
    redis_7_2 "redis-7.2"
    redis_7_4 "redis-7.4"
    redis_8_0 "redis-8.0"
    redis_8_6 "redis-8.6"
    valkey_8_0 "valkey-8.0"
    valkey_8_1 "valkey-8.1"
    valkey_9 "valkey-9"
}

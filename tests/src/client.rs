//! A connection of the `redis` crate with pipelines in which errors are replies like others.

use anyhow::{Context, Result, bail};
use redis::{ConnectionLike, Value};

/// A connection to a server under test.
pub struct Conn(redis::Connection);

/// Commands to be sent at once.
#[derive(Default)]
pub struct Batch {
    packed: Vec<u8>,
    count: usize,
}

impl Batch {
    /// Adds a command.
    pub fn add<A: AsRef<[u8]>>(&mut self, args: &[A]) {
        self.packed.extend_from_slice(format!("*{}\r\n", args.len()).as_bytes());
        for arg in args {
            let arg = arg.as_ref();
            self.packed.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
            self.packed.extend_from_slice(arg);
            self.packed.extend_from_slice(b"\r\n");
        }
        self.count += 1;
    }

    /// How many commands it holds.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Its commands as they are sent.
    pub fn packed(&self) -> &[u8] {
        &self.packed
    }

    /// How many bytes its commands take.
    pub fn len_bytes(&self) -> usize {
        self.packed.len()
    }
}

impl Conn {
    /// Connects to `redis://…` or `unix://…`.
    pub fn open(url: &str) -> Result<Self> {
        let client = redis::Client::open(url).with_context(|| format!("bad address {url}"))?;
        Ok(Self(client.get_connection().with_context(|| format!("cannot connect to {url}"))?))
    }

    /// Gives up on a server that takes longer to take a command or to reply.
    pub fn patience(&mut self, patience: std::time::Duration) -> Result<()> {
        self.0.set_write_timeout(Some(patience))?;
        Ok(self.0.set_read_timeout(Some(patience))?)
    }

    /// Sends one command of words that hold no spaces, and returns its reply; an error reply is an error.
    pub fn words(&mut self, words: &str) -> Result<Value> {
        self.call(&words.split(' ').collect::<Vec<_>>())
    }

    /// Sends one command and returns its reply; an error reply is an error.
    pub fn call<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Result<Value> {
        let mut batch = Batch::default();
        batch.add(args);
        match self.send(batch)?.pop() {
            Some(Value::ServerError(error)) => {
                bail!("{}: {}", String::from_utf8_lossy(args[0].as_ref()), message(&error))
            }
            Some(value) => Ok(value),
            None => bail!("no reply"),
        }
    }

    /// Sends a batch and returns its replies, error replies among them.
    pub fn send(&mut self, batch: Batch) -> Result<Vec<Value>> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        Ok(self.0.req_packed_commands(&batch.packed, 0, batch.count)?)
    }

    /// Sends a batch of which no command may fail.
    pub fn send_all(&mut self, batch: Batch) -> Result<Vec<Value>> {
        let replies = self.send(batch)?;
        for (at, reply) in replies.iter().enumerate() {
            if let Value::ServerError(error) = reply {
                bail!("command {at} of {}: {}", replies.len(), message(error));
            }
        }
        Ok(replies)
    }

    /// Selects a database.
    pub fn select(&mut self, db: u32) -> Result<()> {
        self.words(&format!("SELECT {db}")).map(drop)
    }

    /// A section of INFO (or several words as INFO takes them), as it is.
    pub fn info(&mut self, section: &str) -> Result<String> {
        Ok(text(&self.words(format!("INFO {section}").trim())?))
    }

    /// One field of INFO, of any section.
    pub fn info_field(&mut self, name: &str) -> Result<Option<String>> {
        let info = self.info("all")?;
        Ok(info.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.to_owned())))
    }

    /// Who the server is.
    pub fn version(&mut self) -> Result<Version> {
        let info = self.info("server")?;
        let field = |name: &str| {
            info.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':')).map(str::to_owned)
        };
        let (valkey, version) = match field("valkey_version") {
            Some(version) => (true, version),
            None => (false, field("redis_version").context("no redis_version in INFO")?),
        };
        let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
        Ok(Version { valkey, major: parts.next().unwrap_or(0), minor: parts.next().unwrap_or(0) })
    }

    /// How many keys all databases hold.
    pub fn keys(&mut self) -> Result<u64> {
        let keyspace = self.info("keyspace")?;
        Ok(keyspace
            .lines()
            .filter_map(|line| line.split_once(":keys=")?.1.split(',').next()?.parse::<u64>().ok())
            .sum())
    }

    /// The databases that hold keys.
    pub fn databases(&mut self) -> Result<Vec<u32>> {
        let keyspace = self.info("keyspace")?;
        Ok(keyspace
            .lines()
            .filter_map(|line| line.strip_prefix("db")?.split_once(':')?.0.parse().ok())
            .collect())
    }
}

/// Which server, by family and version: what it has follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// Valkey, not Redis.
    pub valkey: bool,
    /// The first number.
    pub major: u32,
    /// The second number.
    pub minor: u32,
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{} {}.{}", if self.valkey { "Valkey" } else { "Redis" }, self.major, self.minor)
    }
}

impl Version {
    /// At least that Redis version; Valkey is what Redis 7.2 was.
    pub fn redis_at_least(&self, major: u32, minor: u32) -> bool {
        let own = if self.valkey { (7, 2) } else { (self.major, self.minor) };
        own >= (major, minor)
    }

    /// Hash fields with a time to live.
    pub fn has_field_ttl(&self) -> bool {
        if self.valkey { self.major >= 9 } else { self.redis_at_least(7, 4) }
    }

    /// Functions, PEXPIRETIME and expiries that travel as absolute times.
    pub fn is_7_0(&self) -> bool {
        self.redis_at_least(7, 0)
    }

    /// COPY, LMOVE, GETDEL, GETEX, ZADD GT, SET … GET, XAUTOCLAIM.
    pub fn is_6_2(&self) -> bool {
        self.redis_at_least(6, 2)
    }
}

/// An error reply as the server wrote it.
pub fn message(error: &redis::ServerError) -> String {
    format!("{} {}", error.code(), error.details().unwrap_or(""))
}

/// The bytes of a bulk or status reply; empty for anything else.
pub fn bytes(value: Value) -> Vec<u8> {
    match value {
        Value::BulkString(bytes) => bytes,
        Value::SimpleString(text) => text.into_bytes(),
        Value::Okay => b"OK".to_vec(),
        Value::Int(number) => number.to_string().into_bytes(),
        _ => Vec::new(),
    }
}

/// A reply as text, for messages and INFO.
pub fn text(value: &Value) -> String {
    String::from_utf8_lossy(&bytes(value.clone())).into_owned()
}

/// The number that a reply is.
pub fn int(value: &Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(*number),
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok()?.parse().ok(),
        _ => None,
    }
}

/// The elements of an array reply; none for anything else.
pub fn array(value: Value) -> Vec<Value> {
    match value {
        Value::Array(items) => items,
        _ => Vec::new(),
    }
}

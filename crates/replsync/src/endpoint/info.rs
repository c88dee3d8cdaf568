//! What a server says of itself in INFO.

use std::collections::{BTreeMap, HashMap};

use crate::psync::{Position, ReplId};
use crate::server::{Product, Server, parse_version};

/// Master or replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It takes writes from clients.
    Master,
    /// It follows another server.
    Replica,
}

/// How many keys a database holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keyspace {
    /// Keys.
    pub keys: u64,
    /// Keys with an expiry.
    pub expires: u64,
    /// Hashes that have fields with an expiry (`subexpiry` in Redis from 7.4 on, `keys_with_volatile_items` in
    /// Valkey 9).
    pub expiring_hashes: u64,
}

/// A replica as its master lists it: `slave0:ip=10.0.0.7,port=6379,state=online,…`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaLine<'a> {
    /// What it announced, or where it comes from.
    pub address: &'a str,
    /// The port that it says it listens on.
    pub port: &'a str,
    /// `wait_bgsave`, `send_bulk`, `online`.
    pub state: &'a str,
}

/// INFO, read.
#[derive(Clone, Debug)]
pub struct Info {
    /// Product and version.
    pub server: Server,
    /// Drawn anew at each start of the process.
    pub run_id: String,
    /// Master or replica.
    pub role: Role,
    /// Where it is in its history: of a replica, in its master's.
    pub position: Position,
    /// Its databases that hold keys.
    pub keyspace: BTreeMap<u32, Keyspace>,
    fields: HashMap<String, String>,
}

/// INFO without something that every server says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no usable {0} (is this a proxy, or not a Redis or Valkey server?)")]
pub struct InfoError(&'static str);

impl Info {
    /// Reads the text of INFO.
    pub fn parse(text: &str) -> Result<Self, InfoError> {
        let lines = text.lines().filter_map(|line| line.trim_end().split_once(':'));
        let fields: HashMap<_, _> = lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let field = |name: &'static str| fields.get(name).ok_or(InfoError(name));

        // Valkey goes on saying a redis_version, of 7.2, for its clients' sake.
        let (product, version) = match fields.get("valkey_version") {
            Some(version) => (Product::Valkey, version),
            None => (Product::Redis, field("redis_version")?),
        };
        let version = parse_version(version).map_err(|_| InfoError("redis_version"))?;
        let role = match field("role")?.as_str() {
            "master" => Role::Master,
            "slave" => Role::Replica,
            _ => return Err(InfoError("role")),
        };
        let replid: ReplId = field("master_replid")?.parse().map_err(|_| InfoError("master_replid"))?;
        let offset: i64 =
            field("master_repl_offset")?.parse().map_err(|_| InfoError("master_repl_offset"))?;
        let position = Position { replid, offset: u64::try_from(offset).unwrap_or(0) };

        let keyspace = fields.iter().filter_map(|(name, value)| {
            let db = name.strip_prefix("db")?.parse().ok()?;
            let number = |name| value.split(',').find_map(|pair| pair.strip_prefix(name)?.parse().ok());
            let expiring_hashes = number("subexpiry=").or_else(|| number("keys_with_volatile_items="));
            Some((
                db,
                Keyspace {
                    keys: number("keys=")?,
                    expires: number("expires=")?,
                    expiring_hashes: expiring_hashes.unwrap_or(0),
                },
            ))
        });
        let keyspace = keyspace.collect();
        let run_id = field("run_id")?.clone();
        Ok(Self { server: Server { product, version }, run_id, role, position, keyspace, fields })
    }

    /// A field as text, where the server has it.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }

    /// A field that is a number.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.field(name)?.parse().ok()
    }

    /// How many bytes are free under `maxmemory`, where there is one. What buffers of replicas take does not count, as it
    /// does not for the server.
    ///
    /// Source: `getMaxmemoryState` in `src/evict.c`.
    pub fn headroom_bytes(&self) -> Option<u64> {
        let max = self.number("maxmemory").filter(|max| *max > 0)?;
        let number = |name| self.number(name).unwrap_or(0);
        let counted = number("used_memory").saturating_sub(number("mem_not_counted_for_evict"));
        Some(max.saturating_sub(counted))
    }

    /// Whether it evicts keys when it is full.
    pub fn evicts(&self) -> bool {
        self.field("maxmemory_policy").is_some_and(|policy| policy != "noeviction")
    }

    /// Keys in all databases.
    pub fn keys(&self) -> u64 {
        self.keyspace.values().map(|db| db.keys).sum()
    }

    /// Whether hash fields have expiries, in any database.
    pub fn has_expiring_fields(&self) -> bool {
        self.keyspace.values().any(|db| db.expiring_hashes > 0)
    }

    /// Whether cluster mode is on.
    pub fn is_cluster(&self) -> bool {
        self.field("cluster_enabled") == Some("1")
    }

    /// Whether it is still loading its data.
    pub fn is_loading(&self) -> bool {
        self.field("loading") == Some("1")
    }

    /// The replicas that it lists, those among them that wait for a full sync.
    pub fn replicas(&self) -> impl Iterator<Item = ReplicaLine<'_>> {
        let lines = self.fields.iter().filter(|(name, _)| {
            name.strip_prefix("slave").is_some_and(|number| number.parse::<u32>().is_ok())
        });
        lines.map(|(_, line)| {
            let value = |name| line.split(',').find_map(|pair| pair.strip_prefix(name)).unwrap_or_default();
            ReplicaLine { address: value("ip="), port: value("port="), state: value("state=") }
        })
    }

    /// Of a replica: the address of its master.
    pub fn master(&self) -> Option<String> {
        Some(format!("{}:{}", self.field("master_host")?, self.field("master_port")?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &str = "# Server\r\nredis_version:7.2.4\r\nvalkey_version:9.1.2\r\nrun_id:abc\r\n\r\n# Replication\r\n\
        role:master\r\nmaster_replid:0123456789abcdef0123456789abcdef01234567\r\nmaster_repl_offset:42\r\n\
        # Keyspace\r\ndb0:keys=3,expires=1,avg_ttl=0,keys_with_volatile_items=2\r\ndb11:keys=5,expires=0,avg_ttl=0\r\n";

    #[test]
    fn info_is_read() {
        let info = Info::parse(INFO).unwrap();
        assert_eq!(info.server.to_string(), "Valkey 9.1.2");
        assert_eq!((info.role, info.position.offset, info.keys()), (Role::Master, 42, 8));
        assert_eq!(info.keyspace[&0], Keyspace { keys: 3, expires: 1, expiring_hashes: 2 });
        assert!(!info.is_cluster());
    }

    #[test]
    fn what_is_missing_is_named() {
        for name in ["redis_version", "role", "master_replid", "master_repl_offset", "run_id"] {
            let text = INFO.replace("valkey_version", "x").replace(name, "y");
            assert_eq!(Info::parse(&text).unwrap_err(), InfoError(name));
        }
    }
}

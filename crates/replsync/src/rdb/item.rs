//! What an RDB consists of.

use super::kind::{Kind, Magic};
use super::module::ModuleId;

/// What an RDB holds, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// The first bytes; always the first item.
    Header {
        /// `REDIS` or `VALKEY`.
        magic: Magic,
        /// The RDB version.
        version: u16,
    },
    /// A field about the file, such as `redis-ver` or `repl-id`.
    Aux {
        /// The name.
        key: Vec<u8>,
        /// The value; numbers as decimal text.
        value: Vec<u8>,
    },
    /// The code of a function library, shebang included: what FUNCTION LOAD takes.
    Function(Vec<u8>),
    /// What a module keeps outside the keyspace.
    ModuleAux(ModuleAux),
    /// The current database and the number of its keys: a hint to the loader.
    ResizeDb {
        /// The database.
        db: u32,
        /// Keys in it.
        keys: u64,
        /// Keys with an expiry among them.
        expires: u64,
    },
    /// The number of keys in a slot of a cluster: a hint to the loader.
    SlotInfo {
        /// The slot, 0 to 16383.
        slot: u64,
        /// Keys in it.
        keys: u64,
        /// Keys with an expiry among them.
        expires: u64,
    },
    /// A slot migration under way while the RDB was written (Valkey 9 in cluster mode).
    SlotImport {
        /// The name of the migration.
        job: Vec<u8>,
        /// First and last slot of each range.
        ranges: Vec<(u64, u64)>,
    },
    /// A key; its value is to be read next, or skipped by asking for the next item.
    Entry(Entry),
    /// The end; always the last item.
    End {
        /// What the checksum said.
        checksum: Checksum,
    },
}

/// What the end of an RDB says of the bytes before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// Their CRC-64 is the one in the file.
    Verified,
    /// The reader [started](super::Reader::resume) within the file, or its sum was [taken](super::Reader::take_sum); this is
    /// what the file says.
    NotSummed(u64),
    /// The file has none: it is older than RDB 5, or its server runs with `rdbchecksum no`.
    None,
}

/// What a module keeps outside the keyspace, in its own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleAux {
    /// The module's type.
    pub id: ModuleId,
    /// 1: to be loaded before the keys; 2: after them.
    pub when: u64,
    /// All bytes after the opcode, the id and the closing byte included: ready to be written again.
    pub raw: Vec<u8>,
}

/// A key and what is said of it before its value. Its name is [`Reader::key`](super::Reader::key).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The database.
    pub db: u32,
    /// How the value is written.
    pub kind: Kind,
    /// The type byte that says so.
    pub type_byte: u8,
    /// When the key expires, in milliseconds since the epoch; long past or negative ones are possible.
    pub expiry_ms: Option<i64>,
    /// Seconds since the key was used, where the server evicts by LRU.
    pub idle_seconds: Option<u64>,
    /// The logarithmic access counter, where the server evicts by LFU.
    pub freq: Option<u8>,
    /// How many modules attached metadata to the key (Redis 8.6); [`Reader::key_metadata`](super::Reader::key_metadata) has it.
    pub metadata_classes: u8,
    /// Where the type byte stands.
    pub offset: u64,
}

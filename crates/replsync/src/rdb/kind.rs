//! The types of values: who writes which byte, who reads it, and what its bytes look like. One table, which
//! docs/formats/rdb.md shows to people.

use crate::server::{Product, Server};

/// The family of an RDB, as its first bytes say: it decides what the type bytes from 22 on mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Magic {
    /// `REDIS`, written by Redis and by Valkey up to 8.
    Redis,
    /// `VALKEY`, written by Valkey from 9.0.
    Valkey,
}

impl Magic {
    /// The bytes at the start of the file, before the version.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Redis => "REDIS",
            Self::Valkey => "VALKEY",
        }
    }

    /// The family of a version number alone, as in a DUMP payload, which has no magic: Valkey counts from 80
    /// (`RDB_FOREIGN_VERSION_MAX` in its `src/rdb.h`).
    pub fn of_version(version: u16) -> Self {
        if version >= 80 { Self::Valkey } else { Self::Redis }
    }

    /// Whether this library reads `version` of this family.
    pub fn reads(self, version: u16) -> bool {
        match self {
            Self::Redis => (1..=14).contains(&version),
            Self::Valkey => version == 80,
        }
    }
}

/// What clients see: the type that `TYPE` answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DataType {
    /// A string.
    String,
    /// A list.
    List,
    /// A set.
    Set,
    /// A sorted set.
    Zset,
    /// A hash, with or without field TTLs.
    Hash,
    /// A stream.
    Stream,
    /// A module's own type.
    Module,
    /// A sparse array (RDB 14).
    Array,
}

impl DataType {
    /// The word that `TYPE` answers; for a module value, `module`.
    pub fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::List => "list",
            Self::Set => "set",
            Self::Zset => "zset",
            Self::Hash => "hash",
            Self::Stream => "stream",
            Self::Module => "module",
            Self::Array => "array",
        }
    }
}

/// A type byte in the meaning that it has in its RDB: how one value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// 0: a string.
    String,
    /// 1: a list of strings.
    List,
    /// 2: a set of strings.
    Set,
    /// 3: a sorted set, scores in decimal.
    ZsetAscii,
    /// 4: a hash of strings.
    Hash,
    /// 5: a sorted set, scores as 64-bit floats.
    Zset,
    /// 7: a module's value, self-delimiting.
    Module,
    /// 9: a hash in a zipmap.
    HashZipmap,
    /// 10: a list in a ziplist.
    ListZiplist,
    /// 11: a set in an intset.
    SetIntset,
    /// 12: a sorted set in a ziplist.
    ZsetZiplist,
    /// 13: a hash in a ziplist.
    HashZiplist,
    /// 14: a list of ziplists.
    ListQuicklist,
    /// 15: a stream of 5.0.
    Stream1,
    /// 16: a hash in a listpack.
    HashListpack,
    /// 17: a sorted set in a listpack.
    ZsetListpack,
    /// 18: a list of listpacks and plain nodes.
    ListQuicklist2,
    /// 19: a stream of 7.0, which knows its first and greatest deleted id and counts what was added and read.
    Stream2,
    /// 20: a set in a listpack.
    SetListpack,
    /// 21: a stream of 7.2, whose consumers have an active time.
    Stream3,
    /// 22 of Redis: a hash with field TTLs, absolute ones (7.4 release candidates).
    HashTtlPreGa,
    /// 23 of Redis: the same in a listpack (7.4 release candidates).
    HashTtlListpackPreGa,
    /// 24: a hash with field TTLs relative to the least of them.
    HashTtl,
    /// 25: a hash with field TTLs in a listpack of triples.
    HashTtlListpack,
    /// 26: a stream of 8.6, with idempotent producers.
    Stream4,
    /// 27: a stream of RDB 14, with entries given back by their consumers.
    Stream5,
    /// 28: a sparse array (RDB 14).
    Array,
    /// 22 of Valkey: a hash with an expiry after each field (9.0).
    ValkeyHashTtl,
}

/// A step of a value's grammar: what is needed to find its end.
#[derive(Debug)]
pub(super) enum Op {
    /// A string: plain, an integer or compressed.
    Str,
    /// A number in the encoding of lengths.
    Len,
    /// So many bytes.
    Fixed(u8),
    /// A score in decimal: its length in one byte, 253 to 255 standing for nan, +inf and -inf.
    Decimal,
    /// A count, then these steps that many times.
    Repeat(&'static [Op]),
    /// A module's opcodes and their operands, up to the closing one.
    ModuleParts,
    /// The body of an array: its elements say themselves what follows them.
    Array,
}

/// Who knows a type.
#[derive(Clone, Copy, Debug)]
pub(super) enum Since {
    /// Every server.
    Always,
    /// Redis from this RDB version on; where it is 11 or less, every Valkey too.
    Redis(u16),
    /// Valkey from this RDB version on.
    Valkey(u16),
}

/// How one type is written, and who knows it.
pub(super) struct Row {
    kind: Kind,
    pub byte: u8,
    pub since: Since,
    pub data_type: DataType,
    pub encoding: &'static str,
    grammar: &'static [Op],
}

const PAIR: &[Op] = &[Op::Str, Op::Str];
const STREAM_NODES: Op = Op::Repeat(PAIR);
/// id, delivery time, delivery count
const GROUP_PENDING: Op = Op::Repeat(&[Op::Fixed(16), Op::Fixed(8), Op::Len]);
const CONSUMERS: Op = Op::Repeat(&[Op::Str, Op::Fixed(8), Op::Repeat(&[Op::Fixed(16)])]);
const CONSUMERS_3: Op = Op::Repeat(&[Op::Str, Op::Fixed(8), Op::Fixed(8), Op::Repeat(&[Op::Fixed(16)])]);
const GROUPS_1: Op = Op::Repeat(&[Op::Str, Op::Len, Op::Len, GROUP_PENDING, CONSUMERS]);
const GROUPS_2: Op = Op::Repeat(&[Op::Str, Op::Len, Op::Len, Op::Len, GROUP_PENDING, CONSUMERS]);
const GROUPS_3: Op = Op::Repeat(&[Op::Str, Op::Len, Op::Len, Op::Len, GROUP_PENDING, CONSUMERS_3]);
const GROUPS_5: Op = Op::Repeat(&[
    Op::Str,
    Op::Len,
    Op::Len,
    Op::Len,
    GROUP_PENDING,
    CONSUMERS_3,
    Op::Repeat(&[Op::Fixed(16)]),
]);
/// One producer: its name, then for each of its messages the id it gave and the id of the entry.
const PRODUCERS: Op = Op::Repeat(&[Op::Str, Op::Repeat(&[Op::Str, Op::Len, Op::Len])]);

const fn row(
    byte: u8,
    kind: Kind,
    since: Since,
    data_type: DataType,
    encoding: &'static str,
    grammar: &'static [Op],
) -> Row {
    Row { kind, byte, since, data_type, encoding, grammar }
}

/// All types, in the order of [`Kind`].
///
/// Source: `rdbSaveObject` and `rdbLoadObject` in `src/rdb.c` of the releases; from RDB 13 on, `src/lib/parser.c`
/// of librdb. Type 6 (module values of 4.0's release candidates) cannot be delimited and is refused.
pub(super) static TYPES: &[Row] = {
    use DataType as D;
    use Kind as K;
    use Op::{Decimal, Fixed, Len, ModuleParts, Repeat, Str};
    use Since::{Always, Redis, Valkey};
    &[
        row(0, K::String, Always, D::String, "string", &[Str]),
        row(1, K::List, Always, D::List, "list", &[Repeat(&[Str])]),
        row(2, K::Set, Always, D::Set, "hashtable", &[Repeat(&[Str])]),
        row(3, K::ZsetAscii, Always, D::Zset, "skiplist", &[Repeat(&[Str, Decimal])]),
        row(4, K::Hash, Always, D::Hash, "hashtable", &[Repeat(PAIR)]),
        row(5, K::Zset, Redis(8), D::Zset, "skiplist", &[Repeat(&[Str, Fixed(8)])]),
        row(7, K::Module, Redis(8), D::Module, "module", &[Len, ModuleParts]),
        row(9, K::HashZipmap, Always, D::Hash, "zipmap", &[Str]),
        row(10, K::ListZiplist, Always, D::List, "ziplist", &[Str]),
        row(11, K::SetIntset, Always, D::Set, "intset", &[Str]),
        row(12, K::ZsetZiplist, Always, D::Zset, "ziplist", &[Str]),
        row(13, K::HashZiplist, Always, D::Hash, "ziplist", &[Str]),
        row(14, K::ListQuicklist, Redis(7), D::List, "quicklist", &[Repeat(&[Str])]),
        row(
            15,
            K::Stream1,
            Redis(9),
            D::Stream,
            "stream",
            // length, last id (two numbers)
            &[STREAM_NODES, Len, Len, Len, GROUPS_1],
        ),
        row(16, K::HashListpack, Redis(10), D::Hash, "listpack", &[Str]),
        row(17, K::ZsetListpack, Redis(10), D::Zset, "listpack", &[Str]),
        row(18, K::ListQuicklist2, Redis(10), D::List, "quicklist", &[Repeat(&[Len, Str])]),
        row(
            19,
            K::Stream2,
            Redis(10),
            D::Stream,
            "stream",
            // length, last id, first id, greatest deleted id, entries added
            &[STREAM_NODES, Len, Len, Len, Len, Len, Len, Len, Len, GROUPS_2],
        ),
        row(20, K::SetListpack, Redis(11), D::Set, "listpack", &[Str]),
        row(
            21,
            K::Stream3,
            Redis(11),
            D::Stream,
            "stream",
            &[STREAM_NODES, Len, Len, Len, Len, Len, Len, Len, Len, GROUPS_3],
        ),
        row(22, K::HashTtlPreGa, Redis(12), D::Hash, "hashtable", &[Repeat(&[Len, Str, Str])]),
        row(23, K::HashTtlListpackPreGa, Redis(12), D::Hash, "listpackex", &[Str]),
        row(24, K::HashTtl, Redis(12), D::Hash, "hashtable", &[Fixed(8), Repeat(&[Len, Str, Str])]),
        row(25, K::HashTtlListpack, Redis(12), D::Hash, "listpackex", &[Fixed(8), Str]),
        row(
            26,
            K::Stream4,
            Redis(13),
            D::Stream,
            "stream",
            // after the groups: duration, maximum, producers, ids added, duplicates
            &[STREAM_NODES, Len, Len, Len, Len, Len, Len, Len, Len, GROUPS_3, Len, Len, PRODUCERS, Len, Len],
        ),
        row(
            27,
            K::Stream5,
            Redis(14),
            D::Stream,
            "stream",
            &[STREAM_NODES, Len, Len, Len, Len, Len, Len, Len, Len, GROUPS_5, Len, Len, PRODUCERS, Len, Len],
        ),
        row(28, K::Array, Redis(14), D::Array, "array", &[Op::Array]),
        row(22, K::ValkeyHashTtl, Valkey(80), D::Hash, "hashtable", &[Repeat(&[Str, Str, Fixed(8)])]),
    ]
};

/// The table by type byte.
static REDIS: [Option<Kind>; 256] = by_byte(Magic::Redis);
static VALKEY: [Option<Kind>; 256] = by_byte(Magic::Valkey);

const fn by_byte(magic: Magic) -> [Option<Kind>; 256] {
    let mut kinds = [None; 256];
    let mut index = 0;
    while index < TYPES.len() {
        let row = &TYPES[index];
        let known = match (row.since, magic) {
            (Since::Always, _) | (Since::Redis(_), Magic::Redis) | (Since::Valkey(_), Magic::Valkey) => true,
            (Since::Redis(version), Magic::Valkey) => version <= 11,
            (Since::Valkey(_), Magic::Redis) => false,
        };
        if known {
            kinds[row.byte as usize] = Some(row.kind);
        }
        index += 1;
    }
    kinds
}

impl Kind {
    /// What `byte` means as a type in an RDB of this family; nothing for bytes that are no type there.
    #[inline]
    pub fn of(byte: u8, magic: Magic) -> Option<Self> {
        match magic {
            Magic::Redis => REDIS[usize::from(byte)],
            Magic::Valkey => VALKEY[usize::from(byte)],
        }
    }

    /// The byte before the value, in an RDB and in a DUMP payload.
    pub fn type_byte(self) -> u8 {
        self.row().byte
    }

    /// What clients see.
    pub fn data_type(self) -> DataType {
        self.row().data_type
    }

    /// How the value is laid out, mostly in the words of `OBJECT ENCODING`.
    pub fn encoding(self) -> &'static str {
        self.row().encoding
    }

    /// Whether this is a hash whose fields may expire.
    pub fn has_field_expiries(self) -> bool {
        use Kind::{HashTtl, HashTtlListpack, HashTtlListpackPreGa, HashTtlPreGa, ValkeyHashTtl};
        matches!(self, HashTtl | HashTtlListpack | HashTtlPreGa | HashTtlListpackPreGa | ValkeyHashTtl)
    }

    #[inline]
    pub(super) fn grammar(self) -> &'static [Op] {
        self.row().grammar
    }

    #[inline]
    fn row(self) -> &'static Row {
        &TYPES[self as usize]
    }
}

/// Whether `by` loads values of this kind, from an RDB or by RESTORE.
///
/// Redis reads all that older versions wrote. So does Valkey, which left at RDB 11 and refuses what Redis wrote
/// later.
pub fn readable(kind: Kind, by: Server) -> bool {
    let version = by.rdb_version();
    match (kind.row().since, by.product) {
        (Since::Always, _) => true,
        (Since::Redis(since), Product::Redis) => version >= since,
        (Since::Redis(since), Product::Valkey) => since <= 11,
        (Since::Valkey(_), Product::Redis) => false,
        (Since::Valkey(since), Product::Valkey) => version >= since,
    }
}

/// The RDB version to put into the footer of a DUMP payload that `by` is to RESTORE.
///
/// A server accepts its own version and older ones (`verifyDumpPayload` in `src/cluster.c`), Valkey none from 12 to
/// 79. Its own version is right in all cases.
pub fn restore_version(by: Server) -> u16 {
    by.rdb_version()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_kinds() {
        for (index, row) in TYPES.iter().enumerate() {
            assert_eq!(row.kind as usize, index, "{:?}", row.kind);
        }
    }

    #[test]
    fn the_magic_decides_what_type_22_is() {
        assert_eq!(Kind::of(22, Magic::Redis), Some(Kind::HashTtlPreGa));
        assert_eq!(Kind::of(22, Magic::Valkey), Some(Kind::ValkeyHashTtl));
        assert_eq!(Kind::of(24, Magic::Valkey), None);
        assert_eq!(Kind::of(6, Magic::Redis), None);
        assert_eq!(Kind::of(8, Magic::Redis), None);
        assert_eq!(Kind::of(29, Magic::Redis), None);
    }

    #[test]
    fn readers_follow_the_matrix_of_the_servers() {
        let v7_2 = Server::redis(7, 2);
        assert!(readable(Kind::Stream3, v7_2) && readable(Kind::HashZipmap, v7_2));
        assert!(!readable(Kind::HashTtl, v7_2));
        assert!(!readable(Kind::Stream3, Server::redis(7, 0)));
        assert!(!readable(Kind::Stream4, Server::redis(8, 0)));
        assert!(readable(Kind::Stream4, Server::redis(8, 6)));
        assert!(!readable(Kind::HashTtl, Server::valkey(9, 0)));
        assert!(readable(Kind::ValkeyHashTtl, Server::valkey(9, 0)));
        assert!(!readable(Kind::ValkeyHashTtl, Server::valkey(8, 1)));
        assert_eq!(restore_version(Server::valkey(9, 0)), 80);
    }
}

//! The summary as JSON.

use std::collections::BTreeMap;

use replsync::inspect::{BUCKETS, BigKey, Counts, Database, Facts, RelativeTo, Summary};
use replsync::rdb::Checksum;
use serde::Serialize;

use super::Seen;
use crate::args::Inspect;
use crate::output::Name;

/// What scripts read. Bytes are bytes in the file.
#[derive(Serialize)]
pub struct Document {
    /// Whether the file was read to its end; else the figures are of what is before `error_offset`.
    complete: bool,
    error: Option<String>,
    error_offset: Option<u64>,
    path: String,
    file_bytes: Option<u64>,
    read_bytes: u64,
    header: Header,
    filter: Option<String>,
    keys: u64,
    expires: u64,
    expired: u64,
    bytes: u64,
    keys_left_out: u64,
    hash_fields_with_expiry: u64,
    databases: BTreeMap<u32, DatabaseDocument>,
    #[serde(skip_serializing_if = "Option::is_none")]
    databases_beyond: Option<Sums>,
    types: BTreeMap<String, Type>,
    biggest_by_bytes: Vec<Big>,
    biggest_by_elements: BTreeMap<&'static str, Vec<Big>>,
    prefixes: Prefixes,
    ttl: Ttl,
}

#[derive(Serialize)]
struct Header {
    server: Option<&'static str>,
    server_version: Option<String>,
    bits: Option<u64>,
    magic: Option<&'static str>,
    rdb_version: Option<u16>,
    written_at_ms: Option<u64>,
    used_memory_bytes: Option<u64>,
    replid: Option<String>,
    offset: Option<u64>,
    repl_stream_db: Option<u64>,
    is_aof_base: Option<bool>,
    checksum: Option<&'static str>,
    functions: u64,
    function_names: Vec<String>,
    scripts: u64,
    modules: BTreeMap<String, Module>,
    modules_left_out: u64,
    slots: u64,
    slot_imports: u64,
    aux: BTreeMap<String, String>,
    aux_left_out: u64,
}

#[derive(Serialize)]
struct Module {
    keys: u64,
    aux: u64,
    aux_bytes: u64,
}

#[derive(Serialize)]
struct Sums {
    keys: u64,
    expires: u64,
    elements: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct DatabaseDocument {
    #[serde(flatten)]
    sums: Sums,
    types: BTreeMap<&'static str, Sums>,
}

#[derive(Serialize)]
struct Type {
    #[serde(flatten)]
    sums: Sums,
    elements_max: u64,
    encodings: BTreeMap<&'static str, Encoding>,
}

#[derive(Serialize)]
struct Encoding {
    #[serde(flatten)]
    sums: Sums,
    elements_max: u64,
}

#[derive(Serialize)]
struct Big {
    db: u32,
    #[serde(flatten)]
    name: Name<'static>,
    /// Where the name is not shown whole: how long it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    key_bytes: Option<u64>,
    r#type: String,
    encoding: &'static str,
    elements: Option<u64>,
    bytes: u64,
    expires_at_ms: Option<i64>,
}

#[derive(Serialize)]
struct Prefixes {
    delimiter: String,
    depth_max: usize,
    /// Whether every prefix was counted from its first key on.
    exact: bool,
    distinct: Option<u64>,
    biggest: Vec<PrefixDocument>,
    /// No prefix that is not in the list has more.
    unlisted_bytes_max: u64,
    keys_without: u64,
    bytes_without: u64,
    keys_with_too_long_prefix: u64,
}

#[derive(Serialize)]
struct PrefixDocument {
    #[serde(flatten)]
    prefix: PrefixName,
    keys: u64,
    bytes: u64,
    missed_keys_max: u64,
    missed_bytes_max: u64,
}

#[derive(Serialize)]
enum PrefixName {
    #[serde(rename = "prefix")]
    Text(String),
    #[serde(rename = "prefix_base64")]
    Base64(String),
}

#[derive(Serialize)]
struct Ttl {
    relative_to: &'static str,
    relative_to_ms: u64,
    buckets: Vec<BucketDocument>,
}

#[derive(Serialize)]
struct BucketDocument {
    name: &'static str,
    below_ms: Option<i64>,
    keys: u64,
    bytes: u64,
}

impl Document {
    pub fn new(args: &Inspect, seen: &Seen) -> Self {
        let Seen { summary, file_bytes, error } = seen;
        let Counts { keys, expires, bytes, .. } = summary.totals;
        let by_elements = summary.biggest_by_elements.iter();
        let beyond = summary.databases_beyond;
        Self {
            complete: summary.is_complete && error.is_none(),
            error: error.as_ref().map(|error| error.message.clone()),
            error_offset: error.as_ref().map(|error| error.offset),
            path: args.file.to_string_lossy().into_owned(),
            file_bytes: *file_bytes,
            read_bytes: summary.bytes,
            header: Header::new(&summary.facts),
            filter: args.filter_text(),
            keys,
            expires,
            expired: summary.ttls.buckets[0].keys,
            bytes,
            keys_left_out: summary.keys_left_out,
            hash_fields_with_expiry: summary.field_expiries,
            databases: summary.databases.iter().map(|(db, database)| (*db, database.into())).collect(),
            databases_beyond: (beyond.keys > 0).then(|| beyond.into()),
            types: types(summary),
            biggest_by_bytes: summary.biggest_by_bytes.iter().map(Big::from).collect(),
            biggest_by_elements: by_elements
                .map(|(data_type, keys)| (data_type.name(), keys.iter().map(Big::from).collect()))
                .collect(),
            prefixes: Prefixes::new(summary),
            ttl: Ttl::new(summary),
        }
    }
}

impl Header {
    fn new(facts: &Facts) -> Self {
        let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let text = |name| facts.aux(name).map(lossy);
        let (server, server_version) = facts.server().unzip();
        let modules = facts.modules.iter().map(|(name, module)| {
            (name.clone(), Module { keys: module.keys, aux: module.aux, aux_bytes: module.aux_bytes })
        });
        Self {
            server,
            server_version,
            bits: facts.number("redis-bits").or_else(|| facts.number("valkey-bits")),
            magic: facts.header.map(|(magic, _)| magic.as_str()),
            rdb_version: facts.header.map(|(_, version)| version),
            written_at_ms: facts.written_at_ms(),
            used_memory_bytes: facts.number("used-mem"),
            replid: text("repl-id"),
            offset: facts.number("repl-offset"),
            repl_stream_db: facts.number("repl-stream-db"),
            is_aof_base: facts
                .number("aof-base")
                .or_else(|| facts.number("aof-preamble"))
                .map(|one| one != 0),
            checksum: facts.checksum.map(checksum),
            functions: facts.functions,
            function_names: facts.function_names.clone(),
            scripts: facts.scripts,
            modules: modules.collect(),
            modules_left_out: facts.modules_left_out,
            slots: facts.slots,
            slot_imports: facts.slot_imports,
            aux: facts.aux.iter().map(|(key, value)| (lossy(key), lossy(value))).collect(),
            aux_left_out: facts.aux_left_out,
        }
    }
}

pub fn checksum(checksum: Checksum) -> &'static str {
    match checksum {
        Checksum::Verified => "verified",
        Checksum::NotSummed(_) => "not_summed",
        Checksum::None => "none",
    }
}

fn types(summary: &Summary) -> BTreeMap<String, Type> {
    let of = |(name, counts, groups): (String, Counts, &[replsync::inspect::Group])| {
        let encodings = groups.iter().map(|group| {
            (group.encoding, Encoding { sums: group.counts.into(), elements_max: group.elements_max })
        });
        let elements_max = groups.iter().map(|group| group.elements_max).max().unwrap_or(0);
        (name, Type { sums: counts.into(), elements_max, encodings: encodings.collect() })
    };
    summary.types().into_iter().map(of).collect()
}

impl From<Counts> for Sums {
    fn from(counts: Counts) -> Self {
        let Counts { keys, expires, elements, bytes } = counts;
        Self { keys, expires, elements, bytes }
    }
}

impl From<&Database> for DatabaseDocument {
    fn from(database: &Database) -> Self {
        let types = database.types.iter().map(|(name, counts)| (*name, (*counts).into()));
        Self { sums: database.counts.into(), types: types.collect() }
    }
}

impl From<&BigKey> for Big {
    fn from(key: &BigKey) -> Self {
        let is_cut = key.name_bytes > key.name.len() as u64;
        Self {
            db: key.db,
            name: Name::of(&key.name).into_owned(),
            key_bytes: is_cut.then_some(key.name_bytes),
            r#type: key.type_name(),
            encoding: key.encoding,
            elements: key.elements,
            bytes: key.bytes,
            expires_at_ms: key.expires_at_ms,
        }
    }
}

impl Prefixes {
    fn new(summary: &Summary) -> Self {
        let prefixes = &summary.prefixes;
        let biggest = prefixes.biggest.iter().map(|prefix| PrefixDocument {
            prefix: match std::str::from_utf8(&prefix.prefix) {
                Ok(text) => PrefixName::Text(text.to_owned()),
                Err(_) => PrefixName::Base64(crate::output::base64(&prefix.prefix)),
            },
            keys: prefix.keys,
            bytes: prefix.bytes,
            missed_keys_max: prefix.missed_keys_max,
            missed_bytes_max: prefix.missed_bytes_max,
        });
        Self {
            delimiter: String::from_utf8_lossy(&prefixes.delimiter).into_owned(),
            depth_max: prefixes.depth,
            exact: prefixes.is_exact(),
            distinct: prefixes.distinct,
            biggest: biggest.collect(),
            unlisted_bytes_max: prefixes.unlisted_bytes_max,
            keys_without: prefixes.without.keys,
            bytes_without: prefixes.without.bytes,
            keys_with_too_long_prefix: prefixes.too_long_keys,
        }
    }
}

impl Ttl {
    fn new(summary: &Summary) -> Self {
        let buckets = BUCKETS.iter().zip(&summary.ttls.buckets).map(|(bucket, counts)| BucketDocument {
            name: bucket.name,
            below_ms: bucket.below_ms,
            keys: counts.keys,
            bytes: counts.bytes,
        });
        Self {
            relative_to: match summary.ttls.relative_to {
                RelativeTo::FileTime => "ctime",
                RelativeTo::Now => "now",
            },
            relative_to_ms: summary.ttls.relative_to_ms,
            buckets: buckets.collect(),
        }
    }
}

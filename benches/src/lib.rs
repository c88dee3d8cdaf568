//! What the benchmarks read: streams and RDBs, made in memory and the same at every run.
//!
//! A benchmark is named `group/contender`, and the contender of this repository is [`OURS`]: `bench-table` divides
//! the others in the group by it.

use anyhow::{Context, Result};
use replsync::rdb::{DataType, Item, Reader, Slice};
use replsync::resp::write_command;

/// The contender that is this repository's own.
pub const OURS: &str = "replsync";

/// About the size of the RDBs made here, in bytes.
pub const RDB_BYTES: usize = 30_000_000;

/// A fixture of a real server with every encoding that it writes; small.
const ALL_TYPES: &[u8] = include_bytes!("../../crates/replsync/tests/data/all_redis-7.2_v11.rdb");

/// A replication stream of `count` SETs: keys of 16 bytes, values of 16.
pub fn stream_of_sets(count: usize) -> Vec<u8> {
    let mut stream = bytes::BytesMut::new();
    for i in 0..count {
        write_command(&mut stream, &["SET", &name("key", i), &name("value", i)]);
    }
    stream.to_vec()
}

/// One MSET of `args` arguments behind its name, each of 16 bytes.
pub fn stream_of_one_mset(args: usize) -> Vec<u8> {
    let mut all = vec!["MSET".to_owned()];
    all.extend((0..args).map(|i| name("arg", i)));
    let mut stream = bytes::BytesMut::new();
    write_command(&mut stream, &all);
    stream.to_vec()
}

/// An RDB 11 of strings, and how many: keys of 16 bytes, values of 16.
pub fn rdb_of_small_strings() -> (Vec<u8>, u64) {
    let mut rdb = header();
    let mut keys = 0;
    while rdb.len() < RDB_BYTES {
        rdb.push(0);
        string(&mut rdb, name("key", keys).as_bytes());
        string(&mut rdb, name("value", keys).as_bytes());
        keys += 1;
    }
    (closed(rdb), keys as u64)
}

/// An RDB 11 of every encoding that Redis 7.2 writes of the five types that all peers read, and its number of keys.
/// The values are a real server's, each many times under other names.
///
/// # Errors
/// When the fixture does not read.
pub fn rdb_of_all_types() -> Result<(Vec<u8>, u64)> {
    let mut values = Vec::new();
    let mut reader = Reader::new(Slice::new(ALL_TYPES));
    while let Some(item) = reader.next_item()? {
        let Item::Entry(entry) = item else { continue };
        if !matches!(entry.kind.data_type(), DataType::Stream | DataType::Module) {
            let raw = reader.raw_value(usize::MAX)?.context("a value within the limit")?;
            values.push((entry.type_byte, raw.to_vec()));
        }
    }
    let mut rdb = header();
    let mut keys = 0;
    while rdb.len() < RDB_BYTES {
        for (type_byte, raw) in &values {
            rdb.push(*type_byte);
            string(&mut rdb, name("key", keys).as_bytes());
            rdb.extend(raw);
            keys += 1;
        }
    }
    Ok((closed(rdb), keys as u64))
}

/// Text that compresses as documents do: words of a small vocabulary in random order.
pub fn text(len: usize) -> Vec<u8> {
    const WORDS: [&str; 16] = [
        "{\"name\":\"",
        "\",\"id\":",
        "1024",
        "7",
        "true,",
        "user",
        "session",
        "null",
        "\"},",
        "2024-",
        "eu-west",
        "active",
        "score",
        "0.5",
        "list",
        " ",
    ];
    let (mut text, mut state) = (Vec::new(), 1u64);
    while text.len() < len {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        text.extend(WORDS[(state >> 60) as usize].as_bytes());
    }
    text.truncate(len);
    text
}

/// `prefix:000…i`, 16 bytes long.
fn name(prefix: &str, i: usize) -> String {
    format!("{prefix}:{i:0width$}", width = 15 - prefix.len())
}

fn header() -> Vec<u8> {
    b"REDIS0011\xfe\x00".to_vec()
}

/// A string of less than 64 bytes.
fn string(rdb: &mut Vec<u8>, bytes: &[u8]) {
    rdb.push(bytes.len() as u8);
    rdb.extend(bytes);
}

fn closed(mut rdb: Vec<u8>) -> Vec<u8> {
    rdb.push(0xff);
    let checksum = crc64::crc64(0, &rdb);
    rdb.extend(checksum.to_le_bytes());
    rdb
}

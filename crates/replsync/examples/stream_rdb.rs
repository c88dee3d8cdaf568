//! Count the keys of an RDB by type: `stream_rdb FILE`, or `stream_rdb` for standard input.
//!
//! The file may be larger than memory: it streams through a buffer, and values are skipped, not held.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io::{Read, Write, stdin, stdout};

use replsync::rdb::{Buffered, Item, Reader};

fn main() -> Result<(), Box<dyn Error>> {
    let stream: Box<dyn Read> = match std::env::args_os().nth(1) {
        Some(path) => Box::new(File::open(path)?),
        None => Box::new(stdin()),
    };
    let mut reader = Reader::new(Buffered::new(stream));
    let mut counts = BTreeMap::new();
    let mut checksum = None;
    while let Some(item) = reader.next_item()? {
        match item {
            Item::Entry(entry) => *counts.entry(entry.kind.data_type().name()).or_insert(0_u64) += 1,
            Item::End { checksum: found } => checksum = Some(found),
            _ => {}
        }
    }
    let mut out = stdout().lock();
    for (data_type, count) in &counts {
        writeln!(out, "{count:>12} {data_type}")?;
    }
    writeln!(out, "RDB version {}, {} bytes, checksum {checksum:?}", reader.version(), reader.offset())?;
    Ok(())
}

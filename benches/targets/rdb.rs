//! RDBs in memory: [`replsync::rdb::Reader`], the rdb crate and librdb (which reads a file, from the page cache).
//!
//! Boundaries: keys are read, values passed over; the rdb crate does it by a filter. librdb's crate has no such way.
//! Values: every element is seen. This repository and librdb verify the file's checksum, the rdb crate does not.
//! Writing: keys and raw values into a file that goes nowhere, beside what nothing can be faster than: the same bytes copied
//! through a buffer and summed.

use std::fs::{self, File};
use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use librdb::{KeyInfo, Parser, RdbHandlers};
use replsync::checksum::Crc64;
use replsync::rdb::{Error, FileWriter, Item, Magic, Reader, Slice};
use replsync_benches::{OURS, rdb_of_all_types, rdb_of_small_strings};

/// Counts keys, and decodes their values if told to.
fn ours(bytes: &[u8], values: bool) -> u64 {
    let mut reader = Reader::new(Slice::new(bytes));
    let mut keys = 0;
    while let Some(item) = reader.next_item().expect("an RDB") {
        if let Item::Entry(_) = item {
            keys += 1;
            if values {
                reader
                    .decode_value(&mut |_, element| {
                        black_box(&element);
                        Ok::<_, Error>(())
                    })
                    .expect("a value");
            }
        }
    }
    keys
}

/// Wants no key: the rdb crate skips every value.
struct Skip(std::rc::Rc<std::cell::Cell<u64>>);

impl rdb::Filter for Skip {
    fn matches_key(&self, key: &[u8]) -> bool {
        black_box(key);
        self.0.set(self.0.get() + 1);
        false
    }
}

fn rdb_boundaries(bytes: &[u8]) -> u64 {
    let keys = std::rc::Rc::default();
    let decoder = rdb::RdbDecoder::new(bytes, Skip(std::rc::Rc::clone(&keys))).expect("an RDB");
    decoder.for_each(|item| drop(black_box(item.expect("a value"))));
    keys.get()
}

fn rdb_values(bytes: &[u8]) -> u64 {
    use rdb::RdbValue::{Hash, List, Set, SortedSet, String};
    let decoder = rdb::RdbDecoder::new(bytes, rdb::Simple::new()).expect("an RDB");
    decoder
        .map(|item| black_box(item.expect("a value")))
        .filter(|item| {
            matches!(item, Hash { .. } | List { .. } | Set { .. } | SortedSet { .. } | String { .. })
        })
        .count() as u64
}

/// Counts keys; the other callbacks are the crate's own, which do nothing.
struct Count(u64);

impl RdbHandlers for Count {
    fn handle_new_key(&mut self, _: &[u8], _: &KeyInfo) -> librdb::Result<()> {
        self.0 += 1;
        Ok(())
    }
}

fn librdb_values(file: &std::path::Path) -> u64 {
    let mut parser = Parser::new(Count(0)).expect("a parser");
    parser.parse_fd(File::open(file).expect("the file").into()).expect("an RDB");
    parser.into_handler().0
}

/// A key as it is written: type byte, name, raw value.
type Key = (u8, Vec<u8>, Vec<u8>);

fn keys_of(bytes: &[u8]) -> Vec<Key> {
    let mut reader = Reader::new(Slice::new(bytes));
    let mut keys = Vec::new();
    while let Some(item) = reader.next_item().expect("an RDB") {
        if let Item::Entry(entry) = item {
            let (key, raw) = reader.key_and_raw_value(usize::MAX).expect("a value");
            keys.push((entry.type_byte, key.to_vec(), raw.expect("within the limit").to_vec()));
        }
    }
    keys
}

fn written(keys: &[Key]) -> u64 {
    let mut file = FileWriter::new(std::io::sink(), Magic::Redis, 11);
    file.select(0).expect("a sink");
    for (type_byte, key, raw) in keys {
        file.entry(None, *type_byte, key, raw).expect("a sink");
    }
    file.finish().expect("a sink").len_bytes
}

fn copied_and_summed(bytes: &[u8]) -> u64 {
    let (mut buffer, mut crc) = (Vec::with_capacity(256 * 1024), Crc64::new());
    for piece in bytes.chunks(256 * 1024) {
        buffer.clear();
        buffer.extend_from_slice(piece);
        crc.update(black_box(&buffer));
    }
    crc.value()
}

fn rdbs(c: &mut Criterion) {
    let file = std::env::temp_dir().join(format!("replsync-bench-{}.rdb", std::process::id()));
    for (what, (bytes, keys)) in
        [("small strings", rdb_of_small_strings()), ("all types", rdb_of_all_types().expect("the fixture"))]
    {
        fs::write(&file, &bytes).expect("a file for librdb");
        for found in [
            ours(&bytes, false),
            ours(&bytes, true),
            rdb_boundaries(&bytes),
            rdb_values(&bytes),
            librdb_values(&file),
        ] {
            assert_eq!(found, keys, "{what}");
        }
        let mut group = c.benchmark_group(format!("RDB of {what}, boundaries"));
        group.sampling_mode(SamplingMode::Flat).throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(BenchmarkId::from_parameter(OURS), |b| b.iter(|| ours(&bytes, false)));
        group.bench_function(BenchmarkId::from_parameter("rdb"), |b| b.iter(|| rdb_boundaries(&bytes)));
        group.finish();
        let mut group = c.benchmark_group(format!("RDB of {what}, values"));
        group.sampling_mode(SamplingMode::Flat).throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(BenchmarkId::from_parameter(OURS), |b| b.iter(|| ours(&bytes, true)));
        group.bench_function(BenchmarkId::from_parameter("rdb"), |b| b.iter(|| rdb_values(&bytes)));
        group.bench_function(BenchmarkId::from_parameter("librdb"), |b| b.iter(|| librdb_values(&file)));
        group.finish();
        let keys = keys_of(&bytes);
        assert_eq!(written(&keys), bytes.len() as u64, "{what}");
        let mut group = c.benchmark_group(format!("RDB of {what}, writing"));
        group.sampling_mode(SamplingMode::Flat).throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(BenchmarkId::from_parameter(OURS), |b| b.iter(|| written(&keys)));
        group.bench_function(BenchmarkId::from_parameter("copy and CRC"), |b| {
            b.iter(|| copied_and_summed(&bytes));
        });
        group.finish();
    }
    fs::remove_file(&file).expect("the file for librdb");
}

criterion_group!(benches, rdbs);
criterion_main!(benches);

//! Compressed strings: [`replsync::rdb::decode_string`] and the lzf crate.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use replsync::rdb::decode_string;
use replsync_benches::{OURS, text};

/// `compressed` as an RDB writes it: lengths of 32 bits each, then the bytes.
fn string(compressed: &[u8], len: usize) -> Vec<u8> {
    let lengths = [compressed.len(), len].map(|len| (len as u32).to_be_bytes());
    [&[0xc3, 0x80][..], &lengths[0], &[0x80], &lengths[1], compressed].concat()
}

fn decompression(c: &mut Criterion) {
    for (name, plain) in
        [("LZF to 16 KiB of text", text(16 * 1024)), ("LZF to 16 KiB of one byte", vec![7; 16 * 1024])]
    {
        let compressed = lzf::compress(&plain).expect("it compresses");
        let raw = string(&compressed, plain.len());
        assert_eq!(decode_string(&raw).expect("a string"), plain);
        let mut group = c.benchmark_group(name);
        group.throughput(Throughput::Bytes(plain.len() as u64));
        group.bench_function(BenchmarkId::from_parameter(OURS), |b| {
            b.iter(|| decode_string(black_box(&raw)).is_ok())
        });
        group.bench_function(BenchmarkId::from_parameter("lzf"), |b| {
            b.iter(|| lzf::decompress(black_box(&compressed), plain.len()).is_ok())
        });
        group.finish();
    }
}

criterion_group!(benches, decompression);
criterion_main!(benches);

//! CRC-64: [`replsync::checksum`] (the crc-fast crate) and the crc64 crate.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use replsync::checksum::Crc64;
use replsync_benches::{OURS, text};

fn ours(bytes: &[u8], piece: usize) -> u64 {
    let mut crc = Crc64::new();
    bytes.chunks(piece).for_each(|piece| crc.update(piece));
    crc.value()
}

fn theirs(bytes: &[u8], piece: usize) -> u64 {
    bytes.chunks(piece).fold(0, crc64::crc64)
}

/// One update with 64 KiB, and 64 KiB in updates of 16 bytes each.
fn checksums(c: &mut Criterion) {
    let bytes = text(64 * 1024);
    for (name, piece) in [("crc64 of 64 KiB", bytes.len()), ("crc64 in updates of 16 bytes", 16)] {
        assert_eq!(ours(&bytes, piece), theirs(&bytes, piece));
        let mut group = c.benchmark_group(name);
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group
            .bench_function(BenchmarkId::from_parameter(OURS), |b| b.iter(|| ours(black_box(&bytes), piece)));
        group.bench_function(BenchmarkId::from_parameter("crc64"), |b| {
            b.iter(|| theirs(black_box(&bytes), piece))
        });
        group.finish();
    }
}

criterion_group!(benches, checksums);
criterion_main!(benches);

//! CRC-64: [`replsync::checksum`] (the crc-fast crate) and the crc64 crate.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use replsync::checksum;
use replsync_benches::{OURS, text};

/// One call over 64 KiB, and 64 KiB in calls of 16 bytes each.
fn checksums(c: &mut Criterion) {
    let bytes = text(64 * 1024);
    for (name, piece) in [("crc64 of 64 KiB", bytes.len()), ("crc64 in updates of 16 bytes", 16)] {
        let mut group = c.benchmark_group(name);
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(BenchmarkId::from_parameter(OURS), |b| {
            b.iter(|| {
                let mut crc = checksum::Crc64::new();
                black_box(&bytes).chunks(piece).for_each(|piece| crc.update(piece));
                crc.value()
            })
        });
        group.bench_function(BenchmarkId::from_parameter("crc64"), |b| {
            b.iter(|| black_box(&bytes).chunks(piece).fold(0, crc64::crc64))
        });
        group.finish();
    }
}

criterion_group!(benches, checksums);
criterion_main!(benches);

//! Planning a copy: [`replsync::apply::Copier`] turns an RDB into batches of commands; nothing is sent.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use replsync::apply::{Copier, CopyOptions, Eviction, Target};
use replsync::command;
use replsync::rdb::Slice;
use replsync::server::Server;
use replsync_benches::{OURS, rdb_of_all_types, rdb_of_small_strings};

/// The keys that were planned.
fn plan(rdb: &[u8], server: Server) -> u64 {
    let dialect = command::Target { server, commands: None, expiries: command::Expiries::Plain };
    let target = Arc::new(Target { dialect, eviction: Eviction::Other });
    let copier = Copier::new(target, CopyOptions::default(), |batch| {
        black_box(batch);
        Ok(())
    });
    copier.copy(Slice::new(rdb)).expect("an RDB").keys
}

fn plans(c: &mut Criterion) {
    let (strings, string_keys) = rdb_of_small_strings();
    let (types, type_keys) = rdb_of_all_types().expect("the fixture");
    for (name, rdb, keys, server) in [
        ("planning small strings", &strings, string_keys, Server::redis(7, 4)),
        ("planning all types by RESTORE", &types, type_keys, Server::redis(7, 4)),
        ("planning all types for Redis 5", &types, type_keys, Server::redis(5, 0)),
    ] {
        assert_eq!(plan(rdb, server), keys);
        let mut group = c.benchmark_group(name);
        group.sampling_mode(SamplingMode::Flat).throughput(Throughput::Elements(keys));
        group.bench_function(BenchmarkId::from_parameter(OURS), |b| b.iter(|| plan(rdb, server)));
        group.finish();
    }
}

criterion_group!(benches, plans);
criterion_main!(benches);

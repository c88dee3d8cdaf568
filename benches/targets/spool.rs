//! What waits on disk: [`spool::Log`] beside a buffered file, and [`spool::queue`].

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Seek, Write};

use bytes::{Bytes, BytesMut};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use replsync::spool::{self, Body, Budget, Config, Item, Log, Record};
use replsync_benches::{OURS, text};

const RECORDS: u64 = 1_000_000;
const BODY: usize = 60;

fn config() -> Config {
    Config { memory_bytes: 0, budget: Budget::new(4 << 30), ..Config::default() }
}

/// A mixing of the number, as hashes are.
fn id(number: u64) -> u128 {
    u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
}

fn log() -> Log {
    let (mut log, body) = (Log::new(&config()), text(BODY));
    for number in 0..RECORDS {
        log.put(id(number * 3 / 4), &[&body[..20], &body[20..]], false).expect("room on disk");
    }
    log
}

fn buffered() -> BufWriter<File> {
    let path = std::env::temp_dir().join(format!(".replsync-bench-{}", std::process::id()));
    let file = File::options().read(true).write(true).create_new(true).open(&path).expect("a file");
    std::fs::remove_file(&path).expect("its name");
    let (mut writer, body) = (BufWriter::with_capacity(256 << 10, file), text(BODY));
    for _ in 0..RECORDS {
        let len = (body.len() as u32).to_le_bytes();
        let written = writer.write_all(&len).and_then(|()| writer.write_all(&body));
        written.expect("room on disk");
    }
    writer
}

/// A million records of 60 bytes, a quarter of which supersede others. The latest are found in parts, where memory
/// does not hold the index; at once, where it does; and in memory alone.
fn logs(c: &mut Criterion) {
    let mut group = c.benchmark_group("a log put");
    group.throughput(Throughput::Elements(RECORDS)).sample_size(10);
    group.bench_function(BenchmarkId::from_parameter(OURS), |b| b.iter(log));
    group.bench_function(BenchmarkId::from_parameter("BufWriter"), |b| b.iter(buffered));
    group.finish();

    let mut group = c.benchmark_group("the latest of a log found");
    group.throughput(Throughput::Elements(RECORDS)).sample_size(10);
    for (name, sort_bytes) in [(OURS, 4 << 20), ("at once", 64 << 20)] {
        group.bench_function(BenchmarkId::from_parameter(name), |b| {
            b.iter_batched(
                log,
                |log| log.latest_within(sort_bytes).expect("the disk"),
                BatchSize::PerIteration,
            )
        });
    }
    group.bench_function(BenchmarkId::from_parameter("HashMap"), |b| {
        b.iter(|| (0..RECORDS).map(|number| (id(number * 3 / 4), number)).collect::<HashMap<_, _>>())
    });
    group.finish();

    let mut group = c.benchmark_group("a log read");
    let mut latest = log().latest().expect("the disk");
    group.throughput(Throughput::Elements(latest.len())).sample_size(10);
    group.bench_function(BenchmarkId::from_parameter(OURS), |b| {
        b.iter(|| {
            latest.rewind();
            let mut bytes = 0;
            while let Some(body) = latest.next().expect("the disk") {
                match body {
                    Body::Whole(body) => bytes += body.len(),
                    Body::Large(_) => unreachable!("all are small"),
                }
            }
            assert_eq!(bytes as u64, latest.bytes());
        })
    });
    let mut file = buffered().into_inner().expect("the disk");
    group.throughput(Throughput::Elements(RECORDS));
    group.bench_function(BenchmarkId::from_parameter("BufReader"), |b| {
        b.iter(|| {
            file.rewind().expect("the disk");
            let (mut reader, mut body) = (BufReader::with_capacity(256 << 10, &file), Vec::new());
            while !reader.fill_buf().expect("the disk").is_empty() {
                let mut len = [0; 4];
                reader.read_exact(&mut len).expect("the disk");
                body.resize(u32::from_le_bytes(len) as usize, 0);
                reader.read_exact(&mut body).expect("the disk");
            }
        })
    });
    group.finish();
}

struct Piece(Bytes);

impl Item for Piece {
    fn cost_bytes(&self) -> usize {
        self.0.len()
    }

    fn encode(&self, record: &mut Record<'_>) -> bool {
        record.put(&self.0);
        true
    }

    fn decode(body: BytesMut) -> Option<Self> {
        Some(Piece(body.freeze()))
    }
}

/// All is sent before anything is received; or both at the same time, in threads of their own.
fn queues(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("threads");
    for (name, len, count) in [("pieces of 128 KiB", 128 << 10, 2_000), ("pieces of 300 bytes", 300, 100_000)]
    {
        let piece = Bytes::from(text(len));
        let receive = async |receiver: &mut spool::Receiver<Piece>| {
            for _ in 0..count {
                receiver.recv().await.expect("the disk").expect("one more");
            }
        };
        let mut group = c.benchmark_group(format!("a queue of {name}, sent, then received"));
        group.throughput(Throughput::Bytes((len * count) as u64)).sample_size(10);
        group.bench_function(BenchmarkId::from_parameter(OURS), |b| {
            b.iter(|| {
                runtime.block_on(async {
                    let (mut sender, mut receiver) = spool::queue(config());
                    for _ in 0..count {
                        sender.room(true).await.expect("nobody closes it");
                        sender.send(Piece(piece.clone())).expect("nobody closes it");
                    }
                    receive(&mut receiver).await;
                })
            })
        });
        group.finish();
        let mut group = c.benchmark_group(format!("a queue of {name}, sent and received"));
        group.throughput(Throughput::Bytes((len * count) as u64)).sample_size(10);
        group.bench_function(BenchmarkId::from_parameter(OURS), |b| {
            b.iter(|| {
                runtime.block_on(async {
                    let (mut sender, mut receiver) = spool::queue(config());
                    let piece = piece.clone();
                    let sending = tokio::spawn(async move {
                        for number in 0..count {
                            sender.room(true).await.expect("nobody closes it");
                            sender.send(Piece(piece.clone())).expect("nobody closes it");
                            if number % 16 == 0 {
                                tokio::task::yield_now().await;
                            }
                        }
                    });
                    receive(&mut receiver).await;
                    sending.await.expect("it ends");
                })
            })
        });
        group.finish();
    }
}

criterion_group!(benches, logs, queues);
criterion_main!(benches);

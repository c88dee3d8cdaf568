//! The replication stream: [`replsync::resp::CommandScanner`] and the decoder of redis-protocol, both on a buffer
//! that grows as a connection's does, both handing out slices of it.

use bytes::BytesMut;
use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use redis_protocol::resp2::{decode::decode_bytes_mut, types::BytesFrame};
use replsync::resp::{CommandScanner, Frame};
use replsync_benches::{OURS, stream_of_one_mset, stream_of_sets};

/// Reads `stream` as it comes in pieces, and returns how many arguments there were.
fn ours(stream: &[u8], piece: usize) -> usize {
    let (mut scanner, mut buf, mut args) = (CommandScanner::default(), BytesMut::new(), 0);
    for piece in stream.chunks(piece) {
        buf.extend_from_slice(piece);
        while let Some(frame) = scanner.next(&mut buf).expect("a stream") {
            if let Frame::Command(command) = frame {
                args += command.args.len();
            }
        }
    }
    args
}

/// The same by redis-protocol.
fn theirs(stream: &[u8], piece: usize) -> usize {
    let (mut buf, mut args) = (BytesMut::new(), 0);
    for piece in stream.chunks(piece) {
        buf.extend_from_slice(piece);
        while let Some((frame, _, _)) = decode_bytes_mut(&mut buf).expect("a stream") {
            if let BytesFrame::Array(frames) = frame {
                args += frames.len();
            }
        }
    }
    args
}

fn streams(c: &mut Criterion) {
    let sets = stream_of_sets(100_000);
    let mset = stream_of_one_mset(200_000);
    for (name, stream, piece) in [
        ("SETs of 16-byte values, read by 64 KiB", &sets, 64 * 1024),
        ("one MSET of 200,000 arguments, read by 16 KiB", &mset, 16 * 1024),
    ] {
        assert_eq!(ours(stream, piece), theirs(stream, piece));
        let mut group = c.benchmark_group(name);
        group.sampling_mode(SamplingMode::Flat).throughput(Throughput::Bytes(stream.len() as u64));
        group.bench_function(BenchmarkId::from_parameter(OURS), |b| b.iter(|| ours(stream, piece)));
        group.bench_function(BenchmarkId::from_parameter("redis-protocol"), |b| {
            b.iter(|| theirs(stream, piece))
        });
        group.finish();
    }
}

criterion_group!(benches, streams);
criterion_main!(benches);

//! The bodies of the fuzz targets over their seeds and over damaged copies of them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests are tests too

#[allow(dead_code)] // files are replayed elsewhere
#[path = "../../../fuzz/targets/bodies.rs"]
mod bodies;
#[path = "../../../fuzz/targets/wire.rs"]
mod wire;

use std::fs;
use std::path::Path;

/// A generator of its own, so that a failing seed stays the same seed.
fn next(state: &mut u64) -> usize {
    *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    (*state >> 33) as usize
}

/// The seeds of `target`, whole and damaged, through `body`.
fn replay(target: &str, body: fn(&[u8])) {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(target);
    let mut state = 1;
    for seed in fs::read_dir(seeds).unwrap() {
        let whole = fs::read(seed.unwrap().path()).unwrap();
        body(&whole);
        for _ in 0..300 {
            let mut damaged = whole.clone();
            for _ in 0..1 + next(&mut state) % 4 {
                let at = next(&mut state) % damaged.len();
                match next(&mut state) % 4 {
                    0 => damaged[at] ^= 1 << (next(&mut state) % 8),
                    1 => damaged[at] = next(&mut state) as u8,
                    2 => damaged[at] = whole[next(&mut state) % whole.len()],
                    _ => damaged.truncate(at.max(1)),
                }
            }
            body(&damaged);
        }
    }
}

#[test]
fn streams() {
    replay("stream", wire::stream);
}

#[test]
fn connections() {
    replay("replica", wire::replica);
}

#[test]
fn replies() {
    replay("reply", wire::reply);
}

#[test]
fn values() {
    replay("dump_payload", bodies::dump_payload);
}

#[test]
fn compressed_strings() {
    replay("rdb_lzf", bodies::rdb_lzf);
}

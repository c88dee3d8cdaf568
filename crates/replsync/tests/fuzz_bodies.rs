//! The bodies of the fuzz targets over the fixtures and over damaged copies of them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests are tests too

#[path = "../../../fuzz/targets/bodies.rs"]
#[allow(dead_code)] // seeds are replayed elsewhere
mod bodies;

use std::fs;
use std::path::Path;

/// A generator of its own, so that a failing seed stays the same seed.
fn next(state: &mut u64) -> usize {
    *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    (*state >> 33) as usize
}

#[test]
fn damaged_fixtures_panic_nowhere() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let mut state = 1;
    for file in fs::read_dir(data).unwrap() {
        let whole = fs::read(file.unwrap().path()).unwrap();
        if whole.starts_with(b"{") {
            continue;
        }
        bodies::rdb_boundaries(&whole);
        bodies::rdb_structure(&whole);
        bodies::rdb_values(&whole);
        for _ in 0..20 {
            let mut damaged = whole.clone();
            for _ in 0..1 + next(&mut state) % 4 {
                let at = next(&mut state) % damaged.len();
                damaged[at] = match next(&mut state) % 3 {
                    0 => damaged[at] ^ (1 << (next(&mut state) % 8)),
                    1 => next(&mut state) as u8,
                    _ => damaged[next(&mut state) % whole.len()],
                };
            }
            bodies::rdb_boundaries(&damaged);
            bodies::rdb_structure(&damaged);
            bodies::rdb_values(&damaged);
            let from = next(&mut state) % damaged.len();
            let piece = &damaged[from..damaged.len().min(from + 400)];
            bodies::lzf(piece);
            bodies::dump_payload(piece);
        }
    }
}

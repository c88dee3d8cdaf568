//! The bodies of the fuzz targets over their seeds, whole and damaged, and over the inputs that fuzzing kept.
//!
//! `fuzz/seeds/TARGET/` holds seeds made by hand, `fuzz/seeds/TARGET.hex` what a long run found, minimised: one input a
//! line. `scripts/fuzz.sh` starts from both, and from the values of the fixtures, which `write_seeds` cuts out.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests are tests too

#[path = "../../../fuzz/targets/bodies.rs"]
mod bodies;
#[path = "../../../fuzz/targets/wire.rs"]
mod wire;

use std::fs;
use std::path::{Path, PathBuf};

use replsync::rdb::{Item, Kind, Reader, Slice, decode_string};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// A generator of its own, so that a failing seed stays the same seed.
fn next(state: &mut u64) -> usize {
    *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    (*state >> 33) as usize
}

/// The inputs that are kept for `target` through `body`: those that were found as they are, seeds damaged too.
fn replay(target: &str, body: fn(&[u8])) {
    let seeds = folder("../../fuzz/seeds");
    let mut replayed = 0;
    if let Ok(lines) = fs::read_to_string(seeds.join(format!("{target}.hex"))) {
        for line in lines.lines() {
            body(&from_hex(line));
            replayed += 1;
        }
    }
    let mut state = 1;
    for seed in fs::read_dir(seeds.join(target)).into_iter().flatten() {
        let whole = fs::read(seed.unwrap().path()).unwrap();
        body(&whole);
        replayed += 1;
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
    assert!(replayed > 0, "nothing is kept for {target}");
}

fn from_hex(line: &str) -> Vec<u8> {
    (0..line.len() / 2).map(|at| u8::from_str_radix(&line[2 * at..2 * at + 2], 16).unwrap()).collect()
}

/// A test for each target.
macro_rules! replayed {
    ($($target:ident: $body:path),* $(,)?) => {
        $(
            #[test]
            fn $target() {
                replay(stringify!($target), $body);
            }
        )*
    };
}

replayed! {
    rdb_boundaries: bodies::rdb_boundaries,
    rdb_structure: bodies::rdb_structure,
    rdb_values: bodies::rdb_values,
    listpack: bodies::listpack,
    ziplist: bodies::ziplist,
    intset: bodies::intset,
    rdb_stream: bodies::rdb_stream,
    lzf: bodies::lzf,
    dump_payload: bodies::dump_payload,
    repl_stream: wire::repl_stream,
    replica: wire::replica,
    reply: wire::reply,
}

/// Cuts the small values of the fixtures out into `fuzz/corpus`, each where it is of use: `scripts/fuzz.sh` calls it
/// before it fuzzes.
#[test]
#[ignore = "writes seeds for the fuzzer"]
fn write_seeds() {
    const MOST_BYTES: usize = 1000;
    for file in fs::read_dir(folder("tests/data")).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "rdb") {
            continue;
        }
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let whole = fs::read(&path).unwrap();
        let mut reader = Reader::new(Slice::new(&whole));
        let mut last_end = 0;
        while let Some(item) = reader.next_item().unwrap() {
            let end = reader.offset() as usize;
            if let Item::Entry(entry) = item {
                let raw = reader.raw_value(usize::MAX).unwrap().unwrap().to_vec();
                let seed = format!("{name}-{}", entry.offset);
                if raw.len() <= MOST_BYTES {
                    write_value(&seed, &whole[..9], entry.kind, &whole[last_end..end], &raw);
                }
            } else if end <= MOST_BYTES {
                write_file(&format!("{name}-{end}"), &whole[..end]);
            }
            last_end = reader.offset() as usize;
        }
    }
}

/// The value, and what stands before it.
fn write_value(seed: &str, magic: &[u8], kind: Kind, before: &[u8], raw: &[u8]) {
    use Kind::*;
    write_file(seed, &[magic, before, raw].concat());
    write("dump_payload", seed, &[&[kind.type_byte()], raw].concat());
    let (target, choice) = match kind {
        HashListpack => ("listpack", 0),
        ZsetListpack => ("listpack", 1),
        SetListpack => ("listpack", 2),
        HashTtlListpack => ("listpack", 5),
        HashZiplist => ("ziplist", 0),
        ZsetZiplist => ("ziplist", 1),
        ListZiplist => ("ziplist", 2),
        SetIntset => ("intset", 0),
        HashZipmap => ("intset", 7),
        Stream1 => ("rdb_stream", 0),
        Stream2 => ("rdb_stream", 1),
        Stream3 => ("rdb_stream", 2),
        Stream4 => ("rdb_stream", 3),
        Stream5 => ("rdb_stream", 4),
        _ => return,
    };
    let (before, blob) = raw.split_at(if kind == HashTtlListpack { 8 } else { 0 });
    let blob = if target == "rdb_stream" { blob.to_vec() } else { decode_string(blob).unwrap().into_owned() };
    write(target, seed, &[&[choice], before, &blob].concat());
}

/// The beginning of a file, closed.
fn write_file(seed: &str, beginning: &[u8]) {
    let mut file = [beginning, &[0xff]].concat();
    let checksum = crc64::crc64(0, &file);
    file.extend(checksum.to_le_bytes());
    write("rdb_boundaries", seed, &file);
    write("rdb_structure", seed, &file);
    write("rdb_values", seed, &file);
}

fn write(target: &str, seed: &str, bytes: &[u8]) {
    let corpus = folder("../../fuzz/corpus").join(target);
    fs::create_dir_all(&corpus).unwrap();
    fs::write(corpus.join(seed), bytes).unwrap();
}

#[test]
fn every_target_is_replayed() {
    let targets = fs::read_to_string(folder("../../fuzz/Cargo.toml")).unwrap();
    let here = include_str!("fuzz_seeds.rs");
    for target in targets.lines().filter_map(|line| line.strip_prefix("name = ")?.trim_matches('"').into()) {
        let target: &str = target;
        assert!(target == "replsync-fuzz" || here.contains(&format!("    {target}: ")), "{target}");
    }
}

//! `debug-digest` of real servers' files, by the rules of each server that loaded them, against what that server's
//! `DEBUG DIGEST` printed then (`scripts/fixtures.py`).

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests are tests too

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use replsync::digest::At;
use replsync::digest::debug::{Error, Summary, of_rdb};
use replsync::rdb::{Buffered, Reader, Slice};
use replsync::server::{Product, Server};
use serde_json::Value;

fn data() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}

fn of(file: &str, like: Option<Server>) -> Result<Summary, Error> {
    of_rdb(Reader::new(Slice::new(&fs::read(data().join(file)).unwrap())), like)
}

fn hex(summary: &Summary) -> String {
    summary.digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// File, name of the server, what it printed.
fn printed() -> Vec<(String, String, String)> {
    let lines = fs::read_to_string(data().join("debug_digests.jsonl")).unwrap();
    let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    lines.map(|line| (text(&line["file"]), text(&line["like"]), text(&line["digest"]))).collect()
}

#[test]
fn digests_are_those_that_servers_print() {
    let (mut by_writer, mut servers) = (0, BTreeSet::new());
    for (file, like, digest) in printed().iter().filter(|(file, ..)| !file.starts_with("vectors_")) {
        let found = of(file, Some(like.parse().unwrap())).unwrap();
        assert_eq!(hex(&found), *digest, "{file} as {like} has it");
        if file.contains(&format!("_{like}_")) {
            let found = of(file, None).unwrap();
            assert_eq!(hex(&found), *digest, "{file} by its own writer");
            let own: Server = like.parse().unwrap();
            let (major, minor, _) = found.like.version;
            let named = (found.like.product, major, if like == "valkey-9" { 0 } else { minor });
            assert_eq!(named, (own.product, own.version.0, own.version.1), "{file}");
            by_writer += 1;
        }
        servers.insert(like.clone());
    }
    assert!(servers.len() == 11 && by_writer >= 26, "{by_writer} of {servers:?}");
}

/// The same files have different digests in different versions, and not in every two.
#[test]
fn versions_matter_where_scores_or_expiries_of_fields_do() {
    let digests =
        |file: &str, like: [&str; 4]| like.map(|like| hex(&of(file, Some(like.parse().unwrap())).unwrap()));
    let likes = ["redis-7.0", "redis-7.2", "redis-7.4", "valkey-9"];
    let [printf, shortest, fields, valkey] = digests("all_valkey-9_v80.rdb", likes);
    assert_eq!(BTreeSet::from([&printf, &shortest, &fields]).len(), 3);
    assert_eq!(valkey, shortest);
    let [printf, shortest, fields, _] = digests("cluster_redis-7.4_v12.rdb", likes);
    assert!(printf == shortest && shortest == fields, "strings alone");
}

/// A vector set is hashed by its module.
#[test]
fn vector_sets_are_refused_by_name() {
    let mut refused = 0;
    for (file, like, _) in printed().iter().filter(|(file, ..)| file.starts_with("vectors_")) {
        let error = of(file, Some(like.parse().unwrap())).unwrap_err();
        let Error::Unknown { at: At(Some((0, key))), what, .. } = &error else { panic!("{error}") };
        assert!(key.starts_with(b"vectors") && what.contains("vectorset"), "{error}");
        refused += 1;
    }
    assert!(refused >= 2);
}

/// Any split of the input gives the same, and no cut of it a digest.
#[test]
fn a_stream_in_small_pieces_is_the_same_and_a_cut_file_has_none() {
    for file in ["odd_redis-8.6_v13.rdb", "all_redis-6.0_v9.rdb"] {
        let bytes = fs::read(data().join(file)).unwrap();
        let whole = of(file, None).unwrap();
        let pieces = bytes.chunks(7).fold(Pieces::default(), Pieces::and);
        assert_eq!(of_rdb(Reader::new(Buffered::new(pieces)), None).unwrap(), whole);
        for cut in (0..bytes.len()).step_by(97) {
            let found = of_rdb(Reader::new(Slice::new(&bytes[..cut])), None);
            assert!(matches!(found, Err(Error::Read(_))), "{file} cut at {cut}: {found:?}");
        }
    }
    assert_eq!(of("odd_valkey-9_v80.rdb", None).unwrap().like.product, Product::Valkey);
}

/// A reader that gives a few bytes at a time.
#[derive(Default)]
struct Pieces<'a>(std::collections::VecDeque<&'a [u8]>);

impl<'a> Pieces<'a> {
    fn and(mut self, piece: &'a [u8]) -> Self {
        self.0.push_back(piece);
        self
    }
}

impl std::io::Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let Some(piece) = self.0.pop_front() else { return Ok(0) };
        let len = piece.len().min(buffer.len());
        buffer[..len].copy_from_slice(&piece[..len]);
        if len < piece.len() {
            self.0.push_front(&piece[len..]);
        }
        Ok(len)
    }
}

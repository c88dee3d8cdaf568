use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::rdb::{Entry, Item, Reader, Slice};

/// A payload of Redis 7.4, by its type byte and value.
fn payload(type_byte: u8, value: &[u8]) -> Vec<u8> {
    payload_of(12, type_byte, value)
}

fn payload_of(rdb_version: u16, type_byte: u8, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    dump::write(&mut out, type_byte, value, rdb_version);
    out
}

/// A string of an RDB, or a listpack as one.
fn string(text: &[u8]) -> Vec<u8> {
    let mut out = vec![0x80];
    out.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
    out.extend(text);
    out
}

/// Strings behind their count (`per_element` strings are one element).
fn table(strings: &[&[u8]], per_element: usize) -> Vec<u8> {
    let mut out = vec![u8::try_from(strings.len() / per_element).unwrap()];
    strings.iter().for_each(|text| out.extend(string(text)));
    out
}

/// A listpack of texts of at most 63 bytes (`lpEncodeGetType` in `src/listpack.c`).
fn listpack(texts: &[&[u8]]) -> Vec<u8> {
    let mut body = Vec::new();
    for text in texts {
        body.push(0x80 | u8::try_from(text.len()).unwrap());
        body.extend(*text);
        body.push(u8::try_from(text.len() + 1).unwrap());
    }
    let mut out = u32::try_from(body.len() + 7).unwrap().to_le_bytes().to_vec();
    out.extend(u16::try_from(texts.len()).unwrap().to_le_bytes());
    out.extend(body);
    out.push(0xff);
    string(&out)
}

fn what(a: &[u8], b: &[u8]) -> Option<(Kind, String)> {
    unlike(a, b, true, 0).unwrap().map(|unlike| (unlike.kind, unlike.what))
}

fn value(text: &str) -> Option<(Kind, String)> {
    Some((Kind::Value, text.to_owned()))
}

#[test]
fn strings_are_compared_by_their_bytes() {
    let (number, text) = (payload(0, b"\xc0\x0a"), payload(0, &string(b"10")));
    assert_eq!(what(&number, &text), None);
    // "aaaaaaaaaaaaaaaaaaaa", compressed
    let lzf = payload(0, b"\xc3\x06\x14\x01aa\xe0\x09\x00");
    assert_eq!(what(&lzf, &payload(0, &string(&[b'a'; 20]))), None);
    assert_eq!(what(&number, &payload(0, &string(b"11"))), value(r#""10" and "11""#));
}

#[test]
fn what_is_of_another_type_is_said_so() {
    let found = what(&payload(0, &string(b"a")), &payload(1, &table(&[b"a"], 1)));
    assert_eq!(found, Some((Kind::Type, "string and list".to_owned())));
    assert_eq!(type_name(&payload(1, &table(&[b"a"], 1))), "list");
}

#[test]
fn the_order_counts_in_lists_alone() {
    let of = |type_byte, strings: &[&[u8]]| payload(type_byte, &table(strings, 1));
    assert_eq!(what(&of(1, &[b"a", b"b"]), &of(1, &[b"b", b"a"])), value(r#"item 0: "a" and "b""#));
    assert_eq!(what(&of(1, &[b"a", b"b"]), &of(1, &[b"a"])), value("item 1 is missing in the target"));
    assert_eq!(what(&of(2, &[b"a", b"b"]), &of(2, &[b"b", b"a"])), None);
    assert_eq!(
        what(&of(2, &[b"b", b"a"]), &of(2, &[b"c", b"a"])),
        value(r#"member "b" is missing in the target"#)
    );
    assert_eq!(
        what(&of(2, &[b"b"]), &payload(20, &listpack(&[b"a", b"b"]))),
        value(r#"member "a" is missing in the source"#)
    );
}

#[test]
fn scores_are_numbers() {
    let of = |score: f64| payload(5, &[&[1][..], &string(b"m"), &score.to_le_bytes()].concat());
    assert_eq!(what(&of(0.0), &of(-0.0)), None);
    assert_eq!(what(&of(0.1), &payload(17, &listpack(&[b"m", b"0.10000000000000001"]))), None);
    assert_eq!(what(&of(0.1), &of(f64::NEG_INFINITY)), value(r#"member "m": 0.1 and -inf"#));
    assert_eq!(what(&of(0.1), &of(0.1f64.next_up())), value(r#"member "m": 0.1 and 0.10000000000000002"#));
}

#[test]
fn field_expiries_count_as_they_were_meant() {
    let at = |expiry: i64| {
        let head = [&expiry.to_le_bytes()[..], &[1, 1]].concat();
        payload(24, &[head, string(b"f"), string(b"v")].concat())
    };
    let valkey = |expiry: i64| {
        payload_of(80, 22, &[&[1][..], &string(b"f"), &string(b"v"), &expiry.to_le_bytes()].concat())
    };
    let shifted = 5_000 + (1 << 45);
    for target in [at(5_000), at(shifted), valkey(5_000), valkey(shifted)] {
        assert_eq!(what(&at(5_000), &target), None);
    }
    assert_eq!(what(&at(5_000), &valkey(5_001)), value(r#"field "f": expires at 5000 and at 5001"#));
    assert_eq!(what(&valkey(-1), &at(5_001)), value(r#"field "f": expires never and at 5001"#));
    let left = unlike(&at(5_000), &at(shifted), false, 0).unwrap().unwrap();
    assert_eq!(left.what, format!(r#"field "f": expires at 5000 and at {shifted}"#));
    // the source's are never taken for shifted
    assert!(what(&at(shifted), &at(5_000)).is_some());
    let other = payload(4, &table(&[b"f", b"other"], 2));
    assert_eq!(what(&at(5_000), &other), value(r#"field "f": "v" and "other"; expires at 5000 and never"#));
}

/// A stream of one listpack node, of 5.0 or of 7.2.
fn stream(version: u8, entry: &[u8], last: u8, group_last: u8, consumer: &[u8], counted: u8) -> Vec<u8> {
    let key = [0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0];
    // one entry, none deleted, one field "f"; then flags (the fields are the master's), id, value, length
    let mut node: Vec<u8> = vec![1, 1, 0, 1, 1, 1, 0x81, b'f', 2, 0, 1, 2, 1, 0, 1, 0, 1];
    node.extend([&[0x80 | entry.len() as u8][..], entry, &[entry.len() as u8 + 1, 4, 1, 0xff]].concat());
    let header = [&u32::try_from(node.len() + 6).unwrap().to_le_bytes()[..], &10u16.to_le_bytes()].concat();
    let mut out = [&[1][..], &string(&key), &string(&[header, node].concat()), &[1, last, 0]].concat();
    if version >= 2 {
        out.extend([5, 0, counted, 0, counted]);
    }
    out.extend([&[1][..], &string(b"g"), &[group_last, 0]].concat());
    if version >= 2 {
        out.push(counted);
    }
    out.extend([&[1][..], &key, &[counted; 8], &[counted, 2]].concat());
    for (name, pending) in [(&b"idle"[..], 0), (consumer, 1)] {
        out.extend([&string(name)[..], &[counted; 8]].concat());
        if version >= 3 {
            out.extend([counted; 8]);
        }
        out.push(pending);
        if pending == 1 {
            out.extend(key);
        }
    }
    payload(if version >= 3 { 21 } else { 15 }, &out)
}

#[test]
fn streams_are_compared_by_what_every_version_keeps() {
    let same = stream(3, b"v", 9, 5, b"c", 1);
    assert_eq!(what(&same, &stream(3, b"v", 9, 5, b"c", 2)), None, "counts and times do not count");
    assert_eq!(what(&stream(1, b"v", 9, 5, b"c", 1), &same), None, "nor does the version");
    for (other, text) in [
        (stream(1, b"w", 9, 5, b"c", 1), r#"entry 5-0: "v" and "w""#),
        (stream(3, b"v", 8, 5, b"c", 1), "last id: 9-0 and 8-0"),
        (stream(3, b"v", 9, 6, b"c", 1), r#"group "g": 5-0 and 6-0"#),
        (stream(3, b"v", 9, 5, b"d", 1), r#"pending entry 5-0 of group "g": "c" and "d""#),
    ] {
        assert_eq!(what(&same, &other), value(text));
    }
}

#[test]
fn the_bytes_of_modules_count() {
    // a type's name and version, then a number, then the end
    let of = |number| payload(7, &[&[0x81][..], &[7; 8], &[2, number, 0]].concat());
    assert_eq!(what(&of(1), &of(1)), None);
    assert!(what(&of(1), &of(2)).is_some());
}

#[test]
fn what_cannot_be_read_says_whose_it_is() {
    let good = payload(0, &string(b"a"));
    let newer = payload_of(15, 0, &string(b"b"));
    assert!(matches!(
        unlike(&good, &newer, false, 0),
        Err((Side::Target, rdb::Error::UnsupportedVersion { version: 15, .. }))
    ));
    assert!(matches!(unlike(b"short", &good, false, 0), Err((Side::Source, rdb::Error::Truncated { .. }))));
    assert!(unlike(&payload(2, b"\x05"), &payload(2, &table(&[b"a"], 1)), false, 0).is_err());
    assert!(unlike(b"", b"", false, 0).is_err());
    // the same byte, of both families
    let hash = [&[1][..], &string(b"f"), &string(b"v"), &[0xff; 8]].concat();
    assert!(unlike(&payload(22, &hash), &payload_of(80, 22, &hash), false, 0).is_err());
}

type Hash = BTreeMap<Vec<u8>, (Vec<u8>, Option<u64>)>;

fn hash() -> impl Strategy<Value = Hash> {
    let text = || prop::collection::vec(any::<u8>(), 0..5);
    prop::collection::btree_map(text(), (text(), prop::option::of(2u64..1 << 40)), 1..9)
}

/// The hash in an order that `turn` decides, as Redis 7.4 writes a table and as Valkey 9 does, shifted.
fn encodings(hash: &Hash, turn: usize, shift: u64) -> [Vec<u8>; 2] {
    let mut fields: Vec<_> = hash.iter().collect();
    fields.rotate_left(turn % hash.len());
    let count = u8::try_from(fields.len()).unwrap();
    let least = fields.iter().filter_map(|(_, (_, at))| *at).min().unwrap_or(0);
    let mut redis = [&(least + shift).to_le_bytes()[..], &[count]].concat();
    let mut valkey = vec![count];
    for (field, (text, at)) in fields {
        redis.push(0x81);
        redis.extend(at.map_or(0, |at| at - least + 1).to_be_bytes());
        redis.extend([string(field), string(text)].concat());
        valkey.extend([string(field), string(text)].concat());
        valkey.extend(at.map_or(u64::MAX, |at| at + shift).to_le_bytes());
    }
    [payload(24, &redis), payload_of(80, 22, &valkey)]
}

proptest! {
    #[test]
    fn equal_hashes_are_equal_in_any_order_and_encoding(hash in hash(), turn in 0usize..9) {
        for source in encodings(&hash, 0, 0) {
            for target in encodings(&hash, turn, 1 << 45) {
                prop_assert_eq!(what(&source, &target), None);
            }
        }
    }

    #[test]
    fn a_changed_field_is_found_and_named(hash in hash(), other in hash(), pick in 0usize..9, how in 0..4) {
        let field = hash.keys().nth(pick % hash.len()).unwrap().clone();
        let mut changed = hash.clone();
        match how {
            0 => drop(changed.remove(&field)),
            1 => changed.get_mut(&field).unwrap().0.push(0),
            2 => changed.get_mut(&field).unwrap().1 = Some(hash[&field].1.map_or(7, |at| at + 1)),
            _ => changed = other,
        }
        prop_assume!(!changed.is_empty());
        let first = hash.keys().chain(changed.keys()).filter(|key| hash.get(*key) != changed.get(*key)).min();
        for source in encodings(&hash, 0, 0) {
            for target in encodings(&changed, pick, 0) {
                let found = what(&source, &target);
                prop_assert_eq!(found.is_some(), first.is_some());
                if let (Some((_, found)), Some(first)) = (found, first) {
                    prop_assert!(found.starts_with(&format!("field \"{}\"", first.escape_ascii())), "{}", found);
                }
            }
        }
    }

    #[test]
    fn never_panics(a in prop::collection::vec(any::<u8>(), 0..40), kind in 0u8..30, b in 0u8..30) {
        for version in [12, 80] {
            let _ = unlike(&payload_of(version, kind, &a), &payload_of(version, b, &a), true, 0);
            let _ = unlike(&payload_of(version, kind, &a), &payload_of(14, kind, &a[a.len() / 2..]), true, 0);
        }
    }
}

/// A key, its value as a payload, and as its server printed it.
type Printed = (String, Vec<u8>, Value);

/// The RDB files in `tests/data`.
fn fixtures() -> Vec<(String, Vec<Printed>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let mut all = Vec::new();
    for file in fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if path.extension().is_some_and(|extension| extension == "rdb") && name.starts_with("all_") {
            let lines = fs::read_to_string(path.with_extension("jsonl")).unwrap();
            let golden = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
            let golden = golden.map(|line| ((line["db"].as_u64(), line["key"].to_string()), line)).collect();
            all.push((name, values(&fs::read(&path).unwrap(), &golden)));
        }
    }
    assert!(all.len() >= 9, "fixtures are missing");
    all
}

fn values(file: &[u8], golden: &BTreeMap<(Option<u64>, String), Value>) -> Vec<Printed> {
    let mut reader = Reader::new(Slice::new(file));
    let (mut values, mut version) = (Vec::new(), 0);
    while let Some(item) = reader.next_item().unwrap() {
        match item {
            Item::Header { version: of, .. } => version = of,
            Item::Entry(Entry { db, type_byte, .. }) => {
                // as the golden files have them: a character for each byte
                let key: String = reader.key().iter().copied().map(char::from).collect();
                let raw = reader.raw_value(1 << 30).unwrap().unwrap().to_vec();
                let line = &golden[&(Some(u64::from(db)), Value::from(key.clone()).to_string())];
                // of streams the versions say different things
                if line["type"] != "stream" {
                    let said = alike(&line["type"], line["value"].clone());
                    values.push((format!("{db} {key}"), payload_of(version, type_byte, &raw), said));
                }
            }
            _ => {}
        }
    }
    values
}

/// Values of all types and encodings of nine servers, each with its like on every server and with all of one other:
/// equal exactly where the servers answered to ordinary commands with equal values.
#[test]
fn servers_agree_on_what_is_equal() {
    let (mut kinds, mut unequal) = (BTreeSet::new(), 0);
    let all = fixtures();
    for (number_a, (file_a, values_a)) in all.iter().enumerate() {
        for (number_b, (file_b, values_b)) in all.iter().enumerate() {
            let every = number_b == (number_a + 1) % all.len();
            for (key_a, a, said_a) in values_a {
                for (key_b, b, said_b) in values_b.iter().filter(|(key_b, ..)| every || key_a == key_b) {
                    let found = unlike(a, b, false, 0).unwrap();
                    let same = said_a == said_b;
                    assert_eq!(found.is_none(), same, "{key_a} of {file_a}, {key_b} of {file_b}: {found:?}");
                    if same && a[0] != b[0] {
                        kinds.insert((a[0], b[0]));
                    }
                    unequal += u32::from(!same);
                }
            }
        }
    }
    println!("{unequal} unequal; equal in different kinds: {kinds:?}");
    assert!(kinds.len() > 10 && unequal > 10_000);
}

/// A golden value in a form of its own: sets and hashes sorted, scores as numbers.
fn alike(kind: &Value, mut value: Value) -> Value {
    if let Some(items) = value.as_array_mut().filter(|_| kind != "list") {
        if kind == "zset" {
            for pair in items.iter_mut() {
                let score: f64 = pair[1].as_str().unwrap().parse().unwrap();
                pair[1] = (score + 0.0).to_bits().into();
            }
        }
        items.sort_by_key(Value::to_string);
    }
    serde_json::json!([kind, value])
}

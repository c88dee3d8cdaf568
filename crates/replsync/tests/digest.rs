//! `replsync-1`, written again from docs/formats/digest.md and held against the library: on the vectors of that page, and
//! on what real servers say of the fixtures by ordinary commands.
//!
//! The second implementation shares nothing with the first but XXH3: it takes values as JSON, not as elements.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use replsync::digest::{self, KeyHasher, Keyspace};
use replsync::rdb::{DataType, Element, ModuleId, ModulePart, Reader, Slice, StreamId};
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_128;

/// The specification, line by line.
mod specified {
    use super::*;

    /// `H(tag, …)`: a tag, then what is given, all as words.
    pub struct Words(Vec<u8>);

    impl Words {
        pub fn of(tag: u64) -> Self {
            Self(Vec::new()).number(tag)
        }

        pub fn number(mut self, number: u64) -> Self {
            self.0.extend(number.to_le_bytes());
            self
        }

        pub fn hash(mut self, hash: u128) -> Self {
            self.0.extend(hash.to_le_bytes());
            self
        }

        pub fn text(self, text: &[u8]) -> Self {
            self.hash(xxh3_128(text))
        }

        pub fn done(self) -> u128 {
            xxh3_128(&self.0)
        }
    }

    pub fn sum(hashes: impl IntoIterator<Item = u128>) -> u128 {
        hashes.into_iter().fold(0, u128::wrapping_add)
    }

    /// Data and expiries of a key, and how many expiries its fields have.
    pub fn key(line: &Value) -> (u128, u128, u64) {
        let name = unlatin(line["key"].as_str().unwrap());
        let value = &line["value"];
        let mut expiries = Vec::new();
        if let Some(at) = line["expiry_ms"].as_i64() {
            expiries.push(Words::of(32).text(&name).number(at.cast_unsigned()).done());
        }
        let key_expiries = expiries.len();
        let items = || value.as_array().unwrap().iter();
        let text = |value: &Value| unlatin(value.as_str().unwrap());
        let (tag, elements): (u64, Vec<u128>) = match line["type"].as_str().unwrap() {
            "string" => (64, vec![Words::of(1).text(&text(value)).done()]),
            "list" => (
                65,
                (0..)
                    .zip(items())
                    .map(|(at, item)| Words::of(2).text(&text(item)).number(at).done())
                    .collect(),
            ),
            "set" => (66, items().map(|member| Words::of(3).text(&text(member)).done()).collect()),
            "zset" => {
                let member = |pair: &Value| {
                    let score: f64 = pair[1].as_str().unwrap().parse().unwrap();
                    let bits = if score == 0.0 { 0 } else { score.to_bits() };
                    Words::of(4).text(&text(&pair[0])).number(bits).done()
                };
                (67, items().map(member).collect())
            }
            "hash" => {
                for field in items().filter(|field| !field[2].is_null()) {
                    let at = field[2].as_u64().unwrap();
                    expiries.push(Words::of(33).text(&name).text(&text(&field[0])).number(at).done());
                }
                let field = |field: &Value| Words::of(5).text(&text(&field[0])).text(&text(&field[1])).done();
                (68, items().map(field).collect())
            }
            "stream" => (69, stream(value)),
            "module" => (70, module(value)),
            other => panic!("{other}"),
        };
        let field_expires = (expiries.len() - key_expiries) as u64;
        let data = Words::of(tag).text(&name).hash(sum(elements.clone())).number(elements.len() as u64);
        (data.done(), sum(expiries), field_expires)
    }

    fn module(value: &Value) -> Vec<u128> {
        let mut elements = vec![Words::of(15).number(value["id"].as_u64().unwrap()).done()];
        for (index, part) in (1..).zip(value["parts"].as_array().unwrap()) {
            let (value, number) = (&part[1], || part[1].as_f64().unwrap());
            elements.push(
                match part[0].as_str().unwrap() {
                    "signed" => Words::of(16).number(index).number(value.as_i64().unwrap().cast_unsigned()),
                    "unsigned" => Words::of(17).number(index).number(value.as_u64().unwrap()),
                    "float" => Words::of(18).number(index).number((number() as f32).to_bits().into()),
                    "double" => Words::of(19).number(index).number(number().to_bits()),
                    _ => Words::of(20).text(&unlatin(value.as_str().unwrap())).number(index),
                }
                .done(),
            );
        }
        elements
    }

    fn stream(value: &Value) -> Vec<u128> {
        let text = |value: &Value| unlatin(value.as_str().unwrap());
        let id = |value: &Value| {
            let (ms, seq) = value.as_str().unwrap().split_once('-').unwrap();
            (ms.parse::<u64>().unwrap(), seq.parse::<u64>().unwrap())
        };
        let mut elements = Vec::new();
        for entry in value["entries"].as_array().unwrap() {
            let texts: Vec<Vec<u8>> = entry[1].as_array().unwrap().iter().map(text).collect();
            let fields = (0..).zip(texts.chunks(2));
            let fields =
                fields.map(|(at, pair)| Words::of(6).text(&pair[0]).text(&pair[1]).number(at).done());
            let (ms, seq) = id(&entry[0]);
            elements.push(Words::of(7).hash(sum(fields)).number(ms).number(seq).done());
        }
        let (ms, seq) = id(&value["last_id"]);
        elements.push(Words::of(8).number(ms).number(seq).done());
        for group in value["groups"].as_array().unwrap() {
            let name = text(&group["name"]);
            let (ms, seq) = id(&group["last_id"]);
            elements.push(Words::of(9).text(&name).number(ms).number(seq).done());
            for pending in group["pending"].as_array().unwrap() {
                let (ms, seq) = id(&pending[0]);
                elements
                    .push(Words::of(10).text(&name).text(&text(&pending[1])).number(ms).number(seq).done());
            }
        }
        elements
    }

    pub fn function(code: &[u8]) -> u128 {
        Words::of(34).text(code).done()
    }

    /// A database: keys, keys that expire, fields that expire, sums of data and of expiries.
    #[derive(Default)]
    pub struct Database(u64, u64, u64, u128, u128);

    /// Data and expiries of all lines together.
    pub fn keyspace(lines: &[Value]) -> (u128, u128) {
        let mut databases = BTreeMap::<u64, Database>::new();
        let (mut functions, mut functions_sum) = (0, 0u128);
        for line in lines {
            if let Some(code) = line["function"].as_str() {
                functions += 1;
                functions_sum = functions_sum.wrapping_add(function(&unlatin(code)));
                continue;
            }
            let (data, expiries, field_expires) = key(line);
            let database = databases.entry(line["db"].as_u64().unwrap()).or_default();
            database.0 += 1;
            database.1 += u64::from(!line["expiry_ms"].is_null());
            database.2 += field_expires;
            database.3 = database.3.wrapping_add(data);
            database.4 = database.4.wrapping_add(expiries);
        }
        let mut data = Words::of(48).number(functions).hash(functions_sum);
        let mut expiries = Words::of(49);
        for (db, Database(keys, expires, field_expires, data_sum, expiries_sum)) in databases {
            data = data.number(db).number(keys).hash(data_sum);
            if expires + field_expires > 0 {
                expiries = expiries.number(db).number(expires).number(field_expires).hash(expiries_sum);
            }
        }
        (data.done(), expiries.done())
    }
}

/// Bytes as the golden files have them: a character each.
fn unlatin(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect()
}

fn hex(number: u128) -> String {
    format!("{number:032x}")
}

/// What servers said by commands has the digest that their file has.
#[test]
fn golden_values_and_files_have_one_digest() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let mut files = 0;
    for file in fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if path.extension().is_none_or(|extension| extension != "rdb") || !name.starts_with("all_") {
            continue;
        }
        let mut keyspace = Keyspace::new(0);
        let bytes = fs::read(&path).unwrap();
        digest::read(Reader::new(Slice::new(&bytes)), &mut keyspace).unwrap();
        let (data, expiries) = specified::keyspace(&lines(&path.with_extension("jsonl")));
        assert_eq!((keyspace.data().0, keyspace.expiries().0), (data, expiries), "{name}");
        files += 1;
    }
    assert!(files >= 9);
}

fn lines(path: &Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The vectors of the page: what it says, what the specification gives, and what the library gives.
#[test]
fn the_vectors_of_the_page_hold() {
    let page = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/formats/digest.md");
    let page = fs::read_to_string(page).unwrap();
    let vectors = page.split("```json").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let vectors: Vec<Value> =
        vectors.trim().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut keyspace = Keyspace::new(0);
    let (mut keys, mut databases) = (Vec::new(), 0);
    for line in vectors {
        let said = (line["data"].as_str().unwrap(), line["expiries"].as_str());
        if let Some(code) = line["function"].as_str() {
            assert_eq!(said.0, hex(specified::function(&unlatin(code))), "{line}");
            assert_eq!(said.0, digest::replsync_1::function(code.as_bytes()).to_string(), "{line}");
            keyspace.add_function(code.as_bytes());
            keys.push(line);
        } else if line["key"].is_string() {
            let (data, expiries, _) = specified::key(&line);
            let name = unlatin(line["key"].as_str().unwrap());
            let key = ours(&name, &line);
            assert_eq!(said, (&hex(data)[..], Some(&hex(expiries)[..])), "by the specification: {line}");
            assert_eq!((key.data.0, key.expiries.0), (data, expiries), "by the library: {line}");
            keyspace.add(u32::try_from(line["db"].as_u64().unwrap()).unwrap(), &name, &key);
            keys.push(line);
        } else if let Some(db) = line["db"].as_u64() {
            let (_, tally) = keyspace.databases().find(|(number, _)| u64::from(*number) == db).unwrap();
            let expected = (&tally.data.to_string()[..], Some(&tally.expiries.to_string()[..]));
            assert_eq!(said, expected, "{line}");
            databases += 1;
        } else {
            let (data, expiries) = specified::keyspace(&keys);
            assert_eq!(said, (&hex(data)[..], Some(&hex(expiries)[..])), "by the specification: {line}");
            let ours = (keyspace.data().0, keyspace.expiries().0);
            assert_eq!(ours, (data, expiries), "by the library: {line}");
            databases += 10;
        }
    }
    assert_eq!((keys.len(), databases), (14, 12), "vectors are missing");
    assert_eq!(hex(xxh3_128(b"")), "99aa06d3014798d86001c324468d497f");
}

/// The library's digest of a key in JSON.
fn ours(name: &[u8], line: &Value) -> digest::KeyDigest {
    let mut hasher = KeyHasher::new();
    hasher.start(name, line["expiry_ms"].as_i64());
    let text = |value: &Value| unlatin(value.as_str().unwrap());
    let value = &line["value"];
    let items = || value.as_array().unwrap().iter();
    let id = |value: &Value| {
        let (ms, seq) = value.as_str().unwrap().split_once('-').unwrap();
        StreamId { ms: ms.parse().unwrap(), seq: seq.parse().unwrap() }
    };
    let data_type = match line["type"].as_str().unwrap() {
        "string" => {
            hasher.element(&Element::StringPart(&text(value)));
            DataType::String
        }
        "list" => {
            items().for_each(|item| hasher.element(&Element::ListItem(&text(item))));
            DataType::List
        }
        "set" => {
            items().for_each(|member| hasher.element(&Element::SetMember(&text(member))));
            DataType::Set
        }
        "zset" => {
            for pair in items() {
                let score = pair[1].as_str().unwrap().parse().unwrap();
                hasher.element(&Element::ZsetMember { member: &text(&pair[0]), score });
            }
            DataType::Zset
        }
        "hash" => {
            for field in items() {
                let expiry_ms = field[2].as_u64();
                hasher.element(&Element::HashField {
                    field: &text(&field[0]),
                    value: &text(&field[1]),
                    expiry_ms,
                });
            }
            DataType::Hash
        }
        "module" => {
            hasher.element(&Element::ModuleValue { id: ModuleId(value["id"].as_u64().unwrap()) });
            for part in value["parts"].as_array().unwrap() {
                let (value, text) = (&part[1], || text(&part[1]));
                let text = if value.is_string() { text() } else { Vec::new() };
                hasher.element(&Element::ModulePart(match part[0].as_str().unwrap() {
                    "signed" => ModulePart::Signed(value.as_i64().unwrap()),
                    "unsigned" => ModulePart::Unsigned(value.as_u64().unwrap()),
                    "float" => ModulePart::Float(value.as_f64().unwrap() as f32),
                    "double" => ModulePart::Double(value.as_f64().unwrap()),
                    _ => ModulePart::String(&text),
                }));
            }
            DataType::Module
        }
        _ => {
            for entry in value["entries"].as_array().unwrap() {
                let texts: Vec<Vec<u8>> = entry[1].as_array().unwrap().iter().map(text).collect();
                let fields: Vec<(&[u8], &[u8])> =
                    texts.chunks(2).map(|pair| (&pair[0][..], &pair[1][..])).collect();
                hasher.element(&Element::StreamEntry { id: id(&entry[0]), fields: &fields });
            }
            let (length, last_id) = (0, id(&value["last_id"]));
            let (first_id, max_deleted_id, entries_added) = (None, None, Some(99));
            hasher.element(&Element::StreamMeta { length, last_id, first_id, max_deleted_id, entries_added });
            for group in value["groups"].as_array().unwrap() {
                let name = text(&group["name"]);
                let last_id = id(&group["last_id"]);
                hasher.element(&Element::StreamGroup { name: &name, last_id, entries_read: Some(3) });
                for pending in group["pending"].as_array().unwrap() {
                    hasher.element(&Element::StreamPending {
                        group: &name,
                        consumer: &text(&pending[1]),
                        id: id(&pending[0]),
                        delivery_time_ms: 1,
                        delivery_count: 2,
                    });
                }
            }
            DataType::Stream
        }
    };
    hasher.finish(data_type)
}

//! RDB files of real servers, decoded, against what the same servers answered to ordinary commands.
//!
//! `scripts/fixtures.py` makes both; the golden files are the servers' own word.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests are tests too

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::PathBuf;

use replsync::rdb::{
    Buffered, Checked, Checker, Checksum, Element, Entry, Error, Idmp, Input, Item, Kind, Limits, Magic,
    Reader, Slice, decode, decode_string, dump, readable, restore_version,
};
use replsync::server::Server;
use serde_json::{Value, json};

fn data() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}

/// The RDB files with their golden lines.
fn fixtures() -> Vec<(String, Vec<u8>, Vec<Value>)> {
    let mut all = Vec::new();
    for file in fs::read_dir(data()).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "rdb") {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            all.push((name, fs::read(&path).unwrap(), lines(path.with_extension("jsonl"))));
        }
    }
    assert!(all.len() >= 9, "fixtures are missing");
    all
}

fn lines(path: PathBuf) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Bytes as the golden files have them: a character each.
fn latin(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

fn unlatin(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect()
}

/// Collects elements into the shape of a golden line's value.
#[derive(Default)]
struct Collector {
    string: Vec<u8>,
    list: Vec<Value>,
    zset: BTreeMap<String, f64>,
    stream: BTreeMap<&'static str, Value>,
    groups: Vec<Value>,
    entries: Vec<Value>,
    producers: BTreeSet<Vec<u8>>,
}

impl Collector {
    fn add(&mut self, element: Element<'_>) -> Result<(), Error> {
        match element {
            Element::StringPart(part) => self.string.extend_from_slice(part),
            Element::ListItem(item) | Element::SetMember(item) => self.list.push(latin(item).into()),
            Element::ZsetMember { member, score } => {
                self.zset.insert(latin(member), score);
            }
            Element::HashField { field, value, expiry_ms } => {
                self.list.push(json!([latin(field), latin(value), expiry_ms]));
            }
            Element::StreamEntry { id, fields } => {
                let flat: Vec<String> = fields.iter().flat_map(|&(f, v)| [latin(f), latin(v)]).collect();
                self.entries.push(json!([id.to_string(), flat]));
            }
            Element::StreamMeta { length, last_id, first_id, max_deleted_id, entries_added } => {
                self.stream.insert("length", length.into());
                self.stream.insert("last_id", last_id.to_string().into());
                if let (Some(first), Some(deleted), Some(added)) = (first_id, max_deleted_id, entries_added) {
                    self.stream.insert("first_id", first.to_string().into());
                    self.stream.insert("max_deleted_id", deleted.to_string().into());
                    self.stream.insert("entries_added", added.into());
                }
            }
            Element::StreamGroup { name, last_id, entries_read } => {
                self.groups.push(json!({
                    "name": latin(name), "last_id": last_id.to_string(), "entries_read": entries_read,
                    "pending": [], "consumers": [],
                }));
            }
            Element::StreamConsumer { group, name, seen_time_ms, active_time_ms } => {
                let last = self.groups.last_mut().unwrap();
                assert_eq!(last["name"], latin(group));
                last["consumers"].as_array_mut().unwrap().push(json!({
                    "name": latin(name), "seen_time_ms": seen_time_ms, "active_time_ms": active_time_ms,
                }));
            }
            Element::StreamPending { group, consumer, id, delivery_time_ms, delivery_count } => {
                let last = self.groups.last_mut().unwrap();
                assert_eq!(last["name"], latin(group));
                let pending = json!([id.to_string(), latin(consumer), delivery_time_ms, delivery_count]);
                last["pending"].as_array_mut().unwrap().push(pending);
            }
            Element::StreamIdmp(Idmp::Config { duration_seconds, max_entries, producers }) => {
                self.stream.insert("duration", duration_seconds.into());
                self.stream.insert("max_entries", max_entries.into());
                self.stream.insert("producers", producers.into());
            }
            Element::StreamIdmp(Idmp::Entry { producer, id, .. }) => {
                self.producers.insert(producer.to_vec());
                assert!(self.entries.iter().any(|entry| entry[0] == id.to_string()));
            }
            Element::StreamIdmp(Idmp::Counters { added, duplicates }) => {
                self.stream.insert("added", added.into());
                self.stream.insert("duplicates", duplicates.into());
            }
            other => panic!("not in the fixtures: {other:?}"),
        }
        Ok(())
    }

    /// Whether the collected value is `golden`, which may say less of streams.
    fn check(mut self, data_type: &str, golden: &Value, what: &str) {
        let sorted = |mut list: Vec<Value>| {
            list.sort_by_key(|value| serde_json::to_string(value).unwrap());
            Value::from(list)
        };
        match data_type {
            "string" => assert_eq!(golden, &latin(&self.string), "{what}"),
            "list" => assert_eq!(golden, &Value::from(self.list), "{what}"),
            "set" | "hash" => {
                assert_eq!(sorted(golden.as_array().unwrap().clone()), sorted(self.list), "{what}");
            }
            "zset" => {
                let golden = golden.as_array().unwrap().iter().map(|pair| {
                    (pair[0].as_str().unwrap().to_owned(), pair[1].as_str().unwrap().parse().unwrap())
                });
                assert_eq!(golden.collect::<BTreeMap<String, f64>>(), self.zset, "{what}");
            }
            "stream" => {
                for group in &mut self.groups {
                    // in the file by consumer, in answers by id
                    let pending = group["pending"].as_array_mut().unwrap();
                    pending.sort_by_key(|entry| {
                        let id = entry[0].as_str().unwrap();
                        let (ms, seq) = id.split_once('-').unwrap();
                        (ms.parse::<u64>().unwrap(), seq.parse::<u64>().unwrap())
                    });
                }
                self.stream.insert("entries", self.entries.into());
                self.stream.insert("groups", self.groups.into());
                if let Some(idmp) = golden.get("idmp") {
                    assert_eq!(self.stream["added"], idmp["iids_added"], "{what}");
                    assert_eq!(self.stream["duplicates"], idmp["iids_duplicates"], "{what}");
                    assert_eq!(self.stream["duration"], idmp["idmp_duration"], "{what}");
                    assert_eq!(self.stream["max_entries"], idmp["idmp_maxsize"], "{what}");
                    assert_eq!(self.stream["producers"], idmp["pids_tracked"], "{what}");
                    assert_eq!(self.stream["producers"], self.producers.len(), "{what}");
                }
                includes(golden, &Value::from_iter(self.stream), what);
            }
            other => panic!("{other}"),
        }
    }
}

/// Whether all that `golden` says is in `found`; null in golden means that the server could not say.
fn includes(golden: &Value, found: &Value, what: &str) {
    match (golden, found) {
        (Value::Object(golden), Value::Object(found)) => {
            for (name, value) in golden.iter().filter(|(name, _)| *name != "idmp") {
                // entries-read null is an answer: the server does not know
                let found = found.get(name).unwrap_or_else(|| panic!("{what}: no {name}"));
                assert!(!value.is_null() || name != "entries_read" || found.is_null(), "{what}: {name}");
                includes(value, found, &format!("{what} {name}"));
            }
        }
        (Value::Array(golden), Value::Array(found)) => {
            assert_eq!(golden.len(), found.len(), "{what}: {golden:?} and {found:?}");
            golden.iter().zip(found).for_each(|(golden, found)| includes(golden, found, what));
        }
        (Value::Null, _) => {}
        _ => assert_eq!(golden, found, "{what}"),
    }
}

#[test]
fn decoded_is_what_the_server_answers() {
    let own = |name: &str| name.starts_with("all_") || name.starts_with("odd_");
    for (name, bytes, golden) in fixtures().into_iter().filter(|(name, ..)| own(name)) {
        let mut reader = Reader::new(Slice::new(&bytes));
        let (mut keys, mut functions) = (BTreeMap::new(), Vec::new());
        let mut end = None;
        while let Some(item) = reader.next_item().unwrap() {
            match item {
                Item::Entry(entry) => {
                    let mut collector = Collector::default();
                    let key = reader.key().to_vec();
                    reader
                        .decode_value(&mut |seen, element| {
                            assert_eq!(seen, key);
                            collector.add(element)
                        })
                        .unwrap();
                    assert!(keys.insert((entry.db, key), (entry, collector)).is_none());
                }
                Item::Function(code) => functions.push(latin(&code)),
                Item::End { checksum } => end = Some(checksum),
                _ => {}
            }
        }
        let checksum = if name.starts_with("odd_") { Checksum::None } else { Checksum::Verified };
        assert_eq!(end, Some(checksum), "{name}");
        assert_eq!(reader.offset(), bytes.len() as u64);
        for line in &golden {
            if let Some(code) = line.get("function") {
                let code = code.as_str().unwrap();
                let at = functions.iter().position(|found| found == code).unwrap_or_else(|| panic!("{code}"));
                functions.remove(at);
                continue;
            }
            let key = line["key"].as_str().unwrap();
            let what = format!("{name} {key:?}");
            let db = u32::try_from(line["db"].as_u64().unwrap()).unwrap();
            let (entry, collector) = keys.remove(&(db, unlatin(key))).unwrap_or_else(|| panic!("{what}"));
            assert_eq!(entry.kind.data_type().name(), line["type"], "{what}");
            assert_eq!(json!(entry.expiry_ms), line["expiry_ms"], "{what}");
            assert_eq!(entry.freq.map(Value::from), line.get("freq").cloned(), "{what}");
            assert_eq!(entry.idle_seconds.is_some(), line.get("freq").is_none(), "{what}");
            collector.check(entry.kind.data_type().name(), &line["value"], &what);
        }
        assert!(keys.is_empty() && functions.is_empty(), "{name}: {:?} {functions:?}", keys.keys());
    }
}

/// The CRC-64 at the end of the server's own DUMP covers the type byte and every byte of the value.
#[test]
fn raw_values_make_the_servers_own_dump_payloads() {
    for (name, bytes, golden) in fixtures() {
        let mut footers = BTreeMap::new();
        for line in golden.iter().filter(|line| line.get("key").is_some()) {
            let key = unlatin(line["key"].as_str().unwrap());
            footers.insert((line["db"].as_u64().unwrap(), key), line["footer"].as_str().unwrap());
        }
        let mut reader = Reader::new(Slice::new(&bytes));
        let (mut version, mut compared) = (0, 0);
        while let Some(item) = reader.next_item().unwrap() {
            match item {
                Item::Header { version: found, .. } => version = found,
                Item::Entry(entry) => {
                    let (key, raw) = reader.key_and_raw_value(1 << 20).unwrap();
                    let key = key.to_vec();
                    let mut payload = Vec::new();
                    dump::write(&mut payload, entry.type_byte, raw.unwrap(), version);
                    let footer: String =
                        payload[payload.len() - 10..].iter().map(|byte| format!("{byte:02x}")).collect();
                    assert_eq!(footer, footers[&(entry.db.into(), key)], "{name} {:?}", latin(reader.key()));
                    assert_eq!(dump::parse(&payload).unwrap().kind, entry.kind);
                    compared += 1;
                }
                _ => {}
            }
        }
        assert_eq!(compared, footers.len());
    }
}

/// What servers wrote is sound, whatever the input, and as many elements as decoding finds.
#[test]
fn files_of_servers_have_no_findings() {
    for (name, bytes, _) in fixtures() {
        let mut structure = Reader::new(Buffered::new(&bytes[..]));
        let mut values = Reader::new(Slice::new(&bytes));
        let mut checker = Checker::default();
        let mut compared = 0;
        while let Some(item) = structure.next_item().unwrap() {
            assert_eq!(values.next_item().unwrap().as_ref(), Some(&item));
            let Item::Entry(entry) = item else { continue };
            let checked =
                structure.check_value(&mut checker, &mut |finding| panic!("{name}: {finding:?}")).unwrap();
            let mut elements = 0;
            values
                .decode_value(&mut |_, element| {
                    elements += u64::from(is_counted(&element));
                    Ok::<_, Error>(())
                })
                .unwrap();
            assert_eq!(checked, Checked { elements, ..Checked::default() }, "{name} {entry:?}");
            assert_eq!(structure.offset(), values.offset());
            compared += 1;
        }
        assert!(compared > 0);
    }
}

fn is_counted(element: &Element<'_>) -> bool {
    matches!(
        element,
        Element::StringPart(_)
            | Element::ListItem(_)
            | Element::SetMember(_)
            | Element::ZsetMember { .. }
            | Element::HashField { .. }
            | Element::StreamEntry { .. }
            | Element::ModulePart(_)
    )
}

#[test]
fn modules_keep_their_own_words() {
    let (_, bytes, _) = fixtures().into_iter().find(|(name, ..)| name.starts_with("modules_")).unwrap();
    let mut reader = Reader::new(Slice::new(&bytes));
    let (mut values, mut aux, mut parts) = (BTreeSet::new(), Vec::new(), 0);
    while let Some(item) = reader.next_item().unwrap() {
        match item {
            Item::ModuleAux(found) => {
                assert_eq!(found.raw.last(), Some(&0));
                aux.push((found.id.name(), found.when));
            }
            Item::Entry(entry) if entry.kind == Kind::Module => reader
                .decode_value(&mut |_, element| {
                    match element {
                        Element::ModuleValue { id } => {
                            values.insert(id.name());
                        }
                        Element::ModulePart(_) => parts += 1,
                        _ => panic!("{element:?}"),
                    }
                    Ok::<_, Error>(())
                })
                .unwrap(),
            _ => {}
        }
    }
    assert!(parts > values.len());
    // the names that the modules register: RedisBloom (five types), RedisJSON, RedisTimeSeries
    assert_eq!(
        values.into_iter().collect::<Vec<_>>(),
        ["CMSk-TYPE", "MBbloom--", "MBbloomCF", "ReJSON-RL", "TDIS-TYPE", "TSDB-TYPE", "TopK-TYPE"]
    );
    assert!(aux.iter().any(|(name, _)| name == "ft_index0"), "{aux:?}");
}

#[test]
fn slots_of_a_cluster_are_told() {
    let clusters = fixtures().into_iter().filter(|(name, ..)| name.starts_with("cluster_"));
    let mut files = 0;
    for (name, bytes, golden) in clusters {
        let mut reader = Reader::new(Slice::new(&bytes));
        let mut counted = 0;
        while let Some(item) = reader.next_item().unwrap() {
            match item {
                Item::SlotInfo { slot, keys, expires } => {
                    assert!(slot < 16384 && expires == 0);
                    counted += keys;
                }
                // how Valkey says it: slot, keys, expires, from 9.0 on also hashes with expiring fields
                Item::Aux { key, value } if key == b"slot-info" => {
                    let value = String::from_utf8(value).unwrap();
                    counted += value.split(',').nth(1).unwrap().parse::<u64>().unwrap();
                }
                _ => {}
            }
        }
        assert_eq!(counted, golden.len() as u64, "{name}");
        files += 1;
    }
    assert!(files >= 4);
}

/// Types that servers read and no longer write: Redis 7.4 restored these bytes and told what they are.
#[test]
fn old_types_mean_what_redis_7_4_says() {
    for line in lines(data().join("restored_redis-7.4.jsonl")) {
        let hex = line["raw"].as_str().unwrap();
        let raw: Vec<u8> =
            (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
        let type_byte = u8::try_from(line["type_byte"].as_u64().unwrap()).unwrap();
        let kind = Kind::of(type_byte, Magic::Redis).unwrap();
        let mut collector = Collector::default();
        decode(kind, &raw, &Limits::default(), &mut |element| collector.add(element)).unwrap();
        collector.check(line["type"].as_str().unwrap(), &line["value"], &format!("type {type_byte}"));
        for cut in 0..raw.len() {
            let result = decode(kind, &raw[..cut], &Limits::default(), &mut |_| Ok(()));
            assert!(
                matches!(result, Err(Error::Truncated { .. })),
                "type {type_byte} cut at {cut}: {result:?}"
            );
        }
    }
}

/// Each type was given to each server by RESTORE.
#[test]
fn servers_restore_what_the_table_says() {
    let lines = lines(data().join("restores.jsonl"));
    assert!(lines.len() > 200);
    for line in lines {
        let number = |value: &Value| u16::try_from(value.as_u64().unwrap()).unwrap();
        let by = &line["by"];
        let (product, magic) = (by[0].as_str().unwrap(), line["written_by"].as_str().unwrap());
        let version = (number(&by[1]), number(&by[2]));
        let by = match product {
            "redis" => Server::redis(version.0, version.1),
            _ => Server::valkey(version.0, version.1),
        };
        let magic = if magic == "redis" { Magic::Redis } else { Magic::Valkey };
        let kind = Kind::of(u8::try_from(number(&line["type_byte"])).unwrap(), magic).unwrap();
        assert_eq!(readable(kind, by), line["restored"].as_bool().unwrap(), "{kind:?} by {by}");
        assert_eq!(restore_version(by), number(&line["rdb_version"]), "{by}");
    }
}

/// All that a reader says of an RDB, values both raw and decoded.
fn read<I: Input>(input: I, decoded: bool) -> Result<Vec<String>, Error> {
    let mut reader = Reader::new(input);
    let mut log = Vec::new();
    while let Some(item) = reader.next_item()? {
        log.push(format!("{item:?} {:?} {}", reader.key(), reader.offset()));
        if let Item::Entry(Entry { kind, .. }) = item {
            if decoded {
                reader.decode_value(&mut |_, element| {
                    log.push(format!("{element:?}"));
                    Ok::<_, Error>(())
                })?;
            } else if let Some(raw) = reader.raw_value(3000)? {
                decode(kind, raw, &Limits::default(), &mut |element| {
                    log.push(format!("{element:?}"));
                    Ok::<_, Error>(())
                })?;
                if kind == Kind::String {
                    decode_string(raw)?;
                }
            } else {
                // too long to hold: it is still there
                reader.decode_value(&mut |_, element| {
                    log.push(format!("{element:?}"));
                    Ok::<_, Error>(())
                })?;
            }
        }
    }
    Ok(log)
}

/// A stream that gives `size` bytes a read.
struct Slow<'a>(&'a [u8], usize);

impl Read for Slow<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let size = self.1.min(buffer.len());
        self.0.read(&mut buffer[..size])
    }
}

#[test]
fn streams_and_memory_raw_and_decoded_give_the_same() {
    for (name, bytes, _) in fixtures() {
        let expected = read(Slice::new(&bytes), true).unwrap();
        assert!(read(Slice::new(&bytes), false).unwrap() == expected, "{name} raw");
        for size in [1, 7, 4096, 1 << 20] {
            for decoded in [true, false] {
                let found = read(Buffered::new(Slow(&bytes, size)), decoded).unwrap();
                assert!(found == expected, "{name} in reads of {size}");
            }
        }
    }
}

#[test]
fn every_cut_is_truncated() {
    for (name, bytes, _) in fixtures() {
        // a step of 31 keeps the test short; each file starts elsewhere
        for cut in (name.len()..bytes.len()).step_by(31) {
            let mut reader = Reader::new(Slice::new(&bytes[..cut]));
            let error = loop {
                match reader.next_item() {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("{name} ended at {cut}"),
                    Err(error) => break error,
                }
            };
            assert!(
                matches!(error, Error::Truncated { offset, .. } if offset <= cut as u64),
                "{name} {cut}: {error}"
            );
            assert!(matches!(reader.next_item(), Err(Error::Stopped { .. })));
        }
    }
}

/// A flipped bit is an error somewhere: the checksum at the latest.
#[test]
fn every_flipped_bit_is_an_error() {
    // the odd ones have no checksum
    for (name, bytes, _) in fixtures().into_iter().filter(|(name, ..)| !name.starts_with("odd_")) {
        let mut bytes = bytes;
        for at in (name.len()..bytes.len()).step_by(89) {
            let bit = 1 << (at % 8);
            bytes[at] ^= bit;
            let result = read(Slice::new(&bytes), at % 2 == 0);
            assert!(result.is_err(), "{name}: a flipped bit at {at} was not seen");
            bytes[at] ^= bit;
        }
    }
}

//! Our reader against librdb, Redis's own parser library: the same events from the same bytes.
//!
//! librdb knows RDB 14, of which there is no server among the test servers yet, and no Valkey format.

#![allow(clippy::unwrap_used)] // helpers of tests are tests too

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use librdb::{
    KeyInfo, Parser, RdbHandlers, Result, SlotInfo, StreamConsumerMeta, StreamGroupMeta, StreamId,
    StreamIdmpMeta, StreamMeta, StreamPendingEntry,
};
use proptest::prelude::*;
use replsync::rdb::encode::{self, HashFields, StreamEnd, StreamGroups, StreamNodes};
use replsync::rdb::{self, ArrayValue, Element, FileWriter, Idmp, Item, Kind, Magic, Reader, Slice};
use replsync::server::Server;

/// What librdb calls back, as lines.
#[derive(Default)]
struct Log {
    lines: Vec<String>,
    group: String,
    consumer: String,
    producer: String,
    pending: BTreeMap<String, String>,
}

fn id(id: &StreamId) -> String {
    format!("{}-{}", id.ms, id.seq)
}

fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

#[rustfmt::skip]
impl RdbHandlers for Log {
    fn handle_new_db(&mut self, _: i32) -> Result<()> { Ok(()) }
    fn handle_db_size(&mut self, keys: u64, expires: u64) -> Result<()> { self.add(format!("resize {keys} {expires}")) }
    fn handle_slot_info(&mut self, info: &SlotInfo) -> Result<()> {
        self.add(format!("slot {} {} {}", info.slot_id, info.slot_size, info.expires_slot_size))
    }
    fn handle_aux_field(&mut self, key: &[u8], value: &[u8]) -> Result<()> { self.add(format!("aux {} {}", text(key), text(value))) }
    fn handle_new_key(&mut self, key: &[u8], info: &KeyInfo) -> Result<()> {
        self.add(format!("key {} {:?} {:?} {:?}", text(key), info.expire_time_ms, info.lru_idle, info.lfu_freq))
    }
    fn handle_string_value(&mut self, value: &[u8]) -> Result<()> { self.add(format!("string {}", text(value))) }
    fn handle_list_item(&mut self, item: &[u8]) -> Result<()> { self.add(format!("item {}", text(item))) }
    fn handle_set_member(&mut self, member: &[u8]) -> Result<()> { self.add(format!("member {}", text(member))) }
    fn handle_zset_member(&mut self, member: &[u8], score: f64) -> Result<()> { self.add(format!("scored {} {score}", text(member))) }
    fn handle_hash_field(&mut self, field: &[u8], value: &[u8], expire_at: i64) -> Result<()> {
        self.add(format!("field {} {} {expire_at}", text(field), text(value)))
    }
    fn handle_function(&mut self, code: &[u8]) -> Result<()> { self.add(format!("function {}", text(code))) }
    fn handle_module(&mut self, name: &[u8], _: usize) -> Result<()> {
        self.add(format!("module {}", text(name).trim_end_matches("\\x00")))
    }
    fn handle_stream_item(&mut self, at: &StreamId, field: &[u8], value: &[u8], _: i64) -> Result<()> {
        self.add(format!("entry {} {} {}", id(at), text(field), text(value)))
    }
    fn handle_stream_metadata(&mut self, meta: &StreamMeta) -> Result<()> {
        let (last, first, deleted) = (id(&meta.last_id), id(&meta.first_id), id(&meta.max_del_entry_id));
        self.add(format!("stream {} {last} {first} {deleted} {}", meta.length, meta.entries_added))
    }
    fn handle_stream_new_cgroup(&mut self, name: &[u8], meta: &StreamGroupMeta) -> Result<()> {
        self.group = text(name);
        self.pending.clear();
        self.add(format!("group {} {} {}", text(name), id(&meta.last_id), meta.entries_read.max(-1)))
    }
    fn handle_stream_cgroup_pending_entry(&mut self, entry: &StreamPendingEntry) -> Result<()> {
        self.pending.insert(id(&entry.id), format!("{} {}", entry.delivery_time, entry.delivery_count));
        Ok(())
    }
    fn handle_stream_new_consumer(&mut self, name: &[u8], meta: &StreamConsumerMeta) -> Result<()> {
        self.consumer = text(name);
        self.add(format!("consumer {} {} {} {}", self.group, text(name), meta.seen_time, meta.active_time))
    }
    fn handle_stream_consumer_pending_entry(&mut self, at: &StreamId) -> Result<()> {
        let at = id(at);
        self.add(format!("pending {} {} {at} {}", self.group, self.consumer, self.pending[&at]))
    }
    fn handle_stream_nack_zone_entry(&mut self, at: &StreamId, _: i64) -> Result<()> {
        let at = id(at);
        self.add(format!("nacked {} {at} {}", self.group, self.pending[&at]))
    }
    fn handle_stream_idmp_meta(&mut self, meta: &StreamIdmpMeta) -> Result<()> {
        self.add(format!("idmp {} {} {}", meta.duration, meta.max_entries, meta.num_producers))
    }
    fn handle_stream_idmp_producer(&mut self, name: &[u8], _: u64) -> Result<()> { self.producer = text(name); Ok(()) }
    fn handle_stream_idmp_entry(&mut self, message: &[u8], at: &StreamId) -> Result<()> {
        self.add(format!("idmp entry {} {} {}", self.producer, text(message), id(at)))
    }
    fn handle_array_metadata(&mut self, count: u64, insert: Option<u64>) -> Result<()> { self.add(format!("array {count} {insert:?}")) }
    fn handle_array_element(&mut self, index: u64, value: &[u8]) -> Result<()> { self.add(format!("element {index} {}", text(value))) }
}

impl Log {
    fn add(&mut self, line: String) -> Result<()> {
        self.lines.push(line);
        Ok(())
    }
}

/// By a path: given a file descriptor, librdb closes it twice, and with it what another test has opened meanwhile.
fn theirs(bytes: &[u8]) -> Result<Vec<String>> {
    let name = format!("rdb-{}-{:?}", std::process::id(), std::thread::current().id());
    let path = std::env::temp_dir().join(name);
    fs::write(&path, bytes).unwrap();
    let mut parser = Parser::new(Log::default())?;
    let parsed = parser.parse_file(&path);
    fs::remove_file(path).unwrap();
    parsed?;
    Ok(parser.into_handler().lines)
}

/// The same lines from our reader.
fn ours(bytes: &[u8]) -> std::result::Result<Vec<String>, rdb::Error> {
    let mut reader = Reader::new(Slice::new(bytes));
    let mut lines = Vec::new();
    while let Some(item) = reader.next_item()? {
        match item {
            Item::Aux { key, value } => lines.push(format!("aux {} {}", text(&key), text(&value))),
            Item::Function(code) => lines.push(format!("function {}", text(&code))),
            Item::ResizeDb { keys, expires, .. } => lines.push(format!("resize {keys} {expires}")),
            Item::SlotInfo { slot, keys, expires } => lines.push(format!("slot {slot} {keys} {expires}")),
            Item::Entry(entry) => {
                let (expiry, idle) = (entry.expiry_ms, entry.idle_seconds);
                lines.push(format!("key {} {expiry:?} {idle:?} {:?}", text(reader.key()), entry.freq));
                let mut string = String::new();
                reader.decode_value(&mut |_, element| {
                    if let Element::StringPart(part) = element {
                        string.push_str(&text(part));
                    }
                    lines.extend(line(element));
                    Ok::<_, rdb::Error>(())
                })?;
                if entry.kind == rdb::Kind::String {
                    lines.push(format!("string {string}"));
                }
            }
            _ => {}
        }
    }
    Ok(lines)
}

fn line(element: Element<'_>) -> Vec<String> {
    vec![match element {
        Element::StringPart(_) | Element::StreamIdmp(Idmp::Counters { .. }) | Element::ModulePart(_) => {
            return vec![];
        }
        Element::ListItem(item) => format!("item {}", text(item)),
        Element::SetMember(member) => format!("member {}", text(member)),
        Element::ZsetMember { member, score } => format!("scored {} {score}", text(member)),
        Element::HashField { field, value, expiry_ms } => {
            format!("field {} {} {}", text(field), text(value), expiry_ms.map_or(-1, u64::cast_signed))
        }
        Element::StreamEntry { id, fields } => {
            return fields.iter().map(|(f, v)| format!("entry {id} {} {}", text(f), text(v))).collect();
        }
        Element::StreamMeta { length, last_id, first_id, max_deleted_id, entries_added } => format!(
            "stream {length} {last_id} {} {} {}",
            first_id.unwrap_or_default(),
            max_deleted_id.unwrap_or_default(),
            entries_added.unwrap_or(length)
        ),
        Element::StreamGroup { name, last_id, entries_read } => {
            format!("group {} {last_id} {}", text(name), entries_read.unwrap_or(-1))
        }
        Element::StreamConsumer { group, name, seen_time_ms, active_time_ms } => {
            let active = active_time_ms.unwrap_or(seen_time_ms);
            format!("consumer {} {} {seen_time_ms} {active}", text(group), text(name))
        }
        Element::StreamPending { group, consumer, id, delivery_time_ms, delivery_count } => {
            format!("pending {} {} {id} {delivery_time_ms} {delivery_count}", text(group), text(consumer))
        }
        Element::StreamNacked { group, id, delivery_time_ms, delivery_count } => {
            format!("nacked {} {id} {delivery_time_ms} {delivery_count}", text(group))
        }
        Element::StreamIdmp(Idmp::Config { duration_seconds, max_entries, producers }) => {
            format!("idmp {duration_seconds} {max_entries} {producers}")
        }
        Element::StreamIdmp(Idmp::Entry { producer, message_id, id }) => {
            format!("idmp entry {} {} {id}", text(producer), text(message_id))
        }
        Element::ArrayMeta { count, insert_index } => format!("array {count} {insert_index:?}"),
        Element::ArrayItem { index, value } => match value {
            ArrayValue::Bytes(bytes) => format!("element {index} {}", text(bytes)),
            ArrayValue::Int(number) => format!("element {index} {number}"),
            ArrayValue::Float(number) => format!("element {index} {number}"),
        },
        Element::ModuleValue { id } => format!("module {id}"),
    }]
}

#[test]
fn the_servers_files() {
    let data = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let mut compared = 0;
    for file in fs::read_dir(data).unwrap() {
        let path = file.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        if bytes.starts_with(b"REDIS") {
            assert_eq!(ours(&bytes).unwrap(), theirs(&bytes).unwrap(), "{path:?}");
            compared += 1;
        }
    }
    assert!(compared >= 10);
}

/// A string as an RDB has it.
fn string(bytes: &[u8]) -> Vec<u8> {
    [&[0x80][..], &u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

/// An RDB of one key, with no checksum.
fn rdb(version: &str, type_byte: u8, value: &[u8]) -> Vec<u8> {
    [b"REDIS", version.as_bytes(), &[0xfe, 0, 0xfd, 1, 2, 3, 4, type_byte, 1, b'k'], value, &[0xff], &[0; 8]]
        .concat()
}

/// Tags 0 to 3 of elements: text, integer, float, short text.
#[test]
fn an_array_of_rdb_14() {
    let elements = [
        &[5, 1, 7][..],
        &[0, 0],
        &string(b"text"),
        &[1, 1],
        &(-5i64).to_le_bytes(),
        &[0x40, 200, 2],
        &1.5f64.to_le_bytes(),
        &[0x81, 1, 0, 0, 0, 0, 0, 0, 0, 3, 1, b'x'],
        &[0x81, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0xc0, 12],
    ]
    .concat();
    let file = rdb("0014", 28, &elements);
    let found = ours(&file).unwrap();
    assert_eq!(found, theirs(&file).unwrap());
    assert_eq!(found.len(), 7);
}

#[test]
fn a_stream_of_rdb_14_with_entries_given_back() {
    let id = |ms: u64| [ms.to_be_bytes(), 3u64.to_be_bytes()].concat();
    let pending = |ms: u64| [&id(ms)[..], &99u64.to_le_bytes(), &[4]].concat();
    let mut value = vec![0]; // no nodes
    value.extend([0, 9, 1, 0, 0, 2, 0, 7]); // length, last, first and greatest deleted id, added
    value.extend([1]);
    value.extend(string(b"group"));
    value.extend([9, 1, 0x81, 255, 255, 255, 255, 255, 255, 255, 255]); // last id, entries read unknown
    value.extend([&[3][..], &pending(1), &pending(2), &pending(4)].concat());
    value.extend([&[1][..], &string(b"ann"), &[0; 16], &[1], &id(2)].concat());
    value.extend([&[2][..], &id(4), &id(1)].concat()); // given back
    value.extend([0x40, 100, 50, 1]); // seconds, maximum, producers
    value.extend([&string(b"producer")[..], &[1], &string(b"message"), &[6, 0], &[1, 0]].concat());
    let file = rdb("0014", 27, &value);
    let found = ours(&file).unwrap();
    assert_eq!(found, theirs(&file).unwrap());
    assert_eq!(found.iter().filter(|line| line.starts_with("nacked group ")).count(), 2);
    // and librdb must see the same end: what follows is read
    assert!(ours(&file[..file.len() - 10]).is_err());
}

/// Text that is often a number, or nearly one.
fn some_text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..90),
        any::<i64>().prop_map(|number| number.to_string().into_bytes()),
        (-300i64..300).prop_map(|number| number.to_string().into_bytes()),
        "[-+]?[0-9]{0,12}".prop_map(String::into_bytes),
    ]
}

/// Two texts, a score, an expiry.
type Texts = (Vec<u8>, Vec<u8>, f64, Option<u64>);

/// A file of one key of each type, encoded, and what is to be read from it.
fn encoded(texts: &[Texts]) -> (Vec<u8>, Vec<String>) {
    let mut file = FileWriter::new(Vec::new(), Magic::Redis, 13);
    file.aux(b"redis-bits", b"64").unwrap();
    file.select(3).unwrap();
    file.resize(texts.len() as u64, 1 << 40).unwrap();
    let mut lines = vec!["aux redis-bits 64".to_owned(), format!("resize {} {}", texts.len(), 1u64 << 40)];
    let mut raws =
        [Kind::String, Kind::List, Kind::Set, Kind::Zset, Kind::Hash].map(|kind| (kind, Vec::new()));
    let mut told: [Vec<String>; 5] = Default::default();
    let mut fields = HashFields::default();
    for (_, raw) in &mut raws[1..] {
        encode::length(raw, texts.len() as u64);
    }
    encode::string(&mut raws[0].1, &texts[0].0);
    told[0].push(format!("string {}", text(&texts[0].0)));
    for (a, b, score, expiry_ms) in texts {
        encode::member(&mut raws[1].1, b);
        told[1].push(format!("item {}", text(b)));
        encode::member(&mut raws[2].1, a);
        told[2].push(format!("member {}", text(a)));
        encode::scored(&mut raws[3].1, a, *score);
        told[3].push(format!("scored {} {score}", text(a)));
        encode::hash_field(&mut raws[4].1, a, b);
        told[4].push(format!("field {} {} -1", text(a), text(b)));
        fields.add(*expiry_ms);
    }
    for (at, ((kind, raw), told)) in raws.iter().zip(told).enumerate() {
        let expiry_ms = (at % 2 == 0).then_some(1 << (at + 40));
        file.entry(expiry_ms, kind.type_byte(), &texts[0].1, raw).unwrap();
        lines.push(format!("key {} {expiry_ms:?} None None", text(&texts[0].1)));
        lines.extend(told);
    }

    let form = fields.form(Server::redis(7, 4)).unwrap();
    file.begin_entry(None, form.kind().type_byte(), b"hash").unwrap();
    let mut raw = Vec::new();
    form.head(&mut raw);
    lines.push("key hash None None None".to_owned());
    for (a, b, _, expiry_ms) in texts {
        form.field(&mut raw, a, b, *expiry_ms);
        let at = expiry_ms.map_or(-1, u64::cast_signed);
        lines.push(format!("field {} {} {at}", text(a), text(b)));
    }
    file.raw(&raw).unwrap();
    for kind in [Kind::Stream1, Kind::Stream2, Kind::Stream3, Kind::Stream4] {
        let (raw, told) = encoded_stream(kind, texts);
        file.entry(None, kind.type_byte(), b"stream", &raw).unwrap();
        lines.push("key stream None None None".to_owned());
        lines.extend(told);
    }
    (file.finish().unwrap().out, lines)
}

fn encoded_stream(kind: Kind, texts: &[Texts]) -> (Vec<u8>, Vec<String>) {
    let (mut nodes, mut bytes, mut lines) = (StreamNodes::default(), Vec::new(), Vec::new());
    let mut groups = StreamGroups::default();
    let id = |ms: usize| rdb::StreamId { ms: ms as u64, seq: 1 << (ms % 60) };
    let last_id = id(texts.len());
    groups.group(b"group", last_id, None);
    groups.consumer(b"ann", 5, 6).unwrap();
    let mut pending = Vec::new();
    for (at, (a, b, _, expiry_ms)) in texts.iter().enumerate() {
        let id = id(at + 1);
        match expiry_ms {
            None => nodes.push(&mut bytes, id, &[(a, b)]).unwrap(),
            Some(_) => nodes.push(&mut bytes, id, &[("same", b), ("fields", a)]).unwrap(),
        }
        lines.extend(match expiry_ms {
            None => vec![format!("entry {id} {} {}", text(a), text(b))],
            Some(_) => {
                vec![format!("entry {id} same {}", text(b)), format!("entry {id} fields {}", text(a))]
            }
        });
        groups.pending(b"ann", id, at as i64, 1 << at).unwrap();
        pending.push(format!("pending group ann {id} {at} {}", 1u64 << at));
    }
    let written = nodes.finish(&mut bytes);
    let mut raw = Vec::new();
    encode::length(&mut raw, written.nodes);
    raw.extend(bytes);
    let (length, first_id) = (written.entries, id(1));
    let meta = encode::StreamMeta {
        length,
        last_id,
        first_id,
        max_deleted_id: last_id,
        entries_added: length + 70_000,
    };
    StreamEnd { meta, groups, ..StreamEnd::default() }.write(kind, &mut raw).unwrap();
    lines.push(match kind {
        Kind::Stream1 => format!("stream {length} {last_id} 0-0 0-0 {length}"),
        _ => format!("stream {length} {last_id} {first_id} {last_id} {}", length + 70_000),
    });
    lines.push(format!("group group {last_id} -1"));
    let active = if matches!(kind, Kind::Stream1 | Kind::Stream2) { 5 } else { 6 };
    lines.push(format!("consumer group ann 5 {active}"));
    lines.extend(pending);
    if kind == Kind::Stream4 {
        lines.push("idmp 100 100 0".to_owned());
    }
    (raw, lines)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn what_is_encoded(texts in prop::collection::vec((
        some_text(),
        some_text(),
        prop::num::f64::NORMAL | prop::num::f64::ZERO | prop::num::f64::INFINITE,
        prop::option::of(1u64..1 << 48),
    ), 1..12)) {
        let (file, lines) = encoded(&texts);
        prop_assert_eq!(theirs(&file).unwrap(), &lines[..]);
        prop_assert_eq!(ours(&file).unwrap(), lines);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// Where both read random bytes as a compressed string, they read the same.
    #[test]
    fn compressed_strings(input in prop::collection::vec(any::<u8>(), 1..60), len in 1u32..300) {
        let mut value = vec![0xc3, input.len() as u8, 0x80];
        value.extend(len.to_be_bytes());
        value.extend(&input);
        let file = rdb("0009", 0, &value);
        if let Ok(found) = ours(&file) {
            prop_assert_eq!(found, theirs(&file).unwrap());
        } else {
            prop_assert!(theirs(&file).is_err());
        }
    }

    /// What compresses well comes back, by the words of a compressor written for this test.
    #[test]
    fn copies_and_literals(steps in prop::collection::vec((1usize..33, 3usize..265, 1usize..8192), 1..40), seed: u8) {
        let (mut compressed, mut plain) = (Vec::new(), Vec::<u8>::new());
        for (literal, count, distance) in steps {
            compressed.push(literal as u8 - 1);
            let from = compressed.len();
            compressed.extend((0..literal).map(|i| (i as u8).wrapping_mul(seed | 1)));
            plain.extend(&compressed[from..]);
            let back = distance.min(plain.len()) - 1;
            match count - 2 {
                short @ 1..7 => compressed.extend([(short << 5 | back >> 8) as u8, back as u8]),
                long => compressed.extend([(7 << 5 | back >> 8) as u8, (long - 7) as u8, back as u8]),
            }
            for _ in 0..count {
                plain.push(plain[plain.len() - 1 - back]);
            }
        }
        let mut value = vec![0xc3, 0x80];
        value.extend(u32::try_from(compressed.len()).unwrap().to_be_bytes());
        value.push(0x80);
        value.extend(u32::try_from(plain.len()).unwrap().to_be_bytes());
        value.extend(&compressed);
        let file = rdb("0009", 0, &value);
        let found = ours(&file).unwrap();
        prop_assert_eq!(&found[1], &format!("string {}", text(&plain)));
        prop_assert_eq!(found, theirs(&file).unwrap());
    }
}

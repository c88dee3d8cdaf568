//! What a hostile or damaged RDB gets: an error with its place, in bounded memory. Files here are written by hand.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests are tests too

use std::io::Read;

use proptest::prelude::*;
use replsync::rdb::{
    Buffered, Checksum, Element, Error, Input, Item, Kind, Limits, Magic, Reader, Slice, decode,
    decode_string, dump,
};

/// The most memory that this process ever asked for, in bytes. What was asked for and not touched counts as well.
fn most_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmPeak:"));
    let kib =
        peak.and_then(|rest| rest.trim().strip_suffix(" kB")).and_then(|number| number.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// Less than the gigabyte that the files here claim, more than what threads of other tests take.
const BOUND: u64 = 600 << 20;

/// Items up to the end or the error, values decoded.
fn read<I: Input>(input: I) -> (Vec<Item>, Option<Error>) {
    let mut reader = Reader::new(input);
    let mut items = Vec::new();
    loop {
        match reader.next_item() {
            Ok(None) => return (items, None),
            Ok(Some(item)) => {
                let value = matches!(item, Item::Entry(_));
                items.push(item);
                if value && let Err(error) = reader.decode_value(&mut |_, _| Ok::<_, Error>(())) {
                    return (items, Some(error));
                }
            }
            Err(error) => return (items, Some(error)),
        }
    }
}

fn error(bytes: &[u8]) -> Error {
    let (_, slice) = read(Slice::new(bytes));
    let (_, stream) = read(Buffered::new(bytes));
    let slice = slice.unwrap();
    assert_eq!(slice.to_string(), stream.unwrap().to_string());
    slice
}

#[test]
fn heads_that_are_none() {
    assert!(matches!(error(b""), Error::Truncated { offset: 0, wanted: 9 }));
    assert!(matches!(error(b"REDIS001"), Error::Truncated { .. }));
    assert!(matches!(error(b"PK\x03\x04 a zip file"), Error::BadMagic { .. }));
    assert!(matches!(error(b"REDIS-001"), Error::BadMagic { .. }));
    assert!(matches!(error(b"VALKEY08x"), Error::BadMagic { .. }));
    let newer = error(b"REDIS0015\xff");
    assert!(matches!(newer, Error::UnsupportedVersion { magic: "REDIS", version: 15 }), "{newer}");
    assert!(newer.to_string().contains("REDIS 15"), "{newer}");
    for bad in ["REDIS0000", "REDIS0080", "REDIS9999", "VALKEY011", "VALKEY081"] {
        assert!(matches!(error(bad.as_bytes()), Error::UnsupportedVersion { .. }), "{bad}");
    }
}

#[test]
fn bytes_without_a_meaning_are_named_with_their_place() {
    assert!(matches!(error(b"REDIS0012\xf2"), Error::UnknownOpcode { byte: 242, offset: 9, version: 12 }));
    // functions of 7.0's release candidates, as servers do
    let functions = error(b"REDIS0010\xf6\x01x");
    assert!(matches!(functions, Error::PreRelease { byte: 246, offset: 9, .. }));
    assert!(functions.to_string().contains("7.0 release candidates"), "{functions}");
    let module = error(b"REDIS0008\x06\x01k\x01v");
    assert!(matches!(module, Error::PreRelease { byte: 6, offset: 9, .. }), "{module}");
    for byte in [8, 29, 100] {
        let file = [b"REDIS0012\xfe\x00", &[byte][..], b"\x01k\x01v"].concat();
        assert!(matches!(error(&file), Error::UnknownType { byte: found, offset: 11, .. } if found == byte));
    }
    assert!(matches!(error(b"VALKEY080\x18\x01k"), Error::UnknownType { byte: 24, .. }));
    assert!(matches!(error(b"REDIS0009\x00\x83"), Error::BadLength { byte: 0x83, offset: 10 }));
    assert!(matches!(error(b"REDIS0009\x00\xc4"), Error::BadLength { byte: 0xc4, offset: 10 }));
    assert!(matches!(error(b"REDIS0009\x01\x01k\xc0\x01"), Error::BadLength { byte: 0xc0, offset: 12 }));
}

#[test]
fn claims_are_not_believed() {
    let before = most_memory();
    let huge = (1u64 << 60).to_be_bytes();
    let gib = (1u64 << 30).to_be_bytes();
    // a key, a string, a compressed string, a count of 2^60; and 1 GiB, which the limits allow, but is not there
    let key = [b"REDIS0009\x00\x81", &huge[..], b"k"].concat();
    assert!(
        matches!(error(&key), Error::TooLong { offset: 19, len, limit } if len == 1 << 60 && limit == 1 << 30)
    );
    let string = [b"REDIS0009\x00\x01k\x81", &huge[..], b"v"].concat();
    assert!(matches!(error(&string), Error::TooLong { .. }));
    let count = [b"REDIS0009\x01\x01k\x81", &huge[..], b"\x01v"].concat();
    assert!(matches!(error(&count), Error::Truncated { .. }));
    for head in [&b"REDIS0009\x00\x01k\x81"[..], b"REDIS0009\x00\x81", b"REDIS0009\x01\x01k\x02\x81"] {
        let short = [head, &gib, b"some bytes"].concat();
        assert!(matches!(error(&short), Error::Truncated { .. }));
    }
    let groups = [b"REDIS0009\x0f\x01k\x00\x00\x00\x00\x01\x01g\x00\x00\x81", &huge[..]].concat();
    assert!(matches!(error(&groups), Error::Truncated { .. }));

    // thirty bytes that claim to be a terabyte, and a gigabyte
    for (len, too_long) in [(1u64 << 40, true), (1 << 30, false)] {
        let bomb = [b"REDIS0009\x00\x01k\xc3\x1e\x81", &len.to_be_bytes()[..], &[0xff; 30]].concat();
        let error = error(&bomb);
        assert!(matches!(error, Error::TooLong { .. }) == too_long, "{error}");
        assert!(matches!(error, Error::Lzf { offset: 23, .. }) != too_long, "{error}");
    }
    assert!(most_memory() < before + BOUND);
}

/// A stream that never ends and gives zeros.
struct Endless(u64);

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0 += buffer.len() as u64;
        buffer.fill(0);
        Ok(buffer.len())
    }
}

#[test]
fn a_long_value_streams_through_a_small_buffer() {
    let len = 1u64 << 30;
    let head = [b"REDIS0009\x00\x01k\x81", &len.to_be_bytes()[..]].concat();
    let mut reader = Reader::new(Buffered::new(head.chain(Endless(0))));
    reader.next_item().unwrap();
    reader.next_item().unwrap();
    let before = most_memory();
    assert_eq!(reader.raw_value(1 << 20).unwrap(), None);
    assert_eq!(reader.raw_value(5000).unwrap(), None);
    let mut seen = 0;
    let mut parts = 0;
    reader
        .decode_value(&mut |key, element| {
            let Element::StringPart(part) = element else { panic!("{element:?}") };
            assert!(key == b"k" && part.len() <= 1 << 20);
            seen += part.len() as u64;
            parts += 1;
            Ok::<_, Error>(())
        })
        .unwrap();
    assert_eq!((seen, parts), (len, 1024));
    assert!(most_memory() < before + BOUND);
    assert!(matches!(reader.raw_value(1), Err(Error::NoValue { .. })));
}

#[test]
fn hints_and_metadata_belong_to_the_next_key_alone() {
    // LRU, then key metadata of one module: class, an unsigned number, the end
    let file = [
        &b"REDIS0013\xfa\x03ctx\xc0\x07\xf5\x04code\xfe\x02\xfb\x02\x01"[..],
        b"\xfc\x01\0\0\0\0\0\0\0\xf8\x40\x64\xf3\x01abcd\x02\x05\x00\x00\x01a\x01v",
        b"\xfd\xff\xff\xff\xff\xf9\x09\x00\xc0\x09\xc1\x00\x01",
        b"\x00\x01c\x00\xff\0\0\0\0\0\0\0\0trailing",
    ]
    .concat();
    let mut reader = Reader::new(Slice::new(&file));
    assert_eq!(reader.next_item().unwrap(), Some(Item::Header { magic: Magic::Redis, version: 13 }));
    assert_eq!(reader.next_item().unwrap(), Some(Item::Aux { key: b"ctx".to_vec(), value: b"7".to_vec() }));
    assert_eq!(reader.next_item().unwrap(), Some(Item::Function(b"code".to_vec())));
    assert_eq!(reader.next_item().unwrap(), Some(Item::ResizeDb { db: 2, keys: 2, expires: 1 }));
    let mut entry = || {
        let Some(Item::Entry(entry)) = reader.next_item().unwrap() else { panic!("no entry") };
        let metadata = reader.key_metadata().to_vec();
        let (key, raw) = reader.key_and_raw_value(100).unwrap();
        let value = decode_string(raw.unwrap()).unwrap().into_owned();
        (entry, key.to_vec(), value, metadata)
    };
    let (a, key, value, metadata) = entry();
    assert_eq!((a.db, a.expiry_ms, a.idle_seconds, a.freq), (2, Some(1), Some(100), None));
    assert_eq!((a.metadata_classes, &metadata[..]), (1, &b"\x01abcd\x02\x05\x00"[..]));
    assert_eq!((&key[..], &value[..]), (&b"a"[..], &b"v"[..]));
    let (b, key, value, metadata) = entry();
    assert_eq!((b.expiry_ms, b.idle_seconds, b.freq), (Some(-1000), None, Some(9)));
    assert_eq!((&key[..], &value[..], metadata.len()), (&b"9"[..], &b"256"[..], 0));
    let (c, _, value, _) = entry();
    assert_eq!((c.expiry_ms, c.idle_seconds, c.freq, c.metadata_classes), (None, None, None, 0));
    assert!(value.is_empty());
    assert_eq!(reader.next_item().unwrap(), Some(Item::End { checksum: Checksum::None }));
    assert_eq!(reader.next_item().unwrap(), None);
    assert_eq!(reader.into_input().rest(), b"trailing");
}

/// Nobody writes it so, but servers read it so.
#[test]
fn an_expiry_waits_for_its_key() {
    let (items, error) = read(Slice::new(b"REDIS0004\xfd\x01\0\0\0\xfa\x01a\x01b\xfe\x01\x00\x01k\x01v\xff"));
    assert!(error.is_none());
    let Some(Item::Entry(entry)) = items.get(2) else { panic!("{items:?}") };
    assert_eq!((entry.db, entry.expiry_ms), (1, Some(1000)));
}

#[test]
fn valkey_has_opcodes_of_its_own() {
    let file = b"VALKEY080\xf3\x03job\x02\x00\x05\x40\x64\x40\xc8\xff\0\0\0\0\0\0\0\0";
    let (items, error) = read(Slice::new(file));
    assert!(error.is_none());
    assert_eq!(items[1], Item::SlotImport { job: b"job".to_vec(), ranges: vec![(0, 5), (100, 200)] });
}

#[test]
fn files_before_rdb_5_have_no_checksum() {
    let (items, error) = read(Slice::new(b"REDIS0004\xff"));
    assert!(error.is_none());
    assert_eq!(items.last(), Some(&Item::End { checksum: Checksum::None }));
    assert!(matches!(self::error(b"REDIS0005\xff"), Error::Truncated { offset: 10, wanted: 8 }));
    let wrong = self::error(b"REDIS0009\xff12345678");
    assert!(matches!(wrong, Error::Checksum { offset: 10, .. }), "{wrong}");
}

#[test]
fn a_sink_that_fails_stops_the_reader() {
    let mut reader = Reader::new(Slice::new(b"REDIS0004\x01\x01k\x02\x01a\x01b\xff"));
    reader.next_item().unwrap();
    reader.next_item().unwrap();
    let stop = reader.decode_value(&mut |_, _| Err(std::io::Error::other("full").into()));
    assert!(matches!(stop, Err(Failure::Sink(_))));
    assert!(matches!(reader.next_item(), Err(Error::Stopped { .. })));
    assert!(matches!(reader.raw_value(9), Err(Error::Stopped { .. })));
}

#[derive(Debug)]
enum Failure {
    Rdb,
    Sink(#[allow(dead_code)] std::io::Error),
}

impl From<Error> for Failure {
    fn from(_: Error) -> Self {
        Self::Rdb
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Sink(error)
    }
}

fn kinds() -> impl Strategy<Value = Kind> {
    let all = (0..=255).flat_map(|byte| [Magic::Redis, Magic::Valkey].map(|magic| Kind::of(byte, magic)));
    prop::sample::select(all.flatten().collect::<Vec<_>>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]
    /// Small numbers make it likely that lengths and counts mean something.
    #[test]
    fn any_value_ends_well(
        kind in kinds(),
        raw in prop::collection::vec(prop_oneof![3 => 0u8..9, 1 => any::<u8>()], 0..200),
    ) {
        let limits = Limits { max_string_bytes: 1 << 16, max_stream_fields: 100 };
        let mut elements = 0u64;
        let result = decode(kind, &raw, &limits, &mut |_| { elements += 1; Ok::<_, Error>(()) });
        prop_assert!(elements <= 1 << 16);
        // boundaries: what decodes whole ends where the walk says
        let file = [b"REDIS0012", &[kind.type_byte(), 1, b'k'][..], &raw].concat();
        if result.is_ok() && Kind::of(kind.type_byte(), Magic::Redis) == Some(kind) {
            let mut reader = Reader::new(Slice::new(&file));
            reader.next_item().unwrap();
            reader.next_item().unwrap();
            prop_assert_eq!(reader.raw_value(1000).unwrap(), Some(&raw[..]));
        }
    }

    #[test]
    fn any_file_ends_well(body in prop::collection::vec(prop_oneof![2 => 0u8..30, 1 => any::<u8>()], 0..200)) {
        let file = [b"REDIS0012", &body[..]].concat();
        let (items, error) = read(Slice::new(&file));
        prop_assert!(items.len() <= file.len() + 1);
        if let Some(error) = error {
            prop_assert!(!error.to_string().is_empty());
        }
        let _ = dump::parse(&body);
        let _ = decode_string(&body);
    }
}

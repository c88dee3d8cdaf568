//! What the fuzz targets of RDBs do with their input. Plain functions: an ordinary test replays inputs through them
//! too.
//!
//! Files are read as they come. Values, and blobs within them (listpacks, ziplists, intsets), are put into the smallest
//! file that holds them, since only a value is what the library lets anybody read.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;

use replsync::rdb::{
    ArrayValue, Buffered, Checker, Checksum, Element, Error, Finding, Input, Item, Kind, Limits, Magic,
    Reader, Slice, decode, decode_string, dump, rewrite_field_expiries,
};
use replsync::server::Server;

/// Low enough that a run out of memory is a bug of ours.
const LIMITS: Limits = Limits { max_string_bytes: 1 << 20, max_stream_fields: 1 << 12 };

/// Bytes that arrive in pieces.
struct Pieces<'a> {
    bytes: &'a [u8],
    len: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let len = self.len.min(buffer.len()).min(self.bytes.len());
        let (piece, rest) = self.bytes.split_at(len);
        buffer[..len].copy_from_slice(piece);
        self.bytes = rest;
        Ok(len)
    }
}

/// A reader over memory, and one over the same bytes as a stream: of pieces, whose size the length decides.
fn readers(data: &[u8]) -> (Reader<Slice<'_>>, Reader<Buffered<Pieces<'_>>>) {
    let pieces = Pieces { bytes: data, len: [1, 3, 64, 1 << 20][data.len() % 4] };
    (Reader::with_limits(Slice::new(data), LIMITS), Reader::with_limits(Buffered::new(pieces), LIMITS))
}

/// A reader of a file of one key, which stands before the value.
fn at_value(file: &[u8]) -> Reader<Slice<'_>> {
    moved_to_value(Reader::with_limits(Slice::new(file), LIMITS))
}

fn at_value_of_stream(file: &[u8]) -> Reader<Buffered<Pieces<'_>>> {
    let pieces = Pieces { bytes: file, len: [1, 3, 64, 1 << 20][file.len() / 2 % 4] };
    moved_to_value(Reader::with_limits(Buffered::new(pieces), LIMITS))
}

fn moved_to_value<I: Input>(mut reader: Reader<I>) -> Reader<I> {
    for _ in 0..2 {
        assert!(matches!(reader.next_item(), Ok(Some(_))), "a header and a key");
    }
    reader
}

/// The same from both: the error in its words, where there is one.
fn alike<T: PartialEq + std::fmt::Debug>(one: Result<T, Error>, other: Result<T, Error>) -> Option<T> {
    match (one, other) {
        (Ok(one), Ok(other)) => {
            assert_eq!(one, other);
            Some(one)
        }
        (Err(one), Err(other)) => {
            assert_eq!(one.to_string(), other.to_string());
            None
        }
        (one, other) => panic!("from memory: {one:?}, from a stream: {other:?}"),
    }
}

/// Where a value ends, and a sum of its elements; or the error.
fn values<I: Input>(reader: &mut Reader<I>) -> Result<(u64, u64), Error> {
    let mut hasher = DefaultHasher::new();
    reader.decode_value(&mut |_, element| {
        add(&mut hasher, &element);
        Ok::<_, Error>(())
    })?;
    Ok((reader.offset(), hasher.finish()))
}

fn add(hasher: &mut DefaultHasher, element: &Element<'_>) {
    match element {
        Element::StringPart(text) | Element::ListItem(text) | Element::SetMember(text) => text.hash(hasher),
        Element::ZsetMember { member, score } => (member, score.to_bits()).hash(hasher),
        Element::HashField { field, value, expiry_ms } => (field, value, expiry_ms).hash(hasher),
        Element::StreamEntry { id, fields } => (id, fields).hash(hasher),
        Element::ArrayItem { index, value: ArrayValue::Bytes(text) } => (index, text).hash(hasher),
        // few in a value, or small
        other => format!("{other:?}").hash(hasher),
    }
}

/// A file at the depth of boundaries: the same items from memory and from a stream, values taken raw or passed over; a
/// reader that goes on in the middle sees what comes there; where only the checksum is wrong, one that fits is enough.
pub fn rdb_boundaries(data: &[u8]) {
    let (mut slice, mut stream) = readers(data);
    let mut resumed = None;
    for count in 0.. {
        let one = slice.next_item();
        if let Err(Error::Checksum { expected, offset, .. }) = one {
            with_checksum(data, expected, offset);
        }
        if let Some(resumed) = &mut resumed {
            same_after_resuming(&one, resumed);
        }
        let Some(item) = alike(one, stream.next_item()) else { return };
        assert_eq!((slice.offset(), slice.key()), (stream.offset(), stream.key()));
        match item {
            None => return,
            Some(Item::Entry(_)) => {
                let start = slice.offset() as usize;
                match slice.raw_value(usize::MAX).map(|raw| raw.map(<[u8]>::len)) {
                    Ok(len) => assert_eq!(len, Some(slice.offset() as usize - start)),
                    Err(error) => {
                        let passed_over = stream.next_item().expect_err("it could not be taken");
                        assert_eq!(passed_over.to_string(), error.to_string());
                        return;
                    }
                }
            }
            Some(_) => {}
        }
        if count == data.len() % 8
            && let Some(place) = slice.place()
        {
            let rest = Pieces { bytes: &data[place.offset as usize..], len: 1 << 20 };
            resumed = Some(Reader::resume(Buffered::at(rest, place.offset), LIMITS, place));
        }
    }
}

/// What comes next to a reader that was resumed is what comes to one that read all; but it cannot know the checksum.
fn same_after_resuming<I: Input>(one: &Result<Option<Item>, Error>, resumed: &mut Reader<I>) {
    match (one, resumed.next_item()) {
        (Ok(Some(Item::End { .. })) | Err(Error::Checksum { .. }), Ok(Some(Item::End { .. }))) => {}
        (one, again) => assert_eq!(format!("{one:?}"), format!("{again:?}")),
    }
}

/// `data`, whose only fault was its checksum.
fn with_checksum(data: &[u8], checksum: u64, offset: u64) {
    let mut whole = data.to_vec();
    whole[offset as usize..][..8].copy_from_slice(&checksum.to_le_bytes());
    let mut reader = Reader::with_limits(Slice::new(&whole), LIMITS);
    let last = loop {
        match reader.next_item().expect("only the checksum was wrong") {
            Some(Item::End { checksum }) => break checksum,
            Some(_) => {}
            None => panic!("no end"),
        }
    };
    assert_eq!(last, if checksum == 0 { Checksum::None } else { Checksum::Verified });
}

/// A file at the depth of values: the same elements from memory, from a stream, and from the raw bytes of each value,
/// which end where the boundaries are.
pub fn rdb_values(data: &[u8]) {
    let (mut slice, mut stream) = readers(data);
    loop {
        let Some(item) = alike(slice.next_item(), stream.next_item()) else { return };
        match item {
            None => return,
            Some(Item::Entry(entry)) => {
                let start = slice.offset() as usize;
                let Some((end, sum)) = alike(values(&mut slice), values(&mut stream)) else { return };
                value_is(entry.kind, &data[start..end as usize], sum);
            }
            Some(_) => {}
        }
    }
}

/// Where a value ends, how many elements it has, and what is wrong with it.
fn findings<I: Input>(reader: &mut Reader<I>) -> Result<(u64, u64, Vec<Finding>), Error> {
    let mut findings = Vec::new();
    let checked = reader.check_value(&mut Checker::default(), &mut |finding| findings.push(finding))?;
    assert!(checked.again.is_none(), "inputs are short enough to be gone back in");
    assert!(checked.findings >= findings.len() as u64);
    Ok((reader.offset(), checked.elements, findings))
}

/// A file at the depth of structure: the same findings from memory and from a stream, and a value without any has a
/// meaning, and ends in the same place.
pub fn rdb_structure(data: &[u8]) {
    let (mut slice, mut stream) = readers(data);
    let (mut decoded, _) = readers(data);
    loop {
        let Some(item) = alike(slice.next_item(), stream.next_item()) else { return };
        assert_eq!(decoded.next_item().ok(), Some(item.clone()));
        match item {
            None => return,
            Some(Item::Entry(_)) => {
                let checked = alike(findings(&mut slice), findings(&mut stream));
                let Some((end, _, findings)) = checked else { return };
                match values(&mut decoded) {
                    Ok((value_end, _)) => assert_eq!(end, value_end),
                    Err(error) => {
                        assert!(!findings.is_empty(), "no finding, but {error}");
                        // the other goes on
                        return;
                    }
                }
            }
            Some(_) => {}
        }
    }
}

/// `raw` decodes whole into elements of that sum.
fn value_is(kind: Kind, raw: &[u8], sum: u64) {
    let mut hasher = DefaultHasher::new();
    let again = decode(kind, raw, &LIMITS, &mut |element| {
        add(&mut hasher, &element);
        Ok::<_, Error>(())
    });
    assert!(again.is_ok(), "{again:?}");
    assert_eq!(hasher.finish(), sum);
}

/// `raw` as the value of a key in a file: at all depths.
fn value(kind: Kind, raw: &[u8]) {
    let magic = if kind == Kind::ValkeyHashTtl { b"VALKEY080" } else { b"REDIS0014" };
    let file = [&magic[..], &[kind.type_byte(), 1, b'k'], raw].concat();
    // a stream takes its time: it is there for one of the two
    let streamed = raw.len().is_multiple_of(2);
    let decoded = if streamed {
        alike(values(&mut at_value(&file)), values(&mut at_value_of_stream(&file)))
    } else {
        values(&mut at_value(&file)).ok()
    };
    let checked = if streamed {
        findings(&mut at_value(&file)).ok()
    } else {
        alike(findings(&mut at_value(&file)), findings(&mut at_value_of_stream(&file)))
    };
    if let Some((end, _, findings)) = checked {
        match decoded {
            Some((value_end, _)) => assert_eq!(end, value_end),
            None => assert!(!findings.is_empty(), "neither findings nor a meaning"),
        }
    }
    let Some((end, sum)) = decoded else { return };
    // what has a meaning has an end, and it is the same one
    let mut slice = at_value(&file);
    let start = slice.offset();
    let len = slice.raw_value(usize::MAX).expect("it was decoded").map(<[u8]>::len);
    assert_eq!((len, slice.offset()), (Some((end - start) as usize), end));
    value_is(kind, &file[start as usize..end as usize], sum);
}

/// `blob` as a plain string of an RDB.
fn string(blob: &[u8]) -> Vec<u8> {
    let len = u32::try_from(blob.len()).expect("inputs are short");
    [&[0x80][..], &len.to_be_bytes(), blob].concat()
}

/// A packed blob as a value of one of `kinds`. The first byte chooses, and says whether the blob's own size and last
/// byte are made right, as most changes make them wrong.
fn packed(data: &[u8], kinds: &[Kind]) {
    let Some((&choice, rest)) = data.split_first() else { return };
    let kind = kinds[usize::from(choice & 0x7f) % kinds.len()];
    // the least of the TTLs of a hash stands before its listpack
    let before = if kind == Kind::HashTtlListpack { rest.len().min(8) } else { 0 };
    let (before, blob) = rest.split_at(before);
    let mut blob = blob.to_vec();
    if choice & 0x80 != 0 && blob.len() >= 7 {
        let len = blob.len() as u32;
        blob[..4].copy_from_slice(&len.to_le_bytes());
        blob[len as usize - 1] = 0xff;
    }
    let head: &[u8] = match kind {
        Kind::ListQuicklist => &[1],
        Kind::ListQuicklist2 => &[1, 2],
        _ => before,
    };
    value(kind, &[head, &string(&blob)].concat());
}

/// A listpack: of a hash, a sorted set, a set, a list, a hash with field TTLs.
pub fn listpack(data: &[u8]) {
    use Kind::*;
    let kinds =
        [HashListpack, ZsetListpack, SetListpack, ListQuicklist2, HashTtlListpackPreGa, HashTtlListpack];
    packed(data, &kinds);
}

/// A ziplist: of a hash, a sorted set, a list, a list of several.
pub fn ziplist(data: &[u8]) {
    packed(data, &[Kind::HashZiplist, Kind::ZsetZiplist, Kind::ListZiplist, Kind::ListQuicklist]);
}

/// An intset, or, as seldom seen, a zipmap.
pub fn intset(data: &[u8]) {
    let Some((&choice, blob)) = data.split_first() else { return };
    value(if choice % 8 == 7 { Kind::HashZipmap } else { Kind::SetIntset }, &string(blob));
}

/// A stream of each version: a whole one, or a listpack as the only node of one. The first byte chooses.
pub fn rdb_stream(data: &[u8]) {
    const KINDS: [Kind; 5] = [Kind::Stream1, Kind::Stream2, Kind::Stream3, Kind::Stream4, Kind::Stream5];
    let Some((&choice, rest)) = data.split_first() else { return };
    let kind = KINDS[usize::from(choice & 0x7f) % KINDS.len()];
    if choice & 0x80 == 0 {
        return value(kind, rest);
    }
    let Some((&[entries, last, deleted], blob)) = rest.split_first_chunk::<3>() else { return };
    // the master entry's id is 1-1; six bits are a length of one byte
    let mut raw = vec![1, 16, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1];
    raw.extend(string(blob));
    raw.extend([entries & 63, 1, last & 63]);
    if kind != Kind::Stream1 {
        raw.extend([1, 1, deleted & 1, deleted & 63, 63]);
    }
    raw.push(0);
    if matches!(kind, Kind::Stream4 | Kind::Stream5) {
        raw.extend([0; 5]);
    }
    value(kind, &raw);
}

/// A compressed string; the first two bytes say how long it claims to be. What comes out is what a plain reading of
/// the format gives, byte by byte.
pub fn lzf(data: &[u8]) {
    // what is longer than this takes long, and shows nothing more
    const MOST: u16 = 4096;
    let Some((len, compressed)) = data.split_first_chunk::<2>() else { return };
    let len = u32::from(u16::from_le_bytes(*len) % MOST);
    let Ok(size) = u32::try_from(compressed.len()) else { return };
    let raw = [&[0xc3, 0x80][..], &size.to_be_bytes(), &[0x80], &len.to_be_bytes(), compressed].concat();
    let plain = decompressed(compressed, len as usize);
    assert_eq!(decode_string(&raw).ok().as_deref(), plain.as_deref());
    value(Kind::String, &raw);
}

/// Source: `lzf_decompress` in `src/lzf_d.c`.
fn decompressed(compressed: &[u8], len: usize) -> Option<Vec<u8>> {
    let (mut bytes, mut out) = (compressed.iter().map(|&byte| usize::from(byte)), Vec::new());
    while let Some(control) = bytes.next() {
        if control < 32 {
            for _ in 0..=control {
                out.push(bytes.next()? as u8);
            }
        } else {
            let count = 2 + if control >> 5 == 7 { 7 + bytes.next()? } else { control >> 5 };
            let distance = ((control & 31) << 8 | bytes.next()?) + 1;
            for _ in 0..count {
                out.push(*out.get(out.len().checked_sub(distance)?)?);
            }
        }
        if out.len() > len {
            return None;
        }
    }
    (out.len() == len).then_some(out)
}

/// A hash that is written anew is read as what it was.
fn rewritten_hash(kind: Kind, raw: &[u8]) {
    for by in [Server::redis(7, 4), Server::valkey(9, 0)] {
        let mut out = Vec::new();
        // What servers take: an expiry of 46 bits.
        let mut keep = |at: u64| if at < 1 << 46 { Ok(at) } else { Err(Error::Stopped { offset: 0 }) };
        if let Ok(Some(kind_now)) = rewrite_field_expiries(kind, raw, by, &mut out, &mut keep) {
            let fields = |kind, raw: &[u8]| {
                let mut hasher = DefaultHasher::new();
                let read = decode(kind, raw, &Limits::default(), &mut |element| {
                    add(&mut hasher, &element);
                    Ok::<_, Error>(())
                });
                (read.is_ok(), hasher.finish())
            };
            assert_eq!(fields(kind_now, &out), fields(kind, raw));
        }
    }
}

/// A DUMP payload: as it is, and its bytes as a value of every kind under a right footer.
pub fn dump_payload(data: &[u8]) {
    if let Ok(found) = dump::parse(data) {
        value(found.kind, found.raw);
    }
    let Some((&byte, raw)) = data.split_first() else { return };
    for version in [14, 80] {
        if version == 80 && Kind::of(byte, Magic::Valkey) == Kind::of(byte, Magic::Redis) {
            continue; // seen already
        }
        let mut payload = Vec::new();
        dump::write(&mut payload, byte, raw, version);
        match dump::parse(&payload) {
            Ok(found) => {
                assert_eq!((found.raw, found.rdb_version), (raw, version));
                assert_eq!(Some(found.kind), Kind::of(byte, Magic::of_version(version)));
                value(found.kind, raw);
                rewritten_hash(found.kind, raw);
            }
            Err(error) => {
                assert!(matches!(error, Error::UnknownType { .. } | Error::PreRelease { .. }), "{error}")
            }
        }
    }
}

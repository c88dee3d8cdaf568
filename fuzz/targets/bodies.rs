//! What the fuzz targets do with their input. Plain functions: an ordinary test replays inputs through them too.

use replsync::rdb::{
    Buffered, Error, Item, Kind, Limits, Reader, Slice, decode, decode_string, dump, rewrite_field_expiries,
};
use replsync::server::Server;

/// Low enough that a run out of memory is a bug of ours.
const LIMITS: Limits = Limits { max_string_bytes: 1 << 20, max_stream_fields: 1 << 12 };

/// A whole RDB, from memory and from a stream: same items, same errors, boundaries and values agree.
pub fn rdb(data: &[u8]) {
    let mut slice = Reader::with_limits(Slice::new(data), LIMITS);
    let mut stream = Reader::with_limits(Buffered::new(data), LIMITS);
    loop {
        let (one, other) = (slice.next_item(), stream.next_item());
        assert_eq!(format!("{one:?}"), format!("{other:?}"));
        if one.is_ok() {
            assert_eq!((slice.offset(), slice.key()), (stream.offset(), stream.key()));
        }
        match one {
            Ok(Some(Item::Entry(entry))) => {
                let raw = slice.raw_value(data.len()).map(|raw| raw.map(<[u8]>::to_vec));
                let read = stream.decode_value(&mut |_, _| Ok::<_, Error>(()));
                if let (Ok(()), raw) = (&read, &raw) {
                    // what has a meaning has an end, and it is the same one
                    let raw = raw.as_ref().ok().and_then(Option::as_deref).unwrap_or_default();
                    assert_eq!(slice.offset(), stream.offset());
                    let again = decode(entry.kind, raw, &LIMITS, &mut |_| Ok::<_, Error>(()));
                    assert!(again.is_ok(), "{again:?}");
                }
                if read.is_err() || raw.is_err() {
                    return;
                }
            }
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return,
        }
    }
}

/// A compressed string; the first two bytes say how long it claims to be.
pub fn rdb_lzf(data: &[u8]) {
    let Some((len, compressed)) = data.split_first_chunk::<2>() else { return };
    let len = u32::from(u16::from_le_bytes(*len));
    let Ok(size) = u32::try_from(compressed.len()) else { return };
    let raw = [&[0xc3, 0x80][..], &size.to_be_bytes(), &[0x80], &len.to_be_bytes(), compressed].concat();
    if let Ok(string) = decode_string(&raw) {
        assert_eq!(string.len(), len as usize);
    }
}

/// A hash that is written anew is read as what it was.
fn rewritten_hash(kind: Kind, raw: &[u8]) {
    for by in [Server::redis(7, 4), Server::valkey(9, 0)] {
        let mut out = Vec::new();
        // What servers take: an expiry of 46 bits.
        let mut keep = |at: u64| if at < 1 << 46 { Ok(at) } else { Err(Error::Stopped { offset: 0 }) };
        if let Ok(Some(kind_now)) = rewrite_field_expiries(kind, raw, by, &mut out, &mut keep) {
            let fields = |kind, raw: &[u8]| {
                let mut fields = String::new();
                let read = decode(kind, raw, &Limits::default(), &mut |element| {
                    fields += &format!("{element:?}");
                    Ok::<_, Error>(())
                });
                (read.is_ok(), fields)
            };
            assert_eq!(fields(kind_now, &out), fields(kind, raw));
        }
    }
}

/// A DUMP payload: as it is, and its bytes as a value of every kind under a right footer.
pub fn dump_payload(data: &[u8]) {
    if let Ok(found) = dump::parse(data) {
        let _ = decode(found.kind, found.raw, &LIMITS, &mut |_| Ok::<_, Error>(()));
    }
    if let Some((&byte, raw)) = data.split_first() {
        for version in [13, 80] {
            let mut payload = Vec::new();
            dump::write(&mut payload, byte, raw, version);
            match dump::parse(&payload) {
                Ok(found) => {
                    assert_eq!((found.raw, found.rdb_version), (raw, version));
                    assert_eq!(found.kind.type_byte(), byte);
                    let _ = decode(found.kind, raw, &LIMITS, &mut |_| Ok::<_, Error>(()));
                    rewritten_hash(found.kind, raw);
                }
                Err(error) => assert!(matches!(error, Error::UnknownType { .. }), "{error}"),
            }
        }
        let _ = decode(Kind::Array, raw, &LIMITS, &mut |_| Ok::<_, Error>(()));
    }
}

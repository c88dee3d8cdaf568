//! DUMP payloads: one value outside an RDB, as DUMP answers and RESTORE takes it.
//!
//! Type byte, value, two bytes of RDB version, eight bytes of CRC-64 over all before it; numbers little-endian.
//! Source: `createDumpPayload` and `verifyDumpPayload` in `src/cluster.c`.

use bytes::BufMut;

use super::opcode::pre_release;
use super::{Error, Kind, Magic};
use crate::checksum::{Crc64, crc64};

/// Bytes after the value.
const FOOTER_BYTES: usize = 10;

/// Up to this size, type byte and version included, a value is summed in one go.
const SMALL_BYTES: usize = 512;

/// A payload taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dump<'a> {
    /// What the value is.
    pub kind: Kind,
    /// The value, as it stands in an RDB after the key.
    pub raw: &'a [u8],
    /// The RDB version of the server that made the payload.
    pub rdb_version: u16,
}

/// How long the payload of a value of `raw_len` bytes is.
pub fn payload_len(raw_len: usize) -> usize {
    raw_len.saturating_add(1 + FOOTER_BYTES)
}

/// Appends a payload to `out`. What version to say follows from who is to read it
/// ([`restore_version`](super::restore_version)).
pub fn write(out: &mut impl BufMut, type_byte: u8, raw: &[u8], rdb_version: u16) {
    let version = rdb_version.to_le_bytes();
    let mut small = [0; SMALL_BYTES];
    let crc = if let Some(all) = small.get_mut(..raw.len().saturating_add(3)) {
        // an update of the checksum has a fixed cost: one for all of a small value
        all[0] = type_byte;
        all[1..=raw.len()].copy_from_slice(raw);
        all[1 + raw.len()..].copy_from_slice(&version);
        out.put_slice(all);
        crc64(all)
    } else {
        let mut crc = Crc64::new();
        crc.update(&[type_byte]);
        crc.update(raw);
        crc.update(&version);
        out.put_u8(type_byte);
        out.put_slice(raw);
        out.put_slice(&version);
        crc.value()
    };
    out.put_u64_le(crc);
}

/// Takes a payload apart. The value itself is not looked at: [`decode`](super::decode) does.
///
/// # Errors
/// [`Error::Truncated`], [`Error::UnsupportedVersion`], [`Error::UnknownType`] (also for a payload that starts
/// with a module's key metadata), [`Error::PreRelease`], or [`Error::Checksum`]. A checksum of 0 passes: Redis 8.6
/// takes it for one that was not computed; older servers refuse it.
pub fn parse(payload: &[u8]) -> Result<Dump<'_>, Error> {
    let (value, rdb_version) = body_and_version(payload, payload_len(0))?;
    let Some((&type_byte, raw)) = value.split_first() else {
        return Err(Error::Truncated { offset: 0, wanted: payload_len(0) as u64 });
    };
    let magic = Magic::of_version(rdb_version);
    if !magic.reads(rdb_version) {
        return Err(Error::UnsupportedVersion { magic: magic.as_str(), version: rdb_version });
    }
    let Some(kind) = Kind::of(type_byte, magic) else {
        // opcodes are no types, whatever they would be in a file
        if let (true, Some(what)) = (type_byte < 32, pre_release(type_byte)) {
            return Err(Error::PreRelease { byte: type_byte, offset: 0, what });
        }
        return Err(Error::UnknownType { byte: type_byte, offset: 0, version: rdb_version });
    };
    Ok(Dump { kind, raw, rdb_version })
}

/// What stands before the footer of a FUNCTION DUMP payload, libraries as a file has them, or nothing; and the RDB version
/// that the footer says. The libraries are not looked at.
///
/// Source: `functionDumpCommand` in `src/functions.c`.
///
/// # Errors
/// [`Error::Truncated`] or [`Error::Checksum`].
pub fn functions(payload: &[u8]) -> Result<(&[u8], u16), Error> {
    body_and_version(payload, FOOTER_BYTES)
}

/// What is before the footer, and the version that the footer says; of `least_bytes` at least.
fn body_and_version(payload: &[u8], least_bytes: usize) -> Result<(&[u8], u16), Error> {
    let truncated = Error::Truncated { offset: 0, wanted: least_bytes as u64 };
    if payload.len() < least_bytes {
        return Err(truncated);
    }
    let Some((summed, crc)) = payload.split_last_chunk::<8>() else { return Err(truncated) };
    let Some((body, version)) = summed.split_last_chunk::<2>() else { return Err(truncated) };
    let found = u64::from_le_bytes(*crc);
    let expected = crc64(summed);
    if found != expected && found != 0 {
        return Err(Error::Checksum { expected, found, offset: summed.len() as u64 });
    }
    Ok((body, u16::from_le_bytes(*version)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `DUMP` after `SET k 10`, from the documentation of the command; its RDB version is 10.
    const TEN: &[u8] = b"\x00\xc0\n\n\x00n\x9fWE\x0e\xaec\xbb";

    #[test]
    fn the_documented_payload_is_taken_apart_and_written_alike() {
        let dump = parse(TEN).unwrap();
        assert_eq!((dump.kind, dump.raw, dump.rdb_version), (Kind::String, &b"\xc0\n"[..], 10));
        let mut out = Vec::new();
        write(&mut out, 0, dump.raw, 10);
        assert_eq!(out, TEN);
        assert_eq!(payload_len(dump.raw.len()), TEN.len());
    }

    #[test]
    fn bad_payloads_say_why() {
        assert!(matches!(parse(&TEN[..10]), Err(Error::Truncated { .. })));
        assert!(matches!(parse(b""), Err(Error::Truncated { .. })));
        let mut flipped = TEN.to_vec();
        flipped[2] ^= 1;
        assert!(matches!(parse(&flipped), Err(Error::Checksum { offset: 5, .. })));
        let mut newer = Vec::new();
        write(&mut newer, 0, b"\xc0\n", 15);
        assert!(matches!(parse(&newer), Err(Error::UnsupportedVersion { version: 15, .. })));
        let mut unknown = Vec::new();
        write(&mut unknown, 24, b"", 80);
        assert!(matches!(parse(&unknown), Err(Error::UnknownType { byte: 24, .. })));
    }

    /// `FUNCTION DUMP` of a Redis 7.4 without functions.
    #[test]
    fn functions_lose_their_footer() {
        let mut none = b"\x0c\x00".to_vec();
        none.extend(::crc64::crc64(0, &none).to_le_bytes());
        assert_eq!(functions(&none).unwrap(), (&b""[..], 12));
        none[0] ^= 1;
        assert!(matches!(functions(&none), Err(Error::Checksum { offset: 2, .. })));
        assert!(matches!(functions(&none[1..]), Err(Error::Truncated { .. })));
    }

    proptest! {
        #[test]
        fn what_is_written_is_parsed(raw in prop::collection::vec(any::<u8>(), 0..9000)) {
            let mut out = Vec::new();
            write(&mut out, 2, &raw, 11);
            prop_assert_eq!(out.len(), payload_len(raw.len()));
            let expected = ::crc64::crc64(0, &out[..out.len() - 8]);
            prop_assert_eq!(&out[out.len() - 8..], &expected.to_le_bytes()[..]);
            prop_assert_eq!(parse(&out).unwrap(), Dump { kind: Kind::Set, raw: &raw, rdb_version: 11 });
        }
    }
}

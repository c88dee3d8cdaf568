//! Values written, in the plain forms: no packing, no compression.
//!
//! Source: `rdbSaveLen`, `rdbSaveRawString` and `rdbSaveObject` in `src/rdb.c` of both products.

use super::{Element, Error, Kind, Limits, decode, readable};
use crate::server::Server;

/// Writes a hash with field expiries anew, in a form that `by` loads, with each expiry (in milliseconds since the epoch)
/// as `change` answers. `None`, and nothing in `out`, when `raw` is no such hash or `by` has no field expiries.
///
/// # Errors
/// As [`decode`], and what `change` answers.
pub fn rewrite_field_expiries<E: From<Error>>(
    kind: Kind,
    raw: &[u8],
    by: Server,
    out: &mut Vec<u8>,
    change: &mut impl FnMut(u64) -> Result<u64, E>,
) -> Result<Option<Kind>, E> {
    let written = [Kind::HashTtl, Kind::ValkeyHashTtl].into_iter().find(|kind| readable(*kind, by));
    let Some(written) = written.filter(|_| kind.has_field_expiries()) else { return Ok(None) };
    let (mut count, mut least) = (0, None);
    each_field(kind, raw, &mut |_, _, expiry_ms| {
        count += 1;
        if let Some(expiry_ms) = expiry_ms.map(&mut *change).transpose()? {
            least = Some(least.map_or(expiry_ms, |least: u64| least.min(expiry_ms)));
        }
        Ok::<_, E>(())
    })?;
    out.clear();
    let written = match (written, least) {
        (_, None) => Kind::Hash,
        (Kind::HashTtl, Some(least)) => {
            out.extend_from_slice(&least.to_le_bytes());
            written
        }
        _ => written,
    };
    length(out, count);
    each_field(kind, raw, &mut |field, value, expiry_ms| {
        let expiry_ms = expiry_ms.map(&mut *change).transpose()?;
        if written == Kind::HashTtl {
            // Relative to the least of them, plus 1: 0 stands for none.
            length(
                out,
                expiry_ms.map_or(0, |expiry_ms| (expiry_ms - least.unwrap_or(expiry_ms)).saturating_add(1)),
            );
        }
        string(out, field);
        string(out, value);
        if written == Kind::ValkeyHashTtl {
            let expiry_ms = expiry_ms.map_or(-1, |expiry_ms| i64::try_from(expiry_ms).unwrap_or(i64::MAX));
            out.extend_from_slice(&expiry_ms.to_le_bytes());
        }
        Ok::<_, E>(())
    })?;
    Ok(Some(written))
}

fn each_field<E: From<Error>>(
    kind: Kind,
    raw: &[u8],
    sink: &mut impl FnMut(&[u8], &[u8], Option<u64>) -> Result<(), E>,
) -> Result<(), E> {
    decode(kind, raw, &Limits::default(), &mut |element| match element {
        Element::HashField { field, value, expiry_ms } => sink(field, value, expiry_ms),
        _ => Ok(()),
    })
}

/// A length or count: 6, 14, 32 or 64 bits, big-endian.
fn length(out: &mut Vec<u8>, len: u64) {
    match len {
        0..=0x3f => out.push(len as u8),
        0x40..=0x3fff => out.extend_from_slice(&(0x4000 | len as u16).to_be_bytes()),
        0x4000..=0xffff_ffff => {
            out.push(0x80);
            out.extend_from_slice(&(len as u32).to_be_bytes());
        }
        _ => {
            out.push(0x81);
            out.extend_from_slice(&len.to_be_bytes());
        }
    }
}

fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    length(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Fields = Vec<(Vec<u8>, Vec<u8>, Option<u64>)>;

    fn fields(kind: Kind, raw: &[u8]) -> Fields {
        let mut fields = Fields::new();
        each_field::<Error>(kind, raw, &mut |field, value, expiry_ms| {
            fields.push((field.to_vec(), value.to_vec(), expiry_ms));
            Ok(())
        })
        .unwrap();
        fields
    }

    /// A Valkey hash, whose form is simple enough to be written by hand.
    fn valkey(fields: &Fields) -> Vec<u8> {
        let mut raw = vec![0x81];
        raw.extend((fields.len() as u64).to_be_bytes());
        for (field, value, expiry_ms) in fields {
            for text in [field, value] {
                raw.push(0x80);
                raw.extend((text.len() as u32).to_be_bytes());
                raw.extend(text);
            }
            raw.extend(expiry_ms.map_or(-1, |at| at as i64).to_le_bytes());
        }
        raw
    }

    #[test]
    fn what_is_no_such_hash_is_left_alone() {
        let mut out = Vec::new();
        let mut rewrite =
            |kind, raw: &[u8], by| rewrite_field_expiries::<Error>(kind, raw, by, &mut out, &mut Ok).unwrap();
        assert_eq!(rewrite(Kind::Hash, b"\x01\x01f\x01v", Server::redis(7, 4)), None);
        let expiring = valkey(&vec![(b"f".to_vec(), b"v".to_vec(), Some(5))]);
        assert_eq!(rewrite(Kind::ValkeyHashTtl, &expiring, Server::redis(7, 2)), None);
        let lasting = valkey(&vec![(b"f".to_vec(), b"v".to_vec(), None)]);
        assert_eq!(rewrite(Kind::ValkeyHashTtl, &lasting, Server::redis(7, 4)), Some(Kind::Hash));
        assert_eq!(out, b"\x01\x01f\x01v");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            hash in prop::collection::vec((any::<Vec<u8>>(), any::<Vec<u8>>(), prop::option::of(0u64..1 << 45)), 0..80),
            by in prop::sample::select(vec![Server::redis(7, 4), Server::redis(8, 6), Server::valkey(9, 0)]),
        ) {
            let (mut first, mut second) = (Vec::new(), Vec::new());
            let mut later = |at: u64| Ok::<_, Error>(at + (1 << 45));
            let kind = rewrite_field_expiries(Kind::ValkeyHashTtl, &valkey(&hash), by, &mut first, &mut later);
            let kind = kind.unwrap().unwrap();
            prop_assert!(readable(kind, by));
            let expected: Fields =
                hash.into_iter().map(|(field, value, at)| (field, value, at.map(|at| at + (1 << 45)))).collect();
            prop_assert_eq!(&fields(kind, &first), &expected);
            // And back, whatever it became.
            if kind != Kind::Hash {
                let mut back = |at: u64| Ok::<_, Error>(at);
                let kind = rewrite_field_expiries(kind, &first, Server::valkey(9, 0), &mut second, &mut back);
                prop_assert_eq!(&fields(kind.unwrap().unwrap(), &second), &expected);
            }
        }
    }
}

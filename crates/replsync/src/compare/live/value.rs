//! Two DUMP payloads: whether they hold the same value, and where not.

use std::borrow::Cow;

use super::Kind;
use super::Side;
use super::difference::Unlike;
use super::elements::{Elements, first_unlike};
use crate::compare::text::both;
use crate::digest::{KeyDigest, KeyHasher};
use crate::rdb::dump::{self, Dump};
use crate::rdb::{self, DataType, Limits};
use crate::shift::Shift;

/// Bytes behind the value: RDB version and checksum.
const FOOTER_BYTES: usize = 10;
/// Up to here type bytes mean the same in both families of RDBs.
const LAST_SHARED_TYPE: u8 = 21;

/// In what way the value of `target` differs from that of `source`, if it does. With `shifted`, the field expiries of
/// the target may be shifted. Fields that have expired by `now_ms` count on neither side: when they go is up to the server.
///
/// # Errors
/// A payload that cannot be read, and whose it is. Payloads of equal bytes are not looked into.
pub(super) fn unlike(
    source: &[u8],
    target: &[u8],
    shifted: bool,
    now_ms: u64,
) -> Result<Option<Unlike>, (Side, rdb::Error)> {
    if are_same_bytes(source, target) {
        return Ok(None);
    }
    let of = |side| move |error| (side, error);
    let a = dump::parse(source).map_err(of(Side::Source))?;
    let b = dump::parse(target).map_err(of(Side::Target))?;
    let types = [a.kind.data_type(), b.kind.data_type()];
    let what = match types {
        [a, b] if a != b => {
            let what = format!("{} and {}", a.name(), b.name());
            return Ok(Some(Unlike::new(Kind::Type, what)));
        }
        [DataType::String, _] => {
            let a = rdb::decode_string(a.raw).map_err(of(Side::Source))?;
            let b = rdb::decode_string(b.raw).map_err(of(Side::Target))?;
            (a != b).then(|| both(&a, &b))
        }
        // Only the module could tell more. Its strings are compressed or not, as the server is configured.
        [DataType::Module, _] => (a.raw != b.raw
            && parts(&a).map_err(of(Side::Source))? != parts(&b).map_err(of(Side::Target))?)
        .then(|| format!("the module's {} and {} bytes are not the same", a.raw.len(), b.raw.len())),
        _ => {
            let a = Elements::read(&a, |expiry_ms| expiry_ms, now_ms).map_err(of(Side::Source))?;
            let b = Elements::read(&b, taken_off(shifted), now_ms).map_err(of(Side::Target))?;
            first_unlike(&a, &b)
        }
    };
    Ok(what.map(|what| Unlike::new(Kind::Value, what)))
}

/// What a module has written, part by part, in one number.
fn parts(dump: &Dump<'_>) -> Result<KeyDigest, rdb::Error> {
    let mut hasher = KeyHasher::new();
    hasher.start(b"", None);
    rdb::decode(dump.kind, dump.raw, &Limits::default(), &mut |element| {
        hasher.element(&element);
        Ok::<_, rdb::Error>(())
    })?;
    Ok(hasher.finish(DataType::Module))
}

/// Whether a side's payload is a hash whose fields have all expired: as good as none.
pub(super) fn is_expired(
    side: Side,
    payload: &[u8],
    shifted: bool,
    now_ms: u64,
) -> Result<bool, (Side, rdb::Error)> {
    let of = |error| (side, error);
    let dump = dump::parse(payload).map_err(of)?;
    Ok(dump.kind.has_field_expiries()
        && Elements::read(&dump, taken_off(shifted), now_ms).map_err(of)?.is_empty())
}

pub(super) fn taken_off(shifted: bool) -> fn(u64) -> u64 {
    if shifted { meant } else { |at| at }
}

/// The type of a payload's value, in a word.
pub(super) fn type_name(payload: &[u8]) -> Cow<'static, str> {
    match dump::parse(payload) {
        Ok(Dump { kind, .. }) => kind.data_type().name().into(),
        Err(error) => format!("an unreadable value: {error}").into(),
    }
}

/// Whether type byte and value are the same bytes, and mean the same.
pub(super) fn are_same_bytes(source: &[u8], target: &[u8]) -> bool {
    let (Some((a, version_a)), Some((b, version_b))) = (split(source), split(target)) else { return false };
    a == b && (a[0] <= LAST_SHARED_TYPE || version_a == version_b)
}

/// Type byte and value, at least one byte; and the RDB version.
fn split(payload: &[u8]) -> Option<(&[u8], &[u8])> {
    let (value, footer) = payload.split_at_checked(payload.len().checked_sub(FOOTER_BYTES)?)?;
    (!value.is_empty()).then(|| (value, &footer[..2]))
}

/// The expiry of a hash field that was meant.
fn meant(expiry_ms: u64) -> u64 {
    i64::try_from(expiry_ms).map_or(expiry_ms, |at| Shift::FIELD.meant(at).cast_unsigned())
}

#[cfg(test)]
mod tests;

//! Collections whose elements stand one by one: tables, skiplists, old lists, sparse arrays.

use super::strings::{content, copied, name};
use super::{Error, FindingKind, Input, Limits, Scratch, Visitor, array, length, not_empty};
use crate::rdb::Kind;
use crate::rdb::element::{ArrayValue, Element};
use crate::rdb::packed::{not_nan, score};
use crate::rdb::primitive::{byte, millis};
use crate::rdb::walk::ARRAY_TAGS;
use crate::rdb::window::Window;

pub(super) fn list<I: Input, V: Visitor>(
    input: &mut I,
    limits: &Limits,
    scratch: &mut Scratch,
    v: &mut V,
) -> Result<(), V::Error> {
    let mut left = count(input, v)?;
    while left > 0 {
        let offset = input.offset();
        let mut window = Window::of(input, limits)?;
        if V::STRUCTURE {
            let passed = window.pass(left, 0);
            v.elements(passed);
            left -= passed;
        } else {
            while left > 0
                && let Some(item) = window.text()
            {
                v.element(Element::ListItem(item.as_bytes()), offset)?;
                left -= 1;
            }
        }
        let used = window.used();
        input.consume(used);
        if left > 0 {
            let offset = input.offset();
            if let Some(item) = content(input, limits, &mut scratch.first, v)? {
                v.element(Element::ListItem(item), offset)?;
            }
            left -= 1;
        }
    }
    Ok(())
}

pub(super) fn set<I: Input, V: Visitor>(
    input: &mut I,
    limits: &Limits,
    scratch: &mut Scratch,
    v: &mut V,
) -> Result<(), V::Error> {
    let mut left = count(input, v)?;
    while left > 0 {
        let start = input.offset();
        let mut window = Window::of(input, limits)?;
        let mut used = 0;
        while left > 0
            && let Some(member) = window.text()
        {
            v.element(Element::SetMember(member.as_bytes()), start + used as u64)?;
            used = window.used();
            left -= 1;
        }
        input.consume(used);
        if left > 0 {
            let offset = input.offset();
            if let Some(member) = name(input, limits, &mut scratch.first, v)? {
                v.element(Element::SetMember(member), offset)?;
            }
            left -= 1;
        }
    }
    Ok(())
}

pub(super) fn zset<I: Input, V: Visitor>(
    kind: Kind,
    input: &mut I,
    limits: &Limits,
    scratch: &mut Scratch,
    v: &mut V,
) -> Result<(), V::Error> {
    let mut left = count(input, v)?;
    while left > 0 {
        if kind == Kind::Zset {
            left -= plain_members(input, left, limits, v)?;
            if left == 0 {
                break;
            }
        }
        left -= 1;
        let offset = input.offset();
        let known = copied(input, limits, &mut scratch.first, v)?;
        let score_offset = input.offset();
        let score = match kind {
            Kind::ZsetAscii => match byte(input)? {
                253 => Err("a score that is not a number"),
                254 => Ok(f64::INFINITY),
                255 => Ok(f64::NEG_INFINITY),
                len => score(input.take(len.into())?),
            },
            _ => not_nan(f64::from_le_bytes(array(input)?)),
        };
        let score = match score {
            Ok(score) => score,
            Err(what) => {
                v.finding(FindingKind::Score, score_offset, what)?;
                0.0
            }
        };
        if known {
            v.element(Element::ZsetMember { member: &scratch.first, score }, offset)?;
        }
    }
    Ok(())
}

/// Members that are at hand, not compressed, and have a number for a score. How many.
#[inline]
fn plain_members<I: Input, V: Visitor>(
    input: &mut I,
    most: u64,
    limits: &Limits,
    v: &mut V,
) -> Result<u64, V::Error> {
    let start = input.offset();
    let mut window = Window::of(input, limits)?;
    let (mut used, mut seen) = (0, 0);
    while seen < most
        && let Some(member) = window.text()
        && let Some(score) = window.array()
        && let Ok(score) = not_nan(f64::from_le_bytes(score))
    {
        v.element(Element::ZsetMember { member: member.as_bytes(), score }, start + used as u64)?;
        used = window.used();
        seen += 1;
    }
    input.consume(used);
    Ok(seen)
}

/// Fields without TTLs that are at hand, with their values, both not compressed. How many.
#[inline]
fn plain_fields<I: Input, V: Visitor>(
    input: &mut I,
    most: u64,
    limits: &Limits,
    v: &mut V,
) -> Result<u64, V::Error> {
    let start = input.offset();
    let mut window = Window::of(input, limits)?;
    let (mut used, mut seen) = (0, 0);
    while seen < most
        && let Some(field) = window.text()
    {
        let (field, offset) = (field.as_bytes(), start + used as u64);
        if V::STRUCTURE {
            if window.pass(1, 0) == 0 {
                break;
            }
            v.element(Element::HashField { field, value: &[], expiry_ms: None }, offset)?;
        } else {
            let Some(value) = window.text() else { break };
            v.element(Element::HashField { field, value: value.as_bytes(), expiry_ms: None }, offset)?;
        }
        used = window.used();
        seen += 1;
    }
    input.consume(used);
    Ok(seen)
}

/// The latest expiry of a field, in milliseconds: 48 bits (`EB_EXPIRE_TIME_MAX` in `src/ebuckets.h` of Redis 7.4).
pub(super) const REDIS_FIELD_EXPIRY_MAX_MS: u64 = (1 << 48) - 1;

/// Hashes of single strings: with no TTLs, or each with its own, before or after it.
pub(super) fn hash<I: Input, V: Visitor>(
    kind: Kind,
    input: &mut I,
    limits: &Limits,
    scratch: &mut Scratch,
    v: &mut V,
) -> Result<(), V::Error> {
    let start = input.offset();
    // TTLs are written relative to the least one, plus 1, so that 0 can stand for none
    let least = if kind == Kind::HashTtl { millis(input)? } else { 1 };
    let count = count(input, v)?;
    let mut least_seen = u64::MAX;
    let mut left = count;
    while left > 0 {
        if kind == Kind::Hash {
            left -= plain_fields(input, left, limits, v)?;
            if left == 0 {
                break;
            }
        }
        left -= 1;
        let offset = input.offset();
        let before = match kind {
            Kind::HashTtl | Kind::HashTtlPreGa => length(input)?,
            _ => 0,
        };
        let known = copied(input, limits, &mut scratch.first, v)?;
        let value = match V::STRUCTURE {
            true => content(input, limits, &mut scratch.second, v)?.map(|_| &[][..]),
            false => copied(input, limits, &mut scratch.second, v)?.then_some(&scratch.second[..]),
        };
        let expiry_ms = match (kind, before) {
            (Kind::ValkeyHashTtl, _) => match millis(input)? {
                -1 => Ok(None),
                at => u64::try_from(at).map(Some).map_err(|_| TTL),
            },
            (_, 0) => Ok(None),
            (_, ttl) => (ttl - 1).checked_add_signed(least).map(Some).ok_or(TTL),
        };
        let expiry_ms = match expiry_ms {
            Ok(Some(at)) if V::STRUCTURE && kind != Kind::ValkeyHashTtl && at > REDIS_FIELD_EXPIRY_MAX_MS => {
                v.finding(FindingKind::Expiry, offset, TTL)?;
                None
            }
            Ok(expiry_ms) => expiry_ms,
            Err(what) => {
                v.finding(FindingKind::Expiry, offset, what)?;
                None
            }
        };
        least_seen = least_seen.min(expiry_ms.unwrap_or(u64::MAX));
        if known && let Some(value) = value {
            v.element(Element::HashField { field: &scratch.first, value, expiry_ms }, offset)?;
        }
    }
    // Servers do not look; they write it so (`hashTypeGetMinExpire` with `accurate` 1 in `rdbSaveObject`).
    if V::STRUCTURE && kind == Kind::HashTtl && count > 0 && least.try_into() != Ok(least_seen) {
        v.finding(FindingKind::Expiry, start, "no field expires when the hash says its first one does")?;
    }
    Ok(())
}

pub(super) const TTL: &str = "a field's expiry is out of range";

/// The number of elements of a collection that has some.
fn count<I: Input, V: Visitor>(input: &mut I, v: &mut V) -> Result<u64, V::Error> {
    let offset = input.offset();
    let count = length(input)?;
    not_empty(count, offset, v)?;
    Ok(count)
}

/// Source: `elementArray` in `src/lib/parser.c` of librdb.
pub(super) fn sparse_array<I: Input, V: Visitor>(
    input: &mut I,
    limits: &Limits,
    scratch: &mut Scratch,
    v: &mut V,
) -> Result<(), V::Error> {
    let start = input.offset();
    let count = length(input)?;
    let offset = input.offset();
    let insert_index = match length(input)? {
        0 => None,
        1 => Some(length(input)?),
        _ => return Err(Error::Corrupt { what: "an array's flag is neither 0 nor 1", offset }.into()),
    };
    v.element(Element::ArrayMeta { count, insert_index }, start)?;
    let [text, int, float, short] = ARRAY_TAGS;
    for _ in 0..count {
        let start = input.offset();
        let index = length(input)?;
        let offset = input.offset();
        let value = match length(input)? {
            tag if tag == text || tag == short => match content(input, limits, &mut scratch.first, v)? {
                Some(bytes) => ArrayValue::Bytes(bytes),
                None => continue,
            },
            tag if tag == int => ArrayValue::Int(i64::from_le_bytes(array(input)?)),
            tag if tag == float => ArrayValue::Float(f64::from_le_bytes(array(input)?)),
            _ => return Err(Error::Corrupt { what: "unknown tag of an array's element", offset }.into()),
        };
        v.element(Element::ArrayItem { index, value }, start)?;
    }
    Ok(())
}

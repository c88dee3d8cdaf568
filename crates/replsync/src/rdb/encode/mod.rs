//! Values written, in the plain forms that every server reads: no packing, no compression.
//!
//! Bytes are appended to a `Vec<u8>`. A collection is [`length`] of its elements, then the elements: whoever has them one by
//! one encodes each by itself ([`member`], [`scored`], [`hash_field`]), keeps them wherever, and puts them one behind
//! the other once their number is known. The type byte to write before it is [`plain_kind`]'s. A string too long to hold
//! is [`length`] of its bytes, then the bytes. Hashes whose fields expire are written for a server: [`HashFields`]. Streams
//! are nodes ([`StreamNodes`]) and the rest ([`StreamEnd`]).
//!
//! [`FileWriter`](super::FileWriter) makes files of it.
//!
//! ```
//! use replsync::rdb::{DataType, Element, Error, Limits, decode, encode};
//!
//! let mut set = Vec::new();
//! encode::length(&mut set, 2);
//! encode::member(&mut set, b"a");
//! encode::member(&mut set, b"12");
//! let mut found = Vec::new();
//! decode(encode::plain_kind(DataType::Set).unwrap(), &set, &Limits::default(), &mut |element| {
//!     if let Element::SetMember(member) = element {
//!         found.push(member.to_vec());
//!     }
//!     Ok::<_, Error>(())
//! })?;
//! assert_eq!(found, [&b"a"[..], b"12"]);
//! # Ok::<(), Error>(())
//! ```

mod hash;
mod listpack;
mod stream;

use super::{DataType, Kind, opcode};

pub use hash::{HashFields, HashForm, KeptField, kept_field, rewrite_field_expiries};
pub use stream::{
    NodeLimits, NodesWritten, StreamEnd, StreamGroups, StreamIdmp, StreamMeta, StreamNodes, StreamProducer,
    stream_kind,
};

/// A value that no server could hold so, and none would load: what is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this value cannot be written: {0}")]
pub struct Unwritable(pub &'static str);

/// A key with its value, as it stands in a file: expiry in milliseconds since the epoch, type byte, key, and `raw`, the
/// value's own bytes.
///
/// Source: `rdbSaveKeyValuePair` in `src/rdb.c`.
pub fn entry(out: &mut Vec<u8>, expiry_ms: Option<i64>, type_byte: u8, key: &[u8], raw: &[u8]) {
    entry_head(out, expiry_ms, type_byte);
    string(out, key);
    out.extend_from_slice(raw);
}

/// What stands before the key.
pub(super) fn entry_head(out: &mut Vec<u8>, expiry_ms: Option<i64>, type_byte: u8) {
    if let Some(expiry_ms) = expiry_ms {
        out.push(opcode::EXPIRETIME_MS);
        out.extend_from_slice(&expiry_ms.to_le_bytes());
    }
    out.push(type_byte);
}

/// How many seconds the key to come was not used, as it stands before its [`entry`]: where a server evicts by LRU.
///
/// Source: `rdbSaveKeyValuePair` in `src/rdb.c`.
pub fn idle(out: &mut Vec<u8>, seconds: u64) {
    out.push(opcode::IDLE);
    length(out, seconds);
}

/// The access counter of the key to come, as it stands before its [`entry`]: where a server evicts by LFU.
///
/// Source: `rdbSaveKeyValuePair` in `src/rdb.c`.
pub fn freq(out: &mut Vec<u8>, counter: u8) {
    out.extend_from_slice(&[opcode::FREQ, counter]);
}

/// How a value of that type is written here: strings and collections whose fields do not expire. Nothing for streams
///, modules' values and arrays.
pub fn plain_kind(data_type: DataType) -> Option<Kind> {
    match data_type {
        DataType::String => Some(Kind::String),
        DataType::List => Some(Kind::List),
        DataType::Set => Some(Kind::Set),
        DataType::Zset => Some(Kind::Zset),
        DataType::Hash => Some(Kind::Hash),
        DataType::Stream | DataType::Module | DataType::Array => None,
    }
}

/// A length or count: 6, 14, 32 or 64 bits, big-endian.
///
/// Source: `rdbSaveLen` in `src/rdb.c`.
#[inline]
pub fn length(out: &mut Vec<u8>, len: u64) {
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

/// A string: as a number where it is one and nothing is lost, else as it is. Not compressed.
///
/// Source: `rdbSaveRawString` in `src/rdb.c`.
#[inline]
pub fn string(out: &mut Vec<u8>, text: &[u8]) {
    if let Some(number) = integer(text) {
        return encoded_integer(out, number);
    }
    length(out, text.len() as u64);
    out.extend_from_slice(text);
}

/// The number that `text` is the decimal text of, if it is that of one of 32 bits, to the byte.
///
/// Source: `rdbTryIntegerEncoding` in `src/rdb.c`.
#[inline]
fn integer(text: &[u8]) -> Option<i32> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    match digits {
        // what reads as a number but is not written so: 007, -0
        [] | [b'0', _, ..] => return None,
        [b'0'] if digits.len() < text.len() => return None,
        _ if digits.len() > 10 => return None,
        _ => {}
    }
    let mut number = 0i64;
    for digit in digits {
        let value = digit.wrapping_sub(b'0');
        if value > 9 {
            return None;
        }
        number = number * 10 + i64::from(value);
    }
    i32::try_from(if digits.len() < text.len() { -number } else { number }).ok()
}

/// Source: `rdbEncodeInteger` in `src/rdb.c`.
fn encoded_integer(out: &mut Vec<u8>, number: i32) {
    if let Ok(number) = i8::try_from(number) {
        out.extend_from_slice(&[0xc0, number.cast_unsigned()]);
    } else if let Ok(number) = i16::try_from(number) {
        let [low, high] = number.to_le_bytes();
        out.extend_from_slice(&[0xc1, low, high]);
    } else {
        out.push(0xc2);
        out.extend_from_slice(&number.to_le_bytes());
    }
}

/// A float of 64 bits, little-endian.
///
/// Source: `rdbSaveBinaryDoubleValue` in `src/rdb.c`.
#[inline]
pub fn double(out: &mut Vec<u8>, number: f64) {
    out.extend_from_slice(&number.to_le_bytes());
}

/// An item of a list, or a member of a set.
///
/// Source: `rdbSaveObject` in `src/rdb.c`.
#[inline]
pub fn member(out: &mut Vec<u8>, member: &[u8]) {
    string(out, member);
}

/// A member of a sorted set. In a file the servers put the one with the highest score first, which is the quickest to
/// load; any order is right. A score that is NaN is refused by servers.
///
/// Source: `rdbSaveObject` in `src/rdb.c`.
#[inline]
pub fn scored(out: &mut Vec<u8>, member: &[u8], score: f64) {
    string(out, member);
    double(out, score);
}

/// A field of a hash without field expiries.
///
/// Source: `rdbSaveObject` in `src/rdb.c`.
#[inline]
pub fn hash_field(out: &mut Vec<u8>, field: &[u8], value: &[u8]) {
    string(out, field);
    string(out, value);
}

#[cfg(test)]
mod tests;

//! The smallest parts of the format: bytes, little-endian numbers, lengths, the heads of strings.
//!
//! Source: `rdbLoadLenByRef`, `rdbLoadIntegerObject` and `rdbLoadLzfStringObject` in `src/rdb.c`.

use super::{Error, Input, Limits};

/// How a string starts: what follows, and how it is to be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StringHead {
    /// So many bytes follow.
    Plain(u64),
    /// A number, already read, which stands for its decimal text.
    Int(i32),
    /// `compressed` bytes follow, which stand for `len` bytes.
    Lzf {
        /// Bytes in the input.
        compressed: u64,
        /// Bytes of the string.
        len: u64,
    },
}

enum Prefix {
    Len(u64),
    Encoded(u8),
}

#[inline]
pub(super) fn byte<I: Input>(input: &mut I) -> Result<u8, Error> {
    Ok(input.take(1)?[0])
}

/// The next `N` bytes, by value.
#[inline]
pub(super) fn array<const N: usize, I: Input>(input: &mut I) -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    bytes.copy_from_slice(input.take(N)?);
    Ok(bytes)
}

/// A signed time in milliseconds.
#[inline]
pub(super) fn millis<I: Input>(input: &mut I) -> Result<i64, Error> {
    Ok(i64::from_le_bytes(array(input)?))
}

#[inline]
fn prefix<I: Input>(input: &mut I) -> Result<Prefix, Error> {
    let first = byte(input)?;
    Ok(match first >> 6 {
        0 => Prefix::Len(u64::from(first)),
        1 => Prefix::Len(u64::from(first & 0x3f) << 8 | u64::from(byte(input)?)),
        3 => Prefix::Encoded(first & 0x3f),
        _ => match first {
            0x80 => Prefix::Len(u64::from(u32::from_be_bytes(array(input)?))),
            0x81 => Prefix::Len(u64::from_be_bytes(array(input)?)),
            _ => return Err(Error::BadLength { byte: first, offset: input.offset() - 1 }),
        },
    })
}

/// A length, or a number written as one.
#[inline]
pub(super) fn length<I: Input>(input: &mut I) -> Result<u64, Error> {
    match prefix(input)? {
        Prefix::Len(len) => Ok(len),
        Prefix::Encoded(encoding) => {
            Err(Error::BadLength { byte: 0xc0 | encoding, offset: input.offset() - 1 })
        }
    }
}

/// The head of a string, its lengths within the limits.
#[inline]
pub(super) fn string_head<I: Input>(input: &mut I, limits: &Limits) -> Result<StringHead, Error> {
    match prefix(input)? {
        Prefix::Len(len) => {
            limits.check_string(len, input.offset())?;
            Ok(StringHead::Plain(len))
        }
        Prefix::Encoded(encoding) => encoded_head(input, limits, encoding),
    }
}

fn encoded_head<I: Input>(input: &mut I, limits: &Limits, encoding: u8) -> Result<StringHead, Error> {
    Ok(match encoding {
        0 => StringHead::Int(i32::from(byte(input)? as i8)),
        1 => StringHead::Int(i32::from(i16::from_le_bytes(array(input)?))),
        2 => StringHead::Int(i32::from_le_bytes(array(input)?)),
        3 => {
            let offset = input.offset() - 1;
            let compressed = length(input)?;
            let len = length(input)?;
            limits.check_string(compressed, offset)?;
            limits.check_string(len, offset)?;
            StringHead::Lzf { compressed, len }
        }
        _ => return Err(Error::BadLength { byte: 0xc0 | encoding, offset: input.offset() - 1 }),
    })
}

//! Strings: plain, as a number, compressed.

use super::{
    Error, FindingKind, Input, Limits, STRING_PART_BYTES, Scratch, StringHead, Visitor, lzf, string_head,
};
use crate::rdb::element::Element;
use crate::rdb::packed::{Decimal, Wrong};

/// The next string, in the input or in `scratch`.
#[inline]
pub(in crate::rdb) fn string<'a, I: Input>(
    input: &'a mut I,
    limits: &Limits,
    scratch: &'a mut Vec<u8>,
) -> Result<&'a [u8], Error> {
    let head = string_head(input, limits)?;
    string_body(input, head, scratch)
}

/// What follows `head`, in the input or in `scratch`.
#[inline]
pub(in crate::rdb) fn string_body<'a, I: Input>(
    input: &'a mut I,
    head: StringHead,
    scratch: &'a mut Vec<u8>,
) -> Result<&'a [u8], Error> {
    match head {
        StringHead::Plain(len) => input.take(size(len)),
        StringHead::Int(number) => {
            scratch.clear();
            scratch.extend_from_slice(Decimal::new(number.into()).as_bytes());
            Ok(scratch)
        }
        StringHead::Lzf { compressed, len } => {
            let offset = input.offset();
            if !lzf::plausible(compressed, len) {
                return Err(Error::Lzf { offset, what: IMPLAUSIBLE });
            }
            let bytes = input.take(size(compressed))?;
            lzf::decompress(bytes, size(len), scratch).map_err(|what| Error::Lzf { offset, what })?;
            Ok(scratch)
        }
    }
}

const IMPLAUSIBLE: &str = "it claims more than its bytes can give";

/// A length as a size in memory. What exceeds it cannot be there, and reading it says so.
fn size(len: u64) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}

/// The next string; nothing when it was delimited but compressed wrongly, which the visitor let pass.
#[inline]
pub(super) fn name<'a, I: Input, V: Visitor>(
    input: &'a mut I,
    limits: &Limits,
    scratch: &'a mut Vec<u8>,
    v: &mut V,
) -> Result<Option<&'a [u8]>, V::Error> {
    match string_head(input, limits)? {
        StringHead::Lzf { compressed, len } => {
            Ok(decompressed(input, compressed, len, scratch, v)?.then_some(&scratch[..]))
        }
        head => Ok(Some(string_body(input, head, scratch)?)),
    }
}

/// As [`name`], but empty where structure alone is wanted: then nothing is decompressed, only measured.
#[inline]
pub(super) fn content<'a, I: Input, V: Visitor>(
    input: &'a mut I,
    limits: &Limits,
    scratch: &'a mut Vec<u8>,
    v: &mut V,
) -> Result<Option<&'a [u8]>, V::Error> {
    if !V::STRUCTURE {
        return name(input, limits, scratch, v);
    }
    Ok(passed(input, v)?.then_some(&[][..]))
}

/// The next string, copied to `out`, so that another can be read beside it. Whether it is right.
#[inline]
pub(super) fn copied<I: Input, V: Visitor>(
    input: &mut I,
    limits: &Limits,
    out: &mut Vec<u8>,
    v: &mut V,
) -> Result<bool, V::Error> {
    match string_head(input, limits)? {
        StringHead::Lzf { compressed, len } => return decompressed(input, compressed, len, out, v),
        StringHead::Plain(len) => {
            out.clear();
            out.extend_from_slice(input.take(size(len))?);
        }
        head => {
            string_body(input, head, out)?;
        }
    }
    Ok(true)
}

/// Moves past the next string, however long it is: nothing of it is kept. Whether it is right.
fn passed<I: Input, V: Visitor>(input: &mut I, v: &mut V) -> Result<bool, V::Error> {
    Ok(passed_len(input, v)?.is_some())
}

/// As [`passed`]: the length of the string, if it is right.
pub(super) fn passed_len<I: Input, V: Visitor>(input: &mut I, v: &mut V) -> Result<Option<u64>, V::Error> {
    match string_head(input, &UNLIMITED)? {
        StringHead::Plain(len) => {
            input.skip(len)?;
            Ok(Some(len))
        }
        StringHead::Int(number) => Ok(Some(Decimal::new(number.into()).as_bytes().len() as u64)),
        StringHead::Lzf { compressed, len } => {
            let offset = input.offset();
            if let Err(what) = measured(input, compressed, len)? {
                v.finding(FindingKind::Lzf, offset, what)?;
                return Ok(None);
            }
            Ok(Some(len))
        }
    }
}

/// What is only passed over takes no memory: servers with a higher `proto-max-bulk-len` write strings of any length.
const UNLIMITED: Limits = Limits { max_string_bytes: u64::MAX, max_stream_fields: u64::MAX };

/// A longer compressed string is looked at in pieces.
const MEASURED_WHOLE_BYTES: u64 = 64 * 1024;

/// Moves past a compressed string. Whether it gives exactly `len` bytes.
#[inline]
fn measured<I: Input>(input: &mut I, compressed: u64, len: u64) -> Result<Result<(), Wrong>, Error> {
    if compressed <= MEASURED_WHOLE_BYTES {
        return Ok(lzf::measure(input.take(size(compressed))?, len));
    }
    let (mut left, mut given) = (compressed, 0);
    while left > 0 {
        let bytes = input.peek(size(left).min(lzf::INSTRUCTION_BYTES))?;
        let here = &bytes[..bytes.len().min(size(left))];
        let is_last = here.len() as u64 == left;
        match lzf::measure_some(here, &mut given, is_last) {
            Ok(used) => {
                input.consume(used);
                left -= used as u64;
            }
            Err(what) => {
                input.skip(left)?;
                return Ok(Err(what));
            }
        }
    }
    Ok(lzf::whole(given, len))
}

fn decompressed<I: Input, V: Visitor>(
    input: &mut I,
    compressed: u64,
    len: u64,
    out: &mut Vec<u8>,
    v: &mut V,
) -> Result<bool, V::Error> {
    let offset = input.offset();
    let plausible = lzf::plausible(compressed, len);
    if !plausible {
        v.finding(FindingKind::Lzf, offset, IMPLAUSIBLE)?;
    }
    let bytes = input.take(size(compressed))?;
    if plausible && let Err(what) = lzf::decompress(bytes, size(len), out) {
        v.finding(FindingKind::Lzf, offset, what)?;
        return Ok(false);
    }
    Ok(plausible)
}

/// A value that is a string, in parts.
pub(super) fn parts<I: Input, V: Visitor>(
    input: &mut I,
    limits: &Limits,
    scratch: &mut Scratch,
    v: &mut V,
) -> Result<(), V::Error> {
    let offset = input.offset();
    if V::STRUCTURE {
        passed(input, v)?;
        return v.element(Element::StringPart(&[]), offset);
    }
    let head = string_head(input, limits)?;
    let StringHead::Plain(len) = head else {
        let text = string_body(input, head, &mut scratch.first)?;
        let (first, rest) = text.split_at(text.len().min(STRING_PART_BYTES));
        v.element(Element::StringPart(first), offset)?;
        return rest
            .chunks(STRING_PART_BYTES)
            .try_for_each(|part| v.element(Element::StringPart(part), offset));
    };
    let mut left = len;
    loop {
        let part = left.min(STRING_PART_BYTES as u64);
        v.element(Element::StringPart(input.take(size(part))?), offset)?;
        left -= part;
        if left == 0 {
            return Ok(());
        }
    }
}

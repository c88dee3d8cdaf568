//! Strings: plain, as a number, compressed.

use super::{
    Error, FindingKind, Input, Limits, STRING_PART_BYTES, Scratch, StringHead, Visitor, lzf, string_head,
};
use crate::rdb::element::Element;
use crate::rdb::packed::Decimal;

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
    Ok(passed(input, limits, v)?.then_some(&[][..]))
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

/// Moves past the next string. Whether it is right.
fn passed<I: Input, V: Visitor>(input: &mut I, limits: &Limits, v: &mut V) -> Result<bool, V::Error> {
    match string_head(input, limits)? {
        StringHead::Plain(len) => input.skip(len)?,
        StringHead::Int(_) => {}
        StringHead::Lzf { compressed, len } => {
            let offset = input.offset();
            let bytes = input.take(size(compressed))?;
            if let Err(what) = lzf::measure(bytes, len) {
                v.finding(FindingKind::Lzf, offset, what)?;
                return Ok(false);
            }
        }
    }
    Ok(true)
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
        passed(input, limits, v)?;
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

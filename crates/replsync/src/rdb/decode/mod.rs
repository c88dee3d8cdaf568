//! Values: what the bytes of each kind mean, as elements in the order of the file.
//!
//! Straight-line code that pulls from an [`Input`], so that a stream and bytes in memory are decoded alike.
//! Source: `rdbLoadObject` in `src/rdb.c` of both products.

mod stream;

use std::borrow::Cow;

use super::element::{ArrayValue, Element};
use super::input::{Input, Slice};
use super::packed::{Decimal, Packed, Text, Wrong, not_nan, score};
use super::primitive::{StringHead, array, byte, length, millis, string_head};
use super::walk::{ARRAY_TAGS, Halt, walk};
use super::{Error, Kind, Limits, ModuleId, intset, listpack, lzf, ziplist, zipmap};

/// The longest part of a string that is given at once: a shorter one is the last.
pub const STRING_PART_BYTES: usize = 1 << 20;

/// A buffer that one long string made larger than this is given back after the value.
const SCRATCH_KEPT_BYTES: usize = 1 << 20;

/// Room for what cannot be shown as it stands in the input: numbers, compressed strings, the first of a pair.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    pub first: Vec<u8>,
    pub second: Vec<u8>,
}

/// Decodes the raw bytes of one value, as they stand in an RDB after the key, into `sink`.
///
/// Offsets in errors count from the start of `raw`.
///
/// # Errors
/// Whatever is wrong with the bytes, bytes after the value ([`Error::Corrupt`]), and what the sink answers.
pub fn decode<E: From<Error>>(
    kind: Kind,
    raw: &[u8],
    limits: &Limits,
    sink: &mut impl FnMut(Element<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let mut input = Slice::new(raw);
    value(kind, &mut input, limits, &mut Scratch::default(), sink)?;
    if input.rest().is_empty() {
        return Ok(());
    }
    Err(Error::Corrupt { what: "bytes after the end of the value", offset: input.offset() }.into())
}

/// The string in the raw bytes of a [`Kind::String`], borrowed where it stands there as it is. The default
/// [`Limits`] apply.
///
/// # Errors
/// As [`decode`].
pub fn decode_string(raw: &[u8]) -> Result<Cow<'_, [u8]>, Error> {
    let mut input = Slice::new(raw);
    let limits = Limits::default();
    let mut scratch = Vec::new();
    let string = match string_head(&mut input, &limits)? {
        StringHead::Plain(len) => {
            let rest = input.rest();
            input.skip(len)?;
            Cow::Borrowed(&rest[..rest.len() - input.rest().len()])
        }
        head => {
            string_body(&mut input, head, &mut scratch)?;
            Cow::Owned(scratch)
        }
    };
    if input.rest().is_empty() {
        return Ok(string);
    }
    Err(Error::Corrupt { what: "bytes after the end of the value", offset: input.offset() })
}

/// Decodes the value at hand.
pub(super) fn value<I: Input, E: From<Error>>(
    kind: Kind,
    input: &mut I,
    limits: &Limits,
    scratch: &mut Scratch,
    sink: &mut impl FnMut(Element<'_>) -> Result<(), E>,
) -> Result<(), E> {
    match kind {
        Kind::String => string_parts(input, limits, scratch, sink)?,
        Kind::List => {
            for _ in 0..length(input)? {
                sink(Element::ListItem(string(input, limits, &mut scratch.first)?))?;
            }
        }
        Kind::Set => {
            for _ in 0..length(input)? {
                sink(Element::SetMember(string(input, limits, &mut scratch.first)?))?;
            }
        }
        Kind::Zset | Kind::ZsetAscii => zset(kind, input, limits, scratch, sink)?,
        Kind::Hash | Kind::HashTtl | Kind::HashTtlPreGa | Kind::ValkeyHashTtl => {
            hash(kind, input, limits, scratch, sink)?;
        }
        Kind::ListQuicklist | Kind::ListQuicklist2 => quicklist(kind, input, limits, scratch, sink)?,
        Kind::HashTtlListpack => {
            // the least of the TTLs that follow
            millis(input)?;
            blob(kind, input, limits, scratch, sink)?;
        }
        Kind::HashZipmap
        | Kind::HashZiplist
        | Kind::HashListpack
        | Kind::HashTtlListpackPreGa
        | Kind::ListZiplist
        | Kind::SetIntset
        | Kind::SetListpack
        | Kind::ZsetZiplist
        | Kind::ZsetListpack => blob(kind, input, limits, scratch, sink)?,
        Kind::Stream1 | Kind::Stream2 | Kind::Stream3 | Kind::Stream4 | Kind::Stream5 => {
            stream::stream(kind, input, limits, scratch, sink)?;
        }
        Kind::Array => sparse_array(input, limits, scratch, sink)?,
        Kind::Module => module(input, limits, sink)?,
    }
    scratch.first.clear();
    scratch.second.clear();
    scratch.first.shrink_to(SCRATCH_KEPT_BYTES);
    scratch.second.shrink_to(SCRATCH_KEPT_BYTES);
    Ok(())
}

/// The next string, in the input or in `scratch`.
#[inline]
pub(super) fn string<'a, I: Input>(
    input: &'a mut I,
    limits: &Limits,
    scratch: &'a mut Vec<u8>,
) -> Result<&'a [u8], Error> {
    let head = string_head(input, limits)?;
    string_body(input, head, scratch)
}

/// What follows `head`, in the input or in `scratch`.
#[inline]
pub(super) fn string_body<'a, I: Input>(
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
                return Err(Error::Lzf { offset, what: "it claims more than its bytes can give" });
            }
            let bytes = input.take(size(compressed))?;
            lzf::decompress(bytes, size(len), scratch).map_err(|what| Error::Lzf { offset, what })?;
            Ok(scratch)
        }
    }
}

/// A length as a size in memory. What exceeds it cannot be there, and reading it says so.
fn size(len: u64) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}

/// The next string, copied to `out`, so that another can be read beside it.
fn copy_string<I: Input>(input: &mut I, limits: &Limits, out: &mut Vec<u8>) -> Result<(), Error> {
    match string_head(input, limits)? {
        StringHead::Plain(len) => {
            out.clear();
            out.extend_from_slice(input.take(size(len))?);
        }
        head => {
            string_body(input, head, out)?;
        }
    }
    Ok(())
}

fn string_parts<I: Input, E: From<Error>>(
    input: &mut I,
    limits: &Limits,
    scratch: &mut Scratch,
    sink: &mut impl FnMut(Element<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let head = string_head(input, limits)?;
    let StringHead::Plain(len) = head else {
        let text = string_body(input, head, &mut scratch.first)?;
        let (first, rest) = text.split_at(text.len().min(STRING_PART_BYTES));
        sink(Element::StringPart(first))?;
        return rest.chunks(STRING_PART_BYTES).try_for_each(|part| sink(Element::StringPart(part)));
    };
    let mut left = len;
    loop {
        let part = left.min(STRING_PART_BYTES as u64);
        sink(Element::StringPart(input.take(size(part))?))?;
        left -= part;
        if left == 0 {
            return Ok(());
        }
    }
}

fn zset<I: Input, E: From<Error>>(
    kind: Kind,
    input: &mut I,
    limits: &Limits,
    scratch: &mut Scratch,
    sink: &mut impl FnMut(Element<'_>) -> Result<(), E>,
) -> Result<(), E> {
    for _ in 0..length(input)? {
        copy_string(input, limits, &mut scratch.first)?;
        let offset = input.offset();
        let corrupt = |what| Error::Corrupt { what, offset };
        let score = match kind {
            Kind::ZsetAscii => match byte(input)? {
                253 => Err("a score that is not a number"),
                254 => Ok(f64::INFINITY),
                255 => Ok(f64::NEG_INFINITY),
                len => score(input.take(len.into())?),
            },
            _ => not_nan(f64::from_le_bytes(array(input)?)),
        };
        let member = &scratch.first;
        sink(Element::ZsetMember { member, score: score.map_err(corrupt)? })?;
    }
    Ok(())
}

/// Hashes of single strings: with no TTLs, or each with its own, before or after it.
fn hash<I: Input, E: From<Error>>(
    kind: Kind,
    input: &mut I,
    limits: &Limits,
    scratch: &mut Scratch,
    sink: &mut impl FnMut(Element<'_>) -> Result<(), E>,
) -> Result<(), E> {
    // TTLs are written relative to the least one, plus 1, so that 0 can stand for none
    let least = if kind == Kind::HashTtl { millis(input)? } else { 1 };
    for _ in 0..length(input)? {
        let offset = input.offset();
        let before = match kind {
            Kind::HashTtl | Kind::HashTtlPreGa => length(input)?,
            _ => 0,
        };
        copy_string(input, limits, &mut scratch.first)?;
        copy_string(input, limits, &mut scratch.second)?;
        let expiry_ms = match (kind, before) {
            (Kind::ValkeyHashTtl, _) => match millis(input)? {
                -1 => None,
                at => Some(u64::try_from(at).map_err(|_| corrupt_ttl(offset))?),
            },
            (_, 0) => None,
            (_, ttl) => Some((ttl - 1).checked_add_signed(least).ok_or(corrupt_ttl(offset))?),
        };
        sink(Element::HashField { field: &scratch.first, value: &scratch.second, expiry_ms })?;
    }
    Ok(())
}

fn corrupt_ttl(offset: u64) -> Error {
    Error::Corrupt { what: "a field's expiry is out of range", offset }
}

fn quicklist<I: Input, E: From<Error>>(
    kind: Kind,
    input: &mut I,
    limits: &Limits,
    scratch: &mut Scratch,
    sink: &mut impl FnMut(Element<'_>) -> Result<(), E>,
) -> Result<(), E> {
    for _ in 0..length(input)? {
        let offset = input.offset();
        let corrupt = |what| Error::Corrupt { what, offset };
        let container = if kind == Kind::ListQuicklist2 { length(input)? } else { ZIPLIST };
        let node = string(input, limits, &mut scratch.first)?;
        match container {
            ZIPLIST if kind == Kind::ListQuicklist => list(ziplist::Items::new(node), offset, sink)?,
            PLAIN => sink(Element::ListItem(node))?,
            PACKED => list(listpack::Items::new(node), offset, sink)?,
            _ => return Err(corrupt("a list's node is neither plain nor packed").into()),
        }
    }
    Ok(())
}

/// What a quicklist's nodes are; the first was the only one before they said so.
const ZIPLIST: u64 = 0;
const PLAIN: u64 = 1;
const PACKED: u64 = 2;

fn list<'a, E: From<Error>>(
    items: Result<impl Iterator<Item = Result<Packed<'a>, Wrong>>, Wrong>,
    offset: u64,
    sink: &mut impl FnMut(Element<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let corrupt = |what| Error::Corrupt { what, offset };
    for item in items.map_err(corrupt)? {
        sink(Element::ListItem(Text::from(item.map_err(corrupt)?).as_bytes()))?;
    }
    Ok(())
}

/// Values that are one string, which packs all their elements.
fn blob<I: Input, E: From<Error>>(
    kind: Kind,
    input: &mut I,
    limits: &Limits,
    scratch: &mut Scratch,
    sink: &mut impl FnMut(Element<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let offset = input.offset();
    let corrupt = |what| Error::Corrupt { what, offset };
    let blob = string(input, limits, &mut scratch.first)?;
    match kind {
        Kind::HashZipmap => {
            for pair in zipmap::Pairs::new(blob).map_err(corrupt)? {
                let (field, value) = pair.map_err(corrupt)?;
                sink(Element::HashField { field, value, expiry_ms: None })?;
            }
            Ok(())
        }
        Kind::SetIntset => {
            for member in intset::members(blob).map_err(corrupt)? {
                sink(Element::SetMember(Decimal::new(member).as_bytes()))?;
            }
            Ok(())
        }
        Kind::ListZiplist => list(ziplist::Items::new(blob), offset, sink),
        Kind::HashZiplist | Kind::ZsetZiplist => tuples(kind, ziplist::Items::new(blob), offset, sink),
        _ => tuples(kind, listpack::Items::new(blob), offset, sink),
    }
}

/// Elements of one, two or three packed items each.
fn tuples<'a, E: From<Error>>(
    kind: Kind,
    items: Result<impl Iterator<Item = Result<Packed<'a>, Wrong>>, Wrong>,
    offset: u64,
    sink: &mut impl FnMut(Element<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let corrupt = |what| Error::Corrupt { what, offset };
    let mut items = items.map_err(corrupt)?;
    while let Some(first) = items.next() {
        let mut next = || items.next().unwrap_or(Err("its last element is not whole")).map_err(corrupt);
        let first = Text::from(first.map_err(corrupt)?);
        match kind {
            Kind::SetListpack => sink(Element::SetMember(first.as_bytes()))?,
            Kind::ZsetZiplist | Kind::ZsetListpack => {
                let score = match next()? {
                    Packed::Int(number) => Ok(number as f64),
                    Packed::Bytes(text) => score(text),
                };
                sink(Element::ZsetMember { member: first.as_bytes(), score: score.map_err(corrupt)? })?;
            }
            _ => {
                let second = Text::from(next()?);
                let expiry_ms = match kind {
                    Kind::HashTtlListpack | Kind::HashTtlListpackPreGa => match next()? {
                        Packed::Int(0) => None,
                        Packed::Int(at) => Some(u64::try_from(at).map_err(|_| corrupt_ttl(offset))?),
                        Packed::Bytes(_) => return Err(corrupt_ttl(offset).into()),
                    },
                    _ => None,
                };
                sink(Element::HashField { field: first.as_bytes(), value: second.as_bytes(), expiry_ms })?;
            }
        }
    }
    Ok(())
}

/// Source: `elementArray` in `src/lib/parser.c` of librdb.
fn sparse_array<I: Input, E: From<Error>>(
    input: &mut I,
    limits: &Limits,
    scratch: &mut Scratch,
    sink: &mut impl FnMut(Element<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let count = length(input)?;
    let offset = input.offset();
    let insert_index = match length(input)? {
        0 => None,
        1 => Some(length(input)?),
        _ => return Err(Error::Corrupt { what: "an array's flag is neither 0 nor 1", offset }.into()),
    };
    sink(Element::ArrayMeta { count, insert_index })?;
    let [text, int, float, short] = ARRAY_TAGS;
    for _ in 0..count {
        let index = length(input)?;
        let offset = input.offset();
        let value = match length(input)? {
            tag if tag == text || tag == short => {
                ArrayValue::Bytes(string(input, limits, &mut scratch.first)?)
            }
            tag if tag == int => ArrayValue::Int(i64::from_le_bytes(array(input)?)),
            tag if tag == float => ArrayValue::Float(f64::from_le_bytes(array(input)?)),
            _ => return Err(Error::Corrupt { what: "unknown tag of an array's element", offset }.into()),
        };
        sink(Element::ArrayItem { index, value })?;
    }
    Ok(())
}

fn module<I: Input, E: From<Error>>(
    input: &mut I,
    limits: &Limits,
    sink: &mut impl FnMut(Element<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let id = ModuleId(length(input)?);
    sink(Element::ModuleValue { id })?;
    match walk(input, &[super::kind::Op::ModuleParts], limits, u64::MAX) {
        Ok(()) => Ok(()),
        Err(Halt::Error(error)) => Err(error.into()),
        Err(Halt::Over) => Err(Error::Truncated { offset: input.offset(), wanted: u64::MAX }.into()),
    }
}

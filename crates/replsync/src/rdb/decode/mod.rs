//! Values: what the bytes of each kind mean, as elements in the order of the file.
//!
//! Straight-line code that pulls from an [`Input`], so that a stream and bytes in memory are decoded alike, and that
//! shows what it sees to a [`Visitor`], so that values and structure are read by the same code.
//! Source: `rdbLoadObject` in `src/rdb.c` of both products.

mod names;
mod packed_values;
mod stream;
mod strings;
mod tables;

use std::borrow::Cow;

use super::check::FindingKind;
use super::element::{Element, ModulePart};
use super::input::{Input, Slice};
use super::packed::Wrong;
use super::primitive::{StringHead, array, length, string_head};
use super::{Error, Kind, Limits, ModuleId, lzf};

pub(super) use strings::{string, string_body};

/// The longest part of a string that is given at once: a shorter one is the last.
pub const STRING_PART_BYTES: usize = 1 << 20;

/// A buffer that one long string made larger than this is given back after the value.
const SCRATCH_KEPT_BYTES: usize = 1 << 20;

/// Who looks at a value while it is decoded.
pub(super) trait Visitor {
    type Error: From<Error>;

    /// Structure is checked as deep as is known. Else only what would give wrong elements is a finding.
    ///
    /// Then contents are not looked at, but for names: values of hashes, items of lists, entries of streams and
    /// strings are given empty, or not at all but in their number.
    const STRUCTURE: bool;

    /// An element; `offset` is where it stands, or where the blob stands that it is packed in.
    fn element(&mut self, element: Element<'_>, offset: u64) -> Result<(), Self::Error>;

    /// So many elements of which nothing else needs to be known.
    fn elements(&mut self, _count: u64) {}

    /// Something is wrong, and decoding can go on after it, unless this answers with an error.
    fn finding(&mut self, kind: FindingKind, offset: u64, what: Wrong) -> Result<(), Self::Error>;
}

/// Wants values whole and right: the first finding is an error.
struct Strict<F>(F);

impl<E: From<Error>, F: FnMut(Element<'_>) -> Result<(), E>> Visitor for Strict<F> {
    type Error = E;
    const STRUCTURE: bool = false;

    #[inline]
    fn element(&mut self, element: Element<'_>, _: u64) -> Result<(), E> {
        self.0(element)
    }

    #[cold]
    fn finding(&mut self, kind: FindingKind, offset: u64, what: Wrong) -> Result<(), E> {
        Err(match kind {
            FindingKind::Lzf => Error::Lzf { offset, what },
            _ => Error::Corrupt { what, offset },
        }
        .into())
    }
}

/// Room for what cannot be shown as it stands in the input: numbers, compressed strings, the first of a pair.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    pub first: Vec<u8>,
    pub second: Vec<u8>,
    stream: stream::Room,
}

impl Scratch {
    /// Gives back what one long string took.
    #[inline]
    fn tidy(&mut self) {
        for buffer in [&mut self.first, &mut self.second] {
            buffer.clear();
            if buffer.capacity() > SCRATCH_KEPT_BYTES {
                buffer.shrink_to(SCRATCH_KEPT_BYTES);
            }
        }
    }
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

/// Decodes the value at hand; whatever is wrong is an error.
pub(super) fn value<I: Input, E: From<Error>>(
    kind: Kind,
    input: &mut I,
    limits: &Limits,
    scratch: &mut Scratch,
    sink: &mut impl FnMut(Element<'_>) -> Result<(), E>,
) -> Result<(), E> {
    visit(kind, input, limits, scratch, &mut Strict(sink))
}

/// Decodes the value at hand. What the visitor lets pass is passed over: the next string, node or entry is
/// delimited whatever is in the one before it.
pub(super) fn visit<I: Input, V: Visitor>(
    kind: Kind,
    input: &mut I,
    limits: &Limits,
    scratch: &mut Scratch,
    v: &mut V,
) -> Result<(), V::Error> {
    match kind {
        Kind::String => strings::parts(input, limits, scratch, v)?,
        Kind::List => tables::list(input, limits, scratch, v)?,
        Kind::Set => tables::set(input, limits, scratch, v)?,
        Kind::Zset | Kind::ZsetAscii => tables::zset(kind, input, limits, scratch, v)?,
        Kind::Hash | Kind::HashTtl | Kind::HashTtlPreGa | Kind::ValkeyHashTtl => {
            tables::hash(kind, input, limits, scratch, v)?;
        }
        Kind::Array => tables::sparse_array(input, limits, scratch, v)?,
        Kind::ListQuicklist | Kind::ListQuicklist2 => {
            packed_values::quicklist(kind, input, limits, scratch, v)?;
        }
        Kind::HashTtlListpack => {
            // The least of the TTLs that follow, as it was when the server last looked: not always so by now
            // (`hashTypeGetMinExpire` with `accurate` 0).
            array::<8, _>(input)?;
            packed_values::blob(kind, input, limits, scratch, v)?;
        }
        Kind::HashZipmap
        | Kind::HashZiplist
        | Kind::HashListpack
        | Kind::HashTtlListpackPreGa
        | Kind::ListZiplist
        | Kind::SetIntset
        | Kind::SetListpack
        | Kind::ZsetZiplist
        | Kind::ZsetListpack => packed_values::blob(kind, input, limits, scratch, v)?,
        Kind::Stream1 | Kind::Stream2 | Kind::Stream3 | Kind::Stream4 | Kind::Stream5 => {
            stream::stream(kind, input, limits, scratch, v)?;
        }
        Kind::Module => module(input, limits, scratch, v)?,
    }
    scratch.tidy();
    Ok(())
}

/// A collection without elements: servers never write one. RESTORE refuses it; loading a file, servers from
/// 6.2.6 skip it (`empty_keys_skipped`), and older ones load it (`emptykey` in `rdbLoadObject`).
#[inline]
fn not_empty<V: Visitor>(count: u64, offset: u64, v: &mut V) -> Result<(), V::Error> {
    if V::STRUCTURE && count == 0 {
        return v.finding(FindingKind::Empty, offset, "a collection without elements");
    }
    Ok(())
}

/// Source: `rdbLoadCheckModuleValue` in `src/rdb.c`.
fn module<I: Input, V: Visitor>(
    input: &mut I,
    limits: &Limits,
    scratch: &mut Scratch,
    v: &mut V,
) -> Result<(), V::Error> {
    let offset = input.offset();
    let id = ModuleId(length(input)?);
    v.element(Element::ModuleValue { id }, offset)?;
    loop {
        let offset = input.offset();
        let part = match length(input)? {
            0 => return Ok(()),
            1 => ModulePart::Signed(length(input)?.cast_signed()),
            2 => ModulePart::Unsigned(length(input)?),
            3 => ModulePart::Float(f32::from_le_bytes(array(input)?)),
            4 => ModulePart::Double(f64::from_le_bytes(array(input)?)),
            5 => match strings::content(input, limits, &mut scratch.first, v)? {
                Some(text) => ModulePart::String(text),
                None => continue,
            },
            _ => {
                return Err(Error::Corrupt { what: "unknown opcode in a module's data", offset }.into());
            }
        };
        v.element(Element::ModulePart(part), offset)?;
    }
}

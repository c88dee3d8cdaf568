//! The size of a value, as cheaply as the format tells it: from counts in headers, without decoding.

use super::input::Input;
use super::kind::Op;
use super::packed::{Decimal, Packed, Wrong};
use super::primitive::{StringHead, length, millis, string_head};
use super::walk::{Halt, walk};
use super::{Error, Kind, Limits, ModuleId, decode, listpack, lzf, ziplist, zipmap};

/// What [`Reader::measure_value`](super::Reader::measure_value) finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measure {
    /// What the server's own STRLEN, LLEN, SCARD, ZCARD, HLEN or XLEN answers: bytes of a string (decompressed), else
    /// elements. Nothing for a module's value, which only the module can count.
    pub elements: Option<u64>,
    /// How many of a hash's fields have an expiry.
    pub field_expiries: u64,
    /// How the value is written: of a string `int`, `plain` or `lzf`, else [`Kind::encoding`].
    pub encoding: &'static str,
    /// The type that a module registered, where this is a module's value.
    pub module: Option<ModuleId>,
}

/// How many bytes of a packed blob its header takes: the longest, a ziplist's.
const HEADER_BYTES: usize = 10;
/// So many compressed bytes give a header, whatever they are: at worst two bytes give one.
const COMPRESSED_HEADER_BYTES: usize = 4 * HEADER_BYTES;
/// In a 16-bit count of items: there are this many or more.
const UNKNOWN: u16 = u16::MAX;

/// Moves past the value at hand, and counts. Contents are looked at only where a header does not count: packed blobs of
/// 65,535 items or more, and the listpacks of hashes with field TTLs.
pub(super) fn value<I: Input>(
    kind: Kind,
    input: &mut I,
    limits: &Limits,
    scratch: &mut decode::Scratch,
) -> Result<Measure, Error> {
    let mut measure = Measure { elements: None, field_expiries: 0, encoding: kind.encoding(), module: None };
    let mut blob = Blob { input, limits, scratch: &mut scratch.first };
    measure.elements = match kind {
        Kind::String => {
            let (len, encoding) = blob.string()?;
            measure.encoding = encoding;
            Some(len)
        }
        Kind::List => Some(blob.repeat(&[Op::Str])?),
        Kind::Set => Some(blob.repeat(&[Op::Str])?),
        Kind::ZsetAscii => Some(blob.repeat(&[Op::Str, Op::Decimal])?),
        Kind::Zset => Some(blob.repeat(&[Op::Str, Op::Fixed(8)])?),
        Kind::Hash => Some(blob.repeat(&[Op::Str, Op::Str])?),
        Kind::HashTtl | Kind::HashTtlPreGa | Kind::ValkeyHashTtl => {
            let (fields, expiries) = blob.fields_with_expiries(kind)?;
            measure.field_expiries = expiries;
            Some(fields)
        }
        Kind::HashTtlListpack | Kind::HashTtlListpackPreGa => {
            if kind == Kind::HashTtlListpack {
                millis(blob.input)?;
            }
            let (fields, expiries) = blob.triples()?;
            measure.field_expiries = expiries;
            Some(fields)
        }
        Kind::ListQuicklist => Some(blob.nodes(false)?),
        Kind::ListQuicklist2 => Some(blob.nodes(true)?),
        Kind::HashZipmap => Some(blob.items(Packing::Zipmap)?),
        Kind::SetIntset => Some(blob.items(Packing::Intset)?),
        Kind::ListZiplist => Some(blob.items(Packing::Ziplist)?),
        Kind::HashZiplist | Kind::ZsetZiplist => Some(blob.pairs(Packing::Ziplist)?),
        Kind::SetListpack => Some(blob.items(Packing::Listpack)?),
        Kind::HashListpack | Kind::ZsetListpack => Some(blob.pairs(Packing::Listpack)?),
        Kind::Stream1 | Kind::Stream2 | Kind::Stream3 | Kind::Stream4 | Kind::Stream5 => {
            Some(blob.stream(kind.grammar())?)
        }
        Kind::Array => {
            blob.input.mark();
            let count = length(blob.input);
            blob.input.rewind();
            blob.walk(kind.grammar())?;
            Some(count?)
        }
        Kind::Module => {
            measure.module = Some(ModuleId(length(blob.input)?));
            blob.walk(&[Op::ModuleParts])?;
            None
        }
    };
    Ok(measure)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Packing {
    Listpack,
    Ziplist,
    Zipmap,
    Intset,
}

/// An input from which values are counted.
struct Blob<'a, I> {
    input: &'a mut I,
    limits: &'a Limits,
    scratch: &'a mut Vec<u8>,
}

impl<I: Input> Blob<'_, I> {
    fn walk(&mut self, grammar: &[Op]) -> Result<(), Error> {
        match walk(self.input, grammar, self.limits, u64::MAX) {
            Ok(()) => Ok(()),
            Err(Halt::Error(error)) => Err(error),
            Err(Halt::Over) => Err(Error::Truncated { offset: self.input.offset(), wanted: u64::MAX }),
        }
    }

    fn string(&mut self) -> Result<(u64, &'static str), Error> {
        Ok(match string_head(self.input, self.limits)? {
            StringHead::Plain(len) => {
                self.input.skip(len)?;
                (len, "plain")
            }
            StringHead::Int(number) => (Decimal::new(number.into()).as_bytes().len() as u64, "int"),
            StringHead::Lzf { compressed, len } => {
                self.input.skip(compressed)?;
                (len, "lzf")
            }
        })
    }

    /// A count, and that many times `body`.
    fn repeat(&mut self, body: &[Op]) -> Result<u64, Error> {
        let count = length(self.input)?;
        for _ in 0..count {
            self.walk(body)?;
        }
        Ok(count)
    }

    /// Fields one by one, each with its own expiry before (0 for none) or after it (-1 for none).
    fn fields_with_expiries(&mut self, kind: Kind) -> Result<(u64, u64), Error> {
        if kind == Kind::HashTtl {
            millis(self.input)?;
        }
        let (count, mut expiries) = (length(self.input)?, 0);
        for _ in 0..count {
            let has_expiry = if kind == Kind::ValkeyHashTtl {
                self.walk(&[Op::Str, Op::Str])?;
                millis(self.input)? != -1
            } else {
                let before = length(self.input)?;
                self.walk(&[Op::Str, Op::Str])?;
                before != 0
            };
            expiries += u64::from(has_expiry);
        }
        Ok((count, expiries))
    }

    /// A listpack of fields, values and expiries (0 for none): these are read, since no header counts them.
    fn triples(&mut self) -> Result<(u64, u64), Error> {
        let offset = self.input.offset();
        let corrupt = |what| Error::Corrupt { what, offset };
        let blob = decode::string(self.input, self.limits, self.scratch)?;
        let (mut items, mut expiries) = (0u64, 0);
        for item in listpack::Items::new(blob).map_err(corrupt)? {
            let item = item.map_err(corrupt)?;
            items += 1;
            expiries += u64::from(items.is_multiple_of(3) && item != Packed::Int(0));
        }
        if !items.is_multiple_of(3) {
            return Err(corrupt("a hash's last field is not whole"));
        }
        Ok((items / 3, expiries))
    }

    /// The nodes of a quicklist, `typed` ones saying what they are: 1 for a node of one plain item, 2 for a listpack.
    fn nodes(&mut self, typed: bool) -> Result<u64, Error> {
        let (nodes, mut items) = (length(self.input)?, 0u64);
        for _ in 0..nodes {
            let offset = self.input.offset();
            let more = match typed.then(|| length(self.input)).transpose()? {
                None => self.items(Packing::Ziplist)?,
                Some(1) => {
                    self.walk(&[Op::Str])?;
                    1
                }
                Some(2) => self.items(Packing::Listpack)?,
                Some(_) => {
                    return Err(Error::Corrupt { what: "a list's node is neither plain nor packed", offset });
                }
            };
            items = items.saturating_add(more);
        }
        Ok(items)
    }

    /// The nodes, then the count of entries, which is what XLEN answers, then the rest.
    fn stream(&mut self, grammar: &[Op]) -> Result<u64, Error> {
        let (nodes, rest) = grammar.split_at(1);
        self.walk(nodes)?;
        let entries = length(self.input)?;
        self.walk(rest.get(1..).unwrap_or_default())?;
        Ok(entries)
    }

    fn pairs(&mut self, packing: Packing) -> Result<u64, Error> {
        let offset = self.input.offset();
        let items = self.items(packing)?;
        if !items.is_multiple_of(2) {
            return Err(Error::Corrupt { what: "its last element is not whole", offset });
        }
        Ok(items / 2)
    }

    /// How many items the packed string at hand holds (of a zipmap: pairs).
    fn items(&mut self, packing: Packing) -> Result<u64, Error> {
        let offset = self.input.offset();
        let corrupt = |what| Error::Corrupt { what, offset };
        self.input.mark();
        let mut header = [0; HEADER_BYTES];
        let Head { body, len, known } = self.header(&mut header)?;
        if let Some(count) = header_says(packing, &header[..known], len).map_err(corrupt)? {
            // Not before the mark is gone: what is passed over is not to be kept.
            self.input.release();
            self.input.skip(body)?;
            return Ok(count);
        }
        self.input.rewind();
        let blob = decode::string(self.input, self.limits, self.scratch)?;
        let count = match packing {
            Packing::Listpack => count(listpack::Items::new(blob)),
            Packing::Ziplist => count(ziplist::Items::new(blob)),
            Packing::Zipmap => count(zipmap::Pairs::new(blob)),
            Packing::Intset => Err("an intset is shorter than its header"),
        };
        count.map_err(corrupt)
    }

    /// The first bytes of the packed string at hand, whose body is then next.
    fn header(&mut self, header: &mut [u8; HEADER_BYTES]) -> Result<Head, Error> {
        let offset = self.input.offset();
        match string_head(self.input, self.limits)? {
            StringHead::Plain(len) => {
                let known = len.min(HEADER_BYTES as u64) as usize;
                header[..known].copy_from_slice(&self.input.peek(known)?[..known]);
                Ok(Head { body: len, len, known })
            }
            StringHead::Lzf { compressed, len } => {
                if !lzf::plausible(compressed, len) {
                    return Err(Error::Lzf { offset, what: "it claims more than its bytes can give" });
                }
                let shown = compressed.min(COMPRESSED_HEADER_BYTES as u64) as usize;
                let known = decompress_header(&self.input.peek(shown)?[..shown], header)
                    .map_err(|what| Error::Lzf { offset, what })?;
                let known = known.min(usize::try_from(len).unwrap_or(usize::MAX));
                Ok(Head { body: compressed, len, known })
            }
            StringHead::Int(_) => Ok(Head { body: 0, len: 0, known: 0 }),
        }
    }
}

/// A packed string whose head was read: bytes to come, bytes that they give, and how many of these are known.
struct Head {
    body: u64,
    len: u64,
    known: usize,
}

fn count<T>(items: Result<impl Iterator<Item = Result<T, Wrong>>, Wrong>) -> Result<u64, Wrong> {
    items?.try_fold(0, |count, item| item.map(|_| count + 1))
}

/// The count in the first bytes of a packed blob of `len` bytes. A blob whose own length is another is not believed.
fn header_says(packing: Packing, header: &[u8], len: u64) -> Result<Option<u64>, Wrong> {
    const SHORT: Wrong = "a packed value is shorter than its header";
    let u16_at = |at: usize| header.get(at..at + 2).map(|b| u16::from_le_bytes([b[0], b[1]])).ok_or(SHORT);
    let u32_at =
        |at: usize| header.get(at..at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).ok_or(SHORT);
    let known = |count: u16| (count != UNKNOWN).then_some(u64::from(count));
    match packing {
        Packing::Listpack if u64::from(u32_at(0)?) == len => Ok(known(u16_at(4)?)),
        Packing::Listpack => Err("a listpack's length is not that of its string"),
        Packing::Ziplist if u64::from(u32_at(0)?) == len => Ok(known(u16_at(8)?)),
        Packing::Ziplist => Err("a ziplist's length is not that of its string"),
        Packing::Zipmap => match header.first() {
            Some(254..) => Ok(None),
            Some(&count) => Ok(Some(u64::from(count))),
            None => Err(SHORT),
        },
        Packing::Intset => {
            let (width, count) = (u64::from(u32_at(0)?), u64::from(u32_at(4)?));
            match width {
                2 | 4 | 8 if count * width + 8 == len => Ok(Some(count)),
                _ => Err("an intset's count is not that of its bytes"),
            }
        }
    }
}

/// The first bytes that `input`, the start of a compressed string, gives: as many as there is room for, or all.
fn decompress_header(input: &[u8], out: &mut [u8; HEADER_BYTES]) -> Result<usize, Wrong> {
    const SHORT: Wrong = "it ends within its first bytes";
    let (mut rest, mut len) = (input, 0);
    while len < HEADER_BYTES {
        let Some((&control, tail)) = rest.split_first() else { return Ok(len) };
        rest = tail;
        if control < 32 {
            let literal = usize::from(control) + 1;
            for _ in 0..literal.min(HEADER_BYTES - len) {
                let (&byte, tail) = rest.split_first().ok_or(SHORT)?;
                (out[len], rest) = (byte, tail);
                len += 1;
            }
            continue;
        }
        let mut copied = usize::from(control >> 5) + 2;
        if copied == 9 {
            let (&more, tail) = rest.split_first().ok_or(SHORT)?;
            (copied, rest) = (copied + usize::from(more), tail);
        }
        let (&low, tail) = rest.split_first().ok_or(SHORT)?;
        rest = tail;
        let distance = (usize::from(control & 0x1f) << 8 | usize::from(low)) + 1;
        for _ in 0..copied.min(HEADER_BYTES - len) {
            let from = len.checked_sub(distance).ok_or("it copies from before its start")?;
            out[len] = out[from];
            len += 1;
        }
    }
    Ok(len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rdb::listpack::tests::listpack;
    use crate::rdb::{Element, Reader, Slice};
    use proptest::prelude::*;

    /// An RDB of one value.
    fn file(type_byte: u8, value: &[u8]) -> Vec<u8> {
        [b"REDIS0012\xfe\x00", &[type_byte][..], b"\x01k", value, b"\xff\0\0\0\0\0\0\0\0"].concat()
    }

    fn measured(type_byte: u8, value: &[u8]) -> Result<Measure, Error> {
        let file = file(type_byte, value);
        let mut reader = Reader::new(Slice::new(&file));
        reader.next_item()?;
        reader.next_item()?;
        let measure = reader.measure_value()?;
        reader.next_item()?;
        assert_eq!(reader.offset(), file.len() as u64, "it stands where the value ends");
        Ok(measure)
    }

    fn string(bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![0x80];
        out.extend((bytes.len() as u32).to_be_bytes());
        out.extend(bytes);
        out
    }

    fn lzf(bytes: &[u8]) -> Option<Vec<u8>> {
        let compressed = ::lzf::compress(bytes).ok()?;
        let mut out = vec![0xc3, 0x80];
        out.extend((compressed.len() as u32).to_be_bytes());
        out.push(0x80);
        out.extend((bytes.len() as u32).to_be_bytes());
        out.extend(compressed);
        Some(out)
    }

    #[test]
    fn strings_have_their_decompressed_length() {
        let of = |value: &[u8]| measured(0, value).map(|m| (m.elements, m.encoding)).unwrap();
        assert_eq!(of(b"\x05hello"), (Some(5), "plain"));
        assert_eq!(of(b"\xc0\xf6"), (Some(3), "int"), "-10");
        assert_eq!(of(&lzf(&[b'x'; 300]).unwrap()), (Some(300), "lzf"));
    }

    #[test]
    fn a_count_of_65535_is_counted() {
        let items: Vec<&[u8]> = vec![b"a"; 70_000];
        let blob = listpack(&items);
        assert_eq!(measured(20, &string(&blob)).unwrap().elements, Some(70_000));
        assert_eq!(measured(16, &string(&blob)).unwrap().elements, Some(35_000));
    }

    #[test]
    fn lying_headers_are_errors() {
        let mut blob = listpack(&[b"a", b"b", b"c"]);
        assert!(measured(16, &string(&blob)).is_err(), "a field without a value");
        blob.push(0xff);
        assert!(measured(20, &string(&blob)).is_err(), "longer than it says");
        assert!(measured(20, &string(b"\x03")).is_err(), "shorter than a header");
        assert!(measured(11, &string(b"\x02\0\0\0\x02\0\0\0\x01\0")).is_err(), "an intset cut short");
        assert!(measured(20, b"\xc0\x01").is_err(), "a number is no listpack");
    }

    #[test]
    fn expiries_of_fields_are_counted() {
        // least, three fields, of which two expire
        let table = b"\x01\0\0\0\0\0\0\0\x03\x00\x01a\x01b\x05\x01c\x01d\x01\x01e\x01f";
        let measure = measured(24, table).unwrap();
        assert_eq!((measure.elements, measure.field_expiries), (Some(3), 2));
        let mut packed = vec![0; 8];
        // a listpack of a, b, 0, c, d, 100
        let body = b"\x81a\x02\x81b\x02\x00\x01\x81c\x02\x81d\x02\x64\x01\xff";
        let blob = [&(6 + body.len() as u32).to_le_bytes()[..], &[6, 0], body].concat();
        packed.extend(string(&blob));
        let measure = measured(25, &packed).unwrap();
        assert_eq!((measure.elements, measure.field_expiries), (Some(2), 1));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// What is counted from headers is what decoding gives, compressed or not.
        #[test]
        fn headers_count_what_decoding_gives(
            nodes in prop::collection::vec(prop::collection::vec(prop::collection::vec(0u8..3, 0..40), 1..6), 1..5),
            compress: bool,
        ) {
            let mut value = vec![nodes.len() as u8];
            for items in &nodes {
                let items: Vec<&[u8]> = items.iter().map(Vec::as_slice).collect();
                let blob = listpack(&items);
                value.push(2);
                value.extend(compress.then(|| lzf(&blob)).flatten().unwrap_or_else(|| string(&blob)));
            }
            let file = file(18, &value);
            let mut reader = Reader::new(Slice::new(&file));
            reader.next_item().unwrap();
            reader.next_item().unwrap();
            let mut decoded = 0;
            reader.decode_value(&mut |_, element| {
                decoded += u64::from(matches!(element, Element::ListItem(_)));
                Ok::<(), Error>(())
            }).unwrap();
            prop_assert_eq!(measured(18, &value).unwrap().elements, Some(decoded));
        }

        #[test]
        fn any_bytes_end_well(type_byte in 0u8..29, value in prop::collection::vec(any::<u8>(), 0..200)) {
            let file = file(type_byte, &value);
            let mut reader = Reader::new(Slice::new(&file));
            reader.next_item().unwrap();
            if reader.next_item().is_ok() {
                let _ = reader.measure_value();
            }
        }
    }
}

//! Listpacks: the packed lists of Redis 7.0 and of all streams.
//!
//! Four bytes of total length, two of item count (65535: count yourself), items, 0xff. An item is its encoding
//! byte(s), its data, and the length of both written backwards. Source: `src/listpack.c` of the server.

use super::packed::{Packed, Wrong, first, int24};

pub(super) const HEADER_BYTES: usize = 6;
pub(super) const END: u8 = 0xff;
pub(super) const COUNT_UNKNOWN: u16 = u16::MAX;
const CUT: Wrong = "a listpack's item reaches beyond its end";

/// The items of a listpack, first to last. After an error nothing more comes.
#[derive(Debug)]
pub(super) struct Items<'a> {
    rest: &'a [u8],
    /// How many items are to come, if the header says so.
    left: Option<u16>,
}

impl<'a> Items<'a> {
    /// Checks the frame of `blob`.
    pub fn new(blob: &'a [u8]) -> Result<Self, Wrong> {
        let header: [u8; HEADER_BYTES] = first(blob).ok_or("a listpack is shorter than its header")?;
        let [a, b, c, d, low, high] = header;
        if u32::from_le_bytes([a, b, c, d]) as usize != blob.len() {
            return Err("a listpack's length is not that of its string");
        }
        let Some((&END, rest)) = blob[HEADER_BYTES..].split_last() else {
            return Err("a listpack does not end in its end mark");
        };
        let count = u16::from_le_bytes([low, high]);
        Ok(Self { rest, left: (count != COUNT_UNKNOWN).then_some(count) })
    }

    fn item(&mut self) -> Result<Packed<'a>, Wrong> {
        let (head, len) = encoding(self.rest)?;
        let size = head + len;
        let back = backlen_size(size);
        let (entry, rest) = self.rest.split_at_checked(size + back).ok_or(CUT)?;
        // one byte as a rule
        let found = if back == 1 { u64::from(entry[size]) } else { backlen(&entry[size..]) };
        if found != size as u64 {
            return Err("a listpack's item does not end in its own length");
        }
        self.rest = rest;
        self.left = match self.left {
            Some(0) => return Err("a listpack has more items than it says"),
            left => left.map(|left| left - 1),
        };
        let data = &entry[head..size];
        let int = |low: Option<i64>| low.map(Packed::Int).ok_or(CUT);
        match entry[0] {
            byte if byte & 0x80 == 0 => Ok(Packed::Int(i64::from(byte))),
            byte if byte & 0xe0 == 0xc0 => {
                // 13 bits, sign extended
                let bits = i16::from_be_bytes([byte << 3, 0]) | i16::from(data[0]) << 3;
                Ok(Packed::Int(i64::from(bits >> 3)))
            }
            0xf1 => int(first(data).map(|b| i64::from(i16::from_le_bytes(b)))),
            0xf2 => int(first(data).map(int24)),
            0xf3 => int(first(data).map(|b| i64::from(i32::from_le_bytes(b)))),
            0xf4 => int(first(data).map(i64::from_le_bytes)),
            _ => Ok(Packed::Bytes(data)),
        }
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Result<Packed<'a>, Wrong>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return match self.left.take() {
                None | Some(0) => None,
                Some(_) => Some(Err("a listpack has fewer items than it says")),
            };
        }
        let item = self.item();
        if item.is_err() {
            (self.rest, self.left) = (&[], None);
        }
        Some(item)
    }
}

/// How many bytes the encoding of the first item takes, and how many its data.
#[inline]
fn encoding(bytes: &[u8]) -> Result<(usize, usize), Wrong> {
    Ok(match *bytes.first().ok_or(CUT)? {
        byte if byte & 0x80 == 0 => (1, 0),
        byte if byte & 0xc0 == 0x80 => (1, usize::from(byte & 0x3f)),
        byte if byte & 0xe0 == 0xc0 => (1, 1),
        byte if byte & 0xf0 == 0xe0 => {
            (2, usize::from(byte & 0x0f) << 8 | usize::from(*bytes.get(1).ok_or(CUT)?))
        }
        0xf0 => (5, u32::from_le_bytes(first(&bytes[1..]).ok_or(CUT)?) as usize),
        0xf1 => (1, 2),
        0xf2 => (1, 3),
        0xf3 => (1, 4),
        0xf4 => (1, 8),
        _ => return Err("unknown encoding of a listpack's item"),
    })
}

/// How many bytes the backwards length of an item of `size` bytes takes. The odd bounds are the server's
/// (`lpEncodeBacklen`).
#[inline]
pub(super) fn backlen_size(size: usize) -> usize {
    match size {
        0..=127 => 1,
        128..=16382 => 2,
        16383..=2097150 => 3,
        2097151..=268435454 => 4,
        _ => 5,
    }
}

/// Seven bits a byte, most significant first; all but the first have the top bit set.
fn backlen(bytes: &[u8]) -> u64 {
    bytes.iter().enumerate().fold(0, |len, (index, byte)| {
        if (index > 0) == (byte & 0x80 != 0) { len << 7 | u64::from(byte & 0x7f) } else { u64::MAX >> 8 }
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A listpack of texts, each in its shortest string encoding.
    pub fn listpack(items: &[&[u8]]) -> Vec<u8> {
        let mut body = Vec::new();
        for item in items {
            let before = body.len();
            match item.len() {
                len @ 0..64 => body.push(0x80 | len as u8),
                len @ 64..4096 => body.extend([0xe0 | (len >> 8) as u8, len as u8]),
                len => {
                    body.push(0xf0);
                    body.extend((len as u32).to_le_bytes());
                }
            }
            body.extend_from_slice(item);
            let size = body.len() - before;
            let back = backlen_size(size);
            for i in (0..back).rev() {
                body.push((size >> (7 * i)) as u8 & 0x7f | if i + 1 < back { 0x80 } else { 0 });
            }
        }
        let mut out = ((body.len() + 7) as u32).to_le_bytes().to_vec();
        out.extend(u16::try_from(items.len()).unwrap_or(COUNT_UNKNOWN).to_le_bytes());
        out.extend(body);
        out.push(END);
        out
    }

    /// As in the comments of `src/listpack.c`: 2^7 - 1, 13 bits, 16, 24, 32, 64 bits.
    #[test]
    fn integers_of_all_sizes() {
        let entries: [(&[u8], i64); 11] = [
            (b"\x7f\x01", 127),
            (b"\xdf\xff\x02", -1),
            (b"\xcf\xff\x02", 4095),
            (b"\xd0\x00\x02", -4096),
            (b"\xc0\x80\x02", 128),
            (b"\xf1\x00\x80\x03", -32768),
            (b"\xf2\xff\xff\x7f\x04", 8388607),
            (b"\xf2\x00\x00\x80\x04", -8388608),
            (b"\xf3\x00\x00\x00\x80\x05", -2147483648),
            (b"\xf4\xff\xff\xff\xff\xff\xff\xff\x7f\x09", i64::MAX),
            (b"\xf4\x00\x00\x00\x00\x00\x00\x00\x80\x09", i64::MIN),
        ];
        for (entry, number) in entries {
            let mut blob = ((entry.len() + 7) as u32).to_le_bytes().to_vec();
            blob.extend([1, 0]);
            blob.extend(entry);
            blob.push(END);
            assert_eq!(Items::new(&blob).unwrap().next(), Some(Ok(Packed::Int(number))), "{entry:x?}");
        }
    }

    proptest! {
        #[test]
        fn texts_come_back(items in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..8), long in 0usize..20_000) {
            let long = vec![b'x'; long];
            let items: Vec<&[u8]> = items.iter().map(Vec::as_slice).chain([&long[..]]).collect();
            let blob = listpack(&items);
            let found: Result<Vec<_>, _> = Items::new(&blob).unwrap().collect();
            let expected: Vec<_> = items.into_iter().map(Packed::Bytes).collect();
            prop_assert_eq!(found.unwrap(), expected);
        }

        #[test]
        fn any_bytes_end_well(mut blob in prop::collection::vec(any::<u8>(), 7..300), count: u8) {
            let len = blob.len() as u32;
            blob[..4].copy_from_slice(&len.to_le_bytes());
            blob[4..6].copy_from_slice(&u16::from(count % 4).to_le_bytes());
            *blob.last_mut().unwrap() = END;
            prop_assert!(Items::new(&blob).unwrap().count() <= blob.len());
        }
    }
}

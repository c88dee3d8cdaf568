//! Ziplists: the packed lists before listpacks (up to Redis 6.2).
//!
//! Four bytes of total length, four of the last item's position, two of item count (65535: count yourself),
//! items, 0xff. An item is the length of the one before it, its encoding byte(s), its data. Source: the head of
//! `src/ziplist.c` of the server.

use super::packed::{Packed, Wrong, first, int24};

const HEADER_BYTES: usize = 10;
const END: u8 = 0xff;
const COUNT_UNKNOWN: u16 = u16::MAX;
const CUT: Wrong = "a ziplist's item reaches beyond its end";

/// The items of a ziplist, first to last. After an error nothing more comes.
#[derive(Debug)]
pub(super) struct Items<'a> {
    rest: &'a [u8],
    /// The length of the item before.
    previous: usize,
    /// Where the last item is said to start, in bytes before the end mark.
    tail: usize,
    /// How many items are to come, if the header says so.
    left: Option<u16>,
}

impl<'a> Items<'a> {
    /// Checks the frame of `blob`.
    pub fn new(blob: &'a [u8]) -> Result<Self, Wrong> {
        let header: [u8; HEADER_BYTES] = first(blob).ok_or("a ziplist is shorter than its header")?;
        let [a, b, c, d, e, f, g, h, low, high] = header;
        if u32::from_le_bytes([a, b, c, d]) as usize != blob.len() {
            return Err("a ziplist's length is not that of its string");
        }
        let Some((&END, rest)) = blob[HEADER_BYTES..].split_last() else {
            return Err("a ziplist does not end in its end mark");
        };
        let count = u16::from_le_bytes([low, high]);
        let tail = u32::from_le_bytes([e, f, g, h]) as usize;
        let tail = (blob.len() - 1).checked_sub(tail).ok_or("a ziplist's tail is beyond its end")?;
        Ok(Self { rest, previous: 0, tail, left: (count != COUNT_UNKNOWN).then_some(count) })
    }

    fn item(&mut self) -> Result<Packed<'a>, Wrong> {
        let before = self.rest.len();
        let (previous, rest) = match self.rest.split_first().ok_or(CUT)? {
            (254, rest) => {
                let (bytes, rest) = rest.split_first_chunk().ok_or(CUT)?;
                (u32::from_le_bytes(*bytes) as usize, rest)
            }
            (255, _) => return Err("a ziplist ends before its end"),
            (&len, rest) => (usize::from(len), rest),
        };
        if previous != self.previous {
            return Err("a ziplist's item does not start with the length of the one before");
        }
        let (item, rest) = value(rest)?;
        self.rest = rest;
        self.previous = before - rest.len();
        if rest.is_empty() && self.tail != self.previous {
            return Err("a ziplist's tail is not its last item");
        }
        self.left = match self.left {
            Some(0) => return Err("a ziplist has more items than it says"),
            left => left.map(|left| left - 1),
        };
        Ok(item)
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Result<Packed<'a>, Wrong>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return match self.left.take() {
                None | Some(0) => None,
                Some(_) => Some(Err("a ziplist has fewer items than it says")),
            };
        }
        let item = self.item();
        if item.is_err() {
            (self.rest, self.left) = (&[], None);
        }
        Some(item)
    }
}

/// The item whose encoding starts `bytes`, and what follows it.
fn value(bytes: &[u8]) -> Result<(Packed<'_>, &[u8]), Wrong> {
    let (&encoding, rest) = bytes.split_first().ok_or(CUT)?;
    let (len, rest) = match encoding >> 6 {
        0 => (usize::from(encoding), rest),
        1 => {
            let (&low, rest) = rest.split_first().ok_or(CUT)?;
            (usize::from(encoding & 0x3f) << 8 | usize::from(low), rest)
        }
        2 => {
            let (len, rest) = rest.split_first_chunk().ok_or(CUT)?;
            (u32::from_be_bytes(*len) as usize, rest)
        }
        _ => return integer(encoding, rest),
    };
    let (data, rest) = rest.split_at_checked(len).ok_or(CUT)?;
    Ok((Packed::Bytes(data), rest))
}

fn integer(encoding: u8, bytes: &[u8]) -> Result<(Packed<'_>, &[u8]), Wrong> {
    fn read<const N: usize>(bytes: &[u8], number: fn([u8; N]) -> i64) -> Result<(Packed<'_>, &[u8]), Wrong> {
        let (data, rest) = bytes.split_first_chunk().ok_or(CUT)?;
        Ok((Packed::Int(number(*data)), rest))
    }
    match encoding {
        0xc0 => read(bytes, |b| i64::from(i16::from_le_bytes(b))),
        0xd0 => read(bytes, |b| i64::from(i32::from_le_bytes(b))),
        0xe0 => read(bytes, i64::from_le_bytes),
        0xf0 => read(bytes, int24),
        0xfe => read(bytes, |b| i64::from(i8::from_le_bytes(b))),
        0xf1..=0xfd => Ok((Packed::Int(i64::from(encoding & 0x0f) - 1), bytes)),
        _ => Err("unknown encoding of a ziplist's item"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The example at the head of `src/ziplist.c`: "2", "5", then "Hello World" appended.
    #[test]
    fn the_servers_own_example() {
        let blob = b"\x1c\0\0\0\x0e\0\0\0\x03\0\0\xf3\x02\xf6\x02\x0bHello World\xff";
        let items: Result<Vec<_>, _> = Items::new(blob).unwrap().collect();
        assert_eq!(items.unwrap(), [Packed::Int(2), Packed::Int(5), Packed::Bytes(b"Hello World")]);
    }

    #[test]
    fn wrong_counts_and_back_links_are_seen() {
        let good = b"\x1c\0\0\0\x0e\0\0\0\x03\0\0\xf3\x02\xf6\x02\x0bHello World\xff";
        for (at, byte) in [
            (0, 0x1d),
            (4, 0x0f),
            (4, 0x0d),
            (7, 1),
            (8, 2),
            (8, 4),
            (12, 3),
            (14, 0xff),
            (15, 0x0c),
            (27, 0),
        ] {
            let mut bad = *good;
            bad[at] = byte;
            let items = Items::new(&bad).and_then(|items| items.collect::<Result<Vec<_>, _>>());
            assert!(items.is_err(), "byte {at} = {byte}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_end_well(mut blob in prop::collection::vec(any::<u8>(), 11..300), count: u8) {
            let len = blob.len() as u32;
            blob[..4].copy_from_slice(&len.to_le_bytes());
            blob[4..8].copy_from_slice(&10u32.to_le_bytes());
            blob[8..10].copy_from_slice(&u16::from(count % 4).to_le_bytes());
            blob[10] = 0;
            *blob.last_mut().unwrap() = END;
            prop_assert!(Items::new(&blob).unwrap().count() <= blob.len());
        }
    }
}

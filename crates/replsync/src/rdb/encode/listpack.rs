//! Listpacks written; [`rdb::listpack`](super::super::listpack) reads them and says what they are.

use super::super::listpack::{COUNT_UNKNOWN, END, HEADER_BYTES, backlen_size};

/// Items one behind the other, without the frame around them.
///
/// Source: `lpInsert` and `lpEncodeGetType` in `src/listpack.c`.
#[derive(Debug, Default)]
pub(super) struct Items {
    pub bytes: Vec<u8>,
    pub count: usize,
}

impl Items {
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.count = 0;
    }

    /// A text: as a number where it is one and nothing is lost.
    pub fn text(&mut self, text: &[u8]) {
        if let Some(number) = integer(text) {
            return self.int(number);
        }
        let head = match text.len() {
            len @ 0..64 => &[0x80 | len as u8][..],
            len @ 64..4096 => &[0xe0 | (len >> 8) as u8, len as u8],
            len => {
                let [a, b, c, d] = (len as u32).to_le_bytes();
                &[0xf0, a, b, c, d]
            }
        };
        self.item(head, text);
    }

    /// A number, as short as it can be.
    pub fn int(&mut self, number: i64) {
        let [a, b, c, d, ..] = number.to_le_bytes();
        match number {
            0..=127 => self.item(&[a], &[]),
            // 13 bits, the highest first
            -4096..=4095 => self.item(&[0xc0 | b & 0x1f, a], &[]),
            -0x8000..=0x7fff => self.item(&[0xf1, a, b], &[]),
            -0x80_0000..=0x7f_ffff => self.item(&[0xf2, a, b, c], &[]),
            -0x8000_0000..=0x7fff_ffff => self.item(&[0xf3, a, b, c, d], &[]),
            _ => self.item(&[0xf4], &number.to_le_bytes()),
        }
    }

    fn item(&mut self, head: &[u8], data: &[u8]) {
        self.bytes.extend_from_slice(head);
        self.bytes.extend_from_slice(data);
        self.count += 1;
        // its own length backwards: seven bits a byte, all but the first with the top bit set
        let size = head.len() + data.len();
        let back = backlen_size(size);
        for at in (0..back).rev() {
            let more = if at + 1 < back { 0x80 } else { 0 };
            self.bytes.push((size >> (7 * at)) as u8 & 0x7f | more);
        }
    }
}

/// Bytes of a listpack around its items.
pub(super) const FRAME_BYTES: usize = HEADER_BYTES + 1;

/// A listpack of `first` and `rest`, which together must be far below 4 GiB.
pub(super) fn write(out: &mut Vec<u8>, first: &Items, rest: &Items) {
    let len = FRAME_BYTES + first.bytes.len() + rest.bytes.len();
    let count = u16::try_from(first.count + rest.count).unwrap_or(COUNT_UNKNOWN);
    out.extend_from_slice(&(len as u32).to_le_bytes());
    out.extend_from_slice(&count.to_le_bytes());
    out.extend_from_slice(&first.bytes);
    out.extend_from_slice(&rest.bytes);
    out.push(END);
}

/// The number that `text` is the decimal text of, if it is that of one of 64 bits, to the byte.
///
/// Source: `lpStringToInt64` in `src/listpack.c`.
fn integer(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let is_plain = match digits {
        [b'0'] => text.len() == 1,
        [b'1'..=b'9', ..] => digits.len() <= 19,
        _ => false,
    };
    // which takes a plus sign as well, but what is left has none
    if is_plain { std::str::from_utf8(text).ok()?.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::super::super::listpack::Items as Read;
    use super::super::super::packed::Text;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_what_comes_back_is_a_number() {
        for text in ["0", "7", "-1", "9223372036854775807", "-9223372036854775808"] {
            assert_eq!(integer(text.as_bytes()), Some(text.parse().unwrap()));
        }
        for text in ["", "-", "-0", "00", "+1", "1 ", "9223372036854775808", "-9223372036854775809", "1e3"] {
            assert_eq!(integer(text.as_bytes()), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn items_come_back(
            texts in prop::collection::vec(prop_oneof![
                prop::collection::vec(any::<u8>(), 0..200),
                any::<i64>().prop_map(|number| number.to_string().into_bytes()),
                (0u32..64, any::<bool>(), -1i64..2).prop_map(|(bits, negative, beside)| {
                    let edge = (1i64 << bits.min(62)) + beside;
                    (if negative { -edge } else { edge }).to_string().into_bytes()
                }),
                (0usize..20_000).prop_map(|len| vec![b'x'; len]),
            ], 0..12),
        ) {
            let (mut items, mut blob) = (Items::default(), Vec::new());
            texts.iter().for_each(|text| items.text(text));
            write(&mut blob, &items, &Items::default());
            let found: Vec<Vec<u8>> = Read::new(&blob)
                .unwrap()
                .map(|item| Text::from(item.unwrap()).as_bytes().to_vec())
                .collect();
            prop_assert_eq!(found, texts);
        }
    }
}

//! Strings one after the other, in bytes that are at hand: the fast path of every big collection.
//!
//! Bytes that do not hold the next string whole, and strings that are compressed or longer than the limits allow,
//! are left to the slow path, which knows what is wrong with them.

use super::packed::{Decimal, Text};
use super::{Input, Limits};

/// What is at hand of the input, and how much of it was used.
pub(super) struct Window<'a> {
    bytes: &'a [u8],
    used: usize,
}

impl<'a> Window<'a> {
    /// What is at hand now, up to the longest string that is allowed.
    #[inline]
    pub fn of<I: Input>(input: &'a mut I, limits: &Limits) -> Result<Self, super::Error> {
        let bytes = input.peek(0)?;
        let most = usize::try_from(limits.max_string_bytes).unwrap_or(usize::MAX);
        Ok(Self { bytes: &bytes[..bytes.len().min(most)], used: 0 })
    }

    /// The same, but not more than `most` bytes of it.
    pub fn up_to(self, most: u64) -> Self {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        Self { bytes: &self.bytes[..self.bytes.len().min(most)], used: self.used }
    }

    /// Bytes used so far.
    #[inline]
    pub fn used(&self) -> usize {
        self.used
    }

    /// The next string, if it is there and not compressed.
    #[inline]
    pub fn text(&mut self) -> Option<Text<'a>> {
        let rest = self.bytes.get(self.used..)?;
        let (&first, tail) = rest.split_first()?;
        let (head, len) = match first >> 6 {
            0 => (1, usize::from(first)),
            1 => (2, usize::from(first & 0x3f) << 8 | usize::from(*tail.first()?)),
            3 => return self.number(first, tail),
            _ if first == 0x80 => (5, u32::from_be_bytes(*tail.first_chunk()?) as usize),
            _ => return None,
        };
        let text = rest.get(head..head + len)?;
        self.used += head + len;
        Some(Text::Bytes(text))
    }

    fn number(&mut self, first: u8, tail: &[u8]) -> Option<Text<'a>> {
        let (size, number) = match first & 0x3f {
            0 => (2, i64::from(i8::from_le_bytes(*tail.first_chunk()?))),
            1 => (3, i64::from(i16::from_le_bytes(*tail.first_chunk()?))),
            2 => (5, i64::from(i32::from_le_bytes(*tail.first_chunk()?))),
            _ => return None,
        };
        self.used += size;
        Some(Text::Decimal(Decimal::new(number)))
    }

    /// So many bytes, if they are there.
    #[inline]
    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let array = *self.bytes.get(self.used..)?.first_chunk()?;
        self.used += N;
        Some(array)
    }

    /// Moves past up to `count` strings, each followed by `after` bytes, and says past how many.
    #[inline]
    pub fn pass(&mut self, count: u64, after: usize) -> u64 {
        let bytes = self.bytes;
        let (mut at, mut passed) = (self.used, 0);
        while passed < count {
            let Some(&first) = bytes.get(at) else { break };
            let next = match first >> 6 {
                0 => at + 1 + usize::from(first),
                1 => match bytes.get(at + 1) {
                    Some(&low) => at + 2 + (usize::from(first & 0x3f) << 8 | usize::from(low)),
                    None => break,
                },
                3 => match first & 0x3f {
                    0 => at + 2,
                    1 => at + 3,
                    2 => at + 5,
                    _ => break,
                },
                _ => match bytes.get(at + 1..).and_then(|rest| rest.first_chunk()) {
                    Some(len) if first == 0x80 => at + 5 + u32::from_be_bytes(*len) as usize,
                    _ => break,
                },
            } + after;
            if next > bytes.len() {
                break;
            }
            (at, passed) = (next, passed + 1);
        }
        self.used = at;
        passed
    }
}

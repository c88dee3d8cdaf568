//! Zipmaps: small hashes of Redis 2.4.
//!
//! A byte of count (254 and more: count yourself), then fields and values, 0xff. A length is a byte below 254, or
//! 254 and four bytes; a value's is followed by a byte that says how many unused bytes come after it. Source: the
//! head of `src/zipmap.c` of the server.

use super::packed::Wrong;

const CUT: Wrong = "a zipmap's item reaches beyond its end";

/// The fields and values of a zipmap. After an error nothing more comes.
#[derive(Debug)]
pub(super) struct Pairs<'a> {
    rest: &'a [u8],
    /// How many pairs are to come, if the first byte says so.
    left: Option<u8>,
}

/// Counts from here on are not said.
const COUNT_UNKNOWN: u8 = 254;

impl<'a> Pairs<'a> {
    /// Checks the frame of `blob`.
    pub fn new(blob: &'a [u8]) -> Result<Self, Wrong> {
        let [count, rest @ .., 0xff] = blob else { return Err("a zipmap does not end in its end mark") };
        Ok(Self { rest, left: (*count < COUNT_UNKNOWN).then_some(*count) })
    }

    fn pair(&mut self) -> Result<(&'a [u8], &'a [u8]), Wrong> {
        let (len, rest) = length(self.rest)?;
        let (field, rest) = rest.split_at_checked(len).ok_or(CUT)?;
        let (len, rest) = length(rest)?;
        let (&unused, rest) = rest.split_first().ok_or(CUT)?;
        let (value, rest) = rest.split_at_checked(len).ok_or(CUT)?;
        self.rest = rest.get(usize::from(unused)..).ok_or(CUT)?;
        self.left = match self.left {
            Some(0) => return Err("a zipmap has more pairs than it says"),
            left => left.map(|left| left - 1),
        };
        Ok((field, value))
    }
}

impl<'a> Iterator for Pairs<'a> {
    type Item = Result<(&'a [u8], &'a [u8]), Wrong>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return match self.left.take() {
                None | Some(0) => None,
                Some(_) => Some(Err("a zipmap has fewer pairs than it says")),
            };
        }
        let pair = self.pair();
        if pair.is_err() {
            (self.rest, self.left) = (&[], None);
        }
        Some(pair)
    }
}

fn length(bytes: &[u8]) -> Result<(usize, &[u8]), Wrong> {
    match bytes.split_first().ok_or(CUT)? {
        (254, rest) => {
            let (len, rest) = rest.split_first_chunk().ok_or(CUT)?;
            Ok((u32::from_le_bytes(*len) as usize, rest))
        }
        (255, _) => Err("a zipmap ends before its end"),
        (&len, rest) => Ok((usize::from(len), rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Pair<'a> = (&'a [u8], &'a [u8]);

    fn read(blob: &[u8]) -> Result<Vec<Pair<'_>>, Wrong> {
        Pairs::new(blob)?.collect()
    }

    /// The example at the head of `src/zipmap.c`, and one with unused bytes and a long length.
    #[test]
    fn pairs_are_read() {
        let pairs = read(b"\x02\x03foo\x03\x00bar\x05hello\x05\x00world\xff").unwrap();
        assert_eq!(pairs, [(&b"foo"[..], &b"bar"[..]), (b"hello", b"world")]);
        assert_eq!(read(b"\x01\x01a\xfe\x02\0\0\0\x01hi?\xff").unwrap(), [(&b"a"[..], &b"hi"[..])]);
        assert_eq!(read(b"\x00\xff").unwrap(), []);
    }

    #[test]
    fn bad_ones_say_why() {
        for blob in [
            &b""[..],
            b"\xff",
            b"\x01\x03fo\xff",
            b"\x01\x01a\x01\x09b\xff",
            b"\x01\xff\xff",
            b"\x01\xff",
            b"\x00\x01a\x01\x00b\xff",
        ] {
            assert!(read(blob).is_err(), "{blob:?}");
        }
    }
}

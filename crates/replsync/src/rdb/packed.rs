//! What the packed blobs (listpack, ziplist) hold: texts, and integers that stand for their decimal text.

/// An item of a packed blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packed<'a> {
    Bytes(&'a [u8]),
    Int(i64),
}

/// What is wrong with a blob; the caller knows where it stands.
pub(super) type Wrong = &'static str;

/// A decimal number as text, without an allocation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decimal {
    digits: [u8; 20],
    len: u8,
}

impl Decimal {
    #[inline]
    pub fn new(number: i64) -> Self {
        let mut buffer = itoa::Buffer::new();
        let text = buffer.format(number).as_bytes();
        let mut digits = [0; 20];
        // the longest, i64::MIN, has twenty
        let len = text.len().min(digits.len());
        digits[..len].copy_from_slice(&text[..len]);
        Self { digits, len: len as u8 }
    }

    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        &self.digits[..usize::from(self.len)]
    }
}

/// An item with room for its text.
#[derive(Clone, Copy, Debug)]
pub(super) enum Text<'a> {
    Bytes(&'a [u8]),
    Decimal(Decimal),
}

impl<'a> From<Packed<'a>> for Text<'a> {
    #[inline]
    fn from(item: Packed<'a>) -> Self {
        match item {
            Packed::Bytes(bytes) => Self::Bytes(bytes),
            Packed::Int(number) => Self::Decimal(Decimal::new(number)),
        }
    }
}

impl Text<'_> {
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Decimal(decimal) => decimal.as_bytes(),
        }
    }
}

/// A score as servers write it into text: decimal, `inf`, `-inf`; never NaN.
pub(super) fn score(text: &[u8]) -> Result<f64, Wrong> {
    let number: f64 = std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or("a score that is not a number")?;
    not_nan(number)
}

/// A score that can be sorted by.
pub(super) fn not_nan(score: f64) -> Result<f64, Wrong> {
    if score.is_nan() { Err("a score that is not a number") } else { Ok(score) }
}

/// The first `N` bytes of `bytes`, if there are as many.
#[inline]
pub(super) fn first<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.first_chunk().copied()
}

/// A little-endian signed integer of 24 bits.
pub(super) fn int24(bytes: [u8; 3]) -> i64 {
    i64::from(i32::from_le_bytes([0, bytes[0], bytes[1], bytes[2]]) >> 8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn extremes_have_their_text() {
        for number in [i64::MIN, i64::MAX, 0, -1, 10, -10] {
            assert_eq!(Decimal::new(number).as_bytes(), number.to_string().as_bytes());
        }
        assert_eq!(score(b"-inf"), Ok(f64::NEG_INFINITY));
        assert_eq!(score(b"1e300"), Ok(1e300));
        assert!(score(b"nan").is_err() && score(b"").is_err() && score(b"1x").is_err());
    }

    proptest! {
        #[test]
        fn decimals_read_as_rust_writes_them(number: i64) {
            prop_assert_eq!(Decimal::new(number).as_bytes().to_vec(), number.to_string().into_bytes());
        }

        #[test]
        fn int24_keeps_its_sign(number in -(1i32 << 23)..(1 << 23)) {
            let bytes = number.to_le_bytes();
            prop_assert_eq!(int24([bytes[0], bytes[1], bytes[2]]), i64::from(number));
        }
    }
}

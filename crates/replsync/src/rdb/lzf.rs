//! LZF, as strings longer than 20 bytes are compressed (`rdbcompression yes`).
//!
//! A control byte below 32 is followed by that many literal bytes and one more. Else its upper three bits are the
//! length of a copy less 2 (7: a byte to add follows), its lower five and the next byte the distance less 1.
//! Source: `src/lzf_d.c` of the server.

use std::cmp::Ordering;

use super::packed::Wrong;

/// No compressed byte gives more than this: three bytes copy at most 264.
const MAX_RATIO: u64 = 88;

/// Whether `len` bytes can come out of `compressed` ones. To be asked before anything is allocated.
pub(super) fn plausible(compressed: u64, len: u64) -> bool {
    len <= compressed.saturating_mul(MAX_RATIO)
}

/// Literals and copies are moved in steps of fixed sizes, which may write so much too far.
const SLACK: usize = 32;

/// Decompresses `input` into `out`, which will hold exactly `len` bytes, whatever it held before.
///
/// # Errors
/// What is wrong, when `input` is cut short, copies from before the start, or gives more or fewer bytes.
pub(super) fn decompress(input: &[u8], len: usize, out: &mut Vec<u8>) -> Result<(), Wrong> {
    if !plausible(input.len() as u64, len as u64) {
        return Err("it claims more than its bytes can give");
    }
    out.resize(len + SLACK, 0);
    let mut rest = input;
    let mut at = 0;
    while let Some((&control, tail)) = rest.split_first() {
        let count;
        (count, rest) = match control {
            0..32 => literal(tail, usize::from(control) + 1, &mut out[at..])?,
            _ => copy(control, tail, at, out)?,
        };
        at += count;
        if at > len {
            return Err("it gives more bytes than it claims");
        }
    }
    out.truncate(len);
    if at == len { Ok(()) } else { Err("it gives fewer bytes than it claims") }
}

/// Puts so many bytes at the start of `out`. How many, and what of the input follows them.
#[inline]
fn literal<'a>(input: &'a [u8], count: usize, out: &mut [u8]) -> Result<(usize, &'a [u8]), Wrong> {
    let (bytes, rest) = input.split_at_checked(count).ok_or("it ends within a literal")?;
    match (input.first_chunk::<SLACK>(), out.first_chunk_mut::<SLACK>()) {
        (Some(bytes), Some(out)) => *out = *bytes,
        _ => out.get_mut(..count).ok_or("it gives more bytes than it claims")?.copy_from_slice(bytes),
    }
    Ok((count, rest))
}

/// Puts at `at` of `out` what was put there before. How many bytes, and what of the input follows the reference.
#[inline]
fn copy<'a>(control: u8, input: &'a [u8], at: usize, out: &mut [u8]) -> Result<(usize, &'a [u8]), Wrong> {
    let mut rest = input;
    let mut count = usize::from(control >> 5) + 2;
    if count == 9 {
        let (&more, tail) = rest.split_first().ok_or(SHORT)?;
        count += usize::from(more);
        rest = tail;
    }
    let (&low, rest) = rest.split_first().ok_or(SHORT)?;
    let distance = (usize::from(control & 0x1f) << 8 | usize::from(low)) + 1;
    let from = at.checked_sub(distance).ok_or(BEFORE_START)?;
    if count > out.len() - SLACK - at {
        return Err("it gives more bytes than it claims");
    }
    const STEP: usize = 16;
    if distance >= STEP {
        for step in (0..count).step_by(STEP) {
            out.copy_within(from + step..from + step + STEP, at + step);
        }
    } else {
        // the copy overlaps what it writes: it repeats the last `distance` bytes
        let mut copied = 0;
        while copied < count {
            let step = (count - copied).min(distance + copied);
            out.copy_within(from..from + step, at + copied);
            copied += step;
        }
    }
    Ok((count, rest))
}

/// Whether exactly `len` bytes would come out of `input`, found without making them.
///
/// # Errors
/// As [`decompress`].
pub(super) fn measure(input: &[u8], len: u64) -> Result<(), Wrong> {
    let mut given = 0;
    measure_some(input, &mut given, true)?;
    whole(given, len)
}

/// An instruction takes so many bytes at most: a literal of 32.
pub(super) const INSTRUCTION_BYTES: usize = 33;

/// Adds to `given` what comes out of the instructions in `input`, up to one that may be cut short where it is not the
/// last of the string. How many bytes these instructions take.
pub(super) fn measure_some(input: &[u8], given: &mut u64, is_last: bool) -> Result<usize, Wrong> {
    let least = if is_last { 0 } else { INSTRUCTION_BYTES - 1 };
    let mut rest = input;
    while rest.len() > least
        && let Some((&control, tail)) = rest.split_first()
    {
        if control < 32 {
            let literal = usize::from(control) + 1;
            rest = tail.get(literal..).ok_or("it ends within a literal")?;
            *given += literal as u64;
        } else {
            let mut tail = tail;
            let mut count = u64::from(control >> 5) + 2;
            if count == 9 {
                let (&more, after) = tail.split_first().ok_or(SHORT)?;
                count += u64::from(more);
                tail = after;
            }
            let (&low, after) = tail.split_first().ok_or(SHORT)?;
            if u64::from(control & 0x1f) << 8 | u64::from(low) >= *given {
                return Err(BEFORE_START);
            }
            *given += count;
            rest = after;
        }
    }
    Ok(input.len() - rest.len())
}

/// Whether what was given is what was claimed.
pub(super) fn whole(given: u64, len: u64) -> Result<(), Wrong> {
    match given.cmp(&len) {
        Ordering::Equal => Ok(()),
        Ordering::Less => Err("it gives fewer bytes than it claims"),
        Ordering::Greater => Err("it gives more bytes than it claims"),
    }
}

const SHORT: Wrong = "it ends within a copy";
const BEFORE_START: Wrong = "it copies from before its start";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decompressed(input: &[u8], len: usize) -> Result<Vec<u8>, Wrong> {
        let mut out = vec![1, 2, 3];
        decompress(input, len, &mut out).map(|()| out)
    }

    #[test]
    fn literals_and_copies() {
        assert_eq!(decompressed(b"\x02abc", 3).unwrap(), b"abc");
        // "ab", then 7 bytes from 2 before: an overlapping copy
        assert_eq!(decompressed(b"\x01ab\xa0\x01", 9).unwrap(), b"ababababa");
        // a long copy: 7 + 2 + 255 times the byte before
        assert_eq!(decompressed(b"\x00x\xe0\xff\x00", 265).unwrap(), [b'x'; 265]);
        assert_eq!(decompressed(b"", 0).unwrap(), b"");
    }

    /// Every distance and count, and literals of every length, against the definition.
    #[test]
    fn copies_of_all_shapes() {
        for distance in 1..=40usize {
            for count in (3..=40).chain([100, 263, 264]) {
                let text: Vec<u8> = (0..40).collect();
                let mut input = vec![31];
                input.extend(&text[..32]);
                input.push(7);
                input.extend(&text[32..]);
                let low = (distance - 1) as u8;
                match count {
                    3..=8 => input.extend([((count - 2) << 5) as u8, low]),
                    _ => input.extend([0xe0, (count - 9) as u8, low]),
                }
                input.extend(b"\x00!");
                let mut expected = text;
                for _ in 0..count {
                    expected.push(expected[expected.len() - distance]);
                }
                expected.push(b'!');
                assert_eq!(decompressed(&input, expected.len()).unwrap(), expected, "{distance} {count}");
                assert_eq!(measure(&input, expected.len() as u64), Ok(()));
                for wrong in [expected.len() - 1, expected.len() + 1, 41] {
                    assert!(decompressed(&input, wrong).is_err() && measure(&input, wrong as u64).is_err());
                }
            }
        }
    }

    #[test]
    fn bad_input_is_told_apart() {
        assert!(decompressed(b"\x02ab", 3).is_err());
        assert!(decompressed(b"\x00x\xe0", 10).is_err());
        assert!(decompressed(b"\x00x\x20\x01", 4).is_err(), "copies from before the start");
        assert!(decompressed(b"\x02abc", 2).is_err());
        assert!(decompressed(b"\x02abc", 4).is_err());
        assert!(decompressed(&[0xff; 30], 1 << 40).is_err(), "thirty bytes are no terabyte");
    }

    proptest! {
        #[test]
        fn any_input_ends_within_its_claim(input: Vec<u8>, len in 0usize..5000) {
            let out = decompressed(&input, len);
            prop_assert_eq!(out.is_ok(), measure(&input, len as u64).is_ok());
            if let Ok(out) = out {
                prop_assert_eq!(out.len(), len);
            }
        }
    }
}

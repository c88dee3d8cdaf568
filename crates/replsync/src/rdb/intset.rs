//! Intsets: sets of integers, sorted. Four bytes of width (2, 4 or 8), four of count, the numbers, all
//! little-endian. Source: `src/intset.c` of the server.

use super::packed::{Wrong, first};

/// The members of the intset `blob`.
pub(super) fn members(blob: &[u8]) -> Result<impl Iterator<Item = i64>, Wrong> {
    let header: [u8; 8] = first(blob).ok_or("an intset is shorter than its header")?;
    let [a, b, c, d, e, f, g, h] = header;
    let width = match u32::from_le_bytes([a, b, c, d]) {
        width @ (2 | 4 | 8) => width as usize,
        _ => return Err("an intset's numbers are not 2, 4 or 8 bytes wide"),
    };
    let count = u32::from_le_bytes([e, f, g, h]) as usize;
    let numbers = &blob[8..];
    if count.checked_mul(width) != Some(numbers.len()) {
        return Err("an intset's count is not that of its bytes");
    }
    Ok(numbers.chunks_exact(width).map(|bytes| {
        let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
        let mut number = [if negative { 0xff } else { 0 }; 8];
        number[..bytes.len()].copy_from_slice(bytes);
        i64::from_le_bytes(number)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(blob: &[u8]) -> Result<Vec<i64>, Wrong> {
        members(blob).map(Iterator::collect)
    }

    #[test]
    fn all_widths() {
        assert_eq!(read(b"\x02\0\0\0\x02\0\0\0\xff\xff\x01\x02").unwrap(), [-1, 513]);
        assert_eq!(read(b"\x04\0\0\0\x01\0\0\0\0\0\0\x80").unwrap(), [i64::from(i32::MIN)]);
        assert_eq!(read(b"\x08\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\x80").unwrap(), [i64::MIN]);
    }

    #[test]
    fn bad_ones_say_why() {
        assert!(read(b"\x02\0\0\0\x02\0\0").is_err());
        assert!(read(b"\x03\0\0\0\x00\0\0\0").is_err());
        assert!(read(b"\x02\0\0\0\x02\0\0\0\xff\xff\x01").is_err());
        assert!(read(b"\x08\0\0\0\xff\xff\xff\xff").is_err());
    }
}

//! Header lines: a type byte, a number, CRLF.

/// The most digits that a number may have; 19 are enough for any length.
const DIGITS_MAX: usize = 20;

/// A line that is no header.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotANumber;

/// Reads the number of the header line at the front of `bytes`, behind its type byte: the number and the
/// line's length with CRLF, or `None` where the line is not whole yet.
pub(super) fn number(bytes: &[u8]) -> Result<Option<(i64, usize)>, NotANumber> {
    let (mut value, mut digits) = (0_i64, 0);
    let is_negative = bytes.get(1) == Some(&b'-');
    let start = if is_negative { 2 } else { 1 };
    for (at, byte) in bytes.iter().enumerate().skip(start) {
        match byte {
            b'0'..=b'9' if digits < DIGITS_MAX => {
                digits += 1;
                let digit = i64::from(byte - b'0');
                value = value.checked_mul(10).and_then(|tens| tens.checked_add(digit)).ok_or(NotANumber)?;
            }
            b'\r' if digits > 0 => {
                return match bytes.get(at + 1) {
                    None => Ok(None),
                    Some(b'\n') => Ok(Some((if is_negative { -value } else { value }, at + 2))),
                    Some(_) => Err(NotANumber),
                };
            }
            _ => return Err(NotANumber),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_once_they_are_whole() {
        for (line, expected) in [
            (&b"$12\r\n"[..], Ok(Some((12, 5)))),
            (b"*-1\r\nrest", Ok(Some((-1, 5)))),
            (b"$", Ok(None)),
            (b"$-", Ok(None)),
            (b"$12", Ok(None)),
            (b"$12\r", Ok(None)),
            (b"$\r\n", Err(NotANumber)),
            (b"$-\r\n", Err(NotANumber)),
            (b"$+1\r\n", Err(NotANumber)),
            (b"$1 \r\n", Err(NotANumber)),
            (b"$1\n", Err(NotANumber)),
            (b"$1\rx", Err(NotANumber)),
            (b"$9223372036854775808\r\n", Err(NotANumber)),
            (b"$000000000000000000000", Err(NotANumber)),
        ] {
            assert_eq!(number(line), expected, "{}", line.escape_ascii());
        }
    }
}

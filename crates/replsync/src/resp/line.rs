//! Header lines: a type byte, a number, CRLF.

/// The longest header line: the type byte, 20 digits and a sign, CRLF, and room to be sure that it is too long.
const LINE_LEN_MAX: usize = 32;

/// A line that is no header.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum LineError {
    /// Longer than any number.
    TooLong,
    /// Not a decimal number followed by CRLF.
    NotANumber,
}

/// Reads the number of the header line at the front of `bytes`, behind its type byte: the number and the
/// line's length with CRLF, or `None` where the line is not whole yet.
pub(super) fn number(bytes: &[u8]) -> Result<Option<(i64, usize)>, LineError> {
    let window = &bytes[..bytes.len().min(LINE_LEN_MAX)];
    let Some(end) = memchr::memchr(b'\n', window) else {
        return if window.len() == LINE_LEN_MAX { Err(LineError::TooLong) } else { Ok(None) };
    };
    let digits = window[1..end].strip_suffix(b"\r").ok_or(LineError::NotANumber)?;
    let number = decimal(digits).ok_or(LineError::NotANumber)?;
    Ok(Some((number, end + 1)))
}

/// A decimal number with nothing around it; no `+`, no spaces.
pub(super) fn decimal(digits: &[u8]) -> Option<i64> {
    if digits.first() == Some(&b'+') {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

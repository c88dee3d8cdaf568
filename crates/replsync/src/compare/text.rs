//! Bytes for people: quoted, escaped, cut.

use crate::rdb;

/// Of one text, so many bytes are shown.
const SHOWN_BYTES: usize = 60;
/// Two texts are shown from their first difference on when so many bytes before it are equal …
const EQUAL_BYTES: usize = 40;
/// … and a few of those too.
const CONTEXT_BYTES: usize = 8;

/// A text in quotes, unprintable bytes escaped, the end of a long one left out.
pub(super) fn quoted(text: &[u8]) -> String {
    rdb::quoted(text, SHOWN_BYTES)
}

/// Two texts, from where they begin to differ.
pub(super) fn both(a: &[u8], b: &[u8]) -> String {
    both_from(0, a, b)
}

/// The same for what stands at byte `base` of two texts that are equal before.
pub(super) fn both_from(base: u64, a: &[u8], b: &[u8]) -> String {
    let equal = equal_bytes(a, b);
    if base == 0 && equal < EQUAL_BYTES {
        return format!("{} and {}", quoted(a), quoted(b));
    }
    let from = equal.saturating_sub(CONTEXT_BYTES);
    let byte = base.saturating_add(from as u64);
    format!("from byte {byte}: {} and {}", quoted(&a[from..]), quoted(&b[from..]))
}

/// How many bytes at their beginning are equal.
pub(super) fn equal_bytes(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// A moment, in milliseconds since the epoch, and readable.
pub(super) fn moment(at_ms: i64) -> String {
    // From 0000-03-01 on, so that the leap day is the last of its year: the days of 400 years are always the same.
    const DAYS_TO_EPOCH: i64 = 719_468;
    const DAYS_IN_400_YEARS: i64 = 146_097;
    let (days, ms) = (at_ms.div_euclid(86_400_000), at_ms.rem_euclid(86_400_000));
    let days = days + DAYS_TO_EPOCH;
    let (era, day) = (days.div_euclid(DAYS_IN_400_YEARS), days.rem_euclid(DAYS_IN_400_YEARS));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + next;
    let (seconds, ms) = (ms / 1_000, ms % 1_000);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{at_ms} ({year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_shown_where_they_differ() {
        assert_eq!(both(b"a\0", b"b"), r#""a\x00" and "b""#);
        let long = b"0123456789".repeat(10);
        let other = [&long[..50], b"x"].concat();
        assert_eq!(quoted(&long).len(), SHOWN_BYTES + "\"\"…".len());
        assert_eq!(
            both(&long, &other),
            format!("from byte 42: \"{}\" and \"23456789x\"", long[42..].escape_ascii())
        );
    }

    #[test]
    fn moments_are_those_of_the_calendar() {
        // as `date -u -d @SECONDS` prints them
        for (at_ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_001, "2000-02-29T00:00:00.001Z"),
            (4_102_444_800_000, "2100-01-01T00:00:00.000Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (-2_203_891_200_000, "1900-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(moment(at_ms), format!("{at_ms} ({text})"));
        }
        assert!(moment(i64::MAX).contains("292278994-08-17T07:12:55.807Z"));
        moment(i64::MIN);
    }
}

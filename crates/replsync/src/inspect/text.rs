//! Names for people.

use std::fmt::Write;

/// How a key's name is shown: what is printable as it is, all else as an escape (`\n`, `\x1b`, `\u{202e}`), so that no name
/// moves a cursor, turns a line around or is taken for another.
pub fn printable(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' | '\n' | '\r' | '\t' => text.extend(c.escape_default()),
                ' ' => text.push(c),
                c if c.is_ascii_control() => {
                    let _ = write!(text, "\\x{:02x}", u32::from(c));
                }
                c if c.is_control() || c.is_whitespace() || is_unseen(c) => {
                    let _ = write!(text, "\\u{{{:x}}}", u32::from(c));
                }
                c => text.push(c),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// Characters that show nothing or turn the direction of writing: formats, fillers, variation selectors, tags.
fn is_unseen(c: char) -> bool {
    matches!(
        u32::from(c),
        0xad | 0x34f
            | 0x61c
            | 0x115f..=0x1160
            | 0x17b4..=0x17b5
            | 0x180b..=0x180f
            | 0x200b..=0x200f
            | 0x202a..=0x202e
            | 0x2060..=0x206f
            | 0x3164
            | 0xfe00..=0xfe0f
            | 0xfeff
            | 0xffa0
            | 0xfff0..=0xfffb
            | 0xe0000..=0xe0fff
    )
}

/// A count with thousands apart: 1,234,567.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes in the unit that leaves few digits: `512 B`, `1.5 MiB`.
pub fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut size = bytes as f64;
    let mut unit = UNITS[0];
    for larger in UNITS {
        (size, unit) = (size / 1024.0, larger);
        // What would be shown as 1024.
        if size < 1023.95 {
            break;
        }
    }
    format!("{size:.1} {unit}")
}

/// A part of a whole: `12.3 %`; what is there but rounds to nothing is `< 0.1 %`.
pub fn percent(part: u64, whole: u64) -> String {
    match part as f64 * 100.0 / whole.max(1) as f64 {
        share if part > 0 && share < 0.05 => "< 0.1 %".to_owned(),
        share => format!("{share:.1} %"),
    }
}

/// A time in UTC, to the second: `2026-01-31 12:00:00 UTC`.
pub fn utc(ms: i64) -> String {
    let seconds = ms.div_euclid(1000);
    let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // The civil calendar from days, as in "chrono-Compatible Low-Level Date Algorithms" (Hinnant): years that begin
    // in March, in eras of 400.
    let day = days + 719_468;
    let (era, of_era) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (year, month) = (year + era * 400, if month < 10 { month + 3 } else { month - 9 });
    let year = year + i64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_readable() {
        assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
        let bytes = [0, 1023, 1024, 1_572_864, (1 << 20) - 1, u64::MAX].map(human_bytes);
        assert_eq!(bytes, ["0 B", "1023 B", "1.0 KiB", "1.5 MiB", "1.0 MiB", "16.0 EiB"]);
        let shares = [(0, 0), (1, 3), (1, 10_000), (5, 5)].map(|(part, whole)| percent(part, whole));
        assert_eq!(shares, ["0.0 %", "33.3 %", "< 0.1 %", "100.0 %"]);
    }

    /// As `date -u -d @…` prints them.
    #[test]
    fn times_are_those_of_the_calendar() {
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(951_782_400_999), "2000-02-29 00:00:00 UTC");
        assert_eq!(utc(1_798_761_599_000), "2026-12-31 23:59:59 UTC");
        assert_eq!(utc(-1), "1969-12-31 23:59:59 UTC");
        assert_eq!(utc(4_107_542_400_000), "2100-03-01 00:00:00 UTC");
        let _ends_well = [utc(i64::MIN), utc(i64::MAX)];
    }

    #[test]
    fn names_are_shown_and_nothing_else_happens() {
        assert_eq!(printable("straße:日本 1".as_bytes()), "straße:日本 1");
        assert_eq!(printable(b"a\x1b[31m\x00\n\\\xff"), "a\\x1b[31m\\x00\\n\\\\\\xff");
        assert_eq!(printable("\u{202e}evil\u{200b}\u{a0}".as_bytes()), "\\u{202e}evil\\u{200b}\\u{a0}");
    }
}

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

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn names_are_shown_and_nothing_else_happens() {
        assert_eq!(printable("straße:日本 1".as_bytes()), "straße:日本 1");
        assert_eq!(printable(b"a\x1b[31m\x00\n\\\xff"), "a\\x1b[31m\\x00\\n\\\\\\xff");
        assert_eq!(printable("\u{202e}evil\u{200b}\u{a0}".as_bytes()), "\\u{202e}evil\\u{200b}\\u{a0}");
    }
}

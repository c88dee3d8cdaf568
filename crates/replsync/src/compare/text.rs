//! Bytes for people: quoted, escaped, cut.

/// Of one text, so many bytes are shown.
const SHOWN_BYTES: usize = 60;
/// Two texts are shown from their first difference on when so many bytes before it are equal …
const EQUAL_BYTES: usize = 40;
/// … and a few of those too.
const CONTEXT_BYTES: usize = 8;

/// A text in quotes, unprintable bytes escaped, the end of a long one left out.
pub(super) fn quoted(text: &[u8]) -> String {
    let shown = &text[..text.len().min(SHOWN_BYTES)];
    let dots = if shown.len() < text.len() { "…" } else { "" };
    format!("\"{}{dots}\"", shown.escape_ascii())
}

/// Two texts, from where they begin to differ.
pub(super) fn both(a: &[u8], b: &[u8]) -> String {
    let equal = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    if equal < EQUAL_BYTES {
        return format!("{} and {}", quoted(a), quoted(b));
    }
    let from = equal - CONTEXT_BYTES;
    format!("from byte {from}: {} and {}", quoted(&a[from..]), quoted(&b[from..]))
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
}

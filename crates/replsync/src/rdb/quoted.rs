//! Names and texts, shown to people.

/// `text` in quotes, of more than `shown_bytes` only the start; what is not printable ASCII is escaped.
pub fn quoted(text: &[u8], shown_bytes: usize) -> String {
    let shown = &text[..text.len().min(shown_bytes)];
    let dots = if shown.len() < text.len() { "…" } else { "" };
    format!("\"{}{dots}\"", shown.escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_and_bytes_escaped() {
        assert_eq!(quoted(b"a\"\xff", 3), r#""a\"\xff""#);
        assert_eq!(quoted(b"abcd", 3), "\"abc…\"");
        assert_eq!(quoted(b"", 0), "\"\"");
    }
}

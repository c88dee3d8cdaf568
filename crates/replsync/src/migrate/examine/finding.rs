//! What is said of a server or a pair.

use std::fmt;

use super::super::ErrorKind;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// It goes well only if that is what you want.
    Warning,
    /// It does not go.
    Refusal,
}

/// Which server a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The source.
    Source,
    /// The target.
    Target,
    /// Both together.
    Pair,
}

/// Something worth saying about a server or a pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// Which server it is about.
    pub subject: Subject,
    /// What a refusal means.
    pub kind: ErrorKind,
    /// What it is, and what to do.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Subject::Source => "source",
            Subject::Target => "target",
            Subject::Pair => "pair",
        })
    }
}

impl Finding {
    pub(super) fn refusal(subject: Subject, kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { severity: Severity::Refusal, subject, kind, message: message.into() }
    }

    pub(super) fn warning(subject: Subject, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, subject, kind: ErrorKind::Unsafe, message: message.into() }
    }

    pub(super) fn note(subject: Subject, message: impl Into<String>) -> Self {
        Self { severity: Severity::Note, subject, kind: ErrorKind::Unsafe, message: message.into() }
    }
}

/// A size for people: `1.50 GiB`.
pub(super) fn human(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut size = bytes as f64 / 1024.0;
    let mut units = UNITS.iter();
    let mut unit = units.next();
    while size >= 1024.0 && units.len() > 0 {
        size /= 1024.0;
        unit = units.next();
    }
    format!("{size:.2} {}", unit.unwrap_or(&""))
}

/// The first of these names, and how many there are more.
pub(super) fn listed<N: AsRef<str>>(names: impl IntoIterator<Item = N>, at_most: usize) -> String {
    let names: Vec<N> = names.into_iter().collect();
    let mut text = names.iter().take(at_most).map(AsRef::as_ref).collect::<Vec<_>>().join(", ");
    if names.len() > at_most {
        text += &format!(" and {} more", names.len() - at_most);
    }
    text
}

/// A count of things: `1 key`, `5 keys`.
pub(super) fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_readable() {
        let sizes = [0, 1023, 1024, 1536, 256 << 20, 3 << 30, u64::MAX];
        let texts = ["0 B", "1023 B", "1.00 KiB", "1.50 KiB", "256.00 MiB", "3.00 GiB", "16384.00 PiB"];
        assert_eq!(sizes.map(human), texts);
    }

    #[test]
    fn long_lists_are_cut() {
        assert_eq!(listed(["a", "b"], 2), "a, b");
        assert_eq!(listed(["a", "b", "c", "d"], 2), "a, b and 2 more");
    }
}

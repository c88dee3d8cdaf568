//! Glob patterns as servers match them in KEYS and in SCAN's MATCH.
//!
//! Source: `stringmatchlen_impl` in `src/util.c` of the server, case sensitive. Its quirks are kept, since a pattern that was
//! tried on a server is to choose the same keys here.

/// A pattern: `*` any bytes, `?` any one byte, `[a-z]` one of them, `[^a]` one that is none of them, `\x` that byte.
///
/// ```
/// use replsync::inspect::Glob;
///
/// let glob = Glob::new(b"user:[0-9]*");
/// assert!(glob.matches(b"user:42") && !glob.matches(b"user:x"));
/// ```
#[derive(Clone, Debug)]
pub struct Glob {
    parts: Vec<Part>,
    /// `*` alone: servers do not look at keys then, and it is the only way to choose the empty key.
    is_all: bool,
}

#[derive(Clone, Debug)]
enum Part {
    /// Any bytes, none too.
    Any,
    /// Exactly one byte, of these.
    One(Class),
}

/// A set of bytes.
#[derive(Clone, Debug)]
struct Class([u64; 4]);

impl Glob {
    /// Every pattern means something: what is not closed ends with the pattern.
    pub fn new(pattern: &[u8]) -> Self {
        let mut parts = Vec::new();
        let mut rest = pattern;
        while let Some((&first, tail)) = rest.split_first() {
            rest = tail;
            match first {
                b'*' if matches!(parts.last(), Some(Part::Any)) => {}
                b'*' => parts.push(Part::Any),
                b'?' => parts.push(Part::One(Class([u64::MAX; 4]))),
                b'[' => parts.push(Part::One(class(&mut rest))),
                b'\\' => {
                    // The last byte of a pattern escapes nothing.
                    let (&byte, tail) = rest.split_first().unwrap_or((&b'\\', rest));
                    parts.push(Part::One(Class::of(byte)));
                    rest = tail;
                }
                byte => parts.push(Part::One(Class::of(byte))),
            }
        }
        Self { parts, is_all: pattern == b"*" }
    }

    /// Whether a server would choose `key`.
    pub fn matches(&self, key: &[u8]) -> bool {
        if self.is_all {
            return true;
        }
        // The server's loop does not begin where there are no bytes: `**` does not choose the empty key.
        if key.is_empty() {
            return self.parts.is_empty();
        }
        let (mut part, mut at) = (0, 0);
        // Where to go on when nothing fits: behind the last `*`, which then takes one byte more.
        let mut retry: Option<(usize, usize)> = None;
        loop {
            match self.parts.get(part) {
                Some(Part::Any) => {
                    retry = Some((part + 1, at));
                    part += 1;
                    continue;
                }
                Some(Part::One(class)) if key.get(at).is_some_and(|&byte| class.has(byte)) => {
                    (part, at) = (part + 1, at + 1);
                    continue;
                }
                None if at == key.len() => return true,
                _ => {}
            }
            match retry {
                Some((after, from)) if from < key.len() => {
                    (part, at) = (after, from + 1);
                    retry = Some((after, from + 1));
                }
                _ => return false,
            }
        }
    }
}

/// What follows `[`, up to and with its `]` or the end.
fn class(rest: &mut &[u8]) -> Class {
    let mut class = Class([0; 4]);
    let negated = rest.first() == Some(&b'^');
    if negated {
        *rest = &rest[1..];
    }
    loop {
        match **rest {
            [b'\\', byte, ref tail @ ..] => {
                class.add(byte);
                *rest = tail;
            }
            [b']', ref tail @ ..] => {
                *rest = tail;
                break;
            }
            // The end of a range may be a `]`, which then closes nothing.
            [from, b'-', to, ref tail @ ..] => {
                // Bytes are signed there, as they are on the processors that servers run on; either end comes first.
                let (from, to) = (from as i8, to as i8);
                (from.min(to)..=from.max(to)).for_each(|byte| class.add(byte as u8));
                *rest = tail;
            }
            [byte, ref tail @ ..] => {
                class.add(byte);
                *rest = tail;
            }
            [] => break,
        }
    }
    if negated { Class(class.0.map(|bits| !bits)) } else { class }
}

impl Class {
    fn of(byte: u8) -> Self {
        let mut class = Self([0; 4]);
        class.add(byte);
        class
    }

    fn add(&mut self, byte: u8) {
        self.0[usize::from(byte >> 6)] |= 1 << (byte & 63);
    }

    fn has(&self, byte: u8) -> bool {
        self.0[usize::from(byte >> 6)] & 1 << (byte & 63) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `tests/tests/inspect.rs` asks real servers; these are the rules by name.
    #[test]
    fn the_servers_rules() {
        let matches = |pattern: &str, key: &str| Glob::new(pattern.as_bytes()).matches(key.as_bytes());
        for (pattern, key) in [
            ("*", ""),
            ("", ""),
            ("h?llo", "hallo"),
            ("h*llo", "hllo"),
            ("h*o*", "hello world"),
            ("h[ae]llo", "hello"),
            ("h[^e]llo", "hallo"),
            ("h[a-b]llo", "hbllo"),
            ("h[b-a]llo", "hallo"),
            ("\\*x", "*x"),
            ("x\\", "x\\"),
            ("[abc", "c"),
            ("[^", "x"),
            ("[\\]]", "]"),
            ("[a-]x", "^"),
        ] {
            assert!(matches(pattern, key), "{pattern} {key}");
        }
        for (pattern, key) in
            [("**", ""), ("", "x"), ("?", ""), ("h[^e]llo", "hello"), ("a*b", "ac"), ("[", "["), ("[]", "]")]
        {
            assert!(!matches(pattern, key), "{pattern} {key}");
        }
    }

    #[test]
    fn many_stars_take_no_time() {
        let (pattern, key) = (b"a*".repeat(1000), vec![b'a'; 20_000]);
        assert!(!Glob::new(&[&pattern[..], b"b"].concat()).matches(&key));
    }
}

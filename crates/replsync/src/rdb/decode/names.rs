//! Names that must differ, of which there are few: consumer groups, consumers.

use crate::rdb::distinct;

/// Names, kept whole, so that equal ones are found without doubt. Room is kept between collections.
#[derive(Debug, Default)]
pub(super) struct Names {
    bytes: Vec<u8>,
    /// Hash, start and length.
    spans: Vec<(u64, usize, usize)>,
}

impl Names {
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.spans.clear();
    }

    pub fn push(&mut self, name: &[u8]) {
        self.spans.push((distinct::hash(name), self.bytes.len(), name.len()));
        self.bytes.extend_from_slice(name);
    }

    /// Whether two of them are equal.
    pub fn has_duplicate(&mut self) -> bool {
        self.spans.sort_unstable_by_key(|span| span.0);
        let name = |span: &(u64, usize, usize)| self.bytes.get(span.1..span.1 + span.2);
        self.spans.chunk_by(|a, b| a.0 == b.0).any(|same| {
            same.iter().enumerate().any(|(at, one)| same[..at].iter().any(|other| name(one) == name(other)))
        })
    }
}

//! Structure: whether values are what their type demands, without their contents being taken out.
//!
//! Checked is what a server checks under `sanitize-dump-payload yes` before it takes a value, and more where it does
//! not look: docs/formats/rdb.md has the list, check by check, with the server's function for each.

use std::borrow::Cow;
use std::fmt;

use xxhash_rust::xxh3::xxh3_128;

use super::Error;
use super::decode::Visitor;
use super::distinct::{Distinct, MAX_SUSPECTS, Pass, hash};
use super::element::Element;
use super::packed::Wrong;
use super::quoted::quoted;

/// What a finding is about. The words are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FindingKind {
    /// A compressed string is broken, or does not give what it claims.
    Lzf,
    /// A listpack: its length, end, count, or an entry with its length backwards.
    Listpack,
    /// A ziplist: its length, tail, end, count, or an entry with the length of the one before.
    Ziplist,
    /// An intset: its width, its length, or members that are not ascending.
    Intset,
    /// A zipmap: its end, or an entry.
    Zipmap,
    /// A node of a list that is of no known kind, or empty.
    Quicklist,
    /// A stream: a node, its counts or ids, or what the stream says of them.
    Stream,
    /// Pending entries of a group that are not those of its consumers.
    Pending,
    /// A score that is not a number.
    Score,
    /// Members of a packed sorted set that are not sorted.
    Order,
    /// A name that is there twice in its collection.
    Duplicate,
    /// A collection without elements.
    Empty,
    /// An expiry of a field that no server can have written.
    Expiry,
}

impl FindingKind {
    /// The word for it in outputs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lzf => "lzf",
            Self::Listpack => "listpack",
            Self::Ziplist => "ziplist",
            Self::Intset => "intset",
            Self::Zipmap => "zipmap",
            Self::Quicklist => "quicklist",
            Self::Stream => "stream",
            Self::Pending => "pending",
            Self::Score => "score",
            Self::Order => "order",
            Self::Duplicate => "duplicate",
            Self::Empty => "empty",
            Self::Expiry => "expiry",
        }
    }
}

impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Something wrong in a value whose end is known all the same. Database and key are the reader's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is about.
    pub kind: FindingKind,
    /// Where: bytes from the start of the RDB. For something inside a string (a listpack, an intset), where that
    /// string starts.
    pub offset: u64,
    /// What is wrong.
    pub message: Cow<'static, str>,
}

/// What one reading of a value gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Elements: of a collection its items, members, fields or live entries; 1 for a string.
    pub elements: u64,
    /// How much is wrong. Of one value not more than [`MAX_FINDINGS`] are shown.
    pub findings: u64,
    /// What is left to be done before it is known whether names are distinct: the value is to be read again, by
    /// [`Reader::check_again`](super::Reader::check_again).
    pub again: Option<Again>,
}

/// How many findings of one value are shown; the last of them says that there may be more.
pub const MAX_FINDINGS: u64 = 100;

/// What to look for when a value is read again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Again(Pass);

/// Checks values, one after the other. It holds memory for the names of one value.
#[derive(Debug)]
pub struct Checker {
    distinct: Distinct,
    /// Names whose hashes are suspected.
    held: Vec<(u64, Held)>,
}

/// A name to compare with.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Held {
    Whole(Vec<u8>),
    /// A long one: its length, and a hash of another kind.
    Long(usize, u128),
}

/// Names up to here are kept whole.
const WHOLE_BYTES: usize = 64 * 1024;

/// How many hashes are kept by default, in bytes: 16 million names in one pass.
const DISTINCT_BYTES: usize = 128 << 20;

impl Default for Checker {
    fn default() -> Self {
        Self::new(DISTINCT_BYTES)
    }
}

impl Checker {
    /// A checker that holds up to `distinct_bytes` of hashes, of eight bytes each, to find equal names. A value of
    /// more names needs [more than one reading](Checked::again). 128 MiB by default.
    pub fn new(distinct_bytes: usize) -> Self {
        Self { distinct: Distinct::new(distinct_bytes), held: Vec::new() }
    }

    /// Begins a reading: the first one of a value, or another.
    pub(super) fn start<'a, F>(&'a mut self, again: Option<&'a Again>, found: &'a mut F) -> Checking<'a, F> {
        let (from, suspects) = match again {
            None => (Some(0), &[][..]),
            Some(Again(pass)) => (pass.next, &pass.suspects[..]),
        };
        self.held.clear();
        self.distinct.start_at(from.unwrap_or(0));
        Checking {
            is_first: again.is_none(),
            collects: from.is_some(),
            suspects,
            distinct: &mut self.distinct,
            held: &mut self.held,
            checked: Checked::default(),
            found,
        }
    }
}

/// One reading of a value.
pub(super) struct Checking<'a, F> {
    is_first: bool,
    collects: bool,
    suspects: &'a [u64],
    distinct: &'a mut Distinct,
    held: &'a mut Vec<(u64, Held)>,
    checked: Checked,
    found: &'a mut F,
}

impl<F: FnMut(Finding)> Checking<'_, F> {
    pub fn finish(mut self) -> Checked {
        if self.collects {
            let pass = self.distinct.finish();
            if pass != Pass::default() {
                self.checked.again = Some(Again(pass));
            }
        }
        self.checked
    }

    #[inline]
    fn name(&mut self, name: &[u8], offset: u64) {
        let hash = hash(name);
        if !self.suspects.is_empty() && self.suspects.binary_search(&hash).is_ok() {
            self.suspect(hash, name, offset);
        }
        if self.collects {
            self.distinct.push(hash);
        }
    }

    #[cold]
    fn suspect(&mut self, hash: u64, name: &[u8], offset: u64) {
        let held = if name.len() <= WHOLE_BYTES {
            Held::Whole(name.to_vec())
        } else {
            Held::Long(name.len(), xxh3_128(name))
        };
        let held = (hash, held);
        if self.held.contains(&held) {
            let message = format!("{} is there twice", quoted(name, SHOWN_BYTES));
            self.report(FindingKind::Duplicate, offset, message.into());
        } else if self.held.len() < 4 * MAX_SUSPECTS {
            self.held.push(held);
        }
    }

    pub fn report(&mut self, kind: FindingKind, offset: u64, message: Cow<'static, str>) {
        self.checked.findings += 1;
        match self.checked.findings {
            ..MAX_FINDINGS => (self.found)(Finding { kind, offset, message }),
            MAX_FINDINGS => {
                let message = format!("{message}; there may be more of this value").into();
                (self.found)(Finding { kind, offset, message });
            }
            _ => {}
        }
    }
}

/// How much of a name is shown.
const SHOWN_BYTES: usize = 100;

impl<F: FnMut(Finding)> Visitor for Checking<'_, F> {
    type Error = Error;
    const STRUCTURE: bool = true;

    #[inline]
    fn element(&mut self, element: Element<'_>, offset: u64) -> Result<(), Error> {
        match element {
            Element::SetMember(name)
            | Element::ZsetMember { member: name, .. }
            | Element::HashField { field: name, .. } => self.name(name, offset),
            Element::StringPart(_)
            | Element::ListItem(_)
            | Element::StreamEntry { .. }
            | Element::ArrayItem { .. }
            | Element::ModulePart(_) => {}
            _ => return Ok(()),
        }
        self.checked.elements += 1;
        Ok(())
    }

    #[inline]
    fn elements(&mut self, count: u64) {
        self.checked.elements += count;
    }

    #[cold]
    fn finding(&mut self, kind: FindingKind, offset: u64, what: Wrong) -> Result<(), Error> {
        if self.is_first {
            self.report(kind, offset, what.into());
        }
        Ok(())
    }
}

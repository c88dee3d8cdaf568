//! What differs between two files.

use std::cmp::Ordering;
use std::fmt;

use crate::compare::elements::{One, Part};
use crate::compare::text::{moment, quoted};
use crate::compare::{Kind, Side};
use crate::rdb::{DataType, StreamId};

/// A key or a function library that differs. The [source](Side::Source) is the first file, A, the target the second, B.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The database; `None` for a function library.
    pub db: Option<u32>,
    /// The key, or the library's name.
    pub key: Vec<u8>,
    /// In what way it differs.
    pub kind: Kind,
    /// The types of its values in A and in B.
    pub types: [Option<DataType>; 2],
    /// What differs, in words: the first element that does, A's side before B's. Of a key that one side lacks, the
    /// type it has on the other. An expiry that differs as well comes last.
    pub what: String,
    /// Of strings, how they differ.
    pub text: Option<TextDifference>,
    /// Of other values, elements that differ, by their nature and name: at most
    /// [`Options::elements_max`](super::Options::elements_max).
    pub elements: Vec<ElementDifference>,
    /// How many more elements differ.
    pub more_elements: u64,
    /// When the key expires in A and in B, where that differs: in milliseconds since the epoch.
    pub expiries: Option<[Option<i64>; 2]>,
}

/// How two strings differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextDifference {
    /// The lengths of both, in bytes.
    pub lens: [u64; 2],
    /// The first byte that differs, or that only the longer one has.
    pub first: u64,
}

/// An element that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElementDifference {
    /// Its nature.
    pub part: Part,
    /// The name of a member, a field, a group, or a pending entry's group, unless it is longer than 1 MiB.
    pub name: Option<Vec<u8>>,
    /// The index in a list, an array or a module's value.
    pub index: Option<u64>,
    /// The id of a stream entry or of a pending one.
    pub id: Option<StreamId>,
    /// [`Kind::Value`], or on which side it is missing.
    pub kind: Kind,
    /// How the contents differ, or what the one side has.
    pub what: String,
    subject: String,
}

impl ElementDifference {
    pub(super) fn new(kind: Kind, one: One<'_>, name_is_whole: bool, what: String) -> Self {
        let name = one.text().filter(|_| name_is_whole).map(<[u8]>::to_vec);
        let (index, id) = (one.index(), one.id());
        Self { part: one.part, name, index, id, kind, what, subject: one.subject() }
    }

    pub(super) fn order(&self, other: &Self) -> Ordering {
        let key = |one: &Self| (one.index, one.id);
        let by_name = self.part.cmp(&other.part).then_with(|| self.name.cmp(&other.name));
        by_name.then_with(|| key(self).cmp(&key(other)))
    }
}

/// The words for the two files.
pub(super) fn file(side: Side) -> &'static str {
    match side {
        Side::Source => "A",
        Side::Target => "B",
    }
}

impl fmt::Display for ElementDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (subject, what) = (&self.subject, &self.what);
        let missing = match self.kind {
            Kind::MissingInSource => (Side::Source, Side::Target),
            Kind::MissingInTarget => (Side::Target, Side::Source),
            _ => return write!(f, "{subject}: {what}"),
        };
        write!(f, "{subject} is missing in {}", file(missing.0))?;
        if what.is_empty() { Ok(()) } else { write!(f, " ({what} in {})", file(missing.1)) }
    }
}

impl Difference {
    pub(super) fn new(db: Option<u32>, key: Vec<u8>, kind: Kind, what: String) -> Self {
        Self {
            db,
            key,
            kind,
            types: [None, None],
            what,
            text: None,
            elements: Vec::new(),
            more_elements: 0,
            expiries: None,
        }
    }

    /// About how much memory it takes.
    pub(super) fn bytes(&self) -> usize {
        let elements = self.elements.iter().map(|one| {
            let name = one.name.as_ref().map_or(0, Vec::len);
            size_of::<ElementDifference>() + name + one.what.len() + one.subject.len()
        });
        size_of::<Self>() + self.key.len() + self.what.len() + elements.sum::<usize>()
    }
}

/// Two expiries in words.
pub(super) fn expiries([a, b]: [Option<i64>; 2]) -> String {
    let text = |at: Option<i64>| at.map_or_else(|| "none".to_owned(), moment);
    format!("{} and {}", text(a), text(b))
}

/// One line; elements beyond the first are lines of their own, and the caller's to print.
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, what) = (quoted(&self.key), &self.what);
        match self.db {
            Some(db) => write!(f, "database {db}, key {key}: ")?,
            None => write!(f, "function library {key}: ")?,
        }
        match self.kind {
            Kind::MissingInSource => write!(f, "missing in A ({what} in B)"),
            Kind::MissingInTarget => write!(f, "missing in B ({what} in A)"),
            Kind::Function => f.write_str(what),
            Kind::Type | Kind::Value | Kind::Expiry => write!(f, "{}: {what}", self.kind.name()),
        }
    }
}

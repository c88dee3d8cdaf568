//! Which keys a command touches, by our own rules.

use bytes::Bytes;

use super::table::{self, Keys, Row};
use super::{is, is_any, number};

/// What a command touches. Keys are indices of its arguments. Every key that it writes is there; so are those that
/// it only reads where it names them (not those behind `SORT`'s patterns).
#[derive(Clone, Debug)]
pub enum Touched<'a> {
    /// These keys, in the selected database.
    Keys(KeyIndices<'a>),
    /// All keys of the selected database.
    WholeDatabase,
    /// All keys of all databases.
    EveryDatabase,
    /// Two databases change places.
    SwapDatabases(u32, u32),
    /// Keys in two databases: `MOVE`, `COPY … DB`. The other database may be the selected one.
    OtherDatabase {
        /// Keys in the selected database.
        here: KeyIndices<'a>,
        /// Keys in database `db`.
        there: KeyIndices<'a>,
        /// The other database.
        db: u32,
    },
    /// The functions, no key.
    Functions,
    /// Nothing that is kept with the data.
    Nothing,
    /// Cannot be told (a script, an unknown command, a malformed one): anything may have changed.
    Unknown,
}

/// The indices of a command's keys among its arguments, all of them within it. Nothing is allocated for them.
#[derive(Clone, Debug)]
pub struct KeyIndices<'a> {
    now: Span,
    then: Then<'a>,
}

/// Every `step`-th index from `next` on, below `end`.
#[derive(Clone, Copy, Debug)]
struct Span {
    next: usize,
    end: usize,
    step: usize,
}

/// What follows the first span.
#[derive(Clone, Debug)]
enum Then<'a> {
    Nothing,
    Span(Span),
    Ranges { ranges: &'a [Range], count: usize },
    Stores { args: &'a [Bytes], at: usize },
}

/// Arguments that are keys: from `first` to `last` (negative: from the end, -1 is the last one), every `step`-th.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub first: usize,
    pub last: isize,
    pub step: usize,
}

impl Range {
    /// Where it lies in a command of so many arguments; `None` when that is too short for it.
    fn span(self, count: usize) -> Option<Span> {
        let last = match usize::try_from(self.last) {
            Ok(last) => last,
            Err(_) => count.checked_add_signed(self.last)?,
        };
        let fits = self.first <= last && last < count && self.step > 0;
        fits.then_some(Span { next: self.first, end: last + 1, step: self.step })
    }
}

impl Iterator for Span {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let index = self.next;
        self.next = index.saturating_add(self.step);
        (index < self.end).then_some(index)
    }
}

impl<'a> KeyIndices<'a> {
    fn span(span: Span) -> Self {
        Self { now: span, then: Then::Nothing }
    }

    fn one(index: usize) -> Self {
        Self::span(Span { next: index, end: index + 1, step: 1 })
    }

    /// The keys in all these ranges of a command of so many arguments; `None` when one does not fit into it.
    pub(super) fn in_ranges(ranges: &'a [Range], count: usize) -> Option<Self> {
        let (first, rest) = ranges.split_first()?;
        rest.iter().all(|range| range.span(count).is_some()).then_some(())?;
        Some(Self { now: first.span(count)?, then: Then::Ranges { ranges: rest, count } })
    }
}

impl Iterator for KeyIndices<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        loop {
            if let Some(index) = self.now.next() {
                return Some(index);
            }
            self.now = match &mut self.then {
                Then::Nothing => return None,
                Then::Span(span) => {
                    let span = *span;
                    self.then = Then::Nothing;
                    span
                }
                Then::Ranges { ranges, count } => {
                    let (first, rest) = ranges.split_first()?;
                    *ranges = rest;
                    first.span(*count)?
                }
                Then::Stores { args, at } => {
                    let word = at.checked_sub(1)?;
                    let found =
                        args.get(word..)?.iter().position(|arg| is_any(arg, &["store", "storedist"]))?;
                    let index = *at + found;
                    *at = index + 1;
                    (index < args.len()).then_some(Span { next: index, end: index + 1, step: 1 })?
                }
            };
        }
    }
}

/// Says which keys a command touches, by its name alone: whatever server sent it, as long as that has renamed no
/// command. [`CommandTable::touched`](super::CommandTable::touched) asks the server first.
pub fn touched(args: &[Bytes]) -> Touched<'_> {
    match args.first().and_then(|name| table::lookup(name)) {
        Some(row) => by_row(row, args),
        None => Touched::Unknown,
    }
}

/// The same for the command of that line, whatever name it goes by.
pub(super) fn by_row<'a>(row: &Row, args: &'a [Bytes]) -> Touched<'a> {
    if !row.takes(args.len()) {
        return Touched::Unknown;
    }
    let keys = match row.keys {
        Keys::None => return Touched::Nothing,
        Keys::Unknown => return Touched::Unknown,
        Keys::Database => return Touched::WholeDatabase,
        Keys::Databases => return Touched::EveryDatabase,
        Keys::Functions => return Touched::Functions,
        Keys::Swap => return swap(args),
        Keys::Copy => return copy(args),
        Keys::Move => return to_database(args, 1, args.get(2)),
        Keys::Range(first, last, step) => Range { first, last, step }.span(args.len()).map(KeyIndices::span),
        Keys::Counted(at, step) => counted(args, at, step).map(KeyIndices::span),
        Keys::StoreCounted => {
            counted(args, 2, 1).map(|sources| KeyIndices { then: Then::Span(sources), ..KeyIndices::one(1) })
        }
        Keys::Store => Some(KeyIndices { then: Then::Stores { args, at: 3 }, ..KeyIndices::one(1) }),
        Keys::Streams => streams(args).map(KeyIndices::span),
        Keys::Migrate => migrate(args).map(KeyIndices::span),
    };
    keys.map_or(Touched::Unknown, Touched::Keys)
}

/// The first key that a command names, for messages.
pub fn first_key(args: &[Bytes]) -> Option<&Bytes> {
    let at = match touched(args) {
        Touched::Keys(mut keys) => keys.next(),
        Touched::OtherDatabase { mut here, .. } => here.next(),
        _ => None,
    };
    at.and_then(|at| args.get(at))
}

/// Commands that leave their key in the database, whatever was there before: those that delete it when nothing is left of
/// it, or do nothing where it is missing, are not among them.
const LEAVE: [&str; 21] = [
    "append",
    "decr",
    "decrby",
    "hincrby",
    "hincrbyfloat",
    "hmset",
    "hset",
    "incr",
    "incrby",
    "incrbyfloat",
    "lpush",
    "mset",
    "psetex",
    "rpush",
    "sadd",
    "set",
    "setbit",
    "setex",
    "xadd",
    "zadd",
    "zincrby",
];

/// The key that a command of the stream, which has had an effect, has left in the selected database, on a closed list.
pub fn left_key(args: &[Bytes]) -> Option<&Bytes> {
    let leaves = args.first().is_some_and(|name| is_any(name, &LEAVE));
    args.get(1).filter(|_| leaves)
}

fn swap(args: &[Bytes]) -> Touched<'_> {
    match (number(&args[1]), number(&args[2])) {
        (Some(a), Some(b)) => Touched::SwapDatabases(a, b),
        _ => Touched::Unknown,
    }
}

/// `COPY source destination [DB n] [REPLACE]`, in any order and as often as one likes: the last DB counts
/// (`copyCommand`, db.c).
fn copy(args: &[Bytes]) -> Touched<'_> {
    let (mut at, mut db) = (3, None);
    while let Some(option) = args.get(at) {
        if is(option, "db") {
            db = args.get(at + 1);
            at += 2;
        } else if is(option, "replace") {
            at += 1;
        } else {
            return Touched::Unknown;
        }
        if at > args.len() {
            return Touched::Unknown;
        }
    }
    match db {
        None => Touched::Keys(KeyIndices::span(Span { next: 1, end: 3, step: 1 })),
        db => to_database(args, 2, db),
    }
}

/// The key at 1 here, and that at `there` in another database.
fn to_database<'a>(args: &'a [Bytes], there: usize, db: Option<&Bytes>) -> Touched<'a> {
    match db.and_then(|db| number(db)) {
        Some(db) if there < args.len() => {
            Touched::OtherDatabase { here: KeyIndices::one(1), there: KeyIndices::one(there), db }
        }
        _ => Touched::Unknown,
    }
}

/// The number of keys at `at`, then that many keys, every `step`-th argument.
fn counted(args: &[Bytes], at: usize, step: usize) -> Option<Span> {
    let count: usize = number(args.get(at)?)?;
    let end = count.checked_mul(step)?.checked_add(at + 1)?;
    (count > 0 && end <= args.len()).then_some(Span { next: at + 1, end, step })
}

/// `XREADGROUP … STREAMS key… id…`.
fn streams(args: &[Bytes]) -> Option<Span> {
    let first = 1 + args[4..].iter().position(|arg| is(arg, "streams"))? + 4;
    let left = args.len() - first;
    (left > 0 && left.is_multiple_of(2)).then_some(Span { next: first, end: first + left / 2, step: 1 })
}

/// `MIGRATE host port key db timeout …`, or an empty key and `KEYS key…` at the end.
fn migrate(args: &[Bytes]) -> Option<Span> {
    match args[6..].iter().position(|arg| is(arg, "keys")) {
        Some(at) if args[3].is_empty() => Range { first: 6 + at + 1, last: -1, step: 1 }.span(args.len()),
        _ => Some(Span { next: 3, end: 4, step: 1 }),
    }
}

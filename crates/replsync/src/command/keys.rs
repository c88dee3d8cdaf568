//! Which keys a command touches.

use bytes::Bytes;

use super::table::{self, Keys};
use super::{is, is_any, number};

/// What a command touches. Keys are indices of its arguments. Every key that it writes is there; so are those that
/// it only reads where it names them (not those behind `SORT`'s patterns).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Touched {
    /// These keys, in the selected database.
    Keys(Vec<usize>),
    /// All keys of the selected database.
    WholeDatabase,
    /// All keys of all databases.
    EveryDatabase,
    /// Two databases change places.
    SwapDatabases(u32, u32),
    /// Keys in two databases: `MOVE`, `COPY … DB`.
    OtherDatabase {
        /// Keys in the selected database.
        here: Vec<usize>,
        /// Keys in database `db`.
        there: Vec<usize>,
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

/// Says which keys a command touches, whatever server sent it.
pub fn touched(args: &[Bytes]) -> Touched {
    let Some(row) = args.first().and_then(|name| table::lookup(name)) else { return Touched::Unknown };
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
        Keys::Move => {
            return match number(&args[2]) {
                Some(db) => Touched::OtherDatabase { here: vec![1], there: vec![1], db },
                None => Touched::Unknown,
            };
        }
        Keys::Range(first, last, step) => {
            let last =
                if last < 0 { args.len().checked_add_signed(last) } else { usize::try_from(last).ok() };
            last.filter(|last| *last < args.len()).map(|last| (first..=last).step_by(step).collect())
        }
        Keys::Counted(at, step) => counted(args, at, step),
        Keys::StoreCounted => counted(args, 2, 1).map(|mut keys| {
            keys.insert(0, 1);
            keys
        }),
        Keys::Store => Some(store(args)),
        Keys::Streams => streams(args),
        Keys::Migrate => Some(migrate(args)),
    };
    keys.map_or(Touched::Unknown, Touched::Keys)
}

/// The first key that a command names, for messages.
pub fn first_key(args: &[Bytes]) -> Option<&Bytes> {
    let at = match touched(args) {
        Touched::Keys(keys) => keys.first().copied(),
        Touched::OtherDatabase { here, there, .. } => here.first().or(there.first()).copied(),
        _ => None,
    };
    at.and_then(|at| args.get(at))
}

fn swap(args: &[Bytes]) -> Touched {
    match (number(&args[1]), number(&args[2])) {
        (Some(a), Some(b)) => Touched::SwapDatabases(a, b),
        _ => Touched::Unknown,
    }
}

/// `COPY source destination [DB n] [REPLACE]`.
fn copy(args: &[Bytes]) -> Touched {
    let Some(at) = args[3..].iter().position(|arg| is(arg, "db")) else { return Touched::Keys(vec![1, 2]) };
    match args.get(3 + at + 1).and_then(|db| number(db)) {
        Some(db) => Touched::OtherDatabase { here: vec![1], there: vec![2], db },
        None => Touched::Unknown,
    }
}

/// The number of keys at `at`, then that many keys, every `step`-th argument.
fn counted(args: &[Bytes], at: usize, step: usize) -> Option<Vec<usize>> {
    let count: usize = number(args.get(at)?)?;
    let end = count.checked_mul(step)?.checked_add(at + 1)?;
    (count > 0 && end <= args.len()).then(|| (at + 1..end).step_by(step).collect())
}

/// `SORT` and `GEORADIUS`: the key at 1 and what follows each STORE or STOREDIST. A pattern or member that reads
/// "store" may add an argument too many, which does no harm.
fn store(args: &[Bytes]) -> Vec<usize> {
    let named = |at: &usize| is_any(&args[at - 1], &["store", "storedist"]);
    std::iter::once(1).chain((3..args.len()).filter(named)).collect()
}

/// `XREADGROUP … STREAMS key… id…`.
fn streams(args: &[Bytes]) -> Option<Vec<usize>> {
    let first = 1 + args[4..].iter().position(|arg| is(arg, "streams"))? + 4;
    let left = args.len() - first;
    (left > 0 && left.is_multiple_of(2)).then(|| (first..first + left / 2).collect())
}

/// `MIGRATE host port key db timeout …`, or an empty key and `KEYS key…` at the end.
fn migrate(args: &[Bytes]) -> Vec<usize> {
    match args[6..].iter().position(|arg| is(arg, "keys")) {
        Some(at) if args[3].is_empty() => (6 + at + 1..args.len()).collect(),
        _ => vec![3],
    }
}

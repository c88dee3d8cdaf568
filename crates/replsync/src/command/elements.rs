//! Which elements of a big collection a command changes.
//!
//! A big hash, set or sorted set that is written all the time cannot be read again whole at every write. So there
//! is a closed list of commands that name every element that they change, as servers send them; those elements
//! are read again instead. Every other command (`ZPOPMIN`, `ZREMRANGEBYRANK`, `SMOVE`, … travel as they are) changes the
//! key as a whole.
//!
//! What is read again is a field's value with its expiry (`HSET` takes a field's expiry away), a member's score, or
//! that it is not there. Two things are the key's and not an element's:
//!
//! - **A key ends with its last element**, and its expiry with it. `HDEL` of the last field, then `HSET`, is a key without
//!   expiry, and no other command says so. So after a command that [may have deleted its key](Elements::may_delete_key)
//!   the key's expiry is to be read again, too.
//! - The name may meanwhile hold a value of another type: a command of the list then begins after one that changes the
//!   key as a whole (`DEL`, `RENAME`, `SET` …), or after the last element went, and an answer with `WRONGTYPE` or of
//!   another type says so.
//!
//! Commands that change only the key's expiry ([`only_expiry`]) leave all elements as they are. One that is past
//! lets the key go, which the stream says with a `DEL` or `UNLINK`, at once or once the master gets to it.

use bytes::Bytes;

use super::{is_any, number};

/// What kind of collection a command is for. On a key of another type it fails, and is not in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Collection {
    /// A hash: elements are fields.
    Hash,
    /// A set: elements are members.
    Set,
    /// A sorted set: elements are members.
    SortedSet,
}

/// The elements that a command changes, all of one collection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elements<'a> {
    /// The kind of collection.
    pub collection: Collection,
    args: &'a [Bytes],
    first: usize,
    step: usize,
    may_delete_key: bool,
}

impl<'a> Elements<'a> {
    /// The index of the key among the arguments.
    pub fn key(&self) -> usize {
        1
    }

    /// The indices of the elements among the arguments; at least one. The same element may be there twice.
    pub fn indices(&self) -> impl Iterator<Item = usize> + use<> {
        (self.first..self.args.len()).step_by(self.step)
    }

    /// The elements.
    pub fn names(&self) -> impl Iterator<Item = &'a Bytes> + use<'a> {
        self.args.get(self.first..).unwrap_or_default().iter().step_by(self.step)
    }

    /// Whether the key may have gone with its last element: then its expiry is to be read again, see the
    /// [module](self).
    pub fn may_delete_key(&self) -> bool {
        self.may_delete_key
    }
}

/// The elements that a command changes, when it is on the closed list and well-formed; otherwise it is to be taken
/// as changing its keys as a whole.
pub fn elements(args: &[Bytes]) -> Option<Elements<'_>> {
    elements_of(args.first()?, args)
}

/// The same for the command of that name, whatever name it goes by.
pub(super) fn elements_of<'a>(name: &[u8], args: &'a [Bytes]) -> Option<Elements<'a>> {
    use Collection::{Hash, Set, SortedSet};
    let mut lower = [0u8; 16];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    let adds = |collection, first, step| Some((collection, first, step, false));
    let removes = |collection, first, step| Some((collection, first, step, true));
    let (collection, first, step, may_delete_key) = match &*lower {
        b"hset" | b"hmset" => adds(Hash, 2, 2),
        b"zadd" => adds(SortedSet, scores(args)? + 1, 2),
        b"zincrby" if args.len() == 4 => adds(SortedSet, 3, 1),
        b"zrem" => removes(SortedSet, 2, 1),
        b"sadd" => adds(Set, 2, 1),
        b"srem" => removes(Set, 2, 1),
        b"hdel" => removes(Hash, 2, 1),
        b"hincrby" | b"hincrbyfloat" | b"hsetnx" if args.len() == 4 => adds(Hash, 2, 2),
        // a field whose expiry is past goes at once, on some servers
        b"hsetex" => removes(Hash, fields(args, 2, 2)?, 2),
        b"hpexpireat" | b"hpexpire" | b"hexpireat" | b"hexpire" => removes(Hash, fields(args, 3, 1)?, 1),
        b"hgetex" => removes(Hash, fields(args, 2, 1)?, 1),
        b"hgetdel" => removes(Hash, fields(args, 2, 1)?, 1),
        b"hpersist" => adds(Hash, fields(args, 2, 1)?, 1),
        _ => None,
    }?;
    // Only whole groups: of a field and its value, say. A sorted set's begin with the score.
    let group = if *lower == *b"zadd" { first - 1 } else { first };
    let count = args.len().checked_sub(group)?;
    let whole = count > 0 && count.is_multiple_of(step);
    whole.then_some(Elements { collection, args, first, step, may_delete_key })
}

/// Whether a command changes nothing but the expiry of the key at argument 1: `EXPIRE`, `PEXPIRE`, `EXPIREAT`,
/// `PEXPIREAT`, `PERSIST`.
pub fn only_expiry(args: &[Bytes]) -> bool {
    args.first().is_some_and(|name| only_expiry_of(name, args))
}

/// The same for the command of that name, whatever name it goes by.
pub(super) fn only_expiry_of(name: &[u8], args: &[Bytes]) -> bool {
    (args.len() >= 3 && is_any(name, &["expire", "pexpire", "expireat", "pexpireat"]))
        || (args.len() == 2 && is_any(name, &["persist"]))
}

/// Where the scores and members of `ZADD key [NX | XX] [GT | LT] [CH] [INCR] score member…` begin: at the first word
/// that is no option, as a score never reads like one (`zaddGenericCommand`, t_zset.c).
fn scores(args: &[Bytes]) -> Option<usize> {
    let options = args.get(2..)?;
    let option = |arg: &Bytes| is_any(arg, &["nx", "xx", "gt", "lt", "ch", "incr"]);
    Some(2 + options.iter().position(|arg| !option(arg))?)
}

/// Where the fields begin after `[options] FIELDS n`, with `step` arguments for each up to the end of the command.
/// The options begin at `first`; what is not known among them is none.
fn fields(args: &[Bytes], first: usize, step: usize) -> Option<usize> {
    let mut at = first;
    loop {
        let option = args.get(at)?;
        if is_any(option, &["fields"]) {
            let count: usize = number(args.get(at + 1)?)?;
            let left = args.len().checked_sub(at + 2)?;
            return (count > 0 && count.checked_mul(step)? == left).then_some(at + 2);
        }
        at += match option {
            option if is_any(option, &["nx", "xx", "gt", "lt", "fnx", "fxx", "keepttl", "persist"]) => 1,
            option if is_any(option, &["ex", "px", "exat", "pxat"]) => 2,
            _ => return None,
        };
    }
}

//! Which elements of a big collection a command changes.
//!
//! A big hash, set or sorted set that is written all the time cannot be read again whole at every write. So there
//! is a closed list of commands that name every element that they change, as servers send them; those elements
//! are read again instead. Every other command (`ZPOPMIN`, `ZREMRANGEBYRANK`, `SMOVE`, … travel as they are) changes
//! the key as a whole.

use bytes::Bytes;

use super::{is, is_any, number};
use crate::server::{Product, Server};

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

/// The elements that a command changes, all of one collection. They are to be read again: a field's value with its
/// expiry (`HSET` takes a field's expiry away), a member's score, or that it is not there. Two more things may have
/// changed, which no other command says:
///
/// - **A key ends with its last element**, and its expiry with it. `HDEL` of the last field, then `HSET`, is a key
///   without expiry. So after a command that [may have deleted its key](Self::may_delete_key) the key's expiry is to
///   be read again, too.
/// - The name may hold a value of another type by the time that the elements are read: then the answer is `WRONGTYPE`,
///   and what changed it (`DEL`, `RENAME`, `SET` …) is further on in the stream, or was a last element's end.
///
/// Commands that change only the key's expiry ([`only_expiry`]) leave all elements as they are. One that is past
/// lets the key go, which the stream says with a `DEL` or `UNLINK`, at once or when the master gets to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elements<'a> {
    /// The kind of collection.
    pub collection: Collection,
    args: &'a [Bytes],
    first: usize,
    end: usize,
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
        (self.first..self.end).step_by(self.step)
    }

    /// The elements.
    pub fn names(&self) -> impl Iterator<Item = &'a Bytes> + use<'a> {
        self.args.get(self.first..self.end).unwrap_or_default().iter().step_by(self.step)
    }

    /// Whether the key may have gone with its last element: then its expiry is to be read again.
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
    let end = args.len();
    let adds = |collection, first, step| Some((collection, (first, end), step, false));
    let removes = |collection, first, step| Some((collection, (first, end), step, true));
    let (collection, (first, end), step, may_delete_key) = match &*lower {
        b"hset" | b"hmset" => adds(Hash, 2, 2),
        b"hincrby" | b"hincrbyfloat" | b"hsetnx" if args.len() == 4 => adds(Hash, 2, 2),
        b"hdel" => removes(Hash, 2, 1),
        b"zadd" => adds(SortedSet, scores(args)? + 1, 2),
        b"zincrby" if args.len() == 4 => adds(SortedSet, 3, 1),
        b"zrem" => removes(SortedSet, 2, 1),
        b"sadd" => adds(Set, 2, 1),
        b"srem" => removes(Set, 2, 1),
        b"hpersist" => Some((Hash, fields(args, 2, 1)?, 1, false)),
        // a field whose expiry is past goes at once, on some servers
        b"hsetex" => Some((Hash, fields(args, 2, 2)?, 2, true)),
        b"hpexpireat" | b"hpexpire" | b"hexpireat" | b"hexpire" => Some((Hash, fields(args, 3, 1)?, 1, true)),
        b"hgetex" | b"hgetdel" => Some((Hash, fields(args, 2, 1)?, 1, true)),
        _ => None,
    }?;
    // Only whole groups: of a field and its value, say. A sorted set's begin with the score.
    let group = if *lower == *b"zadd" { first - 1 } else { first };
    let count = end.checked_sub(group)?;
    let whole = count > 0 && count.is_multiple_of(step);
    whole.then_some(Elements { collection, args, first, end, step, may_delete_key })
}

/// The fields of a command of `source` that takes away the expiries of several, or sets them, where it travels with all that
/// its client named though it skipped those that were past their time: `HPERSIST`, and of Valkey 9 `HPEXPIREAT`, too
/// (`hpersistCommand` and `hexpireGenericCommand`, t_hash.c; Redis renews what it has not deleted yet).
pub fn may_name_expired(args: &[Bytes], source: Server) -> Option<Elements<'_>> {
    const NAMES: [&str; 5] = ["hpersist", "hpexpireat", "hpexpire", "hexpireat", "hexpire"];
    // Most commands are none of them, which two letters tell.
    let name =
        args.first().filter(|name| matches!(name[..], [b'h' | b'H', b'p' | b'P' | b'e' | b'E', ..]))?;
    let names = if source.product == Product::Valkey { &NAMES[..] } else { &NAMES[..1] };
    let named = if is_any(name, names) { elements_of(name, args) } else { None };
    named.filter(|elements| elements.indices().nth(1).is_some())
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

/// Where the fields begin and end: `FIELDS n` with `step` arguments for each, among the options that begin at `first`.
/// Redis 8.6 sends options behind the fields where the client wrote them there (`HPEXPIREAT h t FIELDS 1 f NX`, by
/// experiment). What is not known among them makes all of it unknown.
pub(super) fn fields(args: &[Bytes], first: usize, step: usize) -> Option<(usize, usize)> {
    let (mut at, mut found) = (first, None);
    while let Some(option) = args.get(at) {
        at += match option {
            option if is(option, "fields") && found.is_none() => {
                let count: usize = number(args.get(at + 1)?)?;
                let taken = count.checked_mul(step)?.checked_add(2)?;
                found = Some((at + 2, at.checked_add(taken)?));
                taken
            }
            option if is_any(option, &["nx", "xx", "gt", "lt", "fnx", "fxx", "keepttl", "persist"]) => 1,
            option if is_any(option, &["ex", "px", "exat", "pxat"]) => 2,
            _ => return None,
        };
    }
    found.filter(|_| at == args.len())
}

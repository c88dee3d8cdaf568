//! One command as a server's `COMMAND` and `COMMAND INFO` describe it: its own name, and where its keys are.
//!
//! Source: `addReplyCommandInfo` in `src/server.c` (`addReplyCommand` before 7.0). An entry is an array of name,
//! arity, flags, first key, last key, step; since 6.0 categories; since 7.0 tips, key specifications and
//! subcommands, which are entries again.

use super::keys::{KeyIndices, Range};
use bytes::Bytes;

use crate::resp::Reply;

/// What a server says of one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The name that it was born with, in lower case: not the one that `rename-command` gave it.
    pub name: Bytes,
    /// Whether a module brought it; servers say so since 7.0.
    pub module: bool,
    /// Where its keys are.
    pub keys: ServerKeys,
    /// The subcommands of a container, by their names in lower case.
    pub subcommands: Vec<(Bytes, ServerKeys)>,
}

/// Where a server says that a command's keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ServerKeys {
    /// Exactly there.
    At(Box<[Range]>),
    /// It names none.
    None,
    /// They depend on other arguments (`movablekeys`, which scripts have too), or are not all named.
    Untold,
}

impl ServerKeys {
    /// The keys of a command of so many arguments; `None` where they cannot be told.
    pub fn indices(&self, count: usize) -> Option<KeyIndices<'_>> {
        match self {
            Self::At(ranges) => KeyIndices::in_ranges(ranges, count),
            Self::None | Self::Untold => None,
        }
    }
}

impl Entry {
    /// Reads one; `None` when it is none.
    pub fn read(reply: &Reply) -> Option<Self> {
        let Reply::Array(fields) = reply else { return None };
        let [name, Reply::Integer(_), flags, first, last, step, more @ ..] = fields.as_slice() else {
            return None;
        };
        let flags = words(flags)?;
        let has = |word: &str| flags.iter().any(|flag| flag.eq_ignore_ascii_case(word.as_bytes()));
        // categories and tips say nothing about keys
        let (specifications, subcommands) = match more {
            [_, _, specifications, subcommands, ..] => (Some(specifications), array(subcommands)?),
            _ => (None, &[][..]),
        };
        let keys = if has("movablekeys") {
            ServerKeys::Untold
        } else {
            match specifications {
                Some(specifications) => specified(specifications)?,
                None => range(integer(first)?, integer(last)?, integer(step)?)?,
            }
        };
        let name = Bytes::from(text(name)?.to_ascii_lowercase());
        let subcommand = |reply: &Reply| {
            let entry = Self::read(reply)?;
            let at = entry.name.iter().position(|&byte| byte == b'|')?;
            Some((entry.name.slice(at + 1..), entry.keys))
        };
        let subcommands = subcommands.iter().map(subcommand).collect::<Option<_>>()?;
        Some(Self { name, module: has("module"), keys, subcommands })
    }
}

/// The three numbers of old: a first key of 0 is none.
fn range(first: i64, last: i64, step: i64) -> Option<ServerKeys> {
    if first <= 0 {
        return Some(ServerKeys::None);
    }
    let range =
        Range { first: first.try_into().ok()?, last: last.try_into().ok()?, step: step.try_into().ok()? };
    Some(if range.step == 0 { ServerKeys::Untold } else { ServerKeys::At(Box::new([range])) })
}

/// Key specifications. What begins at an index and is a range is enough for every command without `movablekeys`;
/// whatever else there may be one day cannot be told.
fn specified(reply: &Reply) -> Option<ServerKeys> {
    let mut ranges = Vec::new();
    for specification in array(reply)? {
        let specification = array(specification)?;
        let flags = words(field(specification, "flags")?)?;
        let has = |word: &str| flags.iter().any(|flag| flag.eq_ignore_ascii_case(word.as_bytes()));
        if has("not_key") {
            continue; // the channels of SPUBLISH
        }
        match indexed(specification) {
            Some(range) if !has("incomplete") => ranges.push(range),
            _ => return Some(ServerKeys::Untold),
        }
    }
    Some(if ranges.is_empty() { ServerKeys::None } else { ServerKeys::At(ranges.into()) })
}

/// A specification that begins at an index and is a range to its end; the last key counts from the first.
fn indexed(specification: &[Reply]) -> Option<Range> {
    let begin = array(field(specification, "begin_search")?)?;
    let find = array(field(specification, "find_keys")?)?;
    if text(field(begin, "type")?)? != b"index" || text(field(find, "type")?)? != b"range" {
        return None;
    }
    let (begin, find) = (array(field(begin, "spec")?)?, array(field(find, "spec")?)?);
    let first = usize::try_from(integer(field(begin, "index")?)?).ok().filter(|&first| first > 0)?;
    let last = isize::try_from(integer(field(find, "lastkey")?)?).ok()?;
    let last = if last < 0 { last } else { last.checked_add_unsigned(first)? };
    let step = usize::try_from(integer(field(find, "keystep")?)?).ok().filter(|&step| step > 0)?;
    // a limit of 0 or 1 is none; others take a part of what is left
    (integer(field(find, "limit")?)? <= 1).then_some(Range { first, last, step })
}

/// The value after that name in a map, which RESP2 writes as an array.
fn field<'a>(map: &'a [Reply], name: &str) -> Option<&'a Reply> {
    map.chunks_exact(2).find(|pair| text(&pair[0]) == Some(name.as_bytes())).map(|pair| &pair[1])
}

fn array(reply: &Reply) -> Option<&[Reply]> {
    match reply {
        Reply::Array(items) => Some(items),
        _ => None,
    }
}

fn words(reply: &Reply) -> Option<Vec<&[u8]>> {
    array(reply)?.iter().map(text).collect()
}

fn text(reply: &Reply) -> Option<&[u8]> {
    match reply {
        Reply::Simple(text) | Reply::Bulk(text) => Some(text),
        _ => None,
    }
}

fn integer(reply: &Reply) -> Option<i64> {
    match reply {
        Reply::Integer(number) => Some(*number),
        _ => None,
    }
}

//! How commands are rewritten: strings, keys, lists, sets, databases. Hash fields, streams and payloads have files
//! of their own.

use bytes::Bytes;

use super::expiry::{Expiry, among, expiry};
use super::table::{self, Since};
use super::{Expiries, NoRule, Rewritten, Target, is, is_any, number};
use crate::shift::Shift;

/// What every rule returns.
pub(super) type Ruled = Result<Rewritten, NoRule>;

/// A command from a name and its arguments.
pub(super) fn command(name: &'static str, rest: &[&[Bytes]]) -> Vec<Bytes> {
    let mut args = Vec::with_capacity(1 + rest.iter().map(|part| part.len()).sum::<usize>());
    args.push(word(name));
    rest.iter().for_each(|part| args.extend_from_slice(part));
    args
}

/// A word of the protocol.
pub(super) const fn word(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

/// One command instead.
pub(super) fn instead(args: Vec<Bytes>) -> Ruled {
    Ok(Rewritten::Replaced(vec![args]))
}

/// Whether the target has this.
pub(super) fn has(target: &Target, since: Since) -> bool {
    since.on(&target.server)
}

/// Whether expiries are shifted there, so that nothing with an expiry passes as it is.
pub(super) fn shifts(target: &Target) -> bool {
    target.expiries == Expiries::Shifted
}

/// An expiry in milliseconds since the epoch as it is to be written, where `shift` is that of its sort.
pub(super) fn absolute(
    args: &[Bytes],
    expiry: Expiry,
    shift: Shift,
    target: &Target,
    now_ms: u64,
) -> Result<Bytes, NoRule> {
    let value = args.get(expiry.argument).and_then(|value| number(value));
    let at = expiry.unit.absolute_ms(value.ok_or_else(|| NoRule::malformed(args))?, now_ms);
    let written = target.expiries.written(at, shift);
    let out_of_range = || {
        NoRule::new(
            args,
            format!(
                "its expiry ({at} ms since the epoch) is beyond what can be moved: PERSIST it on the source"
            ),
        )
    };
    written.map(|at| Bytes::from(at.to_string())).ok_or_else(out_of_range)
}

/// How long a key or field lives that is set.
pub(super) enum Lifetime {
    Forever,
    Kept,
    Until(Bytes),
}

/// What the options of SET, MSETEX and HSETEX say.
pub(super) struct SetOptions {
    pub lifetime: Lifetime,
    /// All that is there is what every server with this command has, and no condition.
    pub plain: bool,
}

/// Reads the options of SET, MSETEX and HSETEX in `args[first..end]`.
pub(super) fn set_options(
    args: &[Bytes],
    (first, end): (usize, usize),
    shift: Shift,
    target: &Target,
    now_ms: u64,
) -> Result<SetOptions, NoRule> {
    let (mut kept, mut plain, mut at) = (false, true, first);
    while at < end {
        let option = &args[at];
        at += match option {
            option if is(option, "keepttl") => {
                kept = true;
                1
            }
            option if is(option, "pxat") => {
                plain &= !shifts(target);
                2
            }
            option if is_any(option, &["ex", "px", "exat"]) => {
                plain = false;
                2
            }
            option if is_any(option, &["nx", "xx", "fnx", "fxx", "get"]) => {
                plain = false;
                1
            }
            option if is_any(option, &["ifeq", "ifne", "ifdeq", "ifdne"]) => {
                plain = false;
                2
            }
            option => return Err(NoRule::option(args, option)),
        };
    }
    let expiry = among(&args[..end], first);
    if at > end || (kept && expiry.is_some()) {
        return Err(NoRule::malformed(args));
    }
    let lifetime = match expiry {
        Some(expiry) => Lifetime::Until(absolute(args, expiry, shift, target, now_ms)?),
        None if kept => Lifetime::Kept,
        None => Lifetime::Forever,
    };
    Ok(SetOptions { lifetime, plain })
}

/// Sets one key, with what the target has.
fn set_key(
    args: &[Bytes],
    key: &Bytes,
    value: &Bytes,
    life: &Lifetime,
    target: &Target,
) -> Result<Vec<Vec<Bytes>>, NoRule> {
    let pair = [key.clone(), value.clone()];
    match life {
        Lifetime::Forever => Ok(vec![command("SET", &[&pair])]),
        Lifetime::Kept if has(target, table::SET_KEEPTTL) => {
            Ok(vec![command("SET", &[&pair, &[word("KEEPTTL")]])])
        }
        Lifetime::Kept => Err(NoRule::lacks_option(args, target, "KEEPTTL")),
        Lifetime::Until(at) if has(target, table::REDIS_6_2) => {
            Ok(vec![command("SET", &[&pair, &[word("PXAT"), at.clone()]])])
        }
        Lifetime::Until(at) => {
            Ok(vec![command("SET", &[&pair]), command("PEXPIREAT", &[&[key.clone(), at.clone()]])])
        }
    }
}

/// `SET key value [NX | XX | IFEQ v | …] [GET] [EX s | PX ms | EXAT s | PXAT ms | KEEPTTL]`.
pub(super) fn set(args: &[Bytes], target: &Target, now_ms: u64) -> Ruled {
    if args.len() == 3 {
        return Ok(Rewritten::AsIs);
    }
    let SetOptions { lifetime, plain } = set_options(args, (3, args.len()), Shift::KEY, target, now_ms)?;
    let as_is = match lifetime {
        Lifetime::Forever => plain,
        Lifetime::Kept => plain && has(target, table::SET_KEEPTTL),
        Lifetime::Until(_) => plain && has(target, table::REDIS_6_2),
    };
    if as_is {
        return Ok(Rewritten::AsIs);
    }
    Ok(Rewritten::Replaced(set_key(args, &args[1], &args[2], &lifetime, target)?))
}

/// `SETEX` and `PSETEX`: relative, and sent as they are before 6.2.
pub(super) fn setex(args: &[Bytes], target: &Target, now_ms: u64) -> Ruled {
    let expiry = expiry(args).ok_or_else(|| NoRule::malformed(args))?;
    let lifetime = Lifetime::Until(absolute(args, expiry, Shift::KEY, target, now_ms)?);
    Ok(Rewritten::Replaced(set_key(args, &args[1], &args[3], &lifetime, target)?))
}

/// `MSETEX count key value … [NX | XX] [EX s | … | KEEPTTL]`.
pub(super) fn msetex(args: &[Bytes], target: &Target, now_ms: u64) -> Ruled {
    let pairs_end = number::<usize>(&args[1])
        .filter(|count| *count > 0)
        .and_then(|count| count.checked_mul(2)?.checked_add(2))
        .filter(|end| *end <= args.len())
        .ok_or_else(|| NoRule::malformed(args))?;
    let SetOptions { lifetime, plain } =
        set_options(args, (pairs_end, args.len()), Shift::KEY, target, now_ms)?;
    if plain && has(target, table::MSETEX) {
        return Ok(Rewritten::AsIs);
    }
    if let Lifetime::Forever = lifetime {
        return instead(command("MSET", &[&args[2..pairs_end]]));
    }
    let mut commands = Vec::new();
    for pair in args[2..pairs_end].chunks_exact(2) {
        commands.extend(set_key(args, &pair[0], &pair[1], &lifetime, target)?);
    }
    Ok(Rewritten::Replaced(commands))
}

/// Commands that did what they do only under a condition, which was met: the same without it.
pub(super) fn unconditional(args: &[Bytes], _: &Target, _: u64) -> Ruled {
    let plain = match &args[0] {
        name if is(name, "setnx") => "SET",
        name if is(name, "msetnx") => "MSET",
        name if is(name, "hsetnx") => "HSET",
        name if is(name, "renamenx") => "RENAME",
        _ => return Err(NoRule::malformed(args)),
    };
    instead(command(plain, &[&args[1..]]))
}

/// `DELEX key [IFEQ v | …]`, `DELIFEQ key v`, `GETDEL key`.
pub(super) fn delete(args: &[Bytes], _: &Target, _: u64) -> Ruled {
    instead(command("DEL", &[&args[1..2]]))
}

/// `EXPIRE`, `PEXPIRE`, `EXPIREAT`, `PEXPIREAT key time [NX | XX | GT | LT]`.
pub(super) fn expire(args: &[Bytes], target: &Target, now_ms: u64) -> Ruled {
    let expiry = expiry(args).ok_or_else(|| NoRule::malformed(args))?;
    let at = absolute(args, expiry, Shift::KEY, target, now_ms)?;
    if let Some(option) = args[3..].iter().find(|option| !is_any(option, &["nx", "xx", "gt", "lt"])) {
        return Err(NoRule::option(args, option));
    }
    if args.len() == 3 && !shifts(target) && is_any(&args[0], &["expireat", "pexpireat"]) {
        return Ok(Rewritten::AsIs);
    }
    instead(command("PEXPIREAT", &[&args[1..2], &[at]]))
}

/// `GETEX key [EX s | PX ms | EXAT s | PXAT ms | PERSIST]`: no server is known to send it.
pub(super) fn getex(args: &[Bytes], target: &Target, now_ms: u64) -> Ruled {
    match (args, expiry(args)) {
        ([_, _], _) => Ok(Rewritten::Replaced(Vec::new())),
        ([_, _, persist], _) if is(persist, "persist") => instead(command("PERSIST", &[&args[1..2]])),
        ([_, _, _, _], Some(expiry)) => {
            let at = absolute(args, expiry, Shift::KEY, target, now_ms)?;
            instead(command("PEXPIREAT", &[&args[1..2], &[at]]))
        }
        ([_, _, option, ..], _) => Err(NoRule::option(args, option)),
        _ => Err(NoRule::malformed(args)),
    }
}

/// `LPOP` and `RPOP key [count]`; without a count in older servers, where `LTRIM` takes as many away.
pub(super) fn pop(args: &[Bytes], target: &Target, _: u64) -> Ruled {
    let count = match args {
        [_, _] => return Ok(Rewritten::AsIs),
        [_, _, count] => {
            number::<i64>(count).filter(|count| *count >= 0).ok_or_else(|| NoRule::malformed(args))?
        }
        _ => return Err(NoRule::malformed(args)),
    };
    if has(target, table::REDIS_6_2) {
        return Ok(Rewritten::AsIs);
    }
    let (start, stop) = if is(&args[0], "lpop") { (count, -1) } else { (0, -1 - count) };
    instead(command("LTRIM", &[&args[1..2], &[start.to_string().into(), stop.to_string().into()]]))
}

/// `LMOVE source destination LEFT | RIGHT LEFT | RIGHT`.
pub(super) fn lmove(args: &[Bytes], target: &Target, _: u64) -> Ruled {
    if !has(target, table::REDIS_6_2) && is(&args[3], "right") && is(&args[4], "left") {
        return instead(command("RPOPLPUSH", &[&args[1..3]]));
    }
    Ok(Rewritten::AsIs)
}

/// `COPY source destination [DB n] [REPLACE]`: it was done, so nothing was in the way.
pub(super) fn copy(args: &[Bytes], _: &Target, _: u64) -> Ruled {
    let (mut at, mut replace) = (3, false);
    while let Some(option) = args.get(at) {
        at += match option {
            option if is(option, "db") && args.get(at + 1).is_some_and(|db| number::<u32>(db).is_some()) => 2,
            option if is(option, "replace") => {
                replace = true;
                1
            }
            option => return Err(NoRule::option(args, option)),
        };
    }
    if replace { Ok(Rewritten::AsIs) } else { instead(command("COPY", &[&args[1..], &[word("REPLACE")]])) }
}

/// `FLUSHDB` and `FLUSHALL [ASYNC | SYNC]`.
pub(super) fn flush(args: &[Bytes], target: &Target, _: u64) -> Ruled {
    match args {
        [_] => Ok(Rewritten::AsIs),
        [_, how] if is(how, "async") => Ok(Rewritten::AsIs),
        [_, how] if is(how, "sync") && has(target, table::REDIS_6_2) => Ok(Rewritten::AsIs),
        [name, how] if is(how, "sync") => Ok(Rewritten::Replaced(vec![vec![name.clone()]])),
        [_, option, ..] => Err(NoRule::option(args, option)),
        [] => Err(NoRule::malformed(args)),
    }
}

/// `SELECT n`.
pub(super) fn select(args: &[Bytes], _: &Target, _: u64) -> Ruled {
    number::<u32>(&args[1]).map(|_| Rewritten::AsIs).ok_or_else(|| NoRule::malformed(args))
}

/// `SCRIPT LOAD | FLUSH`, which servers before 7.0 send.
pub(super) fn script(args: &[Bytes], _: &Target, _: u64) -> Ruled {
    match args {
        [_, sub, _] if is(sub, "load") => Ok(Rewritten::AsIs),
        [_, sub] if is(sub, "flush") => Ok(Rewritten::AsIs),
        [_, sub, _] if is(sub, "flush") => instead(command("SCRIPT", &[&args[1..2]])),
        _ => Err(NoRule::new(args, "this subcommand is not known; a newer replsync may know it")),
    }
}

/// `BITOP operation destination source…`.
pub(super) fn bitop(args: &[Bytes], target: &Target, _: u64) -> Ruled {
    match &args[1] {
        op if is_any(op, &["and", "or", "xor", "not"]) => Ok(Rewritten::AsIs),
        op if !is_any(op, &["diff", "diff1", "andor", "one"]) => Err(NoRule::option(args, op)),
        _ if has(target, table::REDIS_8_2) => Ok(Rewritten::AsIs),
        _ => Err(NoRule::lacks_command(args, target)),
    }
}

/// `GEORADIUS key lon lat radius unit …` and `GEORADIUSBYMEMBER key member radius unit …`.
pub(super) fn georadius(args: &[Bytes], target: &Target, _: u64) -> Ruled {
    let mut at = if is(&args[0], "georadius") { 6 } else { 5 };
    while let Some(option) = args.get(at) {
        at += match option {
            option if is_any(option, &["asc", "desc", "withcoord", "withdist", "withhash"]) => 1,
            option if is_any(option, &["count", "store", "storedist"]) => 2,
            option if is(option, "any") && has(target, table::REDIS_6_2) => 1,
            option if is(option, "any") => return Err(NoRule::lacks_option(args, target, "ANY")),
            option => return Err(NoRule::option(args, option)),
        };
    }
    Ok(Rewritten::AsIs)
}

/// `GEOSEARCHSTORE destination source …`.
pub(super) fn geosearchstore(args: &[Bytes], target: &Target, _: u64) -> Ruled {
    let mut at = 3;
    while let Some(option) = args.get(at) {
        at += match option {
            option if is_any(option, &["asc", "desc", "any", "storedist"]) => 1,
            option if is_any(option, &["count", "frommember"]) => 2,
            option if is_any(option, &["fromlonlat", "byradius"]) => 3,
            option if is(option, "bybox") => 4,
            option if is(option, "bypolygon") && has(target, table::POLYGON) => {
                let corners: usize = args
                    .get(at + 1)
                    .and_then(|count| number(count))
                    .filter(|count| *count <= args.len())
                    .ok_or_else(|| NoRule::malformed(args))?;
                2 + 2 * corners
            }
            option if is(option, "bypolygon") => return Err(NoRule::lacks_option(args, target, "BYPOLYGON")),
            option => return Err(NoRule::option(args, option)),
        };
    }
    Ok(Rewritten::AsIs)
}

/// `ZADD key [NX | XX] [GT | LT] [CH] [INCR] score member…`: conditions hold for each member by itself, and those
/// that failed are there too, so they stay.
pub(super) fn zadd(args: &[Bytes], target: &Target, _: u64) -> Ruled {
    let mut pairs = 2;
    while let Some(option) = args.get(pairs) {
        match option {
            option if is_any(option, &["gt", "lt"]) && !has(target, table::REDIS_6_2) => {
                return Err(NoRule::lacks_option(args, target, "GT or LT"));
            }
            option if is_any(option, &["nx", "xx", "gt", "lt", "ch", "incr"]) => pairs += 1,
            _ => break,
        }
    }
    let left = args.len() - pairs;
    if left == 0 || !left.is_multiple_of(2) { Err(NoRule::malformed(args)) } else { Ok(Rewritten::AsIs) }
}

/// `ZUNIONSTORE` and `ZINTERSTORE destination n key… [WEIGHTS w…] [AGGREGATE SUM | MIN | MAX]`.
pub(super) fn zstore(args: &[Bytes], _: &Target, _: u64) -> Ruled {
    let count = number::<usize>(&args[2]).filter(|count| *count < args.len() - 2);
    let count = count.ok_or_else(|| NoRule::malformed(args))?;
    let mut at = 3 + count;
    while let Some(option) = args.get(at) {
        at += match option {
            option if is(option, "weights") => 1 + count,
            option if is(option, "aggregate") => match args.get(at + 1) {
                Some(how) if is_any(how, &["sum", "min", "max"]) => 2,
                Some(how) => return Err(NoRule::option(args, how)),
                None => return Err(NoRule::malformed(args)),
            },
            option => return Err(NoRule::option(args, option)),
        };
    }
    Ok(Rewritten::AsIs)
}

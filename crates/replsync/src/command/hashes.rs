//! How the commands of hash fields with expiries are rewritten.

use bytes::Bytes;

use super::expiry::expiry;
use super::rules::{Lifetime, Ruled, SetOptions, absolute, command, has, instead, set_options, shifts, word};
use super::table;
use super::{NoRule, Rewritten, Target, elements, is, is_any, number};
use crate::shift::Shift;

/// `HSETEX … KEEPTTL` where there is none, as a script: `HSET` takes the field's expiry away, so it is put back.
/// Within a script time stands still, so none can run out in between.
const HSETEX_KEEPTTL: &str = "\
for i = 1, #ARGV, 2 do \
local at = redis.call('HPEXPIRETIME', KEYS[1], 'FIELDS', 1, ARGV[i]) \
redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) \
if at and at[1] > 0 then redis.call('HPEXPIREAT', KEYS[1], at[1], 'FIELDS', 1, ARGV[i]) end \
end";

/// The command with its options before its fields, where Redis 8.6 sent them behind (`HPEXPIREAT h t FIELDS 1 f NX`): no
/// other server takes that. `None` where nothing is to be moved.
pub(super) fn options_first(args: &[Bytes]) -> Option<Vec<Bytes>> {
    let name = args.first().filter(|name| matches!(name.first(), Some(b'h' | b'H')))?;
    let (first, step) = match name {
        name if is(name, "hsetex") => (2, 2),
        name if is_any(name, &["hgetex", "hgetdel", "hpersist"]) => (2, 1),
        name if is_any(name, &["hexpire", "hpexpire", "hexpireat", "hpexpireat"]) => (3, 1),
        _ => return None,
    };
    let (begin, end) = elements::fields(args, first, step)?;
    let (before, fields) = args.get(..end)?.split_at_checked(begin.checked_sub(2)?)?;
    let behind = args.get(end..).filter(|behind| !behind.is_empty())?;
    Some([before, behind, fields].concat())
}

/// Where the fields begin after `FIELDS n`, looked for from `first` on; there must be n times `step` arguments.
fn fields(args: &[Bytes], first: usize, step: usize) -> Result<usize, NoRule> {
    let shape = || {
        let at = first + args.get(first..)?.iter().position(|arg| is(arg, "fields"))?;
        let count: usize = number(args.get(at + 1)?)?;
        (count > 0 && args.len() - (at + 2) == count.checked_mul(step)?).then_some(at + 2)
    };
    shape().ok_or_else(|| NoRule::malformed(args))
}

/// `HEXPIRE`, `HPEXPIRE`, `HEXPIREAT`, `HPEXPIREAT key time [NX | XX | GT | LT] FIELDS n field…`.
///
/// Redis sends only the fields for which the condition held, Valkey 9 sends all: so it is dropped for a single
/// field only.
pub(super) fn hash_expire(args: &[Bytes], target: &Target, now_ms: u64) -> Ruled {
    let first = fields(args, 3, 1)?;
    let expiry = expiry(args).ok_or_else(|| NoRule::malformed(args))?;
    let at = absolute(args, expiry, Shift::FIELD, target, now_ms)?;
    let condition = &args[3..first - 2];
    if let Some(option) = condition.iter().find(|option| !is_any(option, &["nx", "xx", "gt", "lt"])) {
        return Err(NoRule::option(args, option));
    }
    if !has(target, table::FIELD_EXPIRY) {
        return Err(loses_field_expiries(args, target));
    }
    let several = args.len() - first > 1;
    let as_is = (several || condition.is_empty()) && !shifts(target);
    if as_is && is_any(&args[0], &["hexpireat", "hpexpireat"]) {
        return Ok(Rewritten::AsIs);
    }
    let condition = if several { condition } else { &[] };
    instead(command("HPEXPIREAT", &[&args[1..2], &[at], condition, &args[first - 2..]]))
}

fn loses_field_expiries(args: &[Bytes], target: &Target) -> NoRule {
    NoRule::new(
        args,
        format!(
            "the target ({}) would lose field expiries; it must be Redis 7.4, Valkey 9.0 or newer",
            target.server
        ),
    )
}

/// `HGETEX key [EX s | PX ms | EXAT s | PXAT ms | PERSIST] FIELDS n field…`: the servers tried send what it does.
pub(super) fn hgetex(args: &[Bytes], target: &Target, now_ms: u64) -> Ruled {
    let first = fields(args, 2, 1)?;
    match (&args[2..first - 2], expiry(args)) {
        ([], _) => Ok(Rewritten::Replaced(Vec::new())),
        ([persist], _) if is(persist, "persist") && !has(target, table::FIELD_EXPIRY) => {
            Ok(Rewritten::Replaced(Vec::new()))
        }
        ([persist], _) if is(persist, "persist") => {
            instead(command("HPERSIST", &[&args[1..2], &args[first - 2..]]))
        }
        ([_, _], Some(_)) if !has(target, table::FIELD_EXPIRY) => Err(loses_field_expiries(args, target)),
        ([_, _], Some(expiry)) => {
            let at = absolute(args, expiry, Shift::FIELD, target, now_ms)?;
            instead(command("HPEXPIREAT", &[&args[1..2], &[at], &args[first - 2..]]))
        }
        ([option, ..], _) => Err(NoRule::option(args, option)),
    }
}

/// `HPERSIST key FIELDS n field…`. Where fields have no expiry there is none to take away.
pub(super) fn hpersist(args: &[Bytes], target: &Target, _: u64) -> Ruled {
    fields(args, 2, 1)?;
    Ok(if has(target, table::FIELD_EXPIRY) { Rewritten::AsIs } else { Rewritten::Replaced(Vec::new()) })
}

/// `HGETDEL key FIELDS n field…`: Valkey sends it as it is.
pub(super) fn hgetdel(args: &[Bytes], _: &Target, _: u64) -> Ruled {
    let first = fields(args, 2, 1)?;
    instead(command("HDEL", &[&args[1..2], &args[first..]]))
}

/// `HSETEX key [NX | XX] [FNX | FXX] [EX s | … | KEEPTTL] FIELDS n field value…`, the same words on Redis 8 and
/// Valkey 9.
pub(super) fn hsetex(args: &[Bytes], target: &Target, now_ms: u64) -> Ruled {
    let first = fields(args, 2, 2)?;
    let SetOptions { lifetime, plain } = set_options(args, (2, first - 2), Shift::FIELD, target, now_ms)?;
    let (key, pairs) = (&args[1..2], &args[first..]);
    if has(target, table::HSETEX) {
        let options = match lifetime {
            _ if plain => return Ok(Rewritten::AsIs),
            Lifetime::Forever => vec![],
            Lifetime::Kept => vec![word("KEEPTTL")],
            Lifetime::Until(at) => vec![word("PXAT"), at],
        };
        return instead(command("HSETEX", &[key, &options, &args[first - 2..]]));
    }
    let field_expiry = has(target, table::FIELD_EXPIRY);
    let set = command("HSET", &[key, pairs]);
    match lifetime {
        Lifetime::Forever => instead(set),
        Lifetime::Kept if !field_expiry => instead(set),
        Lifetime::Kept => instead(command("EVAL", &[&[word(HSETEX_KEEPTTL), word("1")], key, pairs])),
        Lifetime::Until(_) if !field_expiry => Err(loses_field_expiries(args, target)),
        Lifetime::Until(at) => {
            let names: Vec<Bytes> = pairs.iter().step_by(2).cloned().collect();
            let count = Bytes::from(names.len().to_string());
            let expire = command("HPEXPIREAT", &[key, &[at, word("FIELDS"), count], &names]);
            Ok(Rewritten::Replaced(vec![set, expire]))
        }
    }
}

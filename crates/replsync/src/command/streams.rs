//! How the commands of streams are rewritten.

use std::ops::Range;

use bytes::Bytes;

use super::rules::{Ruled, command, has, instead, word};
use super::table;
use super::{NoRule, Rewritten, Target, is, is_any, number};

/// Trims with DELREF where there is none: the entries that go also leave every group's pending list.
/// KEYS: the stream; ARGV: MAXLEN or MINID, threshold.
const TRIM_DELREF: &str = "\
local key, how, limit, gone = KEYS[1], ARGV[1], ARGV[2], {} \
if how == 'MAXLEN' then \
local over = redis.call('XLEN', key) - limit \
if over > 0 then gone = redis.call('XRANGE', key, '-', '+', 'COUNT', over) end \
else gone = redis.call('XRANGE', key, '-', '(' .. limit) end \
if #gone > 0 then \
for _, group in ipairs(redis.call('XINFO', 'GROUPS', key)) do \
for _, entry in ipairs(gone) do redis.call('XACK', key, group[2], entry[1]) end \
end end \
return redis.call('XTRIM', key, how, '=', limit)";

/// XDELEX and XACKDEL where there are none. KEYS: the stream; ARGV: the group that acknowledges or an empty
/// string, KEEPREF, DELREF or ACKED, ids.
const DELETE: &str = "\
local key, acks, policy = KEYS[1], ARGV[1], ARGV[2] \
if redis.call('EXISTS', key) == 0 then return 0 end \
local groups = redis.call('XINFO', 'GROUPS', key) \
local function after(a, b) \
local am, as = a:match('(%d+)-(%d+)') local bm, bs = b:match('(%d+)-(%d+)') \
if #am ~= #bm then return #am > #bm end if am ~= bm then return am > bm end \
if #as ~= #bs then return #as > #bs end return as > bs end \
for i = 3, #ARGV do local id = ARGV[i] \
if not id:find('-', 1, true) then id = id .. '-0' end \
if acks == '' or redis.call('XACK', key, acks, id) == 1 then \
local free = true \
for _, group in ipairs(groups) do \
if policy == 'DELREF' then redis.call('XACK', key, group[2], id) \
elseif policy == 'ACKED' then \
if after(id, group[8]) or #redis.call('XPENDING', key, group[2], id, id, 1) > 0 then free = false end \
end end \
if free then redis.call('XDEL', key, id) end \
end end \
return 1";

/// What becomes of references to an entry that goes, in the words of Redis 8.2.
fn is_policy(arg: &[u8]) -> bool {
    is_any(arg, &["keepref", "delref", "acked"])
}

/// What XADD and XTRIM say about trimming.
#[derive(Default)]
struct Trim {
    /// MAXLEN or MINID.
    strategy: Option<&'static str>,
    threshold: Bytes,
    /// DELREF or ACKED.
    policy: Option<&'static str>,
    /// It is not written as an older target and an ordinary client may write it.
    odd: bool,
}

impl Trim {
    /// Reads one option at `at`; how many arguments it takes, or `None` if it is not about trimming.
    fn option(&mut self, args: &[Bytes], at: usize) -> Result<Option<usize>, NoRule> {
        let option = &args[at];
        let value = |at: usize| args.get(at).cloned().ok_or_else(|| NoRule::malformed(args));
        if is_any(option, &["maxlen", "minid"]) {
            self.strategy = Some(if is(option, "maxlen") { "MAXLEN" } else { "MINID" });
            self.threshold = value(at + 1)?;
            let sign = self.threshold.as_ref();
            if sign == b"~" {
                // Servers send how far they came; where this came from, each server would stop elsewhere.
                return Err(NoRule::new(
                    args,
                    "it trims approximately (~), so that no two servers do the same",
                ));
            }
            if sign != b"=" {
                return Ok(Some(2));
            }
            self.threshold = value(at + 2)?;
            return Ok(Some(3));
        }
        if is(option, "limit") {
            // Left over from `~`, which the source has made `=`. Only a master may say so.
            self.odd = true;
            value(at + 1)?;
            return Ok(Some(2));
        }
        if is_policy(option) {
            self.odd = true;
            self.policy = match option {
                option if is(option, "delref") => Some("DELREF"),
                option if is(option, "acked") => Some("ACKED"),
                _ => None,
            };
            return Ok(Some(1));
        }
        Ok(None)
    }

    /// The options as this target takes them, or a script to be run with them after the entry is in.
    fn write(&self, args: &[Bytes], target: &Target) -> Result<(Vec<Bytes>, Option<Vec<Bytes>>), NoRule> {
        let Some(strategy) = self.strategy else { return Ok((Vec::new(), None)) };
        if strategy == "MINID" && !has(target, table::REDIS_6_2) {
            return Err(NoRule::lacks_option(args, target, "MINID"));
        }
        let mut options = vec![word(strategy), word("="), self.threshold.clone()];
        match self.policy {
            None => Ok((options, None)),
            Some(policy) if has(target, table::REDIS_8_2) => {
                options.push(word(policy));
                Ok((options, None))
            }
            Some("DELREF") if has(target, table::REDIS_6_2) => {
                let script =
                    [word(TRIM_DELREF), word("1"), args[1].clone(), word(strategy), self.threshold.clone()];
                Ok((Vec::new(), Some(command("EVAL", &[&script]))))
            }
            Some(policy) => Err(NoRule::lacks_option(args, target, policy)),
        }
    }
}

/// `XADD key [NOMKSTREAM] [KEEPREF | DELREF | ACKED] [IDMP producer message | IDMPAUTO producer]
/// [MAXLEN | MINID [= | ~] threshold [LIMIT n]] id field value…`.
pub(super) fn xadd(args: &[Bytes], target: &Target, _: u64) -> Ruled {
    let (mut at, mut trim, mut odd) = (2, Trim::default(), false);
    let (mut message, mut automatic): (Option<Range<usize>>, bool) = (None, false);
    while let Some(option) = args.get(at) {
        if option.first().is_some_and(|byte| byte.is_ascii_digit() || *byte == b'*') {
            break;
        }
        if let Some(taken) = trim.option(args, at)? {
            at += taken;
            continue;
        }
        odd = true;
        at += match option {
            option if is(option, "nomkstream") => 1,
            option if is(option, "idmp") => {
                message = Some(at + 1..at + 3);
                3
            }
            option if is(option, "idmpauto") => {
                automatic = true;
                2
            }
            option => return Err(NoRule::option(args, option)),
        };
    }
    let Some(entry) = args.get(at..).filter(|entry| entry.len() >= 3 && !entry.len().is_multiple_of(2))
    else {
        return Err(NoRule::malformed(args));
    };
    if entry[0].contains(&b'*') {
        // 8.6 sends a repeated message as the client did; a replica knows the message and does nothing.
        return match message.is_some() || automatic {
            true => Ok(Rewritten::Replaced(Vec::new())),
            false => {
                Err(NoRule::new(args, "the entry's id is left to the server, so that no two have the same"))
            }
        };
    }
    let idmp = has(target, table::IDMP);
    if automatic && idmp {
        return Err(NoRule::lacks_option(args, target, "IDMPAUTO with an id, which only a master may send"));
    }
    let minid = trim.strategy == Some("MINID") && !has(target, table::REDIS_6_2);
    if !odd && !trim.odd && !minid {
        return Ok(Rewritten::AsIs);
    }
    let (options, script) = trim.write(args, target)?;
    let mut commands = vec![command("XADD", &[&args[1..2], &options, entry])];
    if let Some(message) = message.filter(|_| idmp) {
        commands.push(command("XIDMPRECORD", &[&args[1..2], &args[message], &entry[..1]]));
    }
    commands.extend(script);
    Ok(Rewritten::Replaced(commands))
}

/// `XTRIM key MAXLEN | MINID [= | ~] threshold [LIMIT n] [KEEPREF | DELREF | ACKED]`.
pub(super) fn xtrim(args: &[Bytes], target: &Target, _: u64) -> Ruled {
    let (mut at, mut trim) = (2, Trim::default());
    while at < args.len() {
        at += trim.option(args, at)?.ok_or_else(|| NoRule::option(args, &args[at]))?;
    }
    if trim.strategy.is_none() {
        return Err(NoRule::malformed(args));
    }
    let (options, script) = trim.write(args, target)?;
    match script {
        Some(script) => instead(script),
        None if !trim.odd => Ok(Rewritten::AsIs),
        None => instead(command("XTRIM", &[&args[1..2], &options])),
    }
}

/// `[KEEPREF | DELREF | ACKED] IDS n id…` from `first` on: the policy and the ids.
fn ids(args: &[Bytes], first: usize) -> Result<(&'static str, &[Bytes]), NoRule> {
    let (policy, rest) = match args.get(first) {
        Some(policy) if is(policy, "keepref") => ("KEEPREF", &args[first + 1..]),
        Some(policy) if is(policy, "delref") => ("DELREF", &args[first + 1..]),
        Some(policy) if is(policy, "acked") => ("ACKED", &args[first + 1..]),
        _ => ("KEEPREF", &args[first.min(args.len())..]),
    };
    match rest {
        [word, count, ids @ ..] if is(word, "ids") && number(count) == Some(ids.len()) && !ids.is_empty() => {
            Ok((policy, ids))
        }
        [word, ..] if !is(word, "ids") => Err(NoRule::option(args, word)),
        _ => Err(NoRule::malformed(args)),
    }
}

/// `XDELEX key [KEEPREF | DELREF | ACKED] IDS n id…`.
pub(super) fn xdelex(args: &[Bytes], target: &Target, _: u64) -> Ruled {
    let (policy, ids) = ids(args, 2)?;
    match policy {
        _ if has(target, table::REDIS_8_2) => Ok(Rewritten::AsIs),
        "KEEPREF" => instead(command("XDEL", &[&args[1..2], ids])),
        _ => instead(delete_script(&args[1], Bytes::new(), policy, ids)),
    }
}

/// `XACKDEL key group [KEEPREF | DELREF | ACKED] IDS n id…`.
pub(super) fn xackdel(args: &[Bytes], target: &Target, _: u64) -> Ruled {
    let (policy, ids) = ids(args, 3)?;
    if has(target, table::REDIS_8_2) {
        return Ok(Rewritten::AsIs);
    }
    instead(delete_script(&args[1], args[2].clone(), policy, ids))
}

fn delete_script(key: &Bytes, group: Bytes, policy: &'static str, ids: &[Bytes]) -> Vec<Bytes> {
    command("EVAL", &[&[word(DELETE), word("1"), key.clone(), group, word(policy)], ids])
}

/// `XGROUP CREATE key group id [MKSTREAM] [ENTRIESREAD n] | SETID key group id [ENTRIESREAD n] |
/// CREATECONSUMER key group consumer | DELCONSUMER key group consumer | DESTROY key group`.
pub(super) fn xgroup(args: &[Bytes], target: &Target, _: u64) -> Ruled {
    match args {
        [_, sub, _, _] if is(sub, "destroy") => Ok(Rewritten::AsIs),
        [_, sub, _, _, _] if is(sub, "delconsumer") => Ok(Rewritten::AsIs),
        [_, sub, key, group, consumer] if is(sub, "createconsumer") => {
            if has(target, table::REDIS_6_2) {
                return Ok(Rewritten::AsIs);
            }
            // Reading its own history, which is empty, creates it there.
            let reader = [word("GROUP"), group.clone(), consumer.clone()];
            instead(command("XREADGROUP", &[&reader, &[word("STREAMS"), key.clone(), word("0")]]))
        }
        [_, sub, _, _, _, options @ ..] if is_any(sub, &["create", "setid"]) => {
            let mkstream = options.iter().take(1).filter(|option| is(option, "mkstream")).count();
            match &options[mkstream..] {
                [] => Ok(Rewritten::AsIs),
                [option, _] if is(option, "entriesread") && has(target, table::REDIS_7_0) => {
                    Ok(Rewritten::AsIs)
                }
                [option, _] if is(option, "entriesread") => {
                    instead(command("XGROUP", &[&args[1..5], &options[..mkstream]]))
                }
                [option, last] if is(option, "entriesread") || is(last, "mkstream") => {
                    Err(NoRule::malformed(args))
                }
                [option, ..] => Err(NoRule::option(args, option)),
            }
        }
        _ => Err(NoRule::new(args, "this subcommand is not known; a newer replsync may know it")),
    }
}

/// `XSETID key id [ENTRIESADDED n] [MAXDELETEDID id]`.
pub(super) fn xsetid(args: &[Bytes], target: &Target, _: u64) -> Ruled {
    let options = &args[3..];
    if let Some(option) = options.iter().step_by(2).find(|o| !is_any(o, &["entriesadded", "maxdeletedid"])) {
        return Err(NoRule::option(args, option));
    }
    match options {
        _ if !options.len().is_multiple_of(2) => Err(NoRule::malformed(args)),
        [] => Ok(Rewritten::AsIs),
        _ if has(target, table::REDIS_7_0) => Ok(Rewritten::AsIs),
        _ => instead(command("XSETID", &[&args[1..3]])),
    }
}

/// `XCFGSET` and `XIDMPRECORD`: what 8.6 remembers about messages that came once, which older servers do not.
pub(super) fn idempotence(_: &[Bytes], target: &Target, _: u64) -> Ruled {
    match has(target, table::IDMP) {
        true => Ok(Rewritten::AsIs),
        false => Ok(Rewritten::Dropped("stream idempotence, which the target lacks")),
    }
}

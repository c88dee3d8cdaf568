//! How commands that carry a DUMP payload are rewritten, and functions.

use bytes::Bytes;

use super::expiry::expiry;
use super::rules::{Ruled, absolute, command, has, instead, word};
use super::table;
use super::{NoRule, Rewritten, Target, is, is_any};
use crate::checksum::crc64;

/// `FUNCTION LOAD [REPLACE] code | DELETE name | FLUSH [ASYNC | SYNC] | RESTORE payload [policy]`. Loading and
/// restoring succeeded, so nothing was in the way.
pub(super) fn function(args: &[Bytes], target: &Target, _: u64) -> Ruled {
    if !has(target, table::REDIS_7_0) {
        if is_any(&args[1], &["delete", "flush"]) {
            return Ok(Rewritten::Replaced(Vec::new()));
        }
        return Err(NoRule::new(
            args,
            format!("the target ({}) has no functions; it must be Redis 7.0, Valkey or newer", target.server),
        ));
    }
    match args {
        [_, sub, replace, _] if is(sub, "load") && is(replace, "replace") => Ok(Rewritten::AsIs),
        [_, sub, code] if is(sub, "load") => {
            instead(command("FUNCTION", &[&[word("LOAD"), word("REPLACE"), code.clone()]]))
        }
        [_, sub, _] if is(sub, "delete") => Ok(Rewritten::AsIs),
        [_, sub] if is(sub, "flush") => Ok(Rewritten::AsIs),
        [_, sub, how] if is(sub, "flush") && is_any(how, &["async", "sync"]) => Ok(Rewritten::AsIs),
        [_, sub, payload, policy @ ..] if is(sub, "restore") => {
            let policy = match policy {
                [] => word("REPLACE"),
                [policy] if is_any(policy, &["append", "replace"]) => word("REPLACE"),
                [policy] if is(policy, "flush") => word("FLUSH"),
                [policy, ..] => return Err(NoRule::option(args, policy)),
            };
            // What is inside (opcode 245 and a library's code) has been the same since 7.0.
            let payload = payload_for(args, payload, target)?.unwrap_or_else(|| payload.clone());
            instead(command("FUNCTION", &[&[word("RESTORE"), payload, policy]]))
        }
        _ => Err(NoRule::new(args, "this subcommand is not known; a newer replsync may know it")),
    }
}

/// `RESTORE key ttl payload [REPLACE] [ABSTTL] [IDLETIME s] [FREQ n]`: it succeeded, so nothing was in the way.
pub(super) fn restore(args: &[Bytes], target: &Target, now_ms: u64) -> Ruled {
    let (mut at, mut hints) = (4, 4..4);
    while let Some(option) = args.get(at) {
        at += match option {
            option if is_any(option, &["replace", "absttl"]) => 1,
            option if is_any(option, &["idletime", "freq"]) && at + 1 < args.len() => {
                hints = at..at + 2;
                2
            }
            option => return Err(NoRule::option(args, option)),
        };
    }
    let ttl = match expiry(args) {
        Some(expiry) => absolute(args, expiry, now_ms)?,
        None => word("0"),
    };
    let kind = args[3].first().copied().unwrap_or(0xff);
    let payload = match payload_for(args, &args[3], target)? {
        None => args[3].clone(),
        Some(payload) if readable(kind, &args[3], target) => payload,
        Some(_) => {
            return Err(NoRule::new(
                args,
                format!("the target ({}) does not read a value of RDB type {kind}", target.server),
            ));
        }
    };
    let options = [word("REPLACE"), word("ABSTTL")];
    instead(command("RESTORE", &[&args[1..2], &[ttl, payload], &options, &args[hints]]))
}

/// The RDB version in the footer of a DUMP payload: value, 2 bytes of version, 8 bytes of CRC-64, little-endian
/// (`createDumpPayload` in `src/cluster.c`, `functionDumpCommand` in `src/functions.c`).
fn payload_version(payload: &[u8]) -> Option<u16> {
    let (_, footer) = payload.split_last_chunk::<10>()?;
    Some(u16::from_le_bytes([footer[0], footer[1]]))
}

/// A payload with a footer that the target accepts; `None` when it accepts it as it is. Servers refuse a version
/// above their own (`verifyDumpPayload` in `src/cluster.c`), Valkey also 12 to 79, which are Redis's.
fn payload_for(args: &[Bytes], payload: &Bytes, target: &Target) -> Result<Option<Bytes>, NoRule> {
    let version = payload_version(payload).ok_or_else(|| NoRule::malformed(args))?;
    let own = target.server.rdb_version();
    let foreign = (12..80).contains(&version) != (12..80).contains(&own) && version >= 12;
    if version <= own && !foreign {
        return Ok(None);
    }
    let mut bytes = payload[..payload.len() - 10].to_vec();
    bytes.extend_from_slice(&own.min(11).to_le_bytes());
    bytes.extend_from_slice(&crc64(&bytes).to_le_bytes());
    Ok(Some(bytes.into()))
}

/// Whether the target reads values of this RDB type (`rdbLoadObject` in `src/rdb.c` of each version).
fn readable(kind: u8, payload: &[u8], target: &Target) -> bool {
    let server = &target.server;
    let valkeys = payload_version(payload).is_some_and(|version| version >= 80);
    match kind {
        0..=5 | 9..=15 => true,
        16..=19 => server.has((7, 0), None),
        20..=21 => server.has((7, 2), None),
        22 if valkeys => false, // Valkey 9's hash with field expiries, which only Valkey 9 reads
        24..=25 => server.has((7, 4), None),
        _ => false,
    }
}

//! How commands that carry a DUMP payload are rewritten, and functions.

use bytes::{BufMut, Bytes, BytesMut};

use super::expiry::expiry;
use super::rules::{Ruled, absolute, command, has, instead, word};
use super::table;
use super::{NoRule, Rewritten, Target, is, is_any};
use crate::checksum::crc64;
use crate::rdb;
use crate::shift::Shift;

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
            let payload = functions_for(args, payload, target)?;
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
        Some(expiry) => absolute(args, expiry, Shift::KEY, target, now_ms)?,
        None => word("0"),
    };
    let payload = value_for(args, &args[3], target)?;
    let options = [word("REPLACE"), word("ABSTTL")];
    instead(command("RESTORE", &[&args[1..2], &[ttl, payload], &options, &args[hints]]))
}

/// A DUMP payload that the target reads.
fn value_for(args: &[Bytes], payload: &Bytes, target: &Target) -> Result<Bytes, NoRule> {
    let server = target.server;
    let refuse = |why: &str| NoRule::new(args, format!("the payload of this value {why}"));
    let not_understood = |error: rdb::Error| refuse(&format!("is not understood: {error}"));
    let dump = rdb::dump::parse(payload).map_err(not_understood)?;
    let mut rewritten = Vec::new();
    let mut written = |at_ms| target.expiries.of_field(at_ms).ok_or(FieldError::OutOfRange(at_ms));
    let hash = rdb::rewrite_field_expiries(dump.kind, dump.raw, server, &mut rewritten, &mut written);
    let hash = hash.map_err(|error| match error {
        FieldError::Rdb(error) => not_understood(error),
        FieldError::OutOfRange(at_ms) => refuse(&format!(
            "has a field that expires at {at_ms} ms since the epoch, beyond what can be moved"
        )),
    })?;
    let (kind, raw) = match rdb::readable(dump.kind, server) {
        _ if let Some(kind) = hash => (kind, &rewritten[..]),
        true => (dump.kind, dump.raw),
        false => match rdb::older_form(dump.kind, dump.raw, server) {
            Some(older) if !older.is_poorer => (older.kind, older.raw),
            _ => {
                let (what, byte) = (dump.kind.data_type().name(), dump.kind.type_byte());
                return Err(refuse(&format!("is a {what} of RDB type {byte}, which {server} does not read")));
            }
        },
    };
    let mut written = BytesMut::with_capacity(payload.len());
    rdb::dump::write(&mut written, kind.type_byte(), raw, rdb::restore_version(server));
    Ok(written.freeze())
}

/// What may be wrong with a field's expiry.
enum FieldError {
    Rdb(rdb::Error),
    OutOfRange(u64),
}

impl From<rdb::Error> for FieldError {
    fn from(error: rdb::Error) -> Self {
        Self::Rdb(error)
    }
}

/// A FUNCTION DUMP payload under a footer that the target accepts: libraries, 2 bytes of RDB version, 8 bytes of
/// CRC-64, little-endian (`functionDumpCommand` in `src/functions.c`). What is inside (opcode 245 and a library's
/// code) has been the same since 7.0.
fn functions_for(args: &[Bytes], payload: &Bytes, target: &Target) -> Result<Bytes, NoRule> {
    let Some((libraries, _)) = payload.split_last_chunk::<10>() else { return Err(NoRule::malformed(args)) };
    let mut written = BytesMut::from(libraries);
    written.put_u16_le(target.server.rdb_version());
    written.put_u64_le(crc64(&written));
    Ok(written.freeze())
}

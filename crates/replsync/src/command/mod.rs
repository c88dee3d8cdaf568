//! Commands of the replication stream: what each touches, which expiry it carries, and how it is rewritten for a
//! target that lacks it or one of its options.
//!
//! A server's stream holds other commands than its clients sent: the effects, after the server has decided them
//! (`SPOP` travels as `SREM`, `BLPOP` as `LPOP`, `EXPIRE` since 7.0 as `PEXPIREAT`). What each server sends is
//! collected, by experiment, in `docs/formats/stream.md`; this room knows it as one table (`table`), with a
//! line for each command. [`classify`] says what a command means to the one who follows the stream, [`touched`]
//! which keys it touches by its name, [`CommandTable`] the same by the server's own word, whatever it has renamed,
//! [`elements()`] which elements of a big collection it changes, [`expiry`] which argument is an expiry, and
//! [`rewrite`] turns it into what an ordinary client may send to the target.
//!
//! A target is not a replica. It obeys us like any client: it refuses what it would forgive its master (`XADD …
//! MAXLEN = 5 LIMIT 10`), it expires by its own clock, and it may hold a later state after a resume. So:
//!
//! - **Conditions are dropped** where the command is all or nothing (`SET … NX`, `RENAMENX`, `COPY` without
//!   `REPLACE`): only successes are propagated. They stay where one command carries several members that may
//!   each have failed (`ZADD … GT`; Valkey's `HPEXPIREAT … GT FIELDS 2 …`).
//! - **Expiries become absolute**: before 7.0 servers send what the client said. Where the target must not expire anything
//!   by itself, they are shifted out of its reach ([`Expiries`]).
//! - **`PUBLISH` is dropped**: a migration target is not a replica, its subscribers would get messages twice.
//! - Options are read, never passed on unread: an option that the target does not have is either rewritten or
//!   [`NoRule`].

mod elements;
mod entry;
mod expiry;
mod hashes;
mod keys;
mod listed;
mod payloads;
mod rules;
mod streams;
mod table;

#[cfg(test)]
mod tests;

use std::collections::HashSet;

use bytes::Bytes;

use crate::server::Server;
use crate::shift::Shift;

pub use elements::{Collection, Elements, elements, may_name_expired, only_expiry};
pub use expiry::{Expiry, Unit, expiry};
pub use keys::{KeyIndices, Touched, first_key, left_key, touched};
pub use listed::{CommandTable, CommandTableError};

/// What a command means to the one who follows the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// `SELECT n`: the commands after it are for database n. It may stand inside a transaction (Redis 5.0 sends
    /// it after `MULTI`).
    Select(u32),
    /// `MULTI`: what follows, up to `EXEC`, is one transaction.
    Multi,
    /// `EXEC`.
    Exec,
    /// `PING`, and every `REPLCONF` but GETACK: no effect, though its bytes count.
    Ping,
    /// `REPLCONF GETACK *`: the master wants an ACK now.
    GetAck,
    /// `PUBLISH` or `SPUBLISH`: a message, no data.
    Publish,
    /// Everything else: it changes data, functions or scripts, or nobody knows what it does.
    Write,
}

/// Says what a command means to the one who follows the stream. A malformed `SELECT` is a [`Class::Write`], which
/// [`rewrite`] then refuses.
pub fn classify(args: &[Bytes]) -> Class {
    args.first().map_or(Class::Write, |name| class_of(name, args))
}

/// The same for the command of that name, whatever name it goes by.
fn class_of(name: &[u8], args: &[Bytes]) -> Class {
    // Nearly every command is a write: its length and first letter tell most of them apart.
    match name.len() {
        4 if is(name, "exec") => Class::Exec,
        4 if is(name, "ping") => Class::Ping,
        5 if is(name, "multi") => Class::Multi,
        6 if is(name, "select") => match args {
            [_, db] => number(db).map_or(Class::Write, Class::Select),
            _ => Class::Write,
        },
        7 if is(name, "publish") => Class::Publish,
        8 if is(name, "spublish") => Class::Publish,
        8 if is(name, "replconf") => match args.get(1) {
            Some(option) if is(option, "getack") => Class::GetAck,
            _ => Class::Ping,
        },
        _ => Class::Write,
    }
}

/// Whether a command does nothing but delete keys or fields that it names, which may be done late, early or twice: how
/// servers send what has expired.
pub fn only_deletes(args: &[Bytes]) -> bool {
    args.first().is_some_and(|name| is_any(name, &["del", "unlink", "hdel"]))
}

/// Where the commands go: what the target is, and what it has.
#[derive(Clone, Debug)]
pub struct Target {
    /// Product and version.
    pub server: Server,
    /// The names in its `COMMAND` table, in lower case, where it was read. A command that is not there is never
    /// sent (it may be renamed or disabled on the target). A command that this library does not know, such as a
    /// module's, passes only when it is there.
    pub commands: Option<HashSet<Bytes>>,
    /// How expiries are written there.
    pub expiries: Expiries,
}

/// How expiries are written into a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiries {
    /// As they are: what is past its time is gone.
    Plain,
    /// Out of reach ([`crate::shift`]), to be put right later.
    Shifted,
}

impl Expiries {
    /// A key's expiry as it is to be written, both in milliseconds since the epoch; at least 1, which every command
    /// takes. `None` where it is beyond what can be shifted.
    pub fn of_key(self, at_ms: i64) -> Option<i64> {
        self.written(at_ms, Shift::KEY)
    }

    /// The same for a hash field's.
    pub fn of_field(self, at_ms: u64) -> Option<u64> {
        self.written(i64::try_from(at_ms).ok()?, Shift::FIELD).map(i64::unsigned_abs)
    }

    fn written(self, at_ms: i64, shift: Shift) -> Option<i64> {
        match self {
            Self::Plain => Some(at_ms.max(1)),
            Self::Shifted => shift.on(at_ms),
        }
    }
}

/// What becomes of a command for the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rewritten {
    /// Send it as it is.
    AsIs,
    /// Send these instead, in this order. Together they do the same, but other clients may see the state between
    /// two of them unless they are sent in a transaction. Empty: for this target there is nothing to do.
    Replaced(Vec<Vec<Bytes>>),
    /// Leave it out; why, for a counter.
    Dropped(&'static str),
}

/// No rule says how to do on the target what a command did on the source. Sending it anyway could corrupt data in
/// silence, so the job stops before its transaction.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no rule for {command}: {reason}")]
pub struct NoRule {
    /// The command's name in upper case, with its subcommand where it has one.
    pub command: String,
    /// Why, and what to do where something can be done.
    pub reason: String,
}

impl NoRule {
    /// A refusal of the command `args` for `reason`.
    fn new(args: &[Bytes], reason: impl Into<String>) -> Self {
        let readable = |arg: &Bytes| {
            let shown = &arg[..arg.len().min(32)];
            String::from_utf8_lossy(shown).to_ascii_uppercase().escape_debug().to_string()
        };
        let mut command = args.first().map(readable).unwrap_or_default();
        let container = ["FUNCTION", "XGROUP", "SCRIPT", "CLUSTER", "BITOP"].contains(&command.as_str());
        if let (true, Some(subcommand)) = (container, args.get(1)) {
            command = format!("{command} {}", readable(subcommand));
        }
        Self { command, reason: reason.into() }
    }

    fn malformed(args: &[Bytes]) -> Self {
        Self::new(args, format!("malformed, as no server sends it ({} arguments)", args.len()))
    }

    fn option(args: &[Bytes], option: &[u8]) -> Self {
        let shown = String::from_utf8_lossy(&option[..option.len().min(32)]).escape_debug().to_string();
        Self::new(args, format!("its option {shown} is not known; a newer replsync may know it"))
    }

    fn lacks_option(args: &[Bytes], target: &Target, option: &str) -> Self {
        Self::new(
            args,
            format!("the target ({}) lacks its option {option}; use a newer target", target.server),
        )
    }

    fn lacks_command(args: &[Bytes], target: &Target) -> Self {
        Self::new(args, format!("the target ({}) lacks this command; use a newer target", target.server))
    }
}

/// Rewrites one command of the stream for the target, with every relative expiry made absolute. A command that
/// passes as it is costs no allocation.
///
/// `now_ms` is the source's clock, in milliseconds since the epoch, when it ran the command.
///
/// # Errors
///
/// [`NoRule`] when the target cannot do what the command did, when the command or one of its options is not
/// known, and when it is malformed.
pub fn rewrite(args: &[Bytes], target: &Target, now_ms: u64) -> Result<Rewritten, NoRule> {
    let Some(name) = args.first() else { return Err(NoRule::malformed(args)) };
    let Some(row) = table::lookup(name) else { return unknown(args, target) };
    if let Some(args) = hashes::options_first(args) {
        return Ok(match rewrite(&args, target, now_ms)? {
            Rewritten::AsIs => Rewritten::Replaced(vec![args]),
            rewritten => rewritten,
        });
    }
    if !row.takes(args.len()) {
        return Err(NoRule::malformed(args));
    }
    let rewritten = match row.rule {
        table::Rule::AsIs => Rewritten::AsIs,
        table::Rule::Drop(why) => return Ok(Rewritten::Dropped(why)),
        table::Rule::Refuse(why) => return Err(NoRule::new(args, why)),
        table::Rule::With(rule) => rule(args, target, now_ms)?,
    };
    match &rewritten {
        Rewritten::AsIs => sendable(row, args, target)?,
        Rewritten::Replaced(commands) => {
            for command in commands {
                let row = command.first().and_then(|name| table::lookup(name));
                sendable(row.ok_or_else(|| NoRule::malformed(command))?, command, target)?;
            }
        }
        Rewritten::Dropped(_) => {}
    }
    Ok(rewritten)
}

/// A command that is not in the table: a module's, one of a server newer than this library, or one that travels
/// under another name (`rename-command`).
fn unknown(args: &[Bytes], target: &Target) -> Result<Rewritten, NoRule> {
    let listed = |commands: &HashSet<Bytes>| {
        args.first().is_some_and(|name| commands.contains(name.to_ascii_lowercase().as_slice()))
    };
    match &target.commands {
        Some(commands) if listed(commands) => Ok(Rewritten::AsIs),
        _ => Err(NoRule::new(
            args,
            format!(
                "this command is not known and the target ({}) does not list it; load the source's modules there, \
                 or undo rename-command on the source",
                target.server
            ),
        )),
    }
}

/// Whether the target has the command: by its version, and in its own table where that was read.
fn sendable(row: &table::Row, args: &[Bytes], target: &Target) -> Result<(), NoRule> {
    if !row.since.on(&target.server) {
        return Err(NoRule::lacks_command(args, target));
    }
    match &target.commands {
        Some(commands) if !commands.contains(row.name.as_bytes()) => Err(NoRule::new(
            args,
            format!(
                "the target ({}) should have this command but does not list it; undo rename-command there, or \
                 let replsync use a target user that may list it",
                target.server
            ),
        )),
        _ => Ok(()),
    }
}

/// Whether an argument is this word, which is in lower case; servers compare without regard to case.
fn is(arg: &[u8], word: &str) -> bool {
    arg.eq_ignore_ascii_case(word.as_bytes())
}

/// Whether an argument is one of these words, which are in lower case.
fn is_any(arg: &[u8], words: &[&str]) -> bool {
    words.iter().any(|word| is(arg, word))
}

/// A decimal number as servers write and accept it.
fn number<T: std::str::FromStr>(arg: &[u8]) -> Option<T> {
    std::str::from_utf8(arg).ok()?.parse().ok()
}

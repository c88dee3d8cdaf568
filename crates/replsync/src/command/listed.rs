//! What a command touches, by the server's own word together with our rules.

use std::collections::HashMap;

use bytes::Bytes;

use super::elements::{self, Elements};
use super::entry::{Entry, ServerKeys};
use super::keys::{self, Touched};
use super::table::{self, Keys, Row};
use super::{Class, class_of};
use crate::resp::Reply;
use crate::server::Server;

/// The commands of one server, under the names that they go by there.
///
/// A name in the stream says little by itself: `rename-command` gives any command any free name, and the stream
/// carries that one. `COMMAND` does not show it, on no version (Redis 5.0 to 8.6, Valkey 8.0 to 9.1, by
/// experiment): it lists renamed commands under the name they were born with, and leaves out disabled ones.
/// `COMMAND INFO name` finds a command by the name it goes by, and answers with the one it was born with. So every
/// name is asked about:
///
/// 1. `COMMAND INFO` with the [`names`](Self::names) that we have rules for, some at a time:
///    [`confirm`](Self::confirm) them by its replies.
/// 2. For each name in the stream that is not [known](Self::knows): `COMMAND INFO name`, and [`add`](Self::add).
///
/// `COMMAND` itself is not asked for: it would add names that most streams never carry, and a server has to hold its
/// reply, 100 to 250 KB, which a full one makes room for by evicting keys.
///
/// Until a name was asked about, it touches [`Touched::Unknown`].
///
/// What servers send by themselves carries the original name whatever the configuration says: `SELECT`, `MULTI`,
/// `DEL` of what has expired, `SREM` for `SPOP`, `PEXPIREAT`; `EXEC` only since 7.0. So our rule for a name holds
/// where no client can call it, and where another command has taken the name nothing can be told.
#[derive(Clone, Debug)]
pub struct CommandTable {
    server: Server,
    known: HashMap<Box<[u8]>, Meaning>,
}

/// What a name stands for.
#[derive(Clone, Debug)]
enum Meaning {
    /// A command that we have rules for.
    Ours(&'static Row),
    /// One that we have none for; the server says where its keys are.
    Theirs(Entry),
    /// Nobody knows, or nobody can be believed.
    Unknown,
}

/// The longest name that is looked up; no server or module has one nearly as long.
const NAME_BYTES_MAX: usize = 64;

/// Modules' commands whose positions are the whole truth, by experiment. Positions serve a cluster's routing, and
/// modules need not give them all: `TS.CREATERULE a b` names a alone, and `TS.ADD a` writes b as well once that rule is
/// there. So the commands of other modules are unknown.
const TRUSTED_MODULES: [&str; 10] =
    ["json.", "bf.", "cf.", "topk.", "cms.", "tdigest.", "ts.create", "ts.alter", "ft.sugadd", "ft.sugdel"];
/// Begins like one of those, and is not.
const NOT_TRUSTED: &str = "ts.createrule";

/// Commands that say where the stream is. A capture cannot follow a stream in which these names may mean anything.
const CONTROL: [&str; 5] = ["select", "multi", "exec", "ping", "replconf"];

/// A server's commands that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandTableError {
    /// The server refused to answer.
    #[error("the server refuses COMMAND INFO: {0}; let replsync's user run it (ACL: +command)")]
    Refused(String),
    /// The reply has another shape than any known server's.
    #[error("the reply to COMMAND INFO has an entry that no known server writes (entry {0}); is it a proxy?")]
    Malformed(usize),
    /// As many answers as questions.
    #[error("COMMAND INFO answered {found} of {asked} names; is it a proxy?")]
    Answers {
        /// Names that were asked about.
        asked: usize,
        /// Entries in the reply.
        found: usize,
    },
    /// Another command goes by the name of one that says where the stream is.
    #[error(
        "the source has renamed {command} to {name}, which means something else in a replication stream; undo that \
         rename-command"
    )]
    Control {
        /// The name.
        name: String,
        /// The command that it stands for now.
        command: String,
    },
}

impl CommandTable {
    /// The table of a server that was not asked yet.
    pub fn new(server: Server) -> Self {
        Self { server, known: HashMap::new() }
    }

    /// The names that we have rules for: those to ask about first.
    pub fn names() -> Vec<Bytes> {
        table::TABLE.iter().map(|row| Bytes::from_static(row.name.as_bytes())).collect()
    }

    /// Takes in the reply of `COMMAND INFO name…` for these names, in their order.
    ///
    /// # Errors
    ///
    /// [`CommandTableError`] when the reply is none, or when another command goes by the name of SELECT, MULTI,
    /// EXEC, PING or REPLCONF.
    pub fn confirm(&mut self, names: &[Bytes], reply: &Reply) -> Result<(), CommandTableError> {
        let entries = answers(reply)?;
        if entries.len() != names.len() {
            return Err(CommandTableError::Answers { asked: names.len(), found: entries.len() });
        }
        for (at, (name, entry)) in names.iter().zip(entries).enumerate() {
            let name = name.to_ascii_lowercase().into_boxed_slice();
            let entry = match entry {
                Reply::Nil => None,
                entry => Some(Entry::read(entry).ok_or(CommandTableError::Malformed(at))?),
            };
            let meaning = match entry {
                // No client can call it: the server itself sends it, if anybody does.
                None => table::lookup(&name).map_or(Meaning::Unknown, Meaning::Ours),
                Some(entry) => self.meaning(&name, entry)?,
            };
            self.known.insert(name, meaning);
        }
        Ok(())
    }

    /// Takes in the reply of `COMMAND INFO name` for one name. That the server does not know it is remembered too.
    ///
    /// # Errors
    ///
    /// As [`confirm`](Self::confirm).
    pub fn add(&mut self, name: &[u8], reply: &Reply) -> Result<(), CommandTableError> {
        self.confirm(&[Bytes::copy_from_slice(name)], reply)
    }

    /// Whether this name was asked about.
    pub fn knows(&self, name: &[u8]) -> bool {
        self.lookup(name).is_some()
    }

    /// Says which keys a command touches. It costs a look-up and no allocation. [`Touched::Unknown`] for all that
    /// names no key or not all of them (scripts, what a server calls incomplete or movable and we have no rule
    /// for), for names that nobody knows or that were not asked about.
    pub fn touched<'a>(&'a self, args: &'a [Bytes]) -> Touched<'a> {
        match self.meaning_of(args) {
            Some(Meaning::Ours(row)) => keys::by_row(row, args),
            Some(Meaning::Theirs(entry)) => theirs(entry, args),
            Some(Meaning::Unknown) | None => Touched::Unknown,
        }
    }

    /// What a command means to the one who follows the stream, as [`classify`](super::classify) says it, under
    /// whatever name it travels: until 6.2 a renamed `EXEC` travels under its new name.
    pub fn classify(&self, args: &[Bytes]) -> Class {
        self.row_of(args).map_or(Class::Write, |row| class_of(row.name.as_bytes(), args))
    }

    /// Which elements of a collection a command changes, as [`elements`](super::elements()) says it, under
    /// whatever name it travels.
    pub fn elements<'a>(&self, args: &'a [Bytes]) -> Option<Elements<'a>> {
        elements::elements_of(self.row_of(args)?.name.as_bytes(), args)
    }

    /// Whether a command changes nothing but its key's expiry, as [`only_expiry`](super::only_expiry) says it,
    /// under whatever name it travels.
    pub fn only_expiry(&self, args: &[Bytes]) -> bool {
        self.row_of(args).is_some_and(|row| elements::only_expiry_of(row.name.as_bytes(), args))
    }

    /// The name that a command of ours was born with, in lower case, under whatever name it travels. `None` for
    /// commands without rules of ours.
    pub fn original_name(&self, args: &[Bytes]) -> Option<&'static str> {
        self.row_of(args).map(|row| row.name)
    }

    fn row_of(&self, args: &[Bytes]) -> Option<&'static Row> {
        match self.meaning_of(args)? {
            Meaning::Ours(row) => Some(row),
            _ => None,
        }
    }

    fn meaning_of(&self, args: &[Bytes]) -> Option<&Meaning> {
        self.lookup(args.first()?)
    }

    fn lookup(&self, name: &[u8]) -> Option<&Meaning> {
        let mut lower = [0u8; NAME_BYTES_MAX];
        let lower = lower.get_mut(..name.len())?;
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        self.known.get(&*lower)
    }

    /// What a name stands for that a client can call.
    fn meaning(&self, name: &[u8], entry: Entry) -> Result<Meaning, CommandTableError> {
        let taken = *entry.name != *name;
        if taken && CONTROL.iter().any(|control| control.as_bytes() == name) {
            let shown = |name: &[u8]| String::from_utf8_lossy(name).to_ascii_uppercase();
            return Err(CommandTableError::Control { name: shown(name), command: shown(&entry.name) });
        }
        Ok(match table::lookup(&entry.name) {
            // The server may still send it in its old meaning.
            _ if taken && table::lookup(name).is_some() => Meaning::Unknown,
            Some(row) if agrees(row, &entry) => Meaning::Ours(row),
            Some(_) => Meaning::Unknown,
            None if self.is_trusted(&entry) => Meaning::Theirs(entry),
            None => Meaning::Unknown,
        })
    }

    /// Whether the positions of a command without rules of ours are all the keys that it can write. Those of the
    /// server's own commands are, by its documentation. Before 7.0 servers do not say what a module brought, but
    /// all their own commands that write are among ours.
    fn is_trusted(&self, entry: &Entry) -> bool {
        let module = entry.module || !self.server.has((7, 0), None);
        let tried = |prefix: &str| entry.name.starts_with(prefix.as_bytes());
        !module
            || (TRUSTED_MODULES.iter().any(|prefix| tried(prefix)) && *entry.name != *NOT_TRUSTED.as_bytes())
    }
}

/// The keys of a command without rules of ours.
fn theirs<'a>(entry: &'a Entry, args: &[Bytes]) -> Touched<'a> {
    let keys = match args.get(1) {
        Some(word) if !entry.subcommands.is_empty() => {
            let called = entry.subcommands.iter().find(|(name, _)| name.eq_ignore_ascii_case(word));
            called.map_or(&ServerKeys::Untold, |(_, keys)| keys)
        }
        _ => &entry.keys,
    };
    keys.indices(args.len()).map_or(Touched::Unknown, Touched::Keys)
}

/// Whether a server's positions are among ours. If not it is a version whose command has changed, or no server that
/// we know.
fn agrees(row: &Row, entry: &Entry) -> bool {
    let subcommands = entry.subcommands.iter().map(|(_, keys)| keys);
    std::iter::once(&entry.keys).chain(subcommands).all(|keys| match (keys, row.keys) {
        (ServerKeys::None, _) | (_, Keys::Unknown) => true,
        (
            ServerKeys::Untold,
            Keys::Counted(..) | Keys::StoreCounted | Keys::Store | Keys::Streams | Keys::Migrate,
        ) => true,
        (ServerKeys::At(ranges), Keys::Range(first, last, step)) => ranges.iter().all(|range| {
            let same_grid = range.first >= first && (range.first - first).is_multiple_of(step);
            let reaches = last == -1 || range.last == last || (0..=last).contains(&range.last);
            same_grid && range.step.is_multiple_of(step) && reaches
        }),
        (ServerKeys::At(ranges), Keys::Copy) => ranges.iter().all(|range| (1..=2).contains(&range.last)),
        (ServerKeys::At(ranges), Keys::Move) => ranges.iter().all(|range| range.last == 1),
        _ => false,
    })
}

/// The entries of a reply of `COMMAND INFO`.
fn answers(reply: &Reply) -> Result<&[Reply], CommandTableError> {
    match reply {
        Reply::Array(entries) => Ok(entries),
        Reply::Error(text) => Err(CommandTableError::Refused(String::from_utf8_lossy(text).into_owned())),
        _ => Err(CommandTableError::Malformed(0)),
    }
}

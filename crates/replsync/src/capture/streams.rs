//! A big stream, read page by page: what it says of itself, its entries, its groups with their consumers and what is
//! pending; without I/O.
//!
//! All of it is of one moment only as long as nothing touches the key: any touch begins it anew. What servers change
//! without their stream (when a consumer was seen, how often an old entry was delivered again) is as of the page.
//!
//! Delivery times are told as idle times: they are exact where TIME before and behind shows the same millisecond, and are
//! asked again where not. What no command shows is not lost in silence: such a stream [cannot be read so](Read::Unreadable),
//! and is left to DUMP.
//!
//! Source: `xinfoReplyWithStreamInfo`, `xinfoCommand` and `xpendingCommand` in `src/t_stream.c`.

use std::collections::VecDeque;

use bytes::Bytes;

use super::dialect::Commands;
use super::parts::PAGE_BYTES;
use crate::rdb::encode::{StreamEnd, StreamGroups, StreamIdmp, StreamMeta, StreamNodes, Unwritable};
use crate::rdb::{Kind, StreamId};
use crate::resp::Reply;

/// The most of anything in one page.
const PAGE_MAX: u64 = 1000;
/// As many entries are asked for when nothing is known of their size yet.
const FIRST_PAGE: u64 = 16;
/// The fewest pending entries of a page: even a slow server has so few at hand within a millisecond.
const PENDING_MIN: u64 = 16;
/// After so many askings a consumer's times are taken as they are: servers do not tell them to their replicas either.
const UNCLEAR_MAX: u32 = 8;
/// What a pending entry takes in a reply, beside its consumer's name.
const PENDING_BYTES: u64 = 64;

/// What is asked next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// What the stream says of itself.
    State,
    /// So many entries from this one on.
    Entries(StreamId, u64),
    /// The groups.
    Groups,
    /// A group's consumers.
    Consumers(Bytes),
    /// So many of a group's pending entries, from this one on.
    Pending(Bytes, StreamId, u64),
}

impl Ask {
    /// Asks.
    pub fn put(&self, out: &mut Commands, key: &[u8]) {
        match self {
            Ask::State => out.add(&[b"XINFO", b"STREAM", key]),
            Ask::Entries(from, count) => {
                let (from, count) = (from.to_string(), count.to_string());
                out.add(&[b"XRANGE", key, from.as_bytes(), b"+", b"COUNT", count.as_bytes()]);
            }
            Ask::Groups => out.add(&[b"XINFO", b"GROUPS", key]),
            Ask::Consumers(group) => {
                out.add(&[b"TIME"]);
                out.add(&[b"XINFO", b"CONSUMERS", key, group]);
                out.add(&[b"TIME"]);
            }
            Ask::Pending(group, from, count) => {
                let (from, count) = (from.to_string(), count.to_string());
                out.add(&[b"TIME"]);
                out.add(&[b"XPENDING", key, group, from.as_bytes(), b"+", count.as_bytes()]);
                out.add(&[b"TIME"]);
            }
        }
    }

    /// How many replies that has.
    pub fn replies(&self) -> usize {
        match self {
            Ask::State | Ask::Entries(..) | Ask::Groups => 1,
            Ask::Consumers(_) | Ask::Pending(..) => 3,
        }
    }
}

/// What replies have come to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// The next bytes of the value, maybe none.
    Parts(Vec<Bytes>),
    /// The last bytes of it.
    End(Vec<Bytes>),
    /// It is no stream any more, or has lost a group.
    Gone,
    /// It holds something that no command shows: why.
    Unreadable(String),
    /// The source does not let us ask this: its error.
    Refused(&'static str, Bytes),
}

/// A stream under way.
#[derive(Debug)]
pub(super) struct StreamReader {
    kind: Kind,
    /// As MEMORY USAGE said.
    bytes: u64,
    /// What is asked for at a time should be about so large.
    page_bytes: u64,
    ask: Ask,
    meta: StreamMeta,
    idmp: StreamIdmp,
    nodes: StreamNodes,
    written: u64,
    entries: u64,
    entry_bytes: u64,
    groups: StreamGroups,
    /// Groups to come, the one that is read first.
    to_come: VecDeque<Group>,
    unclear: u32,
    pending_page: u64,
}

/// What XINFO GROUPS says of one.
#[derive(Debug)]
struct Group {
    name: Bytes,
    last_id: StreamId,
    entries_read: Option<i64>,
    /// Pending entries that were not read yet.
    pending: u64,
}

/// Why a page was of no use.
enum Stop {
    Gone,
    Unreadable(String),
    Refused(&'static str, Bytes),
}

impl From<Unwritable> for Stop {
    fn from(error: Unwritable) -> Self {
        Stop::Unreadable(error.to_string())
    }
}

impl StreamReader {
    /// A stream of about so many bytes, to be read in pages of about so many and written as `kind`; nothing of it was read
    /// yet.
    pub fn new(kind: Kind, bytes: u64, page_bytes: u64) -> Self {
        Self {
            kind,
            bytes,
            page_bytes,
            ask: Ask::State,
            meta: StreamMeta::default(),
            idmp: StreamIdmp::default(),
            nodes: StreamNodes::default(),
            written: 0,
            entries: 0,
            entry_bytes: 0,
            groups: StreamGroups::default(),
            to_come: VecDeque::new(),
            unclear: 0,
            pending_page: PAGE_MAX,
        }
    }

    /// How it is written.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What is to be asked.
    pub fn ask(&self) -> &Ask {
        &self.ask
    }

    /// How many nodes there are: the number to stand in front of them. Known at the end.
    pub fn nodes(&self) -> u64 {
        self.written
    }

    /// Takes in the replies to what was [asked](Self::ask).
    pub fn take(&mut self, replies: Vec<Reply>) -> Read {
        let taken = match self.ask.clone() {
            Ask::State => self.state(replies),
            Ask::Entries(from, count) => self.page(from, count, replies),
            Ask::Groups => self.list_groups(replies),
            Ask::Consumers(_) => self.consumers(replies),
            Ask::Pending(_, from, count) => self.pending(from, count, replies),
        };
        match taken {
            Ok(read) => read,
            Err(Stop::Gone) => Read::Gone,
            Err(Stop::Unreadable(why)) => Read::Unreadable(why),
            Err(Stop::Refused(command, error)) => Read::Refused(command, error),
        }
    }

    fn state(&mut self, replies: Vec<Reply>) -> Result<Read, Stop> {
        let state = Fields::of(one(replies)?, "XINFO STREAM")?;
        state.has_only(&[
            "length",
            "radix-tree-keys",
            "radix-tree-nodes",
            "last-generated-id",
            "max-deleted-entry-id",
            "entries-added",
            "recorded-first-entry-id",
            "idmp-duration",
            "idmp-maxsize",
            "pids-tracked",
            "iids-tracked",
            "iids-added",
            "iids-duplicates",
            "groups",
            "first-entry",
            "last-entry",
        ])?;
        if state.number("pids-tracked").unwrap_or(0) > 0 {
            return Err(Stop::Unreadable(
                "it remembers message ids of producers, which no command shows".to_owned(),
            ));
        }
        self.meta = StreamMeta {
            length: state.required("length")?,
            last_id: state.id("last-generated-id").ok_or_else(|| state.lacks("last-generated-id"))?,
            // These are written from 7.0 on, which has them all.
            first_id: state.id("recorded-first-entry-id").unwrap_or_default(),
            max_deleted_id: state.id("max-deleted-entry-id").unwrap_or_default(),
            entries_added: state.number("entries-added").unwrap_or(0),
        };
        if self.kind != Kind::Stream1 {
            for name in ["recorded-first-entry-id", "max-deleted-entry-id", "entries-added"] {
                state.find(name).ok_or_else(|| state.lacks(name))?;
            }
        }
        let usual = StreamIdmp::default();
        self.idmp = StreamIdmp {
            duration_seconds: state.number("idmp-duration").unwrap_or(usual.duration_seconds),
            max_entries: state.number("idmp-maxsize").unwrap_or(usual.max_entries),
            producers: Vec::new(),
            added: state.number("iids-added").unwrap_or(0),
            duplicates: state.number("iids-duplicates").unwrap_or(0),
        };
        self.ask = match self.meta.length {
            0 => Ask::Groups,
            _ => Ask::Entries(StreamId::default(), self.page_len(FIRST_PAGE)),
        };
        Ok(Read::Parts(Vec::new()))
    }

    /// How many entries are asked for next: by what the whole stream weighs and is not read yet, and at most so many.
    fn page_len(&self, most: u64) -> u64 {
        let entries = self.meta.length.saturating_sub(self.entries).max(1);
        let each = self.bytes.saturating_sub(self.entry_bytes) / entries;
        (self.page_bytes / each.max(1)).clamp(1, most.clamp(1, PAGE_MAX))
    }

    fn page(&mut self, from: StreamId, count: u64, replies: Vec<Reply>) -> Result<Read, Stop> {
        let found = list(one(replies)?, "XRANGE")?;
        let (got, mut bytes, mut next) = (found.len() as u64, 0, Some(from));
        let mut parts = Vec::new();
        let mut node = Vec::new();
        for entry in found {
            let (id, fields) = entry_of(entry).ok_or_else(|| nonsense("XRANGE"))?;
            bytes += fields.iter().map(|(name, value)| (name.len() + value.len()) as u64).sum::<u64>();
            self.nodes.push(&mut node, id, &fields)?;
            self.keep_node(&mut node, &mut parts);
            next = id.next();
        }
        self.entries += got;
        self.entry_bytes += bytes;
        match next {
            Some(next) if got == count => {
                let fit = got * self.page_bytes / bytes.max(1);
                self.ask = Ask::Entries(next, self.page_len(fit.min(4 * count)));
            }
            _ => {
                let nodes = std::mem::take(&mut self.nodes).finish(&mut node);
                self.keep_node(&mut node, &mut parts);
                if (self.written, self.entries) != (nodes.nodes, self.meta.length) {
                    return Err(Stop::Unreadable(format!(
                        "it says it has {} entries, and {} were found",
                        self.meta.length, self.entries
                    )));
                }
                self.ask = Ask::Groups;
            }
        }
        Ok(Read::Parts(parts))
    }

    /// A node that is full is a part.
    fn keep_node(&mut self, node: &mut Vec<u8>, parts: &mut Vec<Bytes>) {
        if !node.is_empty() {
            self.written += 1;
            parts.push(std::mem::take(node).into());
        }
    }

    fn list_groups(&mut self, replies: Vec<Reply>) -> Result<Read, Stop> {
        for group in list(one(replies)?, "XINFO GROUPS")? {
            let group = Fields::of(group, "XINFO GROUPS")?;
            group.has_only(&["name", "consumers", "pending", "last-delivered-id", "entries-read", "lag"])?;
            self.to_come.push_back(Group {
                name: group.bytes("name").ok_or_else(|| group.lacks("name"))?,
                last_id: group.id("last-delivered-id").ok_or_else(|| group.lacks("last-delivered-id"))?,
                entries_read: group.signed("entries-read"),
                pending: group.required("pending")?,
            });
        }
        self.next_group()
    }

    fn next_group(&mut self) -> Result<Read, Stop> {
        self.unclear = 0;
        match self.to_come.front() {
            Some(group) => {
                self.groups.group(&group.name, group.last_id, group.entries_read);
                self.ask = Ask::Consumers(group.name.clone());
                Ok(Read::Parts(Vec::new()))
            }
            None => {
                let mut end = Vec::new();
                let groups = std::mem::take(&mut self.groups);
                StreamEnd { meta: self.meta, groups, idmp: self.idmp.clone() }.write(self.kind, &mut end)?;
                let end = Bytes::from(end);
                let starts = (0..end.len()).step_by(PAGE_BYTES as usize);
                let pieces = starts.map(|at| end.slice(at..end.len().min(at + PAGE_BYTES as usize)));
                Ok(Read::End(pieces.collect()))
            }
        }
    }

    fn consumers(&mut self, replies: Vec<Reply>) -> Result<Read, Stop> {
        let (now_ms, is_clear, reply) = timed(replies, "XINFO CONSUMERS")?;
        if !is_clear && self.unclear < UNCLEAR_MAX {
            self.unclear += 1;
            return Ok(Read::Parts(Vec::new()));
        }
        let mut longest = 0;
        for consumer in list(reply, "XINFO CONSUMERS")? {
            let consumer = Fields::of(consumer, "XINFO CONSUMERS")?;
            consumer.has_only(&["name", "pending", "idle", "inactive"])?;
            let name = consumer.bytes("name").ok_or_else(|| consumer.lacks("name"))?;
            let idle = consumer.signed("idle").ok_or_else(|| consumer.lacks("idle"))?;
            let inactive = consumer.signed("inactive").filter(|inactive| *inactive >= 0);
            let active_ms = inactive.map_or(-1, |inactive| now_ms.saturating_sub(inactive));
            self.groups.consumer(&name, now_ms.saturating_sub(idle), active_ms)?;
            longest = longest.max(name.len() as u64);
        }
        self.pending_page = (self.page_bytes / (PENDING_BYTES + longest)).clamp(PENDING_MIN, PAGE_MAX);
        self.go_on(StreamId::default())
    }

    /// More of the group's pending entries, or the next group.
    fn go_on(&mut self, from: StreamId) -> Result<Read, Stop> {
        match self.to_come.front() {
            Some(group) if group.pending > 0 => {
                self.ask = Ask::Pending(group.name.clone(), from, self.pending_page);
                Ok(Read::Parts(Vec::new()))
            }
            _ => {
                self.to_come.pop_front();
                self.next_group()
            }
        }
    }

    fn pending(&mut self, from: StreamId, count: u64, replies: Vec<Reply>) -> Result<Read, Stop> {
        let (now_ms, is_clear, reply) = timed(replies, "XPENDING")?;
        if !is_clear {
            // Fewer take less time.
            self.pending_page = (count / 2).max(PENDING_MIN);
            return self.go_on(from);
        }
        let found = list(reply, "XPENDING")?;
        let (got, mut next) = (found.len() as u64, Some(from));
        for entry in found {
            let (id, consumer, idle, delivered) = pending_of(entry).ok_or_else(|| nonsense("XPENDING"))?;
            self.groups.pending(&consumer, id, now_ms.saturating_sub(idle), delivered)?;
            next = id.next();
        }
        let group = self.to_come.front_mut().ok_or(Stop::Gone)?;
        match (group.pending.checked_sub(got), next) {
            (Some(0), _) => group.pending = 0,
            (Some(left), Some(_)) if got == count => group.pending = left,
            _ => {
                return Err(Stop::Unreadable(
                    "a group has not as many pending entries as it says".to_owned(),
                ));
            }
        }
        self.go_on(next.unwrap_or_default())
    }
}

// --- replies -----------------------------------------------------------------------------------------------------------

fn nonsense(command: &str) -> Stop {
    Stop::Unreadable(format!("{command} had an answer that is not known"))
}

fn one(replies: Vec<Reply>) -> Result<Reply, Stop> {
    replies.into_iter().next().ok_or_else(|| nonsense("a command"))
}

/// What an error means: a missing permission is one to be told of; a command that was taken away leaves DUMP.
fn stop(command: &'static str, error: Bytes) -> Stop {
    let begins = |starts: &[&str]| starts.iter().any(|start| error.starts_with(start.as_bytes()));
    if begins(&["WRONGTYPE", "ERR no such key", "NOGROUP"]) {
        Stop::Gone
    } else if begins(&["ERR unknown command"]) {
        Stop::Unreadable(format!("{command}: {}", String::from_utf8_lossy(&error)))
    } else {
        Stop::Refused(command, error)
    }
}

fn list(reply: Reply, command: &'static str) -> Result<Vec<Reply>, Stop> {
    match reply {
        Reply::Array(items) => Ok(items),
        Reply::Error(text) => Err(stop(command, text)),
        _ => Err(nonsense(command)),
    }
}

/// A reply between two of TIME: the time in milliseconds, whether it was the same in both, and the reply.
fn timed(replies: Vec<Reply>, command: &'static str) -> Result<(i64, bool, Reply), Stop> {
    let Ok([before, reply, after]) = <[Reply; 3]>::try_from(replies) else { return Err(nonsense(command)) };
    if let Reply::Error(error) = before {
        return Err(stop("TIME", error));
    }
    let (Some(before), Some(after)) = (before.time_us(), after.time_us()) else {
        return Err(nonsense("TIME"));
    };
    Ok((before / 1000, before / 1000 == after / 1000, reply))
}

/// An entry's id, its fields and values.
fn entry_of(entry: Reply) -> Option<(StreamId, Vec<(Bytes, Bytes)>)> {
    let Reply::Array(parts) = entry else { return None };
    let Ok([Reply::Bulk(id), Reply::Array(items)]) = <[Reply; 2]>::try_from(parts) else { return None };
    let mut fields = Vec::with_capacity(items.len() / 2);
    let mut items = items.into_iter();
    while let Some(name) = items.next() {
        fields.push((name.bulk()?, items.next()?.bulk()?));
    }
    Some((StreamId::parse(&id)?, fields))
}

/// A pending entry's id, its consumer, for how long and how often it was delivered.
fn pending_of(entry: Reply) -> Option<(StreamId, Bytes, i64, u64)> {
    let Reply::Array(parts) = entry else { return None };
    match &parts[..] {
        [Reply::Bulk(id), Reply::Bulk(consumer), Reply::Integer(idle), Reply::Integer(delivered)] => {
            Some((StreamId::parse(id)?, consumer.clone(), *idle, u64::try_from(*delivered).ok()?))
        }
        _ => None,
    }
}

/// Names and what they say.
struct Fields {
    command: &'static str,
    fields: Vec<(Bytes, Reply)>,
}

impl Fields {
    fn of(reply: Reply, command: &'static str) -> Result<Self, Stop> {
        let mut items = list(reply, command)?.into_iter();
        let mut fields = Vec::new();
        while let Some(name) = items.next() {
            let (Some(name), Some(value)) = (name.bulk(), items.next()) else {
                return Err(nonsense(command));
            };
            fields.push((name, value));
        }
        Ok(Self { command, fields })
    }

    /// A newer server may say more, and hold more than we know how to write.
    fn has_only(&self, known: &[&str]) -> Result<(), Stop> {
        let unknown = |(name, _): &&(Bytes, Reply)| !known.iter().any(|known| known.as_bytes() == &name[..]);
        match self.fields.iter().find(unknown) {
            Some((name, _)) => Err(Stop::Unreadable(format!(
                "{} shows {}, which is not known",
                self.command,
                String::from_utf8_lossy(name)
            ))),
            None => Ok(()),
        }
    }

    fn find(&self, name: &str) -> Option<&Reply> {
        self.fields.iter().find(|(field, _)| &field[..] == name.as_bytes()).map(|(_, value)| value)
    }

    fn signed(&self, name: &str) -> Option<i64> {
        match self.find(name)? {
            Reply::Integer(number) => Some(*number),
            _ => None,
        }
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.signed(name)?.try_into().ok()
    }

    fn required(&self, name: &str) -> Result<u64, Stop> {
        self.number(name).ok_or_else(|| self.lacks(name))
    }

    fn bytes(&self, name: &str) -> Option<Bytes> {
        self.find(name)?.bulk()
    }

    fn id(&self, name: &str) -> Option<StreamId> {
        StreamId::parse(&self.bytes(name)?)
    }

    fn lacks(&self, name: &str) -> Stop {
        Stop::Unreadable(format!("{} does not show {name}", self.command))
    }
}

#[cfg(test)]
mod tests;

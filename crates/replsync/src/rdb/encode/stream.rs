//! Streams from what commands answer: entries, groups, consumers, what is pending.
//!
//! A stream's value is [`length`](super::length) of its nodes, the nodes ([`StreamNodes`]), then all the rest
//! ([`StreamEnd`]). How many nodes there are is known once the last entry is: until then they can be kept elsewhere.
//!
//! Source: `rdbSaveObject`, `rdbSaveStreamPEL` and `rdbSaveStreamConsumers` in `src/rdb.c`; what 8.6 adds in librdb's
//! `src/lib/parser.c`, `elementStreamLP`.

mod groups;
mod nodes;

use super::super::{Kind, StreamId, readable};
use super::{Unwritable, length, string};
use crate::server::Server;

pub use groups::StreamGroups;
pub use nodes::{NodeLimits, NodesWritten, StreamNodes};

/// How `by` writes its streams; nothing before Redis 5.0.
pub fn stream_kind(by: Server) -> Option<Kind> {
    [Kind::Stream4, Kind::Stream3, Kind::Stream2, Kind::Stream1].into_iter().find(|kind| readable(*kind, by))
}

/// What a stream knows of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamMeta {
    /// The number of entries.
    pub length: u64,
    /// The greatest id ever.
    pub last_id: StreamId,
    /// The id of the first entry (from 7.0); 0-0 where there is none.
    pub first_id: StreamId,
    /// The greatest id of a deleted entry (from 7.0).
    pub max_deleted_id: StreamId,
    /// How many entries were ever added (from 7.0).
    pub entries_added: u64,
}

/// What a stream remembers of idempotent producers (from 8.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamIdmp {
    /// How long a message's own id is remembered, in seconds.
    pub duration_seconds: u64,
    /// How many are remembered for each producer.
    pub max_entries: u64,
    /// The producers. No command of 8.6 shows more of them than their number.
    pub producers: Vec<StreamProducer>,
    /// Message ids added.
    pub added: u64,
    /// Messages that were recognised as duplicates.
    pub duplicates: u64,
}

/// A producer whose messages are remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamProducer {
    /// Its name.
    pub name: Vec<u8>,
    /// Its messages: the id that it gave each, and the entry that it became.
    pub messages: Vec<(Vec<u8>, StreamId)>,
}

impl Default for StreamIdmp {
    /// The settings of a new stream on a server that was not told otherwise (`stream-idmp-duration` and
    /// `stream-idmp-maxsize` of 8.6).
    fn default() -> Self {
        Self { duration_seconds: 100, max_entries: 100, producers: Vec::new(), added: 0, duplicates: 0 }
    }
}

/// What stands behind a stream's nodes.
#[derive(Debug, Default)]
pub struct StreamEnd {
    /// What it knows of itself.
    pub meta: StreamMeta,
    /// Its groups.
    pub groups: StreamGroups,
    /// What it remembers of producers; written where the kind has it.
    pub idmp: StreamIdmp,
}

impl StreamEnd {
    /// Writes it, as `kind` has it ([`stream_kind`]).
    ///
    /// # Errors
    /// When `kind` is none of 15, 19, 21 and 26, and as [`StreamGroups::group`].
    pub fn write(mut self, kind: Kind, out: &mut Vec<u8>) -> Result<(), Unwritable> {
        let has = |since: Kind| kind.type_byte() >= since.type_byte();
        if !matches!(kind, Kind::Stream1 | Kind::Stream2 | Kind::Stream3 | Kind::Stream4) {
            return Err(Unwritable("no kind of stream that is written here"));
        }
        let StreamMeta { length: entries, last_id, first_id, max_deleted_id, entries_added } = self.meta;
        length(out, entries);
        id(out, last_id);
        if has(Kind::Stream2) {
            id(out, first_id);
            id(out, max_deleted_id);
            length(out, entries_added);
        }
        self.groups.write(kind, out)?;
        if has(Kind::Stream4) {
            self.idmp.write(out);
        }
        Ok(())
    }
}

impl StreamIdmp {
    fn write(&self, out: &mut Vec<u8>) {
        length(out, self.duration_seconds);
        length(out, self.max_entries);
        length(out, self.producers.len() as u64);
        for StreamProducer { name, messages } in &self.producers {
            string(out, name);
            length(out, messages.len() as u64);
            for (message, entry) in messages {
                string(out, message);
                id(out, *entry);
            }
        }
        length(out, self.added);
        length(out, self.duplicates);
    }
}

/// An id as two numbers.
fn id(out: &mut Vec<u8>, id: StreamId) {
    length(out, id.ms);
    length(out, id.seq);
}

/// An id that sorts as bytes (`streamEncodeID` in `src/t_stream.c`).
fn key(id: StreamId) -> [u8; 16] {
    (u128::from(id.ms) << 64 | u128::from(id.seq)).to_be_bytes()
}

#[cfg(test)]
mod tests;

//! What a capture tells its sink.
//!
//! A sink runs on a thread of its own behind a bounded channel, so that replies are read at once whatever a disk or a
//! target does.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::ids::Id;
use crate::psync::Position;
use crate::rdb::{Kind, encode};
use crate::spool::Gauge;

/// What is known now. Later changes supersede earlier ones.
#[derive(Clone, Debug)]
pub enum Change {
    /// Database `db` holds space `space` from now on; it is new and empty.
    Opened {
        /// The database.
        db: u32,
        /// The space.
        space: u32,
    },
    /// The space is no more: its database was flushed, or its copies are of no worth. Its big values are gone, too.
    Dropped {
        /// The space.
        space: u32,
    },
    /// Two databases exchanged their spaces.
    Swapped {
        /// One database.
        a: u32,
        /// The other.
        b: u32,
    },
    /// A key has this value.
    Value(Value),
    /// A key is not there, or is a big value from now on.
    Absent {
        /// Its space.
        space: u32,
        /// Its id.
        id: Id,
        /// Its name.
        key: Bytes,
    },
    /// A big value is begun: its parts follow, and may be superseded until the cut.
    BigBegun {
        /// Its number, which is never used again.
        big: u32,
        /// Its space.
        space: u32,
        /// Its name.
        key: Bytes,
        /// How its parts are put together.
        form: Form,
    },
    /// A part of a big value: the last one of an id counts.
    Part {
        /// The big value.
        big: u32,
        /// The element, or the place of a part of a value that is read in order.
        id: Id,
        /// Its bytes as they stand in an RDB. Nothing: the element is not there.
        body: Option<Bytes>,
    },
    /// A big value is none any more: what was read of it is of no worth.
    BigVoid {
        /// The big value.
        big: u32,
    },
    /// The functions, all of them, as FUNCTION DUMP gives them, without its footer: opcodes and code as in an RDB.
    Functions(Bytes),
}

/// A key and its value.
#[derive(Clone, Debug)]
pub struct Value {
    /// Its space.
    pub space: u32,
    /// Its id.
    pub id: Id,
    /// Its name.
    pub key: Bytes,
    /// When it expires, in milliseconds since the epoch.
    pub expiry_ms: Option<i64>,
    /// What the value is.
    pub kind: Kind,
    /// The value as it stands in an RDB.
    pub raw: Bytes,
}

impl Change {
    /// What it costs to hold, in bytes.
    pub fn cost_bytes(&self) -> usize {
        size_of::<Self>()
            + match self {
                Change::Value(value) => value.key.len() + value.raw.len(),
                Change::Absent { key, .. } | Change::BigBegun { key, .. } => key.len(),
                Change::Part { body, .. } => body.as_ref().map_or(0, Bytes::len),
                Change::Functions(bytes) => bytes.len(),
                _ => 0,
            }
    }
}

/// A value that was read in parts, as it is at the cut.
#[derive(Clone, Debug)]
pub struct BigValue {
    /// Its number.
    pub big: u32,
    /// Its space.
    pub space: u32,
    /// Its name.
    pub key: Bytes,
    /// When it expires, in milliseconds since the epoch.
    pub expiry_ms: Option<i64>,
    /// How its parts are put together.
    pub form: Form,
    /// Of a stream: how many nodes its parts begin with.
    pub nodes: u64,
}

impl BigValue {
    /// What stands in front of its `parts`, which have so many `bytes`; nothing of a hash, whose [head](crate::rdb::encode::HashForm::head)
    /// depends on what is in it.
    ///
    /// [HashForm]: crate::rdb::encode::HashForm
    pub fn head(&self, parts: u64, bytes: u64) -> Vec<u8> {
        let mut head = Vec::new();
        match self.form {
            Form::String => encode::length(&mut head, bytes),
            Form::List | Form::Set | Form::Zset => encode::length(&mut head, parts),
            Form::Stream(_) => encode::length(&mut head, self.nodes),
            Form::Hash => {}
        }
        head
    }
}

/// How the parts of a big value are put together, all in plain forms that every server reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Pieces of one string, in order.
    String,
    /// Elements in order.
    List,
    /// Members.
    Set,
    /// Fields and values with their expiries, each as [`kept_field`](crate::rdb::encode::kept_field) writes it.
    Hash,
    /// Members and scores.
    Zset,
    /// A stream, all but the number of its nodes in front ([`BigValue::nodes`]): node after node, each a part, then the
    /// rest in pieces.
    Stream(Kind),
}

/// The cut: what the changes add up to.
#[derive(Clone, Debug)]
pub struct Cut {
    /// Where it is exact.
    pub position: Position,
    /// The database that the stream has selected there.
    pub stream_db: u32,
    /// The RDB version that DUMP's footers said.
    pub rdb_version: u16,
    /// Which database holds which space.
    pub spaces: BTreeMap<u32, u32>,
    /// The big values of these spaces.
    pub bigs: Vec<BigValue>,
}

impl Cut {
    /// The database that holds a space; none where it is no more.
    pub fn database_of(&self, space: u32) -> Option<u32> {
        self.spaces.iter().find(|(_, held)| **held == space).map(|(db, _)| *db)
    }
}

/// Where a capture goes.
pub trait Sink: Send + 'static {
    /// What it makes of it.
    type Output: Send + 'static;
    /// Why it cannot.
    type Error: std::error::Error + Send + 'static;

    /// What it holds on disk, for those who watch.
    fn spooled(&self) -> Gauge {
        Gauge::default()
    }

    /// Takes a change.
    fn change(&mut self, change: Change) -> Result<(), Self::Error>;

    /// The capture is exact, and there are no more changes.
    fn finish(self, cut: Cut) -> Result<Self::Output, Self::Error>;
}

//! Values that are too big to be asked for at once.
//!
//! Of a hash, a set or a sorted set the elements are read page by page, and each is like a key: the stream makes it
//! dirty, and it is read again. That holds for a closed list of commands, which name every element that they change
//! ([`crate::command::elements()`]); any other command makes the whole key dirty, and it is begun anew. So is a string, a list or
//! a stream by whatever touches it.

use std::collections::HashMap;

use bytes::Bytes;

use super::change::Form;
use super::ids::{ById, Id, IdSet, Ids, Owner};
use super::ledger::Name;
use super::mutant::lacks;
use super::streams::StreamReader;
use crate::command::{Collection, CommandTable};
use crate::rdb::DataType;

/// What a touch of the key has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touch {
    /// Elements or the expiry are to be read again.
    Elements,
    /// All of it.
    Whole,
}

/// What a touch is known by, and where it is noted.
pub(super) struct Touching<'a> {
    pub ids: &'a Ids,
    pub table: &'a CommandTable,
    /// The stream's offset behind the command.
    pub offset: u64,
    /// When what was asked for was touched.
    pub in_flight: &'a mut HashMap<Id, u64, ById>,
    /// Names that become dirty.
    pub names: &'a mut Vec<Name>,
}

/// How far a big value was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Up to this cursor of HSCAN, SSCAN or ZSCAN.
    Cursor(Bytes),
    /// Up to this place: bytes of a string, elements of a list.
    At(u64),
    /// A stream, as far as its [reader](Big::stream) knows.
    Stream,
    /// All.
    Done,
}

/// A value that is read in parts.
#[derive(Debug)]
pub struct Big {
    /// Its number.
    pub number: u32,
    /// Its space.
    pub space: u32,
    /// Its name.
    pub key: Bytes,
    /// What it is.
    pub data_type: DataType,
    /// How its parts are put together.
    pub form: Form,
    /// How far it was read.
    pub reading: Reading,
    /// Whether a page of it is in flight.
    pub is_busy: bool,
    /// When it expires, once that was read.
    pub expiry_ms: Option<i64>,
    /// How many elements are asked for next.
    pub page: u64,
    /// Parts that were read in order.
    pub parts: u64,
    /// Whether the key's expiry is in flight.
    pub expiry_is_asked: bool,
    /// What reads it if it is a stream.
    pub(super) stream: Option<Box<StreamReader>>,
    expiry_is_wanted: bool,
    expiry_touched: u64,
    dirty: IdSet,
    /// Elements that the stream touched while a page is in flight: its names are not known yet.
    recent: HashMap<Id, u64, ById>,
}

/// The first page of a value whose elements may be of any size; the next ones are up to four times as long.
const PAGE_FIRST: u64 = 4;

impl Big {
    /// A value of which nothing was read yet; not for streams.
    pub fn new(number: u32, space: u32, key: Bytes, data_type: DataType) -> Self {
        let (form, reading) = match data_type {
            DataType::Hash => (Form::Hash, Reading::Cursor(Bytes::from_static(b"0"))),
            DataType::Set => (Form::Set, Reading::Cursor(Bytes::from_static(b"0"))),
            DataType::Zset => (Form::Zset, Reading::Cursor(Bytes::from_static(b"0"))),
            DataType::List => (Form::List, Reading::At(0)),
            _ => (Form::String, Reading::At(0)),
        };
        Self {
            number,
            space,
            key,
            data_type,
            form,
            reading,
            is_busy: false,
            expiry_ms: None,
            page: PAGE_FIRST,
            parts: 0,
            expiry_is_asked: false,
            stream: None,
            expiry_is_wanted: true,
            expiry_touched: 0,
            dirty: IdSet::default(),
            recent: HashMap::default(),
        }
    }

    /// The same for a stream.
    pub fn stream(number: u32, space: u32, key: Bytes, reader: StreamReader) -> Self {
        Self {
            form: Form::Stream(reader.kind()),
            reading: Reading::Stream,
            stream: Some(Box::new(reader)),
            ..Self::new(number, space, key, DataType::Stream)
        }
    }

    /// Whether all of it is known.
    pub fn is_complete(&self) -> bool {
        self.reading == Reading::Done && !self.is_busy && !self.expiry_is_wanted && self.dirty.is_empty()
    }

    /// Whether there is more of it to read.
    pub fn has_page(&self) -> bool {
        self.reading != Reading::Done
    }

    /// Elements that are dirty.
    pub fn dirty(&self) -> usize {
        self.dirty.len()
    }

    /// Whether an element is dirty.
    pub fn is_dirty(&self, id: Id) -> bool {
        self.dirty.contains(id)
    }

    /// Makes an element dirty.
    pub fn mark(&mut self, id: Id) -> bool {
        self.dirty.insert(id)
    }

    /// An element was read.
    pub fn clean(&mut self, id: Id) {
        self.dirty.remove(id);
    }

    /// Whether the key's expiry is to be asked for.
    pub fn wants_expiry(&self) -> bool {
        self.expiry_is_wanted && !self.expiry_is_asked
    }

    /// The key's expiry was read after `since`; whether that holds.
    pub fn settle_expiry(&mut self, since: u64, expiry_ms: Option<i64>) -> bool {
        self.expiry_is_asked = false;
        if self.expiry_touched > since {
            return false;
        }
        self.expiry_ms = expiry_ms;
        self.expiry_is_wanted = false;
        true
    }

    /// A page of elements was read after `since`: whether this element of it holds. If not it is dirty already.
    pub fn settle_page(&mut self, id: Id, since: u64) -> bool {
        if self.recent.get(&id).is_some_and(|touched| *touched > since) {
            return false;
        }
        self.dirty.remove(id);
        true
    }

    /// No page is in flight any more.
    pub fn page_is_settled(&mut self) {
        self.is_busy = false;
        self.recent = HashMap::default();
    }

    /// The stream touches the key, argument `at` of a command.
    pub(super) fn touch(
        &mut self,
        args: &[Bytes],
        at: usize,
        Touching { ids, table, offset, in_flight, names }: Touching<'_>,
    ) -> Touch {
        if table.only_expiry(args) {
            (self.expiry_is_wanted, self.expiry_touched) = (true, offset);
            return Touch::Elements;
        }
        let Some(elements) = table.elements(args) else {
            let by_rank = table.original_name(args) == Some("zremrangebyrank");
            return if by_rank && lacks("zremrangebyrank") { Touch::Elements } else { Touch::Whole };
        };
        let data_type = match elements.collection {
            Collection::Hash => DataType::Hash,
            Collection::Set => DataType::Set,
            Collection::SortedSet => DataType::Zset,
        };
        if elements.key() != at || data_type != self.data_type {
            return Touch::Whole;
        }
        if elements.may_delete_key() {
            // With its last element the key goes, and its expiry; the next one makes a key without.
            (self.expiry_is_wanted, self.expiry_touched) = (true, offset);
        }
        for element in elements.names() {
            let id = ids.of(Owner::Big(self.number), element);
            if self.is_busy {
                self.recent.insert(id, offset);
            }
            match in_flight.get_mut(&id) {
                Some(touched) => {
                    *touched = offset;
                    self.dirty.insert(id);
                }
                None if self.dirty.insert(id) => {
                    names.push(Name { owner: Owner::Big(self.number), name: Bytes::copy_from_slice(element) })
                }
                None => {}
            }
        }
        Touch::Elements
    }
}

//! What is known of every key at the stream's offset: the heart of a capture, without I/O.
//!
//! A copy is valid from the offset of the INFO before it until the stream next touches its key. The ledger reads the
//! stream, and a copy is shown to it once the stream was read up to the INFO behind it. So at each moment these say
//! everything about the position that the stream was read to:
//!
//! - the copies that were kept: what a key holds there;
//! - the dirty set: what was touched after its last copy, or could not be copied;
//! - the scans: names that are still to be read;
//! - what is in flight: asked for, and not settled.
//!
//! **The capture is exact there as soon as the last three are empty** and no transaction is open.
//!
//! A *space* is what a database holds, under a number of its own: SWAPDB exchanges which database has which space,
//! FLUSHDB gives the database a new one that is known to be empty, and a command whose keys cannot be told gives every
//! database a new one that must be scanned. A cursor of SCAN belongs to the space.

mod stream;

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use super::big::Big;
use super::change::Change;
use super::ids::{ById, Id, IdSet, Ids, Owner};

/// A name that is to be read again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// Whose it is.
    pub owner: Owner,
    /// The key, or the element.
    pub name: Bytes,
}

/// How far the names of a space are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scan {
    /// Up to this cursor of SCAN.
    At(Bytes),
    /// All.
    Done,
}

/// Where SCAN begins.
const FIRST: Bytes = Bytes::from_static(b"0");

/// What a database holds.
#[derive(Debug)]
pub struct Space {
    /// Where it is now.
    pub db: u32,
    /// How far its names are read.
    pub scan: Scan,
    dirty: IdSet,
}

/// See the [module](self).
pub struct Ledger {
    ids: Ids,
    offset: u64,
    db: Option<u32>,
    in_transaction: bool,
    /// Where each space is.
    spaces: HashMap<u32, Space>,
    dbs: BTreeMap<u32, u32>,
    next_space: u32,
    /// When a database last got another space: what was read from it before is of no worth.
    void: HashMap<u32, u64>,
    /// Keys and elements that were asked for, and when the stream touched them since; 0 for not.
    in_flight: HashMap<Id, u64, ById>,
    bigs: HashMap<Id, Big, ById>,
    big_ids: HashMap<u32, Id>,
    next_big: u32,
    /// How often a big value was begun anew because the stream touched it.
    restarts: HashMap<Id, u32, ById>,
    functions: Functions,
    /// The databases that hold keys are to be learnt anew: asked for after this offset.
    discover: Option<u64>,
    names: Vec<Name>,
    changes: Vec<Change>,
    /// It need not be exact any more.
    makes_do: bool,
    /// Commands that made everything dirty, and the name of the last.
    voids: (u64, String),
    /// While the selected database is not known: a key that is in it since this offset.
    left: Option<(Bytes, u64)>,
    /// Something was written to a database that is not known: one that was empty when we looked may hold it.
    wrote_somewhere: bool,
}

#[derive(Debug)]
struct Functions {
    /// Since 7.0.
    exist: bool,
    dirty: bool,
    /// When they were touched last.
    touched: u64,
}

impl Ledger {
    /// A ledger that follows the stream from `offset` on; `db` is what is selected there, where that is known.
    pub fn new(ids: Ids, offset: u64, db: Option<u32>, has_functions: bool) -> Self {
        Self {
            ids,
            offset,
            db,
            in_transaction: false,
            spaces: HashMap::new(),
            dbs: BTreeMap::new(),
            next_space: 0,
            void: HashMap::new(),
            in_flight: HashMap::default(),
            bigs: HashMap::default(),
            big_ids: HashMap::new(),
            next_big: 0,
            functions: Functions { exist: has_functions, dirty: has_functions, touched: 0 },
            restarts: HashMap::default(),
            discover: Some(offset),
            names: Vec::new(),
            changes: Vec::new(),
            makes_do: false,
            voids: (0, String::new()),
            left: None,
            wrote_somewhere: false,
        }
    }

    /// The offset that the stream was read to.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The database that the stream has selected.
    pub fn stream_db(&self) -> Option<u32> {
        self.db
    }

    /// Since when the databases that hold keys are to be learnt: INFO must be asked at this offset or later.
    pub fn wants_databases(&self) -> Option<u64> {
        self.discover
    }

    /// Which database holds which space.
    pub fn databases(&self) -> &BTreeMap<u32, u32> {
        &self.dbs
    }

    /// A space.
    pub fn space(&self, space: u32) -> Option<&Space> {
        self.spaces.get(&space)
    }

    /// The space of a database. One that had none was empty when we looked, if we did, and nothing was written to it.
    pub fn space_of(&mut self, db: u32) -> u32 {
        match (self.dbs.get(&db), self.discover) {
            (Some(space), _) => *space,
            (None, None) if !self.wrote_somewhere => self.open(db, Scan::Done),
            (None, _) => self.open(db, Scan::At(FIRST)),
        }
    }

    /// Spaces whose names are not all read.
    pub fn unscanned(&self) -> impl Iterator<Item = (u32, &Space)> {
        let unscanned = |(_, space): &(&u32, &Space)| space.scan != Scan::Done;
        self.spaces.iter().filter(unscanned).map(|(number, space)| (*number, space))
    }

    /// Keys and elements that are dirty.
    pub fn dirty(&self) -> usize {
        let keys: usize = self.spaces.values().map(|space| space.dirty.len()).sum();
        let elements: usize = self.bigs.values().map(Big::dirty).sum();
        keys + elements + usize::from(self.functions.dirty)
    }

    /// Whether the functions are to be read.
    pub fn functions_are_dirty(&self) -> bool {
        self.functions.dirty
    }

    /// Whether everything is known, at [`offset`](Self::offset).
    pub fn is_exact(&self) -> bool {
        self.is_settled() && !self.in_transaction && self.db.is_some()
    }

    /// Whether everything is known but, maybe, what the stream has selected.
    pub fn is_settled(&self) -> bool {
        self.dirty() == 0
            && self.in_flight.is_empty()
            && self.discover.is_none()
            && self.unscanned().next().is_none()
            && self.bigs.values().all(Big::is_complete)
    }

    /// How often a command made everything dirty, and the name of the last.
    pub fn voids(&self) -> (u64, &str) {
        (self.voids.0, &self.voids.1)
    }

    /// From now on it need not be exact: what cannot be told is passed over.
    pub fn make_do(&mut self) {
        self.makes_do = true;
    }

    /// Big values.
    pub fn bigs(&self) -> impl Iterator<Item = &Big> {
        self.bigs.values()
    }

    /// A big value by its number.
    pub fn big(&mut self, big: u32) -> Option<&mut Big> {
        self.bigs.get_mut(self.big_ids.get(&big)?)
    }

    /// The same, to look at.
    pub fn get_big(&self, big: u32) -> Option<&Big> {
        self.bigs.get(self.big_ids.get(&big)?)
    }

    /// The big value that a key is.
    pub fn big_of(&self, id: Id) -> Option<&Big> {
        self.bigs.get(&id)
    }

    /// How often a big value was begun anew because the stream touched it.
    pub fn restarts(&self, id: Id) -> u32 {
        self.restarts.get(&id).copied().unwrap_or(0)
    }

    /// The id of a name.
    pub fn id(&self, owner: Owner, name: &[u8]) -> Id {
        self.ids.of(owner, name)
    }

    /// Whether a name is dirty and not in flight: whether it is to be read.
    pub fn wants(&mut self, name: &Name) -> Option<Id> {
        let id = self.ids.of(name.owner, &name.name);
        let is_dirty = match name.owner {
            Owner::Space(space) => self.spaces.get(&space).is_some_and(|space| space.dirty.contains(id)),
            Owner::Big(big) => self.big(big).is_some_and(|big| big.is_dirty(id)),
        };
        (is_dirty && !self.in_flight.contains_key(&id)).then_some(id)
    }

    /// Names that became dirty since this was last asked: to be kept somewhere until they are read.
    pub fn take_names(&mut self) -> Vec<Name> {
        std::mem::take(&mut self.names)
    }

    /// Changes for the sink, in their order.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// These databases hold keys, at an offset of at least [`wants_databases`](Self::wants_databases).
    pub fn discovered(&mut self, at: u64, dbs: impl Iterator<Item = u32>) {
        if self.discover.is_none_or(|since| at < since) {
            return;
        }
        self.discover = None;
        for db in dbs {
            if !self.dbs.contains_key(&db) {
                self.open(db, Scan::At(FIRST));
            }
        }
    }

    /// A key or element is being asked for: from now on its touches are noted.
    pub fn asked(&mut self, id: Id) {
        self.in_flight.entry(id).or_insert(0);
    }

    /// What was asked for, or was to be asked more about, belonged to a space or a big value that is no more.
    pub fn forget(&mut self, id: Id) {
        self.in_flight.remove(&id);
    }

    /// Whether a copy of a key that was read from `db` after offset `since` holds now. If it does, the key is no longer
    /// dirty; if not, it is, and its name is among the [names](Self::take_names).
    pub fn settle(&mut self, db: u32, space: u32, id: Id, key: &Bytes, since: u64) -> bool {
        let touched = self.in_flight.remove(&id).unwrap_or(u64::MAX);
        let is_void = self.is_void(db, space, since);
        let is_big = self.bigs.contains_key(&id);
        let Some(kept) = self.spaces.get_mut(&space) else { return false };
        if is_big {
            // Its name was asked for twice, and it is read in parts by now: they say all about it.
            kept.dirty.remove(id);
            return false;
        }
        if is_void || touched > since {
            kept.dirty.insert(id);
            self.names.push(Name { owner: Owner::Space(space), name: key.clone() });
            return false;
        }
        kept.dirty.remove(id);
        true
    }

    /// A key or element that was asked for is to be asked for again.
    pub fn again(&mut self, owner: Owner, id: Id, name: &Bytes) {
        self.in_flight.remove(&id);
        match owner {
            Owner::Space(space) => {
                let Some(space) = self.spaces.get_mut(&space) else { return };
                space.dirty.insert(id);
            }
            Owner::Big(big) => {
                let Some(big) = self.big(big) else { return };
                big.mark(id);
            }
        }
        self.names.push(Name { owner, name: name.clone() });
    }

    /// A key that was asked for waits, dirty, for a better moment: somebody else keeps its name.
    pub fn put_aside(&mut self, space: u32, id: Id) {
        self.in_flight.remove(&id);
        if let Some(space) = self.spaces.get_mut(&space) {
            space.dirty.insert(id);
        }
    }

    /// The same for a page of names that SCAN gave from `db` after `since`: where it goes on. False when the page is
    /// of no worth, because the database has got another space.
    pub fn scanned(&mut self, db: u32, space: u32, since: u64, cursor: Bytes) -> bool {
        if self.is_void(db, space, since) {
            return false;
        }
        let Some(space) = self.spaces.get_mut(&space) else { return false };
        space.scan = if &cursor[..] == b"0" { Scan::Done } else { Scan::At(cursor) };
        true
    }

    /// Whether the functions that were read after `since` hold now.
    pub fn settle_functions(&mut self, since: u64) -> bool {
        if self.functions.touched > since {
            return false;
        }
        self.functions.dirty = false;
        true
    }

    /// The same for an element of a big value.
    pub fn settle_element(&mut self, big: u32, id: Id, element: &Bytes, db: u32, since: u64) -> bool {
        let touched = self.in_flight.remove(&id).unwrap_or(u64::MAX);
        let Some(space) = self.big(big).map(|big| big.space) else { return false };
        let is_void = self.is_void(db, space, since);
        let Some(kept) = self.big(big) else { return false };
        if is_void || touched > since {
            kept.mark(id);
            self.names.push(Name { owner: Owner::Big(big), name: element.clone() });
            return false;
        }
        kept.clean(id);
        true
    }

    /// Whether what was read from `db` after `since`, for a space, is of no worth: another space was there. It may have
    /// come before `since`, and not have been heard of yet when the request was made.
    pub fn is_void(&self, db: u32, space: u32, since: u64) -> bool {
        self.void.get(&db).is_some_and(|void| *void > since) || self.dbs.get(&db) != Some(&space)
    }

    /// A key that was asked for what it is, from `db` after `since`, is big from now on; `None` when that does not hold
    /// (then it is dirty), or when it is read in parts already: its name may have been asked for twice.
    pub fn begin_big(
        &mut self,
        db: u32,
        space: u32,
        id: Id,
        key: &Bytes,
        since: u64,
        make: impl FnOnce(u32) -> Big,
    ) -> Option<u32> {
        if self.bigs.contains_key(&id) {
            self.settle(db, space, id, key, since);
            return None;
        }
        // What was deleted meanwhile would be read as an empty value.
        if !self.settle(db, space, id, key, since) {
            *self.restarts.entry(id).or_insert(0) += 1;
            return None;
        }
        let number = self.next_big;
        self.next_big += 1;
        let big = make(number);
        let form = big.form;
        self.bigs.insert(id, big);
        self.big_ids.insert(number, id);
        self.changes.push(Change::Absent { space, id, key: key.clone() });
        self.changes.push(Change::BigBegun { big: number, space, key: key.clone(), form });
        Some(number)
    }

    /// A big value is none any more, and its key dirty.
    pub fn restart_big(&mut self, big: u32) {
        let Some(id) = self.big_ids.get(&big).copied() else { return };
        let Some((space, key)) = self.bigs.get(&id).map(|big| (big.space, big.key.clone())) else { return };
        self.drop_big(id);
        self.mark(space, id, &key);
    }

    fn drop_big(&mut self, id: Id) {
        if let Some(big) = self.bigs.remove(&id) {
            self.big_ids.remove(&big.number);
            self.changes.push(Change::BigVoid { big: big.number });
        }
    }
}

#[cfg(test)]
mod tests;

//! What the stream says, command by command.

use bytes::Bytes;

use super::{Ledger, Name, Scan, Space};
use crate::capture::big::{Big, Touch, Touching};
use crate::capture::change::Change;
use crate::capture::ids::{Id, IdSet, Owner};
use crate::capture::mutant::lacks;
use crate::command::{Class, CommandTable, KeyIndices, Touched, left_key};
use crate::resp::StreamCommand;

impl Ledger {
    /// The next command of the stream, and the offset behind it. `table` knows its name.
    pub fn command(&mut self, table: &CommandTable, command: &StreamCommand, offset: u64) {
        self.offset = offset;
        let args = &command.args;
        match table.classify(args) {
            Class::Select(db) => return self.select(db),
            Class::Multi => self.in_transaction = true,
            Class::Exec => self.in_transaction = false,
            _ => {}
        }
        let touched = table.touched(args);
        if !matches!(touched, Touched::Nothing | Touched::Keys(_) | Touched::Functions) {
            self.left = None;
        }
        match touched {
            Touched::Nothing => {}
            Touched::Keys(keys) => self.touch_selected(table, command, keys),
            Touched::Functions => self.touch_functions(),
            Touched::SwapDatabases(a, b) => self.swap(a, b),
            Touched::EveryDatabase => {
                for db in self.dbs.keys().copied().collect::<Vec<_>>() {
                    self.flush(db);
                }
                // Whatever INFO said before is over.
                if self.discover.is_some() {
                    self.discover = Some(offset);
                }
            }
            Touched::WholeDatabase => match self.db {
                Some(db) => {
                    self.space_of(db);
                    self.flush(db);
                }
                None => self.everything("FLUSHDB in an unknown database"),
            },
            Touched::OtherDatabase { here, there, db } => {
                self.touch_selected(table, command, here);
                let space = self.space_of(db);
                for at in there {
                    self.touch(space, table, command, at);
                }
            }
            Touched::Unknown if self.makes_do || lacks("unknown-commands") => {}
            Touched::Unknown => {
                let name: Vec<u8> = command.name().iter().take(40).copied().collect();
                self.everything(&String::from_utf8_lossy(&name).to_uppercase());
            }
        }
    }

    fn touch_selected(&mut self, table: &CommandTable, command: &StreamCommand, keys: KeyIndices<'_>) {
        match self.db {
            Some(db) => {
                let space = self.space_of(db);
                for at in keys {
                    self.touch(space, table, command, at);
                }
            }
            // In whichever it was: dirty in all. Those that were empty are looked for once the stream says.
            None => {
                self.note_left(&command.args, keys.clone());
                self.wrote_somewhere = true;
                for space in self.dbs.values().copied().collect::<Vec<_>>() {
                    for at in keys.clone() {
                        self.touch(space, table, command, at);
                    }
                }
            }
        }
    }

    fn select(&mut self, db: u32) {
        if self.db.is_none() {
            // What was written meanwhile may be in a database that held nothing when we looked, or when INFO was asked of
            // which the stream was not read so far: that one is of no use any more.
            self.discover = Some(self.offset);
        }
        (self.db, self.left, self.wrote_somewhere) = (Some(db), None, false);
    }

    fn note_left(&mut self, args: &[Bytes], mut keys: KeyIndices<'_>) {
        let left = self.left.take();
        self.left = match left_key(args) {
            Some(key) => Some((Bytes::copy_from_slice(key), self.offset)),
            None => left.filter(|(key, _)| keys.all(|at| args.get(at) != Some(key))),
        };
    }

    /// A key that a write since this offset has left in the selected database, while that is not known.
    pub fn left_since(&self) -> Option<u64> {
        self.left.as_ref().map(|(_, since)| *since)
    }

    /// At offset `at`, which the stream was read past, these databases held keys, expired ones among them. Where it is one,
    /// the key that a write has left is there, and so is what the stream has selected: a replica whose master writes to
    /// one database says no SELECT for days.
    pub fn held(&mut self, at: u64, mut dbs: impl Iterator<Item = u32>) {
        let is_left = self.left_since().is_some_and(|since| since <= at);
        if let (true, Some(db), None) = (is_left && self.db.is_none(), dbs.next(), dbs.next()) {
            self.select(db);
        }
    }

    fn touch(&mut self, space: u32, table: &CommandTable, command: &StreamCommand, at: usize) {
        let Some(key) = command.args.get(at) else { return };
        let id = self.ids.of(Owner::Space(space), key);
        if let Some(big) = self.bigs.get_mut(&id) {
            let touching = Touching {
                ids: &self.ids,
                table,
                offset: self.offset,
                in_flight: &mut self.in_flight,
                names: &mut self.names,
            };
            match big.touch(&command.args, at, touching) {
                Touch::Elements => return,
                Touch::Whole => {
                    self.drop_big(id);
                    *self.restarts.entry(id).or_insert(0) += 1;
                }
            }
        }
        if let Some(touched) = self.in_flight.get_mut(&id) {
            *touched = self.offset;
            if let Some(space) = self.spaces.get_mut(&space) {
                space.dirty.insert(id);
            }
            return;
        }
        if !lacks("recopy-dirty") {
            self.mark(space, id, key);
        }
    }

    /// Makes a key dirty.
    pub(super) fn mark(&mut self, space: u32, id: Id, key: &[u8]) {
        let Some(kept) = self.spaces.get_mut(&space) else { return };
        if kept.dirty.insert(id) {
            // Slices of what was read from the socket would keep all of it.
            self.names.push(Name { owner: Owner::Space(space), name: Bytes::copy_from_slice(key) });
        }
    }

    pub(super) fn open(&mut self, db: u32, scan: Scan) -> u32 {
        let space = self.next_space;
        self.next_space += 1;
        self.spaces.insert(space, Space { db, scan, dirty: IdSet::default() });
        self.dbs.insert(db, space);
        self.changes.push(Change::Opened { db, space });
        space
    }

    /// A database holds nothing now.
    fn flush(&mut self, db: u32) {
        self.close(db);
        self.open(db, Scan::Done);
    }

    /// What was known of a database is of no worth.
    fn close(&mut self, db: u32) {
        self.void.insert(db, self.offset);
        let Some(space) = self.dbs.remove(&db) else { return };
        self.spaces.remove(&space);
        let of_space = |(id, big): (&Id, &Big)| (big.space == space).then_some(*id);
        for id in self.bigs.iter().filter_map(of_space).collect::<Vec<_>>() {
            self.drop_big(id);
        }
        self.changes.push(Change::Dropped { space });
    }

    fn swap(&mut self, a: u32, b: u32) {
        if a == b || lacks("swapdb") {
            return;
        }
        if self.discover.is_some() || self.wrote_somewhere {
            // One that has no space yet may hold keys.
            return self.everything("SWAPDB");
        }
        let (in_a, in_b) = (self.space_of(a), self.space_of(b));
        self.dbs.insert(a, in_b);
        self.dbs.insert(b, in_a);
        for (space, db) in [(in_a, b), (in_b, a)] {
            if let Some(space) = self.spaces.get_mut(&space) {
                space.db = db;
            }
            self.void.insert(db, self.offset);
        }
        self.changes.push(Change::Swapped { a, b });
    }

    /// All copies are of no worth, and all names are to be read again.
    fn everything(&mut self, why: &str) {
        self.voids = (self.voids.0 + 1, why.to_owned());
        for db in self.dbs.keys().copied().collect::<Vec<_>>() {
            self.close(db);
        }
        self.discover = Some(self.offset);
        self.touch_functions();
    }

    fn touch_functions(&mut self) {
        self.functions.dirty = self.functions.exist;
        self.functions.touched = self.offset;
    }
}

//! The ledger beside a model of a server: whatever is written while keys are read, and however reading and writing fall
//! between each other, what was kept is what the server holds once the ledger says so.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::capture::copy::Item;
use crate::capture::mend::give_back;
use crate::command::CommandTable;
use crate::rdb::DataType;
use crate::resp::{CommandScanner, Frame, Reply, StreamCommand, write_command};
use crate::server::Server;

/// A server of four databases whose values are numbers, and its stream.
#[derive(Default)]
struct Model {
    dbs: [BTreeMap<Bytes, u32>; 4],
    stream: Vec<(StreamCommand, u64)>,
    offset: u64,
    selected: Option<u32>,
    writes: u32,
}

/// What a client does: in which database, to which keys.
#[derive(Clone, Debug)]
enum Act {
    Set(u8),
    Del(u8),
    Rename(u8, u8),
    Move(u8, u8),
    CopyTo(u8, u8, u8),
    Swap(u8, u8),
    FlushDb,
    FlushAll,
    Script(u8),
    Transaction(u8, u8),
}

impl Model {
    fn send(&mut self, args: &[&str]) {
        let mut bytes = BytesMut::new();
        write_command(&mut bytes, args);
        let len = bytes.len() as u64;
        let Ok(Some(Frame::Command(command))) = CommandScanner::default().next(&mut bytes) else { panic!() };
        self.offset += len;
        self.stream.push((command, self.offset));
    }

    fn set(&mut self, db: usize, key: u8) {
        self.writes += 1;
        self.dbs[db].insert(name(key), self.writes);
        let (key, value) = (format!("k{key}"), self.writes.to_string());
        self.send(&["SET", &key, &value]);
    }

    /// The databases that hold keys.
    fn held(&self) -> Vec<u32> {
        (0..4).filter(|db| !self.dbs[*db as usize].is_empty()).collect()
    }

    fn act(&mut self, db: u8, act: &Act) {
        let db = usize::from(db % 4);
        if self.selected != Some(db as u32) {
            self.selected = Some(db as u32);
            self.send(&["SELECT", &db.to_string()]);
        }
        let key = |n: &u8| format!("k{n}");
        match act {
            Act::Set(k) => self.set(db, *k),
            Act::Del(k) => {
                if self.dbs[db].remove(&name(*k)).is_some() {
                    self.send(&["DEL", &key(k)]);
                }
            }
            Act::Rename(a, b) => {
                if let Some(value) = self.dbs[db].remove(&name(*a)) {
                    self.dbs[db].insert(name(*b), value);
                    self.send(&["RENAME", &key(a), &key(b)]);
                }
            }
            Act::Move(k, to) => {
                let to = usize::from(to % 4);
                if let (Some(value), None) =
                    (self.dbs[db].get(&name(*k)).copied(), self.dbs[to].get(&name(*k)))
                {
                    self.dbs[db].remove(&name(*k));
                    self.dbs[to].insert(name(*k), value);
                    self.send(&["MOVE", &key(k), &to.to_string()]);
                }
            }
            Act::CopyTo(a, b, to) => {
                let to = usize::from(to % 4);
                if let Some(value) = self.dbs[db].get(&name(*a)).copied() {
                    self.dbs[to].insert(name(*b), value);
                    self.send(&["COPY", &key(a), &key(b), "DB", &to.to_string(), "REPLACE"]);
                }
            }
            Act::Swap(a, b) => {
                let (a, b) = (usize::from(a % 4), usize::from(b % 4));
                self.dbs.swap(a, b);
                self.send(&["SWAPDB", &a.to_string(), &b.to_string()]);
            }
            Act::FlushDb => {
                self.dbs[db].clear();
                self.send(&["FLUSHDB"]);
            }
            Act::FlushAll => {
                self.dbs.iter_mut().for_each(BTreeMap::clear);
                self.send(&["FLUSHALL"]);
            }
            Act::Script(k) => {
                self.writes += 1;
                let db = usize::from(k % 4);
                self.dbs[db].insert(name(*k), self.writes);
                self.send(&["EVAL", "…", "0"]);
            }
            Act::Transaction(a, b) => {
                self.send(&["MULTI"]);
                self.set(db, *a);
                self.set(db, *b);
                self.send(&["EXEC"]);
            }
        }
    }
}

fn name(key: u8) -> Bytes {
    format!("k{key}").into()
}

/// What was asked for.
enum Ask {
    Key(u32, Id, Bytes),
    Page(u32),
}

/// One who captures the model: it keeps copies by space, as a sink does.
struct Agent {
    table: CommandTable,
    ledger: Ledger,
    read: usize,
    todo: Vec<(u32, Id, Bytes)>,
    names: Vec<Name>,
    copies: BTreeMap<u32, BTreeMap<Bytes, u32>>,
    /// What was selected when it came.
    selected: Option<u32>,
    /// How often the database was told by a key.
    told: u32,
}

impl Agent {
    fn new(model: &Model, db: Option<u32>) -> Self {
        let server = Server::redis(7, 4);
        let mut table = CommandTable::new(server);
        let names = CommandTable::names();
        table.confirm(&names, &Reply::Array(vec![Reply::Nil; names.len()])).unwrap();
        let ledger = Ledger::new(Ids::new(), model.offset, db, false);
        Self {
            table,
            ledger,
            read: model.stream.len(),
            todo: Vec::new(),
            names: Vec::new(),
            copies: BTreeMap::new(),
            selected: model.selected,
            told: 0,
        }
    }

    /// Reads the stream up to that offset.
    fn absorb(&mut self, model: &Model, until: u64) {
        while let Some((command, offset)) = model.stream.get(self.read).filter(|(_, at)| *at <= until) {
            self.ledger.command(&self.table, command, *offset);
            self.read += 1;
        }
        self.names.extend(self.ledger.take_names());
        self.note();
    }

    fn note(&mut self) {
        for change in self.ledger.take_changes() {
            match change {
                Change::Opened { space, .. } => _ = self.copies.insert(space, BTreeMap::new()),
                Change::Dropped { space } => _ = self.copies.remove(&space),
                _ => {}
            }
        }
    }

    /// One sandwich; between each two of its steps the model may act. When the connection breaks, it has no answer.
    fn sandwich(&mut self, model: &mut Model, breaks: bool, mut between: impl FnMut(&mut Model)) {
        if let Some(since) = self.ledger.wants_databases() {
            let at = model.offset;
            let dbs = model.held();
            between(model);
            self.absorb(model, at.max(since));
            self.ledger.discovered(at, dbs.into_iter());
            self.note();
        }
        if self.ledger.left_since().is_some() {
            let (at, dbs) = (model.offset, model.held());
            between(model);
            self.absorb(model, at);
            let was = self.ledger.stream_db();
            self.ledger.held(at, dbs.into_iter());
            if was.is_none() && self.ledger.stream_db().is_some() {
                // Nothing was selected since, or the ledger would know it.
                assert_eq!(self.ledger.stream_db(), self.selected, "it is not where the key was left");
                self.told += 1;
            }
            self.note();
        }
        for name in std::mem::take(&mut self.names) {
            if let (Some(id), Owner::Space(space)) = (self.ledger.wants(&name), name.owner) {
                self.todo.push((space, id, name.name));
            }
        }
        let scan = self.ledger.unscanned().map(|(space, _)| space).next();
        let space = match (self.todo.first().map(|(space, ..)| *space), scan) {
            (Some(space), _) | (None, Some(space)) => space,
            (None, None) => {
                between(model);
                return self.absorb(model, model.offset);
            }
        };
        let Some(db) = self.ledger.space(space).map(|space| space.db) else {
            self.todo.retain(|(other, ..)| *other != space);
            return;
        };
        let mut asks = Vec::new();
        self.todo.retain(|(of, id, key)| {
            let taken = *of == space && asks.len() < 3;
            if taken {
                asks.push(Ask::Key(*of, *id, key.clone()));
            }
            !taken
        });
        if scan == Some(space) {
            asks.push(Ask::Page(space));
        }
        for ask in &asks {
            if let Ask::Key(_, id, _) = ask {
                self.ledger.asked(*id);
            }
        }
        between(model);
        if breaks {
            self.absorb(model, model.offset);
            let item = |ask| match ask {
                Ask::Key(_, id, key) => Item::Text(id, key),
                Ask::Page(_) => Item::Scan(FIRST),
            };
            give_back(asks.into_iter().map(item).collect(), space, &mut self.ledger);
            self.names.extend(self.ledger.take_names());
            return;
        }
        let since = model.offset;
        let mut answers = Vec::new();
        for ask in asks {
            between(model);
            let keys = &model.dbs[db as usize];
            answers.push(match &ask {
                Ask::Key(_, _, key) => (keys.get(key).copied(), Vec::new(), Bytes::new(), ask),
                Ask::Page(space) => {
                    let Some(Scan::At(cursor)) = self.ledger.space(*space).map(|space| space.scan.clone())
                    else {
                        panic!()
                    };
                    let from = if &cursor[..] == b"0" { Bytes::new() } else { cursor };
                    let page: Vec<Bytes> = keys.keys().filter(|key| **key > from).take(2).cloned().collect();
                    let next = if page.len() < 2 { Bytes::from_static(b"0") } else { page[1].clone() };
                    (None, page, next, ask)
                }
            });
        }
        between(model);
        let until = model.offset;
        between(model);
        self.absorb(model, until);
        for (value, page, cursor, ask) in answers {
            match ask {
                Ask::Key(space, id, key) => {
                    if self.ledger.settle(db, space, id, &key, since) {
                        let copies = self.copies.entry(space).or_default();
                        match value {
                            Some(value) => _ = copies.insert(key, value),
                            None => _ = copies.remove(&key),
                        }
                    }
                }
                Ask::Page(space) => {
                    if self.ledger.scanned(db, space, since, cursor) {
                        let id = |key: &Bytes| self.ledger.id(Owner::Space(space), key);
                        let named = page.into_iter().map(|key| (space, id(&key), key)).collect::<Vec<_>>();
                        self.todo.extend(named);
                    }
                }
            }
        }
        self.names.extend(self.ledger.take_names());
    }

    fn is_exact(&self) -> bool {
        self.todo.is_empty() && self.ledger.is_exact()
    }

    /// What the copies say that each database holds.
    fn dbs(&self) -> [BTreeMap<Bytes, u32>; 4] {
        std::array::from_fn(|db| {
            let space = self.ledger.databases().get(&(db as u32));
            space.and_then(|space| self.copies.get(space)).cloned().unwrap_or_default()
        })
    }
}

fn act() -> impl Strategy<Value = Act> {
    let key = || 0u8..8;
    prop_oneof![
        12 => key().prop_map(Act::Set),
        4 => key().prop_map(Act::Del),
        3 => (key(), key()).prop_filter("two", |(a, b)| a != b).prop_map(|(a, b)| Act::Rename(a, b)),
        3 => (key(), 0u8..4).prop_map(|(k, to)| Act::Move(k, to)),
        3 => (key(), key(), 0u8..4).prop_map(|(a, b, to)| Act::CopyTo(a, b, to)),
        3 => (0u8..4, 0u8..4).prop_map(|(a, b)| Act::Swap(a, b)),
        1 => Just(Act::FlushDb),
        1 => Just(Act::FlushAll),
        1 => key().prop_map(Act::Script),
        2 => (key(), key()).prop_map(|(a, b)| Act::Transaction(a, b)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]
    #[test]
    fn what_was_kept_is_what_the_server_holds(
        before in prop::collection::vec((0u8..4, act()), 0..25),
        meanwhile in prop::collection::vec((prop::bool::weighted(0.4), 0u8..4, act()), 0..60),
        breaks in prop::collection::vec(prop::bool::weighted(0.3), 0..40),
        db_is_known: bool,
    ) {
        let mut model = Model::default();
        before.iter().for_each(|(db, act)| model.act(*db, act));
        let db = model.selected.filter(|_| db_is_known);
        let mut agent = Agent::new(&model, db);
        let mut meanwhile = meanwhile.into_iter();
        let mut rounds = 0;
        loop {
            agent.sandwich(&mut model, breaks.get(rounds) == Some(&true), |model| {
                if let Some((true, db, act)) = meanwhile.next() {
                    model.act(db, &act);
                }
            });
            if agent.is_exact() && meanwhile.len() == 0 {
                agent.absorb(&model, model.offset);
            }
            if agent.is_exact() && agent.ledger.offset() == model.offset {
                prop_assert_eq!(agent.dbs(), model.dbs.clone());
                if meanwhile.len() == 0 {
                    break;
                }
            }
            rounds += 1;
            if rounds > 300 {
                // Nothing tells which database is selected before somebody writes.
                prop_assert!(agent.ledger.stream_db().is_none() && agent.ledger.is_settled());
                break;
            }
        }
    }

    /// Clients of one database: no SELECT comes any more.
    #[test]
    fn the_database_is_told_by_a_key_that_was_left_there(
        db in 0u8..4,
        before in prop::collection::vec(act_here(), 1..9),
        meanwhile in prop::collection::vec(act_here(), 1..9),
    ) {
        let mut model = Model::default();
        before.iter().for_each(|act| model.act(db, act));
        model.act(db, &Act::Set(0));
        let mut agent = Agent::new(&model, None);
        meanwhile.iter().for_each(|act| model.act(db, act));
        model.act(db, &Act::Set(1));
        for _ in 0..20 {
            agent.sandwich(&mut model, false, |_| {});
        }
        prop_assert!(agent.is_exact() && agent.told == 1, "told {} times", agent.told);
        prop_assert_eq!(agent.dbs(), model.dbs);
    }
}

fn act_here() -> impl Strategy<Value = Act> {
    let key = || 0u8..8;
    prop_oneof![
        3 => key().prop_map(Act::Set),
        1 => key().prop_map(Act::Del),
        1 => (key(), key()).prop_filter("two", |(a, b)| a != b).prop_map(|(a, b)| Act::Rename(a, b)),
        1 => (key(), key()).prop_map(|(a, b)| Act::Transaction(a, b)),
    ]
}

/// Parts of a big value are given back, too: elements are dirty, and a page is asked for again from where it was.
#[test]
fn what_was_asked_of_a_big_value_is_given_back() {
    let mut ledger = Ledger::new(Ids::new(), 10, Some(0), false);
    ledger.discovered(10, [0].into_iter());
    let (space, key) = (ledger.space_of(0), Bytes::from_static(b"hash"));
    let id = ledger.id(Owner::Space(space), &key);
    ledger.asked(id);
    let make = |number| Big::new(number, space, key.clone(), DataType::Hash);
    let big = ledger.begin_big(0, space, id, &key, 10, make).unwrap();
    let [one, two] = ["one", "two"].map(Bytes::from);
    let [id_one, id_two] = [&one, &two].map(|name| ledger.id(Owner::Big(big), name));
    [id_one, id_two].iter().for_each(|id| ledger.asked(*id));
    let reading = {
        let big = ledger.big(big).unwrap();
        (big.is_busy, big.expiry_is_asked) = (true, true);
        big.reading.clone()
    };
    let items = vec![
        Item::Page(big),
        Item::Expiry(big),
        Item::Elements(big, DataType::Hash, vec![(id_one, one.clone())]),
        Item::FieldExpiries(big, vec![(id_two, two.clone(), Bytes::new())]),
    ];
    give_back(items, space, &mut ledger);
    let names: Vec<Bytes> = ledger.take_names().into_iter().map(|name| name.name).collect();
    assert_eq!(names, [one.clone(), two]);
    assert_eq!(ledger.wants(&Name { owner: Owner::Big(big), name: one }), Some(id_one));
    let big = ledger.big(big).unwrap();
    assert!(!big.is_busy && big.wants_expiry() && big.dirty() == 2 && big.has_page());
    assert_eq!(big.reading, reading);
}

#[test]
fn an_info_from_before_a_select_is_of_no_use() {
    let mut model = Model::default();
    let mut agent = Agent::new(&model, None);
    model.send(&["SET", "k", "v"]);
    model.send(&["SELECT", "0"]);
    agent.absorb(&model, model.offset);
    // Asked before the SET, whose database held nothing then.
    agent.ledger.discovered(0, std::iter::empty());
    assert_eq!(agent.ledger.wants_databases(), Some(model.offset));
}

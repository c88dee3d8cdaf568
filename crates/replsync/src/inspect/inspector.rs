//! The one pass over the file.

use std::collections::BTreeMap;

use super::Options;
use super::facts::Facts;
use super::key::Key;
use super::prefixes::Prefixes;
use super::summary::{Counts, Database, Group, Summary};
use super::top::Top;
use super::ttl::{RelativeTo, Ttls};
use crate::rdb::{DataType, Entry, Error, Input, Item, Measure, ModuleId, Reader};

/// Reads an RDB key by key and keeps its figures.
///
/// ```text
/// next_key ─► Key … ─► None ─► into_summary
/// ```
///
/// After an error the figures are of what was read before it, and [`Summary::is_complete`] says so.
#[derive(Debug)]
pub struct Inspector<I> {
    reader: Reader<I>,
    options: Options,
    facts: Facts,
    totals: Counts,
    keys_left_out: u64,
    field_expiries: u64,
    databases: BTreeMap<u32, Database>,
    databases_beyond: Counts,
    groups: Vec<Group>,
    by_bytes: Top,
    by_elements: BTreeMap<&'static str, (DataType, Top)>,
    prefixes: Prefixes,
    ttls: Ttls,
    /// The database that the last item was in, once one was selected.
    selected: Option<u32>,
    is_complete: bool,
    /// The database of the key whose value could not be read.
    failed: Option<u32>,
}

/// What is known of the current key but its name.
struct Found {
    entry: Entry,
    measure: Measure,
    bytes: u64,
}

impl<I: Input> Inspector<I> {
    /// Inspects what `reader` reads, from its start.
    pub fn new(reader: Reader<I>, options: Options) -> Self {
        let prefixes = Prefixes::new(&options.delimiter, options.prefix_depth, options.prefixes_max);
        Self {
            reader,
            facts: Facts::default(),
            totals: Counts::default(),
            keys_left_out: 0,
            field_expiries: 0,
            databases: BTreeMap::new(),
            databases_beyond: Counts::default(),
            groups: Vec::new(),
            by_bytes: Top::new(options.top),
            by_elements: BTreeMap::new(),
            prefixes,
            ttls: Ttls::new(options.now_ms),
            selected: None,
            is_complete: false,
            failed: None,
            options,
        }
    }

    /// The next key that the filter chooses; nothing at the end of the file.
    ///
    /// # Errors
    /// Whatever is wrong with the bytes up to the end of its value.
    pub fn next_key(&mut self) -> Result<Option<Key<'_>>, Error> {
        let Some(Found { entry, measure, bytes }) = self.find()? else { return Ok(None) };
        let key = Key {
            db: entry.db,
            name: self.reader.key(),
            data_type: entry.kind.data_type(),
            module: measure.module,
            encoding: measure.encoding,
            elements: measure.elements,
            bytes,
            field_expiries: measure.field_expiries,
            expires_at_ms: entry.expiry_ms,
            is_expired: self.ttls.is_expired(entry.expiry_ms),
            idle_seconds: entry.idle_seconds,
            freq: entry.freq,
            offset: entry.offset,
        };
        let mut counts = Counts::default();
        counts.add(&key);
        let turn = self.totals.keys;
        self.totals.join(&counts);
        self.field_expiries += key.field_expiries;
        self.ttls.buckets[self.ttls.bucket(key.expires_at_ms)].join(&counts);
        self.prefixes.add(key.name, &counts);
        self.by_bytes.add(key.bytes, turn, &key);
        if let Some(elements) = key.elements {
            let top = || (key.data_type, Top::new(self.options.top));
            let (_, top) = self.by_elements.entry(key.data_type.name()).or_insert_with(top);
            top.add(elements, turn, &key);
        }
        match room(&mut self.databases, key.db) {
            Some(database) => {
                database.counts.join(&counts);
                database.types.entry(key.data_type.name()).or_default().join(&counts);
            }
            None => self.databases_beyond.join(&counts),
        }
        group(&mut self.groups, &key, &counts);
        if let Some(module) = key.module {
            self.facts.add_module_key(module);
        }
        Ok(Some(key))
    }

    /// After an error, the database and the name of the key in whose value it was.
    pub fn failed_key(&self) -> Option<(u32, &[u8])> {
        self.failed.map(|db| (db, self.reader.key()))
    }

    /// Bytes read so far.
    pub fn offset(&self) -> u64 {
        self.reader.offset()
    }

    /// The figures of what was read.
    pub fn into_summary(self) -> Summary {
        let mut groups = self.groups;
        let order = |group: &Group| (group.data_type.name(), group.type_name());
        groups.sort_by(|a, b| order(a).cmp(&order(b)).then(b.counts.bytes.cmp(&a.counts.bytes)));
        let by_elements = self.by_elements.into_values();
        Summary {
            bytes: self.reader.offset(),
            facts: self.facts,
            totals: self.totals,
            keys_left_out: self.keys_left_out,
            field_expiries: self.field_expiries,
            databases: self.databases,
            databases_beyond: self.databases_beyond,
            groups,
            biggest_by_bytes: self.by_bytes.into_keys(),
            biggest_by_elements: by_elements.map(|(data_type, top)| (data_type, top.into_keys())).collect(),
            prefixes: self.prefixes.into_summary(self.options.top),
            ttls: self.ttls,
            is_complete: self.is_complete,
        }
    }

    /// Reads up to the end of the next key's value.
    fn find(&mut self) -> Result<Option<Found>, Error> {
        loop {
            let from = self.reader.offset();
            let Some(item) = self.reader.next_item()? else { return Ok(None) };
            let Item::Entry(entry) = item else {
                self.take(item);
                continue;
            };
            let from = from + self.selection_bytes(&entry, from);
            // Of what is left out, too, the end is wanted now: the next key is measured from there.
            let measure = self.reader.measure_value().inspect_err(|_| self.failed = Some(entry.db))?;
            let filter = &self.options.filter;
            let is_wanted = filter.passes(entry.db, entry.kind.data_type(), self.reader.key())
                && measure.module.is_none_or(|module| filter.passes_module(module));
            if is_wanted {
                return Ok(Some(Found { entry, measure, bytes: self.reader.offset() - from }));
            }
            self.keys_left_out += 1;
        }
    }

    /// Bytes between `from` and the key's own opcodes: a database was selected there, unless the item before the key,
    /// which gives the database's size, was behind that already.
    fn selection_bytes(&mut self, entry: &Entry, from: u64) -> u64 {
        if self.selected == Some(entry.db) {
            return 0;
        }
        self.selected = Some(entry.db);
        let number_bytes = match entry.db {
            ..0x40 => 1,
            0x40..0x4000 => 2,
            _ => 5,
        };
        (1 + number_bytes).min(entry.offset - from)
    }

    fn take(&mut self, item: Item) {
        let facts = &mut self.facts;
        match item {
            Item::Header { magic, version } => facts.header = Some((magic, version)),
            Item::Aux { key, value } => {
                facts.add_aux(key, value);
                if let Some(written_at_ms) = facts.written_at_ms() {
                    self.ttls.relative_to = RelativeTo::FileTime;
                    self.ttls.relative_to_ms = written_at_ms;
                }
            }
            Item::Function(code) => facts.add_function(&code),
            Item::ModuleAux(aux) => facts.add_module_aux(&aux),
            Item::ResizeDb { db, .. } => self.selected = Some(db),
            Item::SlotInfo { .. } => facts.slots += 1,
            Item::SlotImport { .. } => facts.slot_imports += 1,
            Item::End { checksum } => {
                facts.checksum = Some(checksum);
                self.is_complete = true;
            }
            // Taken apart where it is met.
            Item::Entry(_) => {}
        }
    }
}

/// The figures of `db`, if there is room for one more database.
fn room(databases: &mut BTreeMap<u32, Database>, db: u32) -> Option<&mut Database> {
    if databases.len() >= Database::MAX && !databases.contains_key(&db) {
        return None;
    }
    Some(databases.entry(db).or_default())
}

/// There are a few types and encodings, and at most so many modules' types: they are looked for one by one.
fn group(groups: &mut Vec<Group>, key: &Key<'_>, counts: &Counts) {
    let is = |group: &&mut Group, module: Option<ModuleId>| {
        (group.data_type, group.encoding, group.module) == (key.data_type, key.encoding, module)
    };
    let elements = key.elements.unwrap_or(0);
    if let Some(group) = groups.iter_mut().find(|group| is(group, key.module)) {
        group.counts.join(counts);
        group.elements_max = group.elements_max.max(elements);
        return;
    }
    let modules = groups.iter().filter(|group| group.module.is_some()).count();
    let module = key.module.filter(|_| modules < Group::MODULES_MAX);
    if module.is_none()
        && let Some(group) = groups.iter_mut().find(|group| is(group, None))
    {
        group.counts.join(counts);
        return;
    }
    groups.push(Group {
        data_type: key.data_type,
        module,
        encoding: key.encoding,
        counts: *counts,
        elements_max: elements,
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::{Filter, Glob, TypeFilter};
    use crate::rdb::Slice;

    fn inspected(file: &[u8], options: Options) -> (Vec<(String, u64)>, Summary) {
        let mut inspector = Inspector::new(Reader::new(Slice::new(file)), options);
        let mut keys = Vec::new();
        while let Some(key) = inspector.next_key().unwrap() {
            keys.push((String::from_utf8(key.name.to_vec()).unwrap(), key.bytes));
        }
        (keys, inspector.into_summary())
    }

    const NO_CRC: &[u8] = b"\xff\0\0\0\0\0\0\0\0";

    #[test]
    fn a_keys_bytes_are_its_own() {
        // two databases, one whose size is told, one whose is not; expiry, idle time, frequency
        let file = [
            &b"REDIS0009\xfa\x05ctime\xc0\x10\xfe\x00\xfb\x03\x01\x00\x01a\x01x"[..],
            b"\xfc\xff\xff\0\0\0\0\0\0\xf8\x05\x00\x01b\x02xx\xf9\x07\x00\x01c\xc0\x05",
            b"\xfe\x40\x50\x00\x01d\x01x",
            NO_CRC,
        ]
        .concat();
        let (keys, summary) = inspected(&file, Options::default());
        let expected =
            [("a", 5), ("b", 17), ("c", 7), ("d", 5)].map(|(name, bytes)| (name.to_owned(), bytes));
        assert_eq!(keys, expected);
        assert_eq!(summary.totals, Counts { keys: 4, expires: 1, elements: 5, bytes: 34 });
        assert_eq!(summary.databases.keys().collect::<Vec<_>>(), [&0, &80]);
        assert_eq!((summary.ttls.relative_to, summary.ttls.relative_to_ms), (RelativeTo::FileTime, 16_000));
        assert_eq!(summary.ttls.buckets[1].keys, 1, "65.5 s after 1970, 49.5 s after the file");
        assert_eq!((summary.bytes, summary.is_complete), (file.len() as u64, true));
    }

    #[test]
    fn what_is_left_out_is_counted_apart() {
        let file = [&b"REDIS0009\xfe\x00\x00\x01a\x01x\x02\x01b\x01\x01y\xfe\x01\x00\x02aa\x01x"[..], NO_CRC]
            .concat();
        let names = |filter: Filter| {
            let (keys, summary) = inspected(&file, Options { filter, ..Options::default() });
            assert_eq!(keys.len() as u64 + summary.keys_left_out, 3);
            keys.into_iter().map(|(name, bytes)| format!("{name} {bytes}")).collect::<Vec<_>>().join(", ")
        };
        assert_eq!(names(Filter::default()), "a 5, b 6, aa 6");
        assert_eq!(names(Filter { glob: Some(Glob::new(b"a*")), ..Filter::default() }), "a 5, aa 6");
        assert_eq!(names(Filter { types: vec![TypeFilter::named("set")], ..Filter::default() }), "b 6");
        assert_eq!(names(Filter { databases: vec![1], ..Filter::default() }), "aa 6");
    }

    #[test]
    fn half_a_file_is_not_taken_for_whole() {
        let file = b"REDIS0009\xfe\x00\x00\x01a\x01x\x00\x01b\x05x";
        let mut inspector = Inspector::new(Reader::new(Slice::new(file)), Options::default());
        assert!(inspector.next_key().unwrap().is_some());
        assert!(inspector.next_key().is_err() && inspector.next_key().is_err());
        let summary = inspector.into_summary();
        assert_eq!((summary.totals.keys, summary.is_complete, summary.facts.checksum), (1, false, None));
    }
}

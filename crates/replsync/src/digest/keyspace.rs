//! The digest of a keyspace: what its keys add up to, by database and, where asked, by slot.

use std::collections::BTreeMap;

use super::replsync_1::{KeyDigest, Sum, function, tag};
use crate::checksum::key_slot;

/// Keys added up: those of a database, of a slot, or all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many keys.
    pub keys: u64,
    /// How many of them expire.
    pub expires: u64,
    /// How many of those should be gone by the time that the keyspace is looked at.
    pub expired: u64,
    /// How many hash fields expire.
    pub field_expires: u64,
    /// Names, types and elements.
    pub data: Sum,
    /// Expiries of keys and fields.
    pub expiries: Sum,
}

impl Tally {
    fn add(&mut self, key: &KeyDigest, now_ms: i64) {
        self.keys = self.keys.wrapping_add(1);
        self.expires = self.expires.wrapping_add(key.expires());
        self.expired = self.expired.wrapping_add(key.expired(now_ms));
        self.field_expires = self.field_expires.wrapping_add(key.field_expires);
        self.data += key.data;
        self.expiries += key.expiries;
    }

    fn remove(&mut self, key: &KeyDigest, now_ms: i64) {
        self.keys = self.keys.wrapping_sub(1);
        self.expires = self.expires.wrapping_sub(key.expires());
        self.expired = self.expired.wrapping_sub(key.expired(now_ms));
        self.field_expires = self.field_expires.wrapping_sub(key.field_expires);
        self.data -= key.data;
        self.expiries -= key.expiries;
    }

    fn merge(&mut self, other: &Self) {
        self.keys = self.keys.wrapping_add(other.keys);
        self.expires = self.expires.wrapping_add(other.expires);
        self.expired = self.expired.wrapping_add(other.expired);
        self.field_expires = self.field_expires.wrapping_add(other.field_expires);
        self.data += other.data;
        self.expiries += other.expiries;
    }

    /// Whether nothing is in it. More may have been taken away than was added: then it is not empty either.
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether any key or field in it expires.
    fn has_expiries(&self) -> bool {
        self.expires != 0 || self.field_expires != 0
    }
}

impl KeyDigest {
    fn expires(&self) -> u64 {
        self.expiry_ms.is_some().into()
    }

    fn expired(&self, now_ms: i64) -> u64 {
        self.expiry_ms.is_some_and(|at_ms| at_ms <= now_ms).into()
    }
}

/// What a keyspace adds up to. Keys can be added in any order and taken away again, and parts of a keyspace
/// [merged](Self::merge).
///
/// ```
/// use replsync::digest::{KeyHasher, Keyspace};
/// use replsync::rdb::{DataType, Element};
///
/// let mut hasher = KeyHasher::new();
/// hasher.start(b"greeting", None);
/// hasher.element(&Element::StringPart(b"hello"));
/// let key = hasher.finish(DataType::String);
///
/// let mut keyspace = Keyspace::new(0);
/// let empty = keyspace.data();
/// keyspace.add(0, b"greeting", &key);
/// assert_ne!(keyspace.data(), empty);
/// keyspace.remove(0, b"greeting", &key);
/// assert_eq!(keyspace.data(), empty);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keyspace {
    /// Keys that expire at this time or before count as expired: in milliseconds since the epoch.
    now_ms: i64,
    databases: BTreeMap<u32, Tally>,
    /// By database and slot, where asked.
    slots: Option<BTreeMap<(u32, u16), Tally>>,
    functions: u64,
    functions_sum: Sum,
}

impl Keyspace {
    /// An empty keyspace, looked at `now_ms` (milliseconds since the epoch): this decides what is counted as
    /// [`expired`](Tally::expired), and nothing else.
    pub fn new(now_ms: i64) -> Self {
        Self { now_ms, ..Self::default() }
    }

    /// The same, which also adds up the keys of each slot of a cluster.
    pub fn with_slots(now_ms: i64) -> Self {
        Self { slots: Some(BTreeMap::new()), ..Self::new(now_ms) }
    }

    /// Adds the key `name` of a database.
    pub fn add(&mut self, db: u32, name: &[u8], key: &KeyDigest) {
        self.add_by_slot(db, || key_slot(name), key);
    }

    /// The same for a key of which only the [slot](key_slot) is known; it is asked for where slots are added up.
    pub fn add_by_slot(&mut self, db: u32, slot: impl FnOnce() -> u16, key: &KeyDigest) {
        let now_ms = self.now_ms;
        self.change(db, slot, |tally| tally.add(key, now_ms));
    }

    /// Takes away what [`add`](Self::add) has added.
    pub fn remove(&mut self, db: u32, name: &[u8], key: &KeyDigest) {
        let now_ms = self.now_ms;
        self.change(db, || key_slot(name), |tally| tally.remove(key, now_ms));
    }

    fn change(&mut self, db: u32, slot: impl FnOnce() -> u16, change: impl Fn(&mut Tally)) {
        change(self.databases.entry(db).or_default());
        if let Some(slots) = &mut self.slots {
            change(slots.entry((db, slot())).or_default());
        }
    }

    /// Adds a library of functions, by its code.
    pub fn add_function(&mut self, code: &[u8]) {
        self.functions = self.functions.wrapping_add(1);
        self.functions_sum += function(code);
    }

    /// Takes away all libraries of functions.
    pub fn clear_functions(&mut self) {
        (self.functions, self.functions_sum) = (0, Sum::default());
    }

    /// Adds all that another one holds: a part of the same keyspace that was looked at by itself.
    pub fn merge(&mut self, other: &Self) {
        for (db, tally) in &other.databases {
            self.databases.entry(*db).or_default().merge(tally);
        }
        if let (Some(slots), Some(others)) = (&mut self.slots, &other.slots) {
            for (place, tally) in others {
                slots.entry(*place).or_default().merge(tally);
            }
        }
        self.functions = self.functions.wrapping_add(other.functions);
        self.functions_sum += other.functions_sum;
    }

    /// The digest of all data: databases, their keys and elements, and functions.
    pub fn data(&self) -> Sum {
        let mut listing = Listing::new(tag::KEYSPACE_DATA);
        listing.add(&[self.functions], self.functions_sum);
        for (db, tally) in self.databases() {
            listing.add(&[u64::from(db), tally.keys], tally.data);
        }
        listing.digest()
    }

    /// The digest of all expiries, of keys and of hash fields.
    pub fn expiries(&self) -> Sum {
        let mut listing = Listing::new(tag::KEYSPACE_EXPIRIES);
        for (db, tally) in self.databases().filter(|(_, tally)| tally.has_expiries()) {
            listing.add(&[u64::from(db), tally.expires, tally.field_expires], tally.expiries);
        }
        listing.digest()
    }

    /// How many databases anything was ever added to.
    pub(super) fn databases_touched(&self) -> usize {
        self.databases.len()
    }

    /// The databases that hold anything, by their number.
    pub fn databases(&self) -> impl Iterator<Item = (u32, &Tally)> {
        self.databases.iter().filter(|(_, tally)| !tally.is_empty()).map(|(db, tally)| (*db, tally))
    }

    /// The slots of a database that hold anything, by their number; none where slots were not asked for.
    pub fn slots(&self, db: u32) -> impl Iterator<Item = (u16, &Tally)> {
        let slots = self.slots.iter().flat_map(move |slots| slots.range((db, 0)..=(db, u16::MAX)));
        slots.filter(|(_, tally)| !tally.is_empty()).map(|((_, slot), tally)| (*slot, tally))
    }

    /// All databases added up: good for counts. Its sums do not tell a key from the same one in another database.
    pub fn total(&self) -> Tally {
        let mut total = Tally::default();
        self.databases.values().for_each(|tally| total.merge(tally));
        total
    }

    /// How many libraries of functions there are.
    pub fn functions(&self) -> u64 {
        self.functions
    }

    /// The time that decides what counts as expired.
    pub fn now_ms(&self) -> i64 {
        self.now_ms
    }
}

/// The words that a digest of a whole keyspace is the hash of: few, one line a database.
struct Listing(xxhash_rust::xxh3::Xxh3);

impl Listing {
    fn new(tag: u64) -> Self {
        let mut hash = xxhash_rust::xxh3::Xxh3::new();
        hash.update(&tag.to_le_bytes());
        Self(hash)
    }

    fn add(&mut self, numbers: &[u64], sum: Sum) {
        numbers.iter().for_each(|number| self.0.update(&number.to_le_bytes()));
        self.0.update(&sum.0.to_le_bytes());
    }

    fn digest(&self) -> Sum {
        Sum(self.0.digest128())
    }
}

#[cfg(test)]
mod tests {
    use super::super::replsync_1::KeyHasher;
    use super::*;
    use crate::rdb::{DataType, Element};
    use proptest::prelude::*;

    const NOW_MS: i64 = 1_000;

    fn key(name: &[u8], value: &[u8], expiry_ms: Option<i64>, field_expiry_ms: Option<u64>) -> KeyDigest {
        let mut hasher = KeyHasher::new();
        hasher.start(name, expiry_ms);
        hasher.element(&Element::HashField { field: b"f", value, expiry_ms: field_expiry_ms });
        hasher.finish(DataType::Hash)
    }

    /// Database, name, value, expiry, expiry of the field.
    type Key = (u32, &'static [u8], &'static [u8], Option<i64>, Option<u64>);

    fn of(keys: &[Key]) -> Keyspace {
        let mut keyspace = Keyspace::with_slots(NOW_MS);
        for &(db, name, value, expiry_ms, field_expiry_ms) in keys {
            keyspace.add(db, name, &key(name, value, expiry_ms, field_expiry_ms));
        }
        keyspace
    }

    #[test]
    fn data_and_expiries_are_apart() {
        let base = of(&[(0, b"a", b"1", Some(2_000), None)]);
        let digests = |keyspace: &Keyspace| (keyspace.data(), keyspace.expiries());
        let changed = |keyspace: Keyspace| {
            let (data, expiries) = digests(&keyspace);
            (data != base.data(), expiries != base.expiries())
        };
        assert_eq!(changed(of(&[(0, b"a", b"2", Some(2_000), None)])), (true, false));
        assert_eq!(changed(of(&[(0, b"a", b"1", Some(2_001), None)])), (false, true));
        assert_eq!(changed(of(&[(0, b"a", b"1", None, None)])), (false, true));
        assert_eq!(changed(of(&[(0, b"a", b"1", Some(2_000), Some(5))])), (false, true));
        assert_eq!(changed(of(&[(1, b"a", b"1", Some(2_000), None)])), (true, true));
        assert_eq!(changed(of(&[(0, b"b", b"1", Some(2_000), None)])), (true, true));
        let more: &[Key] = &[(0, b"a", b"1", Some(2_000), None), (3, b"b", b"1", None, None)];
        assert_eq!(changed(of(more)), (true, false));
        let mut functions = base.clone();
        functions.add_function(b"#!lua name=one");
        assert_eq!(changed(functions.clone()), (true, false));
        functions.clear_functions();
        assert_eq!(functions, base);
    }

    #[test]
    fn what_has_expired_is_counted_and_changes_nothing_else() {
        let keys: &[Key] = &[
            (0, b"gone", b"1", Some(NOW_MS), None),
            (0, b"ancient", b"1", Some(-1), None),
            (0, b"alive", b"1", Some(NOW_MS + 1), Some(1)),
            (0, b"stays", b"1", None, None),
        ];
        let total = of(keys).total();
        assert_eq!((total.keys, total.expires, total.expired, total.field_expires), (4, 3, 2, 1));
        let mut earlier = Keyspace::new(NOW_MS - 1);
        for &(db, name, value, expiry_ms, field) in keys {
            earlier.add(db, name, &key(name, value, expiry_ms, field));
        }
        assert_eq!(earlier.total().expired, 1);
        assert_eq!((earlier.data(), earlier.expiries()), (of(keys).data(), of(keys).expiries()));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn parts_add_up_in_any_order_and_what_is_taken_away_is_gone(
            keys in prop::collection::vec((0u32..3, "[ab]{1,3}", any::<Option<i64>>(), any::<Option<u64>>()), 0..12),
            cut: prop::sample::Index,
        ) {
            let digest = |(_, name, expiry_ms, field): &(u32, String, Option<i64>, Option<u64>)| {
                key(name.as_bytes(), b"v", *expiry_ms, *field)
            };
            let mut whole = Keyspace::with_slots(NOW_MS);
            keys.iter().for_each(|one| whole.add(one.0, one.1.as_bytes(), &digest(one)));
            let cut = cut.index(keys.len() + 1);
            let parts = [&keys[cut..], &keys[..cut]].map(|keys| {
                let mut part = Keyspace::with_slots(NOW_MS);
                keys.iter().rev().for_each(|one| part.add(one.0, one.1.as_bytes(), &digest(one)));
                part
            });
            let mut merged = parts[0].clone();
            merged.merge(&parts[1]);
            prop_assert_eq!(&merged, &whole);
            keys[..cut].iter().for_each(|one| merged.remove(one.0, one.1.as_bytes(), &digest(one)));
            prop_assert_eq!((merged.data(), merged.expiries()), (parts[0].data(), parts[0].expiries()));
            prop_assert!(merged.databases().eq(parts[0].databases()));
            for db in 0..3 {
                prop_assert!(merged.slots(db).eq(parts[0].slots(db)));
                let sum = merged.slots(db).fold(Tally::default(), |mut sum, (_, tally)| {
                    sum.merge(tally);
                    sum
                });
                prop_assert_eq!(sum, merged.databases().find(|of| of.0 == db).map(|of| *of.1).unwrap_or_default());
            }
        }
    }
}

//! Fields that the target may hold though they have expired on the source.
//!
//! Servers hide a field that is past its time until active expiry comes by, and send its `HDEL` only then: in a large
//! database of Valkey 9 that takes long. Until then some commands of several fields skip it, but travel with all fields that
//! the client named ([`command::may_name_expired`]): whoever applies the stream renews it, or takes its expiry away, until the
//! `HDEL` comes. A target whose job ends before would keep it for good.
//!
//! Nobody can tell from the stream which of them were hidden. So fields that were named together are in doubt until the
//! source was asked for them. An answer counts where the key was not written since, up to where the stream was read when the
//! answer was there.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::command::{self, Touched};
use crate::server::Server;

/// What a field, or a key, takes in memory beside its name.
const FIXED_BYTES: usize = 64;
/// Fields in doubt are kept up to this; what comes then is only counted.
const BYTES_MAX: usize = 64 * 1024 * 1024;
/// With so many bytes of them the source should be asked.
const BYTES_MANY: usize = 4 * 1024 * 1024;

/// Fields of keys, by database.
type Fields = BTreeMap<(u32, Bytes), BTreeSet<Bytes>>;

/// Fields of one key, and its database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfKey {
    /// The database.
    pub db: u32,
    /// The key.
    pub key: Bytes,
    /// Some of its fields.
    pub fields: Vec<Bytes>,
}

/// The fields in doubt.
#[derive(Debug)]
pub(super) struct Doubts {
    source: Server,
    fields: Fields,
    /// Those that the source is being asked for, of keys that were not written since.
    asked: Fields,
    bytes: usize,
    /// Beyond these the source should be asked.
    many_bytes: usize,
    /// How many there was no room for.
    not_kept: u64,
    /// The source does not answer.
    stay: bool,
}

impl Doubts {
    /// None yet, of the stream of `source`.
    pub fn new(source: Server) -> Self {
        let (fields, asked) = (Fields::new(), Fields::new());
        Self { source, fields, asked, bytes: 0, many_bytes: BYTES_MANY, not_kept: 0, stay: false }
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        let kept = [&self.fields, &self.asked].into_iter().flat_map(BTreeMap::values);
        kept.map(|fields| fields.len() as u64).sum::<u64>() + self.not_kept
    }

    /// Whether they are so many that the source should be asked soon.
    pub fn are_many(&self) -> bool {
        self.bytes >= self.many_bytes && !self.stay
    }

    /// The source does not answer: they stay, and it need not be asked because they are many.
    pub fn stay(&mut self) {
        self.stay = true;
    }

    /// Takes note of a command that is applied to database `db`.
    pub fn note(&mut self, db: u32, args: &[Bytes]) {
        if !self.asked.is_empty() && !command::only_deletes(args) {
            self.written(db, args);
        }
        if !self.fields.is_empty() && moves_keys(args) {
            self.moved(db, args);
        }
        if let Some(elements) = command::may_name_expired(args, self.source) {
            self.add(db, &args[elements.key()], elements.names());
        }
    }

    /// Everything in doubt: the source is to be asked for it.
    pub fn ask(&mut self) -> Vec<OfKey> {
        // Another asking may have been given up.
        self.take_back(|_| true);
        // If that brings little, it is not tried again for every command.
        self.many_bytes = self.bytes.saturating_mul(2).clamp(BYTES_MANY, BYTES_MAX);
        self.asked = std::mem::take(&mut self.fields);
        let of_key = |((db, key), fields): (&(u32, Bytes), &BTreeSet<Bytes>)| OfKey {
            db: *db,
            key: key.clone(),
            fields: fields.iter().cloned().collect(),
        };
        self.asked.iter().map(of_key).collect()
    }

    /// The stream was read up to where the source was after it had answered that it has none of the fields `gone`, and has
    /// all others that it was asked for. Returns those that are gone for certain. Fields whose key was written meanwhile stay
    /// in doubt.
    pub fn answered(&mut self, mut gone: Vec<OfKey>) -> Vec<OfKey> {
        gone.retain(|one| self.asked.contains_key(&(one.db, one.key.clone())));
        self.asked.clear();
        let of_key = |((_, key), fields): (&(u32, Bytes), &BTreeSet<Bytes>)| {
            cost(key) + fields.iter().map(cost).sum::<usize>()
        };
        self.bytes = self.fields.iter().map(of_key).sum();
        self.many_bytes = self.bytes.saturating_mul(2).clamp(BYTES_MANY, BYTES_MAX);
        gone
    }

    /// What is written is in doubt again: the answer may be of before or after.
    fn written(&mut self, db: u32, args: &[Bytes]) {
        match command::touched(args) {
            Touched::Keys(keys) => self.take_back_keys(db, args, keys),
            Touched::OtherDatabase { here, there, db: other } => {
                self.take_back_keys(db, args, here);
                self.take_back_keys(other, args, there);
            }
            Touched::Functions | Touched::Nothing => {}
            Touched::WholeDatabase => self.take_back(|of| of == db),
            Touched::EveryDatabase | Touched::SwapDatabases(..) | Touched::Unknown => {
                self.take_back(|_| true)
            }
        }
    }

    fn take_back_keys(&mut self, db: u32, args: &[Bytes], keys: impl Iterator<Item = usize>) {
        for key in keys.filter_map(|at| args.get(at)) {
            if let Some(((db, key), fields)) = self.asked.remove_entry(&(db, key.clone())) {
                self.fields.entry((db, key)).or_default().extend(fields);
            }
        }
    }

    fn take_back(&mut self, which: impl Fn(u32) -> bool) {
        for ((db, key), fields) in std::mem::take(&mut self.asked) {
            let to = if which(db) { &mut self.fields } else { &mut self.asked };
            to.entry((db, key)).or_default().extend(fields);
        }
    }

    /// A hash takes its doubts along where it goes.
    fn moved(&mut self, db: u32, args: &[Bytes]) {
        match command::touched(args) {
            Touched::SwapDatabases(a, b) => {
                let other = |of| match of {
                    of if of == a => b,
                    of if of == b => a,
                    of => of,
                };
                let fields = std::mem::take(&mut self.fields).into_iter();
                self.fields = fields.map(|((of, key), fields)| ((other(of), key), fields)).collect();
            }
            Touched::OtherDatabase { db: other, there, .. } => {
                let to = there.last().and_then(|at| args.get(at));
                self.copied((db, &args[1]), to.map(|to| (other, to)));
            }
            Touched::Keys(_) => {
                self.copied((db, &args[1]), args.get(2).map(|to| (db, to)));
            }
            _ => {}
        }
    }

    fn copied(&mut self, (db, from): (u32, &Bytes), to: Option<(u32, &Bytes)>) {
        if let (Some(fields), Some((db, to))) = (self.fields.get(&(db, from.clone())).cloned(), to) {
            self.add(db, to, fields.iter());
        }
    }

    fn add<'a>(&mut self, db: u32, key: &Bytes, names: impl Iterator<Item = &'a Bytes>) {
        // Arguments are parts of what was read, all of which would stay in memory with them.
        let own = |name: &Bytes| Bytes::copy_from_slice(name);
        if self.bytes >= BYTES_MAX && !self.fields.contains_key(&(db, key.clone())) {
            self.not_kept += names.count() as u64;
            return;
        }
        let mut fields = self.fields.remove(&(db, key.clone())).unwrap_or_else(|| {
            self.bytes += cost(key);
            BTreeSet::new()
        });
        for name in names {
            if fields.contains(name) {
                continue;
            }
            if self.bytes >= BYTES_MAX {
                self.not_kept += 1;
                continue;
            }
            self.bytes += cost(name);
            fields.insert(own(name));
        }
        self.fields.insert((db, own(key)), fields);
    }
}

fn cost(name: &Bytes) -> usize {
    name.len() + FIXED_BYTES
}

/// Whether what one key holds is then, or as well, held by another, or in another database.
fn moves_keys(args: &[Bytes]) -> bool {
    const NAMES: [&str; 5] = ["rename", "renamenx", "copy", "move", "swapdb"];
    args.first().is_some_and(|own| NAMES.iter().any(|name| own.eq_ignore_ascii_case(name.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn valkey() -> Doubts {
        Doubts::new(Server::valkey(9, 0))
    }

    fn note(doubts: &mut Doubts, lines: &[&str]) {
        for line in lines {
            let words: Vec<_> = line.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect();
            doubts.note(0, &words);
        }
    }

    fn in_doubt(doubts: &Doubts) -> Vec<String> {
        let one = |((db, key), fields): (&(u32, Bytes), &BTreeSet<Bytes>)| {
            let names: Vec<_> = fields.iter().map(|field| String::from_utf8_lossy(field)).collect();
            format!("{db} {} {}", String::from_utf8_lossy(key), names.join(" "))
        };
        doubts.fields.iter().map(one).collect()
    }

    #[test]
    fn fields_that_were_named_together_are_in_doubt() {
        let lines = [
            "HPEXPIREAT one 9 FIELDS 1 a",
            "HPEXPIREAT h 9 FIELDS 2 a d",
            "hpexpireat h 9 XX FIELDS 2 a b",
            "HPERSIST g FIELDS 2 a c",
            "HPERSIST one FIELDS 1 a",
            "HSETEX h PXAT 9 FIELDS 2 e v f v",
            "HSET h x y",
        ];
        let mut doubts = valkey();
        note(&mut doubts, &lines);
        assert_eq!(in_doubt(&doubts), ["0 g a c", "0 h a b d"]);
        assert_eq!(doubts.count(), 5);
        let mut doubts = Doubts::new(Server::redis(8, 6));
        note(&mut doubts, &lines);
        assert_eq!(in_doubt(&doubts), ["0 g a c"]);
    }

    #[test]
    fn they_go_along_with_their_key() {
        let mut doubts = valkey();
        let moves = ["RENAME h i", "COPY i j", "COPY i k DB 2", "MOVE j 3", "SWAPDB 3 4"];
        note(&mut doubts, &["HPERSIST h FIELDS 2 a b"]);
        note(&mut doubts, &moves);
        for expected in ["0 i a b", "0 j a b", "2 k a b", "4 j a b"] {
            assert!(
                in_doubt(&doubts).iter().any(|one| one == expected),
                "{expected}: {:?}",
                in_doubt(&doubts)
            );
        }
    }

    #[test]
    fn an_answer_counts_where_the_key_was_not_written_since() {
        let of = |key: &'static str| OfKey { db: 0, key: key.into(), fields: vec!["a".into()] };
        let both = ["HPERSIST g FIELDS 2 a b", "HPERSIST h FIELDS 2 a b"];
        for (since, left) in [
            (&["PING"][..], &[][..]),
            (&["HSET other a v"], &[]),
            (&["HDEL h b", "DEL other"], &[]),
            (&["HSET h x y"], &["h"]),
            (&["COPY h other"], &["h", "other"]),
            (&["FLUSHALL"], &["g", "h"]),
            (&["FROBNICATE"], &["g", "h"]),
        ] {
            let mut doubts = valkey();
            note(&mut doubts, &both);
            assert_eq!(doubts.ask().len(), 2);
            note(&mut doubts, since);
            let gone = doubts.answered(vec![of("g"), of("h")]);
            let expected: Vec<_> = [of("g"), of("h")]
                .into_iter()
                .filter(|one| !left.iter().any(|key| one.key == *key))
                .collect();
            assert_eq!(gone, expected, "{since:?}");
            assert_eq!(in_doubt(&doubts), left.iter().map(|key| format!("0 {key} a b")).collect::<Vec<_>>());
        }
    }

    #[test]
    fn an_asking_that_was_given_up_loses_nothing() {
        let mut doubts = valkey();
        note(&mut doubts, &["HPERSIST g FIELDS 2 a b"]);
        assert_eq!(doubts.ask(), doubts.ask());
        assert_eq!(doubts.count(), 2);
    }

    #[test]
    fn what_there_is_no_room_for_is_counted() {
        let mut doubts = Doubts { bytes: BYTES_MAX, ..valkey() };
        note(&mut doubts, &["HPERSIST g FIELDS 2 a b"]);
        assert_eq!(doubts.count(), 2);
        assert!(doubts.are_many());
    }
}

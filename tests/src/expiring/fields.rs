//! Stories of hash fields, on servers whose fields expire.

use super::Story;

/// The years 2999 and 3083: farther than any other, and not too far to be shifted within 46 bits.
const FAR_MS: [u64; 2] = [32_472_144_000_001, 35_122_809_600_001];

impl Story<'_> {
    /// Of four fields some expire at `first_ms`.
    pub(super) fn of_fields(&mut self) {
        let (around, before, long_ms, long_s) = (self.around(), self.before(), self.long_ms(), self.long_s());
        let long_at = format!("@{long_ms}");
        let has_setex = self.version.redis_at_least(8, 0) || (self.version.valkey && self.version.major >= 9);
        match self.rng.u8(..20) {
            0 => self.hash("field gone", &["a"]),
            1 => self.hash("fields gone", &["a", "b", "c", "d"]),
            2 => self.field("hpexpire", around, &["HPEXPIRE", "K", &long_ms, "FIELDS", "1", "a"]),
            3 => self.field("hexpire", around, &["HEXPIRE", "K", &long_s, "FIELDS", "2", "a", "d"]),
            4 => self.field("hpexpireat", around, &["HPEXPIREAT", "K", &long_at, "FIELDS", "1", "a"]),
            5 => {
                let at = format!("@s{long_ms}");
                self.field("hexpireat", around, &["HEXPIREAT", "K", &at, "FIELDS", "1", "a"]);
            }
            6 | 7 => self.field("hpersist", around, &["HPERSIST", "K", "FIELDS", "2", "a", "b"]),
            8 => self.field("hset", around, &["HSET", "K", "a", "anew"]),
            9 if has_setex => {
                let words = ["HSETEX", "K", "PX", &long_ms, "FIELDS", "1", "a", "anew"];
                self.field("hsetex", around, &words);
            }
            10 if has_setex => {
                self.field("hsetex keepttl", before, &["HSETEX", "K", "KEEPTTL", "FIELDS", "1", "a", "kept"]);
                self.then(around, &["HPEXPIRE", "K", &long_ms, "FIELDS", "1", "a"]);
            }
            11 if has_setex => {
                self.field("hgetex", around, &["HGETEX", "K", "PX", &long_ms, "FIELDS", "1", "a"]);
            }
            12 if has_setex => {
                self.field("hgetex persist", around, &["HGETEX", "K", "PERSIST", "FIELDS", "1", "a"]);
            }
            13 => {
                // Deleted and set again, before or after the time.
                self.field("hdel", before, &["HDEL", "K", "a"]);
                self.then(around, &["HSET", "K", "a", "anew"]);
            }
            14 => {
                let how = ["GT", "XX", "LT", "NX"][self.rng.usize(..4)];
                self.field("hcondition", around, &["HPEXPIRE", "K", &long_ms, how, "FIELDS", "2", "a", "d"]);
            }
            15 => {
                let far = FAR_MS[self.rng.usize(..2)].to_string();
                self.field("hfar", around, &["HPEXPIREAT", "K", &far, "FIELDS", "2", "a", "c"]);
            }
            16 => self.field("hpast", around, &["HPEXPIREAT", "K", "1", "FIELDS", "1", "c"]),
            17 => {
                self.field("hrename", around, &["RENAME", "K", "K:new"]);
                self.then(around + 30, &["HPEXPIRE", "K:new", &long_ms, "FIELDS", "1", "a"]);
            }
            18 => {
                self.field("hcopy", around, &["COPY", "K", "K:copy", "REPLACE"]);
                self.then(around + 30, &["HPERSIST", "K:copy", "FIELDS", "1", "a"]);
            }
            _ => self.hash_and_fields(around, &long_ms),
        }
    }

    /// Thousands in one hash, too many for one command: a third stays, a third goes, a third is renewed.
    pub(super) fn of_many_fields(&mut self) {
        self.name("many fields");
        let key = self.key.clone();
        for part in 0..10 {
            let names: Vec<String> = (0..900).map(|field| format!("f{part}:{field}")).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let pairs: Vec<&str> = names.iter().flat_map(|&name| [name, "v"]).collect();
            self.make(&[&[&["HSET", &key], &pairs[..]].concat()]);
            let (first_ms, long_ms) = (self.first_ms.to_string(), self.long_ms());
            let expire = |ms: &str, names: &[&str]| -> Vec<String> {
                let count = names.len().to_string();
                [&["HPEXPIRE", &key, ms, "FIELDS", &count], names]
                    .concat()
                    .iter()
                    .map(|&s| s.into())
                    .collect()
            };
            self.at(0, &expire(&first_ms, &names[300..]));
            self.at(0, &expire(&long_ms, &names[..300]));
            self.at(self.first_ms - 200, &expire(&long_ms, &names[600..]));
        }
    }

    /// The hash as a whole expires too, sooner or later than its fields.
    fn hash_and_fields(&mut self, around: u64, long_ms: &str) {
        let (before, brief_ms) = (self.before(), self.rng.u64(1..500).to_string());
        self.field("hash too", before, &["PEXPIRE", "K", &brief_ms]);
        match self.rng.u8(..4) {
            0 => self.then(around, &["PEXPIRE", "K", long_ms]),
            1 => self.then(around, &["HPEXPIRE", "K", long_ms, "FIELDS", "1", "a"]),
            2 if self.same => self.then(around, &["HINCRBY", "K", "a", "1"]),
            _ => {
                self.then(before + 10, &["PERSIST", "K"]);
                self.then(before + 20, &["HPERSIST", "K", "FIELDS", "1", "a"]);
            }
        }
    }

    fn field(&mut self, story: &str, at_ms: u64, words: &[&str]) {
        let fields: &[&str] = [&["a"][..], &["a", "b"]][self.rng.usize(..2)];
        self.hash(story, fields);
        self.then(at_ms, words);
    }

    /// A hash of which those fields expire at `first_ms`.
    fn hash(&mut self, story: &str, fields: &[&str]) {
        self.name(story);
        let key = self.key.clone();
        let at_ms = self.make(&[&["HSET", &key, "a", "1", "b", "2", "c", "3", "d", "4"]]);
        let (left_ms, count) = ((self.first_ms - at_ms).to_string(), fields.len().to_string());
        let words = [&["HPEXPIRE", &key, &left_ms, "FIELDS", &count], fields].concat();
        self.at(at_ms, &words);
    }
}

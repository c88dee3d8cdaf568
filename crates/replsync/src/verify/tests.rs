use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::checksum::crc64;

/// An RDB in the making.
struct Rdb(Vec<u8>);

impl Rdb {
    fn new() -> Self {
        Self(b"REDIS0011\xfa\x09redis-ver\x057.2.4".to_vec())
    }

    fn len(bytes: &mut Vec<u8>, len: usize) {
        match len {
            0..64 => bytes.push(len as u8),
            _ => {
                bytes.push(0x80);
                bytes.extend_from_slice(&(len as u32).to_be_bytes());
            }
        }
    }

    fn text(&mut self, text: &[u8]) -> &mut Self {
        Self::len(&mut self.0, text.len());
        self.0.extend_from_slice(text);
        self
    }

    fn db(&mut self, db: u8, keys: usize, expires: usize) -> &mut Self {
        self.0.extend_from_slice(&[0xfe, db, 0xfb]);
        Self::len(&mut self.0, keys);
        Self::len(&mut self.0, expires);
        self
    }

    fn slot(&mut self, slot: usize, keys: usize) -> &mut Self {
        self.0.push(0xf4);
        [slot, keys, 0].into_iter().for_each(|number| Self::len(&mut self.0, number));
        self
    }

    fn string(&mut self, key: &str, value: &[u8]) -> &mut Self {
        self.0.push(0);
        self.text(key.as_bytes()).text(value)
    }

    fn expiring(&mut self, key: &str, at_ms: i64) -> &mut Self {
        self.0.push(0xfc);
        self.0.extend_from_slice(&at_ms.to_le_bytes());
        self.string(key, b"v")
    }

    fn set(&mut self, key: &str, members: impl ExactSizeIterator<Item = String>) -> &mut Self {
        self.0.push(2);
        self.text(key.as_bytes());
        Self::len(&mut self.0, members.len());
        members.for_each(|member| {
            self.text(member.as_bytes());
        });
        self
    }

    fn finish(&mut self) -> Vec<u8> {
        self.0.push(0xff);
        let crc = crc64(&self.0);
        self.0.extend_from_slice(&crc.to_le_bytes());
        std::mem::take(&mut self.0)
    }
}

fn options(jobs: usize) -> Options {
    Options { jobs, ..Options::at(1_000_000) }
}

fn verified(bytes: &[u8], options: &Options) -> Report {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dump.rdb");
    std::fs::write(&path, bytes).unwrap();
    verify(&path, options, &Progress::default())
}

/// Everything but where the file was and how long it took.
fn shown(report: Report) -> String {
    assert!(report.failed.is_none(), "{report:?}");
    format!("{:?}", Report { path: PathBuf::new(), took: std::time::Duration::ZERO, ..report })
}

fn kinds(report: &Report) -> Vec<(&'static str, Option<u64>)> {
    report.findings.iter().map(|finding| (finding.kind.name(), finding.offset)).collect()
}

#[test]
fn a_sound_file_is_sound() {
    let bytes =
        Rdb::new().db(0, 2, 1).string("a", b"1").expiring("b", 5).db(3, 1, 0).string("a", b"1").finish();
    let report = verified(&bytes, &options(1));
    assert!(report.is_sound(), "{report:?}");
    assert_eq!((report.keys, report.expires, report.expired), (3, 1, 1));
    assert_eq!((report.checksum, report.bytes), (Checksum::Verified, bytes.len() as u64));
    assert_eq!(report.server.as_deref(), Some("redis 7.2.4"));
}

#[test]
fn what_is_wrong_with_a_file_is_named() {
    let sizes = Rdb::new().db(0, 2, 0).string("a", b"1").finish();
    assert_eq!(kinds(&verified(&sizes, &options(1))), [("database_size", Some(31))]);
    let mut slots = Rdb::new();
    slots.db(0, 3, 0).slot(1, 1).string("a", b"").slot(5, 1).string("b", b"").string("c", b"");
    assert_eq!(kinds(&verified(&slots.finish(), &options(1))), [("slot_size", Some(43))]);
    let twice = Rdb::new().db(0, 3, 0).string("a", b"1").string("b", b"1").string("a", b"2").finish();
    let report = verified(&twice, &options(1));
    assert_eq!(kinds(&report), [("duplicate_key", Some(41))]);
    assert_eq!(report.findings[0].key.as_deref(), Some(&b"a"[..]));
    assert!(report.findings[0].message.contains("at offset 31"));
    let good = Rdb::new().db(0, 1, 0).string("a", b"1").finish();
    let end = good.len() as u64;
    let report = verified(&[&good[..], b"xyz"].concat(), &options(1));
    assert_eq!(kinds(&report), [("after_end", Some(end))]);
    let report = verified(&[&good[..], b"*2\r\n"].concat(), &options(1));
    assert!(report.is_aof && !report.is_sound());
    assert!(verified(b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n", &options(1)).is_aof);
    assert_eq!(kinds(&verified(b"", &options(1))), [("truncated", Some(0))]);
    assert_eq!(kinds(&verified(b"GARBAGE IT IS", &options(1))), [("header", Some(0))]);
    let mut flipped = good.clone();
    flipped[35] ^= 1;
    assert_eq!(kinds(&verified(&flipped, &options(1))), [("checksum", Some(end - 8))]);
    assert_eq!(kinds(&verified(&good[..good.len() - 10], &options(1)))[0].0, "truncated");
    let unsummed = [&good[..good.len() - 8], &[0; 8]].concat();
    let report = verified(&unsummed, &options(1));
    assert!(report.is_sound() && report.checksum == Checksum::None);
    let twice = Rdb::new().db(0, 1, 0).set("s", ["a".to_owned(), "a".to_owned()].into_iter()).finish();
    assert_eq!(kinds(&verified(&twice, &options(1)))[0].0, "duplicate");
}

/// Many databases, small keys of all sizes, values of megabytes that look like items inside; and what is wrong.
fn large(seed: u64) -> Vec<u8> {
    let mut rdb = Rdb::new();
    let nested = Rdb::new().db(9, 1, 0).string("inside", b"value").0[9..].repeat(100_000);
    for db in 0..4u8 {
        let keys = 12_000 + usize::from(db) * 1000;
        rdb.db(db, keys + 3 + usize::from(db == 2), 100);
        for key in 0..keys {
            let len = (key as u64 * (seed | 1) % 150) as usize;
            match key % (keys / 100) {
                1 => rdb.expiring(&format!("key:{key}"), 10_000_000),
                _ => rdb.string(&format!("key:{key}"), &vec![b'a' + db; len]),
            };
        }
        rdb.set("big", (0..40_000).map(|member| format!("member:{member}")));
        rdb.string("nested", &nested);
        // A second time, and a set with a member twice.
        rdb.string("key:77", b"again");
        if db == 2 {
            rdb.set("bad", ["x", "y", "x"].map(str::to_owned).into_iter());
        }
    }
    rdb.finish()
}

#[test]
fn what_is_found_does_not_depend_on_the_number_of_threads() {
    let bytes = large(7);
    let one = verified(&bytes, &options(1));
    let mut expected: Vec<&str> = kinds(&one).iter().map(|(kind, _)| *kind).collect();
    expected.sort_unstable();
    let duplicates = ["duplicate", "duplicate_key", "duplicate_key", "duplicate_key", "duplicate_key"];
    assert_eq!(expected, duplicates, "{one:?}");
    assert_eq!(one.checksum, Checksum::Verified);
    let one = shown(one);
    for jobs in [2, 3, 8] {
        assert_eq!(shown(verified(&bytes, &options(jobs))), one, "{jobs} jobs");
    }
}

#[test]
fn broken_files_give_the_same_with_any_number_of_threads() {
    let bytes = large(11);
    for (at, byte) in [(3_000_000, 0x3f), (1_500_000, 0xfb), (6_000_001, 0x80), (bytes.len() - 3, 1)] {
        let mut broken = bytes.clone();
        broken[at] ^= byte;
        let one = shown(verified(&broken, &options(1)));
        assert_eq!(shown(verified(&broken, &options(3))), one, "byte {at}");
        let cut = &bytes[..at];
        assert_eq!(shown(verified(cut, &options(3))), shown(verified(cut, &options(1))), "cut at {at}");
    }
}

#[test]
fn more_passes_find_the_same() {
    let bytes = large(5);
    let one = verified(&bytes, &options(2));
    let small = Options { duplicates_bytes: 128 * 1024, ..options(2) };
    let many = verified(&bytes, &small);
    assert!(many.passes > one.passes + 2, "{} passes", many.passes);
    assert_eq!(shown(Report { passes: one.passes, ..many }), shown(one));
}

#[test]
fn findings_beyond_the_cap_are_counted() {
    let mut rdb = Rdb::new();
    rdb.db(0, 60, 0);
    for key in 0..60 {
        rdb.string(&format!("{}", key % 20), b"");
    }
    let bytes = rdb.finish();
    let report = verified(&bytes, &Options { findings_max: 10, ..options(1) });
    assert_eq!((report.findings.len(), report.findings_not_kept), (10, 30));
    assert_eq!(verified(&bytes, &options(1)).findings.len(), 40);
}

/// Writable replicas keep keys whose expiry is before 1970, and save them.
#[test]
fn an_expiry_before_1970_is_sound() {
    let report = verified(&Rdb::new().db(0, 1, 1).expiring("a", -5).finish(), &options(1));
    assert!(report.is_sound(), "{report:?}");
    assert_eq!(report.expired, 1);
}

#[test]
fn long_keys_are_given_in_part() {
    let key = format!("{}é", "k".repeat(8191));
    let other = format!("{}e", "k".repeat(8192));
    let mut rdb = Rdb::new();
    rdb.db(0, 3, 0).string(&key, b"1").string(&other, b"1").string(&key, b"2");
    let report = verified(&rdb.finish(), &options(1));
    assert_eq!(report.findings.len(), 1, "{:?}", kinds(&report));
    let finding = &report.findings[0];
    assert_eq!(finding.key.as_deref(), Some("k".repeat(8191).as_bytes()));
    assert!(finding.message.contains("of the key's 8193 bytes the first 8191 are given"), "{finding:?}");
}

/// Else the range of hashes that fit shrinks until the one that fills it is alone.
#[test]
fn one_key_many_times_takes_two_passes() {
    let mut rdb = Rdb::new();
    rdb.db(0, 40_100, 0);
    for _ in 0..40_000 {
        rdb.string("a", b"");
    }
    for i in 0..100 {
        rdb.string(&format!("k{i}"), b"");
    }
    let report = verified(&rdb.finish(), &Options { duplicates_bytes: 1, ..options(1) });
    assert_eq!((report.findings.len(), report.findings_not_kept), (1000, 38_999));
    assert!(report.passes <= 4, "{}", report.passes);
}

#[test]
fn several_files_come_back_in_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = (0..20).map(|file| folder.path().join(format!("{file}.rdb"))).collect();
    for (keys, path) in paths.iter().enumerate() {
        let mut rdb = Rdb::new();
        rdb.db(0, keys, 0);
        for key in 0..keys {
            rdb.string(&format!("{key}"), b"");
        }
        std::fs::write(path, rdb.finish()).unwrap();
    }
    std::fs::remove_file(&paths[7]).unwrap();
    let progress = Progress::default();
    let reports = verify_all(&paths, &options(3), &progress);
    for (at, report) in reports.iter().enumerate() {
        assert_eq!((&report.path, report.is_sound()), (&paths[at], at != 7));
        assert!(at == 7 || report.keys == at as u64);
    }
    let (done, total) = progress.bytes();
    assert_eq!(done, total);
}

#[test]
fn the_digest_is_that_of_the_whole_file() {
    let bytes = large(3);
    let digest = |jobs| {
        let report = verified(&bytes, &Options { digest: true, ..options(jobs) });
        report.keyspace.map(|keyspace| (keyspace.data(), keyspace.expiries(), keyspace.total()))
    };
    let mut keyspace = crate::digest::Keyspace::new(1_000_000);
    crate::digest::read(crate::rdb::Reader::new(crate::rdb::Slice::new(&bytes)), &mut keyspace).unwrap();
    let expected = Some((keyspace.data(), keyspace.expiries(), keyspace.total()));
    assert_eq!((digest(1), digest(3)), (expected, expected));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn repeated_hashes_are_found_in_any_number_of_ranges(
        hashes in prop::collection::vec(prop_oneof![any::<u64>(), 0..200u64, (u64::MAX - 50)..=u64::MAX], 0..30_000),
        jobs in 1..4usize,
    ) {
        let mut seen = std::collections::BTreeMap::new();
        hashes.iter().for_each(|hash| *seen.entry(*hash).or_insert(0) += 1);
        let expected: Vec<u64> = seen.iter().filter(|(_, times)| **times > 1).map(|(hash, _)| *hash).collect();
        let surplus: u64 = seen.values().map(|times| times - 1).sum();
        let mut some = duplicates::Hashes::new(0);
        let (mut found, mut found_surplus) = (Vec::new(), 0);
        loop {
            some.extend(&hashes);
            let (repeated, more) = some.repeated(jobs, usize::MAX);
            found.extend(repeated);
            found_surplus += more;
            if !some.next_range(hashes.len() as u64) {
                break;
            }
        }
        prop_assert_eq!((found, found_surplus), (expected, surplus));
    }
}

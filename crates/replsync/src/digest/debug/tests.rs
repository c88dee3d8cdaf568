use proptest::prelude::*;

use super::*;
use crate::rdb::{Reader, Slice};

const LIKE: Server = Server::redis(7, 4);

fn key(name: &[u8], data_type: DataType, expiry_ms: Option<i64>, elements: &[Element<'_>]) -> Hash {
    let mut hasher = KeyHasher::new(Rules::of(LIKE));
    hasher.start(name, data_type, expiry_ms);
    elements.iter().for_each(|element| hasher.element(element).expect("a core type"));
    hasher.finish()
}

fn keyspace(keys: &[(u32, Hash)]) -> Digest {
    let mut digest = Digest::default();
    assert!(keys.iter().all(|&(db, key)| digest.add(db, key)));
    digest
}

fn string(name: &[u8], value: &[u8]) -> Hash {
    key(name, DataType::String, None, &[Element::StringPart(value)])
}

#[test]
fn an_empty_keyspace_is_zeros() {
    // as every server answers
    assert_eq!(Digest::default().finish(), [0; 20]);
}

#[test]
fn order_of_keys_and_databases_makes_no_difference_and_the_database_does() {
    let (a, b) = (string(b"a", b"1"), string(b"b", b"2"));
    let one = keyspace(&[(0, a), (3, b)]);
    assert_eq!(one.finish(), keyspace(&[(3, b), (0, a)]).finish());
    assert_ne!(one.finish(), keyspace(&[(0, a), (4, b)]).finish());
    let mut parts = keyspace(&[(3, b)]);
    assert!(parts.merge(&keyspace(&[(0, a)])));
    assert_eq!(parts, one);
}

#[test]
fn that_a_key_expires_counts_and_when_does_not() {
    let expiring = |at| key(b"k", DataType::String, at, &[Element::StringPart(b"v")]);
    assert_ne!(expiring(None), expiring(Some(1)));
    assert_eq!(expiring(Some(1)), expiring(Some(i64::MAX)));
    assert_eq!(expiring(Some(-1)), expiring(None));
}

#[test]
fn a_field_that_expires_counts_from_redis_7_4_on() {
    let hash = |like, expiry_ms| {
        let mut hasher = KeyHasher::new(Rules::of(like));
        hasher.start(b"k", DataType::Hash, None);
        hasher.element(&Element::HashField { field: b"f", value: b"v", expiry_ms }).expect("a core type");
        hasher.finish()
    };
    for (like, counts) in [
        (Server::redis(7, 4), true),
        (Server::redis(8, 6), true),
        (Server::redis(7, 2), false),
        (Server::valkey(9, 0), false),
    ] {
        assert_eq!(hash(like, Some(1)) != hash(like, None), counts, "{like}");
    }
}

#[test]
fn fields_that_had_expired_count_in_redis_and_not_in_valkey() {
    let hash = |like, fields: &[(&[u8], Option<u64>)]| {
        let mut hasher = KeyHasher::new(Rules::of(like)).at(1000);
        hasher.start(b"k", DataType::Hash, None);
        for &(field, expiry_ms) in fields {
            hasher.element(&Element::HashField { field, value: b"v", expiry_ms }).expect("a core type");
        }
        (hasher.finish(), hasher.expired_fields())
    };
    let (all, left) = ([(&b"a"[..], Some(999)), (b"b", Some(1000))], [(&b"b"[..], None)]);
    let valkey = Server::valkey(9, 0);
    assert_eq!(hash(valkey, &all), (hash(valkey, &left).0, 1));
    assert_eq!(hash(Server::redis(8, 6), &all).1, 0);
    assert_ne!(hash(Server::redis(8, 6), &all).0, hash(Server::redis(8, 6), &all[1..]).0);
}

/// `json`, a value of the module type whose name is packed into the id, as a file.
fn with_module(id: u64) -> Vec<u8> {
    let mut file = b"REDIS0004\xfe\x02\x07\x04json\x81".to_vec();
    file.extend_from_slice(&id.to_be_bytes());
    file.extend_from_slice(b"\x00\xff");
    file
}

#[test]
fn values_of_unknown_modules_are_refused_by_name() {
    let id = |name: &[u8; 9]| {
        let index = |byte: u8| match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            _ => 62,
        };
        name.iter().fold(0, |id, &byte| id << 6 | u64::from(index(byte))) << 10 | 3
    };
    let refused = of_rdb(Reader::new(Slice::new(&with_module(id(b"vectorset")))), None);
    let text = refused.expect_err("vector sets are hashed by their module").to_string();
    assert!(text.contains("\"json\"") && text.contains("database 2") && text.contains("vectorset"), "{text}");
    // what Redis Stack 7.4 answered to DEBUG DIGEST after JSON.SET json $ 1 in database 2
    let known = of_rdb(Reader::new(Slice::new(&with_module(id(b"ReJSON-RL")))), None).expect("known");
    assert_eq!((known.databases[&2].keys, known.like), (1, Server::redis(2, 6)));
    assert_eq!(known.databases[&2].digest, known.digest);
    let answer = "6b0dc588460343a1b2f03dbdfdff945942037a46";
    assert_eq!(known.digest.map(|byte| format!("{byte:02x}")).concat(), answer);
}

#[test]
fn more_databases_than_make_sense_are_refused() {
    let mut digest = Digest::default();
    for db in 0..MAX_DATABASES as u32 {
        assert!(digest.add(db, [1; 20]));
    }
    assert!(!digest.add(u32::MAX, [1; 20]));
    assert!(digest.add(0, [1; 20]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn a_string_in_parts_is_that_string(len in 0usize..3 * STRING_PART_BYTES, byte: u8) {
        let text = vec![byte; len];
        let (first, rest) = text.split_at(len.min(STRING_PART_BYTES));
        let mut parts = vec![Element::StringPart(first)];
        parts.extend(rest.chunks(STRING_PART_BYTES).map(Element::StringPart));
        let mut whole = Hash::default();
        mix(&mut whole, b"k");
        mix(&mut whole, &[0; 4]);
        mix(&mut whole, &text);
        prop_assert_eq!(key(b"k", DataType::String, None, &parts), sha1(&whole));
    }
}

//! What is encoded is decoded; what servers make of it is in `tests/tests/rdb_writing.rs`.

use super::*;
use crate::rdb::{Element, Error, Limits, decode, decode_string};
use proptest::prelude::*;

fn encoded(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    string(&mut out, text);
    out
}

/// The bytes are those of DUMP on Redis 7.4.
#[test]
fn numbers_are_written_as_servers_do() {
    let cases: [(&str, &[u8]); 10] = [
        ("0", b"\xc0\x00"),
        ("-1", b"\xc0\xff"),
        ("127", b"\xc0\x7f"),
        ("128", b"\xc1\x80\x00"),
        ("-128", b"\xc0\x80"),
        ("-32768", b"\xc1\x00\x80"),
        ("32768", b"\xc2\x00\x80\x00\x00"),
        ("2147483647", b"\xc2\xff\xff\xff\x7f"),
        ("-2147483648", b"\xc2\x00\x00\x00\x80"),
        ("2147483648", b"\x0a2147483648"),
    ];
    for (text, expected) in cases {
        assert_eq!(encoded(text.as_bytes()), expected, "{text}");
    }
    for text in ["", "-", "-0", "00", "01", "-01", "+1", "1 ", " 1", "1.0", "12345678901", "-2147483649"] {
        let plain = [&[text.len() as u8], text.as_bytes()].concat();
        assert_eq!(encoded(text.as_bytes()), plain, "{text:?}");
    }
}

#[test]
fn lengths_are_as_short_as_they_can_be() {
    let cases: [(u64, &[u8]); 7] = [
        (63, b"\x3f"),
        (64, b"\x40\x40"),
        (16383, b"\x7f\xff"),
        (16384, b"\x80\x00\x00\x40\x00"),
        (u32::MAX.into(), b"\x80\xff\xff\xff\xff"),
        (1 << 32, b"\x81\x00\x00\x00\x01\x00\x00\x00\x00"),
        (u64::MAX, b"\x81\xff\xff\xff\xff\xff\xff\xff\xff"),
    ];
    for (len, expected) in cases {
        let mut out = Vec::new();
        length(&mut out, len);
        assert_eq!(out, expected, "{len}");
    }
}

fn elements(kind: Kind, raw: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    decode::<Error>(kind, raw, &Limits::default(), &mut |element| {
        found.push(format!("{element:?}"));
        Ok(())
    })
    .unwrap();
    found
}

/// Text that is often a number, or nearly one.
fn text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        any::<Vec<u8>>(),
        any::<i32>().prop_map(|number| number.to_string().into_bytes()),
        any::<i64>().prop_map(|number| number.to_string().into_bytes()),
        "[-+]?[0-9]{0,12}".prop_map(String::into_bytes),
    ]
}

proptest! {
    #[test]
    fn strings_come_back(text in text()) {
        let raw = encoded(&text);
        let found = decode_string(&raw).unwrap();
        prop_assert_eq!(found.as_ref(), &text[..]);
    }

    #[test]
    fn plain_collections_come_back(pairs in prop::collection::vec((text(), text(), any::<f64>()), 1..8)) {
        let mut raw = [(); 4].map(|()| Vec::new());
        raw.iter_mut().for_each(|raw| length(raw, pairs.len() as u64));
        let [list, set, hash, zset] = &mut raw;
        let mut expected = [(); 4].map(|()| Vec::new());
        for (a, b, score) in &pairs {
            let score = if score.is_nan() { 0.5 } else { *score };
            member(list, a);
            member(set, a);
            hash_field(hash, a, b);
            scored(zset, a, score);
            expected[0].push(format!("{:?}", Element::ListItem(a)));
            expected[1].push(format!("{:?}", Element::SetMember(a)));
            expected[2].push(format!("{:?}", Element::HashField { field: a, value: b, expiry_ms: None }));
            expected[3].push(format!("{:?}", Element::ZsetMember { member: a, score }));
        }
        let kinds = [DataType::List, DataType::Set, DataType::Hash, DataType::Zset].map(|t| plain_kind(t).unwrap());
        for (index, kind) in kinds.into_iter().enumerate() {
            prop_assert_eq!(elements(kind, &raw[index]), &expected[index][..]);
        }
    }
}

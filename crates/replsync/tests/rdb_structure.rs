//! Structure checks: each thing that can be wrong in a value is a finding of its kind, and the reading goes on.
//!
//! Values are made by hand, from good ones. What servers say of each of them to RESTORE, under
//! `sanitize-dump-payload yes`, stands beside it: `tests/tests/structure.rs` asks them.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests are tests too

#[path = "structure/mod.rs"]
mod structure;

use replsync::rdb::{Buffered, Checked, Checker, Element, Error, Finding, Item, Kind, Reader, Slice};
use structure::{Case, cases, file, good, table};

/// What is found in a value, read from memory and from a stream, and what comes after it.
fn findings(type_byte: u8, raw: &[u8]) -> Result<(Vec<Finding>, Checked), Error> {
    let file = file(&[(type_byte, raw)]);
    let mut slice = Reader::new(Slice::new(&file));
    let mut stream = Reader::new(Buffered::new(&file[..]));
    let mut checker = Checker::default();
    let mut found = (Vec::new(), Vec::new());
    let mut checked = None;
    while let Some(item) = slice.next_item()? {
        assert_eq!(stream.next_item()?.as_ref(), Some(&item));
        if let Item::Entry(_) = item {
            let one = slice.check_value(&mut checker, &mut |finding| found.0.push(finding));
            let other = stream.check_value(&mut checker, &mut |finding| found.1.push(finding));
            assert_eq!(format!("{one:?}"), format!("{other:?}"));
            assert_eq!(found.0, found.1);
            checked = checked.or(Some(one?));
        }
    }
    assert_eq!(slice.offset(), file.len() as u64, "the sound value after it was read");
    Ok((found.0, checked.unwrap()))
}

#[test]
fn each_kind_of_damage_is_found() {
    for Case { what, type_byte, raw, kinds, .. } in cases() {
        let (found, checked) = findings(type_byte, &raw).unwrap_or_else(|error| panic!("{what}: {error}"));
        let seen: Vec<&str> = found.iter().map(|finding| finding.kind.as_str()).collect();
        assert_eq!(seen, kinds, "{what}: {found:?}");
        assert_eq!(checked.findings, kinds.len() as u64, "{what}");
        assert_eq!(checked.again, None, "{what}");
        for finding in found {
            let within = 12..12 + raw.len() as u64;
            assert!(within.contains(&finding.offset), "{what}: {finding:?}");
        }
    }
}

#[test]
fn what_they_are_made_from_is_sound() {
    for (type_byte, raw) in good() {
        let (found, checked) = findings(type_byte, &raw).unwrap();
        assert!(found.is_empty() && checked.elements > 0, "type {type_byte}: {found:?}");
    }
}

/// What loses the boundaries is an error, at this depth too.
#[test]
fn every_cut_is_an_error() {
    for (type_byte, raw) in good() {
        for cut in 0..raw.len() {
            let file = [b"REDIS0012", &[type_byte, 1, b'k'][..], &raw[..cut]].concat();
            let mut reader = Reader::new(Slice::new(&file));
            reader.next_item().unwrap();
            reader.next_item().unwrap();
            let result = reader.check_value(&mut Checker::default(), &mut |_| {});
            assert!(
                matches!(result, Err(Error::Truncated { .. })),
                "type {type_byte} cut at {cut}: {result:?}"
            );
            assert!(matches!(reader.next_item(), Err(Error::Stopped { .. })));
        }
    }
}

/// A flipped bit is found, or what was flipped is content: then the value decodes to something.
#[test]
fn what_has_no_finding_decodes() {
    let mut found_any = 0;
    for (type_byte, raw) in good() {
        for at in 0..raw.len() * 8 {
            let mut raw = raw.clone();
            raw[at / 8] ^= 1 << (at % 8);
            let Ok((found, _)) = findings(type_byte, &raw) else { continue };
            found_any += usize::from(!found.is_empty());
            if found.is_empty() {
                let kind = Kind::of(type_byte, replsync::rdb::Magic::Redis).unwrap();
                let file = file(&[(type_byte, &raw)]);
                let mut reader = Reader::new(Slice::new(&file));
                reader.next_item().unwrap();
                reader.next_item().unwrap();
                let decoded = reader.decode_value(&mut |_, _: Element<'_>| Ok::<_, Error>(()));
                assert!(decoded.is_ok(), "{kind:?} bit {at}: {decoded:?}");
            }
        }
    }
    assert!(found_any > 1000, "{found_any}");
}

/// More names than the checker holds: the value is read again, by another reader, until all are seen.
#[test]
fn equal_names_are_found_in_a_value_of_any_size() {
    let names: Vec<String> =
        (0..700_000).map(|i| format!("name {}", if i == 699_999 { 17 } else { i })).collect();
    let texts: Vec<&[u8]> = names.iter().map(String::as_bytes).collect();
    let file = file(&[(2, &table(&texts))]);
    let mut reader = Reader::new(Buffered::new(&file[..]));
    reader.next_item().unwrap();
    reader.next_item().unwrap();
    let place = reader.entry_place().unwrap();
    let mut checker = Checker::new(0); // the least, which is 4 MiB
    let mut found = Vec::new();
    let mut checked = reader.check_value(&mut checker, &mut |finding| found.push(finding)).unwrap();
    let mut readings = 1;
    while let Some(again) = checked.again.take() {
        let at = usize::try_from(place.offset).unwrap();
        let input = Buffered::at(&file[at..], place.offset);
        let mut reader = Reader::resume(input, replsync::rdb::Limits::default(), place);
        assert!(matches!(reader.next_item().unwrap(), Some(Item::Entry(_))));
        checked = reader.check_again(&mut checker, &again, &mut |finding| found.push(finding)).unwrap();
        assert_eq!(checked.elements, 700_000);
        readings += 1;
    }
    assert!(readings >= 3, "{readings}");
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].kind.as_str(), &*found[0].message), ("duplicate", "\"name 17\" is there twice"));
    let name = &file[usize::try_from(found[0].offset).unwrap()..];
    assert!(name.starts_with(b"\x07name 17"));
    assert!(found[0].offset > file.len() as u64 - 100, "the second one is shown");
}

/// What is passed over is not held, and may be longer than what is: a string, and an item of a list that has a node of its
/// own, plain and compressed.
#[test]
fn values_longer_than_the_limits_are_checked() {
    let limits = replsync::rdb::Limits { max_string_bytes: 1000, ..Default::default() };
    let plain = [&b"\x80\x00\x03\x00\x00"[..], &[b'x'; 0x30000]].concat();
    // literals of 32 bytes
    let literals = [&b"\x1f"[..], &[b'y'; 32]].concat().repeat(0x1000);
    let mut lzf = b"\xc3\x80".to_vec();
    lzf.extend((literals.len() as u32).to_be_bytes());
    lzf.extend(b"\x80\x00\x02\x00\x00");
    lzf.extend(&literals);
    for (string, what) in [(plain, "plain"), (lzf.clone(), "compressed")] {
        let node = [&b"\x01\x01"[..], &string].concat();
        for (type_byte, raw) in [(0, string), (18, node)] {
            let file = file(&[(type_byte, &raw)]);
            let mut reader = Reader::with_limits(Buffered::new(&file[..]), limits);
            while let Some(item) = reader.next_item().unwrap() {
                if let Item::Entry(_) = item {
                    let check = reader.check_value(&mut Checker::default(), &mut |found| panic!("{found:?}"));
                    assert!(check.is_ok(), "{what} {type_byte}: {check:?}");
                }
            }
        }
    }
    // the claimed length, and a control byte far inside
    for (at, byte) in [(10, 1), (11 + 33 * 0x800, 0xff)] {
        let mut wrong = lzf.clone();
        wrong[at] = byte;
        let (found, _) = findings(0, &wrong).unwrap();
        assert_eq!(found.iter().map(|found| found.kind.as_str()).collect::<Vec<_>>(), ["lzf"]);
    }
}

//! The log beside a `HashMap`; what disks do; what is left.

use std::collections::HashMap;
use std::io::Read;

use super::*;
use crate::spool::log::Sizes;

#[derive(Clone, Debug)]
enum Op {
    Put { id: u128, len: usize, flagged: bool },
    Remove { id: u128 },
}

/// Few ids, so that most are put again: spread over all ranges, or next to each other as no hashes would be.
fn ops() -> impl Strategy<Value = Vec<Op>> {
    let id = prop_oneof![
        3 => (0u128..60).prop_map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c834)),
        1 => 0u128..10,
    ];
    let len = prop_oneof![8 => 0usize..40, 1 => 40usize..3_000];
    let op = prop_oneof![
        5 => (id.clone(), len, any::<bool>()).prop_map(|(id, len, flagged)| Op::Put { id, len, flagged }),
        1 => id.prop_map(|id| Op::Remove { id }),
    ];
    prop::collection::vec(op, 0..400)
}

fn sizes() -> impl Strategy<Value = Sizes> {
    (1usize..600, 1usize..20, 0usize..1_000).prop_map(|(block_bytes, block_entries, whole_bytes_max)| Sizes {
        block_bytes,
        block_entries,
        whole_bytes_max,
    })
}

fn content(number: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + number * 7) as u8).collect()
}

/// Reads a body: by pieces, through `Read`, or none or half of a large one.
fn whole(body: Body<'_>, how: usize) -> Result<Option<Vec<u8>>, Error> {
    let mut pieces = match body {
        Body::Whole(bytes) => return Ok(Some(bytes.to_vec())),
        Body::Large(pieces) => pieces,
    };
    let mut all = Vec::new();
    match how % 4 {
        0 => {
            while let Some(piece) = pieces.next()? {
                assert!(!piece.is_empty());
                all.extend_from_slice(piece);
            }
        }
        1 => {
            let len = pieces.read_to_end(&mut all).map_err(|error| error.downcast::<Error>().unwrap())?;
            assert_eq!(len as u64, pieces.len());
        }
        2 => return Ok(None),
        _ => {
            pieces.next()?;
            return Ok(None);
        }
    }
    Ok(Some(all))
}

fn written(config: &Config, sizes: Sizes, ops: &[Op]) -> Log {
    let mut log = Log::of_sizes(config, sizes);
    for (number, op) in ops.iter().enumerate() {
        match op {
            Op::Put { id, len, flagged } => {
                let body = content(number, *len);
                let (first, second) = body.split_at(len / 3);
                log.put(*id, &[first, &[], second], *flagged).unwrap();
            }
            Op::Remove { id } => log.remove(*id).unwrap(),
        }
    }
    log
}

proptest! {
    #[test]
    fn the_last_of_each_id_counts(ops in ops(), sizes in sizes(), sort_bytes in 0usize..4_000) {
        let folder = Folder::new("log");
        let config = folder.config(0);
        let mut last = HashMap::new();
        for (number, op) in ops.iter().enumerate() {
            match op {
                Op::Put { id, len, flagged } => last.insert(*id, (number, *len, *flagged)),
                Op::Remove { id } => last.remove(id),
            };
        }
        let mut expected: Vec<_> = last.into_values().collect();
        expected.sort_unstable();

        let log = written(&config, sizes, &ops);
        let taken = config.budget.gauge().bytes();
        let mut latest = log.latest_within(sort_bytes).unwrap();
        let flagged = expected.iter().filter(|(_, _, flagged)| *flagged).count() as u64;
        let bytes = expected.iter().map(|(_, len, _)| *len as u64).sum::<u64>();
        prop_assert_eq!((latest.len(), latest.flagged(), latest.bytes()), (expected.len() as u64, flagged, bytes));
        prop_assert!(config.budget.gauge().bytes() <= taken);
        for round in 0..4 {
            for (at, (number, len, _)) in expected.iter().enumerate() {
                let body = latest.next().unwrap().unwrap();
                prop_assert!(*len > sizes.whole_bytes_max || matches!(body, Body::Whole(_)));
                if let Some(body) = whole(body, round + at).unwrap() {
                    prop_assert_eq!(body, content(*number, *len));
                }
            }
            prop_assert!(latest.next().unwrap().is_none());
            latest.rewind();
        }
        prop_assert_eq!(folder.files(), 0);
        drop(latest);
        prop_assert_eq!((config.budget.gauge().bytes(), files_open(&folder.0)), (0, 0));
    }

    #[test]
    fn a_changed_byte_in_any_file_is_found(
        ops in ops(),
        sizes in sizes(),
        which in 0usize..2,
        at: prop::sample::Index,
        change in 1u8..,
    ) {
        let folder = Folder::new("log-changed");
        let log = written(&folder.config(0), sizes, &ops);
        let (records, index) = log.parts();
        let file = [records.sealed().file(), index.sealed().file()][which];
        let Some(file) = file else { return Ok(()) };
        let at = at.index(file.metadata().unwrap().len() as usize) as u64;
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ change], at).unwrap();
        let role = [Role::Records, Role::Index][which];
        match all(log) {
            Ok(_) if role == Role::Records => {} // nobody needs that block
            Ok(_) => prop_assert!(false, "nobody has seen it"),
            Err(Error::Corrupt { role: found, .. }) => prop_assert_eq!(found, role),
            Err(error) => prop_assert!(false, "{}", error),
        }
    }
}

/// Reads the whole log; what is read counts.
fn all(log: Log) -> Result<Vec<Vec<u8>>, Error> {
    let mut latest = log.latest_within(1_000)?;
    let mut bodies = Vec::new();
    while let Some(body) = latest.next()? {
        bodies.extend(whole(body, 0)?);
    }
    Ok(bodies)
}

const SMALL: Sizes = Sizes { block_bytes: 100, block_entries: 3, whole_bytes_max: 300 };

#[test]
fn what_the_disk_makes_of_a_log_is_named() {
    let folder = Folder::new("log-named");
    let ops: Vec<_> = (0..50).map(|id| Op::Put { id, len: 16, flagged: false }).collect();
    let zeros = |file: &File| file.write_all_at(&[0; 108], 216).unwrap();
    let elsewhere = |file: &File| {
        let mut block = [0; 108];
        file.read_exact_at(&mut block, 0).unwrap();
        file.write_all_at(&block, 216).unwrap();
    };
    let changed = |file: &File| file.write_all_at(b"#", 300).unwrap();
    let shorter = |file: &File| file.set_len(300).unwrap();
    let spoils: [&dyn Fn(&File); 4] = [&zeros, &elsewhere, &changed, &shorter];
    for (spoil, words) in spoils.into_iter().zip(["checksum", "checksum", "checksum", "cannot read"]) {
        let log = written(&folder.config(0), SMALL, &ops);
        spoil(log.parts().0.sealed().file().unwrap());
        let said = all(log).unwrap_err().to_string();
        for words in [words, "the records of the spool in ", &folder.0.display().to_string(), "at byte 216"] {
            assert!(said.contains(words), "{said}");
        }
    }
}

#[test]
fn a_full_log_is_an_error_and_stays_one() {
    let folder = Folder::new("log-full");
    let config = Config { budget: Budget::new(1_000_000), ..folder.config(0) };
    let mut other = Log::of_sizes(&config, SMALL);
    for id in 0..1_000 {
        other.put(id, &[&[1; 300]], false).unwrap();
    }
    let mut log = Log::of_sizes(&config, SMALL);
    let error = (0..).find_map(|id| log.put(id, &[&[1; 300]], false).err()).unwrap();
    assert!(matches!(error, Error::Full { max_bytes: 1_000_000, .. }), "{error}");
    let said = error.to_string();
    for word in [&folder.0.display().to_string(), "of 1000000 bytes", "--spool-max-bytes", "--spool"] {
        assert!(said.contains(word), "{said}");
    }
    let gauge = config.budget.gauge();
    assert!((999_000..=1_000_000).contains(&gauge.bytes()), "{gauge:?}");
    assert!(matches!(log.put(1, &[b"x"], false), Err(Error::Failed { .. })));
    assert!(matches!(log.latest(), Err(Error::Failed { .. })));
    // What the one gives back is there for the other.
    for id in 1_000..1_800 {
        other.put(id, &[&[1; 300]], false).unwrap();
    }
    assert_eq!(all(other).unwrap().len(), 1_800);
    assert_eq!((gauge.bytes(), files_open(&folder.0)), (0, 0));
}

#[test]
fn little_needs_no_file() {
    // Nor a folder.
    let config = Config { folder: "/no/such/folder".into(), ..Config::default() };
    let mut log = Log::new(&config);
    for id in 0..1_000 {
        log.put(id % 500, &[&id.to_le_bytes()], id % 2 == 1).unwrap();
    }
    log.remove(7).unwrap();
    let latest = log.latest().unwrap();
    assert_eq!((latest.len(), latest.flagged(), latest.bytes()), (499, 249, 499 * 16));
    let mut log = Log::new(&config);
    let said = log.put(1, &[&vec![0; 1 << 20]], false).unwrap_err().to_string();
    assert!(said.contains("/no/such/folder"), "{said}");
}

#[test]
fn space_is_looked_at_before() {
    let folder = Folder::new("space");
    let config = Config { budget: Budget::new(u64::MAX), ..folder.config(0) };
    let free = check_space(&config, 1).unwrap();
    assert!(free > 0);
    assert!(matches!(check_space(&config, u64::MAX / 2), Err(Error::NoRoom { .. })));
    let config = Config { budget: Budget::new(1_000), ..config };
    let said = check_space(&config, 1_001).unwrap_err().to_string();
    assert!(said.contains("--spool-max-bytes"), "{said}");
    let config = Config { folder: "/no/such/folder".into(), ..config };
    assert!(matches!(check_space(&config, 1), Err(Error::Create { .. })));
}

/// A write that does not return, as the thread that writes a log would make it.
#[tokio::test]
async fn who_looks_at_a_log_sees_that_the_disk_stands_still() {
    let folder = Folder::new("log-still");
    let config = Config { stall_timeout: Duration::from_millis(100), ..folder.config(0) };
    let gauge = config.budget.gauge();
    let mut log = Log::of_sizes(&config, SMALL);
    for id in 0..10 {
        log.put(id, &[&[1; 100]], false).unwrap();
    }
    assert!(timeout(Duration::from_millis(300), gauge.stalled()).await.is_err(), "all has returned");
    let watched = log.parts().0.sealed().watched().unwrap();
    watched.write.beat();
    let error = timeout(Duration::from_secs(20), gauge.stalled()).await.unwrap();
    let said = error.to_string();
    for words in ["a write has not returned for 0.", &folder.0.display().to_string(), "--spool"] {
        assert!(said.contains(words), "{said}");
    }
    watched.write.rest();
    watched.read.beat();
    assert!(timeout(Duration::from_secs(20), gauge.stalled()).await.unwrap().to_string().contains("a read"));
    drop((log, watched));
    assert!(timeout(Duration::from_millis(300), gauge.stalled()).await.is_err(), "it is gone");
}

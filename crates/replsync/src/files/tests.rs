use std::fs::{self, OpenOptions};
use std::io::{Read, Write};

use super::*;
use crate::rdb;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn an_rdb(keys: usize) -> Vec<u8> {
    let mut bytes = b"REDIS0004\xfe\x00".to_vec();
    for key in 0..keys {
        bytes.extend_from_slice(format!("\x00\x08{key:08}\x08{key:08}").as_bytes());
    }
    bytes.push(0xff);
    bytes
}

#[test]
fn words_become_files() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir_all(at("a/b")).unwrap();
    for (name, bytes) in [
        ("a/b/dump", &b"REDIS0011..."[..]),
        ("a/new", b"VALKEY080..."),
        ("a/empty.rdb", b""),
        ("a/.replsync-x.rdb.part", b"REDIS0011..."),
        ("a/appendonly.aof", b"*2\r\n"),
        ("a/REDISh", b"REDIS is a"),
        ("z.rdb", b""),
    ] {
        fs::write(at(name), bytes).unwrap();
    }
    std::os::unix::fs::symlink(at("a"), at("a/b/circle")).unwrap();
    std::os::unix::fs::symlink(at("z.rdb"), at("a/link.rdb")).unwrap();
    let found = expand(&[at("a")]).unwrap();
    assert_eq!(found.files, ["a/b/dump", "a/empty.rdb", "a/link.rdb", "a/new"].map(at));
    assert_eq!((found.left_out, found.failed.len()), (4, 0));
    let found = expand(&[at("*.rdb"), at("z.rdb"), at("a/appendonly.aof"), at("gone"), "-".into()]).unwrap();
    let files = [at("z.rdb"), at("a/appendonly.aof"), at("gone"), "-".into()];
    assert_eq!(found.files, files, "what is named is read, whatever it is, once");
    assert_eq!(expand(&[at("**/*.rdb")]).unwrap().files, ["a/empty.rdb", "a/link.rdb", "z.rdb"].map(at));
    for nothing in ["*.rdc", "a/b/circle/b/none*"] {
        assert!(matches!(expand(&[at(nothing)]), Err(Error::Nothing { .. })));
    }
    fs::create_dir(at("none")).unwrap();
    assert!(matches!(expand(&[at("none")]), Err(Error::Nothing { .. })));
    assert!(matches!(expand(&[at("***")]), Err(Error::Pattern { .. })));
}

#[test]
fn a_file_that_is_cut_is_said_so() {
    let folder = folder();
    let path = folder.path().join("dump.rdb");
    let bytes = an_rdb(100_000);
    fs::write(&path, &bytes).unwrap();
    let file = RdbFile::open(&path).unwrap();
    let mut reader = file.reader(Limits::default());
    reader.next_item().unwrap();
    OpenOptions::new().write(true).open(&path).unwrap().set_len(1_000_000).unwrap();
    let error = loop {
        match reader.next_item() {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the end"),
            Err(error) => break error,
        }
    };
    let cut = Error::taken_out_of(error).unwrap();
    assert!(matches!(cut, Error::Cut { offset: 1_000_000, len: 1_000_000, .. }), "{cut}");
    assert!(cut.to_string().contains("was cut to 1000000 bytes while being read (it had"), "{cut}");
    assert!(matches!(file.check_unchanged(), Err(Error::Cut { .. })));
}

#[test]
fn what_ends_too_early_from_the_start_is_no_matter_of_the_file() {
    let folder = folder();
    let path = folder.path().join("dump.rdb");
    fs::write(&path, &an_rdb(10)[..50]).unwrap();
    let file = RdbFile::open(&path).unwrap();
    let mut reader = file.reader(Limits::default());
    let error = std::iter::repeat_with(|| reader.next_item()).find_map(Result::err).unwrap();
    assert!(matches!(Error::taken_out_of(error), Err(rdb::Error::Truncated { .. })));
    file.check_unchanged().unwrap();
}

#[test]
fn changes_are_noticed() {
    let folder = folder();
    let path = folder.path().join("dump.rdb");
    let open = || {
        fs::write(&path, an_rdb(10)).unwrap();
        let file = RdbFile::open(&path).unwrap();
        file.check_unchanged().unwrap();
        file
    };
    let file = open();
    OpenOptions::new().append(true).open(&path).unwrap().write_all(b"x").unwrap();
    assert!(file.check_unchanged().unwrap_err().to_string().contains("grew from"));
    let file = open();
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(5);
    OpenOptions::new().write(true).open(&path).unwrap().set_modified(later).unwrap();
    assert!(file.check_unchanged().unwrap_err().to_string().contains("was written to"));
    let file = open();
    fs::write(folder.path().join("new"), an_rdb(10)).unwrap();
    fs::rename(folder.path().join("new"), &path).unwrap();
    assert!(file.check_unchanged().unwrap_err().to_string().contains("was replaced"));
    let file = open();
    fs::remove_file(&path).unwrap();
    assert!(file.check_unchanged().unwrap_err().to_string().contains("was removed"));
}

#[test]
fn streams_start_anywhere_and_count() {
    let folder = folder();
    let path = folder.path().join("dump.rdb");
    let bytes = an_rdb(10);
    fs::write(&path, &bytes).unwrap();
    let file = RdbFile::open(&path).unwrap();
    let (mut all, mut rest) = (Vec::new(), Vec::new());
    file.stream(0).read_to_end(&mut all).unwrap();
    file.stream(7).read_to_end(&mut rest).unwrap();
    assert_eq!((&all[..], &rest[..]), (&bytes[..], &bytes[7..]));
    assert_eq!(file.read_bytes(), (all.len() + rest.len()) as u64);
    assert!(matches!(RdbFile::open(folder.path()), Err(Error::Open { .. })));
    assert!(matches!(RdbFile::open(&folder.path().join("gone")), Err(Error::Open { .. })));
}

//! For each rule of a capture what happens when it is forgotten, made to happen: the writer acts between two commands of
//! the agent's, behind a proxy that passes one at a time. `scripts/prove-mutants.sh` switches the rules off one by one,
//! and sees each test of its rule fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use anyhow::Result;
use replsync_tests::bootable::{backup, checked_report, continues, differences};
use replsync_tests::client::{Batch, Conn, text};
use replsync_tests::contents::report;
use replsync_tests::expiring::epoch_ms;
use replsync_tests::gate::Gate;
use replsync_tests::server::{Options, TestServer};
use replsync_tests::writer::fill_big;

/// What the writer waits for and writes. Only database 0 has it, so that its being read says in which it was.
const HOT: &str = "hot";

/// A master that holds some small strings in two databases.
fn master(name: &str, args: &[&str]) -> Result<TestServer> {
    let master = TestServer::start(name, args);
    for db in [0, 3] {
        let mut batch = Batch::default();
        (0..300)
            .for_each(|number| batch.add(&["SET", &format!("key:{number}"), &format!("{number} in {db}")]));
        master.client(db).send_all(batch)?;
    }
    master.client(0).words("SET hot as-it-was")?;
    Ok(master)
}

/// The RDB of a backup, made through a gate.
fn captured(master: &TestServer, hook: impl FnMut(&[Vec<u8>]) + Send + 'static) -> Result<Vec<u8>> {
    let (gate, folder) = (Gate::start(master, hook)?, tempfile::tempdir()?);
    let report = checked_report(&backup(&gate.url(), folder.path(), &[])?)?;
    Ok(std::fs::read(report["rdb"].as_str().unwrap_or_default())?)
}

/// A stock server continues from the file, and then holds what the master holds.
fn assert_exact(master: &TestServer, rdb: &[u8]) -> Result<()> {
    let replica = continues(master, rdb)?;
    assert_equal(master, &replica)
}

fn assert_equal(master: &TestServer, replica: &TestServer) -> Result<()> {
    let (_, differences) = differences(master, replica)?;
    assert!(differences.is_empty(), "not exact: {}", report(&differences));
    Ok(())
}

/// How many keys' values a command reads, as copies are read. Their sizes and expiries are no values.
fn values_read(command: &[Vec<u8>]) -> usize {
    match command[0].to_ascii_uppercase().as_slice() {
        b"MGET" => command.len() - 1,
        b"GET" | b"GETRANGE" | b"DUMP" => 1,
        _ => 0,
    }
}

fn reads(command: &[Vec<u8>], key: &str) -> bool {
    values_read(command) > 0 && command.iter().any(|word| word == key.as_bytes())
}

fn is(command: &[Vec<u8>], name: &str) -> bool {
    command[0].eq_ignore_ascii_case(name.as_bytes())
}

/// Something that is done once.
#[derive(Clone, Default)]
struct Once(Arc<AtomicUsize>);

impl Once {
    fn is_due(&self) -> bool {
        self.0.fetch_add(1, SeqCst) == 0
    }

    fn assert_done(&self) {
        assert!(self.0.load(SeqCst) > 0, "what the test is about did not happen");
    }
}

/// The key that is read first: others come after it, so that its copy is kept while the capture goes on.
#[derive(Default)]
struct Earliest {
    key: Option<String>,
    infos: u32,
}

impl Earliest {
    /// Its name, once its copy was kept: every INFO around it has been answered, and those of the next request.
    fn kept(&mut self, command: &[Vec<u8>]) -> Option<String> {
        if self.key.is_none() && values_read(command) > 0 {
            self.key = Some(String::from_utf8_lossy(&command[1]).into_owned());
        }
        self.infos += u32::from(self.key.is_some() && is(command, "INFO"));
        if self.infos != 5 || !is(command, "INFO") {
            return None;
        }
        std::thread::sleep(Duration::from_millis(100));
        self.key.clone()
    }
}

/// Runs a command of the writer's.
fn tell(conn: &mut Conn, words: &str) {
    conn.words(words).expect("the master takes the writer's command");
}

/// Rule: what is touched after its copy is copied again.
#[test]
fn a_key_that_is_written_after_its_copy_is_copied_again() -> Result<()> {
    let master = master("redis-7.4", &[])?;
    let (mut writers, done, mut earliest) =
        ([0, 3].map(|db| master.client(db)), Once::default(), Earliest::default());
    let once = done.clone();
    let rdb = captured(&master, move |command| {
        if let Some(key) = earliest.kept(command)
            && once.is_due()
        {
            writers.iter_mut().for_each(|writer| tell(writer, &format!("SET {key} after-its-copy")));
        }
    })?;
    done.assert_done();
    assert_exact(&master, &rdb)
}

/// Rule: a copy counts from the offset of the INFO before it.
#[test]
fn a_key_that_is_written_between_its_copy_and_the_info_behind_is_copied_again() -> Result<()> {
    let master = master("redis-7.4", &[])?;
    let (mut writer, done) = (master.client(0), Once::default());
    let once = done.clone();
    let rdb = captured(&master, move |command| {
        if reads(command, HOT) && once.is_due() {
            tell(&mut writer, "SET hot behind-its-copy");
        }
    })?;
    done.assert_done();
    assert_exact(&master, &rdb)
}

/// Rule: a command whose keys cannot be told makes everything dirty.
#[test]
fn a_script_that_writes_what_it_does_not_name_makes_everything_dirty() -> Result<()> {
    let master = master("redis-6.2", &["--lua-replicate-commands", "no"])?;
    let (mut writers, done, mut earliest) =
        ([0, 3].map(|db| master.client(db)), Once::default(), Earliest::default());
    let once = done.clone();
    let rdb = captured(&master, move |command| {
        if let Some(key) = earliest.kept(command)
            && once.is_due()
        {
            let script = "redis.call('SET', ARGV[1] .. ARGV[2], 'scripted')";
            for writer in &mut writers {
                writer.call(&["EVAL", script, "0", &key[..2], &key[2..]]).expect("the master runs scripts");
            }
        }
    })?;
    done.assert_done();
    assert_exact(&master, &rdb)
}

/// Rule: the file says which database the stream has selected at the cut.
#[test]
fn writes_behind_the_cut_land_in_the_database_of_the_stream() -> Result<()> {
    let master = master("redis-7.4", &[])?;
    let (mut writer, done) = (master.client(3), Once::default());
    let once = done.clone();
    let rdb = captured(&master, move |command| {
        if values_read(command) > 0 && once.is_due() {
            tell(&mut writer, "SET in-three before-the-cut");
        }
    })?;
    done.assert_done();
    // The stream has selected database 3 already, and does not say so again.
    master.client(3).words("SET key:7 behind-the-cut")?;
    assert_exact(&master, &rdb)
}

/// Rule: under `import-mode` keys past their expiry are there, for those who say that they import.
#[test]
fn keys_past_their_expiry_are_copied_under_import_mode() -> Result<()> {
    for name in ["valkey-8.1", "valkey-9"] {
        let master = master(name, &[])?;
        master.client(0).words("CONFIG SET import-mode yes")?;
        let mut importing = master.client(0);
        importing.words("CLIENT IMPORT-SOURCE ON")?;
        importing.words("SET past value PX 50")?;
        importing.words("RPUSH past:list a b")?;
        importing.words("PEXPIRE past:list 50")?;
        std::thread::sleep(Duration::from_millis(200));
        let rdb = captured(&master, |_| ())?;
        let replica = continues(&master, &rdb)?;
        for key in ["past", "past:list"] {
            assert_eq!(text(&importing.words(&format!("PERSIST {key}"))?), "1", "{name} still holds {key}");
        }
        assert_equal(&master, &replica)?;
    }
    Ok(())
}

/// Rule: SWAPDB exchanges what was copied of two databases.
#[test]
fn exchanged_databases_are_exchanged_in_the_copy() -> Result<()> {
    let master = master("redis-7.4", &[])?;
    let (mut writer, done, mut read) = (master.client(0), Once::default(), 0);
    let once = done.clone();
    let rdb = captured(&master, move |command| {
        read += values_read(command);
        if read > 400 && once.is_due() {
            tell(&mut writer, "SWAPDB 0 3");
        }
    })?;
    done.assert_done();
    assert_exact(&master, &rdb)
}

/// Rule: ZREMRANGEBYRANK does not name what it removes, so a big sorted set's copy begins anew.
#[test]
fn a_big_sorted_set_is_read_anew_after_a_removal_by_rank() -> Result<()> {
    let master = master("redis-7.4", &[])?;
    fill_big(&master.url(), 1)?;
    let (mut writer, done, mut parts) = (master.client(0), Once::default(), 0);
    let once = done.clone();
    let rdb = captured(&master, move |command| {
        let of_it = command.get(1).is_some_and(|key| key == b"big:zset");
        parts +=
            usize::from(of_it && ["ZSCAN", "ZRANGE", "ZRANGEBYSCORE"].iter().any(|name| is(command, name)));
        if parts == 3 && once.is_due() {
            tell(&mut writer, "ZREMRANGEBYRANK big:zset 0 11999");
        }
    })?;
    done.assert_done();
    assert_exact(&master, &rdb)
}

/// Rule: a key's expiry is asked for before its value. While writes are paused a key whose time is over goes without a
/// word in the stream: read the other way round it would be a value that never expires.
#[test]
fn a_key_whose_time_is_over_between_its_expiry_and_its_value_does_not_stay() -> Result<()> {
    let master = master("redis-7.4", &[])?;
    let at_ms = epoch_ms()? + 3_000;
    let (mut writer, done) = (master.client(0), Once::default());
    writer.words(&format!("SET hot value PXAT {at_ms}"))?;
    let once = done.clone();
    let mut pausing = master.client(0);
    let rdb = captured(&master, move |command| {
        let of_it = command.iter().any(|word| word == HOT.as_bytes());
        if of_it && (values_read(command) > 0 || is(command, "PEXPIRETIME")) && once.is_due() {
            tell(&mut pausing, "CLIENT PAUSE 20000 WRITE");
            let now_ms = epoch_ms().expect("a clock");
            std::thread::sleep(Duration::from_millis(at_ms.saturating_sub(now_ms) + 20));
        }
    })?;
    done.assert_done();
    master.client(0).words("CLIENT UNPAUSE")?;
    let restored = TestServer::start_with("redis-7.4", &Options::default().rdb(&rdb));
    assert_eq!(text(&restored.client(0).words("EXISTS hot")?), "0", "it outlives its time");
    assert_eq!(text(&restored.client(0).words("EXISTS key:8")?), "1");
    assert_exact(&master, &rdb)
}

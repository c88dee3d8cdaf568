//! The files: what a real server writes with its default settings, from a seed. Made once, kept in a folder.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use replsync_tests::client::{Batch, Conn};
use replsync_tests::fill::fill;
use replsync_tests::server::TestServer;
use replsync_tests::settle::expire;

/// Who writes the files. Every peer reads its RDB 12.
pub const SERVER: &str = "redis-7.4";
const SEED: u64 = 1;
/// Bytes sent at once.
const BATCH_BYTES: usize = 1 << 20;

/// One of the files, about 450 MB each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum File {
    /// Two million strings of about 200 bytes, half of them sessions with a random token, which LZF leaves as they
    /// are, half of them profiles, which it makes shorter.
    SmallKeys,
    /// Every type and encoding over three databases; a third of it is compressed, and keys and fields expire.
    Mixed,
    /// Seven keys of millions of elements.
    BigCollections,
}

pub const FILES: [File; 3] = [File::SmallKeys, File::Mixed, File::BigCollections];

impl File {
    /// As it is called in the output, and on disk.
    pub fn name(self) -> &'static str {
        match self {
            File::SmallKeys => "small-keys",
            File::Mixed => "mixed",
            File::BigCollections => "big-collections",
        }
    }

    /// Where it lies in `folder`, made now if it is not there yet.
    pub fn make(self, folder: &Path) -> Result<PathBuf> {
        let path = folder.join(format!("{}.rdb", self.name()));
        if path.exists() {
            return Ok(path);
        }
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let server = TestServer::start(SERVER, &[]);
        eprintln!("bench-files: making {} with {SERVER} (seed {SEED})", path.display());
        match self {
            File::SmallKeys => small_keys(&server)?,
            File::Mixed => {
                fill(&server.url(), 850_000, SEED)?;
                // its brief keys go before it is saved
                expire(&server.url())?;
            }
            File::BigCollections => big_collections(&server)?,
        }
        server.client(0).words("SAVE")?;
        // never half a file under its name
        let half = path.with_extension("half");
        fs::copy(server.folder().join("dump.rdb"), &half)?;
        fs::rename(&half, &path)?;
        Ok(path)
    }
}

/// Commands of one name, many elements each, sent as they fill a batch.
struct Sender {
    conn: Conn,
    batch: Batch,
}

impl Sender {
    fn new(server: &TestServer) -> Self {
        Self { conn: server.client(0), batch: Batch::default() }
    }

    /// `count` times `command` with `next`'s words behind it, `at_once` of them a command.
    fn send(
        &mut self,
        command: &[&str],
        count: usize,
        at_once: usize,
        mut next: impl FnMut(usize, &mut Vec<String>),
    ) -> Result<()> {
        for first in (0..count).step_by(at_once) {
            let mut words: Vec<String> = command.iter().map(|&word| word.to_owned()).collect();
            (first..count.min(first + at_once)).for_each(|number| next(number, &mut words));
            self.batch.add(&words);
            if self.batch.len_bytes() > BATCH_BYTES {
                self.conn.send_all(std::mem::take(&mut self.batch))?;
            }
        }
        self.conn.send_all(std::mem::take(&mut self.batch)).map(drop)
    }
}

fn small_keys(server: &TestServer) -> Result<()> {
    let (mut rng, mut sender) = (Rng::with_seed(SEED), Sender::new(server));
    sender.send(&["MSET"], 2_000_000, 100, |number, words| {
        let value = if number % 2 == 0 { session(&mut rng) } else { profile(&mut rng) };
        words.push(format!("{}:{number:08}", ["session", "profile"][number % 2]));
        words.push(value);
    })?;
    ensure!(sender.conn.keys()? == 2_000_000, "not all keys are there");
    Ok(())
}

/// Nothing in it repeats.
fn session(rng: &mut Rng) -> String {
    let len = rng.usize(120..=180);
    format!("{{\"user\":{},\"token\":\"{}\",\"at\":{}}}", rng.u32(..), random(rng, len), rng.u32(..))
}

/// A name that comes again, dates that are alike.
fn profile(rng: &mut Rng) -> String {
    let (name, at, avatar) = (random(rng, 10), rng.u32(..), random(rng, 48));
    let (created, updated) = (rng.u32(10..29), rng.u32(10..29));
    format!(
        "{{\"id\":{at},\"name\":\"{name}\",\"email\":\"{name}@example.com\",\"avatar\":\"/avatars/{avatar}.png\",\
         \"created_at\":\"2024-03-{created}T08:15:00Z\",\"updated_at\":\"2024-03-{updated}T08:15:00Z\",\
         \"active\":true,\"verified\":true}}"
    )
}

fn big_collections(server: &TestServer) -> Result<()> {
    let (mut rng, mut sender) = (Rng::with_seed(SEED), Sender::new(server));
    sender.send(&["HSET", "hash"], 4_000_000, 100, |number, words| {
        words.push(format!("user:{number:08}"));
        words.push(random(&mut rng, 18));
    })?;
    for set in ["set:a", "set:b"] {
        sender.send(&["SADD", set], 2_000_000, 100, |_, words| words.push(random(&mut rng, 22)))?;
    }
    for zset in ["zset:a", "zset:b"] {
        sender.send(&["ZADD", zset], 1_750_000, 100, |number, words| {
            words.push(format!("{:.3}", rng.f64() * 1e6));
            words.push(format!("player:{number:08}"));
        })?;
    }
    sender.send(&["RPUSH", "list:tokens"], 3_000_000, 100, |_, words| words.push(random(&mut rng, 30)))?;
    sender.send(&["RPUSH", "list:events"], 2_500_000, 100, |number, words| {
        let kind = ["click", "view", "purchase", "login"][rng.usize(..4)];
        words.push(format!("{{\"event\":\"{kind}\",\"number\":{number},\"user\":{}}}", rng.u32(..)));
    })
}

/// Letters and digits that do not compress.
fn random(rng: &mut Rng, len: usize) -> String {
    (0..len).map(|_| rng.alphanumeric()).collect()
}

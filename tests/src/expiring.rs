//! Keys and hash fields that are set, renewed and persisted around the moment at which they would expire, from a seed.
//!
//! Each key has a story: it gets an expiry within the window, and around that moment something happens to it. Half
//! of the keys exist before the window opens, and so before the copy; the others come in the window. Whether a key
//! was renewed in time, the source alone decides. What does not expire within the window does in an hour or later:
//! afterwards two servers can be compared.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use fastrand::Rng;
use redis::Value;

use crate::client::{Batch, Conn, Version, bytes, message};

mod fields;
mod keys;

/// The databases of the keys, and the one that some are moved to.
pub const DATABASES: [u32; 2] = [0, 3];
const MOVED_TO: &str = "9";

type Words = Vec<Vec<u8>>;

/// What is to happen, and when.
pub struct Plan {
    /// Before anything expires.
    before: Vec<(u32, Words)>,
    /// By milliseconds from the opening of the window.
    events: Vec<(u64, u32, Words)>,
    window_ms: u64,
}

/// Who the plan is for.
pub struct For<'a> {
    /// The source, which some payloads for RESTORE are made on.
    pub source: &'a mut Conn,
    /// The target's version: hash fields expire on both sides, or their stories are left out.
    pub target: Version,
    /// How many keys have a story.
    pub keys: u32,
    /// All short expiries fall within it.
    pub window: Duration,
    /// Which stories.
    pub seed: u64,
}

impl Plan {
    /// Makes the stories up.
    pub fn new(of: For) -> Result<Self> {
        let version = of.source.version()?;
        of.source.words("SET expiring:sample payload")?;
        let payload = bytes(of.source.words("DUMP expiring:sample")?);
        let window_ms = of.window.as_millis() as u64;
        let mut plan = Self { before: Vec::new(), events: Vec::new(), window_ms };
        let mut rng = Rng::with_seed(of.seed);
        let fields = version.has_field_ttl() && of.target.has_field_ttl();
        for number in 0..of.keys {
            let first_ms = rng.u64(500..window_ms - 500);
            let mut story = Story {
                db: DATABASES[number as usize / 2 % DATABASES.len()],
                early: number % 2 == 0,
                number,
                key: String::new(),
                first_ms,
                rng: &mut rng,
                version,
                same: version == of.target,
                payload: &payload,
                plan: &mut plan,
            };
            match number {
                0 if fields => story.of_many_fields(),
                _ if fields && number % 4 == 3 => story.of_fields(),
                _ => story.of_a_key(),
            }
        }
        plan.events.sort_by_key(|event| event.0);
        Ok(plan)
    }

    /// Makes the keys that are there before the window opens. None of them has a short expiry yet.
    pub fn prepare(&mut self, conn: &mut Conn) -> Result<()> {
        let before: Vec<_> = std::mem::take(&mut self.before);
        for part in before.chunks(1_000) {
            send(conn, part.iter().map(|(db, words)| (*db, words)))?;
        }
        Ok(())
    }

    /// Opens the window and lets everything happen at its time. Returns when the window is over, and every short
    /// expiry with it.
    pub fn run(self, conn: &mut Conn) -> Result<()> {
        let began = Instant::now();
        let opened_at_ms = epoch_ms()?;
        let (mut rest, mut late_ms) = (&self.events[..], 0);
        while !rest.is_empty() {
            let now_ms = began.elapsed().as_millis() as u64;
            let due = rest.partition_point(|event| event.0 <= now_ms).min(1_000);
            let (part, more) = rest.split_at(due);
            late_ms = part.first().map_or(late_ms, |first| late_ms.max(now_ms - first.0));
            let absolute: Vec<(u32, Words)> =
                part.iter().map(|(_, db, words)| (*db, at_epoch(words, opened_at_ms))).collect();
            send(conn, absolute.iter().map(|(db, words)| (*db, words)))?;
            rest = more;
            std::thread::sleep(Duration::from_millis(4));
        }
        // What was set late expires late.
        let window = Duration::from_millis(self.window_ms + late_ms);
        std::thread::sleep(window.saturating_sub(began.elapsed()));
        Ok(())
    }
}

/// Milliseconds since the epoch, by our clock, which is the servers' too.
pub fn epoch_ms() -> Result<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH).context("a clock before 1970")?.as_millis() as u64)
}

/// `@<ms>` stands for an absolute time, counted from the opening of the window; `@s<ms>` for one in seconds.
fn at_epoch(words: &Words, opened_at_ms: u64) -> Words {
    let translate = |word: &Vec<u8>| {
        let text = std::str::from_utf8(word).ok()?.strip_prefix('@')?;
        Some(match text.strip_prefix('s') {
            Some(ms) => (opened_at_ms + ms.parse::<u64>().ok()?) / 1000,
            None => opened_at_ms + text.parse::<u64>().ok()?,
        })
    };
    words
        .iter()
        .map(|word| translate(word).map_or_else(|| word.clone(), |ms| ms.to_string().into()))
        .collect()
}

/// Sends commands to their databases. Errors that come of a key's having expired are ordinary.
fn send<'a>(conn: &mut Conn, commands: impl Iterator<Item = (u32, &'a Words)>) -> Result<()> {
    const ORDINARY: [&str; 1] = ["no such key"];
    let (mut batch, mut sent, mut selected) = (Batch::default(), Vec::new(), None);
    for (db, words) in commands {
        if selected.replace(db) != Some(db) {
            batch.add(&["SELECT", &db.to_string()]);
            sent.push(format!("SELECT {db}"));
        }
        batch.add(words);
        sent.push(words.iter().map(|word| word.escape_ascii().to_string()).collect::<Vec<_>>().join(" "));
    }
    for (reply, command) in conn.send(batch)?.into_iter().zip(sent) {
        if let Value::ServerError(error) = reply {
            let message = message(&error);
            if !ORDINARY.iter().any(|part| message.contains(part)) {
                bail!("{command}: {message}");
            }
        }
    }
    Ok(())
}

/// One key's story while it is made up.
struct Story<'a> {
    db: u32,
    /// There before the window opens.
    early: bool,
    number: u32,
    key: String,
    /// When it would expire, in milliseconds from the opening.
    first_ms: u64,
    rng: &'a mut Rng,
    version: Version,
    /// The target is of the source's version.
    same: bool,
    payload: &'a [u8],
    plan: &'a mut Plan,
}

impl Story<'_> {
    fn name(&mut self, story: &str) {
        self.key = format!("{story}:{}", self.number);
    }

    fn at<A: AsRef<[u8]>>(&mut self, ms: u64, words: &[A]) {
        let words = words.iter().map(|word| word.as_ref().to_vec()).collect();
        self.plan.events.push((ms, self.db, words));
    }

    /// Makes the key: before the window, or at some time in it. Returns when.
    fn make(&mut self, commands: &[&[&str]]) -> u64 {
        let at_ms = if self.early { 0 } else { self.rng.u64(1..self.first_ms - 450) };
        for words in commands {
            if self.early {
                let words = words.iter().map(|word| word.as_bytes().to_vec()).collect();
                self.plan.before.push((self.db, words));
            } else {
                self.at(at_ms, words);
            }
        }
        at_ms
    }

    /// Some time before it expires, with a way to go.
    fn before(&mut self) -> u64 {
        self.first_ms - self.rng.u64(120..400)
    }

    /// Shortly before or after.
    fn around(&mut self) -> u64 {
        self.first_ms + self.rng.u64(..500) - 300
    }

    /// From an hour to some eight years, in milliseconds.
    fn long_ms(&mut self) -> String {
        self.rng.u64(3_600_000..1 << 38).to_string()
    }

    fn long_s(&mut self) -> String {
        self.rng.u64(3_600..1 << 28).to_string()
    }
}

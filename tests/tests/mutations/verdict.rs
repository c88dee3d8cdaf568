//! What we say of damaged bytes, and what a server says of the same.

use std::time::Duration;

use anyhow::{Context, Result};
use redis::Value;
use replsync::rdb::{Checker, Item, Kind, Reader, Slice, dump, restore_version};
use replsync::server::Server;
use replsync_tests::client::{Batch, Conn, message};
use replsync_tests::server::TestServer;

use crate::explained;
use crate::values::{self, magic};

/// How long a server may take for what it is asked at once.
const PATIENCE: Duration = Duration::from_secs(20);

/// What somebody says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Sound,
    /// The first thing that is wrong.
    Bad(String),
    /// It is no longer there.
    Crashed,
}

/// Our word on a value: of its structure, and that nothing follows it.
pub fn ours(kind: Kind, raw: &[u8], by: Server) -> Verdict {
    let (len, findings) = match check(kind, raw, by) {
        Ok(checked) => checked,
        Err(error) => return Verdict::Bad(format!("unreadable: {error}")),
    };
    match findings.into_iter().next() {
        Some(finding) => Verdict::Bad(finding),
        None if len < raw.len() => Verdict::Bad("bytes after the end of the value".into()),
        None => Verdict::Sound,
    }
}

/// Whether the server comes to harm by what it says of a value.
pub fn breaks(kind: Kind, raw: &[u8], by: Server) -> bool {
    let findings = check(kind, raw, by).map(|checked| checked.1).unwrap_or_default();
    findings.iter().any(|finding| explained::breaks(by, finding))
}

/// Where the value ends, and what is wrong with it.
fn check(kind: Kind, raw: &[u8], by: Server) -> Result<(usize, Vec<String>)> {
    let before = [magic(by), &[kind.type_byte(), 1, b'k']].concat();
    let file = [&before, raw].concat();
    let mut reader = Reader::new(Slice::new(&file));
    while !matches!(reader.next_item()?.context("a key")?, Item::Entry(_)) {}
    let mut findings = Vec::new();
    let checked = reader.check_value(&mut Checker::default(), &mut |finding| {
        findings.push(format!("{}: {}", finding.kind, finding.message));
    })?;
    anyhow::ensure!(checked.again.is_none(), "a value too long for one pass");
    Ok((usize::try_from(reader.offset())? - before.len(), findings))
}

/// A server that is asked about values.
pub struct Judge {
    server: TestServer,
    conn: Conn,
    by: Server,
}

impl Judge {
    pub fn start(name: &str, by: Server) -> Result<Self> {
        let mut args = vec!["--sanitize-dump-payload", "yes", "--loglevel", "verbose"];
        // a server that crashes tests its memory for minutes
        args.extend(["--crash-memcheck-enabled", "no"]);
        // what frees large pieces of memory and takes them again at once has been seen to hang in jemalloc 5.3 of Debian
        args.extend(["--jemalloc-bg-thread", "no"]);
        let server = TestServer::start(name, &args);
        let mut conn = server.client(0);
        conn.patience(PATIENCE)?;
        Ok(Self { server, conn, by })
    }

    /// Its word on each value, as RESTORE takes it.
    pub fn verdicts(&mut self, values: &[values::Value]) -> Result<Vec<Verdict>> {
        if let Ok(verdicts) = self.restore(values) {
            return Ok(verdicts);
        }
        // One of them was its end: one after the other.
        self.restart()?;
        let mut verdicts = Vec::new();
        for value in values {
            // The value before goes first: taken, it may have been what the server cannot get rid of.
            if let Some(last) = verdicts.last_mut()
                && self.conn.words("FLUSHALL").is_err()
            {
                *last = Verdict::Crashed;
                eprintln!("{}", self.crash());
                self.restart()?;
            }
            verdicts.push(match self.restore(std::slice::from_ref(value)) {
                Ok(one) => one.into_iter().next().context("a reply")?,
                Err(_) => {
                    eprintln!("{}", self.crash());
                    self.restart()?;
                    Verdict::Crashed
                }
            });
        }
        Ok(verdicts)
    }

    /// What it said when it crashed.
    fn crash(&self) -> String {
        let log = self.server.log();
        let from = log.rfind("BUG REPORT START").unwrap_or(log.len());
        let lines = log[from..].lines().filter(|line| !line.trim().is_empty());
        lines.skip(1).take(30).collect::<Vec<_>>().join("\n")
    }

    fn restart(&mut self) -> Result<()> {
        self.server.restart()?;
        self.conn = self.server.client(0);
        self.conn.patience(PATIENCE)
    }

    fn restore(&mut self, values: &[values::Value]) -> Result<Vec<Verdict>> {
        let mut batch = Batch::default();
        for (kind, raw) in values {
            let mut payload = Vec::new();
            dump::write(&mut payload, kind.type_byte(), raw, restore_version(self.by));
            batch.add(&[&b"RESTORE"[..], b"k", b"0", &payload, b"REPLACE"]);
        }
        let replies = self.conn.send(batch)?;
        Ok(replies.into_iter().map(verdict).collect())
    }

    /// What it logged last, for whoever looks into a difference.
    pub fn last_words(&mut self, value: &values::Value) -> String {
        let before = self.server.log().len();
        let _ = self.restore(std::slice::from_ref(value));
        let log = self.server.log();
        let said = log.get(before..).unwrap_or_default();
        let told = |line: &&str| line.contains("rror") || line.contains("ssert") || line.contains("rashed");
        said.lines().filter(told).take(4).collect::<Vec<_>>().join(" | ")
    }
}

fn verdict(reply: Value) -> Verdict {
    match reply {
        Value::ServerError(error) => Verdict::Bad(message(&error)),
        _ => Verdict::Sound,
    }
}
